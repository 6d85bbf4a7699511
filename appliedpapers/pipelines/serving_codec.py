"""Request bodies to Arrow tables; pandas is never in the way.

JSON comes in the shapes of MLflow's scoring server (``dataframe_split``, ``dataframe_records``,
``instances``, ``inputs``); CSV, Parquet and Arrow streams are read as well. A cell of a file column is a path
(text) or the file's bytes, in JSON ``{"b64": "..."}``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.csv as arrow_csv

from appliedpapers.core.delimited import decimal_of, separator_of, with_points
from appliedpapers.core.errors import DataError
from appliedpapers.core.schema import TableSchema
from appliedpapers.core.validation import from_columns
from appliedpapers.pipelines.serving_arrow import ARROW, PARQUET, Bounds, read_arrow, read_parquet
from appliedpapers.pipelines.serving_files import FileCells, kind_of
from appliedpapers.pipelines.serving_problems import refuse, shorten

SHAPES = ("dataframe_split", "dataframe_records", "instances", "inputs")
MEDIA_TYPES = ("application/json", "text/csv", PARQUET, ARROW)
_SHAPES_TEXT = f"Expected a JSON object with one of {', '.join(SHAPES)}."
_DEEPEST = 16
_WHOLE = 2**53
_FURTHER_COLUMNS = 1000
_UNFOLDING = 16
_BODY = Path("body.csv")
_NULLS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]


def media_type(content_type: str | None) -> str:
    """Return which of :data:`MEDIA_TYPES` a body is.

    Raises:
        Refused: 415, another media type or character set.
    """
    name, *parameters = [part.strip().lower() for part in (content_type or "").split(";")]
    if name not in MEDIA_TYPES:
        found = shorten(name) or "none"
        raise refuse(
            415,
            "media-type",
            f"Content-Type {found} is not understood.",
            f"Expected one of {', '.join(MEDIA_TYPES)}.",
        )
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise refuse(415, "media-type", "Only UTF-8 is understood.", "Expected charset=utf-8.")
    return name


def parse_json(body: bytes | str) -> Any:
    """Parse strict JSON: NaN and infinities are refused.

    Raises:
        Refused: 400, not JSON, not UTF-8, or nested too deeply.
    """
    try:
        text = body.decode("utf-8-sig") if isinstance(body, bytes) else body
        return _READER.decode(text)
    except RecursionError:
        raise refuse(400, "malformed", "The JSON is nested too deeply.", _SHAPES_TEXT) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise refuse(400, "malformed", f"Not JSON: {error.msg} at {where}.", _SHAPES_TEXT) from None
    except UnicodeDecodeError as error:
        raise refuse(400, "malformed", f"Not UTF-8 at byte {error.start}.", "Expected UTF-8.") from None
    except ValueError:
        raise refuse(400, "malformed", "A number has too many digits.", "Expected numbers.") from None


def _no_constant(name: str) -> NoReturn:
    raise refuse(400, "malformed", f"{name} is not JSON.", "Write null for a missing value.")


# json.loads would make a reader for each request
_READER = json.JSONDecoder(parse_constant=_no_constant)


@dataclass(frozen=True, slots=True)
class Parsed:
    """One request, read but not yet judged.

    Attributes:
        rows: Number of rows.
        columns: JSON columns of plain scalars, one kind a column; None where the request is a table already.
        kinds: Kind of the cells of each column; None for a column of nulls.
        table: The table, where there are no such columns.
    """

    rows: int
    columns: Mapping[str, list[Any]] | None = None
    kinds: Mapping[str, type | None] = field(default_factory=dict)
    table: pa.Table | None = None


class Decoder:
    """Turns bodies into loosely typed tables; :func:`appliedpapers.core.validation.check` then judges them.

    Args:
        schema: The model's input contract.
        max_rows: Most rows of one request.
        max_body: Most bytes of one request; what files and columns unfold to may be 16 times as much.
        folders: Folders that paths in file columns may point into.
    """

    def __init__(
        self, schema: TableSchema, *, max_rows: int, max_body: int = 2**24, folders: Sequence[Path] = ()
    ) -> None:
        self._schema = schema
        self._bounds = Bounds(max_rows, len(schema.columns) * 2 + _FURTHER_COLUMNS, _UNFOLDING * max_body)
        self._max_cells = max(max_body, 2**20)
        self._cells = FileCells(folders, self._bounds)
        self._files = [column for column in schema.columns if column.file is not None]

    def table(self, body: bytes, content_type: str | None) -> pa.Table:
        """Return the table that a body holds.

        Raises:
            Refused: 400 malformed, 415 media type, 422 too many rows.
            DataError: The columns differ in length, or a file cell is not allowed.
        """
        parsed = self.parse(body, content_type)
        return self.from_columns(parsed.columns) if parsed.table is None else parsed.table

    def unfolds(self, content_type: str | None) -> bool:
        """Return whether a body of a few kilobytes may take long to read: files, Parquet, Arrow."""
        return bool(self._files) or (content_type or "").lower().startswith("application/vnd.")

    def parse(self, body: bytes, content_type: str | None) -> Parsed:
        """Read a body; columns of plain scalars are left as they are, so that requests can be joined cheaply.

        Raises:
            Refused: As :meth:`table`.
            DataError: As :meth:`table`.
        """
        kind = media_type(content_type)
        if kind == "text/csv":
            return self._parsed_table(self._csv(body))
        if kind in (PARQUET, ARROW):
            read = read_parquet if kind == PARQUET else read_arrow
            return self._parsed_table(self._with_files(read(body, self._bounds)))
        columns = json_columns(parse_json(body), self._require_room)
        lengths = {len(values) for values in columns.values()}
        if len(lengths) == 1:
            self._limit(max(lengths))
            kinds = None if self._files else _kinds(columns)
            if kinds is not None:
                return Parsed(max(lengths), columns, kinds)
        return self._parsed_table(self.from_columns(columns))

    def from_columns(self, columns: Mapping[str, Sequence[Any]] | None) -> pa.Table:
        """Return the table of JSON columns, with the cells of file columns resolved."""
        plain = dict(columns or {})
        files = {column.name: plain.pop(column.name) for column in self._files if column.name in plain}
        table = from_columns(plain, self._schema) if plain else None
        for name, cells in files.items():
            array = self._cells.array(self._schema.column(name), cells)
            if table is not None and len(array) != table.num_rows:
                raise DataError("request: columns differ in length.", hint=f"See column '{name}'.")
            table = pa.table({name: array}) if table is None else table.append_column(name, array)
        return table if table is not None else pa.table({})

    def _parsed_table(self, table: pa.Table) -> Parsed:
        self._limit(table.num_rows)
        for cell in table.schema:
            if _depth(cell.type) > _DEEPEST:
                raise refuse(
                    400,
                    "malformed",
                    f"Column '{shorten(cell.name)}' is nested too deeply.",
                    f"Expected at most {_DEEPEST} levels.",
                )
        return Parsed(table.num_rows, table=table)

    def _limit(self, rows: int) -> None:
        self._bounds.require_rows(rows)

    def _csv(self, body: bytes) -> pa.Table:
        if not body.strip():
            raise refuse(400, "malformed", "The CSV is empty.", "Expected a line of column names, then rows.")
        try:
            text = body.decode("utf-8")
            first = text.lstrip("\r\n").partition("\n")[0]
            separator = separator_of(first, _BODY)
            header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        except UnicodeDecodeError as error:
            raise refuse(400, "malformed", f"Not UTF-8 at byte {error.start}.", "Expected UTF-8.") from None
        except csv.Error:
            header = []
        self._bounds.require_columns(len(header))
        try:
            # text keeps every cell as it came; the check casts it and names the bad ones
            types = {column.name: pa.string() for column in self._schema.columns}
            table = _read_csv(body, types, separator)
            if decimal_of(text, separator) == ",":
                table = with_points(table, self._schema)
        except pa.ArrowInvalid as error:
            message = str(error).splitlines()[0].removeprefix("CSV parse error: ")
            raise refuse(
                400, "malformed", f"Not CSV: {message}", "Expected a line of column names, then rows."
            ) from None
        self._limit(table.num_rows)
        return self._with_files(table)

    def _with_files(self, table: pa.Table) -> pa.Table:
        """Return a table with the cells of file columns looked up; other types are left to the schema."""
        for column in self._files:
            if table.column_names.count(column.name) == 1:
                array = self._cells.array(column, table.column(column.name).to_pylist())
                table = table.set_column(table.column_names.index(column.name), column.name, array)
        return table

    def _require_room(self, rows: int, columns: int) -> None:
        """Refuse rows times columns that a few bytes would unfold to."""
        self._limit(rows)
        self._bounds.require_columns(columns)
        if rows * columns > self._max_cells:
            raise refuse(
                413,
                "too-large",
                f"{rows} rows of {columns} columns are more than {self._max_cells} cells.",
                "Send several requests.",
            )


def json_columns(document: Any, require_room: Callable[[int, int], None]) -> dict[str, list[Any]]:
    """Return the columns of a request in one of MLflow's JSON shapes.

    Args:
        document: The parsed body.
        require_room: Told the numbers of rows and columns before cells are made of them.

    Raises:
        Refused: 400, none or several of the shapes, or a shape that is not kept.
    """
    if not isinstance(document, dict):
        raise refuse(400, "malformed", f"A JSON {kind_of(document)} at the top.", _SHAPES_TEXT)
    given = [shape for shape in SHAPES if shape in document]
    if len(given) != 1:
        found = f"found {' and '.join(given)}" if given else "found none of them"
        raise refuse(400, "malformed", f"One of {', '.join(SHAPES)} is expected; {found}.", _SHAPES_TEXT)
    if document.get("params"):
        raise refuse(
            400, "malformed", "The model takes no params.", "Leave params out; choices belong to training."
        )
    shape, content = given[0], document[given[0]]
    if shape == "dataframe_split":
        return _split_columns(content, require_room)
    if shape == "inputs" and isinstance(content, dict):
        require_room(0, len(content))
        for name, values in content.items():
            if not isinstance(values, list):
                raise refuse(
                    400,
                    "malformed",
                    f"inputs: column '{shorten(name)}' is not a list.",
                    'Expected {"inputs": {"column": [value, ...]}}.',
                )
        return dict(content)
    return _record_columns(shape, content, require_room)


def _split_columns(content: Any, require_room: Callable[[int, int], None]) -> dict[str, list[Any]]:
    expected = 'Expected {"dataframe_split": {"columns": ["a"], "data": [[1]]}}.'
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise refuse(400, "malformed", "dataframe_split: 'data' is not a list of rows.", expected)
    names, rows = content.get("columns"), content["data"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise refuse(400, "malformed", "dataframe_split: 'columns' is not a list of names.", expected)
    require_room(len(rows), len(names))
    twice = [name for name in set(names) if names.count(name) > 1]
    if twice:
        raise refuse(
            400, "malformed", f"dataframe_split: column '{shorten(twice[0])}' stands twice.", expected
        )
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != len(names):
            found = f"{len(row)} cells" if isinstance(row, list) else f"a {kind_of(row)}"
            raise refuse(
                400, "malformed", f"dataframe_split, row {number}: {found}, not {len(names)} cells.", expected
            )
    if not rows:
        return {name: [] for name in names}
    return {name: list(cells) for name, cells in zip(names, zip(*rows, strict=True), strict=True)}


def _record_columns(
    shape: str, content: Any, require_room: Callable[[int, int], None]
) -> dict[str, list[Any]]:
    expected = f'Expected {{"{shape}": [{{"column": value, ...}}, ...]}}.'
    if not isinstance(content, list):
        raise refuse(400, "malformed", f"{shape}: a {kind_of(content)}, not a list of objects.", expected)
    names: dict[str, None] = {}
    for number, record in enumerate(content, start=1):
        if not isinstance(record, dict):
            raise refuse(
                400, "malformed", f"{shape}, row {number}: a {kind_of(record)}, not an object.", expected
            )
        names.update(dict.fromkeys(record))
    require_room(len(content), len(names))
    return {name: [record.get(name) for record in content] for name in names}


def _read_csv(body: bytes, types: dict[str, pa.DataType], separator: str = ",") -> pa.Table:
    return arrow_csv.read_csv(
        io.BytesIO(body),
        read_options=arrow_csv.ReadOptions(use_threads=False),
        parse_options=arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types, null_values=_NULLS, strings_can_be_null=True
        ),
    )


def _kinds(columns: Mapping[str, Sequence[Any]]) -> dict[str, type | None] | None:
    """Return the kind of each column, or None where joining could change how Arrow reads a cell."""
    kinds: dict[str, type | None] = {}
    for name, values in columns.items():
        found = set(map(type, values))
        found.discard(type(None))
        if len(found) > 1 or not found <= {float, int, str, bool}:
            return None
        kind = next(iter(found), None)
        if kind is int and not all(value is None or -_WHOLE < value < _WHOLE for value in values):
            return None
        kinds[name] = kind
    return kinds


def _depth(kind: pa.DataType) -> int:
    depth, level = 0, [kind]
    while level:
        level = [child.type for item in level for child in _children(item)]
        depth += 1
        if depth > _DEEPEST:
            break
    return depth


def _children(kind: pa.DataType) -> list[pa.Field]:
    return [kind.field(position) for position in range(kind.num_fields)]
