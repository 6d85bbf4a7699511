"""Families of crop models: what each learns, keeps, repeats and says of itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliedpapers.core.model import FitContext
from appliedpapers.plugins.agrosense.crop.config import CropConfig
from appliedpapers.plugins.agrosense.crop.family import Lesson, family_class, with_unseen
from appliedpapers.plugins.agrosense.crop.matrix import Scaler
from appliedpapers.plugins.agrosense.crop.recommender import Recommender
from appliedpapers.plugins.agrosense.crop.shapley import balanced_background, shapley
from appliedpapers.plugins.agrosense.crop.trust import (
    Calibration,
    pool_weights,
    set_threshold,
    threshold_for,
)
from appliedpapers.plugins.agrosense.splits import group_folds, inner_folds

FAMILIES = ("lightgbm", "xgboost", "mlp", "tabnet", "gaussian-nb", "logistic", "random-forest")
CONFIG = CropConfig().replace(
    model={"trees": 12, "inner_folds": 2},
    network={"epochs": 30},
    tabnet={"training": {"epochs": 20, "batch_size": 64, "lr": 0.05, "patience": 0}, "virtual_batch": 32},
)


def lesson(rows: int = 240, seed: int = 0, missing: float = 0.0) -> Lesson:
    """Three classes that stand apart in two of four columns."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    matrix = rng.normal(size=(rows, 4))
    matrix[:, 0] += 4 * labels
    matrix[:, 1] += 3 * (labels == 1)
    matrix[rng.random(matrix.shape) < missing] = np.nan
    return Lesson(matrix, labels, 3, "test")


def test_gaps_are_added_to_a_copy_of_the_rows_and_where_there_are_some():
    whole = lesson()
    assert whole.with_gaps(0.5, seed=1) is whole
    matrix = whole.matrix.copy()
    matrix[::9, 2] = np.nan
    gappy = Lesson(matrix, whole.labels, 3, "test")
    assert gappy.with_gaps(0.0, seed=1) is gappy
    more = gappy.with_gaps(0.5, seed=1)
    np.testing.assert_array_equal(more.matrix[:240], matrix)
    np.testing.assert_array_equal(more.labels, np.tile(whole.labels, 2))
    copy = more.matrix[240:]
    np.testing.assert_array_equal(copy[:, [0, 1, 3]], matrix[:, [0, 1, 3]])
    assert 0.4 < np.isnan(copy[:, 2]).mean() < 0.7
    np.testing.assert_array_equal(gappy.with_gaps(0.5, seed=1).matrix, more.matrix)


def fitted(name: str, part: Lesson, folder, seed: int = 0):
    return family_class(name).fit(part, CONFIG, FitContext(folder, seed=seed))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_learns_and_is_the_same_again_and_from_the_disk(name, tmp_path):
    part, other = lesson(), lesson(60, seed=1)
    family = fitted(name, part, tmp_path / "a")
    logits = family.logits(other.matrix)
    assert logits.shape == (60, 3)
    assert (logits.argmax(axis=1) == other.labels).mean() > 0.8
    again = fitted(name, part, tmp_path / "b")
    np.testing.assert_array_equal(again.logits(other.matrix), logits)
    folder = tmp_path / "stored"
    folder.mkdir()
    stored = family_class(name).read(family.write(folder), folder, CONFIG)
    assert np.abs(stored.logits(other.matrix) - logits).max() <= 1e-7
    assert not [path for path in folder.iterdir() if path.suffix in (".pkl", ".joblib", ".pt")]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_takes_missing_values_and_answers_each_row_by_itself(name, tmp_path):
    part, other = lesson(missing=0.2), lesson(40, seed=1, missing=0.2)
    family = fitted(name, part, tmp_path)
    logits = family.logits(other.matrix)
    assert np.isfinite(logits).all()
    alone = np.concatenate([family.logits(other.matrix[[row]]) for row in range(5)])
    np.testing.assert_allclose(alone, logits[:5], atol=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_stands_in_the_judged_rows_changes_no_prediction_of_the_fold(name, tmp_path):
    # the published code fitted its scaler before the split
    part = lesson()
    learned, judged = np.arange(160), np.arange(160, 240)
    changed = part.matrix.copy()
    changed[judged] *= 100
    first = fitted(name, part.take(learned, "a"), tmp_path / "a")
    second = fitted(name, Lesson(changed, part.labels, 3, "b").take(learned, "b"), tmp_path / "b")
    np.testing.assert_array_equal(first.logits(part.matrix[judged]), second.logits(part.matrix[judged]))


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_the_parts_of_a_tree_logit_add_up(name, tmp_path):
    part = lesson(missing=0.1)
    family = fitted(name, part, tmp_path)
    chosen = part.labels[:50]
    found = family.contributions(part.matrix[:50], chosen)
    expected = family.logits(part.matrix[:50])[np.arange(50), chosen]
    assert np.abs(found.sum(axis=1) - expected).max() < 1e-5


@pytest.mark.parametrize("name", ["mlp", "logistic", "gaussian-nb"])
def test_the_parts_of_an_exact_shapley_value_add_up(name, tmp_path):
    part = lesson()
    config = CONFIG.replace(model={"family": name})
    folds = inner_folds(part.labels, None, 2, 0)
    model = Recommender.fit(part, folds, config, FitContext(tmp_path))
    chosen = model.logits(part.matrix[:5]).argmax(axis=1)
    found = model.attributions(part.matrix[:5], chosen, [(0,), (1, 2), (3,)])
    expected = model.logits(part.matrix[:5])[np.arange(5), chosen]
    assert found.shape == (5, 4)
    assert np.abs(found.sum(axis=1) - expected).max() < 1e-6


def test_shapley_values_of_a_line_are_its_slopes():
    rng = np.random.default_rng(0)
    background, row, slopes = rng.normal(size=(20, 3)), np.array([1.0, 2.0, 3.0]), np.array([2.0, -1.0, 0.5])
    found = shapley(lambda rows: rows @ slopes, row, background, [(0,), (1,), (2,)])
    np.testing.assert_allclose(found[:3], slopes * (row - background.mean(axis=0)), atol=1e-12)
    assert found[3] == pytest.approx(float((background @ slopes).mean()))


def test_more_than_ten_players_still_add_up():
    rng = np.random.default_rng(0)
    background, row = rng.normal(size=(5, 12)), rng.normal(size=12)

    def score(rows):
        return np.sin(rows).prod(axis=1) + rows.sum(axis=1)

    found = shapley(score, row, background, [(one,) for one in range(12)])
    assert found.sum() == pytest.approx(float(score(row[None])[0]), abs=1e-9)


def test_the_background_has_the_classes_in_equal_shares():
    labels = np.array([0] * 300 + [1] * 60)
    matrix = np.arange(360.0)[:, None]
    chosen = balanced_background(matrix, labels, 0)[:, 0]
    assert len(chosen) == 100
    assert (chosen >= 300).sum() == 50


def test_a_class_that_was_not_seen_has_the_chance_of_one_row_more():
    logits = with_unseen(np.array([[1.0, -500.0, 2.0]]), np.array([5, 0, 4]))
    chance = np.exp(logits) / np.exp(logits).sum()
    assert chance[0, 1] == pytest.approx(0.1 / 1.1)


def test_one_temperature_or_a_map_a_class_make_probabilities():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 900)
    logits = 5 * (np.eye(3)[labels] + rng.normal(0, 0.7, (900, 3)))
    for method in ("auto", "none", "temperature", "isotonic"):
        calibration = Calibration.fit(method, logits, labels, seed=0)
        chances = calibration(logits)
        np.testing.assert_allclose(chances.sum(axis=1), 1)
        again = Calibration.from_json(calibration.to_json())
        np.testing.assert_array_equal(again(logits), chances)
    hot = Calibration.fit("temperature", logits, labels, seed=0)
    assert hot.temperature > 1


