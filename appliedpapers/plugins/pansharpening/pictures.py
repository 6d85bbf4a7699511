"""Drawing that the figures of runs and of quality reports share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core import figures as drawing
from appliedpapers.core.figures import BASELINE, INK, OURS, STRONGEST

Floats = NDArray[np.floating[Any]]

_STRETCH = (2.0, 98.0)
_CURVE_TOP = 2.5
_BARS = (10, 20, 50, 100, 200)


@dataclass(frozen=True)
class Spectra:
    """Spectra of the pixels of one figure by one source.

    Attributes:
        name: Whose they are.
        values: Shape ``(n, B)``; NaN where there are none.
        color: Of the line.
        width: Of the line, in points.
        style: Of the line, as matplotlib names it.
    """

    name: str
    values: Floats
    color: str
    width: float
    style: str = "-"


def start_pictures(columns: int, rows: int = 1, *, shape: tuple[int, int] = (1, 1), bar: bool = False) -> Any:
    """Start pictures without axes.

    Args:
        columns: Pictures in a row.
        rows: Rows.
        shape: Height and width of a picture in any unit.
        bar: Whether there is room for a colour bar.

    Returns:
        The canvas, and the axes in an array of shape ``(rows, columns)``.
    """
    side = drawing.WIDTH / (columns + 0.5 * bar)
    share = min(max(shape[0] / shape[1], 0.25), 2.0)
    height = rows * side * share + 0.25 * rows + (0.5 if bar else 0.2)
    fig, grid = drawing.start(height=height, rows=rows, columns=columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
        axes.grid(visible=False)
    return fig, grid


def stretch(picture: Floats) -> tuple[Floats, Floats]:
    """Return black and white of each colour: percentiles 2 and 98 of a picture ``(3, H, W)``."""
    low, high = np.nanpercentile(picture.reshape(3, -1), _STRETCH, axis=1)
    return low, np.maximum(high, low + 1e-9)


def show(axes: Any, picture: Floats, limits: tuple[Floats, Floats], shape: tuple[int, int]) -> None:
    """Show a picture ``(3, h, w)`` over ``shape`` fine pixels; what is not known is white."""
    low, high = limits
    shown = np.clip((picture.transpose(1, 2, 0) - low) / (high - low), 0, 1)
    shown = np.where(np.isnan(shown), 1.0, shown)
    axes.imshow(shown, interpolation="nearest", extent=(0, shape[1], shape[0], 0))


def scale_bar(axes: Any, width: int) -> None:
    """Draw a bar of a round number of fine pixels below a picture."""
    length = max((bar for bar in _BARS if bar <= width / 3), default=_BARS[0])
    axes.plot([0, length / width], [-0.04, -0.04], transform=axes.transAxes, color=INK, lw=2, clip_on=False)
    axes.annotate(
        f"{length} px",
        (length / width, -0.04),
        xycoords="axes fraction",
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color=INK,
        fontsize=8.5,
        annotation_clip=False,
    )


def draw_band_curves(
    rmse: Mapping[str, Floats],
    cc: Mapping[str, Floats],
    wavelengths: Floats | None,
    mine: str | None,
    rival: str | None,
) -> Any:
    """Draw relative RMSE and correlation of each band by method.

    Args:
        rmse: Relative RMSE by method, shape ``(B,)``.
        cc: Correlation by method, shape ``(B,)``.
        wavelengths: Band centres in nm, shape ``(B,)``; None numbers the bands.
        mine: Our method.
        rival: The strongest baseline.

    Returns:
        The canvas.
    """
    centres = centres_of(wavelengths, len(next(iter(rmse.values()))))
    order = np.argsort(centres, kind="stable")
    fig, (upper, lower) = drawing.start(height=5.2, rows=2, sharex=True)
    for axes, table, scale in ((upper, rmse, 100.0), (lower, cc, 1.0)):
        ends = []
        for key, curve in table.items():
            values = scale * curve[order]
            known = values[np.isfinite(values)]
            if not known.size:
                continue
            color = OURS if key == mine else STRONGEST if key == rival else BASELINE
            bold = key in (mine, rival)
            axes.plot(
                centres[order],
                values,
                color=color,
                lw=1.8 if bold else 1.0,
                zorder=4 if key == mine else 3 if bold else 2,
            )
            ends.append((float(known[-1]), key, color))
        axes.set_ylim(*_limits(table, scale, mine, rival))
        span = float(centres.max() - centres.min())
        axes.set_xlim(centres.min(), centres.max() + 0.16 * span)
        drawing.label_ends(axes, float(centres.max()), ends)
    upper.set_ylabel("RMSE, % of the band's mean")
    lower.set_ylabel("correlation with the truth")
    lower.set_xlabel(band_axis(wavelengths))
    return fig


def draw_spectra(lines: Sequence[Spectra], wavelengths: Floats | None, titles: Sequence[str]) -> Any:
    """Draw the spectra of six pixels.

    Args:
        lines: Lowest first.
        wavelengths: Band centres in nm, shape ``(B,)``; None numbers the bands.
        titles: Of the six.

    Returns:
        The canvas.
    """
    centres = centres_of(wavelengths, lines[0].values.shape[1])
    order = np.argsort(centres, kind="stable")
    fig, grid = drawing.start(height=4.2, rows=2, columns=3, sharex=True)
    flat = list(grid.ravel())
    for number, axes in enumerate(flat):
        for line in lines:
            axes.plot(
                centres[order], line.values[number][order], color=line.color, lw=line.width, ls=line.style
            )
        axes.set_title(titles[number], fontsize=9)
        lowest = np.nanmin([line.values[number] for line in lines])
        axes.set_ylim(bottom=min(0.0, float(lowest)))
        axes.margins(x=0.02)
    for axes in flat[::3]:
        axes.set_ylabel("value")
    for axes in flat[3:]:
        axes.set_xlabel(band_axis(wavelengths))
    # outside the axes, beside the mark of synthetic data: inside, names would hide the curves
    names = [line.name for line in lines]
    legend = fig.legend(
        flat[0].lines, names, loc="outside upper left", ncols=len(names), frameon=False, fontsize=9
    )
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set_color(drawing.text_colour(line.color))
    return fig


def finding_of_bands(
    rmse: Mapping[str, Floats], mine: str, rival: str | None, wavelengths: Floats | None
) -> str:
    """Say how far off bands are, and in how many of them ours is closer than the strongest baseline."""
    known = np.isfinite(rmse[mine])
    worst = int(np.nanargmax(np.where(known, rmse[mine], -np.inf)))
    text = (
        f"{mine} is off by {100 * np.nanmedian(rmse[mine]):.3g} % of a band's mean in the median band, "
        f"by {100 * rmse[mine][worst]:.3g} % in the worst ({band_name(wavelengths, worst)})"
    )
    if rival is None:
        return f"{text}."
    better = int((rmse[mine][known] < rmse[rival][known]).sum())
    return f"{text}; it is closer than {rival} in {better} of {int(known.sum())} bands."


def centres_of(wavelengths: Floats | None, bands: int) -> Floats:
    """Return what bands are drawn over: their centres in nm, or their numbers from 1."""
    return np.arange(1, bands + 1, dtype=np.float64) if wavelengths is None else wavelengths


def band_axis(wavelengths: Floats | None) -> str:
    """Return what the axis of :func:`centres_of` is called."""
    return "band" if wavelengths is None else "wavelength, nm"


def band_name(wavelengths: Floats | None, band: int) -> str:
    """Return what a band is called: its centre, or its number from 1."""
    return f"band {band + 1}" if wavelengths is None else f"{wavelengths[band]:,.0f} nm"


def _limits(
    table: Mapping[str, Floats], scale: float, mine: str | None, rival: str | None
) -> tuple[float, float | None]:
    """Return limits that show ours and the strongest baseline."""
    leading = [scale * curve for name, curve in table.items() if name in (mine, rival)]
    shown = np.concatenate(leading or [scale * curve for curve in table.values()])
    shown = shown[np.isfinite(shown)]
    if not shown.size:
        return 0.0, None
    if scale == 1.0:
        return max(float(np.percentile(shown, 2)) - 0.15, -1.0), 1.01
    return 0.0, min(_CURVE_TOP * float(np.percentile(shown, 90)), 1.05 * float(shown.max()))
