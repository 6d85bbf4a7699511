"""A click log with known truth: the true probability of every row, and which fields and pairs make it.

Impressions of items to users over some days, as in :mod:`.simulator_world`, which has the formula. The
table is what a user would see; the true probability stays beside it and is never a column::

    log = simulate(0, SimulatorOptions(rows=20_000))
    log.table, log.p_true, log.bayes
    write_simulated(Path("clicks.parquet"), 0, SimulatorOptions(rows=20_000_000))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliedpapers.core.features.fields import FieldSpec, Role
from appliedpapers.core.files import whole_file
from appliedpapers.core.metrics import auc, logloss
from appliedpapers.plugins.finalmlp.simulator_options import INFORMATIVE, NOISE, PAIRS, SimulatorOptions
from appliedpapers.plugins.finalmlp.simulator_world import SLICE_ROWS, Floats, Ints, Slice, World

if TYPE_CHECKING:
    import pyarrow as pa

START = np.datetime64("2024-01-01", "us")
"""The first instant of every simulated log, a Monday."""

RECENT = 10
"""How many categories of earlier clicks a row carries."""

_GROUP_ROWS = 100_000
_PREFIX = {
    "user": "u",
    "item": "i",
    "country": "c",
    "category": "k",
    "brand": "b",
    "device": "d",
    "weekday": "w",
    "referrer": "r",
    "hour": "h",
    "noise_10": "n",
    "noise_100": "n",
    "noise_1000": "n",
    "noise_5000": "n",
}
_ORDER = (
    *("user", "item", "country", "age", "category", "brand", "price", "tags", "device", "position"),
    *("weekday", "referrer", "hour", "recent", *NOISE, "click"),
)


class Bayes(NamedTuple):
    """What nobody can beat but by luck."""

    auc: float
    logloss: float


@dataclass(frozen=True)
class SimulatedClicks:
    """A simulated log and the truth about it.

    Attributes:
        table: What a user would see, in the order of time.
        p_true: True probability of a click, ``(rows,)``; never a column.
        fields: The role of every column.
        informative: Columns that the probability depends on.
        pairs: Pairs of columns whose product it depends on.
        seed: The seed it was made with.
        options: The options it was made with.
    """

    table: pa.Table
    p_true: Floats
    fields: dict[str, FieldSpec]
    informative: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    seed: int
    options: SimulatorOptions

    @property
    def bayes(self) -> Bayes:
        """AUC and logloss of the true probabilities on these rows."""
        return bayes(self.p_true, self.table["click"].to_numpy())


def bayes(p_true: ArrayLike, labels: ArrayLike) -> Bayes:
    """Return AUC and logloss (nats) of true probabilities, the best that any model can expect.

    Args:
        p_true: True probabilities, ``(rows,)``.
        labels: 0 or 1, ``(rows,)``.
    """
    return Bayes(auc(labels, p_true), logloss(labels, p_true))


def simulated_fields() -> dict[str, FieldSpec]:
    """Return the role of every column of a simulated log, in column order."""
    roles: dict[str, Role] = dict.fromkeys(_PREFIX, "categorical")
    roles |= {"age": "numeric", "price": "numeric", "position": "numeric"}
    roles |= {"tags": "sequence", "recent": "sequence", "click": "label"}
    out = {"id": FieldSpec(role="ignore", carry=True), "time": FieldSpec(role="timestamp", derive=())}
    return out | {name: FieldSpec(role=roles[name]) for name in _ORDER}


def simulate(
    seed: int, options: SimulatorOptions | None = None, *, chunk_rows: int = SLICE_ROWS
) -> SimulatedClicks:
    """Simulate a click log in memory; :func:`write_simulated` makes the same rows in bounded memory.

    Args:
        seed: The same seed, options and ``chunk_rows`` give the same bits.
        options: What to simulate; the defaults when None.
        chunk_rows: Rows of a slice of time, about. Samples that fit one slice do not depend on it.
    """
    import pyarrow as pa

    world = World(seed, options or SimulatorOptions(), chunk_rows)
    recent = _Recent()
    parts = [(_table(world, one, recent), one.p_true) for one in world.slices()]
    return SimulatedClicks(
        table=pa.concat_tables([table for table, _ in parts]),
        p_true=np.concatenate([p_true for _, p_true in parts]),
        fields=simulated_fields(),
        informative=INFORMATIVE,
        pairs=PAIRS,
        seed=seed,
        options=world.options,
    )


def write_simulated(
    path: Path, seed: int, options: SimulatorOptions | None = None, *, chunk_rows: int = SLICE_ROWS
) -> Path:
    """Write a simulated log as one Parquet file: the rows of :func:`simulate`, in bounded memory.

    Args:
        path: The file to write.
        seed: The same seed, options and ``chunk_rows`` give the same rows.
        options: What to simulate; the defaults when None.
        chunk_rows: Rows of a slice of time, about. Memory grows with it.

    Returns:
        The file of the true probabilities, columns ``id`` and ``p_true``: :func:`truth_beside` ``path``.

    Raises:
        RunError: The files cannot be written; nothing is left behind.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    world = World(seed, options or SimulatorOptions(), chunk_rows)
    recent = _Recent()
    truth = truth_beside(path)
    with whole_file(path) as rows_aside, whole_file(truth) as truth_aside:
        truth_schema = pa.schema({"id": pa.int64(), "p_true": pa.float64()})
        with (
            pq.ParquetWriter(rows_aside, _schema(), compression="zstd") as rows_file,
            pq.ParquetWriter(truth_aside, truth_schema, compression="zstd") as truth_file,
        ):
            for one in world.slices():
                table = _table(world, one, recent)
                rows_file.write_table(table, row_group_size=_GROUP_ROWS)
                known = pa.table([table["id"], pa.array(one.p_true)], schema=truth_schema)
                truth_file.write_table(known, row_group_size=_GROUP_ROWS)
    return truth


