"""What commands print: aligned columns and JSON on stdout, colour only where it carries meaning."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from appliedpapers.core.errors import AppsError


class Interrupted(AppsError):
    """Ctrl-C or SIGTERM ended a command that kept what it had done."""

    exit_code = 130
    label = "interrupted"


_CODES = {"good": "32", "bad": "31", "dim": "2"}
_IN_ASCII = {
    "·": "-",
    "→": "->",
    "●": "*",
    "±": "+-",
    "−": "-",
    "–": "-",
    "×": "x",
    "…": "...",
    "↑": "(higher is better)",
    "↓": "(lower is better)",
}


def settle_streams() -> None:
    """Make stdout and stderr safe to print on: closed ones swallow, narrow ones get plain letters."""
    codecs.register_error("in-ascii", _in_ascii)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # the shell closed it, as in ``apps list >&-``
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="in-ascii")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(letter, "?") for letter in letters), error.end


def paint(text: str, meaning: str) -> str:
    """Colour ``text`` on a terminal (``good``, ``bad`` or ``dim``); nothing is lost without colour."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return f"\x1b[{_CODES[meaning]}m{text}\x1b[0m"


def print_json(document: Any) -> None:
    """Print one JSON document, clean on stdout."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    # where letters would be replaced, JSON escapes them instead and loses nothing
    escape = not encoding.startswith("utf")
    print(json.dumps(document, indent=2, ensure_ascii=escape, default=str, allow_nan=False))


def print_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] | None = None
) -> None:
    """Print aligned columns; the last one is never padded.

    Args:
        header: Names of the columns.
        rows: Cells.
        notes: A dimmed line for below each row, under its second column; none where it is empty.
    """
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for number, row in enumerate(table):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        line = f" {'  '.join([*cells, row[-1]])}".rstrip()
        print(paint(line, "dim") if number == 0 else line)
        if number and notes and notes[number - 1]:
            print(paint(f" {'':<{widths[0]}}  {notes[number - 1]}", "dim"))
