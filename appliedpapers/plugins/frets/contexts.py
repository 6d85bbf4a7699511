"""From a long table to what a forecast looks back on, series by series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.model import GroupProblem
from appliedpapers.plugins.frets.cleaning import find_sentinels, impute, remove_sentinels
from appliedpapers.plugins.frets.timestamps import fixed_step, moment

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.frets.config import DataConfig

_SEASONS_KEPT = 2


@dataclass(frozen=True)
class Context:
    """The recent past of one series.

    Attributes:
        panel: Name of the panel it belongs to; None where there is one.
        unique_id: Name of the series.
        cutoff: Its last timestamp.
        values: ``(lookback,)`` float64 in original units, nothing missing.
        horizon: Steps to forecast.
    """

    panel: str | None
    unique_id: str
    cutoff: np.datetime64
    values: NDArray[np.float64]
    horizon: int


@dataclass(frozen=True)
class ContextReader:
    """How a model reads the past that a request brings.

    Attributes:
        lookback: Steps needed.
        horizon: Steps forecast where the request does not say.
        freq: Step between rows, as trained.
        season: Steps of a season, for imputation.
        data: The options of the run: sentinels and imputation.
    """

    lookback: int
    horizon: int
    freq: str
    season: int
    data: DataConfig

    def read(self, table: pa.Table) -> tuple[list[Context], list[GroupProblem]]:
        """Return the usable series in order of first appearance, and what is wrong with the others.

        Args:
            table: ``unique_id``, ``ds``, ``y`` and optionally ``horizon`` and ``panel``; rows in any order.
        """
        contexts: list[Context] = []
        problems: list[GroupProblem] = []
        for key, rows in _series(table):
            try:
                contexts.append(self._context(key, rows))
            except ValueError as error:
                problems.append(GroupProblem(key, str(error)))
        return contexts, problems

    def future(self, cutoff: np.datetime64, horizon: int) -> NDArray[np.datetime64]:
        """Return the ``(horizon,)`` timestamps after ``cutoff``."""
        step = fixed_step(self.freq)
        if step is not None:
            return cutoff + np.arange(1, horizon + 1) * np.timedelta64(step, "us")
        import pandas as pd

        return pd.date_range(cutoff, periods=horizon + 1, freq=self.freq, unit="us").to_numpy()[1:]

    def _context(self, key: tuple[Any, ...], rows: _Rows) -> Context:
        horizon = self._horizon(rows)
        repeated = np.flatnonzero(rows.ds[1:] == rows.ds[:-1])
        if len(repeated):
            raise ValueError(f"series '{rows.unique_id}' has {moment(rows.ds[repeated[0]])} more than once")
        calendar = self._calendar(rows.ds[-1], self._kept)
        if rows.ds[0] > calendar[-self.lookback]:
            raise ValueError(
                f"series '{rows.unique_id}' has {len(rows.ds)} rows; the model looks back on {self.lookback}"
            )
        values, sentinels = self._without_sentinels(self._on_calendar(rows, calendar))
        if self.data.impute and np.isnan(values).any():
            values = impute(values[:, None], self.data.impute, self.season)[:, 0]
        past = values[-self.lookback :]
        missing = int(np.isnan(past).sum())
        if missing:
            because = f" ({sentinels} read as missing)" if sentinels else ""
            raise ValueError(
                f"series '{rows.unique_id}' misses {missing} of its last {self.lookback} values{because}; "
                "send them, or train with data.impute to have gaps filled"
            )
        return Context(rows.panel, rows.unique_id, rows.ds[-1], past, horizon)

    def _horizon(self, rows: _Rows) -> int:
        if rows.horizon is None:
            return self.horizon
        if rows.horizon < 1:
            raise ValueError(
                f"series '{rows.unique_id}' asks for a horizon of {rows.horizon}; at least 1 is needed"
            )
        return rows.horizon

    @property
    def _kept(self) -> int:
        """Steps that are read: more than the lookback where a gap at its start may have to be filled."""
        return self.lookback + (_SEASONS_KEPT * self.season if self.data.impute else 0)

    def _on_calendar(self, rows: _Rows, calendar: NDArray[np.datetime64]) -> NDArray[np.float64]:
        length = len(calendar)
        recent = rows.ds >= calendar[0]
        place = np.searchsorted(calendar, rows.ds[recent])
        on_grid = calendar[np.minimum(place, length - 1)] == rows.ds[recent]
        if not on_grid.all():
            stray = rows.ds[recent][~on_grid][0]
            raise ValueError(
                f"series '{rows.unique_id}' has {moment(stray)}, which is off the trained step of {self.freq}"
            )
        values = np.full(length, np.nan)
        values[place] = rows.y[recent]
        return values

    def _calendar(self, cutoff: np.datetime64, length: int) -> NDArray[np.datetime64]:
        step = fixed_step(self.freq)
        if step is not None:
            return cutoff - np.arange(length - 1, -1, -1) * np.timedelta64(step, "us")
        import pandas as pd

        return pd.date_range(end=cutoff, periods=length, freq=self.freq, unit="us").to_numpy()

    def _without_sentinels(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
        """Make sentinels missing, and name them."""
        policy = self.data.sentinels
        if policy == "keep":
            return values, ""
        column = values[:, None]
        # a short past may hold a single one, where a whole history would repeat it
        named = [item.value for item in find_sentinels(column, repeated=1)] if policy == "auto" else policy
        cleaned = remove_sentinels(column, named)[0][:, 0]
        removed = np.unique(values[np.isnan(cleaned) & ~np.isnan(values)])
        return cleaned, ", ".join(f"{value:g}" for value in removed)


@dataclass(frozen=True)
class _Rows:
    panel: str | None
    unique_id: str
    ds: NDArray[np.datetime64]
    y: NDArray[np.float64]
    horizon: int | None


def _series(table: pa.Table) -> Iterator[tuple[tuple[Any, ...], _Rows]]:
    """Yield the key and the rows of each series, sorted by time, in order of first appearance."""
    import pyarrow as pa

    panels = _codes(table.column("panel")) if "panel" in table.column_names else None
    names, code = _codes(table.column("unique_id"))
    ds = table.column("ds").cast(pa.timestamp("us")).cast(pa.int64()).to_numpy().view("M8[us]")
    given = np.asarray(table.column("y").cast(pa.float64()).to_numpy(), np.float64)
    y = np.where(np.isfinite(given), given, np.nan)
    panel_code = panels[1] if panels else np.zeros(len(code), np.int64)
    joint = panel_code * len(names) + code
    order = np.lexsort((ds, joint))
    starts = np.flatnonzero(np.r_[True, np.diff(joint[order]) != 0])
    ends = np.r_[starts[1:], len(order)]
    first_row = np.minimum.reduceat(order, starts)
    for position in np.argsort(first_row, kind="stable"):
        rows = order[starts[position] : ends[position]]
        panel = panels[0][panel_code[rows[0]]] if panels else None
        unique_id = names[code[rows[0]]]
        key = (panel,) if panels else (unique_id,)
        yield key, _Rows(panel, str(unique_id), ds[rows], y[rows], _last_horizon(table, int(rows[-1])))


def _codes(column: pa.ChunkedArray) -> tuple[list[Any], NDArray[np.int64]]:
    import pyarrow as pa

    coded = column.combine_chunks().dictionary_encode("encode")
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64)


def _last_horizon(table: pa.Table, row: int) -> int | None:
    if "horizon" not in table.column_names:
        return None
    value = table.column("horizon")[row].as_py()
    return None if value is None else int(value)
