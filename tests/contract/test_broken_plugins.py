"""Each check of the conformance suite catches the defect that it is there for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tinyplugins.rows.plugin
import tinyplugins.scenes.plugin
import tinyplugins.stream.plugin
import tinyplugins.tasks.plugin

from appliedpapers.core import bundle
from appliedpapers.core.errors import BundleError, ConfigError, DataError
from appliedpapers.core.model import FitContext
from appliedpapers.core.testing import CHECKS, Subject, check_plugin, run_check, subjects
from appliedpapers.core.validation import Validated, check

ROWS = tinyplugins.rows.plugin.PLUGIN
SCENES = tinyplugins.scenes.plugin.PLUGIN
STREAM = tinyplugins.stream.plugin.PLUGIN
TASKS = tinyplugins.tasks.plugin.PLUGIN
UNLISTED = replace(ROWS, id="not-installed")
HONEST = bundle.load_bundle


def _nothing_wrong(table, schema, **options):
    return Validated(table, (), np.empty(0, np.int64))


def _the_row_below(table, schema, **options):
    return check(table, schema, **options | {"first_row": 2})


def _no_names(table, schema, **options):
    try:
        return check(table, schema, **options)
    except DataError:
        raise DataError("something is missing.") from None


def _trusting(folder, device="cpu", *, spec=None):
    try:
        return HONEST(folder, device, spec=spec)
    except BundleError:
        return None, None


def _crashing(folder, device="cpu", *, spec=None):
    try:
        return HONEST(folder, device, spec=spec)
    except BundleError as error:
        raise ValueError(str(error)) from None


def _vague(folder, device="cpu", *, spec=None):
    try:
        return HONEST(folder, device, spec=spec)
    except BundleError:
        raise BundleError("no.") from None


# check, tiny plugin, part that is replaced, by what, words of the message
DEFECTS = [
    ("light-import", ROWS, "config", "heavy:HeavyConfig", "loads pandas"),
    ("light-import", UNLISTED, "config", "door.config:DoorConfig", "loads scipy"),
    ("light-import", ROWS, "config", "absent:Config", "No module named 'tinybroken.absent'"),
    ("config", ROWS, "config", "declarations:LooseConfig", "extra.alphax"),
    ("config", ROWS, "config", "declarations:DriftingConfig", "YAML changes the configuration"),
    ("config", ROWS, "config", "declarations:UnwritableConfig", "has no JSON Schema"),
    ("presets", ROWS, "config", "declarations:TwoPresetsConfig", "published is absent"),
    ("presets", ROWS, "config", "declarations:WrongPresetConfig", "preset published"),
    ("simulator", ROWS, "datasets", "declarations:GLOBAL_RANDOMNESS", "the same seed gives other data"),
    ("simulator", ROWS, "datasets", "declarations:ONE_SEED", "another seed gives the same data"),
    ("simulator", ROWS, "datasets", "declarations:NOT_SYNTHETIC", "synthetic must be True"),
    ("leakage", ROWS, "datasets", "declarations:LEAKING", "rows in both train and test"),
    ("leakage", ROWS, "datasets", "declarations:SHARED_GROUPS", "values of 'soil' in both"),
    ("leakage", ROWS, "datasets", "declarations:SAME_CONTENTS", "identical contents in both"),
    ("splits", ROWS, "datasets", "declarations:WHOLE_AT_ONCE", "rows at once"),
    ("splits", ROWS, "datasets", "declarations:FIRST_BATCH", "yields other rows than batches()"),
    ("splits", ROWS, "datasets", "declarations:TWICE_IN_TRAIN", "train: 2 keys stand there twice"),
    ("splits", ROWS, "datasets", "declarations:MANY_EXAMPLES", "example(1) returns 5 rows"),
    ("splits", ROWS, "datasets", "declarations:TARGET_SENT", "holds 'harvest'"),
    ("splits", ROWS, "datasets", "declarations:EMPTY_TEST", "the test split is empty"),
    ("bad-files", ROWS, "datasets", "declarations:TRACEBACK", "FileNotFoundError instead of a DataError"),
    ("bad-files", ROWS, "datasets", "declarations:NO_FORMATS", "does not say which files"),
    ("bad-files", ROWS, "datasets", "declarations:NO_HINT", "has no hint"),
    ("bad-files", ROWS, "datasets", "declarations:FALLS_BACK", "was read as if it were data"),
    ("sample", ROWS, "datasets", "declarations:OTHER_COLUMNS", "column 'plot' is missing"),
    ("repeatable", ROWS, "model", "models:UnseededFit", "fitted again"),
    ("repeatable", ROWS, "model", "models:Noisy", "predicted again"),
    ("independent", ROWS, "model", "models:BatchMean", "each alone"),
    ("independent", ROWS, "model", "models:FirstRow", "each alone"),
    ("independent", ROWS, "model", "models:FallingKeys", "in reverse order"),
    ("independent", ROWS, "model", "models:InPairs", "in two batches"),
    ("row-order", STREAM, "model", "streams:InRowOrder", "sort by 'time'"),
    ("keys-and-order", ROWS, "model", "models:Sorted", "keys or order differ"),
    ("keys-and-order", ROWS, "model", "models:KeyDropped", "'plot' is not carried over"),
    ("keys-and-order", ROWS, "model", "models:KeyInvented", "'harvest' is not an input column"),
    ("keys-and-order", TASKS, "model", "models:GroupInvented", "an output key is none of the input's"),
    ("keys-and-order", TASKS, "model", "models:GroupsTurned", "the order of the keys differs"),
    ("keys-and-order", TASKS, "model", "models:RowLost", "RowLost returned 12 rows"),
    ("keys-and-order", SCENES, "model", "models:GroupTwice", "output rows for 2 groups"),
    ("keys-and-order", STREAM, "model", "streams:GroupsMixed", "when groups alternate"),
    ("output-schema", ROWS, "model", "models:ColumnLost", "did not return column 'harvest'"),
    ("output-schema", ROWS, "model", "models:ColumnTold", "'harvest_true' is returned and not declared"),
    ("output-schema", ROWS, "model", "models:WrongType", "'harvest' is string"),
    ("output-schema", ROWS, "model", "models:OutOfRange", "below 1000"),
    ("output-schema", ROWS, "model", "models:Unknown", "the value is missing"),
    ("violations", ROWS, "model", "models:Careless", "without a list of violations"),
    ("threads", ROWS, "model", "models:SharedScratch", "thread"),
    ("streaming", STREAM, "model", "streams:RefusesByMistake", "says that it streams, and refuses"),
    ("streaming", STREAM, "model", "streams:DriftingStream", "the stream"),
    ("streaming", STREAM, "model", "streams:ForgottenColumn", "'filtered'"),
    ("streaming", STREAM, "model", "streams:ExtraColumn", "'weight'"),
    ("streaming", STREAM, "model", "streams:ForgetfulStream", "moved after"),
    ("streaming", STREAM, "model", "streams:PickledState", "neither JSON nor safetensors"),
    ("streaming", STREAM, "model", "streams:TextState", "returned str, expected bytes"),
    ("streaming", STREAM, "model", "streams:ResettingState", "with state() asked for at each record"),
    ("streaming", STREAM, "model", "streams:SharedLevel", "two streams in turn"),
    ("streaming", STREAM, "model", "streams:HalfTaken", "a refused record changes the stream"),
    ("streaming", STREAM, "model", "streams:CrashingStream", "ValueError instead of a DataError"),
    ("files", SCENES, "model", "jobs:Unnamed", "no column names one"),
    ("files", SCENES, "model", "jobs:Undeclared", "declare it with Column(file=...)"),
    ("files", SCENES, "model", "jobs:AbsolutePath", "is no path relative to 'files'"),
    ("files", SCENES, "model", "jobs:NotThere", "is not there"),
    ("files", SCENES, "model", "jobs:WrongChecksum", "map_sha256 is not its sha256"),
    ("files", SCENES, "model", "jobs:LeftBehind", "is left behind"),
    ("files", SCENES, "model", "jobs:NamedByCompany", "name it by its key"),
    ("files", SCENES, "model", "jobs:NumberedMaps", "has other bytes when it is predicted again"),
    ("files", SCENES, "model", "jobs:ClockInFile", "has other bytes when it is predicted again"),
    ("files", SCENES, "model", "jobs:CrashesWithoutFiles", "TypeError, no DataError"),
    ("files", SCENES, "model", "jobs:RefusesWithoutHint", "has no hint"),
    ("files", SCENES, "model", "jobs:NamesWithoutFiles", "column 'map' must be null"),
    ("files", SCENES, "model", "jobs:OtherWithoutFiles", "without 'files': column 'level'"),
    ("unreadable", SCENES, "model", "jobs:OneForAll", "DataError instead of a group left out"),
    ("unreadable", SCENES, "model", "jobs:NamesAll", "3 rows are left out, its own are 1"),
    ("unreadable", SCENES, "model", "jobs:OpensBlindly", "FileNotFoundError instead of a group left out"),
    ("resumes", SCENES, "model", "jobs:NoScratch", "fewer than two files"),
    ("resumes", SCENES, "model", "jobs:NoProgress", "a job shows progress"),
    ("resumes", SCENES, "model", "jobs:Swallows", "the interruption was swallowed"),
    ("resumes", SCENES, "model", "jobs:OtherWhenResumed", "after an interruption"),
    ("resumes", SCENES, "model", "jobs:StartsOver", "not reused"),
    ("resumes", SCENES, "model", "jobs:ClearsAll", "not reused"),
    ("save-and-load", ROWS, "model", "models:RoundedWeights", "after loading"),
    ("save-and-load", ROWS, "model", "models:ForgetsConfig", "another configuration"),
    ("save-and-load", ROWS, "model", "models:LosesUnit", "other schemas"),
    ("save-and-load", ROWS, "model", "models:SavedOnce", "a loaded model cannot be saved"),
    ("save-and-load", ROWS, "model", "models:OtherTheSecondTime", "saved twice"),
    ("save-and-load", ROWS, "model", "models:StartsAnewToRead", "told by read_as its own options"),
    ("starts-from", ROWS, "model", "models:NeedsHistory", "fit(init=model) failed, AttributeError"),
    ("starts-from", ROWS, "model", "models:SpoilsItsStart", "the model that was started from"),
    ("starts-from", ROWS, "model", "models:ReturnsItsStart", "the model that was started from"),
    ("starts-from", ROWS, "model", "models:RefusesToStart", "without a hint"),
    ("no-pickle", ROWS, "model", "models:Pickled", "weights.bin is a pickle"),
    ("no-pickle", ROWS, "model", "models:HiddenPickle", "is unpickled"),
    ("results", ROWS, "evaluation", "evaluations:NO_BASELINE", "at least one must be there"),
    ("results", ROWS, "evaluation", "evaluations:UNKNOWN_METRIC", "rmse is not scored"),
    ("results", ROWS, "evaluation", "evaluations:STRANGE_METRIC", "unknown metric 'harvestiness'"),
    ("results", ROWS, "evaluation", "evaluations:NOT_FINITE", "mse is not a finite number"),
    ("results", ROWS, "evaluation", "evaluations:OTHER_UNITS", "mean was scored on 11 units, not on 12"),
    ("reports", ROWS, "evaluation", "evaluations:FIGURES_FAIL", "figures failed, KeyError: 'ours'"),
    ("reports", ROWS, "evaluation", "evaluations:FIGURES_ALIKE", "two figures have the name 'errors'"),
    ("reports", ROWS, "evaluation", "evaluations:FIGURE_UNTOLD", "'errors.png' does not state a finding"),
    ("reports", ROWS, "evaluation", "evaluations:FIGURE_CLEAR", "no light ground"),
    ("reports", ROWS, "evaluation", "evaluations:FAILURES_FAIL", "failures failed, IndexError"),
    ("reports", ROWS, "evaluation", "evaluations:FAILURES_NO_TEXT", "expected sentences"),
    ("reports", ROWS, "evaluation", "evaluations:PUBLISHED_UNKNOWN", "published: unknown metric"),
    ("reports", ROWS, "evaluation", "evaluations:VARIANTS_NO_CONFIG", "is no RowsConfig"),
    (
        "reports",
        ROWS,
        "evaluation",
        "evaluations:BASELINE_HIDDEN",
        "'mean' is not in EVALUATION.base",
    ),
    ("reports", ROWS, "model", "models:DescribesNumbers", "expected two texts"),
]

# by what the tasks `spectrum` and `ahead` are changed (models: tinybroken.several), words of the message
ENTANGLED = [
    ({"name": "ahead"}, {}, "two tasks are registered as apps.tiny-tasks.ahead"),
    ({}, {"config": "tinyplugins.rows.config:RowsConfig"}, "the task ahead"),
    ({}, {"evaluation": "tinybroken.same_metric:EVALUATION"}, "the evaluation of ahead cannot be imported"),
    ({"model": "Spectrum"}, {"model": "WritesOnTheOther"}, "after ahead"),
    ({"model": "Declared"}, {"model": "DeclaresForTheOther"}, "changes the schemas of spectrum"),
    ({"model": "LoadsAnother"}, {}, "loads as SpectrumModel"),
]

# what core says instead of the truth, check, words of the message
LIES = [
    ("core.config.commented_yaml", lambda config: "seed: 99", "config", "writes another configuration"),
    ("core.inference.check", _nothing_wrong, "violations", "was predicted all the same"),
    ("core.inference.check", _the_row_below, "violations", "is broken, reported are"),
    ("core.inference.check", _no_names, "violations", "column 'plot' is missing: reported as"),
    ("core.bundle.load_bundle", _trusting, "tampering", "changed bundle was loaded"),
    ("core.bundle.load_bundle", _trusting, "newer-format", "changed bundle was loaded"),
    ("core.bundle.load_bundle", _crashing, "tampering", "ValueError instead of a BundleError"),
    ("core.bundle.load_bundle", _vague, "newer-format", "the reason is not named"),
]

DOCUMENTS = [
    ({"title": " "}, "title is empty"),
    ({"summary": "Ridge regression"}, "must be a sentence"),
    ({"papers": ()}, "papers is empty"),
    ({"config": "heavy:HeavyConfig"}, "no README.md"),
    ({"config": "door.config:DoorConfig"}, "says nothing"),
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


@pytest.mark.parametrize(("change", "words"), DOCUMENTS)
def test_a_front_door_that_says_nothing_fails_documents(tmp_path, change, words):
    if "config" in change:
        subject = broken(ROWS, "config", change["config"], tmp_path)
    else:
        bare = replace(ROWS, **change)
        subject = Subject(bare, bare.tasks[0], tmp_path)
    assert words in run_check(subject, "documents").detail


@pytest.mark.parametrize(("first", "second", "words"), ENTANGLED, ids=[row[-1] for row in ENTANGLED])
def test_tasks_that_get_in_each_others_way_are_caught(tmp_path, first, second, words):
    changed = [
        replace(task, **{part: f"tinybroken.several:{name}" if part == "model" else name})
        for task, changes in zip(TASKS.tasks, (first, second), strict=True)
        for part, name in (changes or {"name": task.name}).items()
    ]
    spec = replace(TASKS, tasks=tuple(changed))
    result = run_check(subjects(spec, tmp_path)[0], "tasks")
    assert not result.ok
    assert words in result.detail


@pytest.mark.parametrize(("place", "lie", "check", "words"), LIES, ids=[f"{row[2]}-{row[3]}" for row in LIES])
def test_a_check_does_not_trust_core(tmp_path, monkeypatch, place, lie, check, words):
    monkeypatch.setattr(f"appliedpapers.{place}", lie)
    result = run_check(Subject(ROWS, ROWS.tasks[0], tmp_path), check)
    assert not result.ok
    assert words in result.detail


def test_every_check_has_a_defect_that_it_is_known_to_catch():
    seeded = {row[0] for row in DEFECTS} | {row[2] for row in LIES} | {"documents", "tasks"}
    assert seeded == set(CHECKS)


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
