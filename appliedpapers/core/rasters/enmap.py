"""EnMAP L2A: a GeoTIFF of all bands, and beside it an XML with their wavelengths and scaling.

The names of the elements are those of the product: ``specific/bandCharacterisation/bandID`` with
``wavelengthCenterOfBand``, ``FWHMOfBand``, ``GainOfBand`` and ``OffsetOfBand``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from appliedpapers.core.errors import DataError
from appliedpapers.core.rasters.cube import RasterCube, open_cube, rescaled
from appliedpapers.core.rasters.wavelengths import Spectrum

_METADATA = "METADATA.XML"
_IMAGE = "SPECTRAL_IMAGE"
_FIELDS = ("wavelengthCenterOfBand", "FWHMOfBand", "GainOfBand", "OffsetOfBand")
_HINT = "Expected the files of an EnMAP L2A product as delivered."


def metadata_beside(path: Path) -> Path | None:
    """Return the metadata of the EnMAP product that a file belongs to, or None if it belongs to none."""
    if path.name.upper().endswith(_METADATA):
        return path
    head, found, _ = path.name.upper().rpartition(_IMAGE)
    if not found:
        return None
    wanted = f"{head}{_METADATA}"
    return next((file for file in path.parent.iterdir() if file.name.upper() == wanted), None)


def open_enmap(metadata: Path, *, nodata: float | None = None) -> RasterCube:
    """Return the spectral image of an EnMAP L2A product, in reflectance.

    Args:
        metadata: The XML of the product.
        nodata: Stored value that means missing, in place of what the image says.

    Raises:
        DataError: A file is missing or damaged, or the XML describes another number of bands.
    """
    head = metadata.name[: -len(_METADATA)]
    suffixes = (".tif", ".tiff", ".vrt", ".img", ".bsq", ".bil", ".bip")
    found = [
        file
        for file in sorted(metadata.parent.iterdir())
        if file.name.upper().startswith(f"{head}{_IMAGE}".upper()) and file.suffix.lower() in suffixes
    ]
    if not found:
        raise DataError(f"{metadata}: there is no '{head}{_IMAGE}.TIF' beside it.", hint=_HINT)
    cube = open_cube(found[0], nodata=nodata)
    table = _bands(metadata)
    if len(table) != cube.count:
        raise DataError(
            f"{metadata}: it describes {len(table)} bands, but {found[0].name} has {cube.count}.", hint=_HINT
        )
    wrong = np.flatnonzero(~(table[:, 0] > 0))
    if wrong.size:
        raise DataError(f"{metadata}: band {wrong[0] + 1} has no positive wavelength.", hint=_HINT)
    widths = table[:, 1] if (table[:, 1] > 0).all() else None
    cube = replace(cube, files=(*cube.files, metadata), given=Spectrum(table[:, 0], widths))
    # a converted image may carry its own scaling already, which must not be applied twice
    plain = all(encoding.scale == 1 and encoding.offset == 0 for encoding in cube.encodings)
    return rescaled(cube, table[:, 2], table[:, 3]) if plain and cube.dtype != "float32" else cube


def _bands(metadata: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return centre (nm), width (nm), gain and offset of each band, shape ``(B, 4)``."""
    try:
        root = ElementTree.parse(metadata).getroot()
        # band ids also stand in lists of defective pixels, without a wavelength
        bands = [band for band in root.iter("bandID") if band.find(_FIELDS[0]) is not None]
        bands.sort(key=lambda band: int(band.get("number", "0")))
        rows = [[float(band.findtext(name) or _default(name)) for name in _FIELDS] for band in bands]
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise DataError(f"{metadata}: the XML cannot be read ({error}).", hint=_HINT) from None
    if not rows:
        raise DataError(f"{metadata}: the XML describes no bands.", hint=_HINT)
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(_FIELDS))


def _default(name: str) -> str:
    return "1" if name == "GainOfBand" else "0"
