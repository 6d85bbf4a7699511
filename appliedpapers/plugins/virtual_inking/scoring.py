"""Scores of tiles, of regions of the contour, and of the line; a unit is a slide, blocks are resampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.counted import auc_scores
from appliedpapers.core.metrics import auc, auprc, register_metric
from appliedpapers.core.scores import Counted, Counts, Floats, MetricScores, Scored
from appliedpapers.plugins.virtual_inking.answers import SlideAnswer
from appliedpapers.plugins.virtual_inking.decision import runs
from appliedpapers.plugins.virtual_inking.measures import arc_labels, boundary_f1, hausdorff
from appliedpapers.plugins.virtual_inking.projection import Margin, line_of

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
Aggregate = Callable[[NDArray[np.intp]], float]

PRIMARY = "tile_auroc"

_STEP_UM = 5.0  # lines are compared at points so dense
for _name, _unit, _better, _text in (
    ("tile_auprc", "", True, "average precision over tiles"),
    ("slide_auroc", "", True, "auc over the tiles of a slide, averaged over slides with both kinds"),
    ("boundary_f1_200", "", True, "harmonic mean of the shares of both lines within 200 um of the other"),
    ("boundary_f1_400", "", True, "the same within 400 um"),
    ("length_dice", "", True, "overlap of drawn and true cut length, 1 is the same"),
    ("length_error", "%", False, "difference of drawn and true cut length, relative to the true one"),
    ("median_length_error", "%", False, "the same, median over slides"),
    ("false_breaks", "", False, "interruptions of the line a true cut arc"),
    ("median_false_breaks", "", False, "the same, median over slides"),
    ("encoder_share", "%", False, "share of tiles that the encoder saw"),
):
    register_metric(_name, unit=_unit, higher_is_better=_better, description=_text)


@dataclass(frozen=True)
class Regions:
    """Regions of the contours of a slide: 1 cut, 0 natural."""

    truth: Ints
    predicted: Ints


def score(answers: Sequence[SlideAnswer], source: str = "") -> Scored:
    """Score what was said of slides.

    Args:
        answers: One a slide; all annotated.
        source: Where all of them come from, for a line of its own.
    """
    units = len(answers)
    owner = np.repeat(np.arange(units), [len(one.logits) for one in answers])
    labels = np.concatenate([one.case.labels for one in answers])
    logits = np.concatenate([one.logits for one in answers])
    known = labels >= 0
    owner, labels, logits = owner[known], labels[known].astype(np.int64), logits[known]
    regions = [regions_of(one, one.arc_um) for one in answers]
    metrics = {
        PRIMARY: MetricScores.counted(BySlide.of(labels, logits, owner), units),
        "tile_auprc": MetricScores.of(_pooled_auprc(labels, logits, owner), units),
        "slide_auroc": _mean([_auc(one) for one in answers]),
        "region_accuracy": MetricScores.mean(
            [_accuracy(one) for one in regions], [len(one.truth) for one in regions]
        ),
        "region_balanced_accuracy": MetricScores.of(_balanced(regions), units),
    }
    lines = [line_measures(one) for one in answers]
    metrics |= {name: _mean([line[name] for line in lines]) for name in lines[0]}
    for name in ("length_error", "false_breaks"):
        metrics[f"median_{name}"] = MetricScores.of(_median([line[name] for line in lines]), units)
    metrics["encoder_share"] = MetricScores.mean(
        [100 * one.encoded for one in answers], [max(len(one.logits), 1) for one in answers]
    )
    return Scored(
        metrics,
        clusters=np.array([one.case.item.block for one in answers]),
        slices=(({"source": source}, metrics),) if source else (),
    )


class BySlide(Counted):
    """A metric over tiles as a function of how often each slide is drawn."""

    def __init__(self, inner: Counted, owner: NDArray[np.intp]) -> None:
        self._inner, self._owner = inner, owner

    @classmethod
    def of(cls, labels: Ints, logits: Floats, owner: NDArray[np.intp]) -> BySlide:
        """Return the AUROC over tiles ``(N,)``, of which each belongs to a slide."""
        inner = auc_scores(labels, logits).by_counts
        assert inner is not None
        return cls(inner, owner)

    def of_draws(self, counts: Counts) -> Floats:
        """Return the values when each slide is drawn so often."""
        return self._inner.of_draws(np.ascontiguousarray(counts[:, self._owner]))

    def restrict(self, chosen: Flags) -> BySlide:
        """Return the same over some of the slides."""
        return BySlide(self._inner.restrict(chosen[self._owner]), self._owner)


def regions_of(answer: SlideAnswer, arc_um: float) -> Regions:
    """Return the regions of a slide's contours that can be judged."""
    truth, predicted = [], []
    for margin, true in zip(answer.margins, answer.case.truth, strict=True):
        per_arc = max(round(arc_um / margin.contour.step), 1)
        own = arc_labels(true, per_arc, margin.contour.candidate)
        said = arc_labels(margin.cut, per_arc, margin.contour.candidate)
        truth.append(own[own >= 0])
        predicted.append(said[own >= 0])
    empty = [np.empty(0, dtype=np.int64)]
    return Regions(np.concatenate(truth or empty), np.concatenate(predicted or empty))


