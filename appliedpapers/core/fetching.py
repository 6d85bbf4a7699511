"""Files of published datasets: found in the data folder or downloaded to it, verified, on accepted terms."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core.errors import DataError
from appliedpapers.core.files import whole_file, write_json
from appliedpapers.core.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from appliedpapers.core.sources import PublishedDataset, RemoteFile

_CHUNK = 1 << 20
_TIMEOUT_S = 30
_ACCEPTED = "accepted-licences.json"


def data_home() -> Path:
    """Return the data folder: ``APPS_DATA_HOME``, or else the platform's cache folder of the user."""
    chosen = os.environ.get("APPS_DATA_HOME")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("applied-papers") / "data"


def fetch(
    plugin_id: str,
    entry: PublishedDataset,
    *,
    accept_licence: bool = False,
    progress: Progress | None = None,
    prepare: Callable[[Path], None] | None = None,
) -> Path:
    """Make sure that every file of a published dataset lies verified in the data folder.

    Files that are there with the right checksum are used without network and without asking for terms, so
    a data folder that was filled elsewhere may be read-only. Where some are absent, ``entry.prepared`` is
    as good as all of them.

    Args:
        plugin_id: Folder below the data folder.
        entry: The dataset.
        accept_licence: The user accepts ``entry.terms``; remembered in the data folder.
        progress: Where the download is reported.
        prepare: Called with the folder after a download, such as :meth:`DatasetCatalog.prepare`.

    Returns:
        ``<data folder>/<plugin_id>``, below which the files lie under their ``path``.

    Raises:
        DataError: A checksum differs, terms were not accepted, the download failed, or a file has no address
            and is not there. A file that failed is never left behind.
        RunError: The data folder is not writable.
    """
    folder = data_home() / plugin_id
    absent = [file for file in entry.files if not (folder / file.path).is_file()]
    if absent and entry.prepared is not None and (folder / entry.prepared.path).is_file():
        _verify(folder / entry.prepared.path, entry.prepared)
        return folder
    for file in entry.files:
        if file not in absent:
            _verify(folder / file.path, file)
    if not absent:
        return folder
    for file in absent:
        if file.url is None:
            raise DataError(
                f"dataset '{entry.id}': {folder / file.path} is not there and may not be downloaded by us.",
                hint=entry.obtain or f"Obtain it from its owner; {_by_hand(file, folder)}",
            )
    _settle_terms(plugin_id, entry, accept_licence)
    for file in absent:
        _download(file, folder, entry.id, progress or SilentProgress())
    if prepare is not None:
        prepare(folder)
    return folder


def git_blob_id(path: Path) -> str:
    """Return the id that git gives to a file's bytes, SHA-1 as hexadecimal text."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()


def _verify(path: Path, file: RemoteFile) -> None:
    try:
        found = file.checksum_of(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}).", hint="Check its permissions."
        ) from None
    kind, expected = file.checksum
    if found != expected:
        again = f" and fetch it again from {file.url}" if file.url else " and obtain it again"
        raise DataError(
            f"{path}: {kind} is {found}, expected {expected}.",
            hint=f"The file is damaged, edited or another version. Move it away{again}.",
        )


def _download(file: RemoteFile, folder: Path, dataset_id: str, progress: Progress) -> None:
    import pooch
    import requests

    target = folder / file.path
    with whole_file(target) as part, progress.task(f"download {target.name}", file.size) as task:
        downloader = pooch.HTTPDownloader(progressbar=_PoochBar(task), chunk_size=_CHUNK, timeout=_TIMEOUT_S)
        try:
            downloader(file.url, str(part), None)
        except requests.RequestException as error:
            raise DataError(
                f"dataset '{dataset_id}': {file.url} could not be downloaded ({type(error).__name__}).",
                hint=f"Without network, {_by_hand(file, folder)}",
            ) from None
        found = file.checksum_of(part)
        kind, expected = file.checksum
        if found != expected:
            raise DataError(
                f"dataset '{dataset_id}': {file.url} gave a file with {kind} {found}, expected {expected}.",
                hint="Upstream changed or the transfer was altered; nothing was kept. "
                f"With the right file at hand, {_by_hand(file, folder)}",
            )


def _by_hand(file: RemoteFile, folder: Path) -> str:
    source = f"get {file.url} elsewhere and " if file.url else ""
    target = folder / file.path
    return f"{source}place it as {target.name} in {target.parent} ({' '.join(file.checksum)})."


class _PoochBar:
    """Pooch's progress protocol on one of our tasks; ``reset`` and one more ``update`` end it."""

    def __init__(self, task: Any) -> None:
        self._task = task
        self._finishing = False
        self.total = 0

    def update(self, count: int) -> None:
        if not self._finishing:
            self._task.advance(count)

    def reset(self) -> None:
        self._finishing = True

    def close(self) -> None:
        self._task.advance(0, note="done")


def _settle_terms(plugin_id: str, entry: PublishedDataset, accept_licence: bool) -> None:
    accepted = accepted_terms()
    if is_accepted(plugin_id, entry, accepted):
        return
    if not accept_licence:
        raise DataError(
            f"dataset '{entry.id}' has terms that must be accepted before it is downloaded: {entry.terms}",
            hint="Read them, then repeat the command with --accept-licence. This is asked once.",
        )
    accepted[f"{plugin_id}/{entry.id}"] = {
        "terms": entry.terms,
        "accepted_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(data_home() / _ACCEPTED, accepted)


def is_accepted(plugin_id: str, entry: PublishedDataset, accepted: dict[str, Any]) -> bool:
    """Say whether a dataset has no terms, or its present ones are among those that were accepted."""
    if entry.terms is None:
        return True
    record = accepted.get(f"{plugin_id}/{entry.id}")
    # terms that changed since must be accepted again
    return isinstance(record, dict) and record.get("terms") == entry.terms


def accepted_terms() -> dict[str, Any]:
    """Return what the user accepted on this machine, by ``<plugin id>/<dataset id>``."""
    try:
        content = json.loads((data_home() / _ACCEPTED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
