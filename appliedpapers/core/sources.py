"""Where a dataset comes from: the user's files, a published download, or the embedded simulator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from appliedpapers.core.config import TaskConfig

if TYPE_CHECKING:
    from appliedpapers.core.data import Dataset

SIMULATED = "simulated"

C = TypeVar("C", bound=TaskConfig)


@dataclass(frozen=True)
class RemoteFile:
    """One file of a published dataset.

    Attributes:
        path: Where it lies below ``<data folder>/<plugin id>/``.
        url: Public address; None when it may not be downloaded by us.
        sha256: Checksum of the bytes.
    """

    path: str
    url: str | None
    sha256: str


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
    """

    id: str
    title: str
    files: tuple[RemoteFile, ...]
    licence: str
    citation: str | None = None
    terms: str | None = None
    obtain: str | None = None


class DatasetCatalog(ABC, Generic[C]):
    """The datasets of one task; ``DATASETS`` in a plugin's ``data.py`` is an instance.

    Attributes:
        published: Datasets that ``--dataset NAME`` can name.
        formats: One line on the files that ``--data PATH`` reads.
    """

    published: Sequence[PublishedDataset] = ()
    formats: str = ""

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
        """Open a published dataset whose files are present and verified below ``folder``."""
        raise KeyError(entry.id)
