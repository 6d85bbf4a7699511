"""The server around an application: how it listens, and how it ends without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import uvicorn

from appliedpapers.core.errors import RunError
from appliedpapers.pipelines.serving_express import ExpressProtocol

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

    from appliedpapers.pipelines.serving_guard import Door
    from appliedpapers.pipelines.serving_settings import ServeSettings

_LINGER_S, _PATIENCE_S = 0.5, 3.0
_POLL_S = 0.02
_HANDSHAKE_S = 0.1
_SO_ATTACH_FILTER = 26
# Classic BPF over a TCP header, as (code, jump if true, jump if false, constant). Byte 13 holds the flags: a
# packet with SYN (2) and without ACK (16) asks for a new connection and is dropped, anything else passes.
_NO_NEW_CONNECTION = (
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 18),
    (0x15, 0, 1, 2),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 2**32 - 1),
)


class Server(uvicorn.Server):
    """A server that ends in steps.

    At the first signal it is no longer ready, takes the connections that wait already, and closes its socket
    (on Linux new ones are kept out first, see :func:`keep_out`, so that none is taken and never answered).
    For half a second it then answers whatever comes on the connections it has, each with
    ``Connection: close``, so that a client that asks again and again learns of the end from an answer; a
    connection that has not asked anything yet is given three seconds. What is idle then is closed, what is
    being worked on is finished within the grace period.

    Args:
        config: Uvicorn's.
        door: Told that the end is near.
    """

    def __init__(self, config: uvicorn.Config, door: Door) -> None:
        super().__init__(config)
        self._door = door

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends at once what is idle, a third Ctrl-C everything."""
        if self._door.leaving:
            self._door.draining = True
        self._door.leaving = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, having closed the socket first."""
        if any([keep_out(listener) for listener in sockets or []]):
            await asyncio.sleep(_HANDSHAKE_S)
        await self._close(sockets or [])
        started = time.monotonic()
        while not self._door.draining and self._expects(time.monotonic() - started):
            await asyncio.sleep(_POLL_S)
        # on a busy machine the time may be over before what had come by then was read
        await asyncio.sleep(_POLL_S)
        self._door.draining = True
        await super().shutdown(sockets)

    def _expects(self, waited: float) -> bool:
        connections = self.server_state.connections
        if waited < _LINGER_S:
            return bool(connections)
        unasked = any(getattr(connection, "cycle", self) is None for connection in connections)
        return unasked and waited < min(_PATIENCE_S, self.config.timeout_graceful_shutdown or _PATIENCE_S)

    async def _close(self, sockets: list[socket.socket]) -> None:
        waiting = []
        for listener in sockets:
            listener.setblocking(False)
            with contextlib.suppress(OSError):
                while True:
                    waiting.append(listener.accept()[0])
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        config: Any = self.config
        made: asyncio.Protocol = config.http_protocol_class(
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )
        return made


def listen(settings: ServeSettings) -> socket.socket:
    """Open the socket.

    Raises:
        RunError: The port is taken or may not be opened.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise RunError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror or error}).",
            hint="Choose another port with --port, or stop what uses this one.",
        ) from None


def keep_out(listener: socket.socket) -> bool:
    """Let no new connection begin, while those that have begun go on.

    Closing a listening socket resets the connections that the system has taken for it since it was last asked
    for them. On Linux a filter on the socket drops the first packet of new ones: their clients try again a
    second later, and find the port closed or the server's successor.

    Args:
        listener: A listening TCP socket; processes that share it share the filter.

    Returns:
        Whether it was done; False where the system has no such filter.
    """
    if sys.platform != "linux":
        return False
    steps = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in _NO_NEW_CONNECTION))
    program = struct.pack("@HP", len(_NO_NEW_CONNECTION), ctypes.addressof(steps))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return False
    return True


def announce(listener: socket.socket, models: str, settings: ServeSettings) -> None:
    """Say on stderr where the models are served."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {models} at http://{shown}:{port}/", file=sys.stderr, flush=True)
    if settings.exposed and settings.token is None:
        print("  other machines can reach it and no token is asked for (--token-file)", file=sys.stderr)


def run_until_signal(app: FastAPI, settings: ServeSettings, listener: socket.socket) -> None:
    """Run an application until SIGTERM or Ctrl-C.

    Raises:
        RunError: The application could not start.
    """
    config = uvicorn.Config(
        app,
        loop="auto" if sys.platform == "win32" else "uvloop",
        http=ExpressProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws_max_size=settings.max_body,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s)),
    )
    server = Server(config, app.state.serving.door)
    logging.getLogger("uvicorn.error").addFilter(_is_no_hurry)
    with _ends_quietly():
        server.run(sockets=[listener])
    if not server.started:
        raise RunError("the server could not start.", hint="The lines above say why.")


def _is_no_hurry(record: logging.LogRecord) -> bool:
    # a second Ctrl-C cancels what still waits, as asked; nobody needs the place where it waited
    return "CancelledError" not in record.getMessage()


@contextlib.contextmanager
def _ends_quietly() -> Iterator[None]:
    """Let SIGTERM end the program with exit code 0: uvicorn raises the signal again after it has drained."""

    def ignore(sig: int, frame: FrameType | None) -> None:
        """Do nothing: the server has ended already."""

    try:
        before = signal.signal(signal.SIGTERM, ignore)
    except ValueError:
        # not the main thread: uvicorn takes no signals there either
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
