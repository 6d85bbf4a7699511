"""The tensor form of the Open Inference Protocol: the answers of ``/invocations``, and refusals in words."""

from __future__ import annotations

import json
import re
import threading
import warnings
from contextlib import contextmanager
from dataclasses import replace

import pytest
from served_models import fitted

from appliedpapers.pipelines.serve import ServeSettings, create_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

ROWS = [
    {"plot": "a", "heat": 11.5, "moisture": None, "soil": "clay", "visits": 2},
    {"plot": "b", "heat": 12.0, "moisture": 0.4, "soil": "sand", "visits": 0},
]
TYPES = {"plot": "BYTES", "heat": "FP64", "moisture": "FP64", "soil": "BYTES", "visits": "INT64"}
INFER = "/v2/models/apps.tiny-rows/infer"


@contextmanager
def client(*models, folder):
    app = create_app(list(models), ServeSettings(state_folder=folder, max_body_mb=1))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as made:
        while app.state.serving.unready == "warming up":
            threading.Event().wait(0.005)
        yield made


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    rows = replace(fitted("tiny-rows"), version="7")
    with client(rows, fitted("tiny-scenes"), folder=tmp_path_factory.mktemp("jobs")) as made:
        yield made


def tensors(**changes):
    """Return the inputs of both rows; a change replaces fields of a tensor."""
    made = {
        name: {"name": name, "shape": [2], "datatype": kind, "data": [row[name] for row in ROWS]}
        for name, kind in TYPES.items()
    }
    return [made[name] | changes.get(name, {}) for name in made]


def test_tensors_get_the_answer_of_the_columns(server):
    expected = server.post("/invocations", json={"dataframe_records": ROWS}).json()["predictions"]
    answer = server.post(INFER, json={"id": "42", "inputs": tensors()})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["model_name"], told["model_version"], told["id"]) == ("apps.tiny-rows", "7", "42")
    assert {item["name"]: item["data"] for item in told["outputs"]} == {
        name: [row[name] for row in expected] for name in expected[0]
    }
    stated = {
        item["name"]: item["datatype"] for item in server.get("/v2/models/apps.tiny-rows").json()["outputs"]
    }
    assert {item["name"]: item["datatype"] for item in told["outputs"]} == stated
    assert all(item["shape"] == [2] for item in told["outputs"])


def test_tensors_come_flat_or_nested_in_any_order_and_outputs_are_chosen(server):
    whole = server.post(INFER, json={"inputs": tensors()}).json()
    nested = tensors(heat={"shape": [2, 1], "data": [[11.5], [12.0]]}, visits={"shape": [2, 1]})
    body = {"inputs": nested[::-1], "outputs": [{"name": "harvest"}]}
    told = server.post("/v2/models/apps.tiny-rows/versions/7/infer", json=body)
    assert told.status_code == 200, told.text
    assert told.json()["outputs"] == [item for item in whole["outputs"] if item["name"] == "harvest"]
    assert "id" not in told.json()


def test_arrays_are_tensors_of_more_axes(tmp_path):
    served = fitted("tiny-tasks", "spectrum")
    bands, trace = [0.1, 0.2, 0.3, 0.4, 0.5, 1.0], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    record = {"sample": "s", "bands": bands, "trace": trace}
    inputs = [
        {"name": "sample", "shape": [1], "datatype": "BYTES", "data": ["s"]},
        {"name": "bands", "shape": [1, 6], "datatype": "FP64", "data": bands},
        {"name": "trace", "shape": [1, 3, 2], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]},
    ]
    with client(served, folder=tmp_path) as made:
        expected = made.post("/invocations", json={"dataframe_records": [record]}).json()["predictions"]
        url = f"/v2/models/{served.name}/infer"
        answers = [made.post(url, json={"inputs": inputs})]
        inputs[1] |= {"data": [bands]}
        # arrays of any length are text where rows differ in it
        inputs[2] = {"name": "trace", "shape": [1], "datatype": "BYTES", "data": [json.dumps(trace)]}
        answers.append(made.post(url, json={"inputs": inputs}))
        about = made.get(f"/v2/models/{served.name}").json()
    for answer in answers:
        assert answer.status_code == 200, answer.text
        shares = next(item for item in answer.json()["outputs"] if item["name"] == "shares")
        assert (shares["shape"], shares["data"]) == ([1, 2], expected[0]["shares"])
    kinds = {item["name"]: (item["datatype"], item["shape"]) for item in about["inputs"]}
    assert kinds["bands"] == ("FP32", [-1, 6])
    assert kinds["trace"] == ("BYTES", [-1])


def body(**document):
    return json.dumps(document)


