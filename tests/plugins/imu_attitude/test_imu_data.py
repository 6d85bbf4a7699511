"""The catalogue: the simulator, the user's recordings, and what is sent to predict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from own_recordings import frame_of, swaying, write_csv

from appliedpapers.core.config import resolve
from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import AppsError, ConfigError, DataError
from appliedpapers.core.sources import load_dataset
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig
from appliedpapers.plugins.imu_attitude.data import DATASETS
from appliedpapers.plugins.imu_attitude.model import AttitudeEstimator
from appliedpapers.plugins.imu_attitude.plugin import PLUGIN


def configured(*assignments: str) -> AttitudeConfig:
    return resolve(AttitudeConfig, preset="quick", assignments=assignments)


SEEDS = (configured().seed, configured().seed + 1)
SMALL = ("data.simulator.sequences=6", "data.simulator.seconds=5.0", "data.simulator.fs=[50.0]")


@pytest.fixture(scope="module")
def simulated():
    return DATASETS.simulated(configured(*SMALL))


def walks(folder, count=5):
    for number in range(count):
        write_csv(folder, swaying(seconds=6.0, rest=1.0, fs=50.0, trial=f"walk {number}", seed=number))
    return folder


def test_the_front_door_names_the_task_and_what_it_needs():
    assert PLUGIN.id == "imu-attitude"
    assert PLUGIN.task().load("datasets") is DATASETS
    assert PLUGIN.task().load("config") is AttitudeConfig
    assert PLUGIN.extra == "applied-papers[imu-attitude]"


def test_simulated_sequences_are_split_whole_and_without_leakage(simulated):
    assert simulated.provenance.synthetic
    assert simulated.split_note == "whole sequences, 4 : 1 : 1"
    assert simulated.summary == "6 trials, 30 s at 50 Hz"
    assert leakage_audit(simulated) == []
    assert simulated.valid.trials == ("simulated-0005",)
    full = configured("data.simulator.sequences=24", "data.simulator.seconds=1.5")
    assert DATASETS.simulated(full).split_note == "whole sequences, 16 : 4 : 4"


def test_the_same_seed_gives_the_same_fingerprints_and_another_seed_others(simulated):
    again, other = (DATASETS.simulated(configured(*SMALL, f"seed={seed}")) for seed in SEEDS)
    assert again.fingerprint() == simulated.fingerprint()
    assert again.test_fingerprint() == simulated.test_fingerprint()
    assert other.fingerprint() != simulated.fingerprint()
    assert other.test_fingerprint() != simulated.test_fingerprint()


def test_a_folder_of_trials_is_split_by_trial(tmp_path):
    data = load_dataset(DATASETS, "imu-attitude", configured(), data=walks(tmp_path))
    assert data.protocol == "by-trial"
    assert data.split_note == "whole trials, 3 : 1 : 1"
    assert leakage_audit(data) == []
    assert not set(data.train.trials) & set(data.test.trials)
    assert set(data.provenance.sha256) == {f"walk {number}.csv" for number in range(5)}
    assert not data.provenance.synthetic


def test_what_was_mended_is_told_once_with_the_trials_it_is_about(tmp_path):
    for number in range(5):
        recording = swaying(seconds=6.0, rest=1.0, fs=50.0, trial=f"w{number}", seed=number)
        frame = frame_of(replace(recording, reference=None))
        frame["time"] = np.round(frame["time"] * 1000)
        frame.to_csv(tmp_path / f"w{number}.csv", index=False)
    data = DATASETS.from_user(tmp_path, configured())
    assert sorted(note.partition(": ")[2] for note in data.notes) == [
        "no reference: errors cannot be counted",
        "time was read as ms",
    ]
    assert all(" and 2 more: " in note for note in data.notes)


def test_one_recording_is_refused_by_trial_and_cut_by_time(tmp_path):
    path = write_csv(tmp_path, swaying(seconds=80.0, fs=20.0))
    with pytest.raises(DataError, match=r"sway\.csv: 1 trial;"):
        DATASETS.from_user(path, configured())
    data = DATASETS.from_user(path, configured("data.split=by-time"))
    assert data.protocol == "by-time"
    assert data.notes[0].startswith("BY-TIME")
    assert data.summary == "1 trial, 60 s at 20 Hz"
    assert leakage_audit(data) == []


def test_inputs_are_in_the_users_units_and_are_tested_first(tmp_path):
    recording = swaying(seconds=8.0, rest=1.0)
    config = configured("data.acc_unit=g", "data.gyr_unit=deg/s")
    path = write_csv(tmp_path, recording, config.data)
    table = DATASETS.inputs(path, config).to_pandas()
    frame = frame_of(recording, config.data)
    np.testing.assert_allclose(table[["time", "acc_x", "gyr_z"]], frame[["time", "acc_x", "gyr_z"]])
    assert "quat_w" not in table
    with pytest.raises(DataError, match="acc looks like g, read as m/s2"):
        DATASETS.inputs(path, configured())


def test_the_sample_can_be_read_back_as_inputs(tmp_path):
    config = configured("data.acc_unit=mg", "data.acc_sign=gravity")
    table = DATASETS.sample(tmp_path, config)
    table.to_pandas().to_csv(tmp_path / "sample.csv", index=False)
    back = DATASETS.inputs(tmp_path / "sample.csv", config)
    assert back.column_names == table.column_names
    np.testing.assert_allclose(back["acc_z"], table["acc_z"])
    assert np.abs(table.to_pandas()[["acc_x", "acc_y", "acc_z"]]).to_numpy().max() > 500


@pytest.mark.parametrize("content", [b"", bytes(range(256)), b"a,b\n1,2\n"])
def test_a_file_of_something_else_is_refused_with_a_hint(tmp_path, content):
    path = tmp_path / "odd.csv"
    path.write_bytes(content)
    with pytest.raises(AppsError) as caught:
        DATASETS.from_user(path, configured())
    assert caught.value.hint


def test_sets_that_are_read_by_column_names_say_so():
    with pytest.raises(ConfigError, match="'euroc' cannot be fetched") as caught:
        load_dataset(DATASETS, "imu-attitude", configured(), dataset="euroc")
    assert "data.columns" in caught.value.hint


def test_a_file_is_answered_for_row_by_row_also_where_samples_are_skipped(tmp_path):
    frame = frame_of(swaying(seconds=8.0))
    frame.loc[[100, 101], "acc_x"] = np.nan
    frame.loc[300, frame.columns[0]] = frame.loc[299, frame.columns[0]]
    frame.to_csv(tmp_path / "log.csv", index=False)
    config = resolve(AttitudeConfig, assignments=["data.on_bad=skip", "model.kind=filter"])
    table = DATASETS.inputs(tmp_path / "log.csv", config)
    answers = AttitudeEstimator(config).predict(table).to_pylist()
    assert len(answers) == len(frame)
    skipped = [row for row, answer in enumerate(answers) if "skipped" in answer["flags"]]
    assert skipped == [100, 101, 300]
