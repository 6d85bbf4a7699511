"""Requests that nobody should send: each is refused in words, and none leads out of bounds."""

from __future__ import annotations

import base64
import json
import re
import threading
import warnings
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest
from bad_files import (
    arrow,
    b64,
    bmp,
    broken_offsets,
    gzipped,
    jpeg,
    parquet,
    png,
    repeated,
    tiff,
    vrt,
)
from live_server import listening
from served_models import fitted

from appliedpapers.core.bundle import BundleInfo
from appliedpapers.core.config import validate
from appliedpapers.core.model import Model
from appliedpapers.core.schema import Column, OutputSchema, TableSchema
from appliedpapers.pipelines.serve import ServedModel, ServeSettings, create_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

ROW = {"plot": "a", "heat": 11.5, "moisture": None, "soil": "clay", "visits": 2}
SAMPLE = {"device": "d", "time": "2024-01-01T00:00:00", "value": 1.0}
READING = {"time": 0.0} | {f"{kind}_{axis}": 0.5 for kind in ("acc", "gyr") for axis in "xyz"}
TABLE = pa.table({"plot": ["a"], "heat": [1.0], "moisture": [1.0], "soil": ["clay"], "visits": [1]})
JSON, CSV = "application/json", "text/csv"
PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
TIMES = pa.array([2**62], pa.timestamp("us"))


class Pictures(Model):
    """Tells the size of pictures; it reads them as karyotyping does."""

    input_schema = TableSchema((Column("image", "string", "a picture", file="image"),))
    output_schema = OutputSchema((Column("height", "int64"),), rows="per_row")

    def fit(self, train, valid, run, *, init=None):
        return self

    def predict(self, table, *, files=None):
        from appliedpapers.core.errors import UnusableGroups
        from appliedpapers.core.model import GroupProblem
        from appliedpapers.plugins.varifocal_net.images import read_images

        cells = table.column("image").to_pylist()
        read = read_images(cells, [f"picture {number}" for number in range(len(cells))])
        if read.problems:
            raise UnusableGroups([GroupProblem((place,), said) for place, said in read.problems.items()])
        return pa.table({"height": [image.shape[0] for image in read.images]})

    def write_parts(self, folder):
        return {}

    @classmethod
    def read_parts(cls, config, state, folder, device):
        return cls(config)


def served(name: str, model: Model) -> ServedModel:
    info = BundleInfo(name, "task", {}, {}, model.input_schema, model.output_schema, {"name": "none"})
    return ServedModel(f"apps.{name}", "1", model, info)


def sharpener() -> ServedModel:
    from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
    from appliedpapers.plugins.pansharpening.model import Pansharpener

    return served("pansharpening", Pansharpener(validate(PansharpeningConfig, {"method": "gsa"})))


