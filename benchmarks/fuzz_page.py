"""What fuzzing found, as a table for the page about security."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_FILE = Path(__file__).resolve().parents[1] / "docs" / "results" / "fuzz.json"


def fuzz_table() -> str:
    """Return a line for each target of the committed run, and what came of all of them."""
    if not _FILE.is_file():
        return "Not measured yet: `make acceptance PLUGIN=fuzz` writes `docs/results/fuzz.json`."
    document = json.loads(_FILE.read_text(encoding="utf-8"))
    lines = [
        "| what is read | contents | read | refused | defects | slowest, s of CPU | memory grew, MB |",
        "|---|---|---|---|---|---|---|",
        *map(_line, document["targets"]),
    ]
    found = document["defects"]
    commits = sorted({entry["commit"] for entry in document["targets"]})
    total = (
        f"{document['tried']:,} contents for {len(document['targets'])} targets, "
        f"{found or 'no'} {'defect' if found == 1 else 'defects'}; by `{document['command']}`, "
        f"seed {document['seed']}, at {' and '.join(f'`{commit}`' for commit in commits)}."
    )
    return "\n".join([*lines, "", total, *_untried(document["targets"])])


def _untried(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the targets that such a run has not reached; the suite tries most of them in a reduced form."""
    # hypothesis, and all that is fuzzed, is loaded for this sentence alone
    from benchmarks.fuzz import TARGETS

    done = {entry["name"] for entry in entries}
    left = [f"`{target.name}`" for target in TARGETS if target.name not in done]
    if not left:
        return []
    return [f"Of {len(TARGETS)} targets these have not had such a run at this state: {', '.join(left)}."]


def _line(entry: Mapping[str, Any]) -> str:
    cells = (
        f"{entry['what']} (`{entry['name']}`)",
        f"{entry['cases']:,}",
        f"{entry['read']:,}",
        f"{sum(entry['refused'].values()):,}",
        str(len(entry["defects"])),
        f"{entry['slowest_cpu_seconds']:.2f}",
        f"{entry['memory_growth_mb']:.0f}",
    )
    return f"| {' | '.join(cells)} |"
