from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from appliedpapers.core.config import Section, TaskConfig
from appliedpapers.core.errors import DataError
from appliedpapers.core.evaluation import MetricScores, PublishedFigure, Scored
from appliedpapers.core.printed import split_published
from appliedpapers.core.results import (
    Contender,
    RunFacts,
    build_results,
    read_results,
    validate_results,
    write_results,
)
from appliedpapers.core.verdict import format_p, headline, primary_metric, strongest_baseline, verdict

KEYS = {
    "version", "run_id", "plugin", "task", "dataset", "synthetic", "protocol", "preset", "seeds", "device",
    "test_size", "test_fingerprint", "model_version", "seconds", "peak_memory_mb", "rows", "tests",
    "warnings",
}  # fmt: skip
ROW_KEYS = {
    "model", "kind", "selected", "metric", "unit", "higher_is_better", "value", "low", "high", "n", "seed",
    "protocol", "slice",
}  # fmt: skip
FACTS = RunFacts(
    run_id="r1", plugin="frets", task="forecasting", dataset="simulated", synthetic=True, protocol="rolling",
    preset="quick", seeds=(2021,), device="cpu", test_size=80, test_fingerprint="0" * 64,
    seconds={"fit": 1, "evaluate": 0.5},
)  # fmt: skip


def scored(level, *, units=80, spread=0.1, seed=0, **more):
    losses = level + spread * np.random.default_rng(seed).normal(size=units)
    return Scored({"mae": MetricScores.mean(np.sqrt(losses)), "mse": MetricScores.mean(losses)}, **more)


def results(ours=1.0, theirs=1.2, **options):
    contenders = [
        Contender("naive", "baseline", scored(2.0, seed=3)),
        Contender("frets", "paper", scored(ours, seed=1), selected=True, seed=2021),
        Contender("ridge", "baseline", scored(theirs, seed=2)),
    ]
    contenders += options.pop("more", [])
    return build_results(options.pop("facts", FACTS), contenders, primary="mse", n_boot=400, **options)


def row_of(document, model, name="mse", **where):
    found = [row for row in document["rows"] if row["model"] == model and row["metric"] == name]
    return next(row for row in found if all(row[key] == value for key, value in where.items()))


def test_the_document_has_exactly_the_promised_keys():
    document = results()
    assert set(document) == KEYS
    assert all(set(row) == ROW_KEYS for row in document["rows"])
    assert {key for test in document["tests"] for key in test} == {
        "a", "b", "metric", "difference", "low", "high", "p", "test"
    }  # fmt: skip
    json.dumps(document, allow_nan=False)


def test_the_selected_model_and_the_primary_metric_lead():
    document = results()
    assert document["rows"][0]["model"] == "frets"
    assert primary_metric(document) == "mse"
    assert {row["model"] for row in document["rows"] if row["selected"]} == {"frets"}


def test_values_intervals_and_tests_agree_with_the_losses():
    document = results()
    row = row_of(document, "frets")
    losses = scored(1.0, seed=1).metrics["mse"].losses
    assert row["value"] == pytest.approx(losses.mean())
    assert row["low"] < row["value"] < row["high"]
    assert row["high"] - row["low"] == pytest.approx(4 * losses.std(ddof=1) / math.sqrt(80), rel=0.2)
    assert row["n"] == 80
    assert row["seed"] is None
    test = next(test for test in document["tests"] if test["b"] == "ridge")
    assert test["difference"] == pytest.approx(row_of(document, "ridge")["value"] - row["value"])
    assert test["low"] > 0
    assert test["p"] < 0.01


def test_ours_is_tested_against_every_baseline_but_not_against_an_oracle():
    document = results(more=[Contender("oracle", "baseline", scored(0.5), attainable=False)])
    assert [test["b"] for test in document["tests"]] == ["naive", "ridge"]
    assert row_of(document, "oracle")["value"] < 0.6
    assert verdict(document).startswith("Better than the strongest baseline, ridge")


def test_the_strongest_baseline_is_the_best_by_its_test_value():
    test = strongest_baseline(results())
    assert test is not None
    assert test["b"] == "ridge"


@pytest.mark.parametrize(
    ("ours", "theirs", "start"),
    [(1.0, 1.2, "Better than"), (1.2, 1.0, "Worse than"), (1.0, 1.005, "Not distinguishable from")],
)
def test_the_verdict_says_better_worse_or_not_distinguishable(ours, theirs, start):
    sentence = verdict(results(ours, theirs))
    assert sentence.startswith(start)
    assert "ridge" in sentence


