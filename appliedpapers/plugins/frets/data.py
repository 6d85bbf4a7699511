"""The datasets of the forecasting task: published files, the simulator, and the user's own series."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from appliedpapers.core.data import Dataset, Provenance
from appliedpapers.core.sources import SIMULATED, DatasetCatalog, PublishedDataset
from appliedpapers.core.tables import kind_of, read_table
from appliedpapers.plugins.frets.cleaning import find_sentinels
from appliedpapers.plugins.frets.config import DataConfig, FretsConfig
from appliedpapers.plugins.frets.observations import clean_panel
from appliedpapers.plugins.frets.panel import SeriesPanel
from appliedpapers.plugins.frets.published_data import PUBLISHED
from appliedpapers.plugins.frets.readers import (
    panel_from_table,
    read_long,
    read_panel,
    series_files,
    with_iso_dates,
)
from appliedpapers.plugins.frets.simulator import simulate
from appliedpapers.plugins.frets.splits import (
    ETT_HOURLY,
    Cut,
    NamedProtocol,
    chronological,
    cut_panel,
    require_complete,
    rolling,
)
from appliedpapers.plugins.frets.tables import is_readable, read_cells

if TYPE_CHECKING:
    import pyarrow as pa

# the exchange file has no dates; business days are labels, not the true calendar
_READING: dict[str, dict[str, Any]] = {"exchange": {"layout": "headless", "freq": "B", "start": "1990-01-01"}}
_MINMAX_SHARES = {"covid": (0.6, 0.2)}
_WORDS = {
    "h": "hourly",
    "D": "daily",
    "B": "business-daily",
    "MS": "monthly",
    "ME": "monthly",
    "min": "by the minute",
}


class FretsDatasets(DatasetCatalog[FretsConfig]):
    """Four published sets whose bytes we can check, the simulated load, and everything that users bring."""

    published = PUBLISHED
    formats = (
        "CSV, text (also .gz) or Parquet: long (unique_id, ds, y), wide (a date column and one column a "
        "series), or numbers alone with --freq and --start; a file or a folder"
    )

    def simulated(self, config: FretsConfig) -> Dataset:
        """Simulate electricity load (data card ``simulated-load``)."""
        wanted = config.data.simulator
        simulated = simulate(wanted, config.seed)
        # a panel cannot hold a repeated hour: the table is refused as a file with one would be
        panel = (
            panel_from_table(simulated.table(), freq=simulated.panel.freq, source="simulated load")
            if wanted.duplicated_hour
            else simulated.panel
        )
        panel = clean_panel(
            panel,
            sentinels=config.data.sentinels,
            method=config.data.impute,
            season=config.data.season,
            source="simulated load",
        )
        provenance = Provenance.of_simulator("appliedpapers.plugins.frets.simulator")
        return build_dataset(panel, config, name=SIMULATED, provenance=provenance)

    def from_user(self, path: Path, config: FretsConfig) -> Dataset:
        """Read the user's own series."""
        panel = read_panel(path, config.data)
        provenance = Provenance.of_user(path, series_files(path))
        return build_dataset(panel, config, name=path.name, provenance=provenance, own=True)

    def from_published(self, entry: PublishedDataset, folder: Path, config: FretsConfig) -> Dataset:
        """Open a published file, whose bytes were checked."""
        # the layout of our own files is not the user's to choose
        wanted = config.data.model_dump(include={"sentinels", "impute", "season"})
        panel = read_panel(folder / entry.files[0].path, DataConfig(**wanted, **_READING.get(entry.id, {})))
        return build_dataset(panel, config, name=entry.id, provenance=entry.provenance(folder))

    def inputs(self, path: Path, config: FretsConfig) -> pa.Table:
        """Read the past that a forecast looks back on: a long file as it is, others as a long table."""
        data, names = config.data, config.data.columns
        if not is_readable(path) or read_cells(path, data.layout, names).layout == "long":
            # text is CSV, however the file is called
            table = read_table(path, kind_of(path) or ("csv" if is_readable(path) else None))
            table = with_iso_dates(table, names.ds, data.date_format)
            usual = {names.id: "unique_id", names.ds: "ds", names.y: "y"}
            return table.rename_columns([usual.get(name, name) for name in table.column_names])
        return read_long(path, data)


