"""Figures that answer: where does the line go wrong, and what is it made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core import figures as drawing
from appliedpapers.core.figures import MUTED, OURS, Figure
from appliedpapers.core.metrics import auc
from appliedpapers.plugins.virtual_inking.answers import SlideAnswer
from appliedpapers.plugins.virtual_inking.scoring import line_measures, regions_of

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Material

Floats = NDArray[np.float64]

_TRUTH = "#009E73"
_SHOWN = 4
_WORST = 3
_MM = 1000


def draw(material: Material) -> list[Figure]:
    """Draw slides with both lines, the profile along one contour, and ranking curves."""
    ours = _answers(material.predictions[material.model_name])
    found = [_slides(ours, material), _profile(ours, material)]
    return [*found, _curves(material)]


def failures(material: Material) -> list[str]:
    """Name the worst slides; say whether the second layer helps, and what the data are."""
    ours = _answers(material.predictions[material.model_name])
    found = []
    for one in sorted(ours, key=_region_share)[:_WORST]:
        lines = line_measures(one)
        found.append(
            f"{one.case.item.slide_id}: {100 * _region_share(one):.0f} % of regions right, length off by "
            f"{lines['length_error']:.0f} %, HD95 {lines['hd95_um']:.0f} µm"
        )
    found.append(_second_layer(material))
    if material.synthetic:
        found.append(
            "Cut edges are simulated: not clinical evidence, and not comparable with the paper's 73.3 %, of "
            "which the definition of a region is not known."
        )
    return [*found, *_continuity(ours)]


def _answers(prediction: Any) -> list[SlideAnswer]:
    parts = cast("list[Any]", prediction)
    if parts and isinstance(parts[0], list):
        return [one for part in parts for one in part]
    return cast("list[SlideAnswer]", parts)


def _region_share(one: SlideAnswer) -> float:
    regions = regions_of(one, one.arc_um)
    return float(np.mean(regions.truth == regions.predicted)) if len(regions.truth) else 1.0


def _second_layer(material: Material) -> str:
    values = {
        name: scored.metrics["tile_auroc"].value
        for name, scored in material.scored.items()
        if name in (material.model_name, "logistic")
    }
    if len(values) < 2:
        return "The logistic head was not run beside ours."
    gain = values[material.model_name] - values["logistic"]
    does = "beats" if gain > 0 else "does not beat"
    return (
        f"The two-layer head {does} the logistic head on the same features: tile AUROC "
        f"{values[material.model_name]:.3f} against {values['logistic']:.3f}."
    )


def _continuity(answers: Sequence[SlideAnswer]) -> list[str]:
    """Say how far sections of one block agree on the share of their outline that was cut."""
    by_block: dict[str, list[float]] = {}
    for one in answers:
        flags = np.concatenate([margin.cut for margin in one.margins] or [np.zeros(1, dtype=bool)])
        by_block.setdefault(one.case.item.block, []).append(float(flags.mean()))
    spans = {block: max(shares) - min(shares) for block, shares in by_block.items() if len(shares) > 1}
    if not spans:
        return []
    worst = max(spans, key=lambda block: spans[block])
    mean = float(np.mean(list(spans.values())))
    return [
        f"Serial sections of a block differ by {100 * mean:.0f} points of cut outline on average, most in "
        f"{worst} ({100 * spans[worst]:.0f} points)."
    ]


def _slides(ours: Sequence[SlideAnswer], material: Material) -> Figure:
    order = sorted(ours, key=_region_share)
    chosen = [order[round(place)] for place in np.linspace(0, len(order) - 1, min(_SHOWN, len(order)))]
    fig, axes = drawing.start(height=2.3, columns=len(chosen), squeeze=False)
    for axis, one in zip(axes[0], chosen, strict=True):
        slide = one.case.item.source.open()
        thumbnail, mpp = slide.thumbnail(max(max(slide.extent_um) / 260, min(slide.mpp)))
        slide.close()
        extent = (0, thumbnail.shape[1] * mpp[0] / _MM, thumbnail.shape[0] * mpp[1] / _MM, 0)
        axis.imshow(thumbnail, extent=extent, interpolation="bilinear")
        for margin, truth in zip(one.margins, one.case.truth, strict=True):
            points = margin.contour.points / _MM
            for flags, color, width in ((truth, _TRUTH, 4.5), (margin.cut, OURS, 1.8)):
                line = np.where(flags[:, None], points, np.nan)
                axis.plot(*np.vstack([line, line[:1]]).T, color=color, linewidth=width)
        axis.set_title(f"{one.case.item.slide_id}\n{100 * _region_share(one):.0f} % of regions", fontsize=8)
        axis.grid(False)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.plot(
            [0.05 * extent[1], 0.05 * extent[1] + 0.2], [0.97 * extent[2]] * 2, color="black", linewidth=2
        )
        axis.set_xlabel("bar: 200 µm", fontsize=7, color=MUTED)
    worst, best = 100 * _region_share(order[0]), 100 * _region_share(order[-1])
    return drawing.finish(
        fig,
        name="slides",
        title="The line, from the worst slide to the best",
        caption="Wide green: the true cut surface. Narrow blue: ours.",
        alt=f"Regions right range from {worst:.0f} % on the worst test slide to {best:.0f} % on the best.",
        synthetic=material.synthetic,
        points=6000,
    )


def _profile(ours: Sequence[SlideAnswer], material: Material) -> Figure:
    one = sorted(ours, key=_region_share)[len(ours) // 2]
    fig, axis = drawing.start(height=2.4)
    margin = one.margins[0] if one.margins else None
    if margin is not None:
        along = np.arange(len(margin.profile)) * margin.contour.step / _MM
        axis.plot(along, margin.profile, color=OURS)
        low = float(np.nanmin(margin.profile, initial=0.0)) - 0.5
        for flags, color, place in ((one.case.truth[0], _TRUTH, low), (margin.cut, OURS, low - 0.6)):
            axis.plot(along, np.where(flags, place, np.nan), color=color, linewidth=5, solid_capstyle="butt")
    axis.set_xlabel("along the contour, mm")
    axis.set_ylabel("logit of cut")
    return drawing.finish(
        fig,
        name="profile",
        title=f"The profile along the outline of {one.case.item.slide_id}",
        caption="Smoothed logit; below it the true cut surface (green) and ours (blue).",
        alt="The logit of cut rises where the outline was cut, with one threshold a slide.",
        synthetic=material.synthetic,
    )


def _curves(material: Material) -> Figure:
    fig, axis = drawing.start(height=3.2)
    ends = []
    for prediction, name, color in material.compared():
        answers = _answers(prediction)
        labels = np.concatenate([one.case.labels for one in answers])
        logits = np.concatenate([one.logits for one in answers])
        known = labels >= 0
        order = np.argsort(-logits[known], kind="stable")
        hits = labels[known][order] == 1
        false = np.concatenate([[0.0], np.cumsum(~hits) / max(np.count_nonzero(~hits), 1)])
        true = np.concatenate([[0.0], np.cumsum(hits) / max(np.count_nonzero(hits), 1)])
        axis.plot(false, true, color=color)
        ends.append((name, auc(labels[known], logits[known]), color))
    for number, (name, value, color) in enumerate(ends):
        axis.text(
            0.98, 0.05 + 0.09 * number, f"{name} {value:.3f}", color=drawing.text_colour(color), ha="right"
        )
    axis.set_xlabel("natural tiles taken for cut")
    axis.set_ylabel("cut tiles found")
    told = ", ".join(f"{name} {value:.3f}" for name, value, _ in ends)
    return drawing.finish(
        fig,
        name="tiles",
        title="Tiles",
        caption="All test tiles together; scores of several fits are not on one scale.",
        alt=f"Area under the curve over tiles: {told}.",
        synthetic=material.synthetic,
    )
