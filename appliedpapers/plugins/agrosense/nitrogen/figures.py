"""What a report shows of nitrogen: estimates against the laboratory, and intervals by level."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.figures import GRID, MUTED, OURS, Figure, finish, start
from appliedpapers.plugins.agrosense.nitrogen.scoring import Estimate

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Material
    from appliedpapers.plugins.agrosense.nitrogen.data import NitrogenSplit

Floats = NDArray[np.float64]

_BINS = 5
_WORST = 3


def draw(material: Material) -> list[Figure]:
    """Return the figures of a run."""
    truth, told, _, unit = _gathered(material)
    return [_against(material, truth, told, unit), _coverage(material, truth, told, unit)]


def failures(material: Material) -> list[str]:
    """Name the samples with the largest errors."""
    truth, told, names, unit = _gathered(material)
    errors = np.abs(told.value - truth)
    return [
        f"{names[row]}: {told.value[row]:.3g} {unit} for {truth[row]:.3g} of the laboratory"
        for row in np.argsort(-errors)[:_WORST]
    ]


def _gathered(material: Material) -> tuple[Floats, Estimate, list[str], str]:
    prediction = material.predictions[material.model_name]
    parts = [cast("Estimate", one) for one in (prediction if isinstance(prediction, list) else [prediction])]
    splits = [cast("NitrogenSplit", sample.test) for sample in material.dataset.resamples()]
    ends: list[Floats | None] = []
    for name in ("low", "high"):
        own = [getattr(part, name) for part in parts]
        ends.append(None if any(one is None for one in own) else np.concatenate(own))
    whole = Estimate(np.concatenate([part.value for part in parts]), ends[0], ends[1])
    names = [name for split in splits for name in split.table.column("id").to_pylist()]
    return np.concatenate([split.nitrogen for split in splits]), whole, names, splits[0].unit


def _against(material: Material, truth: Floats, told: Estimate, unit: str) -> Figure:
    canvas, axes = start(width=4.6, height=4.2)
    if told.low is not None and told.high is not None and np.isfinite(told.high).all():
        axes.vlines(truth, told.low, told.high, color=GRID, lw=1, zorder=1)
    axes.scatter(truth, told.value, s=9, color=OURS, alpha=0.7, zorder=2)
    top = float(max(truth.max(), told.value.max())) * 1.05
    axes.plot([0, top], [0, top], color=MUTED, lw=0.8, ls=":")
    axes.set(xlabel=f"laboratory, {unit}", ylabel=f"estimate, {unit}", xlim=(0, top), ylim=(0, top))
    error = float(np.sqrt(((told.value - truth) ** 2).mean()))
    share = 1 - float(((told.value - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
    return finish(
        canvas,
        name="estimates",
        title="Estimates against the laboratory",
        caption=f"Every judged sample with its interval; RMSE {error:.3g} {unit}, R2 {share:.2f} "
        "over all of them.",
        alt=f"Estimates follow the laboratory with an RMSE of {error:.3g} {unit} and R2 {share:.2f}.",
        synthetic=material.synthetic,
    )


def _coverage(material: Material, truth: Floats, told: Estimate, unit: str) -> Figure:
    canvas, axes = start(height=2.6)
    level = 1 - float(material.config.model_dump()["interval"]["alpha"])
    if told.low is None or told.high is None:
        inside = np.zeros(len(truth), dtype=bool)
    else:
        inside = (truth >= told.low) & (truth <= told.high)
    edges = np.quantile(told.value, np.linspace(0, 1, _BINS + 1))
    number = np.clip(np.searchsorted(edges, told.value, side="right") - 1, 0, _BINS - 1)
    used = [one for one in range(_BINS) if (number == one).any()]
    x = [float(told.value[number == one].mean()) for one in used]
    y = [float(inside[number == one].mean()) for one in used]
    axes.plot(x, y, color=OURS, marker="o", ms=5)
    axes.axhline(level, color=MUTED, lw=0.8, ls=":")
    axes.set(xlabel=f"estimate, {unit}", ylabel="share inside", ylim=(0, 1.05))
    share = float(inside.mean())
    return finish(
        canvas,
        name="coverage",
        title="How often intervals hold the truth",
        caption=f"Share of laboratory values inside the {100 * level:.0f} % interval, by fifths of the "
        f"estimate; {100 * share:.1f} % "
        "over all. Dotted: what is promised over all samples together.",
        alt=f"{100 * share:.1f} % of the laboratory values lie inside the {100 * level:.0f} % interval.",
        synthetic=material.synthetic,
    )
