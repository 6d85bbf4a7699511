"""The simulator of sites, soil, weather and crops: seeded, offline, with known truth.

Every stream of random numbers has a name of its own, so that pictures and spectra of fields can be drawn or
left out without another number in the table. All ranges are illustrative textbook values.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.config import SimulatorConfig
from appliedpapers.plugins.agrosense.simulator_crops import CROPS, chances, suitability
from appliedpapers.plugins.agrosense.soils import SOILS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

VARIABLES = ("ph", "nitrogen", "phosphorus", "potassium", "organic_carbon", "clay")
WEATHER = ("temperature", "humidity", "rainfall")

_PH_SHIFT = {
    **{"arid": 1.4, "black": 1.1, "alluvial": 0.6, "yellow": -0.3},
    **{"red": -0.4, "mountain": -0.7, "laterite": -1.1},
}
_CARBON_SHIFT = {"black": 0.4, "mountain": 0.4, "arid": -0.6}
_CLAY_SHIFT = {"black": 1.0, "arid": -1.0}
_CORRELATIONS = {
    **{("nitrogen", "organic_carbon"): 0.85, ("potassium", "clay"): 0.4, ("ph", "phosphorus"): 0.2},
    **{("phosphorus", "potassium"): 0.25, ("nitrogen", "phosphorus"): 0.2},
}
_OTHERWISE = 0.05
_SITE_SPREAD = 0.5


@dataclass(frozen=True)
class Fields:
    """Simulated fields; every array has one entry a field, ordered by site.

    Attributes:
        site: Number of the site.
        soil_class: Index into :data:`~appliedpapers.plugins.agrosense.soils.SOILS`.
        ph: Of the soil.
        nitrogen: Total nitrogen in g/kg.
        phosphorus: Available phosphorus in mg/kg.
        potassium: Available potassium in mg/kg.
        organic_carbon: In %.
        clay: In %.
        organic_score: Organic carbon in standard deviations, which darkens the picture of a soil.
        moisture: Of the topsoil when it was photographed or measured, 0 to 1.
        temperature: Mean of the season in °C.
        humidity: Relative, in %.
        rainfall: Of the season in mm.
        crop: Index into :data:`~appliedpapers.plugins.agrosense.simulator_crops.CROPS`.
        chances: True probability of each crop, label noise included, ``(fields, 14)``.
    """

    site: Integers
    soil_class: Integers
    ph: Floats
    nitrogen: Floats
    phosphorus: Floats
    potassium: Floats
    organic_carbon: Floats
    clay: Floats
    organic_score: Floats
    moisture: Floats
    temperature: Floats
    humidity: Floats
    rainfall: Floats
    crop: Integers
    chances: Floats

    def __len__(self) -> int:
        return len(self.site)

    @property
    def bayes_accuracy(self) -> float:
        """Share of the fields whose crop is the likeliest by the true probabilities: nobody does better."""
        return float(np.mean(self.chances.argmax(axis=1) == self.crop))

    def names(self) -> list[str]:
        """Return a name a field, such as ``s03-f017``."""
        number = np.concatenate([np.arange(count) for count in np.bincount(self.site)])
        return [f"s{site:02d}-f{field:03d}" for site, field in zip(self.site, number, strict=True)]


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random numbers of one purpose; those of others are not felt.

    Args:
        seed: The one seed of the run.
        name: The purpose, such as ``"pictures"``.
    """
    return np.random.default_rng([seed, *hashlib.sha256(name.encode()).digest()[:8]])


