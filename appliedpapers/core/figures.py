"""Figures of reports: one look, one meaning per colour, and no global state.

Colours are Okabe and Ito's, which people with colour-blindness can tell apart. Figures stand on a light
card in both themes of the report, so that what is drawn looks the same everywhere and prints well.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

OURS = "#0072B2"
STRONGEST = "#D55E00"
BASELINE = "#999999"
TRUTH = "#009E73"
FLAGGED = "#CC79A7"
INK = "#1a1a1a"
MUTED = "#5c5c5c"
GRID = "#e3e3e3"

WIDTH = 6.4
HEIGHT = 3.3
MANY_POINTS = 5_000

_READABLE = {STRONGEST: "#B04E00", BASELINE: "#666666", TRUTH: "#007556", FLAGGED: "#A14580"}
_DPI = 144
_MARK_INCHES = 0.18
_NAME_STEP = 0.11
_MOST_STEPS = 12

# the salt that makes SVG ids repeatable is global in matplotlib: it is set by one thread at a time
_SALT_LOCK = threading.Lock()

Media = Literal["image/svg+xml", "image/png"]
_Epochs = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Figure:
    """A finished drawing.

    Attributes:
        name: File name without its ending; lower case, digits, hyphens and underscores.
        title: What it shows, in a few words.
        caption: One or two sentences for the reader.
        alt: The finding, for who cannot see it.
        data: The bytes of the file.
        media: Their type.
    """

    name: str
    title: str
    caption: str
    alt: str
    data: bytes
    media: Media

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise ValueError(f"figure name {self.name!r}: expected lower case, digits, hyphens, underscores")
        if not self.alt.strip():
            raise ValueError(f"figure {self.name} needs alt text that states the finding")

    @property
    def file_name(self) -> str:
        """Name with its ending."""
        return f"{self.name}.{'svg' if self.media == 'image/svg+xml' else 'png'}"


def start(
    width: float = WIDTH, height: float = HEIGHT, *, rows: int = 1, columns: int = 1, **layout: Any
) -> tuple[Canvas, Any]:
    """Start a figure in our style.

    Args:
        width: Inches; 6.4 fills the report's column.
        height: Inches.
        rows: Rows of axes.
        columns: Columns of axes.
        **layout: Passed to ``Figure.subplots``, such as ``sharex=True``.

    Returns:
        The canvas and its axes: one, or an array where there are several.
    """
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    axes = canvas.subplots(rows, columns, **layout)
    for one in canvas.axes:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set(color=MUTED, linewidth=0.8)
        one.grid(color=GRID, linewidth=0.7)
        one.set_axisbelow(True)
        one.tick_params(colors=MUTED, labelsize=8.5)
    return canvas, axes


def finish(
    fig: Canvas,
    *,
    name: str,
    title: str,
    alt: str,
    caption: str = "",
    synthetic: bool,
    points: int | None = None,
) -> Figure:
    """Write a figure as SVG, or as PNG when it holds more than 5,000 points.

    Args:
        fig: The canvas from :func:`start`.
        name: File name without ending.
        title: What it shows.
        alt: The finding in words.
        caption: One or two sentences for the reader.
        synthetic: True writes "synthetic data" on the figure.
        points: How many points are drawn; None counts those of lines, collections and images.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    drawn = _count_points(fig) if points is None else points
    if synthetic:
        _mark_synthetic(fig)
    for axes in fig.axes:
        _finish_axes(axes)
    buffer = io.BytesIO()
    if drawn > MANY_POINTS:
        FigureCanvasAgg(fig).print_png(buffer, metadata={"Software": None})
        return Figure(name, title, caption, alt, buffer.getvalue(), "image/png")
    with _SALT_LOCK, mpl.rc_context({"svg.hashsalt": "applied-papers"}):
        FigureCanvasSVG(fig).print_svg(buffer, metadata={"Date": None, "Creator": None})
    return Figure(name, title, caption, alt, buffer.getvalue(), "image/svg+xml")


def text_colour(color: str) -> str:
    """Return the shade of one of our colours that has a contrast of 4.5:1 on white."""
    return _READABLE.get(color, color)


