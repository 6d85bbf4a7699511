"""What commands print: aligned columns and JSON on stdout, colour only where it carries meaning."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

_CODES = {"good": "32", "bad": "31", "dim": "2"}


def paint(text: str, meaning: str) -> str:
    """Colour ``text`` on a terminal (``good``, ``bad`` or ``dim``); nothing is lost without colour."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return f"\x1b[{_CODES[meaning]}m{text}\x1b[0m"


def print_json(document: Any) -> None:
    """Print one JSON document, clean on stdout."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=str, allow_nan=False))


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; the last one is never padded."""
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for number, row in enumerate(table):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        line = f" {'  '.join([*cells, row[-1]])}".rstrip()
        print(paint(line, "dim") if number == 0 else line)


def terminal_width() -> int:
    """Return the width of the terminal, 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns
