"""Numeric columns: values of any type as floats, normalisers and quantile buckets fitted in one pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.features.tokens import is_text

# quantiles are exact up to so many values; beyond, they are those of a random sample of this size
EXACT_QUANTILES = 1_000_000
# normalised values end here: a product of two of them still fits float32
LIMIT = 1e15

_SEED = 2021


def floats_of(values: pa.Array, column: str, first_row: int = 1) -> NDArray[np.float64]:
    """Return the values of a column, ``(rows,)`` float64; null, NaN, infinity and empty text are NaN.

    Args:
        values: ``(rows,)`` numbers, booleans, decimals, or text that holds numbers.
        column: Its name, for errors.
        first_row: Number of the first row, for errors.

    Raises:
        DataError: A text is no number, or the type cannot hold any; column, value and row are named.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_boolean(kind):
        values = pc.cast(values, pa.int8())
    elif is_text(kind):
        values = _read(values, column, first_row)
    elif pa.types.is_decimal(kind):
        values = pc.cast(values, pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise DataError(
            f"column '{column}' holds {kind}, not numbers.",
            hint="Give the column another role, or store numbers in it.",
        )
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan)
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
    if values.null_count:
        numbers[values.is_null().to_numpy(zero_copy_only=False)] = np.nan
    numbers[~np.isfinite(numbers)] = np.nan
    return np.asarray(numbers)


def log_square(values: NDArray[np.float64]) -> pa.Array:
    """Return the buckets ``floor(ln(x)^2)`` for x > 2, else ``int(x)``; ``(rows,)`` int64, null for NaN.

    The square of the logarithm is the processor of Criteo's winning teams (arXiv 2304.00902 leaves it open).
    """
    missing = np.isnan(values)
    plain = np.where(missing, 0.0, values)
    large = plain > 2
    squared = np.floor(np.log(np.where(large, plain, 1.0)) ** 2)
    buckets = np.where(large, squared, np.trunc(np.clip(plain, -9e18, 2)))
    return pa.array(buckets.astype(np.int64), mask=missing)


@dataclass
class Moments:
    """Count, mean, sum of squared deviations and range of a stream of values (Chan's merging, float64).

    Attributes:
        count: Values seen, missing ones left out.
        missing: Values that were NaN.
        mean: Their mean.
        m2: Sum of squared deviations from it.
        low: Smallest value.
        high: Largest value.
    """

    count: int = 0
    missing: int = 0
    mean: float = 0.0
    m2: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, values: NDArray[np.float64]) -> None:
        """Take the values of a batch in; NaN counts as missing."""
        present = values[~np.isnan(values)]
        self.missing += len(values) - len(present)
        if not len(present):
            return
        # sums of huge values may overflow: the normaliser refuses them
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(present.mean())
            squares = float(np.square(present - mean).sum())
            total = self.count + len(present)
            apart = mean - self.mean
            self.m2 += squares + apart * apart * self.count * len(present) / total
            self.mean += apart * len(present) / total
        self.count = total
        self.low, self.high = min(self.low, float(present.min())), max(self.high, float(present.max()))


@dataclass(frozen=True)
class Normaliser:
    """``(x - shift) / scale``, and 0 for missing values.

    Attributes:
        shift: The mean, the smallest value, or 0.
        scale: The standard deviation, the range, or 1; never 0.
        low: Smallest value of the train rows, or 0 without any.
        high: Largest value.
    """

    shift: float = 0.0
    scale: float = 1.0
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def fitted(cls, kind: str, moments: Moments, column: str) -> Normaliser:
        """Return the normaliser of train rows; a constant column becomes 0.

        Args:
            kind: ``standard``, ``min-max`` or ``none``.
            moments: Of the train rows.
            column: Its name, for errors.

        Raises:
            DataError: The values are too large to be averaged.
        """
        if not moments.count:
            return cls()
        low, high = moments.low, moments.high
        if kind == "none":
            return cls(low=low, high=high)
        spread = math.sqrt(moments.m2 / moments.count) if kind == "standard" else high - low
        shift = moments.mean if kind == "standard" else low
        if not (math.isfinite(spread) and math.isfinite(shift)):
            raise DataError(
                f"column '{column}' holds values from {low:g} to {high:g}, too large to be normalised.",
                hint="Correct the values, or give the column the option bucket: quantile.",
            )
        # the standard deviation of equal values is rounding noise rather than 0
        constant = low == high or spread <= 1e-12 * abs(shift) or spread == 0
        return cls(low if constant else shift, 1.0 if constant else spread, low, high)

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return normalised values, ``(rows,)`` float32, finite: 0 for NaN, ends at ``+-1e15``."""
        with np.errstate(over="ignore"):
            scaled = np.clip((values - self.shift) / self.scale, -LIMIT, LIMIT)
        return np.where(np.isnan(values), 0.0, scaled).astype(np.float32)

    def state(self) -> dict[str, float]:
        """Return its numbers, for JSON."""
        return {"shift": self.shift, "scale": self.scale, "low": self.low, "high": self.high}

    @classmethod
    def read(cls, state: Mapping[str, Any]) -> Normaliser:
        """Return the normaliser of :meth:`state`."""
        return cls(**{name: float(state[name]) for name in ("shift", "scale", "low", "high")})


@dataclass
class Quantiles:
    """A uniform sample of a stream of values, all of them while there are at most ``exact``.

    Each value draws a random number and those with the smallest are kept, so that the sample depends on the
    order of the values alone and not on how they come in batches.
    """

    exact: int = EXACT_QUANTILES
    missing: int = 0
    _values: list[NDArray[np.float64]] = field(default_factory=list)
    _keys: list[NDArray[np.float64]] = field(default_factory=list)
    _held: int = 0
    _below: float = 1.0
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(_SEED))

    def add(self, values: NDArray[np.float64]) -> None:
        """Take the values of a batch in; NaN counts as missing."""
        present = values[~np.isnan(values)]
        self.missing += len(values) - len(present)
        keys = self._rng.random(len(present))
        chosen = keys < self._below
        self._values.append(present[chosen])
        self._keys.append(keys[chosen])
        self._held += int(chosen.sum())
        if self._held > 2 * self.exact:
            self._shrink()

    def edges(self, bins: int) -> NDArray[np.float64]:
        """Return the distinct upper edges of all buckets but the last, rising; at most ``bins - 1``.

        Edges are values of the sample, so that no bucket is empty in it.
        """
        if self._held > self.exact:
            self._shrink()
        values = np.concatenate(self._values) if self._values else np.zeros(0)
        if not len(values):
            return values
        shares = np.arange(1, bins) / bins
        edges = np.unique(np.quantile(values, shares, method="inverted_cdf"))
        return np.asarray(edges[edges < values.max()])

    def _shrink(self) -> None:
        values, keys = np.concatenate(self._values), np.concatenate(self._keys)
        self._below = float(np.partition(keys, self.exact)[self.exact])
        kept = keys < self._below
        self._values, self._keys = [values[kept]], [keys[kept]]
        self._held = int(kept.sum())


def _read(values: pa.Array, column: str, first_row: int) -> pa.Array:
    text = pc.utf8_trim_whitespace(pc.cast(values, pa.large_string()))
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.large_string()), text)
    try:
        return pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        pass
    numbers: list[float | None] = []
    for row, one in enumerate(text.to_pylist(), start=first_row):
        try:
            numbers.append(None if one is None else float(one))
        except ValueError:
            raise DataError(
                f"column '{column}', row {row}: {one[:80]!r} is not a number.",
                hint="Correct the value, leave it empty, or give the column the role categorical.",
            ) from None
    return pa.array(numbers, pa.float64())
