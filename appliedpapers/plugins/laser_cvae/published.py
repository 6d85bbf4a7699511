"""Figures that others printed; none is of data or a protocol that ours could stand beside."""

from __future__ import annotations

from appliedpapers.core.evaluation import PublishedFigure

_PAPER = "arXiv 2211.02847, abstract; devices, thresholds and protocol are not printed there"
_RELATED = "arXiv 2211.02842, abstract; tunable lasers, which are not public"


def published_figures(dataset: str) -> list[PublishedFigure]:
    """Return the printed figures, which are of private reliability tests."""
    return [
        PublishedFigure(
            "CVAE (paper)", "f1", 0.953, "private VCSEL tests", "not printed", {}, _PAPER, verified=False
        ),
        PublishedFigure(
            "convolutional autoencoder (related paper)",
            "accuracy",
            0.9424,
            "private laser tests",
            "not printed",
            {},
            _RELATED,
            verified=False,
        ),
        PublishedFigure(
            "GRU forecast (related paper)",
            "rmse",
            0.01,
            "private laser tests",
            "not printed",
            {},
            _RELATED,
            verified=False,
        ),
    ]
