"""The published table of bands and nitrogen (arXiv 2107.02355): its rows, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.tables import read_table
from appliedpapers.plugins.agrosense.nitrogen.config import NitrogenConfig
from appliedpapers.plugins.agrosense.nitrogen.published_data import MAIN, OTHER_LINES
from appliedpapers.plugins.agrosense.nitrogen.rows import NitrogenRows, read_rows

Floats = NDArray[np.float64]

REPLICATES = 3
A_DATE = 18
_ROWS = 54


def read_ums(path: Path) -> NitrogenRows:
    """Read one of the three tables; rows are date-major, then patch, then replicate.

    Raises:
        DataError: It does not have 54 rows.
    """
    raw = read_table(path)
    if raw.num_rows != _ROWS:
        raise DataError(
            f"{path}: {raw.num_rows} rows, expected {_ROWS}.", hint="Remove it and fetch it again."
        )
    numbers = np.arange(_ROWS)
    raw = raw.append_column("id", pa.array([f"row-{number + 1:02d}" for number in numbers]))
    samples = [f"sample-{number // REPLICATES + 1:02d}" for number in numbers]
    raw = raw.append_column("group", pa.array(samples))
    raw = raw.append_column("date", pa.array([f"date-{number // A_DATE + 1}" for number in numbers]))
    return read_rows(raw, path.name, NitrogenConfig())


def doubts(folder: Path) -> tuple[str, ...]:
    """Return what is to be said of the labels: three emission lines of the same soil disagree.

    Args:
        folder: The plugin's data folder.
    """
    main = read_ums(folder / MAIN).nitrogen
    said = []
    for line, name in OTHER_LINES.items():
        if not (folder / name).is_file():
            continue
        other = read_ums(folder / name).nitrogen
        gap, together = float(np.abs(main - other).mean()), float(np.corrcoef(main, other)[0, 1])
        said.append(f"{line}: correlation {together:.2f}, {gap:.0f} ppm apart on average")
    fact = "labels are a line through 4 laboratory points of one emission line (493 nm)"
    return (f"{fact}; other lines of the same soil: {'; '.join(said)}",) if said else (fact,)
