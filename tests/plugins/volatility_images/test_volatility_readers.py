"""Feeds: every format becomes the same seconds, and every fault is counted or refused with its place."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from markets import capture, config, depth, line, session, ticker, trade

from appliedpapers.core.errors import DataError
from appliedpapers.core.tables import write_table
from appliedpapers.plugins.volatility_images.book_side import BookSide
from appliedpapers.plugins.volatility_images.config import ColumnsConfig, DataConfig
from appliedpapers.plugins.volatility_images.reader_binance import BinanceStream, read_binance
from appliedpapers.plugins.volatility_images.reader_frames import read_book_frame
from appliedpapers.plugins.volatility_images.reader_orders import read_orders
from appliedpapers.plugins.volatility_images.readers import read_feed
from appliedpapers.plugins.volatility_images.readers_taq import prevailing_side, read_taq
from appliedpapers.plugins.volatility_images.tables import sessions_of, table_of, write_seconds

DATA = config().data
T0 = 1_514_903_400  # 2018-01-02 14:30 UTC


def refused(lines, *, match: str, **changes) -> None:
    with pytest.raises(DataError, match=match) as caught:
        read_binance(lines, DATA.model_copy(update=changes), source="x.gz")
    assert caught.value.hint


# --- binance ---------------------------------------------------------------------------------------------


def test_a_capture_becomes_seconds_with_book_and_trades():
    feed = read_binance(capture(4), DATA, source="x")
    [one] = feed.sessions
    assert len(one) == 4
    assert np.diff(one.time_us).tolist() == [1_000_000] * 3
    assert one.bid.tolist() == [100.0] * 4
    assert one.bid_qty[-1].tolist() == [5, 4, 1, 4]
    assert one.trades.second.tolist() == [0, 1, 2, 3]
    assert one.trades.side.tolist() == [1] * 4
    assert "1.245 s behind the exchange's" in " ".join(feed.report.sentences())


def test_lines_one_by_one_complete_the_same_seconds_as_the_whole_file():
    lines = capture(5)
    stream, seconds = BinanceStream(DATA), []
    for one in lines:
        seconds += stream.step(one)
    [whole] = read_binance(lines, DATA, source="x").sessions
    assert [one.end_ms * 1000 for one in seconds] == whole.time_us.tolist()
    assert [size for _, size in seconds[-1].bids] == whole.bid_qty[-1].tolist()


def test_a_capture_without_a_snapshot_is_refused_with_its_lines():
    refused(capture(3, snapshot=False), match=r"x\.gz, lines 1 to 10: no snapshot")


def test_a_gap_in_the_sequence_is_counted_and_cut_at_or_refused():
    lines = capture(4)
    lines.insert(10, line(1_723_161_256_150, depth(150, 152)))
    feed = read_binance(lines, DATA, source="x")
    assert feed.report.counts["sequence_gaps"] == 1
    assert feed.sessions[0].broken.tolist() == [False, False, True, False]
    refused(lines, match=r"x\.gz, line 11: updates 110 to 149 are missing", on_gap="error")


def test_futures_chain_by_the_previous_update_and_count_market_trades_alone():
    lines = capture(3)
    first = depth(500, 510)
    first["data"]["pu"] = 90
    second = depth(520, 530)
    second["data"]["pu"] = 511
    at = 1_723_161_256_900
    lines[-1:-1] = [line(at, first), line(at + 1, second)]
    lines.insert(-1, line(at + 2, trade("100.00", "3", seller=True, now=at, X="INSURANCE_FUND")))
    report = read_binance(lines, DATA.model_copy(update={"market": "usdm"}), source="x").report
    assert report.counts["sequence_gaps"] == 2
    assert report.counts["not_market_trades"] == 1


def test_updates_before_the_snapshot_that_are_newer_are_replayed():
    first = 1_723_161_254_000
    early = [
        line(first + 1, depth(95, 99, bids=[["99.90", "9"]])),
        line(first + 2, depth(99, 104, bids=[["99.91", "8"]])),
    ]
    lines = [*early, *capture(2)]
    lines[4:] = [one for one in lines[4:] if b'"U":101' not in one]
    feed = read_binance(lines, DATA, source="x")
    assert 99.91 in feed.sessions[0].bid_px[0]
    assert 99.90 not in feed.sessions[0].bid_px[0]
    assert "sequence_gaps" not in feed.report.counts or feed.report.counts["sequence_gaps"] == 0


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (line(1_723_161_250_000, ticker("1", "2")), r"line 14: time goes backwards by \d+ ms"),
        (
            line(1_723_161_258_200, ticker("100.00", "100.01", "ETHUSDT")),
            r"line 14: symbol ETHUSDT after BTCUSDT",
        ),
        (line(1_723_161_258_200, depth(113, 115, bids=[["99.9", "-1"]])), r"line 14: a size of -1"),
        (b"1723161258200000000 {broken", r"line 14: not '<local nanoseconds> <JSON>'"),
        (b"hello", r"line 14: not"),
        (line(1_723_161_258_200, {"data": {"e": "trade", "s": "BTCUSDT"}}), r"line 14: a message without"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(bad, match):
    refused([*capture(4)[:-1], bad], match=match)


def test_a_crossed_ticker_is_repaired_or_refused():
    lines = capture(3)
    lines.insert(7, line(1_723_161_255_300, ticker("100.05", "100.01")))
    feed = read_binance(lines, DATA, source="x")
    assert feed.report.counts["crossed"] == 1
    assert (feed.sessions[0].bid < feed.sessions[0].ask).all()
    refused(lines, match=r"line 8: bid 100\.05, ask 100\.01", crossed="error")


def test_stale_levels_beyond_the_touch_are_left_out():
    lines = capture(3)
    lines.insert(-1, line(1_723_161_256_900, ticker("99.98", "99.99")))
    feed = read_binance(lines, DATA, source="x")
    assert feed.sessions[0].bid_px[-1, 0] == 99.98
    assert feed.report.counts["stale_levels"] >= 2


def test_captures_are_found_by_their_content_and_a_folder_is_read_in_order(tmp_path):
    lines = capture(6)
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"\n".join(lines[8:]) + b"\n"))
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"\n".join(lines[:8]) + b"\n"))
    [one] = read_feed(tmp_path, DATA).sessions
    assert len(one) == 6
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"\n".join(lines[8:]))[:-9])
    with pytest.raises(DataError, match=r"b\.gz"):
        read_feed(tmp_path, DATA)


# --- frames ----------------------------------------------------------------------------------------------


def book_frame(seconds: int = 8, per_second: int = 2) -> pd.DataFrame:
    count = seconds * per_second
    times = 1_700_000_000_000 + np.arange(count) * (1000 // per_second)
    middle = 100 + 0.01 * (np.arange(count) % 5)
    return pd.DataFrame(
        {
            "ts_ms": times,
            **{f"bid_px_{level}": middle - 0.01 * (1 + level) for level in range(2)},
            **{f"bid_qty_{level}": np.full(count, 1.0 + level) for level in range(2)},
            **{f"ask_px_{level}": middle + 0.01 * (1 + level) for level in range(2)},
            **{f"ask_qty_{level}": np.full(count, 2.0 + level) for level in range(2)},
        }
    )


def trade_frame(**columns) -> pd.DataFrame:
    made = {
        "time": [1_700_000_000_100, 1_700_000_002_500, 1_700_000_002_900],
        "price": [100.01, 100.0, 100.03],
        "size": [1.0, 2.0, 3.0],
        "side": ["buy", "sell", "buy"],
    }
    return pd.DataFrame(made | columns)


def test_a_frame_of_any_cadence_is_resampled_to_the_last_row_before_each_second_ends():
    feed = read_book_frame(book_frame(), trade_frame(), DATA, source="f")
    [one] = feed.sessions
    assert len(one) == 8
    np.testing.assert_allclose(one.bid, book_frame()["bid_px_0"].to_numpy()[1::2])
    assert one.trades.second.tolist() == [0, 2, 2]
    assert one.trades.side.tolist() == [1, -1, 1]
    assert feed.direction == "given"


def test_names_of_levels_are_understood_in_their_usual_forms(tmp_path):
    frame = book_frame()
    for pattern in ("{side}s[{level}].{kind}", "{side}_{kind}_{level}", "{side}{level}_{kind}"):
        words = {"px": "price", "qty": "size"}
        renamed = frame.rename(
            columns={
                f"{side}_{kind}_{level}": pattern.format(side=side, kind=words[kind], level=level + 1)
                for side in ("bid", "ask")
                for kind in ("px", "qty")
                for level in range(2)
            }
        )
        write_table(pa.Table.from_pandas(renamed), tmp_path / "book.parquet")
        [one] = read_feed(tmp_path / "book.parquet", DATA).sessions
        assert one.bid_qty[0].tolist() == [1.0, 2.0], pattern


def test_a_crossed_row_and_an_empty_side_are_repaired_and_counted_or_refused():
    frame = book_frame()
    frame.loc[5, "bid_px_0"] = 200.0
    frame.loc[9, ["ask_px_0", "ask_px_1"]] = np.nan
    feed = read_book_frame(frame, None, DATA, source="f")
    assert feed.report.counts["crossed"] == 1
    assert feed.report.counts["empty_side"] == 1
    assert (feed.sessions[0].bid < feed.sessions[0].ask).all()
    with pytest.raises(DataError, match=r"f, row 6: bid 200, ask"):
        read_book_frame(frame, None, DATA.model_copy(update={"crossed": "error"}), source="f")


def test_a_long_gap_cuts_and_a_short_one_is_bridged():
    frame = book_frame(30)
    gone = frame[(frame.index < 10) | (frame.index >= 16)]
    one = read_book_frame(gone, None, DATA, source="f").sessions[0]
    assert len(one) == 30
    assert not one.broken.any()
    feed = read_book_frame(frame[(frame.index < 10) | (frame.index >= 40)], None, DATA, source="f")
    assert feed.report.counts["time_gaps"] == 1
    assert feed.sessions[0].broken.sum() == 1


def test_trades_outside_the_time_of_the_book_are_counted():
    late = trade_frame(time=[1_600_000_000_000, 1_700_000_002_500, 1_700_000_900_000])
    feed = read_book_frame(book_frame(), late, DATA, source="f")
    assert feed.report.counts["trades_outside_book"] == 2


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"ts_ms": lambda f: f["ts_ms"].to_numpy()[::-1]},
            r"column 'ts_ms', row 2: time goes backwards \(15 times",
        ),
        ({"ask_qty_1": lambda f: -f["ask_qty_1"]}, r"column 'ask_qty_1', row 1: a size of -3"),
        ({"symbol": lambda f: ["A", "B"] * (len(f) // 2)}, r"column 'symbol': 2 symbols are mixed \(A, B\)"),
        ({"bid_px_0": lambda f: f["bid_px_0"] + 50}, r"no row has a bid below an ask"),
    ],
)
def test_bad_frames_are_refused_with_column_and_row(change, match):
    frame = book_frame()
    for name, values in change.items():
        frame[name] = values(frame)
    with pytest.raises(DataError, match=match) as caught:
        read_book_frame(frame, None, DATA, source="f.csv")
    assert caught.value.hint


def test_one_symbol_of_a_mixed_file_can_be_chosen():
    frame = pd.concat([book_frame().assign(symbol="A"), (book_frame() * 1).assign(symbol="B")])
    data = DATA.model_copy(update={"symbol": "A"})
    assert len(read_book_frame(frame, None, data, source="f").sessions[0]) == 8


def test_trades_alone_have_the_last_price_and_no_depth(tmp_path):
    frame = pd.DataFrame(
        {"time": 1_700_000_000 + np.arange(40) / 2, "price": 100 + np.arange(40) % 3, "size": np.ones(40)}
    )
    write_table(pa.Table.from_pandas(frame), tmp_path / "t.csv")
    feed = read_feed(tmp_path / "t.csv", DATA)
    [one] = feed.sessions
    assert not one.has_depth
    assert one.bid.tolist() == one.ask.tolist()
    assert set(one.trades.side.tolist()) <= {-1, 0, 1}
    assert "depth channels are empty" in " ".join(feed.report.sentences())


# --- orders ----------------------------------------------------------------------------------------------


def events(*rows: tuple) -> pd.DataFrame:
    names = ["id", "timestamp", "price", "volume", "action", "direction"]
    return pd.DataFrame([(one, 1_700_000_000_000 + ms, *rest) for one, ms, *rest in rows], columns=names)


STANDING = (
    (1, 0, 99.0, 5.0, "created", "bid"),
    (2, 10, 101.0, 4.0, "created", "ask"),
    (3, 20, 98.0, 2.0, "created", "bid"),
)


def test_orders_make_levels_and_what_they_lose_is_traded():
    feed = read_orders(
        events(
            *STANDING,
            (1, 500, 99.0, 3.0, "changed", "bid"),
            (2, 1500, 101.0, 0.0, "deleted", "ask"),
            (4, 1600, 102.0, 1.0, "created", "ask"),
            (3, 1700, 98.0, 2.0, "deleted", "bid"),
        ),
        DATA,
        source="e",
    )
    [one] = feed.sessions
    assert one.bid_qty[0].tolist() == [3.0, 2.0]
    assert one.ask.tolist() == [101.0, 102.0]
    assert list(zip(one.trades.second, one.trades.price, one.trades.qty, one.trades.side, strict=True)) == [
        (0, 99.0, 2.0, -1),
        (1, 101.0, 4.0, 1),
    ]


def test_an_order_that_a_later_one_would_have_met_is_pruned():
    feed = read_orders(events(*STANDING, (9, 300, 98.5, 1.0, "created", "ask")), DATA, source="e")
    assert feed.report.counts["stale_orders"] == 1
    assert feed.sessions[0].bid[-1] == 98.0
    assert feed.sessions[0].ask[-1] == 98.5


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ((5, 30, 100.0, -1.0, "created", "bid"), r"column 'volume', row 4: -1"),
        ((5, 30, 100.0, 1.0, "moved", "bid"), r"column 'action', row 4: moved"),
        ((5, 30, 100.0, 1.0, "created", "up"), r"column 'direction', row 4: up"),
        ((5, -9, 100.0, 1.0, "created", "bid"), r"row 4: time goes backwards"),
    ],
)
def test_bad_events_are_refused_with_column_and_row(row, match):
    with pytest.raises(DataError, match=match):
        read_orders(events(*STANDING, row), DATA, source="e")


def test_events_with_one_side_only_are_refused():
    with pytest.raises(DataError, match="no second has orders on both sides"):
        read_orders(events(STANDING[0], STANDING[2]), DATA, source="e")


# --- taq -------------------------------------------------------------------------------------------------


def taq(**trades) -> tuple[pd.DataFrame, pd.DataFrame]:
    seconds = np.arange(40)
    quotes = pd.DataFrame(
        {
            "EX": np.where(seconds % 2, "N", "P"),
            "BID": 100 - 0.01 * (seconds % 3),
            "BIDSIZ": 2,
            "OFR": 100.02 + 0.01 * (seconds % 2),
            "OFRSIZ": 3,
            "ts_us": (T0 - 5 + seconds) * 1_000_000 + 1,
        }
    )
    made = {
        "EX": "N",
        "COND": ["", "O", "", ""],
        "SIZE": [100, 5000, 3, 10],
        "PRICE": [100.02, 100.0, 100.0, 99.0],
    }
    made |= {"CORR": [0, 0, 0, 8], "ts_us": [(T0 + second) * 1_000_000 for second in (1, 1, 3, 4)]}
    return quotes, pd.DataFrame(made | trades)


TAQ = DataConfig(hours=("14:30", "21:00"))


def test_quotes_before_the_session_give_the_opening_book_and_bad_ones_are_removed():
    quotes, trades = taq()
    quotes.loc[7, "BID"] = 0.0
    quotes.loc[8, "OFR"] = 1.0
    feed = read_taq(quotes, trades, TAQ, source="q")
    assert feed.report.counts["quotes_removed"] == 2
    assert feed.report.counts["out_of_session_quotes"] == 5
    assert feed.report.counts["corrected_trades"] == 1
    assert feed.report.counts["auction_trades"] == 1
    [one] = feed.sessions
    assert len(one) == 23_400
    assert one.trades.qty.tolist() == [100.0, 3.0]
    kept = read_taq(quotes, trades, TAQ.model_copy(update={"auctions": "keep"}), source="q")
    assert kept.sessions[0].trades.qty.tolist() == [100.0, 5000.0, 3.0]
    with pytest.raises(DataError, match=r"q, quotes, row 8: bid 0"):
        read_taq(quotes, trades, TAQ.model_copy(update={"crossed": "error"}), source="q")


def test_an_empty_session_is_refused_with_its_hours():
    quotes, trades = taq()
    with pytest.raises(DataError, match=r"no second between 03:00") as caught:
        read_taq(quotes, trades, DataConfig(hours=("03:00", "04:00")), source="q")
    assert "data.hours" in str(caught.value.hint)


def test_time_that_goes_backwards_and_negative_sizes_are_refused():
    quotes, trades = taq()
    with pytest.raises(DataError, match=r"q, quotes, row 2: time goes backwards"):
        read_taq(quotes[::-1].reset_index(drop=True), trades, TAQ, source="q")
    quotes.loc[3, "BIDSIZ"] = -1
    with pytest.raises(DataError, match=r"column 'BIDSIZ', row 4"):
        read_taq(quotes, trades, TAQ, source="q")


def test_directions_by_the_quote_before_and_ties_by_the_tick_rule():
    price, middle = np.array([10.0, 10.0, 11.0, 10.5, 10.5]), np.array([np.nan, 10.0, 10.0, 10.5, 10.5])
    assert prevailing_side(price, middle).tolist() == [0, 0, 1, -1, -1]


# --- our own form ----------------------------------------------------------------------------------------


def test_seconds_come_back_from_parquet_bit_for_bit(tmp_path):
    one = session(60)
    write_seconds([one], tmp_path / "s.parquet")
    [back] = read_feed(tmp_path / "s.parquet", DATA).sessions
    for name in ("time_us", "bid", "ask", "bid_px", "bid_qty", "ask_px", "ask_qty", "broken"):
        np.testing.assert_array_equal(getattr(back, name), getattr(one, name))
    for name in ("second", "price", "qty", "side"):
        np.testing.assert_array_equal(getattr(back.trades, name), getattr(one.trades, name))


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("time", 1_500_000, "whole seconds"),
        ("time", 1_000_000, "same time"),
        ("bid", 0.0, "above zero"),
        ("bid_qty", [1.0], "differ in length"),
        ("trade_side", [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], "differ in length"),
    ],
)
def test_seconds_that_cannot_be_used_are_named(column, value, rule):
    table = table_of([session(20)])
    cells = table.column(column).to_pylist()
    cells[1] = value
    kind = table.schema.field(column).type
    changed = table.set_column(table.column_names.index(column), column, pa.array(cells, kind))
    [rows] = sessions_of(changed, max_gap=5, price="mid")
    assert rows.session is None
    assert rows.problem is not None
    assert rule in rows.problem.rule


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no file in it"):
        read_feed(tmp_path, DATA)


def test_the_best_levels_of_a_changing_book_are_those_of_sorting_it_whole():
    random = np.random.default_rng(4)
    for highest in (True, False):
        side = BookSide({float(price): 1.0 for price in range(9_000, 11_000)}, highest=highest)
        touch = 10_000.0
        for _ in range(300):
            touch += float(random.integers(-60, 61))
            for price in (touch + random.integers(-900, 901, 40)).astype(float).tolist():
                if random.random() < 0.7:
                    side.book.pop(price, None)
                    side.near.discard(price)
                else:
                    side.book[price] = random.random() + 0.1
                    if side.low <= price <= side.high:
                        side.near.add(price)
            levels, stale = side.best(touch)
            sound = [price for price in side.book if (price <= touch if highest else price >= touch)]
            assert [price for price, _ in levels] == sorted(sound, reverse=highest)[:20]
            assert stale == len(side.book) - len(sound)


def called_zeit() -> DataConfig:
    return DATA.model_copy(update={"columns": ColumnsConfig(time="Zeit")})


@pytest.mark.parametrize(
    ("usual", "parts", "changes"),
    [
        ("ts_ms", lambda: [book_frame()], {}),
        ("time", lambda: [trade_frame()], {}),
        ("timestamp", lambda: [events(*STANDING, (3, 1700, 98.0, 2.0, "deleted", "bid"))], {}),
        ("ts_us", lambda: list(taq()), {"hours": TAQ.hours}),
        ("time", lambda: [table_of([session(60)]).to_pandas()], {}),
    ],
    ids=["frame", "trades", "orders", "taq", "seconds"],
)
def test_the_time_may_have_any_name_that_is_said(usual, parts, changes, tmp_path):
    found = []
    for name, data in ((usual, DATA), ("Zeit", called_zeit())):
        folder = tmp_path / name
        folder.mkdir()
        for number, part in enumerate(parts()):
            table = pa.Table.from_pandas(part.rename(columns={usual: name}), preserve_index=False)
            write_table(table, folder / f"{number}.parquet")
        found.append(read_feed(folder, data.model_copy(update=changes)).sessions)
    assert found[0]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one.time_us, other.time_us)
        np.testing.assert_array_equal(one.bid, other.bid)


def test_a_time_that_is_not_there_is_named_with_the_columns_that_are():
    with pytest.raises(DataError, match=r"f: column 'Zeit' is missing; found: ") as caught:
        read_book_frame(book_frame(), None, called_zeit(), source="f")
    assert "ts_ms" in caught.value.message
    assert "--set data.columns.time=" in (caught.value.hint or "")


# --- cells that are not what their column says -----------------------------------------------------------

BOOK = "ts_ms,bid_price_1,bid_size_1,ask_price_1,ask_size_1\n"
TRADES = "time,price,size\n"
QUOTES = "EX,BID,BIDSIZ,OFR,OFRSIZ,ts_us\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            BOOK + "1723161255000,1,1,2,1\n1723161256000,1,abc,2,1\n",
            "'bid_size_1', row 2: 'abc' is not a number",
        ),
        (BOOK + "1723161255000,1,1,2,1\nnoon,1,1,2,1\n", "column 'ts_ms', row 2: 'noon' is not a time"),
        (
            BOOK.replace("bid_price", "price_bid") + "1723161255000,1,1,2,1\n",
            "no column of bid prices; found: ts_ms",
        ),
        (TRADES + "1723161255000,x,1\n", "column 'price', row 1: 'x' is not a number"),
        (QUOTES + "N,none,1,2,1,1723161255000000\n", "column 'BID', row 1: 'none' is not a number"),
        (
            "id,timestamp,price,volume,action,direction\n1,1723161255000,1,1,made,bid\n",
            "row 1: made, expected created",
        ),
    ],
)
def test_a_cell_that_is_none_of_its_column_is_named(tmp_path, content, words):
    path = tmp_path / "feed.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        read_feed(path, DATA)
    assert "feed.csv" in caught.value.message
    assert caught.value.hint


def test_a_feed_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        read_feed(tmp_path / "none", DATA)
