"""Cells of file columns: paths into the folders that the operator opened, or the bytes of files."""

from __future__ import annotations

import base64
import binascii
import mmap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from appliedpapers.core.image_headers import read_header
from appliedpapers.core.schema import Column, Violation, violations_error
from appliedpapers.pipelines.serving_arrow import Bounds
from appliedpapers.pipelines.serving_problems import shorten


class FileCells:
    """Looks up the cells of file columns.

    Args:
        folders: Folders that paths may point into.
        bounds: What the files of one request may unfold to.
    """

    def __init__(self, folders: Sequence[Path], bounds: Bounds) -> None:
        self._folders = tuple(folder.resolve() for folder in folders)
        self._bounds = bounds

    def array(self, column: Column, cells: Sequence[Any]) -> pa.Array:
        """Return the cells of a file column as paths or bytes.

        Raises:
            DataError: A cell names no file that may be read, or is neither a path nor bytes.
            Refused: 413, the files unfold to more than is taken.
        """
        violations = []
        values: list[Any] = []
        for number, cell in enumerate(cells, start=1):
            try:
                values.append(self._cell(cell))
            except ValueError as error:
                violations.append(Violation("request", number, column.name, _shown(cell), str(error)))
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) > 1:
            violations.append(
                Violation("request", None, column.name, "", "paths and bytes stand in one request; use one")
            )
        if violations:
            raise violations_error(violations)
        self._bounds.require_size(sum(_unfolded(value, column) for value in values), "The files unfold")
        return pa.array(values, pa.binary() if kinds == {bytes} else pa.string())

    def _cell(self, cell: Any) -> str | bytes | None:
        if cell is None or isinstance(cell, bytes):
            return cell
        if isinstance(cell, str):
            return self._allowed(cell)
        if isinstance(cell, Mapping) and set(cell) == {"b64"} and isinstance(cell["b64"], str):
            try:
                return base64.b64decode(cell["b64"], validate=True)
            except (binascii.Error, ValueError):
                raise ValueError("the base64 text cannot be decoded") from None
        raise ValueError('not a path and not {"b64": "..."}')

    def _allowed(self, path: str) -> str:
        # one message for all reasons: a client must not learn which files exist
        for folder in self._folders:
            try:
                candidate = (folder / path).resolve(strict=True)
                if candidate.is_relative_to(folder) and candidate.is_file():
                    return str(candidate)
            except (OSError, ValueError, RuntimeError):
                continue
        raise ValueError("not a file in a folder that this server may read; the bytes can be sent as b64")


def kind_of(value: Any) -> str:
    """Return what JSON calls a value."""
    names: list[tuple[Callable[[Any], bool], str]] = [
        (lambda item: item is None, "null"),
        (lambda item: isinstance(item, bool), "boolean"),
        (lambda item: isinstance(item, int | float), "number"),
        (lambda item: isinstance(item, str), "string"),
        (lambda item: isinstance(item, list), "list"),
    ]
    return next((name for fits, name in names if fits(value)), "object")


def _shown(cell: Any) -> str:
    # what is nested may be too deep to be written out
    return kind_of(cell) if isinstance(cell, list | dict) else shorten(str(cell))


def _unfolded(value: str | bytes | None, column: Column) -> int:
    """Return the bytes that a cell of a file column may take once it is decoded, by the file's header."""
    if value is None or (isinstance(value, str) and column.file != "image"):
        return 0
    if isinstance(value, bytes):
        header = read_header(value)
        return len(value) if header is None else header.decoded_bytes
    with Path(value).open("rb") as file:
        if not Path(value).stat().st_size:
            return 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            header = read_header(content)
            return len(content) if header is None else header.decoded_bytes
