"""The page on results: made from committed JSON alone, and honest about what was reached."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from appliedpapers.cli.measured import in_words, measured
from appliedpapers.core import plugin as plugins
from benchmarks import compare_all, results_page

ROOT = Path(__file__).resolve().parents[2]
MATRIX = ROOT / "docs" / "results" / "compare.json"


@pytest.fixture(scope="module")
def matrix() -> dict:
    return json.loads(MATRIX.read_text(encoding="utf-8"))


def own() -> list[str]:
    return [item.id for item in plugins.discover() if plugins.BUILT_IN_DISTRIBUTION in item.distributions]


def test_every_plugin_has_a_row_with_its_command():
    rows = results_page.headlines()
    assert {row.plugin for row in rows} == set(own())
    for row in rows:
        assert row.command.split()[0] in ("apps", "python")
        assert row.plugin in row.command


def test_the_verdict_is_what_the_committed_test_says():
    for row in results_page.headlines():
        if row.verdict == "not tested":
            assert row.p is None
            continue
        assert (row.p < 0.05) == (row.verdict in ("better", "worse"))
        assert row.verdict == "not told apart" or (row.gain > 0) == (row.verdict == "better")
        # the gain and both figures speak of the same difference, whichever direction is better
        sign = 1 if row.metric.endswith("↑") else -1
        assert row.gain == pytest.approx(sign * (row.value - row.rival_value), abs=1e-9)
        assert row.low is None or row.low <= row.gain <= row.high


def test_what_was_missed_is_listed_and_nothing_else():
    listed = results_page.missed_table().splitlines()[2:]
    missed = [
        check
        for path in results_page.RESULTS.glob("*.json")
        for case in json.loads(path.read_text(encoding="utf-8")).get("cases", [])
        for check in case["checks"]
        if check["target"] != "reported" and not check["reached"]
    ]
    assert len(listed) == len(missed)
    assert all(any(check["what"] in line for line in listed) for check in missed)


def test_the_package_brings_the_same_rows_for_the_terminal():
    for plugin in own():
        rows = measured(plugin)
        assert rows
        assert all(row["verdict"] in in_words(row)[0] for row in rows)
    assert measured("not-of-this-package") == []


def test_the_committed_matrix_keeps_to_its_schema_and_to_the_suite(matrix):
    compare_all.validate(matrix)
    assert matrix["architectures"] == compare_all.ARCHITECTURES
    assert len(compare_all.ARCHITECTURES) == 10
    assert {part["plugin"] for part in matrix["plugins"]} <= {one.plugin for one in compare_all.SUITE}
    assert {one.plugin for one in compare_all.SUITE} | set(compare_all.LEFT_OUT) == set(own())
    settings = {one.plugin: one for one in compare_all.SUITE}
    for part in matrix["plugins"]:
        assert part["command"] == settings[part["plugin"]].command()
        assert part["synthetic"]
        assert part["baselines"]


def test_a_best_one_is_named_only_where_it_beats_all_others(matrix):
    for part in matrix["plugins"]:
        others = [choice for choice in part["choices"] if not choice["selected"]]
        sign = -1 if part["higher_is_better"] else 1
        won = [
            choice["adjusted_p"] is not None
            and choice["adjusted_p"] < 0.05
            and sign * choice["difference"] > 0
            for choice in others
        ]
        assert (part["best"] is not None) == all(won)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda part: part.pop("verdict"), "verdict"),
        (lambda part: part["choices"][0].update(adjusted_p=1.5), "1.5"),
        (lambda part: part.update(seeds=[1, 1]), "non-unique"),
        (lambda part: part.update(cells=[]), "cells"),
    ],
)
def test_the_schema_refuses_what_readers_could_not_use(matrix, change, named):
    broken = copy.deepcopy(matrix)
    change(broken["plugins"][0])
    with pytest.raises(jsonschema.ValidationError, match=named):
        compare_all.validate(broken)


def test_figures_have_four_digits_that_count():
    shown = [results_page.number(value) for value in (0.123456, -0.5, 123456.0, 1e-9, -0.0, None)]
    assert shown == ["0.1235", "−0.5", "1.2e+05", "1.0e−09", "0", "–"]


def test_speed_is_told_from_what_was_kept(monkeypatch):
    kept = {
        "serving": {
            "command": "python -m benchmarks.serving --keep",
            "figures": [
                {
                    "server": "mlflow",
                    "keep_alive": False,
                    "rate": 73.4,
                    "p50": 109.2,
                    "p99": 204.0,
                    "refused": 0,
                },
                {
                    "server": "ours",
                    "keep_alive": True,
                    "rate": 5950.2,
                    "p50": 1.21,
                    "p99": 3.49,
                    "refused": 0,
                },
            ],
        },
        "overhead": {
            "command": "python -m benchmarks.overhead --keep",
            "figures": [
                {
                    "plugin": "frets",
                    "what": "run",
                    "bare_s": 19.9,
                    "suite_s": 26.3,
                    "bare_mb": 624,
                    "suite_mb": 732,
                },
                {
                    "plugin": "frets",
                    "what": "score",
                    "bare_s": 1.0,
                    "suite_s": 2.0,
                    "bare_mb": 1,
                    "suite_mb": 2,
                },
            ],
        },
    }
    monkeypatch.setattr(results_page, "_read", kept.__getitem__)
    served = results_page.serving_table().splitlines()
    assert served[2] == "| `apps serve` | kept | 5,950 | 1.2 | 3.5 | 0 |"
    assert served[3].startswith("| `mlflow models serve` | new for each request | 73 |")
    assert results_page.overhead_table().splitlines()[2] == "| frets | 19.9 | 26.3 | 6.4 | 624 | 732 |"
    assert results_page.overhead_table().count("| frets |") == 1
