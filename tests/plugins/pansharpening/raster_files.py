"""Small rasters for the tests of raster reading and of this plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rasterio.transform import from_origin

from appliedpapers.core.rasters.cube import open_quietly

UTM = "EPSG:32633"


def write_tif(
    path: Path,
    values: np.ndarray,
    *,
    origin: tuple[float, float] = (500_000.0, 5_800_000.0),
    pixel: float = 30.0,
    crs: str | None = UTM,
    placed: bool = True,
    wavelengths: Any = None,
    units: str | None = "nm",
    scale: float = 1.0,
    offset: float = 0.0,
    **profile: Any,
) -> Path:
    """Write bands ``(B, h, w)``; without ``placed`` the file has no georeference."""
    bands, height, width = values.shape
    place = {"crs": crs, "transform": from_origin(*origin, pixel, pixel)} if placed else {}
    with open_quietly(
        path,
        "w",
        **{
            "driver": "GTiff",
            "dtype": values.dtype,
            "height": height,
            "width": width,
            "count": bands,
            **profile,
        },
        **place,
    ) as file:
        file.write(values)
        if (scale, offset) != (1.0, 0.0):
            file.scales, file.offsets = (scale,) * bands, (offset,) * bands
        for band, centre in enumerate(wavelengths if wavelengths is not None else (), start=1):
            file.update_tags(band, wavelength=str(centre))
            if units is not None:
                file.update_tags(band, wavelength_units=units)
    return path


def ramp(bands: int, height: int, width: int, dtype: str = "uint16") -> np.ndarray:
    """Return values that differ in every pixel and band."""
    return (np.arange(bands * height * width).reshape(bands, height, width) % 9_973 + 1).astype(dtype)


def write_pair(folder: Path, ratio: int = 3, size: int = 20, bands: int = 4, **hs: Any) -> tuple[Path, Path]:
    """Write a pair on nested grids with 30 m coarse pixels."""
    centres = np.linspace(450, 900, bands)
    coarse = write_tif(folder / "hs.tif", ramp(bands, size, size), **{"wavelengths": centres, **hs})
    fine = write_tif(folder / "pan.tif", ramp(1, ratio * size, ratio * size), pixel=30 / ratio)
    return coarse, fine
