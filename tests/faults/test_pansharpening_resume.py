"""Sharpening killed, interrupted, out of disk or damaged in between ends with the bytes of a calm run."""

from __future__ import annotations

import json
import multiprocessing
import signal
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from killed_scenes import command
from tiny_pairs import MISSING, bundled, configured, raw, write_manifest, write_scene

from appliedpapers.core.files import sha256_file
from appliedpapers.pipelines.predict import predict_file
from appliedpapers.plugins.pansharpening.adaptation import NetworkBands
from appliedpapers.plugins.pansharpening.delivery import SCRATCH

BANDS = 4


@dataclass(frozen=True)
class Ended:
    code: int
    said: str
    adapted: int


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def children():
    context = multiprocessing.get_context("forkserver")
    plugin = "appliedpapers.plugins.pansharpening"
    context.set_forkserver_preload(
        [
            # what Adam imports when it is first used takes longer than a whole scene
            *("torch", "torch._dynamo", "pandas", "rasterio", "rasterio.shutil", "scipy.ndimage"),
            *(f"{plugin}.{name}" for name in ("model", "adaptation", "ingest", "quality", "data")),
            *("appliedpapers.cli.training", "appliedpapers.cli.production"),
            *("appliedpapers.pipelines.predict", "appliedpapers.pipelines.score"),
        ]
    )
    return context


@pytest.fixture
def apps(children, tmp_path):
    """Run a command in a process of its own; None where it was killed."""

    def _apps(*words: object, **disturbance: object) -> Ended | None:
        said = tmp_path / "said.json"
        said.unlink(missing_ok=True)
        child = children.Process(
            target=command, args=([str(word) for word in words], said), kwargs=disturbance
        )
        child.start()
        child.join(120)
        if child.exitcode == -signal.SIGKILL:
            assert not said.exists()
            return None
        assert child.exitcode == 0
        return Ended(**json.loads(said.read_text()))

    return _apps


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    plain = {"quality": "none", "compress": "none"}
    return {
        "rho-pnn": bundled(folder / "rho", configured()),
        "r-pnn": bundled(folder / "r", configured("r-pnn")),
        "gsa": bundled(folder / "gsa", configured("gsa", output=plain)),
    }


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """A manifest of one pair."""
    folder = tmp_path_factory.mktemp("pair")
    write_scene(folder, raw())
    return write_manifest(folder, ("field", "scene_hs.tif", "scene_pan.tif"))


@pytest.fixture(scope="module")
def calm(models, pair, tmp_path_factory) -> dict[str, str]:
    """The sha256 of the products of undisturbed runs."""
    folder = tmp_path_factory.mktemp("calm")
    sums = {}
    for method, model in models.items():
        row = predict_file(str(model), pair, files=folder / method).to_pylist()[0]
        sums[method] = sha256_file(folder / method / row["product_path"])
        assert sums[method] == row["product_sha256"]
    return sums


def rasters(folder: Path) -> list[str]:
    """Names of everything that looks like a product, whole or not."""
    return sorted(path.name for path in folder.rglob("*") if ".tif" in path.name)


def predict(model: Path, manifest: Path, files: Path) -> tuple[object, ...]:
    return "predict", model, "-i", manifest, "--files", files, "-o", files.parent / "rows.csv"


def score(model: Path, manifest: Path, output: Path) -> tuple[object, ...]:
    return "score", "run", "--model", model, "-i", manifest, "-o", output, "-q"


# -- killed and interrupted


@pytest.mark.parametrize("method", ["rho-pnn", "r-pnn"])
def test_a_killed_prediction_goes_on_at_the_next_band_and_ends_with_the_same_bytes(
    apps, models, pair, calm, tmp_path, method
):
    words = predict(models[method], pair, tmp_path / "out")
    assert apps(*words, end_after=2, how="kill") is None
    assert rasters(tmp_path / "out") == []
    assert list((tmp_path / "out" / SCRATCH).glob("*/bands/bands.json"))
    ended = apps(*words)
    assert (ended.code, ended.adapted) == (0, BANDS - 2)
    assert sha256_file(tmp_path / "out" / "field.tif") == calm[method]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["field.tif"]


