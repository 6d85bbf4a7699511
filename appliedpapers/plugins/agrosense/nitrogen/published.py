"""What was printed about total nitrogen from bands (arXiv 2107.02355, table of test errors)."""

from __future__ import annotations

from collections.abc import Sequence

from appliedpapers.core.evaluation import PublishedFigure

_SOURCE = "arXiv 2107.02355, test RMSE"
_REFITTED = f"{_SOURCE}; tuned models were refitted on all 54 rows, those of the test included"


def published_figures(dataset: str) -> Sequence[PublishedFigure]:
    """Return the printed figures of a dataset."""
    if dataset != "ums-tn":
        return ()
    printed = (
        *(("MLP default (paper)", 190.61, _SOURCE, True), ("SVM default (paper)", 215.84, _SOURCE, True)),
        *(("MLP grid (paper)", 111.05, _REFITTED, False), ("MLP random (paper)", 103.29, _REFITTED, False)),
        *(("MLP genetic (paper)", 91.32, _REFITTED, False), ("SVM grid (paper)", 126.17, _REFITTED, False)),
        *(("SVM random (paper)", 116.49, _REFITTED, False), ("SVM genetic (paper)", 95.27, _REFITTED, False)),
    )
    return tuple(
        PublishedFigure(model, "rmse", value, dataset, "ums-paper", {}, source, verified=checked)
        for model, value, source, checked in printed
    )
