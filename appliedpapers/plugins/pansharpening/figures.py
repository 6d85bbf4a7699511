"""Figures that answer an analyst's questions: is it sharper, where is it wrong, which bands hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core import figures as drawing
from appliedpapers.core.figures import BASELINE, INK, MUTED, OURS, TRUTH, Figure
from appliedpapers.plugins.pansharpening.pictures import (
    Spectra,
    band_name,
    draw_band_curves,
    draw_spectra,
    finding_of_bands,
    scale_bar,
    show,
    start_pictures,
    stretch,
)

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Material
    from appliedpapers.plugins.pansharpening.judging import Judged, Preview

Floats = NDArray[np.floating[Any]]

_ERROR_TOP = 98.0


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
    name = material.rival
    if rival is not None and name is not None:
        panels[name] = rival.fused
    panels["truth"] = ours.truth
    limits, (height, width) = stretch(ours.truth), ours.truth.shape[1:]
    fig, grid = start_pictures(len(panels))
    for axes, (title, picture) in zip(grid[0], panels.items(), strict=True):
        show(axes, picture, limits, (height, width))
        axes.set_title(title)
    scale_bar(grid[0, 0], width)
    one = _first(material)
    colours = "true colour" if ours.true_colour else "false colour"
    bands = ", ".join(band_name(one.reduced.wavelengths, band) for band in ours.bands)
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
        synthetic=material.synthetic,
    )


def _errors(material: Material) -> Figure | None:
    """Draw where ours, the strongest baseline and EXP are wrong, on one scale."""
    ours, rival = _previews(material)
    if ours is None:
        return None
    maps = {material.model_name: ours.error}
    name = material.rival
    if rival is not None and name is not None:
        maps[name] = rival.error
    plain = _preview(material, "exp")
    if plain is not None:
        maps.setdefault("exp", plain.error)
    top = max(float(np.nanpercentile(one, _ERROR_TOP)) for one in maps.values())
    fig, grid = start_pictures(len(maps), bar=True)
    for axes, (title, error) in zip(grid[0], maps.items(), strict=True):
        shown = axes.imshow(error, vmin=0, vmax=top, cmap="cividis", interpolation="nearest")
        axes.set_title(f"{title}\nmedian {np.nanmedian(error):.3g} %")
    scale_bar(grid[0, 0], ours.error.shape[1])
    bar = fig.colorbar(shown, ax=list(grid[0]), fraction=0.05, pad=0.02)
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
        synthetic=material.synthetic,
    )


def _by_band(material: Material) -> Figure | None:
    """Draw relative RMSE and correlation of each band."""
    curves = {name: _curves(judged) for name, judged in material.predictions.items()}
    rmse, cc = ({name: pair[place] for name, pair in curves.items()} for place in (0, 1))
    mine, name = material.model_name, material.rival
    if np.isfinite(rmse[mine]).sum() < 2:
        return None
    wavelengths = _first(material).reduced.wavelengths
    fig = draw_band_curves(rmse, cc, wavelengths, mine, name)
    finding = finding_of_bands(rmse, mine, name, wavelengths)
    return drawing.finish(
        fig,
        name="quality-by-band",
        title="Which bands can be trusted",
        alt=finding,
        caption=f"{finding} Mean over {_scenes(len(material.predictions[mine]))}; gaps are dead bands; "
        "lines that leave the figure are weak methods or bands.",
        synthetic=material.synthetic,
    )


def _spectra(material: Material) -> Figure | None:
    """Draw the spectra of six pixels from dark to bright."""
    ours, _ = _previews(material)
    if ours is None:
        return None
    one = _first(material)
    truth, mine, plain = ours.truth_spectra, ours.fused_spectra, ours.exp_spectra
    count = len(ours.points)
    closer = int((np.nansum((mine - truth) ** 2, axis=1) < np.nansum((plain - truth) ** 2, axis=1)).sum())
    lines = (
        Spectra("exp", plain, BASELINE, 1.2),
        Spectra("truth", truth, TRUTH, 3.0),
        Spectra(material.model_name, mine, OURS, 1.2),
    )
    titles = [f"row {row}, column {column}" for row, column in ours.points]
    fig = draw_spectra(lines, one.reduced.wavelengths, titles)
    return drawing.finish(
        fig,
        name="spectra",
        title="Six pixels from dark to bright",
        alt=f"At {closer} of {count} pixels the spectrum of {material.model_name} is closer to the truth "
        "than the interpolated one.",
        caption=f"Scene {one.scene_id}, values as in the file. At {closer} of {count} pixels "
        f"{material.model_name} is closer to the truth than interpolation (exp).{_protocol(one)}",
        synthetic=material.synthetic,
    )


def _first(material: Material) -> Judged:
    return cast("list[Judged]", material.predictions[material.model_name])[0]


def _preview(material: Material, name: str | None) -> Preview | None:
    if name is None or name not in material.predictions:
        return None
    return cast("list[Judged]", material.predictions[name])[0].preview


def _previews(material: Material) -> tuple[Preview | None, Preview | None]:
    return _preview(material, material.model_name), _preview(material, material.rival)


def _ergas(material: Material, name: str) -> float:
    return cast("list[Judged]", material.predictions[name])[0].reduced.value("ergas")


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


def _protocol(one: Judged) -> str:
    if one.protocol == "truth":
        return ""
    return (
        " Both images were made coarser by the ratio, so that the sensor's own cube is the truth "
        "(Wald's protocol)."
    )


def _scenes(count: int) -> str:
    return "one scene" if count == 1 else f"{count} scenes"
