"""What a daemon does in an hour, a night or a year, on a clock that the test moves."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from scheduled_jobs import NIGHT, FakeApps, FakeClock, Place, job, live

from appliedpapers.core.errors import ConfigError, LockedError
from appliedpapers.pipelines import schedule_runner
from appliedpapers.pipelines.schedule import run_once
from appliedpapers.pipelines.schedule_notify import tell
from appliedpapers.pipelines.schedule_process import last_words, next_words

HOUR = 3600.0


def test_a_job_runs_when_it_is_due_and_the_ledger_says_what_came_of_it(place):
    place.add()
    live(place, place.daemon(), seconds=300)
    (words, environment, _), *more = place.apps.calls
    assert more == []
    assert place.apps.times == ["02:30:00"]
    assert words == ["score", "run", "--model=tiny-rows@champion", "--input=in/*.csv",
                     "--output=scores/2026-11-22", "--json"]  # fmt: skip
    assert (environment["APPS_JOB"], environment["APPS_SCHEDULED_FOR"]) == (
        "nightly",
        "2026-11-22T02:30:00Z",
    )
    (firing,) = place.ledger().firings()
    assert (firing.state, firing.attempts, firing.exit_code) == ("done", 1, 0)
    assert (firing.model, firing.model_version) == ("apps.tiny-rows", "3")
    assert firing.result.endswith("manifest.json")
    assert firing.log.endswith("logs/nightly/20261122T023000Z-1.log")
    assert firing.ended - firing.started == pytest.approx(5, abs=1.1)


def test_nothing_is_due_before_a_job_was_added(place):
    place.clock.pass_(240)
    place.add()
    live(place, place.daemon(), seconds=HOUR, step=20)
    assert place.apps.calls == []


@pytest.mark.parametrize(
    ("policy", "ran", "missed"),
    [("none", [], 3), ("latest", ["25 02:30"], 2), ("all", ["23 02:30", "24 02:30", "25 02:30"], 0)],
)
def test_what_was_missed_is_made_up_for_as_the_job_says(place, policy, ran, missed):
    place.add(catch_up=policy)
    live(place, place.daemon(), seconds=2 * HOUR, step=60)
    place.apps.calls.clear()
    place.clock.pass_(3 * 24 * HOUR)
    live(place, place.daemon(), seconds=120)
    assert [f"{datetime.fromisoformat(due):%d %H:%M}" for due in place.apps.due] == ran
    states = [state for due, state in place.states() if due != "22 02:30"]
    assert (states.count("done"), states.count("missed")) == (len(ran), missed)


def test_two_months_of_minutes_that_were_missed_is_one_run_and_a_short_note(place):
    place.add(every="1m")
    place.clock.pass_(60 * 24 * HOUR)
    place.daemon().tick()
    firings = place.ledger().firings()
    assert len(place.apps.calls) == 1
    assert len(firings) == 101


@pytest.mark.parametrize(("policy", "times"), [("none", 6), ("latest", 9), ("all", 9)])
def test_one_run_of_a_job_at_a_time(place, policy, times):
    place.apps.seconds = 400
    place.add(every="5m", catch_up=policy)
    live(place, place.daemon(parallel=5), seconds=HOUR, step=10)
    starts = [when for _, _, when in place.apps.calls]
    assert all(later - earlier >= timedelta(seconds=400) for earlier, later in pairwise(starts))
    assert len(starts) == times
    if policy == "none":
        assert "was at work" in next(f.reason for f in place.ledger().firings() if f.state == "missed")


def test_jobs_share_the_places_that_there_are(place):
    place.apps.seconds = 100
    for name in "abcd":
        place.add(name, every="1h")
    daemon = place.daemon(parallel=2)
    live(place, daemon, seconds=32.5 * 60, step=10)
    assert daemon.runner.busy == 2
    live(place, daemon, seconds=300, step=10)
    assert [state for name in "abcd" for _, state in place.states(name)] == ["done"] * 4


def test_a_failure_is_tried_again_with_growing_waits_and_then_given_up(place):
    place.apps.codes, place.apps.says = [1], "run error: no room left.\n  Free some.\n"
    place.add(retries=3, backoff="1m")
    live(place, place.daemon(), seconds=900)
    starts = [when for _, _, when in place.apps.calls]
    waits = [round((b - a).total_seconds() - 5, -1) for a, b in pairwise(starts)]
    assert waits == [60, 120, 240]
    (firing,) = place.ledger().firings()
    assert (firing.state, firing.attempts, firing.exit_code) == ("failed", 4, 1)
    assert firing.reason == "run error: no room left"
    assert len(list((place.folder / "schedule" / "logs" / "nightly").glob("*.log"))) == 4


def test_old_logs_of_a_job_are_removed(place, monkeypatch):
    monkeypatch.setattr(schedule_runner, "LOGS_KEPT", 2)
    place.apps.codes, place.apps.says = [1], "run error: no room left.\n"
    place.add(retries=3, backoff="1m")
    live(place, place.daemon(), seconds=900)
    (firing,) = place.ledger().firings()
    logs = {log.name for log in (place.folder / "schedule" / "logs" / "nightly").glob("*.log")}
    assert len(logs) == 2
    assert Path(firing.log).name in logs


def test_a_store_that_cannot_be_reached_for_a_minute_costs_a_minute(place):
    back = NIGHT + timedelta(minutes=3)
    place.apps.codes = [1, 1, 0]
    place.apps.says = "run error: MLflow store http://127.0.0.1:5000: no connection.\n"
    place.add(retries=3, backoff="20s")
    live(place, place.daemon(), seconds=300)
    (firing,) = place.ledger().firings()
    assert (firing.state, firing.attempts, firing.reason) == ("done", 3, None)
    assert place.apps.calls[-1][2] >= back


@pytest.mark.parametrize(("code", "tries"), [(1, 3), (2, 1), (3, 1), (4, 3), (5, 1), (75, 3), (-9, 3)])
def test_only_what_may_pass_is_tried_again(place, code, tries):
    place.apps.codes = [code]
    place.add(retries=2, backoff="1s")
    live(place, place.daemon(), seconds=300, step=5)
    assert len(place.apps.calls) == tries
    assert place.ledger().firings()[0].exit_code == code


@pytest.mark.parametrize(("deaf", "signals"), [(False, ["TERM"]), (True, ["TERM", "KILL"])])
def test_a_run_that_takes_too_long_is_stopped_and_tried_again(place, deaf, signals):
    place.apps.seconds, place.apps.deaf = 9e9, deaf
    place.add(timeout="2m", retries=1, backoff="10s")
    live(place, place.daemon(), seconds=600)
    assert [child.signals for child in place.apps.children] == [signals] * 2
    (firing,) = place.ledger().firings()
    assert (firing.state, firing.reason) == ("failed", "took longer than 2m")


def test_a_clock_that_is_set_neither_stops_a_run_nor_repeats_a_firing(place):
    place.apps.seconds = 60
    place.add(timeout="10m")
    daemon = place.daemon()
    live(place, daemon, seconds=130)
    place.clock.jump(-2 * HOUR)
    live(place, daemon, seconds=30)
    place.clock.jump(4 * HOUR)
    live(place, daemon, seconds=4 * HOUR, step=10)
    assert len(place.apps.calls) == 1
    assert place.states() == [("22 02:30", "done")]


@pytest.mark.parametrize(
    ("day", "due"), [((2026, 3, 28, 23), "01:30"), ((2026, 10, 24, 22), "00:30")], ids=["spring", "autumn"]
)
def test_the_night_on_which_clocks_change_has_one_run(tmp_path, day, due):
    clock = FakeClock(datetime(*day, tzinfo=UTC))
    place = Place(tmp_path, clock, FakeApps(clock))
    place.add(timezone="Europe/Berlin")
    live(place, place.daemon(), seconds=6 * HOUR, step=20)
    assert [f"{datetime.fromisoformat(text):%H:%M}" for text in place.apps.due] == [due]


def test_a_paused_job_rests_and_nothing_of_its_rest_is_made_up_for(place):
    place.add(every="10m", catch_up="all")
    daemon = place.daemon()
    place.ledger().set_paused("nightly", True, place.clock.now())
    live(place, daemon, seconds=HOUR, step=10)
    assert place.apps.calls == []
    place.ledger().set_paused("nightly", False, place.clock.now())
    live(place, daemon, seconds=10 * 60, step=10)
    assert place.apps.times == ["03:30:00"]


def test_a_daemon_reads_changes_without_a_restart(place):
    place.add(every="10m")
    daemon = place.daemon()
    live(place, daemon, seconds=60)
    place.add(every="1m")
    live(place, daemon, seconds=90)
    assert len(place.apps.calls) == 1
    place.ledger().remove_job("nightly")
    live(place, daemon, seconds=HOUR, step=10)
    assert len(place.apps.calls) == 1
    assert place.states() == [("22 02:30", "done")]


def test_a_job_that_is_added_again_is_planned_anew_only_where_its_times_moved(place):
    ledger = place.ledger()
    assert [ledger.put_job("a", job(), place.folder, NIGHT) for _ in range(2)] == ["added", "unchanged"]
    later = NIGHT + timedelta(hours=3)
    assert ledger.put_job("a", job(retries=9), place.folder, later) == "changed"
    assert ledger.job("a").planned_until == NIGHT
    assert ledger.put_job("a", job(cron="0 5 * * *"), place.folder, later) == "changed"
    assert ledger.job("a").planned_until == later


def test_run_once_does_one_firing_with_its_retries_and_no_second_time(place):
    place.add(backoff="10s")
    place.apps.codes = [1, 0]
    due = NIGHT - timedelta(days=1)
    settings = {"clock": place.clock, "spawn": place.apps, "say": place.lines.append}
    done = run_once(place.ledger(), "nightly", due, **settings)
    assert (done.state, done.attempts, done.origin) == ("done", 2, "hand")
    assert run_once(place.ledger(), "nightly", due, **settings).id == done.id
    assert len(place.apps.calls) == 2
    assert "done already" in place.lines[-1]


def test_run_once_tries_a_failed_firing_again(place):
    place.add(retries=0)
    place.apps.codes = [1, 0]
    settings = {"clock": place.clock, "spawn": place.apps, "say": place.lines.append}
    assert run_once(place.ledger(), "nightly", NIGHT, **settings).state == "failed"
    again = run_once(place.ledger(), "nightly", NIGHT, **settings)
    assert (again.state, again.attempts, again.reason) == ("done", 1, None)


def test_run_once_beside_a_run_is_locked(place):
    place.add()
    daemon = place.daemon()
    place.apps.seconds = 9e9
    live(place, daemon, seconds=180, step=10)
    with pytest.raises(LockedError, match="job nightly is running, due 2026-11-22T02:30"):
        run_once(place.ledger(), "nightly", NIGHT, clock=place.clock, spawn=place.apps)
    assert len(place.apps.calls) == 1


def test_run_once_that_is_interrupted_is_not_started_again_by_a_daemon(place):
    place.add()
    place.apps.seconds = 9e9
    stop = threading.Event()
    place.clock.on_wait.append(stop.set)
    with pytest.raises(KeyboardInterrupt):
        run_once(place.ledger(), "nightly", NIGHT, stop=stop, clock=place.clock, spawn=place.apps)
    (firing,) = place.ledger().firings()
    assert (firing.state, firing.reason) == ("failed", "interrupted by hand")
    live(place, place.daemon(), seconds=60)
    assert len(place.apps.calls) == 1


def test_an_interrupted_training_is_resumed_and_a_scoring_repeated(tmp_path):
    train = job(run={"plugin": "frets", "seed": 3, "store": "elsewhere"})
    words = train.words("weekly", NIGHT)
    assert next_words(train, words, tmp_path, 0) == words
    runs = {"mine": "apps run frets --seed=3 --store=elsewhere --json", "other": "apps run frets --json"}
    for name, command in runs.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "request.json").write_text(json.dumps({"command": command}))
    resumed = ["run", "frets", "--resume=runs/mine", "--store=elsewhere"]
    assert next_words(train, words, tmp_path, 0) == resumed
    # one that was started before this firing is somebody else's
    assert next_words(train, words, tmp_path, 9e9) == words
    (tmp_path / "runs" / "mine" / "results.json").write_text("{}")
    assert next_words(train, words, tmp_path, 0) == words
    score = job()
    assert next_words(score, score.words("n", NIGHT), tmp_path, 0) == score.words("n", NIGHT)


class Hook(BaseHTTPRequestHandler):
    heard: list[dict] = []  # noqa: RUF012
    code = 200

    def do_POST(self):
        Hook.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(Hook.code)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hook(monkeypatch):
    monkeypatch.setattr(Hook, "heard", [])
    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_who_is_told_of_a_failure_gets_the_facts_once_and_nothing_is_run_by_a_shell(place, hook):
    place.apps.codes, place.apps.says = [1], "run error: $(touch pwned) `touch pwned`; touch pwned\n"
    script = "import json,os,sys; open('told','w').write(os.environ['APPS_REASON'] + sys.stdin.read())"
    place.add(retries=1, backoff="1s", on_failure={"command": ["python3", "-c", script], "webhook": hook})
    daemon = place.daemon()
    live(place, daemon, seconds=300, step=5)
    daemon.runner.stop()
    (firing,) = place.ledger().firings()
    assert firing.told == "command: ok; webhook: ok (200)"
    (facts,) = Hook.heard
    assert (facts["job"], facts["state"], facts["attempts"], facts["exit_code"]) == (
        "nightly",
        "failed",
        2,
        1,
    )
    told = (place.folder / "told").read_text()
    assert told.startswith("run error: $(touch pwned)")
    assert json.loads(told[told.index("{") :]) == facts
    assert not (place.folder / "pwned").exists()


def test_who_is_told_hears_of_a_job_that_fails_faster_than_it_gives_up(place, hook):
    place.apps.codes = [1]
    place.add(every="1m", retries=9, backoff="20s", on_failure={"webhook": hook})
    daemon = place.daemon()
    live(place, daemon, seconds=170, step=5)
    daemon.runner.stop()
    failed = place.ledger().firings(states=["failed"])
    assert len(failed) == len(Hook.heard) > 0
    assert failed[0].reason == "exit 1 (given up: 2026-11-22T02:30:00Z is due)"


def test_a_success_tells_nobody(place, hook):
    place.add(on_failure={"webhook": hook})
    daemon = place.daemon()
    live(place, daemon, seconds=300, step=5)
    daemon.runner.stop()
    assert Hook.heard == []


def test_a_hook_that_fails_is_written_down_and_changes_nothing_else(tmp_path, hook, monkeypatch):
    notice = job(on_failure={"command": ["no-such-program"], "webhook": "${OPS_HOOK}"}).on_failure
    monkeypatch.setattr(Hook, "code", 500)
    monkeypatch.setenv("OPS_HOOK", hook)
    said = tell(notice, {"job": "n"}, tmp_path)
    assert said == "command: could not be started (No such file or directory); webhook: answered 500"
    monkeypatch.setenv("OPS_HOOK", "secret-without-scheme")
    assert tell(notice, {}, tmp_path).endswith("${OPS_HOOK} holds no http address")
    monkeypatch.setenv("OPS_HOOK", "http://127.0.0.1:9/")
    assert "failed" in tell(notice, {}, tmp_path)


def test_the_last_complaint_of_a_log_is_its_reason(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("$ apps score run\n training 3/9\nrun error: the disk is full.\n  Free some space.\n")
    assert last_words(log) == "run error: the disk is full."
    log.write_text("$ apps\nSegmentation fault\n")
    assert last_words(log) == "Segmentation fault"
    log.write_text("$ apps\n")
    assert last_words(log) is None
    assert last_words(tmp_path / "none") is None


def test_parallel_below_one_is_refused(place):
    with pytest.raises(ConfigError, match="--parallel 0"):
        place.daemon(parallel=0)
