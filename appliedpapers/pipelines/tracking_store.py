"""The MLflow store: a SQLite file and a folder of artifacts, or whatever MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from appliedpapers.core.errors import ConfigError, LockedError, RunError
from appliedpapers.core.files import write_error
from appliedpapers.pipelines import DEFAULT_STORE, empty_store

URI_VARIABLE = "MLFLOW_TRACKING_URI"
DATABASE = "mlflow.db"
_LOCK_S = 120.0


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store and model registry.

    Attributes:
        folder: Local folder for locks; the database and the artifacts lie here unless the store is remote.
        tracking_uri: Address of the store.
        artifact_root: Where new experiments keep artifacts; None leaves it to the server.
        client: Client bound to the store; it does not touch MLflow's global active run.
    """

    folder: Path
    tracking_uri: str
    artifact_root: str | None
    client: MlflowClient

    def activate(self) -> None:
        """Make this the store of MLflow's module-level functions, without exporting it to child processes."""
        names = (URI_VARIABLE, "MLFLOW_REGISTRY_URI")
        before = {name: os.environ.get(name) for name in names}
        mlflow.set_tracking_uri(self.tracking_uri)
        mlflow.set_registry_uri(self.tracking_uri)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, which is created or restored when needed."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            location = f"{self.artifact_root}/{name}" if self.artifact_root else None
            try:
                return str(self.client.create_experiment(name, artifact_location=location))
            except MlflowException:
                # another process may have created it meanwhile
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)


def open_store(folder: Path = DEFAULT_STORE) -> Store:
    """Open the MLflow store, creating it on the first call.

    ``MLFLOW_TRACKING_URI`` overrides ``folder``. A SQLite store is created once, aside, under a file lock
    and in WAL mode; an existing one is opened without a lock.

    Args:
        folder: Holds ``mlflow.db`` and ``artifacts/``.

    Raises:
        LockedError: Another process has been creating the store for two minutes.
        RunError: The store cannot be opened.
    """
    uri = _address(folder)
    database = _sqlite_path(uri)
    root = None
    if database is not None:
        folder = database.parent
        uri = f"sqlite:///{database}"
        root = (folder / "artifacts").as_uri()
        if not database.exists():
            _create(database, root)
    with store_errors(uri):
        store = Store(folder.absolute(), uri, root, MlflowClient(uri, registry_uri=uri))
        store.activate()
    return store


def has_store(folder: Path = DEFAULT_STORE) -> bool:
    """Whether there is a store to open; one that a server keeps is taken to be there."""
    database = _sqlite_path(_address(folder))
    return database is None or database.exists()


def existing_store(folder: Path = DEFAULT_STORE) -> Store:
    """Open the MLflow store to look something up, which makes none.

    Raises:
        ConfigError: There is none yet.
        RunError: The store cannot be opened.
    """
    if not has_store(folder):
        raise ConfigError(
            f"no model is registered here: there is no store in {folder.absolute()}.",
            hint="apps run ID makes the first version; --store names another folder.",
        )
    return open_store(folder)


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn MLflow's and the database's errors into ours.

    Raises:
        RunError: MLflow refused; the message names the store.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        reason = str(error).strip().splitlines()[0].removesuffix(".")
        hint = "Check MLFLOW_TRACKING_URI, or that the folder is writable; apps doctor looks deeper."
        if "out-of-date database schema" in str(error):
            hint = f"It was made by another MLflow. Back it up, then: mlflow db upgrade {uri}"
        raise RunError(f"MLflow store {uri}: {reason}.", hint=hint) from error


@contextmanager
def store_lock(store_folder: Path, name: str, timeout: float = _LOCK_S) -> Iterator[None]:
    """Hold one of the store's file locks.

    Raises:
        LockedError: Another process held it for ``timeout`` seconds.
        RunError: The folder is not writable.
    """
    from filelock import FileLock, Timeout

    try:
        store_folder.mkdir(parents=True, exist_ok=True)
        with FileLock(store_folder / f".{name}.lock", timeout=timeout):
            yield
    except Timeout:
        raise LockedError(
            f"{store_folder}: another process has held its {name} lock for {timeout:g} s.",
            hint="Wait for it to end and run the same command again.",
        ) from None
    except OSError as error:
        raise write_error(store_folder, error) from error


def user_name() -> str:
    """Return who runs this, for tags."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def _address(folder: Path) -> str:
    return os.environ.get(URI_VARIABLE) or f"sqlite:///{folder.absolute() / DATABASE}"


def _sqlite_path(uri: str) -> Path | None:
    prefix = "sqlite:///"
    if not uri.startswith(prefix):
        return None
    return Path(unquote(uri.removeprefix(prefix).partition("?")[0])).absolute()


def _create(database: Path, artifact_root: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with store_lock(database.parent, "store"), store_errors(f"sqlite:///{database}"):
        if database.exists():
            return
        # one that was interrupted half-way is started again
        aside = database.with_name(f".{database.name}.part")
        for leftover in database.parent.glob(f"{aside.name}*"):
            leftover.unlink()
        copied = empty_store.begin(aside)
        fresh = SqlAlchemyStore(f"sqlite:///{aside}", artifact_root)
        fresh.engine.dispose()
        if not copied:
            empty_store.keep(aside)
        # readers beside a writer; the mode is kept in the file. MLflow itself waits 20 s for a busy one
        connection = sqlite3.connect(aside)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        os.replace(aside, database)
