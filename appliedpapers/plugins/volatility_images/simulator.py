"""The embedded market: a limit order book with regimes, self-exciting orders and known expected variance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.device import derive_seed
from appliedpapers.core.errors import ConfigError
from appliedpapers.plugins.volatility_images.config import SimulatorConfig
from appliedpapers.plugins.volatility_images.market import SECOND_US, Floats, Ints, Session, Trades

OPENING_S = 14 * 3600 + 30 * 60
"""Simulated sessions open at 14:30 UTC."""
REGIMES = ("calm", "normal", "stressed")
_FIRST_DAY = np.datetime64("2024-01-02", "D")
_TRADES_A_SECOND = 60
_RANGES = {
    "mu0": (0.08, 0.16),
    "lambda1": (0.4, 0.7),
    "theta": (0.1, 0.15),
    "n_same": (0.2, 0.45),
}


@dataclass(frozen=True)
class Truth:
    """What nobody outside a simulation knows, at the end of each second.

    Attributes:
        regime: 0 calm, 1 normal, 2 stressed, ``(seconds,)``.
        excitement: Self-exciting intensities of buys and of sells, orders a second, ``(seconds, 2)``.
        intensity: Whole intensity of market orders, both sides, ``(seconds, 2)``.
    """

    regime: NDArray[np.int8]
    excitement: Floats
    intensity: Floats


@dataclass(frozen=True)
class SimulatedSession:
    """One session and its truth.

    Attributes:
        session: What a market data feed would show.
        truth: What drove it.
        number: Which session of the simulation.
    """

    session: Session
    truth: Truth
    number: int


def simulate(config: SimulatorConfig, seed: int) -> list[SimulatedSession]:
    """Simulate sessions on consecutive days; each has a random stream of its own.

    Raises:
        ConfigError: A second is no whole number of steps, or the rates let the price run away.
    """
    return [_simulate(config, seed, number, np.empty(0, np.int64))[0] for number in range(config.sessions)]


def instrument(config: SimulatorConfig, seed: int) -> SimulatorConfig:
    """Return the rates of one instrument of a panel, drawn from the ranges of the data card."""
    random = np.random.default_rng(derive_seed(seed, "instrument"))
    drawn = {name: float(random.uniform(*ends)) for name, ends in _RANGES.items()}
    drawn["n_same"] = min(drawn["n_same"], 0.9 - config.n_cross)
    share = float(random.uniform(1e-4, 5e-4))
    factor = float(random.uniform(0.5, 2.0))
    tau = tuple(factor * one for one in config.tau)
    return config.model_copy(update={**drawn, "tau": tau, "mid": max(round(1 / share), 1000)})


def expected_volatility(
    config: SimulatorConfig, seed: int, number: int, anchors: Ints, window: int, futures: int
) -> Floats:
    """Return, for anchors of a simulated session, what one who knows its whole state would forecast.

    It is the root of the mean realised variance over futures that are simulated from the saved state, which
    no other forecast from that state beats in QLIKE but by chance.

    Args:
        config: That the session was simulated with.
        seed: Likewise.
        number: Which session.
        anchors: Rising.
        window: Seconds.
        futures: How many from each anchor.
    """
    from appliedpapers.plugins.volatility_images.simulator_kernel import generator, simulate_futures

    simulated, states = _simulate(config, seed, number, anchors)
    truth, session = simulated.truth, simulated.session
    random = generator(derive_seed(seed, "futures", number))
    rates, shares, tau, steps = _rates(config)
    out = np.empty(len(anchors))
    for place, anchor in enumerate(anchors.tolist()):
        bid = round(float(session.bid[anchor - 1]) / config.tick)
        ask = round(float(session.ask[anchor - 1]) / config.tick)
        market = np.array(
            [truth.regime[anchor - 1], bid, ask, *truth.excitement[anchor - 1]], dtype=np.float64
        )
        variance = simulate_futures(
            *(random, states[place], market, float(anchor), bid, config.dt, steps, window, config.seconds),
            *(rates, shares, tau, futures),
        )
        out[place] = math.sqrt(variance) if variance >= 0 else math.nan
    return out


def _rates(config: SimulatorConfig) -> tuple[Floats, Floats, Floats, int]:
    from appliedpapers.plugins.volatility_images.simulator_kernel import DISTANCES

    steps = round(1 / config.dt)
    if abs(steps * config.dt - 1) > 1e-9:
        raise ConfigError(
            f"data.simulator.dt is {config.dt:g}, and a second is no whole number of such steps.",
            hint="Take 0.1, 0.05 or 0.2.",
        )
    arrivals = config.lambda1 * np.arange(1, DISTANCES + 1) ** -0.6
    rates = np.array([config.mu0, config.theta, config.n_same, config.n_cross, float(arrivals.sum())])
    return rates, np.cumsum(arrivals) / arrivals.sum(), np.array(config.tau, dtype=np.float64), steps


def _simulate(
    config: SimulatorConfig, seed: int, number: int, saved_at: Ints
) -> tuple[SimulatedSession, NDArray[np.int32]]:
    from appliedpapers.plugins.volatility_images.simulator_kernel import (
        DISTANCES,
        NORMAL,
        generator,
        poisson,
        simulate_session,
    )

    rates, shares, tau, steps = _rates(config)
    random = generator(derive_seed(seed, "session", number))
    bids, asks = (np.zeros(2 * config.mid + 1, np.int32) for _ in range(2))
    for distance in range(1, DISTANCES + 1):
        resting = config.lambda1 * distance**-0.6 / config.theta
        bids[config.mid - distance] = poisson(random, resting)
        asks[config.mid + distance - 1] = poisson(random, resting)
    bids[config.mid - 1] = max(bids[config.mid - 1], 1)
    asks[config.mid] = max(asks[config.mid], 1)
    market = np.array([NORMAL, config.mid - 1, config.mid, 0.0, 0.0])
    trades = np.zeros((_TRADES_A_SECOND * config.seconds, 4), np.int64)
    best, levels, truth, states, count = simulate_session(
        random, bids, asks, market, config.dt, steps, config.seconds, rates, shares, tau, trades, saved_at
    )
    if count < 0:
        raise ConfigError(
            "the simulated price ran away, or trades came faster than anybody could note them.",
            hint="Lower data.simulator.mu0 or n_same, raise lambda1, or raise mid.",
        )
    session = _session(config, number, best, levels, trades[:count])
    known = Truth(
        truth[:, 0].astype(np.int8), truth[:, 1:3].copy(), np.asarray(truth[:, 1:3] + truth[:, 3:4])
    )
    return SimulatedSession(session, known, number), states


def _session(config: SimulatorConfig, number: int, best: Ints, levels: Ints, trades: Ints) -> Session:
    day = _FIRST_DAY + number
    opening = int(day.astype("datetime64[us]").astype(np.int64)) + OPENING_S * SECOND_US
    prices, sizes = levels[:, (0, 2)], levels[:, (1, 3)].astype(np.float64)
    there = prices > 0
    shown_px = np.where(there, prices * config.tick, np.nan)
    shown_qty = np.where(there, sizes, np.nan)
    return Session(
        name=f"simulated-{day}",
        time_us=opening + SECOND_US * np.arange(1, config.seconds + 1, dtype=np.int64),
        bid=np.asarray(best[:, 0] * config.tick, np.float64),
        ask=np.asarray(best[:, 1] * config.tick, np.float64),
        bid_px=shown_px[:, 0],
        bid_qty=shown_qty[:, 0],
        ask_px=shown_px[:, 1],
        ask_qty=shown_qty[:, 1],
        trades=Trades(
            trades[:, 0].copy(),
            np.asarray(trades[:, 1] * config.tick, np.float64),
            trades[:, 2].astype(np.float64),
            trades[:, 3].astype(np.int8),
        ),
        broken=np.zeros(config.seconds, dtype=bool),
    )
