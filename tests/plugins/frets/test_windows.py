"""Windows: nothing dropped, nothing copied in vain, nothing missing passed on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.plugins.frets.learner import WindowTask, WindowTensors
from appliedpapers.plugins.frets.windows import WindowArrays


def counting(rows=40, series=3, **options) -> WindowArrays:
    values = np.arange(rows * series, dtype=np.float64).reshape(rows, series)
    return WindowArrays(values, **{"first": 6, "last": 30, "lookback": 5, "horizon": 4, **options})


def test_inputs_end_where_targets_begin():
    windows = counting()
    assert windows.inputs.shape == (25, 5, 3)
    assert windows.targets.shape == (25, 4, 3)
    for index, cutoff in enumerate(windows.cutoffs):
        np.testing.assert_array_equal(windows.inputs[index], windows.values[cutoff - 5 : cutoff])
        np.testing.assert_array_equal(windows.targets[index], windows.values[cutoff : cutoff + 4])


def test_inputs_and_targets_are_views():
    windows = counting()
    assert np.shares_memory(windows.inputs, windows.values)
    assert np.shares_memory(windows.targets, windows.values)


@given(first=st.integers(5, 20), extra=st.integers(0, 15), step=st.integers(1, 6), size=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_every_window_is_gathered_once_whatever_the_batch_size(first, extra, step, size):
    windows = counting(first=first, last=first + extra, step=step)
    assert len(windows) == len(windows.cutoffs) == len(windows.inputs) == len(windows.targets)
    tensors = WindowTensors(windows, mixes_series=True)
    gathered = [tensors.gather(part) for part in torch.arange(len(tensors)).split(size)]
    np.testing.assert_array_equal(np.concatenate([inputs for inputs, _ in gathered]), windows.inputs)
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in gathered]), windows.targets)


def test_shuffled_indices_gather_the_same_windows_and_repeat_by_seed():
    windows = counting()
    task = WindowTask(
        torch.nn.Linear(1, 1), windows, windows, TrainingConfig(batch_size=7), mixes_series=True
    )
    first, second = (np.concatenate(list(task.batches(torch.Generator().manual_seed(3)))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert list(first) != sorted(first)
    # 25 windows: three whole batches of 7, and the 4 left over may be drawn in another epoch
    assert len(set(first)) == len(first) == 21
    assert set(first) <= set(range(len(windows)))
    assert task.num_steps() == len(list(task.batches(torch.Generator()))) == 3
    other = np.concatenate(list(task.batches(torch.Generator().manual_seed(4))))
    assert set(other) != set(first)


def test_fewer_windows_than_a_batch_are_one_batch():
    task = WindowTask(
        torch.nn.Linear(1, 1), counting(), counting(), TrainingConfig(batch_size=99), mixes_series=True
    )
    assert [len(batch) for batch in task.batches(torch.Generator())] == [len(counting())]


@given(st.sets(st.tuples(st.integers(0, 39), st.integers(0, 2)), max_size=12))
@settings(max_examples=40, deadline=None)
def test_what_holds_a_missing_value_is_masked_and_never_gathered(holes):
    values = counting().values.copy()
    for row, series in holes:
        values[row, series] = np.nan
    windows = WindowArrays(values, first=6, last=30, lookback=5, horizon=4)
    whole = np.concatenate([windows.inputs, windows.targets], axis=1)
    np.testing.assert_array_equal(windows.valid, ~np.isnan(whole).any(axis=1))
    for mixes_series, count in ((False, windows.valid.sum()), (True, windows.valid.all(axis=1).sum())):
        tensors = WindowTensors(windows, mixes_series)
        inputs, targets = tensors.gather(torch.arange(len(tensors)))
        assert inputs.shape[1:] == (5, 3 if mixes_series else 1)
        assert targets.shape[1:] == (4, 3 if mixes_series else 1)
        assert len(inputs) == len(targets) == count
        # filled-in values are zeros, and no true value but the first is
        assert int((inputs == 0).sum()) == 0
    rows = WindowTensors(windows, mixes_series=False)
    inputs, _ = rows.gather(torch.arange(len(rows)))
    expected = windows.inputs.transpose(0, 2, 1)[windows.valid]
    np.testing.assert_array_equal(inputs[:, :, 0], expected)


def test_changing_the_lookback_keeps_valid_targets_and_moves_the_start_of_train():
    valid = counting(first=10)
    assert list(valid.with_lookback(8).cutoffs) == list(valid.cutoffs)
    train = counting(first=5)
    assert train.with_lookback(3).first == 3
    assert train.with_lookback(9).first == 9
    with pytest.raises(ValueError, match="do not fit"):
        valid.with_lookback(11)


@pytest.mark.parametrize("options", [{"first": 4}, {"last": 37}, {"last": 5}, {"horizon": 0}])
def test_windows_outside_the_values_are_refused(options):
    with pytest.raises(ValueError, match=r"do not fit|at least 1"):
        counting(**options)
