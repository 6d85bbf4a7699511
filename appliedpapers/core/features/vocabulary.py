"""Vocabularies: which tokens are known, by what id, and how they are counted within bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from appliedpapers.core.features.hashing import hash_text, hash_tokens
from appliedpapers.core.features.tokens import FEW, counted_tokens

# longer tokens never enter a vocabulary and are never hashed: they count as never seen (bytes of UTF-8)
LONGEST_TOKEN = 1024
# distinct tokens of a field that are counted exactly; beyond, the rarest half is dropped
EXACT_TOKENS = 10_000_000
MISSING = "__missing__"

# memory of a Python dict is some 200 bytes a token, and only small requests gain by it
_DICT_TOKENS = 200_000
_TEXT = pa.large_string()


class TokenCounter:
    """Counts of the tokens of one field, batch by batch.

    Counts are exact up to ``exact`` distinct tokens. Beyond, the rarest half is dropped each time (the tokens
    seen first are kept among equals): a token may then be lost, or counted too low, by at most :attr:`lost`.

    Args:
        field: Its name, for errors and messages.
        exact: Distinct tokens that are held at most between batches.
        say: Told when tokens are dropped.

    Attributes:
        missing: Values that were missing.
        total: Values counted, missing and too long ones included.
        lost: The bound above; 0 while counts are exact.
    """

    def __init__(
        self, field: str, exact: int = EXACT_TOKENS, say: Callable[[str], None] | None = None
    ) -> None:
        self.field = field
        self.missing = 0
        self.total = 0
        self.lost = 0
        self._exact = exact
        self._say = say
        self._tokens = pa.array([], _TEXT)
        self._counts = np.zeros(0, np.int64)
        self._waiting: list[tuple[pa.Array, NDArray[np.int64]]] = []
        self._pending = 0

    def add(self, values: pa.Array, column: str) -> int:
        """Count the values of a batch and return how many of them are missing.

        Raises:
            DataError: The values are nested.
        """
        tokens, counts = counted_tokens(values, column)
        self.total += len(values)
        empty = 0
        if tokens.null_count:
            absent = tokens.is_null().to_numpy(zero_copy_only=False)
            empty = int(counts[absent].sum())
            self.missing += empty
        kept = pc.less_equal(pc.binary_length(tokens), LONGEST_TOKEN)
        kept = pc.fill_null(kept, False).to_numpy(zero_copy_only=False) & (counts > 0)
        if not kept.all():
            tokens, counts = tokens.filter(pa.array(kept)), counts[kept]
        if len(tokens):
            self._waiting.append((tokens, counts))
            self._pending += len(tokens)
        # merging costs as much as all that is held, so it waits until there is as much again
        if self._pending > max(200_000, len(self._tokens)):
            self._merge()
        return empty

    def counts(self) -> tuple[pa.Array, NDArray[np.int64]]:
        """Return the distinct tokens, large_string without nulls, and their counts, as they appeared."""
        self._merge()
        return self._tokens, self._counts

    def _merge(self) -> None:
        if not self._waiting:
            return
        tokens = pa.concat_arrays([self._tokens, *(one for one, _ in self._waiting)])
        counts = np.concatenate([self._counts, *(one for _, one in self._waiting)])
        self._waiting, self._pending = [], 0
        # measured three times as fast as grouping; counts below 2**53 are exact as floats
        encoded = tokens.dictionary_encode()
        self._tokens = encoded.dictionary
        self._counts = np.bincount(encoded.indices.to_numpy(), weights=counts).astype(np.int64)
        if len(self._tokens) > self._exact:
            self._prune()

    def _prune(self) -> None:
        half = self._exact // 2
        order = np.argsort(-self._counts, kind="stable")
        self.lost += int(self._counts[order[half]])
        kept = np.sort(order[:half])
        self._tokens, self._counts = self._tokens.take(pa.array(kept)), self._counts[kept]
        if self._say is not None:
            self._say(
                f"field '{self.field}' has over {self._exact:,} distinct tokens: the rarest are dropped; "
                f"a lost token occurred at most {self.lost:,} times."
            )


class Vocabulary:
    """The known tokens of a field; the token at place ``i`` has the id ``i + 1``, 0 is padding.

    Args:
        tokens: ``(n,)`` large_string in id order, distinct; null stands for missing values, so that a real
            token of any text cannot collide with them.
        counts: ``(n,)`` how often each occurred in the train rows.
    """

    def __init__(self, tokens: pa.Array | None = None, counts: NDArray[np.int64] | None = None) -> None:
        self.tokens = pa.array([], _TEXT) if tokens is None else tokens
        self.counts = np.zeros(0, np.int64) if counts is None else counts

    @property
    def size(self) -> int:
        """Rows of its table: padding, the tokens, and one for what was never seen."""
        return len(self.tokens) + 2

    def ids(self, tokens: pa.Array) -> NDArray[np.int32]:
        """Return the id of each token, ``(n,)`` int32; null asks for the id of missing values.

        Args:
            tokens: ``(n,)`` text of any Arrow type.
        """
        known, unseen = len(self.tokens), self.size - 1
        if len(tokens) <= FEW:
            if known > _DICT_TOKENS:
                return np.array([self._search_one(token) for token in tokens.to_pylist()], np.int32)
            table = self._table
            return np.array([table.get(token, unseen) for token in tokens.to_pylist()], np.int32)
        tokens = pc.cast(tokens, _TEXT)
        if known <= 4096 + 4 * len(tokens):
            places = pc.index_in(tokens, value_set=self.tokens)
            return np.asarray(pc.fill_null(places, known).to_numpy(zero_copy_only=False) + 1, np.int32)
        return self._search(tokens)

    def grown(self, counter: TokenCounter, min_count: int = 1) -> Vocabulary:
        """Return a vocabulary that keeps the ids of this one and adds the tokens that were counted.

        New tokens follow by falling frequency, ties by text. Missing values that are new take part under the
        text ``__missing__``, whatever ``min_count`` says; rarer tokens stay unknown.
        """
        tokens, counts = counter.counts()
        ids = self.ids(tokens)
        found = ids < self.size - 1
        old = self.counts.copy()
        old[ids[found] - 1] += counts[found]
        if self._missing_at is not None:
            old[self._missing_at] += counter.missing
        new = ~found & (counts >= min_count)
        added, often = tokens.filter(pa.array(new)), counts[new]
        order = pc.sort_indices(
            pa.table({"count": often, "token": added}),
            sort_keys=[("count", "descending"), ("token", "ascending")],
        )
        added, often = added.take(order), often[order.to_numpy()]
        if counter.missing and self._missing_at is None:
            added, often = _with_missing(added, often, counter.missing)
        return Vocabulary(pa.concat_arrays([self.tokens, added]), np.concatenate([old, often]))

    @cached_property
    def _missing_at(self) -> int | None:
        if not self.tokens.null_count:
            return None
        return int(np.flatnonzero(self.tokens.is_null().to_numpy(zero_copy_only=False))[0])

    @cached_property
    def _table(self) -> dict[str | None, int]:
        return {token: place for place, token in enumerate(self.tokens.to_pylist(), start=1)}

    @cached_property
    def _index(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        hashes = hash_tokens(self.tokens)
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    def _search_one(self, token: str | None) -> int:
        if token is None:
            return self.size - 1 if self._missing_at is None else self._missing_at + 1
        if len(token) > LONGEST_TOKEN:
            return self.size - 1
        hashes, order = self._index
        key = np.uint64(hash_text(token))
        place = int(np.searchsorted(hashes, key))
        while place < len(hashes) and hashes[place] == key:
            if self.tokens[int(order[place])].as_py() == token:
                return int(order[place]) + 1
            place += 1
        return self.size - 1

    def _search(self, tokens: pa.Array) -> NDArray[np.int32]:
        """Look a few tokens up in a huge vocabulary, without a pass over the latter."""
        hashes, order = self._index
        result = np.full(len(tokens), self.size - 1, np.int32)
        absent = tokens.is_null().to_numpy(zero_copy_only=False)
        if self._missing_at is not None:
            result[absent] = self._missing_at + 1
        short = pc.fill_null(pc.less_equal(pc.binary_length(tokens), LONGEST_TOKEN), False)
        asked = np.flatnonzero(short.to_numpy(zero_copy_only=False))
        wanted = tokens.take(pa.array(asked))
        keys = hash_tokens(wanted)
        places = np.searchsorted(hashes, keys)
        # equal hashes of different tokens are neighbours: step on until the text agrees or the hash differs
        while len(asked):
            near = places < len(hashes)
            near[near] = hashes[places[near]] == keys[near]
            asked, places, keys = asked[near], places[near], keys[near]
            wanted = wanted.filter(pa.array(near))
            if not len(asked):
                break
            there = order[places]
            same = pc.fill_null(pc.equal(self.tokens.take(pa.array(there)), wanted), False)
            same = same.to_numpy(zero_copy_only=False)
            result[asked[same]] = there[same] + 1
            asked, places, keys = asked[~same], places[~same] + 1, keys[~same]
            wanted = wanted.filter(pa.array(~same))
        return result


class HashBuckets:
    """Ids by hash, without a vocabulary: ``1 + hash(token) % buckets``.

    Missing values and tokens longer than :data:`LONGEST_TOKEN` share the last id.
    """

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    @property
    def size(self) -> int:
        """Rows of its table: padding, the buckets, and the last."""
        return self.buckets + 2

    def ids(self, tokens: pa.Array) -> NDArray[np.int32]:
        """Return the id of each token, ``(n,)`` int32; the tokens are text of any Arrow type."""
        short = pc.fill_null(pc.less_equal(pc.binary_length(tokens), LONGEST_TOKEN), False)
        short = short.to_numpy(zero_copy_only=False)
        result = np.full(len(tokens), self.size - 1, np.int32)
        hashes = hash_tokens(pc.cast(tokens.filter(pa.array(short)), _TEXT))
        result[short] = 1 + (hashes % np.uint64(self.buckets)).astype(np.int32)
        return result

    def grown(self, counter: TokenCounter, min_count: int = 1) -> HashBuckets:
        """Return itself: ids by hash never change."""
        return self


def _with_missing(
    tokens: pa.Array, counts: NDArray[np.int64], missing: int
) -> tuple[pa.Array, NDArray[np.int64]]:
    ties = tokens.filter(pa.array(counts == missing))
    place = int((counts > missing).sum()) + sum(token <= MISSING for token in ties.to_pylist())
    gap = pa.nulls(1, tokens.type)
    return (
        pa.concat_arrays([tokens[:place], gap, tokens[place:]]),
        np.insert(counts, place, missing),
    )
