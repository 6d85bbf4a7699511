"""Which rasters belong together: a manifest, a folder of pairs, or one raster with its partner beside it."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from appliedpapers.core.errors import DataError, did_you_mean

REQUIRED = ("scene_id", "hs_path", "pan_path")
OPTIONAL = ("output_path", "split")
SPLITS = ("train", "valid", "test")

_TABLES = (".csv", ".csv.gz", ".parquet", ".jsonl", ".arrow")
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
    if not path.exists():
        raise DataError(f"{path}: no such file or folder.", hint=_EXPECTED)
    if path.is_dir():
        return _pairs_in(path)
    name = path.name.lower()
    if name.endswith(_TABLES):
        return _checked(path, _manifest_rows(path))
    if name.endswith(_RASTERS):
        return [PairPaths(_name_of(path), path.absolute(), _partner(path).absolute())]
    raise DataError(f"{path}: neither a manifest nor a raster by its name.", hint=_EXPECTED)


def _checked(path: Path, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> list[PairPaths]:
    pairs: dict[str, tuple[int, PairPaths]] = {}
    for number, row in rows:
        pair = _pair(path, number, row)
        if pair.scene_id in pairs:
            first = pairs[pair.scene_id][0]
            raise DataError(
                f"{path}, row {number}, column 'scene_id': '{pair.scene_id}' is also in row {first}.",
                hint="Give every scene a name of its own.",
            )
        pairs[pair.scene_id] = number, pair
    if not pairs:
        raise DataError(f"{path}: no rows.", hint="Expected one row a scene.")
    return [pair for _, pair in pairs.values()]


def _pair(path: Path, number: int, row: Mapping[str, Any]) -> PairPaths:
    cells = {name: "" if value is None else str(value).strip() for name, value in row.items()}
    for column in REQUIRED:
        if not cells.get(column):
            raise DataError(
                f"{path}, row {number}, column '{column}': empty.", hint="Fill it in, or take the row out."
            )
    files = {column: _beside(path, cells[column]) for column in ("hs_path", "pan_path")}
    for column, file in files.items():
        if not file.exists():
            raise DataError(
                f"{path}, row {number}, column '{column}': no such file '{cells[column]}'.",
                hint=f"Paths are taken from the folder of the manifest: looked for {file}.",
            )
    split = cells.get("split") or "test"
    if split not in SPLITS:
        raise DataError(
            f"{path}, row {number}, column 'split': '{split}' is no part.",
            hint=f"Choose one of: {', '.join(SPLITS)}.",
        )
    return PairPaths(
        cells["scene_id"],
        files["hs_path"],
        files["pan_path"],
        cells.get("output_path") or None,
        split,
    )


def _beside(manifest: Path, text: str) -> Path:
    return (manifest.parent / Path(text).expanduser()).absolute()


def _manifest_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield data rows with their number, from 1."""
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        columns, rows = _csv_rows(path)
    else:
        from appliedpapers.core.tables import read_table

        table = read_table(path)
        columns, rows = table.column_names, table.to_pylist()
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        found = ", ".join(repr(column)[1:-1] for column in columns[:8]) or "none"
        close = did_you_mean(missing[0], columns)
        raise DataError(
            f"{path}: column '{missing[0]}' is missing; found: {found}.",
            hint=f"Expected {', '.join(REQUIRED)}, and if wanted {', '.join(OPTIONAL)}."
            + (f" {close}" if close.startswith("Did you mean") else ""),
        )
    yield from enumerate(rows, start=1)


def _csv_rows(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the header and the rows of a CSV, every cell as text: ``007`` is a name, not a number."""
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty.", hint=_EXPECTED)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            text = file.read().decode("utf-8-sig")
        reader = csv.DictReader(text.splitlines(), restval="")
        rows = list(reader)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise DataError(f"{path}: cannot be read ({reason}).", hint=_EXPECTED) from None
    for number, row in enumerate(rows, start=1):
        if None in row:
            raise DataError(
                f"{path}, row {number}: more cells than columns.", hint="Quote paths that hold a comma."
            )
    return [name.strip() for name in reader.fieldnames or ()], [
        {str(name).strip(): value for name, value in row.items()} for row in rows
    ]


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
