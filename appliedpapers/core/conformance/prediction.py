"""What a plugin's predictions promise: independence, order, schema, named violations, threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from appliedpapers.core.conformance.subject import (
    CheckFailed,
    NotApplicable,
    Subject,
    require,
    require_equal,
    shaken_randomness,
)
from appliedpapers.core.inference import predict_all, predict_usable
from appliedpapers.core.schema import Column
from appliedpapers.core.validation import check

_THREADS = 8


def repeatable(subject: Subject) -> str:
    """Fitting twice with one seed gives equal predictions, wherever the global generators stand."""
    first = subject.prediction
    with shaken_randomness(3):
        require_equal(subject.predict(subject.example), first, "predicted again", exact=True)
        again = subject.fit()
    require_equal(subject.predict(subject.example, again), first, "fitted again", exact=True)
    return f"seed {subject.config.seed}"


def independent(subject: Subject) -> str:
    """A row (or group) gets the same answer alone, in company, and in another order."""
    units, alone = _several(subject), subject.alone
    require_equal(pa.concat_tables(alone), subject.prediction, "each alone")
    backwards = subject.predict(pa.concat_tables(units[::-1]))
    require_equal(backwards, pa.concat_tables(alone[::-1]), "in reverse order")
    half = len(units) // 2
    if half > 1:
        parts = [subject.predict(pa.concat_tables(part)) for part in (units[:half], units[half:])]
        require_equal(pa.concat_tables(parts), subject.prediction, "in two batches")
    return f"{len(units)} units"


def row_order(subject: Subject) -> str:
    """The rows of a group may come in any order where the schema says what orders them."""
    schema = subject.model.input_schema
    if not schema.group_by or schema.order_by is None:
        raise NotApplicable("the input schema has no order_by")
    rows: list[int] = []
    for unit in subject.units:
        rows += range(len(rows) + unit.num_rows - 1, len(rows) - 1, -1)
    table = pa.concat_tables(subject.units)
    expected, found = subject.predict(table), subject.predict(table.take(rows))
    output = subject.model.output_schema
    if output.rows == "per_row":
        expected = expected.take(rows)
    else:
        # a key within a group, such as a series of a panel, may now appear later
        names = dict.fromkeys([*output.keys, *([output.order_by] if output.order_by else [])])
        expected, found = (one.sort_by([(name, "ascending") for name in names]) for one in (expected, found))
    what = f"with each group's rows in reverse (sort by '{schema.order_by}', then answer in the order given)"
    require_equal(found, expected, what)
    return f"by {schema.order_by}"


def keys_and_order(subject: Subject) -> str:
    """Input keys are carried over, order is kept, and the row rule holds."""
    schema, output = subject.model.output_schema, subject.prediction
    absent = [name for name in schema.keys if name not in subject.example.column_names]
    require(not absent, f"key '{absent[0] if absent else ''}' is not an input column")
    dropped = [name for name in schema.keys if name not in output.column_names]
    require(not dropped, f"key '{dropped[0] if dropped else ''}' is not carried over")
    if schema.rows == "per_row":
        require(_keys(output, schema.keys) == _keys(subject.example, schema.keys), "keys or order differ")
        _require_order_when_mixed(subject)
    elif schema.rows == "per_group":
        count = len(subject.units)
        require(output.num_rows == count, f"per_group: {output.num_rows} output rows for {count} groups")
    given = list(dict.fromkeys(_keys(subject.example, schema.keys)))
    found = list(dict.fromkeys(_keys(output, schema.keys)))
    require(set(found) <= set(given), "an output key is none of the input's")
    require(found == [key for key in given if key in set(found)], "the order of the keys differs")
    return f"{schema.rows}, keys {', '.join(schema.keys) or 'none'}"


def output_schema(subject: Subject) -> str:
    """The output has the declared columns and no others, with the declared types and legal values."""
    schema, output = subject.model.output_schema, subject.prediction
    strange = [name for name in output.column_names if name not in schema.arrow_schema().names]
    require(not strange, f"column '{', '.join(strange)}' is returned and not declared in output_schema")
    for field in schema.arrow_schema():
        found = output.schema.field(field.name).type
        require(found == field.type, f"column '{field.name}' is {found}, declared {field.type}")
    problems = check(output, schema, source="output").violations
    require(not problems, problems[0].sentence() if problems else "")
    return f"{len(schema.names)} columns"


def violations(subject: Subject) -> str:
    """A broken value is reported with its row and column, and a missing column by name."""
    schema, table = subject.model.input_schema, subject.example
    tried = 0
    for column in schema.columns:
        if column.name not in table.column_names:
            continue
        if column.required:
            _require_reported(subject, table.drop_columns([column.name]), column.name, None)
        row = table.num_rows - 1
        cells = table.column(column.name).to_pylist()
        for value in _broken_values(column, cells[row]):
            cells[row] = value
            _require_reported(subject, _with_cells(table, column.name, cells), column.name, row + 1)
            tried += 1
    return f"{tried} broken values"


def threads(subject: Subject) -> str:
    """Eight threads that predict at once get what one gets."""
    units, expected = subject.units, subject.alone
    folders = [subject.fresh("thread") for _ in range(_THREADS)]
    together = threading.Barrier(_THREADS)

    def work(number: int) -> pa.Table:
        together.wait()
        return predict_all(subject.model, units[number % len(units)], files=folders[number])

    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(work, range(_THREADS)))
    for number, table in enumerate(found):
        require_equal(table, expected[number % len(units)], f"thread {number + 1}")
    return f"{_THREADS} threads"


def _several(subject: Subject) -> list[pa.Table]:
    if len(subject.units) < 2:
        raise NotApplicable("the example has one group only")
    return subject.units


def _keys(table: pa.Table, names: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


def _require_order_when_mixed(subject: Subject) -> None:
    schema = subject.model.output_schema
    if not subject.model.input_schema.group_by or len(subject.units) < 2:
        return
    rows: list[pa.Table] = []
    for position in range(max(unit.num_rows for unit in subject.units)):
        rows += [unit.slice(position, 1) for unit in subject.units if position < unit.num_rows]
    mixed = pa.concat_tables(rows)
    found = _keys(subject.predict(mixed), schema.keys)
    require(found == _keys(mixed, schema.keys), "the order differs when groups alternate")


def _broken_values(column: Column, cell: Any) -> Iterator[Any]:
    if not column.nullable:
        yield None
    if column.shape is not None and not column.ragged and cell:
        yield cell[:-1]
        yield from [[float("nan"), *cell[1:]]] if column.dtype.startswith("float") else []
    if column.file is not None or column.shape is not None:
        return
    if column.dtype != "string":
        yield "not a value"
    if column.categories is not None:
        yield "not a category"
    if column.minimum is not None and column.dtype != "string":
        yield column.minimum - 1
    if column.maximum is not None and column.dtype != "string":
        yield column.maximum + 1


def _with_cells(table: pa.Table, name: str, cells: list[Any]) -> pa.Table:
    kind = table.schema.field(name).type
    try:
        array = pa.array(cells, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        # as a CSV reader or a JSON request would hold a mixed column
        texts = [None if cell is None else cell if isinstance(cell, str) else _plain(cell) for cell in cells]
        array = pa.array(cells) if isinstance(kind, pa.FixedShapeTensorType) else pa.array(texts, pa.string())
    return table.set_column(table.column_names.index(name), name, array)


def _plain(cell: Any) -> str:
    return cell.isoformat() if hasattr(cell, "isoformat") else repr(cell)


def _require_reported(subject: Subject, table: pa.Table, column: str, row: int | None) -> None:
    what = f"column '{column}'" + ("" if row is None else f", row {row}")
    # the items of a job are dear: one that is left out ends it before the others are worked on
    whole = subject.model.cost == "job"
    try:
        listed = predict_usable(subject.model, table, files=subject.fresh("files"), whole=whole).violations
    except Exception as error:
        if row is None:
            require(column in str(error), f"{what} is missing: reported as '{error}'")
            return
        raise CheckFailed(f"{what}: {type(error).__name__} without a list of violations: {error}") from error
    require(bool(listed), f"{what} is broken and was predicted all the same")
    places = [(item.column, item.row) for item in listed]
    require((column, row) in places, f"{what} is broken, reported are {places[:5]}")
