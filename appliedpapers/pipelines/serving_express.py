"""The short way of a request to its model: from the HTTP parser to the batcher and back.

A framework's scopes, tasks, events and middleware cost several times what a small model does. They are left
out for requests that need nothing of them: a POST to a predicting route whose small body has arrived with its
headers. Anything else, and whatever the short way would have to explain at length, goes through the
application as ever; the answers are the same.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliedpapers.pipelines.serving_guard import Guard
from appliedpapers.pipelines.serving_problems import Refused, problem_of

if TYPE_CHECKING:
    from appliedpapers.pipelines.serving_batcher import Batcher
    from appliedpapers.pipelines.serving_guard import Visit
    from appliedpapers.pipelines.serving_joining import Item
    from appliedpapers.pipelines.serving_routes import Serving

_log = logging.getLogger("appliedpapers.serve")
_SMALL_BYTES = 65_536
_JSON = (b"content-type", b"application/json")
_CLOSE = (b"connection", b"close")
_STATUS = {status: f"HTTP/1.1 {status} {status.phrase}\r\n".encode() for status in HTTPStatus}
_LEAVES_THE_WAY = frozenset({b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"})


@dataclass(frozen=True)
class Lane:
    """A route that predicts.

    Attributes:
        path: Its path, as the metrics name it.
        batcher: Who answers.
    """

    path: str
    batcher: Batcher


class Application(FastAPI):
    """The application with what the short way needs.

    Attributes:
        guard: Who lets requests in.
        lanes: Predicting routes of models that answer at once, by path.
    """

    guard: Guard
    lanes: dict[bytes, Lane]

    def guarded(self, serving: Serving) -> None:
        """Set who guards it, and the short ways."""
        self.guard = Guard(serving.settings, serving.metrics, serving.door, serving.log)
        self.lanes = {path.encode(): Lane(path, batcher) for path, batcher in serving.lanes.items()}
        self.add_middleware(self.guard.around)


class ExpressProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol with the short way in it."""

    _lane: Lane | None = None
    _arrived = b""

    def data_received(self, data: bytes) -> None:
        """Read what a client sent."""
        super().data_received(data)
        if self._lane is not None:
            # the body is not here yet: that takes patience, limits and a clock, which the routes have
            self._lane = None
            super().on_headers_complete()
            if self._arrived:
                super().on_body(self._arrived)

    def on_headers_complete(self) -> None:
        """Choose the way of a request."""
        lane = self.config.app.lanes.get(self.url)  # type: ignore[union-attr]
        # a client that does not read its answers has to wait, which the ordinary way sees to
        free = (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused
        if lane is None or not free or not self._plain():
            super().on_headers_complete()
            return
        self._lane, self._arrived = lane, b""

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        if self._lane is None:
            super().on_body(body)
        else:
            self._arrived = self._arrived + body if self._arrived else body

    def on_message_complete(self) -> None:
        """Answer a request whose body is complete."""
        lane = self._lane
        if lane is None:
            super().on_message_complete()
            return
        self._lane = None
        cycle = self.cycle = _Express(self, lane)  # type: ignore[assignment]
        cycle.start(self.headers, self._arrived)

    def _plain(self) -> bool:
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1" or parser.should_upgrade():
            return False
        small = False
        for name, value in self.headers:
            if name in _LEAVES_THE_WAY:
                return False
            if name == b"content-length":
                small = int(value) <= _SMALL_BYTES
        return small


class _Express:
    """One request on the short way; to its connection it looks as uvicorn's own cycle does."""

    def __init__(self, protocol: ExpressProtocol, lane: Lane) -> None:
        self._protocol = protocol
        self._lane = lane
        self._gone = False
        self._item: Item | None = None
        self._visit: Visit
        self.keep_alive = protocol.parser.should_keep_alive()
        self.response_complete = False
        self.message_event = self

    @property
    def disconnected(self) -> bool:
        """Whether the client has gone."""
        return self._gone

    @disconnected.setter
    def disconnected(self, value: bool) -> None:
        self._gone = value
        if self._item is not None:
            self._item.gone = value
        self._guard.leave(self._visit, self._lane.path, "POST", 499)

    def set(self) -> None:
        """Do nothing: nobody waits for a message here."""

    def start(self, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Let the request in, and ask the batcher."""
        guard = self._guard
        self._visit = guard.enter(headers)
        try:
            guard.admit(self._visit, headers)
        except Refused as error:
            self._refuse(error)
            return
        kind = next((value for name, value in headers if name == b"content-type"), None)
        content_type = None if kind is None else kind.decode("latin-1")
        self._item = self._lane.batcher.submit(body, content_type, self._finish)

    @property
    def _guard(self) -> Guard:
        return self._protocol.config.app.guard  # type: ignore[no-any-return,union-attr]

    def _finish(self, answer: bytes | None, error: Refused | None) -> None:
        if error is not None:
            self._refuse(error)
        else:
            self._send(HTTPStatus.OK, (_JSON,), answer or b"")

    def _refuse(self, error: Refused) -> None:
        problem = problem_of(error)
        self._guard.refused(self._visit, problem)
        response = problem.response()
        headers = [pair for pair in response.raw_headers if pair[0] != b"content-length"]
        self._send(HTTPStatus(problem.status), headers, bytes(response.body))

    def _send(self, status: HTTPStatus, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        protocol, guard = self._protocol, self._guard
        if self._gone:
            return
        guard.leave(self._visit, self._lane.path, "POST", status)
        sent = (*protocol.server_state.default_headers, *headers, *guard.headers(self._visit))
        if not self.keep_alive and _CLOSE not in sent:
            sent += (_CLOSE,)
        parts: list[Any] = [_STATUS[status]]
        for name, value in sent:
            parts += (name, b": ", value, b"\r\n")
        parts += (b"content-length: ", str(len(body)).encode(), b"\r\n\r\n", body)
        protocol.transport.write(b"".join(parts))
        self.response_complete = True
        if _CLOSE in sent:
            protocol.transport.close()
        protocol.on_response_complete()
