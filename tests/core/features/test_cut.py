"""Cuts into train, valid and test, and what a fair test must not hold."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.data import PARTS
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.features import time_cut
from appliedpapers.core.features.classes import check_labels, is_zero_one
from appliedpapers.core.features.cut import cut_rows
from appliedpapers.core.features.fields import FieldSpec
from appliedpapers.core.features.leaks import duplicate_rows, part_hashes, single_field_leak
from appliedpapers.core.features.rows import TableRows, open_rows


def roles(**named):
    return {name: FieldSpec(role=role) for name, role in named.items()}


def source_of(**columns):
    return TableRows(pa.table(columns))


def sizes(cut):
    return tuple(cut.count(part) for part in PARTS)


def at(*hours):
    start = dt.datetime(2024, 5, 17)
    return [None if hour is None else start + dt.timedelta(hours=hour) for hour in hours]


def test_time_puts_later_rows_behind_and_keeps_an_instant_together():
    hours = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 50))
    cut = cut_rows(source_of(t=at(*hours.tolist())), roles(t="timestamp"))
    assert cut.protocol == "time 80/10/10"
    assert sizes(cut) == (800, 100, 100)
    assert (cut.assignment == np.select([hours < 16, hours < 18], [0, 1], 2)).all()
    assert "2024-05-17 16:00" in cut.note


def test_rows_without_a_time_are_not_used_and_counted():
    cut = cut_rows(source_of(t=at(*range(10), None)), roles(t="timestamp"))
    assert cut.assignment[-1] == -1
    assert cut.warnings == ("1 rows without t are not used",)


@pytest.mark.parametrize("kept", [0, 10**9])
@settings(max_examples=60, deadline=None)
@given(
    times=st.lists(st.integers(-(2**50), 2**50), min_size=3, max_size=60, unique=False).filter(
        lambda times: len(set(times)) >= 3
    )
)
def test_any_three_instants_can_be_cut_by_time_and_the_parts_are_in_order(kept, times):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_cut, "_KEPT", kept)
        cut = cut_rows(source_of(t=pa.array(times, pa.timestamp("us"))), roles(t="timestamp"))
    parts = [np.array(times)[cut.assignment == part] for part in range(3)]
    assert parts[0].max() < parts[1].min()
    assert parts[1].max() < parts[2].min()


def test_distinct_times_meet_the_shares_exactly():
    times = np.random.default_rng(1).choice(2**45, 1000, replace=False)
    source = source_of(t=pa.array(times, pa.timestamp("us")))
    assert sizes(cut_rows(source, roles(t="timestamp"), shares=(0.7, 0.2, 0.1))) == (700, 200, 100)


def test_texts_and_integers_of_a_format_are_times():
    fields = {"hour": FieldSpec(role="timestamp", format="%y%m%d%H")}
    hours = [14102100 + n for n in range(10)]
    for column in (hours, [str(hour) for hour in hours]):
        assert cut_rows(source_of(hour=column), fields).assignment.tolist() == [0] * 8 + [1, 2]


def test_two_instants_are_too_few():
    with pytest.raises(DataError, match="fewer than three different times"):
        cut_rows(source_of(t=at(1, 1, 2, 2)), roles(t="timestamp"))


@pytest.mark.parametrize("values", [["Train", "dev", "TEST", None], [0, 1, 2, None], [0.0, 1.0, 2.0, None]])
def test_a_split_column_is_followed(values):
    cut = cut_rows(source_of(split=values, t=at(1, 2, 3, 4)), roles(split="split", t="timestamp"))
    assert cut.assignment.tolist() == [0, 1, 2, -1]
    assert cut.protocol == "column split"


def test_a_split_column_without_valid_takes_a_tenth_of_train_and_says_so():
    source = source_of(split=["train"] * 100 + ["test"] * 10)
    cut = cut_rows(source, roles(split="split"), seed=3)
    assert sizes(cut) == (90, 10, 10)
    assert "tenth" in cut.note
    assert (cut_rows(source, roles(split="split"), seed=3).assignment == cut.assignment).all()
    assert (cut_rows(source, roles(split="split"), seed=4).assignment != cut.assignment).any()


def test_a_split_column_without_test_or_with_other_words_is_refused():
    with pytest.raises(DataError, match="no test rows"):
        cut_rows(source_of(split=[0, 1]), roles(split="split"))
    with pytest.raises(DataError, match="holds 'holdout', which names no part"):
        cut_rows(source_of(split=["train", "holdout"]), roles(split="split"))


def test_groups_stay_whole_and_the_seed_moves_them():
    users = [f"u{n % 500}" for n in range(5000)]
    cut = cut_rows(source_of(user=users), roles(user="group"), seed=1)
    for part in range(3):
        mine = {user for user, where in zip(users, cut.assignment, strict=True) if where == part}
        others = {user for user, where in zip(users, cut.assignment, strict=True) if where != part}
        assert mine
        assert not mine & others
    assert 0.7 < cut.count("train") / 5000 < 0.9
    assert (cut_rows(source_of(user=users), roles(user="group"), seed=2).assignment != cut.assignment).any()


def test_random_is_exact_seeded_and_warned_about():
    source = source_of(a=np.arange(1000))
    cut = cut_rows(source, roles(a="numeric"), seed=1)
    assert sizes(cut) == (800, 100, 100)
    assert "at random" in cut.warnings[0]
    assert (cut_rows(source, roles(a="numeric"), seed=1).assignment == cut.assignment).all()
    with pytest.raises(DataError, match="no valid rows"):
        cut_rows(source_of(a=[1, 2]), {})


def test_a_method_whose_column_is_missing_says_which_role_to_give():
    with pytest.raises(ConfigError, match="no column has the role timestamp"):
        cut_rows(source_of(a=[1]), {}, method="time")
    assert cut_rows(source_of(t=at(*range(10))), {}, method="time", column="t").count("test") == 1
    with pytest.raises(ConfigError, match="each part needs one"):
        cut_rows(source_of(a=[1]), {}, shares=(1, 0, 0))


def test_batches_of_a_part_hold_its_rows_in_order(tmp_path):
    pq.write_table(
        pa.table({"n": np.arange(1000), "s": np.arange(1000) % 3}), tmp_path / "x.parquet", row_group_size=77
    )
    source = open_rows(tmp_path / "x.parquet")
    cut = cut_rows(source, roles(s="split"))
    read = np.concatenate([np.asarray(batch["n"]) for batch in cut.batches(source, "valid", ["n"], 50)])
    assert (read == np.arange(1, 1000, 3)).all()


def test_labels_are_counted_by_part_and_one_class_is_refused():
    fields = roles(y="label", s="split")
    source = source_of(y=[0, 1, 1, 0, 1, 1, 0, None], s=[0, 0, 0, 1, 1, 2, 2, None])
    assert check_labels(source, fields, cut_rows(source, fields)) == {
        "train": (1, 2),
        "valid": (1, 1),
        "test": (1, 1),
    }
    one = source_of(y=["1", "1", "0", "1", "0", "1"], s=[0, 0, 1, 1, 2, 2])
    with pytest.raises(DataError, match="all 2 train rows have y 1"):
        check_labels(one, fields, cut_rows(one, fields))
    bad = source_of(y=[0, 1, 3], s=[0, 1, 2])
    with pytest.raises(DataError, match="row 3: 3"):
        check_labels(bad, fields, cut_rows(bad, fields))


def test_what_could_be_a_label():
    for values in ([0, 1, None], [True], ["0", "1"], [0.0, 1.0]):
        assert is_zero_one(pa.array(values))
    for values in ([0, 1, 2], [0.5], ["a"], [None], [], [[0], [1]]):
        assert not is_zero_one(pa.array(values))


def test_identical_rows_across_parts_are_counted_but_not_the_column_that_names_the_part():
    source = source_of(
        user=["a", "b", "a", "a", "c", "b"],
        tags=[["x"], [], ["x"], ["x"], None, []],
        y=[0, 1, 0, 1, 0, 1],
        s=[0, 0, 1, 1, 2, 2],
    )
    cut = cut_rows(source, roles(s="split", y="label"))
    assert duplicate_rows(source, cut) == {("train", "valid"): 1, ("train", "test"): 1}
    assert [len(part) for part in part_hashes(source, cut).values()] == [2, 2, 2]


def test_columns_that_know_the_answer_are_named():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 4000)
    source = source_of(
        y=labels,
        fair=rng.integers(0, 9, 4000).astype(str),
        page=[
            f"{'thanks' if y else 'shop'}{n}" for y, n in zip(labels, rng.integers(0, 5, 4000), strict=True)
        ],
        paid=np.where(labels, rng.random(4000) + 1, -rng.random(4000)),
        back=-labels * 1.0,
        when=pa.array([1.0 if y else None for y in labels]),
        t=at(*range(4000)),
    )
    fields = roles(
        y="label",
        fair="categorical",
        page="categorical",
        paid="numeric",
        back="numeric",
        when="numeric",
        t="timestamp",
    )
    for most in (200_000, 300):
        found = single_field_leak(source, fields, cut_rows(source, fields), max_rows=most)
        assert set(found) == {"page", "paid", "back", "when"}
        assert found["paid"] == 1.0
