import sys
import zipfile

import numpy as np
import pytest
from raster_files import UTM, ramp, write_tif

from appliedpapers.core.errors import DataError
from appliedpapers.core.rasters.hyperion import centre_nm
from appliedpapers.core.rasters.pair import open_pair
from appliedpapers.core.rasters.products import open_hyperspectral, open_panchromatic
from appliedpapers.core.rasters.tiles import Window

VNIR = [0.0, 980.0, 700.0, 450.0]
SWIR = [2400.0, 1500.0, 940.0, 0.0]


def write_prisma(path, size=5, without=()):
    """Cubes as (rows, bands, columns), wavelengths falling, the last column outside of the swath."""
    import h5py

    vnir = ramp(4, size, size).transpose(1, 0, 2).copy()
    swir = ramp(4, size, size).transpose(1, 0, 2) + 1_000
    pan = ramp(1, 6 * size, 6 * size)[0]
    vnir[..., -1] = swir[..., -1] = 0
    pan[:, -6:] = 0
    attributes = {
        "List_Cw_Vnir": np.array(VNIR),
        "List_Cw_Swir": np.array(SWIR),
        "List_Fwhm_Vnir": np.full(4, 10.0),
        "List_Fwhm_Swir": np.full(4, 12.0),
        "Epsg_Code": 32633,
        "Product_ULcorner_easting": 500_015.0,
        "Product_ULcorner_northing": 5_799_985.0,
    }
    for part, top in (("Vnir", 0.5), ("Swir", 0.25), ("Pan", 1.0)):
        attributes[f"L2Scale{part}Min"], attributes[f"L2Scale{part}Max"] = -0.1, top
    with h5py.File(path, "w") as file:
        file["HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/VNIR_Cube"] = vnir
        file["HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/SWIR_Cube"] = swir
        file["HDFEOS/SWATHS/PRS_L2D_PCO/Data Fields/Cube"] = pan
        for key, value in attributes.items():
            if key not in without:
                file.attrs[key] = value
    return path, vnir, swir, pan


@pytest.mark.parametrize(
    ("overlap", "centres"),
    [
        ("vnir", [450, 700, 980, 1500, 2400]),
        ("swir", [450, 700, 940, 1500, 2400]),
        ("both", [450, 700, 940, 980, 1500, 2400]),
    ],
)
def test_prisma_bands_are_merged_by_wavelength(tmp_path, overlap, centres):
    path, *_ = write_prisma(tmp_path / "p.he5")
    cube = open_hyperspectral(path, overlap=overlap)
    assert cube.wavelengths_nm.tolist() == centres
    assert set(cube.fwhm_nm) == {10, 12}


def test_prisma_values_are_reflectance_and_the_swath_is_masked(tmp_path):
    path, vnir, swir, pan = write_prisma(tmp_path / "p.he5")
    cube, fine = open_hyperspectral(path), open_panchromatic(path)
    assert np.allclose(cube.read_band(0)[:, :-1], vnir[:, 3, :-1] / 65535 * 0.6 - 0.1, atol=1e-7)
    assert np.allclose(cube.read_band(4)[:, :-1], swir[:, 0, :-1] / 65535 * 0.35 - 0.1, atol=1e-7)
    assert np.isnan(cube.read()[:, :, -1]).all()
    assert np.allclose(fine.read_band(0, Window(2, 3, 9, 20)), pan[2:9, 3:20] / 65535 * 1.1 - 0.1, atol=1e-7)
    assert np.isnan(fine.read_band(0)[:, -6:]).all()


def test_a_prisma_file_is_a_pair(tmp_path):
    path, *_ = write_prisma(tmp_path / "p.he5")
    pair = open_pair(path, path)
    assert (pair.ratio, pair.coarse_shape, pair.fine_shape, pair.notes) == (6, (5, 5), (30, 30), ())
    assert (pair.transform.c, pair.transform.f, pair.transform.a) == (500_000, 5_800_000, 5)
    assert pair.crs.to_epsg() == int(UTM[5:])


@pytest.mark.parametrize("lost", ["Epsg_Code", "List_Cw_Vnir", "L2ScaleSwirMax"])
def test_a_prisma_file_without_a_part_names_it(tmp_path, lost):
    path, *_ = write_prisma(tmp_path / "p.he5", without=(lost,))
    with pytest.raises(DataError, match=rf"p\.he5: a part of the product is missing .*{lost}"):
        open_hyperspectral(path)


def test_a_damaged_prisma_file_is_named(tmp_path):
    path = tmp_path / "bad.he5"
    path.write_bytes(b"no hdf")
    with pytest.raises(DataError, match=r"bad\.he5: cannot be read as HDF5"):
        open_hyperspectral(path)


