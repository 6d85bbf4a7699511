"""``apps schedule``: what each command prints, changes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

JOBS = """\
jobs:
  nightly:
    score: {model: tiny-rows@champion, input: [plots.csv], output: 'scores/{date}'}
    cron: 30 2 * * *
    timezone: Europe/Berlin
    retries: 0
  weekly:
    run: {plugin: tiny-rows, preset: quick, set: [data.rows=70]}
    every: 7d
"""


@pytest.fixture
def jobs(workspace) -> Path:
    """A current folder with ``jobs.yaml``."""
    (workspace / "jobs.yaml").write_text(JOBS)
    return workspace


def test_a_job_is_added_listed_shown_paused_resumed_and_removed(apps, jobs):
    added = apps("schedule", "add", "jobs.yaml")
    assert added.code == 0, added.err
    assert "added      nightly  cron 30 2 * * * Europe/Berlin  next" in added.out
    assert json.loads(apps("schedule", "add", "jobs.yaml", "--json").out) == {
        "nightly": "unchanged",
        "weekly": "unchanged",
    }
    listed = {item["name"]: item for item in json.loads(apps("schedule", "list", "--json").out)}
    assert (listed["nightly"]["kind"], listed["weekly"]["kind"]) == ("score", "run")
    assert listed["weekly"]["last"] is None
    shown = json.loads(apps("schedule", "show", "nightly", "--json").out)
    assert shown["command"].startswith("apps score run --model=tiny-rows@champion --input=plots.csv")
    assert len(shown["next"]) == 5
    assert shown["folder"] == str(jobs)
    assert apps("schedule", "pause", "nightly").code == 0
    assert "paused" in apps("schedule", "list").out
    assert "(paused)" in apps("schedule", "show", "nightly").out
    assert "next" in apps("schedule", "resume", "nightly").out
    assert apps("schedule", "remove", "nightly").code == 0
    assert [item["name"] for item in json.loads(apps("schedule", "list", "--json").out)] == ["weekly"]
    unknown = apps("schedule", "show", "weakly")
    assert (unknown.code, unknown.first) == (2, "config error: no job is called 'weakly'.")
    assert "Did you mean 'weekly'?" in unknown.err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("preset: quick", "preset: quikc", "weekly: unknown preset 'quikc'"),
        ("data.rows=70", "data.rwos=70", "weekly: unknown option 'data.rwos'"),
        ("plugin: tiny-rows", "plugin: tiny-rowz", "weekly: no plugin is called 'tiny-rowz'"),
        ("set: [", "sett: [", "weekly: no option is called '--sett'"),
        ("input: [plots.csv]", "inptu: [plots.csv]", "nightly: no option is called '--inptu'"),
        ("model: tiny-rows@champion, ", "", "nightly: missing option '--model'"),
        ("output: 'scores/{date}'", "output: scores, limit: many", "nightly: invalid value for '--limit'"),
        ("retries: 0", "folder: nowhere", "nowhere is not there"),
    ],
)
def test_a_command_that_could_not_be_read_at_night_is_refused_by_day(apps, jobs, old, new, said):
    (jobs / "jobs.yaml").write_text(JOBS.replace(old, new))
    outcome = apps("schedule", "add", "jobs.yaml")
    assert outcome.code in (2, 3)
    assert outcome.first.split(": ", 1)[1].startswith("jobs.yaml: job ")
    assert said in outcome.first
    assert not (jobs / "schedule").exists(), "nothing is added where one job is wrong"


def test_a_firing_by_hand_scores_once_and_history_says_with_what(apps, after_a_run):
    Path("jobs.yaml").write_text(JOBS)
    assert apps("schedule", "add", "jobs.yaml").code == 0
    words = ("schedule", "run-once", "nightly", "--scheduled-for", "2026-03-29T02:30")
    done = apps(*words)
    assert done.code == 0, done.err
    assert done.out.startswith(" done  scores/2026-03-29/manifest.json")
    again = apps(*words, "--json")
    assert "done already" in again.err
    # the clock of Berlin leaves 02:30 out on this day
    assert json.loads(again.out)["scheduled_for"] == "2026-03-29T01:30:00Z"
    (firing,) = json.loads(apps("schedule", "history", "--json").out)
    assert (firing["state"], firing["exit_code"], firing["model_version"]) == ("done", 0, "1")
    assert Path(firing["log"]).is_file()
    assert "apps.tiny-rows 1" in apps("schedule", "history", "nightly").out
    assert json.loads(apps("schedule", "history", "--state", "failed", "--json").out) == []


def test_a_firing_that_fails_has_the_exit_code_of_its_command(apps, after_a_run):
    Path("jobs.yaml").write_text(JOBS.replace("plots.csv", "none.csv"))
    assert apps("schedule", "add", "jobs.yaml").code == 0
    failed = apps("schedule", "run-once", "nightly")
    assert failed.code == 4
    assert "none.csv" in failed.out
    history = apps("schedule", "history")
    assert "none.csv" in history.out
    assert "log of the last failure" in history.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "x"), "there is no ledger"),
        (("history",), "there is no ledger"),
        (("run-once", "x"), "there is no ledger"),
        (("add", "none.yaml"), "none.yaml: no such file"),
    ],
)
def test_without_jobs_the_message_says_how_to_add_some(apps, workspace, words, said):
    outcome = apps("schedule", *words)
    assert outcome.code == 2
    assert said in outcome.first
    assert list(workspace.iterdir()) == []


def test_looking_makes_no_ledger(apps, workspace):
    assert json.loads(apps("schedule", "list", "--json").out) == []
    assert "none yet" in apps("schedule", "list").out
    assert json.loads(apps("schedule", "schema").out)["required"] == ["jobs"]
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("history", "--state", "don"), "Did you mean 'done'?"),
        (("run-once", "nightly", "--scheduled-for", "tonight"), "Expected ISO 8601"),
        (("run", "--parallel", "0"), "greater than or equal to 1"),
    ],
)
def test_a_wrong_word_is_answered_with_the_remedy(apps, jobs, words, said):
    assert apps("schedule", "add", "jobs.yaml").code == 0
    outcome = apps("schedule", *words)
    assert outcome.code == 2
    assert said in outcome.err


def test_the_folder_may_be_named_once_for_all(apps, jobs, monkeypatch):
    monkeypatch.setenv("APPS_SCHEDULE", str(jobs / "ops"))
    assert apps("schedule", "add", "jobs.yaml").code == 0
    assert (jobs / "ops" / "ledger.db").is_file()
    assert "nightly" in apps("schedule", "list").out
