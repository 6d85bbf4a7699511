"""The matrix in a reduced form: a tiny plugin goes all the way from the command to the small JSON."""

from __future__ import annotations

import json

import pytest

from benchmarks import compare_all
from benchmarks.compare_all import Setting, main, measure, merge

HEADS = ("mlp", "swiglu")


@pytest.fixture
def suite(monkeypatch):
    """Let the matrix be of one plugin whose cells take a moment."""
    setting = Setting("tiny-rows", "quick", "its ridge", over="alpha", seeds=2)
    monkeypatch.setattr(compare_all, "SUITE", (setting,))
    monkeypatch.setattr(compare_all, "LEFT_OUT", {})
    return setting


def test_one_plugin_goes_from_the_setting_to_the_document(suite, tmp_path):
    entry, failures = measure(suite, tmp_path, quiet=True, heads=("0.001", "1", "1000"))
    assert failures == ()
    assert [choice["spec"] for choice in entry["choices"]] == ["0.001", "1", "1000"]
    assert sum(choice["selected"] for choice in entry["choices"]) == 1
    assert entry["command"].endswith("--seeds 2")
    assert len(entry["seeds"]) == 2
    # the selected one has nothing to be compared with; the others have
    assert all((choice["difference"] is None) == choice["selected"] for choice in entry["choices"])
    path = tmp_path / "compare.json"
    merge(path, entry)
    merge(path, entry)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert [part["plugin"] for part in document["plugins"]] == ["tiny-rows"]


def test_a_second_matrix_takes_what_is_done(suite, tmp_path):
    first, _ = measure(suite, tmp_path, quiet=True, heads=("1", "1000"))
    cells = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("cell.json")}
    assert len(cells) == 4
    again, _ = measure(suite, tmp_path, quiet=True, heads=("1", "1000"))
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("cell.json")} == cells


def test_the_command_keeps_the_others_and_says_what_could_not_be_fitted(suite, tmp_path, capsys):
    words = ["--output", str(tmp_path / "cells"), "--results", str(tmp_path / "compare.json"), "--quiet"]
    # the ten are no values of alpha
    assert main(words) == 1
    assert "not compared" in capsys.readouterr().err
    assert not (tmp_path / "compare.json").exists()


def test_the_commands_are_listed_and_an_unknown_plugin_is_refused(suite, capsys):
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.startswith("apps compare tiny-rows --preset quick --over 'alpha=[mlp, ")
    assert main(["--only", "nobody"]) == 2
    assert "'nobody' is not in the matrix: tiny-rows" in capsys.readouterr().err


def test_every_setting_of_the_matrix_is_accepted_by_its_plugin():
    from appliedpapers.pipelines.compare_choices import choices

    for setting in compare_all.SUITE:
        found = choices(
            setting.plugin,
            [setting.overs(HEADS)],
            task=setting.task,
            preset=setting.preset,
            assignments=setting.assignments,
        )
        assert [choice.label for choice in found] == list(HEADS)
