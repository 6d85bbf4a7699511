"""Headers as people write them: which column a name means, and the unit that stands in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType

_UNIT = re.compile(r"[\[(]\s*([^\])]+?)\s*[\])]\s*$")
# what people call the column of an option of that name, in English and German, without accents
_NAMES = """
device: device dut unit serial sn lamp led laser bauteil gerat prufling nummer chip
id: id series sku item article artikel produkt product store filiale zahler meter
trial: trial recording session run messung aufnahme versuch
time: time t hours hour stunden stunde zeit elapsed duration dauer timestamp
ds: ds date datum day tag week woche month monat time timestamp zeit zeitstempel
y: y value wert sales demand quantity menge absatz umsatz load verbrauch kwh
value: value wert popt pout power leistung light flux licht relative change output
temperature: temperature temp temperatur tc tj ta degreesc
current: current strom if drive
voltage: voltage spannung vf
batch: batch wafer lot charge los
acc: acc accel accelerometer acceleration beschleunigung
gyr: gyr gyro gyroscope angular drehrate omega
mag: mag magnetometer magnetic magnetfeld
label: label crop culture kultur frucht class klasse target clicked click
group: farm site location betrieb hof standort region gruppe group
"""
MEANT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {line.partition(":")[0]: tuple(line.partition(":")[2].split()) for line in _NAMES.strip().splitlines()}
)
_UNITS_OF: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("°c", "c", "degc", "k"), "temperature"),
        **dict.fromkeys(("h", "hr", "std", "min", "s", "ms", "us", "µs", "ns", "d"), "time"),
        **dict.fromkeys(("ma", "a"), "current"),
        "v": "voltage",
    }
)
_SAME_UNIT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "°c": ("C", "degC"),
        "degc": ("C", "degC"),
        "std": ("h",),
        "hr": ("h",),
        "sec": ("s",),
        "µs": ("us",),
        "tage": ("d", "day"),
        "d": ("d", "day"),
        "days": ("d", "day"),
        "%": ("percent",),
        "mw": ("absolute",),
        "w": ("absolute",),
        "db": ("dB",),
        "m/s²": ("m/s2",),
        "m/s^2": ("m/s2",),
        "dps": ("deg/s",),
        "°/s": ("deg/s",),
    }
)


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a header without its unit: lower case, without accents.

    ``"BidPrice Höhe [mm]"`` is ``("bid", "price", "hohe")``.
    """
    bare = _UNIT.sub("", name)
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", bare)
    plain = unicodedata.normalize("NFKD", apart).encode("ascii", "ignore").decode().lower()
    return tuple(re.findall(r"[a-z]+|\d+", plain))


def unit_in(name: str) -> str | None:
    """Return what stands in brackets at the end of a header, such as ``"mA"``."""
    found = _UNIT.search(name)
    return found[1] if found else None


def unit_called(unit: str, choices: Sequence[str]) -> str | None:
    """Return the one of ``choices`` that a unit in a header means, or None."""
    wanted = (*_SAME_UNIT.get(unit.lower(), ()), unit)
    exact = next((choice for word in wanted for choice in choices if choice == word), None)
    return exact or next((choice for choice in choices if choice.lower() == unit.lower()), None)


def likeness(name: str, meaning: str) -> int:
    """Return how much a header looks like a meaning of :data:`MEANT`: 0 not at all, 3 by its whole name."""
    words, known = words_of(name), MEANT.get(meaning, (meaning,))
    if " ".join(words) in known:
        return 3
    unit = unit_in(name)
    if unit is not None and unit.lower() in _UNITS_OF:
        # a unit says more than one word among several
        return 2 if _UNITS_OF[unit.lower()] == meaning else 0
    return 1 if any(word in known for word in words) else 0


def match(names: Sequence[str], meanings: Sequence[str]) -> dict[str, str]:
    """Return the most likely column of each meaning, the clearest first; no column stands for two.

    Args:
        names: Headers.
        meanings: Keys of :data:`MEANT`, in the order in which they choose where likeness is equal.
    """
    ranked = sorted(
        (-likeness(name, meaning), place, number)
        for place, meaning in enumerate(meanings)
        for number, name in enumerate(names)
        if likeness(name, meaning)
    )
    found: dict[str, str] = {}
    for _, place, number in ranked:
        if meanings[place] not in found and names[number] not in found.values():
            found[meanings[place]] = names[number]
    return found


def axes(names: Sequence[str], meaning: str, letters: Sequence[str] = "xyz") -> tuple[str, ...] | None:
    """Return the columns of a vector, one an axis, or None where not every axis has exactly one."""
    known = MEANT.get(meaning, (meaning,))
    columns = []
    for letter in letters:
        fitting = [
            name
            for name in names
            if (words := words_of(name)) and any(w in known for w in words) and words[-1] == letter
        ]
        if len(fitting) != 1:
            return None
        columns += fitting
    return tuple(columns)
