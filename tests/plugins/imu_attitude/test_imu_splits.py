"""Splits of recordings: whole trials, keys and contents that an audit can compare, examples in user units."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_recordings import frame_of, swaying

from appliedpapers.core.data import Dataset, Provenance, leakage_audit
from appliedpapers.core.errors import DataError
from appliedpapers.plugins.imu_attitude.config import DataConfig
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.splits import (
    TIME_GAP_S,
    AttitudeSplit,
    Parts,
    cut,
    deal_by_time,
    deal_by_trial,
)

USUAL = DataConfig()


def dataset_of(parts: Parts, *, disjoint=("trial",)) -> Dataset:
    splits = (AttitudeSplit(part, USUAL) for part in (parts.train, parts.valid, parts.test))
    return Dataset("own", parts.protocol, Provenance("own", "none", False), *splits, disjoint=disjoint)


def resting(trial: str, rows: int = 10) -> Recording:
    return Recording(trial, np.arange(rows) / 10, np.ones((rows, 3)), np.zeros((rows, 3)))


@pytest.fixture(scope="module")
def recording():
    return swaying(seconds=12.0)


def test_samples_are_counted_where_errors_count(recording):
    split = AttitudeSplit([recording], USUAL)
    assert split.num_rows == recording.movement.sum() == 900
    assert AttitudeSplit([replace(recording, reference=None)], USUAL).num_rows == 1200
    assert AttitudeSplit([], USUAL).num_rows == 0


def test_a_key_is_a_second_of_a_trial_that_holds_samples(recording):
    gap = cut(recording, slice(0, 350))
    later = replace(gap, time=np.where(gap.time > 2.2, gap.time + 5, gap.time))
    keys = AttitudeSplit([later, resting("still", 3)], USUAL).keys().to_pydict()
    assert keys["trial"] == [*["sway"] * 5, "still"]
    assert keys["second"] == [0, 1, 2, 7, 8, 0]
    assert AttitudeSplit([], USUAL).keys().num_rows == 0


def test_batches_hold_every_sample_with_its_reference_lazily(recording):
    split = AttitudeSplit([recording, replace(resting("still"), movement=None)], USUAL)
    assert [batch.num_rows for batch in split.batches(1000)] == [1000, 200, 10]
    table = pa.Table.from_batches(list(split.batches()))
    expected = frame_of(recording)
    found = table.slice(0, 1200).to_pandas()
    for name in expected.columns:
        np.testing.assert_array_equal(found[name], expected[name])
    rest = table.slice(1200).to_pydict()
    assert np.isnan(rest["quat_w"]).all()
    assert rest["movement"] == [None] * 10


def test_an_example_is_what_a_user_would_send(recording):
    data = DataConfig(acc_unit="g", gyr_unit="deg/s", acc_sign="gravity")
    table = AttitudeSplit([recording, resting("still")], data).example(2).to_pandas()
    assert list(table) == ["trial", "time", "acc_x", "acc_y", "acc_z", "gyr_x", "gyr_y", "gyr_z"]
    part = table[table["trial"] == "sway"]
    # a second of rest before the movement begins
    assert part["time"].iloc[[0, -1]].tolist() == pytest.approx([2.0, 6.99])
    frame = frame_of(cut(recording, slice(200, 700)), data)
    np.testing.assert_allclose(part[["acc_x", "gyr_z"]], frame[["acc_x", "gyr_z"]])
    assert (table["trial"] == "still").sum() == 10
    assert len(AttitudeSplit([recording, resting("still")], data).example()) == 500


def test_a_fingerprint_follows_every_number_and_name(recording):
    seen = {AttitudeSplit([recording], USUAL).fingerprint()}
    changed = (
        replace(recording, trial="other"),
        replace(recording, acc=recording.acc + 1e-12),
        replace(recording, time=recording.time + 1.0),
        replace(recording, reference=None),
        replace(recording, movement=None),
        cut(recording, slice(0, 1199)),
    )
    seen |= {AttitudeSplit([one], USUAL).fingerprint() for one in changed}
    assert len(seen) == 1 + len(changed)
    assert AttitudeSplit([replace(recording, notes=("read",))], USUAL).fingerprint() in seen


def test_a_trial_in_two_splits_is_found(recording):
    other = swaying(seconds=12.0, trial="b", seed=1)
    parts = Parts([recording], [other], [cut(recording, slice(600, 1200))], "by-trial", "")
    kinds = {finding.kind for finding in leakage_audit(dataset_of(parts))}
    assert kinds == {"rows", "values of 'trial'", "identical contents"}


def test_a_copy_under_another_name_is_found_by_its_contents(recording):
    copy = replace(recording, trial="copy", time=recording.time + 100.0)
    parts = Parts([recording], [swaying(trial="b", seed=1)], [copy], "by-trial", "")
    (finding,) = leakage_audit(dataset_of(parts))
    assert finding.kind == "identical contents"
    assert finding.splits == ("train", "test")


def test_sensors_that_do_not_change_are_no_copies_of_each_other():
    parts = Parts([resting("a")], [resting("b")], [resting("c")], "by-trial", "")
    assert leakage_audit(dataset_of(parts)) == []


def test_the_audit_of_eleven_trials_of_57_000_samples_takes_less_than_a_second():
    rng = np.random.default_rng(0)
    rows = 57_000
    trials = [
        Recording(f"trial {number}", np.arange(rows) / 286, *rng.normal(size=(2, rows, 3)))
        for number in range(11)
    ]
    data = dataset_of(Parts(trials[:5], trials[5:6], trials[6:], "by-trial", ""))
    started = time.process_time()
    assert leakage_audit(data) == []
    assert time.process_time() - started < 1


@given(
    count=st.integers(3, 40),
    valid=st.floats(0.01, 0.89),
    test=st.floats(0.01, 0.89),
    order=st.randoms(use_true_random=False),
)
def test_every_trial_goes_to_one_split_and_no_split_is_empty(count, valid, test, order):
    trials = [resting(f"trial {number}") for number in range(count)]
    data = DataConfig(valid_share=valid, test_share=test)
    parts = deal_by_trial(trials, data, "own")
    splits = [{one.trial for one in part} for part in (parts.train, parts.valid, parts.test)]
    assert all(splits)
    assert sum(map(len, splits)) == len(set.union(*splits)) == count
    order.shuffle(trials)
    again = deal_by_trial(trials, data, "own")
    assert {one.trial for one in again.test} == splits[2]


def test_shares_are_kept_as_well_as_whole_trials_allow():
    parts = deal_by_trial([resting(f"trial {number}") for number in range(20)], USUAL, "own")
    assert (len(parts.train), len(parts.valid), len(parts.test)) == (12, 4, 4)
    assert parts.split_note == "whole trials, 12 : 4 : 4"


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_trials_are_refused_with_what_can_be_done(count):
    with pytest.raises(DataError, match=rf"own: {count} trial") as caught:
        deal_by_trial([resting(f"trial {number}") for number in range(count)], USUAL, "own")
    assert "--set data.split=by-time" in caught.value.hint


def test_a_long_trial_is_cut_in_time_with_gaps_and_says_so_loudly():
    recording = swaying(seconds=120.0, fs=20.0)
    parts = deal_by_time([recording], USUAL, "own")
    (train,), (valid,), (test,) = parts.train, parts.valid, parts.test
    assert parts.protocol == "by-time"
    assert parts.notes[0].startswith("BY-TIME")
    assert train.time[0] == 0
    assert test.time[-1] == recording.time[-1]
    assert valid.time[0] - train.time[-1] >= TIME_GAP_S
    assert test.time[0] - valid.time[-1] >= TIME_GAP_S
    assert [round(one.time[-1] - one.time[0]) for one in (train, valid, test)] == [60, 20, 20]
    assert leakage_audit(dataset_of(parts, disjoint=())) == []
    np.testing.assert_array_equal(test.acc, recording.acc[-len(test) :])


def test_a_trial_that_is_too_short_to_be_cut_is_refused():
    with pytest.raises(DataError, match="'sway': 30 s are too short") as caught:
        deal_by_time([swaying(seconds=30.0, fs=20.0)], USUAL, "own")
    assert "70 s or more" in caught.value.hint
    with pytest.raises(DataError, match="nothing to train on"):
        deal_by_time([swaying()], DataConfig(valid_share=0.5, test_share=0.5), "own")
