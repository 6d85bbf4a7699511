"""Hourly electricity loads with known truth: every component, every fault and the best possible forecast.

Eight related loads over two years share one temperature and one hidden factor. With t in hours, h the hour
of the day and w the hour of the week, load i is::

    y = c (1 + g t / 8766) + a D(h; p) + b K(w) + u max(16 - T, 0) + v max(T - 22, 0) + l f + e

(growing level, two daily peaks, the weekend, heating, cooling, common factor, own noise). T, f and e are
first-order autoregressions around deterministic means, so the forecast with the least squared error is known
in closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliedpapers.plugins.frets.config import SimulatorConfig
from appliedpapers.plugins.frets.panel import SeriesPanel

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SENTINEL = -9999.0
"""What a faulty logger writes instead of a missing value."""

_START = np.datetime64("2022-01-01", "h")
_HOURS_A_YEAR = 8766.0
_HEATING_BELOW, _COOLING_ABOVE = 16.0, 22.0
_TEMPERATURE_PHI, _TEMPERATURE_SIGMA = 0.97, 0.7
_FACTOR_PHI, _NOISE_PHI, _NOISE_SIGMA = 0.9, 0.7, 0.02
_WARMEST_DAY = 200  # days after New Year: 20 July
_MISSING_RATE, _SENTINEL_RATE, _OUTLIER_RATE, _OUTLIER_SIGMAS = 0.01, 0.002, 0.001, 8.0
_erf = np.frompyfunc(math.erf, 1, 1)


@dataclass(frozen=True)
class LoadParameters:
    """The constants of the N series, each ``(N,)`` in units of load (``p`` in hours, ``g`` per year)."""

    c: Floats
    g: Floats
    a: Floats
    p: Floats
    b: Floats
    u: Floats
    v: Floats
    l: Floats  # noqa: E741  the symbol of the formula
    annual: float
    daily: float


@dataclass(frozen=True)
class Simulated:
    """Simulated loads and the truth about them.

    Attributes:
        panel: What a user would see, faults included.
        components: ``(T, N)`` arrays ``level daily weekly heating cooling common noise shift outliers``;
            their sum is the panel without missing values and sentinels.
        temperature: ``(T,)`` degrees Celsius; ``temperature_state`` is its random part z.
        temperature_state: ``(T,)``.
        factor: ``(T,)`` common factor f.
        missing: ``(T, N)`` truth of that fault; likewise ``sentinel`` and ``outlier``.
        sentinel: ``(T, N)``.
        outlier: ``(T, N)``.
        duplicated: ``(T,)``; rows that a local-time file holds twice.
        parameters: The constants of the formula.
        seed: The seed it was made with.
    """

    panel: SeriesPanel
    components: dict[str, Floats]
    temperature: Floats
    temperature_state: Floats
    factor: Floats
    missing: Bools
    sentinel: Bools
    outlier: Bools
    duplicated: Bools
    parameters: LoadParameters = field(repr=False)
    seed: int

    @property
    def truth(self) -> Floats:
        """Sum of all components, ``(T, N)``: the panel before values were lost or overwritten."""
        return _total(self.components)

    def table(self) -> pa.Table:
        """Return ``unique_id, ds, y`` as a logger's file holds them: repeated hours twice, gaps as null."""
        import pyarrow as pa

        repeats = np.where(self.duplicated, 2, 1)
        values = np.repeat(self.panel.values, repeats, axis=0)
        steps, n = values.shape
        y = values.T.ravel()
        return pa.table(
            {
                "unique_id": pa.array(np.repeat(self.panel.unique_ids, steps).tolist(), pa.string()),
                "ds": pa.array(np.tile(np.repeat(self.panel.ds, repeats), n), pa.timestamp("us")),
                "y": pa.array(y, pa.float64(), mask=np.isnan(y)),
            }
        )

    def oracle(self, cutoff: int, horizon: int) -> Floats:
        """Return the best forecast of rows ``cutoff .. cutoff + horizon - 1``, ``(horizon, N)``.

        It knows the formula and every state up to row ``cutoff - 1``, and nothing later.
        """
        forecast: Floats = self.oracles([cutoff], horizon)[0]
        return forecast

    def oracles(self, cutoffs: ArrayLike, horizon: int) -> Floats:
        """Return :meth:`oracle` for many cutoffs at once, ``(len(cutoffs), horizon, N)``.

        Raises:
            ValueError: A cutoff is not in ``1 .. T``.
        """
        cutoff = np.asarray(cutoffs, dtype=np.int64)
        if cutoff.size and (cutoff.min() < 1 or cutoff.max() > len(self.panel.ds)):
            raise ValueError(
                f"cutoffs must lie in 1..{len(self.panel.ds)}: the row before is the known state"
            )
        known = cutoff - 1
        step = np.arange(1, horizon + 1)
        rows = cutoff[:, None] + step - 1
        start = self.panel.ds[0]
        mean = _mean_temperature(rows, start, self.parameters)
        mean = mean + _TEMPERATURE_PHI**step * self.temperature_state[known, None]
        spread = np.sqrt((1 - _TEMPERATURE_PHI ** (2 * step)) / (1 - _TEMPERATURE_PHI**2))
        deviation = np.broadcast_to(_TEMPERATURE_SIGMA * spread, mean.shape)
        heating = expected_hinge(_HEATING_BELOW - mean, deviation)
        cooling = expected_hinge(mean - _COOLING_ABOVE, deviation)
        p = self.parameters
        out = _total(_calendar_parts(rows, start, p))
        out += heating[..., None] * p.u + cooling[..., None] * p.v
        out += (_FACTOR_PHI**step * self.factor[known, None])[..., None] * p.l
        out += (_NOISE_PHI**step)[None, :, None] * self.components["noise"][known, None, :]
        out += self.components["shift"][known, None, :]
        return out