def test_without_h5py_the_package_is_named(tmp_path, monkeypatch):
    path, *_ = write_prisma(tmp_path / "p.he5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match="h5py") as caught:
        open_hyperspectral(path)
    assert "pip install h5py" in caught.value.hint


def write_enmap(folder, bands=3, described=3, gain=0.0001):
    head = "ENMAP01-____L2A-DT0000001867_20220724T104526Z_008-"
    image = write_tif(folder / f"{head}SPECTRAL_IMAGE.TIF", ramp(bands, 4, 5, "int16"), nodata=-32768)
    rows = "".join(
        f'<bandID number="{band}"><wavelengthCenterOfBand>{400 + 6.5 * band}</wavelengthCenterOfBand>'
        f"<FWHMOfBand>7.5</FWHMOfBand><GainOfBand>{gain}</GainOfBand><OffsetOfBand>0</OffsetOfBand></bandID>"
        for band in range(described, 0, -1)
    )
    text = (
        "<level_X><specific><dead><bandID number='1'/></dead>"
        f"<bandCharacterisation>{rows}</bandCharacterisation></specific></level_X>"
    )
    metadata = folder / f"{head}METADATA.XML"
    metadata.write_text(text)
    return image, metadata


def test_enmap_takes_wavelengths_and_scaling_from_the_metadata(tmp_path):
    for path in write_enmap(tmp_path):
        cube = open_hyperspectral(path)
        assert cube.wavelengths_nm.tolist() == [406.5, 413, 419.5]
        assert cube.fwhm_nm.tolist() == [7.5] * 3
        assert np.allclose(cube.read(), ramp(3, 4, 5) * 1e-4)
        assert cube.encodings[0].scale == 1e-4
        assert cube.encodings[0].encode(cube.read_band(0)).tolist() == ramp(3, 4, 5)[0].tolist()


def test_enmap_metadata_of_another_image_is_refused(tmp_path):
    image, metadata = write_enmap(tmp_path, described=2)
    with pytest.raises(DataError, match=r"describes 2 bands, but .* has 3"):
        open_hyperspectral(image)
    metadata.write_text("<level_X>")
    with pytest.raises(DataError, match=r"METADATA\.XML: the XML cannot be read"):
        open_hyperspectral(metadata)


def test_enmap_metadata_without_an_image_is_named(tmp_path):
    image, metadata = write_enmap(tmp_path)
    image.unlink()
    with pytest.raises(DataError, match=r"there is no '.*SPECTRAL_IMAGE\.TIF' beside it"):
        open_hyperspectral(metadata)


def write_hyperion(folder, bands=(5, 8, 57, 60, 77, 224, 230)):
    folder.mkdir()
    for band in bands:
        values = ramp(1, 4, 5, "int16") + band
        values[..., -1] = 0
        write_tif(folder / f"EO1H0441502002_B{band:03d}_L1T.TIF", values)
    (folder / "EO1H0441502002_MTL_L1T.TXT").write_text("text")
    return folder


def test_hyperion_keeps_calibrated_bands_in_order(tmp_path):
    folder = write_hyperion(tmp_path / "scene")
    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"inner/{file.name}")
    for path in (folder, tmp_path / "scene.zip"):
        cube = open_hyperspectral(path)
        assert cube.descriptions == ("B008", "B057", "B077", "B224")
        stored = ramp(1, 4, 5)[0, :, :-1]
        assert np.allclose(cube.read_band(0)[:, :-1], (stored + 8) / 40)
        assert np.allclose(cube.read_band(3)[:, :-1], (stored + 224) / 80)
        assert np.isnan(cube.read()[:, :, -1]).all()


def test_hyperion_centres_meet_the_published_table():
    table = {
        1: 355.59,
        8: 426.82,
        57: 925.41,
        70: 1057.68,
        71: 851.92,
        77: 912.45,
        136: 1507.73,
        242: 2577.08,
    }
    assert all(abs(centre_nm(band) - centre) < 0.1 for band, centre in table.items())


def test_hyperion_bands_of_different_grids_are_refused(tmp_path):
    folder = write_hyperion(tmp_path / "scene")
    write_tif(folder / "EO1H0441502002_B020_L1T.TIF", ramp(1, 4, 6, "int16"))
    with pytest.raises(DataError, match=r"B020_L1T\.TIF lies on another grid"):
        open_hyperspectral(folder)


def test_a_folder_or_a_zip_without_a_product_is_named(tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match="no bands of Hyperion"):
        open_hyperspectral(tmp_path)
    with pytest.raises(DataError, match=r"bad\.zip: cannot be read as a zip"):
        open_hyperspectral(tmp_path / "bad.zip")
    with pytest.raises(DataError, match=r"none\.tif: no such file"):
        open_hyperspectral(tmp_path / "none.tif")
