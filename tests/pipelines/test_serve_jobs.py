"""Jobs and streams behind the server."""

from __future__ import annotations

import base64
import json
import time
import warnings

import pyarrow as pa
import pytest
from served_models import fitted, slowed

from appliedpapers.core.errors import LockedError
from appliedpapers.core.inference import predict_all
from appliedpapers.core.json_rows import records
from appliedpapers.pipelines.serve import ServeSettings, create_app
from appliedpapers.pipelines.serving_jobs import JobStore

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient
    from starlette.websockets import WebSocketDisconnect


# the test client would give another Host
STREAMS = "ws://localhost/v2/streams"


@pytest.fixture(scope="module")
def scenes():
    return fitted("tiny-scenes")


@pytest.fixture(scope="module")
def stream():
    return fitted("tiny-stream")


def grid(value: float) -> dict:
    return {"b64": base64.b64encode(json.dumps([[value, value + 1], [value, value]]).encode()).decode()}


def scene(name: str, value: float) -> dict:
    return {"dataframe_records": [{"scene": name, "tile": 0, "raster": grid(value)}]}


def client(served, folder, **settings):
    app = create_app([served], ServeSettings(state_folder=folder, **settings))
    return TestClient(app, base_url="http://localhost")


def finished(made, key: str) -> dict:
    for _ in range(6000):
        job = made.get(f"/v2/jobs/{key}").json()
        if job["status"] in ("done", "failed"):
            return job
        time.sleep(0.01)
    raise AssertionError(f"the job is still {job['status']}")


def test_a_job_is_accepted_done_and_its_result_and_files_fetched(scenes, tmp_path):
    with client(scenes, tmp_path) as made:
        answer = made.post("/v2/jobs", json=scene("s1", 4.0))
        assert answer.status_code == 202
        job = answer.json()
        assert answer.headers["location"] == f"/v2/jobs/{job['id']}"
        assert finished(made, job["id"])["status"] == "done"
        result = made.get(f"/v2/jobs/{job['id']}/result").json()
        row = result["predictions"][0]
        table = pa.table({"scene": ["s1"], "tile": [0], "raster": [b"[[4.0, 5.0], [4.0, 4.0]]"]})
        assert row["level"] == predict_all(scenes.model, table).column("level")[0].as_py()
        addresses = {file["path"]: file["url"] for file in result["files"]}
        assert json.loads(made.get(addresses[row["map"]]).content)
        for name in ("..%2finput.arrow", "../input.arrow", "%2e%2e/input.arrow", "nothing"):
            assert made.get(f"/v2/jobs/{job['id']}/files/{name}").status_code == 404, name
        assert made.delete(f"/v2/jobs/{job['id']}").status_code == 204
        assert made.get(f"/v2/jobs/{job['id']}").status_code == 404
        assert not list((tmp_path / "jobs").iterdir())


def test_a_job_that_breaks_the_contract_is_refused_at_once(scenes, tmp_path):
    with client(scenes, tmp_path) as made:
        wrong = {"dataframe_records": [{"scene": "s", "tile": -1, "raster": grid(1)}]}
        assert made.post("/v2/jobs", json=wrong).status_code == 422
        assert (
            made.post("/v2/jobs", content="{", headers={"Content-Type": "application/json"}).status_code
            == 400
        )
        assert made.post("/v2/jobs", content="x", headers={"Content-Type": "text/plain"}).status_code == 415


def test_a_group_that_cannot_be_predicted_fails_its_job_with_the_reason(scenes, tmp_path):
    with client(scenes, tmp_path) as made:
        raster = {"b64": base64.b64encode(b"no grid").decode()}
        body = {"dataframe_records": [{"scene": "s", "tile": 0, "raster": raster}]}
        job = finished(made, made.post("/v2/jobs", json=body).json()["id"])
        assert job["status"] == "failed"
        answer = made.get(f"/v2/jobs/{job['id']}/result")
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert "cannot be read" in answer.json()["detail"]


