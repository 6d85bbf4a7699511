"""The world behind a simulated click log: who exists, what has an effect, and the rows.

Users meet items through time. Both have Zipf popularity, some are born late, and both carry attributes;
every row adds a context. With std() the standardisation over the sample, the score of a row is::

    s = main M + inter X + tri C + drift D + numeric,    P(click) = sigmoid(s + b)

    M = sum_f std(w_f[x_f]) / sqrt(8)                   f in MAIN
    X = sum_(f,g) std(<a_f[x_f], b_g[x_g]>) / sqrt(5)   (f, g) in PAIRS, four dimensions
    C = std(sum_k A_k[device] B_k[category] C_k[country]), rank 2
    D = delta[item] t / T
    numeric = -.25 (position - 1) - .3 ln(price) + .4 sin(2 pi (age - 18) / 58), the last 0 for missing age

and b makes the mean probability of the sample the click rate. The interactions are products, which no
additive model can follow; ``recent``, ``tags``, ``weekday`` and the noise fields have no effect of their own.

**Order of the draws.** One PCG64 generator of the seed: times; popularity, births, and the rows' users and
items; attributes of users, then of items; device, position, referrer; noise fields; the weights w, a and b,
A, B and C, delta; labels. Whatever a row draws is one uniform number turned over by its distribution
function, so the place of every number in the stream is known beforehand: a sample is made slice by slice in
bounded memory, three times over (moments for std(), histogram of s for b, the rows), and is the same whether
it is kept or written. Slices are even in time; their numbers of rows are multinomial, so that the times are
distributed as sorted uniform ones. Samples of one slice draw plain sorted uniforms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.finalmlp.simulator_options import MAIN, NOISE, PAIRS, SimulatorOptions

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Columns = dict[str, Any]

SLICE_ROWS = 500_000

_SIZES = {"country": 30, "category": 40, "brand": 200, "tags": 100, "device": 4, "weekday": 7}
_SIZES |= {"referrer": 100, "hour": 24} | {name: int(name.removeprefix("noise_")) for name in NOISE}
_MOST_TAGS = 6
_DEVICE_SHARES = np.array([0.5, 0.3, 0.15, 0.05])
_YOUNGEST, _OLDEST, _AGE_MISSING = 18, 75, 0.03
_POSITIONS, _DIMENSIONS, _RANK = 8, 4, 2
_EVENING, _SWING = 20.0, 0.6  # hour of most traffic, and how far it swings around its mean
_BIN = 1e-4  # of the score; a mean of sigmoids over such bins is exact to 1e-7
_ATTRIBUTE_BLOCK = 20_000


class Slice(NamedTuple):
    """Consecutive rows of a simulated log.

    Attributes:
        start: Number of the first row.
        columns: Codes and numbers by field, each ``(rows,)``: int32 codes from 0, float64 numbers (NaN where
            missing); ``time`` in days.
        p_true: True probabilities, ``(rows,)``.
        click: Labels, ``(rows,)`` int8.
    """

    start: int
    columns: Columns
    p_true: Floats
    click: NDArray[np.int8]


class Draws:
    """One generator whose draws of one number a row can be read again, slice by slice."""

    def __init__(self, seed: int, rows: int) -> None:
        self.now = np.random.default_rng(seed)
        self._rows = rows
        self._marks: dict[str, Any] = {}

    def reserve(self, name: str) -> None:
        """Set one uniform number a row aside under a name."""
        self._marks[name] = self.now.bit_generator.state
        _pcg64(self.now).advance(self._rows)

    def read(self, name: str, rows: slice) -> Floats:
        """Return the numbers of some rows, uniform in [0, 1), ``(rows,)``."""
        source = np.random.PCG64()
        source.state = self._marks[name]
        source.advance(rows.start)
        numbers: Floats = np.random.Generator(source).random(rows.stop - rows.start)
        return numbers


class World:
    """All that a log is made of, drawn once; rows are made when they are asked for.

    Attributes:
        options: What is simulated.
        sizes: Number of tokens of every categorical field.
        attributes: Codes, numbers and tags of users and items, by name; tags are (I, 6) codes with -1 behind.
    """

    def __init__(self, seed: int, options: SimulatorOptions, chunk_rows: int = SLICE_ROWS) -> None:
        if chunk_rows < 1:
            raise ValueError(f"chunk_rows must be at least 1, not {chunk_rows}")
        o = self.options = options
        draws = self._draws = Draws(seed, o.rows)
        slices = -(-o.rows // chunk_rows)
        counts = draws.now.multinomial(o.rows, np.full(slices, 1 / slices)) if slices > 1 else [o.rows]
        self._ends = np.concatenate([[0], np.cumsum(counts)])
        draws.reserve("time")
        self._users = _Population(draws.now, o.users, o.a_user, round(o.cold_users * o.users), o.days)
        self._items = _Population(draws.now, o.items, o.a_item, round(o.cold_items * o.items), o.days)
        draws.reserve("user")
        draws.reserve("item")
        self.attributes = _user_attributes(draws.now, o.users) | _item_attributes(draws.now, o.items)
        for name in ("device", "position", "referrer", *NOISE):
            draws.reserve(name)
        self.sizes = {"user": o.users, "item": o.items, **_SIZES}
        self._effects = _Effects(draws.now, self.sizes)
        draws.reserve("click")
        self._cumulative = {
            "device": np.cumsum(_DEVICE_SHARES),
            "referrer": _zipf_cumulative(_SIZES["referrer"], 1.1),
        }
        self._standardise()
        self._intercept = self._solve_intercept()

    def slices(self) -> Iterator[Slice]:
        """Yield the rows in the order of time, one slice after the other."""
        for rows, columns in self._drawn():
            p_true = _sigmoid(self._score(columns) + self._intercept)
            click = (self._draws.read("click", rows) < p_true).astype(np.int8)
            for name in NOISE:
                columns[name] = _scaled(self._draws.read(name, rows), _SIZES[name])
            yield Slice(rows.start, columns, p_true, click)

    def _drawn(self) -> Iterator[tuple[slice, Columns]]:
        o, read = self.options, self._draws.read
        width = o.days / (len(self._ends) - 1)
        for i, (start, end) in enumerate(zip(self._ends[:-1], self._ends[1:], strict=True)):
            rows = slice(int(start), int(end))
            time = (i + np.sort(read("time", rows))) * width
            time = np.minimum(_to_evening(time) if o.diurnal else time, np.nextafter(o.days, 0))
            columns: Columns = {
                "time": time,
                "hour": np.minimum(24 * (time % 1), 23).astype(np.int32),
                "weekday": (time.astype(np.int32) % 7).astype(np.int32),
                "user": self._users.draw(time, read("user", rows)),
                "item": self._items.draw(time, read("item", rows)),
                "position": 1.0 + _scaled(read("position", rows), _POSITIONS),
            }
            for name, cumulative in self._cumulative.items():
                columns[name] = _inverse(cumulative, read(name, rows))
            for name, owner in (
                ("country", "user"),
                ("age", "user"),
                ("category", "item"),
                ("brand", "item"),
            ):
                columns[name] = self.attributes[name][columns[owner]]
            columns["price"] = self.attributes["price"][columns["item"]]
            yield rows, columns

    def _standardise(self) -> None:
        """Find mean and deviation of every term over the sample, slice by slice (Chan's update)."""
        count, mean, square = 0, np.zeros(()), np.zeros(())
        for rows, columns in self._drawn():
            n = rows.stop - rows.start
            if not n:
                continue
            parts = [(term.mean(), n * term.var()) for term in self._effects.terms(columns)]
            own_mean, own_square = np.array(parts).T
            step = own_mean - mean
            square = square + own_square + step**2 * count * n / (count + n)
            mean, count = mean + step * n / (count + n), count + n
        deviation = np.sqrt(square / count)
        self._mean, self._scale = mean, np.where(deviation > 0, deviation, 1.0)

    def _score(self, columns: Columns) -> Floats:
        """Return s without its intercept, ``(rows,)``."""
        o = self.options
        weights = [o.main / math.sqrt(len(MAIN))] * len(MAIN)
        weights += [o.inter / math.sqrt(len(PAIRS))] * len(PAIRS)
        weights += [o.tri]
        score = np.zeros(len(columns["time"]))
        terms = zip(self._effects.terms(columns), weights, self._mean, self._scale, strict=True)
        for term, weight, mean, scale in terms:
            score += weight * (term - mean) / scale
        score += o.drift * self._effects.delta[columns["item"]] * (columns["time"] / o.days)
        score -= 0.25 * (columns["position"] - 1) + 0.3 * np.log(columns["price"])
        score += np.nan_to_num(0.4 * np.sin(2 * np.pi * (columns["age"] - _YOUNGEST) / 58))
        return score

    def _solve_intercept(self) -> float:
        """Return b by bisection over a histogram of the scores."""
        tally: dict[int, int] = {}
        for _, columns in self._drawn():
            bins, counts = np.unique(
                np.floor(self._score(columns) / _BIN).astype(np.int64), return_counts=True
            )
            for where, count in zip(bins.tolist(), counts.tolist(), strict=True):
                tally[where] = tally.get(where, 0) + count
        scores = (np.array(list(tally)) + 0.5) * _BIN
        weights = np.array(list(tally.values())) / self.options.rows
        low, high = -100.0, 100.0
        for _ in range(80):
            middle = (low + high) / 2
            too_low = weights @ _sigmoid(scores + middle) < self.options.click_rate
            low, high = (middle, high) if too_low else (low, middle)
        return (low + high) / 2


class _Population:
    """Ids with Zipf popularity, some born late; a row draws among those born before it."""

    def __init__(self, rng: np.random.Generator, size: int, exponent: float, cold: int, days: int) -> None:
        popularity = rng.permutation(np.arange(1, size + 1.0) ** -exponent)
        born = np.full(size, -np.inf)
        born[rng.choice(size, cold, replace=False)] = rng.uniform(0, days, cold)
        self._order = np.argsort(born, kind="stable").astype(np.int32)
        self._born = born[self._order]
        self._cumulative = np.cumsum(popularity[self._order])

    def draw(self, time: Floats, uniform: Floats) -> Ints:
        """Return one id a row."""
        alive = np.searchsorted(self._born, time, side="left")
        mass = self._cumulative[alive - 1]
        rank = np.searchsorted(self._cumulative, uniform * mass, side="right")
        # uniform * mass may round up to mass
        ids: Ints = self._order[np.minimum(rank, alive - 1)]
        return ids


class _Effects:
    """The weights w, a, b, A, B, C and delta."""

    def __init__(self, rng: np.random.Generator, sizes: Mapping[str, int]) -> None:
        self._own = {name: rng.standard_normal(sizes[name]) for name in MAIN}
        self._pairs = [
            tuple(rng.standard_normal((sizes[name], _DIMENSIONS)) for name in pair) for pair in PAIRS
        ]
        a, b, c = (rng.standard_normal((sizes[name], _RANK)) for name in ("device", "category", "country"))
        self._three = np.einsum("dk,ck,nk->dcn", a, b, c)
        self.delta = rng.standard_normal(sizes["item"])

    def terms(self, columns: Columns) -> Iterator[Floats]:
        """Yield what std() is taken of, ``(rows,)`` each: terms of MAIN, of PAIRS, the product of three."""
        for name, weight in self._own.items():
            yield weight[columns[name]]
        for (left, right), (a, b) in zip(PAIRS, self._pairs, strict=True):
            yield np.einsum("nk,nk->n", a[columns[left]], b[columns[right]])
        yield self._three[columns["device"], columns["category"], columns["country"]]


def _user_attributes(rng: np.random.Generator, users: int) -> dict[str, Any]:
    country = _inverse(_zipf_cumulative(_SIZES["country"], 1.2), rng.random(users))
    age = rng.integers(_YOUNGEST, _OLDEST + 1, users).astype(np.float64)
    age[rng.random(users) < _AGE_MISSING] = np.nan
    return {"country": country, "age": age}


def _item_attributes(rng: np.random.Generator, items: int) -> dict[str, Any]:
    category = _inverse(_zipf_cumulative(_SIZES["category"], 0.8), rng.random(items))
    brand = _inverse(_zipf_cumulative(_SIZES["brand"], 1.0), rng.random(items))
    level = rng.normal(0, 0.5, _SIZES["category"])
    price = np.exp(level[category] + rng.normal(0, 0.6, items))
    return {"category": category, "brand": brand, "price": price, "tags": _item_tags(rng, category)}


def _item_tags(rng: np.random.Generator, category: Ints) -> NDArray[np.int8]:
    """Return 1 to 6 different tags an item, drawn one after the other by its category's shares, -1 behind."""
    shares = rng.dirichlet(np.full(_SIZES["tags"], 0.1), _SIZES["category"])
    log_shares = np.log(np.maximum(shares, np.finfo(np.float64).tiny))
    count = rng.integers(1, _MOST_TAGS + 1, len(category))
    tags = np.empty((len(category), _MOST_TAGS), np.int8)
    for start in range(0, len(category), _ATTRIBUTE_BLOCK):
        rows = slice(start, start + _ATTRIBUTE_BLOCK)
        # the largest of log share + Gumbel noise are a draw without replacement
        keys = log_shares[category[rows]]
        keys += rng.gumbel(size=keys.shape)
        tags[rows] = np.argsort(-keys, axis=1, kind="stable")[:, :_MOST_TAGS]
    tags[np.arange(_MOST_TAGS) >= count[:, None]] = -1
    return tags


def _to_evening(time: Floats) -> Floats:
    """Move uniform times so that their density is ``1 + .6 cos(2 pi (hour - 20) / 24)``."""
    grid = np.linspace(0, 1, 100_001)
    turn = 2 * np.pi * _EVENING / 24
    mass = grid + _SWING / (2 * np.pi) * (np.sin(2 * np.pi * grid - turn) + np.sin(turn))
    day = np.floor(time)
    return np.asarray(day + np.minimum(np.interp(time - day, mass, grid), np.nextafter(1, 0)))


def _zipf_cumulative(size: int, exponent: float) -> Floats:
    weights = np.arange(1, size + 1.0) ** -exponent
    cumulative: Floats = np.cumsum(weights / weights.sum())
    return cumulative


def _inverse(cumulative: Floats, uniform: Floats) -> Ints:
    codes = np.searchsorted(cumulative, uniform, side="right").astype(np.int32)
    return np.minimum(codes, len(cumulative) - 1)


def _scaled(uniform: Floats, size: int) -> Ints:
    return (uniform * size).astype(np.int32)


def _sigmoid(x: Floats) -> Floats:
    out: Floats = 0.5 * (1 + np.tanh(0.5 * x))
    return out


def _pcg64(rng: np.random.Generator) -> np.random.PCG64:
    source = rng.bit_generator
    assert isinstance(source, np.random.PCG64)
    return source