def test_a_killed_scoring_run_goes_on_at_the_next_band(apps, models, pair, calm, tmp_path):
    words = score(models["rho-pnn"], pair, tmp_path / "out")
    assert apps(*words, end_after=3, how="kill") is None
    assert rasters(tmp_path / "out") == []
    ended = apps(*words)
    assert (ended.code, ended.adapted) == (0, BANDS - 3)
    (row,) = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    assert sha256_file(tmp_path / "out" / row["product_path"]) == calm["rho-pnn"]
    assert not list((tmp_path / "out").rglob(SCRATCH))
    again = apps(*words)
    assert (again.code, again.adapted) == (0, 0)


def test_a_run_killed_twice_still_ends_with_the_same_bytes(apps, models, pair, calm, tmp_path):
    words = predict(models["r-pnn"], pair, tmp_path / "out")
    for _ in range(2):
        assert apps(*words, end_after=1, how="kill") is None
    ended = apps(*words)
    assert (ended.code, ended.adapted) == (0, BANDS - 2)
    assert sha256_file(tmp_path / "out" / "field.tif") == calm["r-pnn"]


def test_an_interrupt_leaves_no_product_and_costs_no_finished_band(apps, models, pair, calm, tmp_path):
    words = predict(models["rho-pnn"], pair, tmp_path / "out")
    ended = apps(*words, end_after=2, how="interrupt")
    assert ended.code == 130
    assert "Traceback" not in ended.said
    assert rasters(tmp_path / "out") == []
    assert not (tmp_path / "rows.csv").exists()
    ended = apps(*words)
    assert (ended.code, ended.adapted) == (0, BANDS - 2)
    assert sha256_file(tmp_path / "out" / "field.tif") == calm["rho-pnn"]


# -- what was stored is damaged, or no longer fits


class Stop(Exception):
    """Stands for a kill, in this process."""


def begin(model: Path, manifest: Path, files: Path, bands: int) -> Path:
    """Stop a prediction before it adapts to the next band; return the folder of what is finished."""
    make, made = NetworkBands.make, []

    def stopping(self, position):
        if len(made) == bands:
            raise Stop
        made.append(position)
        return make(self, position)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NetworkBands, "make", stopping)
        with pytest.raises(Stop):
            predict_file(str(model), manifest, files=files)
    (ledger,) = (files / SCRATCH).glob("*/bands/bands.json")
    return ledger.parent


def finish(model: Path, manifest: Path, files: Path) -> tuple[str, int]:
    """Return the sha256 of the product and the number of bands that were adapted to."""
    make, made = NetworkBands.make, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            NetworkBands, "make", lambda self, position: (made.append(position), make(self, position))[1]
        )
        (row,) = predict_file(str(model), manifest, files=files).to_pylist()
    return sha256_file(files / row["product_path"]), len(made)


@pytest.mark.parametrize("damage", ["cut", "flip", "delete"])
@pytest.mark.parametrize("name", ["band-0000.npy", "band-0001.npy", "state-2.bin", "bands.json"])
def test_a_damaged_file_of_a_finished_band_is_noticed_and_never_reaches_a_product(
    models, pair, calm, tmp_path, name, damage
):
    victim = begin(models["r-pnn"], pair, tmp_path / "out", 2) / name
    content = bytearray(victim.read_bytes())
    if damage == "delete":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 4
        victim.write_bytes(content)
    found, adapted = finish(models["r-pnn"], pair, tmp_path / "out")
    assert found == calm["r-pnn"]
    assert adapted == BANDS or name == "bands.json"


def test_what_is_whole_is_taken(models, pair, calm, tmp_path):
    begin(models["r-pnn"], pair, tmp_path / "out", 3)
    assert finish(models["r-pnn"], pair, tmp_path / "out") == (calm["r-pnn"], 1)


@pytest.mark.parametrize("changed", ["hs", "pan", "wavelengths", "mask"])
def test_another_input_under_the_same_name_starts_anew(models, tmp_path, changed):
    scene = raw()
    write_scene(tmp_path, scene)
    manifest = write_manifest(tmp_path, ("field", "scene_hs.tif", "scene_pan.tif"))
    begin(models["r-pnn"], manifest, tmp_path / "out", 2)
    if changed == "hs":
        scene.hs[0, 3, 3] += 1
    elif changed == "pan":
        scene.pan[3, 3] += 1
    elif changed == "mask":
        scene.hs[:, 5, 5] = MISSING
    shifted = scene.wavelengths + 30 * (changed == "wavelengths")
    write_scene(tmp_path, scene, wavelengths=shifted)
    found, adapted = finish(models["r-pnn"], manifest, tmp_path / "out")
    assert adapted == BANDS
    assert found == finish(models["r-pnn"], manifest, tmp_path / "fresh")[0]


