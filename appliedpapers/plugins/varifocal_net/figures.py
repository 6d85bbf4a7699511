"""Figures that answer: which types are mixed up, what does review cost, do probabilities and cells hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core import figures as drawing
from appliedpapers.core.figures import MUTED, OURS, Figure
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, Chromosomes, X, Y
from appliedpapers.plugins.varifocal_net.dispatch import PLOIDY, counts_of
from appliedpapers.plugins.varifocal_net.scoring import Answers, cell_kind, is_aneuploid

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Material
    from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
    from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit

Labels = NDArray[np.int16]

_WORST = 3
_NAMED_SHARE = 0.02  # of a type: rarer confusions are shaded without a number
_BINS = 10
_FEWEST = 20  # chromosomes that an accuracy is drawn of
_MOST_ERRORS = 6
_WAYS = (
    ("argmax", "each by itself", 0.25),
    ("dispatched", "Algorithm 1", 0.55),
    ("assigned", "assignment", 1.0),
)


class _Scene(NamedTuple):
    """What every figure draws: the test chromosomes with the answers of ours and of the strongest rival.

    Attributes:
        chromosomes: The test chromosomes.
        ours: Our answers.
        models: Answers, name and colour of all that are drawn, ours last.
        synthetic: Whether the data are.
        confidence: Below it a person looks at a chromosome.
    """

    chromosomes: Chromosomes
    ours: Answers
    models: list[tuple[Answers, str, str]]
    synthetic: bool
    confidence: float


def draw(material: Material) -> list[Figure]:
    """Draw confusions, the cost of review, reliability and, where cases are known, errors by cell."""
    scene = _scene(material)
    found = [_confusions(scene), _review(scene), _reliability(scene)]
    return [*found, _cells(scene)] if scene.chromosomes.rows_by_case() else found


def failures(material: Material) -> list[str]:
    """Name the worst types, cells whose karyotype is misjudged, and the cells with most errors."""
    scene = _scene(material)
    return [*_worst_types(scene), *_misjudged(scene), *_worst_cells(scene)]


def _scene(material: Material) -> _Scene:
    return _Scene(
        cast("ChromosomeSplit", material.dataset.test).chromosomes,
        material.predictions[material.model_name],
        material.compared(),
        material.synthetic,
        cast("KaryotypeConfig", material.config).review.confidence,
    )


def _confusions(scene: _Scene) -> Figure:
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    truth = scene.chromosomes.labels
    table = np.zeros((len(TYPES), len(TYPES)), dtype=np.int64)
    np.add.at(table, (truth, scene.ours.argmax), 1)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    fig, axes = drawing.start(width=6.0, height=5.6)
    axes.grid(False)
    axes.imshow(
        100 * shares,
        cmap=LinearSegmentedColormap.from_list("ours", ("white", OURS)),
        norm=PowerNorm(0.5, 0, 100),
    )
    for row, column in zip(*np.nonzero(shares >= _NAMED_SHARE), strict=True):
        share = shares[row, column]
        color = "white" if share > 0.4 else drawing.INK
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color=color)
    axes.set_xticks(range(len(TYPES)), TYPES)
    axes.set_yticks(range(len(TYPES)), TYPES)
    axes.tick_params(labelsize=7.5, length=0)
    axes.set(xlabel="type by the model alone", ylabel="true type")
    worst = [f"{TYPES[a]} as {TYPES[b]} ({n})" for a, b, n in _most_confused(table)]
    said = f"Most frequent confusions: {', '.join(worst)}" if worst else "No type is taken for another"
    after = int((scene.ours.assigned != truth).sum())
    cases = bool(scene.chromosomes.rows_by_case())
    left = f" {int(table.sum() - np.trace(table))} of {len(truth)} chromosomes are wrong by themselves"
    left += f", {after} after assignment within cells." if cases else "."
    return drawing.finish(
        fig,
        name="confusions",
        title="Which types are taken for which",
        caption="Per cent of each true type; shares below 2 % are shaded without a number, and shades are "
        f"stretched so that rare ones show.{left}",
        alt=f"{said}.{left}",
        synthetic=scene.synthetic,
    )


def _most_confused(table: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    wrong = table - np.diag(np.diag(table))
    places = np.argsort(-wrong, axis=None, kind="stable")[:_WORST]
    rows, columns = np.unravel_index(places, wrong.shape)
    return [(int(a), int(b), int(wrong[a, b])) for a, b in zip(rows, columns, strict=True) if wrong[a, b]]


def _review(scene: _Scene) -> Figure:
    """Draw how right the rest is when a person looks at the least certain chromosomes."""
    truth = scene.chromosomes.labels
    fig, axes = drawing.start(height=3.1)
    for answers, _, color in scene.models:
        looked_at, right = _review_curve(answers, truth)
        axes.plot(100 * looked_at, 100 * right, color=color, lw=1.6)
    drawing.name_lines(axes, _names(scene), (0.78, 0.25))
    kept = scene.ours.types.max(axis=1) >= scene.confidence
    cost = 1 - float(kept.mean())
    about = f"Below a probability of {scene.confidence:g} are {100 * cost:.1f} % of chromosomes"
    if kept.any():
        rest = float((scene.ours.argmax == truth)[kept].mean())
        axes.plot(100 * cost, 100 * rest, "o", ms=6, color=OURS, zorder=4)
        about += f"; of the others {100 * rest:.1f} % are right"
    axes.set(xlabel="chromosomes that a person looks at, %", ylabel="of the others right, %", xlim=(0, 40))
    axes.set_ylim(top=100.2)
    return drawing.finish(
        fig,
        name="review",
        title="What review costs, and what it leaves",
        caption="The least certain chromosomes are looked at first; types by the model alone. The dot is the "
        f"threshold of this run. {about}.",
        alt=f"{about}; without review {100 * float((scene.ours.argmax == truth).mean()):.1f} % are right.",
        synthetic=scene.synthetic,
    )


def _names(scene: _Scene) -> list[tuple[str, str]]:
    return [(name, color) for _, name, color in reversed(scene.models)]


def _review_curve(answers: Answers, truth: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return shares looked at, rising from 0, and how many of the others are right; none of very few."""
    order = np.argsort(answers.types.max(axis=1), kind="stable")
    right = (answers.argmax == truth)[order]
    rows = len(right)
    left = rows - np.arange(rows)
    shares = np.cumsum(right[::-1])[::-1] / left
    fewest = min(_FEWEST, rows)
    chosen = np.unique(np.linspace(0, rows - fewest, 200).astype(int))
    return chosen / rows, shares[chosen]


