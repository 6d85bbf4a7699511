"""What was measured of each plugin, as the package brings it: the first table of the page on results."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

_FILE = "measured.json"


def measured(plugin: str) -> list[dict[str, Any]]:
    """Return the rows of a plugin: its figure, the strongest baseline, the verdict, what is printed.

    A plugin of another distribution has none.
    """
    text = files("appliedpapers.plugins").joinpath(_FILE).read_text(encoding="utf-8")
    return list(json.loads(text).get(plugin, []))


def in_words(row: dict[str, Any]) -> list[str]:
    """Return two lines for a terminal: the figures, and the command that repeats them."""
    metric, _, arrow = row["metric"].rpartition(" ")
    said = f"{row['dataset']}, {row['what']}: {metric} {arrow} {row['value']:.4g}"
    if row["rival"] is not None:
        said += f" · strongest baseline, {row['rival']}, {row['rival_value']:.4g}: {row['verdict']}"
    if row["published"]:
        names = {name for name, _ in row["published"]}
        best = (max if arrow == "↑" else min)(value for _, value in row["published"])
        said += f" · printed {best:.4g}{f' (best of {len(names)} models)' if len(names) > 1 else ''}"
    return [said, f"  {row['command']}"]
