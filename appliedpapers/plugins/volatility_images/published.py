"""Figures that the paper prints: of other data under another protocol, so never in one table with ours."""

from __future__ import annotations

from appliedpapers.core.evaluation import PublishedFigure

PROTOCOL = "Bitcoin, January 2021; split and horizon not stated"
_SOURCE = "arXiv 2304.02472; other data, other protocol"
_FIGURES = (("CNN-Aggr", 0.851, True), ("CNN", 1.0, True), ("naive (current volatility)", 1.4, True))

PUBLISHED_FIGURES = [
    PublishedFigure(
        name,
        "rmspe",
        value,
        "binance-spot",
        PROTOCOL,
        {},
        f"{_SOURCE}; what its +/- means is not stated",
        verified,
    )
    for name, value, verified in _FIGURES
]
