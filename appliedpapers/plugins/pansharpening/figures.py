"""Figures that answer an analyst's questions: is it sharper, where is it wrong, which bands hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core import figures as drawing
from appliedpapers.core.figures import BASELINE, INK, MUTED, OURS, STRONGEST, TRUTH, Figure
from appliedpapers.core.verdict import strongest_baseline

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Material
    from appliedpapers.plugins.pansharpening.block_scores import Reduced
    from appliedpapers.plugins.pansharpening.judging import Judged, Preview

Floats = NDArray[np.floating[Any]]

_STRETCH = (2.0, 98.0)
_ERROR_TOP = 98.0
_CURVE_TOP = 2.5
_BARS = (10, 20, 50, 100, 200)


def draw(material: Material) -> list[Figure]:
    """Draw all figures of a run."""
    found = [_scene(material), _errors(material), _by_band(material), _spectra(material)]
    return [figure for figure in found if figure is not None]


def _scene(material: Material) -> Figure | None:
    """Draw one scene as the sensor saw it, as ours and the strongest baseline made it, and as it is."""
    ours, rival = _previews(material)
    if ours is None:
        return None
    panels = {"as the sensor saw it": ours.coarse, material.model_name: ours.fused}
    name = _rival(material)
    if rival is not None and name is not None:
        panels[name] = rival.fused
    panels["truth"] = ours.truth
    low, high = _stretch(ours.truth)
    fig, grid = _pictures(len(panels))
    for axes, (title, picture) in zip(grid, panels.items(), strict=True):
        shown = np.clip((picture.transpose(1, 2, 0) - low) / (high - low), 0, 1)
        shown = np.where(np.isnan(shown), 1.0, shown)
        height, width = ours.truth.shape[1:]
        axes.imshow(shown, interpolation="nearest", extent=(0, width, height, 0))
        axes.set_title(title)
    _scale_bar(grid[0], ours.truth.shape[2])
    one = _first(material)
    colours = "true colour" if ours.true_colour else "false colour"
    bands = ", ".join(_band_name(one.reduced, band) for band in ours.bands)
    ratio = one.reduced.ratio
    better = ""
    if name is not None and rival is not None:
        mine, theirs = (_ergas(material, key) for key in (material.model_name, name))
        better = (
            f" ERGAS of {material.model_name} is {mine:.3g}, of {name} {theirs:.3g}; 0 would be the truth."
        )
    return drawing.finish(
        fig,
        name="scene",
        title=f"The scene {one.scene_id} before and after",
        alt=f"{one.scene_id} in {colours}, {ratio} times finer than the sensor saw it.{better}",
        caption=f"{colours.capitalize()} ({bands}), one stretch for all: percentiles 2 to 98 of the truth. "
        f"The bar counts pixels of the fine grid; white was not judged.{_protocol(one)}",
        synthetic=material.dataset.provenance.synthetic,
    )


def _errors(material: Material) -> Figure | None:
    """Draw where ours, the strongest baseline and EXP are wrong, on one scale."""
    ours, rival = _previews(material)
    if ours is None:
        return None
    maps = {material.model_name: ours.error}
    name = _rival(material)
    if rival is not None and name is not None:
        maps[name] = rival.error
    plain = _preview(material, "exp")
    if plain is not None:
        maps.setdefault("exp", plain.error)
    top = max(float(np.nanpercentile(one, _ERROR_TOP)) for one in maps.values())
    fig, grid = _pictures(len(maps), bar=True)
    for axes, (title, error) in zip(grid, maps.items(), strict=True):
        shown = axes.imshow(error, vmin=0, vmax=top, cmap="cividis", interpolation="nearest")
        axes.set_title(f"{title}\nmedian {np.nanmedian(error):.3g} %")
    _scale_bar(grid[0], ours.error.shape[1])
    bar = fig.colorbar(shown, ax=list(grid), fraction=0.05, pad=0.02)
    bar.set_label("error, % of the band's mean", color=INK, fontsize=9)
    bar.ax.tick_params(colors=MUTED, labelsize=8.5)
    words = ", ".join(f"{key} {np.nanmedian(error):.3g} %" for key, error in maps.items())
    one = _first(material)
    return drawing.finish(
        fig,
        name="error-maps",
        title="Where the error lies",
        alt=f"Median over pixels of the error in {one.scene_id}: {words}.",
        caption="Root mean square over bands, relative to each band's mean; one scale for all maps, which "
        f"ends at the 98th percentile of the worst.{_protocol(one)}",
        synthetic=material.dataset.provenance.synthetic,
    )


def _by_band(material: Material) -> Figure | None:
    """Draw relative RMSE and correlation of each band."""
    curves = {name: _curves(judged) for name, judged in material.predictions.items()}
    rmse, cc = ({name: pair[place] for name, pair in curves.items()} for place in (0, 1))
    mine, name = material.model_name, _rival(material)
    if np.isfinite(rmse[mine]).sum() < 2:
        return None
    sums = _first(material).reduced
    centres = _centres(sums)
    order = np.argsort(centres, kind="stable")
    fig, (upper, lower) = drawing.start(height=5.2, rows=2, sharex=True)
    for axes, table, scale in ((upper, rmse, 100.0), (lower, cc, 1.0)):
        ends = []
        for key, curve in table.items():
            color = OURS if key == mine else STRONGEST if key == name else BASELINE
            bold = key in (mine, name)
            values = scale * curve[order]
            axes.plot(
                centres[order],
                values,
                color=color,
                lw=1.8 if bold else 1.0,
                zorder=4 if key == mine else 3 if bold else 2,
            )
            ends.append((float(values[np.isfinite(values)][-1]), key, color))
        axes.set_ylim(*_limits(table, scale, mine, name))
        span = float(centres.max() - centres.min())
        axes.set_xlim(centres.min(), centres.max() + 0.16 * span)
        _label_ends(axes, float(centres.max()), ends)
    upper.set_ylabel("RMSE, % of the band's mean")
    lower.set_ylabel("correlation with the truth")
    lower.set_xlabel("band" if sums.wavelengths is None else "wavelength, nm")
    finding = _finding(rmse, mine, name, [_band_name(sums, band) for band in range(sums.dead.size)])
    return drawing.finish(
        fig,
        name="quality-by-band",
        title="Which bands can be trusted",
        alt=finding,
        caption=f"{finding} Mean over {_scenes(len(material.predictions[mine]))}; gaps are dead bands; "
        "lines that leave the figure are weak methods or bands.",
        synthetic=material.dataset.provenance.synthetic,
    )


def _spectra(material: Material) -> Figure | None:
    """Draw the spectra of six pixels from dark to bright."""
    ours, _ = _previews(material)
    if ours is None:
        return None
    one = _first(material)
    sums = one.reduced
    centres = _centres(sums)
    order = np.argsort(centres, kind="stable")
    fig, grid = drawing.start(height=4.2, rows=2, columns=3, sharex=True)
    flat = list(grid.ravel())
    closer = 0
    for number, axes in enumerate(flat):
        truth, mine, plain = (
            table[number] for table in (ours.truth_spectra, ours.fused_spectra, ours.exp_spectra)
        )
        closer += int(np.nansum((mine - truth) ** 2) < np.nansum((plain - truth) ** 2))
        lines = ((plain, BASELINE, 1.2), (truth, TRUTH, 3.0), (mine, OURS, 1.2))
        for curve, color, width in lines:
            axes.plot(centres[order], curve[order], color=color, lw=width)
        row, column = ours.points[number]
        axes.set_title(f"row {row}, column {column}", fontsize=9)
        axes.set_ylim(bottom=min(0.0, float(np.nanmin([truth, mine, plain]))))
        axes.margins(x=0.02)
    for axes in flat[::3]:
        axes.set_ylabel("value")
    drawn = flat[0].lines
    names = {"truth": drawn[1], material.model_name: drawn[2], "exp": drawn[0]}
    # beside the mark of synthetic data: inside, names would hide the curves
    legend = fig.legend(
        names.values(), names.keys(), loc="outside upper left", ncols=3, frameon=False, fontsize=9
    )
    for text, line in zip(legend.get_texts(), names.values(), strict=True):
        text.set_color(drawing.text_colour(line.get_color()))
    label = "band" if sums.wavelengths is None else "wavelength, nm"
    for axes in flat[3:]:
        axes.set_xlabel(label)
    return drawing.finish(
        fig,
        name="spectra",
        title="Six pixels from dark to bright",
        alt=f"At {closer} of {len(flat)} pixels the spectrum of {material.model_name} is closer to the truth "
        "than the interpolated one.",
        caption=f"Scene {one.scene_id}, values as in the file. At {closer} of {len(flat)} pixels "
        f"{material.model_name} is closer to the truth than interpolation (exp).{_protocol(one)}",
        synthetic=material.dataset.provenance.synthetic,
    )


def _first(material: Material) -> Judged:
    return cast("list[Judged]", material.predictions[material.model_name])[0]


def _rival(material: Material) -> str | None:
    test = strongest_baseline(material.results)
    return None if test is None else str(test["b"])


def _preview(material: Material, name: str | None) -> Preview | None:
    if name is None or name not in material.predictions:
        return None
    return cast("list[Judged]", material.predictions[name])[0].preview


def _previews(material: Material) -> tuple[Preview | None, Preview | None]:
    return _preview(material, material.model_name), _preview(material, _rival(material))


def _ergas(material: Material, name: str) -> float:
    return cast("list[Judged]", material.predictions[name])[0].reduced.value("ergas")


def _pictures(count: int, *, bar: bool = False) -> tuple[Any, Any]:
    """Start a row of pictures without axes."""
    side = drawing.WIDTH / (count + 0.5 * bar)
    fig, grid = drawing.start(height=side + (0.75 if bar else 0.45), columns=count, squeeze=False)
    for axes in grid[0]:
        axes.set_axis_off()
        axes.grid(visible=False)
    return fig, grid[0]


def _stretch(truth: Floats) -> tuple[Floats, Floats]:
    low, high = np.nanpercentile(truth.reshape(3, -1), _STRETCH, axis=1)
    return low, np.maximum(high, low + 1e-9)


def _scale_bar(axes: Any, width: int) -> None:
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


def _curves(judged: list[Judged]) -> tuple[Floats, Floats]:
    """Return relative RMSE and correlation of each band, averaged over scenes with the first one's bands."""
    like = judged[0].reduced.dead.size
    alike = [one.reduced for one in judged if one.reduced.dead.size == like]
    tables = ([one.band_rmse() for one in alike], [one.band_cc() for one in alike])
    found = []
    for table in tables:
        known = np.isfinite(table)
        total = np.where(known, table, 0.0).sum(axis=0)
        count = known.sum(axis=0)
        found.append(np.divide(total, count, out=np.full(like, np.nan), where=count > 0))
    return found[0], found[1]