def label_end(axes: Any, x: float, y: float, text: str, color: str) -> None:
    """Write a label right of a line's last point, in the line's colour: no legend is needed.

    Text takes a darker shade where the colour itself is too pale to be read on white.
    """
    axes.annotate(
        text,
        (x, y),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=text_colour(color),
        fontsize=9,
        annotation_clip=False,
    )


def label_ends(axes: Any, x: Any, ends: Sequence[tuple[float, str, str]], gap: float = 0.075) -> None:
    """Label lines at their ends, pushed apart where they would overlap, inside the axes.

    Args:
        axes: Whose limits are set.
        x: Where the lines end.
        ends: Last value, label and colour of each.
        gap: Between labels, as a share of the height; low axes need more.
    """
    from scipy.optimize import isotonic_regression

    bottom, top = axes.get_ylim()
    known = [end for end in ends if np.isfinite(end[0])]
    inside = sorted((min(max(value, bottom), top), name, color) for value, name, color in known)
    if not inside:
        return
    # the nearest places that are a gap apart: monotonic regression once the gaps are taken off
    gaps = gap * (top - bottom) * np.arange(len(inside))
    places = isotonic_regression(np.array([value for value, _, _ in inside]) - gaps).x
    places = np.clip(places, bottom, top - gaps[-1]) + gaps
    for y, (_, name, color) in zip(places, inside, strict=True):
        label_end(axes, x, float(y), name, color)


def name_lines(axes: Any, lines: Sequence[tuple[str, str]], place: tuple[float, float]) -> None:
    """Write the names of lines below one another into the axes, in the lines' colours.

    Args:
        axes: Where there is room for them.
        lines: Name and colour, top first.
        place: Left upper corner, as shares of the axes.
    """
    for number, (name, color) in enumerate(lines):
        axes.annotate(
            name,
            (place[0], place[1] - _NAME_STEP * number),
            xycoords="axes fraction",
            va="top",
            color=text_colour(color),
            fontsize=9,
        )


def learning_curves(
    history: Sequence[Mapping[str, float]], model: str, *, metric: str, synthetic: bool
) -> Figure | None:
    """Draw the training and the validation metric of each epoch; None with fewer than two epochs.

    The two share their axes when they are the same quantity, otherwise each has its own. A model that is
    trained in several steps has axes for each of them.

    Args:
        history: Metrics of each epoch; keys such as ``train_loss`` and ``valid_mse``, those of a step with a
            name such as ``encoder/valid_mse``.
        model: Whose they are.
        metric: The metric that is shown where several were recorded.
        synthetic: Whether the data are synthetic.
    """
    steps = {}
    for step, epochs in _by_step(history).items():
        names = [name for part in ("train", "valid") if (name := _recorded(epochs, part, metric))]
        if len(epochs) > 1 and names:
            steps[step or model] = epochs, names
    if not steps:
        return None
    if len(steps) > 1:
        return _curves_by_step(steps, model, synthetic)
    [(epochs, names)] = steps.values()
    return _curves_of_one(epochs, names, model, synthetic)


def _curves_of_one(epochs: _Epochs, names: list[str], model: str, synthetic: bool) -> Figure:
    apart = len({_quantity(name) for name in names}) > 1
    panels = [[name] for name in names] if apart else [names]
    canvas, drawn = start(height=2.6, columns=len(panels), squeeze=False)
    ending = ""
    for axes, together in zip(drawn[0], panels, strict=True):
        best = _draw_curves(axes, epochs, together)
        if best is not None:
            axes.annotate("best", best, xytext=(0, 9), textcoords="offset points", ha="center", color=MUTED)
            ending = f"; the best {_words(together[-1])} is at epoch {best[0]} of {len(epochs)}"
    shown = " and ".join(map(_words, names))
    return finish(
        canvas,
        name="learning-curves",
        title="Learning curves",
        caption=f"{shown} by epoch{ending}.".capitalize(),
        alt=f"Training of {model}: {shown} by epoch{ending}.",
        synthetic=synthetic,
    )


