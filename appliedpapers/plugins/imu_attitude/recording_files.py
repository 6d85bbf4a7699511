"""Files of inertial sensors as columns: text, Parquet, NumPy, Matlab and JSON lines, not yet understood."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.archives import read_npz
from appliedpapers.core.errors import DataError, did_you_mean
from appliedpapers.core.json_lines import read_json_lines
from appliedpapers.plugins.imu_attitude.config import ColumnsConfig

if TYPE_CHECKING:
    import pandas as pd

TEXT = (".csv", ".tsv", ".txt")
FORMATS = (*TEXT, ".parquet", ".npz", ".mat", ".jsonl", ".ndjson")

_AXES = {"acc": "xyz", "gyr": "xyz", "mag": "xyz", "quat": "wxyz"}
_GROUPS = {group: tuple(f"{group}_{axis}" for axis in axes) for group, axes in _AXES.items()}
_REQUIRED = ("acc", "gyr")
# names of arrays, ours first and then those of the BROAD benchmark
_ARRAYS = {
    "acc": ("acc", "imu_acc"),
    "gyr": ("gyr", "imu_gyr"),
    "mag": ("mag", "imu_mag"),
    "quat": ("quat", "opt_quat"),
    "time": ("time",),
    "movement": ("movement",),
    "fs": ("fs", "sampling_rate"),
}
_LISTED = 12


@dataclass(frozen=True)
class RawFile:
    """One file, read but not understood.

    Attributes:
        name: Its name, for messages.
        columns: ``(rows,)`` arrays under the names of the table contract, ``acc_x`` and so on, texts and
            numbers as they stand there; those that the file does not have are absent.
        fs: Sampling rate in Hz that the file states, if it does.
        given: What the file calls a column, for messages.
    """

    name: str
    columns: Mapping[str, NDArray[Any]]
    given: Mapping[str, str]
    fs: float | None = None

    def group(self, name: str) -> tuple[str, ...]:
        """Return the columns of ``acc``, ``gyr``, ``mag`` or ``quat``; none where the file lacks them."""
        return _GROUPS[name] if _GROUPS[name][0] in self.columns else ()

    def __len__(self) -> int:
        return len(self.columns["acc_x"])


def is_readable(path: Path) -> bool:
    """Whether ``path`` is a visible file of a kind that :func:`read_file` reads."""
    return path.is_file() and not path.name.startswith(".") and path.suffix.lower() in FORMATS


def read_file(path: Path, names: ColumnsConfig) -> RawFile:
    """Read one file.

    Args:
        path: Its suffix says what it is.
        names: Names of columns, for tables.

    Raises:
        DataError: The file is absent, empty, damaged or of an unknown kind, or a column or array that is
            needed is not there or has another shape.
    """
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise DataError(f"{path.name}: unknown format.", hint=f"Expected one of {', '.join(FORMATS)}.")
    if not path.is_file():
        raise DataError(f"{path}: no such file.", hint="Check the path.")
    if not path.stat().st_size:
        raise DataError(f"{path.name}: the file is empty.", hint="Expected column names and rows.")
    if kind in (".npz", ".mat"):
        return _from_arrays(path.name, _guarded(path, read_npz if kind == ".npz" else _read_mat))
    if kind in TEXT:
        return from_frame(path.name, _guarded(path, _read_text), names)
    return from_frame(path.name, _guarded(path, _read_parquet if kind == ".parquet" else _read_json), names)


def _guarded(path: Path, reader: Callable[[Path], Any]) -> Any:
    """Call a reader of another library, whose many errors all mean that the file is not what it says."""
    try:
        return reader(path)
    except (DataError, MemoryError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{path.name}: it cannot be read ({reason}).",
            hint="Is it complete, and what its name says? Copy or write it again.",
        ) from None


def from_frame(name: str, frame: pd.DataFrame, names: ColumnsConfig) -> RawFile:
    """Take the columns of the contract from a table under the names that the user gave them.

    Args:
        name: Name of the file, for messages.
        frame: Its rows.
        names: What the user calls each column.

    Raises:
        DataError: There are no rows, or a column that is needed is not there.
    """
    frame = frame.rename(columns=lambda column: str(column).strip())
    present = list(frame.columns)
    wanted = {"trial": names.trial, "time": names.time, "movement": names.movement}
    for group, columns in _GROUPS.items():
        theirs = getattr(names, group)
        found = [column for column in theirs if column in present]
        if len(found) < len(theirs) and (found or group in _REQUIRED):
            absent = next(column for column in theirs if column not in present)
            unused = [column for column in present if column not in _named(names)]
            raise _absent_column(name, absent, unused or present, f"{group}=[{', '.join(theirs)}]")
        wanted |= dict(zip(columns, theirs, strict=True)) if found else {}
    if not len(frame):
        raise DataError(f"{name}: no rows.", hint="Expected at least two rows below the column names.")
    for option in ("trial", "time", "movement"):
        usual = ColumnsConfig.model_fields[option].default
        if wanted[option] != usual and wanted[option] not in present:
            raise _absent_column(name, wanted[option], present, f"{option}=NAME")
    given = {ours: theirs for ours, theirs in wanted.items() if theirs in present}
    return RawFile(name, {ours: frame[theirs].to_numpy() for ours, theirs in given.items()}, given)


def _named(names: ColumnsConfig) -> set[str]:
    """Return every name of a column that is spoken for."""
    groups = (*names.acc, *names.gyr, *names.mag, *names.quat)
    return {names.trial, names.time, names.movement, *groups}


def _absent_column(name: str, absent: str, present: Iterable[str], example: str) -> DataError:
    known = list(present)
    listed = ", ".join(repr(column) for column in known[:_LISTED]) + (", …" if len(known) > _LISTED else "")
    return DataError(
        f"{name}: column '{absent}' is missing; not used: {listed}.",
        hint=f"{did_you_mean(absent, known)} Name yours with --set 'data.columns.{example}'.",
    )


def _read_text(path: Path) -> pd.DataFrame:
    import pandas as pd

    text = path.read_bytes()
    if b"\0" in text:
        raise DataError(f"{path.name}: it is not text.", hint="Save it as CSV in UTF-8.")
    decoded = text.decode("utf-8-sig").lstrip("\n\r")
    head, _, rest = decoded.partition("\n")
    marks = {mark: head.count(mark) for mark in (",", ";", "\t")}
    separator = max(marks, key=lambda mark: marks[mark]) if any(marks.values()) else r"\s+"
    first = rest.partition("\n")[0]
    # a comma that does not separate is a decimal comma
    decimal = "," if separator != "," and "," in first else "."
    _require_whole_rows(path.name, decoded, separator)
    return pd.read_csv(
        io.StringIO(decoded), sep=separator, decimal=decimal, skipinitialspace=True, low_memory=False
    )


def _require_whole_rows(name: str, text: str, separator: str) -> None:
    """Refuse rows with more or fewer fields than the header, such as the last one of a cut file."""
    lines = text.split("\n")
    if separator == r"\s+" or '"' in text:
        return
    width = len(next(csv.reader([lines[0]], delimiter=separator)))
    for number, line in enumerate(lines[1:], start=1):
        fields = line.count(separator) + 1
        if fields != width and line.strip():
            raise DataError(
                f"{name}, row {number}: {fields} fields, not {width}.",
                hint="The file was cut short, or a separator is missing; mend or remove the row.",
            )


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow.parquet as pq

    frame: pd.DataFrame = pq.ParquetFile(path).read().to_pandas(ignore_metadata=True)
    return frame


def _read_json(path: Path) -> pd.DataFrame:
    frame: pd.DataFrame = read_json_lines(path).to_pandas()
    return frame


def _read_mat(path: Path) -> dict[str, NDArray[Any]]:
    from scipy.io import loadmat

    try:
        stored = loadmat(path)
    except NotImplementedError:
        raise DataError(
            f"{path.name}: it is a Matlab 7.3 file.", hint="Save it with save(…, '-v7') and try again."
        ) from None
    return {name: value for name, value in stored.items() if not name.startswith("__")}


def _from_arrays(name: str, arrays: Mapping[str, NDArray[Any]]) -> RawFile:
    found = {ours: next((key for key in keys if key in arrays), None) for ours, keys in _ARRAYS.items()}
    for group in _REQUIRED:
        if found[group] is None:
            raise DataError(
                f"{name}: there is no array '{group}'; found {', '.join(sorted(arrays)[:_LISTED])}.",
                hint=f"Expected arrays acc and gyr of shape (N, 3) and, if there are, {', '.join(_ARRAYS)}.",
            )
    columns: dict[str, NDArray[Any]] = {}
    given: dict[str, str] = {}
    rows: int | None = None
    for ours, key in found.items():
        if key is None or ours == "fs":
            continue
        values = _numeric(name, key, arrays[key])
        if ours in _GROUPS:
            values = _decoded(name, ours, values, arrays)
            _require_shape(name, key, values, len(_GROUPS[ours]), rows)
            parts = dict(zip(_GROUPS[ours], values.T, strict=True))
        else:
            parts = {ours: np.ravel(values)}
            _require_shape(name, key, parts[ours][:, None], 1, rows)
        rows = len(values) if rows is None else rows
        columns |= parts
        given |= dict.fromkeys(parts, key)
    if not rows:
        raise DataError(f"{name}: no rows.", hint="Expected at least two samples.")
    return RawFile(name, columns, given, _rate(name, found["fs"], arrays))


def _numeric(name: str, key: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind not in "biufM":
        raise DataError(f"{name}, array '{key}': it holds {values.dtype}.", hint="Expected numbers.")
    return values


def _decoded(name: str, ours: str, values: NDArray[Any], arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return readings that were stored as sensor counts, ``count * lsb + offset``."""
    if f"{ours}_lsb" not in arrays:
        return values
    lsb = _numeric(name, f"{ours}_lsb", arrays[f"{ours}_lsb"])
    offset = _numeric(name, f"{ours}_offset", arrays.get(f"{ours}_offset", np.zeros(3)))
    if lsb.size != 1 or offset.size != 3:
        raise DataError(
            f"{name}: '{ours}_lsb' has {lsb.size} values and '{ours}_offset' {offset.size}.",
            hint="Expected the size of a count, one number, and an offset for each of three axes.",
        )
    return np.asarray(values * float(lsb.item()) + np.ravel(offset))


def _require_shape(name: str, key: str, values: NDArray[Any], width: int, rows: int | None) -> None:
    if values.ndim == 2 and values.shape[1] == width and rows in (None, len(values)):
        return
    expected = f"({'N' if rows is None else f'{rows:,}'}, {width})"
    shape = values.shape if width > 1 else values.shape[:1]
    turned = values.ndim == 2 and width > 1 and values.shape[0] == width
    raise DataError(
        f"{name}, array '{key}': its shape is {shape}, expected {expected}.",
        hint="Transpose it." if turned else "Expected one row a sample, as many as acc has.",
    )


def _rate(name: str, key: str | None, arrays: Mapping[str, NDArray[Any]]) -> float | None:
    if key is None:
        return None
    values = _numeric(name, key, arrays[key])
    if values.size != 1 or not np.isfinite(values).all() or not float(values.item()) > 0:
        raise DataError(
            f"{name}, '{key}': it is not one rate.", hint="Expected a positive number of samples a second."
        )
    return float(values.item())
