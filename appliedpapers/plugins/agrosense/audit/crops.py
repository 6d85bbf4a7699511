"""Remarks on tables of crops, for ``apps data audit``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.audit.synthetic import synthetic_test

if TYPE_CHECKING:
    from appliedpapers.core.data import Dataset
    from appliedpapers.plugins.agrosense.crop.data import CropSplit


def remarks_on_crops(dataset: Dataset) -> list[str]:
    """Say whether a table looks drawn by a program, repeats rows, or has columns that say nothing."""
    from appliedpapers.plugins.agrosense.crop.model import joined

    rows = joined(cast("CropSplit", dataset.train), cast("CropSplit", dataset.valid))
    if not dataset.folds:
        rows = joined(rows, cast("CropSplit", dataset.test))
    names = [feature.name for feature in rows.features if feature.kind == "number"]
    values = np.stack(
        [np.array(rows.table.column(name).to_pylist(), dtype=np.float64) for name in names], axis=1
    )
    found = synthetic_test(values, rows.labels, names).sentences()
    constant = [name for name, column in zip(names, values.T, strict=True) if np.nanstd(column) == 0]
    if constant:
        found.append(f"columns that never change: {', '.join(constant)}")
    signatures = rows.signatures()
    repeated = 0 if signatures is None else len(signatures) - len(signatures.unique())
    found.append(f"{repeated} rows repeat the inputs of another" if repeated else "no row repeats another")
    codes = [name for name, column in zip(names, values.T, strict=True) if _is_code(column, rows.groups)]
    if codes:
        found.append(f"columns that tell the groups apart, as a code would: {', '.join(codes)}")
    unknown = [
        feature.name for feature in rows.features if feature.nutrient is not None and feature.unit is None
    ]
    if unknown:
        found.append(f"unit not stated: {', '.join(unknown)}; never read as kg/ha")
    return found


def _is_code(column: NDArray[np.float64], groups: NDArray[Any] | None) -> bool:
    """Whether a column has one value in each group, and several over all."""
    if groups is None:
        return False
    known = ~np.isnan(column)
    pairs = {(group, value) for group, value in zip(groups[known], column[known], strict=True)}
    return len(pairs) == len(set(groups[known])) and len(set(column[known])) > 1
