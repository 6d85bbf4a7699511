"""The ledger of a schedule: jobs and every firing of them, in one SQLite file that several daemons share.

The file is the only truth. What must never happen twice is a constraint in it: a firing is one row for each
job and due time, and a job has at most one row that is running.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliedpapers.core.errors import ConfigError, LockedError, RunError, did_you_mean
from appliedpapers.core.files import write_error
from appliedpapers.pipelines.schedule_firing import Firing, Owner, State, StoredJob, iso
from appliedpapers.pipelines.schedule_jobs import Job

DATABASE = "ledger.db"
VERSION = 1
BUSY_S = 30.0

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    name TEXT PRIMARY KEY, document TEXT NOT NULL, folder TEXT NOT NULL, paused INTEGER NOT NULL DEFAULT 0,
    planned_until REAL NOT NULL, added_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS firings (
    id INTEGER PRIMARY KEY, job TEXT NOT NULL, scheduled_for TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed', 'missed')),
    origin TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, takeovers INTEGER NOT NULL DEFAULT 0,
    next_try REAL, started REAL, ended REAL, heartbeat REAL,
    owner TEXT, host TEXT, owner_pid INTEGER, owner_born TEXT, pid INTEGER, pid_born TEXT,
    exit_code INTEGER, reason TEXT, model TEXT, model_version TEXT, result TEXT, log TEXT, told TEXT,
    UNIQUE (job, scheduled_for)
);
CREATE INDEX IF NOT EXISTS by_state ON firings (state, job);
CREATE UNIQUE INDEX IF NOT EXISTS one_at_a_time ON firings (job) WHERE state = 'running';
"""


