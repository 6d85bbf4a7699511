"""The measured figures of mixtures as Markdown, from ``docs/results/mowst.json``.

    python -m benchmarks.mowst_table

writes them between the marks in ``docs/mowst.md``; a test compares.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from appliedpapers.core.files import write_text
from benchmarks.mowst_graphs import COLUMNS, GRAPHS, SHARES

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "docs" / "results" / "mowst.json", ROOT / "docs" / "mowst.md"
_COST = ("share", "loss", "closure")
START, END = "<!-- generated: mowst-{} -->", "<!-- end of mowst-{} -->"


def blocks(document: dict[str, Any]) -> dict[str, str]:
    """Return the generated parts of the page by name."""
    found = {case["name"]: case for case in document["cases"]}
    commits = dict.fromkeys(case["commit"] for case in document["cases"])
    groups = [group for name in GRAPHS for group in _groups(name, found[name]["measured"])]
    return {
        "accuracy": _accuracy(groups),
        "routing": _routing(groups),
        "checks": _checks(document),
        "command": f"`{document['command']}`, commit {', '.join(commits)}, "
        f"torch {document['cases'][0]['versions']['torch']}, one thread.",
    }


def filled(page: str, parts: dict[str, str]) -> str:
    """Return the page with its generated parts written anew."""
    for name, text in parts.items():
        start, end = START.format(name), END.format(name)
        head, rest = page.split(start)
        page = f"{head}{start}\n{text}\n{end}{rest.split(end)[1]}"
    return page


def _groups(name: str, runs: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    runs = [run for run in runs if "split" in run]
    if name == "cora":
        return [("cora, public split", runs[:1]), ("cora, 60/20/20", runs[1:])]
    return [(name, runs)]


def _accuracy(groups: list[tuple[str, list[dict[str, Any]]]]) -> str:
    lines = _head("graph (splits)", *(title for _, title in COLUMNS))
    for name, runs in groups:
        cells = [f"{name} ({len(runs)})"]
        for key, _ in COLUMNS:
            values = [run["accuracy"][key] for run in runs]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.2f}{spread}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _routing(groups: list[tuple[str, list[dict[str, Any]]]]) -> str:
    shares = (f"{share:.0%}" for share in SHARES)
    lines = _head("graph", *shares, "half: routed, lost, neighbourhood", "0.1: routed, lost")
    for name, runs in groups:
        found = [run["routing"] for run in runs]
        cells = [name]
        for index in range(len(SHARES)):
            score = statistics.fmean(item["curve"][index]["score"] for item in found)
            cells.append(f"{100 * score:.2f}")
        half = {key: statistics.fmean(item["half"][key] for item in found) for key in _COST}
        limit = {key: statistics.fmean(item["limit"][key] for item in found) for key in _COST}
        cells.append(f"{half['share']:.0%}, {half['loss']:.2f}, {half['closure']:.0%}")
        cells.append(f"{limit['share']:.0%}, {limit['loss']:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _checks(document: dict[str, Any]) -> str:
    lines = _head("case", "figure", "target", "measured", "")
    for case in document["cases"]:
        for item in case["checks"]:
            missed = "missed (stretch)" if item["pass"] is None else "**missed**"
            verdict = "reached" if item["reached"] else missed
            cells = (case["name"], item["what"], item["target"], f"{item['measured']:.4g}", verdict)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _head(*titles: str) -> list[str]:
    return [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]


if __name__ == "__main__":
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))
    write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), blocks(measured)))
