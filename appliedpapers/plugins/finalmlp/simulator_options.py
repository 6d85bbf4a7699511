"""What the click-log simulator can be asked for. Light: configurations hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from appliedpapers.core.errors import ConfigError

MAIN = ("user", "item", "country", "category", "brand", "device", "hour", "referrer")
"""Categorical fields with an effect of their own."""

PAIRS = (
    ("user", "category"),
    ("item", "country"),
    ("device", "category"),
    ("hour", "category"),
    ("referrer", "brand"),
)
"""Pairs of fields whose product has an effect."""

INFORMATIVE = (*MAIN, "position", "price", "age")
NOISE = ("noise_10", "noise_100", "noise_1000", "noise_5000")
"""Fields that are independent of everything else; the name says how many tokens each has."""

RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "rows": (2_000, 50_000_000),
        "days": (1, 60),
        "users": (100, 1_000_000),
        "items": (50, 1_000_000),
        "a_user": (0.5, 1.4),
        "a_item": (0.5, 1.4),
        "cold_users": (0.0, 0.5),
        "cold_items": (0.0, 0.5),
        "click_rate": (0.001, 0.5),
        "main": (0.0, 2.0),
        "inter": (0.0, 3.0),
        "tri": (0.0, 2.0),
        "drift": (0.0, 2.0),
    }
)
"""Smallest and largest value of every option that is a number."""

VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "additive": {"inter": 0.0, "tri": 0.0},
        "cold": {"cold_items": 0.4},
        "drift": {"drift": 1.5},
        "rare": {"click_rate": 0.005},
        "hard": {"rows": 100_000, "users": 5_000, "items": 2_000, "inter": 1.2},
    }
)
"""Named changes of the defaults. Nothing learns the interactions of ``hard``; ``additive`` has none."""


@dataclass(frozen=True)
class SimulatorOptions:
    """What to simulate; :data:`RANGES` holds the bounds.

    Attributes:
        rows: Impressions N.
        days: Length T of the log.
        users: Number of users U.
        items: Number of items I.
        a_user: Zipf exponent of the users' popularity.
        a_item: Zipf exponent of the items' popularity.
        cold_users: Share of users born at a uniform time in (0, T); before, no row has them.
        cold_items: Share of items born so.
        diurnal: Traffic follows ``1 + .6 cos(2 pi (hour - 20) / 24)`` instead of a constant. Off by default,
            as in the figures that the simulator was measured with; it moves times and changes no other draw.
        click_rate: Mean probability of the sample.
        main: Scale of the additive part.
        inter: Scale of the pairwise products.
        tri: Scale of the product of three.
        drift: Scale of the items' linear change over time.

    Raises:
        ConfigError: A value is outside its range.
    """

    rows: int = 200_000
    days: int = 10
    users: int = 1_000
    items: int = 500
    a_user: float = 0.6
    a_item: float = 0.8
    cold_users: float = 0.10
    cold_items: float = 0.15
    diurnal: bool = False
    click_rate: float = 0.2
    main: float = 0.7
    inter: float = 1.6
    tri: float = 0.5
    drift: float = 0.4

    def __post_init__(self) -> None:
        for option in fields(self):
            low, high = RANGES.get(option.name, (0, 1))
            value = getattr(self, option.name)
            if not low <= value <= high:
                raise ConfigError(
                    f"simulator option '{option.name}': {value!r} is not in {low} .. {high}.",
                    hint="Choose a value in the range.",
                )
