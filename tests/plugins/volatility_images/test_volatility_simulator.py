"""The simulated order book: the same bytes for a seed, books that are sound, regimes that differ."""

from __future__ import annotations

import numpy as np
import pytest

from appliedpapers.core.errors import ConfigError
from appliedpapers.plugins.volatility_images.config import SimulatorConfig
from appliedpapers.plugins.volatility_images.simulator import expected_volatility, instrument, simulate
from appliedpapers.plugins.volatility_images.windows import realised

SMALL = SimulatorConfig(sessions=1, seconds=600)


def test_a_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = (simulate(SMALL, seed)[0] for seed in (3, 3, 4))
    for name in ("bid", "ask", "bid_px", "bid_qty"):
        assert getattr(first.session, name).tobytes() == getattr(again.session, name).tobytes()
    assert first.session.trades.price.tobytes() == again.session.trades.price.tobytes()
    assert first.truth.excitement.tobytes() == again.truth.excitement.tobytes()
    assert first.session.bid.tobytes() != other.session.bid.tobytes()


def test_the_book_is_never_crossed_and_trades_lie_where_it_was():
    one = simulate(SMALL, 0)[0].session
    assert (one.bid < one.ask).all()
    np.testing.assert_allclose(one.bid_px[:, 0], one.bid)
    assert (np.diff(one.bid_px, axis=1)[np.isfinite(np.diff(one.bid_px, axis=1))] < 0).all()
    assert (one.trades.qty >= 1).all()
    near = np.abs(one.trades.price - one.mid[one.trades.second])
    assert np.quantile(near, 0.99) < 30 * SMALL.tick


def test_regimes_move_the_price_in_their_order():
    one = simulate(SimulatorConfig(sessions=1, seconds=23_400), 0)[0]
    anchors = np.arange(60, 23_340, 60, dtype=np.int64)
    volatility = realised(one.session, anchors, 60)
    regime = one.truth.regime[anchors + 30]
    calm, normal, stressed = (volatility[regime == number].mean() for number in range(3))
    assert calm < normal < stressed
    assert 1.05 < one.session.spread.mean() / SMALL.tick < 1.4
    assert 0.12 < np.mean(one.session.returns != 0) < 0.35


def test_a_whole_state_forecasts_the_scale_of_what_comes():
    anchors = np.arange(100, 580, 60, dtype=np.int64)
    told = expected_volatility(SMALL, 0, 0, anchors, 60, 30)
    again = expected_volatility(SMALL, 0, 0, anchors, 60, 30)
    assert told.tobytes() == again.tobytes()
    came = realised(simulate(SMALL, 0)[0].session, anchors[:-1], 60)
    assert 0.5 < told[:-1].mean() / came.mean() < 2


def test_instruments_of_a_panel_differ_within_their_ranges():
    made = [instrument(SMALL, seed) for seed in range(5)]
    assert len({one.mu0 for one in made}) == 5
    assert all(0.08 <= one.mu0 <= 0.16 and 2000 <= one.mid <= 10_000 for one in made)


def test_steps_that_do_not_fit_into_a_second_are_refused():
    with pytest.raises(ConfigError, match="no whole number of such steps"):
        simulate(SimulatorConfig(sessions=1, seconds=300, dt=0.3), 0)