WRONG = {
    "nothing": ("", 400),
    "a list": ("[]", 400),
    "no inputs": ("{}", 400),
    "inputs that are none": (body(inputs=[]), 400),
    "inputs by column": (body(inputs={"plot": ["a"]}), 400),
    "a tensor that is a list": (body(inputs=[[1]]), 400),
    "a tensor without a name": (body(inputs=[{"shape": [1], "datatype": "FP64", "data": [1]}]), 400),
    "a name that is a number": (body(inputs=tensors(plot={"name": 1})), 400),
    "one name twice": (body(inputs=tensors() + tensors()), 400),
    "an id that is a number": (body(id=4, inputs=tensors()), 400),
    "no shape": (body(inputs=tensors(heat={"shape": None})), 400),
    "an empty shape": (body(inputs=tensors(heat={"shape": []})), 400),
    "a shape of texts": (body(inputs=tensors(heat={"shape": ["2"]})), 400),
    "a shape of truths": (body(inputs=tensors(heat={"shape": [True]})), 400),
    "a negative size": (body(inputs=tensors(heat={"shape": [-1]})), 400),
    "a size of 4,000 digits": (body(inputs=tensors(heat={"shape": [10**4000]})), 400),
    "many rows of nothing": (body(inputs=tensors(heat={"shape": [2**30, 0], "data": []})), 400),
    "too many axes": (body(inputs=tensors(heat={"shape": [1] * 17})), 400),
    "fewer values than the shape says": (body(inputs=tensors(heat={"shape": [3]})), 400),
    "nested otherwise than the shape says": (
        body(inputs=tensors(heat={"shape": [2, 2], "data": [[1, 2, 3], [4]]})),
        400,
    ),
    "nested and not": (body(inputs=tensors(heat={"shape": [2, 1], "data": [[1], 2]})), 400),
    "nested too deeply": (body(inputs=tensors()).replace("11.5", "[" * 900 + "]" * 900), 400),
    "rows that differ in number": (body(inputs=tensors(heat={"shape": [1], "data": [1.0]})), 400),
    "no datatype": (body(inputs=tensors(heat={"datatype": None})), 400),
    "an unknown datatype": (body(inputs=tensors(heat={"datatype": "DOUBLE"})), 400),
    "a datatype that is a list": (body(inputs=tensors(heat={"datatype": ["FP64"]})), 400),
    "data that are a number": (body(inputs=tensors(heat={"data": 1})), 400),
    "no data": (body(inputs=tensors(heat={"data": None})), 400),
    "text in a tensor of numbers": (body(inputs=tensors(heat={"data": ["1", "2"]})), 400),
    "a truth in a tensor of numbers": (body(inputs=tensors(visits={"data": [True, 1]})), 400),
    "a fraction in a tensor of whole numbers": (body(inputs=tensors(visits={"data": [0.5, 1]})), 400),
    "a number in a tensor of texts": (body(inputs=tensors(plot={"data": [1, 2]})), 400),
    "NaN": (body(inputs=tensors()).replace("11.5", "NaN"), 400),
    "binary data": (body(inputs=tensors(heat={"parameters": {"binary_data_size": 16}})), 400),
    "binary data that are wanted": (
        body(inputs=tensors(), outputs=[{"name": "harvest", "parameters": {"binary_data": True}}]),
        400,
    ),
    "an output that is not there": (body(inputs=tensors(), outputs=[{"name": "crop"}]), 400),
    "outputs that are texts": (body(inputs=tensors(), outputs=["harvest"]), 400),
    "half a surrogate pair": (body(inputs=tensors(plot={"data": ["\ud800", "b"]})), 400),
    "base64 for a text": (body(inputs=tensors(plot={"parameters": {"content_type": "base64"}})), 422),
    "an array for a number": (body(inputs=tensors(heat={"shape": [2, 2], "data": [1, 2, 3, 4]})), 422),
    "a missing value where none may be": (body(inputs=tensors(heat={"data": [None, 1.0]})), 422),
    "no such category": (body(inputs=tensors(soil={"data": ["lava", "clay"]})), 422),
    "a column too few": (body(inputs=tensors()[1:]), 422),
    "no rows": (body(inputs=[item | {"shape": [0], "data": []} for item in tensors()]), 422),
    "too large": (" " * 2_000_000, 413),
}


@pytest.mark.parametrize("case", WRONG)
def test_malformed_tensors_are_refused_in_words(server, case):
    content, status = WRONG[case]
    answer = server.post(INFER, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 12_000
    assert not re.search(r"Traceback|\.py\b|pyarrow|Error\b", answer.text)
    assert answer.json()["detail"]


def test_other_media_types_versions_and_slow_models_are_refused(server):
    for kind in ("text/csv", "application/octet-stream"):
        answer = server.post(INFER, content="plot\na\n", headers={"Content-Type": kind})
        assert answer.status_code == 415
    assert server.post("/v2/models/apps.tiny-rows/versions/8/infer", json={}).status_code == 404
    assert server.post("/v2/models/apps.other/infer", json={}).status_code == 404
    slow = server.post("/v2/models/apps.tiny-scenes/infer", json={})
    assert slow.status_code == 422
    assert "/v2/jobs" in slow.json()["hint"]
