"""How a server ends: what it has taken is answered, what is new is kept out."""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace

import pytest
import uvicorn

from appliedpapers.pipelines.serving_server import Server, keep_out


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no filter on sockets")
def test_a_filtered_socket_serves_whom_it_has_taken_and_lets_nobody_else_in():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address, timeout=30) as before:
            assert keep_out(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.3)
            taken = listener.accept()[0]
            with taken:
                before.sendall(b"asked")
                assert taken.recv(5) == b"asked"
                taken.sendall(b"answered")
                assert before.recv(8) == b"answered"


def test_a_socket_that_takes_no_filter_is_left_as_it_was(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not keep_out(listener)
        with socket.create_connection(listener.getsockname(), timeout=30):
            pass


@pytest.mark.parametrize(
    ("connections", "waited", "expects"),
    [
        ([], 0.0, False),
        ([SimpleNamespace(cycle=object())], 0.1, True),
        ([SimpleNamespace(cycle=object())], 0.6, False),
        ([SimpleNamespace(cycle=object()), SimpleNamespace(cycle=None)], 0.6, True),
        ([SimpleNamespace(cycle=None)], 3.5, False),
        # a WebSocket has no cycle: its own protocol ends it
        ([SimpleNamespace()], 0.6, False),
    ],
    ids=["none", "idle", "idle-long", "unasked", "unasked-long", "websocket"],
)
def test_a_connection_that_has_not_asked_yet_is_given_more_time(connections, waited, expects):
    server = Server(
        uvicorn.Config(app=lambda: None, timeout_graceful_shutdown=10),
        SimpleNamespace(leaving=True, draining=False),
    )
    server.server_state.connections = set(map(_hashable, connections))
    assert server._expects(waited) is expects


def _hashable(item: SimpleNamespace) -> object:
    return type("Connection", (), dict(vars(item)))()
