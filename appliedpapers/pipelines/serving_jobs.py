"""Jobs: predictions that outlast a request. Their state survives the server, which resumes them.

A job is a row in SQLite and a folder beside it: ``input.arrow``, ``output.arrow`` when it is done, and
``files/``, where the model writes big results and keeps what an interrupted try had finished.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout

from appliedpapers.core.client_files import for_a_client
from appliedpapers.core.errors import LockedError
from appliedpapers.core.files import delivered_files, whole_file
from appliedpapers.core.inference import predict_all, review
from appliedpapers.pipelines.serving_metrics import Metrics
from appliedpapers.pipelines.serving_problems import problem_of, refuse
from appliedpapers.pipelines.serving_settings import ServedModel

_log = logging.getLogger("appliedpapers.serve")
_MOST_CRASHES = 3
_LOOK_S = 1.0
_STATES = ("queued", "running", "interrupted", "done", "failed")
_TABLE = """CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, model TEXT NOT NULL, version TEXT NOT NULL, state TEXT NOT NULL,
    rows INTEGER NOT NULL, created REAL NOT NULL, started REAL, finished REAL,
    crashes INTEGER NOT NULL DEFAULT 0, problem TEXT)"""
_CLAIM = """UPDATE jobs SET state = 'running', started = ?, owner = ? WHERE id = (
    SELECT id FROM jobs WHERE state IN ('queued', 'interrupted') AND model = ? AND version = ?
    ORDER BY created LIMIT 1) RETURNING id"""


@dataclass(frozen=True)
class Job:
    """One job as a client sees it; times are seconds since 1970."""

    id: str
    model: str
    version: str
    state: str
    rows: int
    created: float
    started: float | None
    finished: float | None
    crashes: int
    problem: str | None
    owner: int | None = None

    def document(self) -> dict[str, Any]:
        """Return the JSON document of ``/v2/jobs/{id}``."""
        return {
            "id": self.id,
            "status": self.state,
            "model": self.model,
            "version": self.version,
            "rows": self.rows,
            "created": _iso(self.created),
            "started": _iso(self.started),
            "finished": _iso(self.finished),
            "problem": json.loads(self.problem) if self.problem else None,
            "links": {"self": f"/v2/jobs/{self.id}", "result": f"/v2/jobs/{self.id}/result"},
        }


class JobStore:
    """Jobs on disk.

    Args:
        folder: Where they are kept; one server at a time.
        most: Most jobs that wait or run.
        shared: Several workers of one server use it; the server takes the folder for them.
    """

    def __init__(self, folder: Path, most: int = 100, *, shared: bool = False) -> None:
        self.folder = folder
        self._shared = shared
        self._most = most
        self._lock = FileLock(folder / "lock")

    def open(self) -> None:
        """Take the folder and mark what an ended server left running as interrupted.

        Raises:
            LockedError: Another server holds the folder.
        """
        if self._shared:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise LockedError(
                f"{self.folder}: another server keeps its jobs here.", hint="Give each its own state folder."
            ) from None
        with self._connect() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(_TABLE)
            if "owner" not in {row["name"] for row in database.execute("PRAGMA table_info(jobs)")}:
                database.execute("ALTER TABLE jobs ADD COLUMN owner INTEGER")
        self.give_up()

    def give_up(self, owner: int | None = None) -> None:
        """Mark what ended workers left running as interrupted; what did so too often has failed.

        Args:
            owner: The worker's process; None stands for all.
        """
        with self._connect() as database:
            database.execute(
                "UPDATE jobs SET state = 'interrupted', crashes = crashes + 1 "
                "WHERE state = 'running' AND (? IS NULL OR owner = ?)",
                (owner, owner),
            )
            text = json.dumps(
                {"status": 500, "detail": f"The server ended {_MOST_CRASHES} times while this job ran."}
            )
            database.execute(
                "UPDATE jobs SET state = 'failed', finished = ?, problem = ? "
                "WHERE state = 'interrupted' AND crashes >= ?",
                (time.time(), text, _MOST_CRASHES),
            )

    def close(self) -> None:
        """Mark what still runs as interrupted, which is no crash, and release the folder."""
        with self._connect() as database:
            database.execute(
                "UPDATE jobs SET state = 'interrupted' WHERE state = 'running' AND owner = ?", (os.getpid(),)
            )
        self._lock.release()

    def submit(self, served: ServedModel, table: pa.Table) -> Job:
        """Store a job that the model does not refuse at a glance.

        Args:
            served: The model.
            table: Rows that keep its schema.

        Raises:
            Refused: 429, too many jobs wait.
            DataError: A group cannot be predicted, as far as a short look tells.
        """
        counts = self.counts()
        if counts["queued"] + counts["running"] + counts["interrupted"] >= self._most:
            raise refuse(429, "jobs", "Too many jobs wait.", "Try again later.", Retry_After="30")
        key = secrets.token_hex(16)
        home = self.home(key)
        try:
            with for_a_client():
                review(served.model, table, source="request", files=home / "files")
            _write(table, home / "input.arrow")
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        with self._connect() as database:
            database.execute(
                "INSERT INTO jobs (id, model, version, state, rows, created) "
                "VALUES (?, ?, ?, 'queued', ?, ?)",
                (key, served.name, served.version, table.num_rows, time.time()),
            )
        return self.get(key)

    def get(self, key: str) -> Job:
        """Return a job.

        Raises:
            Refused: 404, there is none.
        """
        with self._connect() as database:
            row = database.execute("SELECT * FROM jobs WHERE id = ?", (key,)).fetchone()
        if row is None:
            raise refuse(404, "no-job", "No such job.", "It may have been deleted.")
        return Job(**dict(row))

    def delete(self, key: str) -> None:
        """Forget a job that does not run, with its files.

        Raises:
            Refused: 404, there is none; 409, it runs.
        """
        self.get(key)
        with self._connect() as database:
            gone = database.execute("DELETE FROM jobs WHERE id = ? AND state != 'running'", (key,)).rowcount
        if not gone:
            raise refuse(409, "job-runs", "The job is running.", "Delete it when it has finished.")
        shutil.rmtree(self.home(key), ignore_errors=True)

    def claim(self, served: ServedModel) -> str | None:
        """Take the oldest job that waits for this version of the model."""
        with self._connect() as database:
            row = database.execute(_CLAIM, (time.time(), os.getpid(), served.name, served.version)).fetchone()
        return None if row is None else str(row["id"])

    def finish(self, key: str, problem: Mapping[str, Any] | None = None) -> None:
        """Record how a running job ended."""
        state = "failed" if problem else "done"
        text = json.dumps(problem) if problem else None
        with self._connect() as database:
            database.execute(
                "UPDATE jobs SET state = ?, finished = ?, problem = ? WHERE id = ? AND state = 'running'",
                (state, time.time(), text, key),
            )

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        with self._connect() as database:
            rows = database.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall()
        return dict.fromkeys(_STATES, 0) | {row[0]: row[1] for row in rows}

    def home(self, key: str) -> Path:
        """Return the folder of a job."""
        return self.folder / "jobs" / key

    def input(self, key: str) -> pa.Table:
        """Return what the client sent."""
        return _read(self.home(key) / "input.arrow")

    def output(self, key: str) -> pa.Table:
        """Return the prediction of a job that is done."""
        return _read(self.home(key) / "output.arrow")

    def write_output(self, key: str, table: pa.Table) -> None:
        """Store the prediction."""
        _write(table, self.home(key) / "output.arrow")

    def files(self, key: str) -> list[Path]:
        """Return the files that the model delivered, relative to the job's ``files`` folder."""
        root = self.home(key) / "files"
        return [path.relative_to(root) for path in delivered_files(root)]

    def file(self, key: str, name: str) -> Path:
        """Return one file that the model delivered.

        Raises:
            Refused: 404, there is none.
        """
        root = (self.home(self.get(key).id) / "files").resolve()
        path = (root / name).resolve()
        if path not in delivered_files(root):
            raise refuse(404, "no-file", "The job has no such file.", "The result lists its files.")
        return path

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.folder / "jobs.sqlite", timeout=30)) as database, database:
            database.row_factory = sqlite3.Row
            yield database


