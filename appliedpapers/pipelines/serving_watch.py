"""Looks at the aliases of served models now and then, and says when one names another version."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from appliedpapers.core.errors import AppsError, ConfigError
from appliedpapers.pipelines.locate import ModelRef, locate

_log = logging.getLogger("appliedpapers.serve")


class Watcher:
    """Asks the registry in a thread of its own.

    Args:
        found: What is served, by the words that named it; those without an alias never change.
        store_folder: Where MLflow's store lies.
        every_s: Seconds between two looks.
        moved: Called in the thread with all that is to be served, when an alias has moved.

    Raises:
        ConfigError: None of the models was named by an alias.
    """

    def __init__(
        self,
        found: Mapping[str, ModelRef],
        store_folder: Path,
        every_s: float,
        moved: Callable[[list[ModelRef]], None],
    ) -> None:
        if all(item.alias is None for item in found.values()):
            raise ConfigError(
                "--watch has nothing to watch.", hint="Name a model by its alias, such as frets@champion."
            )
        self._found = dict(found)
        self._store_folder = store_folder
        self._every_s = every_s
        self._moved = moved
        self._ended = threading.Event()
        self._failed = False

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._work, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()

    def look(self) -> bool:
        """Ask once; return whether something has moved."""
        changed = False
        for words, before in self._found.items():
            if before.alias is None:
                continue
            now = locate(words, self._store_folder)
            if now.version != before.version:
                _log.warning("%s moved from version %s to %s", words, before.version, now.version)
                self._found[words] = now
                changed = True
        if changed:
            self._moved(list(self._found.values()))
        return changed

    def _work(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self.look()
                self._failed = False
            except AppsError as error:
                # said once: a store that is away for an hour is no reason for an hour of lines
                if not self._failed:
                    _log.warning("the registry cannot be asked, serving goes on: %s", error.message)
                self._failed = True
            except Exception:
                _log.exception("the registry cannot be asked, serving goes on")