def test_the_verdict_follows_the_direction_of_the_metric():
    def accuracy(share, seed):
        hits = np.random.default_rng(seed).random(400) < share
        return Scored({"accuracy": MetricScores.mean(hits.astype(float))})

    facts = RunFacts(**{**vars(FACTS), "test_size": 400})
    for ours, theirs, start in ((0.9, 0.6, "Better"), (0.6, 0.9, "Worse")):
        contenders = [
            Contender("net", "ours", accuracy(ours, 0), selected=True),
            Contender("tree", "baseline", accuracy(theirs, 1)),
        ]
        document = build_results(facts, contenders, primary="accuracy", n_boot=400)
        assert verdict(document).startswith(start)
        assert "accuracy" in verdict(document)


def test_the_verdict_gives_the_amount_in_percent_of_the_baseline():
    document = results()
    ours, theirs = row_of(document, "frets")["value"], row_of(document, "ridge")["value"]
    assert f"by {100 * (theirs - ours) / theirs:.0f} %" in verdict(document)


def test_no_baseline_and_no_value_give_no_verdict():
    alone = build_results(FACTS, [Contender("frets", "paper", scored(1.0), selected=True)], primary="mse")
    assert verdict(alone).startswith("No verdict")
    undefined = Scored({"mse": MetricScores.mean([math.nan, 1.0])})
    document = build_results(FACTS, [Contender("frets", "paper", undefined, selected=True)], primary="mse")
    assert row_of(document, "frets")["value"] is None
    assert verdict(document).startswith("No verdict")
    assert any("not defined" in text for text in document["warnings"])


def test_too_few_units_give_a_value_without_interval_and_a_warning():
    contenders = [
        Contender("frets", "paper", scored(1.0, units=6, block=4), selected=True),
        Contender("ridge", "baseline", scored(2.0, units=6, block=4)),
    ]
    document = build_results(FACTS, contenders, primary="mse")
    row = row_of(document, "frets")
    assert row["value"] is not None
    assert row["low"] is row["high"] is None
    assert document["tests"][0]["p"] is None
    assert any("too few" in text for text in document["warnings"])
    assert "Not tested" in verdict(document)


def test_several_seeds_give_a_mean_row_and_one_row_each():
    contenders = [
        Contender("frets", "paper", scored(1.0, seed=1), selected=True, seed=1),
        Contender("frets", "paper", scored(1.4, seed=2), selected=True, seed=2),
        Contender("ridge", "baseline", scored(2.0)),
    ]
    facts = RunFacts(**{**vars(FACTS), "seeds": (1, 2)})
    document = build_results(facts, contenders, primary="mse", n_boot=400)
    mean = row_of(document, "frets", seed=None)["value"]
    assert mean == pytest.approx(
        (row_of(document, "frets", seed=1)["value"] + row_of(document, "frets", seed=2)["value"]) / 2
    )
    assert len([row for row in headline(document) if row["model"] == "frets"]) == 2


