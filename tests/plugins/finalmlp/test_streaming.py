"""Training from rows on disk: the same rows, the same quality, another order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_clicks import (
    FIELDS,
    USERS,
    assert_same_weights,
    clicks,
    configured,
    dataset_of,
    fitted,
    prepared_of,
    probabilities,
)

from appliedpapers.core.features.encoded import EncodedRows, concat_rows
from appliedpapers.core.features.fields import FieldSpec
from appliedpapers.core.features.store import EncodedStore
from appliedpapers.core.metrics import auc
from appliedpapers.plugins.finalmlp import prepared as preparing
from appliedpapers.plugins.finalmlp.data import DATASETS

STREAMED = ("data.streaming=on", "data.shuffle_buffer=1000")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same train rows, held in memory and on disk."""
    table = clicks(3000, seed=1)
    held = prepared_of(table, configured(), tmp_path_factory.mktemp("held"))
    stored = prepared_of(table, configured(*STREAMED), tmp_path_factory.mktemp("stored"))
    return held, stored


def test_the_rows_on_disk_are_those_in_memory_in_their_order(both):
    held, stored = both
    assert isinstance(held.train, EncodedRows)
    assert isinstance(stored.train, EncodedStore)
    rows = concat_rows(list(stored.train.blocks()))
    np.testing.assert_array_equal(rows.ids, held.train.ids)
    np.testing.assert_array_equal(rows.numbers, held.train.numbers)
    for ours, theirs in zip(rows.sequences, held.train.sequences, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(rows.label, held.train.label)
    np.testing.assert_array_equal(stored.valid.ids, held.valid.ids)


def test_an_epoch_visits_each_row_once(both):
    _, stored = both
    batches = list(stored.train.shuffled(128, seed=3, buffer_rows=1000))
    visited = concat_rows(batches)
    assert [len(batch) for batch in batches[:-1]] == [128] * (len(batches) - 1)
    key = np.column_stack([visited.ids, visited.numbers, visited.label])
    all_rows = concat_rows(list(stored.train.blocks()))
    expected = np.column_stack([all_rows.ids, all_rows.numbers, all_rows.label])
    assert not np.array_equal(key, expected)
    np.testing.assert_array_equal(key[np.lexsort(key.T)], expected[np.lexsort(expected.T)])


def test_streaming_reaches_the_quality_of_memory(tmp_path):
    table, new = clicks(4000, seed=1), clicks(3000, seed=77)
    options = ("training.epochs=4", "training.batch_size=256")
    areas = {}
    for name, more in (("held", ()), ("streamed", STREAMED)):
        model = fitted(configured(*options, *more), tmp_path / name, table)
        areas[name] = auc(new["click"].to_numpy(), probabilities(model, new))
    assert areas["held"] > 0.8
    assert areas["streamed"] == pytest.approx(areas["held"], abs=0.01)


def test_auto_streams_from_many_rows_on(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "_STREAM_FROM_ROWS", 200)
    few = prepared_of(clicks(200), configured(), tmp_path / "few")
    many = prepared_of(clicks(400), configured(), tmp_path / "many")
    never = prepared_of(clicks(400), configured("data.streaming=off"), tmp_path / "never")
    kinds = [type(one.train) for one in (few, many, never)]
    assert kinds == [EncodedRows, EncodedStore, EncodedRows]


def test_a_sample_of_train_rows_is_drawn_by_the_seed(both):
    for one in both:
        all_rows = one.sample(10_000, seed=0)
        assert len(all_rows) == len(one.train)
        some, again, other = one.sample(500, 0), one.sample(500, 0), one.sample(500, 1)
        assert abs(len(some) - 500) < 100
        np.testing.assert_array_equal(some.ids, again.ids)
        assert not np.array_equal(some.ids, other.ids)


def test_a_streamed_fit_of_a_folder_equals_that_of_one_file(tmp_path):
    table = clicks(1200, seed=5)
    pq.write_table(table, tmp_path / "one.parquet", row_group_size=100)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(4):
        part = table.slice(number * 300, 300)
        pq.write_table(part, folder / f"part-{number}.parquet", row_group_size=70)
    fields = {name: one.model_dump(mode="json", exclude_unset=True) for name, one in FIELDS.items()}
    config = configured(*STREAMED, f"data.fields={fields}", "training.epochs=1")
    models = []
    for name in ("one.parquet", "many"):
        dataset = DATASETS.from_user(tmp_path / name, config)
        assert dataset.train.num_rows == 960
        rows = pa.Table.from_batches(list(dataset.train.source.batches()))
        assert rows["row_id"].to_pylist() == table["row_id"].to_pylist()
        models.append(fitted(config, tmp_path / f"run-{name}", rows))
    assert_same_weights(models[0].networks[0], models[1].networks[0])


def test_weights_of_rows_are_streamed_too(tmp_path):
    table = clicks(400).append_column("share", pa.array(np.linspace(1, 2, 400)))
    fields = {**FIELDS, "share": FieldSpec(role="weight")}
    stored = prepared_of(table, configured(*STREAMED), tmp_path, fields)
    weights = np.concatenate([block.weight for block in stored.train.blocks()])
    np.testing.assert_allclose(weights, np.linspace(1, 2, 400)[:320], rtol=1e-6)


def test_the_stream_is_cut_by_time_and_vocabularies_are_those_of_train(tmp_path):
    table = clicks(1000)
    config = configured(*STREAMED)
    dataset = dataset_of(table, config)
    stored = prepared_of(table, config, tmp_path)
    known = set(stored.encoder.vocabulary("user").tokens.to_pylist())
    assert known == set(table["user"].to_pylist()[:800])
    assert len(known) <= USERS
    assert dataset.protocol.startswith("time")
