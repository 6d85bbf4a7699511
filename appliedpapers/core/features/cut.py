"""Rows cut into train, valid and test: by time, a column, groups or at random; one byte a row is held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from appliedpapers.core.data import PARTS, part_named
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.features.fields import Fields, Role, column_of
from appliedpapers.core.features.rows import BATCH_ROWS, RowSource
from appliedpapers.core.features.time_cut import boundaries, clock, times_of
from appliedpapers.core.row_hashes import row_hashes

Method = Literal["auto", "time", "column", "group", "random"]
Assignment = NDArray[np.int8]

TRAIN, VALID, TEST, UNUSED = 0, 1, 2, -1
_ROLES: dict[str, Role] = {"time": "timestamp", "column": "split", "group": "group"}
_TENTH = 10


@dataclass(frozen=True)
class Cut:
    """Which part each row belongs to.

    Attributes:
        assignment: ``(rows,)`` int8: 0 train, 1 valid, 2 test, -1 not used.
        protocol: Name of the rule, such as ``"time 80/10/10"``.
        note: One line of how the rows were cut.
        warnings: What a reader of the results must know about it.
        column: The column that decided, or None.
    """

    assignment: Assignment
    protocol: str
    note: str
    warnings: tuple[str, ...] = ()
    column: str | None = None

    def count(self, part: str) -> int:
        """Return how many rows are in ``train``, ``valid`` or ``test``."""
        return int((self.assignment == PARTS.index(part)).sum())

    def batches(
        self,
        source: RowSource,
        part: str,
        columns: Sequence[str] | None = None,
        max_rows: int = BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of one part in the order of the source; batches may be small, never empty."""
        number = PARTS.index(part)

        def wanted(start: int, stop: int) -> bool:
            return bool((self.assignment[start:stop] == number).any())

        for row, batch in source.numbered(columns, max_rows, wanted):
            inside = self.assignment[row : row + batch.num_rows] == number
            if inside.all():
                yield batch
            elif inside.any():
                yield batch.filter(pa.array(inside))


def with_parts(
    source: RowSource, cut: Cut, columns: Sequence[str] | None = None, max_rows: int = BATCH_ROWS
) -> Iterator[tuple[pa.RecordBatch, Assignment]]:
    """Yield all rows with the part of each."""
    row = 0
    for batch in source.batches(columns, max_rows):
        yield batch, cut.assignment[row : row + batch.num_rows]
        row += batch.num_rows


def cut_rows(
    source: RowSource,
    fields: Fields,
    *,
    method: Method = "auto",
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    column: str | None = None,
) -> Cut:
    """Cut rows into train, valid and test.

    ``auto`` follows a split column where there is one, else time, else groups, and cuts at random only
    where nothing of that is known. By time, rows of one instant stay together and the later ones are
    tested on; by group, all rows of a value stay together.

    Args:
        source: The rows; only the column that decides is read, up to a few times.
        fields: Roles of the columns.
        method: The rule.
        shares: Of train, valid and test; positive. A split column overrides them.
        seed: Decides for ``group`` and ``random``, and for valid rows that a split column does not name.
        column: The column that decides, where it is not the one of that role.

    Raises:
        ConfigError: The method needs a column and none has its role, or the shares are not positive.
        DataError: A value is not understood, or a part is left without rows.
    """
    if min(shares) <= 0:
        raise ConfigError(f"shares {shares}: each part needs one.", hint="Such as 0.8, 0.1, 0.1.")
    if method == "auto":
        method = _method(fields)
    if method == "random":
        cut = _at_random(source, shares, seed)
    else:
        name = column or column_of(fields, _ROLES[method])
        if name is None:
            raise ConfigError(
                f"cut by {method}: no column has the role {_ROLES[method]}.",
                hint="Give it to a column, or cut in another way: time, column, group or random.",
            )
        if method == "time":
            text_format = fields[name].format if name in fields else None
            cut = _by_time(source, name, text_format, shares)
        elif method == "group":
            cut = _by_group(source, name, shares, seed)
        else:
            cut = _by_column(source, name, seed)
    _require_rows(source, cut)
    return cut


def _method(fields: Fields) -> Literal["time", "column", "group", "random"]:
    known: tuple[Literal["column", "time", "group"], ...] = ("column", "time", "group")
    return next((method for method in known if column_of(fields, _ROLES[method])), "random")


def _percent(shares: Sequence[float]) -> str:
    return "/".join(f"{100 * share / sum(shares):.3g}" for share in shares)