def test_an_invocation_waits_for_a_short_job_and_names_a_long_one(tmp_path):
    scenes = fitted("tiny-scenes")
    with client(scenes, tmp_path / "a") as made:
        answer = made.post("/invocations", json=scene("s", 1.0))
        assert answer.status_code == 200
        assert answer.json()["predictions"][0]["scene"] == "s"
    with client(slowed(scenes, 0.4), tmp_path / "b", request_timeout_s=0.1) as made:
        answer = made.post("/invocations", json=scene("s", 1.0))
        assert answer.status_code == 202
        unfinished = made.get(f"{answer.headers['location']}/result")
        assert unfinished.status_code == 409
        assert finished(made, answer.json()["id"])["status"] == "done"


def test_too_many_waiting_jobs_are_turned_away(tmp_path):
    with client(slowed(fitted("tiny-scenes"), 0.5), tmp_path, max_jobs=2) as made:
        statuses = [made.post("/v2/jobs", json=scene(f"s{n}", 1.0)).status_code for n in range(3)]
    assert statuses == [202, 202, 429]


def test_what_a_dead_server_left_is_interrupted_and_resumed_by_the_next(scenes, tmp_path):
    store = JobStore(tmp_path)
    store.open()
    key = store.submit(scenes, scenes.example).id
    assert store.claim(scenes) == key
    # the process dies here: the row stays 'running', the lock goes with the process
    store._lock.release()
    again = JobStore(tmp_path)
    again.open()
    assert again.get(key).state == "interrupted"
    again.close()
    with client(scenes, tmp_path) as made:
        assert finished(made, key)["status"] == "done"
        level = made.get(f"/v2/jobs/{key}/result").json()["predictions"][0]["level"]
    assert level == records(predict_all(scenes.model, scenes.example))[0]["level"]


def test_a_job_that_kills_its_server_three_times_is_given_up(scenes, tmp_path):
    for _ in range(3):
        store = JobStore(tmp_path)
        store.open()
        key = store.claim(scenes) or store.submit(scenes, scenes.example).id
        store.claim(scenes)
        store._lock.release()
    store = JobStore(tmp_path)
    store.open()
    job = store.get(key)
    assert (job.state, job.crashes) == ("failed", 3)
    store.close()


def test_a_clean_end_of_the_server_is_no_crash(scenes, tmp_path):
    store = JobStore(tmp_path)
    store.open()
    key = store.submit(scenes, scenes.example).id
    store.claim(scenes)
    store.close()
    store.open()
    assert (store.get(key).state, store.get(key).crashes) == ("interrupted", 0)
    store.close()


def test_jobs_of_another_version_wait_for_it(scenes, tmp_path):
    from dataclasses import replace

    store = JobStore(tmp_path)
    store.open()
    key = store.submit(replace(scenes, version="2"), scenes.example).id
    assert store.claim(scenes) is None
    assert store.claim(replace(scenes, version="2")) == key
    store.close()


def test_two_servers_do_not_share_a_state_folder(tmp_path):
    first, second = JobStore(tmp_path), JobStore(tmp_path)
    first.open()
    with pytest.raises(LockedError):
        second.open()
    first.close()
    second.open()
    second.close()


# streams


def samples(count: int, device: str = "d") -> list[dict]:
    return [
        {"device": device, "time": f"2024-01-01T00:00:{n:02d}", "value": None if n == 2 else n * 1.5}
        for n in range(count)
    ]


def talk(socket, message) -> dict:
    socket.send_text(message if isinstance(message, str) else json.dumps(message))
    return json.loads(socket.receive_text())


def test_a_stream_equals_predict_and_goes_on_from_its_state_elsewhere(stream, tmp_path):
    sent = samples(8)
    with client(stream, tmp_path) as made:
        whole = made.post("/invocations", json={"dataframe_records": sent}).json()["predictions"]
        with made.websocket_connect(STREAMS) as socket:
            answers = [talk(socket, record) for record in sent[:4]]
        with made.websocket_connect(STREAMS) as socket:
            assert talk(socket, {"open": {"state": answers[-1]["state"]}}) == {"records": []}
            answers.append(talk(socket, "\n".join(map(json.dumps, sent[4:]))))
    assert [record for answer in answers for record in answer["records"]] == whole


