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

# the salt that makes SVG ids repeatable is global in matplotlib: it is set by one thread at a time
_SALT_LOCK = threading.Lock()

Media = Literal["image/svg+xml", "image/png"]


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


def learning_curves(
    history: Sequence[Mapping[str, float]], model: str, *, metric: str, synthetic: bool
) -> Figure | None:
    """Draw the training and the validation metric of each epoch; None with fewer than two epochs.

    The two share their axes when they are the same quantity, otherwise each has its own.

    Args:
        history: Metrics of each epoch; keys such as ``train_loss`` and ``valid_mse``.
        model: Whose they are.
        metric: The metric that is shown where several were recorded.
        synthetic: Whether the data are synthetic.
    """
    names = [name for part in ("train", "valid") if (name := _recorded(history, part, metric))]
    if len(history) < 2 or not names:
        return None
    apart = len({_quantity(name) for name in names}) > 1
    canvas, drawn = start(height=2.6, columns=2 if apart else 1, squeeze=False)
    ending = ""
    for name, axes in zip(names, drawn[0] if apart else [drawn[0][0]] * len(names), strict=True):
        points = [(number, epoch[name]) for number, epoch in enumerate(history, 1) if name in epoch]
        epochs, values = zip(*points, strict=True)
        valid = name.startswith("valid")
        axes.plot(epochs, values, color=OURS, linestyle="-" if valid else ":", marker=".", ms=4)
        label_end(axes, epochs[-1], values[-1], name.partition("_")[0], OURS)
        axes.set(xlabel="epoch", ylabel=_quantity(name))
        axes.margins(x=0.08, y=0.18)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if valid:
            best = _best(points, _quantity(name))
            axes.plot(*best, marker="o", ms=8, mfc="none", mec=OURS)
            axes.annotate("best", best, xytext=(0, 9), textcoords="offset points", ha="center", color=MUTED)
            ending = f"; the best {name.replace('_', ' ')} is at epoch {best[0]} of {len(history)}"
    shown = " and ".join(name.replace("_", " ") for name in names)
    return finish(
        canvas,
        name="learning-curves",
        title="Learning curves",
        caption=f"{shown} by epoch{ending}.".capitalize(),
        alt=f"Training of {model}: {shown} by epoch{ending}.",
        synthetic=synthetic,
    )


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


def _recorded(history: Sequence[Mapping[str, float]], part: str, metric: str) -> str | None:
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
