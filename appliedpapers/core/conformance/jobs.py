"""What long work and work with files promises: resumption, files that are what the table says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa

from appliedpapers.core.conformance.subject import (
    CheckFailed,
    NotApplicable,
    Subject,
    require,
    require_equal,
)
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.files import delivered_files, sha256_file
from appliedpapers.core.inference import predict_all, predict_usable
from appliedpapers.core.progress import SilentProgress

_UNFINISHED = (".part", ".tmp", ".temp", "~")


def resumes(subject: Subject) -> str:
    """A job shows progress, and one that was interrupted goes on from its scratch to the same result."""
    if subject.model.cost != "job":
        raise NotApplicable("answers at once")
    units = subject.units[:2]
    alone = [_counted(subject, unit, subject.fresh("whole")) for unit in units]
    last = len(alone[-1].renames)
    require(last >= 2, "a job keeps scratch: fewer than two files were renamed into place under 'files'")
    advances = sum(one.advances for one in alone)
    require(advances > 0, "a job shows progress: self.progress.task was not advanced")
    expected = pa.concat_tables([one.output for one in alone])
    # with two items, the first is done by then
    stop = sum(len(one.renames) for one in alone[:-1]) + (last + 1) // 2
    folder = subject.fresh("interrupted")
    try:
        with _counted_renames(folder, stop_after=stop):
            predict_all(subject.model, pa.concat_tables(units), files=folder)
    except KeyboardInterrupt:
        pass
    else:
        raise CheckFailed("the interruption was swallowed: do not catch BaseException around a step")
    again = _counted(subject, pa.concat_tables(units), folder)
    require_equal(again.output, expected, "after an interruption", exact=True)
    written = len(again.renames)
    require(
        written < last,
        f"the second try wrote {written} files again, {last} belong to the unfinished item: "
        "the scratch is not reused",
    )
    return f"{written} of {last} files written in the second try"


def files(subject: Subject) -> str:
    """Files that a prediction writes are whole, repeatable, and named by relative path and checksum."""
    folder = subject.fresh("files")
    output = predict_all(subject.model, subject.example, files=folder)
    written = [path.relative_to(folder).as_posix() for path in delivered_files(folder)]
    columns = file_columns(subject)
    if not written and not columns:
        raise NotApplicable("writes no files")
    _require_declared(subject, output, folder)
    unnamed = f"{len(written)} files are written, such as '{', '.join(written[:1])}', and no column names one"
    require(bool(_named(output, columns)) or not written, unnamed)
    for name in columns:
        _require_named(output, name, folder)
    left = [name for name in written if name.endswith(_UNFINISHED)]
    require(not left, f"'{', '.join(left)}' is left behind: write with core.files.whole_file")
    _require_same_bytes(subject, folder, columns)
    _require_answers_without_folder(subject, output, columns)
    return f"{len(_named(output, columns))} files in {', '.join(columns)}"


def unreadable(subject: Subject) -> str:
    """A file of the input that is missing or damaged costs its own row or group, and no other."""
    schema = subject.model.input_schema
    columns = [one.name for one in schema.columns if one.file and one.name in subject.example.column_names]
    if not columns:
        raise NotApplicable("takes no files")
    table, folder = _as_paths(subject, columns), subject.fresh("damaged")
    (folder / "noise").write_bytes(bytes(range(200, 216)))
    row, lost = table.num_rows - 1, subject.units[-1].num_rows
    whole = False
    for name in columns:
        for what in ("absent", "noise"):
            cells = table.column(name).to_pylist()
            cells[row] = str(folder / what)
            broken = table.set_column(table.column_names.index(name), name, pa.array(cells, pa.string()))
            _require_left_out(subject, broken, lost, f"column '{name}', a file that is {what}", whole=whole)
            # the items of a job are dear: that the others are answered is seen once
            whole = subject.model.cost == "job"
    return ", ".join(columns)


def file_columns(subject: Subject) -> list[str]:
    """Return the columns of the output that name files."""
    return [column.name for column in subject.model.output_schema.columns if column.file is not None]


class _Counted:
    """One prediction: its output, the files that were renamed into place, and the steps that were shown."""

    def __init__(self, output: pa.Table, renames: list[str], advances: int) -> None:
        self.output, self.renames, self.advances = output, renames, advances


class _Steps(SilentProgress):
    """Counts the steps of all tasks."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[_Steps]:
        yield self

    def advance(self, steps: int = 1, *, note: str | None = None) -> None:
        self.count += 1


def _counted(subject: Subject, table: pa.Table, folder: Path) -> _Counted:
    before, steps = subject.model.progress, _Steps()
    subject.model.progress = steps
    try:
        with _counted_renames(folder) as renames:
            output = predict_all(subject.model, table, files=folder)
    finally:
        subject.model.progress = before
    return _Counted(output, renames, steps.count)


