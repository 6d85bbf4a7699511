"""The commands that a schedule starts: their processes, their logs, and what they say came of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from appliedpapers.core.files import write_error
from appliedpapers.pipelines.schedule_jobs import Job, command_line

_SAID = re.compile(r"^[a-z]+( [a-z]+)?: .")
_TAIL = 20_000


class Child(Protocol):
    """A command at work."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit code, or None while it works."""

    def stop(self, *, at_once: bool = False) -> None:
        """Ask it and what it started to end, or end them."""


class Spawn(Protocol):
    """Starts a command."""

    def __call__(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, log: Path
    ) -> Child:
        """Start ``apps WORDS`` in ``folder``; data goes to ``out``, messages to ``log``."""


@dataclass(frozen=True)
class Outcome:
    """What a command said that it did; None where it did not say."""

    model: str | None = None
    model_version: str | None = None
    result: str | None = None


class Process:
    """An ``apps`` command in a process group of its own."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid

    def poll(self) -> int | None:
        """Return its exit code, or None while it works."""
        return self._popen.poll()

    def stop(self, *, at_once: bool = False) -> None:
        """Send SIGTERM, or SIGKILL, to the process group."""
        stop_group(self.pid, at_once=at_once)


def spawn(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, log: Path
) -> Process:
    """Start ``apps WORDS`` with this interpreter.

    Raises:
        RunError: The log cannot be written.
        OSError: The folder is gone, or the process cannot be started.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with out.open("wb") as data, log.open("ab") as messages:
            return _start(words, folder, environment, data, messages)
    except OSError as error:
        if error.filename in (str(out), str(log), str(log.parent)):
            raise write_error(log, error) from error
        raise


def _start(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], data: IO[bytes], messages: IO[bytes]
) -> Process:
    messages.write(f"$ {command_line(words)}\n".encode())
    messages.flush()
    # -P: files in the job's folder are data, no modules. Its own session: Ctrl-C is for the daemon alone
    command = [sys.executable, "-P", "-m", "appliedpapers", *words]
    return Process(
        subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=data,
            stderr=messages,
            start_new_session=True,
        )
    )


def stop_group(pid: int, *, at_once: bool = False) -> None:
    """Send SIGTERM, or SIGKILL, to a process group that is led by ``pid``."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL if at_once else signal.SIGTERM)


def next_words(job: Job, words: Sequence[str], folder: Path, since: float) -> list[str]:
    """Return the words of a further try: a scoring is repeated, an interrupted run is resumed.

    Args:
        job: The job.
        words: Words of the first try.
        folder: Where the command runs.
        since: When the firing was first started, seconds since 1970.
    """
    from appliedpapers.pipelines.run_folder import REQUEST, RESULTS

    if job.kind != "run":
        return list(words)
    runs = folder / job.option("output", "runs")
    for request in sorted(runs.glob(f"*/{REQUEST}")):
        try:
            # times of files are coarse
            ours = request.stat().st_mtime >= since - 2 and _command_of(request) == command_line(
                [*words, "--json"]
            )
        except (OSError, ValueError, AttributeError):
            continue
        if ours and not (request.parent / RESULTS).exists():
            store = [f"--store={job.options['store']}"] if "store" in job.options else []
            resumed = request.parent.relative_to(folder) if request.is_relative_to(folder) else request.parent
            return ["run", str(job.options["plugin"]), f"--resume={resumed}", *store]
    return list(words)


def read_outcome(job: Job, out: Path) -> Outcome:
    """Read what a command printed with ``--json``; what cannot be read says nothing."""
    try:
        document = json.loads(out.read_text(encoding="utf-8"))
        if job.kind == "score":
            return Outcome(document["model"], str(document["version"]), document["manifest"])
        from appliedpapers.pipelines.run_folder import RESULTS

        version = document["model_version"]
        result = f"{job.option('output', 'runs')}/{document['run_id']}/{RESULTS}"
        return Outcome(document["plugin"], None if version is None else str(version), result)
    except (OSError, ValueError, KeyError, TypeError):
        return Outcome()


def last_words(log: Path) -> str | None:
    """Return the last line in which a command complained."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    said = [line for line in lines if line.strip() and not line.startswith((" ", "$"))]
    return next((line for line in reversed(said) if _SAID.match(line)), said[-1] if said else None)


def _command_of(request: Path) -> Any:
    return json.loads(request.read_text(encoding="utf-8")).get("command")
