"""Schedules: a daemon that runs jobs when they are due, and one firing at a time for other schedulers.

Any number of daemons may share a ledger on one machine. What one of them plans, starts or ends is written
in the ledger first, so that each can be killed at any moment.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from appliedpapers.core.errors import ConfigError, LockedError, RunError
from appliedpapers.pipelines.schedule_firing import Firing, State, StoredJob
from appliedpapers.pipelines.schedule_ledger import Ledger
from appliedpapers.pipelines.schedule_process import Spawn, spawn
from appliedpapers.pipelines.schedule_runner import Clock, Runner, stop_signals

__all__ = ["Daemon", "run_daemon", "run_once"]

POLL_S = 1.0
_ON_TIME = timedelta(seconds=60)
_MOST_MADE_UP_FOR = 1000
_MISSED_WRITTEN = 100

_Row = tuple[datetime, State, str | None]


class Daemon:
    """Plans, starts and watches the firings of all jobs in a ledger.

    Args:
        ledger: Jobs and firings.
        parallel: Most commands at a time.
        clock: What time it is.
        spawn: How a command is started.
        say: Where one line of fact is printed.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        parallel: int = 2,
        clock: Clock | None = None,
        spawn: Spawn = spawn,
        say: Callable[[str], None] | None = None,
    ) -> None:
        if parallel < 1:
            raise ConfigError(f"--parallel {parallel} is too small.", hint="Expected 1 or more.")
        self.ledger = ledger
        self.runner = Runner(ledger, clock=clock, spawn=spawn, say=say)
        self.clock = self.runner.clock
        self._parallel = parallel
        self._nothing_until: dict[str, tuple[str, datetime, datetime]] = {}
        self._complaint = ""

    def live(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then stop the commands, whose firings go on at the next start."""
        self.runner.say("schedule", f"at work on {self.ledger.path}, {len(self.ledger.jobs())} jobs")
        while not stop.is_set():
            self.tick()
            self.clock.wait(stop, POLL_S)
        interrupted = self.runner.stop()
        self.runner.say("schedule", f"stopped; {len(interrupted)} interrupted")

    def tick(self) -> None:
        """Do what there is to do now."""
        try:
            self.runner.look()
            jobs = {stored.name: stored for stored in self.ledger.jobs()}
            for stored in jobs.values():
                self._plan(stored)
            for firing in self.ledger.firings(states=["running"]):
                if self.runner.is_lost(firing):
                    self.runner.take_over(firing, jobs.get(firing.job))
            for stored in jobs.values():
                self._start(stored)
        except (LockedError, RunError) as error:
            # whatever it is, it is hoped to pass; what was planned by then is in the ledger
            if error.message != self._complaint:
                self.runner.say("schedule", error.render())
            self._complaint = error.message
        else:
            self._complaint = ""

    def _plan(self, stored: StoredJob) -> None:
        now = self.clock.now()
        if stored.paused or now <= stored.planned_until:
            return
        when, since, first = self._nothing_until.get(stored.name, ("", now, now))
        if when != stored.job.when or since != stored.planned_until:
            found = stored.job.trigger.next(stored.planned_until)
            first = found or now + timedelta(days=365)
            self._nothing_until[stored.name] = (stored.job.when, stored.planned_until, first)
        if now < first:
            return
        due = stored.job.trigger.between(stored.planned_until, now)
        waiting = self.ledger.firings(stored.name, ["waiting", "running"])
        self.ledger.plan(stored.name, now, _choose(stored, due, waiting, now))

    def _start(self, stored: StoredJob) -> None:
        if stored.paused or self.runner.busy >= self._parallel:
            return
        known = self.ledger.firings(stored.name, ["waiting", "running"])
        waiting = [firing for firing in known if firing.state == "waiting"]
        at_work = len(waiting) < len(known)
        if stored.job.catch_up != "all":
            for firing in waiting[:-1]:
                self.runner.give_up(firing, stored, f"given up: {waiting[-1].scheduled_for} is due")
            waiting = waiting[-1:]
        if at_work:
            return
        if waiting and (waiting[0].next_try or -math.inf) <= self.clock.now().timestamp():
            self.runner.start(waiting[0], stored)


def run_daemon(ledger: Ledger, *, parallel: int = 2) -> None:
    """Run a daemon until SIGTERM or Ctrl-C.

    Args:
        ledger: Jobs and firings; it may be shared with other daemons on this machine.
        parallel: Most commands at a time.

    Raises:
        ConfigError: ``parallel`` is below one.
    """
    daemon = Daemon(ledger, parallel=parallel)
    with stop_signals() as stop:
        daemon.live(stop)


def run_once(
    ledger: Ledger,
    name: str,
    scheduled_for: datetime,
    *,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
    spawn: Spawn = spawn,
    say: Callable[[str], None] | None = None,
) -> Firing:
    """Run one firing of a job in the foreground, with its retries; one that is done is not done again.

    Args:
        ledger: Jobs and firings.
        name: The job.
        scheduled_for: The due time that this is about.
        stop: Set to interrupt it.
        clock: What time it is.
        spawn: How a command is started.
        say: Where one line of fact is printed.

    Returns:
        The firing, ``done`` or ``failed``.

    Raises:
        ConfigError: There is no such job.
        LockedError: The job runs already.
    """
    stored = ledger.job(name)
    runner = Runner(ledger, clock=clock, spawn=spawn, say=say)
    stop = stop or threading.Event()
    for other in ledger.firings(name, ["running"]):
        if runner.is_lost(other):
            runner.take_over(other, stored)
    firing = ledger.add_by_hand(name, scheduled_for)
    if firing.state == "done":
        runner.say(name, f"done already, due {firing.scheduled_for}")
        return firing
    if firing.state == "running" or not runner.start(firing, stored):
        at_work = ledger.firings(name, ["running"])
        raise LockedError(
            f"job {name} is running{f', due {at_work[0].scheduled_for}' if at_work else ''}.",
            hint=f"Wait for it; apps schedule history {name} shows how far it is.",
        )
    while firing.state not in ("done", "failed", "missed"):
        runner.clock.wait(stop, POLL_S)
        if stop.is_set():
            runner.stop()
            ledger.drop(firing, "interrupted by hand", state="failed")
            if ledger.firing(firing.id).state != "done":
                raise KeyboardInterrupt
            break
        runner.look()
        # a daemon that shares the ledger may do the next try
        firing = ledger.firing(firing.id)
        if firing.state == "waiting" and (firing.next_try or 0) <= runner.clock.now().timestamp():
            runner.start(firing, stored)
    runner.stop()
    return ledger.firing(firing.id)


def _choose(stored: StoredJob, due: list[datetime], waiting: list[Firing], now: datetime) -> list[_Row]:
    """Decide which of the due times are made up for."""
    policy = stored.job.catch_up
    if not due:
        return []
    if policy == "all":
        chosen, reason = due[-_MOST_MADE_UP_FOR:], f"more than {_MOST_MADE_UP_FOR} were missed"
    elif policy == "latest":
        chosen, reason = due[-1:], f"made up for by {due[-1]:%Y-%m-%d %H:%M}Z"
    elif waiting:
        chosen, reason = [], f"the firing of {waiting[0].scheduled_for} was at work"
    else:
        chosen, reason = [moment for moment in due[-1:] if now - moment <= _ON_TIME], "no daemon was at work"
    missed = [moment for moment in due if moment not in set(chosen)][-_MISSED_WRITTEN:]
    return [
        *((moment, "missed", reason) for moment in missed),
        *((moment, "waiting", None) for moment in chosen),
    ]
