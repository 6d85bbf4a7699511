"""Figures that others printed of BROAD: over all its trials and with the magnetometer, unlike ours."""

from __future__ import annotations

from appliedpapers.core.evaluation import PublishedFigure

_PROTOCOL = "broad-39-trials, 9 axes"
_SOURCE = "published outputs of the repository of BROAD, Data 6(7):72 (2021)"

PUBLISHED_FIGURES = tuple(
    PublishedFigure(model, "inclination_rmse", value, "broad", _PROTOCOL, {}, _SOURCE, verified=True)
    for model, value in (
        ("Madgwick, 9 axes, best common gain .12", 2.71),
        ("Madgwick, 9 axes, best gain of each trial", 1.81),
        ("Mahony, 9 axes, best common gains .74 and .0012", 3.70),
    )
)
