"""Several processes behind one socket: a parent that starts them, replaces those that die, and ends them.

The parent opens the socket, finds the models and watches the aliases; it answers no request. Each worker
loads models of its own from their bundles. A worker is told what to serve by a line of JSON on its standard
input; further lines name other versions. When the input ends, the parent is gone, and the worker drains.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core.errors import AppsError, ConfigError, RunError
from appliedpapers.pipelines.locate import ModelRef, locate
from appliedpapers.pipelines.serving_metrics import forget_worker
from appliedpapers.pipelines.serving_settings import ServeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from appliedpapers.pipelines.serving_express import Application

_log = logging.getLogger("appliedpapers.serve")
_CODE = "from appliedpapers.pipelines.serving_workers import work; work()"
_POLL_S = 0.1
_YOUNG_S, _MOST_DEATHS = 30.0, 5
_HOPELESS = 70
_MARGIN_S = 5.0


class Workers:
    """The workers of one server.

    Args:
        found: The models.
        settings: As for one process; ``workers`` says how many.
        listener: The socket that they share.

    Raises:
        ConfigError: The system cannot hand a socket to a child (Windows).
    """

    def __init__(self, found: Sequence[ModelRef], settings: ServeSettings, listener: socket.socket) -> None:
        if sys.platform == "win32":
            raise ConfigError("--workers needs Linux or macOS.", hint="Leave it out: one process serves.")
        self._found = list(found)
        self._folder = Path(tempfile.mkdtemp(prefix="applied-papers-serve-"))
        self._settings = replace(
            settings,
            metrics_folder=self._folder,
            state_folder=settings.state_folder or self._state_folder(),
        )
        self._listener = listener
        self._processes: dict[subprocess.Popen[str], float] = {}
        self._deaths = 0
        self._ends = False
        self._lock = threading.Lock()

    def exchange(self, found: Sequence[ModelRef]) -> None:
        """Let every worker serve other versions; called in any thread."""
        with self._lock:
            self._found = list(found)
            for process in self._processes:
                _tell(process, {"models": _named(self._found)})

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C.

        Raises:
            RunError: A worker cannot start, or several end soon after they did.
            LockedError: Another server keeps its jobs in the same folder.
        """
        from appliedpapers.pipelines.serving_server import announce

        said = ", ".join(f"{item.name} version {item.version or 0}" for item in self._found)
        store = self._open_jobs()
        try:
            with self._signals():
                announce(self._listener, f"{said} with {self._settings.workers} workers", self._settings)
                for _ in range(self._settings.workers):
                    self._start()
                while not self._ends:
                    time.sleep(_POLL_S)
                    self._replace_dead(store)
        finally:
            self._end()
            if store is not None:
                store.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        descriptor = self._listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", _CODE],
            stdin=subprocess.PIPE,
            text=True,
            pass_fds=[descriptor],
            # Ctrl-C of a terminal goes to the parent, which ends the workers in order
            start_new_session=True,
        )
        with self._lock:
            settings = {name: _plain(value) for name, value in asdict(self._settings).items()}
            _tell(process, {"socket": descriptor, "settings": settings, "models": _named(self._found)})
            self._processes[process] = time.monotonic()

    def _replace_dead(self, store: Any) -> None:
        for process, started in list(self._processes.items()):
            if process.poll() is None:
                continue
            with self._lock:
                del self._processes[process]
            forget_worker(self._folder, process.pid)
            if store is not None:
                store.give_up(process.pid)
            if process.returncode == _HOPELESS:
                raise RunError("a worker could not start.", hint="The lines above say why.")
            self._deaths = self._deaths + 1 if time.monotonic() - started < _YOUNG_S else 0
            if self._deaths >= _MOST_DEATHS:
                raise RunError(
                    f"{self._deaths} workers ended within {_YOUNG_S:.0f} s of their start.",
                    hint="The lines above say why.",
                )
            _log.warning("worker %d ended with %d; another takes its place", process.pid, process.returncode)
            self._start()

    def _end(self) -> None:
        from appliedpapers.pipelines.serving_server import keep_out

        # the workers hold the socket still: the last one to close it turns nobody away that it took
        keep_out(self._listener)
        self._listener.close()
        for process in self._processes:
            process.terminate()
        until = time.monotonic() + self._settings.shutdown_grace_s + _MARGIN_S
        for process in self._processes:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _open_jobs(self) -> Any:
        if self._settings.state_folder is None:
            return None
        from appliedpapers.pipelines.serving_jobs import JobStore

        store = JobStore(self._settings.state_folder, self._settings.max_jobs)
        store.open()
        return store

    def _state_folder(self) -> Path | None:
        from appliedpapers.pipelines.serve import state_folder

        return state_folder([(item.name, item.task.load("model").cost) for item in self._found])

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def end(sig: int, frame: FrameType | None) -> None:
            self._ends = True

        before = {sig: signal.signal(sig, end) for sig in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


def work() -> None:
    """Be a worker: read what to serve, serve it, end when told or when the parent has gone."""
    from appliedpapers.core.device import set_threads
    from appliedpapers.pipelines.serve import create_app, load_served
    from appliedpapers.pipelines.serving_server import run_until_signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told = json.loads(sys.stdin.readline())
    settings = _settings(told["settings"])
    set_threads(settings.threads)
    try:
        models = [load_served(item, device=settings.device) for item in _found(told["models"])]
        app = create_app(models, settings)
        listener = socket.socket(fileno=told["socket"])
        threading.Thread(target=_listen_to_parent, args=(app, settings), daemon=True).start()
        run_until_signal(app, settings, listener)
    except AppsError as error:
        print(error.render(), file=sys.stderr)
        sys.exit(_HOPELESS)


def _listen_to_parent(app: Application, settings: ServeSettings) -> None:
    from appliedpapers.pipelines.serve import exchange, reloaded

    for line in sys.stdin:
        try:
            exchange(app, reloaded(app, _found(json.loads(line)["models"]), settings.device))
        except Exception:
            _log.exception("another version could not be loaded; the one before is served")
    os.kill(os.getpid(), signal.SIGTERM)


def _tell(process: subprocess.Popen[str], document: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.write(json.dumps(document) + "\n")
        process.stdin.flush()


def _named(found: Sequence[ModelRef]) -> list[dict[str, Any]]:
    return [
        {"bundle": str(item.bundle.resolve()), "name": item.name, "version": item.version, "uri": item.uri}
        for item in found
    ]


def _found(named: Sequence[Mapping[str, Any]]) -> list[ModelRef]:
    return [
        replace(locate(item["bundle"]), name=item["name"], version=item["version"], uri=item["uri"])
        for item in named
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _settings(document: Mapping[str, Any]) -> ServeSettings:
    paths = {
        name: document[name] and Path(document[name])
        for name in ("state_folder", "access_log", "metrics_folder")
    }
    lists = {
        "allowed_hosts": tuple(document["allowed_hosts"]),
        "file_folders": tuple(Path(folder) for folder in document["file_folders"]),
    }
    return ServeSettings(**{**document, **paths, **lists})
