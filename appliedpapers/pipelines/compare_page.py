"""A comparison as people see it: one HTML page, and the same tables in the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliedpapers.core.files import write_text
from appliedpapers.core.page import page_template
from appliedpapers.core.verdict import SIGNIFICANT, format_p, primary_metric, selected_model, verdict
from appliedpapers.pipelines.results_table import Line, format_number, results_table

PAGE = "comparison.html"


@dataclass(frozen=True)
class CompareLine:
    """One choice or baseline.

    Attributes:
        line: As a run would show it.
        parameters: How many numbers were learned; empty for a baseline.
        seconds: Mean time of a fit; empty for a baseline.
        spread: Standard deviation of the primary metric over the seeds; empty for a baseline or one seed.
        difference: Against the selected choice, signed.
        p: In words; of the other choices adjusted for how many there are.
    """

    line: Line
    parameters: str
    seconds: str
    spread: str
    difference: str
    p: str


@dataclass(frozen=True)
class CompareTable:
    """One plugin's table.

    Attributes:
        title: Plugin and data.
        columns: The metrics.
        lines: Choices first, the selected one leading, then baselines.
        verdict: Against the baselines, in words.
        choice: Whether the choice matters, in words.
        results: The results document.
    """

    title: str
    columns: tuple[str, ...]
    lines: tuple[CompareLine, ...]
    verdict: str
    choice: str
    results: Mapping[str, Any]


def compare_table(part: Mapping[str, Any]) -> CompareTable:
    """Lay out one plugin's part of the document."""
    results = part["results"]
    table = results_table(results)
    primary = primary_metric(results)
    choices = {choice["label"]: choice for choice in part["choices"]}
    pairs = {pair["b"]: pair for pair in part["pairs"]}
    lines = [
        _line(line, choices.get(line.model), pairs.get(line.model), results, primary) for line in table.lines
    ]
    return CompareTable(
        f"{results['plugin']} on {results['dataset']}",
        table.columns,
        tuple(sorted(lines, key=lambda one: one.line.role != "ours")),
        verdict(results),
        choice_in_words(part),
        results,
    )


def write_page(output: Path, document: Mapping[str, Any]) -> Path:
    """Write the page of a comparison.

    Args:
        output: Its folder.
        document: ``comparison.json``.

    Returns:
        Path of the page.
    """
    tables = [compare_table(part) for part in document["plugins"]]
    page = page_template("appliedpapers.pipelines", PAGE).render(
        tables=tables, command=document["command"], seeds=_seeds(document)
    )
    write_text(output / PAGE, page)
    return output / PAGE


def render_comparison(document: Mapping[str, Any]) -> str:
    """Return the tables for a terminal."""
    return "\n\n".join("\n".join(_lines_of(compare_table(part))) for part in document["plugins"])


def _line(
    line: Line,
    choice: Mapping[str, Any] | None,
    pair: Mapping[str, Any] | None,
    results: Mapping[str, Any],
    primary: str,
) -> CompareLine:
    if choice is None:
        return CompareLine(line, "", "", "", line.difference, line.p)
    values = [
        row["value"]
        for row in results["rows"]
        if row["model"] == line.model
        and row["metric"] == primary
        and row["seed"] is not None
        and row["value"] is not None
    ]
    decimals = _decimals(line.numbers[0].text)
    spread = format_number(statistics.stdev(values), decimals + 1) if len(values) > 1 else ""
    difference, p = "", ""
    if pair is not None:
        text = format_number(pair["difference"], decimals)
        difference = f"+{text}" if (pair["difference"] or 0) >= 0 else text
        p = format_p(pair["adjusted_p"])
    seconds = f"{statistics.fmean(choice['seconds']):,.1f}"
    return CompareLine(line, choice["parameters"], seconds, spread, difference, p)


def _decimals(text: str) -> int:
    return len(text.partition(".")[2]) if "e" not in text else 7


def choice_in_words(part: Mapping[str, Any]) -> str:
    """Say whether the choices differ, which people ask first."""
    results, pairs = part["results"], part["pairs"]
    best, metric = selected_model(results), primary_metric(results)
    if not pairs:
        return f"{best} stands alone: nothing was varied."
    higher = next(row for row in results["rows"] if row["selected"])["higher_is_better"]
    sign = -1 if higher else 1
    known = [pair for pair in pairs if pair["adjusted_p"] is not None]
    if not known:
        return (
            f"{best} was chosen on the validation rows; there are too few test units to tell choices apart."
        )
    sure = [pair for pair in known if pair["adjusted_p"] < SIGNIFICANT]
    worse = [pair["b"] for pair in sure if sign * pair["difference"] > 0]
    better = [pair["b"] for pair in sure if sign * pair["difference"] < 0]
    rest = len(pairs) - len(worse) - len(better)
    said = [f"{best} was chosen on valid."]
    if worse:
        said.append(f"On the test rows its {metric} is better than that of {', '.join(worse)}.")
    if better:
        said.append(f"On the test rows {', '.join(better)} turned out better.")
    if rest:
        others = "the other" if len(pairs) == 1 else f"the {len(pairs)} others"
        said.append(f"It cannot be told apart from {others if rest == len(pairs) else f'{rest} of them'}.")
    return " ".join(said)


def _seeds(document: Mapping[str, Any]) -> int:
    return max(len(part["results"]["seeds"]) for part in document["plugins"])


def _lines_of(table: CompareTable) -> Iterator[str]:
    synthetic = " (synthetic)" if table.results["synthetic"] else ""
    yield f" {table.title}{synthetic} · test, n = {table.results['test_size']:,}"
    head = ["choice", table.columns[0], "over seeds", "parameters", "fit s", "against best", "p"]
    rows = [
        [
            f"{'●' if one.line.note == 'selected' else ' '} {one.line.model}",
            str(one.line.numbers[0]),
            f"±{one.spread}" if one.spread else "",
            one.parameters,
            one.seconds,
            one.difference,
            one.p.removeprefix("p "),
        ]
        for one in table.lines
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    yield _row(head, widths)
    ours = sum(one.line.role == "ours" for one in table.lines)
    for number, row in enumerate(rows):
        if number == ours:
            yield "  baselines"
        yield _row(row, widths)
    for text in table.results["warnings"]:
        yield f" note: {text}"
    yield f" {table.choice}"
    yield f" {table.verdict}"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    parts = [f" {first[0]:<{first[1]}}", *(f"{text:>{width}}" for text, width in rest)]
    return "   ".join(parts).rstrip()
