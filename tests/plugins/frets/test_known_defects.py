"""Defects that public implementations are known to carry, each shown to be absent here.

The first two, the diagonal product and the dead channel learner, stand in tests/parity with the golden file.
"""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_frets import HORIZON, PLAIN, configured, dataset_of, fitted, forecasts, panel_of, past_of, waves

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import ConfigError
from appliedpapers.core.evaluation import MetricScores, PublishedFigure, Scored
from appliedpapers.core.inference import predict_all
from appliedpapers.core.results import Contender, RunFacts, build_results
from appliedpapers.plugins.frets.config import FretsConfig
from appliedpapers.plugins.frets.data import DATASETS
from appliedpapers.plugins.frets.evaluation import EVALUATION
from appliedpapers.plugins.frets.panel import Scaler
from appliedpapers.plugins.frets.splits import ForecastSplit

ROOT = Path(__file__).resolve().parents[3]
PANEL = panel_of(waves())


def test_3_mixing_has_one_name_that_means_what_it_says():
    assert not configured().model.channel_mixing
    with pytest.raises(ConfigError, match="unknown option"):
        configured("model.channel_independence=1")
    with pytest.raises(ConfigError, match="channel_mixing"):
        configured("model.channel_mixing=2")


def test_4_a_constant_forecast_is_unscaled_with_the_constants_of_train():
    scaler = Scaler.fit(waves(), "zscore")
    constant = np.full((5, HORIZON, 3), 0.5)
    expected = waves().mean(axis=0) + 0.5 * waves().std(axis=0)
    np.testing.assert_allclose(scaler.inverse(constant), np.broadcast_to(expected, constant.shape))
    for many in (1, 2, 5):
        np.testing.assert_array_equal(scaler.inverse(constant[:many]), scaler.inverse(constant)[:many])


def test_4_a_series_alone_gets_the_forecast_that_it_gets_among_many(tmp_path):
    config = configured(*PLAIN)
    model = fitted(config, dataset_of(PANEL, config), tmp_path)
    together = forecasts(predict_all(model, past_of(PANEL)))
    for column, name in enumerate(PANEL.unique_ids):
        one = replace(PANEL, unique_ids=(name,), values=PANEL.values[:, [column]])
        np.testing.assert_allclose(
            forecasts(predict_all(model, past_of(one)))[0], together[column], rtol=1e-6
        )


@pytest.mark.parametrize("batch", [1, 7, 512])
def test_5_no_window_is_dropped_whatever_the_batch_size(tmp_path, batch):
    config = configured(f"training.batch_size={batch}", "training.lr=1e-12", "model.dropout=0")
    dataset = dataset_of(PANEL, config)
    model = fitted(config, dataset, tmp_path / str(batch))
    scored = EVALUATION.score(EVALUATION.predict(model, dataset.test), dataset.test, dataset)
    assert scored.metrics["mse"].count == dataset.test.num_rows == 400 // 5 - HORIZON + 1
    # the network does not move at this rate, so that only dropped windows could make a difference
    reference = fitted(configured("training.lr=1e-12", "model.dropout=0"), dataset, tmp_path / "reference")
    expected = EVALUATION.score(EVALUATION.predict(reference, dataset.test), dataset.test, dataset)
    assert scored.metrics["mse"].value == pytest.approx(expected.metrics["mse"].value, abs=1e-6)


@pytest.mark.parametrize("preset", sorted(FretsConfig.presets))
def test_6_every_preset_scales_and_the_bundle_says_how(tmp_path, preset):
    config = configured("model.ensemble=1", preset=preset)
    dataset = dataset_of(PANEL, config)
    model = fitted(config, dataset, tmp_path / "fit")
    info = save_bundle(model, tmp_path / "bundle", plugin="frets", task="forecasting")
    assert info.state["scaler"] == ("minmax" if "minmax" in preset else "zscore")
    loaded, _ = load_bundle(tmp_path / "bundle")
    np.testing.assert_array_equal(loaded.scaler.shift, dataset.train.scaler.shift)
    np.testing.assert_array_equal(loaded.scaler.scale, dataset.train.scaler.scale)


