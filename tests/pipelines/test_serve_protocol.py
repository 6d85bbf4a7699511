"""What comes over a bare socket: broken HTTP, bodies that never come or never end, and crooked routes."""

from __future__ import annotations

import json
import re
import socket

import pytest
from live_server import listening
from served_models import fitted

from appliedpapers.pipelines.serve import ServeSettings, create_app

ROW = {"plot": "a", "heat": 11.5, "moisture": None, "soil": "clay", "visits": 2}
BODY = json.dumps({"dataframe_records": [ROW]}).encode()
HEAD = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"


@pytest.fixture(scope="module")
def port():
    settings = ServeSettings(max_body_mb=0.5, request_timeout_s=1.0)
    with listening(create_app([fitted("tiny-rows")], settings)) as address:
        yield int(address.rpartition(":")[2])


def spoken(port: int, *parts: bytes, end: bool = True) -> tuple[int | None, bytes, bytes]:
    """Return status, head and body of what the server says to these bytes; None where it only hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        try:
            for part in parts:
                line.sendall(part)
            if end:
                line.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has hung up already
        said = b""
        try:
            while part := line.recv(65_536):
                said += part
                head, _, body = said.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                if length is not None and len(body) >= int(length[1]):
                    break
        except ConnectionResetError:
            pass
    head, _, body = said.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else None), head.lower(), body


def with_length(body: bytes = BODY, head: bytes = HEAD) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_the_plain_request_is_answered(port):
    status, _, body = spoken(port, with_length(), end=False)
    assert status == 200
    assert json.loads(body)["predictions"][0]["plot"] == "a"


REFUSED = {
    "a length beyond the limit, without the body": ((HEAD + b"Content-Length: 99999999\r\n\r\n",), 413),
    "a length beyond 64 bits": ((HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",), 400),
    "a chunked body beyond the limit": ((HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[CHUNK] * 20), 413),
    "a body that never comes": ((HEAD + b"Content-Length: 50\r\n\r\n",), 408),
    "half a body": ((HEAD + b"Content-Length: 500\r\n\r\n" + BODY,), 408),
    "a chunk that never comes": ((HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n",), 408),
    "another host": ((with_length(head=HEAD.replace(b"localhost", b"evil.example")),), 403),
    "a host of no name": ((with_length(head=HEAD.replace(b"localhost", b"")),), 403),
    "no host": ((with_length(head=HEAD.replace(b"Host: localhost\r\n", b"")),), 403),
    "a host that is no text": ((with_length(head=HEAD.replace(b"localhost", b"\xff\xfe")),), 403),
    "a media type that is no text": ((with_length(head=HEAD.replace(b"json", b"\xff")),), 415),
    "a compressed body": ((with_length(head=HEAD + b"Content-Encoding: gzip\r\n"),), 415),
    "a character set of bytes": ((with_length(head=HEAD.replace(b"json", b"json; charset=\xe9")),), 415),
    "no such route": ((GET % b"/v2/models/..%2f..%2fetc%2fpasswd",), 404),
    "a route with a NUL": ((GET % b"/v2/models/%00",), 404),
    "a route of bytes": ((GET % b"/v2/models/%ff%fe",), 404),
    "a route that climbs": ((GET % b"/../../etc/passwd",), 404),
    "a version of another world": ((GET % b"/v2/models/apps.tiny-rows/versions/" + b"9" * 4000,), 404),
    "a method that is none": ((with_length().replace(b"POST", b"PUT", 1),), 405),
    "a trace": ((b"TRACE / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",), 405),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_crooked_request_is_refused(port, case):
    parts, status = REFUSED[case]
    found, head, body = spoken(port, *parts, end=False)
    assert found == status, (head, body)
    if b"application/problem+json" in head:
        assert json.loads(body)["status"] == status
    else:
        # what is no HTTP is refused by the parser, which knows no problems
        assert (status, body) == (400, b"Invalid HTTP request received.")


BROKEN = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000201fc0303"),
    "a header without a colon": b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length and chunks": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "a chunk that is no number": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a header of a megabyte": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 2**20,
    "a line of a megabyte": b"GET /" + b"a" * 2**20,
    "a NUL in a header": b"GET / HTTP/1.1\r\nHost: local\0host\r\n\r\n",
    "HTTP of another age": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "a WebSocket that is none": b"GET /v2/streams HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\n\r\n",
}


@pytest.mark.parametrize("case", BROKEN, ids=str)
def test_what_is_no_http_gets_no_more_than_a_refusal(port, case):
    status, _, body = spoken(port, BROKEN[case])
    assert status is None or 400 <= status < 500, body
    assert b"Traceback" not in body


def test_the_server_still_answers_after_all_that(port):
    assert spoken(port, with_length(), end=False)[0] == 200
