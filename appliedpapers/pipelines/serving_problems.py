"""What a client is told when a request is refused: problem+json (RFC 9457), never a stack trace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from appliedpapers.core.errors import ConfigError, DataError

MEDIA_TYPE = "application/problem+json"
_SHOWN = 20
_LONGEST = 300


@dataclass(frozen=True)
class Problem:
    """One refusal.

    Attributes:
        status: HTTP status.
        kind: Short name, last part of the ``type`` URI and label of the error metric.
        detail: What happened and where.
        hint: What was expected.
        violations: Broken values: row (from 1), column, value, rule.
        violations_total: How many values are broken; at most 20 are listed.
        headers: Further response headers.
    """

    status: int
    kind: str
    detail: str
    hint: str | None = None
    violations: tuple[Mapping[str, Any], ...] = ()
    violations_total: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""
        body: dict[str, Any] = {
            "type": f"urn:applied-papers:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": shorten(self.detail),
        }
        if self.hint:
            body["hint"] = shorten(self.hint, 4 * _LONGEST)
        if self.status == 422:
            body["violations"] = list(self.violations)
            body["violations_total"] = self.violations_total
        return body

    def response(self) -> Response:
        """Return the HTTP response."""
        body = json.dumps(self.document(), allow_nan=False).encode()
        return Response(body, self.status, dict(self.headers), MEDIA_TYPE)


class Refused(Exception):
    """Raised where a request is refused."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def refuse(status: int, kind: str, detail: str, hint: str | None = None, **headers: str) -> Refused:
    """Return the exception to raise; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Refused(Problem(status, kind, detail, hint, headers=named))


def problem_of(error: BaseException) -> Problem:
    """Return what a client may know about ``error``: contract errors in words, defects without detail."""
    if isinstance(error, Refused):
        return error.problem
    if isinstance(error, DataError):
        rows = _violations(error.violations)
        total = error.violations.num_rows if error.violations is not None else 0
        # the list below repeats what the hint of several violations would say
        hint = error.hint if total <= 1 else f"{total} values break the contract."
        return Problem(422, "contract", error.message, hint, rows, total)
    if isinstance(error, ConfigError):
        return Problem(422, "configuration", error.message, error.hint)
    if isinstance(error, UnicodeEncodeError):
        return Problem(
            400, "malformed", "The text holds half of a surrogate pair.", "Expected valid Unicode."
        )
    return Problem(500, "defect", "The model could not answer.", "The server's log says why.")


def shorten(text: str, longest: int = _LONGEST) -> str:
    """Return ``text`` cut to a length that is safe to send back."""
    return text if len(text) <= longest else f"{text[:longest]}…"


def _violations(table: Any) -> tuple[Mapping[str, Any], ...]:
    if table is None:
        return ()
    rows = table.slice(0, _SHOWN).select(["row", "column", "value", "rule"]).to_pylist()
    return tuple(
        {name: shorten(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows
    )
