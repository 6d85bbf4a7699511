"""Fuzzing of files: tables, lists, archives, images, rasters, slides, annotations, bundles."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from appliedpapers.core import plugin as plugins
from appliedpapers.core.config import resolve
from benchmarks.fuzz_cases import (
    Change,
    changed_bytes,
    changed_chunks,
    changed_members,
    changed_words,
    mutated,
    nearly,
)
from benchmarks.fuzz_target import BUNDLE, Fuzzing, Target, of_file

_TABLE = pa.table(
    {
        "name": ["a", "b", None],
        "time": pa.array([datetime(2024, 1, day) for day in (1, 2, 3)], pa.timestamp("us")),
        "value": [1.5, None, -3.0],
        "count": [1, 2, 3],
        "list": [[1.0, 2.0], [], None],
    }
)


def _table(suffix: str, change: Change) -> Callable[[Path], Fuzzing]:
    from appliedpapers.core.tables import read_table, write_table

    def prepare(folder: Path) -> Fuzzing:
        path = folder / f"table{suffix}"
        write_table(_TABLE, path)
        return Fuzzing(mutated([path.read_bytes()], change), of_file(path, read_table))

    return prepare


def _sheet(folder: Path) -> Fuzzing:
    import openpyxl

    from appliedpapers.core.sheets import read_sheet

    book = openpyxl.Workbook()
    for row in (["soil", "ph", "day"], ["loam", 6.5, datetime(2024, 1, 1)], ["clay", None, True]):
        book.active.append(row)
    path = folder / "table.xlsx"
    book.save(path)
    return Fuzzing(mutated([path.read_bytes()], changed_members), of_file(path, read_sheet))


def _manifest(folder: Path) -> Fuzzing:
    from appliedpapers.core.manifests import read_manifest

    text = b"path,split,label\na.png,train,3\nb.png,test,4\n\nc.png,,x\n"

    def read(path: Path) -> None:
        for row in read_manifest(path, ("path",), ("split", "label")):
            row.part()

    return Fuzzing(
        mutated([text, text.replace(b",", b";")], changed_words), of_file(folder / "list.csv", read)
    )


def _inputs(suffix: str, change: Change) -> Callable[[Path], Fuzzing]:
    """Return the cases of every plugin's own reader: samples as ``apps config init`` writes them."""
    from appliedpapers.core.tables import write_table

    def prepare(folder: Path) -> Fuzzing:
        seeds: list[tuple[Any, Any, Path, bytes]] = []
        for state in plugins.discover():
            if state.spec is None or state.id.startswith("tiny"):
                continue
            for task in state.spec.tasks:
                place = folder / f"{state.spec.id}-{task.name}"
                place.mkdir()
                config = task.load("config")
                catalog = task.load("datasets")
                resolved = resolve(config, preset="check" if "check" in config.presets else "quick")
                path = place / f"sample{suffix}"
                write_table(catalog.sample(place, resolved).slice(0, 40), path)
                seeds.append((catalog, resolved, path, path.read_bytes()))

        def attempt(case: tuple[int, int]) -> None:
            catalog, resolved, path, content = seeds[case[0]]
            path.write_bytes(change(content, random.Random(case[1])))
            catalog.inputs(path, resolved)

        return Fuzzing(st.tuples(st.integers(0, len(seeds) - 1), st.integers(0, 2**63 - 1)), attempt)

    return prepare


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

    pixels = np.random.default_rng(0).integers(0, 256, (600, 520, 3), dtype=np.uint8)
    pyramid, flat = folder / "seed.tif", io.BytesIO()
    write_pyramid(pyramid, pixels, (0.5, 0.5))
    Image.fromarray(pixels[:40, :30]).save(flat, "png")
    changes = mutated([pyramid.read_bytes(), flat.getvalue()], _header_first)

    def read(path: Path) -> None:
        slide = open_slide(path, SlideConfig(mpp=0.5))
        try:
            slide.read_region(0, 0, 0, 64, 64) if hasattr(slide, "read_region") else None
        finally:
            slide.close()

    return Fuzzing(changes, of_file(folder / "slide.tif", read))


def _header_first(content: bytes, rng: random.Random) -> bytes:
    """Change the first or last kilobyte of a large file, where formats keep what they say of themselves."""
    if rng.random() < 0.5 or len(content) < 4096:
        return changed_bytes(content, rng)
    if rng.random() < 0.5:
        return changed_bytes(content[:1024], rng) + content[1024:]
    return content[:-1024] + changed_bytes(content[-1024:], rng)


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
    cases = st.one_of(mutated(seeds, changed_words), nearly(document).map(_json))
    return Fuzzing(cases, lambda content: _discarded(read_shapes(content)))


def _json(document: Any) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


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

    cases = st.one_of(nearly(document).map(_json), mutated([_json(document)], changed_words))
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


