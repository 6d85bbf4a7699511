"""Where a dataset comes from: the user's files, a published download, or the embedded simulator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.errors import ConfigError, DataError, did_you_mean
from appliedpapers.core.fetching import accepted_terms, data_home, fetch, git_blob_id, is_accepted
from appliedpapers.core.files import sha256_file
from appliedpapers.core.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.data import Dataset, Provenance

SIMULATED = "simulated"
DatasetState = Literal["ready", "download", "needs licence", "local only"]

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

    def provenance(
        self, folder: Path, files: Iterable[Path] | None = None, *, source: str | None = None
    ) -> Provenance:
        """Say where the dataset comes from; what was fetched and verified by its sha256 is not hashed again.

        Args:
            folder: The plugin's data folder.
            files: What was read below it; by default all files.
            source: Where a reader finds it; by default the address of the first file, or the title.
        """
        from appliedpapers.core.data import Provenance

        known = {folder / file.path: file.sha256 for file in (*self.files, self.prepared) if file is not None}
        read = [folder / file.path for file in self.files] if files is None else files
        sums = {file.relative_to(folder).as_posix(): known.get(file) or sha256_file(file) for file in read}
        return Provenance(
            source=source or self.files[0].url or self.title,
            licence=self.licence,
            synthetic=False,
            sha256=sums,
            citation=self.citation,
        )


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

    def remarks(self, dataset: Dataset, config: C) -> Sequence[str]:
        """Say what looks wrong with the data themselves, for ``apps data audit``; leaks are looked for, too.

        Args:
            dataset: Of this catalogue.
            config: It was opened with.
        """
        return ()

    def sample(self, folder: Path, config: C) -> pa.Table:
        """Return what a user could send to ``predict``, for a file in ``folder``; simulated by default.

        Files that its cells name are written below ``folder``.
        """
        return self.simulated(config).example()

    def inputs(self, path: Path, config: C) -> pa.Table:
        """Read a file for ``predict``: the user's formats, without targets and splits.

        What a person should know of it travels by :func:`appliedpapers.core.tables.with_notes`.

        Raises:
            DataError: The file breaks the contract.
        """
        from appliedpapers.core.tables import read_table

        return read_table(path)


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
    accepted = accepted_terms()
    for entry in catalog.published:
        sizes = [file.size for file in entry.files]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        rows.append(
            DatasetListing(entry.id, entry.title, entry.licence, _state(plugin_id, entry, accepted), total)
        )
    return rows


def _state(plugin_id: str, entry: PublishedDataset, accepted: dict[str, Any]) -> DatasetState:
    folder = data_home() / plugin_id
    absent = [file for file in entry.files if not (folder / file.path).is_file()]
    if not absent or (entry.prepared is not None and (folder / entry.prepared.path).is_file()):
        return "ready"
    if any(file.url is None for file in absent):
        return "local only"
    return "download" if is_accepted(plugin_id, entry, accepted) else "needs licence"
