"""Where the bands of a raster lie in the spectrum, from a table or from what the file says about itself.

Sources in order: a CSV, the IMAGERY domain of GDAL, tags of the bands, ENVI metadata of the file, and the
descriptions of the bands. The first that knows every band wins; a source that knows only some of them is
an error that names the first band it leaves out.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError, did_you_mean

_NM_PER_UM = 1_000.0
_LARGEST_UM = 20.0
_SHORTEST_NM = 200.0
_UNITS: dict[str, float] = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "micrometer", "micrometers", "micron", "microns"), _NM_PER_UM),
    **dict.fromkeys(("micrometre", "micrometres"), _NM_PER_UM),
}
_NOT_A_LENGTH = ("index", "wavenumber", "ghz", "mhz")
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_WITH_UNIT = re.compile(_NUMBER + r"\s*(" + "|".join(sorted(_UNITS, key=len, reverse=True)) + r")\b", re.I)
_AFTER_WORD = re.compile(r"wavelength[\s_:=]*" + _NUMBER, re.I)
_BARE = re.compile(r"\s*" + _NUMBER + r"\s*")
_HINT = "Give centres for all bands in a CSV with a column 'wavelength_nm' (option --wavelengths)."


@dataclass(frozen=True)
class Spectrum:
    """Centres and widths of the bands.

    Attributes:
        wavelengths: Centres in nm, shape ``(B,)``, positive, in file order, not necessarily sorted.
        fwhm: Full widths at half maximum in nm, shape ``(B,)``; None where they are not known.
    """

    wavelengths: NDArray[np.float64]
    fwhm: NDArray[np.float64] | None = None

    def selected(self, bands: Sequence[int]) -> Spectrum:
        """Return the spectrum of these bands, counted from 0."""
        index = list(bands)
        return Spectrum(self.wavelengths[index], None if self.fwhm is None else self.fwhm[index])


@dataclass(frozen=True)
class BandMetadata:
    """What a file says about its bands; each sequence has one entry a band.

    Attributes:
        tags: Tags of each band.
        imagery: Tags of each band in the IMAGERY domain of GDAL.
        descriptions: Names of the bands.
        dataset: Tags of the file, with those of its ENVI domain, where lists are ``"{1, 2, 3}"``.
    """

    tags: tuple[Mapping[str, str], ...]
    imagery: tuple[Mapping[str, str], ...]
    descriptions: tuple[str | None, ...]
    dataset: Mapping[str, str] = field(default_factory=dict)

    def selected(self, bands: Sequence[int]) -> BandMetadata:
        """Return the metadata of these bands, counted from 0, without the lists of the whole file."""
        return BandMetadata(
            tuple(self.tags[band] for band in bands),
            tuple(self.imagery[band] for band in bands),
            tuple(self.descriptions[band] for band in bands),
        )


def spectrum_of(metadata: BandMetadata, path: Path) -> Spectrum | None:
    """Return the spectrum that a file states, or None if it states none.

    Args:
        metadata: Tags and names of the bands.
        path: File, for messages.

    Raises:
        DataError: A centre is missing in some bands, or is not a positive number.
    """
    partial: tuple[float | None, ...] | None = None
    for source in (_from_imagery, _from_tags, _from_lists, _from_descriptions):
        centres, widths = source(metadata)
        if all(centre is not None for centre in centres):
            return _checked(centres, widths, path)
        if partial is None and any(centre is not None for centre in centres):
            partial = centres
    if partial is not None:
        band = partial.index(None) + 1
        raise DataError(f"{path}: band {band} has no wavelength, but other bands have one.", hint=_HINT)
    return None


_Found = tuple[tuple[float | None, ...], tuple[float | None, ...]]


def _from_imagery(metadata: BandMetadata) -> _Found:
    centres = tuple(_length(tags.get("CENTRAL_WAVELENGTH_UM"), "um") for tags in metadata.imagery)
    widths = tuple(_length(tags.get("FWHM_UM"), "um") for tags in metadata.imagery)
    tagged, tagged_widths = _from_tags(metadata)
    # GDAL rounds what it derives from an ENVI header to whole nm; the tags then hold the exact numbers
    if all(a is not None and b is not None and abs(a - b) < 1 for a, b in zip(centres, tagged, strict=True)):
        return tagged, tagged_widths if None not in tagged_widths else widths
    return centres, widths


def _from_tags(metadata: BandMetadata) -> _Found:
    tags = [{key.lower(): value for key, value in band.items()} for band in metadata.tags]
    units = [_unit_of(band) for band in tags]
    centres = tuple(_length(band.get("wavelength"), unit) for band, unit in zip(tags, units, strict=True))
    scales = [_scale(band.get("wavelength"), unit) for band, unit in zip(tags, units, strict=True)]
    widths = tuple(_scaled(band.get("fwhm"), scale) for band, scale in zip(tags, scales, strict=True))
    return centres, widths


def _from_lists(metadata: BandMetadata) -> _Found:
    tags = {key.lower().replace(" ", "_"): value for key, value in metadata.dataset.items()}
    count = len(metadata.tags)
    centres, widths = _items(tags.get("wavelength"), count), _items(tags.get("fwhm"), count)
    unit = _unit_of(tags)
    scales = [_scale(centre, unit) for centre in centres]
    return (
        tuple(_length(centre, unit) for centre in centres),
        tuple(_scaled(width, scale) for width, scale in zip(widths, scales, strict=True)),
    )


def _from_descriptions(metadata: BandMetadata) -> _Found:
    nothing = (None,) * len(metadata.descriptions)
    return tuple(_in_description(text or "") for text in metadata.descriptions), nothing


def _in_description(text: str) -> float | None:
    if found := _WITH_UNIT.search(text):
        return float(found[1]) * _UNITS[found[2].lower()]
    if found := _AFTER_WORD.search(text):
        return _length(found[1], None)
    if found := _BARE.fullmatch(text):
        value = float(found[1])
        # a small whole number is the number of the band
        return (
            _length(found[1], None)
            if value >= _SHORTEST_NM or (0.2 <= value < _LARGEST_UM and value % 1)
            else None
        )
    return None


def _items(text: str | None, count: int) -> list[str | None]:
    items = [item.strip() for item in (text or "").strip().strip("{}").split(",")]
    return list(items) if len(items) == count and all(items) else [None] * count


def _unit_of(tags: Mapping[str, str]) -> str | None:
    return tags.get("wavelength_units", tags.get("wavelength_unit"))


def _scale(text: str | None, unit: str | None) -> float | None:
    """Return nm per unit, or None if this is not a wavelength; without a unit, small numbers are um."""
    name = (unit or "").strip().lower()
    value = _number(text)
    if value is None or name in _NOT_A_LENGTH:
        return None
    return _UNITS.get(name, _NM_PER_UM if value < _LARGEST_UM else 1.0)


def _length(text: str | None, unit: str | None) -> float | None:
    scale = _scale(text, unit)
    return _scaled(text, scale)


def _scaled(text: str | None, scale: float | None) -> float | None:
    value = _number(text)
    # 418.24 um is 418240.00000000006 nm in binary: ten digits are more than any sensor states
    return None if value is None or scale is None else float(f"{value * scale:.10g}")


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _checked(centres: Iterable[float | None], widths: Iterable[float | None], path: Path) -> Spectrum:
    values = np.array(list(centres), dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if wrong.size:
        band = int(wrong[0])
        raise DataError(
            f"{path}: band {band + 1} has the wavelength {values[band]:g} nm, expected a positive number.",
            hint=_HINT,
        )
    known = list(widths)
    fwhm = None if any(width is None for width in known) else np.array(known, dtype=np.float64)
    return Spectrum(values, fwhm if fwhm is not None and bool((fwhm > 0).all()) else None)


def read_wavelengths(path: Path, bands: int, raster: Path) -> Spectrum:
    """Return the spectrum in a CSV: a column ``wavelength_nm`` (and ``fwhm_nm``), or one column of numbers.

    Args:
        path: CSV, one row a band in file order, separated by comma, semicolon or tab.
        bands: Number of bands of the raster.
        raster: The raster, for messages.

    Raises:
        DataError: No such file or column, another number of rows than bands, or a value that is no
            positive number.
    """
    rows = _rows(path)
    if not rows:
        raise DataError(f"{path}: the file is empty.", hint=_HINT)
    headless = len(rows[0]) == 1 and _number(rows[0][0]) is not None
    header = ["wavelength_nm"] if headless else [cell.strip().lower() for cell in rows[0]]
    body = rows if headless else rows[1:]
    if "wavelength_nm" not in header:
        raise DataError(
            f"{path}: there is no column 'wavelength_nm'.",
            hint=f"{did_you_mean('wavelength_nm', header)} The table has one row a band.",
        )
    if len(body) != bands:
        raise DataError(
            f"{path}: {len(body)} rows of wavelengths, but {raster} has {bands} bands.",
            hint="Give one row a band, in the order of the bands in the file.",
        )
    number: Callable[[str], list[float | None]] = lambda name: [  # noqa: E731
        _number(row[header.index(name)]) if len(row) > header.index(name) else None for row in body
    ]
    centres = number("wavelength_nm")
    if None in centres:
        raise DataError(
            f"{path}: band {centres.index(None) + 1} has no number for its wavelength.", hint=_HINT
        )
    small = max(value for value in centres if value is not None) < _LARGEST_UM
    if small and not headless:
        raise DataError(
            f"{path}: the wavelengths are below {_LARGEST_UM:g} nm, which looks like micrometres.",
            hint="Multiply them by 1,000: the column 'wavelength_nm' is in nm.",
        )
    scale = _NM_PER_UM if small else 1.0
    widths = number("fwhm_nm") if "fwhm_nm" in header else [None] * bands
    return _checked([value * scale for value in centres if value is not None], widths, path)


def _rows(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", hint=_HINT) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}).", hint=_HINT) from None
    first = text.partition("\n")[0]
    delimiter = next((mark for mark in (";", "\t") if mark in first), ",")
    return [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(map(str.strip, row))]


def bands_within(wavelengths: NDArray[np.float64], low: float, high: float) -> list[int]:
    """Return the bands, counted from 0 in file order, with a centre from ``low`` to ``high`` nm."""
    return [int(band) for band in np.flatnonzero((wavelengths >= low) & (wavelengths <= high))]
