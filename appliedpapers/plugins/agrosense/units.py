"""Units of soil and weather: what they are called, and how one becomes another. Standard library only.

Sources of the factors: the definition of the units; P2O5 to P by the ratio of molar masses (2 x 30.974 /
141.94 = 0.4364), K2O to K likewise (2 x 39.098 / 94.196 = 0.8301).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MappingProxyType

from appliedpapers.core.errors import DataError

P_OF_P2O5 = 0.4364
K_OF_K2O = 0.8301

_NAMES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "mg/kg": ("mg/kg", "mgkg", "mgperkg", "mg_kg", "mgkg1", "mgkg-1", "ppm"),
        "g/kg": ("g/kg", "gkg", "gperkg", "g_kg", "gkg1", "gkg-1"),
        "%": ("%", "percent", "pct", "g/100g", "gper100g"),
        "fraction": ("fraction", "share", "ratio01"),
        "kg/ha": ("kg/ha", "kgha", "kgperha", "kg_ha", "kgha1", "kgha-1"),
        "°C": ("°c", "degc", "c", "celsius", "℃"),
        "°F": ("°f", "degf", "f", "fahrenheit", "℉"),
        "mm": ("mm", "millimetre", "millimeter", "mm/season", "mmperseason"),
        "inch": ("inch", "in", "inches"),
        "cm": ("cm",),
        "pH": ("ph", "-"),
    }
)

_BY_NAME = {name: unit for unit, names in _NAMES.items() for name in names}

_CONVERSIONS: MappingProxyType[tuple[str, str], Callable[[float], float]] = MappingProxyType(
    {
        ("%", "g/kg"): lambda value: value * 10.0,
        ("g/kg", "%"): lambda value: value / 10.0,
        ("mg/kg", "g/kg"): lambda value: value / 1000.0,
        ("g/kg", "mg/kg"): lambda value: value * 1000.0,
        ("%", "mg/kg"): lambda value: value * 10_000.0,
        ("mg/kg", "%"): lambda value: value / 10_000.0,
        ("fraction", "%"): lambda value: value * 100.0,
        ("%", "fraction"): lambda value: value / 100.0,
        ("°F", "°C"): lambda value: (value - 32.0) / 1.8,
        ("°C", "°F"): lambda value: value * 1.8 + 32.0,
        ("inch", "mm"): lambda value: value * 25.4,
        ("mm", "inch"): lambda value: value / 25.4,
    }
)


def unit_named(text: str) -> str | None:
    """Return the unit that a text means, such as ``mg_per_kg`` or ``degC``; None if it is none of ours."""
    bare = re.sub(r"[\s.]", "", text.strip().lower()).replace("_per_", "per")
    return _BY_NAME.get(bare) or _BY_NAME.get(bare.replace("_", ""))


def kg_per_ha(milligrams: float, density: float, depth: float) -> float:
    """Return the stock of a nutrient in kg/ha.

    Args:
        milligrams: Of the soil test, in mg/kg.
        density: Bulk density in g/cm³.
        depth: Of the sampled layer in cm.
    """
    return milligrams * density * depth * 0.1


def mg_per_kg(stock: float, density: float, depth: float) -> float:
    """Return a stock of kg/ha as the soil test in mg/kg; see :func:`kg_per_ha`."""
    return stock / (density * depth * 0.1)


def convert(
    value: float,
    unit: str,
    wanted: str,
    *,
    field: str,
    density: float | None = None,
    depth: float | None = None,
) -> float:
    """Return ``value`` in another unit.

    Args:
        value: A number.
        unit: Its unit, as :func:`unit_named` gives it.
        wanted: The other unit.
        field: What it is a value of, for the message.
        density: Bulk density in g/cm³; between mg/kg and kg/ha.
        depth: Of the sampled layer in cm; between mg/kg and kg/ha.

    Raises:
        DataError: One unit cannot become the other.
    """
    if unit == wanted:
        return value
    if (unit, wanted) in _CONVERSIONS:
        return _CONVERSIONS[unit, wanted](value)
    by_volume = {unit, wanted} == {"mg/kg", "kg/ha"}
    if by_volume and density is not None and depth is not None:
        return (kg_per_ha if unit == "mg/kg" else mg_per_kg)(value, density, depth)
    if by_volume:
        raise DataError(
            f"{field}: {unit} becomes {wanted} only with the bulk density and the depth of the layer.",
            hint="Give both, such as 1.3 g/cm³ and 20 cm.",
        )
    raise DataError(
        f"{field}: {unit} cannot become {wanted}.", hint=f"Give {field} in {wanted}, or in a unit like it."
    )
