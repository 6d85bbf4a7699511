"""Tokens, hashes and vocabularies."""

from collections import Counter
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.errors import DataError
from appliedpapers.core.features import vocabulary as vocabulary_module
from appliedpapers.core.features.hashing import hash_text, hash_tokens
from appliedpapers.core.features.tokens import counted_tokens, distinct_tokens, tokens_of
from appliedpapers.core.features.vocabulary import (
    LONGEST_TOKEN,
    HashBuckets,
    TokenCounter,
    Vocabulary,
)

TEXT = pa.large_string()
LISTS = st.lists(st.none() | st.text(max_size=4), max_size=150)


def vocabulary_of(*batches, min_count=1, start=None, **options):
    counter = TokenCounter("f", **options)
    for values in batches:
        counter.add(values if isinstance(values, pa.Array) else pa.array(values, TEXT), "f")
    return (start or Vocabulary()).grown(counter, min_count)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([7, None, -3], pa.int16()), ["7", None, "-3"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([3.0, -0.0, float("nan"), None]), ["3", "0", None, None]),
        (pa.array([3.0, 0.1, 1e20, float("inf")]), ["3", "0.1", "100000000000000000000", "inf"]),
        (pa.array([0.1, 2.5], pa.float32()), ["0.1", "2.5"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array(["", " x ", None]), ["", " x ", None]),
        (pa.array([Decimal("3.00"), Decimal("0.50")]), ["3", "0.5"]),
        (pa.array([date(2024, 1, 31)]), ["2024-01-31"]),
        (pa.array([datetime(2024, 1, 31, 14)], pa.timestamp("ns")), ["2024-01-31T14:00:00"]),
        (pa.array([datetime(2024, 1, 31, 14, 0, 0, 500_000)]), ["2024-01-31T14:00:00.5"]),
        (pa.array([datetime(2024, 1, 31, 14)], pa.timestamp("ms", "UTC")), ["2024-01-31T14:00:00Z"]),
        (pa.array(["b", None, "a"]).dictionary_encode(), ["b", None, "a"]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_tokens_are_text_whatever_the_type(values, expected):
    assert tokens_of(values, "c").to_pylist() == expected
    many = pa.concat_arrays([values] * 70)
    tokens, places = distinct_tokens(many, "c")
    again = tokens.to_pylist() if places is None else [tokens.to_pylist()[i] for i in places]
    assert again == expected * 70


def test_nested_values_are_refused_where_one_token_is_expected():
    with pytest.raises(DataError, match="column 'tags' holds list"):
        tokens_of(pa.array([["a"]]), "tags")


def test_bytes_that_are_not_utf8_are_refused():
    with pytest.raises(DataError, match="column 'c'"):
        tokens_of(pa.array([b"\xff\xfe"]), "c")


@given(LISTS, st.integers(0, 20))
def test_counts_of_a_slice_of_a_dictionary_are_those_of_its_rows(values, start):
    column = pa.array(values, TEXT).dictionary_encode().slice(start)
    tokens, counts = counted_tokens(column, "c")
    found = Counter()
    for token, count in zip(tokens.to_pylist(), counts.tolist(), strict=True):
        found[token] += count
    assert +found == Counter(values[start:])


@given(st.lists(st.text(max_size=30), min_size=1, max_size=60), st.integers(0, 5))
def test_hashes_of_many_tokens_are_those_of_each(texts, start):
    tokens = pa.array(texts, TEXT).slice(min(start, len(texts) - 1))
    assert hash_tokens(tokens).tolist() == [hash_text(text) for text in tokens.to_pylist()]


def test_hashes_do_not_change_between_versions():
    # test vectors of FNV-1a as its authors publish them, before the finaliser
    for text, fnv in (("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)):
        mixed = (fnv ^ fnv >> 33) * 0xFF51AFD7ED558CCD % 2**64
        mixed = (mixed ^ mixed >> 33) * 0xC4CEB9FE1A85EC53 % 2**64
        assert hash_text(text) == mixed ^ mixed >> 33


def test_ids_follow_falling_frequency_and_ties_follow_the_text():
    vocabulary = vocabulary_of(["b", "a", "c", "c", "Z", "é"])
    assert vocabulary.tokens.to_pylist() == ["c", "Z", "a", "b", "é"]
    assert vocabulary.size == 7
    assert vocabulary.ids(pa.array(["c", "é", "new"], TEXT)).tolist() == [1, 5, 6]


def test_rare_tokens_count_as_never_seen():
    vocabulary = vocabulary_of(["a", "a", "b"], min_count=2)
    assert vocabulary.tokens.to_pylist() == ["a"]
    assert vocabulary.ids(pa.array(["b"], TEXT)).tolist() == [2]


def test_missing_takes_part_in_the_order_and_never_collides_with_its_text():
    vocabulary = vocabulary_of([None, None, "__missing__", "a", "a", "a", "z", "z"])
    assert vocabulary.tokens.to_pylist() == ["a", None, "z", "__missing__"]
    assert vocabulary.ids(pa.array([None, "__missing__"], TEXT)).tolist() == [2, 4]


def test_missing_that_never_occurred_counts_as_never_seen():
    vocabulary = vocabulary_of(["a"])
    assert vocabulary.ids(pa.array([None] * 100, TEXT)).tolist() == [2] * 100


def test_tokens_over_the_limit_never_enter_and_the_longest_allowed_does():
    longest, over = "x" * LONGEST_TOKEN, "é" * (LONGEST_TOKEN // 2) + "x"
    vocabulary = vocabulary_of([longest, over, "y" * 10_000_000])
    assert vocabulary.tokens.to_pylist() == [longest]
    assert vocabulary.ids(pa.array([longest, over], TEXT)).tolist() == [1, 2]
    buckets = HashBuckets(4)
    assert buckets.ids(pa.array([over, "y" * 10_000_000, None], TEXT)).tolist() == [5, 5, 5]


@settings(deadline=None)
@given(LISTS, LISTS)
def test_all_ways_of_looking_up_agree(train, asked):
    vocabulary = vocabulary_of(train)
    tokens = pa.array([*asked, *train[:20], "never", "x" * 2000], TEXT)
    known = {token: i for i, token in enumerate(vocabulary.tokens.to_pylist(), start=1)}
    expected = [known.get(token, vocabulary.size - 1) for token in tokens.to_pylist()]
    assert vocabulary.ids(tokens).tolist() == expected
    assert vocabulary._search(tokens).tolist() == expected
    assert [vocabulary._search_one(token) for token in tokens.to_pylist()] == expected


def test_tokens_of_equal_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(vocabulary_module, "hash_tokens", lambda tokens: np.full(len(tokens), 7, np.uint64))
    monkeypatch.setattr(vocabulary_module, "hash_text", lambda token: 7)
    vocabulary = vocabulary_of(["a", "b", "c", None])
    tokens = pa.array(["c", "x", None, "a", "b"], TEXT)
    expected = vocabulary.ids(tokens).tolist()
    assert sorted(expected) == [1, 2, 3, 4, 5]
    assert vocabulary._search(tokens).tolist() == expected
    assert [vocabulary._search_one(token) for token in tokens.to_pylist()] == expected


@given(st.lists(LISTS, max_size=5))
def test_counts_do_not_depend_on_how_rows_come_in_batches(batches):
    together = vocabulary_of([token for batch in batches for token in batch])
    apart = vocabulary_of(*batches)
    assert apart.tokens.equals(together.tokens)
    assert apart.counts.tolist() == together.counts.tolist()
    assert sum(apart.counts) == sum(len(batch) for batch in batches)


def test_beyond_the_limit_the_rarest_are_dropped_and_the_loss_is_bounded_and_said():
    said = []
    rng = np.random.default_rng(0)
    common = np.repeat(np.arange(50), 400)
    rows = np.concatenate([common, np.arange(1000, 9000)])
    rng.shuffle(rows)
    counter = TokenCounter("user", exact=1000, say=said.append)
    for part in np.array_split(rows, 20):
        counter.add(pa.array(part).cast(pa.string()), "user")
        counter.counts()
    vocabulary = Vocabulary().grown(counter)
    assert vocabulary.size - 2 <= 1000
    assert vocabulary.tokens.to_pylist()[:50] != []
    assert set(vocabulary.tokens.to_pylist()[:50]) == {str(i) for i in range(50)}
    assert 0 < counter.lost < 400
    assert all(400 - counter.lost <= count <= 400 for count in vocabulary.counts[:50])
    assert "'user'" in said[0]
    assert "1,000" in said[0]


def test_growth_keeps_ids_appends_new_tokens_and_moves_the_last_id():
    old = vocabulary_of(["a", "a", "b"])
    new = vocabulary_of(["z", "z", "b", "b", "b", "y", "y", "x", None], start=old, min_count=2)
    assert new.tokens.to_pylist() == ["a", "b", "y", "z", None]
    assert new.counts.tolist() == [2, 4, 2, 2, 1]
    assert new.ids(pa.array(["x"], TEXT)).tolist() == [6]


def test_hashed_ids_are_stable_and_within_bounds():
    buckets = HashBuckets(1000)
    ids = buckets.ids(pa.array(["a", "item_42", "é", None, *map(str, range(5000))], TEXT))
    assert ids[:3].tolist() == [1 + hash_text(text) % 1000 for text in ("a", "item_42", "é")]
    assert ids[3] == 1001
    assert ids[4:].min() >= 1
    assert ids[4:].max() <= 1000
    assert len(np.unique(ids[4:])) > 950
