"""What many fields lack and which products bring it: columns beside the crops, all rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.schema import Column
from appliedpapers.plugins.agrosense.crop.fertiliser import (
    NUTRIENTS,
    OXIDES,
    grades_of,
    nutrient_stock,
    shares_of,
    targets,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.agrosense.columns import Feature
    from appliedpapers.plugins.agrosense.crop.config import FertiliserConfig

Floats = NDArray[np.float64]

_TOLERANCE = 1e-6
_SHOWN = 0.05

COLUMNS = (
    *(
        Column(
            f"lacks_{name.lower()}",
            "float64",
            f"{name} that the soil lacks at the yield goal of crop_1; empty without advice, test or unit",
            unit="kg/ha",
            nullable=True,
            minimum=0,
        )
        for name in NUTRIENTS
    ),
    Column("fertiliser", "string", "kg/ha of products for it, or why there are none; empty without advice"),
)


def fertiliser_columns(
    table: pa.Table, features: Sequence[Feature], crops: Sequence[str | None], options: FertiliserConfig
) -> dict[str, Any]:
    """Return :data:`COLUMNS` of some fields.

    Args:
        table: Rows with columns of the features.
        features: Inputs, of which those of a nutrient are soil tests.
        crops: Crop that is advised for each row; None without advice.
        options: Density, depth, efficiencies, products and targets.
    """
    import pyarrow as pa

    lacks, refusals = _lacks(table, features, crops, options)
    known = ~np.isnan(lacks)
    rates = products_for(np.where(known, lacks, 0.0), options)
    names = [name for name, _ in grades_of(options)]
    texts = []
    for row, crop in enumerate(crops):
        if crop is None:
            texts.append("")
        elif not known[row].any():
            texts.append(refusals[row] or "no recommendation: no soil test of available N, P or K")
        else:
            used = [
                f"{name} {rate:.1f}" for name, rate in zip(names, rates[row], strict=True) if rate > _SHOWN
            ]
            absent = [name for name, there in zip(NUTRIENTS, known[row], strict=True) if not there]
            without = f" (not measured: {', '.join(absent)})" if absent else ""
            texts.append((", ".join(used) or "nothing to add") + without)
    columns: dict[str, Any] = {
        f"lacks_{name.lower()}": pa.array(lacks[:, place], pa.float64(), mask=~known[:, place])
        for place, name in enumerate(NUTRIENTS)
    }
    return {**columns, "fertiliser": pa.array(texts, pa.string())}


def products_for(demand: Floats, options: FertiliserConfig) -> Floats:
    """Return kg/ha of each product at hand for a demand, ``(rows, products)``: of least mass where it is met.

    A plan of least mass uses no more products than there are nutrients, so all choices of so few are tried.

    Args:
        demand: kg/ha of N, P2O5 and K2O, not negative, ``(rows, 3)``.
        options: Products; bags are not rounded to.

    Raises:
        ConfigError: A product is not known.
    """
    from scipy.optimize import nnls

    grades = np.array([grade for _, grade in grades_of(options)], dtype=np.float64).T / 100
    best = np.full(len(demand), np.inf)
    found = np.zeros((len(demand), grades.shape[1]))
    some = [
        list(choice)
        for count in range(1, min(grades.shape) + 1)
        for choice in combinations(range(grades.shape[1]), count)
    ]
    scale = _TOLERANCE * np.maximum(1.0, demand.max(axis=1, initial=0.0))
    for choice in some:
        part = grades[:, choice]
        rates = demand @ np.linalg.pinv(part).T
        meets = (np.abs(rates @ part.T - demand).max(axis=1) <= scale) & (rates >= -scale[:, None]).all(
            axis=1
        )
        mass = rates.sum(axis=1)
        better = meets & (mass < best - scale)
        best[better] = mass[better]
        found[better] = 0.0
        found[np.ix_(better, choice)] = np.maximum(rates[better], 0.0)
    for row in np.flatnonzero(np.isinf(best)):
        # some nutrient cannot be met without another: the nearest that there is
        found[row] = nnls(grades, demand[row])[0]
    return found


def _lacks(
    table: pa.Table, features: Sequence[Feature], crops: Sequence[str | None], options: FertiliserConfig
) -> tuple[Floats, list[str]]:
    """Return what each row lacks of :data:`NUTRIENTS`, NaN where it is not known, and why it is not."""
    import pyarrow as pa

    known, shares = targets(options.targets), shares_of(options)
    lacks = np.full((table.num_rows, len(NUTRIENTS)), np.nan)
    uptake = np.full_like(lacks, np.nan)
    refusals = [""] * table.num_rows
    for row, crop in enumerate(crops):
        target = known.get(crop) if crop is not None else None
        if target is not None:
            uptake[row] = target.n, target.p2o5, target.k2o
        elif crop is not None:
            refusals[row] = f"no recommendation: no uptake figures of '{crop}'; give fertiliser.targets"
    for feature in features:
        if feature.nutrient is None or feature.name not in table.column_names:
            continue
        values = np.asarray(table.column(feature.name).cast(pa.float64()).to_numpy(), dtype=np.float64)
        factor, name = OXIDES[feature.nutrient]
        try:
            stock = nutrient_stock(1.0, feature.unit, options, feature.name) * factor
        except DataError as error:
            for place in np.flatnonzero(~np.isnan(values)).tolist():
                refusals[place] = refusals[place] or error.message.removesuffix(".")
            continue
        place = NUTRIENTS.index(name)
        lacks[:, place] = np.maximum(uptake[:, place] - values * stock * shares[feature.nutrient], 0.0)
    return lacks, refusals
