from pathlib import Path

import numpy as np
import pytest

from appliedpapers.core.errors import DataError
from appliedpapers.core.rasters.wavelengths import BandMetadata, bands_within, read_wavelengths, spectrum_of

PATH = Path("cube.tif")


def metadata(tags=None, imagery=None, descriptions=None, dataset=None, count=2):
    return BandMetadata(
        tags=tuple(tags or ({},) * count),
        imagery=tuple(imagery or ({},) * count),
        descriptions=tuple(descriptions or (None,) * count),
        dataset=dataset or {},
    )


def tagged(values, units=None, **more):
    unit = {} if units is None else {"wavelength_units": units}
    return [{"wavelength": value, **unit, **more} for value in values]


@pytest.mark.parametrize("units", ["nm", "Nanometers", "NANOMETERS", None, "Unknown"])
def test_tags_in_nm(units):
    spectrum = spectrum_of(metadata(tagged(["457.34", "467.52"], units, fwhm="10.5")), PATH)
    assert spectrum.wavelengths.tolist() == [457.34, 467.52]
    assert spectrum.fwhm.tolist() == [10.5, 10.5]


@pytest.mark.parametrize("units", ["um", "µm", "Micrometers", "MICROMETERS", "microns", None])
def test_tags_in_um(units):
    spectrum = spectrum_of(metadata(tagged(["0.45734", "2.4"], units, fwhm="0.0105")), PATH)
    assert spectrum.wavelengths.tolist() == [457.34, 2400]
    assert spectrum.fwhm.tolist() == [10.5, 10.5]


def test_the_imagery_domain_comes_before_tags():
    imagery = [
        {"CENTRAL_WAVELENGTH_UM": "0.5", "FWHM_UM": "0.01"},
        {"CENTRAL_WAVELENGTH_UM": "0.6", "FWHM_UM": "0.01"},
    ]
    spectrum = spectrum_of(metadata(tagged(["700", "800"], "nm"), imagery), PATH)
    assert spectrum.wavelengths.tolist() == [500, 600]
    assert spectrum.fwhm.tolist() == [10, 10]


def test_a_rounded_imagery_domain_gives_way_to_the_exact_tags():
    imagery = [{"CENTRAL_WAVELENGTH_UM": "0.457"}, {"CENTRAL_WAVELENGTH_UM": "0.468"}]
    spectrum = spectrum_of(metadata(tagged(["457.34", "467.52"], "nm"), imagery), PATH)
    assert spectrum.wavelengths.tolist() == [457.34, 467.52]


def test_lists_of_the_file():
    lists = {"wavelength": "{0.4, 0.5}", "wavelength units": "Micrometers", "fwhm": "{0.01, 0.02}"}
    spectrum = spectrum_of(metadata(dataset=lists), PATH)
    assert spectrum.wavelengths.tolist() == [400, 500]
    assert spectrum.fwhm.tolist() == [10, 20]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Band 12 (457.3 nm)", 457.3),
        ("457.3", 457.3),
        ("0.4573", 457.3),
        ("wavelength_457", 457),
        ("457.3 Nanometers", 457.3),
        ("a (0.45 Micrometers)", 450),
    ],
)
def test_descriptions(text, expected):
    assert spectrum_of(metadata(descriptions=[text], count=1), PATH).wavelengths.tolist() == [expected]


@pytest.mark.parametrize("text", ["Band 12", "12", "red", "", "B011"])
def test_a_number_of_a_band_is_no_wavelength(text):
    assert spectrum_of(metadata(descriptions=[text], count=1), PATH) is None


@pytest.mark.parametrize("value", ["0", "-5", "nan", "inf"])
def test_a_wavelength_that_is_not_positive_names_the_band(value):
    with pytest.raises(DataError, match=r"cube\.tif: band 2 has the wavelength"):
        spectrum_of(metadata(tagged(["450", value], "nm")), PATH)


def test_a_missing_wavelength_names_the_band():
    with pytest.raises(DataError, match="band 2 has no wavelength"):
        spectrum_of(metadata([{"wavelength": "450"}, {}]), PATH)


def test_a_complete_source_beats_one_with_holes():
    spectrum = spectrum_of(metadata([{"wavelength": "450"}, {}], descriptions=["450 nm", "460 nm"]), PATH)
    assert spectrum.wavelengths.tolist() == [450, 460]


def test_unsorted_bands_keep_their_order():
    spectrum = spectrum_of(metadata(tagged(["900", "450"], "nm")), PATH)
    assert spectrum.wavelengths.tolist() == [900, 450]
    assert spectrum.selected([1]).wavelengths.tolist() == [450]


@pytest.mark.parametrize(
    ("text", "fwhm"),
    [
        ("wavelength_nm,fwhm_nm\n450,10\n550,11\n", [10, 11]),
        ("name;Wavelength_NM\na;450\nb;550\n", None),
        ("450\n550\n", None),
        ("0.45\n0.55\n", None),
        ("\ufeffwavelength_nm\n450\n550\n\n", None),
    ],
)
def test_tables(tmp_path, text, fwhm):
    file = tmp_path / "w.csv"
    file.write_text(text, encoding="utf-8")
    spectrum = read_wavelengths(file, 2, PATH)
    assert spectrum.wavelengths.tolist() == [450, 550]
    assert (spectrum.fwhm if fwhm is None else spectrum.fwhm.tolist()) == fwhm


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("450\n550\n650\n", r"3 rows of wavelengths, but cube\.tif has 2 bands"),
        ("wavelength\n450\n550\n", "no column 'wavelength_nm'"),
        ("wavelength_nm\n450\nred\n", "band 2 has no number"),
        ("wavelength_nm\n450\n-1\n", "band 2 has the wavelength -1"),
        ("wavelength_nm\n0.45\n0.55\n", "looks like micrometres"),
        ("", "empty"),
    ],
)
def test_bad_tables_are_named(tmp_path, text, message):
    file = tmp_path / "w.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_wavelengths(file, 2, PATH)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        read_wavelengths(tmp_path / "none.csv", 2, PATH)


def test_bands_are_chosen_by_range():
    assert bands_within(np.array([900.0, 450.0, 700.0]), 450, 700) == [1, 2]