def _sealed(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return a small bundle and its manifest, without the seal."""
    from appliedpapers.core.bundle import save_bundle
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.frets.config import FretsConfig
    from appliedpapers.plugins.frets.data import DATASETS
    from appliedpapers.plugins.frets.model import FretsForecaster

    small = ["model.lookback=24", "model.horizon=4", "training.epochs=1", "simulator.days=40"]
    config = resolve(
        FretsConfig, preset="quick", assignments=[word for word in small if _known(FretsConfig, word)]
    )
    dataset = DATASETS.simulated(config)
    (folder / "fit").mkdir()
    model = FretsForecaster(config).fit(dataset.train, dataset.valid, FitContext(folder / "fit"))
    save_bundle(model, folder / "bundle", plugin="frets", task="forecasting")
    document = json.loads((folder / "bundle" / "bundle.json").read_text())
    document.pop("sha256")
    return folder / "bundle", document


def _known(config: Any, assignment: str) -> bool:
    from appliedpapers.core.config import option_paths

    return assignment.partition("=")[0] in option_paths(config)


def _bundle(folder: Path) -> Fuzzing:
    """Change the manifest, and seal it again as a forger would."""
    from appliedpapers.core.bundle import _digest, load_bundle

    bundle, document = _sealed(folder)

    def attempt(case: Any) -> None:
        changed = case
        if isinstance(case, dict):
            changed = {**case, "sha256": _digest(case)}
        (bundle / "bundle.json").write_bytes(_json(changed))
        load_bundle(bundle)

    return Fuzzing(nearly(document), attempt)


def _weights(folder: Path) -> Fuzzing:
    """Change a part of a bundle, and state its new checksum as a forger would."""
    import hashlib

    from appliedpapers.core.bundle import _digest, load_bundle

    bundle, document = _sealed(folder)
    parts = {name: (bundle / name).read_bytes() for name in document["files"]}
    names = sorted(parts)

    def attempt(case: tuple[int, int]) -> None:
        name, rng = names[case[0]], random.Random(case[1])
        content = (
            _header_first(parts[name], rng)
            if name.endswith("safetensors")
            else changed_words(parts[name], rng)
        )
        (bundle / name).write_bytes(content)
        sealed = {**document, "files": {**document["files"], name: hashlib.sha256(content).hexdigest()}}
        (bundle / "bundle.json").write_bytes(_json({**sealed, "sha256": _digest(sealed)}))
        try:
            load_bundle(bundle)
        finally:
            (bundle / name).write_bytes(parts[name])

    return Fuzzing(st.tuples(st.integers(0, len(names) - 1), st.integers(0, 2**63 - 1)), attempt)


def _archive(folder: Path) -> Fuzzing:
    import hashlib
    import zipfile

    from appliedpapers.pipelines.registry_transfer import MODEL_CARD, _unpack

    sink = io.BytesIO()
    names = (MODEL_CARD, "bundle/bundle.json")
    files = {name: {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()} for name in names}
    manifest = {
        "format_version": 1,
        "name": "apps.frets",
        "version": 1,
        "files": files,
        "tags": {"apps.a": "b"},
    }
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name in names:
            archive.writestr(name, "{}")

    def attempt(content: bytes) -> None:
        path, place = folder / "model.zip", folder / "unpacked"
        path.write_bytes(content)
        place.mkdir(exist_ok=True)
        _unpack(path, place, 2**24)

    return Fuzzing(mutated([sink.getvalue()], changed_members), attempt)


TARGETS = (
    Target("csv", "CSV tables", _table(".csv", changed_words)),
    Target("parquet", "Parquet tables", _table(".parquet", _header_first)),
    Target("jsonl", "JSON lines", _table(".jsonl", changed_words)),
    Target("arrow", "Arrow tables", _table(".arrow", changed_bytes)),
    Target("xlsx", "XLSX tables", _sheet),
    Target("manifest", "lists of files", _manifest),
    Target("inputs-csv", "every plugin's own rows as CSV", _inputs(".csv", changed_words)),
    Target("inputs-parquet", "every plugin's own rows as Parquet", _inputs(".parquet", changed_bytes)),
    Target("npz", "NPZ recordings and images", _npz),
    Target("image", "PNG, JPEG, BMP, TIFF and WebP images", _image),
    Target("geotiff", "GeoTIFF rasters", _raster),
    Target("slide", "whole-slide and flat images", _slide),
    Target("annotation", "GeoJSON, Aperio and ASAP annotations", _annotation),
    Target("coco", "COCO lists of images", _coco),
    Target("features-h5", "stored features in HDF5", _features),
    Target("bundle-manifest", "manifests of stored models, sealed again", _bundle, BUNDLE),
    Target("bundle-parts", "parts of stored models, with their new checksums", _weights, BUNDLE),
    Target("exported-model", "archives of apps registry export", _archive, BUNDLE),
)
