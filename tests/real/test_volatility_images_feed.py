"""The published spot feed: the raw capture becomes the printed frames, and both forms are read."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from appliedpapers.core.config import resolve
from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import DataError
from appliedpapers.plugins.volatility_images.config import DataConfig, VolatilityConfig
from appliedpapers.plugins.volatility_images.data import DATASETS
from appliedpapers.plugins.volatility_images.published_data import (
    BINANCE_SPOT,
    SPOT_BOOK,
    SPOT_TRADES,
    open_spot,
)
from appliedpapers.plugins.volatility_images.reader_binance import BinanceStream, lines_of, read_binance

pytestmark = pytest.mark.shared
DATA = DataConfig(before_snapshot="drop")


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "data" / "volatility-images"


@pytest.fixture(scope="module")
def lines(folder):
    return list(lines_of([folder / file.path for file in BINANCE_SPOT.files]))


@pytest.fixture(scope="module")
def session(lines):
    return read_binance(lines, DATA, source="capture").sessions[0]


def test_the_raw_capture_becomes_the_printed_book(folder, session):
    book = pq.read_table(folder / SPOT_BOOK.path).to_pandas()
    assert len(session) == len(book) == 650
    np.testing.assert_array_equal(session.time_us, 1000 * book["ts_ms"].to_numpy())
    np.testing.assert_array_equal(session.bid, book["bbid"])
    np.testing.assert_array_equal(session.ask, book["bask"])
    assert (session.bid < session.ask).all()
    for side in ("bid", "ask"):
        names = [[f"{side}_{kind}_{level}" for level in range(20)] for kind in ("px", "qty")]
        np.testing.assert_array_equal(getattr(session, f"{side}_px"), book[names[0]].to_numpy())
        np.testing.assert_allclose(
            getattr(session, f"{side}_qty"), book[names[1]].to_numpy(), rtol=0, atol=1e-9
        )


def test_the_raw_capture_holds_the_printed_trades(folder, lines):
    stream = BinanceStream(DATA)
    for line in lines:
        stream.step(line)
    trades = pq.read_table(folder / SPOT_TRADES.path).to_pandas()
    assert len(stream.all_trades) == len(trades) == 19_904
    columns = ["local_ts_ms", "exch_ts_ms", "price", "qty", "side"]
    np.testing.assert_array_equal(np.array(stream.all_trades), trades[columns].to_numpy())


def test_the_prepared_form_gives_the_same_seconds(folder, session, tmp_path):
    for file in (SPOT_BOOK, SPOT_TRADES):
        (tmp_path / file.path).symlink_to(folder / file.path)
    [other] = open_spot(tmp_path, DATA).sessions
    for name in ("time_us", "bid", "ask", "bid_px", "ask_px"):
        np.testing.assert_array_equal(getattr(other, name), getattr(session, name))
    for name in ("second", "price", "qty", "side"):
        np.testing.assert_array_equal(getattr(other.trades, name), getattr(session.trades, name))


def test_the_second_file_alone_has_no_snapshot_and_is_refused(folder):
    with pytest.raises(DataError, match=r"lines 1 to 58325: no snapshot"):
        read_binance(lines_of([folder / BINANCE_SPOT.files[1].path]), DATA, source="second")


def test_the_whole_protocol_has_no_gap_where_updates_before_the_snapshot_are_replayed(lines):
    report = read_binance(lines, DataConfig(), source="capture").report
    assert report.counts.get("sequence_gaps", 0) == 0
    assert "behind the exchange's" in " ".join(report.sentences())


def test_the_published_dataset_opens_with_one_clock_named(folder):
    of = resolve(VolatilityConfig, preset="published", dataset="binance-spot")
    made = DATASETS.from_published(BINANCE_SPOT, folder, of)
    assert any(note.startswith("clock: the local stamps throughout") for note in made.notes)
    assert leakage_audit(made) == []
