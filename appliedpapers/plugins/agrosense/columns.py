"""Columns that people send: names, units, legal ranges, and the words that others use for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal, Self

from appliedpapers.core.schema import Column
from appliedpapers.plugins.agrosense.units import unit_named

Kind = Literal["number", "category"]

COLOURS = ("red", "redbrown", "black", "gray", "darkbrown", "yellow", "brown", "other")
"""Soil colours as the Ethiopian table has them, after its 45 spellings were joined."""

_COLOUR_WORDS = (
    *((word, "redbrown") for word in ("reddis", "redish", "red brown", "redishbrown")),
    *(("red", "red"), ("black", "black"), ("gray", "gray"), ("grey", "gray")),
    *(("dark", "darkbrown"), ("yellow", "yellow"), ("brown", "brown")),
)


@dataclass(frozen=True)
class Feature:
    """One input of a crop recommender.

    Attributes:
        name: As it stands in tables.
        kind: ``number`` or ``category``.
        unit: Of the values; None where it is not known.
        minimum: Smallest value that can be.
        maximum: Largest value that can be.
        categories: The values of a category.
        description: For people.
        nutrient: ``N``, ``P`` or ``K`` where it is an available nutrient that fertiliser adds.
    """

    name: str
    kind: Kind = "number"
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    description: str = ""
    nutrient: str | None = None

    def column(self) -> Column:
        """Return the column of the input schema; a missing value is legal."""
        if self.kind == "category":
            return Column(self.name, "string", self.description, nullable=True, required=False)
        return Column(
            self.name,
            "float64",
            self.description,
            unit=self.unit,
            nullable=True,
            required=False,
            minimum=self.minimum,
            maximum=self.maximum,
            infinity="refuse",
        )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Rebuild a feature from :meth:`to_json`."""
        return cls(**{**document, "categories": tuple(document["categories"])})


_UNKNOWN = "unit not stated"

KNOWN: MappingProxyType[str, tuple[Feature, tuple[str, ...]]] = MappingProxyType(
    {
        feature.name: (feature, aliases)
        for feature, aliases in (
            (Feature("ph", "number", "pH", 0, 14, (), "acidity of the soil"), ("soilph", "phvalue")),
            (
                Feature("nitrogen", "number", None, 0, None, (), "nitrogen of the soil test", "N"),
                ("n", "availablen", "availablenitrogen", "nh4no3n", "mineraln"),
            ),
            (
                Feature("phosphorus", "number", None, 0, None, (), "phosphorus of the soil test", "P"),
                ("p", "availablep", "olsenp", "phosphorous", "phosphor"),
            ),
            (
                Feature("potassium", "number", None, 0, None, (), "potassium of the soil test", "K"),
                ("k", "availablek", "exchangeablek"),
            ),
            (
                Feature("total_nitrogen", "number", "g/kg", 0, 100, (), "total nitrogen of the soil"),
                ("totaln", "tn", "nt"),
            ),
            (
                Feature("organic_carbon", "number", "%", 0, 60, (), "organic carbon of the soil"),
                ("oc", "soc", "corg"),
            ),
            (Feature("clay", "number", "%", 0, 100, (), "clay of the soil"), ("clayshare",)),
            (
                Feature("temperature", "number", "°C", -30, 60, (), "mean air temperature of the season"),
                ("temp", "airtemperature", "t"),
            ),
            (Feature("humidity", "number", "%", 0, 100, (), "relative humidity of the air"), ("rh",)),
            (
                Feature("rainfall", "number", "mm", 0, 15_000, (), "rain of the season"),
                ("rain", "precipitation", "precip"),
            ),
            (Feature("zn", "number", None, 0, None, (), "zinc of the soil test"), ("zinc",)),
            (Feature("s", "number", None, 0, None, (), "sulphur of the soil test"), ("sulphur", "sulfur")),
            (
                Feature("soil_colour", "category", None, None, None, (), "colour of the soil"),
                ("soilcolor", "soilcolour", "colour", "color"),
            ),
        )
    }
)
"""What is known of each name, with other words for it (letters and digits only, lower case)."""

_BY_ALIAS = {
    alias: name for name, (_, aliases) in KNOWN.items() for alias in (name.replace("_", ""), *aliases)
}
_WITH_UNIT = re.compile(r"^(.*?)\s*[\(\[]\s*([^\)\]]*)\s*[\)\]]\s*$")
_UNIT_ENDING = re.compile(
    r"^(.*?)_((?:mg|g|kg)_?(?:per_?)?(?:kg|ha)|ppm|percent|pct|mm|inch|deg[cf]|[cf])$", re.I
)


def split_header(header: str) -> tuple[str, str | None]:
    """Return the name in a header and the text of its unit: ``P (mg/kg)``, ``k_mg_kg`` or just ``ph``."""
    match = _WITH_UNIT.match(header.strip().lstrip("\ufeff")) or _UNIT_ENDING.match(header.strip())
    if match is None or not match[1]:
        return header.strip().lstrip("\ufeff"), None
    return match[1].strip(), match[2].strip()


def known_as(name: str) -> Feature | None:
    """Return what is known of a column by its name, whatever the spelling; None if nothing is."""
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    found = _BY_ALIAS.get(key)
    return None if found is None else KNOWN[found][0]


def unit_of(text: str | None) -> str | None:
    """Return the unit of a header's text; None where there is none or it is not one of ours."""
    return None if not text else unit_named(text)


def colour_class(text: str) -> str:
    """Return the class of a soil colour that was written by hand, such as ``Yellowish brown``."""
    lower = text.lower()
    return next((found for word, found in _COLOUR_WORDS if word in lower), "other")


def features_to_json(features: Iterable[Feature]) -> list[dict[str, Any]]:
    """Return a JSON form of features."""
    return [feature.to_json() for feature in features]
