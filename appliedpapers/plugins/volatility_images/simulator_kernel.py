# ruff: noqa: ANN001, ANN201  (numba compiles these for the types that it meets)
"""The compiled loop of the simulated order book, and the random numbers that it draws.

The generator is ours (xoroshiro128+, Blackman and Vigna 2018), so that a seed gives the same bytes with any
version of any library. Sums of Poisson arrivals are drawn as one and dealt out, and lots that stay are
skipped over by geometric steps: the same law, a tenth of the draws.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

DISTANCES = 30
SHOWN = 20
SAVED = 400
"""Ticks of the book a side of its middle that a saved state holds."""
CALM, NORMAL, STRESSED = 0, 1, 2
_BETA = 0.5
_MEAN_SIZE = 2.5
_MOST_RESILIENCE = 6.0
_TO_CALM = 0.6

compiled = numba.njit(cache=True)


def generator(seed: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return the state of a generator: two numbers spread from a seed by NumPy's seed sequence."""
    return np.random.SeedSequence(seed).generate_state(2, np.uint64).astype(np.uint64)


@compiled
def uniform(state):  # type: ignore[no-untyped-def]
    """Draw from [0, 1)."""
    first, second = state[0], state[1]
    total = first + second
    second ^= first
    state[0] = ((first << np.uint64(24)) | (first >> np.uint64(40))) ^ second ^ (second << np.uint64(16))
    state[1] = (second << np.uint64(37)) | (second >> np.uint64(27))
    return float(total >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def poisson(state, mean):  # type: ignore[no-untyped-def]
    """Draw a Poisson number of a small mean, by products of uniforms."""
    limit, product, count = math.exp(-mean), uniform(state), 0
    while product > limit:
        product *= uniform(state)
        count += 1
    return count


@compiled
def geometric(state, mean):  # type: ignore[no-untyped-def]
    """Draw a size of at least 1 with this mean."""
    return 1 + int(math.log(1.0 - uniform(state)) / math.log(1.0 - 1.0 / mean))


@compiled
def next_regime(state, regime, dt, tau):  # type: ignore[no-untyped-def]
    """Leave a regime with probability 1 - exp(-dt / tau); calm and stressed go to normal."""
    if uniform(state) >= 1.0 - math.exp(-dt / tau[regime]):
        return regime
    if regime != NORMAL:
        return NORMAL
    return CALM if uniform(state) < _TO_CALM else STRESSED


@compiled
def cancel(state, side, low, high, chance):  # type: ignore[no-untyped-def]
    """Let each lot between two prices leave with a small chance."""
    scale = 1.0 / math.log(1.0 - chance)
    skip = int(math.log(1.0 - uniform(state)) * scale)
    for price in range(low, high + 1):
        lots = side[price]
        place = skip
        while place < lots:
            side[price] -= 1
            place += 1 + int(math.log(1.0 - uniform(state)) * scale)
        skip = place - lots


@compiled
def highest(side, price):  # type: ignore[no-untyped-def]
    """Return the highest price at or below ``price`` with a lot, 0 where there is none."""
    while price > 0 and side[price] == 0:
        price -= 1
    return price


@compiled
def lowest(side, price):  # type: ignore[no-untyped-def]
    """Return the lowest price at or above ``price`` with a lot, the last index where there is none."""
    last = len(side) - 1
    while price < last and side[price] == 0:
        price += 1
    return price


@compiled
def arrive(state, side, best, sign, mean, shares):  # type: ignore[no-untyped-def]
    """Place limit orders at distances from the opposite best price; return the best of the new ones."""
    found = -1
    for _ in range(poisson(state, mean)):
        chosen, distance = uniform(state), 0
        while distance < DISTANCES - 1 and chosen >= shares[distance]:
            distance += 1
        price = best + sign * (distance + 1)
        if 0 < price < len(side) - 1:
            side[price] += 1
            if found < 0 or sign * (found - price) > 0:
                found = price
    return found


@compiled
def step(state, bids, asks, market, dt, t, day, rates, shares, tau, trades, count, second):  # type: ignore[no-untyped-def]
    """Take one step of the book; see the package's data card for its six parts.

    ``market`` holds regime, best bid, best ask and the self-exciting intensities of buys and sells.

    Returns:
        How many trades there are now; -1 where they do not fit or the price left its range.
    """
    mu0, theta, n_same, n_cross, lambda_sum = rates
    market[0] = next_regime(state, int(market[0]), dt, tau)
    regime = int(market[0])
    activity = 0.6 if regime == CALM else (1.0 if regime == NORMAL else 1.8)
    supply = 1.1 if regime == CALM else (1.0 if regime == NORMAL else 0.85)
    x = 2.0 * t / day - 1.0
    base = mu0 * activity * (0.7 + 0.9 * x * x)
    buys = poisson(state, dt * (base + market[3]))
    sells = poisson(state, dt * (base + market[4]))
    decay = math.exp(-_BETA * dt)
    market[3] = market[3] * decay + _BETA * (n_same * buys + n_cross * sells)
    market[4] = market[4] * decay + _BETA * (n_same * sells + n_cross * buys)
    bid, ask = int(market[1]), int(market[2])
    chance = 1.0 - math.exp(-theta * dt)
    reach = SAVED - 50
    cancel(state, bids, max(bid - reach, 1), bid, chance)
    cancel(state, asks, ask, min(ask + reach, len(asks) - 2), chance)
    resilience = min(1.0 + (ask - bid - 1.0), _MOST_RESILIENCE)
    mean = dt * lambda_sum * supply * resilience
    new_bid = arrive(state, bids, ask, -1, mean, shares)
    new_ask = arrive(state, asks, bid, 1, mean, shares)
    top_bid = highest(bids, max(bid, new_bid))
    top_ask = lowest(asks, ask if new_ask < 0 else min(ask, new_ask))
    while top_bid >= top_ask and top_bid > 0 and top_ask < len(asks) - 1:
        matched = min(bids[top_bid], asks[top_ask])
        bids[top_bid] -= matched
        asks[top_ask] -= matched
        top_bid, top_ask = highest(bids, top_bid), lowest(asks, top_ask)
    if top_bid == 0:
        top_bid = min(bid, top_ask) - 1
        bids[top_bid] = 1
    if top_ask == len(asks) - 1:
        top_ask = max(ask, top_bid) + 1
        asks[top_ask] = 1
    for side in range(2):
        for _ in range(sells if side == 0 else buys):
            size = geometric(state, _MEAN_SIZE)
            while size > 0:
                price = top_bid if side == 0 else top_ask
                resting = bids[price] if side == 0 else asks[price]
                taken = min(size, resting)
                size -= taken
                if trades.shape[0]:
                    if count >= trades.shape[0]:
                        return -1
                    trades[count, 0], trades[count, 1] = second, price
                    trades[count, 2], trades[count, 3] = taken, (-1 if side == 0 else 1)
                    count += 1
                if side == 0:
                    bids[price] -= taken
                    top_bid = highest(bids, price)
                    if top_bid == 0:
                        top_bid = price - 1
                        bids[top_bid] = 1
                else:
                    asks[price] -= taken
                    top_ask = lowest(asks, price)
                    if top_ask == len(asks) - 1:
                        top_ask = price + 1
                        asks[top_ask] = 1
    market[1], market[2] = top_bid, top_ask
    if top_bid < SAVED + 2 or top_ask > len(asks) - SAVED - 2:
        return -1
    return count


@compiled
def simulate_session(state, bids, asks, market, dt, steps, seconds, rates, shares, tau, trades, saved_at):  # type: ignore[no-untyped-def]
    """Simulate a session, and show the book at each second's end.

    Returns:
        Best prices ``(seconds, 2)``, levels ``(seconds, 4, 20)`` (bid price, size, ask price, size; 0 where
        there is none), truth ``(seconds, 4)`` (regime, both self-exciting intensities, the common one), saved
        states ``(saved, 2, 2 * 400 + 1)`` and the number of trades, -1 where the session could not be held.
    """
    best = np.zeros((seconds, 2), np.int64)
    levels = np.zeros((seconds, 4, SHOWN), np.int64)
    truth = np.zeros((seconds, 4))
    states = np.zeros((len(saved_at), 2, 2 * SAVED + 1), np.int32)
    count, saved = 0, 0
    for second in range(seconds):
        if saved < len(saved_at) and saved_at[saved] == second:
            middle = int(market[1])
            states[saved, 0] = bids[middle - SAVED : middle + SAVED + 1]
            states[saved, 1] = asks[middle - SAVED : middle + SAVED + 1]
            saved += 1
        for part in range(steps):
            t = second + part * dt
            count = step(
                state, bids, asks, market, dt, t, float(seconds), rates, shares, tau, trades, count, second
            )
            if count < 0:
                return best, levels, truth, states, count
        best[second, 0], best[second, 1] = market[1], market[2]
        show(bids, asks, market, levels[second])
        regime = int(market[0])
        activity = 0.6 if regime == CALM else (1.0 if regime == NORMAL else 1.8)
        x = 2.0 * (second + 1.0) / seconds - 1.0
        truth[second, 0], truth[second, 1], truth[second, 2] = regime, market[3], market[4]
        truth[second, 3] = rates[0] * activity * (0.7 + 0.9 * x * x)
    return best, levels, truth, states, count


@compiled
def show(bids, asks, market, out):  # type: ignore[no-untyped-def]
    """Write the best levels of both sides."""
    price = int(market[1])
    for level in range(SHOWN):
        price = highest(bids, price)
        if price == 0:
            break
        out[0, level], out[1, level] = price, bids[price]
        price -= 1
    price = int(market[2])
    for level in range(SHOWN):
        price = lowest(asks, price)
        if price == len(asks) - 1:
            break
        out[2, level], out[3, level] = price, asks[price]
        price += 1


@compiled
def simulate_futures(  # type: ignore[no-untyped-def]
    state, saved, market, start, middle, dt, steps, window, seconds, rates, shares, tau, futures
):
    """Return the mean of realised variance over futures that begin in one saved state, log returns.

    ``middle`` is the price of the centre of the saved arrays; beyond them no lot is known.
    """
    room = 4 * SAVED
    total = 0.0
    none = np.zeros((0, 4), np.int64)
    for _ in range(futures):
        bids, asks = np.zeros(2 * room + 1, np.int32), np.zeros(2 * room + 1, np.int32)
        bids[room - SAVED : room + SAVED + 1] = saved[0]
        asks[room - SAVED : room + SAVED + 1] = saved[1]
        own = market.copy()
        own[1], own[2] = market[1] - middle + room, market[2] - middle + room
        before = (own[1] + own[2]) / 2.0 - room + middle
        for second in range(window):
            for part in range(steps):
                t = start + second + part * dt
                if step(state, bids, asks, own, dt, t, float(seconds), rates, shares, tau, none, 0, 0) < 0:
                    return -1.0
            now = (own[1] + own[2]) / 2.0 - room + middle
            total += math.log(now / before) ** 2
            before = now
    return total / futures
