"""Cutting a history into train, valid and test by a named protocol, and the windows of each part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import PARTS, Split
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.plugins.frets.panel import Scaler, Scaling, SeriesPanel
from appliedpapers.plugins.frets.timestamps import moment
from appliedpapers.plugins.frets.windows import WindowArrays

if TYPE_CHECKING:
    import pyarrow as pa

NamedProtocol = Literal["ltsf-zscore", "authors-minmax", "rolling"]

SCALING: dict[NamedProtocol, Scaling] = {
    "ltsf-zscore": "zscore",
    "authors-minmax": "minmax",
    "rolling": "zscore",
}
# 12, 4 and 4 months of 30 days, in hours
ETT_HOURLY = (8_640, 11_520, 14_400)

# 95 % conformal intervals need 19 residuals a step; the 20th window is for comfort
_CALIBRATION_WINDOWS = 20
_LISTED = 5


@dataclass(frozen=True)
class Cut:
    """Ends (exclusive) of the three parts of a history, in rows.

    Attributes:
        train: End of the train part, which starts at row 0.
        valid: End of the valid part.
        test: End of the test part; later rows are not used.
        step: Rows between test windows.
    """

    train: int
    valid: int
    test: int
    step: int = 1

    def holds(self, lookback: int, horizon: int) -> bool:
        """Whether each part has at least one window; valid and test reach back for their inputs."""
        parts = (self.valid - self.train, self.test - self.valid)
        return self.train >= lookback + horizon and min(parts) >= horizon

    def note(self) -> str:
        """Return the shares of the parts in words."""
        sizes = (self.train, self.valid - self.train, self.test - self.valid)
        shares = [f"{name} {100 * (size / self.test):.0f} %" for name, size in zip(PARTS, sizes, strict=True)]
        return " ".join(shares)


def chronological(length: int, train: float, test: float) -> Cut:
    """Cut by shares: ``int(train·T)`` rows first, ``int(test·T)`` rows last, the rest between them."""
    first, last = int(train * length), int(test * length)
    return Cut(first, length - last, length)


def rolling(length: int, lookback: int, horizon: int, *, n_windows: int | None, step: int | None) -> Cut:
    """Cut for cutoffs every ``step`` rows from the end.

    By default a fifth of the history is tested on with a quarter of the horizon between cutoffs. A tenth
    before it validates, and more where conformal intervals would have too few windows.
    """
    step = step or max(horizon // 4, 1)
    if n_windows is None:
        n_windows = max((length // 5 - horizon) // step + 1, 1)
    tested = (n_windows - 1) * step + horizon
    room = length - tested - lookback - horizon
    validated = max(min(max(horizon + _CALIBRATION_WINDOWS - 1, length // 10), room), horizon)
    return Cut(length - tested - validated, length - tested, length, step)


def shortest(cut: Cut, length: int, lookback: int, horizon: int, protocol: NamedProtocol) -> int:
    """Return how many steps a history needs for one window in each part under the same rules."""
    if protocol == "rolling":
        return lookback + 2 * horizon + (cut.test - cut.valid)
    shares = (cut.train / length, (cut.valid - cut.train) / length, (cut.test - cut.valid) / length)
    wanted = (lookback + horizon, horizon, horizon)
    return max(int(np.ceil(rows / share)) for rows, share in zip(wanted, shares, strict=True) if share)


class ForecastSplit(Split):
    """Windows over one part of a history; every model of a run is scored on the same target windows.

    Args:
        panel: The series from the first row of the history to the last row of this part. Later rows are
            not in it, so that nothing fitted on it can see them.
        scaler: Fitted on the train rows only.
        first: Row of the first target of the first window.
        last: Row of the first target of the last window.
        lookback: Rows that a window looks back on.
        horizon: Rows that it forecasts.
        step: Rows between windows.
    """

    def __init__(
        self,
        panel: SeriesPanel,
        scaler: Scaler,
        *,
        first: int,
        last: int,
        lookback: int,
        horizon: int,
        step: int = 1,
    ) -> None:
        self.panel = panel
        self.scaler = scaler
        self.first = first
        self.last = last
        self.lookback = lookback
        self.horizon = horizon
        self.step = step
        self.scaled = scaler.transform(panel.values)

    @cached_property
    def windows(self) -> WindowArrays:
        """The windows of this part in scaled space, with the lookback of the configuration."""
        return WindowArrays(
            self.scaled,
            first=self.first,
            last=self.last,
            lookback=self.lookback,
            horizon=self.horizon,
            step=self.step,
            ds=self.panel.ds,
        )

    def at_lookback(self, lookback: int) -> WindowArrays:
        """Return windows with another lookback over the very same target rows.

        In the train part, targets that have not enough rows before them are left out.

        Raises:
            ConfigError: A valid or test target has not enough rows before it, or no train window is left.
        """
        try:
            return self.windows.with_lookback(lookback)
        except ValueError:
            raise ConfigError(
                f"a lookback of {lookback:,} steps does not fit into the history.",
                hint=f"{len(self.panel.ds):,} rows end this part, {self.first:,} of them before its first "
                "target; choose a shorter lookback.",
            ) from None

    @property
    def num_rows(self) -> int:
        """Number of windows."""
        return len(self.windows)

    def target_rows(self) -> NDArray[np.int64]:
        """Return the rows that are the target of at least one window."""
        return np.unique(self.windows.cutoffs[:, None] + np.arange(self.horizon))

    def table(self) -> pa.Table:
        """Return the observed targets as a long table ``unique_id, ds, y``."""
        return _long(self.panel, self.target_rows())

    def keys(self) -> pa.Table:
        """Return series and time of every observed target."""
        return self.table().select(["unique_id", "ds"])

    def batches(self, max_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield the observed targets in batches."""
        yield from self.table().to_batches(max_chunksize=max_rows)

    def example(self, limit: int = 1) -> pa.Table:
        """Return the rows before the first target of up to ``limit`` series, as ``predict`` takes them."""
        few = replace(
            self.panel, unique_ids=self.panel.unique_ids[:limit], values=self.panel.values[:, :limit]
        )
        return _long(few, np.arange(self.first - self.lookback, self.first))


