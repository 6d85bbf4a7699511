"""Running claimed firings: starts commands, says that they are at work, tries again, and never loses one."""

from __future__ import annotations

import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from appliedpapers.core.errors import AppsError, LockedError
from appliedpapers.pipelines.processes import born, is_alive
from appliedpapers.pipelines.schedule_firing import Firing, Owner, StoredJob
from appliedpapers.pipelines.schedule_jobs import Job, command_line
from appliedpapers.pipelines.schedule_ledger import Ledger
from appliedpapers.pipelines.schedule_notify import tell
from appliedpapers.pipelines.schedule_process import (
    Child,
    Spawn,
    last_words,
    next_words,
    read_outcome,
    spawn,
    stop_group,
)
from appliedpapers.pipelines.schedule_times import seconds_of

BEAT_S = 10.0
LOST_S = 90.0
HUNG_S = 600.0
MAX_TAKEOVERS = 3
LOGS_KEPT = 500
_GRACE_S = 30.0
_TELLING_S = 70.0
_LONGEST_BACKOFF_S = 3600
# the same command would say the same again: usage, plugin, quality gate
_FINAL_CODES = (2, 3, 5)


class Clock(Protocol):
    """What time it is, and waiting."""

    def now(self) -> datetime:
        """Return the time of day in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never jump."""

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait, or until ``stop`` is set."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return the time of day in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        return time.monotonic()

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait, or until ``stop`` is set."""
        stop.wait(seconds)


@dataclass
class _Work:
    firing: Firing
    stored: StoredJob
    child: Child | None
    out: Path
    log: Path
    deadline: float
    beat_at: float
    reason: str | None = None
    stopping: bool = False
    abandoned: bool = False
    kill_at: float = math.inf
    complaints: set[str] = field(default_factory=set)


class Runner:
    """Runs the firings that one process has claimed.

    Args:
        ledger: Where they stand.
        clock: What time it is.
        spawn: How a command is started.
        say: Where one line of fact is printed.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        clock: Clock | None = None,
        spawn: Spawn = spawn,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.ledger = ledger
        self.clock = clock or SystemClock()
        self.owner = Owner.me()
        self._spawn = spawn
        self._say = say or _print_line
        self._work: dict[int, _Work] = {}
        self._told: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        self._telling: list[threading.Thread] = []

    @property
    def busy(self) -> int:
        """How many commands are at work."""
        return len(self._work)

    def say(self, name: str, text: str) -> None:
        """Print one line about a job."""
        self._say(f"{self.clock.now():%Y-%m-%d %H:%M:%SZ}  {name}  {text}")

    def start(self, firing: Firing, stored: StoredJob) -> bool:
        """Claim a waiting firing and start its command; False where somebody else runs the job."""
        claimed = self.ledger.claim(firing, self.owner, self._now())
        if claimed is None:
            return False
        job = stored.job
        first = job.words(stored.name, claimed.due)
        words = next_words(job, first, stored.folder, claimed.started or 0)
        out, log = self._logs(claimed)
        start = self.clock.monotonic()
        work = _Work(claimed, stored, None, out, log, start + seconds_of(job.timeout), start + BEAT_S)
        self._work[claimed.id] = work
        facts = {"APPS_JOB": stored.name, "APPS_SCHEDULED_FOR": claimed.scheduled_for, "NO_COLOR": "1"}
        try:
            work.child = self._spawn([*words, "--json"], stored.folder, facts, out, log)
        except (OSError, AppsError) as error:
            work.reason = f"could not be started: {error}"
        self.say(
            stored.name, f"started, try {claimed.attempts} of {job.retries + 1}, due {claimed.scheduled_for}"
        )
        self._note_process(work)
        return True

    def look(self) -> list[Firing]:
        """See to every command at work; return the firings whose try ended."""
        self._note_told()
        ended = []
        for work in list(self._work.values()):
            code = 1 if work.child is None else work.child.poll()
            try:
                if code is None:
                    self._attend(work)
                    continue
                firing = self._end(work, code)
            except LockedError as error:
                # what a command did is not lost: it is written down as soon as the ledger can be
                self._complain(work, error)
                continue
            del self._work[work.firing.id]
            ended.append(firing)
        return ended

    def stop(self) -> list[Firing]:
        """Stop every command; their firings wait, and go on when somebody runs them again."""
        for work in self._work.values():
            work.abandoned = True
            self._stop(work, "stopped with its daemon; goes on at the next start")
        ended: list[Firing] = []
        never = threading.Event()
        limit = self.clock.monotonic() + 3 * _GRACE_S
        while self._work and self.clock.monotonic() < limit:
            ended += self.look()
            if self._work:
                self.clock.wait(never, 0.1)
        for thread in self._telling:
            thread.join(_TELLING_S)
        with suppress(LockedError):
            self._note_told()
        return ended

    def is_lost(self, firing: Firing) -> bool:
        """Whether nobody runs a firing that is marked as running."""
        if firing.id in self._work:
            return False
        age = self._now() - (firing.heartbeat or 0)
        alive = is_alive(firing.owner_pid, firing.owner_born) if firing.host == self.owner.host else None
        if alive is None:
            return age > LOST_S
        return not alive or age > HUNG_S

    def take_over(self, firing: Firing, stored: StoredJob | None) -> None:
        """Let a firing that nobody runs any more wait again; what its command still does is ended."""
        if not self.ledger.seize(firing, self.owner, self._now()):
            return
        if firing.host == self.owner.host and is_alive(firing.pid, firing.pid_born):
            # a command continues from any moment, so that no time is lost with asking
            stop_group(firing.pid or 0, at_once=True)
        taken = self.ledger.firing(firing.id)
        reason = "taken over: the daemon that ran it died"
        if stored is None:
            reason = "given up: the job was removed"
        elif taken.takeovers > MAX_TAKEOVERS:
            reason = f"given up: {taken.takeovers} daemons died while they ran it"
        if reason.startswith("given up"):
            self.ledger.update(taken, self.owner, state="failed", reason=reason, ended=self._now())
            if stored is not None:
                self._tell(self.ledger.firing(firing.id), stored)
        else:
            self.ledger.update(
                taken, self.owner, state="waiting", reason=reason, attempts=taken.attempts - 1, next_try=None
            )
        self.say(firing.job, f"{reason}, due {firing.scheduled_for}")

    def give_up(self, firing: Firing, stored: StoredJob, reason: str) -> None:
        """Let a waiting firing go; whoever is told of failures hears of one that was tried in vain."""
        said = f"{firing.reason} ({reason})" if firing.attempts and firing.reason else reason
        if self.ledger.drop(firing, said) and firing.attempts:
            self.say(firing.job, f"{reason}; due {firing.scheduled_for}")
            self._tell(self.ledger.firing(firing.id), stored)

    def _attend(self, work: _Work) -> None:
        now = self.clock.monotonic()
        if work.stopping:
            if now >= work.kill_at and work.child is not None:
                work.child.stop(at_once=True)
                work.kill_at = now + _GRACE_S
        elif now >= work.deadline:
            self._stop(work, f"took longer than {work.stored.job.timeout}")
        if now >= work.beat_at:
            work.beat_at = now + BEAT_S
            if not self.ledger.update(work.firing, self.owner, heartbeat=self._now()) and not work.stopping:
                self._stop(work, "taken over by another daemon")

    def _stop(self, work: _Work, reason: str) -> None:
        work.stopping, work.reason = True, work.reason or reason
        work.kill_at = self.clock.monotonic() + _GRACE_S
        if work.child is not None:
            work.child.stop()

    def _end(self, work: _Work, code: int) -> Firing:
        job = work.stored.job
        said = read_outcome(job, work.out)
        facts: dict[str, Any] = {name: value for name, value in asdict(said).items() if value is not None}
        facts |= {"exit_code": code, "ended": self._now(), "pid": None, "pid_born": None}
        tries = work.firing.attempts
        if code == 0:
            facts |= {"state": "done", "reason": None}
        elif work.abandoned:
            facts |= {"state": "waiting", "attempts": tries - 1, "next_try": None, "reason": work.reason}
        else:
            facts["reason"] = work.reason or (last_words(work.log) or f"exit {code}").rstrip(".")
            final = code in _FINAL_CODES and not work.stopping
            facts["state"] = "failed" if final or tries > job.retries else "waiting"
            if facts["state"] == "waiting":
                facts["next_try"] = self._now() + _backoff(job, tries)
        ours = self.ledger.update(work.firing, self.owner, **facts)
        firing = self.ledger.firing(work.firing.id)
        if ours:
            self.say(firing.job, _ending(firing, code))
            if firing.state == "failed":
                self._tell(firing, work.stored)
        return firing

    def _note_process(self, work: _Work) -> None:
        facts: dict[str, Any] = {"log": str(work.log)}
        if work.child is not None:
            facts |= {"pid": work.child.pid, "pid_born": born(work.child.pid)}
        try:
            self.ledger.update(work.firing, self.owner, **facts)
        except LockedError as error:
            self._complain(work, error)

    def _complain(self, work: _Work, error: LockedError) -> None:
        if error.message not in work.complaints:
            work.complaints.add(error.message)
            self.say(work.stored.name, error.message)

    def _tell(self, firing: Firing, stored: StoredJob) -> None:
        notice = stored.job.on_failure
        if notice is None:
            return
        facts = {
            "job": firing.job,
            "scheduled_for": firing.scheduled_for,
            "state": firing.state,
            "attempts": firing.attempts,
            "exit_code": firing.exit_code,
            "reason": firing.reason,
            "log": firing.log,
            "host": firing.host,
            "command": command_line(stored.job.words(stored.name, firing.due)),
        }

        def work() -> None:
            self._told.put((firing.id, tell(notice, facts, stored.folder)))

        # whoever is told may be slow; the commands at work must be seen to meanwhile
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._telling = [item for item in self._telling if item.is_alive()] + [thread]

    def _note_told(self) -> None:
        while not self._told.empty():
            number, text = self._told.get()
            try:
                self.ledger.note_told(number, text)
            except LockedError:
                self._told.put((number, text))
                return

    def _logs(self, firing: Firing) -> tuple[Path, Path]:
        folder = self.ledger.folder / "logs" / firing.job
        stamp = f"{firing.due.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        _prune(folder)
        number = 1
        while (folder / f"{stamp}-{number}.log").exists():
            number += 1
        return folder / f"{stamp}-{number}.json", folder / f"{stamp}-{number}.log"

    def _now(self) -> float:
        return self.clock.now().timestamp()


