"""The access log: one JSON object a line for each answer, of all workers in one file."""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from appliedpapers.core.errors import ConfigError

if TYPE_CHECKING:
    from appliedpapers.pipelines.serving_guard import Visit

_FULL_BYTES = 65_536


class AccessLog:
    """Writes what was answered, half a second late at most; used in the event loop alone.

    Args:
        target: A file, which is appended to; ``-`` is stderr.

    Raises:
        ConfigError: The file cannot be written.
    """

    def __init__(self, target: Path) -> None:
        self._lines: list[bytes] = []
        self._size = 0
        if str(target) == "-":
            self._file = sys.stderr.fileno()
            return
        try:
            # lines of several workers do not mix: each write is appended whole
            self._file = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigError(
                f"--access-log {target}: {error.strerror}.", hint="Expected a file that can be written, or -."
            ) from None

    def write(self, visit: Visit, route: str, method: str, status: int, seconds: float) -> None:
        """Note one answer."""
        line = orjson.dumps(
            {
                "time": dt.datetime.fromtimestamp(time.time(), dt.UTC),
                "request_id": visit.request_id.decode("latin-1"),
                "method": method,
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 3),
                "problem": visit.kind,
                "worker": os.getpid(),
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _FULL_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was noted; a log that cannot be written costs no answer."""
        if not self._lines:
            return
        text, self._lines, self._size = b"".join(self._lines), [], 0
        try:
            os.write(self._file, text)
        except OSError as error:
            print(f"the access log cannot be written: {error.strerror}", file=sys.stderr)