def _require_declared(subject: Subject, output: pa.Table, folder: Path) -> None:
    for column in subject.model.output_schema.columns:
        carried = column.name in subject.example.column_names
        if column.file is None and column.dtype == "string" and not carried:
            cells = output.column(column.name).to_pylist()
            names = any(cell and _is_file(folder / cell) for cell in cells)
            require(not names, f"column '{column.name}' names files: declare it with Column(file=...)")


def _require_named(output: pa.Table, name: str, folder: Path) -> None:
    checksum = next((key for key in _checksums(name) if key in output.column_names), None)
    sums = output.column(checksum).to_pylist() if checksum else [None] * output.num_rows
    for row, (cell, digest) in enumerate(zip(output.column(name).to_pylist(), sums, strict=True), start=1):
        if cell is None:
            continue
        where = f"column '{name}', row {row}: {cell!r}"
        inside = not Path(cell).is_absolute() and (folder / cell).resolve().is_relative_to(folder.resolve())
        require(inside, f"{where} is no path relative to 'files'")
        require(_is_file(folder / cell), f"{where} is not there")
        if checksum:
            require(digest == sha256_file(folder / cell), f"{where}: {checksum} is not its sha256")


def _require_same_bytes(subject: Subject, folder: Path, columns: Sequence[str]) -> None:
    """Predict each unit anew and alone: neither batch nor clock may show in names and bytes."""
    for unit in subject.units:
        other = subject.fresh("files")
        output = predict_all(subject.model, unit, files=other)
        for name in sorted(_named(output, columns)):
            there = _is_file(folder / name)
            require(there, f"'{name}' has another name when it is predicted in company: name it by its key")
            same = sha256_file(other / name) == sha256_file(folder / name)
            require(same, f"'{name}' has other bytes when it is predicted again: clock, chance or company")


def _require_answers_without_folder(subject: Subject, output: pa.Table, columns: Sequence[str]) -> None:
    try:
        found = predict_all(subject.model, subject.example)
    except (ConfigError, DataError) as error:
        require(error.hint is not None, f"without 'files': '{error}' has no hint")
        return
    except Exception as error:
        raise CheckFailed(f"without 'files': {type(error).__name__}, no DataError: {error}") from None
    for name in columns:
        told = found.column(name).null_count == found.num_rows
        require(told, f"without 'files' column '{name}' must be null, for there is no file")
    named = {*columns, *(key for name in columns for key in _checksums(name))}
    rest = [name for name in output.column_names if name not in named]
    require_equal(found.select(rest), output.select(rest), "without 'files'")


def _as_paths(subject: Subject, columns: Sequence[str]) -> pa.Table:
    table, folder = pa.concat_tables(subject.units), subject.fresh("paths")
    for name in columns:
        cells = table.column(name).to_pylist()
        for row, cell in enumerate(cells):
            if isinstance(cell, bytes):
                path = folder / hashlib.sha256(cell).hexdigest()
                path.write_bytes(cell)
                cells[row] = str(path)
        table = table.set_column(table.column_names.index(name), name, pa.array(cells, pa.string()))
    return table


def _require_left_out(subject: Subject, table: pa.Table, lost: int, what: str, *, whole: bool) -> None:
    try:
        made = predict_usable(subject.model, table, files=subject.fresh("files"), whole=whole)
    except Exception as error:
        raise CheckFailed(f"{what}: {type(error).__name__} instead of a group left out: {error}") from None
    named = [item for item in made.violations if (item.row or 0) > table.num_rows - lost]
    require(bool(named), f"{what}: it is not named")
    left = len(made.rejected)
    require(left == lost, f"{what}: {left} rows are left out, its own are {lost}")
    answered = made.table is not None and made.table.num_rows > 0
    require(answered or whole or lost == table.num_rows, f"{what}: the others are not answered")


def _named(output: pa.Table, columns: Sequence[str]) -> set[str]:
    return {cell for name in columns for cell in output.column(name).to_pylist() if cell is not None}


def _checksums(name: str) -> tuple[str, str]:
    return f"{name.removesuffix('_path')}_sha256", f"{name}_sha256"


def _is_file(path: Path) -> bool:
    # a long sentence is no file name
    try:
        return path.is_file()
    except OSError:
        return False


@contextmanager
def _counted_renames(folder: Path, stop_after: int | None = None) -> Iterator[list[str]]:
    # files appear whole by being renamed, so a rename marks a step that survives
    done: list[str] = []
    rename: Callable[..., None] = os.replace

    def counted(source: Any, target: Any, **options: Any) -> None:
        rename(source, target, **options)
        if Path(target).is_relative_to(folder):
            done.append(str(target))
            if len(done) == stop_after:
                raise KeyboardInterrupt

    with patch.object(os, "replace", counted):
        yield done