def attitude() -> ServedModel:
    from appliedpapers.plugins.imu_attitude.config import AttitudeConfig
    from appliedpapers.plugins.imu_attitude.model import AttitudeEstimator

    return served("imu-attitude", AttitudeEstimator(validate(AttitudeConfig, {"model": {"kind": "filter"}})))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder that may be read, beside one that may not."""
    root = tmp_path_factory.mktemp("files")
    for name in ("allowed", "secret", "allowed-not"):
        (root / name).mkdir()
        (root / name / "grid.json").write_text("[[1, 2], [3, 4]]")
        (root / name / "dot.png").write_bytes(png(2, 2, 2))
    (root / "allowed" / "link.json").symlink_to(root / "secret" / "grid.json")
    (root / "allowed" / "folder-link").symlink_to(root / "secret")
    (root / "allowed" / "loop").symlink_to(root / "allowed" / "loop")
    (root / "allowed" / "bomb.png").write_bytes(png(60_000, 60_000))
    (root / "allowed" / "far.vrt").write_bytes(vrt(root / "secret" / "dot.png"))
    (root / "allowed" / "far.tif").write_bytes(vrt(root / "secret" / "dot.png"))
    return root


def application(place: Path, folder: Path):
    """Return the real application over models of every kind: rows, groups, streams, jobs and file columns."""
    models = [*map(fitted, ("tiny-rows", "tiny-stream", "tiny-scenes")), attitude(), sharpener()]
    models.append(served("pictures", Pictures(None)))
    settings = ServeSettings(
        max_body_mb=2,
        max_rows=20_000,
        request_timeout_s=100,
        file_folders=(place / "allowed",),
        state_folder=folder,
    )
    return create_app(models, settings)


@pytest.fixture(scope="module")
def server(place, tmp_path_factory):
    app = application(place, tmp_path_factory.mktemp("jobs"))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as made:
        while app.state.serving.unready == "warming up":
            threading.Event().wait(0.005)
        assert not app.state.serving.unready
        yield made


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def records(*rows: dict) -> str:
    return json.dumps({"dataframe_records": rows})


def row(**cells) -> str:
    return records(ROW | cells)


def sample(**cells) -> str:
    return records(SAMPLE | cells)


def scene(raster, **cells) -> str:
    return records({"scene": "s", "tile": 0, "raster": raster} | cells)


def pair(hs_path, pan_path) -> str:
    return records({"scene_id": "s", "hs_path": hs_path, "pan_path": pan_path})


def picture(*cells) -> str:
    return records(*({"image": cell} for cell in cells))


def cell(name: str, values: pa.Array) -> pa.Table:
    return TABLE.set_column(TABLE.column_names.index(name), name, values)


ROWS, STREAM, SCENES = "tiny-rows", "tiny-stream", "tiny-scenes"
SHARPEN, IMU, PICTURES = "pansharpening", "imu-attitude", "pictures"

# what is asked, the body, its media type, the status
CASES: dict[str, tuple[str, str | bytes, str | None, int]] = {
    # not the shape of a request
    "nothing": (ROWS, "", JSON, 400),
    "only blanks": (ROWS, "  \n", JSON, 400),
    "half a document": (ROWS, '{"instances": [', JSON, 400),
    "two documents": (ROWS, "{}{}", JSON, 400),
    "a comment": (ROWS, '{"instances": [] /* none */}', JSON, 400),
    "a trailing comma": (ROWS, '{"instances": [],}', JSON, 400),
    "single quotes": (ROWS, "{'instances': []}", JSON, 400),
    "null": (ROWS, "null", JSON, 400),
    "a number": (ROWS, "1e5", JSON, 400),
    "a list": (ROWS, "[]", JSON, 400),
    "no shape": (ROWS, '{"rows": []}', JSON, 400),
    "two shapes": (ROWS, '{"instances": [], "inputs": {}}', JSON, 400),
    "records of lists": (ROWS, '{"instances": [[1]]}', JSON, 400),
    "records as text": (ROWS, '{"instances": "a"}', JSON, 400),
    "split of one column twice": (
        ROWS,
        '{"dataframe_split": {"columns": ["a", "a"], "data": []}}',
        JSON,
        400,
    ),
    "split with rows of objects": (
        ROWS,
        '{"dataframe_split": {"columns": ["a"], "data": [{}]}}',
        JSON,
        400,
    ),
    "inputs with a number": (ROWS, '{"inputs": {"plot": 1}}', JSON, 400),
    "nested too deeply to parse": (ROWS, nested(100_000), JSON, 400),
    "nested too deeply in a cell": (ROWS, f'{{"instances": [{{"plot": {nested(600)}}}]}}', JSON, 400),
    "nested beside a number": (
        ROWS,
        f'{{"instances": [{json.dumps(ROW)}, {{"heat": {nested(700)}}}]}}',
        JSON,
        422,
    ),
    "a file cell nested deeply": (SCENES, scene(0).replace("0}]", nested(800) + "}]"), JSON, 422),
    # numbers
    "NaN": (ROWS, row().replace("11.5", "NaN"), JSON, 400),
    "Infinity": (ROWS, row().replace("11.5", "Infinity"), JSON, 400),
    "NaN as text": (ROWS, row(heat="NaN"), JSON, 422),
    "infinity as text": (ROWS, row(heat="inf"), JSON, 422),
    "beyond float64": (ROWS, row().replace("11.5", "1e400"), JSON, 422),
    "far beyond float64": (ROWS, row().replace("11.5", "1" + "0" * 400), JSON, 422),
    "more digits than Python reads": (ROWS, row().replace("11.5", "9" * 5000), JSON, 400),
    "more digits than Python reads, as text": (ROWS, row(visits="9" * 5000), JSON, 422),
    "beyond int64": (ROWS, row(visits=2**63), JSON, 422),
    "a large fraction for a whole number": (ROWS, row(visits=1e300), JSON, 422),
    "null for a number": (ROWS, row(heat=None), JSON, 422),
    "a list for a number": (ROWS, row(heat=[1]), JSON, 422),
    "an object for text": (ROWS, row(plot={"a": 1}), JSON, 422),
    "a truth for a number": (ROWS, row(visits=True), JSON, 422),
    "below the range": (ROWS, row(heat=-1e9), JSON, 422),
    "no such category": (ROWS, row(soil="lava"), JSON, 422),
    # text
    "bytes that are no UTF-8": (ROWS, b'{"instances": ["\xff\xfe"]}', JSON, 400),
    "UTF-16": (ROWS, row().encode("utf-16"), JSON, 400),
    "half a surrogate pair": (ROWS, row().replace('"a"', '"\\ud800"'), JSON, 400),
    "half a surrogate pair in bytes": (ROWS, b'{"instances": [{"plot": "\xed\xa0\x80"}]}', JSON, 400),
    "half a surrogate pair in a name": (ROWS, row(odd=1).replace("odd", "\\udfff"), JSON, 400),
    "a NUL in JSON": (ROWS, "\0" + row(), JSON, 400),
    "a NUL in a category": (ROWS, row(soil="clay\0"), JSON, 422),
    "control characters": (ROWS, row(plot="x").replace('"x"', '"\x01"'), JSON, 400),
    # size
    "a body that is too large": (ROWS, " " * 3_000_000, JSON, 413),
    "too many rows": (ROWS, records(*[{}] * 20_001), JSON, 422),
    "too many columns": (ROWS, records(dict.fromkeys(map(str, range(3000)))), JSON, 422),
    "few bytes, many cells": (ROWS, records(dict.fromkeys(map(str, range(900))), *[{}] * 19_000), JSON, 413),
    "a split of many columns": (
        ROWS,
        json.dumps({"dataframe_split": {"columns": [str(n) for n in range(99_999)], "data": []}}),
        JSON,
        422,
    ),
    "no rows": (ROWS, records(), JSON, 422),
    "no columns": (ROWS, records({}), JSON, 422),
    "columns of different lengths": (ROWS, '{"inputs": {"plot": ["a"], "heat": []}}', JSON, 422),
    # media types
    "no media type": (ROWS, row(), None, 415),
    "two media types": (ROWS, row(), "application/json, text/csv", 415),
    "a form": (ROWS, "a=1", "application/x-www-form-urlencoded", 415),
    "a picture as the body": (PICTURES, png(2, 2, 2), "image/png", 415),
    "another character set": (ROWS, row(), "application/json; charset=utf-16", 415),
    "JSON said to be CSV": (ROWS, row(), CSV, 400),
    "CSV said to be JSON": (ROWS, "plot,heat\na,1\n", JSON, 400),
    # CSV
    "an empty CSV": (ROWS, "", CSV, 400),
    "a CSV of names": (ROWS, "plot,heat,moisture,soil,visits\n", CSV, 422),
    "a CSV with a short row": (ROWS, "plot,heat\na\n", CSV, 400),
    "a CSV with an open quote": (ROWS, 'plot,heat\n"a,1\n', CSV, 400),
    "a CSV of commas": (ROWS, "," * 1_900_000 + "\n", CSV, 422),
    "a CSV of commas behind a quoted line": (ROWS, '"\n"' + "," * 1_900_000 + "\n", CSV, 422),
    "a CSV of many rows": (ROWS, "plot\n" + "a\n" * 900_000, CSV, 422),
    "a CSV of a column twice": (ROWS, "plot,plot\na,b\n", CSV, 422),
    "a CSV that is no UTF-8": (ROWS, b"plot\n\xe9\n", CSV, 400),
    "binary said to be CSV": (ROWS, bytes(range(256)) * 8, CSV, 400),
    # Parquet and Arrow
    "an empty Parquet": (ROWS, b"", PARQUET, 400),
    "JSON said to be Parquet": (ROWS, row(), PARQUET, 400),
    "a Parquet cut off": (ROWS, parquet(TABLE)[:-20], PARQUET, 400),
    "a Parquet with a broken page": (ROWS, b"PAR1" + b"\xff" * 60 + parquet(TABLE)[64:], PARQUET, 400),
    "a Parquet without rows": (ROWS, parquet(TABLE.slice(0, 0)), PARQUET, 422),
    "a Parquet of a million rows": (ROWS, parquet(pa.table({"heat": np.zeros(1_000_000)})), PARQUET, 422),
    "a Parquet whose texts unfold": (
        ROWS,
        parquet(pa.table({"plot": repeated("x" * 10_000, 20_000)})),
        PARQUET,
        413,
    ),
    "a Parquet whose list unfolds": (
        ROWS,
        parquet(pa.table({"heat": pa.array([np.zeros(9_000_000)])}), compression="zstd"),
        PARQUET,
        413,
    ),
    "a Parquet whose texts in lists unfold": (
        ROWS,
        parquet(pa.table({"plot": pa.array([["x" * 100_000] * 10] * 90)}), compression="zstd"),
        PARQUET,
        413,
    ),
    "a Parquet of a page that unfolds": (
        ROWS,
        parquet(pa.table({"plot": [" " * 60_000_000]}), compression="zstd", use_dictionary=False),
        PARQUET,
        413,
    ),
    "a Parquet of a map": (
        ROWS,
        parquet(cell("heat", pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())))),
        PARQUET,
        400,
    ),
    "a Parquet of a column twice": (
        ROWS,
        parquet(pa.table([pa.array(["a"])] * 2, names=["plot", "plot"])),
        PARQUET,
        422,
    ),
    "a Parquet of texts that are no UTF-8": (
        ROWS,
        parquet(TABLE).replace(b"clay", b"\xff\xfe\xfd\xfc"),
        PARQUET,
        400,
    ),
    "NaN in a Parquet": (ROWS, parquet(cell("heat", pa.array([float("nan")]))), PARQUET, 422),
    "infinity in a Parquet": (ROWS, parquet(cell("heat", pa.array([float("inf")]))), PARQUET, 422),
    "a year that Python does not know": (ROWS, parquet(cell("heat", TIMES)), PARQUET, 422),
    "an empty Arrow stream": (ROWS, b"", ARROW, 400),
    "an Arrow file": (ROWS, b"ARROW1\0\0" + arrow(TABLE), ARROW, 400),
    "a compressed Arrow stream": (ROWS, arrow(TABLE, compression="zstd"), ARROW, 400),
    "an Arrow stream cut off": (ROWS, arrow(TABLE)[:-100], ARROW, 400),
    "an Arrow stream that points outside": (ROWS, broken_offsets(), ARROW, 400),
    "an Arrow stream whose texts unfold": (
        ROWS,
        arrow(pa.table({"plot": repeated("x" * 10_000, 20_000)})),
        ARROW,
        413,
    ),
    "an Arrow stream of nothing but length": (ROWS, arrow(pa.table({"plot": pa.nulls(10**9)})), ARROW, 422),
    "an Arrow stream of run lengths": (
        ROWS,
        arrow(pa.table({"plot": pa.RunEndEncodedArray.from_arrays([10**9], ["a"])})),
        ARROW,
        400,
    ),
    "an Arrow stream of views": (
        ROWS,
        arrow(pa.table({"plot": pa.array(["a"], pa.string_view())})),
        ARROW,
        400,
    ),
    "a decimal for text": (ROWS, arrow(cell("plot", pa.array([Decimal("1.5")]))), ARROW, 422),
    "a time for text": (ROWS, arrow(cell("plot", TIMES)), ARROW, 422),
    # times, groups and streams
    "a time in words": (STREAM, sample(time="tomorrow"), JSON, 422),
    "a day that is none": (STREAM, sample(time="2024-02-30"), JSON, 422),
    "a year of five digits": (STREAM, sample(time="10000-01-01"), JSON, 422),
    "a time zone that is none": (STREAM, sample(time="2024-01-01T00:00+99:00"), JSON, 422),
    "a time before the first": (STREAM, sample(time="0001-01-01T00:00+14:00"), JSON, 422),
    "a number for a time": (STREAM, sample(time=1e18), JSON, 422),
    "a time of another calendar": (
        STREAM,
        arrow(pa.table({"device": ["d"], "time": TIMES, "value": [1.0]})),
        ARROW,
        422,
    ),
    "a group without a name": (STREAM, sample(device=None), JSON, 422),
    "a reading beyond any sensor": (IMU, records(READING | {"acc_x": 1e30}), JSON, 422),
    "a reading as text": (IMU, records(READING | {"gyr_x": "fast"}), JSON, 422),
    "readings without an axis": (IMU, records({"time": 0.0, "acc_x": 1.0}), JSON, 422),
    # files
    "a raster that is no base64": (SCENES, scene({"b64": "%%%"}), JSON, 422),
    "a raster of a number": (SCENES, scene(5), JSON, 422),
    "a raster of another object": (SCENES, scene({"url": "http://127.0.0.1:9/"}), JSON, 422),
    "a raster with more beside it": (SCENES, scene({"b64": "AA==", "path": "/etc/passwd"}), JSON, 422),
    "paths beside bytes": (
        SCENES,
        records(
            {"scene": "s", "tile": 0, "raster": "grid.json"},
            {"scene": "s", "tile": 1, "raster": b64(b"[[1]]")},
        ),
        JSON,
        422,
    ),
    "a negative tile": (SCENES, scene(b64(b"[[1]]"), tile=-1), JSON, 422),
    "a raster in gzip": (SHARPEN, pair(b64(gzipped(64)), b64(gzipped(64))), JSON, 422),
    "bytes that are no image": (PICTURES, picture(b64(b"no image")), JSON, 422),
    "an empty image": (PICTURES, picture(b64(b"")), JSON, 422),
    "a PNG cut off": (PICTURES, picture(b64(png(40, 40, 40)[:60])), JSON, 422),
    "a PNG of 0 x 0": (PICTURES, picture(b64(png(0, 0))), JSON, 422),
    "a PNG that declares 3.6 Gpx": (PICTURES, picture(b64(png(60_000, 60_000))), JSON, 413),
    "a PNG that declares all that can be": (PICTURES, picture(b64(png(2**31 - 1, 2**31 - 1))), JSON, 413),
    "a PNG of 6,000 x 6,000 in 16 bits": (PICTURES, picture(b64(png(6_000, 6_000, 1, 6, 16))), JSON, 413),
    "many PNGs that are each small enough": (PICTURES, picture(*[b64(png(2_000, 2_000))] * 12), JSON, 413),
    "a TIFF that declares 4 Gpx": (PICTURES, picture(b64(tiff(65_000, 65_000))), JSON, 413),
    "a TIFF of many samples": (PICTURES, picture(b64(tiff(100, 100, 60_000))), JSON, 413),
    "a large TIFF that declares too much": (
        PICTURES,
        picture(b64(tiff(10**6, 9**6, large=True))),
        JSON,
        413,
    ),
    "a TIFF of negative size": (PICTURES, picture(b64(tiff(2**32 - 1, 1))), JSON, 413),
    "a JPEG that declares 4 Gpx": (PICTURES, picture(b64(jpeg(65_500, 65_500))), JSON, 413),
    "a BMP that declares 4 Gpx": (PICTURES, picture(b64(bmp(65_000, -65_000))), JSON, 413),
    "a bomb that the operator's folder holds": (PICTURES, picture("bomb.png"), JSON, 413),
    "an image in gzip": (PICTURES, picture(b64(gzipped(200))), JSON, 422),
    "a Parquet of images that are bombs": (
        PICTURES,
        parquet(pa.table({"image": [png(60_000, 60_000)]})),
        PARQUET,
        413,
    ),
    "an Arrow stream with a path outside": (
        PICTURES,
        arrow(pa.table({"image": ["/etc/passwd"]})),
        ARROW,
        422,
    ),
    "a CSV with a path outside": (PICTURES, "image\n../secret/dot.png\n", CSV, 422),
    "a raster that is none": (SHARPEN, pair(b64(b"hello"), b64(b"hello")), JSON, 422),
    "a raster that declares too much": (SHARPEN, pair(b64(tiff(10**5, 10**5)), b64(tiff(9, 9))), JSON, 413),
    "a raster without pixels": (SHARPEN, pair(b64(tiff(9, 9)), b64(tiff(9, 9))), JSON, 422),
    "a virtual raster sent": (SHARPEN, pair(b64(vrt("/etc/passwd")), b64(vrt("/etc/passwd"))), JSON, 422),
    "an address in a virtual raster": (
        SHARPEN,
        pair(b64(vrt("/vsicurl/http://127.0.0.1:9/a.tif")), b64(tiff(9, 9))),
        JSON,
        422,
    ),
    "a virtual raster named": (SHARPEN, pair("far.vrt", "far.vrt"), JSON, 422),
    "a virtual raster that is called a TIFF": (SHARPEN, pair("far.tif", "far.tif"), JSON, 422),
    "an output path outside": (
        SHARPEN,
        records({"scene_id": "s", "hs_path": "dot.png", "pan_path": "dot.png", "output_path": "../../a.tif"}),
        JSON,
        422,
    ),
}

# what names a file of the job's own
VARYING = {name for name, case in CASES.items() if case[0] == SHARPEN}

OUTSIDE = [
    "../secret/dot.png",
    "../allowed-not/dot.png",
    "sub/../../secret/dot.png",
    "folder-link/dot.png",
    "link.json",
    "loop",
    ".",
    "",
    "..",
    "/",
    "/etc/passwd",
    "/proc/self/environ",
    "/dev/zero",
    "//etc/passwd",
    "~/.ssh/id_rsa",
    "%2e%2e/secret/dot.png",
    "..%2fsecret%2fdot.png",
    "..\\secret\\dot.png",
    "C:\\Windows\\win.ini",
    "\\\\host\\share\\a.png",
    "file:///etc/passwd",
    "http://127.0.0.1:9/a.png",
    "s3://bucket/a.png",
    "/vsicurl/http://127.0.0.1:9/a.tif",
    "/vsizip//etc/a.zip/b.tif",
    "GTIFF_DIR:1:/etc/passwd",
    "NETCDF:/etc/passwd:a",
    "dot.png\0.txt",
    "dot.png\n",
    "a" * 5000,
    "\ud800",
    "absent.png",
]


def is_a_clean_refusal(answer, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 12_000
    assert not re.search(r"Traceback|\.py\b|pyarrow|Error\b|site-packages|0x[0-9a-f]{6}", answer.text)
    problem = json.loads(answer.text, parse_constant=pytest.fail)
    assert problem["status"] == status
    assert problem["type"].startswith("urn:applied-papers:problem:")
    assert problem["title"]
    assert problem["detail"]
    return problem


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_malformed_request_is_refused_in_words(server, case):
    asked, body, media_type, status = CASES[case]
    headers = {} if media_type is None else {"Content-Type": media_type}
    route = f"/v2/models/apps.{asked}/invocations"
    if status == 415 and media_type is None:
        body = body.encode()
    is_a_clean_refusal(server.post(route, content=body, headers=headers), status)


def test_over_a_socket_the_answers_are_the_same(server, place, tmp_path):
    """The server has a short way for small requests, which must refuse in the same words."""
    app = application(place, tmp_path)
    with listening(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        for name, (asked, body, media_type, status) in CASES.items():
            content = body.encode() if isinstance(body, str) else body
            headers = {} if media_type is None else {"Content-Type": media_type}
            for route in (f"/v2/models/apps.{asked}/invocations", *(["/invocations"] * (asked == ROWS))):
                answer = client.post(route, content=content, headers=headers)
                told = server.post(route, content=content, headers=headers)
                assert answer.status_code == status, (name, answer.text)
                assert answer.headers["content-type"] == "application/problem+json", name
                if name not in VARYING:
                    assert answer.json() == told.json(), name


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case[0] in (SCENES, SHARPEN)])
def test_a_malformed_job_is_refused_when_it_is_sent(server, case):
    asked, body, media_type, status = CASES[case]
    home = server.app.state.serving.jobs.folder / "jobs"
    before = set(home.glob("*"))
    answer = server.post(f"/v2/jobs?model=apps.{asked}", content=body, headers={"Content-Type": media_type})
    is_a_clean_refusal(answer, status)
    assert set(home.glob("*")) == before, "what was refused leaves nothing behind"


@pytest.mark.parametrize("path", OUTSIDE, ids=ascii)
def test_no_path_leads_outside_the_folders_that_may_be_read(server, place, path):
    for asked, body in ((PICTURES, picture(path)), (SCENES, scene(path)), (SHARPEN, pair(path, path))):
        answer = server.post(
            f"/v2/models/apps.{asked}/invocations", content=body, headers={"Content-Type": JSON}
        )
        problem = is_a_clean_refusal(answer, 400 if path == "\ud800" else 422)
        assert str(place) not in answer.text
        if path != "\ud800":
            rules = {item["rule"] for item in problem["violations"]}
            assert len(rules) == 1, "a client must not learn which files exist"
            assert "not a file in a folder that this server may read" in rules.pop()


def test_an_absolute_path_into_a_folder_that_may_be_read_is_read(server, place):
    for path in ("dot.png", str(place / "allowed" / "dot.png"), "./dot.png"):
        answer = server.post(f"/v2/models/apps.{PICTURES}/invocations", content=picture(path), headers=TYPE)
        assert "no chromosome" in answer.text or answer.json()["predictions"] == [{"height": 2}]


TYPE = {"Content-Type": JSON}


def test_every_kind_of_model_still_answers_after_all_that(server):
    asked = {
        ROWS: row(),
        STREAM: sample(),
        SCENES: scene(b64(b"[[1, 2], [3, 4]]")),
        IMU: records(*(READING | {"time": n / 100} for n in range(5))),
    }
    with ExitStack():
        for name, body in asked.items():
            answer = server.post(f"/v2/models/apps.{name}/invocations", content=body, headers=TYPE)
            assert answer.status_code == 200, answer.text
            assert json.loads(answer.text, parse_constant=pytest.fail)["predictions"]


def test_base64_that_is_good_is_still_read(server):
    body = scene({"b64": base64.b64encode(b"[[1.0]]").decode()})
    assert server.post(f"/v2/models/apps.{SCENES}/invocations", content=body, headers=TYPE).status_code == 200