def test_slices_get_intervals_from_the_clusters_of_the_whole():
    whole = scored(1.0).metrics
    sites = np.repeat(["a", "b"], 40)
    one_site = {name: scores.restrict(sites == "a") for name, scores in whole.items()}
    part = Scored(whole, clusters=np.arange(80) // 4, slices=(({"site": "a"}, one_site),))
    document = build_results(FACTS, [Contender("frets", "paper", part, selected=True)], primary="mse")
    row = row_of(document, "frets", slice={"site": "a"})
    assert row["n"] == 40
    assert row["low"] < row["value"] < row["high"]


def test_a_slice_with_its_own_units_has_no_interval():
    part = Scored(scored(1.0).metrics, slices=(({"site": "a"}, {"mse": MetricScores.mean([1.0, 2.0])}),))
    document = build_results(FACTS, [Contender("frets", "paper", part, selected=True)], primary="mse")
    row = row_of(document, "frets", slice={"site": "a"})
    assert (row["value"], row["low"], row["n"]) == (1.5, None, 2)


def test_units_of_the_data_replace_those_of_the_registry():
    part = Scored({"mse": MetricScores.mean([1.0, 2.0])}, units={"mse": "kW²"})
    document = build_results(FACTS, [Contender("frets", "paper", part, selected=True)], primary="mse")
    assert row_of(document, "frets")["unit"] == "kW²"


@pytest.mark.parametrize(
    ("contenders", "message"),
    [
        ([Contender("a", "ours", scored(1))], "exactly one"),
        ([Contender(name, "ours", scored(1), selected=True) for name in "ab"], "exactly one"),
        (
            [
                Contender("a", "ours", scored(1), selected=True),
                Contender("b", "baseline", scored(1, units=7)),
            ],
            "7 units",
        ),
        ([Contender("a", "ours", Scored({"mae": MetricScores.mean([1.0])}), selected=True)], "primary"),
        ([Contender("a", "ours", scored(1), selected=True)] * 2, "twice"),
    ],
)
def test_contenders_that_cannot_be_compared_are_refused(contenders, message):
    with pytest.raises(ValueError, match=message):
        build_results(FACTS, contenders, primary="mse")


class ModelSection(Section):
    horizon: int = Field(96)
    lookback: int = Field(96)


class Config(TaskConfig):
    model: ModelSection = ModelSection()


def figure(**changes):
    given = {
        "model": "FreTS", "metric": "mse", "value": 0.4, "dataset": "simulated", "protocol": "rolling",
        "setting": {"model.horizon": 96}, "source": "Table 2", "verified": True,
    }  # fmt: skip
    return PublishedFigure(**{**given, **changes})


def test_a_published_figure_of_the_same_protocol_stands_in_the_table():
    same, elsewhere = split_published([figure()], dataset="simulated", protocol="rolling", config=Config())
    assert elsewhere == []
    row = row_of(results(published=same), "FreTS")
    assert (row["kind"], row["value"], row["low"], row["n"]) == ("published", 0.4, None, None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"protocol": "authors-minmax"}, "protocol authors-minmax"),
        ({"dataset": "etth1"}, "dataset etth1"),
        ({"setting": {"model.horizon": 192}}, "model.horizon 192, ours 96"),
        ({"setting": {"model.width": 3}}, "does not have"),
    ],
)
def test_a_published_figure_of_another_setting_is_set_apart_with_the_reason(change, reason):
    same, elsewhere = split_published(
        [figure(**change)], dataset="simulated", protocol="rolling", config=Config()
    )
    assert same == []
    assert reason in elsewhere[0].reason


def test_the_results_table_refuses_a_figure_of_another_protocol():
    with pytest.raises(ValueError, match="authors-minmax"):
        results(published=[figure(protocol="authors-minmax")])


def broken(change):
    document = copy.deepcopy(results())
    change(document)
    return document


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(extra=1),
        lambda d: d.pop("protocol"),
        lambda d: d.update(version=2),
        lambda d: d["rows"][0].update(value=math.nan),
        lambda d: d["rows"][0].update(high=math.inf),
        lambda d: d["rows"][0].update(low=9.0),
        lambda d: d["rows"][0].update(kind="theirs"),
        lambda d: d["rows"].append(dict(d["rows"][0])),
        lambda d: [row.update(selected=False) for row in d["rows"]],
        lambda d: [row.update(selected=True) for row in d["rows"]],
        lambda d: d["rows"][0].pop("slice"),
        lambda d: d["tests"][0].update(p=1.5),
        lambda d: d.update(test_fingerprint="abc"),
    ],
)
def test_a_broken_document_is_refused(change):
    with pytest.raises(DataError, match="results document"):
        validate_results(broken(change))


def test_a_document_survives_the_disk(tmp_path):
    document = results()
    write_results(tmp_path / "results.json", document)
    assert read_results(tmp_path / "results.json") == document
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(DataError, match=r"results\.json"):
        read_results(tmp_path / "results.json")


@given(st.floats(0.5, 2.0), st.floats(0.5, 2.0), st.floats(0.01, 1.0))
@settings(max_examples=15, deadline=None)
def test_the_verdict_never_praises_a_model_with_the_larger_error(ours, theirs, spread):
    contenders = [
        Contender("net", "ours", scored(ours + 5, spread=spread, seed=1), selected=True),
        Contender("ridge", "baseline", scored(theirs + 5, spread=spread, seed=2)),
    ]
    document = build_results(FACTS, contenders, primary="mse", n_boot=200)
    if row_of(document, "net")["value"] > row_of(document, "ridge")["value"]:
        assert verdict(document).startswith(("Worse", "Not distinguishable"))
        assert "better" not in verdict(document).lower()


@pytest.mark.parametrize(
    ("p", "text"), [(None, "p –"), (0.0001, "p <0.001"), (0.004, "p 0.004"), (0.034, "p 0.03")]
)
def test_p_values_are_printed_without_false_precision(p, text):
    assert format_p(p) == text