def test_a_bad_record_leaves_the_stream_where_it_stood(stream, tmp_path):
    sent = samples(3)
    with client(stream, tmp_path) as made, made.websocket_connect(STREAMS) as socket:
        before = talk(socket, sent[0])["state"]
        for message, status in [
            ("{", 400),
            ("[]", 400),
            ("", 400),
            ('{"device": "d", "time": "2024-01-01", "value": NaN}', 400),
            ({"device": "d"}, 422),
            ({**sent[1], "value": "x"}, 422),
            ({**sent[1], "device": "other"}, 422),
            ("\n".join([json.dumps(sent[1]), json.dumps({**sent[1], "value": "x"})]), 422),
        ]:
            assert talk(socket, message)["problem"]["status"] == status, message
        assert base64.b64decode(before) == json.dumps(0.0).encode()
        alone = stream.model.stream(base64.b64decode(before))
        import datetime as dt

        record = {**sent[1], "time": dt.datetime(2024, 1, 1, 0, 0, 1)}
        assert talk(socket, sent[1])["records"][0]["filtered"] == alone.step(record)[0]["filtered"]


@pytest.mark.parametrize(
    "opening",
    [{"state": "no base64!"}, {"state": 5}, {"state": "e3s="}, {"model": "other"}, {"state_every": -1}, []],
    ids=str,
)
def test_a_stream_that_cannot_be_opened_is_closed_with_the_reason(stream, tmp_path, opening):
    with client(stream, tmp_path) as made, made.websocket_connect(STREAMS) as socket:
        assert talk(socket, {"open": opening})["problem"]["detail"]
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()
        assert caught.value.code == 1008


def test_a_page_from_elsewhere_or_a_client_without_the_token_gets_no_stream(stream, tmp_path):
    with client(stream, tmp_path, token="t0ken") as made:
        ours = {"Authorization": "Bearer t0ken"}
        for headers in ({}, {"Authorization": "Bearer x"}, {**ours, "Origin": "http://evil.example"}):
            with pytest.raises(WebSocketDisconnect), made.websocket_connect(STREAMS, headers=headers):
                pass
        with made.websocket_connect(STREAMS, headers={**ours, "Origin": "http://localhost"}) as socket:
            assert talk(socket, samples(1)[0])["records"]


# a job that takes rasters, as they are sent


@pytest.fixture(scope="module")
def sharpener():
    from test_serve_malformed import served
    from tiny_pairs import configured

    from appliedpapers.plugins.pansharpening.model import Pansharpener

    return served("pansharpening", Pansharpener(configured("gsa")))


def rasters(folder, *, pan_bands: int = 1, **options) -> dict:
    from raster_files import ramp, write_tif

    hs = write_tif(folder / "hs.tif", ramp(4, 12, 12), wavelengths=[450, 550, 650, 750])
    pan = write_tif(folder / "pan.tif", ramp(pan_bands, 24, 24), pixel=15.0, **options)
    cells = (base64.b64encode(path.read_bytes()).decode() for path in (hs, pan))
    row = dict(zip(("hs_path", "pan_path"), ({"b64": cell} for cell in cells), strict=True))
    return {"dataframe_records": [{"scene_id": "s"} | row]}


def test_rasters_that_are_sent_are_sharpened_as_those_of_a_folder(sharpener, tmp_path):
    with client(sharpener, tmp_path / "jobs") as made:
        key = made.post("/v2/jobs", json=rasters(tmp_path)).json()["id"]
        job = finished(made, key)
        assert job["status"] == "done", job
        result = made.get(f"/v2/jobs/{key}/result").json()
        product = made.get(result["files"][0]["url"]).content
    table = pa.table({"scene_id": ["s"], "hs_path": [str(tmp_path / "hs.tif")]})
    table = table.append_column("pan_path", pa.array([str(tmp_path / "pan.tif")]))
    predict_all(sharpener.model, table, files=tmp_path / "mine")
    assert product == (tmp_path / "mine" / result["files"][0]["path"]).read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pan_bands": 3}, "pan_path"),
        ({"crs": "EPSG:32634"}, "hs_path"),
        ({"origin": (900_000.0, 100_000.0)}, "hs_path"),
    ],
    ids=str,
)
def test_a_pair_that_does_not_fit_is_refused_when_it_is_sent(sharpener, tmp_path, options, said):
    with client(sharpener, tmp_path / "jobs") as made:
        answer = made.post("/v2/jobs", json=rasters(tmp_path, **options))
        assert answer.status_code == 422, answer.text
        assert said in answer.json()["violations"][0]["rule"]
        assert str(tmp_path) not in answer.text, "where the server keeps its jobs is nobody's business"
        assert not list((tmp_path / "jobs").glob("jobs/*"))