def _prune(folder: Path) -> None:
    """Remove what older tries of a job printed; the newest stay."""
    logs = sorted(folder.glob("*.log"), key=lambda log: log.stat().st_mtime)
    for log in logs[: max(0, len(logs) - LOGS_KEPT + 1)]:
        log.unlink(missing_ok=True)
        log.with_suffix(".json").unlink(missing_ok=True)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn SIGTERM and Ctrl-C into an event, so that nothing is cut in half."""
    import signal

    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _backoff(job: Job, tries: int) -> float:
    return float(
        min(seconds_of(job.backoff) * 2 ** (tries - 1), max(_LONGEST_BACKOFF_S, seconds_of(job.backoff)))
    )


def _ending(firing: Firing, code: int) -> str:
    if firing.state == "done":
        took = (firing.ended or 0) - (firing.started or 0)
        return f"done after {took:.0f} s{f', {firing.result}' if firing.result else ''}"
    if firing.state == "failed":
        tries = f"{firing.attempts} {'try' if firing.attempts == 1 else 'tries'}"
        return f"failed after {tries}: {firing.reason}. Log: {firing.log}"
    again = (
        f", next try at {datetime.fromtimestamp(firing.next_try, UTC):%H:%M:%SZ}" if firing.next_try else ""
    )
    return f"exit {code}: {firing.reason}{again}"


def _print_line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
