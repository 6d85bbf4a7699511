"""Figures for people who rank or bid by clicks: can the probability be trusted, and what is it made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core import figures as drawing
from appliedpapers.core import metrics
from appliedpapers.core.figures import BASELINE, INK, MUTED, OURS, STRONGEST, TRUTH, Figure
from appliedpapers.plugins.finalmlp.importance import (
    CAUTION,
    MOST_ROWS,
    SHUFFLES,
    Importance,
    importance,
)
from appliedpapers.plugins.finalmlp.prepared import encode_split
from appliedpapers.plugins.finalmlp.scoring import DAY, ClickPrediction, moments_of, shown_periods

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Material
    from appliedpapers.plugins.finalmlp.model import FinalMlpModel
    from appliedpapers.plugins.finalmlp.splits import ClickSplit

Floats = NDArray[np.float64]
_End = tuple[float, str, str]

_BINS = 15
_COUNT_BINS = 30
_MOST_PERIODS = 60
_MOST_INPUTS = 20
_HOUR = DAY // 24


def draw(material: Material) -> list[Figure]:
    """Draw all figures of a run; those without anything to show are left out."""
    found = [_calibration(material), _importance(material), _drift(material), _cascade(material)]
    return [figure for figure in found if figure is not None]


@dataclass(frozen=True)
class _Curve:
    """Predicted against observed, by bins of equal mass, in the order of what was predicted."""

    said: Floats
    happened: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, probability: Floats, label: NDArray[np.float32]) -> _Curve:
        number = metrics.mass_bins(probability, min(_BINS, probability.size))
        rows = np.bincount(number)
        said, happened = np.bincount(number, probability) / rows, np.bincount(number, label) / rows
        low, high = _wilson(happened, rows)
        return cls(said, happened, low, high)


def _wilson(share: Floats, rows: NDArray[np.intp]) -> tuple[Floats, Floats]:
    z = 1.96
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return centre - half, centre + half


def _calibration(material: Material) -> Figure:
    """Draw calibration before and after, of ours and of the strongest baseline, with counts below."""
    split = cast("ClickSplit", material.dataset.test)
    ours = cast("ClickPrediction", material.predictions[material.model_name])
    shown = [(f"{material.model_name}, calibrated", ours.probability, OURS, "-", True)]
    shown.append((f"{material.model_name}, before", ours.uncalibrated, OURS, ":", False))
    if (rival := material.rival) is not None:
        theirs = cast("ClickPrediction", material.predictions[rival])
        shown.append((f"{rival}, calibrated", theirs.probability, STRONGEST, "-", False))
    curves = {name: _Curve.of(chance, split.labels) for name, chance, *_ in shown}
    top = min(1.0, 1.1 * max(max(one.said.max(), one.happened.max()) for one in curves.values()))
    fig, (axes, below) = drawing.start(
        height=5.0, rows=2, sharex=True, gridspec_kw={"height_ratios": [3.4, 1.0]}
    )
    axes.plot([0, top], [0, top], color=TRUTH, lw=1, ls="--")
    for name, _, color, style, banded in shown:
        curve = curves[name]
        if banded:
            axes.fill_between(curve.said, curve.low, curve.high, color=color, alpha=0.18, lw=0)
        axes.plot(curve.said, curve.happened, color=color, ls=style, marker="o", ms=3, lw=1.4, label=name)
    axes.set(xlim=(0, top), ylim=(0, top), ylabel="share that clicked")
    axes.legend(loc="upper left", fontsize=8.5)
    edges = np.linspace(0, top, _COUNT_BINS + 1)
    counts, _ = np.histogram(np.clip(ours.probability, 0, top), edges)
    below.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=OURS, alpha=0.6, lw=0)
    below.set(xlabel="predicted probability", ylabel="rows", yscale="log")
    below.set_ylim(bottom=0.8)
    before, after = (
        metrics.ece(split.labels, one, binning="mass") for one in (ours.uncalibrated, ours.probability)
    )
    words = f"calibration error {after:.4f}, before calibration {before:.4f}"
    return drawing.finish(
        fig,
        name="calibration",
        title="Do predicted probabilities come true?",
        alt=f"Share of clicks against predicted probability on {split.num_rows:,} test rows: {words}.",
        caption=f"{_BINS} bins of equally many test rows; the band is the 95 % interval of the share, dashed "
        f"is perfect. Below: rows by our calibrated probability. {material.model_name}: {words}.",
        synthetic=material.synthetic,
    )


def _importance(material: Material) -> Figure:
    """Draw the AUC lost by shuffling each input, with the sizes of the gates beside it."""
    model = cast("FinalMlpModel", material.model)
    assert model.encoder is not None
    seed = material.config.seed
    valid = cast("ClickSplit", material.dataset.valid)
    rows = encode_split(model.encoder, valid, most=MOST_ROWS, seed=seed)
    found = importance(rows, model.logits, model.networks, seed=seed)
    return importance_figure(found, synthetic=material.synthetic)


def importance_figure(found: Sequence[Importance], *, synthetic: bool) -> Figure:
    """Draw what :func:`~appliedpapers.plugins.finalmlp.importance.importance` found.

    Args:
        found: Sorted; the first 20 are drawn.
        synthetic: Whether the data are synthetic.
    """
    shown = found[:_MOST_INPUTS]
    gated = any(one.gates is not None for one in shown)
    ratios = {"width_ratios": [1.45, 1.0] if gated else [1.0, 0.01], "wspace": 0.02}
    fig, (axes, table) = drawing.start(
        height=1.1 + 0.24 * len(shown), columns=2, sharey=True, gridspec_kw=ratios
    )
    place = np.arange(len(shown))
    drops = np.array([one.drop for one in shown])
    ends = np.array([[one.drop - one.low, one.high - one.drop] for one in shown]).T
    axes.barh(place, drops, xerr=ends, color=OURS, alpha=0.75, height=0.62, ecolor=INK, error_kw={"lw": 1})
    axes.set_yticks(place, [one.column for one in shown])
    axes.set_ylim(len(shown) - 0.4, -1.4 if gated else -0.6)
    axes.set_xlim(min(0.0, float((drops - ends[0]).min())), max(float((drops + ends[1]).max()) * 1.05, 1e-4))
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("AUC lost when the input is shuffled")
    table.set_axis_off()
    if gated:
        _write_gates(table, shown)
    rest = f" {len(found) - len(shown)} further inputs lose less." if len(found) > len(shown) else ""
    beside = " Right: mean gate, and mean of gate times length of the embedding, of stream 1 and 2. "
    best = " and ".join(f"{one.column} ({one.drop:.4f})" for one in shown[:2])
    return drawing.finish(
        fig,
        name="importance",
        title="What the inputs are worth",
        alt=f"Shuffling costs most AUC for {best}.",
        caption=f"Mean of {SHUFFLES} shuffles of valid rows, with the 95 % interval of that mean.{rest}"
        f"{beside if gated else ' '}{CAUTION}",
        synthetic=synthetic,
    )


def _write_gates(axes: Any, shown: Sequence[Importance]) -> None:
    axes.set_xlim(0, 4)
    for column, head in enumerate(("gate 1", "gate 2", "passed 1", "passed 2")):
        right = column + 0.98
        axes.text(right, -0.95, head, ha="right", va="center", fontsize=7.5, color=MUTED)
        for place, one in enumerate(shown):
            if one.gates is not None and one.passed is not None:
                value = (*one.gates, *one.passed)[column]
                axes.text(right, place, f"{value:.2f}", ha="right", va="center", fontsize=8.5, color=INK)


def _drift(material: Material) -> Figure | None:
    """Draw ranking, and mean prediction against clicks, by test day, or by hour within few days."""
    split = cast("ClickSplit", material.dataset.test)
    moments = moments_of(split)
    if moments is None:
        return None
    unit, length = "day", DAY
    periods = shown_periods(moments // DAY, split.labels, _MOST_PERIODS)
    if len(periods) < 3:
        unit, length = "hour", _HOUR
        periods = shown_periods(moments // _HOUR, split.labels, _MOST_PERIODS)
    if len(periods) < 3:
        return None
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    number = moments // length
    times = (np.array(periods) * length).astype("datetime64[us]")
    fig, (above, below) = drawing.start(height=4.4, rows=2, sharex=True)
    chosen = [number == one for one in periods]
    ends: tuple[list[_End], list[_End]] = ([], [])
    areas: dict[str, list[float]] = {}
    for prediction, name, color in material.compared():
        chance = cast("ClickPrediction", prediction).probability
        areas[name] = [metrics.auc(split.labels[rows], chance[rows]) for rows in chosen]
        said = [float(chance[rows].mean()) for rows in chosen]
        above.plot(times, areas[name], color=color, marker=".", lw=1.4)
        below.plot(times, said, color=color, marker=".", lw=1.4)
        ends[0].append((areas[name][-1], name, color))
        ends[1].append((said[-1], name, color))
    clicked = [float(split.labels[rows].mean()) for rows in chosen]
    below.plot(times, clicked, color=TRUTH, marker=".", lw=1.4)
    ends[1].append((clicked[-1], "clicked", TRUTH))
    above.set_ylabel("AUC")
    below.set_ylabel("mean probability")
    below.set_ylim(bottom=0, top=1.2 * below.get_ylim()[1])
    for axes, these in zip((above, below), ends, strict=True):
        axes.margins(x=0.02)
        drawing.label_ends(axes, times[-1], these, gap=0.12)
    locator = AutoDateLocator(minticks=3, maxticks=7)
    below.xaxis.set_major_locator(locator)
    below.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    mine = areas[material.model_name]
    return drawing.finish(
        fig,
        name="drift",
        title=f"Does it hold over time? By {unit} of the test rows",
        alt=f"Our AUC by {unit} lies between {min(mine):.3f} and {max(mine):.3f}, {mine[0]:.3f} in the first "
        f"and {mine[-1]:.3f} in the last.",
        caption=f"Above: AUC. Below: mean predicted probability, and the share that clicked (green). "
        f"{len(periods)} {unit}s with at least 50 rows.",
        synthetic=material.synthetic,
    )


def _cascade(material: Material) -> Figure | None:
    """Draw the AUC on valid by the share of rows that the network is asked for; None without a cascade."""
    cascade = getattr(material.model, "cascade", None)
    if cascade is None or len(cascade.curve) < 2:
        return None
    weak = material.config.model_dump()["cascade"]["weak"]
    return cascade_figure(cascade.curve, cascade.share, weak, synthetic=material.synthetic)


def cascade_figure(
    curve: Sequence[Mapping[str, float]], share: float, weak: str, *, synthetic: bool
) -> Figure:
    """Draw what a cascade costs and gains on the valid rows.

    Args:
        curve: Points with ``share`` of rows for the network and ``auc``.
        share: The share that was chosen.
        weak: Name of the cheap model.
        synthetic: Whether the data are synthetic.
    """
    points = sorted((point["share"], point["auc"]) for point in curve)
    shares, areas = (np.array(column) for column in zip(*points, strict=True))
    chosen = float(np.interp(share, shares, areas))
    fig, axes = drawing.start(height=2.9)
    axes.axhline(areas[-1], color=BASELINE, lw=1, ls="--")
    axes.plot(100 * shares, areas, color=OURS, marker=".", lw=1.6)
    axes.plot(100 * share, chosen, marker="o", ms=9, mfc="none", mec=OURS)
    # beside a rising curve there is room below, at its left end only above
    start = share < 0.1
    axes.annotate(
        f"chosen: {100 * share:.0f} %",
        (100 * share, chosen),
        xytext=(0, 11) if start else (6, -15),
        textcoords="offset points",
        ha="right" if share > 0.85 else "left",
        color=INK,
        fontsize=9,
    )
    axes.set(xlabel="rows that the network is asked for, %", ylabel="AUC on valid")
    axes.margins(y=0.22)
    return drawing.finish(
        fig,
        name="cascade",
        title="What asking the network less often costs",
        alt=f"With {100 * share:.0f} % of the rows sent to the network AUC is {chosen:.4f}, {areas[-1]:.4f} "
        f"with all of them and {areas[0]:.4f} with {100 * shares[0]:.0f} %.",
        caption=f"{weak} answers where it is sure, the network the other rows. Dashed: the network on the "
        "largest share.",
        synthetic=synthetic,
    )
