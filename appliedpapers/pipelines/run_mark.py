"""Who works on a run, and which MLflow record it writes: a small file in the run's folder."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from appliedpapers.core.files import write_json
from appliedpapers.pipelines.processes import born, is_alive

MARK = ".work.json"


@dataclass(frozen=True)
class WorkMark:
    """The process that lives a run, and its record in MLflow.

    Attributes:
        host: The machine.
        pid: The process there.
        born: When that process started, as its system counts.
        store: Address of the MLflow store; empty until a record was made.
        record: MLflow's id of the run; empty until then.
    """

    host: str
    pid: int
    born: str | None
    store: str = ""
    record: str = ""

    @property
    def at_work(self) -> bool:
        """Whether another process is known to live it still; one on another machine is not known to."""
        if self.pid == os.getpid():
            # a run that was interrupted in a notebook is resumed there
            return False
        return self.host == socket.gethostname() and is_alive(self.pid, self.born) is True

    def record_in(self, store: str) -> str | None:
        """Return the id of the record in this store, if there is one."""
        return self.record if self.record and self.store == store else None


def read_mark(folder: Path) -> WorkMark | None:
    """Return the mark in a run's folder; None where there is none that can be read."""
    try:
        return WorkMark(**json.loads((folder / MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def take_mark(folder: Path) -> WorkMark:
    """Write down that this process lives the run; return what is known of its record."""
    before = read_mark(folder)
    pid = os.getpid()
    mark = WorkMark(socket.gethostname(), pid, born(pid))
    if before is not None:
        mark = replace(mark, store=before.store, record=before.record)
    write_json(folder / MARK, asdict(mark))
    return mark


def note_record(folder: Path, store: str, record: str) -> None:
    """Write down which MLflow record the run writes."""
    mark = read_mark(folder) or take_mark(folder)
    write_json(folder / MARK, asdict(replace(mark, store=store, record=record)))
