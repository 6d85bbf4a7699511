"""Tables as people send them: any header, units in the header or in the cell, missing values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.schema import TableSchema
from appliedpapers.core.tables import notes_of, read_table
from appliedpapers.core.validation import check
from appliedpapers.plugins.agrosense.columns import (
    Feature,
    colour_class,
    known_as,
    split_header,
    unit_of,
)
from appliedpapers.plugins.agrosense.units import convert, unit_named

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = ("label", "crop", "croplabel", "target", "culture")
GROUPS = ("site", "farm", "location", "district", "region", "village", "group", "fieldgroup", "zone")
IDS = ("id", "fieldid", "sample", "sampleid", "plot", "plotid", "sampleno", "row")
IMAGES = ("image", "photo", "picture", "imagepath", "file")

MOST_CATEGORIES = 50

_NUMBER_WITH_UNIT = re.compile(r"^\s*([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([^\d\s].*)$")
_NOT_GIVEN = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?", "missing"})


@dataclass(frozen=True)
class Read:
    """A table under the names and in the units that models work with.

    Attributes:
        table: Features, and the special columns that were found: ``id``, ``crop``, ``group``, ``image``.
        features: The inputs, in the order of the file.
        notes: What a person should know of how it was read.
    """

    table: pa.Table
    features: tuple[Feature, ...]
    notes: tuple[str, ...] = ()

    @property
    def has(self) -> frozenset[str]:
        """Names of the columns that are there."""
        return frozenset(self.table.column_names)


@dataclass(frozen=True)
class Wanted:
    """Which columns of a file are special; None looks for the usual names.

    Attributes:
        label: Column with the crop.
        group: Column whose rows belong together.
        units: Units of columns whose header does not say them, by header or name.
        density: Bulk density in g/cm³, between kg/ha and mg/kg.
        depth: Of the layer in cm, likewise.
    """

    label: str | None = None
    group: str | None = None
    units: Mapping[str, str] | None = None
    density: float | None = None
    depth: float | None = None


def open_table(path: Path) -> pa.Table:
    """Read a CSV, XLSX, Parquet, JSON lines or Arrow file.

    Raises:
        DataError: It is absent, empty, damaged or of an unknown format.
    """
    return read_table(path)


def read_soil_table(raw: pa.Table, source: str, wanted: Wanted) -> Read:
    """Give a table the names and units that models work with.

    Args:
        raw: As it was sent.
        source: Name of the file, for messages.
        wanted: Which columns are special.

    Raises:
        DataError: A value is no number or cannot be, a column stands twice, or a unit does not fit.
    """
    import pyarrow as pa

    twice = [name for name, count in Counter(raw.column_names).items() if count > 1]
    if twice:
        raise DataError(f"{source}: column '{twice[0]}' stands twice.", hint="Remove or rename one of them.")
    special = _special(raw.column_names, wanted, source)
    columns: dict[str, Any] = {}
    features, notes = list[Feature](), notes_of(raw)
    for header in raw.column_names:
        if header in special:
            values = raw.column(header)
            columns[special[header]] = values if _is_bytes(values) else values.cast(pa.string())
            continue
        feature, values, said = _feature(header, raw.column(header), source, wanted)
        notes += said
        if feature is None:
            continue
        if feature.name in columns:
            raise DataError(
                f"{source}: column '{header}' means {feature.name}, which another column is already.",
                hint="Leave one of the two out, or rename it.",
            )
        columns[feature.name] = values
        features.append(feature)
    if not columns:
        raise DataError(f"{source}: no columns.", hint="Expected column names in the first line.")
    table = pa.table(columns)
    check(table, TableSchema(tuple(feature.column() for feature in features)), source=source).require_clean()
    _refuse_fractions(table, features, source)
    return Read(table, tuple(features), tuple(notes))


def _special(headers: Sequence[str], wanted: Wanted, source: str) -> dict[str, str]:
    """Return header by header what it stands for: id, crop, group or image."""
    found: dict[str, str] = {}
    roles = (("crop", wanted.label, LABELS), ("group", wanted.group, GROUPS), ("id", None, IDS))
    for role, asked, usual in (*roles, ("image", None, IMAGES)):
        if asked is not None:
            if asked not in headers:
                raise DataError(
                    f"{source}: column '{asked}' is missing.", hint=f"Found {', '.join(headers)}."
                )
            found[asked] = role
            continue
        for header in headers:
            key = re.sub(r"[^a-z0-9]", "", header.lower())
            if key in usual and header not in found and role not in found.values():
                found[header] = role
    return found


def _feature(
    header: str, values: pa.ChunkedArray, source: str, wanted: Wanted
) -> tuple[Feature | None, Any, list[str]]:
    import pyarrow as pa

    name, unit_text = split_header(header)
    known = known_as(name)
    units = wanted.units or {}
    unit_text = (
        unit_text or units.get(header) or units.get(name) or (units.get(known.name) if known else None)
    )
    if known is not None and known.unit == "pH":
        unit_text = None  # what stands beside pH is how it was measured: (H2O), (CaCl2), (1:2.5)
    unit = unit_of(unit_text)
    if unit_text and unit is None and known is not None:
        raise DataError(
            f"{source}, column '{header}': the unit '{unit_text}' is not known.",
            hint="Expected mg/kg, g/kg, %, kg/ha, °C, °F, mm or inch.",
        )
    if known is not None and known.kind == "category":
        texts = [None if cell is None else colour_class(str(cell)) for cell in values.to_pylist()]
        return replace(known, categories=_levels(texts)), pa.array(texts, pa.string()), []
    numbers = _numbers(values, header, source, unit or (known.unit if known else None), known is not None)
    if numbers is None:
        return _category(name, values)
    array, cell_unit = numbers
    base = known or Feature(name, "number", unit if unit else unit_text)
    return _in_unit(base, array, unit or cell_unit, header, wanted)


def _in_unit(
    base: Feature, array: np.ndarray[Any, Any], unit: str | None, header: str, wanted: Wanted
) -> tuple[Feature, Any, list[str]]:
    import pyarrow as pa

    target, notes = base.unit, list[str]()
    if base.unit is None and base.nutrient is not None and unit is not None:
        target = "mg/kg"
    if target is not None and unit is not None and unit != target:
        turned = [
            None
            if np.isnan(cell)
            else convert(
                float(cell),
                unit,
                target,
                field=f"column '{header}'",
                density=wanted.density,
                depth=wanted.depth,
            )
            for cell in array
        ]
        array = np.array([np.nan if cell is None else cell for cell in turned], dtype=np.float64)
        notes.append(f"{header}: turned from {unit} to {target}")
    if base.nutrient is not None and target is None:
        notes.append(f"{header}: the unit is not stated, so no fertiliser is worked out from it")
    return replace(base, unit=target), pa.array(array, pa.float64(), mask=np.isnan(array)), notes


def _numbers(
    values: pa.ChunkedArray, header: str, source: str, unit: str | None, must: bool
) -> tuple[np.ndarray[Any, Any], str | None] | None:
    """Return the numbers of a column and the unit of its cells; None where it is a column of texts."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        array = np.array(values.cast(pa.float64()).to_pylist(), dtype=object)
        numbers = np.array([np.nan if cell is None else float(cell) for cell in array])
        return numbers, None
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan), None
    found, cell_unit, wrong = np.full(len(values), np.nan), None, None
    for row, cell in enumerate(values.to_pylist()):
        text = "" if cell is None else str(cell).strip()
        if text.lower() in _NOT_GIVEN:
            continue
        number, told = _number(text)
        if number is None or (told is not None and unit_named(told) is None):
            wrong = wrong or (row + 1, text)
            continue
        found[row], cell_unit = number, cell_unit or (unit_named(told) if told else None)
    if wrong is None:
        return found, cell_unit
    # a column that is mostly numbers is one: its texts are mistakes
    if must or np.isfinite(found).sum() > 0.5 * len(found):
        expected = "a number" if unit in (None, "pH") else f"a number in {unit}"
        raise DataError(
            f"{source}, column '{header}', row {wrong[0]}: expected {expected}, not '{wrong[1]}'.",
            hint="Leave the cell empty where nothing was measured.",
        )
    return None


