"""Which rasters belong together: a manifest, a folder of pairs, or one raster with its partner beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from appliedpapers.core.errors import DataError
from appliedpapers.core.files import is_there
from appliedpapers.core.manifests import ManifestRow, read_manifest
from appliedpapers.core.tables import kind_of

REQUIRED = ("scene_id", "hs_path", "pan_path")
OPTIONAL = ("output_path", "split")

_RASTERS = (".tif", ".tiff", ".hdr", ".img", ".vrt", ".he5")
_EXPECTED = (
    "Expected a manifest (CSV or Parquet with columns scene_id, hs_path, pan_path), a folder with pairs "
    "NAME_hs.tif and NAME_pan.tif, or one NAME_hs.tif with NAME_pan.tif beside it."
)


@dataclass(frozen=True)
class PairPaths:
    """The rasters of one scene.

    Attributes:
        scene_id: Its name.
        hs_path: The hyperspectral raster.
        pan_path: The panchromatic raster.
        output_path: Name of the product below the output folder, as the manifest writes it.
        split: The part that it belongs to.
    """

    scene_id: str
    hs_path: Path
    pan_path: Path
    output_path: str | None = None
    split: str = "test"


def find_pairs(path: Path) -> list[PairPaths]:
    """Return the pairs that a path of the user's names, in their order.

    Raises:
        DataError: There is none, or a manifest breaks the contract; file, row and column are named.
    """
    if not is_there(path):
        raise DataError(f"{path}: no such file or folder.", hint=_EXPECTED)
    if path.is_dir():
        return _pairs_in(path)
    if kind_of(path) is not None:
        return _checked(read_manifest(path, REQUIRED, OPTIONAL))
    if path.name.lower().endswith(_RASTERS):
        return [PairPaths(_name_of(path), path.absolute(), _partner(path).absolute())]
    raise DataError(f"{path}: neither a manifest nor a raster by its name.", hint=_EXPECTED)


def _checked(rows: Iterable[ManifestRow]) -> list[PairPaths]:
    pairs: dict[str, PairPaths] = {}
    first: dict[str, int] = {}
    for row in rows:
        pair = _pair(row)
        if pair.scene_id in pairs:
            raise DataError(
                f"{row.place('scene_id')}: '{pair.scene_id}' is also in row {first[pair.scene_id]}.",
                hint="Give every scene a name of its own.",
            )
        pairs[pair.scene_id], first[pair.scene_id] = pair, row.number
    return list(pairs.values())


def _pair(row: ManifestRow) -> PairPaths:
    for column in REQUIRED:
        if not row.cells[column]:
            raise DataError(f"{row.place(column)}: empty.", hint="Fill it in, or take the row out.")
    files = {column: _beside(row.file, row.cells[column]) for column in ("hs_path", "pan_path")}
    for column, file in files.items():
        if not is_there(file):
            raise DataError(
                f"{row.place(column)}: no such file '{row.cells[column]}'.",
                hint=f"Paths are taken from the folder of the manifest: looked for {file}.",
            )
    return PairPaths(
        row.cells["scene_id"],
        files["hs_path"],
        files["pan_path"],
        row.cells.get("output_path") or None,
        row.part() or "test",
    )


def _beside(manifest: Path, text: str) -> Path:
    return (manifest.parent / Path(text).expanduser()).absolute()


def _pairs_in(folder: Path) -> list[PairPaths]:
    found = [
        PairPaths(_name_of(file), file.absolute(), partner.absolute())
        for file in sorted(folder.iterdir())
        if _is_coarse(file) and (partner := _partner(file))
    ]
    if not found:
        raise DataError(f"{folder}: no pair of rasters in it.", hint=_EXPECTED)
    for pair, other in pairwise(found):
        if pair.scene_id == other.scene_id:
            raise DataError(
                f"{folder}: {pair.hs_path.name} and {other.hs_path.name} are both '{pair.scene_id}'.",
                hint="Leave one of them, or name the scenes in a manifest.",
            )
    return found


def _is_coarse(file: Path) -> bool:
    stem = file.stem.lower()
    raster = file.suffix.lower() in _RASTERS
    # an ENVI image is known by its header
    return raster and file.suffix.lower() not in (".img", ".he5") and (stem == "hs" or stem.endswith("_hs"))


def _name_of(file: Path) -> str:
    stem = file.stem
    if stem.lower() == "hs":
        return file.absolute().parent.name or "scene"
    return stem[:-3] if stem.lower().endswith("_hs") else stem


def _partner(file: Path) -> Path:
    """Return the panchromatic raster that lies beside a hyperspectral one.

    Raises:
        DataError: There is none; where it was looked for is named.
    """
    # a PRISMA product holds both
    if file.suffix.lower() == ".he5":
        return file
    stem = file.stem
    name = "pan" if stem.lower() == "hs" else f"{stem[:-3] if stem.lower().endswith('_hs') else stem}_pan"
    beside = {other.name.lower(): other for other in file.absolute().parent.iterdir()}
    for suffix in dict.fromkeys((file.suffix.lower(), *_RASTERS)):
        if found := beside.get(f"{name}{suffix}".lower()):
            return found
    raise DataError(
        f"{file}: no panchromatic raster beside it.",
        hint=f"Expected {name}{file.suffix} in the same folder, or name both files in a manifest "
        "(scene_id, hs_path, pan_path).",
    )