class Ledger:
    """The ledger in a folder.

    Args:
        folder: Holds ``ledger.db`` and ``logs/``.
        busy_s: How long a write waits for another process.
        create: Make it where there is none.

    Raises:
        ConfigError: There is none, or another version of this package made it.
        RunError: The file cannot be used.
    """

    def __init__(self, folder: Path, *, busy_s: float = BUSY_S, create: bool = True) -> None:
        self.folder = folder.absolute()
        self.path = self.folder / DATABASE
        if not create and not self.path.is_file():
            raise ConfigError(
                f"no job is scheduled here: there is no ledger in {self.folder}.",
                hint="apps schedule add FILE makes it; --folder names another place.",
            )
        self._busy_s = busy_s
        with self._errors():
            self._open()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # jobs

    def put_job(self, name: str, job: Job, folder: Path, now: datetime) -> str:
        """Add a job or change it; return ``added``, ``changed`` or ``unchanged``.

        A job that is due at other times than before is planned from now on.
        """
        document = job.model_dump_json(exclude_unset=True)
        with self._write():
            row = self._row("SELECT * FROM jobs WHERE name = ?", name)
            if row is None:
                self._connection.execute(
                    "INSERT INTO jobs (name, document, folder, planned_until, added_at) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (name, document, str(folder), now.timestamp(), now.timestamp()),
                )
                return "added"
            if (row["document"], row["folder"]) == (document, str(folder)):
                return "unchanged"
            moved = self._stored(row).job.when != job.when
            until = now.timestamp() if moved else row["planned_until"]
            self._connection.execute(
                "UPDATE jobs SET document = ?, folder = ?, planned_until = ? WHERE name = ?",
                (document, str(folder), until, name),
            )
            return "changed"

    def jobs(self) -> list[StoredJob]:
        """Return all jobs by name."""
        with self._errors():
            return [self._stored(row) for row in self._connection.execute("SELECT * FROM jobs ORDER BY name")]

    def job(self, name: str) -> StoredJob:
        """Return one job.

        Raises:
            ConfigError: There is none of this name.
        """
        with self._errors():
            row = self._row("SELECT * FROM jobs WHERE name = ?", name)
        if row is None:
            raise ConfigError(
                f"no job is called '{name}'.", hint=did_you_mean(name, (item.name for item in self.jobs()))
            )
        return self._stored(row)

    def remove_job(self, name: str) -> None:
        """Forget a job; its history stays, and what waits is missed."""
        self.job(name)
        with self._write():
            self._connection.execute("DELETE FROM jobs WHERE name = ?", (name,))
            self._connection.execute(
                "UPDATE firings SET state = 'missed', reason = 'the job was removed' "
                "WHERE job = ? AND state = 'waiting'",
                (name,),
            )

    def set_paused(self, name: str, paused: bool, now: datetime) -> None:
        """Pause a job, or resume it; what was due meanwhile is not made up for."""
        stored = self.job(name)
        until = stored.planned_until if paused or not stored.paused else now
        with self._write():
            self._connection.execute(
                "UPDATE jobs SET paused = ?, planned_until = ? WHERE name = ?",
                (int(paused), until.timestamp(), name),
            )

    # firings

    def plan(self, name: str, until: datetime, rows: Iterable[tuple[datetime, State, str | None]]) -> None:
        """Write down due times as ``waiting`` or ``missed``; those that are known stay as they are."""
        with self._write():
            for due, state, reason in rows:
                self._insert(name, due, state, "schedule", reason)
            self._connection.execute(
                "UPDATE jobs SET planned_until = max(planned_until, ?) WHERE name = ?",
                (until.timestamp(), name),
            )

    def add_by_hand(self, name: str, due: datetime) -> Firing:
        """Return the firing of a due time that a person or another scheduler names; make it if need be.

        One that failed or was missed waits again, with all its tries.
        """
        with self._write():
            self._insert(name, due, "waiting", "hand", None)
            self._connection.execute(
                "UPDATE firings SET state = 'waiting', attempts = 0, takeovers = 0, next_try = NULL, "
                "started = NULL, reason = NULL, told = NULL WHERE job = ? AND scheduled_for = ? "
                "AND state IN ('failed', 'missed')",
                (name, iso(due)),
            )
            row = self._row("SELECT * FROM firings WHERE job = ? AND scheduled_for = ?", name, iso(due))
        return _firing(row)

    def firings(
        self, job: str | None = None, states: Iterable[State] = (), *, latest: int = -1
    ) -> list[Firing]:
        """Return firings in the order in which they were due.

        Args:
            job: Of this job; of all by default.
            states: In these states; in all by default.
            latest: The last so many; all by default.
        """
        wanted = tuple(states)
        marks = ", ".join("?" * len(wanted))
        conditions = [*(["job = ?"] if job else []), *([f"state IN ({marks})"] if wanted else [])]
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        with self._errors():
            rows = self._connection.execute(
                f"SELECT * FROM firings {where} ORDER BY scheduled_for DESC, id DESC LIMIT ?",
                [*([job] if job else []), *wanted, latest],
            ).fetchall()
        return [_firing(row) for row in reversed(rows)]

    def firing(self, number: int) -> Firing:
        """Return one firing by its number."""
        with self._errors():
            return _firing(self._row("SELECT * FROM firings WHERE id = ?", number))

    def claim(self, firing: Firing, owner: Owner, now: float) -> Firing | None:
        """Start a waiting firing; None where another daemon was faster, or the job runs already."""
        try:
            with self._write():
                changed = self._connection.execute(
                    "UPDATE firings SET state = 'running', attempts = attempts + 1, owner = ?, host = ?, "
                    "owner_pid = ?, owner_born = ?, pid = NULL, pid_born = NULL, "
                    "started = coalesce(started, ?), heartbeat = ?, ended = NULL, exit_code = NULL "
                    "WHERE id = ? AND state = 'waiting'",
                    (*owner, now, now, firing.id),
                ).rowcount
        except sqlite3.IntegrityError:
            return None
        return self.firing(firing.id) if changed else None

    def seize(self, firing: Firing, owner: Owner, now: float) -> bool:
        """Take over a running firing from a daemon that died, unless another was faster."""
        with self._write():
            changed = self._connection.execute(
                "UPDATE firings SET owner = ?, host = ?, owner_pid = ?, owner_born = ?, heartbeat = ?, "
                "takeovers = takeovers + 1 "
                "WHERE id = ? AND state = 'running' AND owner = ? AND heartbeat = ?",
                (*owner, now, firing.id, firing.owner, firing.heartbeat),
            ).rowcount
        return bool(changed)

    def update(self, firing: Firing, owner: Owner, **values: Any) -> bool:
        """Write down facts of a firing that ``owner`` runs; False where it was taken over meanwhile."""
        columns = ", ".join(f"{name} = ?" for name in values)
        with self._write():
            changed = self._connection.execute(
                f"UPDATE firings SET {columns} WHERE id = ? AND owner = ? AND state = 'running'",
                (*values.values(), firing.id, owner.name),
            ).rowcount
        return bool(changed)

    def drop(self, firing: Firing, reason: str, state: State | None = None) -> bool:
        """Give up a waiting firing: ``state``, or else missed, or failed where it was tried.

        Returns:
            False where somebody else was faster.
        """
        state = state or ("failed" if firing.attempts else "missed")
        with self._write():
            changed = self._connection.execute(
                "UPDATE firings SET state = ?, reason = ? WHERE id = ? AND state = 'waiting'",
                (state, reason, firing.id),
            ).rowcount
        return bool(changed)

    def note_told(self, number: int, text: str) -> None:
        """Write down what came of ``on_failure``."""
        with self._write():
            self._connection.execute("UPDATE firings SET told = ? WHERE id = ?", (text, number))

    # the file

    def _open(self) -> None:
        from filelock import FileLock

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.folder, error) from error
        self._connection = sqlite3.connect(self.path, timeout=self._busy_s, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise ConfigError(
                f"{self.path}: made by a newer version of this package.", hint="Upgrade applied-papers here."
            )
        if version < VERSION:
            # changing the mode does not wait for others, so that daemons that start together must
            with FileLock(self.folder / ".ledger.lock", timeout=self._busy_s):
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.executescript(
                    f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version={VERSION};COMMIT;"
                )

    @contextmanager
    def _write(self) -> Iterator[None]:
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                # on a full disk SQLite has done so itself
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from filelock import Timeout

        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.Error, Timeout) as error:
            if isinstance(error, Timeout) or "locked" in str(error) or "busy" in str(error):
                raise LockedError(
                    f"{self.path}: another process has kept it locked for {self._busy_s:g} s.",
                    hint="Wait for it to end and try again; an open sqlite3 shell locks it, too.",
                ) from None
            raise RunError(
                f"{self.path}: {error}.",
                hint="Is it a ledger on a local disk, with room, that may be written?",
            ) from error

    def _insert(self, name: str, due: datetime, state: State, origin: str, reason: str | None) -> None:
        self._connection.execute(
            "INSERT OR IGNORE INTO firings (job, scheduled_for, state, origin, reason) "
            "VALUES (?, ?, ?, ?, ?)",
            (name, iso(due), state, origin, reason),
        )

    def _row(self, query: str, *values: Any) -> Any:
        return self._connection.execute(query, values).fetchone()

    def _stored(self, row: Any) -> StoredJob:
        return StoredJob(
            row["name"],
            Job.model_validate(json.loads(row["document"])),
            Path(row["folder"]),
            bool(row["paused"]),
            datetime.fromtimestamp(row["planned_until"], UTC),
            datetime.fromtimestamp(row["added_at"], UTC),
        )


_FIELDS = tuple(item.name for item in fields(Firing))


def _firing(row: Any) -> Firing:
    return Firing(**{name: row[name] for name in _FIELDS})
