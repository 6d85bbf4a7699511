"""How fast raw messages are read, images are built, and a forecast is made.

    python -m benchmarks.volatility_images_speed
    python -m benchmarks.volatility_images_speed --json
    python -m benchmarks.volatility_images_speed --capture FOLDER

CPU times on one thread, the best of several rounds. Images are built all at once and, for comparison, one by
one in plain loops over seconds and levels. Messages are those of a capture below FOLDER (by default the
published one in the data folder); where there is none, a capture of the same mix is made up.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from appliedpapers.core.config import resolve
from appliedpapers.core.fetching import data_home
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.volatility_images.config import DataConfig, ImageConfig, VolatilityConfig
from appliedpapers.plugins.volatility_images.data import DATASETS
from appliedpapers.plugins.volatility_images.images import ASK, BID, BUYS, SELLS, ImageBuilder
from appliedpapers.plugins.volatility_images.market import Session
from appliedpapers.plugins.volatility_images.model import VolatilityForecaster
from appliedpapers.plugins.volatility_images.reader_binance import lines_of, read_binance
from appliedpapers.plugins.volatility_images.simulator import simulate

ROUNDS = 5
IMAGES, LOOPED = 4000, 60
_TICK = 0.01


def images_by_loops(session: Session, anchor: int, options: ImageConfig, step: float) -> Any:
    """Build one image as its definition reads, second by second and level by level."""
    out = np.zeros((4, options.rows, options.seconds), np.float32)
    middle = round(2 * float(session.mid[anchor - 1]) / step)
    begin = anchor - options.seconds
    for second in range(begin, anchor):
        for channel, prices, sizes in (
            (BID, session.bid_px, session.bid_qty),
            (ASK, session.ask_px, session.ask_qty),
        ):
            for price, size in zip(prices[second].tolist(), sizes[second].tolist(), strict=True):
                if math.isfinite(price):
                    row = (2 * math.floor(price / step + 1e-6) - middle) // 2 + options.rows // 2
                    if 0 <= row < options.rows:
                        out[channel, row, second - begin] += size
    cut = session.trades.part(begin, anchor)
    for second, price, size, side in zip(
        cut.second.tolist(), cut.price.tolist(), cut.qty.tolist(), cut.side.tolist(), strict=True
    ):
        row = (2 * math.floor(price / step + 1e-6) - middle) // 2 + options.rows // 2
        if 0 <= row < options.rows:
            out[BUYS if side > 0 else SELLS, row, second] += size
    return out


def _best(run: Callable[[], Any], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return min(times)


def _made_up(seconds: int = 400) -> list[bytes]:
    """Return a capture of the mix that was seen: tickers, trades and updates as eleven to three to one."""
    random = np.random.default_rng(0)
    begin, update = 1_723_161_254_000, 1000
    levels = [[f"{60000 + 0.01 * n:.8f}", "1.00000000"] for n in range(-1000, 1001) if n]
    book = {"lastUpdateId": update, "bids": levels[:1000], "asks": levels[1000:]}
    lines = [f"{begin}000000 {json.dumps(book)}".encode()]

    def add(now: int, content: dict[str, Any]) -> None:
        text = json.dumps({"stream": "btcusdt@x", "data": content}, separators=(",", ":"))
        lines.append(f"{now}000000 {text}".encode())

    for second in range(seconds):
        for part in range(10):
            now = begin + 1000 * second + 100 * part + 1
            for _ in range(11):
                add(
                    now,
                    {
                        "u": 1,
                        "s": "BTCUSDT",
                        "b": "60000.00000000",
                        "B": "1",
                        "a": "60000.01000000",
                        "A": "2",
                    },
                )
            for _ in range(3):
                trade = {
                    "e": "trade",
                    "E": now,
                    "s": "BTCUSDT",
                    "t": 1,
                    "p": "60000.01",
                    "q": "0.1",
                    "T": now,
                }
                add(now, {**trade, "m": bool(random.integers(2)), "M": True})
            changed = [[f"{60000 - 0.01 * n:.8f}", "0.50000000"] for n in random.integers(1, 900, 23)]
            raised = [[f"{60000 + 0.01 * n:.8f}", "0.50000000"] for n in random.integers(1, 900, 23)]
            event = {"e": "depthUpdate", "E": now, "s": "BTCUSDT", "U": update + 1, "u": update + 9}
            add(now, {**event, "b": changed, "a": raised})
            update += 9
    return lines


def measure(capture: Path) -> dict[str, Any]:
    """Measure everything."""
    files = sorted(capture.glob("*.gz")) if capture.is_dir() else []
    lines = list(lines_of(files)) if files else _made_up()
    data = DataConfig(before_snapshot="drop")
    parse = _best(lambda: read_binance(lines, data, source="capture"))
    of = resolve(VolatilityConfig, preset="default", assignments=("data.simulator.seconds=7200",))
    session = simulate(of.data.simulator, 1)[0].session
    options, builder = ImageConfig(), ImageBuilder(ImageConfig(), _TICK)
    anchors = np.resize(np.arange(100, len(session), dtype=np.int64), IMAGES)
    together = _best(lambda: builder.build(session, anchors), 3)
    few = anchors[:LOOPED].tolist()
    looped = [images_by_loops(session, anchor, options, _TICK) for anchor in few]
    if not np.array_equal(builder.build(session, anchors[:LOOPED]), np.stack(looped)):
        raise SystemExit("the loops build other images than the builder")
    alone = _best(lambda: [images_by_loops(session, anchor, options, _TICK) for anchor in few], 2) / LOOPED
    return {
        "capture": "published" if files else "made up",
        "messages": len(lines),
        "parse_s": parse,
        "messages_a_second": len(lines) / parse,
        "images": IMAGES,
        "images_s": together,
        "loop_image_ms": 1000 * alone,
        "faster_than_loops": alone * IMAGES / together,
        **_forecasts(),
    }


def _forecasts() -> dict[str, float]:
    """Time a second of a stream, and the one in which a forecast falls."""
    import tempfile

    from appliedpapers.core.json_rows import records
    from appliedpapers.core.validation import check

    of = resolve(VolatilityConfig, preset="quick", assignments=("training.epochs=1", "model.seeds=3"))
    made = DATASETS.simulated(of)
    with tempfile.TemporaryDirectory() as folder:
        model = VolatilityForecaster(of).fit(made.train, made.valid, FitContext(Path(folder), seed=of.seed))
    rows = records(check(made.test.example(), model.input_schema).require_clean())
    stream, quiet, due = model.stream(), [], []
    for row in rows:
        started = time.perf_counter()
        answered = stream.step(row)
        (due if answered else quiet).append(time.perf_counter() - started)
    return {
        "stream_second_us": 1e6 * float(np.median(quiet)),
        "stream_forecast_ms": 1e3 * float(np.median(due)),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--capture", type=Path, default=data_home() / "volatility-images" / "raw")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.capture)
    if options.json:
        print(json.dumps(found))
        return
    said = f"messages   {found['messages']:,} ({found['capture']}) in {found['parse_s']:.2f} CPU-s: "
    print(f"{said}{found['messages_a_second']:,.0f} a second")
    said = f"images     {found['images']:,} compact in {found['images_s']:.2f} CPU-s, "
    print(f"{said}{found['faster_than_loops']:.0f} times a loop ({found['loop_image_ms']:.1f} ms each)")
    said = f"a stream   {found['stream_second_us']:.0f} us a second, "
    print(f"{said}{found['stream_forecast_ms']:.0f} ms a forecast")


if __name__ == "__main__":
    main()
