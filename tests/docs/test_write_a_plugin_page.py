"""The page on writing a plugin: its walk leads where it says, and it lists the checks that there are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from appliedpapers.core.testing import CHECKS
from appliedpapers.pipelines.scaffold import new_plugin

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "write-a-plugin.md").read_text(encoding="utf-8")
CHECKED = """
import json, sys
from pathlib import Path
from appliedpapers.core.testing import check_plugin
from harvest_yield.plugin import PLUGIN
results = check_plugin(PLUGIN, folder=Path(sys.argv[1]))
print(json.dumps({result.name: result.detail for result in results if not result.ok}))
"""


def test_the_table_of_checks_is_that_of_the_suite():
    lines = PAGE.splitlines()
    start = lines.index("| check | what it promises |") + 2
    promises = {name: (check.__doc__ or "").splitlines()[0] for name, check in CHECKS.items()}
    told = {name: promise.replace("``", "`").removesuffix(".") for name, promise in promises.items()}
    assert lines[start : start + len(CHECKS) + 1] == [
        *(f"| `{name}` | {promise} |" for name, promise in told.items()),
        "",
    ]


def apply(diff: str, folder: Path) -> None:
    """Do what a reader of the page does: look for the lines that are shown, take away and add."""
    name, *changes = diff.splitlines()
    path = folder / name.removeprefix(" # ")
    lines, at = path.read_text(encoding="utf-8").splitlines(), 0
    for change in changes:
        mark, text = change[0], change[1:]
        if mark == "+":
            lines.insert(at, text)
            at += 1
            continue
        assert lines.count(text) == 1, f"{path.name}: {text!r}"
        at = lines.index(text)
        if mark == "-":
            del lines[at]
        else:
            at += 1
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def failed(folder: Path, scratch: Path) -> dict[str, str]:
    paths = [str(folder / "src"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", CHECKED, str(scratch)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_walk_leads_from_a_skeleton_to_a_column_of_ones_own(tmp_path):
    folder = new_plugin("harvest-yield", tmp_path)
    column, simulator, model = re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL)
    apply(column, folder)
    broken = failed(folder, tmp_path / "broken")
    assert broken
    assert all("column 'nitrogen' is missing" in detail for detail in broken.values())
    apply(simulator, folder)
    apply(model, folder)
    assert failed(folder, tmp_path / "mended") == {}
