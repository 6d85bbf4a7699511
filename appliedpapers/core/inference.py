"""The one way from a table to a prediction: check, predict what can be predicted, check again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from appliedpapers.core.errors import DataError, RunError, UnusableGroups
from appliedpapers.core.schema import OutputSchema, TableSchema, Violation, violations_error
from appliedpapers.core.validation import check

if TYPE_CHECKING:
    from appliedpapers.core.model import GroupProblem, Model


Contract = tuple[TableSchema, OutputSchema]
"""What a model takes and what it returns."""

_DEFECT = "This is a defect of the plugin; apps check ID finds more of the kind."


@dataclass(frozen=True)
class Prediction:
    """What came of a prediction.

    Attributes:
        table: Output rows for everything that could be predicted; None when nothing could.
        violations: Broken values and unusable groups, in words.
        rejected: Input row numbers (from 0) that were left out.
        inputs: The rows that were predicted for, as the model saw them; None when nothing was.
    """

    table: pa.Table | None
    violations: tuple[Violation, ...]
    rejected: np.ndarray[tuple[int], np.dtype[np.int64]]
    inputs: pa.Table | None = None


def predict_usable(
    model: Model,
    table: pa.Table,
    *,
    source: str = "input",
    files: Path | None = None,
    first_row: int = 1,
    listed: int = 10_000,
    whole: bool = False,
    contract: Contract | None = None,
) -> Prediction:
    """Predict for the rows and groups that keep the contract and name the others.

    Args:
        model: A fitted model.
        table: Input rows of any provenance.
        source: Name of the file or request, for messages.
        files: Where the model may write big results.
        first_row: Number of the first row in messages.
        listed: Most broken values that are listed.
        whole: Predict nothing where anything is left out: an item may take hours. Groups are looked at only
            where every value keeps the contract.
        contract: The model's schemas, where they are at hand: some models make them anew at each question.

    Raises:
        DataError: A column is missing, there is no row at all, or the model needs ``files``.
        RunError: The model broke its own output schema.
    """
    if files is None and model.needs_files:
        raise DataError(
            "the model writes files and was given no folder for them.",
            hint="Use apps predict with --files FOLDER, or apps score run with --output FOLDER.",
        )
    schema, promised = contract or (model.input_schema, model.output_schema)
    checked = check(table, schema, source=source, first_row=first_row, listed=listed)
    usable, rejected, violations = checked.table, checked.rejected, checked.violations
    if not usable.num_rows or (whole and violations):
        return Prediction(None, violations, rejected)
    output, problems = _ask(model, usable, files)
    if problems:
        rows = np.delete(np.arange(table.num_rows, dtype=np.int64), rejected)
        positions = _positions(usable, schema.group_by, problems)
        violations += tuple(_violations(schema, problems, rows, positions, usable, source, first_row))
        mask = np.zeros(usable.num_rows, dtype=bool)
        mask[np.concatenate([*positions.values()])] = True
        rejected = np.union1d(rejected, rows[mask])
        usable = usable.filter(pa.array(~mask))
        if whole or not usable.num_rows:
            return Prediction(None, violations, rejected)
        output, problems = _ask(model, usable, files)
    if output is None:
        raise RunError(
            f"{type(model).__name__} named {problems[0].key} only when it was asked again.", hint=_DEFECT
        )
    table = _checked_output(type(model).__name__, promised, usable, output)
    return Prediction(table, violations, rejected, usable)


def predict_all(
    model: Model,
    table: pa.Table,
    *,
    source: str = "input",
    files: Path | None = None,
    contract: Contract | None = None,
) -> pa.Table:
    """Predict for a table of which every row must keep the contract.

    Raises:
        DataError: A value breaks the contract, or a group cannot be predicted; row and column are named.
    """
    prediction = predict_usable(model, table, source=source, files=files, whole=True, contract=contract)
    if prediction.violations:
        raise violations_error(prediction.violations)
    assert prediction.table is not None
    return prediction.table


def review(model: Model, table: pa.Table, *, source: str, files: Path) -> None:
    """Refuse a table that keeps the schema and that the model sees at a glance it cannot predict.

    Args:
        model: A fitted model.
        table: Rows that :func:`appliedpapers.core.validation.check` took.
        source: Name of the request, for messages.
        files: The folder that the prediction will be given.

    Raises:
        DataError: Some group cannot be predicted; row and column are named.
    """
    problems = model.review(table, files=files)
    if problems:
        schema = model.input_schema
        rows = np.arange(table.num_rows, dtype=np.int64)
        positions = _positions(table, schema.group_by, problems)
        raise violations_error(list(_violations(schema, problems, rows, positions, table, source, 1)))


def predict_checked(model: Model, table: pa.Table, contract: Contract) -> pa.Table:
    """Predict for a table that keeps the contract already, as :func:`~.validation.check` returns it.

    Raises:
        UnusableGroups: Groups that the model cannot predict.
        RunError: The model broke its own output schema.
    """
    return _checked_output(type(model).__name__, contract[1], table, model.predict(table))


def _ask(
    model: Model, table: pa.Table, files: Path | None
) -> tuple[pa.Table | None, tuple[GroupProblem, ...]]:
    try:
        return model.predict(table, files=files), ()
    except UnusableGroups as found:
        return None, found.problems


def _positions(
    table: pa.Table, group_by: tuple[str, ...], problems: Sequence[GroupProblem]
) -> dict[tuple[object, ...], list[int]]:
    """Return the rows (from 0) of each group that has a problem."""
    columns = [table.column(name).to_pylist() for name in group_by] or [range(table.num_rows)]
    found: dict[tuple[object, ...], list[int]] = {problem.key: [] for problem in problems}
    for position, key in enumerate(zip(*columns, strict=True)):
        if key in found:
            found[key].append(position)
    return found


def _violations(
    schema: TableSchema,
    problems: Sequence[GroupProblem],
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    positions: Mapping[tuple[object, ...], Sequence[int]],
    table: pa.Table,
    source: str,
    first_row: int,
) -> Iterator[Violation]:
    for problem in problems:
        group = positions[problem.key]
        position = group[0] if group and problem.row is None else (problem.row or 0) - 1
        if position not in group:
            raise RunError(
                f"the model cannot predict {problem.key}, which is no key of the table.", hint=_DEFECT
            )
        column = problem.column or (None if schema.group_by else schema.names[0])
        value = ", ".join(map(str, problem.key)) if column is None else _text(table.column(column)[position])
        name = column or ", ".join(schema.group_by)
        yield Violation(source, int(rows[position]) + first_row, name, value, problem.rule)


def _text(cell: pa.Scalar) -> str:
    value = cell.as_py()
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def _checked_output(name: str, schema: OutputSchema, given: pa.Table, output: pa.Table) -> pa.Table:
    absent = [column for column in schema.arrow_schema().names if column not in output.column_names]
    if absent:
        raise RunError(f"{name} did not return column '{absent[0]}'.", hint=_DEFECT)
    if schema.rows == "per_row" and output.num_rows != given.num_rows:
        raise RunError(f"{name} returned {output.num_rows} rows for {given.num_rows}.", hint=_DEFECT)
    return output.replace_schema_metadata(None)
