"""Boosted trees on encoded rows: what they read, that they repeat, and that nothing new breaks them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from appliedpapers.core.boosting import LightGbm, XgBoost
from appliedpapers.core.errors import BundleError, DataError
from appliedpapers.core.features.encoded import EncodedField, EncodedRows
from appliedpapers.core.features.encoder import fit_encoder
from appliedpapers.core.features.fields import FieldSpec
from appliedpapers.core.features.tree_table import tree_table
from appliedpapers.core.metrics import auc

FIELDS = (
    EncodedField("user", "categorical", 22, 0, "user"),
    EncodedField("price", "numeric", 0, 0, "price"),
    EncodedField("item", "categorical", 12, 0, "item"),
    EncodedField("tags", "sequence", 7, 3, "tags"),
)
SMALL = {"lightgbm": {"min_data_in_leaf": 5, "min_data_per_group": 5}, "xgboost": {"max_leaves": 15}}


def rows(count: int = 1500, seed: int = 0) -> EncodedRows:
    """Return rows whose label hangs on user and item together, which neither tells alone."""
    random = np.random.default_rng(seed)
    ids = np.stack([random.integers(1, 21, count), random.integers(1, 11, count)], axis=1).astype(np.int32)
    numbers = random.normal(size=(count, 1)).astype(np.float32)
    tags = random.integers(1, 6, (count, 3)).astype(np.int32)
    tags[np.arange(3) >= random.integers(0, 4, count)[:, None]] = 0
    agree = (ids[:, 0] % 2) == (ids[:, 1] % 2)
    label = random.random(count) < np.where(agree, 0.85, 0.15)
    return EncodedRows(FIELDS, ids, numbers, (tags,), label.astype(np.float32))


def fitted(maker, **options):
    model = maker(SMALL[maker.name], max_trees=40, patience=10)
    return model.fit(rows(), rows(500, 1), seed=3, threads=1, **options)


both = pytest.mark.parametrize("maker", [LightGbm, XgBoost])


def test_a_table_for_trees_holds_ids_numbers_and_ends_of_sequences_in_schema_order():
    ids = np.array([[3, 4], [21, 11]], np.int32)
    tags = np.array([[5, 2, 0], [0, 0, 0]], np.int32)
    table = tree_table(EncodedRows(FIELDS, ids, np.array([[0.5], [-1.0]], np.float32), (tags,)))
    assert table.names == ("user", "price", "item", "tags_length", "tags_first", "tags_last")
    assert table.categorical.tolist() == [True, False, True, False, True, True]
    np.testing.assert_array_equal(table.values, [[3, 0.5, 4, 2, 5, 2], [21, -1.0, 11, 0, 0, 0]])


def test_ids_that_float32_cannot_count_are_kept_apart():
    field = EncodedField("id", "categorical", (1 << 24) + 10, 0, "id")
    ids = np.array([[1 << 24], [(1 << 24) + 1]], np.int32)
    values = tree_table(EncodedRows((field,), ids, np.zeros((2, 0), np.float32), ())).values
    assert values[0, 0] != values[1, 0]


@both
def test_trees_learn_what_two_categories_say_together(maker):
    model = fitted(maker)
    judged = rows(1000, 2)
    assert auc(judged.label, model.logits(judged)) > 0.75
    assert 1 <= model.trees_ <= 40
    assert model.valid_auc_ > 0.75
    assert dict(model.describe())["trees"] == str(model.trees_)


@both
def test_the_same_seed_gives_the_same_logits_with_one_thread_or_two(maker):
    judged = rows(300, 2)
    once, again = fitted(maker), maker(SMALL[maker.name], max_trees=40, patience=10)
    again.fit(rows(), rows(500, 1), seed=3, threads=2)
    np.testing.assert_array_equal(once.logits(judged, threads=1), again.logits(judged, threads=2))


@both
def test_what_was_written_is_text_and_gives_identical_logits_when_read(maker, tmp_path):
    model, judged = fitted(maker), rows(300, 2)
    path = tmp_path / f"trees{maker.suffix}"
    model.write(path)
    path.read_text(encoding="utf-8")
    back = maker.read(path)
    np.testing.assert_array_equal(back.logits(judged), model.logits(judged))
    assert back.trees_ == model.trees_


@both
@pytest.mark.parametrize("content", [None, b"", b"no trees"])
def test_a_file_without_trees_is_refused_with_its_name(maker, content, tmp_path):
    path = tmp_path / f"trees{maker.suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match="trees"):
        maker.read(path)


@both
def test_ids_that_no_train_row_holds_are_scored(maker):
    model = fitted(maker)
    new = replace(rows(50, 4), ids=np.tile(np.array([21, 11], np.int32), (50, 1)))
    assert np.isfinite(model.logits(new)).all()
    assert np.ptp(model.logits(replace(new, numbers=new.numbers * 0, sequences=(new.sequences[0] * 0,)))) == 0


@both
def test_a_row_is_scored_alike_alone_and_among_others(maker):
    model, judged = fitted(maker), rows(40, 5)
    alone = [model.logits(judged.take(slice(i, i + 1)))[0] for i in range(40)]
    np.testing.assert_array_equal(model.logits(judged), alone)
    assert model.logits(judged.take(slice(0, 0))).shape == (0,)


@both
def test_weights_of_rows_count(maker):
    plain, train = fitted(maker), rows()
    weighted = replace(train, weight=np.where(train.label == 1, 5.0, 1.0).astype(np.float32))
    model = maker(SMALL[maker.name], max_trees=40, patience=10)
    model.fit(weighted, rows(500, 1), seed=3, threads=1)
    judged = rows(500, 2)
    assert model.logits(judged).mean() > plain.logits(judged).mean() + 0.5


@both
def test_a_part_with_one_class_is_a_data_error(maker):
    train = rows()
    one = replace(train, label=np.zeros(len(train), np.float32))
    with pytest.raises(DataError, match="valid rows all have the same label"):
        maker().fit(train, one, seed=0, threads=1)
    with pytest.raises(DataError, match="train rows all have the same label"):
        maker().fit(one, train, seed=0, threads=1)


@both
def test_scoring_before_fitting_is_refused(maker):
    with pytest.raises(ValueError, match="fit before"):
        maker().logits(rows(3))


@both
def test_the_candidate_with_the_best_valid_auc_is_taken(maker, monkeypatch):
    useless = {"max_depth": 1, "learning_rate": 1e-6}
    monkeypatch.setattr(maker, "candidates", (useless, SMALL[maker.name]))
    model = maker.tuned(rows(), rows(500, 1), seed=0, threads=1)
    assert model.parameters == SMALL[maker.name]


@pytest.mark.slow
@pytest.mark.shared
def test_lightgbm_reaches_the_measured_auc_on_frappe(shared):
    path = shared / "data" / "finalmlp" / "frappe_x1_rebuilt.parquet"
    if not path.is_file():
        pytest.skip(f"{path.name} is absent")
    table = pq.read_table(path)
    part = table["split"].to_numpy()
    table = table.drop_columns(["split"])
    fields = {n: FieldSpec(role="label" if n == "label" else "categorical") for n in table.column_names}
    parts = [table.filter(pa.array(part == number)) for number in range(3)]
    encoder = fit_encoder(fields, parts[0].to_batches)
    train, valid, test = (encoder.encode(one, label=True) for one in parts)
    model = LightGbm(LightGbm.candidates[0]).fit(train, valid, seed=0)
    assert auc(test.label, model.logits(test)) >= 0.983
