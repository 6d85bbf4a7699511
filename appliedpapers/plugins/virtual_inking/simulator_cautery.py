"""The cautery generator: cuts the edge of any H&E raster, real or simulated, with known truth.

It goes by what cautery does to tissue under the microscope: it homogenises, darkens, chars and blisters a
rim; edges that were not cut get what is easily taken for it.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.virtual_inking.simulator_confounders import confound, pen_strokes
from appliedpapers.plugins.virtual_inking.simulator_noise import enlarge, smooth_noise, wavy_radius
from appliedpapers.plugins.virtual_inking.simulator_stains import cauterise, stain

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

BAND_UM = 80.0
"""Truth reaches so far inward from a cut edge, in pixels of 1 um."""

_GLASS, _HOLE = 243.0, 225.0
_BLISTER = 243.0
_SHORTEST_LINE = 40  # points of the outline, about as many pixels


@dataclass(frozen=True)
class BlockPlan:
    """What the sections of a block share.

    Attributes:
        seed: Of the outline.
        arcs: Start and extent of each cut arc in radians.
        ragged: How much rougher the outline is in an arc.
    """

    seed: int
    arcs: tuple[tuple[float, float], ...]
    ragged: float = 2.0

    @classmethod
    def draw(cls, rng: np.random.Generator, *, most_arcs: int) -> BlockPlan:
        """Draw a plan of one to ``most_arcs`` cut arcs of 80 to 190 degrees, or of none where that is 0."""
        count = 0 if most_arcs == 0 else int(rng.integers(1, most_arcs + 1))
        arcs = []
        start = rng.uniform(0, 2 * math.pi)
        for _ in range(count):
            # two arcs leave room for natural edges between them
            extent = math.radians(rng.uniform(80, 190) if count == 1 else rng.uniform(80, 120))
            arcs.append((start % (2 * math.pi), extent))
            start += extent + math.radians(rng.uniform(40, 60))
        return cls(int(rng.integers(2**31)), tuple(arcs))

    def within(self, angles: Floats) -> Flags:
        """Tell which angles lie in a cut arc."""
        found = np.zeros(angles.shape, dtype=bool)
        for start, extent in self.arcs:
            found |= (angles - start) % (2 * math.pi) < extent
        return found


@dataclass(frozen=True)
class Section:
    """A slide with its truth; pixels of 1 um.

    Attributes:
        rgb: ``(S, S, 3)``.
        tissue: ``(S, S)``, holes included.
        cut: The band of 80 pixels along cut edges, ``(S, S)``.
        lines: The cut edges, each ``(points, 2)`` as x and y.
    """

    rgb: Bytes
    tissue: Flags
    cut: Flags
    lines: tuple[Floats, ...]


@dataclass(frozen=True)
class Outline:
    """Where tissue ends.

    Attributes:
        inside: ``(S, S)``.
        angles: Of each pixel about the middle, in radians, ``(S, S)``.
        depth: Distance to the outside in pixels, ``(S, S)``.
        in_arc: Whether the edge at that angle was cut, ``(S, S)``.
    """

    inside: Flags
    angles: Floats
    depth: Floats
    in_arc: Flags


def draw_outline(
    plan: BlockPlan, size: int, rng: np.random.Generator, shift: Floats | None = None
) -> Outline:
    """Draw the outline of a block's section.

    Args:
        plan: Of the block.
        size: Side in pixels.
        rng: Of the section: its own roughness.
        shift: Displacement of the section ``(2, S, S)`` in pixels; None for none.
    """
    from scipy import ndimage

    middle = (size - 1) / 2
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    if shift is not None:
        rows, columns = rows + shift[0], columns + shift[1]
    angles = np.arctan2(rows - middle, columns - middle) % (2 * math.pi)
    in_arc = plan.within(angles)
    rough = 3 * smooth_noise(rng, size, 9) * np.where(in_arc, plan.ragged, 1.0)
    radius = wavy_radius(np.random.default_rng(plan.seed), angles, 0.42 * size) + rough
    inside = np.hypot(rows - middle, columns - middle) < radius
    labels, _ = ndimage.label(inside)
    inside = labels == labels[int(middle), int(middle)]
    inside = ndimage.binary_fill_holes(inside)
    return Outline(inside, angles, ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1], in_arc)


def with_tissue(outline: Outline, tissue: Flags) -> Outline:
    """Return an outline that also ends where a raster's real tissue does, its largest part alone."""
    from scipy import ndimage

    labels, _ = ndimage.label(outline.inside & tissue)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    inside = ndimage.binary_fill_holes(labels == int(sizes.argmax()))
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    return Outline(inside, outline.angles, depth, outline.in_arc)


