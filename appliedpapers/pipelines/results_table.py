"""The results table as cells: what the terminal, the report and the model card print alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliedpapers.core.verdict import (
    format_p,
    headline,
    primary_metric,
    selected_model,
    strongest_baseline,
)

_WORST_SHOWN = 8
_SCALE_ROWS = 4
_NOTED = ("bound", "published")


@dataclass(frozen=True)
class Number:
    """A value as it is printed, with half of its interval."""

    text: str
    half: str = ""

    def __str__(self) -> str:
        return f"{self.text} ±{self.half}" if self.half else self.text


@dataclass(frozen=True)
class Bar:
    """An interval on a scale from 0 to 100.

    Attributes:
        low: Lower end.
        value: The value.
        high: Upper end.
        beyond: True when the value lies off the scale and is drawn at its edge.
    """

    low: float
    value: float
    high: float
    beyond: bool


@dataclass(frozen=True)
class Line:
    """One model in the table.

    Attributes:
        model: Its name.
        role: ``ours``, ``strongest``, ``baseline``, ``bound`` (an oracle) or ``published``.
        note: What stands behind the name, such as ``selected``.
        numbers: One for each column.
        difference: Against ours on the primary metric, signed; empty without a test.
        p: Its p value in words.
        bar: The primary metric's interval.
    """

    model: str
    role: str
    note: str
    numbers: tuple[Number, ...]
    difference: str
    p: str
    bar: Bar | None


@dataclass(frozen=True)
class Table:
    """The headline table: the selected model first, the others by the primary metric."""

    columns: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class SliceLine:
    """One part of the test set.

    Attributes:
        name: Its labels.
        n: Scored units.
        ours: The selected model's value.
        rival: The strongest baseline's value; empty without one.
        worse: True when ours is worse than the rival.
    """

    name: str
    n: int
    ours: Number
    rival: str
    worse: bool


@dataclass(frozen=True)
class Slices:
    """Where the selected model does worst, by the primary metric.

    Attributes:
        metric: Column header.
        rival: Name of the strongest baseline; empty without one.
        lines: The worst first, at most eight.
        total: How many slices there are.
        behind: In how many of them ours is worse than the rival.
    """

    metric: str
    rival: str
    lines: tuple[SliceLine, ...]
    total: int
    behind: int


def results_table(document: Mapping[str, Any]) -> Table:
    """Lay out the rows of the whole test set."""
    rows = headline(document)
    ours, primary = selected_model(document), primary_metric(document)
    names = list(dict.fromkeys(row["metric"] for row in rows))
    first = {name: next(row for row in rows if row["metric"] == name) for name in names}
    decimals = {name: _decimals([row for row in rows if row["metric"] == name]) for name in names}
    strongest = strongest_baseline(document)
    tests = {test["b"]: test for test in document["tests"]}
    models = _ordered(rows, ours, primary)
    scale = _scale([_row_of(rows, key, primary) for key in models], ours)
    lines = []
    for model, kind in models:
        role = _role(model, kind, ours, strongest, tests)
        test = tests.get(model) if kind != "published" else None
        cells = [_row_of(rows, (model, kind), name) for name in names]
        lines.append(
            Line(
                model,
                role,
                "selected" if model == ours and role == "ours" else role if role in _NOTED else "",
                tuple(_number(row, decimals[name]) for row, name in zip(cells, names, strict=True)),
                "" if test is None else _signed(test["difference"], decimals[primary]),
                "" if test is None else format_p(test["p"]),
                _bar(_row_of(rows, (model, kind), primary), scale),
            )
        )
    return Table(tuple(column_header(first[name]) for name in names), tuple(lines))


def column_header(row: Mapping[str, Any]) -> str:
    """Return ``mse ↓``, with the unit where there is one."""
    arrow = {True: " ↑", False: " ↓", None: ""}[row["higher_is_better"]]
    unit = f" [{row['unit']}]" if row["unit"] else ""
    return f"{row['metric']}{unit}{arrow}"


def worst_slices(document: Mapping[str, Any]) -> Slices | None:
    """Return the slices where the selected model does worst, or None without slices."""
    ours, primary = selected_model(document), primary_metric(document)
    strongest = strongest_baseline(document)
    rival = strongest["b"] if strongest else ""
    rows = [
        row
        for row in document["rows"]
        if row["slice"] and row["seed"] is None and row["metric"] == primary and row["value"] is not None
    ]
    mine = [row for row in rows if row["model"] == ours]
    if not mine:
        return None
    theirs = {_label(row): row["value"] for row in rows if row["model"] == rival}
    sign = -1 if mine[0]["higher_is_better"] else 1
    decimals = _decimals(mine)
    lines = [
        SliceLine(
            _label(row),
            row["n"],
            _number(row, decimals),
            format_number(theirs[_label(row)], decimals) if _label(row) in theirs else "",
            _label(row) in theirs and sign * row["value"] > sign * theirs[_label(row)],
        )
        for row in sorted(mine, key=lambda row: sign * row["value"], reverse=True)
    ]
    behind = sum(line.worse for line in lines)
    header = column_header(mine[0])
    return Slices(header, rival if theirs else "", tuple(lines[:_WORST_SHOWN]), len(lines), behind)


def format_number(value: float | None, decimals: int) -> str:
    """Return a number with thousands separators, ``–`` for none, in powers of ten when very small."""
    if value is None:
        return "–"
    if decimals > 6:
        return f"{value:.2e}"
    return f"{value:,.{decimals}f}".replace("-", "−")


def _ordered(rows: Sequence[Mapping[str, Any]], ours: str, primary: str) -> list[tuple[str, str]]:
    keys = list(dict.fromkeys((row["model"], row["kind"]) for row in rows))

    def place(key: tuple[str, str]) -> tuple[bool, float]:
        row = _row_of(rows, key, primary)
        if row is None or row["value"] is None:
            return (key[0] != ours, math.inf)
        return (
            key[0] != ours or key[1] == "published",
            -row["value"] if row["higher_is_better"] else row["value"],
        )

    return sorted(keys, key=place)


def _row_of(rows: Sequence[Mapping[str, Any]], key: tuple[str, str], name: str) -> Mapping[str, Any] | None:
    return next((row for row in rows if (row["model"], row["kind"]) == key and row["metric"] == name), None)


def _role(
    model: str, kind: str, ours: str, strongest: Mapping[str, Any] | None, tests: Mapping[str, Any]
) -> str:
    if kind == "published":
        return "published"
    if model == ours or kind == "ours":
        return "ours"
    if model not in tests:
        return "bound"
    return "strongest" if strongest is not None and model == strongest["b"] else "baseline"


def _decimals(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return so many decimals that the smallest interval shows one digit and every value three."""
    halves = [_half(row) for row in rows]
    known = [half for half in halves if half]
    values = [abs(row["value"]) for row in rows if row["value"]]
    wanted = [-math.floor(math.log10(min(known)))] if known else []
    if values:
        # wide intervals must not make different models look the same
        wanted.append(2 - math.floor(math.log10(min(values))))
    return max(0, *wanted, 0)


