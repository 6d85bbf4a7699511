"""What is known of a slide before any tile is encoded: tissue, outline, the tiles that count, its colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.virtual_inking.annotations import Annotation
from appliedpapers.plugins.virtual_inking.colour import StainNormaliser
from appliedpapers.plugins.virtual_inking.config import InkingConfig, TileConfig
from appliedpapers.plugins.virtual_inking.outline import Contour, contours_of
from appliedpapers.plugins.virtual_inking.slides import Slide
from appliedpapers.plugins.virtual_inking.streaming import GLASS
from appliedpapers.plugins.virtual_inking.tiling import Tiling, plan_tiles
from appliedpapers.plugins.virtual_inking.tissue import Masks, find_tissue

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

_PATCHES, _PATCH = 64, 32  # places that tell the colours of a slide, and their side in pixels of a tile
_LEAST_PIXELS = 256


@dataclass(frozen=True)
class Survey:
    """Of one slide.

    Attributes:
        masks: Tissue and pen.
        contours: Outer contours, the longest first.
        tiling: The grid.
        corners: Of the tiles that count, level-0 pixels, int64 ``(N, 2)``.
        centres: Of those in micrometres, ``(N, 2)``.
        tissue: Share of tissue of each, ``(N,)``.
        depth: Distance of each centre from the tissue's outline in micrometres, ``(N,)``.
        normaliser: None where colours are left alone.
        warnings: What a person should know.
    """

    masks: Masks
    contours: tuple[Contour, ...]
    tiling: Tiling
    corners: Ints
    centres: Floats
    tissue: Floats
    depth: Floats
    normaliser: StainNormaliser | None
    warnings: tuple[str, ...]


def survey(
    slide: Slide, config: InkingConfig, *, masks: Masks | None = None, annotation: Annotation | None = None
) -> Survey:
    """Look at a slide.

    Args:
        slide: Opened.
        config: Mask, tiles and contour.
        masks: Tissue that is known already; by default it is looked for.
        annotation: Its ignored regions are taken for pen.

    Raises:
        DataError: The slide is smaller than a tile, or shows no tissue.
    """
    tiles = config.tiles
    tiling = plan_tiles(
        slide.size,
        slide.mpp,
        slide.downsamples,
        pixels=tiles.pixels,
        target_mpp=tiles.mpp,
        stride=tiles.stride,
    )
    if not len(tiling.xs) or not len(tiling.ys):
        raise DataError(
            f"{slide.name}: {slide.size[0]} x {slide.size[1]} pixels are less than a tile of "
            f"{tiles.side_um:g} um, which is {tiling.size0[0]} x {tiling.size0[1]} pixels.",
            hint="Is the resolution right? --mpp states micrometres per pixel.",
        )
    if masks is None:
        thumbnail, mpp = slide.thumbnail(config.mask.mpp)
        masks = find_tissue(thumbnail, mpp, config.mask)
    if annotation is not None and annotation.ignored:
        masks = _without(masks, annotation, slide)
    if not masks.tissue.any():
        raise DataError(
            f"{slide.name}: no tissue was found.",
            hint="Is it an H&E slide? The options of the section 'mask' say what counts as tissue.",
        )
    contours = tuple(
        contours_of(
            masks,
            step_um=config.margin.step_um,
            smooth_um=config.margin.outline_um,
            least_mm2=config.mask.part_mm2,
        )
    )
    depth = _depth(masks)
    corners, centres, shares, depths = _chosen(slide, tiling, masks, depth, tiles)
    warnings = ["tiles are finer than the slide's pixels: they are enlarged"] if tiling.upsampled else []
    normaliser = _colours(slide, tiling, masks, depth, config) if tiles.normalise else None
    return Survey(masks, contours, tiling, corners, centres, shares, depths, normaliser, tuple(warnings))


def _chosen(
    slide: Slide, tiling: Tiling, masks: Masks, depth: Floats, config: TileConfig
) -> tuple[Ints, Floats, Floats, Floats]:
    xs, ys = np.meshgrid(tiling.xs, tiling.ys)
    corners = np.stack([xs.ravel(), ys.ravel()], axis=1)
    mpp = np.array(slide.mpp)
    centres = (corners + np.array(tiling.size0) / 2) * mpp
    shares = shares_of(masks.tissue, corners * mpp, np.array(tiling.size0) * mpp, masks.mpp)
    columns, rows = np.clip(
        (centres / masks.mpp).astype(int), 0, [masks.tissue.shape[1] - 1, masks.tissue.shape[0] - 1]
    ).T
    depths = depth[rows, columns]
    kept = (shares >= config.least_tissue) & (shares > 0)
    if config.roi == "rim":
        kept &= depths <= config.rim_um
    return corners[kept], centres[kept], shares[kept], depths[kept]


def shares_of(mask: Flags, corners: Floats, side: Floats, mpp: tuple[float, float]) -> Floats:
    """Return the share of each rectangle that a mask covers.

    Args:
        mask: ``(H, W)``.
        corners: Upper left ones in micrometres, ``(N, 2)``.
        side: Width and height in micrometres.
        mpp: Micrometres per pixel of the mask.
    """
    height, width = mask.shape
    sums = np.pad(np.cumsum(np.cumsum(mask, axis=0, dtype=np.float64), axis=1), ((1, 0), (1, 0)))
    left, top = np.clip(corners / mpp, 0, [width, height]).T
    right, bottom = np.clip((corners + side) / mpp, 0, [width, height]).T

    def total(x: Floats, y: Floats) -> Floats:
        # between two pixels a part of the next one counts
        column, row = np.minimum(x.astype(int), width - 1), np.minimum(y.astype(int), height - 1)
        u, v = x - column, y - row
        return np.asarray(
            (1 - u) * (1 - v) * sums[row, column]
            + u * (1 - v) * sums[row, column + 1]
            + (1 - u) * v * sums[row + 1, column]
            + u * v * sums[row + 1, column + 1]
        )

    inside = total(right, bottom) - total(left, bottom) - total(right, top) + total(left, top)
    whole = float(side[0] / mpp[0]) * float(side[1] / mpp[1])
    found: Floats = inside / whole
    return found


def _depth(masks: Masks) -> Floats:
    """Return the distance from the outer outline in micrometres; negative outside of it.

    Holes do not count, and the border of the image is no outline.
    """
    from scipy import ndimage

    filled = ndimage.binary_fill_holes(masks.tissue)
    spacing = (masks.mpp[1], masks.mpp[0])
    if filled.all():
        return np.full(filled.shape, np.inf)
    within = ndimage.distance_transform_edt(filled, sampling=spacing)
    beyond = ndimage.distance_transform_edt(~filled, sampling=spacing)
    return np.asarray(np.where(filled, within, -beyond) - np.where(filled, 0.5, -0.5) * spacing[0])


def _colours(
    slide: Slide, tiling: Tiling, masks: Masks, depth: Floats, config: InkingConfig
) -> StainNormaliser | None:
    """Measure the colours of the core tissue, or of all tissue where there is no core."""
    core = masks.tissue & (depth > config.tiles.core_um)
    found = _pixels(slide, tiling, masks, core, config)
    if len(found) < _LEAST_PIXELS:
        found = _pixels(slide, tiling, masks, masks.tissue, config)
    return StainNormaliser.of_pixels(found) if len(found) >= _LEAST_PIXELS else None


def _pixels(
    slide: Slide, tiling: Tiling, masks: Masks, where: Flags, config: InkingConfig
) -> NDArray[np.uint8]:
    places = np.argwhere(where)
    if not len(places):
        return np.empty((0, 3), dtype=np.uint8)
    chosen = places[np.unique(np.linspace(0, len(places) - 1, _PATCHES).astype(int))]
    scale = config.tiles.mpp / np.array(slide.mpp)
    own = slide.downsamples[tiling.level]
    size = np.maximum(np.floor(_PATCH * scale / own).astype(int), 1)
    found = []
    for row, column in chosen:
        middle = (np.array([column, row]) + 0.5) * masks.mpp / slide.mpp
        x, y = np.floor(middle - size * own / 2).astype(int).tolist()
        patch = slide.read(tiling.level, x, y, int(size[0]), int(size[1])).reshape(-1, 3)
        found.append(patch[patch.min(axis=1) <= GLASS])
    return np.concatenate(found)


def _without(masks: Masks, annotation: Annotation, slide: Slide) -> Masks:
    ignored = rasterise(annotation.ignored, masks.tissue.shape, slide.mpp, masks.mpp)
    return Masks(masks.tissue & ~ignored, masks.pen | ignored, masks.mpp, masks.otsu)


def rasterise(
    rings: tuple[Floats, ...], shape: tuple[int, ...], mpp: tuple[float, float], mask_mpp: tuple[float, float]
) -> Flags:
    """Return the mask ``shape`` of what lies within rings of level-0 pixels."""
    from PIL import Image, ImageDraw

    picture = Image.new("1", (shape[1], shape[0]))
    pen = ImageDraw.Draw(picture)
    for ring in rings:
        places = ring * mpp / mask_mpp - 0.5
        if len(places) > 2:
            pen.polygon([(float(x), float(y)) for x, y in places], fill=1, outline=1)
    return np.asarray(picture, dtype=bool)
