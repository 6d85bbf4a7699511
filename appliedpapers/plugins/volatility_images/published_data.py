"""Published feeds with addresses and checksums, and how they are opened in either form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from appliedpapers.core.errors import DataError
from appliedpapers.core.files import sha256_file
from appliedpapers.core.sources import PublishedDataset, RemoteFile

if TYPE_CHECKING:
    import pandas as pd

    from appliedpapers.plugins.volatility_images.cleaning import Feed
    from appliedpapers.plugins.volatility_images.config import DataConfig

_RAW = "https://raw.githubusercontent.com"
_FREQUENCY = f"{_RAW}/jonathancornelissen/highfrequency/967dc40e0f7688f1e4d89ca5244ad1ac2b7810d4/data"
_BACKTEST = f"{_RAW}/nkaz001/hftbacktest/5f3ec40b2afb764e0fea112f941ed85523ef4e88/examples/spot"

QUOTES = RemoteFile(
    "equity_xxx_quotes.parquet",
    None,
    "bee7cc4de2c2306deed79827187fc6b385d65e1177c17c1afa3fc152b06bcf43",
    712_849,
)
TRADES = RemoteFile(
    "equity_xxx_trades.parquet",
    None,
    "89eec7be73b13ca01fee3987643bfca9e0c6ed619a69fd8dce01e4dd50722896",
    513_434,
)
SPOT_BOOK = RemoteFile(
    "binance_spot_btcusdt_book20_1s.parquet",
    None,
    "813434095a3cde41f0b04891773bcf82b341a04d0031c95c44e3eef78f2ed4dd",
    268_433,
)
SPOT_TRADES = RemoteFile(
    "binance_spot_btcusdt_trades.parquet",
    None,
    "b7466cb865a10fa3a2e30cf336ef1d2440015d7764b56de8270eeca66c31762b",
    158_521,
)
_OWN = ("taq-equity-quotes.parquet", "taq-equity-trades.parquet")

TAQ_EQUITY = PublishedDataset(
    id="taq-equity",
    title="One US stock, 2018-01-02 and -03: quotes of 12 venues and trades of 13, with microseconds",
    files=(
        RemoteFile(
            "sampleQDataRaw.rda",
            f"{_FREQUENCY}/sampleQDataRaw.rda",
            "a4b1ada2dc22ab2e1ccff39ff1fc1f12404553131ce9fc25e10c0a455f6c95c4",
        ),
        RemoteFile(
            "sampleTDataRaw.rda",
            f"{_FREQUENCY}/sampleTDataRaw.rda",
            "620d5cae100bd6110cab9242309fe10b7c1ac60cabd9ff0a3011827d92de36bd",
        ),
    ),
    licence="GPL-2.0-or-later (data of an R package)",
    citation="Boudt, Kleen and Sjoerup, Analyzing Intraday and High-Frequency Financial Data in R, JSS 2022",
    prepared=QUOTES,
)
BINANCE_SPOT = PublishedDataset(
    id="binance-spot",
    title="BTCUSDT spot, 11 minutes around midnight of 2024-08-09: raw websocket capture",
    files=(
        RemoteFile(
            "raw/btcusdt_20240808.gz",
            f"{_BACKTEST}/btcusdt_20240808.gz",
            "5d263f4c5379cfc27379ef0e22779aa33804463d1b69c292e9c0714e31f2e1b4",
            1_274_097,
        ),
        RemoteFile(
            "raw/btcusdt_20240809.gz",
            f"{_BACKTEST}/btcusdt_20240809.gz",
            "2981a27474b8903133cc66e25f4da561140dd061c942b84801b9d8c60e4b3599",
            1_754_087,
        ),
    ),
    licence="MIT",
    citation="nkaz001, hftbacktest, example data",
    prepared=SPOT_BOOK,
)
PUBLISHED = (TAQ_EQUITY, BINANCE_SPOT)

# whatever the user's own files need: these are read as they were printed
_TAQ_READING = {"format": "taq", "hours": ("14:30", "21:00"), "max_gap": 5}
_SPOT_READING = {"format": "auto", "hours": None, "market": "spot", "before_snapshot": "drop", "symbol": None}
_COLUMNS = {
    "quotes": ("EX", "BID", "BIDSIZ", "OFR", "OFRSIZ"),
    "trades": ("EX", "COND", "SIZE", "PRICE", "CORR"),
}


def prepare_equity(folder: Path) -> None:
    """Turn the two R files into Parquet beside them: types only, no row removed, no value changed.

    Raises:
        DataError: A file does not hold the frame that it should.
    """
    import pyarrow as pa

    from appliedpapers.core.tables import write_table

    for file, own, kind in zip(TAQ_EQUITY.files, _OWN, ("quotes", "trades"), strict=True):
        frame = equity_frame(folder / file.path, kind)
        write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / own)


def equity_frame(path: Path, kind: str) -> pd.DataFrame:
    """Read one of the R files as quotes or trades with ``ts_us``.

    Raises:
        DataError: It holds no frame with these columns.
    """
    from appliedpapers.plugins.volatility_images.rda import read_rda

    wanted = _COLUMNS[kind]
    for frame in read_rda(path).values():
        if "DT" in frame.columns and set(wanted) <= set(frame.columns):
            made = frame[list(wanted)].assign(ts_us=frame["DT"].to_numpy(np.int64))
            whole = [name for name in ("BIDSIZ", "OFRSIZ", "SIZE", "CORR") if name in wanted]
            return made.astype(dict.fromkeys(whole, np.int32))
    raise DataError(f"{path}: no frame with DT, {', '.join(wanted)}.", hint="Fetch it again.")


def open_equity(folder: Path, data: DataConfig) -> Feed:
    """Read the equity in whichever form lies below ``folder``; its hours are the exchange's."""
    from appliedpapers.core.tables import read_table
    from appliedpapers.plugins.volatility_images.readers_taq import read_taq

    own = [folder / name for name in _OWN]
    if all((folder / file.path).is_file() for file in TAQ_EQUITY.files):
        if not all(path.is_file() for path in own):
            frames = [
                equity_frame(folder / file.path, kind)
                for file, kind in zip(TAQ_EQUITY.files, _COLUMNS, strict=True)
            ]
        else:
            frames = [read_table(path).to_pandas() for path in own]
    else:
        verify(folder, (TRADES,))
        frames = [read_table(folder / one.path).to_pandas() for one in (QUOTES, TRADES)]
    return read_taq(frames[0], frames[1], data.model_copy(update=_TAQ_READING), source="taq-equity")