def _steps(shares: Sequence[float]) -> NDArray[np.float64]:
    return np.cumsum(shares)[:2] / sum(shares)


def _at_random(source: RowSource, shares: tuple[float, float, float], seed: int) -> Cut:
    ends = np.rint(_steps(shares) * source.num_rows).astype(np.int64)
    assignment = np.full(source.num_rows, TEST, np.int8)
    assignment[: ends[0]] = TRAIN
    assignment[ends[0] : ends[1]] = VALID
    np.random.default_rng(seed).shuffle(assignment)
    warning = (
        "rows were cut at random: a user's other rows, and later ones, are learned from, "
        "which a model in use cannot do"
    )
    return Cut(assignment, f"random {_percent(shares)}", "at random, by the seed", (warning,))


def _by_time(
    source: RowSource, column: str, text_format: str | None, shares: tuple[float, float, float]
) -> Cut:
    stream = times_of(source, column, text_format)
    first, second = boundaries(stream, _steps(shares), column, source.name)
    assignment = np.empty(source.num_rows, np.int8)
    row = 0
    for times, missing in stream():
        parts = (times >= first).astype(np.int8) + (times >= second).astype(np.int8)
        assignment[row : row + len(parts)] = np.where(missing, UNUSED, parts)
        row += len(parts)
    return Cut(
        assignment,
        f"time {_percent(shares)}",
        f"by {column}: train before {clock(first)}, valid before {clock(second)}, test from then on",
        _left_out(assignment, column),
        column,
    )


def _by_group(source: RowSource, column: str, shares: tuple[float, float, float], seed: int) -> Cut:
    ends = (_steps(shares) * float(2**64)).astype(np.uint64)
    assignment = np.empty(source.num_rows, np.int8)
    row = 0
    for batch in source.batches([column]):
        values = batch.column(0)
        salted = pa.table([values, pa.repeat(seed, len(values))], names=[column, "seed"])
        places = row_hashes(salted)
        parts = (places >= ends[0]).astype(np.int8) + (places >= ends[1]).astype(np.int8)
        assignment[row : row + len(parts)] = np.where(np.asarray(pc.is_null(values)), UNUSED, parts)
        row += len(parts)
    return Cut(
        assignment,
        f"group {_percent(shares)}",
        f"by {column}: all rows of a value are in one part",
        _left_out(assignment, column),
        column,
    )


def _by_column(source: RowSource, column: str, seed: int) -> Cut:
    assignment = np.empty(source.num_rows, np.int8)
    row = 0
    for batch in source.batches([column]):
        parts = _named_parts(batch.column(0), column, source.name)
        assignment[row : row + len(parts)] = parts
        row += len(parts)
    cut = Cut(
        assignment, f"column {column}", f"as column {column} says", _left_out(assignment, column), column
    )
    if cut.count("test") and not cut.count("valid"):
        rows = np.flatnonzero(assignment == TRAIN)
        tenth = np.random.default_rng(seed).choice(rows, len(rows) // _TENTH, replace=False)
        assignment[tenth] = VALID
        note = f"as column {column} says, and a random tenth of train as valid, which it does not name"
        cut = replace(cut, note=note, protocol=f"column {column}, valid a tenth of train")
    return cut


def _named_parts(values: pa.Array, column: str, name: str) -> Assignment:
    coded = pc.dictionary_encode(values)
    known = []
    for value in coded.dictionary.to_pylist():
        # a column of codes that once had a gap is read as floats
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        part = part_named(text)
        if part is None:
            raise DataError(
                f"{name}: column '{column}' holds '{text[:40]}', which names no part.",
                hint="Expected train, valid and test, or 0, 1 and 2.",
            )
        known.append(PARTS.index(part))
    # one more for rows that name no part
    lookup = np.array([*known, UNUSED], np.int8)
    return np.asarray(lookup[np.asarray(pc.fill_null(coded.indices, len(known)))], np.int8)


def _left_out(assignment: Assignment, column: str) -> tuple[str, ...]:
    missing = int((assignment == UNUSED).sum())
    return (f"{missing:,} rows without {column} are not used",) if missing else ()


def _require_rows(source: RowSource, cut: Cut) -> None:
    counts = {part: cut.count(part) for part in PARTS}
    for part, count in counts.items():
        if not count:
            shown = ", ".join(f"{name} {rows:,}" for name, rows in counts.items())
            raise DataError(
                f"{source.name}: no {part} rows when cut by {cut.protocol} ({shown}).",
                hint="Bring more rows, other shares, or cut in another way: time, column, group or random.",
            )
