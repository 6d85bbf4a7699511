"""One temperature for many classes: probabilities sum to 1, and a known temperature is found again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from appliedpapers.core.temperature import fit_temperature, softmax

LOGITS = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-1e4, 1e4, width=32)
)


def drawn(temperature, rows=4_000, classes=5, seed=0):
    """Logits, and labels drawn from their softmax at a temperature."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, classes)) * 3
    chances = softmax(logits, temperature).cumsum(axis=1)
    return logits, (random.random((rows, 1)) > chances).sum(axis=1).clip(max=classes - 1)


@given(LOGITS, st.floats(0.05, 20))
def test_rows_sum_to_1_and_keep_their_order(logits, temperature):
    found = softmax(logits, temperature)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(logits)))
    assert (found >= 0).all()
    best = np.arange(len(logits)), logits.argmax(axis=1)
    assert np.array_equal(found[best], found.max(axis=1))


@given(LOGITS, st.floats(-1e3, 1e3))
def test_what_is_added_to_a_whole_row_changes_nothing(logits, shift):
    assert softmax(logits + shift) == pytest.approx(softmax(logits), abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits_give_finite_probabilities(dtype):
    logits = np.array([[1e30, -1e30, 0], [-1e30, -1e30, -1e30], [3e38, 0, 0]], dtype=dtype)
    found = softmax(logits, 0.05)
    assert np.isfinite(found).all()
    assert found[0].tolist() == [1, 0, 0]
    assert found[1] == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
def test_a_known_temperature_is_found_again(temperature):
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.1)


def test_no_other_temperature_is_more_likely():
    logits, labels = drawn(2.0, rows=300)

    def loss(temperature):
        return -np.log(softmax(logits, temperature)[np.arange(len(labels)), labels]).mean()

    found = fit_temperature(logits, labels)
    assert loss(found) <= min(loss(found * factor) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))


@pytest.mark.parametrize("unknown", [-1, 5, 99])
def test_rows_with_other_labels_do_not_count(unknown):
    logits, labels = drawn(2.0, rows=500)
    more = np.vstack([logits, np.full((200, 5), 50.0)]), np.append(labels, np.full(200, unknown))
    assert fit_temperature(*more) == fit_temperature(logits, labels)


def test_without_a_known_label_nothing_is_changed():
    assert fit_temperature(np.ones((3, 4)), [-1, -1, 7]) == 1.0
    assert fit_temperature(np.empty((0, 4)), []) == 1.0


def test_answers_that_are_all_right_or_all_wrong_stay_in_the_range():
    logits = np.eye(4) * 1e6
    assert 0.05 <= fit_temperature(logits, np.arange(4)) <= 20
    assert fit_temperature(logits, (np.arange(4) + 1) % 4) == pytest.approx(20, rel=1e-3)


def test_one_class_is_certain():
    assert softmax([[7.0], [-3.0]]).tolist() == [[1.0], [1.0]]
    assert 0.05 <= fit_temperature([[7.0], [-3.0]], [0, 0]) <= 20