def _limits(
    table: dict[str, Floats], scale: float, mine: str, rival: str | None
) -> tuple[float, float | None]:
    """Return limits that show ours and the strongest baseline."""
    shown = np.concatenate([scale * curve for name, curve in table.items() if name in (mine, rival)])
    shown = shown[np.isfinite(shown)]
    if scale == 1.0:
        return max(float(np.percentile(shown, 2)) - 0.15, -1.0), 1.01
    return 0.0, min(_CURVE_TOP * float(np.percentile(shown, 90)), 1.05 * float(shown.max()))


def _label_ends(axes: Any, x: float, ends: list[tuple[float, str, str]]) -> None:
    """Label lines at their ends, pushed apart where they would overlap."""
    bottom, top = axes.get_ylim()
    gap = 0.075 * (top - bottom)
    inside = sorted((min(max(value, bottom), top), name, color) for value, name, color in ends)
    # from the top down, so that the labels stay inside
    ceiling = top
    placed = []
    for value, name, color in reversed(inside):
        y = min(value, ceiling)
        placed.append((y, name, color))
        ceiling = y - gap
    lift = max(bottom - min(y for y, _, _ in placed), 0.0)
    for y, name, color in placed:
        drawing.label_end(axes, x, y + lift, name, color)


def _finding(rmse: dict[str, Floats], mine: str, rival: str | None, bands: list[str]) -> str:
    known = np.isfinite(rmse[mine])
    worst = int(np.nanargmax(np.where(known, rmse[mine], -np.inf)))
    text = (
        f"{mine} is off by {100 * np.nanmedian(rmse[mine]):.3g} % of a band's mean in the median band, "
        f"by {100 * rmse[mine][worst]:.3g} % in the worst ({bands[worst]})"
    )
    if rival is None:
        return f"{text}."
    better = int((rmse[mine][known] < rmse[rival][known]).sum())
    return f"{text}; it is closer than {rival} in {better} of {int(known.sum())} bands."


def _centres(sums: Reduced) -> Floats:
    """Return what bands are drawn over: their centres in nm, or their numbers from 1."""
    numbers = np.arange(1, sums.dead.size + 1, dtype=np.float64)
    return numbers if sums.wavelengths is None else sums.wavelengths


def _band_name(sums: Reduced, band: int) -> str:
    return f"band {band + 1}" if sums.wavelengths is None else f"{sums.wavelengths[band]:,.0f} nm"


def _protocol(one: Judged) -> str:
    if one.protocol == "truth":
        return ""
    return (
        " Both images were made coarser by the ratio, so that the sensor's own cube is the truth "
        "(Wald's protocol)."
    )


def _scenes(count: int) -> str:
    return "one scene" if count == 1 else f"{count} scenes"