def expected_hinge(mean: Floats, deviation: Floats) -> Floats:
    """Return ``E max(Y, 0)`` for ``Y ~ N(mean, deviation^2)``, element-wise, ``deviation > 0``."""
    z = mean / deviation
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    probability = 0.5 * (1 + np.asarray(_erf(z / math.sqrt(2)), dtype=np.float64))
    expected: Floats = mean * probability + deviation * density
    return expected


def simulate(wanted: SimulatorConfig, seed: int) -> Simulated:
    """Simulate hourly loads; a fault leaves the rest of the data as it is.

    A level shift is one lasting step of each series, by 15 to 30 % of its level, in the middle 60 %; 1 % of
    values go missing, 0.2 % become :data:`SENTINEL`, 0.1 % are off by 8 standard deviations of the series'
    own noise; for the repeated hour see :meth:`Simulated.table`.

    Args:
        wanted: Numbers of series N and hours T, and the faults.
        seed: The same seed gives the same bytes.
    """
    n_series, steps = wanted.series, wanted.steps
    # One stream for each purpose, so that a fault switched on leaves everything else as it was.
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(6)]
    parameters = _draw_parameters(streams[0], n_series)
    phi = np.array([_TEMPERATURE_PHI, _FACTOR_PHI] + [_NOISE_PHI] * n_series)
    sigma = np.concatenate([[_TEMPERATURE_SIGMA, 1.0], _NOISE_SIGMA * parameters.c])
    states = _autoregression(streams[1], phi, sigma, steps)
    ds = (_START + np.arange(steps)).astype("datetime64[us]")
    temperature = _mean_temperature(np.arange(steps), ds[0], parameters) + states[:, 0]
    components = _calendar_parts(np.arange(steps), ds[0], parameters)
    components["heating"] = np.maximum(_HEATING_BELOW - temperature, 0)[:, None] * parameters.u
    components["cooling"] = np.maximum(temperature - _COOLING_ABOVE, 0)[:, None] * parameters.v
    components["common"] = states[:, 1:2] * parameters.l
    components["noise"] = states[:, 2:]
    shape = (steps, n_series)
    components["shift"] = (
        _level_shift(streams[2], shape, parameters.c) if wanted.level_shift else np.zeros(shape)
    )
    outliers = _outliers(streams[3], shape, parameters.c) if wanted.outliers else np.zeros(shape)
    components["outliers"] = outliers
    values = _total(components)
    missing = _some(streams[4], shape, _MISSING_RATE if wanted.missing else 0.0)
    sentinel = _some(streams[5], shape, _SENTINEL_RATE if wanted.sentinel else 0.0) & ~missing
    values[missing] = np.nan
    values[sentinel] = SENTINEL
    duplicated = _clock_changes(ds) if wanted.duplicated_hour else np.zeros(steps, dtype=np.bool_)
    width = len(str(n_series))
    names = tuple(f"load-{i + 1:0{width}d}" for i in range(n_series))
    return Simulated(
        panel=SeriesPanel(unique_ids=names, ds=ds, values=values, freq="h"),
        components=components,
        temperature=temperature,
        temperature_state=states[:, 0],
        factor=states[:, 1],
        missing=missing,
        sentinel=sentinel,
        outlier=outliers != 0,
        duplicated=duplicated,
        parameters=parameters,
        seed=seed,
    )


def _total(components: dict[str, Floats]) -> Floats:
    total: Floats = np.sum(list(components.values()), axis=0)
    return total


