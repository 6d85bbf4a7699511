"""Where a dataset comes from: the user's files, a published download, or the embedded simulator."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.errors import ConfigError, DataError, did_you_mean
from appliedpapers.core.files import sha256_file, whole_file, write_json
from appliedpapers.core.progress import Progress, SilentProgress

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.data import Dataset

SIMULATED = "simulated"
DatasetState = Literal["ready", "download", "needs licence", "local only"]

_CHUNK = 1 << 20
_TIMEOUT_S = 30
_ACCEPTED = "accepted-licences.json"

C = TypeVar("C", bound=TaskConfig)


@dataclass(frozen=True)
class RemoteFile:
    """One file of a published dataset, known by exactly one of two checksums.

    Attributes:
        path: Where it lies below ``<data folder>/<plugin id>/``.
        url: Public address; None when it may not be downloaded by us.
        sha256: Checksum of the bytes.
        size: Number of bytes, where known.
        git_blob: What git calls the content: the SHA-1 of ``"blob <size>"``, a zero byte and the bytes.
    """

    path: str
    url: str | None
    sha256: str | None = None
    size: int | None = None
    git_blob: str | None = None

    def __post_init__(self) -> None:
        if (self.sha256 is None) == (self.git_blob is None):
            raise ValueError(f"{self.path}: give one checksum, sha256 or git_blob")

    @property
    def checksum(self) -> tuple[str, str]:
        """The kind of the checksum in words, and its expected value."""
        return ("sha256", self.sha256) if self.sha256 is not None else ("git blob id", self.git_blob or "")

    def checksum_of(self, path: Path) -> str:
        """Return that checksum of the file at ``path``; an ``OSError`` passes through."""
        return git_blob_id(path) if self.sha256 is None else sha256_file(path)


@dataclass(frozen=True)
class PublishedDataset:
    """A dataset that others know by name.

    Attributes:
        id: Short, lower-case name for ``--dataset``.
        title: One line for people.
        files: What it consists of.
        licence: SPDX id or a sentence.
        citation: How to cite it.
        terms: Terms that the user must accept once (``--accept-licence``); None when there are none.
        obtain: How a user obtains files that have no address here.
        prepared: Our own form of the dataset. Where it lies in the data folder the ``files`` are not needed:
            nothing is downloaded and no terms are asked.
    """

    id: str
    title: str
    files: tuple[RemoteFile, ...]
    licence: str
    citation: str | None = None
    terms: str | None = None
    obtain: str | None = None
    prepared: RemoteFile | None = None


@dataclass(frozen=True)
class DatasetListing:
    """One row of ``apps data list``.

    Attributes:
        id: Name for ``--dataset``.
        title: One line for people.
        licence: SPDX id or a sentence.
        state: ``ready`` (all files or their prepared form lie in the data folder), ``download``,
            ``needs licence`` (a download after ``--accept-licence``) or ``local only`` (absent, and not
            ours to download).
        size: Bytes of all files; None where not known.
    """

    id: str
    title: str
    licence: str
    state: DatasetState
    size: int | None


class DatasetCatalog(ABC, Generic[C]):
    """The datasets of one task; ``DATASETS`` in a plugin's ``data.py`` is an instance.

    Attributes:
        published: Datasets that ``--dataset NAME`` can name.
        formats: One line on the files that ``--data PATH`` reads.
        elsewhere: How users get well-known datasets that we cannot fetch, by name.
    """

    published: Sequence[PublishedDataset] = ()
    formats: str = ""
    elsewhere: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def simulated(self, config: C) -> Dataset:
        """Make the embedded dataset: seeded, offline, with known truth."""

    @abstractmethod
    def from_user(self, path: Path, config: C) -> Dataset:
        """Read the user's own files.

        Raises:
            DataError: The file breaks the contract; file, row, column and a remedy are named.
        """

    def from_published(self, entry: PublishedDataset, folder: Path, config: C) -> Dataset:
        """Open a published dataset whose files, or their prepared form, lie verified below ``folder``."""
        raise KeyError(entry.id)

    def prepare(self, entry: PublishedDataset, folder: Path) -> None:
        """Make what is needed of files that were just downloaded to ``folder``; by default nothing.

        Raises:
            DataError: The files do not hold what they should.
        """

    def sample(self, folder: Path, config: C) -> pa.Table:
        """Return what a user could send to ``predict``, for a file in ``folder``; simulated by default.

        Files that its cells name are written below ``folder``.
        """
        return self.simulated(config).train.example()

    def inputs(self, path: Path, config: C) -> pa.Table:
        """Read a file for ``predict``: the user's formats, without targets and splits.

        What a person should know of it travels by :func:`appliedpapers.core.tables.with_notes`.

        Raises:
            DataError: The file breaks the contract.
        """
        from appliedpapers.core.tables import read_table

        return read_table(path)


def data_home() -> Path:
    """Return the data folder: ``APPS_DATA_HOME``, or else the platform's cache folder of the user."""
    chosen = os.environ.get("APPS_DATA_HOME")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("applied-papers") / "data"


