"""Encoded rows of a run: made once, used by the network, the baselines and the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from appliedpapers.core.errors import ConfigError
from appliedpapers.core.features.encoded import EncodedRows, collect_rows
from appliedpapers.core.features.encoder import Encoder, fit_encoder
from appliedpapers.core.features.fields import INPUTS, Fields
from appliedpapers.core.features.store import BLOCK_ROWS, EncodedStore
from appliedpapers.plugins.finalmlp.splits import ClickSplit

if TYPE_CHECKING:
    from appliedpapers.core.progress import Progress
    from appliedpapers.plugins.finalmlp.config import DataConfig

_STREAM_FROM_ROWS = 5_000_000
_FILE = "train.arrow"
# neighbours in a log are alike: a buffer is filled from at least so many places
_BLOCKS_MIXED = 400


@dataclass(frozen=True)
class Prepared:
    """What is learned from.

    Attributes:
        encoder: Fitted on the train rows alone.
        train: Train rows, in memory or on disk.
        valid: Valid rows, in memory.
    """

    encoder: Encoder
    train: EncodedRows | EncodedStore
    valid: EncodedRows

    def sample(self, rows: int, seed: int) -> EncodedRows:
        """Return at most ``rows`` train rows, drawn at random where there are more."""
        if len(self.train) <= rows:
            if isinstance(self.train, EncodedRows):
                return self.train
            return collect_rows(self.train.blocks(), len(self.train))
        random = np.random.default_rng(seed)
        if isinstance(self.train, EncodedRows):
            chosen = random.choice(len(self.train), rows, replace=False)
            return self.train.take(np.sort(chosen))
        return collect_rows(_drawn(self.train.blocks(), len(self.train), rows, random), rows)


def _drawn(
    blocks: Iterable[EncodedRows], total: int, rows: int, random: np.random.Generator
) -> Iterator[EncodedRows]:
    """Yield ``rows`` of ``total`` rows in their order, every choice equally likely."""
    for block in blocks:
        taken = int(random.hypergeometric(rows, total - rows, len(block)))
        total, rows = total - len(block), rows - taken
        yield block.take(np.sort(random.choice(len(block), taken, replace=False)))


def prepare(
    train: ClickSplit,
    valid: ClickSplit,
    settings: DataConfig,
    folder: Path,
    progress: Progress,
    *,
    leave_out: tuple[str, ...] = (),
    start: Encoder | None = None,
) -> Prepared:
    """Fit the encoder on the train rows and encode train and valid.

    What was prepared is kept with the train part, so that baselines find it again.

    Args:
        train: Rows to learn from.
        valid: Rows to choose on.
        settings: Says whether train rows are held in memory.
        folder: Where train rows are kept that are not.
        progress: Told of large vocabularies.
        leave_out: Columns that the model does without.
        start: Encoder of an earlier model, which is grown by the new rows.

    Raises:
        DataError: A value does not fit its role.
        ConfigError: The earlier model has other columns.
    """
    key = None if start is not None else leave_out
    if key is not None and key in train.prepared:
        return train.prepared[key]
    fields = {name: field for name, field in train.fields.items() if name not in leave_out}
    if start is not None:
        _require_same_columns(fields, start.columns)
    names = list(columns_of(fields, train))

    def batches() -> Iterator[pa.RecordBatch]:
        return train.read(names)

    encoder = start.grow(batches) if start else fit_encoder(fields, batches, say=progress.say)
    encoded = (encoder.encode(batch, label=True) for batch in train.read(names))
    streamed = settings.streaming == "on" or (
        settings.streaming == "auto" and train.num_rows >= _STREAM_FROM_ROWS
    )
    rows: EncodedRows | EncodedStore
    if streamed:
        folder.mkdir(parents=True, exist_ok=True)
        block_rows = min(max(settings.shuffle_buffer // _BLOCKS_MIXED, 1), BLOCK_ROWS)
        rows = EncodedStore.write(folder / _FILE, encoded, block_rows=block_rows)
    else:
        rows = collect_rows(encoded, train.num_rows)
    made = Prepared(encoder, rows, encode_split(encoder, valid))
    # what reading took is of no use to training
    pa.default_memory_pool().release_unused()
    if key is not None:
        train.prepared[key] = made
    return made


def _require_same_columns(fields: Fields, earlier: Fields) -> None:
    for name in dict.fromkeys((*fields, *earlier)):
        ours, theirs = (given[name].role if name in given else None for given in (fields, earlier))
        if ours != theirs and {ours, theirs} & set(INPUTS):
            raise ConfigError(
                f"--init-from: column '{name}' is {ours or 'left out'} here and was "
                f"{theirs or 'left out'} in that model.",
                hint="Use its data.fields and model.leave_out; apps registry diff compares two models.",
            )


def encode_split(
    encoder: Encoder, split: ClickSplit, *, most: int | None = None, seed: int = 0
) -> EncodedRows:
    """Encode rows of a part in memory, labels included.

    Args:
        encoder: Of the model.
        split: The part.
        most: Rows that are wanted, drawn at random where there are more; None for all.
        seed: Of the draw.
    """
    names = columns_of(encoder.columns, split)
    encoded = (encoder.encode(batch, label=True) for batch in split.read(names))
    total = split.num_rows
    if most is None or total <= most:
        return collect_rows(encoded, total)
    return collect_rows(_drawn(encoded, total, most, np.random.default_rng(seed)), most)


def columns_of(fields: Fields, split: ClickSplit) -> list[str]:
    """Return the columns of a part that an encoder of these fields reads."""
    present = set(split.source.schema.names)
    roles = ("ignore", "group", "split")
    return [name for name, field in fields.items() if field.role not in roles and name in present]
