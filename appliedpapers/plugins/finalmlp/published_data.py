"""Published click logs: where they come from, on what terms, and what their columns are for.

Nothing of them is part of this package; see ``docs/frappe.md`` for how Frappe is rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from appliedpapers.core.features.cut import Method
from appliedpapers.core.features.fields import Fields, FieldSpec, Role
from appliedpapers.core.sources import PublishedDataset, RemoteFile
from appliedpapers.plugins.finalmlp import frappe, published_readers
from appliedpapers.plugins.finalmlp.published_readers import (
    AVAZU_TOKENS,
    CRITEO_CATEGORIES,
    CRITEO_NUMBERS,
    MOVIELENS_TOKENS,
)

_RAW = "https://raw.githubusercontent.com"
_AFN = f"{_RAW}/WeiyuCheng/AFN-AAAI-20/25d7bd995bd0a3c71f562b3d332a0628c3b30d28/data/frappe"
_CARSKIT = f"{_RAW}/irecsys/CARSKit/0a1789fb0804b067cabd223c4b8fd8b4d2f6e881/context-aware_data_sets"
_CRITEO_TINY = f"{_RAW}/guestwalk/kaggle-2014-criteo/c693cded081e2eb17da41605cb5cb6fc64b3d5b9"
_AVAZU_TINY = f"{_RAW}/guestwalk/kaggle-avazu/eda48cb74d2c38450ecc4af3eb2765b588b5b96e"

_FRAPPE_TERMS = (
    "Frappe is for research use only: cite arXiv 1505.03014; no redistribution without permission, no "
    "commercial use, no attempt to find out who the users are."
)
_CONTEST_TERMS = (
    "the rows are under the terms of {owner}'s contest on Kaggle, whatever the licence of the repository "
    "that shows this sample (Apache-2.0): use them as those terms allow, and do not pass them on."
)

FRAPPE_FOLDER = "frappe"
"""Where the four files of Frappe lie in the plugin's data folder."""

PUBLISHED = (
    PublishedDataset(
        id="frappe",
        title="Frappe: use of mobile apps in context, 957 users, 4,082 apps, sampled negatives",
        files=(
            RemoteFile(
                path=f"{FRAPPE_FOLDER}/train.libsvm",
                url=f"{_AFN}/train.libsvm",
                sha256=None,
                git_blob="6a5db57f39284d4b6b2fe36be26e7b833536de6a",
            ),
            RemoteFile(
                path=f"{FRAPPE_FOLDER}/valid.libsvm",
                url=f"{_AFN}/valid.libsvm",
                sha256="fc9de537bfb9aacca043730cfa7e7878c3a8b49781bbe66a35dd27d6bad7bd29",
            ),
            RemoteFile(
                path=f"{FRAPPE_FOLDER}/test.libsvm",
                url=f"{_AFN}/test.libsvm",
                sha256="20d3d26705874eea94bcc416dc2e266d4558cc5fba25526fd46807d316b16fd7",
            ),
            RemoteFile(
                path=f"{FRAPPE_FOLDER}/Mobile_Frappe.zip",
                url=f"{_CARSKIT}/Mobile_Frappe.zip",
                sha256="4adc616de57170f282397f6e6e30215f97fa7ad1b7f40bd12ef5dceaaf3e9b4e",
            ),
        ),
        licence="research use only; no redistribution, no commercial use",
        citation="Baltrunas et al., Frappe: understanding the usage and perception of mobile app "
        "recommendations in-the-wild, arXiv 1505.03014",
        terms=_FRAPPE_TERMS,
        prepared=RemoteFile(
            path="frappe_x1_rebuilt.parquet",
            url=None,
            sha256="615b181ae0724c701eb06f3283419c5ce2d04ceedd1c0fe9dfd2cad7d3a16d36",
        ),
    ),
    PublishedDataset(
        id="criteo-tiny",
        title="Criteo display advertising, a sample of 3,998 rows for readers, not for quality",
        files=(
            RemoteFile(
                path="criteo-tiny/train.tiny.csv",
                url=f"{_CRITEO_TINY}/train.tiny.csv",
                sha256="68f7852149b089e7929ba9e1acd6debbc986cbd498107a7c4dc9f2e716500b18",
            ),
            RemoteFile(
                path="criteo-tiny/test.tiny.csv",
                url=f"{_CRITEO_TINY}/test.tiny.csv",
                sha256="10a11764e11c109b9d842c9b8c8e826912c01956df8da8fee49663fd2523c1fa",
            ),
        ),
        licence="terms of the contest of Criteo on Kaggle",
        citation="Criteo Labs, Display Advertising Challenge, Kaggle 2014",
        terms=_CONTEST_TERMS.format(owner="Criteo"),
        prepared=RemoteFile(
            path="criteo_tiny.parquet",
            url=None,
            sha256="aa5aa467ac1ed80cc89ad2f69b058dd097b9367e87937b084686c9aeba6682c4",
        ),
    ),
    PublishedDataset(
        id="avazu-tiny",
        title="Avazu mobile advertising, 499 rows six times each, for readers, not for quality",
        files=(
            RemoteFile(
                path="avazu-tiny/tr.rx.csv",
                url=f"{_AVAZU_TINY}/tr.rx.csv",
                sha256="e7ff83fa123e33eaf199c80e3b7044dfaec6ef1b815c64714e6e93ed34d96387",
            ),
        ),
        licence="terms of the contest of Avazu on Kaggle",
        citation="Avazu, Click-Through Rate Prediction, Kaggle 2015",
        terms=_CONTEST_TERMS.format(owner="Avazu"),
        prepared=RemoteFile(
            path="avazu_tiny.parquet",
            url=None,
            sha256="3f86fd0ce5afd7308eff4c7a61585044176edebfc6e5ad06b49a3d4ca5089ac3",
        ),
    ),
)


