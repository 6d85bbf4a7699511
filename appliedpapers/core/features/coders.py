"""How the column of each role becomes fields: what is counted when fitting, and what encoding returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from appliedpapers.core.features.encoded import EncodedField
from appliedpapers.core.features.fields import Fields, FieldSpec
from appliedpapers.core.features.instants import instants, part_of
from appliedpapers.core.features.numeric import Normaliser, floats_of, log_square
from appliedpapers.core.features.sequences import elements_of, padded
from appliedpapers.core.features.tokens import distinct_tokens
from appliedpapers.core.features.vocabulary import HashBuckets, Vocabulary

Lookup = Vocabulary | HashBuckets
Encoded = tuple[NDArray[Any], ...]

# ids of an indicator field: 0 is padding and 3 is never met
PRESENT, ABSENT, INDICATOR_SIZE = 1, 2, 4


@dataclass(frozen=True)
class TokenCoder:
    """Columns that are looked up: categorical ones, log-square buckets, parts of a timestamp."""

    column: str
    spec: FieldSpec
    names: tuple[str, ...]
    lookups: tuple[Lookup, ...]

    @cached_property
    def fields(self) -> tuple[EncodedField, ...]:
        """One categorical field a lookup."""
        return tuple(
            EncodedField(name, "categorical", lookup.size, 0, self.column)
            for name, lookup in zip(self.names, self.lookups, strict=True)
        )

    def tokens(self, values: pa.Array, first_row: int = 1) -> tuple[pa.Array, ...]:
        """Return the values to be looked up, ``(rows,)`` of any scalar type, one array a field.

        Raises:
            DataError: The column does not hold what its role says.
        """
        if self.spec.role == "timestamp":
            moments = instants(values, self.column, format=self.spec.format, first_row=first_row)
            return tuple(part_of(moments, part) for part in self.spec.derive)
        if self.spec.role == "numeric":
            return (log_square(floats_of(values, self.column, first_row)),)
        return (values,)

    def encode(self, values: pa.Array, first_row: int = 1) -> Encoded:
        """Return the ids of each field, ``(rows,)`` int32."""
        return tuple(
            ids_of(part, lookup, self.column)
            for part, lookup in zip(self.tokens(values, first_row), self.lookups, strict=True)
        )

    def state(self) -> dict[str, Any]:
        """Return nothing: the lookups are all that it learns."""
        return {}

    def restored(self, state: Mapping[str, Any], lookups: tuple[Lookup, ...]) -> TokenCoder:
        """Return a copy with other lookups."""
        return replace(self, lookups=lookups)


@dataclass(frozen=True)
class SequenceCoder:
    """Columns with several tokens a row; ``length`` is fixed when fitting."""

    column: str
    spec: FieldSpec
    names: tuple[str, ...]
    lookups: tuple[Lookup, ...]
    length: int = 1

    @cached_property
    def fields(self) -> tuple[EncodedField, ...]:
        """The one sequence."""
        return (EncodedField(self.names[0], "sequence", self.lookups[0].size, self.length, self.column),)

    def elements(self, values: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
        """Return the tokens of all rows, and how many each has."""
        return elements_of(values, self.column, self.spec.separator)

    def encode(self, values: pa.Array, first_row: int = 1) -> Encoded:
        """Return the last ids of each row, ``(rows, length)`` int32, padded with 0 behind."""
        elements, counts = self.elements(values)
        return (padded(ids_of(elements, self.lookups[0], self.column), counts, self.length),)

    def state(self) -> dict[str, Any]:
        """Return the length."""
        return {"length": self.length}

    def restored(self, state: Mapping[str, Any], lookups: tuple[Lookup, ...]) -> SequenceCoder:
        """Return a copy with what was learnt."""
        return replace(self, lookups=lookups, length=int(state["length"]))


@dataclass(frozen=True)
class NumberCoder:
    """Numbers that stay numbers, and whether they are missing as a field of its own."""

    column: str
    spec: FieldSpec
    names: tuple[str, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    indicator: str | None = None
    normaliser: Normaliser = field(default_factory=Normaliser)

    @cached_property
    def fields(self) -> tuple[EncodedField, ...]:
        """The number and, right after it, the indicator if there is one."""
        number = EncodedField(self.column, "numeric", 0, 0, self.column)
        if self.indicator is None:
            return (number,)
        return (number, EncodedField(self.indicator, "categorical", INDICATOR_SIZE, 0, self.column))

    def encode(self, values: pa.Array, first_row: int = 1) -> Encoded:
        """Return normalised values, ``(rows,)`` float32, and ids of the indicator, ``(rows,)`` int32."""
        numbers = floats_of(values, self.column, first_row)
        scaled = self.normaliser.apply(numbers)
        if self.indicator is None:
            return (scaled,)
        return (scaled, np.where(np.isnan(numbers), ABSENT, PRESENT).astype(np.int32))

    def state(self) -> dict[str, Any]:
        """Return the normaliser and the name of the indicator."""
        return {"indicator": self.indicator, "normaliser": self.normaliser.state()}

    def restored(self, state: Mapping[str, Any], lookups: tuple[Lookup, ...]) -> NumberCoder:
        """Return a copy with what was learnt."""
        normaliser = Normaliser.read(state["normaliser"])
        return replace(self, indicator=state["indicator"], normaliser=normaliser)


@dataclass(frozen=True)
class QuantileCoder:
    """Numbers as buckets between quantiles: ids rise with the value, missing values have the next one."""

    column: str
    spec: FieldSpec
    names: tuple[str, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    edges: tuple[float, ...] = ()
    missing: bool = False

    @cached_property
    def fields(self) -> tuple[EncodedField, ...]:
        """The one categorical field."""
        size = len(self.edges) + 1 + self.missing + 2
        return (EncodedField(self.column, "categorical", size, 0, self.column),)

    def encode(self, values: pa.Array, first_row: int = 1) -> Encoded:
        """Return ids, ``(rows,)`` int32: 1 up to the first edge, more above."""
        numbers = floats_of(values, self.column, first_row)
        ids = 1 + np.searchsorted(np.array(self.edges), numbers, side="left")
        # without missing values in train this is the id of what was never seen
        return (np.where(np.isnan(numbers), len(self.edges) + 2, ids).astype(np.int32),)

    def state(self) -> dict[str, Any]:
        """Return the edges."""
        return {"edges": list(self.edges), "missing": self.missing}

    def restored(self, state: Mapping[str, Any], lookups: tuple[Lookup, ...]) -> QuantileCoder:
        """Return a copy with what was learnt."""
        return replace(
            self, edges=tuple(float(one) for one in state["edges"]), missing=bool(state["missing"])
        )


AnyCoder = TokenCoder | SequenceCoder | NumberCoder | QuantileCoder


def drafts(fields: Fields) -> tuple[AnyCoder, ...]:
    """Return a coder for each column of input, in schema order, that has learnt nothing yet."""
    taken = set(fields)
    coders: list[AnyCoder] = []
    for column, spec in fields.items():
        if spec.role == "timestamp" and spec.derive:
            names = tuple(_free((part, f"{column}_{part}"), taken - {column}) for part in spec.derive)
            taken.update(names)
            coders.append(TokenCoder(column, spec, names, tuple(Vocabulary() for _ in names)))
        elif spec.role == "categorical":
            coders.append(TokenCoder(column, spec, (column,), (_lookup(spec),)))
        elif spec.role == "sequence":
            coders.append(SequenceCoder(column, spec, (column,), (_lookup(spec),)))
        elif spec.role == "numeric" and spec.bucket == "log-square":
            coders.append(TokenCoder(column, spec, (column,), (Vocabulary(),)))
        elif spec.role == "numeric" and spec.bucket == "quantile":
            coders.append(QuantileCoder(column, spec))
        elif spec.role == "numeric":
            name = None if spec.indicator == "never" else _free((f"{column}_missing",), taken)
            taken.update([name] if name else [])
            coders.append(NumberCoder(column, spec, indicator=name))
    return tuple(coders)


def ids_of(values: pa.Array, lookup: Lookup, column: str) -> NDArray[np.int32]:
    """Return the id of each value, ``(rows,)`` int32; each distinct value is looked up once."""
    tokens, places = distinct_tokens(values, column)
    ids = lookup.ids(tokens)
    return ids if places is None else ids[places]


def _lookup(spec: FieldSpec) -> Lookup:
    return Vocabulary() if spec.hash_buckets is None else HashBuckets(spec.hash_buckets)


def _free(wishes: tuple[str, ...], taken: set[str]) -> str:
    for name in wishes:
        if name not in taken:
            return name
    number = 2
    while f"{wishes[-1]}_{number}" in taken:
        number += 1
    return f"{wishes[-1]}_{number}"