def numbers_of(values: pa.ChunkedArray, header: str, source: str) -> np.ndarray[Any, Any]:
    """Return a column as numbers, NaN where nothing was given.

    Args:
        values: The column.
        header: Its name, for messages.
        source: Name of the file, for messages.

    Raises:
        DataError: A cell is no number; its row is named.
    """
    found = _numbers(values, header, source, None, must=True)
    assert found is not None
    return found[0]


def _number(text: str) -> tuple[float | None, str | None]:
    try:
        return float(text), None
    except ValueError:
        match = _NUMBER_WITH_UNIT.match(text)
        return (float(match[1]), match[2]) if match else (None, None)


def _category(name: str, values: pa.ChunkedArray) -> tuple[Feature | None, Any, list[str]]:
    import pyarrow as pa

    texts = [None if cell is None or not str(cell).strip() else str(cell) for cell in values.to_pylist()]
    levels = _levels(texts)
    if len(levels) > MOST_CATEGORIES:
        return None, None, [f"{name}: {len(levels)} different texts; the column is left out"]
    return Feature(name, "category", categories=levels), pa.array(texts, pa.string()), []


def _levels(texts: Sequence[str | None]) -> tuple[str, ...]:
    return tuple(sorted({text for text in texts if text is not None}))


def _refuse_fractions(table: pa.Table, features: Sequence[Feature], source: str) -> None:
    """Refuse a column in % that holds shares of 1, which would be wrong by a factor of 100."""
    for feature in features:
        if feature.unit != "%" or feature.name not in ("humidity", "clay"):
            continue
        cells = np.array(table.column(feature.name).to_pylist(), dtype=np.float64)
        known = cells[~np.isnan(cells)]
        if known.size and known.max() <= 1 and known.max() > 0:
            row = int(np.nanargmax(cells)) + 1
            raise DataError(
                f"{source}, column '{feature.name}', row {row}: {known.max():g} % looks like a share of 1.",
                hint=f"Expected {feature.name} in %, from 0 to 100: write {100 * known.max():g}, or say "
                f"'{feature.name} (fraction)' in the header.",
            )


def _is_bytes(values: pa.ChunkedArray) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type))


def texts_of(table: pa.Table, name: str) -> NDArray[Any] | None:
    """Return a column as texts, ``(rows,)``; None where there is none."""
    if name not in table.column_names:
        return None
    return np.array(table.column(name).to_pylist(), dtype=object).astype(str)
