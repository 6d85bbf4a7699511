"""The datasets of volatility: an equity, a spot capture, the simulated book, and the user's own feed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from appliedpapers.core.data import Dataset, Provenance
from appliedpapers.core.sources import SIMULATED, DatasetCatalog, PublishedDataset
from appliedpapers.plugins.volatility_images.config import DataConfig, VolatilityConfig, hours_of
from appliedpapers.plugins.volatility_images.features import Clock
from appliedpapers.plugins.volatility_images.images import infer_tick
from appliedpapers.plugins.volatility_images.market import Session
from appliedpapers.plugins.volatility_images.published_data import (
    PUBLISHED,
    QUOTES,
    SPOT_BOOK,
    SPOT_TRADES,
    TAQ_EQUITY,
    TRADES,
    open_equity,
    open_spot,
    prepare_equity,
)
from appliedpapers.plugins.volatility_images.readers import feed_files, read_feed
from appliedpapers.plugins.volatility_images.scoring import zero_share
from appliedpapers.plugins.volatility_images.simulator import OPENING_S, simulate
from appliedpapers.plugins.volatility_images.splits import Grid, Parts, VolatilitySplit, cut
from appliedpapers.plugins.volatility_images.tables import table_of
from appliedpapers.plugins.volatility_images.windows import history

if TYPE_CHECKING:
    import pyarrow as pa

_MANY_ZEROS = 0.2
_EXCHANGE_DAY = Clock(OPENING_S, 23_400)
_OWN_FILES = (
    "Bring book and trades as files: apps run volatility-images --data FOLDER; see docs/volatility-images.md."
)


class VolatilityDatasets(DatasetCatalog[VolatilityConfig]):
    """Two published feeds, the simulated order book, and five formats of users."""

    published = PUBLISHED
    formats = (
        "binance-ws captures ('<local ns> <json>' lines, .gz too); l2-frame (CSV, Parquet; row a snapshot: "
        "bid_px_0, bid_qty_0, ...) with or without trades; l3-events (id, timestamp, price, volume, action, "
        "direction); taq (quotes and trades); trades alone; or our own seconds; a file or a folder"
    )
    elsewhere = MappingProxyType({"lobster": _OWN_FILES, "fi-2010": _OWN_FILES, "nyse-taq": _OWN_FILES})

    def simulated(self, config: VolatilityConfig) -> Dataset:
        """Simulate sessions of an order book (data card ``simulated-order-book``)."""
        made = [one.session for one in simulate(config.data.simulator, config.seed)]
        sessions = [replace(one, price=config.data.price) for one in made]
        grid = Grid(config.data.tick or config.data.simulator.tick, _EXCHANGE_DAY)
        provenance = Provenance.of_simulator("appliedpapers.plugins.volatility_images.simulator")
        return build_dataset(sessions, config, grid, name=SIMULATED, provenance=provenance)

    def from_user(self, path: Path, config: VolatilityConfig) -> Dataset:
        """Read the user's own feed."""
        feed = read_feed(path, config.data)
        return build_dataset(
            feed.sessions,
            config,
            _grid(feed.sessions, config.data, _clock(config.data)),
            name=path.name,
            provenance=Provenance.of_user(path, feed_files(path)),
            notes=tuple(feed.report.sentences()),
        )

    def from_published(self, entry: PublishedDataset, folder: Path, config: VolatilityConfig) -> Dataset:
        """Open a published feed, whose bytes were checked, in the form that is there."""
        equity = entry.id == TAQ_EQUITY.id
        feed = (open_equity if equity else open_spot)(folder, config.data)
        clock = _EXCHANGE_DAY if equity else Clock()
        raw = [folder / file.path for file in entry.files]
        ours = (QUOTES, TRADES) if equity else (SPOT_BOOK, SPOT_TRADES)
        read = raw if all(path.is_file() for path in raw) else [folder / file.path for file in ours]
        return build_dataset(
            feed.sessions,
            config,
            _grid(feed.sessions, config.data, clock),
            name=entry.id,
            provenance=entry.provenance(folder, read, source=str(entry.files[0].url).rpartition("/")[0]),
            notes=tuple(feed.report.sentences()),
        )

    def prepare(self, entry: PublishedDataset, folder: Path) -> None:
        """Turn the equity's R files into Parquet, once."""
        if entry.id == TAQ_EQUITY.id:
            prepare_equity(folder)

    def sample(self, folder: Path, config: VolatilityConfig) -> pa.Table:
        """Return the seconds of one short simulated session, enough for a few forecasts."""
        seconds = history(config) + 3 * config.data.stride
        wanted = config.data.simulator.model_copy(update={"sessions": 1, "seconds": max(seconds, 300)})
        return table_of([simulate(wanted, config.seed)[0].session.part(0, seconds)])

    def inputs(self, path: Path, config: VolatilityConfig) -> pa.Table:
        """Read a feed of any format as seconds, which ``predict`` takes, with the cleaning report.

        Raises:
            DataError: The files break the contract.
        """
        from appliedpapers.core.tables import kind_of, read_table, with_notes
        from appliedpapers.plugins.volatility_images.readers import is_seconds, with_time

        called = config.data.columns.time
        if path.is_file() and kind_of(path) is not None and is_seconds(path, called):
            return with_time(read_table(path), called)
        feed = read_feed(path, config.data)
        return with_notes(table_of(feed.sessions), list(feed.report.sentences()))


