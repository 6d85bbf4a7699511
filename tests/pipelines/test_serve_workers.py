"""Several workers behind one port: killed, replaced, counted together, moved to another version."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from serve_processes import apps_serve, wait_for
from served_models import fitted

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.errors import ConfigError
from appliedpapers.pipelines import registry
from appliedpapers.pipelines.serve import ServeSettings, create_app, exchange
from appliedpapers.pipelines.serving_metrics import Metrics, forget_worker
from appliedpapers.pipelines.serving_watch import Watcher

ROW = {"plot": "a", "heat": 11.5, "moisture": 40.5, "soil": "clay", "visits": 2}
BODY = {"dataframe_records": [ROW]}
SLOW_SCENE = 400


def children(process) -> list[int]:
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(number) for number in text.split()]


def published_rows(folder: Path) -> float:
    """What the workers have written down; what one has only in its memory dies with it."""
    total = 0.0
    for path in folder.glob("applied-papers-serve-*/*.metrics.json"):
        counts = json.loads(path.read_text())["counts"]
        total += sum(count for name, *_, count in counts if name == "apps_rows")
    return total


def counted(address: str, name: str) -> float:
    text = httpx.get(f"{address}/metrics").text
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", text, re.M))


@pytest.fixture(scope="module")
def expected(tiny) -> dict:
    from appliedpapers.core.inference import predict_all
    from appliedpapers.core.json_rows import records
    from appliedpapers.core.validation import from_records

    model, _ = load_bundle(tiny.bundle)
    return {"predictions": records(predict_all(model, from_records([ROW], model.input_schema)))}


def test_workers_answer_alike_count_together_and_a_dead_one_is_replaced(tiny, expected, tmp_path):
    log = tmp_path / "access.jsonl"
    words = (tiny.bundle, "--workers", 2, "--access-log", log)
    with apps_serve(*words, env={"TMPDIR": str(tmp_path)}) as (process, address):
        wait_for(lambda: counted(address, "apps_ready") == 2)

        def ask(_):
            answer = httpx.post(f"{address}/invocations", json=BODY)
            assert answer.json() == expected
            return answer.status_code

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(ask, range(60))) == {200}
        rows = 'apps_rows_total{model="apps.tiny-rows"}'
        wait_for(lambda: f"{rows} 60.0" in httpx.get(f"{address}/metrics").text)
        wait_for(lambda: published_rows(tmp_path) == 60)
        before = children(process)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        for _ in range(20):
            with httpx.Client() as fresh:
                assert fresh.post(f"{address}/invocations", json=BODY).status_code == 200
        wait_for(lambda: len(children(process)) == 2 and before[0] not in children(process))
        wait_for(lambda: counted(address, "apps_ready") == 2)
        wait_for(lambda: f"{rows} 80.0" in httpx.get(f"{address}/metrics").text)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        for number in before[1:]:
            assert not Path(f"/proc/{number}").exists()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len({line["worker"] for line in lines}) >= 2
    assert sum(line["route"] == "/invocations" for line in lines) == 80


def test_workers_end_when_their_parent_is_killed(tiny):
    with apps_serve(tiny.bundle, "--workers", 2) as (process, address):
        wait_for(lambda: counted(address, "apps_ready") == 2)
        workers = children(process)
        process.kill()
        process.wait(60)
        wait_for(lambda: not any(Path(f"/proc/{number}").exists() for number in workers))


def test_workers_that_never_start_end_the_server_with_a_message(tiny, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny.bundle, folder)
    code = (
        "import sys; from pathlib import Path\n"
        "from appliedpapers.pipelines.locate import locate\n"
        "from appliedpapers.pipelines.serving_server import listen\n"
        "from appliedpapers.pipelines.serving_settings import ServeSettings\n"
        "from appliedpapers.pipelines.serving_workers import Workers\n"
        "settings = ServeSettings(port=0, workers=2)\n"
        "pool = Workers([locate(sys.argv[1])], settings, listen(settings))\n"
        "(Path(sys.argv[1]) / 'bundle.json').unlink()\n"
        "pool.run()\n"
    )
    words = [sys.executable, "-c", code, str(folder)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "a worker could not start" in ended.stderr


def test_a_job_survives_the_kill_of_its_worker(tmp_path):
    served = fitted("tiny-scenes")
    model = type(served.model)(served.model.config.replace(model={"steps": SLOW_SCENE}))
    model.weights_ = served.model.weights_
    save_bundle(model, tmp_path / "bundle", plugin="tiny-scenes", task="mapping", dataset=served.info.dataset)
    raster = {"b64": base64.b64encode(b"[[1, 2], [3, 4]]").decode()}
    body = {"dataframe_records": [{"scene": "s", "tile": 0, "raster": raster}]}
    words = (tmp_path / "bundle", "--workers", 2, "--state-folder", tmp_path / "state")
    with apps_serve(*words) as (process, address):
        wait_for(lambda: counted(address, "apps_ready") == 2)
        keys = [httpx.post(f"{address}/v2/jobs", json=body).json()["id"] for _ in range(3)]

        def state(key: str) -> dict:
            return httpx.get(f"{address}/v2/jobs/{key}").json()

        wait_for(lambda: any(state(key)["status"] in ("running", "done") for key in keys))
        os.kill(children(process)[0], signal.SIGKILL)
        wait_for(lambda: all(state(key)["status"] == "done" for key in keys))
        for key in keys:
            found = httpx.get(f"{address}/v2/jobs/{key}/result").json()
            assert found["predictions"][0]["scene"] == "s"


def test_a_counter_outlives_its_worker(tmp_path):
    gone, alive = Metrics(tmp_path), Metrics(tmp_path)
    gone.answered("/invocations", "POST", 200, 0.003)
    gone.predicted("m", 2, 5)
    gone.ready = gone.in_flight = 1
    gone.publish()
    (tmp_path / f"{os.getpid()}.metrics.json").rename(tmp_path / "1.metrics.json")
    alive.answered("/invocations", "POST", 200, 0.004)
    alive.ready = 1
    assert b"apps_ready 2.0" in alive.text()
    forget_worker(tmp_path, 1)
    text = alive.text().decode()
    assert "apps_ready 1.0" in text
    assert "apps_requests_in_flight 0.0" in text
    assert 'apps_requests_total{method="POST",route="/invocations",status="200"} 2.0' in text
    assert 'apps_request_seconds_bucket{le="0.005",route="/invocations"} 2.0' in text
    assert 'apps_rows_total{model="m"} 5.0' in text


# following an alias


@pytest.fixture
def two_versions(store, tiny, tmp_path):
    """A registry with two versions of tiny-rows that answer differently; the first is the champion."""
    second = type(tiny)(tmp_path / "second", alpha=1000.0)
    for bundle in (tiny.bundle, second.bundle):
        with tiny.start(store) as run:
            uri = run.log_model(bundle)
        registry.register(store, name="apps.tiny-rows", model_uri=uri, run_id=run.run_id, tags={})
    return store


def move(store, version: int) -> None:
    store.client.set_registered_model_alias("apps.tiny-rows", "champion", str(version))


def test_a_server_follows_its_alias_while_it_is_asked(two_versions):
    workers = 2
    words = ("tiny-rows@champion", "--watch", "--watch-seconds", 0.2, "--workers", workers)
    with apps_serve(*words, "--store", two_versions.folder) as (process, address):
        wait_for(lambda: counted(address, "apps_ready") == workers)
        found: list[tuple[int, float]] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answer = httpx.post(f"{address}/invocations", json=BODY)
                harvest = answer.json()["predictions"][0]["harvest"] if answer.status_code == 200 else 0.0
                found.append((answer.status_code, harvest))

        def versions() -> set[str]:
            return {httpx.get(f"{address}/v2/models").json()["models"][0]["version"] for _ in range(8)}

        clients = [threading.Thread(target=ask) for _ in range(2)]
        for client in clients:
            client.start()
        try:
            wait_for(lambda: len(found) > 20)
            assert versions() == {"1"}
            move(two_versions, 2)
            wait_for(lambda: versions() == {"2"})
            settled = len(found) + 4
            wait_for(lambda: len(found) > settled + 20)
        finally:
            stop.set()
            for client in clients:
                client.join()
        assert {status for status, _ in found} == {200}
        assert len({harvest for _, harvest in found}) == 2
        assert len({harvest for _, harvest in found[settled:]}) == 1
        assert httpx.get(f"{address}/v2/models/apps.tiny-rows").json()["versions"] == ["2"]
        assert httpx.get(f"{address}/openapi.json").json()["info"]["version"] == "2"
        said = "".join(process.said)
        assert "moved from version 1 to 2" in said
        assert "serving apps.tiny-rows version 2" in said


def test_a_request_that_is_inside_ends_on_the_version_that_it_met(tiny, tmp_path):
    slow = fitted("tiny-rows")
    entered, go = threading.Event(), threading.Event()

    class Waiting(type(slow.model)):
        def predict(self, table, *, files=None):
            entered.set()
            assert go.wait(60)
            return super().predict(table, files=files)

    slow.model.__class__ = Waiting
    second = type(tiny)(tmp_path / "second", alpha=1000.0)
    old = replace(slow, example=None)
    new = replace(slow, version="2", model=second.model, example=None)
    app = create_app([old], ServeSettings())

    async def talk() -> tuple[dict, dict, dict]:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            first = asyncio.create_task(client.post("/invocations", json=BODY))
            while not entered.is_set():
                await asyncio.sleep(0.01)
            await asyncio.to_thread(exchange, app, [new])
            await asyncio.sleep(0.05)
            after = await client.post("/invocations", json=BODY)
            go.set()
            models = await client.get("/v2/models")
            return (await first).json(), after.json(), models.json()

    first, after, models = asyncio.run(talk())
    assert first != after
    assert models["models"][0]["version"] == "2"


def test_another_version_that_cannot_predict_its_example_changes_nothing(tiny):
    served = fitted("tiny-rows")
    app = create_app([served], ServeSettings())
    wrong = served.example.set_column(1, "heat", [[99.0] * served.example.num_rows])

    async def talk() -> str:
        async with app.router.lifespan_context(app):
            with pytest.raises(Exception, match="heat"):
                await asyncio.to_thread(exchange, app, [replace(served, version="2", example=wrong)])
            await asyncio.sleep(0.05)
            return app.state.serving.first.version

    assert asyncio.run(talk()) == "1"


def test_there_must_be_an_alias_to_watch(tiny):
    from appliedpapers.pipelines.locate import locate

    with pytest.raises(ConfigError, match="nothing to watch"):
        Watcher({"x": locate(str(tiny.bundle))}, tiny.bundle, 1.0, lambda found: None)


def test_a_registry_that_is_away_is_said_once_and_serving_goes_on(two_versions, monkeypatch, caplog):
    from appliedpapers.core.errors import RunError
    from appliedpapers.pipelines import serving_watch
    from appliedpapers.pipelines.locate import locate

    found = {"tiny-rows@champion": locate("tiny-rows@champion", two_versions.folder)}
    moved: list[list] = []
    looks = []

    def away(*_):
        looks.append(1)
        if len(looks) < 4:
            raise RunError("the store cannot be read.")
        return locate(*_)

    monkeypatch.setattr(serving_watch, "locate", away)
    watcher = Watcher(found, two_versions.folder, 0.01, moved.append)
    move(two_versions, 2)
    watcher.start()
    wait_for(lambda: bool(moved))
    watcher.stop()
    assert [item.version for item in moved[0]] == [2]
    assert caplog.text.count("cannot be asked") == 1


def test_two_models_are_served_in_one_process(two_versions, tmp_path):
    stream = fitted("tiny-stream")
    facts = stream.info.dataset
    save_bundle(stream.model, tmp_path / "s", plugin="tiny-stream", task=stream.info.task, dataset=facts)
    words = ("tiny-rows@champion", tmp_path / "s", "--store", two_versions.folder)
    with apps_serve(*words) as (_, address):
        listed = httpx.get(f"{address}/v2/models").json()["models"]
        assert [item["name"] for item in listed] == ["apps.tiny-rows", stream.name]
        assert httpx.post(f"{address}/invocations", json=BODY).status_code == 200
        record = {"device": "d", "time": "2024-01-01T00:00:00", "value": 1.5}
        other = httpx.post(
            f"{address}/v2/models/{stream.name}/invocations", json={"dataframe_records": [record]}
        )
        assert other.json()["predictions"][0]["filtered"] == 1.5
