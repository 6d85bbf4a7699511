"""Choices side by side: the same rows, every seed, chosen before the test set, resumed where they stopped."""

from __future__ import annotations

import json
import re
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from appliedpapers.cli import main
from appliedpapers.core.errors import ConfigError, LockedError, RunError
from appliedpapers.core.results import validate_results
from appliedpapers.core.significance import holm
from appliedpapers.pipelines import compare_cells
from appliedpapers.pipelines.compare import CompareRequest, compare
from appliedpapers.pipelines.compare_choices import choices, parse_over
from appliedpapers.pipelines.compare_page import render_comparison

ALPHAS = "alpha=[0.001, 1, 1000]"


def request(**more) -> CompareRequest:
    return CompareRequest(**{"plugin": "tiny-rows", "overs": (ALPHAS,), "seeds": 2, "device": "cpu", **more})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return compare([request()], tmp_path_factory.mktemp("compared"), command="apps compare tiny-rows")


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("head=[mlp]", "head", ("mlp",)),
        (
            "head = [ mlp , kan(grid=3, hidden=[8, 4]), fan ]",
            "head",
            ("mlp", "kan(grid=3, hidden=[8, 4])", "fan"),
        ),
        ("model.lookback=[24,48]", "model.lookback", ("24", "48")),
        ("x=[{a: 1, b: 2}, 3]", "x", ("{a: 1, b: 2}", "3")),
    ],
)
def test_commas_within_brackets_belong_to_a_value(text, name, values):
    assert parse_over(text) == (name, values)


@pytest.mark.parametrize(
    "text", ["head", "head=mlp", "=[a]", "a=[b", "a=[]", "a=[b,]", "a=[b(c]", "a=[b)]", "a=[b, b]"]
)
def test_what_is_no_list_of_values_is_refused_in_a_line(text):
    with pytest.raises(ConfigError, match="--over") as caught:
        parse_over(text)
    assert caught.value.hint
    assert "\n" not in caught.value.message


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text):
    try:
        name, values = parse_over(text)
    except ConfigError:
        return
    assert name
    assert all(values)
    assert len(set(values)) == len(values)


def test_an_option_may_be_named_by_its_last_word_and_a_head_whatever_it_is_called():
    (long, short), (head,) = (
        choices("frets", ["lookback=[48, 96]"], preset="quick"),
        choices("finalmlp", ["head=[kan(grid=3)]"], preset="quick"),
    )
    assert [one.config.model.lookback for one in (long, short)] == [48, 96]
    assert head.config.model.stream1.block == "kan(grid=3)"
    pairs = choices("frets", ["head=[mlp, fan]", "lookback=[48, 96]"], preset="quick")
    assert [one.label for one in pairs][:2] == ["head=mlp, lookback=48", "head=mlp, lookback=96"]


@pytest.mark.parametrize(
    ("overs", "said"),
    [
        (["hed=[mlp]"], "no such option"),
        (["head=[kaan]"], "did you mean 'kan'"),
        (["epochs=[1]", "training.epochs=[2]"], "varied twice"),
        (["block=[mlp]"], "finalmlp has model.stream1.block"),
    ],
)
def test_a_wrong_choice_is_refused_before_anything_is_fitted(overs, said, tmp_path):
    plugin = "finalmlp" if overs == ["block=[mlp]"] else "frets"
    with pytest.raises(ConfigError) as caught:
        compare([request(plugin=plugin, overs=tuple(overs), preset="quick")], tmp_path / "out")
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert not (tmp_path / "out").exists()


def test_every_choice_is_judged_with_every_seed_on_the_same_rows(done):
    (part,) = done.document["plugins"]
    validate_results(part["results"])
    rows = [row for row in part["results"]["rows"] if row["kind"] == "ours" and not row["slice"]]
    assert {row["model"] for row in rows} == {"0.001", "1", "1000"}
    for label in ("0.001", "1", "1000"):
        seeds = {
            row["seed"]: row["value"] for row in rows if row["model"] == label and row["metric"] == "mse"
        }
        assert seeds.keys() == {None, 2021, 2022}
        assert seeds[None] == pytest.approx(statistics.fmean([seeds[2021], seeds[2022]]))
    assert part["results"]["seeds"] == [2021, 2022]
    assert len({row["n"] for row in rows if row["metric"] == "mse"}) == 1
    assert any(row["kind"] == "baseline" for row in part["results"]["rows"])


def test_the_selected_choice_is_the_best_on_valid_not_on_test(done):
    (part,) = done.document["plugins"]
    valid = {choice["label"]: statistics.fmean(choice["valid"]) for choice in part["choices"]}
    selected = {row["model"] for row in part["results"]["rows"] if row["selected"]}
    assert selected == {min(valid, key=valid.get)}


def test_pairs_are_adjusted_for_their_number(done):
    (part,) = done.document["plugins"]
    assert len(part["pairs"]) == 2
    assert [pair["adjusted_p"] for pair in part["pairs"]] == holm([pair["p"] for pair in part["pairs"]])
    far = next(pair for pair in part["pairs"] if pair["b"] == "1000")
    assert far["difference"] > 0
    assert far["adjusted_p"] < 0.05


def test_page_and_terminal_say_the_same(done):
    page, text = done.page.read_text(), render_comparison(done.document)
    assert "Synthetic data" in page
    assert "(synthetic)" in text
    for label in ("0.001", "1000"):
        assert re.search(rf"<th scope=\"row\">.*{re.escape(label)}", page)
        assert label in text
    assert "apps compare tiny-rows" in page
    assert "is better than that of" in page
    assert "1000" in text