def _curves_by_step(steps: Mapping[str, tuple[_Epochs, list[str]]], model: str, synthetic: bool) -> Figure:
    shown = dict(islice(steps.items(), _MOST_STEPS))
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    canvas, drawn = start(height=0.5 + 1.6 * rows, rows=rows, columns=columns, squeeze=False)
    findings = []
    for axes in drawn.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, (step, (epochs, names)) in zip(drawn.flat, shown.items(), strict=False):
        # beside one another there is room for one quantity a step
        together = [name for name in names if _quantity(name) == _quantity(names[-1])]
        best = _draw_curves(axes, epochs, together, gap=0.16)
        axes.set_title(step)
        if best is not None:
            about = f"best {_words(together[-1])} of {step} {best[1]:.3g}"
            findings.append(f"{about} at epoch {best[0]} of {len(epochs)}")
    more = f" {len(steps) - len(shown)} further steps are not shown." if len(steps) > len(shown) else ""
    lines = "Dotted: training. Solid: validation, with its best epoch." if findings else "Loss in training."
    return finish(
        canvas,
        name="learning-curves",
        title="Learning curves",
        caption=f"The steps of training in their order. {lines}{more}",
        alt=f"Training of {model} in {len(steps)} steps: {'; '.join(findings) or 'no validation'}.",
        synthetic=synthetic,
    )


def _draw_curves(
    axes: Any, epochs: _Epochs, names: Sequence[str], gap: float = 0.1
) -> tuple[int, float] | None:
    """Draw metrics of one quantity over epochs, and return the best epoch of the validation."""
    ends, best = [], None
    for name in names:
        points = [(number, epoch[name]) for number, epoch in enumerate(epochs, 1) if name in epoch]
        valid = name.startswith("valid")
        axes.plot(*zip(*points, strict=True), color=OURS, ls="-" if valid else ":", marker=".", ms=4)
        ends.append((points[-1][1], name.partition("_")[0], OURS))
        if valid:
            best = _best(points, _quantity(name))
            axes.plot(*best, marker="o", ms=8, mfc="none", mec=OURS)
    axes.set(xlabel="epoch", ylabel=_quantity(names[-1]).replace("_", " "))
    axes.margins(x=0.08, y=0.18)
    axes.xaxis.get_major_locator().set_params(integer=True)
    label_ends(axes, len(epochs), ends, gap)
    return best


def _by_step(history: _Epochs) -> dict[str, list[dict[str, float]]]:
    """Return the epochs of each step by its name, in their order; "" for those without a name."""
    steps: dict[str, list[dict[str, float]]] = {}
    for epoch in history:
        step = next((key.rpartition("/")[0] for key in epoch if "/" in key), "")
        steps.setdefault(step, []).append({key.rpartition("/")[2]: value for key, value in epoch.items()})
    return steps


def _words(name: str) -> str:
    return name.replace("_", " ")


def _finish_axes(axes: Any) -> None:
    title = axes.get_title()
    if title:
        axes.set_title("")
        axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set(fontsize=9.5, color=INK)
    legend = axes.get_legend()
    if legend is not None:
        legend.set_frame_on(False)


def _mark_synthetic(fig: Canvas) -> None:
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = fig.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, 0, 1, 1 - _MARK_INCHES / fig.get_figheight()))
    fig.text(0.995, 0.99, "synthetic data", ha="right", va="top", color=MUTED, fontsize=8, style="italic")


def _recorded(history: _Epochs, part: str, metric: str) -> str | None:
    known = dict.fromkeys(name for epoch in history for name in epoch if name.split("_")[0] == part)
    wanted = (f"{part}_{metric}", f"{part}_loss")
    return next((name for name in (*wanted, *known) if name in known), None)


def _quantity(name: str) -> str:
    return name.partition("_")[2] or name


def _best(points: Sequence[tuple[int, float]], quantity: str) -> tuple[int, float]:
    from appliedpapers.core.metrics import metrics

    about = metrics().get(quantity)
    sign = -1 if about is not None and about.higher_is_better else 1
    return min(points, key=lambda point: sign * point[1])


def _count_points(fig: Canvas) -> int:
    total = 0
    for axes in fig.axes:
        for line in axes.lines:
            total += np.size(line.get_xdata())
        for collection in axes.collections:
            total += np.size(collection.get_offsets()) // 2
        total += (MANY_POINTS + 1) * len(axes.images)
    return total
