"""What was printed about crop recommendation, and why it does not stand beside ours."""

from __future__ import annotations

from collections.abc import Sequence

from appliedpapers.core.evaluation import PublishedFigure

_PROTOCOL = "random-80-20, scaler fitted on all rows"
_CODE = "public code of AgroSense, one random split, scaler fitted before it"
_ABSTRACT = "arXiv 2509.01344, abstract; the protocol is not stated"


def published_figures(dataset: str) -> Sequence[PublishedFigure]:
    """Return the printed figures of a dataset."""
    if dataset != "crop-recommendation":
        return ()
    printed = (
        *(("AgroSense MLP", 0.9727, _CODE), ("AgroSense XGBoost", 0.9864, _CODE)),
        *(
            ("AgroSense LightGBM", 0.9864, _CODE),
            ("AgroSense TabNet", 0.9273, f"{_CODE}; stopped on the test set"),
        ),
        ("AgroSense fused", 0.98, _ABSTRACT),
    )
    return tuple(
        PublishedFigure(model, "accuracy", value, dataset, _PROTOCOL, {}, source, verified=False)
        for model, value, source in printed
    )