def open_spot(folder: Path, data: DataConfig) -> Feed:
    """Read the spot feed from the raw capture, or from the frames that were made of it."""
    from appliedpapers.core.tables import read_table
    from appliedpapers.plugins.volatility_images.reader_binance import lines_of, read_binance
    from appliedpapers.plugins.volatility_images.reader_frames import read_book_frame

    reading = data.model_copy(update=_SPOT_READING)
    raw = [folder / file.path for file in BINANCE_SPOT.files]
    if all(path.is_file() for path in raw):
        return read_binance(lines_of(raw), reading, source="binance-spot")
    verify(folder, (SPOT_TRADES,))
    book, trades = (read_table(folder / one.path).to_pandas() for one in (SPOT_BOOK, SPOT_TRADES))
    # state is of all messages before the stamp, so each row ends a second
    book["ts_ms"] -= 1
    return read_book_frame(book, trades, reading, source="binance-spot", clock="the local")


def verify(folder: Path, files: Sequence[RemoteFile]) -> None:
    """Check files that go with a prepared form.

    Raises:
        DataError: One is absent or has other bytes.
    """
    for file in files:
        path = folder / file.path
        if not path.is_file():
            raise DataError(
                f"{path} is not there.", hint="It belongs to the file beside it; fetch the dataset again."
            )
        if sha256_file(path) != file.sha256:
            raise DataError(
                f"{path}: sha256 differs from {file.sha256}.", hint="Move it away and fetch it again."
            )
