"""Windows of the paper's models: within one trial, with the right target and the right rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.imu_attitude.config import ModelConfig
from appliedpapers.plugins.imu_attitude.paper_windows import (
    PaperWindows,
    answer_offset,
    unbroken_blocks,
    window_rates,
)
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import normalise


def numbered(rows, first=0, trial="a", fs=100.0, unknown=()) -> Recording:
    """A recording whose readings say which row they are."""
    count = first + np.arange(rows, dtype=float)
    reference = normalise(np.stack([np.ones(rows), count, np.zeros(rows), np.zeros(rows)], axis=1))
    reference[list(unknown)] = np.nan
    acc = np.repeat(count[:, None], 3, axis=1)
    return Recording(trial, np.arange(rows) / fs, acc, -acc, None, reference)


def row_of(batch):
    return (batch.quaternion[:, 1] / batch.quaternion[:, 0]).round().int().tolist()


def settings(window=20, stride=4, target="last", average=1) -> ModelConfig:
    # windows of tests are shorter than those that users may ask for
    return ModelConfig.model_construct(window=window, stride=stride, target=target, average=average)


def all_of(windows):
    return windows.gather(torch.arange(len(windows)))


@pytest.mark.parametrize(
    ("window", "stride", "target", "offset"),
    [(100, 4, "centre", 48), (100, 4, "last", 99), (20, 40, "centre", 0)],
)
def test_which_sample_is_answered_for(window, stride, target, offset):
    assert answer_offset(settings(window, stride, target)) == offset


def test_time_stamps_of_two_trials_are_refused():
    """Known defect 1: windows that cross from one trial to the next."""
    one = numbered(50)
    both = Recording("both", *(np.concatenate([x, x]) for x in (one.time, one.acc, one.gyr)))
    with pytest.raises(DataError, match=r"Trial 'both', row 50: time 0 s follows 0\.49 s"):
        unbroken_blocks(both, 1)
    with pytest.raises(DataError, match="both"):
        PaperWindows([replace(both, reference=np.ones((100, 4)) / 2)], settings())


@pytest.mark.parametrize("stamp", [0.30, 0.10, np.nan])
def test_time_stamps_that_do_not_increase_are_refused(stamp):
    recording = numbered(100)
    recording.time[31] = stamp
    with pytest.raises(DataError, match="row 31"):
        unbroken_blocks(recording, 1)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
    st.integers(2, 25),
    st.integers(1, 30),
    st.sampled_from(["centre", "last"]),
)
def test_no_window_crosses_trials(lengths, window, stride, target):
    firsts = np.cumsum([0, *lengths[:-1]]) + 1000 * np.arange(len(lengths))
    trials = [numbered(n, int(f), str(f)) for n, f in zip(lengths, firsts, strict=True)]
    expected = [len(range(0, n - window + 1, stride)) for n in lengths]
    config = settings(window, stride, target)
    if not sum(expected):
        with pytest.raises(DataError, match=f"{window} samples in a row"):
            PaperWindows(trials, config)
        return
    batch = all_of(PaperWindows(trials, config))
    assert len(batch.fs) == sum(expected)
    steps = batch.acc[:, 1:] - batch.acc[:, :-1]
    assert steps.eq(1).all()
    assert batch.gyr.equal(-batch.acc)
    answered = batch.acc[:, answer_offset(config), 0]
    torch.testing.assert_close(
        batch.quaternion[:, 1] / batch.quaternion[:, 0], answered, rtol=1e-4, atol=1e-4
    )


def test_no_window_crosses_a_gap():
    recording = numbered(100)
    recording.time[50:] += 2.0
    parts = unbroken_blocks(recording, 1)
    assert [(blocks.piece.start, blocks.piece.stop) for blocks in parts] == [(0, 50), (50, 100)]
    assert row_of(all_of(PaperWindows([recording], settings(20, 10)))) == [19, 29, 39, 49, 69, 79, 89, 99]


def test_blocks_are_means_that_end_with_their_last_sample():
    recording = numbered(103)
    recording.time[53:] += 2.0
    parts = unbroken_blocks(recording, 5)
    assert [len(blocks.rows) for blocks in parts] == [10, 10]
    assert parts[1].rows.tolist() == list(range(57, 103, 5))
    np.testing.assert_allclose(parts[1].acc[:, 0], parts[1].rows - 2)
    np.testing.assert_array_equal(parts[1].time, recording.time[parts[1].rows])
    batch = all_of(PaperWindows([recording], settings(8, 1, average=5)))
    assert row_of(batch) == [39, 44, 49, 92, 97, 102]
    torch.testing.assert_close(batch.fs, torch.full((6,), 20.0))


def test_windows_without_a_known_target_are_left_out():
    windows = PaperWindows([numbered(60, unknown=[29])], settings(20, 5))
    assert row_of(all_of(windows)) == [19, 24, 34, 39, 44, 49, 54, 59]


def test_trials_without_a_reference_are_left_out():
    blind = replace(numbered(60, 500, "blind"), reference=None)
    windows = PaperWindows([blind, numbered(40)], settings(20, 10))
    assert row_of(all_of(windows)) == [19, 29, 39]
    with pytest.raises(DataError, match="reference"):
        PaperWindows([blind], settings(20, 10))


def test_the_rate_is_never_rounded():
    """Known defect 9: 286 Hz for 285.714 Hz."""
    time = np.arange(300) * 0.0035
    assert window_rates(time, np.array([0, 100]), 100) == pytest.approx([1 / 0.0035] * 2, rel=1e-12)
    batch = all_of(PaperWindows([numbered(200, fs=1 / 0.0035)], settings(100, 50)))
    torch.testing.assert_close(batch.fs, torch.full((3,), 285.71429))


def test_each_window_has_the_rate_of_its_own_time_stamps():
    time = np.concatenate([np.arange(50) / 100, 0.5 + np.arange(50) / 50])
    assert window_rates(time, np.array([0, 60]), 20) == pytest.approx([100, 50])


def test_readings_are_held_once():
    windows = PaperWindows([numbered(20_000)], settings(1000, 1))
    assert windows._acc.untyped_storage().nbytes() == 20_000 * 3 * 4
