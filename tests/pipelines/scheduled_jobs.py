"""A clock that tests move, commands that take no time, and jobs to schedule."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

from appliedpapers.pipelines.schedule import Daemon
from appliedpapers.pipelines.schedule_jobs import Job
from appliedpapers.pipelines.schedule_ledger import Ledger

NIGHT = datetime(2026, 11, 22, 2, 28, tzinfo=UTC)
SCORE = {"model": "tiny-rows@champion", "input": ["in/*.csv"], "output": "scores/{date}"}


def job(**values: Any) -> Job:
    kind = {} if "run" in values else {"score": SCORE}
    when = {} if "every" in values else {"cron": "30 2 * * *"}
    return Job.model_validate({**kind, **when, **values})


class FakeClock:
    """Waiting moves it, and nothing else does."""

    def __init__(self, start: datetime = NIGHT) -> None:
        self._now = start
        self._ticks = 0.0
        self.on_wait: list[Callable[[], None]] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._ticks

    def wait(self, stop: Event, seconds: float) -> None:
        self.pass_(seconds)
        for hook in self.on_wait:
            hook()

    def pass_(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._ticks += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock; no time passes."""
        self._now += timedelta(seconds=seconds)


@dataclass
class FakeChild:
    clock: FakeClock
    ends_at: float
    code: int
    pid: int = field(default_factory=os.getpid)
    deaf: bool = False
    signals: list[str] = field(default_factory=list)

    def poll(self) -> int | None:
        return self.code if self.clock.monotonic() >= self.ends_at else None

    def stop(self, *, at_once: bool = False) -> None:
        self.signals.append("KILL" if at_once else "TERM")
        if self.poll() is None and (at_once or not self.deaf):
            self.ends_at, self.code = self.clock.monotonic(), -9 if at_once else 130


@dataclass
class FakeApps:
    """Stands for ``apps``: answers each call with the next of ``codes``, the last one for ever."""

    clock: FakeClock
    codes: Sequence[int] = (0,)
    seconds: float = 5.0
    deaf: bool = False
    says: str = ""
    calls: list[tuple[list[str], dict[str, str], datetime]] = field(default_factory=list)
    children: list[FakeChild] = field(default_factory=list)

    def __call__(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, log: Path
    ) -> FakeChild:
        code = self.codes[min(len(self.calls), len(self.codes) - 1)]
        self.calls.append((list(words), dict(environment), self.clock.now()))
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"$ apps\n{self.says}")
        if code == 0:
            summary = {"model": "apps.tiny-rows", "version": "3", "manifest": f"{folder}/manifest.json"}
            out.write_text(json.dumps(summary))
        child = FakeChild(self.clock, self.clock.monotonic() + self.seconds, code, deaf=self.deaf)
        self.children.append(child)
        return child

    @property
    def times(self) -> list[str]:
        return [f"{when:%H:%M:%S}" for _, _, when in self.calls]

    @property
    def due(self) -> list[str]:
        return [environment["APPS_SCHEDULED_FOR"] for _, environment, _ in self.calls]


@dataclass
class Place:
    """A ledger with a clock, and daemons on it."""

    folder: Path
    clock: FakeClock
    apps: FakeApps
    lines: list[str] = field(default_factory=list)

    def ledger(self, **more: Any) -> Ledger:
        return Ledger(self.folder / "schedule", **more)

    def daemon(self, **more: Any) -> Daemon:
        settings = {"clock": self.clock, "spawn": self.apps, "say": self.lines.append}
        return Daemon(more.pop("ledger", None) or self.ledger(), **{**settings, **more})

    def add(self, name: str = "nightly", **values: Any) -> None:
        self.ledger().put_job(name, job(**values), self.folder, self.clock.now())

    def states(self, name: str = "nightly") -> list[tuple[str, str]]:
        return [(f"{firing.due:%d %H:%M}", firing.state) for firing in self.ledger().firings(name)]


def live(place: Place, *daemons: Daemon, seconds: float, step: float = 1.0) -> None:
    """Let time pass; the daemons look as often as they do."""
    for _ in range(int(seconds / step)):
        for daemon in daemons:
            daemon.tick()
        place.clock.pass_(step)
    for daemon in daemons:
        daemon.tick()
