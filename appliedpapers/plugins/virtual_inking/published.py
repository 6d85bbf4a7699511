"""What the paper prints; only its abstract was available to us."""

from __future__ import annotations

from appliedpapers.core.evaluation import PublishedFigure


def published_figures(dataset: str) -> tuple[PublishedFigure, ...]:
    """Return the one printed figure: of private slides, and of regions whose definition is not stated."""
    return (
        PublishedFigure(
            model="VIN",
            metric="region_accuracy",
            value=0.733,
            dataset=dataset,
            protocol="20 private slides of unseen tonsil blocks; 'region' is not defined in the abstract",
            setting={},
            source="arXiv 2511.22131, abstract",
            verified=False,
        ),
    )