def make_section(
    tissue: Floats,
    outline: Outline,
    plan: BlockPlan,
    rng: np.random.Generator,
    *,
    confounders: bool,
    holes: Flags | None = None,
) -> Section:
    """Cut the edge of a raster.

    Args:
        tissue: RGB in 0 to 255, ``(S, S, 3)``.
        outline: Where it ends, and where it was cut.
        plan: Of the block.
        rng: Source of chance.
        confounders: Also folds, crush, epithelium, bubbles, pen, stain jitter and JPEG.
        holes: What is glass within the outline, ``(S, S)``.
    """
    from scipy import ndimage

    size = len(tissue)
    burnt = _burn(tissue, outline, rng, streaming=confounders)
    natural = outline.inside & ~outline.in_arc
    drying = np.clip(1 - outline.depth / 30, 0, 1) * (smooth_noise(rng, size, 60) > 0.3)
    burnt *= 1 - 0.35 * np.where(natural, drying, 0.0)[..., None]
    if confounders:
        burnt = confound(burnt, outline.depth, natural, rng)
        burnt = stain(burnt, rng.uniform(0.85, 1.15), rng.uniform(0.85, 1.15))
    if holes is not None:
        burnt = np.where(holes[..., None], np.maximum(tissue, _HOLE), burnt)
    glass = _GLASS + rng.normal(0, 1, (size, size, 1))
    soft = ndimage.gaussian_filter(outline.inside.astype(np.float64), 0.7)[..., None]
    picture = burnt * soft + glass * (1 - soft)
    if confounders:
        picture = pen_strokes(picture, outline.depth, natural, rng)
    gamma = 1 / rng.uniform(0.95, 1.05, 3)
    picture = 255 * np.clip(picture / 255, 0, 1) ** gamma
    rgb = np.floor(picture + 0.5).astype(np.uint8)
    if confounders:
        rgb = _jpeg(rgb, int(rng.integers(75, 93)))
    # without a lesser outline, the edge of what was cut is the edge of the tissue itself
    cut = outline.inside & outline.in_arc & (outline.depth <= BAND_UM)
    return Section(rgb, outline.inside, cut, cut_lines(outline))


def cut_lines(outline: Outline) -> tuple[Floats, ...]:
    """Return the stretches of the outline that were cut, as x and y in pixels."""
    from appliedpapers.plugins.virtual_inking.decision import runs
    from appliedpapers.plugins.virtual_inking.outline import closed_contours

    size, found = len(outline.inside), []
    for ring in closed_contours(outline.inside, smooth=1.0):
        columns = np.clip(ring[:, 0].astype(int), 0, size - 1)
        rows = np.clip(ring[:, 1].astype(int), 0, size - 1)
        marked = outline.in_arc[rows, columns]
        for start, length in runs(marked):
            places = np.arange(start, start + length) % len(ring)
            if length >= _SHORTEST_LINE:
                found.append(ring[places])
    return tuple(found)


def _burn(tissue: Floats, outline: Outline, rng: np.random.Generator, *, streaming: bool) -> Floats:
    from scipy import ndimage

    size = len(tissue)
    reach = np.maximum(rng.uniform(70, 150) * (1 + 0.3 * smooth_noise(rng, size, 40)), 30)
    z = np.clip(1.25 * (1 - outline.depth / reach), 0, 1) * outline.in_arc * outline.inside
    z *= rng.uniform(0.6, 1)
    blurred = np.stack([ndimage.gaussian_filter(tissue[..., c], 4) for c in range(3)], axis=-1)
    if streaming:
        blurred = _streamed(blurred, outline.depth)
    burnt = cauterise(tissue * (1 - 0.85 * z[..., None]) + blurred * 0.85 * z[..., None], z)
    vacuole = ((smooth_noise(rng, size, 3) > 1.9) & (z > 0.2))[..., None]
    return np.where(vacuole, 0.2 * burnt + 0.8 * _BLISTER, burnt)


def _streamed(picture: Floats, depth: Floats) -> Floats:
    """Blur along the contour, three times as far as across: nuclei of a burnt edge stream along it.

    On every second pixel: nothing finer is left of a blur that wide.
    """
    from scipy import ndimage

    half, size = picture[::2, ::2], len(depth)
    down, right = np.gradient(ndimage.gaussian_filter(depth[::2, ::2], 2))
    norm = np.maximum(np.hypot(down, right), 1e-6)
    along = -right / norm, down / norm
    rows, columns = np.mgrid[: len(half), : len(half)].astype(np.float64)
    total = np.zeros_like(half)
    steps = np.linspace(-9, 9, 7)
    weights = np.exp(-0.5 * (steps / 6) ** 2)
    for step, weight in zip(steps, weights, strict=True):
        places = [rows + step * along[0], columns + step * along[1]]
        for channel in range(3):
            part = ndimage.map_coordinates(half[..., channel], places, order=1, mode="nearest")
            total[..., channel] += weight * part
    return np.stack([enlarge(total[..., channel] / weights.sum(), size) for channel in range(3)], axis=-1)


def _jpeg(rgb: Bytes, quality: int) -> Bytes:
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(rgb).save(packed, "JPEG", quality=quality)
    return np.asarray(Image.open(packed).convert("RGB"))
