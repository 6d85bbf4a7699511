"""The evaluation as a run calls it: figures of others, candidates, adaptive intervals, drawings, failures."""

from __future__ import annotations

import numpy as np
import pytest
from small_frets import HORIZON, PLAIN, configured, dataset_of, fitted, panel_of, waves

from appliedpapers.core.evaluation import Material
from appliedpapers.core.model import FitContext
from appliedpapers.core.printed import split_published
from appliedpapers.core.results import Contender, RunFacts, build_results
from appliedpapers.plugins.frets import learner
from appliedpapers.plugins.frets.baselines import baselines
from appliedpapers.plugins.frets.data import DATASETS
from appliedpapers.plugins.frets.evaluation import EVALUATION
from appliedpapers.plugins.frets.published import PUBLISHED_FIGURES

PANEL = panel_of(waves())


def material_of(config, dataset, model, tmp_path) -> Material:
    """Do what a run does after its fit."""
    predictions = {"frets": EVALUATION.predict(model, dataset.test)}
    for baseline in baselines(config, dataset):
        baseline.fit(dataset.train, dataset.valid, FitContext(tmp_path / baseline.name))
        predictions[baseline.name] = baseline.predict(dataset.test)
    scored = {name: EVALUATION.score(item, dataset.test, dataset) for name, item in predictions.items()}
    facts = RunFacts(
        run_id="run",
        plugin="frets",
        task="forecasting",
        dataset=dataset.name,
        synthetic=True,
        protocol=dataset.protocol,
        preset="quick",
        seeds=(config.seed,),
        device="cpu",
        test_size=dataset.test.num_rows,
        test_fingerprint=dataset.test_fingerprint(),
    )
    contenders = [
        Contender(name, "ours" if name == "frets" else "baseline", item, selected=name == "frets")
        for name, item in scored.items()
    ]
    results = build_results(
        facts,
        contenders,
        primary=EVALUATION.primary_for(dataset),
        paired_test=EVALUATION.paired_test,
        lag=EVALUATION.lag(config, dataset),
        n_boot=50,
    )
    return Material(dataset, model, "frets", predictions, scored, results, {}, config)


@pytest.mark.parametrize(
    ("protocol", "primary"), [("ltsf-zscore", "mse"), ("authors-minmax", "mae"), ("rolling", "mase")]
)
def test_each_protocol_has_its_primary_metric(protocol, primary):
    dataset = dataset_of(PANEL, configured(f"data.protocol={protocol}"))
    assert EVALUATION.primary_for(dataset) == primary


def test_a_run_with_sentinels_kept_keeps_its_primary_metric():
    values = waves()
    values[[20, 40, 60], 0] = -9999
    dataset = dataset_of(panel_of(values), configured("data.sentinels=keep"))
    assert dataset.protocol == "ltsf-zscore+sentinels-kept"
    assert EVALUATION.primary_for(dataset) == "mse"


@pytest.mark.parametrize("size", [1, 7, 512])
def test_the_score_does_not_depend_on_how_windows_are_blocked(tmp_path, monkeypatch, size):
    config = configured()
    dataset = dataset_of(PANEL, config)
    model = fitted(config, dataset, tmp_path)

    def mse():
        prediction = EVALUATION.predict(model, dataset.test)
        return EVALUATION.score(prediction, dataset.test, dataset).metrics["mse"].value

    expected = mse()
    monkeypatch.setattr(learner, "_ROWS_A_BLOCK", size)
    assert mse() == pytest.approx(expected, abs=1e-6)


def test_intervals_are_adapted_along_the_backtest_where_configured(tmp_path):
    # twice the noise in the test part: fixed intervals must cover too little
    values = waves(900)
    rng = np.random.default_rng(5)
    values[720:] += rng.normal(0, 0.6, values[720:].shape)
    panel, coverages = panel_of(values), {}
    for adaptive in ("false", "true"):
        config = configured(*PLAIN, f"intervals.adaptive={adaptive}", "intervals.gamma=0.05")
        dataset = dataset_of(panel, config)
        model = fitted(config, dataset, tmp_path / adaptive)
        scored = EVALUATION.score(EVALUATION.predict(model, dataset.test), dataset.test, dataset)
        coverages[adaptive] = {
            where["level"]: metrics["coverage"].value for where, metrics in scored.slices if "level" in where
        }
    for level in (80, 95):
        fixed, adapted = (abs(coverages[each][str(level)] - level / 100) for each in ("false", "true"))
        assert adapted < fixed


def test_a_loaded_model_is_judged_with_its_fixed_intervals(tmp_path):
    from appliedpapers.core.bundle import load_bundle, save_bundle

    config = configured("intervals.adaptive=true")
    dataset = dataset_of(PANEL, config)
    model = fitted(config, dataset, tmp_path / "fit")
    save_bundle(model, tmp_path / "bundle", plugin="frets", task="forecasting")
    loaded, _ = load_bundle(tmp_path / "bundle")
    found = EVALUATION.predict(loaded, dataset.test)
    np.testing.assert_array_equal(found.values, EVALUATION.predict(model, dataset.test).values)
    widths = found.bounds[80][1] - found.bounds[80][0]
    np.testing.assert_allclose(widths, np.broadcast_to(widths[:1], widths.shape), atol=1e-9)


def test_candidates_become_configurations_with_their_overrides():
    config = configured("candidates={wide: {model: {hidden: 32}}, longer: {model: {lookback: 48}}}")
    variants = EVALUATION.variants(config)
    assert set(variants) == {"wide", "longer"}
    assert variants["wide"].model.hidden == 32
    assert variants["wide"].model.lookback == config.model.lookback
    assert variants["longer"].model.lookback == 48


