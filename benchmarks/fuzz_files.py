"""Fuzzing of files other than tables: recordings, images, rasters, slides, annotations, stored features."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzz_cases import (
    changed_bytes,
    changed_chunks,
    changed_ends,
    changed_members,
    changed_words,
    json_bytes,
    mutated,
    nearly,
)
from benchmarks.fuzz_target import Fuzzing, Target, of_file


def _npz(folder: Path) -> Fuzzing:
    from appliedpapers.plugins.imu_attitude.config import ColumnsConfig
    from appliedpapers.plugins.imu_attitude.recording_files import read_file
    from appliedpapers.plugins.varifocal_net.config import DataConfig
    from appliedpapers.plugins.varifocal_net.readers_npz import list_npz

    recording, cells = io.BytesIO(), io.BytesIO()
    np.savez(recording, acc=np.ones((30, 3)), gyr=np.zeros((30, 3)), fs=100.0)
    sizes = {"height": np.array([4, 5]), "width": np.array([4, 2]), "label": np.array([0, 3])}
    np.savez_compressed(cells, pixels=np.arange(26, dtype=np.uint8), offsets=np.array([0, 16, 26]), **sizes)
    motion = of_file(folder / "motion.npz", lambda path: read_file(path, ColumnsConfig()))
    images = of_file(folder / "cells.npz", lambda path: _listed(list_npz(path, DataConfig())))

    def attempt(case: tuple[bool, bytes]) -> None:
        (motion if case[0] else images)(case[1])

    return Fuzzing(
        st.tuples(st.booleans(), mutated([recording.getvalue(), cells.getvalue()], changed_members)), attempt
    )


def _discarded(found: Any) -> None:
    """Take what was read: that it could be read is all that counts."""


def _listed(listing: Any) -> None:
    for entry in listing.entries:
        str(entry)


def _image(folder: Path) -> Fuzzing:
    from PIL import Image

    from appliedpapers.core.images import read_rgb

    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    palette, deep = picture.convert("P"), Image.fromarray(pixels[..., 0].astype(np.uint16) * 200)
    seeds = {"png": [picture, palette, deep], "jpeg": [picture], "bmp": [picture], "tiff": [picture, deep]}
    seeds["webp"] = [picture]
    content = []
    for kind, pictures in seeds.items():
        for one in pictures:
            sink = io.BytesIO()
            one.save(sink, kind)
            content.append(sink.getvalue())

    def change(data: bytes, rng: random.Random) -> bytes:
        return (changed_chunks if data[:4] == b"\x89PNG" else changed_bytes)(data, rng)

    return Fuzzing(mutated(content, change), lambda data: _discarded(read_rgb(data, "the image")))


def _raster(folder: Path) -> Fuzzing:
    import rasterio
    from rasterio.transform import from_origin

    from appliedpapers.core.rasters.cube import open_cube, open_quietly

    values = np.arange(3 * 20 * 16, dtype=np.uint16).reshape(3, 20, 16)
    seeds = []
    for number, extra in enumerate(
        ({}, {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16})
    ):
        path = folder / f"seed-{number}.tif"
        grid = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_800_000, 30, 30)}
        shape = {"count": 3, "height": 20, "width": 16, "dtype": "uint16"}
        with open_quietly(path, "w", driver="GTiff", **shape, **grid, **extra) as file:
            file.write(values)
            file.update_tags(1, wavelength="450")
        seeds.append(path.read_bytes())
    assert rasterio

    def read(path: Path) -> None:
        cube = open_cube(path)
        assert cube.wavelengths_nm is None or len(cube.wavelengths_nm) == cube.count
        height, width = cube.shape
        if height * width * cube.count <= 10**6:
            cube.read()

    return Fuzzing(mutated(seeds), of_file(folder / "raster.tif", read))


def _slide(folder: Path) -> Fuzzing:
    from PIL import Image

    from appliedpapers.plugins.virtual_inking.config import SlideConfig
    from appliedpapers.plugins.virtual_inking.pyramid_tiff import write_pyramid
    from appliedpapers.plugins.virtual_inking.slides import open_slide

    # small: hypothesis keeps every content until its run ends
    pixels = np.random.default_rng(0).integers(0, 256, (180, 150, 3), dtype=np.uint8)
    pyramid, flat = folder / "seed.tif", io.BytesIO()
    write_pyramid(pyramid, pixels, (0.5, 0.5))
    Image.fromarray(pixels[:40, :30]).save(flat, "png")
    changes = mutated([pyramid.read_bytes(), flat.getvalue()], changed_ends)

    def read(path: Path) -> None:
        slide = open_slide(path, SlideConfig(mpp=0.5))
        try:
            for level in range(len(slide.downsamples)):
                slide.read(level, 0, 0, 64, 64)
        finally:
            slide.close()

    return Fuzzing(changes, of_file(folder / "slide.tif", read))


def _annotation(folder: Path) -> Fuzzing:
    from appliedpapers.plugins.virtual_inking.annotations import read_shapes

    ring = [[0, 0], [90, 0], [90, 80], [0, 0]]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": kind, "coordinates": places},
            "properties": {"classification": {"name": "cut"}},
        }
        for kind, places in (("LineString", ring), ("Polygon", [ring]), ("MultiPolygon", [[ring]]))
    ]
    document = {"type": "FeatureCollection", "features": features}
    aperio = b'<Annotations><Annotation Name="cut"><Regions><Region Type="0"><Vertices><Vertex X="1" Y="2"/>'
    aperio += b'<Vertex X="9" Y="2"/></Vertices></Region></Regions></Annotation></Annotations>'
    asap = (
        b'<ASAP_Annotations><Annotations><Annotation Name="a" Type="Polygon" PartOfGroup="cut"><Coordinates>'
    )
    asap += (
        b'<Coordinate Order="0" X="1" Y="2"/><Coordinate Order="1" X="5" Y="2"/></Coordinates></Annotation>'
    )
    asap += b"</Annotations></ASAP_Annotations>"
    seeds = [json.dumps(document).encode(), aperio, asap]
    cases = st.one_of(mutated(seeds, changed_words), nearly(document).map(json_bytes))
    return Fuzzing(cases, lambda content: _discarded(read_shapes(content)))


def _coco(folder: Path) -> Fuzzing:
    from appliedpapers.plugins.varifocal_net.config import DataConfig
    from appliedpapers.plugins.varifocal_net.readers_coco import list_coco

    (folder / "page.png").write_bytes(_grey_page())
    document = {
        "images": [{"id": 1, "file_name": "page.png", "width": 40, "height": 30}],
        "categories": [{"id": 7, "name": "chr21"}, {"id": 8, "name": "X"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 7,
                "bbox": [1, 2, 12, 9],
                "segmentation": [[1, 2, 12, 2, 12, 9]],
            },
            {
                "id": 2,
                "image_id": 1,
                "category_id": 8,
                "segmentation": {"size": [30, 40], "counts": [0, 1200]},
            },
        ],
    }

    def read(path: Path) -> None:
        for entry in list_coco(path, DataConfig()).entries:
            entry.read() if hasattr(entry, "read") else str(entry)

    cases = st.one_of(nearly(document).map(json_bytes), mutated([json_bytes(document)], changed_words))
    return Fuzzing(cases, of_file(folder / "coco.json", read))


def _grey_page() -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(30, 40)).save(sink, "png")
    return sink.getvalue()


def _features(folder: Path) -> Fuzzing:
    import h5py

    from appliedpapers.plugins.virtual_inking.features_h5 import read_features

    path = folder / "seed.h5"
    with h5py.File(path, "w") as file:
        file["features"] = np.ones((3, 4), dtype=np.float32)
        file["coords"] = np.zeros((3, 2), dtype=np.int64)
        file["coords"].attrs["patch_size_level0"] = 224
    return Fuzzing(mutated([path.read_bytes()]), of_file(folder / "features.h5", read_features))


TARGETS = (
    Target("npz", "NPZ recordings and images", _npz),
    Target("image", "PNG, JPEG, BMP, TIFF and WebP images", _image),
    Target("geotiff", "GeoTIFF rasters", _raster),
    Target("slide", "whole-slide and flat images", _slide),
    Target("annotation", "GeoJSON, Aperio and ASAP annotations", _annotation),
    Target("coco", "COCO lists of images", _coco),
    Target("features-h5", "stored features in HDF5", _features),
)
