"""The short way of a request through a real server gives the answers of the ordinary one."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from serve_processes import apps_serve, wait_for

ROW = {"plot": "a", "heat": 11.5, "moisture": None, "soil": "clay", "visits": 2}
BODY = json.dumps({"dataframe_records": [ROW]}).encode()
BAD = json.dumps({"dataframe_records": [{**ROW, "heat": 99}]}).encode()


@pytest.fixture(scope="module")
def running(tiny, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "access.jsonl"
    with apps_serve(tiny.bundle, "--access-log", log, env={"APPS_TOKEN": "s3cret"}) as (process, address):
        yield process, address, log


@pytest.fixture(scope="module")
def port(running) -> int:
    return int(running[1].rpartition(":")[2])


def request(body: bytes = BODY, *headers: str, path: str = "/invocations", version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: localhost", "Authorization: Bearer s3cret", *headers]
    if not any(line.lower().startswith(("content-length", "transfer")) for line in lines):
        lines.append(f"Content-Length: {len(body)}")
    if not any(line.lower().startswith("content-type") for line in lines):
        lines.append("Content-Type: application/json")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextmanager
def connection(port: int):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as opened, opened.makefile("rb") as reader:
        yield opened, reader


def read(reader) -> tuple[int, dict[str, str], bytes]:
    line = reader.readline()
    assert line, "the connection was closed"
    headers = {}
    while (pair := reader.readline()) != b"\r\n":
        name, _, value = pair.decode().partition(":")
        headers[name.lower()] = value.strip()
    return int(line.split()[1]), headers, reader.read(int(headers["content-length"]))


def ask(port: int, *parts: bytes, pause: float = 0.0) -> tuple[int, dict[str, str], bytes]:
    with connection(port) as (opened, reader):
        for part in parts:
            opened.sendall(part)
            time.sleep(pause)
        return read(reader)


@pytest.fixture(scope="module")
def plain(port):
    status, headers, body = ask(port, request())
    assert status == 200
    return headers, body


def test_the_answer_has_every_header_of_the_ordinary_way(port, plain):
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    status, headers, body = ask(port, request(chunked, "Transfer-Encoding: chunked"))
    assert (status, body) == (200, plain[1])
    assert headers.keys() == plain[0].keys()
    ours = {name: value for name, value in headers.items() if name not in ("date", "x-request-id")}
    assert ours == {name: value for name, value in plain[0].items() if name in ours}


def test_a_body_in_pieces_gives_the_same_answer(port, plain):
    sent = request()
    for cut in (
        1,
        len(sent) - len(BODY) - 2,
        len(sent) - len(BODY),
        len(sent) - len(BODY) + 3,
        len(sent) - 1,
    ):
        status, _, body = ask(port, sent[:cut], sent[cut:], pause=0.02)
        assert (status, body) == (200, plain[1]), cut


def test_a_connection_is_kept_and_requests_in_a_row_are_answered_in_order(port):
    bodies = [json.dumps({"dataframe_records": [{**ROW, "plot": f"p{n}"}]}).encode() for n in range(6)]
    with connection(port) as (opened, reader):
        opened.sendall(b"".join(map(request, bodies)))
        found = [json.loads(read(reader)[2])["predictions"][0]["plot"] for _ in bodies]
    assert found == [f"p{n}" for n in range(6)]


def test_a_good_and_a_bad_request_in_a_row(port, plain):
    with connection(port) as (opened, reader):
        opened.sendall(request(BAD) + request() + request(b"{") + request())
        statuses = [read(reader) for _ in range(4)]
    assert [status for status, _, _ in statuses] == [422, 200, 400, 200]
    assert statuses[1][2] == statuses[3][2] == plain[1]
    assert statuses[0][1]["content-type"] == "application/problem+json"


def test_a_client_that_asks_for_the_end_gets_it(port, plain):
    with connection(port) as (opened, reader):
        opened.sendall(request(BODY, "Connection: close"))
        status, headers, body = read(reader)
        assert (status, headers["connection"], body) == (200, "close", plain[1])
        assert reader.read(1) == b""


def test_http_1_0_and_expect_take_the_ordinary_way(port, plain):
    assert ask(port, request(version="1.0"))[2] == plain[1]
    with connection(port) as (opened, reader):
        sent = request(BODY, "Expect: 100-continue")
        opened.sendall(sent[: -len(BODY)])
        assert reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        reader.readline()
        opened.sendall(BODY)
        assert read(reader)[2] == plain[1]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (("Host: evil.example",), 403),
        (("Authorization: Bearer wrong",), 401),
        (("Content-Type: text/plain",), 415),
        (("Content-Encoding: gzip",), 415),
    ],
)
def test_refusals_are_those_of_the_ordinary_way(port, headers, status):
    lines = request(BODY, *headers).split(b"\r\n")
    named = {line.split(b":")[0].lower() for line in "\r\n".join(headers).encode().split(b"\r\n")}
    # the header that is told here stands alone
    kept = [
        line
        for number, line in enumerate(lines)
        if line.split(b":")[0].lower() not in named or line.decode() in headers or number == 0
    ]
    found, answered, body = ask(port, b"\r\n".join(kept))
    assert found == status, body
    assert answered["content-type"] == "application/problem+json"
    assert json.loads(body)["status"] == status
    assert answered["x-request-id"]


def test_a_request_id_comes_back_and_a_bad_one_does_not(port):
    assert ask(port, request(BODY, "X-Request-ID: job-7/3"))[1]["x-request-id"] == "job-7/3"
    made = {ask(port, request(BODY, f"X-Request-ID: {bad}"))[1]["x-request-id"] for bad in ("a b", "x" * 200)}
    assert len(made) == 2
    assert all(re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", name) for name in made)


def test_every_answer_is_a_line_of_the_access_log(running, port):
    log = running[2]
    ask(port, request(BAD, "X-Request-ID: logged-1"))
    ask(port, request(BODY, "X-Request-ID: logged-2"))
    wait_for(lambda: "logged-2" in log.read_text())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    found = {line["request_id"]: line for line in lines}
    first, second = found["logged-1"], found["logged-2"]
    assert (first["status"], first["problem"], first["route"]) == (422, "contract", "/invocations")
    assert (second["status"], second["problem"], second["method"]) == (200, None, "POST")
    assert second["ms"] > 0
    assert "clay" not in log.read_text(), "what a client sends is not logged"


def test_a_client_that_leaves_is_counted_and_disturbs_nobody(port, plain):
    for _ in range(5):
        with connection(port) as (opened, _):
            opened.sendall(request())
    assert ask(port, request())[2] == plain[1]
    token = {"Authorization": "Bearer s3cret"}
    metrics = f"http://127.0.0.1:{port}/metrics"
    wait_for(lambda: "apps_requests_in_flight 1.0" in httpx.get(metrics, headers=token).text)


def test_under_the_end_a_kept_connection_is_answered_and_told(tiny):
    with (
        apps_serve(tiny.bundle) as (process, address),
        connection(int(address.rpartition(":")[2])) as (
            opened,
            reader,
        ),
    ):
        opened.sendall(request())
        assert "connection" not in read(reader)[1]
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        opened.sendall(request())
        status, headers, _ = read(reader)
        assert (status, headers["connection"]) == (200, "close")
        assert process.wait(60) == 0


def test_a_log_that_cannot_be_written_is_said_at_the_start(tiny, tmp_path):
    words = ["serve", str(tiny.bundle), "--port", "0", "--access-log", str(tmp_path / "absent" / "a.log")]
    ended = subprocess.run(
        [sys.executable, "-m", "appliedpapers", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "access-log" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert Path(tmp_path / "absent").exists() is False


def test_a_client_that_does_not_read_is_made_to_wait(port):
    long = json.dumps({"dataframe_records": [{**ROW, "plot": "x" * 40_000}]}).encode()
    sent, most = request(long) * 4, 4000 * len(long)
    with connection(port) as (opened, reader):
        opened.settimeout(1.0)
        told = 0
        with suppress(TimeoutError):
            while told < most:
                told += opened.send(sent[told % len(sent) :])
        assert told < most, "the server took everything and kept all answers"
        opened.settimeout(20)
        assert read(reader)[0] == 200


def test_ctrl_c_twice_ends_without_a_traceback(tiny):
    with apps_serve(tiny.bundle) as (process, _):
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        wait_for(lambda: "interrupted.\n" in process.said)
        assert process.wait(60) == 130
    assert "Traceback" not in "".join(process.said)