@pytest.mark.parametrize(
    "assignments", [("candidates={longer: {model: {lookback: 60}}}",), ("model.channel_mixing=true",)]
)
def test_a_model_that_a_gap_stops_is_scored_on_the_windows_of_all(tmp_path, assignments):
    values = waves()
    values[330, 1] = np.nan
    config = configured(*assignments, "model.skip=none")
    dataset = dataset_of(panel_of(values), config)
    chosen = next(iter(EVALUATION.variants(config).values()), config)
    model = fitted(chosen, dataset, tmp_path / "fit")
    forecast = EVALUATION.predict(model, dataset.test)
    assert forecast.filled > 0
    scored = EVALUATION.score(forecast, dataset.test, dataset)
    assert np.isfinite(scored.metrics["mse"].value)
    material = material_of(config, dataset, model, tmp_path)
    first = EVALUATION.failures(material)[0]
    assert (
        first
        == f"{forecast.filled:,} forecasts are the last value: the inputs that the model needs have gaps"
    )


# -- figures of others


def test_published_figures_stand_only_beside_runs_of_their_dataset_protocol_and_sizes():
    etth1 = [figure for figure in PUBLISHED_FIGURES if figure.dataset == "etth1"]
    paper = configured("model.lookback=96", "model.horizon=96")
    same, elsewhere = split_published(etth1, dataset="etth1", protocol="ltsf-zscore", config=paper)
    assert {(figure.metric, figure.value) for figure in same} == {
        *(("mse", 0.3985), ("mae", 0.4118)),
        *(("mse", 0.395), ("mae", 0.407)),
    }
    assert len(same) + len(elsewhere) == len(etth1)
    assert all(item.reason for item in elsewhere)
    longer = configured("model.lookback=336", "model.horizon=96")
    assert split_published(etth1, dataset="etth1", protocol="ltsf-zscore", config=longer)[0] == []
    kept = "ltsf-zscore+sentinels-kept"
    assert split_published(etth1, dataset="etth1", protocol=kept, config=paper)[0] == []


def test_only_what_was_confirmed_is_called_verified():
    sure = {
        (figure.protocol, dict(figure.setting)["model.horizon"], figure.metric, figure.value)
        for figure in PUBLISHED_FIGURES
        if figure.verified
    }
    logs = {96: (0.3985, 0.4118), 192: (0.4543, 0.4487), 336: (0.5126, 0.4833), 720: (0.5719, 0.5475)}
    expected = {("authors-minmax", 192, "mae", 0.065)}
    for horizon, (mse, mae) in logs.items():
        expected |= {("ltsf-zscore", horizon, "mse", mse), ("ltsf-zscore", horizon, "mae", mae)}
    assert sure == expected


def test_no_figure_is_offered_for_other_data():
    assert EVALUATION.published(configured(), dataset_of(PANEL, configured())) == []


# -- drawings and words


@pytest.mark.parametrize(
    "assignments",
    [
        (),
        ("data.protocol=rolling",),
        ("model.horizon=1",),
        ("model.channel_mixing=true", "model.skip=none"),
        ("intervals.levels=[99]", "data.protocol=rolling", "data.n_windows=2", "data.simulator.steps=130"),
        ("data.simulator.missing=true",),
        ("data.simulator.series=1",),
    ],
    ids=["plain", "rolling", "one step", "mixing", "no interval", "gaps", "one series"],
)
def test_every_run_can_be_drawn_and_described(tmp_path, assignments):
    small = ("data.simulator.steps=700", "data.simulator.series=2", "baselines=[last-value, seasonal-naive]")
    config = configured(*small, *assignments)
    dataset = DATASETS.simulated(config)
    model = fitted(config, dataset, tmp_path / "fit")
    material = material_of(config, dataset, model, tmp_path)
    figures = {figure.name: figure for figure in EVALUATION.figures(material)}
    assert {"forecasts", "spectrum"} <= set(figures)
    assert ("coverage" in figures) == bool(model.intervals.levels)
    assert ("error-by-horizon" in figures) == (config.model.horizon > 1)
    for figure in figures.values():
        assert figure.alt
        assert "nan" not in f"{figure.alt} {figure.caption}".replace("finance", "")
    words = EVALUATION.failures(material)
    assert words
    assert all("times the mean" in sentence for sentence in words)


def test_forecasts_are_drawn_of_a_window_without_gaps_where_the_last_one_has_some(tmp_path):
    config = configured("baselines=[last-value]")
    values = waves()
    values[-2:] = np.nan
    dataset = dataset_of(panel_of(values), config)
    material = material_of(config, dataset, fitted(config, dataset, tmp_path / "fit"), tmp_path)
    (figure,) = [one for one in EVALUATION.figures(material) if one.name == "forecasts"]
    assert figure.title == "The last test window without gaps, series by series"
    # a forecast that is missing would hold no true value
    assert f" 0 of {3 * HORIZON} true" not in figure.alt
    assert f" of {3 * HORIZON} true values lie in the widest band" in figure.alt


def test_the_worst_windows_are_named_with_their_error(tmp_path):
    config = configured("baselines=[last-value]")
    values = waves()
    values[-1] += 40
    dataset = dataset_of(panel_of(values), config)
    model = fitted(config, dataset, tmp_path / "fit")
    material = material_of(config, dataset, model, tmp_path)
    worst = EVALUATION.failures(material)[0]
    assert worst.startswith(f"the {HORIZON} steps from 2024-01-17T08:00:00: MSE ")