@dataclass(frozen=True)
class Definition:
    """What is known of a published dataset beside its bytes.

    Attributes:
        fields: The role of every column.
        protocol: How it is cut, by name; figures of different protocols are not comparable.
        notes: What a reader of a result must know.
        unlabelled: Values of the column ``split`` whose rows have made-up labels and must not be scored.
        suspects: Columns to leave out for a second row of the report, because they may give the label away.
        obtain: How a user gets the files where we know no address for them.
        split: The method to cut by, where nothing else is asked for.
    """

    fields: Fields
    protocol: str
    notes: tuple[str, ...] = ()
    unlabelled: tuple[int, ...] = ()
    suspects: tuple[str, ...] = ()
    obtain: str | None = None
    split: Method = "auto"


@dataclass(frozen=True)
class Opened:
    """A published dataset in memory.

    Attributes:
        table: Its rows, with a column ``split`` where it is published cut.
        protocol: :attr:`Definition.protocol`, or what had to differ from it.
        files: The files that it was read from.
    """

    table: pa.Table
    protocol: str
    files: tuple[Path, ...]


def _roles(role: Role, names: Iterable[str]) -> dict[str, FieldSpec]:
    return {name: FieldSpec(role=role) for name in names}


_CRITEO = {
    "Id": FieldSpec(role="ignore", carry=True),
    **_roles("label", ["Label"]),
    **_roles("numeric", CRITEO_NUMBERS),
    **_roles("categorical", CRITEO_CATEGORIES),
}
_AVAZU = {
    "id": FieldSpec(role="ignore", carry=True),
    **_roles("label", ["click"]),
    "hour": FieldSpec(role="timestamp", format="%y%m%d%H", derive=("hour", "weekday", "weekend")),
    **_roles("categorical", AVAZU_TOKENS),
}
_SPLIT = _roles("split", ["split"])
_NO_SPLIT = _roles("ignore", ["split"])

RESAMPLED = "frappe-x1, train negatives resampled"
"""The protocol of the prepared form of Frappe."""

