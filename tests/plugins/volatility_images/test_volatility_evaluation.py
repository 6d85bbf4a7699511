"""Baselines, the verdict on images, GARCH that does not fail quietly, R's files."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from markets import config, dataset, session

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.volatility_images.baselines import Ewma, GarchBaseline, Har
from appliedpapers.plugins.volatility_images.evaluation import EVALUATION
from appliedpapers.plugins.volatility_images.garch import UNIT, Garch
from appliedpapers.plugins.volatility_images.published import PUBLISHED_FIGURES
from appliedpapers.plugins.volatility_images.published_data import TAQ_EQUITY, open_equity, prepare_equity
from appliedpapers.plugins.volatility_images.rda import read_rda
from appliedpapers.plugins.volatility_images.verdict import images_sentence


@pytest.fixture(scope="module")
def made():
    return dataset(config())


@pytest.mark.parametrize(
    "name", ["har", "har-weighted", "log-har", "har+flow", "log-har+flow", "qlike-har+flow"]
)
def test_every_har_learns_from_the_train_period_alone(made, name):
    model = Har(name).fit(made.train, made.valid, None)
    told = model.predict(made.test).values
    assert told.shape == (made.test.num_rows,)
    assert (told > 0).all()


def test_ewma_forgets_at_the_pace_that_valid_asks_for(made):
    model = Ewma().fit(made.train, made.valid, None)
    ((_, seconds),) = model.describe()
    assert 5 <= float(seconds) <= 2400
    assert np.isfinite(model.predict(made.test).values).all()


def test_garch_is_fitted_on_rescaled_returns_and_tells_whether_it_converged(made):
    model = GarchBaseline().fit(made.train, made.valid, None)
    said = dict(model.describe())
    assert "1e-4" in said["returns"]
    assert said["converged"].startswith(("yes", "NO"))
    told = model.predict(made.test).values
    assert 0.3 < told.mean() / made.test.targets.mean() < 3


def test_a_garch_forecast_is_the_sum_of_expected_variances():
    one = session(200)
    garch = Garch(0.02, 0.1, 0.8, 1, converged=True)
    at = np.array([150], dtype=np.int64)
    returns, now, long_run = UNIT * one.returns[:150], 0.02 / 0.1, 0.02 / 0.1
    for value in returns:
        now = 0.02 + 0.1 * value**2 + 0.8 * now
    total = 0.0
    for _ in range(20):
        total, now = total + now, long_run + 0.9 * (now - long_run)
    assert garch.forecast(one, at, 20)[0] == pytest.approx(np.sqrt(total) / UNIT, rel=1e-9)


def test_garch_on_a_price_that_never_moves_says_that_it_did_not_converge():
    from dataclasses import replace

    one = replace(session(300), bid=np.full(300, 100.0), ask=np.full(300, 100.01))
    assert not Garch.fit([one], 1).converged


def results(difference: float, low: float, high: float) -> dict:
    test = {
        "a": "x",
        "b": "log-har+flow",
        "metric": "qlike",
        "difference": difference,
        "low": low,
        "high": high,
    }
    rows = [{"model": "log-har+flow", "metric": "qlike", "slice": {}, "seed": None, "value": 0.8}]
    return {"tests": [{**test, "p": 0.5}], "rows": rows}


def test_the_report_says_plainly_whether_images_help():
    of = config()
    assert images_sentence(results(0.1, 0.02, 0.2), of).startswith("Images help here")
    assert images_sentence(results(0.1, -0.02, 0.2), of).startswith("Images do not help here")
    assert "harm" in images_sentence(results(-0.1, -0.2, -0.05), of)
    assert "no image" in images_sentence(results(0, 0, 0), config("model.network=mlp"))


def test_printed_figures_never_stand_in_one_table_with_ours(made):
    assert {figure.protocol for figure in PUBLISHED_FIGURES} != {made.protocol}
    assert all("other data, other protocol" in figure.source for figure in PUBLISHED_FIGURES)
    assert EVALUATION.published(config(), made) == []


def text(value: str | None) -> bytes:
    if value is None:
        return struct.pack(">ii", 9, -1)
    raw = value.encode()
    return struct.pack(">ii", 0x40009, len(raw)) + raw


def texts(*values: str | None) -> bytes:
    return struct.pack(">ii", 16, len(values)) + b"".join(map(text, values))


def pairs(**items: bytes) -> bytes:
    made = b""
    for name, value in items.items():
        made += struct.pack(">ii", 1026, 1) + text(name.strip("_")) + value
    return made + struct.pack(">i", 254)


def rda_bytes() -> bytes:
    numbers = (
        struct.pack(">ii", 14 | 512, 2) + struct.pack(">dd", 1.5, 2.000001) + pairs(class_=texts("POSIXct"))
    )
    factor = struct.pack(">iiii", 13 | 512, 2, 2, 1) + pairs(levels=texts("P", "N"), class_=texts("factor"))
    plain = struct.pack(">iiii", 13, 2, 7, 8)
    frame = struct.pack(">ii", 19 | 512, 4) + numbers + factor + plain + texts("x", None)
    frame += pairs(names=texts("DT", "EX", "SIZE", "COND"), class_=texts("data.frame"))
    return b"RDX2\nX\n" + struct.pack(">iii", 2, 0, 0) + pairs(quotes=frame)


def test_a_data_frame_of_r_is_read_with_times_factors_and_missing_texts(tmp_path):
    import bz2
    import gzip
    import lzma

    for pack in (bytes, gzip.compress, bz2.compress, lzma.compress):
        (tmp_path / "x.rda").write_bytes(pack(rda_bytes()))
        frame = read_rda(tmp_path / "x.rda")["quotes"]
        assert frame["DT"].tolist() == [1_500_000, 2_000_001]
        assert frame["EX"].tolist() == ["N", "P"]
        assert frame["SIZE"].tolist() == [7, 8]
        assert frame["COND"].tolist() == ["x", ""]


def test_a_file_that_is_none_of_r_is_refused(tmp_path):
    for content in (b"", b"RDX2\nX\n", b"hello", rda_bytes()[:-40]):
        (tmp_path / "x.rda").write_bytes(content)
        with pytest.raises(DataError, match="no data frame of R"):
            read_rda(tmp_path / "x.rda")


def reals(*values: float, times: bool = False) -> bytes:
    head = struct.pack(">ii", 14 | (512 if times else 0), len(values)) + struct.pack(
        f">{len(values)}d", *values
    )
    return head + (pairs(class_=texts("POSIXct", "POSIXt")) if times else b"")


def r_file(**columns: bytes) -> bytes:
    frame = struct.pack(">ii", 19 | 512, len(columns)) + b"".join(columns.values())
    frame += pairs(names=texts(*columns), class_=texts("data.table", "data.frame"))
    return b"RDX3\nX\n" + struct.pack(">iiii", 3, 0, 0, 5) + b"UTF-8" + pairs(sample=frame)


def test_the_equity_is_prepared_from_the_files_of_r_and_read_in_either_form(tmp_path):
    import gzip

    seconds = [1_514_903_400 + 0.25 + step for step in range(30)]
    count = len(seconds)
    quotes = r_file(
        DT=reals(*seconds, times=True),
        EX=texts(*["N", "P"] * (count // 2)),
        BID=reals(*[157.0 + 0.01 * (step % 4) for step in range(count)]),
        BIDSIZ=reals(*[1.0] * count),
        OFR=reals(*[157.1 + 0.01 * (step % 3) for step in range(count)]),
        OFRSIZ=reals(*[2.0] * count),
        SYMBOL=texts(*["XXX"] * count),
    )
    trades = r_file(
        DT=reals(*seconds[:10], times=True),
        EX=texts(*["N"] * 10),
        COND=texts(*["F I"] * 9, None),
        SIZE=reals(*[100.0] * 10),
        PRICE=reals(*[157.05] * 10),
        CORR=reals(*[0.0] * 10),
    )
    for file, content in zip(TAQ_EQUITY.files, (quotes, trades), strict=True):
        (tmp_path / file.path).write_bytes(gzip.compress(content))
    data = config().data
    [direct] = open_equity(tmp_path, data).sessions
    prepare_equity(tmp_path)
    [prepared] = open_equity(tmp_path, data).sessions
    for one in (direct, prepared):
        assert len(one) == 23_400
        assert one.trades.qty.sum() == 1000
    np.testing.assert_array_equal(direct.mid, prepared.mid)
    assert len(list(tmp_path.glob("taq-equity-*.parquet"))) == 2
    (tmp_path / TAQ_EQUITY.files[0].path).write_bytes(gzip.compress(trades))
    with pytest.raises(DataError, match="no frame with DT, EX, BID"):
        prepare_equity(tmp_path)
