"""Datasets of pansharpening: simulated scenes, manifests and folders of users, lazy splits."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from appliedpapers.core.config import resolve
from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.sources import find_published
from appliedpapers.plugins.pansharpening import data as module
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.data import DATASETS
from appliedpapers.plugins.pansharpening.scene_files import scratch_folder
from appliedpapers.plugins.pansharpening.scene_pairs import find_pairs
from appliedpapers.plugins.pansharpening.simulator import simulate_scene

pytest.importorskip("rasterio")


def configured(*assignments: str, preset: str = "quick") -> PansharpeningConfig:
    small = ("simulator.size=48", "simulator.bands=6", *assignments)
    return resolve(PansharpeningConfig, preset=preset, assignments=small)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Two pairs of a user, as a folder."""
    folder = tmp_path_factory.mktemp("own")
    for seed, name in enumerate(("north", "south")):
        simulate_scene(seed, size=48, bands=6, scene_id=name).write(folder)
    return folder


def manifest(folder: Path, text: str, name: str = "scenes.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_simulated_parts_are_lazy_disjoint_and_of_the_sizes_asked_for():
    dataset = DATASETS.simulated(configured("simulator.train_scenes=3", "simulator.test_scenes=2"))
    assert [part.num_rows for part in (dataset.train, dataset.valid, dataset.test)] == [3, 1, 2]
    assert dataset.protocol == "known-truth"
    assert dataset.provenance.synthetic
    assert leakage_audit(dataset) == []
    scenes = list(dataset.test.scenes())
    assert [scene.scene_id for scene in scenes] == dataset.test.keys()["scene_id"].to_pylist()
    assert all(scene.truth.shape == (6, 48, 48) and scene.hs.shape == (6, 16, 16) for scene in scenes)
    assert scenes[0].optics.phase == "centre"


def test_opening_a_split_makes_no_scene(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a scene was made")

    monkeypatch.setattr("appliedpapers.plugins.pansharpening.splits.simulate_scene", fail)
    dataset = DATASETS.simulated(configured("simulator.train_scenes=1000"))
    assert dataset.train.num_rows == 1000
    assert len(set(dataset.train.signatures().to_pylist())) == 1000
    # those of train are fingerprinted by what they are drawn from
    assert len(dataset.train.fingerprint()) == 64


def test_fingerprints_follow_seed_and_options_and_nothing_else():
    first, again = (DATASETS.simulated(configured()) for _ in range(2))
    assert first.fingerprint() == again.fingerprint()
    assert first.test_fingerprint() == again.test_fingerprint()
    prints = {first.fingerprint()}
    for change in ("seed=1", "simulator.noise=false", "simulator.ratio=4", "data.phase=reference"):
        prints.add(DATASETS.simulated(configured(change)).fingerprint())
    assert len(prints) >= 4
    # with an odd ratio both phases are the same image, but not the same claim
    assert DATASETS.simulated(configured("simulator.ratio=4")).fingerprint() != (
        DATASETS.simulated(configured("simulator.ratio=4", "data.phase=reference")).fingerprint()
    )


def test_an_empty_part_works_everywhere_and_shows_scenes_of_another():
    dataset = DATASETS.simulated(configured())
    empty = dataset.train
    assert empty.num_rows == 0
    assert empty.keys().num_rows == 0
    assert list(empty.scenes()) == []
    assert list(empty.batches()) == []
    assert len(empty.signatures()) == 0
    assert len(empty.fingerprint()) == 64
    assert dataset.example(1).equals(dataset.test.example(1))
    assert empty.example(2).num_rows == 0
    assert leakage_audit(dataset) == []


def test_an_example_names_rasters_that_hold_the_scene():
    rasterio = pytest.importorskip("rasterio")
    dataset = DATASETS.simulated(configured("simulator.test_scenes=2"))
    table = dataset.test.example(5)
    assert table.column_names == ["scene_id", "hs_path", "pan_path"]
    assert table.num_rows == 2
    row, scene = table.to_pylist()[0], next(dataset.test.scenes())
    with rasterio.open(row["pan_path"]) as pan:
        assert np.array_equal(pan.read(1), scene.pan)
    assert Path(row["hs_path"]).is_relative_to(scratch_folder())
    assert pa.Table.from_batches(list(dataset.test.batches())).equals(table)


def test_rasters_made_on_demand_go_away_with_the_process():
    program = (
        "from appliedpapers.core.config import resolve\n"
        "from appliedpapers.plugins.pansharpening.config import PansharpeningConfig\n"
        "from appliedpapers.plugins.pansharpening.data import DATASETS\n"
        "small = ('simulator.size=48', 'simulator.bands=6')\n"
        "config = resolve(PansharpeningConfig, preset='quick', assignments=small)\n"
        "print(DATASETS.simulated(config).test.example(1)['hs_path'][0].as_py())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    path = Path(done.stdout.strip())
    assert path.name == "test-0000_hs.tif"
    assert not path.parent.parent.exists()


def test_a_size_that_the_ratio_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="48 is not a multiple of the ratio 5") as caught:
        DATASETS.simulated(configured("simulator.ratio=5"))
    assert "45 or 50" in caught.value.hint


def test_scenes_for_initial_weights_have_many_ratios_and_the_first_bands():
    config = configured("initial.san_francisco=false", "initial.scenes=12", preset="r-pnn-init")
    config = config.replace(initial={"size": 60})
    dataset = DATASETS.simulated(config)
    scenes = list(dataset.train.scenes())
    assert len(scenes) == 12
    assert {scene.optics.ratio for scene in scenes} <= {2, 3, 4, 5, 6}
    assert len({scene.optics.ratio for scene in scenes}) >= 3
    centres = np.concatenate([scene.wavelengths for scene in scenes])
    assert 440 <= centres.min() < centres.max() <= 520
    assert dataset.valid.num_rows == 8
    assert leakage_audit(dataset) == []


def test_a_sample_input_is_a_manifest_that_can_be_read_where_it_lies(tmp_path):
    config = configured()
    table = DATASETS.sample(tmp_path, config)
    assert table.num_rows == 1
    assert not Path(table["hs_path"][0].as_py()).is_absolute()
    pq.write_table(table, tmp_path / "pansharpening-sample.parquet")
    inputs = DATASETS.inputs(tmp_path / "pansharpening-sample.parquet", config)
    assert all(Path(row[name]).is_file() for row in inputs.to_pylist() for name in ("hs_path", "pan_path"))


@pytest.mark.parametrize(
    ("hs", "pan", "words"),
    [
        ("north_pan.tif", "north_hs.tif", "look swapped"),
        ("north_hs.tif", "pairs.csv", "cannot be read as a raster"),
        ("cut.tif", "north_pan.tif", "cannot be read as a raster"),
    ],
)
def test_a_pair_that_cannot_be_sharpened_is_refused_before_anything_is_done(pairs, tmp_path, hs, pan, words):
    (pairs / "cut.tif").write_bytes((pairs / "north_hs.tif").read_bytes()[:200])
    (pairs / "pairs.csv").write_text("scene_id,hs_path,pan_path\n")
    path = manifest(tmp_path, f"scene_id,hs_path,pan_path\na,{pairs}/{hs},{pairs}/{pan}\n")
    with pytest.raises(DataError, match=words):
        DATASETS.from_user(path, configured())


def test_a_manifest_names_scenes_by_paths_relative_to_itself(pairs, tmp_path):
    text = (
        "scene_id,hs_path,pan_path,output_path,split\n"
        f"007,{os.path.relpath(pairs, tmp_path)}/north_hs.tif,{pairs}/north_pan.tif,out/a.tif,valid\n"
        f"b,{pairs}/south_hs.tif,{pairs}/south_pan.tif,,\n"
    )
    path = manifest(tmp_path, text)
    dataset = DATASETS.from_user(path, configured())
    assert [part.num_rows for part in (dataset.train, dataset.valid, dataset.test)] == [0, 1, 1]
    assert dataset.valid.keys()["scene_id"].to_pylist() == ["007"]
    assert dataset.protocol == "wald"
    assert dataset.disjoint == ("scene_id",)
    assert set(dataset.provenance.sha256) == {
        *("007/north_hs.tif", "007/north_pan.tif", "b/south_hs.tif", "b/south_pan.tif")
    }
    inputs = DATASETS.inputs(path, configured()).to_pylist()
    assert [row["scene_id"] for row in inputs] == ["007", "b"]
    assert all(Path(row["hs_path"]).is_absolute() and Path(row["hs_path"]).is_file() for row in inputs)
    assert [row["output_path"] for row in inputs] == ["out/a.tif", None]


@pytest.mark.parametrize("name", ["scenes.parquet", "scenes.csv.gz", "scenes.arrow"])
def test_a_manifest_may_be_a_table_of_another_kind(pairs, tmp_path, name):
    path = tmp_path / name
    columns = {
        "scene_id": ["a"],
        "hs_path": [f"{pairs}/north_hs.tif"],
        "pan_path": [f"{pairs}/north_pan.tif"],
    }
    if name.endswith(".gz"):
        body = "\n".join(",".join(row) for row in (list(columns), [cells[0] for cells in columns.values()]))
        path.write_bytes(gzip.compress(body.encode()))
    elif name.endswith(".parquet"):
        pq.write_table(pa.table(columns), path)
    else:
        with pa.ipc.new_file(path, pa.table(columns).schema) as sink:
            sink.write_table(pa.table(columns))
    (pair,) = find_pairs(path)
    assert (pair.scene_id, pair.split) == ("a", "test")


def test_a_folder_gives_its_pairs_and_a_raster_finds_its_partner(pairs, tmp_path):
    assert [pair.scene_id for pair in find_pairs(pairs)] == ["north", "south"]
    (one,) = find_pairs(pairs / "south_hs.tif")
    assert (one.scene_id, one.pan_path) == ("south", pairs / "south_pan.tif")
    own = tmp_path / "place"
    own.mkdir()
    for part in ("hs", "pan"):
        (own / f"{part}.tif").write_bytes((pairs / f"north_{part}.tif").read_bytes())
    (pair,) = find_pairs(own)
    assert (pair.scene_id, pair.pan_path.name) == ("place", "pan.tif")
    assert find_pairs(own / "hs.tif") == [pair]


def test_a_prisma_product_is_its_own_partner(tmp_path):
    product = tmp_path / "PRS_L2D_STD_1.he5"
    product.write_bytes(b"\x89HDF")
    (pair,) = find_pairs(product)
    assert pair.hs_path == pair.pan_path == product


def test_pairs_of_a_user_are_opened_by_the_options(pairs):
    dataset = DATASETS.from_user(pairs, configured())
    scene = next(dataset.test.scenes())
    made = simulate_scene(0, size=48, bands=6)
    assert scene.scene_id == "north"
    assert scene.optics.ratio == 3
    assert scene.truth is None
    assert np.array_equal(scene.hs_valid, made.observed)
    assert np.array_equal(scene.hs[:, made.observed][~made.dead], made.hs[:, made.observed][~made.dead])
    assert dataset.example(1).equals(dataset.test.example(1))


def test_content_of_users_files_decides_the_fingerprint(pairs, tmp_path):
    before = DATASETS.from_user(pairs, configured()).fingerprint()
    for path in pairs.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert DATASETS.from_user(tmp_path, configured()).fingerprint() == before
    simulate_scene(5, size=48, bands=6, scene_id="north").write(tmp_path)
    assert DATASETS.from_user(tmp_path, configured()).fingerprint() != before


def test_the_same_images_in_two_parts_are_a_leak(pairs, tmp_path):
    rows = [f"{split},{pairs}/north_hs.tif,{pairs}/north_pan.tif,{split}" for split in ("train", "test")]
    path = manifest(tmp_path, "scene_id,hs_path,pan_path,split\n" + "\n".join(rows))
    (finding,) = leakage_audit(DATASETS.from_user(path, configured()))
    assert finding.kind == "identical contents"


BAD = {
    "missing column": ("scene_id,hs_path\na,{0}/north_hs.tif\n", "column 'pan_path' is missing"),
    "duplicate": (
        "scene_id,hs_path,pan_path\n" + 2 * "a,{0}/north_hs.tif,{0}/north_pan.tif\n",
        "column 'scene_id', row 2: 'a' is also in row 1",
    ),
    "missing file": (
        "scene_id,hs_path,pan_path\na,{0}/north_hs.tif,{0}/gone.tif\n",
        "column 'pan_path', row 1: no such file",
    ),
    "empty cell": ("scene_id,hs_path,pan_path\n,{0}/north_hs.tif,{0}/north_pan.tif\n", "column 'scene_id'"),
    "short row": ("scene_id,hs_path,pan_path\na,{0}/north_hs.tif\n", "row 1: 2 cells, expected 3"),
    "long row": ("scene_id,hs_path,pan_path\na,b,c,d\n", "row 1: 4 cells, expected 3"),
    "unknown part": (
        "scene_id,hs_path,pan_path,split\na,{0}/north_hs.tif,{0}/north_pan.tif,best\n",
        "column 'split', row 1: 'best' is not train",
    ),
    "no rows": ("scene_id,hs_path,pan_path\n", "no rows"),
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD)
def test_a_broken_manifest_is_refused_with_file_row_and_column(pairs, tmp_path, text, words):
    path = manifest(tmp_path, text.format(pairs))
    with pytest.raises(DataError, match=words) as caught:
        DATASETS.from_user(path, configured())
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("noise.csv", bytes(range(256))),
        ("words.csv", b"a,b\n1,2\n"),
        ("notes.txt", b"hello"),
        ("noise.parquet", bytes(range(256))),
        ("noise.csv.gz", bytes(range(256))),
        ("nul.csv", b"scene_id,hs_path,pan_path\na,\0,b\n"),
    ],
)
def test_a_file_that_is_no_manifest_gives_a_message_with_a_remedy(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        DATASETS.from_user(path, configured())
    assert caught.value.hint


def test_a_raster_without_partner_and_a_folder_without_pairs_say_what_is_expected(pairs, tmp_path):
    with pytest.raises(DataError, match="no pair of rasters"):
        find_pairs(tmp_path)
    lonely = tmp_path / "lonely_hs.tif"
    lonely.write_bytes((pairs / "north_hs.tif").read_bytes())
    with pytest.raises(DataError, match="no panchromatic raster beside it") as caught:
        find_pairs(lonely)
    assert "lonely_pan.tif" in caught.value.hint


def test_two_rasters_of_the_same_name_in_a_folder_are_refused(pairs, tmp_path):
    for path in pairs.glob("north*"):
        for suffix in (".tif", ".tiff"):
            (tmp_path / path.with_suffix(suffix).name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="are both 'north'"):
        find_pairs(tmp_path)


def test_datasets_that_we_cannot_fetch_say_how_to_get_them():
    with pytest.raises(ConfigError) as caught:
        find_published(DATASETS, "prisma")
    assert "Italian Space Agency" in caught.value.hint


def test_the_catalogue_is_of_this_plugin():
    assert module.PLUGIN_ID == "pansharpening"
    assert [entry.id for entry in DATASETS.published] == ["san-francisco", "paris", "enmap-potsdam"]
    assert [entry.id for entry in DATASETS.published if entry.terms] == ["enmap-potsdam"]
