"""The walk on the page about schedules, typed as it is written; the wait between steps is the reader's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
import yaml

from appliedpapers.pipelines.schedule_jobs import jobs_schema, read_jobs
from appliedpapers.pipelines.schedule_ledger import Ledger

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "schedule.md").read_text(encoding="utf-8")
WALK = PAGE[PAGE.index("## A walk") : PAGE.index("## What a job may say")]
STEP = re.compile(r"(?:<!-- wait: (\w+) ([^\n]*) -->\n)?```(sh|yaml)\n(.*?)```", re.DOTALL)
# the walk is about the schedule: a smaller model and shorter waits say as much
SHORTER = {
    "frets": "tiny-rows",
    "every: 1m": "every: 3s",
    "backoff: 10s": "backoff: 1s",
    # as often as it is tried until the reader has mended it
    "retries: 3": "retries: 99",
}
PATIENCE_S = 60


class Shell:
    """One shell in one folder, as the reader has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        apps = folder / "bin" / "apps"
        apps.parent.mkdir()
        apps.write_text(f'#!/bin/sh\nexec {sys.executable} -m appliedpapers "$@"\n')
        apps.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        path = os.pathsep.join([str(apps.parent), kept["PATH"]])
        self.process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=kept | {"PATH": path, "APPS_PLUGINS": "tiny-rows", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def type(self, code: str) -> str:
        """Type a block; return what it printed. Every line of it must succeed."""
        for line in code.strip().splitlines():
            mark = "" if line.endswith("&") else " || echo failed-$?"
            self.process.stdin.write(f"{line}{mark}\n")
        self.process.stdin.write("echo end-of-block\n")
        said = ""
        for line in self.process.stdout:
            if line.strip() == "end-of-block":
                break
            said += line
        assert "failed-" not in said, f"{code}\n{said}"
        return said

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def happened(ledger: Ledger, what: str, since: float) -> bool:
    if what == "idle":
        return not ledger.firings("nightly", ["running"])
    firings = [f for f in ledger.firings("nightly") if f.ended is not None and f.ended > since]
    if what.startswith("version "):
        return any(f.model_version == what.split()[1] and f.state == "done" for f in firings)
    if what == "done":
        return any(f.state == "done" for f in firings)
    return any(what in (f.reason or "") for f in firings)


@pytest.mark.slow
def test_a_job_is_scheduled_broken_resumed_and_rolled_back_as_the_page_says(tmp_path):
    shell = Shell(tmp_path)
    shown: list[str] = []
    try:
        for wait, what, kind, code in STEP.findall(WALK):
            for text, other in SHORTER.items():
                code = code.replace(text, other)
            if kind == "yaml":
                (tmp_path / "jobs.yaml").write_text(code)
                continue
            since = time.time() - 0.5
            deadline = time.monotonic() + PATIENCE_S
            while wait and not happened(Ledger(tmp_path / "schedule"), what, since):
                assert time.monotonic() < deadline, (what, (tmp_path / "daemon.log").read_text())
                time.sleep(0.2)
            shown.append(shell.type(code))
        firings = Ledger(tmp_path / "schedule").firings("nightly")
        with pytest.raises(ProcessLookupError):
            # the daemon was stopped by the page's own words
            os.kill(int(shell.type("echo $!")), 0)
    finally:
        shell.close()
    states = [firing.state for firing in firings]
    assert "done" in states
    assert "running" not in states
    hand = [firing for firing in firings if firing.origin == "hand"]
    assert [(f.scheduled_for, f.state) for f in hand] == [("2026-11-21T02:30:00Z", "done")]
    assert any("paused" in text for text in shown)
    versions = [f.model_version for f in firings if f.origin == "schedule" and f.state == "done"]
    order = [
        version for before, version in zip([None, *versions], versions, strict=False) if version != before
    ]
    assert order == ["1", "2", "1"]


def test_every_job_on_the_page_is_one_by_our_reading_and_by_the_schema(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for text in blocks:
        (tmp_path / "jobs.yaml").write_text(text)
        assert read_jobs(tmp_path / "jobs.yaml")
        jsonschema.validate(yaml.safe_load(text), jobs_schema())


def test_keys_defaults_and_placeholders_of_the_page_are_those_of_the_code():
    from appliedpapers.pipelines.schedule_jobs import _PLACEHOLDERS, Job

    table = dict(re.findall(r"^\| (`[^|]+`) \|([^|]*)\|", PAGE, re.MULTILINE))
    named = {key.strip("`"): default.strip().strip("`") for cell, default in table.items()
             for key in re.findall(r"`\w+`", cell)}  # fmt: skip
    told = {name: default for name, default in named.items() if name in Job.model_fields}
    assert set(told) == set(Job.model_fields)
    for name, default in told.items():
        value = Job.model_fields[name].default
        assert default in ("", "where it was added") if value is None else default == str(value), name
    assert [name for name in _PLACEHOLDERS if f"`{{{name}}}`" not in PAGE] == []