def test_another_table_of_wavelengths_starts_anew(pair, tmp_path):
    table = tmp_path / "centres.csv"
    config = configured("r-pnn", data={"wavelengths": str(table)})
    model = bundled(tmp_path / "model", config)
    products = []
    for step in (20, 90):
        table.write_text("wavelength_nm\n" + "".join(f"{500 + step * band}\n" for band in range(BANDS)))
        products.append(finish(model, pair, tmp_path / f"calm-{step}")[0])
        if step == 20:
            begin(model, pair, tmp_path / "out", 2)
    assert finish(model, pair, tmp_path / "out") == (products[1], BANDS)


def test_another_model_starts_anew(models, pair, calm, tmp_path):
    begin(models["rho-pnn"], pair, tmp_path / "out", 2)
    assert finish(models["r-pnn"], pair, tmp_path / "out") == (calm["r-pnn"], BANDS)


def test_a_finished_scene_is_not_sharpened_again_for_the_sake_of_the_next_one(models, tmp_path):
    for number in (1, 2):
        write_scene(tmp_path, raw(number), name=f"s{number}")
    manifest = write_manifest(
        tmp_path, *((f"s{number}", f"s{number}_hs.tif", f"s{number}_pan.tif") for number in (1, 2))
    )
    begin(models["r-pnn"], manifest, tmp_path / "out", BANDS + 1)
    product = tmp_path / "out" / "s1.tif"
    before = sha256_file(product)
    make, made = NetworkBands.make, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            NetworkBands, "make", lambda self, position: (made.append(position), make(self, position))[1]
        )
        rows = predict_file(str(models["r-pnn"]), manifest, files=tmp_path / "out").to_pylist()
    assert len(made) == BANDS - 1
    assert rows[0]["product_sha256"] == before == sha256_file(product)
    assert not (tmp_path / "out" / SCRATCH).exists()


# -- no room


@pytest.mark.parametrize(("method", "most_bytes"), [("rho-pnn", 4_000), ("rho-pnn", 40_000), ("gsa", 20_000)])
@pytest.mark.parametrize("way", [predict, score])
def test_no_room_for_a_band_a_state_or_the_product_is_exit_1_without_a_product(
    apps, models, pair, calm, tmp_path, method, most_bytes, way
):
    words = way(models[method], pair, tmp_path / "out")
    ended = apps(*words, most_bytes=most_bytes)
    assert ended.code == 1
    assert "Traceback" not in ended.said
    assert "internal error" not in ended.said
    assert "cannot be written" in ended.said
    assert rasters(tmp_path / "out") == []
    assert apps(*words).code == 0
    (product,) = (tmp_path / "out").rglob("field.tif")
    assert sha256_file(product) == calm[method]


# -- a broken row


def test_a_broken_second_row_is_quarantined_and_the_first_product_is_there(apps, models, calm, tmp_path):
    write_scene(tmp_path, raw())
    broken = write_scene(tmp_path, raw(2), name="broken")[0]
    broken.write_bytes(broken.read_bytes()[:-3000])
    lost = raw(3)
    lost.hs[:] = MISSING
    write_scene(tmp_path, lost, name="lost")
    (tmp_path / "text_hs.tif").write_text("no raster")
    names = ("scene", "broken", "lost", "text")
    pans = {"text": "scene_pan.tif"}
    rows = ((name, f"{name}_hs.tif", pans.get(name, f"{name}_pan.tif")) for name in names)
    manifest = write_manifest(tmp_path, *rows)
    ended = apps(*score(models["rho-pnn"], manifest, tmp_path / "out"))
    assert ended.code == 0, ended.said
    (row,) = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    assert (row["scene_id"], row["bands"]) == ("scene", BANDS)
    product = tmp_path / "out" / row["product_path"]
    assert sha256_file(product) == row["product_sha256"]
    bad = {item["row"]: item["rule"] for item in quarantined(tmp_path / "out")}
    assert sorted(bad) == [2, 3, 4]
    assert all("\n" not in rule and rule for rule in bad.values())
    for number, name in ((2, "broken"), (3, "lost"), (4, "text")):
        assert f"{name}_hs.tif" in bad[number]
    assert not list((tmp_path / "out").rglob(SCRATCH))


def quarantined(output: Path) -> list[dict]:
    return pq.read_table(output / "quarantine.parquet").to_pylist()
