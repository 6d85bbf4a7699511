"""Every claim on the page about security stands there in these words, and is held by tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from benchmarks import fuzz

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
CLAIMS, _, HELD = PAGE.partition("## What holds it")
ROWS = [row for row in re.findall(r"^\| (.+?) \| (.+?) \|$", HELD, re.MULTILINE) if row[0] != "claim"]
# advice to the reader, and what is left to him
ADVICE = ("`constraints.txt` lists", "Whoever writes to the MLflow store")


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("claim", "tests"), ROWS, ids=[claim for claim, _ in ROWS])
def test_a_claim_is_held_by_tests_that_exist(claim, tests):
    assert claim in " ".join(CLAIMS.split())
    named = re.findall(r"`([\w/.]+)::(\w+)`", tests)
    assert named
    assert len(named) == len(tests.split("<br>"))
    for file, name in named:
        assert name in functions_of(file), f"{file} has no {name}"


def test_every_point_of_the_page_is_held():
    points = re.findall(r"^- (.+?)(?=^- |^$|\Z)", CLAIMS, re.MULTILINE | re.DOTALL)
    plain = [" ".join(point.split()) for point in points]
    assert len(plain) > 15
    bare = [point for point in plain if not any(claim in point for claim, _ in ROWS)]
    assert [point for point in bare if not point.startswith(ADVICE)] == []


def test_the_limits_of_fuzzing_are_those_on_the_page():
    said = " ".join(CLAIMS.split())
    assert f"{fuzz.CASES:,} damaged" in said
    assert f"at most {fuzz.MOST_SECONDS:g} s of CPU" in said
    assert fuzz.MOST_MEGABYTES == 1024
    assert "more than 1 GiB" in said
