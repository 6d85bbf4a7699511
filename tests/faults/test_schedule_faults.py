"""Schedules under faults: killed daemons, two at once, a locked or full ledger, lost machines."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import timedelta
from itertools import pairwise

import pytest
from long_training import LONG
from scheduled_jobs import NIGHT, FakeApps, FakeClock, Place, job, live
from tinyplugins.bundles import make_bundle, plots

from appliedpapers.core.errors import ConfigError, LockedError, RunError
from appliedpapers.core.tables import write_table
from appliedpapers.pipelines.processes import born, is_alive
from appliedpapers.pipelines.schedule import run_once
from appliedpapers.pipelines.schedule_firing import Owner
from appliedpapers.pipelines.schedule_ledger import Ledger

ELSEWHERE = Owner("elsewhere:1:abc", "elsewhere", 1, "1")


@pytest.fixture
def place(tmp_path):
    clock = FakeClock()
    return Place(tmp_path, clock, FakeApps(clock))


def test_two_daemons_on_one_ledger_do_everything_once(place):
    place.apps.seconds = 90
    place.add("a", every="1m", catch_up="all")
    place.add("b", every="2m", catch_up="all")
    live(place, place.daemon(), place.daemon(), seconds=20 * 60, step=5)
    calls = [(facts["APPS_JOB"], facts["APPS_SCHEDULED_FOR"]) for _, facts, _ in place.apps.calls]
    assert len(calls) == len(set(calls))
    for name, times in (("a", 20), ("b", 10)):
        firings = place.ledger().firings(name)
        assert len(firings) == times
        assert all(firing.attempts <= 1 for firing in firings)
        starts = [when for _, facts, when in place.apps.calls if facts["APPS_JOB"] == name]
        assert all(b - a >= timedelta(seconds=90) for a, b in pairwise(starts))


def test_of_many_that_claim_a_firing_one_gets_it(place):
    place.add()
    firing = place.ledger().add_by_hand("nightly", NIGHT)
    other = place.ledger().add_by_hand("nightly", NIGHT + timedelta(hours=1))
    barrier, won = threading.Barrier(8), []

    def race(number: int) -> None:
        ledger = Ledger(place.folder / "schedule")
        barrier.wait()
        # half of them try another due time of the same job, which may not run beside it
        claimed = ledger.claim((firing, other)[number % 2], Owner(str(number), "h", number, None), 0.0)
        won.extend([claimed.owner] if claimed else [])
        ledger.close()

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    (running,) = place.ledger().firings(states=["running"])
    assert running.owner == won[0]


def test_many_that_make_a_ledger_at_once_make_one(tmp_path):
    program = (
        "import sys; from pathlib import Path; from appliedpapers.pipelines.schedule_ledger import Ledger; "
        "print(len(Ledger(Path(sys.argv[1])).jobs()))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "schedule")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    ended = [process.communicate(timeout=60) for process in processes]
    assert [out for out, _ in ended] == [b"0\n"] * 4, ended


def test_a_locked_ledger_delays_what_is_written_and_loses_nothing(place):
    place.add()
    daemon = place.daemon(ledger=place.ledger(busy_s=0.01))
    live(place, daemon, seconds=124)
    blocker = sqlite3.connect(place.folder / "schedule" / "ledger.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    live(place, daemon, seconds=60)
    assert place.ledger().firings()[0].state == "running"
    assert "kept it locked" in place.lines[-1]
    said = len(place.lines)
    live(place, daemon, seconds=60)
    assert len(place.lines) == said, "once is enough"
    blocker.execute("ROLLBACK")
    live(place, daemon, seconds=2)
    assert place.states() == [("22 02:30", "done")]
    assert len(place.apps.calls) == 1
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(LockedError, match=r"ledger\.db: another process") as caught:
        place.ledger(busy_s=0.01).set_paused("nightly", True, NIGHT)
    assert caught.value.exit_code == 75
    blocker.close()


def test_a_firing_that_comes_due_while_the_ledger_is_locked_starts_afterwards(place):
    place.add(catch_up="none")
    daemon = place.daemon(ledger=place.ledger(busy_s=0.01))
    blocker = sqlite3.connect(place.folder / "schedule" / "ledger.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    live(place, daemon, seconds=150)
    assert place.apps.calls == []
    blocker.execute("ROLLBACK")
    blocker.close()
    live(place, daemon, seconds=10)
    assert place.states() == [("22 02:30", "done")]


def test_a_full_disk_is_said_and_outlived(place):
    place.add(every="1s", catch_up="all")
    ledger = place.ledger()
    daemon = place.daemon(ledger=ledger)
    pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
    ledger._connection.execute(f"PRAGMA max_page_count={pages}")
    place.clock.pass_(900)
    daemon.tick()
    assert "disk is full" in place.lines[-1]
    assert place.ledger().firings() == []
    ledger._connection.execute("PRAGMA max_page_count=1000000")
    daemon.tick()
    assert len(place.ledger().firings()) == 900


def test_what_is_no_ledger_and_what_a_newer_one_wrote_is_said(tmp_path):
    with pytest.raises(ConfigError, match="there is no ledger"):
        Ledger(tmp_path, create=False)
    (tmp_path / "ledger.db").write_bytes(b"certainly no database, but long enough to be read as one" * 99)
    with pytest.raises(RunError, match=r"ledger\.db: file is not a database"):
        Ledger(tmp_path)
    (tmp_path / "ledger.db").unlink()
    newer = Ledger(tmp_path)
    newer._connection.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(ConfigError, match="newer version"):
        Ledger(tmp_path)


def running_elsewhere(place: Place):
    ledger = place.ledger()
    firing = ledger.add_by_hand("nightly", NIGHT - timedelta(hours=1))
    return ledger.claim(firing, ELSEWHERE, place.clock.now().timestamp())


def test_a_firing_whose_machine_is_gone_is_taken_over_when_its_heart_stopped(place):
    place.add(cron="0 12 * * *")
    firing = running_elsewhere(place)
    daemon = place.daemon()
    for _ in range(10):
        live(place, daemon, seconds=60)
        assert place.ledger().update(firing, ELSEWHERE, heartbeat=place.clock.now().timestamp())
    assert place.apps.due == []
    live(place, daemon, seconds=110)
    taken = place.ledger().firing(firing.id)
    assert (taken.state, taken.attempts, taken.takeovers) == ("done", 1, 1)
    assert "taken over" in "".join(place.lines)


def test_a_firing_that_kills_its_daemons_is_given_up_and_told(place):
    place.add(on_failure={"command": ["touch", "told"]})
    ledger, daemon = place.ledger(), place.daemon()
    for _ in range(4):
        (firing,) = ledger.firings("nightly", ["waiting"]) or [ledger.add_by_hand("nightly", NIGHT)]
        assert ledger.claim(firing, ELSEWHERE, place.clock.now().timestamp() - 100)
        place.apps.calls.clear()
        daemon.runner.take_over(ledger.firings("nightly", ["running"])[0], ledger.job("nightly"))
    last = ledger.firing(firing.id)
    assert (last.state, last.reason) == ("failed", "given up: 4 daemons died while they ran it")
    daemon.runner.stop()
    assert (place.folder / "told").exists()


def test_a_daemon_that_slept_stops_what_another_took_over(place):
    place.add()
    place.apps.seconds = 9e9
    asleep = place.daemon()
    live(place, asleep, seconds=125)
    ledger = place.ledger()
    (firing,) = ledger.firings(states=["running"])
    assert ledger.seize(firing, ELSEWHERE, place.clock.now().timestamp())
    live(place, asleep, seconds=15)
    assert place.apps.children[0].signals == ["TERM"]
    mine = ledger.firing(firing.id)
    assert (mine.state, mine.owner) == ("running", ELSEWHERE.name), "what the other writes counts"
    assert asleep.runner.busy == 0


def test_of_two_that_take_over_one_does(place):
    place.add()
    firing = running_elsewhere(place)
    place.clock.pass_(1000)
    assert place.ledger().seize(firing, Owner.me(), 1.0)
    assert not place.ledger().seize(firing, Owner.me(), 2.0)


def test_a_firing_of_a_removed_job_whose_daemon_died_does_not_stay(place):
    place.add()
    firing = running_elsewhere(place)
    place.ledger().remove_job("nightly")
    place.clock.pass_(200)
    place.daemon().tick()
    left = place.ledger().firing(firing.id)
    assert (left.state, left.reason) == ("failed", "given up: the job was removed")


def test_run_once_takes_over_from_a_daemon_that_died(place):
    place.add()
    firing = running_elsewhere(place)
    place.clock.pass_(200)
    done = run_once(place.ledger(), "nightly", firing.due, clock=place.clock, spawn=place.apps)
    assert (done.state, done.takeovers) == ("done", 1)


def test_a_folder_that_is_gone_fails_the_firing_and_not_the_daemon(place):
    def gone(*_):
        raise FileNotFoundError(2, "No such file or directory", "/gone")

    place.add("a", retries=0)
    daemon = place.daemon(spawn=gone)
    live(place, daemon, seconds=125)
    (firing,) = place.ledger().firings()
    assert (firing.state, firing.exit_code) == ("failed", 1)
    assert firing.reason.startswith("could not be started")


def test_a_process_is_known_by_number_and_birth():
    me = os.getpid()
    assert is_alive(me, born(me))
    assert is_alive(me, "12345") is False
    child = subprocess.Popen([sys.executable, "-c", ""])
    since = born(child.pid)
    child.wait()
    assert not is_alive(child.pid, since)
    assert is_alive(None, None) is None


# with real processes

JOB = {"every": "1d", "retries": 0, "timeout": "2m"}


@pytest.fixture
def real(tmp_path):
    """A folder with a model, rows to score and a job that is due now."""
    bundle = make_bundle(tmp_path, "tiny-rows")
    write_table(plots(50), tmp_path / "plots.csv")
    ledger = Ledger(tmp_path / "schedule")
    options = {"model": str(bundle), "input": ["plots.csv"], "output": "scores"}
    ledger.put_job("nightly", job(score=options, **JOB), tmp_path, NIGHT)
    ledger.add_by_hand("nightly", NIGHT)
    return tmp_path, ledger


def start_daemon(folder):
    command = [sys.executable, "-m", "appliedpapers", "schedule", "run"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition, process=None, seconds=180.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    raise AssertionError("it did not come about")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_daemon_that_ends_at_work_leaves_nothing_running_and_the_next_one_goes_on(real, number):
    folder, ledger = real
    daemons = [start_daemon(folder)]
    try:
        (firing,) = until(
            lambda: [item for item in ledger.firings(states=["running"]) if item.pid], daemons[0]
        )
        # frozen, the command cannot end before its daemon does; KILL and CONT reach it still
        os.kill(firing.pid, signal.SIGSTOP)
        daemons[0].send_signal(number)
        os.kill(firing.pid, signal.SIGCONT if number != signal.SIGKILL else 0)
        _, said = daemons[0].communicate(timeout=60)
        orphaned = is_alive(firing.pid, firing.pid_born)
        state = ledger.firing(firing.id).state
        if number == signal.SIGKILL:
            assert (daemons[0].returncode, orphaned, state) == (-signal.SIGKILL, True, "running")
        else:
            assert (daemons[0].returncode, orphaned, state) == (0, False, "waiting"), said
            assert "Traceback" not in said
        daemons.append(start_daemon(folder))
        until(lambda: ledger.firing(firing.id).state == "done", daemons[1])
        assert not is_alive(firing.pid, firing.pid_born)
        daemons[1].terminate()
        daemons[1].communicate(timeout=60)
    finally:
        for daemon in daemons:
            daemon.kill()
            daemon.communicate()
    done = ledger.firing(firing.id)
    assert (done.attempts, done.takeovers) == (1, 1 if number == signal.SIGKILL else 0)
    assert done.model == "apps.tiny-rows"
    assert (folder / "scores" / "manifest.json").is_file()


@pytest.mark.slow
def test_a_training_whose_daemon_was_killed_is_resumed_and_not_begun_again(tmp_path):
    ledger = Ledger(tmp_path / "schedule")
    options = {"plugin": "frets", "preset": "quick", "register": False}
    options["set"] = [f"{key}={value}" for key, value in LONG.items()]
    ledger.put_job("weekly", job(run=options, **JOB), tmp_path, NIGHT)
    ledger.add_by_hand("weekly", NIGHT)
    daemons = [start_daemon(tmp_path)]
    try:
        until(lambda: list(tmp_path.glob("runs/*/fit/**/checkpoint-*/state.json")), daemons[0])
        daemons[0].kill()
        daemons[0].communicate()
        daemons.append(start_daemon(tmp_path))
        (firing,) = until(lambda: ledger.firings("weekly", ["done", "failed"]), daemons[1])
        daemons[1].terminate()
        daemons[1].communicate(timeout=60)
    finally:
        for daemon in daemons:
            daemon.kill()
            daemon.communicate()
    (run,) = (tmp_path / "runs").iterdir()
    assert (firing.state, firing.attempts, firing.takeovers) == ("done", 1, 1), firing
    assert firing.result == f"runs/{run.name}/results.json"
    first, second = sorted((tmp_path / "schedule" / "logs" / "weekly").glob("*.log"))
    assert "--resume" not in first.read_text()
    assert f"--resume=runs/{run.name}" in second.read_text()