def test_a_second_run_fits_nothing_and_says_the_same(done, monkeypatch):
    monkeypatch.setattr(compare_cells.Fitter, "fit", None)
    monkeypatch.setattr(compare_cells.Fitter, "baselines", None)
    again = compare([request()], done.page.parent, command="apps compare tiny-rows")
    assert again.document == done.document


def test_one_more_choice_fits_that_one_alone(done, monkeypatch):
    fitted = []
    fit = compare_cells.Fitter.fit
    monkeypatch.setattr(
        compare_cells.Fitter,
        "fit",
        lambda self, name, config, *rest: fitted.append(config) or fit(self, name, config, *rest),
    )
    more = compare([request(overs=("alpha=[0.001, 1, 1000, 5]",))], done.page.parent)
    assert [config.model.alpha for config in fitted] == [5, 5]
    assert len(more.document["plugins"][0]["choices"]) == 4


def test_a_fit_that_was_cut_off_is_done_again(done, tmp_path):
    first = compare([request(overs=("alpha=[1]",), seeds=1)], tmp_path)
    (record,) = tmp_path.rglob(compare_cells.RECORD)
    record.unlink()
    for judged in (tmp_path / "judged").iterdir():
        judged.unlink()
    again = compare([request(overs=("alpha=[1]",), seeds=1)], tmp_path)
    values = [one.document["plugins"][0]["results"]["rows"][0]["value"] for one in (first, again)]
    assert values[0] == values[1]


def test_a_choice_that_changes_the_test_rows_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="changes the rows that are tested on"):
        compare([request(overs=("rows=[60, 90]",), seeds=1)], tmp_path)


def test_a_choice_that_cannot_be_fitted_leaves_the_others(tmp_path, monkeypatch):
    fit = compare_cells.Fitter.fit

    def failing(self, name, config, *rest):
        if getattr(config.model, "alpha", 0) == 1000 and config.seed == 2022:
            raise RunError("the loss is NaN.")
        return fit(self, name, config, *rest)

    monkeypatch.setattr(compare_cells.Fitter, "fit", failing)
    found = compare([request()], tmp_path)
    assert found.failures == ("1000, seed 2022: the loss is NaN.",)
    (part,) = found.document["plugins"]
    assert [choice["label"] for choice in part["choices"]] == ["0.001", "1"]
    assert "left out" in part["results"]["warnings"][0]
    assert "1000" in part["results"]["warnings"][0]


def test_no_choice_that_can_be_fitted_is_an_error(tmp_path, monkeypatch):
    def failing(*arguments):
        raise RunError("the loss is NaN.")

    monkeypatch.setattr(compare_cells.Fitter, "fit", failing)
    with pytest.raises(RunError, match="no choice could be fitted") as caught:
        compare([request(seeds=1)], tmp_path)
    assert caught.value.hint == "the loss is NaN."


def test_two_comparisons_do_not_share_a_folder(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(LockedError):
        compare([request()], tmp_path)


@pytest.mark.parametrize(
    "engine",
    [
        "processes",
        pytest.param(
            "ray", marks=pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
        ),
    ],
)
def test_engines_find_what_one_process_finds(engine, done, tmp_path):
    options = {"engine": "ray"} if engine == "ray" else {}
    found = compare([request()], tmp_path, workers=2, **options)
    if engine == "ray":
        sys.modules["ray"].shutdown()
    ours, theirs = (one.document["plugins"][0]["results"]["rows"] for one in (found, done))
    assert [row["value"] for row in ours] == [row["value"] for row in theirs]


def ended(words):
    with pytest.raises(SystemExit) as caught:
        main(words)
    return caught.value.code


def test_the_command_prints_tables_or_json_and_says_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["compare", "tiny-rows", "--over", "alpha=[1, 5]", "--seeds", "1", "--device", "cpu", "--quiet"]
    assert ended(words) == 0
    out = capsys.readouterr().out
    assert "tiny-rows on simulated (synthetic)" in out
    assert str(Path("comparison", "comparison.html")) in out
    assert ended([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plugins"][0]["varied"] == ["alpha"]
    assert ended(["compare", "tiny-rows", "--over", "alfa=[1, 5]"]) == 2
    assert "Did you mean 'alpha'" in capsys.readouterr().err


def test_several_plugins_stand_on_one_page(tmp_path):
    found = compare(
        [request(overs=(), seeds=1), request(plugin="tiny-tasks", task="ahead", overs=(), seeds=1)], tmp_path
    )
    assert [part["results"]["plugin"] for part in found.document["plugins"]] == ["tiny-rows", "tiny-tasks"]
    assert found.page.read_text().count("<section") == 3


def test_a_choice_may_be_called_as_a_baseline_is(done, tmp_path, monkeypatch):
    rows = done.document["plugins"][0]["results"]["rows"]
    named = next(row["model"] for row in rows if row["kind"] == "baseline")
    monkeypatch.setattr("appliedpapers.pipelines.compare_choices._label", lambda names, values, preset: named)
    again = compare([request(overs=("alpha=[1]",), seeds=1)], tmp_path)
    kinds = {row["model"]: row["kind"] for row in again.document["plugins"][0]["results"]["rows"]}
    assert kinds[named] == "ours"
    assert kinds[f"{named} (baseline)"] == "baseline"