def load_dataset(
    catalog: DatasetCatalog[C],
    plugin_id: str,
    config: C,
    *,
    dataset: str | None = None,
    data: Path | str | None = None,
    accept_licence: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Open the dataset that a run is about: simulated unless ``dataset`` or ``data`` says otherwise.

    Args:
        catalog: The task's datasets.
        plugin_id: Folder below the data folder.
        config: Resolved configuration of the task.
        dataset: Name of a published dataset, or ``"simulated"``.
        data: The user's own file or folder.
        accept_licence: The user accepts the terms of the dataset.
        progress: Where a download is reported.

    Raises:
        ConfigError: Both ``dataset`` and ``data`` are given, or the name is unknown.
        DataError: Files are absent, damaged or break the contract.
    """
    if dataset is not None and data is not None:
        raise ConfigError(
            "--dataset and --data were both given.",
            hint="Use --dataset for a published dataset or --data for your own files, not both.",
        )
    if data is not None:
        path = Path(data).expanduser()
        if not path.exists():
            raise DataError(f"{path}: no such file or folder.", hint="Check the path given to --data.")
        return catalog.from_user(path, config)
    if dataset is None or dataset == SIMULATED:
        return catalog.simulated(config)
    entry = find_published(catalog, dataset)
    folder = fetch(
        plugin_id,
        entry,
        accept_licence=accept_licence,
        progress=progress,
        prepare=partial(catalog.prepare, entry),
    )
    return catalog.from_published(entry, folder, config)


def find_published(catalog: DatasetCatalog[Any], name: str) -> PublishedDataset:
    """Return the published dataset called ``name``.

    Raises:
        ConfigError: There is none; the closest name is suggested.
    """
    known = {entry.id: entry for entry in catalog.published}
    if name in catalog.elsewhere:
        raise ConfigError(f"dataset '{name}' cannot be fetched by us.", hint=catalog.elsewhere[name])
    if name not in known:
        raise ConfigError(f"unknown dataset '{name}'.", hint=did_you_mean(name, [SIMULATED, *known]))
    return known[name]


def list_datasets(catalog: DatasetCatalog[Any], plugin_id: str) -> list[DatasetListing]:
    """List the datasets of a task and whether they can be used now; presence is looked at, not checksums."""
    rows = [DatasetListing(SIMULATED, "embedded simulator (synthetic)", "Apache-2.0", "ready", None)]
    accepted = _accepted_terms()
    for entry in catalog.published:
        sizes = [file.size for file in entry.files]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        rows.append(
            DatasetListing(entry.id, entry.title, entry.licence, _state(plugin_id, entry, accepted), total)
        )
    return rows


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


def _state(plugin_id: str, entry: PublishedDataset, accepted: dict[str, Any]) -> DatasetState:
    folder = data_home() / plugin_id
    absent = [file for file in entry.files if not (folder / file.path).is_file()]
    if not absent or (entry.prepared is not None and (folder / entry.prepared.path).is_file()):
        return "ready"
    if any(file.url is None for file in absent):
        return "local only"
    return "download" if _is_accepted(plugin_id, entry, accepted) else "needs licence"


def _settle_terms(plugin_id: str, entry: PublishedDataset, accept_licence: bool) -> None:
    accepted = _accepted_terms()
    if _is_accepted(plugin_id, entry, accepted):
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


def _is_accepted(plugin_id: str, entry: PublishedDataset, accepted: dict[str, Any]) -> bool:
    if entry.terms is None:
        return True
    record = accepted.get(f"{plugin_id}/{entry.id}")
    # terms that changed since must be accepted again
    return isinstance(record, dict) and record.get("terms") == entry.terms


def _accepted_terms() -> dict[str, Any]:
    try:
        content = json.loads((data_home() / _ACCEPTED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