DEFINITIONS: Mapping[str, Definition] = MappingProxyType(
    {
        "frappe": Definition(
            fields=_roles("label", ["label"]) | _roles("categorical", frappe.SIZES) | _SPLIT,
            protocol="frappe-x1",
            notes=(
                "Negatives keep the cost of the positive row: in 12.6 % of them the item never has that cost "
                "among positives. Every published figure could use it; see the row without cost.",
            ),
            suspects=("cost",),
        ),
        "criteo-tiny": Definition(
            fields=_CRITEO | _NO_SPLIT,
            protocol="criteo-tiny, random",
            notes=("1,999 labelled rows: shows that reading works, says nothing about quality.",),
            unlabelled=(1,),
        ),
        "avazu-tiny": Definition(
            # every row is there six times: only its id keeps the copies on one side of a split
            fields=_AVAZU | _roles("group", ["id"]) | _NO_SPLIT,
            protocol="avazu-tiny, by id",
            notes=("499 rows of one hour, six times each: shows that reading works, not quality.",),
            split="group",
        ),
        "criteo": Definition(
            fields=_CRITEO,
            protocol="own split, not comparable with Criteo_x1 or Criteo_x4",
            notes=("Published figures use the official splits of rows; not reproduced here.",),
            obtain="Accept the terms of the Criteo Display Advertising Challenge, download train.txt, "
            "convert it with published_readers.criteo_batches and write_batches, and give the Parquet file "
            "to --data.",
        ),
        "avazu": Definition(
            fields=_AVAZU,
            protocol="own split, not comparable with Avazu_x1 or Avazu_x4",
            notes=("Published figures use the official splits of rows; not reproduced here.",),
            obtain="Accept the terms of Avazu's Click-Through Rate Prediction contest, download train.csv, "
            "convert it with published_readers.avazu_batches and write_batches, and give the Parquet file to "
            "--data.",
        ),
        "movielens": Definition(
            fields=_roles("label", ["label"]) | _roles("categorical", MOVIELENS_TOKENS),
            protocol="own split, not comparable with MovielensLatest_x1",
            notes=("Published figures use the official splits of rows; not reproduced here.",),
            obtain="Get the tag data with sampled negatives (label, user_id, item_id, tag_id) from its "
            "publishers, convert it with published_readers.movielens_batches and write_batches, and give the "
            "Parquet file to --data.",
        ),
    }
)
"""By dataset: those of :data:`PUBLISHED`, and those that users bring themselves."""


def open_published(dataset_id: str, folder: Path) -> Opened:
    """Read a dataset of :data:`PUBLISHED` whose files are present and verified.

    The downloaded files are read when they are there, or else the prepared Parquet file. Rows with made-up
    labels (:attr:`Definition.unlabelled`) are left out.

    Args:
        dataset_id: Its id.
        folder: The plugin's data folder.

    Raises:
        DataError: A file is malformed; file and line or column are named.
        KeyError: There is no such dataset.
    """
    entry = next((one for one in PUBLISHED if one.id == dataset_id), None)
    if entry is None:
        raise KeyError(dataset_id)
    definition = DEFINITIONS[dataset_id]
    protocol = definition.protocol
    files = tuple(folder / file.path for file in entry.files)
    if entry.prepared is None or all(file.is_file() for file in files):
        table = _READERS[dataset_id](files)
    else:
        files = (folder / entry.prepared.path,)
        table = _as_downloaded(dataset_id, pq.read_table(files[0]))
        protocol = RESAMPLED if dataset_id == "frappe" else protocol
    made_up = np.isin(table["split"].to_numpy(), definition.unlabelled)
    return Opened(table.filter(pa.array(~made_up)), protocol, files)


def _read_frappe(files: Sequence[Path]) -> pa.Table:
    return frappe.frappe_table(files[0].parent)


def _read_criteo_tiny(files: Sequence[Path]) -> pa.Table:
    labelled, rest = (pa.Table.from_batches(published_readers.criteo_batches(file)) for file in files)
    if "Label" not in rest.column_names:
        rest = rest.add_column(1, labelled.schema.field("Label"), pa.array(np.zeros(rest.num_rows, np.int8)))
    return _cut([labelled, rest])


def _read_avazu_tiny(files: Sequence[Path]) -> pa.Table:
    return _cut([pa.Table.from_batches(published_readers.avazu_batches(file)) for file in files])


def _cut(parts: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(
        part.append_column("split", pa.array(np.full(part.num_rows, split, np.int8)))
        for split, part in enumerate(parts)
    )


_READERS: Mapping[str, Callable[[Sequence[Path]], pa.Table]] = {
    "frappe": _read_frappe,
    "criteo-tiny": _read_criteo_tiny,
    "avazu-tiny": _read_avazu_tiny,
}
_DOWNLOADED = {"criteo-tiny": published_readers.CRITEO_TYPES, "avazu-tiny": published_readers.AVAZU_TYPES}


def _as_downloaded(dataset_id: str, table: pa.Table) -> pa.Table:
    """Give the columns of a prepared file the types of our readers: codes that are text stay text."""
    types = _DOWNLOADED.get(dataset_id, {})
    fields = [pa.field(one.name, types.get(one.name, one.type)) for one in table.schema]
    return table.cast(pa.schema(fields))
