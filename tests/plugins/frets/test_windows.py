"""Windows: nothing dropped, nothing copied in vain, nothing missing passed on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
def test_every_window_appears_once_whatever_the_batch_size(first, extra, step, size):
    windows = counting(first=first, last=first + extra, step=step)
    assert len(windows) == len(windows.cutoffs) == len(windows.inputs) == len(windows.targets)
    batches = list(windows.batches(size))
    np.testing.assert_array_equal(np.concatenate([b.inputs for b in batches]), windows.inputs)
    np.testing.assert_array_equal(np.concatenate([b.targets for b in batches]), windows.targets)
    assert all(b.mask.all() for b in batches)


def test_shuffled_batches_hold_the_same_windows_and_repeat_by_seed():
    windows = counting()
    first, second = (
        np.concatenate([b.inputs for b in windows.batches(7, rng=np.random.default_rng(3))]) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, windows.inputs)
    np.testing.assert_array_equal(np.sort(first[:, 0, 0]), windows.inputs[:, 0, 0])


@given(st.sets(st.tuples(st.integers(0, 39), st.integers(0, 2)), max_size=12))
@settings(max_examples=40, deadline=None)
def test_mask_is_false_exactly_where_a_window_holds_a_missing_value(holes):
    values = counting().values.copy()
    for row, series in holes:
        values[row, series] = np.nan
    windows = WindowArrays(values, first=6, last=30, lookback=5, horizon=4)
    whole = np.concatenate([windows.inputs, windows.targets], axis=1)
    np.testing.assert_array_equal(windows.valid, ~np.isnan(whole).any(axis=1))
    for batch in windows.batches(4):
        assert np.isfinite(batch.inputs).all()
        assert np.isfinite(batch.targets).all()
        assert batch.mask.any(axis=1).all()
        assert (batch.inputs.transpose(0, 2, 1)[~batch.mask] == 0).all()
    assert sum(len(b.mask) for b in windows.batches(4)) == windows.valid.any(axis=1).sum()
    assert sum(len(b.mask) for b in windows.batches(4, complete=True)) == windows.valid.all(axis=1).sum()


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
