"""What every request passes before it reaches a route: host, token, concurrency; all is counted."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from appliedpapers.pipelines.serving_metrics import Metrics
from appliedpapers.pipelines.serving_problems import Problem, Refused, problem_of, refuse, shorten
from appliedpapers.pipelines.serving_settings import ServeSettings

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
_BUSY = "Too many requests are in flight."


class Door:
    """Whether requests are taken, and how many are inside.

    Attributes:
        draining: The server is about to end; nothing new is taken.
        in_flight: Requests that are being worked on.
    """

    def __init__(self) -> None:
        self.draining = False
        self.in_flight = 0


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: The application.
        settings: Hosts, token and limits.
        metrics: Where answers are counted.
        door: Shared with the health routes.
    """

    def __init__(self, app: App, settings: ServeSettings, metrics: Metrics, door: Door) -> None:
        self._app = app
        self._settings = settings
        self._hosts = settings.hosts
        self._metrics = metrics
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, pass it on, count the answer."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_ALWAYS]
            await send(message)

        health = scope["path"] in HEALTH
        if not health:
            self._door.in_flight += 1
            self._metrics.in_flight.inc()
        try:
            self._admit(Headers(scope=scope), health=health)
            await self._app(scope, receive, counted)
        except Exception as error:
            if not isinstance(error, Refused):
                _log.exception("a request failed")
            if status:
                raise
            problem = problem_of(error) if isinstance(error, Refused) else _DEFECT
            self._metrics.refused(problem.kind)
            await problem.response()(scope, receive, counted)
        finally:
            if not health:
                self._door.in_flight -= 1
                self._metrics.in_flight.dec()
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.answered(route, method, status, time.perf_counter() - started)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            origin = headers.get("origin")
            if origin is not None:
                # a page from elsewhere must not reach a server on this machine through its visitor's browser
                self._check_host(urlsplit(origin).netloc)
            self._admit(headers, health=False)
        except (Refused, ValueError):
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
            return
        await self._app(scope, receive, send)

    def _admit(self, headers: Headers, *, health: bool) -> None:
        self._check_host(headers.get("host", ""))
        if health:
            return
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
