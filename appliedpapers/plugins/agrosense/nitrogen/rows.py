"""Tables with total nitrogen under the names that models work with, whatever the file called them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.agrosense.columns import Feature, split_header, unit_of
from appliedpapers.plugins.agrosense.nitrogen.spectra import (
    absorbance,
    spectrum_table,
    wavelength_columns,
)
from appliedpapers.plugins.agrosense.reading import GROUPS, IDS, numbers_of, texts_of

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.agrosense.nitrogen.config import NitrogenConfig

Floats = NDArray[np.float64]

BANDS: dict[str, tuple[Feature, tuple[str, ...]]] = {
    feature.name: (feature, words)
    for feature, words in (
        (Feature("ndvi", "number", None, -1, 1, (), "NDVI as the file has it"), ()),
        (Feature("red", "number", "DN", 0, None, (), "red band, digital numbers"), ("r", "rededn")),
        (
            Feature("nir", "number", "DN", 0, None, (), "near-infrared band, digital numbers"),
            ("nearinfrared",),
        ),
        (Feature("green", "number", "DN", 0, None, (), "green band, digital numbers"), ("g",)),
        (
            Feature("red_edge", "number", "DN", 0, None, (), "red-edge band, digital numbers"),
            ("rededge", "re"),
        ),
        (Feature("humidity", "number", "%", 0, 100, (), "relative humidity of the air"), ("rh",)),
        (Feature("temperature", "number", "°C", -30, 60, (), "temperature of the air"), ("temp", "t")),
    )
}
"""Inputs of a table of bands, in the order in which models see them: it changes results that are seeded."""

_TARGETS = ("nitrogen", "totalnitrogen", "tn", "nt", "totaln", "n")
_DATES = ("date", "day", "stage")
_UNITS = {"mg/kg": "mg/kg", "g/kg": "g/kg", "%": "%"}
_WORDS = {word: name for name, (_, words) in BANDS.items() for word in (name.replace("_", ""), *words)}


@dataclass(frozen=True)
class NitrogenRows:
    """Rows under our names.

    Attributes:
        table: ``id``, the inputs, and where they are known ``nitrogen``, ``group`` and ``date``.
        kind: What the inputs are.
        unit: Of nitrogen.
        features: Of bands; none for spectra.
        notes: What a person should know of how it was read.
    """

    table: pa.Table
    kind: Literal["spectra", "bands"]
    unit: str
    features: tuple[Feature, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @classmethod
    def of_spectra(
        cls,
        names: Sequence[str],
        grid: Floats,
        values: Floats,
        nitrogen: Floats | None,
        groups: Sequence[str] | None,
        unit: str = "g/kg",
    ) -> Self:
        """Return spectra on one grid, ``(rows, points)``, with nitrogen ``(rows,)`` where it is known."""
        import pyarrow as pa

        columns = spectrum_table(pa.array(names, pa.string()), grid, values)
        if nitrogen is not None:
            columns["nitrogen"] = pa.array(nitrogen, pa.float64())
        if groups is not None:
            columns["group"] = pa.array(groups, pa.string())
        return cls(pa.table(columns), "spectra", unit)

    @property
    def nitrogen(self) -> Floats:
        """Total nitrogen, ``(rows,)``."""
        return np.array(self.table.column("nitrogen").to_pylist(), dtype=np.float64)

    @property
    def groups(self) -> NDArray[Any] | None:
        """Group of each row; None where there are none."""
        return texts_of(self.table, "group")

    @property
    def dates(self) -> NDArray[Any] | None:
        """Date of each row; None where there are none."""
        return texts_of(self.table, "date")

    def without(self, column: str) -> NitrogenRows:
        """Return the rows without a column."""
        return replace(self, table=self.table.drop_columns([column]))

    def require_target(self, source: str, folds: int) -> None:
        """Refuse a table that nothing can be learned from.

        Raises:
            DataError: Nitrogen is absent, missing somewhere, or there are too few rows or groups.
        """
        if "nitrogen" not in self.table.column_names:
            raise DataError(
                f"{source}: no column with total nitrogen.",
                hint="Name it: --target my_column. Usual names: nitrogen, total_nitrogen, tn, nt.",
            )
        values = self.nitrogen
        bad = np.flatnonzero(np.isnan(values) | (values < 0))
        if bad.size:
            raise DataError(
                f"{source}, column 'nitrogen', row {bad[0] + 1}: expected a number of {self.unit}, "
                "0 or more.",
                hint="Leave rows without a laboratory value out.",
            )
        groups = self.groups
        units = len(values) if groups is None else len(np.unique(groups))
        least = max(3, folds if groups is None else 3)
        if len(values) < 10 or units < least:
            raise DataError(
                f"{source}: {len(values)} rows of {units} groups or single rows are too few.",
                hint=f"At least 10 rows and {least} groups are needed.",
            )
        if float(values.std()) == 0:
            raise DataError(
                f"{source}, column 'nitrogen': every row is {values[0]:g}.", hint="There is nothing to learn."
            )


def read_rows(raw: pa.Table, source: str, config: NitrogenConfig) -> NitrogenRows:
    """Give a table our names: a spectrum where there are columns of wavelengths, else bands.

    Raises:
        DataError: Neither is there, a value is no number, or a unit is not one of nitrogen.
    """
    import pyarrow as pa

    found = _special(raw, source, config)
    columns: dict[str, Any] = {"id": found.pop("id", None)}
    if columns["id"] is None:
        columns["id"] = pa.array([f"row-{number:05d}" for number in range(1, raw.num_rows + 1)])
    unit = str(found.pop("unit"))
    if {"wavelength", "absorbance"} <= set(raw.column_names):
        columns |= {name: _lists(raw.column(name), name, source) for name in ("wavelength", "absorbance")}
        return NitrogenRows(pa.table({**columns, **found}), "spectra", unit)
    points = wavelength_columns(raw.column_names, config.data.axis)
    if points:
        values = np.stack([_cells(raw, name, source) for name in points], axis=1)
        grid = np.array(list(points.values()))
        made = spectrum_table(columns["id"], grid, absorbance(values, config.data, source))
        return NitrogenRows(pa.table({**made, **found}), "spectra", unit)
    features = []
    for name, header in _band_headers(raw.column_names).items():
        columns[name] = pa.array(_cells(raw, header, source, missing=True), pa.float64(), from_pandas=True)
        features.append(BANDS[name][0])
    if not features:
        raise DataError(
            f"{source}: neither a spectrum nor bands.",
            hint="Expected at least 20 columns that are wavelengths, such as 1100 or A1100, or "
            "columns red, nir, "
            f"green, ndvi. Found {', '.join(raw.column_names[:8])}.",
        )
    _check(pa.table(columns), features, source)
    return NitrogenRows(pa.table({**columns, **found}), "bands", unit, tuple(features))


def _special(raw: pa.Table, source: str, config: NitrogenConfig) -> dict[str, Any]:
    """Return the columns that are no inputs, under our names, and the unit of nitrogen."""
    import pyarrow as pa

    found: dict[str, Any] = {"unit": "g/kg"}
    asked = {"nitrogen": config.data.target, "group": config.data.group}
    for name in asked.values():
        if name is not None and name not in raw.column_names:
            raise DataError(
                f"{source}: column '{name}' is missing.", hint=f"Found {', '.join(raw.column_names[:12])}."
            )
    usual = {"nitrogen": _TARGETS, "group": GROUPS, "id": IDS, "date": _DATES}
    for header in raw.column_names:
        name, unit = split_header(header)
        key = re.sub(r"[^a-z0-9]", "", name.lower())
        for role, words in usual.items():
            is_it = header == asked[role] if asked.get(role) is not None else key in words
            if not is_it or role in found:
                continue
            if role == "nitrogen":
                found[role] = pa.array(
                    _cells(raw, header, source, missing=True), pa.float64(), from_pandas=True
                )
                found["unit"] = _target_unit(unit, header, source)
            else:
                found[role] = raw.column(header).cast(pa.string()).combine_chunks()
            break
    return found


def _target_unit(text: str | None, header: str, source: str) -> str:
    if text is None:
        return "g/kg"
    unit = _UNITS.get(unit_of(text) or "")
    if unit is None:
        raise DataError(
            f"{source}, column '{header}': '{text}' is no unit of total nitrogen.",
            hint="Expected g/kg, mg/kg (ppm) or %.",
        )
    return unit


def _band_headers(names: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for header in names:
        key = re.sub(r"[^a-z0-9]", "", split_header(header)[0].lower())
        if key in _WORDS:
            found.setdefault(_WORDS[key], header)
    return {name: found[name] for name in BANDS if name in found}


def _cells(raw: pa.Table, name: str, source: str, *, missing: bool = False) -> Floats:
    values = numbers_of(raw.column(name), name, source)
    if not missing and np.isnan(values).any():
        row = int(np.flatnonzero(np.isnan(values))[0]) + 1
        raise DataError(
            f"{source}, column '{name}', row {row}: no value.",
            hint="Leave rows with gaps in the spectrum out.",
        )
    return values


def _lists(column: pa.ChunkedArray, name: str, source: str) -> Any:
    """Return a column of lists of numbers; texts are read as JSON."""
    import json

    import pyarrow as pa

    cells = []
    for row, cell in enumerate(column.to_pylist(), start=1):
        try:
            numbers = json.loads(cell) if isinstance(cell, str) else cell
            cells.append([float(one) for one in numbers])
        except (TypeError, ValueError):
            raise DataError(
                f"{source}, column '{name}', row {row}: expected a list of numbers.",
                hint="Such as [1100, 1102, 1104].",
            ) from None
    return pa.array(cells, pa.list_(pa.float64()))


def _check(table: pa.Table, features: Sequence[Feature], source: str) -> None:
    from appliedpapers.core.schema import TableSchema
    from appliedpapers.core.validation import check

    check(table, TableSchema(tuple(one.column() for one in features)), source=source).require_clean()
