"""Making room: what interrupted and old runs leave behind, in their folders and in MLflow."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliedpapers.core.errors import AppsError, ConfigError
from appliedpapers.core.files import write_error
from appliedpapers.pipelines import DEFAULT_STORE
from appliedpapers.pipelines.run_folder import REQUEST, list_runs
from appliedpapers.pipelines.run_mark import read_mark

_SCRATCH = "fit"
_DAY_S = 86_400


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be.

    Attributes:
        id: The run.
        what: ``run`` with its folder, or ``checkpoints`` of one that is complete.
        bytes: Room that it makes.
    """

    id: str
    what: str
    bytes: int


def prune_runs(
    folder: Path, *, older_than_days: int = 30, dry_run: bool = False, store_folder: Path = DEFAULT_STORE
) -> list[Pruned]:
    """Remove interrupted runs and the checkpoints of complete ones; reports and models stay.

    The MLflow records of interrupted runs say that they are running for ever; they are closed as killed.

    Args:
        folder: Folder of all runs.
        older_than_days: Leave what was worked on since.
        dry_run: Remove nothing.
        store_folder: Where MLflow's store lies.

    Raises:
        ConfigError: There is no such folder, or the days are negative.
        RunError: Something cannot be removed.
    """
    if older_than_days < 0:
        raise ConfigError(f"--older-than {older_than_days} is negative.", hint="Expected days, 0 or more.")
    before = time.time() - older_than_days * _DAY_S
    pruned = []
    for run in list_runs(folder):
        place = folder / run["id"]
        target = {"interrupted": place, "complete": place / _SCRATCH}.get(run["state"])
        if target is None or not target.is_dir() or _last_touched(place) > before:
            continue
        what = "run" if target == place else "checkpoints"
        pruned.append(Pruned(run["id"], what, _size(target)))
        if dry_run:
            continue
        if what == "run":
            _close_record(place, store_folder)
            # first the file that makes it a run: one that is half removed is none
            (place / REQUEST).unlink(missing_ok=True)
        try:
            shutil.rmtree(target)
        except OSError as error:
            raise write_error(target, error) from error
    return pruned


def _close_record(place: Path, store_folder: Path) -> None:
    mark = read_mark(place)
    if mark is None or not mark.record:
        return
    from mlflow.exceptions import MlflowException

    from appliedpapers.pipelines.tracking_store import has_store, open_store

    # a record that is gone, or in a store that is, needs no closing
    with suppress(AppsError, MlflowException):
        if not has_store(store_folder):
            return
        store = open_store(store_folder)
        record = mark.record_in(store.tracking_uri)
        if record and store.client.get_run(record).info.status == "RUNNING":
            store.client.set_terminated(record, "KILLED")


def _last_touched(place: Path) -> float:
    return max((path.lstat().st_mtime for path in [place, *place.rglob("*")]), default=0.0)


def _size(target: Path) -> int:
    return sum(path.lstat().st_size for path in target.rglob("*") if not path.is_dir())
