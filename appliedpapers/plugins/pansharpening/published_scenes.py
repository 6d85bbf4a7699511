"""Published cubes as scenes: degraded by Wald's protocol, or the real pair as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Dataset
from appliedpapers.core.errors import ConfigError
from appliedpapers.core.rasters.tiles import Window
from appliedpapers.core.sources import PublishedDataset
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.degradation import Phase, degrade
from appliedpapers.plugins.pansharpening.published_data import (
    Cube,
    read_enmap,
    read_pan_response,
    read_paris,
    read_san_francisco,
)
from appliedpapers.plugins.pansharpening.scene import Optics, Scene, fill_nearest
from appliedpapers.plugins.pansharpening.scene_files import Georeference
from appliedpapers.plugins.pansharpening.sensors import optics_of
from appliedpapers.plugins.pansharpening.splits import ArrayItem, SceneSplit

WALD, REAL_PAIR = "wald", "real-pair+wald"
"""Protocols: a cube degraded by us whose original is the truth; and a real pair, without one at full size."""

TEST_CROP = Window(144, 0, 276, 132)
"""The standard crop of San Francisco: what methods are compared on."""

LEARN_CROP = Window(0, 0, 132, 132)
"""Rows of San Francisco that choices and initial weights may look at."""

_WALD_GAIN = 0.3
_ENMAP_PAN_NM = (480.0, 690.0)
_PARIS_STEP = 1e-4
_PARIS_RATIO = 3
_SAN_FRANCISCO_BANDS, _PARIS_BANDS = 47, 128


@dataclass(frozen=True)
class _Opened:
    """The parts of a published dataset, and what a report says about it."""

    valid: SceneSplit
    test: SceneSplit
    protocol: str
    summary: str
    split_note: str
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def open_published(entry: PublishedDataset, folder: Path, config: PansharpeningConfig) -> Dataset:
    """Return a published dataset whose files lie verified below ``folder``.

    Raises:
        ConfigError: The ratio does not fit the scene.
        DataError: A file does not hold what it should.
        KeyError: There is no such dataset.
    """
    opened = _OPENERS[entry.id](folder, config)
    return Dataset(
        name=entry.id,
        protocol=opened.protocol,
        provenance=entry.provenance(folder, opened.files),
        train=SceneSplit(()),
        valid=opened.valid,
        test=opened.test,
        summary=opened.summary,
        split_note=opened.split_note,
        disjoint=("scene_id",),
        notes=opened.notes,
    )


def san_francisco(
    folder: Path, config: PansharpeningConfig, part: Literal["learn", "test"], most_nm: float = np.inf
) -> ArrayItem:
    """Return a part of San Francisco as a scene with truth; PAN is ALI's response to the fine cube.

    Args:
        folder: The plugin's data folder.
        config: ``data.ratio`` (6 by default) and ``data.phase`` (``reference`` by default) count.
        part: ``"test"`` is the standard crop, ``"learn"`` the rows that may be learned from.
        most_nm: Bands beyond this wavelength are left out; the panchromatic band is made of all.

    Raises:
        ConfigError: The ratio is not 2, 3, 4 or 6.
    """
    ratio = _chosen_ratio(config, 6, (2, 3, 4, 6))
    optics = optics_of(config, ratio, _SAN_FRANCISCO_BANDS)
    if config.data.phase == "auto":
        # as the benchmark has it
        optics = replace(optics, phase="reference")
    crop = TEST_CROP if part == "test" else LEARN_CROP
    scene_id = f"san-francisco-{part}-x{ratio}"

    def make() -> Scene:
        cube = read_san_francisco(folder)
        fine = cube.values[:, *crop.slices].astype(np.float64)
        pan = np.rint(np.tensordot(read_pan_response(folder, cube.wavelengths), fine, axes=1))
        kept = cube.wavelengths <= most_nm
        return wald_scene(scene_id, fine[kept], pan, optics, cube.wavelengths[kept])

    place = Georeference(crop.left * 30.0, -crop.top * 30.0, 30.0)
    return ArrayItem(scene_id, make, place, dtype="uint16")


def wald_scene(
    scene_id: str,
    fine: NDArray[np.float64],
    pan: NDArray[np.float64],
    optics: Optics,
    wavelengths: NDArray[np.float64],
) -> Scene:
    """Return a scene whose coarse cube is a fine one degraded by the benchmark's protocol.

    The MTF has gain 0.3 for all bands and 41 taps that are not made to sum to 1, and the result is rounded,
    as in arXiv 2407.01355: what is judged does not depend on how methods are set up.

    Args:
        scene_id: Its name.
        fine: The truth, shape ``(B, H, W)``, NaN where it was not observed.
        pan: Shape ``(H, W)``, NaN where it was not observed.
        optics: Ratio, phase, and the sensor that methods assume.
        wavelengths: Band centres in nm, shape ``(B,)``.
    """
    ratio = optics.ratio
    seen = np.isfinite(fine)
    filled = np.stack([fill_nearest(band, mask) for band, mask in zip(fine, seen, strict=True)])
    coarse = np.rint(degrade(filled, ratio, _WALD_GAIN, optics.phase, normalize=False))
    bands, height, width = fine.shape
    blocks = seen.reshape(bands, height // ratio, ratio, width // ratio, ratio)
    # a coarse pixel is as good as the worst fine pixel below it
    coarse[~blocks.all(axis=(2, 4))] = np.nan
    return Scene.of(
        scene_id,
        coarse.astype(np.float32),
        pan.astype(np.float32),
        optics,
        wavelengths=wavelengths,
        truth=filled,
    )


def _open_san_francisco(folder: Path, config: PansharpeningConfig) -> _Opened:
    learn, test = (san_francisco(folder, config, part) for part in ("learn", "test"))
    cube = read_san_francisco(folder)
    return _Opened(
        valid=SceneSplit([learn]),
        test=SceneSplit([test]),
        protocol=_wald_protocol(config, usual="reference"),
        summary=f"132 × 132 px, 47 bands from 457 to 925 nm, ratio {_chosen_ratio(config, 6)}",
        split_note="standard crop (rows 144 to 275); valid is rows 0 to 131",
        files=cube.files,
        notes=(
            "the panchromatic band is simulated: linear in the bands and free of noise, which flatters "
            "classical methods",
        ),
    )


def _open_paris(folder: Path, config: PansharpeningConfig) -> _Opened:
    ratio = _chosen_ratio(config, _PARIS_RATIO, (_PARIS_RATIO,))
    optics = optics_of(config, ratio, _PARIS_BANDS)

    def make() -> Scene:
        cube, pan = read_paris(folder)
        return Scene.of("paris", cube.values, pan, optics, wavelengths=cube.wavelengths, unit=_PARIS_STEP)

    cube, _ = read_paris(folder)
    item = ArrayItem("paris", make, Georeference(0.0, 0.0, 10.0), dtype="float32")
    return _Opened(
        valid=SceneSplit(()),
        test=SceneSplit([item]),
        protocol=REAL_PAIR,
        summary="216 × 174 px, 128 bands from 428 to 2,355 nm, ratio 3",
        split_note="the whole scene",
        files=cube.files,
        notes=("nothing is known beyond the two images: at full size, there is no reference",),
    )


def _open_enmap(folder: Path, config: PansharpeningConfig) -> _Opened:
    ratio = _chosen_ratio(config, 3, (2, 3, 4))
    cube = read_enmap(folder)
    optics = optics_of(config, ratio, len(cube.values))
    _, height, width = cube.values.shape
    scene_id = f"enmap-potsdam-x{ratio}"

    def make() -> Scene:
        fine = _observed(cube, height - height % ratio, width - width % ratio)
        low, high = _ENMAP_PAN_NM
        pan = fine[(cube.wavelengths >= low) & (cube.wavelengths <= high)].mean(axis=0)
        return wald_scene(scene_id, fine, np.rint(pan), optics, cube.wavelengths)

    item = ArrayItem(scene_id, make, cube.place, dtype="int16", nodata=cube.nodata, fwhm=lambda: cube.fwhm)
    return _Opened(
        valid=SceneSplit(()),
        test=SceneSplit([item]),
        protocol=_wald_protocol(config, usual="centre"),
        summary=f"{height} × {width - width % ratio} px, 218 bands from 418 to 2,446 nm, ratio {ratio}",
        split_note="the whole mosaic",
        files=cube.files,
        notes=(
            "the panchromatic band is the mean of the bands from 480 to 690 nm",
            "contains EnMAP data (c) DLR 2022",
        ),
    )


_OPENERS: dict[str, Callable[[Path, PansharpeningConfig], _Opened]] = {
    "san-francisco": _open_san_francisco,
    "paris": _open_paris,
    "enmap-potsdam": _open_enmap,
}


def _observed(cube: Cube, height: int, width: int) -> NDArray[np.float64]:
    values: NDArray[Any] = cube.values[:, :height, :width].astype(np.float64)
    values[values == cube.nodata] = np.nan
    return values


def _wald_protocol(config: PansharpeningConfig, usual: Phase) -> str:
    phase = config.data.phase
    # another phase is another image: its figures must not be mixed with the usual ones
    return WALD if phase in ("auto", usual) else f"{WALD}, phase {phase}"


def _chosen_ratio(config: PansharpeningConfig, usual: int, allowed: tuple[int, ...] = ()) -> int:
    ratio = config.data.ratio or usual
    if allowed and ratio not in allowed:
        known = ", ".join(str(one) for one in allowed)
        raise ConfigError(
            f"option 'data.ratio': this scene has no ratio {ratio}.", hint=f"Choose one of: {known}."
        )
    return ratio