def require_complete(windows: WindowArrays, part: str, *, all_series: bool) -> None:
    """Refuse windows of which none is complete, before anything is trained on them.

    Args:
        windows: The windows of a part.
        part: Its name, for the message.
        all_series: Whether a window counts only where it is complete in all series.

    Raises:
        DataError: There is no such window.
    """
    complete = windows.valid.all(axis=1) if all_series else windows.valid.any(axis=1)
    if complete.any():
        return
    where = "has a missing value in some series" if all_series else "has missing values in all series"
    without = " or train each series alone with --set model.channel_mixing=false," if all_series else ""
    raise DataError(
        f"each of the {len(windows):,} windows of the {part} part {where}.",
        hint=f"Fill gaps with --set data.impute=linear,{without} or shorten --set model.lookback=….",
    )


def _long(panel: SeriesPanel, rows: NDArray[np.int64]) -> pa.Table:
    import pyarrow as pa

    count = len(panel.unique_ids)
    values = panel.values[rows].T.ravel()
    present = ~np.isnan(values)
    codes = np.repeat(np.arange(count, dtype=np.int32), len(rows))[present]
    names = pa.DictionaryArray.from_arrays(codes, list(panel.unique_ids)).cast(pa.string())
    stamps = pa.array(np.tile(panel.ds[rows], count)[present], pa.timestamp("us"))
    return pa.table({"unique_id": names, "ds": stamps, "y": values[present]})


@dataclass(frozen=True)
class Parts:
    """The three parts of a history and what was left out of them."""

    train: ForecastSplit
    valid: ForecastSplit
    test: ForecastSplit
    notes: tuple[str, ...]


def cut_panel(
    panel: SeriesPanel, cut: Cut, *, protocol: NamedProtocol, lookback: int, horizon: int, source: str
) -> Parts:
    """Cut ``panel`` at ``cut``, scale it by its train rows, and lay windows over each part.

    Raises:
        DataError: A part is too short for a window, or no series is long enough.
    """
    length = len(panel.ds)
    if not cut.holds(lookback, horizon) or cut.test > length:
        needed = max(shortest(cut, length, lookback, horizon, protocol), cut.test)
        raise DataError(
            f"{source}: {length:,} steps are too few; protocol {protocol} with lookback {lookback:,} and "
            f"horizon {horizon:,} needs {needed:,}.",
            hint="Give a longer history, or shorten --set model.lookback=… and model.horizon=….",
        )
    panel, notes = _long_enough(panel, cut, lookback, horizon, source)
    scaler = Scaler.fit(panel.values[: cut.train], SCALING[protocol])

    def part(first: int, end: int, step: int = 1) -> ForecastSplit:
        # the last window ends with the part, so that steps are counted back from there
        last = end - horizon
        return ForecastSplit(
            replace(panel, ds=panel.ds[:end], values=panel.values[:end]),
            scaler,
            first=first + (last - first) % step,
            last=last,
            lookback=lookback,
            horizon=horizon,
            step=step,
        )

    train, valid = part(lookback, cut.train), part(cut.train, cut.valid)
    return Parts(train, valid, part(cut.valid, cut.test, cut.step), notes)


def _long_enough(
    panel: SeriesPanel, cut: Cut, lookback: int, horizon: int, source: str
) -> tuple[SeriesPanel, tuple[str, ...]]:
    present = ~np.isnan(panel.values[: cut.test])
    observed = np.asarray(present.any(axis=0))
    spans = observed * (len(present) - present.argmax(axis=0) - present[::-1].argmax(axis=0))
    in_train = np.asarray(present[: cut.train].any(axis=0))
    kept, reasons = [], []
    for column, name in enumerate(panel.unique_ids):
        if spans[column] < lookback + horizon:
            reasons.append(
                f"series '{name}' left out: {spans[column]:,} steps, {lookback + horizon:,} needed"
            )
        elif not in_train[column]:
            reasons.append(
                f"series '{name}' left out: no value before {moment(panel.ds[cut.train])}, the end of train"
            )
        else:
            kept.append(column)
    if not kept:
        raise DataError(
            f"{source}: no series is long enough; {reasons[0]}.",
            hint="Give a longer history, or shorten --set model.lookback=… and model.horizon=….",
        )
    if len(reasons) > _LISTED:
        reasons = [*reasons[:_LISTED], f"{len(reasons) - _LISTED} more series left out like these"]
    names = tuple(panel.unique_ids[column] for column in kept)
    return replace(panel, unique_ids=names, values=panel.values[:, kept]), tuple(reasons)