DATASETS = FretsDatasets()


def build_dataset(
    panel: SeriesPanel, config: FretsConfig, *, name: str, provenance: Provenance, own: bool = False
) -> Dataset:
    """Cut a panel by the protocol of ``config`` and describe it.

    Args:
        panel: The cleaned series.
        config: Resolved configuration.
        name: Id of the dataset, or name of the user's file.
        provenance: Where it comes from.
        own: The user's own data, for which ``auto`` means ``rolling``.

    Raises:
        DataError: The history is too short; needed and available lengths are named.
    """
    protocol = _protocol(config, own)
    lookback, horizon = config.model.lookback, config.model.horizon
    cut = _cut(len(panel.ds), config, protocol, name)
    parts = cut_panel(panel, cut, protocol=protocol, lookback=lookback, horizon=horizon, source=name)
    require_complete(parts.test.windows, "test", all_series=False)
    kept = config.data.sentinels == "keep" and bool(find_sentinels(panel.values))
    used = parts.test.panel
    return Dataset(
        name=name,
        # figures made with sentinels kept are never compared with figures made without
        protocol=f"{protocol}+sentinels-kept" if kept else protocol,
        provenance=provenance,
        train=parts.train,
        valid=parts.valid,
        test=parts.test,
        summary=f"{len(used.unique_ids):,} series × {len(panel.ds):,} steps, {_in_words(panel.freq)}",
        split_note=cut.note() + _unused(len(panel.ds), cut),
        notes=(*panel.notes, *parts.notes, *_missing_note(used), *(_end_note(used, config) if own else ())),
    )


def _protocol(config: FretsConfig, own: bool) -> NamedProtocol:
    chosen = config.data.protocol
    if chosen == "auto":
        return "rolling" if own else "ltsf-zscore"
    return chosen


def _cut(length: int, config: FretsConfig, protocol: NamedProtocol, name: str) -> Cut:
    if protocol == "rolling":
        data, model = config.data, config.model
        return rolling(length, model.lookback, model.horizon, n_windows=data.n_windows, step=data.step)
    if protocol == "authors-minmax":
        return chronological(length, *_MINMAX_SHARES.get(name, (0.7, 0.1)))
    return Cut(*ETT_HOURLY) if name == "etth1" else chronological(length, 0.7, 0.2)


def _unused(length: int, cut: Cut) -> str:
    return f", last {length - cut.test:,} steps not used" if cut.test < length else ""


def _missing_note(panel: SeriesPanel) -> tuple[str, ...]:
    missing = int(np.isnan(panel.values).sum())
    if not missing:
        return ()
    return (
        f"{missing:,} values are missing; windows that touch one are left out, or fill them with data.impute",
    )


def _end_note(panel: SeriesPanel, config: FretsConfig) -> tuple[str, ...]:
    """Say before training what ``predict`` would say of the same file afterwards."""
    lookback, series = config.model.lookback, len(panel.unique_ids)
    if config.data.impute:
        return ()
    known = np.isfinite(panel.values)
    ends = (np.flatnonzero(column)[-1:] for column in known.T)
    gaps = sum(
        not column[max(end[0] + 1 - lookback, 0) : end[0] + 1].all()
        for column, end in zip(known.T, ends, strict=True)
        if len(end)
    )
    if not gaps:
        return ()
    return (
        f"{gaps} of {series} series miss values among their last {lookback}, from which a forecast is made: "
        "predict will refuse them, unless you train with --set data.impute=linear",
    )


def _in_words(freq: str) -> str:
    if freq.startswith("W-") or freq == "7D":
        return "weekly"
    return _WORDS.get(freq, f"every {freq}")