def test_7_a_published_figure_of_another_protocol_is_refused_by_the_table():
    facts = RunFacts(
        "run", "frets", "forecasting", "etth1", False, "ltsf-zscore", "published", (1,), "cpu", 9, "f" * 64
    )
    ours = Contender("frets", "ours", Scored({"mae": MetricScores.mean(np.ones(9))}), selected=True)
    minmax = PublishedFigure("FreTS", "mae", 0.061, "etth1", "authors-minmax", {}, "paper", False)
    with pytest.raises(ValueError, match="by authors-minmax; this run is on etth1 by ltsf"):
        build_results(facts, [ours], primary="mae", published=[minmax], n_boot=20)
    same = replace(minmax, protocol="ltsf-zscore")
    document = build_results(facts, [ours], primary="mae", published=[same], n_boot=20)
    assert [row["value"] for row in document["rows"] if row["kind"] == "published"] == [0.061]


def test_8_sentinels_become_missing_are_counted_and_never_share_a_table_with_kept_ones():
    faulty = ("data.simulator.steps=1500", "data.simulator.series=2", "data.simulator.sentinel=true")
    cleaned = DATASETS.simulated(configured(*faulty))
    named = DATASETS.simulated(configured(*faulty, "data.sentinels=[-9999]"))
    kept = DATASETS.simulated(configured(*faulty, "data.sentinels=keep"))
    (note,) = [note for note in cleaned.notes if "sentinel" in note]
    assert re.fullmatch(r"sentinels made missing \(found automatically\): -9999, 6 values in 2 series", note)
    assert any("as configured" in note for note in named.notes)
    assert any("kept as values on request" in note for note in kept.notes)
    # kept ones inflate the scale, and so make the scaled error of everything else small
    assert (kept.train.scaler.scale > 3 * cleaned.train.scaler.scale).any()
    assert cleaned.protocol != kept.protocol
    assert cleaned.test_fingerprint() == named.test_fingerprint() != kept.test_fingerprint()


def test_9_current_numpy_and_pandas_raise_no_warning_from_reading_to_report(tmp_path):
    import pandas as pd

    assert int(np.__version__.split(".")[0]) >= 2
    wide = pd.DataFrame(PANEL.values, columns=list(PANEL.unique_ids))
    wide.insert(0, "date", PANEL.ds)
    wide.to_csv(tmp_path / "wide.csv", index=False)
    config = configured()
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning, RuntimeWarning):
            warnings.simplefilter("error", kind)
        dataset = DATASETS.from_user(tmp_path / "wide.csv", config)
        model = fitted(config, dataset, tmp_path / "fit")
        scored = EVALUATION.score(EVALUATION.predict(model, dataset.test), dataset.test, dataset)
        predict_all(model, past_of(PANEL))
    assert scored.metrics["mase"].value > 0


def test_9_the_modules_import_with_warnings_as_errors():
    modules = sorted(path.stem for path in (ROOT / "appliedpapers/plugins/frets").glob("[a-z]*.py"))
    program = (
        "import warnings, torch, pandas, pyarrow, lightning_fabric\nwarnings.simplefilter('error')\n"
        + "".join(f"import appliedpapers.plugins.frets.{name}\n" for name in modules)
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_10_parts_that_share_target_rows_are_found_out():
    dataset = dataset_of(PANEL, configured())
    assert leakage_audit(dataset) == []
    valid = dataset.valid
    overlapping = ForecastSplit(
        dataset.test.panel,
        valid.scaler,
        first=dataset.test.first - 1,
        last=dataset.test.last,
        lookback=valid.lookback,
        horizon=valid.horizon,
    )
    findings = leakage_audit(replace(dataset, test=overlapping))
    assert findings
    assert "valid" in findings[0].sentence()
