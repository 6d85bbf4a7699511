"""What the ledger of a schedule is made of: jobs, their firings, and who runs them."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from appliedpapers.pipelines.processes import born
from appliedpapers.pipelines.schedule_jobs import Job

State = Literal["waiting", "running", "done", "failed", "missed"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class Firing:
    """One due time of one job; times are seconds since 1970 in UTC, None where there is none yet.

    Attributes:
        id: Number of the row.
        job: Name of the job.
        scheduled_for: When it was due, ISO 8601 in UTC.
        state: ``waiting`` (due, or to be tried again), ``running``, ``done``, ``failed`` or ``missed``.
        origin: ``schedule``, or ``hand`` for ``apps schedule run-once``.
        attempts: Tries that were started.
        takeovers: How often another daemon took it over from one that died.
        next_try: When it may start.
        started: When the first try started.
        ended: When it ended.
        heartbeat: When its daemon last said that it is at work.
        owner: The daemon that runs it.
        host: The machine that it runs on.
        owner_pid: Process of the daemon.
        owner_born: When that process started, as the system counts.
        pid: Process of the command.
        pid_born: When that process started.
        exit_code: Of the last try; negative where a signal ended it.
        reason: Why it failed, was missed or is tried again.
        model: Model that was used or made.
        model_version: Its version.
        result: Manifest of a scoring, or results document of a run.
        log: What the last try printed.
        told: What came of ``on_failure``.
    """

    id: int
    job: str
    scheduled_for: str
    state: State
    origin: str
    attempts: int
    takeovers: int
    next_try: float | None
    started: float | None
    ended: float | None
    heartbeat: float | None
    owner: str | None
    host: str | None
    owner_pid: int | None
    owner_born: str | None
    pid: int | None
    pid_born: str | None
    exit_code: int | None
    reason: str | None
    model: str | None
    model_version: str | None
    result: str | None
    log: str | None
    told: str | None

    @property
    def due(self) -> datetime:
        """When it was due."""
        return datetime.fromisoformat(self.scheduled_for)


@dataclass(frozen=True)
class StoredJob:
    """A job as the ledger keeps it: what it says, where it runs, and until when its firings are planned."""

    name: str
    job: Job
    folder: Path
    paused: bool
    planned_until: datetime
    added_at: datetime


class Owner(NamedTuple):
    """Who runs a firing."""

    name: str
    host: str
    pid: int
    born: str | None

    @classmethod
    def me(cls) -> Owner:
        """Return this process."""
        host, pid = socket.gethostname(), os.getpid()
        return cls(f"{host}:{pid}:{uuid.uuid4().hex[:6]}", host, pid, born(pid))


def iso(moment: datetime) -> str:
    """Return a due time as the ledger writes it: to the second, in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