def truth_beside(path: Path) -> Path:
    """Return where the true probabilities of the log at ``path`` are kept: beside it, never in it."""
    return path.with_name(f"{path.stem}.p_true.parquet")


class _Recent:
    """The last categories that each user clicked, carried from slice to slice."""

    def __init__(self) -> None:
        self._users: Ints = np.empty(0, np.int32)
        self._categories: Ints = np.empty(0, np.int32)

    def before(self, user: Ints, category: Ints, click: NDArray[np.int8]) -> tuple[Ints, Ints]:
        """Return offsets and categories, oldest first, of what each row's user had clicked before it."""
        kept = len(self._users)
        users = np.concatenate([self._users, user])
        # clicks of earlier slices come first, and a stable sort keeps the order of time within a user
        order = np.argsort(users, kind="stable")
        clicked = np.concatenate([np.ones(kept, np.int8), click])[order].astype(bool)
        users = users[order]
        sequence = np.concatenate([self._categories, category])[order][clicked]
        end = np.cumsum(clicked) - clicked
        starts = np.flatnonzero(np.diff(users, prepend=-1))
        first = np.repeat(end[starts], np.diff(starts, append=len(users)))
        begin = np.maximum(first, end - RECENT)
        place = np.empty(len(users), np.int64)
        place[order] = np.arange(len(users))
        rows = place[kept:]
        length = (end - begin)[rows]
        offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
        flat = np.arange(offsets[-1]) + np.repeat(begin[rows] - offsets[:-1], length)
        self._keep(users[clicked], sequence)
        return offsets, sequence[flat]

    def _keep(self, users: Ints, categories: Ints) -> None:
        """Remember the last clicks of every user; ``users`` is sorted."""
        last = np.searchsorted(users, users, side="right") - np.arange(len(users)) <= RECENT
        self._users, self._categories = users[last], categories[last]


def _schema() -> pa.Schema:
    import pyarrow as pa

    types = dict.fromkeys(_ORDER, pa.string())
    types |= {"age": pa.float64(), "price": pa.float64(), "position": pa.int64(), "click": pa.int8()}
    types |= {"tags": pa.list_(pa.string()), "recent": pa.list_(pa.string())}
    return pa.schema({"id": pa.int64(), "time": pa.timestamp("us")} | types)


def _table(world: World, one: Slice, recent: _Recent) -> pa.Table:
    import pyarrow as pa

    codes = one.columns
    n = len(one.click)
    columns = {name: _tokens(prefix, world.sizes[name], codes[name]) for name, prefix in _PREFIX.items()}
    columns["id"] = pa.array(np.arange(one.start, one.start + n))
    columns["time"] = pa.array(START + (codes["time"] * 86_400e6).astype("timedelta64[us]"))
    columns["age"] = pa.array(codes["age"], mask=np.isnan(codes["age"]))
    columns["price"] = pa.array(codes["price"])
    columns["position"] = pa.array(codes["position"].astype(np.int64))
    columns["click"] = pa.array(one.click)
    tags = world.attributes["tags"][codes["item"]]
    there = tags >= 0
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32)
    columns["tags"] = pa.ListArray.from_arrays(offsets, _tokens("t", world.sizes["tags"], tags[there]))
    offsets, seen = recent.before(codes["user"], codes["category"], one.click)
    columns["recent"] = pa.ListArray.from_arrays(offsets, _tokens("k", world.sizes["category"], seen))
    return pa.table(columns).select(_schema().names).cast(_schema())


def _tokens(prefix: str, size: int, codes: NDArray[np.integer]) -> pa.Array:
    import pyarrow as pa

    return pa.array([f"{prefix}{code}" for code in range(size)], pa.string()).take(pa.array(codes))
