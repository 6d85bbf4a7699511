"""A real server in its own process: concurrent clients, SIGTERM under way, a kill under a job."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from serve_processes import wait_for
from served_models import fitted

from appliedpapers.core.errors import RunError
from appliedpapers.core.inference import predict_all
from appliedpapers.core.json_rows import records, to_json
from appliedpapers.pipelines.serve import ServeSettings, create_app, run_server
from appliedpapers.pipelines.serving_codec import Decoder

_PROGRAM = Path(__file__).with_name("served_models.py")


@contextmanager
def server(*arguments: object):
    """Start a server on a free port and yield it with its address; it never outlives the test."""
    process = subprocess.Popen(
        [sys.executable, str(_PROGRAM), *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        line = process.stderr.readline()
        found = re.search(r"http://[\d.]+:\d+", line)
        assert found, line + process.stderr.read()
        wait_for(lambda: httpx.get(f"{found.group()}/v2/health/ready").status_code == 200)
        yield process, found.group()
    finally:
        process.kill()
        process.wait(60)
        process.stderr.close()


def plot(number: int) -> dict:
    return {
        "plot": f"p{number}",
        "heat": number % 40 + 0.25,
        "moisture": None if number % 3 else 40.5,
        "soil": ("clay", "loam", "sand")[number % 3],
        "visits": number % 9,
    }


def test_concurrent_requests_equal_predict_and_bad_ones_stay_alone(tmp_path):
    served = fitted("tiny-rows")
    decoder = Decoder(served.model.input_schema, max_rows=100)
    sent = [[plot(number + k) for k in range(number % 3 + 1)] for number in range(120)]
    for bad in range(0, 120, 10):
        sent[bad][-1]["heat"] = 99.5
    with server("tiny-rows", tmp_path) as (process, address), httpx.Client(base_url=address) as http:
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda rows: http.post("/invocations", json={"dataframe_records": rows}), sent)
            )
        process.terminate()
        assert process.wait(60) == 0
    for number, (rows, answer) in enumerate(zip(sent, answers, strict=True)):
        if number % 10 == 0:
            assert answer.status_code == 422
            assert answer.json()["violations"][0]["row"] == len(rows)
        else:
            table = decoder.table(json.dumps({"dataframe_records": rows}).encode(), "application/json")
            assert answer.json()["predictions"] == json.loads(
                to_json(records(predict_all(served.model, table)))
            )


def test_sigterm_lets_what_is_in_flight_finish_and_ends_with_zero(tmp_path):
    with server("tiny-rows", tmp_path, 2.5) as (process, address), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{address}/invocations", json={"dataframe_records": [plot(1)]})
        wait_for(lambda: "apps_requests_in_flight 2.0" in httpx.get(f"{address}/metrics").text)
        process.send_signal(signal.SIGTERM)
        assert answer.result(60).status_code == 200
        assert process.wait(60) == 0
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{address}/v2/health/live")


def test_a_job_survives_the_kill_of_its_server(tmp_path):
    raster = {"b64": "W1sxLCAyXSwgWzMsIDRdXQ=="}
    body = {"dataframe_records": [{"scene": "s", "tile": 0, "raster": raster}]}
    with server("tiny-scenes", tmp_path, 30) as (process, address):
        job = httpx.post(f"{address}/v2/jobs", json=body).json()
        link = f"{address}{job['links']['self']}"
        wait_for(lambda: httpx.get(link).json()["status"] == "running")
        process.kill()
        process.wait(60)
    with server("tiny-scenes", tmp_path) as (_, address):
        link = f"{address}{job['links']['self']}"
        wait_for(lambda: httpx.get(link).json()["status"] == "done")
        assert httpx.get(f"{address}{job['links']['result']}").json()["predictions"][0]["scene"] == "s"


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ServeSettings(port=taken.getsockname()[1])
        with pytest.raises(RunError, match=f"port {settings.port}"):
            run_server(create_app([fitted("tiny-rows")], settings), settings)
