"""A look at the installation: versions, plugins, devices, folders."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import appliedpapers
from appliedpapers.core import plugin as plugins
from appliedpapers.core.fetching import data_home

_LOW_DISK_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        ok: False when something should be done.
        detail: What was found.
        remedy: What to do.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


def examine(folder: Path = Path()) -> list[Finding]:
    """Look at everything that commonly goes wrong.

    Args:
        folder: Where runs and the store would be written.
    """
    return [
        _versions(),
        *_plugins(),
        _device(),
        _writable("folder", folder),
        _store(folder / "mlruns"),
        _data_folder(),
        _disk(folder),
    ]


def _versions() -> Finding:
    text = f"applied-papers {appliedpapers.__version__} · Python {platform.python_version()} · {sys.prefix}"
    return Finding("versions", sys.version_info >= (3, 11), text)


def _plugins() -> Iterator[Finding]:
    for item in plugins.discover():
        remedy = f'pip install "{item.spec.extra}"' if item.state == "missing-extra" and item.spec else ""
        detail = item.state if item.state == "ok" else f"{item.state}: {item.reason}"
        # a plugin that nobody asked for may lack its extra
        yield Finding(item.id, item.state in ("ok", "missing-extra"), detail, remedy)


def _device() -> Finding:
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        return Finding("device", True, f"cpu, {os.cpu_count()} threads; torch is not installed")
    from appliedpapers.core.device import describe_device, resolve_device

    return Finding("device", True, describe_device(resolve_device("auto")))


def _writable(name: str, folder: Path) -> Finding:
    ok = os.access(folder, os.W_OK)
    return Finding(
        name, ok, str(folder.resolve()), "" if ok else "No permission to write; change the folder."
    )


def _store(folder: Path) -> Finding:
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address:
        return Finding("store", True, f"{address} (MLFLOW_TRACKING_URI)")
    database = folder / "mlflow.db"
    if not database.exists():
        return Finding("store", True, f"{folder.absolute()} (made by the first run)")
    if not os.access(database, os.R_OK | os.W_OK):
        return Finding("store", False, str(database.absolute()), "No permission; change it for this file.")
    import sqlite3

    try:
        # without making anything: a file that is no database is left as it is
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("select count(*) from registered_models")
    except sqlite3.Error as error:
        remedy = "Restore it from a backup, or move it away and start a new one."
        return Finding("store", False, f"{database.absolute()}: {error}", remedy)
    return Finding("store", True, str(folder.absolute()))


def _data_folder() -> Finding:
    home = data_home()
    if home.is_dir():
        readable = os.access(home, os.R_OK | os.X_OK)
        remedy = "" if readable else "Set APPS_DATA_HOME to a folder that you may read."
        return Finding("data", readable, str(home), remedy)
    existing = next(path for path in home.parents if path.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK) and not home.exists()
    remedy = "" if writable else "It cannot be made; set APPS_DATA_HOME to a folder that you may write."
    return Finding("data", writable, f"{home} (made at the first download)", remedy)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    remedy = "" if free > _LOW_DISK_GB else "Runs, models and downloads need room; free some."
    return Finding("disk", free > _LOW_DISK_GB, f"{free:.0f} GB free", remedy)
