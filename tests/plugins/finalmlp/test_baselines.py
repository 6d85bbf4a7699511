"""The baselines of click models, and what the evaluation says about all of them together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appliedpapers.core.boosting import LightGbm, XgBoost
from appliedpapers.core.config import resolve
from appliedpapers.core.errors import ConfigError
from appliedpapers.core.evaluation import Material
from appliedpapers.core.features.encoded import EncodedField, EncodedRows
from appliedpapers.core.model import FitContext
from appliedpapers.core.printed import split_published
from appliedpapers.core.results import Contender, RunFacts, build_results
from appliedpapers.core.verdict import verdict
from appliedpapers.plugins.finalmlp.baselines import FinalMlpWithout, baselines, without_column
from appliedpapers.plugins.finalmlp.config import BASELINES, FinalMlpConfig
from appliedpapers.plugins.finalmlp.data import DATASETS
from appliedpapers.plugins.finalmlp.evaluation import EVALUATION
from appliedpapers.plugins.finalmlp.figures import draw
from appliedpapers.plugins.finalmlp.model import FinalMlpModel
from appliedpapers.plugins.finalmlp.prepared import encode_split
from appliedpapers.plugins.finalmlp.published import PUBLISHED_FIGURES

SMALL = (
    "data.simulator.rows=6000",
    "data.simulator.users=100",
    "data.simulator.items=50",
    "data.simulator.days=40",
    "model.stream1.hidden=[8]",
    "model.stream2.hidden=[8]",
    "model.gate_hidden=[4]",
    "training.epochs=1",
)


def configured(*assignments: str) -> FinalMlpConfig:
    return resolve(FinalMlpConfig, preset="quick", assignments=[*SMALL, *assignments])


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch):
    monkeypatch.setattr(LightGbm, "candidates", ({"num_leaves": 7, "learning_rate": 0.3},))
    monkeypatch.setattr(XgBoost, "candidates", ({"max_leaves": 7, "learning_rate": 0.3},))


def test_the_configuration_names_the_baselines_and_simulated_data_add_the_oracle():
    config = configured("without=[user]", f"baselines=[{', '.join(BASELINES)}]")
    dataset = DATASETS.simulated(config)
    made = baselines(config, dataset)
    assert [one.name for one in made] == [
        *BASELINES,
        "lightgbm without user",
        "finalmlp without user",
        "oracle",
    ]
    assert [one.name for one in made if not one.attainable] == ["oracle"]
    assert [one.name for one in made if one.kind == "ours"] == ["finalmlp without user"]
    few = configured("baselines=[click-rate]", "without=[item]")
    assert [one.name for one in baselines(few, dataset)] == ["click-rate", "finalmlp without item", "oracle"]


def test_a_suspected_column_gets_rows_without_it():
    config = configured("baselines=[lightgbm]")
    dataset = replace(DATASETS.simulated(config), suspects=("price",))
    assert "lightgbm without price" in [one.name for one in baselines(config, dataset)]
    for quiet in ("model.leave_out=[price]", "suspects=false"):
        left = configured("baselines=[lightgbm]", quiet)
        assert [one.name for one in baselines(left, dataset)] == ["lightgbm", "oracle"]


@pytest.mark.parametrize("name", ["usr", "click", "id"])
def test_a_column_that_is_no_input_cannot_be_left_out(name):
    config = configured(f"without=[{name}]")
    with pytest.raises(ConfigError, match=f"'{name}' is no input column"):
        baselines(config, DATASETS.simulated(config))


def test_a_left_out_context_is_no_context_any_more():
    config = configured("model.context1=[user, country]")
    assert FinalMlpWithout(config, "user").config.model.context1 == ("country",)
    assert FinalMlpWithout(config, "user").config.model.leave_out == ("user",)


def test_rows_without_a_column_keep_all_other_fields():
    fields = (
        EncodedField("user", "categorical", 5, 0, "user"),
        EncodedField("age", "numeric", 0, 0, "age"),
        EncodedField("age_missing", "categorical", 4, 0, "age"),
        EncodedField("tags", "sequence", 5, 2, "tags"),
        EncodedField("price", "numeric", 0, 0, "price"),
    )
    ids, numbers = np.array([[1, 2]], np.int32), np.array([[0.5, 0.25]], np.float32)
    rows = EncodedRows(fields, ids, numbers, (np.array([[1, 0]], np.int32),), np.ones(1, np.float32))
    left = without_column(rows, "age")
    assert [one.name for one in left.fields] == ["user", "tags", "price"]
    assert left.ids.tolist() == [[1]]
    assert left.numbers.tolist() == [[0.25]]
    assert len(left.sequences) == 1
    assert without_column(rows, "tags").sequences == ()


def test_a_baseline_sees_no_more_rows_than_allowed_and_says_so(tmp_path):
    config = configured("baselines=[click-rate, logistic-regression]", "baseline_rows=1000")
    dataset = DATASETS.simulated(config)
    for baseline in baselines(config, dataset)[:2]:
        baseline.fit(dataset.train, dataset.valid, FitContext(tmp_path, seed=0))
        assert (
            dict(baseline.describe())["train rows"] == f"1,000 of {dataset.train.num_rows:,}, drawn at random"
        )


def test_a_column_that_was_left_out_does_not_matter(tmp_path):
    config = configured("baselines=[lightgbm]", "without=[position]")
    dataset = DATASETS.simulated(config)
    (without,) = [one for one in baselines(config, dataset) if one.name == "lightgbm without position"]
    without.fit(dataset.train, dataset.valid, FitContext(tmp_path, seed=0))
    rows = next(iter(dataset.train.prepared.values())).valid
    changed = replace(rows, numbers=rows.numbers + np.float32(5))
    names = [one.name for one in rows.fields if one.kind == "numeric"]
    others = [names.index(name) for name in names if name != "position"]
    changed.numbers[:, others] = rows.numbers[:, others]
    np.testing.assert_array_equal(without.logits(rows), without.logits(changed))


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Material:
    """Everything of a small run, with a cascade."""
    config = configured("without=[user]", "cascade.weak=logistic-regression")
    folder = tmp_path_factory.mktemp("run")
    dataset = DATASETS.simulated(config)
    model = FinalMlpModel(config).fit(dataset.train, dataset.valid, FitContext(folder, seed=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LightGbm, "candidates", ({"num_leaves": 7, "learning_rate": 0.3},))
        patch.setattr(XgBoost, "candidates", ({"max_leaves": 7, "learning_rate": 0.3},))
        baselines = EVALUATION.baselines(config, dataset)
        for one in baselines:
            one.fit(dataset.train, dataset.valid, FitContext(folder / one.name.replace(" ", "-"), seed=0))
    predictions = {"finalmlp": EVALUATION.predict(model, dataset.test)}
    predictions |= {one.name: one.predict(dataset.test) for one in baselines}
    scored = {name: EVALUATION.score(one, dataset.test, dataset) for name, one in predictions.items()}
    contenders = [Contender("finalmlp", "ours", scored["finalmlp"], selected=True, seed=0)]
    contenders += [
        Contender(one.name, one.kind, scored[one.name], attainable=one.attainable) for one in baselines
    ]
    facts = RunFacts(
        run_id="x",
        plugin="finalmlp",
        task="binary-classification",
        dataset=dataset.name,
        synthetic=True,
        protocol=dataset.protocol,
        preset="quick",
        seeds=(0,),
        device="cpu",
        test_size=dataset.test.num_rows,
        test_fingerprint=dataset.test_fingerprint(),
    )
    results = build_results(
        facts, contenders, primary="auc", paired_test=EVALUATION.paired_test, n_boot=100, published=(), seed=0
    )
    return Material(dataset, model, "finalmlp", predictions, scored, results, {}, config)


def test_every_model_predicts_every_row_with_probabilities(material):
    rows = material.dataset.test.num_rows
    for prediction in material.predictions.values():
        for values in (prediction.probability, prediction.uncalibrated):
            assert values.shape == (rows,)
            assert values.dtype == np.float64
            assert ((values >= 0) & (values <= 1)).all()
        assert prediction.unseen.dtype == np.int32


def test_nobody_is_better_than_the_one_who_knows_the_truth(material):
    found = {name: scored.metrics for name, scored in material.scored.items()}
    assert max(found, key=lambda name: found[name]["auc"].value) == "oracle"
    assert min(found, key=lambda name: found[name]["logloss"].value) == "oracle"
    assert found["oracle"]["true_calibration_error"].value == 0
    assert found["click-rate"]["auc"].value == 0.5
    assert found["logistic-regression"]["auc"].value > 0.6


def test_new_ids_are_counted_by_the_encoder_of_the_train_rows(material):
    rows = encode_split(material.model.encoder, material.dataset.test)
    for name in ("click-rate", "lightgbm", "oracle"):
        np.testing.assert_array_equal(material.predictions[name].unseen, rows.unseen())


def test_the_verdict_names_a_model_that_somebody_could_have(material):
    said = verdict(material.results)
    assert "oracle" not in said
    assert "finalmlp without" not in said
    assert any(name in said for name in ("lightgbm", "xgboost", "logistic-regression"))


def test_all_figures_are_drawn_and_say_that_the_data_are_synthetic(material):
    figures = {one.name: one for one in draw(material)}
    assert list(figures) == ["calibration", "importance", "drift", "cascade"]
    for one in figures.values():
        assert b"synthetic data" in one.data
    assert "calibration error" in figures["calibration"].alt


def test_failures_name_new_ids_days_and_suspects(material):
    known = " | ".join(EVALUATION.failures(material))
    assert "that training never saw" in known
    assert "the day 2024-02-" in known
    suspicious = replace(material.dataset, suspects=("price",))
    said = EVALUATION.failures(replace(material, dataset=suspicious))
    assert said[0].startswith("the column price may give the label away")


def test_published_figures_stand_apart_from_the_resampled_split():
    frappe = [one for one in PUBLISHED_FIGURES if one.dataset == "frappe"]
    assert ("FinalMLP", "auc", 0.986072) in {(one.model, one.metric, one.value) for one in frappe}
    options = {"config": FinalMlpConfig(), "dataset": "frappe"}
    same, apart = split_published(frappe, protocol="frappe-x1, train negatives resampled", **options)
    assert not same
    assert len(apart) == len(frappe)
    same, apart = split_published(frappe, protocol="frappe-x1", **options)
    assert len(same) == len(frappe)
    assert len({(one.model, one.metric) for one in frappe}) == len(frappe)
    assert not any(one.verified for one in PUBLISHED_FIGURES)


def test_candidates_become_variants():
    config = configured("candidates.wide.model.dim=20")
    (name, variant), *rest = EVALUATION.variants(config).items()
    assert (name, variant.model.dim, variant.candidates, rest) == ("wide", 20, {}, [])
