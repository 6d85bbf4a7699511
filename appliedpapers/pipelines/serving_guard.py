"""What every request passes before it reaches a route: host, token, concurrency; all is counted."""

from __future__ import annotations

import base64
import binascii
import hmac
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from appliedpapers.pipelines.serving_metrics import Metrics
from appliedpapers.pipelines.serving_problems import Problem, Refused, problem_of, refuse, shorten
from appliedpapers.pipelines.serving_settings import ServeSettings

if TYPE_CHECKING:
    from appliedpapers.pipelines.serving_log import AccessLog

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger("appliedpapers.serve")
HEALTH = frozenset({"/v2/health/live", "/v2/health/ready", "/ping", "/health"})
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}").fullmatch
_BUSY = "Too many requests are in flight."


class Door:
    """Whether requests are taken, and how many are inside.

    Attributes:
        leaving: The server is about to end: what comes is answered, on connections that end with it.
        draining: The server ends; nothing new is taken.
        in_flight: Requests that are being worked on.
    """

    def __init__(self) -> None:
        self.leaving = False
        self.draining = False
        self.in_flight = 0


@dataclass(slots=True)
class Visit:
    """One request from its first byte to its answer.

    Attributes:
        started: When it came, by ``time.perf_counter``.
        request_id: What the client calls it, or the number that it was given.
        counted: Whether it counts among those in flight.
        kind: Kind of the problem that it was refused for.
    """

    started: float
    request_id: bytes
    counted: bool = True
    kind: str | None = None


class Guard:
    """ASGI middleware around the whole application.

    Args:
        settings: Hosts, token and limits.
        metrics: Where answers are counted.
        door: Shared with the health routes.
        log: Where answers are written to.
    """

    def __init__(
        self, settings: ServeSettings, metrics: Metrics, door: Door, log: AccessLog | None = None
    ) -> None:
        self._app: App
        self._settings = settings
        self._hosts = settings.hosts
        self._metrics = metrics
        self._door = door
        self._log = log
        self._prefix = secrets.token_hex(6)
        self._number = itertools.count(1)

    def around(self, app: App) -> Guard:
        """Stand in front of an application."""
        self._app = app
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, pass it on, count the answer."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def enter(self, headers: Iterable[tuple[bytes, bytes]], *, health: bool = False) -> Visit:
        """Take note of a request."""
        request_id = b""
        for name, value in headers:
            if name == b"x-request-id":
                request_id = value
        if not request_id or not _REQUEST_ID(request_id):
            request_id = f"{self._prefix}-{next(self._number):x}".encode()
        if not health:
            self._door.in_flight += 1
            self._metrics.in_flight += 1
        return Visit(time.perf_counter(), request_id, not health)

    def headers(self, visit: Visit) -> tuple[tuple[bytes, bytes], ...]:
        """Return what every answer carries."""
        end = ((b"connection", b"close"),) if self._door.leaving else ()
        return (*_ALWAYS, (b"x-request-id", visit.request_id), *end)

    def refused(self, visit: Visit, problem: Problem) -> None:
        """Count a refusal."""
        visit.kind = problem.kind
        self._metrics.refused(problem.kind)
        if problem.status >= 500:
            _log.warning("request %s: %d, %s", visit.request_id.decode(), problem.status, problem.detail)

    def leave(self, visit: Visit, route: str, method: str, status: int) -> None:
        """Count an answer; 499 stands for a client that did not wait for it."""
        if visit.counted:
            self._door.in_flight -= 1
            self._metrics.in_flight -= 1
        seconds = time.perf_counter() - visit.started
        self._metrics.answered(route, method, status, seconds)
        if self._log is not None:
            self._log.write(visit, route, method, status, seconds)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0
        health = scope["path"] in HEALTH
        visit = self.enter(scope["headers"], health=health)

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *self.headers(visit)]
            await send(message)

        try:
            self.admit(visit, scope["headers"])
            await self._app(scope, receive, counted)
        except Exception as error:
            if not isinstance(error, Refused):
                _log.exception("request %s failed", visit.request_id.decode())
            if status:
                raise
            problem = problem_of(error) if isinstance(error, Refused) else _DEFECT
            self.refused(visit, problem)
            await problem.response()(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.leave(visit, route, method, status)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            origin = headers.get("origin")
            if origin is not None:
                # a page from elsewhere must not reach a server on this machine through its visitor's browser
                self._check_host(urlsplit(origin).netloc)
            self._admit(headers)
        except (Refused, ValueError):
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
            return
        await self._app(scope, receive, send)

    def admit(self, visit: Visit, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Let a request in.

        Raises:
            Refused: 401 no token, 403 another host, 503 too many or the end is near.
        """
        found = Headers(raw=list(headers))
        if visit.counted:
            self._admit(found)
        else:
            self._check_host(found.get("host", ""))

    def _admit(self, headers: Headers) -> None:
        self._check_host(headers.get("host", ""))
        if self._settings.token is not None and not _authorised(headers, self._settings.token):
            raise refuse(
                401,
                "token",
                "A bearer token is needed.",
                "Send the header Authorization: Bearer TOKEN.",
                WWW_Authenticate='Bearer, Basic realm="Applied Papers"',
            )
        if self._door.draining:
            raise refuse(503, "draining", "The server is shutting down.", "Try again.", Retry_After="1")
        if self._door.in_flight > self._settings.max_concurrency:
            raise refuse(503, "busy", _BUSY, "Try again in a second.", Retry_After="1")

    def _check_host(self, host: str) -> None:
        if self._hosts is None:
            return
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() not in self._hosts:
            raise refuse(
                403,
                "host",
                f"Host '{shorten(host)}' is not served here.",
                "Start the server with this name among its allowed hosts.",
            )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_DEFECT = Problem(500, "defect", "The server could not answer.", "The server's log says why.")


def _authorised(headers: Headers, token: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        # what a browser asks its user for: any name, the token as the password
        try:
            offered = base64.b64decode(given, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
    elif scheme.lower() == "bearer":
        # header bytes were read as Latin-1
        offered = given.encode("latin-1")
    else:
        return False
    return hmac.compare_digest(offered.strip(), token.encode())