def _half(row: Mapping[str, Any]) -> float | None:
    if row["low"] is None or row["high"] is None:
        return None
    return float(row["high"] - row["low"]) / 2


def _number(row: Mapping[str, Any] | None, decimals: int) -> Number:
    if row is None:
        return Number("–")
    half = _half(row)
    return Number(
        format_number(row["value"], decimals), "" if half is None else format_number(half, decimals)
    )


def _signed(value: float | None, decimals: int) -> str:
    text = format_number(value, decimals)
    return f"+{text}" if value is not None and value >= 0 else text


def _label(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in row["slice"].items())


def _scale(rows: Sequence[Mapping[str, Any] | None], ours: str) -> tuple[float, float] | None:
    """Return the ends of the bars' scale: it fits ours and the best others, so that these stay apart."""
    known = [row for row in rows if row is not None and row["value"] is not None]
    close = [row for row in known if row["model"] == ours] + known[1 : 1 + _SCALE_ROWS]
    ends = [end for row in close for end in (row["low"], row["high"], row["value"]) if end is not None]
    if not ends or max(ends) == min(ends):
        return None
    margin = 0.06 * (max(ends) - min(ends))
    return min(ends) - margin, max(ends) + margin


def _bar(row: Mapping[str, Any] | None, scale: tuple[float, float] | None) -> Bar | None:
    if row is None or row["value"] is None or scale is None:
        return None

    def at(value: float | None) -> float:
        shown = row["value"] if value is None else value
        return min(100.0, max(0.0, 100 * (shown - scale[0]) / (scale[1] - scale[0])))

    beyond = not scale[0] <= row["value"] <= scale[1]
    return Bar(at(row["low"]), at(row["value"]), at(row["high"]), beyond)
