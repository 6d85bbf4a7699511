"""Published scenes: where they come from, on what terms, and how their files become cubes.

Nothing of them is part of this package. Each is read from upstream's own files, or from a prepared GeoTIFF of
the same values where that lies in the data folder instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.sources import PublishedDataset, RemoteFile
from appliedpapers.plugins.pansharpening.scene_files import Georeference

Floats = NDArray[np.float64]

_RAW = "https://raw.githubusercontent.com"
_SAN_FRANCISCO = f"{_RAW}/Danaroth83/Band-Assignment/89d8fc6bd8053557643629fce17b95d6f6a90e3b"
_RESPONSES = f"{_SAN_FRANCISCO}/Relative%20Spectral%20Responses"
_PARIS = f"{_RAW}/alfaiate/HySure/8652a5838b95c29ca056f7921f8ac58def6bbaf7"
_ENMAP = (
    f"{_RAW}/EnMAP-Box/enmap-box/f9e8f486c9614813410cc9d715bb056e6ad3cfd5"
    "/tests/testdata/external/specdeepmap/test_requierments/images"
)
_TILES = {
    "64_0": "74e475a6abd6529919c84272f2d1f24480a96aa8b817de750723c5a1b3332578",
    "64_32": "ca8766e3f118fa39eb2322bb7e9a5ae4b762d3712424bfb689aeb31f639a867f",
    "96_0": "4ea4617a16eb9d84dfb80b70adbd5b36b59217d9f3b72ad3993ac9b0337e38ac",
    "96_32": "b490a51ff87ab4bda7e5757c78c2919140edb142c0c184b247b51c964577b229",
    "128_0": "b3188eabb94fb40cc6e5ad0ec6b3a03983d188e6736ada84e90080fbcd6d4271",
    "128_32": "cb662f139c8681cc909a33b484a2ff4e5b244b529760b7959a79cef0ba1c7324",
    "160_64": "824f4f50d26b547fe7bd52ca93068e64b44ddcf4f45edab9b020794a42f7d473",
    "192_64": "fd7fc05826f24bcaf65bc04cc999021566746f47ddd6f30a586f6aed5b17c1ee",
}

ALI_RESPONSES = RemoteFile(
    "ALI_Spectral_Responses.mat",
    f"{_RESPONSES}/ALI_Spectral_Responses.mat",
    "217b1d2925c7a2fd7ff4ef3490d967f2bed47531181d3673d9312657b5ea1937",
    21_473,
)
HYPERION_RESPONSES = RemoteFile(
    "HYP_Spectral_Responses.mat",
    f"{_RESPONSES}/HYP_Spectral_Responses.mat",
    "f1417c9d745128fc2c02361426ffa81909157dd9ec55d0b3a50cb929cd639851",
    146_838,
)

PUBLISHED = (
    PublishedDataset(
        id="san-francisco",
        title="San Francisco by Hyperion, 47 bands from 457 to 925 nm; the panchromatic band is simulated",
        files=(
            RemoteFile(
                "SanFrancisco_FR.mat",
                f"{_SAN_FRANCISCO}/Datasets/SanFrancisco_FR.mat",
                "93d44be6a95233c528961365313147ad8af63045318546654a16f0de36523d08",
                3_185_327,
            ),
            ALI_RESPONSES,
        ),
        licence="MIT-style grant in the repository's README; EO-1 data of the USGS are public domain",
        citation="EO-1 Hyperion and ALI, NASA and USGS; prepared by Picone et al., Band-Assignment",
        prepared=RemoteFile(
            "sf_hyperion_vnir_298x136x47.tif",
            None,
            "51fa020f70a9583817ebbebc170b183012083932fe52959bdb27d8e69645e2c9",
        ),
    ),
    PublishedDataset(
        id="paris",
        title="Paris by Hyperion and ALI: a real pair, 128 bands at 30 m and a panchromatic band at 10 m",
        files=(
            RemoteFile(
                "paris_data_hs_pan.mat",
                f"{_PARIS}/data/paris_data_hs_pan.mat",
                "238baead1beab1c79da7d767ce5bc7f00ec4a7eb1380875fd9a28e6d0ab37837",
                2_362_945,
            ),
            HYPERION_RESPONSES,
        ),
        licence="repository GPL-3.0; EO-1 data of the USGS are public domain",
        citation="Simoes et al., HySure, IEEE TGRS 2015, arXiv 1411.4005",
        prepared=RemoteFile(
            "paris_hyperion_72x58x128.tif",
            None,
            "92f0b5bde76ea9b384131e18be48d7faf0b7b10b5c83a855d84c7030a586d4a3",
        ),
    ),
    PublishedDataset(
        id="enmap-potsdam",
        title="Potsdam by EnMAP, 218 bands from 418 to 2,446 nm, 53 % of the mosaic observed",
        files=tuple(
            RemoteFile(
                f"enmap_potsdam_tile_{name}.tif",
                f"{_ENMAP}/enmap_potsdam_tile_{name}.tif",
                checksum,
                1_014_030,
            )
            for name, checksum in _TILES.items()
        ),
        licence="repository GPL-3.0; data copyright DLR, EnMAP licence",
        citation="EnMAP data (c) DLR 2022, all rights reserved",
        terms="the scene contains EnMAP data (c) DLR 2022: name DLR wherever you show it, use it as the "
        "EnMAP licence allows, and read that licence before you pass it on.",
        prepared=RemoteFile(
            "enmap_potsdam_mosaic_96x160x218.tif",
            None,
            "ee9f60b048d20cbd5c2fbbe121689ee278c2d9ff0ad23225a83712965a24f16d",
        ),
    ),
)

PARIS_PAN = RemoteFile(
    "paris_ali_pan_216x174.tif",
    None,
    "00c39501a910e9a46627bd4d2e549c687c9efa4c2905f24549d2a76280e23ca1",
)
"""The second file of the prepared form of Paris."""

_FIRST_BAND, _LAST_BAND = 11, 57
_ENMAP_BANDS, _ENMAP_NODATA = 218, -32768
_ENMAP_GAP_NM = (1325.0, 1455.0)


@dataclass(frozen=True)
class Cube:
    """A published raster in memory.

    Attributes:
        values: Shape ``(B, H, W)``, in the type of its file.
        wavelengths: Band centres in nm, shape ``(B,)``.
        place: Where it lies.
        fwhm: Band widths in nm, where they are known.
        nodata: Value that means missing.
        files: What it was read from.
    """

    values: NDArray[Any]
    wavelengths: Floats
    place: Georeference
    fwhm: Floats | None = None
    nodata: float | None = None
    files: tuple[Path, ...] = ()


def entry_of(dataset_id: str) -> PublishedDataset:
    """Return the entry of :data:`PUBLISHED` with this id; ``KeyError`` where there is none."""
    return {entry.id: entry for entry in PUBLISHED}[dataset_id]


def read_san_francisco(folder: Path) -> Cube:
    """Read the Hyperion cube, shape ``(47, 298, 136)``, uint16 counts, negative ones set to 0.

    Raises:
        DataError: The file does not hold what it should.
    """
    entry = entry_of("san-francisco")
    number = np.arange(_FIRST_BAND, _LAST_BAND + 1, dtype=np.float64)
    wavelengths = 355.59 + 10.1752 * (number - 1)
    upstream = folder / entry.files[0].path
    if upstream.is_file():
        stored = _matlab(upstream, "I_HS_LR", (298, 136, number.size))
        values = np.moveaxis(np.maximum(stored, 0).astype(np.uint16), 2, 0)
        return Cube(values, wavelengths, Georeference(0.0, 0.0, 30.0), files=(upstream,))
    prepared = _prepared(folder, entry)
    return Cube(_raster(prepared), wavelengths, Georeference(0.0, 0.0, 30.0), files=(prepared,))


def read_paris(folder: Path) -> tuple[Cube, NDArray[np.float32]]:
    """Read the real pair: a cube ``(128, 72, 58)`` and a panchromatic band ``(216, 174)``, both float32.

    Raises:
        DataError: The files do not hold what they should.
    """
    entry = entry_of("paris")
    place = Georeference(0.0, 0.0, 30.0)
    upstream, responses = (folder / file.path for file in entry.files)
    if upstream.is_file() and responses.is_file():
        cube = np.moveaxis(_matlab(upstream, "HSim", (72, 58, 128)).astype(np.float32), 2, 0)
        pan = _matlab(upstream, "PCim", (216, 174)).astype(np.float32)
        kept = _matlab(upstream, "non_del_bands", (1, 128))[0].astype(int)
        grid, curves = _responses(responses, 242)
        centres = (curves @ grid / curves.sum(axis=1))[kept - 1]
        return Cube(cube, centres, place, files=(upstream, responses)), pan
    prepared, fine = _prepared(folder, entry), _checked(folder, PARIS_PAN)
    centres = _tagged(prepared, "wavelength")
    assert centres is not None
    return Cube(_raster(prepared), centres, place, files=(prepared, fine)), _raster(fine)[0]


def read_enmap(folder: Path) -> Cube:
    """Read the mosaic, shape ``(218, 96, 160)``, int16 reflectance x 10,000 with nodata -32,768.

    Raises:
        DataError: The files do not hold what they should.
    """
    entry = entry_of("enmap-potsdam")
    tiles = [folder / file.path for file in entry.files]
    if all(tile.is_file() for tile in tiles):
        return _mosaic(tiles)
    return _open(_prepared(folder, entry))


def read_pan_response(folder: Path, wavelengths: Floats) -> Floats:
    """Return the response of ALI's panchromatic band at band centres, shape ``(B,)``, which sums to 1.

    Args:
        folder: The plugin's data folder.
        wavelengths: Band centres in nm, shape ``(B,)``.

    Raises:
        DataError: The responses are absent or malformed.
    """
    grid, curves = _responses(_checked(folder, ALI_RESPONSES), 10)
    response = np.interp(wavelengths, grid, curves[-1], left=0.0, right=0.0)
    total: Floats = response / response.sum()
    return total


def _mosaic(tiles: Sequence[Path]) -> Cube:
    """Place tiles by their own transforms and keep the bands that the producer calls good."""
    parts = [_open(tile) for tile in tiles]
    pixel = parts[0].place.pixel
    left = min(part.place.left for part in parts)
    top = max(part.place.top for part in parts)
    corners = [
        (round((top - part.place.top) / pixel), round((part.place.left - left) / pixel)) for part in parts
    ]
    height = max(row + part.values.shape[1] for (row, _), part in zip(corners, parts, strict=True))
    width = max(column + part.values.shape[2] for (_, column), part in zip(corners, parts, strict=True))
    good = _good_bands(tiles[0], parts[0].wavelengths)
    if good.sum() != _ENMAP_BANDS:
        raise DataError(
            f"{tiles[0]}: {good.sum()} of {good.size} bands are good, expected {_ENMAP_BANDS}.",
            hint="The file is another version of the scene; move it away and fetch the dataset again.",
        )
    values = np.full((_ENMAP_BANDS, height, width), _ENMAP_NODATA, dtype=np.int16)
    for (row, column), part in zip(corners, parts, strict=True):
        bands = part.values[good]
        # counts are stored as floats there
        whole = np.where(np.isfinite(bands), np.rint(bands), _ENMAP_NODATA).astype(np.int16)
        values[:, row : row + bands.shape[1], column : column + bands.shape[2]] = whole
    place = Georeference(left, top, pixel, parts[0].place.crs)
    fwhm = None if parts[0].fwhm is None else parts[0].fwhm[good]
    return Cube(values, parts[0].wavelengths[good], place, fwhm, _ENMAP_NODATA, tuple(tiles))


def _good_bands(path: Path, wavelengths: Floats) -> NDArray[np.bool_]:
    listed = _tagged(path, "bbl")
    if listed is not None:
        return np.asarray(listed == 1, dtype=np.bool_)
    # the bands that the producer calls bad lie where water vapour leaves nothing
    low, high = _ENMAP_GAP_NM
    return np.asarray((wavelengths < low) | (wavelengths > high), dtype=np.bool_)


def _open(path: Path) -> Cube:
    wavelengths = _tagged(path, "wavelength")
    if wavelengths is None:
        raise DataError(f"{path}: bands have no tag 'wavelength'.", hint="Fetch the dataset again.")
    with _opened(path) as source:
        corner = source.transform
        place = Georeference(
            corner.c, corner.f, corner.a, source.crs.to_string() if source.crs is not None else None
        )
        return Cube(source.read(), wavelengths, place, _tagged(path, "fwhm"), source.nodata, (path,))


def _tagged(path: Path, name: str) -> Floats | None:
    """Return a number a band from band tags or from an ENVI list ``{1, 2}``, or None; wavelengths in nm."""
    with _opened(path) as source:
        places = (None, *source.tag_namespaces())
        for place in places:
            found = [_lower(source.tags(band, ns=place)).get(name) for band in source.indexes]
            if all(found):
                return _in_nm(np.array([float(text) for text in found if text]), name)
            listed = _lower(source.tags(ns=place)).get(name, "").strip("{} ")
            numbers = [float(text) for text in listed.split(",")] if listed else []
            if len(numbers) == source.count:
                return _in_nm(np.array(numbers), name)
    return None


def _in_nm(numbers: Floats, name: str) -> Floats:
    # micrometres are below 100, nanometres above
    micrometres = name != "bbl" and bool(numbers.max() < (100 if name == "wavelength" else 1))
    return numbers * 1000 if micrometres else numbers


def _lower(tags: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in tags.items()}


def _prepared(folder: Path, entry: PublishedDataset) -> Path:
    assert entry.prepared is not None
    return folder / entry.prepared.path


def _raster(path: Path) -> NDArray[Any]:
    with _opened(path) as source:
        values: NDArray[Any] = source.read()
        return values


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with warnings.catch_warnings():
        # some of these scenes come without a reference system
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path) as source:
                yield source
        except RasterioError as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{path}: cannot be read ({reason}).", hint="Fetch the dataset again.") from None


def _checked(folder: Path, file: RemoteFile) -> Path:
    """Return a file that came with a prepared form, whose bytes nobody has looked at yet."""
    path = folder / file.path
    if path.is_file() and file.checksum_of(path) == file.checksum[1]:
        return path
    raise DataError(
        f"{path}: absent, or not the file that belongs to the prepared form.",
        hint=f"Place it there ({' '.join(file.checksum)}), or move the prepared form away and fetch again.",
    )


def _responses(path: Path, rows: int) -> tuple[Floats, Floats]:
    """Return the grid in nm and one response a row."""
    grid = _matlab(path, "wavelength_nm").astype(float)[:, 0]
    return grid, _matlab(path, "Spectral_Responses_Matrix", (rows, grid.size)).astype(float)


def _matlab(path: Path, name: str, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        # a MATLAB file of version 5 holds arrays and no code
        found = np.asarray(loadmat(path, variable_names=[name])[name])
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", hint="Fetch the dataset again.") from None
    except (MatReadError, KeyError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise DataError(
            f"{path}: '{name}' cannot be read ({type(error).__name__}).", hint="Fetch the dataset again."
        ) from None
    if shape is not None and found.shape != shape:
        raise DataError(
            f"{path}: '{name}' has shape {found.shape}, expected {shape}.", hint="Fetch the dataset again."
        )
    return found
