"""Figures of a quality report: before and after, which bands hold, where targets were missed, six spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from appliedpapers.core import figures as drawing
from appliedpapers.core.figures import BASELINE, FLAGGED, OURS, TRUTH, Figure
from appliedpapers.plugins.pansharpening.pictures import (
    Spectra,
    band_axis,
    band_name,
    centres_of,
    draw_band_curves,
    draw_spectra,
    finding_of_bands,
    scale_bar,
    show,
    start_pictures,
    stretch,
)
from appliedpapers.plugins.pansharpening.quality_words import figure, strongest

if TYPE_CHECKING:
    from appliedpapers.plugins.pansharpening.quality import Quality

_SHARE_TOP = 2.0


def draw(quality: Quality) -> list[Figure]:
    """Draw all figures that the report has material for."""
    found = [_pictures(quality), _by_band(quality), _targets(quality), _spectra(quality)]
    return [figure for figure in found if figure is not None]


def _pictures(quality: Quality) -> Figure | None:
    """Draw the scene as the sensor saw it beside the product, in true and in false colour."""
    looks, window = quality.looks, quality.full.window
    if looks is None or window is None:
        return None
    shape, rows = window.shape, len(looks.composites)
    fig, grid = start_pictures(2, rows, shape=shape)
    described = []
    for line, composite in zip(grid, looks.composites, strict=True):
        limits = stretch(composite.before)
        names = (f"{composite.colours}, as the sensor saw it", quality.method)
        for axes, picture, name in zip(line, (composite.before, composite.after), names, strict=True):
            show(axes, picture, limits, shape)
            axes.set_title(name)
        bands = ", ".join(band_name(quality.wavelengths, band) for band in composite.bands)
        described.append(f"{composite.colours} is {bands}")
    scale_bar(grid[-1, 0], shape[1])
    ratio = quality.facts["ratio"]
    full = quality.full_of(quality.method)
    return drawing.finish(
        fig,
        name="before-and-after",
        title="Before and after",
        alt=f"The scene before and after, {ratio} times finer than the sensor saw it; D_lambda "
        f"{figure(full.get('d_lambda'))}, QNR {figure(full.get('qnr'))}.",
        caption=f"{'; '.join(described)}. ".capitalize()
        + "One stretch for both pictures of a row: percentiles 2 to 98 of what the sensor saw. "
        f"Rows {window.top} to {window.bottom - 1}, columns {window.left} to {window.right - 1} of the "
        "product; the bar counts its pixels; white was not observed.",
        synthetic=False,
    )


def _by_band(quality: Quality) -> Figure | None:
    """Draw relative RMSE and correlation of each band one step coarser."""
    methods = {} if quality.reduced is None else quality.reduced.methods
    if not methods:
        return None
    rmse = {name: sums.band_rmse() for name, sums in methods.items()}
    cc = {name: sums.band_cc() for name, sums in methods.items()}
    mine = quality.method if quality.method in methods else None
    rival = strongest(quality)
    leading = mine or rival
    if leading is None or np.isfinite(rmse[leading]).sum() < 2:
        return None
    finding = finding_of_bands(rmse, leading, rival if mine else None, quality.wavelengths)
    return drawing.finish(
        draw_band_curves(rmse, cc, quality.wavelengths, mine, rival),
        name="quality-by-band",
        title="Which bands can be trusted",
        alt=finding,
        caption=f"{finding} Both images were made coarser by the ratio, so that the sensor's own cube is "
        "the truth (Wald's protocol). Gaps are dead bands; lines that leave the figure are weak methods or "
        "bands.",
        synthetic=False,
    )


def _targets(quality: Quality) -> Figure | None:
    """Draw the spectral loss of each band as a share of the loss of doing nothing."""
    reports = quality.reports
    if len(reports) < 2:
        return None
    centres = centres_of(quality.wavelengths, quality.dead.size)
    at = np.array([centres[report["band"]] for report in reports])
    share = np.array([float(report["share"]) for report in reports])
    missed = np.array([bool(report["missed"]) for report in reports])
    order = np.argsort(at, kind="stable")
    at, share, missed = at[order], share[order], missed[order]
    top = min(max(1.1 * float(share.max()), 1.15), _SHARE_TOP)
    shown = np.minimum(share, top)
    fig, axes = drawing.start(height=2.8)
    axes.hlines(1.0, at[0], at[-1], color=BASELINE, lw=1.2)
    axes.plot(at, shown, color=OURS, lw=1.5)
    if missed.any():
        axes.plot(at[missed], shown[missed], ls="", marker="o", ms=5, color=FLAGGED, zorder=4)
    axes.set(xlabel=band_axis(quality.wavelengths), ylabel="spectral loss, share of EXP's", ylim=(0, top))
    span = float(at[-1] - at[0])
    axes.set_xlim(at[0] - 0.01 * span, at[-1] + 0.14 * span)
    ends = [(1.0, "exp", BASELINE), (float(shown[-1]), quality.method, OURS)]
    aims = [report["target"] / report["baseline"] for report in reports if _has_target(report)]
    if aims:
        axes.hlines(float(np.median(aims)), at[0], at[-1], color=TRUTH, lw=1.2, ls="--")
        ends.append((float(np.median(aims)), "target", TRUTH))
    drawing.label_ends(axes, float(at[-1]), ends)
    aim = "above the target" if aims else "above EXP's"
    worst, unit = int(share.argmax()), "" if quality.wavelengths is None else " nm"
    finding = (
        f"{int(missed.sum())} of {len(share)} bands end {aim}; the median is {np.median(share):.2f} of EXP's "
        f"loss, the worst {share[worst]:.2f} at {at[worst]:,.0f}{unit}."
    )
    return drawing.finish(
        fig,
        name="spectral-targets",
        title="Agreement with what the sensor saw, by band",
        alt=finding,
        caption=f"{finding} Below 1 the product, seen as the sensor sees it, is closer to the cube than "
        f"interpolation. Dots are bands {aim}.",
        synthetic=False,
    )


def _has_target(report: object) -> bool:
    return isinstance(report, dict) and report["target"] is not None and report["baseline"] > 0


def _spectra(quality: Quality) -> Figure | None:
    """Draw the spectra of six coarse pixels and of the product there."""
    looks = quality.looks
    if looks is None or (~quality.dead).sum() < 2:
        return None
    lines = (
        Spectra("as the sensor saw it", looks.coarse, TRUTH, 3.0),
        Spectra("product, middle pixel", looks.fine, BASELINE, 1.0, "--"),
        Spectra("product, mean", looks.mean, OURS, 1.2),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs(looks.mean / looks.coarse - 1)
    off = off[np.isfinite(off)]
    middle = 100 * float(np.median(off)) if off.size else 0.0
    finding = (
        f"Averaged over a coarse pixel, the product differs from what the sensor saw by {middle:.3g} % in "
        "the median over bands and pixels."
    )
    titles = [f"row {row}, column {column}" for row, column in looks.points]
    return drawing.finish(
        draw_spectra(lines, quality.wavelengths, titles),
        name="spectra",
        title="Six coarse pixels from dark to bright",
        alt=finding,
        caption=f"{finding} Thin lines are the product: its mean over the coarse pixel, and the fine "
        "pixel in its middle. The sensor also sees its neighbours, which a plain mean does not. Rows and "
        "columns count coarse pixels; values as in the file.",
        synthetic=False,
    )
