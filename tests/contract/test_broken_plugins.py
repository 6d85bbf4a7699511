"""Each check of the conformance suite catches the defect that it is there for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tinyplugins.rows.plugin
import tinyplugins.scenes.plugin
import tinyplugins.stream.plugin
import tinyplugins.tasks.plugin

from appliedpapers.core import bundle
from appliedpapers.core.errors import BundleError, ConfigError
from appliedpapers.core.model import FitContext
from appliedpapers.core.testing import CHECKS, Subject, check_plugin, run_check

ROWS = tinyplugins.rows.plugin.PLUGIN
SCENES = tinyplugins.scenes.plugin.PLUGIN
STREAM = tinyplugins.stream.plugin.PLUGIN
TASKS = tinyplugins.tasks.plugin.PLUGIN

DEFECTS = [
    ("light-import", ROWS, "config", "heavy:HeavyConfig", "pandas"),
    ("config", ROWS, "config", "declarations:LooseConfig", "extra.alphax"),
    ("presets", ROWS, "config", "declarations:TwoPresetsConfig", "published is absent"),
    ("presets", ROWS, "config", "declarations:WrongPresetConfig", "preset published"),
    ("simulator", ROWS, "datasets", "declarations:GLOBAL_RANDOMNESS", "the same seed gives other data"),
    ("simulator", ROWS, "datasets", "declarations:ONE_SEED", "another seed gives the same data"),
    ("leakage", ROWS, "datasets", "declarations:LEAKING", "rows in both train and test"),
    ("bad-files", ROWS, "datasets", "declarations:TRACEBACK", "FileNotFoundError instead of a DataError"),
    ("results", ROWS, "evaluation", "declarations:UNKNOWN_METRIC", "rmse is not scored"),
    ("repeatable", ROWS, "model", "models:UnseededFit", "fitted again"),
    ("independent", ROWS, "model", "models:BatchMean", "each alone"),
    ("independent", ROWS, "model", "models:FirstRow", "each alone"),
    ("keys-and-order", ROWS, "model", "models:Sorted", "keys or order differ"),
    ("keys-and-order", ROWS, "model", "models:KeyDropped", "'plot' is not carried over"),
    ("keys-and-order", TASKS, "model", "models:RowLost", "RowLost returned 12 rows"),
    ("keys-and-order", SCENES, "model", "models:GroupTwice", "output rows for 2 groups"),
    ("keys-and-order", STREAM, "model", "models:GroupsMixed", "when groups alternate"),
    ("output-schema", ROWS, "model", "models:WrongType", "'harvest' is string"),
    ("output-schema", ROWS, "model", "models:OutOfRange", "below 1000"),
    ("violations", ROWS, "model", "models:Careless", "without a list of violations"),
    ("threads", ROWS, "model", "models:SharedScratch", "thread"),
    ("streaming", STREAM, "model", "models:DriftingStream", "the stream"),
    ("streaming", STREAM, "model", "models:ForgetfulStream", "moved after"),
    ("streaming", STREAM, "model", "models:PickledState", "neither JSON nor safetensors"),
    ("resumes", SCENES, "model", "models:StartsOver", "not reused"),
    ("save-and-load", ROWS, "model", "models:RoundedWeights", "after loading"),
    ("no-pickle", ROWS, "model", "models:Pickled", "weights.bin is a pickle"),
    ("no-pickle", ROWS, "model", "models:HiddenPickle", "is unpickled"),
]


def broken(spec, part: str, place: str, folder) -> Subject:
    task = spec.tasks[-1]
    defective = replace(task, **{part: f"tinybroken.{place}"})
    return Subject(replace(spec, tasks=(defective,)), defective, folder)


@pytest.mark.parametrize(
    ("check", "spec", "part", "place", "words"), DEFECTS, ids=[f"{row[0]}-{row[3]}" for row in DEFECTS]
)
def test_check_catches_its_defect(tmp_path, check, spec, part, place, words):
    result = run_check(broken(spec, part, place, tmp_path), check)
    assert not result.ok
    assert words in result.detail


def test_a_plugin_without_papers_or_readme_fails_documents(tmp_path):
    bare = replace(ROWS, papers=())
    assert "papers is empty" in run_check(Subject(bare, bare.tasks[0], tmp_path), "documents").detail
    result = run_check(broken(ROWS, "config", "heavy:HeavyConfig", tmp_path), "documents")
    assert "no README.md" in result.detail


@pytest.mark.parametrize("check", ["tampering", "newer-format"])
def test_a_loader_that_verifies_nothing_is_caught(tmp_path, monkeypatch, check):
    honest = bundle.load_bundle

    def trusting(folder, device="cpu", *, spec=None):
        try:
            return honest(folder, device, spec=spec)
        except BundleError:
            return None, None

    monkeypatch.setattr(bundle, "load_bundle", trusting)
    result = run_check(Subject(ROWS, ROWS.tasks[0], tmp_path), check)
    assert not result.ok
    assert "changed bundle was loaded" in result.detail


def test_every_check_has_a_defect_that_it_is_known_to_catch():
    assert {row[0] for row in DEFECTS} | {"documents", "tampering", "newer-format"} == set(CHECKS)


def test_a_fit_that_fails_is_tried_once_and_named_in_every_check(tmp_path, monkeypatch):
    calls = []

    def failing(self, train, valid, run: FitContext, *, init=None):
        calls.append(1)
        raise ValueError("no convergence")

    monkeypatch.setattr("tinyplugins.rows.model.RowsModel.fit", failing)
    results = check_plugin(ROWS, folder=tmp_path, checks=["independent", "threads", "save-and-load"])
    assert [result.ok for result in results] == [False] * 3
    assert all("no convergence" in result.detail for result in results)
    assert len(calls) == 1


def test_an_unknown_check_is_refused_with_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match="unknown check 'tamperin'") as caught:
        check_plugin(ROWS, folder=tmp_path, checks=["tamperin"])
    assert caught.value.hint == "Did you mean 'tampering'?"