class JobRunner:
    """Works on the jobs of one model, one after the other, in a thread of its own."""

    def __init__(self, served: ServedModel, store: JobStore, metrics: Metrics) -> None:
        self._served = served
        self._store = store
        self._metrics = metrics
        self._wake = threading.Event()
        self._ended = False
        self._retired = False

    def start(self) -> None:
        """Start; jobs that were interrupted are resumed."""
        threading.Thread(target=self._work, name=f"jobs-{self._served.name}", daemon=True).start()

    def wake(self) -> None:
        """Say that a job was submitted."""
        self._wake.set()

    def retire(self) -> None:
        """End when no job of this version is left."""
        self._retired = True
        self._wake.set()

    def stop(self) -> None:
        """Take no further job; the one that runs is given up with the process."""
        self._ended = True
        self._wake.set()

    def _work(self) -> None:
        while not self._ended:
            self._wake.clear()
            key = self._store.claim(self._served)
            if key is None:
                if self._retired:
                    return
                # another worker may have been given it
                self._wake.wait(_LOOK_S)
                continue
            self._run(key)

    def _run(self, key: str) -> None:
        files = self._store.home(key) / "files"
        files.mkdir(parents=True, exist_ok=True)
        try:
            table = self._store.input(key)
            with for_a_client():
                output = predict_all(self._served.model, table, source="request", files=files)
            if self._ended:
                return
            self._store.write_output(key, output)
            self._store.finish(key)
            self._metrics.predicted(self._served.name, 1, table.num_rows)
        except Exception as error:
            if self._ended:
                return
            problem = problem_of(error)
            if problem.status >= 500:
                _log.exception("job %s failed", key)
            self._metrics.refused(problem.kind)
            self._store.finish(key, problem.document())


def _write(table: pa.Table, path: Path) -> None:
    with whole_file(path) as aside, pa.ipc.new_file(str(aside), table.schema) as writer:
        writer.write_table(table)


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _iso(seconds: float | None) -> str | None:
    import datetime as dt

    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
