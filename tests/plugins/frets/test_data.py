"""Datasets of the forecasting task: protocols, splits that do not leak, and what is left out of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_frets import dataset_of, panel_of, waves

from appliedpapers.core.config import resolve
from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.sources import list_datasets, load_dataset
from appliedpapers.plugins.frets.config import FretsConfig
from appliedpapers.plugins.frets.data import DATASETS
from appliedpapers.plugins.frets.splits import Cut, chronological, rolling


def configured(*assignments: str, preset: str = "quick") -> FretsConfig:
    return resolve(FretsConfig, preset=preset, assignments=assignments)


SMALL = ("data.simulator.steps=1000", "data.simulator.series=3", "model.lookback=48", "model.horizon=24")


def own_file(tmp_path, steps=600, series=("a", "b"), seed=0):
    rng = np.random.default_rng(seed)
    ds = pd.date_range("2024-01-01", periods=steps, freq="h")
    frame = pd.DataFrame({"date": ds, **{name: rng.normal(10, 3, steps) for name in series}})
    path = tmp_path / "load.csv"
    frame.to_csv(path, index=False)
    return path, frame


def targets(split) -> set[int]:
    return set(split.target_rows().tolist())


@pytest.fixture(scope="module")
def simulated():
    return DATASETS.simulated(configured(*SMALL))


def test_presets_say_what_the_spec_says():
    published = configured(preset="published")
    assert (published.training.batch_size, published.training.lr, published.training.lr_decay) == (
        32,
        1e-4,
        0.5,
    )
    assert (published.training.epochs, published.training.patience, published.seed) == (10, 3, 2021)
    assert not published.model.instance_norm
    minmax = configured(preset="published-minmax")
    assert (minmax.training.batch_size, minmax.data.protocol) == (8, "authors-minmax")
    quick = configured(preset="quick")
    assert (quick.model.instance_norm, quick.training.lr, quick.training.epochs) == (True, 3e-4, 2)


def test_an_unknown_option_is_answered_with_the_closest_one():
    with pytest.raises(ConfigError) as caught:
        configured("model.lookbak=3")
    assert caught.value.hint == "Did you mean 'model.lookback'?"
    with pytest.raises(ConfigError, match=r"intervals\.levels"):
        configured("intervals.levels=[80, 180]")


def test_the_simulated_dataset_is_split_in_time_without_leakage(simulated):
    assert simulated.provenance.synthetic
    assert simulated.protocol == "ltsf-zscore"
    assert simulated.summary == "3 series × 1,000 steps, hourly"
    assert simulated.split_note == "train 70 % valid 10 % test 20 %"
    assert leakage_audit(simulated) == []
    assert targets(simulated.train) == set(range(48, 700))
    assert targets(simulated.valid) == set(range(700, 800))
    assert targets(simulated.test) == set(range(800, 1000))
    assert simulated.test.num_rows == 200 - 24 + 1


def test_the_same_seed_gives_the_same_fingerprints_and_another_seed_others(simulated):
    again = DATASETS.simulated(configured(*SMALL))
    other = DATASETS.simulated(configured(*SMALL, "seed=1"))
    assert again.fingerprint() == simulated.fingerprint()
    assert again.test_fingerprint() == simulated.test_fingerprint()
    assert other.fingerprint() != simulated.fingerprint()


def test_the_scaler_sees_train_rows_only_and_no_part_holds_later_rows(simulated):
    train = simulated.train
    assert len(train.panel.ds) == 700
    assert len(simulated.valid.panel.ds) == 800
    np.testing.assert_allclose(train.scaler.shift, train.panel.values.mean(axis=0))
    np.testing.assert_allclose(train.scaler.scale, train.panel.values.std(axis=0))
    assert simulated.test.scaler is train.scaler
    np.testing.assert_allclose(train.scaled.mean(axis=0), 0, atol=1e-9)


def test_minmax_scales_the_train_part_to_zero_and_one():
    dataset = DATASETS.simulated(configured(*SMALL, "data.protocol=authors-minmax"))
    assert dataset.protocol == "authors-minmax"
    np.testing.assert_allclose(dataset.train.scaled.min(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(dataset.train.scaled.max(axis=0), 1)
    assert dataset.split_note == "train 70 % valid 20 % test 10 %"


def test_an_example_is_the_past_of_the_first_window(simulated):
    example = simulated.test.example(2)
    assert example.column_names == ["unique_id", "ds", "y"]
    assert example.num_rows == 2 * 48
    assert example.column("ds").to_numpy().max() == simulated.test.panel.ds[799]


def test_faults_of_the_simulator_are_handled_as_those_of_a_file():
    faulty = DATASETS.simulated(configured(*SMALL, "data.simulator.sentinel=true", "data.impute=seasonal"))
    assert any("sentinels made missing" in note for note in faulty.notes)
    assert any("imputed (seasonal)" in note for note in faulty.notes)
    assert not np.isnan(faulty.test.panel.values).any()
    kept = DATASETS.simulated(configured(*SMALL, "data.simulator.sentinel=true", "data.sentinels=keep"))
    assert kept.protocol == "ltsf-zscore+sentinels-kept"
    assert kept.test_fingerprint() != faulty.test_fingerprint()
    with pytest.raises(DataError, match="duplicate timestamps"):
        DATASETS.simulated(configured("data.simulator.steps=9000", "data.simulator.duplicated_hour=true"))


def test_own_data_are_split_by_rolling_cutoffs_from_the_end(tmp_path):
    path, frame = own_file(tmp_path)
    config = configured("model.lookback=48", "model.horizon=24", "data.n_windows=5", "data.step=12")
    dataset = load_dataset(DATASETS, "frets", config, data=path)
    assert (dataset.name, dataset.protocol) == ("load.csv", "rolling")
    assert not dataset.provenance.synthetic
    assert set(dataset.provenance.sha256) == {"load.csv"}
    assert dataset.test.windows.cutoffs.tolist() == [528, 540, 552, 564, 576]
    assert dataset.valid.num_rows >= 20
    assert leakage_audit(dataset) == []
    np.testing.assert_array_equal(dataset.test.panel.values, frame[["a", "b"]].to_numpy())


def test_wide_and_long_files_give_the_same_dataset(tmp_path):
    path, frame = own_file(tmp_path)
    long = frame.melt(id_vars="date", var_name="unique_id", value_name="y").rename(columns={"date": "ds"})
    other = tmp_path / "long.csv"
    long.sample(frac=1, random_state=0).to_csv(other, index=False)
    config = configured("model.lookback=48", "model.horizon=24")
    a, b = (load_dataset(DATASETS, "frets", config, data=file) for file in (path, other))
    assert a.fingerprint() == b.fingerprint()
    assert a.test_fingerprint() == b.test_fingerprint()


def test_a_history_too_short_names_the_lengths_and_the_named_one_is_enough(tmp_path):
    path, _ = own_file(tmp_path, steps=100)
    config = configured("model.lookback=48", "model.horizon=24")
    with pytest.raises(DataError) as caught:
        load_dataset(DATASETS, "frets", config, data=path)
    assert "load.csv: 100 steps are too few" in caught.value.message
    assert "needs 120" in caught.value.message
    path, _ = own_file(tmp_path, steps=120)
    assert load_dataset(DATASETS, "frets", config, data=path).test.num_rows == 1


def test_a_series_that_is_too_short_is_left_out_with_its_reason(tmp_path):
    path, frame = own_file(tmp_path, series=("a", "late", "short"))
    frame.loc[: 600 - 50, "short"] = np.nan
    frame.loc[:500, "late"] = np.nan
    frame.to_csv(path, index=False)
    dataset = load_dataset(DATASETS, "frets", configured("model.lookback=48", "model.horizon=24"), data=path)
    assert dataset.test.panel.unique_ids == ("a",)
    assert "series 'short' left out: 49 steps, 72 needed" in dataset.notes
    assert any(note.startswith("series 'late' left out: no value before 2024-01-") for note in dataset.notes)


@pytest.mark.parametrize("length", [300, 777, 2000])
@pytest.mark.parametrize("horizon", [1, 12, 24])
def test_every_cut_keeps_its_parts_in_order_and_large_enough(length, horizon):
    for cut in (
        chronological(length, 0.7, 0.2),
        chronological(length, 0.7, 0.1),
        rolling(length, 48, horizon, n_windows=None, step=None),
        rolling(length, 48, horizon, n_windows=3, step=7),
    ):
        assert 0 < cut.train < cut.valid < cut.test == length
        assert cut.holds(48, horizon)


def test_a_cut_without_room_for_a_window_does_not_hold():
    assert not Cut(100, 110, 200).holds(48, 24)
    assert not Cut(60, 100, 200).holds(48, 24)
    assert Cut(72, 96, 120).holds(48, 24)


def test_targets_of_the_windows_are_the_keys_in_original_units(simulated):
    split = simulated.valid
    table = split.table().to_pandas().pivot(index="ds", columns="unique_id", values="y")
    first = split.scaler.inverse(split.windows.targets[0])
    np.testing.assert_allclose(first, table.to_numpy()[:24])
    assert split.keys().num_rows == table.size


def test_another_lookback_keeps_the_target_rows_of_valid_and_test(simulated):
    for split in (simulated.valid, simulated.test):
        usual, longer = split.windows, split.at_lookback(200)
        np.testing.assert_array_equal(usual.targets, longer.targets)
        np.testing.assert_array_equal(usual.inputs, longer.inputs[:, -48:])
        assert len(usual) == split.num_rows
    assert simulated.train.at_lookback(200).first == 200
    with pytest.raises(ConfigError, match="does not fit"):
        simulated.valid.at_lookback(701)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "assignments", "windows"),
    [
        ("etth1", (), (8640 - 192 + 1, 2880 - 95, 2880 - 95)),
        ("exchange", (), (5311 - 192 + 1, 760 - 95, 1517 - 95)),
        ("covid", ("model.lookback=12", "model.horizon=12"), (234 - 24 + 1, 34 - 11, 67 - 11)),
        ("illness", ("model.lookback=36", "model.horizon=24"), (676 - 60 + 1, 97 - 23, 193 - 23)),
    ],
)
def test_a_published_dataset_is_cut_by_the_standard_protocol(shared, monkeypatch, name, assignments, windows):
    monkeypatch.setenv("APPS_DATA_HOME", str(shared / "data"))
    assert {row.id: row.state for row in list_datasets(DATASETS, "frets")}[name] == "ready"
    dataset = load_dataset(DATASETS, "frets", configured(*assignments, preset="published"), dataset=name)
    assert dataset.protocol == "ltsf-zscore"
    assert tuple(part.num_rows for part in (dataset.train, dataset.valid, dataset.test)) == windows
    assert leakage_audit(dataset) == []


@pytest.mark.shared
def test_covid_under_the_authors_protocol_is_cut_60_20_20(shared, monkeypatch):
    monkeypatch.setenv("APPS_DATA_HOME", str(shared / "data"))
    config = configured("model.lookback=12", "model.horizon=12", preset="published-minmax")
    dataset = load_dataset(DATASETS, "frets", config, dataset="covid")
    assert dataset.protocol == "authors-minmax"
    assert dataset.split_note == "train 60 % valid 20 % test 20 %"


def test_gaps_that_predict_would_refuse_are_told_before_training():
    values, small = waves(), ("model.lookback=24", "model.horizon=8", "intervals.levels=[]")
    said = "of 3 series miss values among their last"
    assert not any(said in note for note in dataset_of(panel_of(values), configured(*small), own=True).notes)
    values[-60, 1] = np.nan  # before what the model looks back on
    values[-5, 0] = np.nan
    values[-3:, 2] = np.nan  # ends earlier, and misses nothing before
    (note,) = [one for one in dataset_of(panel_of(values), configured(*small), own=True).notes if said in one]
    assert note.startswith("1 of 3")
    assert "--set data.impute=linear" in note
    filled = dataset_of(panel_of(values), configured(*small, "data.impute=linear"), own=True)
    assert not any(said in one for one in filled.notes)
