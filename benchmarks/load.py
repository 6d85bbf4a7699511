"""Clients that ask a server as fast as it answers, cheap enough to share its machine.

Everything runs in one event loop of one process, over raw sockets and prepared bytes: about 20 us of
processor for each request. A client sends its next request when it has the answer to the last one.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Load:
    """What came back.

    Attributes:
        seconds: How long was asked.
        latencies: Seconds from sending a request (or from connecting for it) to its last byte.
        statuses: Answers by HTTP status.
        failures: Requests without an answer: ``refused`` (no connection was taken), ``reset`` (it was closed
            before a byte of the answer came), ``broken`` (an answer stopped in the middle).
        closed: Connections that the server ended by ``Connection: close``.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    closed: int = 0

    @property
    def rate(self) -> float:
        """Answers in a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Return a percentile of the latency, in milliseconds."""
        return float(np.percentile(self.latencies, share)) * 1000 if self.latencies else float("nan")


def post(path: str, bodies: Sequence[bytes], *, keep_alive: bool, media_type: str) -> list[bytes]:
    """Return whole requests, ready to be written to a socket."""
    connection = "keep-alive" if keep_alive else "close"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\nContent-Type: {media_type}"
    )
    return [f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]


class _Client(asyncio.Protocol):
    """One client; it connects anew whenever its connection ends."""

    def __init__(self, run: _Run, first: int) -> None:
        self._run = run
        self._next = first
        self._transport: Any = None
        self._waits = False
        self._received = b""
        self._missing = 0
        self._sent = 0.0

    async def connect(self) -> None:
        """Open a connection, which sends the first request."""
        self._sent = time.perf_counter()
        try:
            await self._run.loop.create_connection(lambda: self, self._run.host, self._run.port)
        except OSError:
            if self._run.going:
                self._run.load.failures["refused"] += 1
                # a server that is being replaced refuses at once: not a busy loop
                self._run.loop.call_later(0.01, self._run.again, self)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._received += data
            head, found, body = self._received.partition(b"\r\n\r\n")
            if not found:
                return
            length = _LENGTH.search(head)
            self._missing = (int(length[1]) if length else 0) - len(body)
        if self._missing <= 0:
            self._answered()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._run.going:
            return
        if self._waits:
            self._run.load.failures["broken" if self._received else "reset"] += 1
            self._waits = False
        self._run.again(self)

    def end(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def _send(self) -> None:
        requests = self._run.requests
        self._received, self._missing, self._waits = b"", 0, True
        if self._run.keep_alive:
            self._sent = time.perf_counter()
        self._transport.write(requests[self._next % len(requests)])
        self._next += 1

    def _answered(self) -> None:
        load = self._run.load
        self._waits = False
        load.latencies.append(time.perf_counter() - self._sent)
        load.statuses[int(self._received[9:12])] += 1
        closes = b"\r\nconnection: close" in self._received[:2048].lower()
        if not self._run.going:
            self._transport.close()
        elif self._run.keep_alive and not closes:
            self._send()
        else:
            load.closed += closes
            self._transport.close()


class _Run:
    def __init__(self, host: str, port: int, requests: Sequence[bytes], keep_alive: bool) -> None:
        self.host, self.port, self.requests, self.keep_alive = host, port, requests, keep_alive
        self.load = Load()
        self.going = True
        self.loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()

    def again(self, client: _Client) -> None:
        """Let a client connect, while the run lasts."""
        if self.going:
            task = self.loop.create_task(client.connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)


async def asking(
    port: int,
    requests: Sequence[bytes],
    *,
    clients: int = 8,
    seconds: float = 5.0,
    keep_alive: bool = True,
    host: str = "127.0.0.1",
) -> Load:
    """Ask as :func:`ask` does, within a running event loop."""
    run = _Run(host, port, requests, keep_alive)
    made = [_Client(run, number * 7) for number in range(clients)]
    started = time.perf_counter()
    for client in made:
        run.again(client)
    await asyncio.sleep(seconds)
    run.going = False
    run.load.seconds = time.perf_counter() - started
    # what was asked is still read, so that the server is not left with broken pipes
    await asyncio.sleep(0.2)
    for client in made:
        client.end()
    return run.load


def ask(
    port: int,
    requests: Sequence[bytes],
    *,
    clients: int = 8,
    seconds: float = 5.0,
    keep_alive: bool = True,
    host: str = "127.0.0.1",
) -> Load:
    """Ask a server for some time with several clients at once.

    Args:
        port: Where it listens.
        requests: What :func:`post` made; each client goes round them.
        clients: How many ask at the same time.
        seconds: For how long.
        keep_alive: Whether a client keeps its connection.
        host: The server's address.
    """
    import uvloop

    made = asking(port, requests, clients=clients, seconds=seconds, keep_alive=keep_alive, host=host)
    return uvloop.run(made)