def _reliability(scene: _Scene) -> Figure:
    truth = scene.chromosomes.labels
    fig, (top, low) = drawing.start(height=4.2, rows=2, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    top.plot([0, 100], [0, 100], color=MUTED, lw=0.9, ls=":")
    words = []
    for answers, name, color in scene.models:
        chance, right = answers.types.max(axis=1), answers.argmax == truth
        place = np.minimum((chance * _BINS).astype(np.intp), _BINS - 1)
        rows = np.bincount(place, minlength=_BINS)
        drawn = rows >= _FEWEST
        said, held = (np.bincount(place, of, _BINS)[drawn] / rows[drawn] for of in (chance, right))
        top.plot(100 * said, 100 * held, color=color, marker="o", ms=4, lw=1.2)
        counts, edges = np.histogram(100 * chance, bins=20, range=(0, 100))
        low.stairs(counts, edges, color=color, lw=1.4)
        average = f"{100 * chance.mean():.1f} % on average"
        words.append(f"{name} says {average} and is right in {100 * right.mean():.1f} %")
    drawing.name_lines(top, _names(scene), (0.03, 0.94))
    top.set(ylabel="right, %", ylim=(0, 102))
    low.set(xlabel="probability of the most probable type, %", ylabel="chromosomes", xlim=(0, 102))
    low.set_yscale("symlog", linthresh=1)
    return drawing.finish(
        fig,
        name="reliability",
        title="Whether probabilities hold",
        caption="How many of the chromosomes with about the same probability are right; on the dotted line "
        f"as many as it says. Tenths with fewer than {_FEWEST} of the {len(truth):,} are left out. Below, "
        "how many have which probability.",
        alt=f"{'; '.join(reversed(words))}.",
        synthetic=scene.synthetic,
    )


def _cells(scene: _Scene) -> Figure:
    """Draw how many cells have how many wrong chromosomes, by the ways of making cells consistent."""
    from matplotlib.ticker import MaxNLocator

    cases = list(scene.chromosomes.rows_by_case().values())
    fig, axes = drawing.start(height=2.8)
    words = []
    for number, (name, told, shade) in enumerate(_WAYS):
        wrong = getattr(scene.ours, name) != scene.chromosomes.labels
        errors = np.minimum([int(wrong[rows].sum()) for rows in cases], _MOST_ERRORS)
        cells = np.bincount(errors, minlength=_MOST_ERRORS + 1)
        at = np.arange(len(cells)) + 0.27 * (number - 1)
        bars = axes.bar(at, cells, width=0.25, color=OURS, alpha=shade, label=told)
        axes.bar_label(bars, [str(count) if count else "" for count in cells], fontsize=7, color=MUTED)
        words.append(f"{told} {cells[0]}")
    ticks = [*map(str, range(_MOST_ERRORS)), f"{_MOST_ERRORS} or more"]
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set(xlabel="wrong chromosomes in a cell", ylabel="cells")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8.5, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    about = f"Cells without an error, of {len(cases)}: {', '.join(words)}"
    return drawing.finish(
        fig,
        name="cells",
        title="How many cells are right",
        caption=f"{about}.",
        alt=f"{about}.",
        synthetic=scene.synthetic,
    )


def _worst_types(scene: _Scene) -> list[str]:
    truth, said = scene.chromosomes.labels, scene.ours.argmax
    found = []
    for kind in np.unique(truth).tolist():
        own = said[truth == kind]
        wrong = own[own != kind]
        if len(wrong):
            other, times = _most_frequent(wrong)
            share = len(wrong) / len(own)
            found.append(
                (
                    share,
                    f"type {TYPES[kind]}: {len(wrong)} of {len(own)} ({100 * share:.0f} %) wrong by "
                    f"themselves, most often taken for {TYPES[other]} ({times})",
                )
            )
    return [text for _, text in sorted(found, reverse=True)[:_WORST]]


def _misjudged(scene: _Scene) -> list[str]:
    """Say which abnormal cells look otherwise after assignment, and which normal ones look abnormal."""
    truth, said = scene.chromosomes.labels, scene.ours.assigned
    missed, alarms = [], []
    for case, rows in scene.chromosomes.rows_by_case().items():
        true, found = counts_of(truth[rows]), counts_of(said[rows])
        kind = cell_kind(truth[rows])
        if kind == "aneuploid" and (true != found).any():
            missed.append(f"cell {case}: truly {_in_short(true)}, read as {_in_short(found)}")
        elif kind == "normal" and is_aneuploid(found):
            alarms.append(f"cell {case}: truly {_in_short(true)}, a false alarm as {_in_short(found)}")
    more = len(alarms) - _WORST
    rest = [f"{more} more false alarm{'s' * (more > 1)} on normal cells"] if more > 0 else []
    return [*missed, *alarms[:_WORST], *rest]


def _worst_cells(scene: _Scene) -> list[str]:
    truth, said = scene.chromosomes.labels, scene.ours.assigned
    found = []
    for case, rows in scene.chromosomes.rows_by_case().items():
        wrong = rows[truth[rows] != said[rows]]
        if len(wrong):
            pairs = [f"{TYPES[truth[row]]} as {TYPES[said[row]]}" for row in wrong[:_MOST_ERRORS]]
            more = ", …" if len(wrong) > _MOST_ERRORS else ""
            text = (
                f"cell {case}: {len(wrong)} of {len(rows)} wrong after assignment ({', '.join(pairs)}{more})"
            )
            found.append((-len(wrong), text))
    return [text for _, text in sorted(found)[:_WORST]]


def _most_frequent(labels: Labels) -> tuple[int, int]:
    counts = counts_of(labels)
    return int(counts.argmax()), int(counts.max())


def _in_short(counts: NDArray[np.int64]) -> str:
    """Return counts as "47,XY,+21"."""
    sexes = "X" * int(counts[X]) + "Y" * int(counts[Y])
    changes: Sequence[str] = [
        f"{'+' if copies > PLOIDY else '-'}{TYPES[kind]}"
        for kind, copies in enumerate(counts[:X].tolist())
        for _ in range(abs(copies - PLOIDY))
    ]
    return ",".join([str(int(counts.sum())), sexes or "no X or Y", *changes])
