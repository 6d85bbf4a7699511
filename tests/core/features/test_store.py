"""Encoded rows on disk."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.errors import RunError
from appliedpapers.core.features.encoded import EncodedField, EncodedRows, collect_rows, concat_rows
from appliedpapers.core.features.store import EncodedStore

FIELDS = (
    EncodedField("row", "categorical", 10**9, 0, "row"),
    EncodedField("x", "numeric", 0, 0, "x"),
    EncodedField("other", "categorical", 10**9, 0, "other"),
    EncodedField("tags", "sequence", 10**9, 3, "tags"),
    EncodedField("words", "sequence", 10**9, 1, "words"),
)


def rows_of(start, end, label=True, weight=True):
    number = np.arange(start, end, dtype=np.int32)
    return EncodedRows(
        FIELDS,
        np.stack([number, -number], axis=1),
        number[:, None].astype(np.float32),
        (np.stack([number, number + 1, number + 2], axis=1), number[:, None]),
        (number % 2).astype(np.float32) if label else None,
        (number + 1).astype(np.float32) if weight else None,
    )


def stored(folder, rows, block_rows=10, part=7):
    parts = (rows_of(at, min(at + part, rows)) for at in range(0, max(rows, 1), part))
    return EncodedStore.write(folder / "rows.arrow", parts, block_rows=block_rows)


def assert_whole(batch):
    number = batch.ids[:, 0]
    expected = rows_of(0, int(number.max(initial=0)) + 1).take(number)
    for found, wanted in (
        (batch.ids, expected.ids),
        (batch.numbers, expected.numbers),
        (batch.sequences[0], expected.sequences[0]),
        (batch.sequences[1], expected.sequences[1]),
        (batch.label, expected.label),
        (batch.weight, expected.weight),
    ):
        assert np.array_equal(found, wanted)
        assert found.dtype == wanted.dtype
        assert found.flags.writeable


def numbers_of(batches):
    return [batch.ids[:, 0].tolist() for batch in batches]


def order_of(batches):
    return [number for batch in numbers_of(batches) for number in batch]


SIZES = st.tuples(
    st.integers(0, 120), st.integers(1, 30), st.integers(1, 40), st.integers(1, 50), st.integers(1, 60)
)


@settings(deadline=None, max_examples=40)
@given(SIZES, st.integers(0, 9))
def test_every_row_comes_once_an_epoch_and_skipping_leaves_the_rest_as_it_was(tmp_path_factory, sizes, skip):
    rows, block_rows, part, batch_size, buffer_rows = sizes
    store = stored(tmp_path_factory.mktemp("store"), rows, block_rows, part)
    assert len(store) == rows
    for read in (
        lambda **more: store.sequential(batch_size, **more),
        lambda **more: store.shuffled(batch_size, (3, 1), buffer_rows=buffer_rows, **more),
    ):
        batches = list(read())
        assert sorted(order_of(batches)) == list(range(rows))
        assert all(len(batch) == batch_size for batch in batches[:-1])
        for batch in batches:
            assert_whole(batch)
        assert numbers_of(read()) == numbers_of(batches)
        assert numbers_of(read(skip=skip)) == numbers_of(batches)[skip:]


@given(SIZES, st.integers(1, 4), st.integers(0, 3))
@settings(deadline=None, max_examples=40)
def test_ranks_share_the_batches_of_one_order(tmp_path_factory, sizes, ranks, skip):
    rows, block_rows, part, batch_size, buffer_rows = sizes
    store = stored(tmp_path_factory.mktemp("store"), rows, block_rows, part)
    alone = numbers_of(store.shuffled(batch_size, 5, buffer_rows=buffer_rows, skip=skip))
    for rank in range(ranks):
        options = {"buffer_rows": buffer_rows, "skip": skip, "rank": rank, "ranks": ranks}
        assert numbers_of(store.shuffled(batch_size, 5, **options)) == alone[rank::ranks]


def test_sequential_batches_keep_the_order(tmp_path):
    store = stored(tmp_path, 103)
    assert order_of(store.sequential(8)) == list(range(103))
    assert [len(block) for block in store.blocks()] == [10] * 10 + [3]
    assert numbers_of(store.blocks(9)) == [list(range(90, 100)), [100, 101, 102]]


def test_seeds_and_epochs_give_other_orders_and_rows_of_far_blocks_meet(tmp_path):
    store = stored(tmp_path, 1000)
    first = order_of(store.shuffled(32, (1, 0), buffer_rows=200))
    second = order_of(store.shuffled(32, (1, 1), buffer_rows=200))
    assert first != second
    assert len({number // 10 for number in first[:32]}) > 10
    assert max(first[:200]) - min(first[:200]) > 500


def test_all_orders_are_about_equally_likely_where_all_rows_fit(tmp_path):
    store = stored(tmp_path, 6, block_rows=2)
    first = [next(store.shuffled(1, seed)).ids[0, 0] for seed in range(600)]
    counts = np.bincount(first, minlength=6)
    # five standard deviations of a binomial of 600 draws at 1/6
    assert np.abs(counts - 100).max() < 46


def test_a_store_is_opened_again_with_all_that_it_holds(tmp_path):
    store = stored(tmp_path, 57)
    again = EncodedStore.open(store.path)
    assert again == store
    assert_whole(concat_rows(list(again.sequential(20))))
    assert EncodedStore.open(stored(tmp_path, 0).path).rows == 0


def test_label_weight_and_kinds_of_fields_may_be_absent(tmp_path):
    only = (FIELDS[1],)
    rows = EncodedRows(only, np.zeros((5, 0), np.int32), np.ones((5, 1), np.float32), ())
    batch = next(EncodedStore.write(tmp_path / "a", [rows]).shuffled(8, 0))
    assert batch.ids.shape == (5, 0)
    assert batch.label is None
    assert batch.weight is None
    plain = EncodedStore.write(tmp_path / "b", [rows_of(0, 5, weight=False)])
    assert next(plain.sequential(8)).label.tolist() == [0, 1, 0, 1, 0]


def test_the_file_is_uncompressed_with_lists_of_fixed_size(tmp_path):
    store = stored(tmp_path, 50_000, block_rows=5000)
    with pa.OSFile(str(store.path)) as file:
        schema = pa.ipc.open_file(file).schema
    assert schema.field("ids").type == pa.list_(pa.int32(), 2)
    assert schema.field("sequence_0").type == pa.list_(pa.int32(), 3)
    assert store.path.stat().st_size > 50_000 * 9 * 4


def test_a_file_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(RunError, match="cannot be read"):
        EncodedStore.open(tmp_path / "absent.arrow")
    (tmp_path / "broken.arrow").write_bytes(b"ARROW1")
    with pytest.raises(RunError, match="is broken"):
        EncodedStore.open(tmp_path / "broken.arrow")
    with pa.ipc.new_file(tmp_path / "other.arrow", pa.schema([("a", pa.int8())])):
        pass
    with pytest.raises(RunError, match="holds no encoded rows"):
        EncodedStore.open(tmp_path / "other.arrow")
    with pytest.raises(RunError, match="no rows to store"):
        EncodedStore.write(tmp_path / "none.arrow", [])


def test_a_part_that_fails_leaves_no_file(tmp_path):
    def parts():
        yield rows_of(0, 100)
        raise RuntimeError("broken row")

    with pytest.raises(RuntimeError, match="broken row"):
        EncodedStore.write(tmp_path / "rows.arrow", parts())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["shuffled", "sequential"])
def test_memory_is_that_of_the_buffer_and_not_of_the_file(tmp_path, how):
    row_bytes = 9 * 4
    store = stored(tmp_path, 400_000, block_rows=2000, part=30_000)
    buffer_rows = 40_000
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    arrow = 0
    if how == "shuffled":
        batches = store.shuffled(1000, 0, buffer_rows=buffer_rows)
    else:
        batches = store.sequential(1000)
    for _ in batches:
        arrow = max(arrow, pa.total_allocated_bytes() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # the order of the rows takes 8 bytes a row; blocks and batches are small beside the buffer
    assert peak < 1.3 * buffer_rows * (row_bytes + 8)
    assert arrow < 4000 * row_bytes


def test_parts_are_collected_into_one_array_and_miscounted_rows_are_refused():
    whole = collect_rows((rows_of(at, min(at + 3, 7)) for at in range(0, 7, 3)), 7)
    assert_whole(whole)
    assert len(whole) == 7
    assert collect_rows([rows_of(0, 2, label=False, weight=False)], 2).label is None
    for told in (6, 8):
        with pytest.raises(ValueError, match=f"expected {told} rows"):
            collect_rows([rows_of(0, 3), rows_of(3, 7)], told)
