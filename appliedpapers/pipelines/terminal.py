"""The results table in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliedpapers.core.verdict import verdict
from appliedpapers.pipelines.results_table import Line, results_table

_MOST_METRICS = 5
_NAME_WIDTH = 30


def render_results(document: Mapping[str, Any], *, markup: bool = False) -> str:
    """Return the results table, its warnings and the verdict in words.

    Args:
        document: A results document.
        markup: Add rich markup (ours bold, published dim); nothing is lost without it.
    """
    table = results_table(document)
    columns = table.columns[:_MOST_METRICS]
    cells = [[str(number) for number in line.numbers[: len(columns)]] for line in table.lines]
    widths = [
        max(len(text) for text in (header, *(row[number] for row in cells)))
        for number, header in enumerate(columns)
    ]
    names = [_name(line) for line in table.lines]
    title = f"test, n = {document['test_size']:,}" + (" (synthetic)" if document["synthetic"] else "")
    first = max(len(text) for text in (title, *(f"  {name}" for name in names)))
    against = _against(table.lines)
    head = [f" {title:<{first}}", *(f"{text:>{width}}" for text, width in zip(columns, widths, strict=True))]
    lines = ["   ".join([*head, "against ours"] if any(against) else head)]
    for line, name, row, other in zip(table.lines, names, cells, against, strict=True):
        mark = "●" if line.note == "selected" else " "
        parts = [
            f" {f'{mark} {name}':<{first}}",
            *(f"{text:>{width}}" for text, width in zip(row, widths, strict=True)),
        ]
        lines.append(_styled("   ".join([*parts, other]).rstrip(), line, markup))
    if len(table.columns) > len(columns):
        more = len(table.columns) - len(columns)
        lines.append(f" {more} more {'metric is' if more == 1 else 'metrics are'} in the report.")
    lines += [_escaped(f" note: {_printable(text)}", markup) for text in document["warnings"]]
    sentence = _printable(verdict(document))
    lines.append(_escaped(f" In words: {sentence[0].lower()}{sentence[1:]}", markup))
    return "\n".join(lines)


def _name(line: Line) -> str:
    name = _printable(line.model)
    if len(name) > _NAME_WIDTH:
        name = f"{name[: _NAME_WIDTH - 1]}…"
    return f"{name} ({line.note})" if line.note else name


def _against(lines: tuple[Line, ...]) -> list[str]:
    width = max(len(line.difference) for line in lines)
    return [f"{line.difference:>{width}}  {line.p}" if line.difference else "" for line in lines]


def _printable(text: str) -> str:
    """Leave out control characters: a model's or a column's name must not drive the terminal."""
    return "".join(letter for letter in text if letter.isprintable())


def _escaped(text: str, markup: bool) -> str:
    if not markup:
        return text
    from rich.markup import escape

    return escape(text)


def _styled(text: str, line: Line, markup: bool) -> str:
    if not markup:
        return text
    style = "bold" if line.note == "selected" else "dim" if line.role == "published" else ""
    return f"[{style}]{_escaped(text, True)}[/{style}]" if style else _escaped(text, True)
