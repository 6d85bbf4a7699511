"""The one way from a table to a prediction: check, review, predict, check again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from appliedpapers.core.errors import RunError
from appliedpapers.core.schema import Violation, violations_error
from appliedpapers.core.validation import check

if TYPE_CHECKING:
    from appliedpapers.core.model import GroupProblem, Model


_DEFECT = "This is a defect of the plugin; apps check ID finds more of the kind."


@dataclass(frozen=True)
class Prediction:
    """What came of a prediction.

    Attributes:
        table: Output rows for everything that could be predicted; None when nothing could.
        violations: Broken values and unusable groups, in words.
        rejected: Input row numbers (from 0) that were left out.
    """

    table: pa.Table | None
    violations: tuple[Violation, ...]
    rejected: np.ndarray[tuple[int], np.dtype[np.int64]]


def predict_usable(
    model: Model,
    table: pa.Table,
    *,
    source: str = "input",
    files: Path | None = None,
    first_row: int = 1,
    listed: int = 10_000,
    whole: bool = False,
) -> Prediction:
    """Predict for the rows and groups that keep the contract and name the others.

    Args:
        model: A fitted model.
        table: Input rows of any provenance.
        source: Name of the file or request, for messages.
        files: Where the model may write big results.
        first_row: Number of the first row in messages.
        listed: Most broken values that are listed.
        whole: Predict nothing where anything is left out: an item may take hours.

    Raises:
        DataError: A column is missing or unknown, or there is no row at all.
        RunError: The model broke its own output schema.
    """
    checked = check(table, model.input_schema, source=source, first_row=first_row, listed=listed)
    usable, rejected = checked.table, checked.rejected
    rows = np.delete(np.arange(table.num_rows, dtype=np.int64), rejected)
    violations = list(checked.violations)
    if usable.num_rows:
        problems = model.review(usable)
        if problems:
            mask = _problem_rows(usable, model.input_schema.group_by, problems)
            violations += _problem_violations(model, problems, rows, mask, usable, source, first_row)
            rejected = np.union1d(rejected, rows[mask])
            usable = usable.filter(pa.array(~mask))
    if not usable.num_rows or (whole and violations):
        return Prediction(None, tuple(violations), rejected)
    output = _checked_output(model, usable, model.predict(usable, files=files))
    return Prediction(output, tuple(violations), rejected)


def predict_all(
    model: Model, table: pa.Table, *, source: str = "input", files: Path | None = None
) -> pa.Table:
    """Predict for a table of which every row must keep the contract.

    Raises:
        DataError: A value breaks the contract, or a group cannot be predicted; row and column are named.
    """
    prediction = predict_usable(model, table, source=source, files=files, whole=True)
    if prediction.violations:
        raise violations_error(prediction.violations)
    assert prediction.table is not None
    return prediction.table


def _problem_rows(
    table: pa.Table, group_by: tuple[str, ...], problems: Sequence[GroupProblem]
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    keys = {problem.key for problem in problems}
    if not group_by:
        return np.fromiter(((row,) in keys for row in range(table.num_rows)), bool, table.num_rows)
    columns = (table.column(name).to_pylist() for name in group_by)
    return np.fromiter((key in keys for key in zip(*columns, strict=True)), bool, table.num_rows)


def _problem_violations(
    model: Model,
    problems: Sequence[GroupProblem],
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    mask: np.ndarray[tuple[int], np.dtype[np.bool_]],
    table: pa.Table,
    source: str,
    first_row: int,
) -> list[Violation]:
    group_by = model.input_schema.group_by
    first_of: dict[tuple[object, ...], int] = {}
    columns = [table.column(name).to_pylist() for name in group_by]
    for position in np.flatnonzero(mask):
        key = tuple(column[position] for column in columns) if group_by else (int(position),)
        first_of.setdefault(key, int(rows[position]) + first_row)
    strange = [problem.key for problem in problems if problem.key not in first_of]
    if strange:
        raise RunError(
            f"{type(model).__name__}.review named {strange[0]}, which is not a key of the table.",
            hint=_DEFECT,
        )
    name = ", ".join(group_by) or model.input_schema.names[0]
    return [
        Violation(source, first_of[problem.key], name, ", ".join(map(str, problem.key)), problem.rule)
        for problem in problems
    ]


def _checked_output(model: Model, given: pa.Table, output: pa.Table) -> pa.Table:
    schema, name = model.output_schema, type(model).__name__
    absent = [column for column in schema.arrow_schema().names if column not in output.column_names]
    if absent:
        raise RunError(f"{name} did not return column '{absent[0]}'.", hint=_DEFECT)
    if schema.rows == "per_row" and output.num_rows != given.num_rows:
        raise RunError(f"{name} returned {output.num_rows} rows for {given.num_rows}.", hint=_DEFECT)
    return output.replace_schema_metadata(None)