def _draw_parameters(rng: np.random.Generator, n: int) -> LoadParameters:
    annual, daily = rng.uniform(8, 14), rng.uniform(3, 6)
    c = np.exp(rng.uniform(math.log(5), math.log(50), n))
    return LoadParameters(
        c=c,
        g=rng.uniform(-0.03, 0.06, n),
        a=rng.uniform(0.15, 0.35, n) * c,
        p=rng.uniform(-1, 1, n),
        b=rng.uniform(0.05, 0.2, n) * c,
        u=rng.uniform(0.005, 0.02, n) * c,
        v=rng.uniform(0, 0.03, n) * c,
        l=rng.uniform(0.01, 0.03, n) * c,
        annual=float(annual),
        daily=float(daily),
    )


def _autoregression(rng: np.random.Generator, phi: Floats, sigma: Floats, steps: int) -> Floats:
    """Return ``(steps, K)`` first-order autoregressions that start in their stationary distribution."""
    states = rng.standard_normal((steps, len(phi))) * sigma
    states[0] /= np.sqrt(1 - phi**2)
    for t in range(1, steps):
        states[t] += phi * states[t - 1]
    return states


def _mean_temperature(rows: NDArray[np.int64], start: np.datetime64, p: LoadParameters) -> Floats:
    warmest = (start.astype("datetime64[Y]").astype("datetime64[D]") + _WARMEST_DAY).astype("datetime64[h]")
    t0 = int((warmest - start.astype("datetime64[h]")).astype(np.int64))
    hour = (rows + int(start.astype("datetime64[h]").astype(np.int64))) % 24
    annual = p.annual * np.cos(2 * np.pi * (rows - t0) / _HOURS_A_YEAR)
    mean: Floats = 12.0 + annual + p.daily * np.cos(2 * np.pi * (hour - 15) / 24)
    return mean


def _calendar_parts(rows: NDArray[np.int64], start: np.datetime64, p: LoadParameters) -> dict[str, Floats]:
    """Return the parts that are known for ever, each ``(*rows.shape, N)``."""
    since_1970 = rows + int(start.astype("datetime64[h]").astype(np.int64))
    week_hour = (since_1970 + 72) % 168  # 1 January 1970 was a Thursday; weeks start on Monday
    return {
        "level": p.c * (1 + p.g * rows[..., None] / _HOURS_A_YEAR),
        "daily": p.a * _daily_peaks(p.p)[since_1970 % 24],
        "weekly": p.b * _weekend()[week_hour][..., None],
    }


def _daily_peaks(shift: Floats) -> Floats:
    """Return D: two bumps on the 24 h circle, at 8 and 19 h plus the series' shift, ``(24, N)``."""
    profile = np.zeros((24, len(shift)))
    for centre, width in ((8.0, 2.5), (19.0, 3.0)):
        distance = (np.arange(24)[:, None] - centre - shift + 12) % 24 - 12
        profile += np.exp(-0.5 * (distance / width) ** 2)
    return profile


def _weekend() -> Floats:
    """Return K: -1 on the weekend, averaged over three hours on the circle of the week, ``(168,)``."""
    flat = np.where(np.arange(168) >= 120, -1.0, 0.0)
    return (np.roll(flat, 1) + flat + np.roll(flat, -1)) / 3


def _level_shift(rng: np.random.Generator, shape: tuple[int, int], level: Floats) -> Floats:
    steps, n = shape
    at = (steps * rng.uniform(0.2, 0.8, n)).astype(np.int64)
    size = rng.uniform(0.15, 0.3, n) * rng.choice([-1.0, 1.0], n) * level
    return np.where(np.arange(steps)[:, None] >= at, size, 0.0)


def _outliers(rng: np.random.Generator, shape: tuple[int, int], level: Floats) -> Floats:
    sigma = _NOISE_SIGMA * level / math.sqrt(1 - _NOISE_PHI**2)
    sign = rng.choice([-1.0, 1.0], shape)
    return np.where(_some(rng, shape, _OUTLIER_RATE), sign * _OUTLIER_SIGMAS * sigma, 0.0)


def _some(rng: np.random.Generator, shape: tuple[int, int], rate: float) -> Bools:
    """Choose exactly ``round(rate * size)`` cells, at least one unless the rate is zero."""
    chosen = np.zeros(shape[0] * shape[1], dtype=np.bool_)
    count = max(1, round(rate * chosen.size)) if rate else 0
    chosen[rng.choice(chosen.size, size=count, replace=False)] = True
    return chosen.reshape(shape)


def _clock_changes(ds: NDArray[np.datetime64]) -> Bools:
    """Mark 02:00 on the last Sunday of October, the hour that local time runs through twice."""
    day = ds.astype("datetime64[D]")
    month = day.astype("datetime64[M]").astype(np.int64) % 12
    day_of_month = (day - day.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1
    sunday = (day.astype(np.int64) + 3) % 7 == 6
    hour = ds.astype("datetime64[h]").astype(np.int64) % 24
    return np.asarray((month == 9) & (day_of_month >= 25) & sunday & (hour == 2), dtype=np.bool_)