def test_the_threshold_keeps_the_risk_and_proves_itself():
    chances = np.array([[0.9, 0.1]] * 60 + [[0.6, 0.4]] * 40)
    labels = np.array([0] * 60 + [0] * 20 + [1] * 20)
    assert threshold_for(chances, labels, 0.05) == pytest.approx(0.9)
    assert threshold_for(chances, labels, 0.5) == pytest.approx(0.6)
    # three right answers do not show that the risk is below 5 %
    assert threshold_for(chances[:3], labels[:3], 0.05) == np.inf


def test_a_conformal_set_holds_the_class_as_often_as_it_says():
    rng = np.random.default_rng(0)

    def drawn(count):
        chances = rng.dirichlet([1, 1, 1, 1], count)
        labels = (rng.random((count, 1)) > np.cumsum(chances, axis=1)).sum(axis=1)
        return chances, labels

    start = set_threshold(*drawn(2000), 0.1)
    chances, labels = drawn(4000)
    assert (chances[np.arange(4000), labels] >= start).mean() == pytest.approx(0.9, abs=0.025)
    assert set_threshold(chances[:3], labels[:3], 0.1) == 0


def test_weights_prefer_the_member_that_knows():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    good, noise = 2 * np.eye(3)[labels] + rng.normal(0, 1, (400, 3)), rng.normal(0, 1, (400, 3))
    weights = pool_weights([good, noise], labels)
    assert weights[0] > 0.8
    assert weights[1] < 0.1


def test_a_blend_answers_no_worse_than_chance_and_comes_back_from_the_disk(tmp_path):
    part, other = lesson(), lesson(100, seed=2)
    config = CONFIG.replace(model={"family": "blend"})
    model = Recommender.fit(part, inner_folds(part.labels, None, 2, 0), config, FitContext(tmp_path))
    chances = model.probabilities(other.matrix)
    assert (chances.argmax(axis=1) == other.labels).mean() > 0.9
    folder = tmp_path / "stored"
    folder.mkdir()
    again = Recommender.read(model.write(folder), folder, config)
    np.testing.assert_array_equal(again.probabilities(other.matrix), chances)


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.float64, (12, 3), elements=st.one_of(st.floats(-1e6, 1e6), st.just(float("nan")))))
def test_a_scaler_never_gives_nan(matrix):
    scaler = Scaler.fit(matrix)
    assert np.isfinite(scaler(matrix)).all()
    again = Scaler.from_json(scaler.to_json())
    np.testing.assert_array_equal(again(matrix), scaler(matrix))


def test_groups_are_dealt_whole_and_evenly():
    groups = np.repeat(np.arange(9), [30, 5, 5, 5, 5, 5, 5, 5, 5])
    folds = list(group_folds(groups, 3, 0))
    assert sorted(np.concatenate([judged for _, judged in folds])) == list(range(70))
    for learned, judged in folds:
        assert not set(groups[learned]) & set(groups[judged])
    assert max(len(judged) for _, judged in folds) == 30
