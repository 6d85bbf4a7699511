"""Logistic regression without the wide table: the same minimum as with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from appliedpapers.core.errors import BundleError, DataError
from appliedpapers.core.features.encoded import EncodedField, EncodedRows
from appliedpapers.core.features.encoder import fit_encoder
from appliedpapers.core.features.fields import FieldSpec
from appliedpapers.core.metrics import auc
from appliedpapers.core.sparse_logistic import WEIGHTS_FILE, SparseLogistic, _Design, _Problem

FIELDS = (
    EncodedField("user", "categorical", 9, 0, "user"),
    EncodedField("price", "numeric", 0, 0, "price"),
    EncodedField("tags", "sequence", 6, 3, "tags"),
    EncodedField("item", "categorical", 6, 0, "item"),
)


def rows(count: int = 600, seed: int = 0) -> EncodedRows:
    random = np.random.default_rng(seed)
    ids = np.stack([random.integers(1, 8, count), random.integers(1, 5, count)], axis=1).astype(np.int32)
    numbers = (3 + 2 * random.normal(size=(count, 1))).astype(np.float32)
    tags = random.integers(1, 5, (count, 3)).astype(np.int32)
    tags[np.arange(3) >= random.integers(0, 4, count)[:, None]] = 0
    strength = ids[:, 0] / 4 - 1 + 0.4 * (numbers[:, 0] - 3) + (tags == 2).mean(1)
    label = random.random(count) < 1 / (1 + np.exp(-strength))
    return EncodedRows(FIELDS, ids, numbers, (tags,), label.astype(np.float32))


def wide(some: EncodedRows) -> np.ndarray:
    """Return the table that is never built, the number standardised as in the rows of ``rows()``."""
    train = rows()
    users, items = np.eye(9)[some.ids[:, 0]], np.eye(6)[some.ids[:, 1]]
    tags = np.eye(6)[some.sequences[0]]
    tags[:, :, 0] = 0
    means = tags.sum(1) / np.maximum(tags.sum((1, 2))[:, None], 1)
    number = (some.numbers - train.numbers.mean()) / train.numbers.std()
    return np.concatenate([users, number, means, items], axis=1)


@pytest.mark.parametrize("penalty", [10.0, 1.0])
def test_the_minimum_is_that_of_a_dense_solver(penalty):
    train, judged = rows(), rows(200, 1)
    ours = SparseLogistic.tuned(train, judged, penalties=[penalty])
    dense = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(wide(train), train.label)
    expected = dense.decision_function(wide(judged))
    np.testing.assert_allclose(ours.logits(judged), expected, atol=0.02)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), penalty=st.sampled_from([0.0, 0.01]))
def test_the_gradient_is_that_of_the_loss(seed, penalty):
    random = np.random.default_rng(seed)
    some = replace(rows(40, seed), weight=random.uniform(0.5, 2, 40).astype(np.float32))
    if some.label.min() == some.label.max():
        return
    problem = _Problem(_Design.of(some), some)
    at, way = random.normal(size=(2, problem.start().size))
    step = 1e-6
    up, down = (problem.loss(at + sign * step * way, penalty)[0] for sign in (1, -1))
    assert (up - down) / (2 * step) == pytest.approx(problem.loss(at, penalty)[1] @ way, rel=1e-4, abs=1e-7)


def test_the_penalty_with_the_best_valid_auc_is_taken():
    train, valid = rows(), rows(300, 1)
    by_hand = {one: SparseLogistic.tuned(train, valid, penalties=[one]).valid_auc_ for one in (1000.0, 1.0)}
    model = SparseLogistic.tuned(train, valid, penalties=list(by_hand))
    assert model.penalty_ == max(by_hand, key=by_hand.get)
    assert dict(model.describe())["penalty"] == f"{model.penalty_:g}"


def test_a_weight_of_two_is_a_row_twice():
    train, valid = rows(), rows(200, 1)
    double = np.arange(len(train)) % 3 == 0
    weighted = replace(train, weight=np.where(double, 2.0, 1.0).astype(np.float32))
    # the number is standardised by the rows as they stand: leave it out
    fields = tuple(field for field in FIELDS if field.kind != "numeric")

    def plain(some):
        return replace(some, fields=fields, numbers=some.numbers[:, :0])

    order = np.concatenate([np.arange(len(train)), np.flatnonzero(double)])
    repeated = plain(train).take(order)
    first = SparseLogistic.tuned(plain(weighted), plain(valid), penalties=[1.0])
    second = SparseLogistic.tuned(repeated, plain(valid), penalties=[1.0])
    np.testing.assert_allclose(first.logits(plain(valid)), second.logits(plain(valid)), atol=0.01)


def test_a_token_that_no_train_row_holds_weighs_nothing():
    model = SparseLogistic.tuned(rows(), rows(200, 1))
    some = rows(50, 2)
    unseen, padding = some.ids.copy(), some.ids.copy()
    unseen[:, 0], padding[:, 0] = 8, 0
    np.testing.assert_array_equal(
        model.logits(replace(some, ids=unseen)), model.logits(replace(some, ids=padding))
    )


def test_a_row_is_scored_alike_alone_and_among_others():
    model, some = SparseLogistic.tuned(rows(), rows(200, 1)), rows(30, 2)
    alone = [model.logits(some.take(slice(i, i + 1)))[0] for i in range(30)]
    np.testing.assert_allclose(model.logits(some), alone, atol=1e-12)
    assert model.logits(some.take(slice(0, 0))).shape == (0,)


def test_what_was_written_gives_identical_logits_when_read(tmp_path):
    model, some = SparseLogistic.tuned(rows(), rows(200, 1)), rows(50, 2)
    back = SparseLogistic.read(model.write(tmp_path), tmp_path)
    np.testing.assert_array_equal(back.logits(some), model.logits(some))


def test_files_that_are_absent_broken_or_of_another_model_are_refused(tmp_path):
    state = SparseLogistic.tuned(rows(), rows(200, 1)).write(tmp_path)
    with pytest.raises(BundleError, match="does not belong"):
        SparseLogistic.read({**state, "columns": 3}, tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"nothing")
    with pytest.raises(BundleError, match="cannot be read"):
        SparseLogistic.read(state, tmp_path)
    with pytest.raises(BundleError, match="cannot be read"):
        SparseLogistic.read(state, tmp_path / "elsewhere")


def test_rows_of_other_fields_and_parts_of_one_class_are_refused():
    train = rows()
    model = SparseLogistic.tuned(train, rows(200, 1))
    other = replace(train, fields=(EncodedField("user", "categorical", 30, 0, "user"), *FIELDS[1:]))
    with pytest.raises(ValueError, match="columns"):
        model.logits(other)
    with pytest.raises(DataError, match="valid rows all have the same label"):
        SparseLogistic.tuned(train, replace(train, label=np.ones(len(train), np.float32)))


@pytest.mark.slow
@pytest.mark.shared
def test_frappe_is_fitted_to_the_measured_auc(shared):
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
    model = SparseLogistic.tuned(train, valid)
    assert 0.93 < auc(test.label, model.logits(test)) < 0.945
