"""HAR and GARCH on seven years of daily realised measures: what is known of them holds."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from appliedpapers.plugins.volatility_images.garch import Garch
from appliedpapers.plugins.volatility_images.linear import least_squares, qlike_losses, with_constant
from appliedpapers.plugins.volatility_images.market import SECOND_US, Session, Trades

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def daily(shared):
    return pq.read_table(
        shared / "data" / "volatility-images" / "spy_realized_measures_daily.parquet"
    ).to_pandas()


def test_daily_har_beats_the_last_day_and_the_mean_out_of_sample(daily):
    volatility = np.sqrt(daily["RV5"].to_numpy())
    means = [np.convolve(volatility, np.ones(days) / days, "valid")[22 - days : -1] for days in (1, 5, 22)]
    inputs, targets = np.log(np.stack(means, axis=1)), volatility[22:]
    half = len(targets) // 2
    weights = least_squares(inputs[:half], np.log(targets[:half]))
    told = np.exp(with_constant(inputs[half:]) @ weights)
    loss = qlike_losses(targets[half:], told).mean()
    assert loss < qlike_losses(targets[half:], volatility[21:-1][half:]).mean()
    assert loss < qlike_losses(targets[half:], np.full(len(told), targets[:half].mean())).mean()


def test_garch_on_daily_closes_converges_to_the_usual_persistence(daily):
    close, days = daily["CLOSE"].to_numpy(), len(daily)
    none = np.empty((days, 0))
    time = SECOND_US * np.arange(1, days + 1, dtype=np.int64)
    session = Session("spy", time, close, close, none, none, none, none, Trades.none(), np.zeros(days, bool))
    found = Garch.fit([session], 1)
    assert found.converged
    assert 0.85 < found.alpha + found.beta < 1.0
    assert 0.05 < found.alpha < 0.4
    told = found.forecast(session, np.arange(500, days, 5, dtype=np.int64), 5)
    assert 0.004 < np.median(told) < 0.03
