"""Runs on disk: what was asked for, where it stands, and how an interrupted one is found again."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import appliedpapers
from appliedpapers.core import config as configs
from appliedpapers.core import device as devices
from appliedpapers.core import plugin as plugins
from appliedpapers.core.distributed import world_size
from appliedpapers.core.errors import ConfigError, DataError, LockedError
from appliedpapers.core.files import whole_file, write_json
from appliedpapers.core.results import read_results
from appliedpapers.core.sources import SIMULATED
from appliedpapers.core.verdict import selected_rows
from appliedpapers.pipelines.run_mark import read_mark

REQUEST = "request.json"
RESULTS = "results.json"
_AGAIN = "Remove the folder and run again."


@dataclass(frozen=True)
class RunRequest:
    """What a user asked for; stored with the run so that it can be resumed and repeated.

    Attributes:
        plugin: Plugin id.
        task: Task name; None where the plugin has one.
        preset: Name of the preset.
        config: Resolved configuration.
        dataset: Name of a published dataset, or ``"simulated"``.
        data: The user's own file or folder instead.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``32``, ``bf16`` or ``16``.
        devices: Processes that train together.
        allow_leakage: Report a test score although rows cross splits.
        accept_licence: Accept the dataset's terms.
        init_from: A registered model or bundle to start from.
        register: Register the model.
        command: The command line, for the report.
    """

    plugin: str
    config: configs.TaskConfig
    task: str | None = None
    preset: str = "default"
    dataset: str | None = None
    data: Path | None = None
    device: str = "auto"
    precision: str = "32"
    devices: int = 1
    allow_leakage: bool = False
    accept_licence: bool = False
    init_from: str | None = None
    register: bool = True
    command: str = field(default_factory=lambda: shlex.join(["apps", *sys.argv[1:]]))


@dataclass(frozen=True)
class Registration:
    """Name, version and alias that the registry gave to a model."""

    name: str
    version: int
    alias: str


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    Attributes:
        folder: The run's folder with report, results, figures and the bundle.
        results: The results document.
        report: The HTML report.
        registered: Where the model stands in the registry; None with ``--no-register``.
    """

    folder: Path
    results: dict[str, Any]
    report: Path
    registered: Registration | None = None


def write_request(folder: Path, request: RunRequest) -> None:
    """Store what was asked for, so that the run can be resumed and repeated."""
    values = {item.name: getattr(request, item.name) for item in fields(request)}
    values["config"] = request.config.model_dump(mode="json")
    values["data"] = None if request.data is None else str(request.data.resolve())
    write_json(folder / REQUEST, values)


def resume_request(folder: Path) -> RunRequest:
    """Read what an interrupted run was asked for.

    Raises:
        ConfigError: The folder is not a run, or the run is complete.
        LockedError: A process on this machine is at work on it.
    """
    if not is_run(folder):
        raise ConfigError(
            f"{folder}: not a run's folder.",
            hint="Expected runs/<id> of an interrupted run; apps runs list shows them.",
        )
    if (folder / RESULTS).is_file():
        raise ConfigError(f"{folder}: this run is complete.", hint=f"Its report is {folder / 'report.html'}.")
    mark = read_mark(folder)
    if mark is not None and mark.at_work:
        raise LockedError(
            f"{folder}: this run is at work (process {mark.pid}).", hint="Wait for it, or end that process."
        )
    values = _read_request(folder / REQUEST)
    task = plugins.find(values["plugin"]).task(values["task"])
    values["config"] = configs.validate(task.load("config"), values["config"])
    values["data"] = Path(values["data"]) if values["data"] else None
    return RunRequest(**values)


def is_run(folder: Path) -> bool:
    """Whether ``folder`` is that of a run, complete or not."""
    return (folder / REQUEST).is_file()


def _read_request(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).", hint=_AGAIN) from None
    if not isinstance(values, dict) or values.keys() != {item.name for item in fields(RunRequest)}:
        raise ConfigError(f"{path}: not what apps run writes.", hint=_AGAIN)
    return values


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """Return the runs in a folder, newest first: complete, running, interrupted or damaged.

    Raises:
        ConfigError: There is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder.", hint="apps run ID makes the first run.")
    requests = sorted(folder.glob(f"*/{REQUEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [_summary(path) for path in requests]


def _summary(path: Path) -> dict[str, Any]:
    try:
        request = _read_request(path)
    except ConfigError:
        request = dict.fromkeys(("plugin", "data", "dataset", "preset"), "-")
        return {"id": path.parent.name, "state": "damaged", **request, "score": "-"}
    summary = {
        "id": path.parent.name,
        "state": "interrupted",
        "plugin": request["plugin"],
        "dataset": request["data"] or request["dataset"] or SIMULATED,
        "preset": request["preset"],
        "score": "-",
    }
    mark = read_mark(path.parent)
    if mark is not None and mark.at_work:
        summary["state"] = "running"
    results = path.parent / RESULTS
    if results.is_file():
        row = selected_rows(read_results(results))[0]
        summary |= {"state": "complete", "score": f"{row['metric']} {row['value']:.4g}"}
    return summary


def new_id(plugin: str) -> str:
    """Return the date, the plugin and four letters that all ranks of one launch agree on."""
    mark = uuid.uuid4().hex
    if world_size() > 1:
        launch = "-".join(os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_PORT"))
        mark = hashlib.sha256(launch.encode()).hexdigest()
    return f"{datetime.now(UTC):%Y-%m-%d}-{plugin}-{mark[:4]}"


def environment(device: str) -> dict[str, str]:
    """Return the versions that a figure depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"applied-papers": appliedpapers.__version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "lightgbm", "xgboost", "scikit-learn", "mlflow"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return {**found, "platform": platform.platform(), "device": devices.describe_device(device)}


def with_quarantine(error: DataError, folder: Path) -> DataError:
    """Write an error's violations into the run's folder, and return the error that says where they are."""
    if error.violations is None:
        return error
    import pyarrow.parquet as pq

    path = folder / "quarantine.parquet"
    with whole_file(path) as aside:
        pq.write_table(error.violations, aside)
    rows = error.violations.num_rows
    listed = f"{rows} bad {'value is' if rows == 1 else 'values are'} listed in {path}."
    return DataError(error.message, hint=f"{error.hint or ''} {listed}".strip(), violations=error.violations)