DATASETS = VolatilityDatasets()


def _clock(data: DataConfig) -> Clock:
    first, stop = hours_of(data)
    return Clock(first, stop - first)


def _grid(sessions: Sequence[Session], data: DataConfig, clock: Clock) -> Grid:
    return Grid(data.tick or infer_tick(list(sessions)), clock)


def build_dataset(
    sessions: Sequence[Session],
    config: VolatilityConfig,
    grid: Grid,
    *,
    name: str,
    provenance: Provenance,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Cut sessions by the protocol of ``config`` and describe them.

    Args:
        sessions: In the order of time.
        config: Resolved configuration.
        grid: Tick and clock.
        name: Id of the dataset, or name of the user's file.
        provenance: Where it comes from.
        notes: What was found while it was read.

    Raises:
        DataError: Too few seconds; needed and available ones are named.
    """
    last = len(sessions) - 1
    walking = config.data.protocol == "walk-forward" and last > 1
    parts = cut(sessions, config, grid, last, name)
    folds: tuple[Dataset, ...] = ()
    about = _about(sessions, parts, config, notes)
    if walking:
        cuts = [cut(sessions, config, grid, number, name) for number in range(1, last + 1)]
        folds = tuple(
            Dataset(
                name=name,
                protocol=_protocol(config),
                provenance=provenance,
                train=one.train,
                valid=one.valid,
                test=one.test,
                fold=one.test.windows[0].session.name,
            )
            for one in cuts
        )
    return Dataset(
        name=name,
        protocol=_protocol(config),
        provenance=provenance,
        train=parts.train,
        valid=parts.valid,
        test=parts.test,
        summary=_summary(sessions),
        split_note=_split_note(sessions, parts, config, walking=walking),
        notes=about,
        warnings=_warnings(sessions, parts, config),
        folds=folds,
    )


def _protocol(config: VolatilityConfig) -> str:
    data = config.data
    return f"{data.protocol}, W {data.window} s, every {data.test_stride} s, zeros {data.zero_targets}"


def _summary(sessions: Sequence[Session]) -> str:
    seconds, trades = sum(map(len, sessions)), sum(len(one.trades) for one in sessions)
    word = "session" if len(sessions) == 1 else "sessions"
    return f"{len(sessions):,} {word}, {seconds:,} seconds, {trades:,} trades"


def _split_note(sessions: Sequence[Session], parts: Parts, config: VolatilityConfig, *, walking: bool) -> str:
    data = config.data
    apart = data.window + config.image.seconds
    how = "the last session tests"
    if walking:
        how = "each session tests what was learned on those before it"
    elif len(sessions) == 1:
        how = "the last 30 % of the session test"
    return (
        f"{how}; {parts.train.num_rows:,} / {parts.valid.num_rows:,} / {parts.test.num_rows:,} windows of "
        f"{data.window} s, purged by {apart} s, validation in {data.valid_blocks} blocks"
    )


def _about(
    sessions: Sequence[Session], parts: Parts, config: VolatilityConfig, notes: tuple[str, ...]
) -> tuple[str, ...]:
    said = list(notes)
    if not any(one.has_depth for one in sessions):
        said.append("no depth in these data: the depth channels of the images are empty")
    whole = _whole_test(parts.test, sessions)
    share = zero_share(whole)
    zeros = round(share * whole.num_rows)
    if zeros:
        left = {
            "drop": "RMSPE leaves them out",
            "drop-all": "left out of every metric",
            "floor": "held at the floor",
        }
        said.append(
            f"{zeros:,} of {whole.num_rows:,} test windows ({100 * share:.1f} %) do not move: "
            f"{left[config.data.zero_targets]}"
        )
    jumps = [one for one in sessions if one.broken[1:].any()]
    if jumps:
        places = int(np.sum([one.broken[1:].sum() for one in jumps]))
        said.append(
            f"{places:,} places inside sessions that no window crosses (gaps, halts, changes of scale)"
        )
    return tuple(said)


def _warnings(sessions: Sequence[Session], parts: Parts, config: VolatilityConfig) -> tuple[str, ...]:
    said = []
    most = max(zero_share(_whole_test(parts.test, sessions)), zero_share(parts.train))
    if most > _MANY_ZEROS:
        said.append(
            f"{100 * most:.0f} % of the windows do not move; take a larger data.window, or "
            "data.zero_targets=floor so that models learn from them"
        )
    if config.model.loss == "rmspe":
        said.append("model.loss=rmspe rewards forecasts that are far too low; its mean ratio shows how far")
    return tuple(said)


def _whole_test(test: VolatilitySplit, sessions: Sequence[Session]) -> VolatilitySplit:
    """Return the test part with the windows that do not move, which ``drop-all`` has taken out."""
    if test.config.data.zero_targets != "drop-all" or len(sessions) == 1:
        return test
    from appliedpapers.plugins.volatility_images.splits import Window
    from appliedpapers.plugins.volatility_images.windows import anchors_of

    data = test.config.data
    windows = [
        Window(one.session, anchors_of(one.session, history(test.config), data.window, data.test_stride))
        for one in test.windows
    ]
    return VolatilitySplit(windows, test.config, test.grid, stride=data.test_stride)
