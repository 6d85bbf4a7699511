"""From a soil test to a deficit in kg/ha, and from a deficit to products: arithmetic that names its sources.

stock = test (mg/kg) x bulk density (g/cm³) x depth (cm) x 0.1; available = stock x efficiency; deficit =
max(0, uptake at the yield goal - available). Products are the non-negative least-squares solution of the
demand in N, P2O5 and K2O, of least mass among equals, then of least cost.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import ConfigError, DataError, did_you_mean
from appliedpapers.plugins.agrosense.crop.config import FertiliserConfig
from appliedpapers.plugins.agrosense.units import K_OF_K2O, P_OF_P2O5, convert, kg_per_ha

Floats = NDArray[np.float64]

NUTRIENTS = ("N", "P2O5", "K2O")
LIME_BELOW = 5.5
DEPTH_SOURCE = "definition: 1 ha x depth x bulk density"

GRADES: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        **{"urea": (46, 0, 0), "DAP": (18, 46, 0), "TSP": (0, 46, 0), "SSP": (0, 16, 0)},
        **{"MOP": (0, 0, 60), "SOP": (0, 0, 50), "CAN": (27, 0, 0), "NPK": (10, 26, 26)},
    }
)
"""Products and their N, P2O5 and K2O in %."""

OXIDES = {"N": (1.0, "N"), "P": (1 / P_OF_P2O5, "P2O5"), "K": (1 / K_OF_K2O, "K2O")}
"""What one of an element is of its oxide, and the name of that."""

_TOLERANCE = 1e-6
_MASS_PRICE = 1e-6


@dataclass(frozen=True)
class Target:
    """What a crop takes up at a yield, in kg/ha.

    Attributes:
        crop: Its name.
        goal: The yield in t/ha.
        n: Nitrogen.
        p2o5: Phosphorus as P2O5.
        k2o: Potassium as K2O.
        source: Where the figures come from.
    """

    crop: str
    goal: float
    n: float
    p2o5: float
    k2o: float
    source: str


@dataclass(frozen=True)
class Deficit:
    """One nutrient of one field.

    Attributes:
        nutrient: ``N``, ``P2O5`` or ``K2O``.
        stock: In the layer, kg/ha.
        available: To the crop, kg/ha.
        uptake: At the yield goal, kg/ha.
        missing: Not covered by the soil, kg/ha.
        source: Of the figures.
    """

    nutrient: str
    stock: float
    available: float
    uptake: float
    missing: float
    source: str


@dataclass(frozen=True)
class Plan:
    """Products for a demand.

    Attributes:
        rates: kg/ha of each product that is used.
        bags: Whole bags a ha, where a bag size is known.
        over: Nutrient that the products bring beyond the demand, kg/ha.
        short: Nutrient that no product at hand brings, kg/ha.
    """

    rates: Mapping[str, float]
    bags: Mapping[str, int]
    over: Mapping[str, float]
    short: Mapping[str, float]


def shares_of(options: FertiliserConfig) -> dict[str, float]:
    """Return the share of the stock that a crop takes up, of ``N``, ``P`` and ``K``."""
    return {
        "N": options.nitrogen_efficiency,
        "P": options.phosphorus_efficiency,
        "K": options.potassium_efficiency,
    }


def grades_of(options: FertiliserConfig) -> list[tuple[str, tuple[float, float, float]]]:
    """Return the products at hand with their N, P2O5 and K2O in %.

    Raises:
        ConfigError: A product is not known.
    """
    names = [_product(name) for name in options.products]
    return [(name, GRADES[name]) for name in names]


def nutrient_stock(test: float, unit: str | None, options: FertiliserConfig, field: str) -> float:
    """Return the stock of a nutrient in kg/ha.

    Args:
        test: Of the soil test.
        unit: Its unit, as :func:`~appliedpapers.plugins.agrosense.units.unit_named` gives it.
        options: Density and depth.
        field: Name of the column, for the message.

    Raises:
        DataError: The unit is not known or is none of a soil test.
    """
    if unit is None:
        raise DataError(
            f"no recommendation: the unit of '{field}' is not known.",
            hint=f"Say it in the header, such as '{field} (mg/kg)', or --set data.units.",
        )
    if unit == "kg/ha":
        return test
    milligrams = convert(test, unit, "mg/kg", field=f"'{field}'")
    return kg_per_ha(milligrams, options.density, options.depth)


def deficits(
    tests: Mapping[str, tuple[float, str | None, str]], target: Target, options: FertiliserConfig
) -> tuple[Deficit, ...]:
    """Return what each nutrient lacks.

    Args:
        tests: Value, unit and column of ``N``, ``P`` and ``K``; those that were not measured are absent.
        target: What the crop takes up.
        options: Density, depth and efficiencies.

    Raises:
        DataError: A unit is not known.
    """
    shares, found = shares_of(options), []
    for element, (value, unit, field) in tests.items():
        factor, name = OXIDES[element]
        stock = nutrient_stock(value, unit, options, field) * factor
        available = stock * shares[element]
        uptake = {"N": target.n, "P2O5": target.p2o5, "K2O": target.k2o}[name]
        source = f"{target.source}; efficiency {shares[element]:g} (default, editable); {DEPTH_SOURCE}"
        found.append(Deficit(name, stock, available, uptake, max(0.0, uptake - available), source))
    return tuple(found)


def plan(
    demand: Sequence[float], options: FertiliserConfig, prices: Mapping[str, float] | None = None
) -> Plan:
    """Return rates of the products at hand for a demand of N, P2O5 and K2O.

    Args:
        demand: kg/ha, ``(3,)``, not negative.
        options: Products and bag size.
        prices: Of a kg of each product; breaks ties between plans of one mass.

    Raises:
        ConfigError: A product is not known.
    """
    known = grades_of(options)
    names = [name for name, _ in known]
    grades = np.array([grade for _, grade in known], dtype=np.float64).T / 100
    wanted = np.asarray(demand, dtype=np.float64)
    rates = _least(grades, wanted, np.array([(prices or {}).get(name, 0.0) for name in names]))
    brought = grades @ rates
    used = {name: float(rate) for name, rate in zip(names, rates, strict=True) if rate > _TOLERANCE}
    bags = {name: round(rate / options.bag) for name, rate in used.items()} if options.bag else {}
    if bags:
        brought = grades @ np.array([bags.get(name, 0) * options.bag for name in names])
    gap = brought - wanted
    return Plan(
        used,
        bags,
        {name: float(more) for name, more in zip(NUTRIENTS, gap, strict=True) if more > _TOLERANCE},
        {name: float(-less) for name, less in zip(NUTRIENTS, gap, strict=True) if less < -_TOLERANCE},
    )


def lime_note(ph: float | None) -> str | None:
    """Return what is to be said of acid soil; None from pH 5.5 on, or where it was not measured."""
    if ph is None or np.isnan(ph) or ph >= LIME_BELOW:
        return None
    return (
        f"pH {ph:g} is below {LIME_BELOW:g}: ask for a lime requirement (buffer pH) before fertilising; "
        "phosphorus is fixed in acid soil"
    )


def targets(path: str | None) -> dict[str, Target]:
    """Return what crops take up, by name: the user's table, or the illustrative one of the package.

    Raises:
        DataError: The user's table is absent or lacks a column or a number.
    """
    if path is None:
        text = Path(__file__).with_name("targets.json").read_text(encoding="utf-8")
        rows: list[dict[str, Any]] = json.loads(text)["targets"]
        return {row["crop"]: Target(**row) for row in rows}
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{path}: no such file.", hint="Check the option fertiliser.targets.")
    with file.open(encoding="utf-8-sig", newline="") as lines:
        read = list(csv.DictReader(lines))
    found = {}
    for number, row in enumerate(read, start=1):
        found[str(row.get("crop", "")).strip()] = _target(row, file.name, number)
    return found


def _target(row: Mapping[str, Any], source: str, number: int) -> Target:
    values = {}
    for name in ("yield", "n", "p2o5", "k2o"):
        try:
            values[name] = float(row[name])
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{source}, column '{name}', row {number}: expected a number.",
                hint="Columns: crop, yield (t/ha), n, p2o5, k2o (kg/ha), source.",
            ) from None
    told = str(row.get("source") or "").strip()
    if not told:
        raise DataError(
            f"{source}, column 'source', row {number}: no source.", hint="Say where the figures come from."
        )
    goal, n, p2o5, k2o = values.values()
    return Target(str(row["crop"]).strip(), goal, n, p2o5, k2o, told)


def _product(name: str) -> str:
    known = {one.lower(): one for one in GRADES}
    if name.lower() not in known:
        raise ConfigError(
            f"option 'fertiliser.products': '{name}' is not known.", hint=did_you_mean(name, GRADES)
        )
    return known[name.lower()]


def _least(grades: Floats, wanted: Floats, prices: Floats) -> Floats:
    """Return rates with the smallest gap to the demand; among equals of least mass, then of least cost."""
    from scipy.optimize import linprog, nnls

    _, residual = nnls(grades, wanted)
    if residual > _TOLERANCE * max(1.0, float(wanted.max(initial=0.0))):
        # some nutrient cannot be met without another: the nearest that there is
        return np.asarray(nnls(grades, wanted)[0])
    cost = 1.0 + _MASS_PRICE * prices
    found = linprog(cost, A_eq=grades, b_eq=wanted, method="highs")
    return np.asarray(found.x if found.status == 0 else nnls(grades, wanted)[0], dtype=np.float64)
