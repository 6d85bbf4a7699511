"""Quantiles of the times of rows, exact and with little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.features.instants import instants
from appliedpapers.core.features.rows import RowSource

Times = NDArray[np.int64]
Stream = Callable[[], Iterator[tuple[Times, NDArray[np.bool_]]]]

# times of so many rows are kept instead of being read and parsed again: 9 bytes each
_KEPT = 5_000_000
_BINS = 1 << 16
_NEVER = int(np.iinfo(np.int64).max)


def times_of(source: RowSource, column: str, text_format: str | None = None) -> Stream:
    """Return a function that yields times in microseconds and which of them are missing, batch by batch."""

    def read() -> Iterator[tuple[Times, NDArray[np.bool_]]]:
        row = 1
        for batch in source.batches([column]):
            values = batch.column(0)
            if pa.types.is_timestamp(values.type):
                # the clock of a zone goes back once a year: order is that of UTC
                values = pc.cast(values, pa.timestamp("us"), safe=False)
            times = pc.cast(instants(values, column, format=text_format, first_row=row), pa.int64())
            row += batch.num_rows
            yield np.asarray(pc.fill_null(times, 0)), np.asarray(pc.is_null(times))

    if source.num_rows > _KEPT:
        return read
    blocks = list(read())
    return lambda: iter(blocks)


def boundaries(stream: Stream, steps: NDArray[np.float64], column: str, name: str) -> tuple[int, int]:
    """Return the times from which on rows are valid and test rows.

    Rows of one instant stay together, so the parts come as close to their shares as instants allow; each
    has at least one instant.

    Args:
        stream: Of :func:`times_of`.
        steps: Share of train, and of train and valid, each in (0, 1).
        column: Name of the column, for messages.
        name: Name of the source, for messages.

    Raises:
        DataError: There are fewer than three different times.
    """
    lowest, highest, total = _range(stream)
    if not total:
        raise DataError(f"{name}: column '{column}' holds no time.", hint="Cut by column, group or random.")
    # at least one instant in each part
    earliest = _after(stream, lowest)
    if _after(stream, earliest) == _NEVER:
        raise DataError(
            f"{name}: column '{column}' has fewer than three different times, too few to cut by.",
            hint="Cut by column, group or random.",
        )
    second = _nearest(stream, steps[1] * total, lowest, highest)
    second = min(max(second, _after(stream, earliest)), highest)
    first = _nearest(stream, steps[0] * total, lowest, highest)
    return min(max(first, earliest), _before(stream, second)), second


def clock(time: int) -> str:
    """Return a time in microseconds as text, such as ``2014-10-28 23:00``."""
    moment = np.datetime64(time, "us")
    short = np.datetime_as_string(moment.astype("datetime64[m]"))
    exact = moment.astype("datetime64[m]") == moment
    return str(short if exact else np.datetime_as_string(moment.astype("datetime64[s]"))).replace("T", " ")


def _range(stream: Stream) -> tuple[int, int, int]:
    lowest, highest, total = _NEVER, -_NEVER, 0
    for times, missing in stream():
        present = times[~missing] if missing.any() else times
        if present.size:
            lowest, highest = min(lowest, int(present.min())), max(highest, int(present.max()))
            total += present.size
    return lowest, highest, total


def _nearest(stream: Stream, wanted: float, lowest: int, highest: int) -> int:
    """Return the time before which the number of rows comes closest to ``wanted``."""
    low, width, before = lowest, highest - lowest + 1, 0
    while True:
        # the instant sought lies in [low, low + width); ever finer until it is one microsecond
        step = -(-width // _BINS)
        counts = np.zeros(_BINS, np.int64)
        for times, missing in stream():
            inside = (times >= low) & (times < low + width) & ~missing
            counts += np.bincount((times[inside] - low) // step, minlength=_BINS)
        reached = before + np.cumsum(counts)
        place = min(int(np.searchsorted(reached, wanted)), _BINS - 1)
        before = int(reached[place] - counts[place])
        low, width = low + place * step, step
        if step == 1:
            after = before + int(counts[place])
            return low if wanted - before <= after - wanted else _after(stream, low)


def _after(stream: Stream, time: int) -> int:
    """Return the first time after ``time``; ``_NEVER`` where there is none."""
    later = (times[(times > time) & ~missing] for times, missing in stream())
    return min((int(part.min()) for part in later if part.size), default=_NEVER)


def _before(stream: Stream, time: int) -> int:
    """Return the last time before ``time``, where there is one."""
    earlier = (times[(times < time) & ~missing] for times, missing in stream())
    return max(int(part.max()) for part in earlier if part.size)
