"""What tiles and samples of the contour are, from annotations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.virtual_inking.annotations import Annotation
from appliedpapers.plugins.virtual_inking.config import InkingConfig
from appliedpapers.plugins.virtual_inking.measures import densify, distances
from appliedpapers.plugins.virtual_inking.outline import Contour
from appliedpapers.plugins.virtual_inking.slides import Pair, Slide
from appliedpapers.plugins.virtual_inking.survey import Survey, rasterise, shares_of

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints8 = NDArray[np.int8]

NATURAL, CUT, IGNORED = 0, 1, -1

_FINE = 4.0  # micrometres per pixel of the raster on which areas are measured
_FAR = 250.0  # a drawn line belongs to a contour that is so near


def tile_labels(found: Survey, annotation: Annotation, slide: Slide, config: InkingConfig) -> Ints8:
    """Return 1 for cut, 0 for natural, -1 for neither, ``(N,)``.

    Areas decide where there are any: more than ``labels.share`` of the tile's tissue lies in one. Else lines
    do: the centre is within ``labels.positive_um``; up to ``labels.ignore_um`` it is neither.
    """
    labels = np.zeros(len(found.corners), dtype=np.int8)
    if annotation.cut_areas:
        labels[_share_in(found, annotation.cut_areas, slide) > config.labels.share] = CUT
    elif annotation.cut_lines:
        lines = [line * slide.mpp for line in annotation.cut_lines]
        apart = distances(found.centres, lines)
        labels[apart <= config.labels.ignore_um] = IGNORED
        labels[apart <= config.labels.positive_um] = CUT
    return labels


def contour_truth(contours: Sequence[Contour], annotation: Annotation, mpp: Pair) -> list[Flags]:
    """Tell of each sample of each contour whether it was cut.

    A drawn line marks the samples that its points are nearest to, so that a line that is drawn beside the
    outline marks as much of it as it is long. Without lines, samples within or beside an area are cut.
    """
    marked = [np.zeros(len(contour.points), dtype=bool) for contour in contours]
    if not contours:
        return marked
    lines = annotation.cut_lines
    if not lines and annotation.cut_areas:
        return _beside_areas(contours, annotation.cut_areas, mpp)
    from scipy.spatial import cKDTree

    points = np.concatenate([contour.points for contour in contours])
    owner = np.repeat(np.arange(len(contours)), [len(contour.points) for contour in contours])
    first = np.concatenate([[0], np.cumsum([len(contour.points) for contour in contours])[:-1]])
    tree = cKDTree(points)
    for line in lines:
        apart, nearest = tree.query(densify(line * mpp, contours[0].step / 4))
        for one in np.unique(nearest[apart <= _FAR]):
            contour = int(owner[one])
            marked[contour][int(one - first[contour])] = True
    return [_closed(flags) for flags in marked]


def _closed(flags: Flags) -> Flags:
    """Fill gaps of one or two samples, which the nearest point left out."""
    for _ in range(2):
        flags = flags | (np.roll(flags, 1) & np.roll(flags, -1))
    wide = flags | (np.roll(flags, 1) & np.roll(flags, -2)) | (np.roll(flags, 2) & np.roll(flags, -1))
    return np.asarray(wide)


def _beside_areas(contours: Sequence[Contour], areas: tuple[Floats, ...], mpp: Pair) -> list[Flags]:
    from matplotlib.path import Path

    rings = [np.vstack([area, area[:1]]) * mpp for area in areas]
    found = []
    for contour in contours:
        near = distances(contour.points, rings) <= contour.step
        for ring in rings:
            near |= Path(ring).contains_points(contour.points)
        found.append(near)
    return found


def _share_in(found: Survey, areas: tuple[Floats, ...], slide: Slide) -> Floats:
    """Return the share of each tile's tissue that lies in an area."""
    fine = min(_FINE, *found.masks.mpp)
    size = [max(round(extent / fine), 1) for extent in slide.extent_um]
    if size[0] * size[1] > 64_000_000:
        # slides of many square centimetres are measured on the mask's own grid
        size = [found.masks.tissue.shape[1], found.masks.tissue.shape[0]]
    mpp = (slide.extent_um[0] / size[0], slide.extent_um[1] / size[1])
    inside = rasterise(areas, (size[1], size[0]), slide.mpp, mpp)
    side = np.array(found.tiling.size0) * slide.mpp
    corners = found.corners * np.array(slide.mpp)
    shares = shares_of(inside, corners, side, mpp)
    return np.asarray(shares / np.maximum(found.tissue, 1e-9))