def line_measures(answer: SlideAnswer) -> dict[str, float]:
    """Return measures of the drawn line; NaN where there is nothing to compare.

    A slide of which only one of both lines is there has the diagonal of the slide as its HD95.
    """
    true_lines, said_lines = [], []
    true_length = said_length = both = breaks = 0.0
    cuts = 0
    for margin, truth in zip(answer.margins, answer.case.truth, strict=True):
        own = truth & margin.contour.candidate
        true_lines += _lines(margin, own)
        said_lines += _lines(margin, margin.cut)
        step = margin.contour.step
        true_length += step * np.count_nonzero(own)
        said_length += step * np.count_nonzero(margin.cut)
        both += step * np.count_nonzero(own & margin.cut)
        found = false_breaks(own, margin.cut)
        cuts, breaks = cuts + len(found), breaks + sum(found)
    nan = float("nan")
    some = bool(true_lines or said_lines)
    size = np.array(answer.case.size) * answer.case.mpp
    far = hausdorff(true_lines, said_lines, 0.95, _STEP_UM) if some else nan
    return {
        "hd95_um": float(np.hypot(*size)) if far == float("inf") else far,
        "boundary_f1_200": boundary_f1(true_lines, said_lines, 200, _STEP_UM) if some else nan,
        "boundary_f1_400": boundary_f1(true_lines, said_lines, 400, _STEP_UM) if some else nan,
        "length_dice": 2 * both / (true_length + said_length) if some else nan,
        "length_error": 100 * abs(said_length - true_length) / true_length if true_length else nan,
        "false_breaks": breaks / cuts if cuts else nan,
    }


def false_breaks(truth: Flags, predicted: Flags) -> list[int]:
    """Return, for each true cut arc, how often the drawn line is interrupted within it."""
    found = []
    for start, length in runs(truth):
        own = predicted[np.arange(start, start + length) % len(truth)]
        pieces = int(np.count_nonzero(np.diff(np.concatenate([[False], own]).astype(int)) == 1))
        found.append(max(pieces - 1, 0))
    return found


def _lines(margin: Margin, flags: Flags) -> list[NDArray[np.float64]]:
    count = len(flags)
    return [
        line_of(margin.contour.points, np.arange(start, start + length) % count)
        for start, length in runs(flags)
    ]


def _auc(answer: SlideAnswer) -> float:
    known = answer.case.labels >= 0
    if not known.any():
        return float("nan")
    return auc(answer.case.labels[known], answer.logits[known])


def _accuracy(regions: Regions) -> float:
    return float(np.mean(regions.truth == regions.predicted)) if len(regions.truth) else 0.0


def _mean(values: Sequence[float]) -> MetricScores:
    known = np.isfinite(values)
    if not known.any():
        return MetricScores.of(lambda _: float("nan"), len(values))
    return MetricScores.mean(values, known.astype(np.float64))


def _median(values: Sequence[float]) -> Aggregate:
    every = np.asarray(values, dtype=np.float64)

    def value(chosen: NDArray[np.intp]) -> float:
        own = every[chosen]
        known = own[np.isfinite(own)]
        return float(np.median(known)) if known.size else float("nan")

    return value


def _pooled_auprc(labels: Ints, logits: Floats, owner: NDArray[np.intp]) -> Aggregate:
    rows = [np.flatnonzero(owner == unit) for unit in range(int(owner.max(initial=-1)) + 1)]

    def value(chosen: NDArray[np.intp]) -> float:
        own = np.concatenate([rows[unit] for unit in chosen if unit < len(rows)] or [np.empty(0, dtype=int)])
        return auprc(labels[own], logits[own]) if own.size else float("nan")

    return value


def _balanced(regions: Sequence[Regions]) -> Aggregate:
    counts = np.array(
        [
            [
                [np.count_nonzero((one.truth == kind) & (one.predicted == said)) for said in (0, 1)]
                for kind in (0, 1)
            ]
            for one in regions
        ],
        dtype=np.float64,
    )

    def value(chosen: NDArray[np.intp]) -> float:
        whole = counts[chosen].sum(axis=0)
        recalls = [whole[kind, kind] / whole[kind].sum() for kind in (0, 1) if whole[kind].sum()]
        return float(np.mean(recalls)) if recalls else float("nan")

    return value
