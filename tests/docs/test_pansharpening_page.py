"""The page on pansharpening: its pairs can be written, compared, sharpened and scored as it says."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from appliedpapers.plugins.pansharpening.config import Method, PansharpeningConfig
from appliedpapers.plugins.pansharpening.data import DATASETS
from appliedpapers.plugins.pansharpening.delivery import orders_of, review_rows
from appliedpapers.plugins.pansharpening.products import network_refusal
from appliedpapers.plugins.pansharpening.sensors import SENSORS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "pansharpening.md").read_text(encoding="utf-8")
# smaller scenes and fewer comparisons show the same
SMALLER = {"size=192, bands=24": "size=96, bands=8"}
SHORTER = {
    "--set method=gsa": "--set method=gsa --set baselines=[exp] --set evaluation.full_resolution=false"
}


def ran(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "110"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def commands(beginning: str) -> list[str]:
    """Return the page's commands that begin so, in blocks that are run."""
    blocks = re.findall(r"(<!-- not run: [^\n]* -->\n)?```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for mark, block in blocks if not mark for line in block.splitlines()]
    return [line for line in lines if line.startswith(beginning)]


def apps(folder: Path, command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    for text, other in SHORTER.items():
        command = command.replace(text, other)
    return ran(folder, "-m", "appliedpapers", *command.split()[1:], code=code)


def manifest(folder: Path, column: str, line: str) -> pa.Table:
    """Return a manifest of one scene as ``predict`` gets it."""
    path = folder / "one.csv"
    path.write_text(f"scene_id,hs_path,pan_path,{column}\n{line}\n")
    return DATASETS.inputs(path, PansharpeningConfig())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's pairs and the champion that its first command registers."""
    place = tmp_path_factory.mktemp("page")
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    code = found[1]
    for text, other in SMALLER.items():
        assert text in code
        code = code.replace(text, other)
    ran(place, "-c", code)
    (command,) = commands("apps run pansharpening --data")
    assert "apps.pansharpening version 1 → @champion" in apps(place, command).stdout
    return place


@pytest.fixture(scope="module")
def products(folder: Path) -> list[dict[str, str]]:
    (command,) = commands("apps predict")
    apps(folder, command)
    with (folder / "products.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_manifest_that_the_page_shows_is_the_one_that_its_code_writes(folder):
    shown = re.search(r"```text\n(scene_id,.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    assert (folder / "pairs.csv").read_text() == shown[1]


@pytest.mark.slow
def test_pairs_become_products_with_the_columns_of_the_page(folder, products):
    assert [row["scene_id"] for row in products] == ["orchard", "harbour"]
    assert {row["method"] for row in products} == {"gsa"}
    for row in products:
        for column in ("product_path", "quality_path", "report_path"):
            assert (folder / "products" / row[column]).is_file()
    table = re.search(r"<!-- generated: pansharpening-output -->(.*?)<!-- end", PAGE, re.DOTALL)
    assert table is not None
    assert re.findall(r"^\| (\w+) \|", table[1], re.MULTILINE)[1:] == list(products[0])


@pytest.mark.slow
def test_a_product_is_what_the_page_says(folder, products):
    rasterio = pytest.importorskip("rasterio")
    with (
        rasterio.open(folder / "products" / "orchard.tif") as product,
        rasterio.open(folder / "orchard_hs.tif") as cube,
        rasterio.open(folder / "orchard_pan.tif") as pan,
    ):
        assert (product.crs, product.transform, product.shape) == (pan.crs, pan.transform, pan.shape)
        assert (product.dtypes, product.nodata) == (cube.dtypes, cube.nodata)
        assert product.descriptions == cube.descriptions
        assert product.tags(1)["wavelength"] == "420"
        assert {"CENTRAL_WAVELENGTH_UM", "FWHM_UM"} <= set(product.tags(1, ns="IMAGERY"))
        assert product.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    report = json.loads((folder / "products" / "orchard-quality.json").read_text())
    assert report["verdict"].endswith("PAN pixel.")


@pytest.mark.slow
def test_scoring_twice_does_nothing_the_second_time(folder):
    first, second = commands("apps score run")
    assert "wrote 2, kept 0" in apps(folder, first).stdout
    again = apps(folder, second)
    assert "wrote 0, kept 2" in again.stdout
    assert "nothing to do: 2 parts in scores are up to date" in again.stdout + again.stderr
    for row in pq.read_table(folder / "scores" / "predictions.parquet").to_pylist():
        assert (folder / "scores" / row["product_path"]).is_file()


@pytest.mark.slow
def test_a_manifest_may_name_the_product(folder):
    assert "`north/orchard-10m.tif`" in PAGE
    table = manifest(folder, "output_path", "orchard,orchard_hs.tif,orchard_pan.tif,north/orchard-10m.tif")
    assert not review_rows(table, PansharpeningConfig(), folder / "unused")
    assert [order.file_name for order in orders_of(table)] == ["north/orchard-10m.tif"]


@pytest.mark.slow
def test_swapped_rasters_are_refused_with_the_message_of_the_page(folder):
    table = manifest(folder, "split", "swapped,harbour_pan.tif,harbour_hs.tif,test")
    (problem,) = review_rows(table, PansharpeningConfig(), folder / "unused")
    message = re.search(r"^\| `has 1 band and … has \d+: ([^`]*)` \|", PAGE, re.MULTILINE)
    assert message is not None
    assert message[1] in problem.rule


def test_the_gains_of_the_page_are_those_of_the_code():
    rows = re.findall(r"^\| `([\w-]+)` \| (0\.\d+) \| (0\.\d+) \|$", PAGE, re.MULTILINE)
    found = {name: (float(hs), float(pan)) for name, hs, pan in rows}
    assert found == {name: (sensor.hs_gain, sensor.pan_gain) for name, sensor in SENSORS.items()}


def test_the_methods_of_the_page_are_those_of_the_code():
    table = PAGE.partition("## Which method")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)]
    assert sorted(name for name in named if name != "method") == sorted(get_args(Method))


def test_messages_of_the_page_are_those_of_the_code():
    """Whole phrases of the table of errors stand in the code; what varies is left out."""
    small = network_refusal((12, 12), True, "rho-pnn")
    unknown = network_refusal((40, 40), False, "rho-pnn")
    assert small is not None
    assert unknown is not None
    assert f"`{small.rstrip('.')}`" in PAGE
    assert f"`{unknown.partition(';')[0]}`" in PAGE