def simulate(config: SimulatorConfig, seed: int) -> Fields:
    """Draw sites and their fields.

    Args:
        config: How many.
        seed: The same seed gives the same fields.
    """
    rng = stream(seed, "sites")
    sizes = rng.integers(config.fields_from, max(config.fields_from, config.fields_to) + 1, config.sites)
    site = np.repeat(np.arange(config.sites), sizes)
    heat, wet = rng.uniform(8, 30, config.sites), np.exp(rng.normal(6.6, 0.5, config.sites))
    soil = _mixed(rng.integers(0, len(SOILS), config.sites)[site], config.mixed_soils, seed)
    priors = rng.dirichlet(np.full(len(CROPS), 2.0), config.sites)[site]
    shifts = rng.normal(0, _SITE_SPREAD, (config.sites, len(VARIABLES)))[site]
    scores = stream(seed, "soil").normal(size=(len(site), len(VARIABLES))) @ _factor().T + shifts
    values = _marginals(scores, soil)
    sky = stream(seed, "weather")
    temperature = sky.normal(heat[site], 1.5)
    rainfall = wet[site] * np.exp(sky.normal(0, 0.25, len(site)))
    humidity = np.clip(35 + 0.02 * rainfall + sky.normal(0, 8, len(site)), 15, 98)
    true = chances(suitability(values, soil, temperature, rainfall), priors)
    true = (1 - config.label_noise) * true + config.label_noise / len(CROPS)
    crop = _drawn(true, stream(seed, "crops"))
    return Fields(
        site=site,
        soil_class=soil,
        **values,
        organic_score=scores[:, VARIABLES.index("organic_carbon")],
        moisture=stream(seed, "moisture").uniform(0, 1, len(site)),
        temperature=temperature,
        humidity=humidity,
        rainfall=rainfall,
        crop=crop,
        chances=true,
    )


def lose(values: Floats, share: float, seed: int) -> Floats:
    """Return ``values`` with a share of the cells missing at random, as NaN; any shape."""
    lost = stream(seed, "missing").random(values.shape) < share
    return np.where(lost, np.nan, values)


def _mixed(soil: Integers, share: float, seed: int) -> Integers:
    """Return soil classes ``(fields,)`` of which a share is drawn for each field by itself."""
    rng = stream(seed, "mixed soils")
    return np.where(rng.random(len(soil)) < share, rng.integers(0, len(SOILS), len(soil)), soil)


def _factor() -> Floats:
    """Return the matrix that turns independent normal numbers into correlated ones."""
    size = len(VARIABLES)
    wanted = np.full((size, size), _OTHERWISE)
    np.fill_diagonal(wanted, 1.0)
    for (one, other), value in _CORRELATIONS.items():
        places = VARIABLES.index(one), VARIABLES.index(other)
        wanted[places] = wanted[places[::-1]] = value
    roots, vectors = np.linalg.eigh(wanted)
    near = vectors @ np.diag(np.maximum(roots, 1e-6)) @ vectors.T
    scale = np.sqrt(np.diag(near))
    return np.linalg.cholesky(near / np.outer(scale, scale))


def _marginals(scores: Floats, soil: Integers) -> dict[str, Floats]:
    g = dict(zip(VARIABLES, scores.T, strict=True))
    ph, carbon, clay = (_shift(table, soil) for table in (_PH_SHIFT, _CARBON_SHIFT, _CLAY_SHIFT))
    return {
        "ph": np.clip(6.3 + ph + 0.7 * g["ph"], 4, 9),
        "nitrogen": np.exp(0.1 + 0.5 * g["nitrogen"]),
        "phosphorus": np.exp(2.5 + 0.7 * g["phosphorus"]),
        "potassium": np.exp(5.0 + 0.5 * g["potassium"]),
        "organic_carbon": np.exp(0.5 * g["organic_carbon"] + carbon),
        "clay": 100 / (1 + np.exp(0.9 - 0.8 * g["clay"] - clay)),
    }


def _shift(table: dict[str, float], soil: Integers) -> Floats:
    return np.array([table.get(name, 0.0) for name in SOILS])[soil]


def _drawn(chances_: Floats, rng: np.random.Generator) -> Integers:
    ends = np.cumsum(chances_, axis=1)
    return np.asarray((rng.random((len(ends), 1)) * ends[:, -1:] > ends).sum(axis=1), dtype=np.int64)
