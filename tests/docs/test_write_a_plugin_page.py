"""The page on writing a plugin lists the checks that there are, with what each promises."""

from __future__ import annotations

from pathlib import Path

from appliedpapers.core.testing import CHECKS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "write-a-plugin.md"


def test_the_table_of_checks_is_that_of_the_suite():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| check | what it promises |") + 2
    promises = {name: (check.__doc__ or "").splitlines()[0] for name, check in CHECKS.items()}
    told = {name: promise.replace("``", "`").removesuffix(".") for name, promise in promises.items()}
    assert lines[start : start + len(CHECKS) + 1] == [
        *(f"| `{name}` | {promise} |" for name, promise in told.items()),
        "",
    ]
