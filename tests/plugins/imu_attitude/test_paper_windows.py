"""Windows of the paper's models: within one trial, with the right target and the right rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.imu_attitude.paper_windows import (
    PaperWindows,
    answer_offset,
    unbroken_pieces,
    window_rates,
    window_starts,
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


@pytest.mark.parametrize(
    ("window", "stride", "target", "offset"),
    [(100, 4, "centre", 48), (100, 4, "last", 99), (20, 40, "centre", 0)],
)
def test_which_sample_is_answered_for(window, stride, target, offset):
    assert answer_offset(window, stride, target) == offset


def test_time_stamps_of_two_trials_are_refused():
    """Known defect 1: windows that cross from one trial to the next."""
    both = np.concatenate([np.arange(50) / 100, np.arange(50) / 100])
    with pytest.raises(DataError, match=r"Trial 'both', row 50: time 0 s follows 0\.49 s"):
        window_starts(both, 20, 4, "both")
    recording = Recording("both", both, np.ones((100, 3)), np.ones((100, 3)), None, np.ones((100, 4)) / 2)
    with pytest.raises(DataError, match="both"):
        PaperWindows([recording], 20, 4, "last")


@pytest.mark.parametrize("stamp", [0.30, 0.10, np.nan])
def test_time_stamps_that_do_not_increase_are_refused(stamp):
    time = np.arange(100) / 100
    time[31] = stamp
    with pytest.raises(DataError, match="row 31"):
        window_starts(time, 20, 4)


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
    if not sum(expected):
        with pytest.raises(DataError, match=f"{window} samples in a row"):
            PaperWindows(trials, window, stride, target)
        return
    windows = PaperWindows(trials, window, stride, target)
    batch = windows.gather(torch.arange(len(windows)))
    assert len(windows) == sum(expected)
    steps = batch.acc[:, 1:] - batch.acc[:, :-1]
    assert steps.eq(1).all()
    assert batch.gyr.equal(-batch.acc)
    answered = batch.acc[:, answer_offset(window, stride, target), 0]
    torch.testing.assert_close(
        batch.quaternion[:, 1] / batch.quaternion[:, 0], answered, rtol=1e-4, atol=1e-4
    )


def test_no_window_crosses_a_gap():
    time = np.concatenate([np.arange(50), 50 + 200 + np.arange(50)]) / 100
    starts = window_starts(time, 20, 10)
    assert starts.tolist() == [0, 10, 20, 30, 50, 60, 70, 80]
    assert [(piece.start, piece.stop) for piece in unbroken_pieces(time)] == [(0, 50), (50, 100)]


def test_windows_without_a_known_target_are_left_out():
    windows = PaperWindows([numbered(60, unknown=[29])], 20, 5, "last")
    assert row_of(windows.gather(torch.arange(len(windows)))) == [19, 24, 34, 39, 44, 49, 54, 59]


def test_trials_without_a_reference_are_left_out():
    blind = numbered(60, 500, "blind")
    blind = Recording("blind", blind.time, blind.acc, blind.gyr)
    windows = PaperWindows([blind, numbered(40)], 20, 10, "last")
    assert row_of(windows.gather(torch.arange(len(windows)))) == [19, 29, 39]
    with pytest.raises(DataError, match="reference"):
        PaperWindows([blind], 20, 10, "last")


def test_the_rate_is_never_rounded():
    """Known defect 9: 286 Hz for 285.714 Hz."""
    time = np.arange(300) * 0.0035
    assert window_rates(time, np.array([0, 100]), 100) == pytest.approx([1 / 0.0035] * 2, rel=1e-12)
    batch = PaperWindows([numbered(200, fs=1 / 0.0035)], 100, 50, "last").gather(torch.arange(2))
    torch.testing.assert_close(batch.fs, torch.full((2,), 285.71429))


def test_each_window_has_the_rate_of_its_own_time_stamps():
    time = np.concatenate([np.arange(50) / 100, 0.5 + np.arange(50) / 50])
    assert window_rates(time, np.array([0, 60]), 20) == pytest.approx([100, 50])


def test_readings_are_held_once():
    windows = PaperWindows([numbered(20_000)], 1000, 1, "last")
    held = {view.untyped_storage().data_ptr(): view.untyped_storage().nbytes() for view in (windows._acc,)}
    assert sum(held.values()) == 20_000 * 3 * 4
