"""What a stream of train rows tells an encoder, in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from appliedpapers.core.features.coders import (
    AnyCoder,
    Lookup,
    NumberCoder,
    QuantileCoder,
    SequenceCoder,
)
from appliedpapers.core.features.numeric import Moments, Normaliser, Quantiles, floats_of
from appliedpapers.core.features.vocabulary import HashBuckets, TokenCounter


@dataclass
class Tally:
    """What was seen of one column.

    Attributes:
        coder: The coder that it is seen for.
        counters: One a lookup of the coder.
        missing: Rows without a value.
        longest: Most tokens of a row of a sequence.
    """

    coder: AnyCoder
    counters: tuple[TokenCounter, ...]
    missing: int = 0
    longest: int = 0
    moments: Moments = field(default_factory=Moments)
    quantiles: Quantiles = field(default_factory=Quantiles)

    @classmethod
    def start(cls, coder: AnyCoder, exact: int, say: Callable[[str], None] | None) -> Tally:
        """Return a tally of no rows; ``exact`` and ``say`` are those of the counters."""
        return cls(coder, tuple(TokenCounter(name, exact, say) for name in coder.names))

    def add(self, values: pa.Array, first_row: int) -> None:
        """Take the rows of a batch in.

        Raises:
            DataError: The column does not hold what its role says.
        """
        coder = self.coder
        if isinstance(coder, SequenceCoder):
            elements, counts = coder.elements(values)
            self.missing += int((counts == 0).sum())
            self.longest = max(self.longest, int(counts.max(initial=0)))
            self._count(0, elements)
        elif isinstance(coder, NumberCoder):
            before = self.moments.missing
            self.moments.add(floats_of(values, coder.column, first_row))
            self.missing += self.moments.missing - before
        elif isinstance(coder, QuantileCoder):
            self.quantiles.add(floats_of(values, coder.column, first_row))
            self.missing = self.quantiles.missing
        else:
            # every part of a timestamp is missing in the same rows
            empty = [self._count(i, part) for i, part in enumerate(coder.tokens(values, first_row))]
            self.missing += empty[0]

    def fitted(self) -> AnyCoder:
        """Return the coder with all that was learnt from the rows.

        Raises:
            DataError: Values are too large to be normalised.
        """
        coder = self.coder
        if isinstance(coder, NumberCoder):
            told = coder.spec.indicator == "always" or self.missing > 0
            normaliser = Normaliser.fitted(coder.spec.normaliser, self.moments, coder.column)
            return replace(coder, indicator=coder.indicator if told else None, normaliser=normaliser)
        if isinstance(coder, QuantileCoder):
            edges = tuple(self.quantiles.edges(coder.spec.bins).tolist())
            return replace(coder, edges=edges, missing=self.missing > 0)
        if isinstance(coder, SequenceCoder):
            length = max(1, min(coder.spec.max_len, self.longest))
            return replace(coder, lookups=self._lookups(), length=length)
        return self.grown()

    def grown(self) -> AnyCoder:
        """Return the coder with new tokens added; all else stays as it was."""
        return replace(self.coder, lookups=self._lookups())

    def _lookups(self) -> tuple[Lookup, ...]:
        return tuple(
            lookup.grown(counter, self.coder.spec.min_count)
            for lookup, counter in zip(self.coder.lookups, self.counters, strict=True)
        )

    def _count(self, i: int, values: pa.Array) -> int:
        lookup = self.coder.lookups[i]
        if isinstance(lookup, HashBuckets):
            return _nulls(values)
        return self.counters[i].add(values, self.coder.column)


def _nulls(values: pa.Array) -> int:
    if pa.types.is_floating(values.type):
        return int(np.isnan(values.to_numpy(zero_copy_only=False).astype(np.float64)).sum())
    if pa.types.is_dictionary(values.type):
        return int(values.dictionary_decode().null_count)
    return int(values.null_count)
