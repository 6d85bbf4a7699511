"""Defective configurations, catalogs and evaluations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, field_validator
from tinyplugins.rows.config import RowsConfig
from tinyplugins.rows.data import RowsDatasets

from appliedpapers.core.data import TableSplit
from appliedpapers.core.errors import DataError


class LooseSection(BaseModel):
    """Not a Section: unknown keys pass."""

    alpha: float = 1.0


class LooseConfig(RowsConfig):
    """A nested section that takes unknown options."""

    extra: LooseSection = LooseSection()


class DriftingConfig(RowsConfig):
    """A validator that moves what it reads."""

    @field_validator("seed")
    @classmethod
    def next_seed(cls, seed):
        return seed + 1


class UnwritableConfig(RowsConfig):
    """An option that JSON Schema cannot describe."""

    hook: Callable[[], None] | None = None


class TwoPresetsConfig(RowsConfig):
    """No preset `published`."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {"data": {"rows": 60}}, "default": {}}


class WrongPresetConfig(RowsConfig):
    """A preset out of range."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = RowsConfig.presets | {
        "published": {"model": {"alpha": -1}}
    }


class GlobalRandomness(RowsDatasets):
    """Draws from the global generator."""

    def simulated(self, config):
        dataset = super().simulated(config)
        noise = np.random.random(dataset.train.num_rows)
        table = dataset.train.table.set_column(1, "heat", pa.array(noise))
        return replace(dataset, train=TableSplit(table, key=("plot",), targets=("harvest",)))


class OneSeed(RowsDatasets):
    """Ignores the seed."""

    def simulated(self, config):
        return super().simulated(config.replace(seed=7))


class Leaking(RowsDatasets):
    """Test rows stand in train."""

    def simulated(self, config):
        dataset = super().simulated(config)
        return replace(dataset, train=dataset.test)


class Traceback(RowsDatasets):
    """Lets the reader's own exception out."""

    def from_user(self, path, config):
        return super().from_user(path.with_suffix(".absent").resolve(strict=True), config)


class NoFormats(RowsDatasets):
    """Does not say what it reads."""

    formats = ""


class NoHint(RowsDatasets):
    """Refuses a file without a word on what to do."""

    def from_user(self, path, config):
        raise DataError("no.")


class FallsBack(RowsDatasets):
    """Simulates where a file cannot be read."""

    def from_user(self, path, config):
        return self.simulated(config)


class NotSynthetic(RowsDatasets):
    """Passes simulated rows for observed ones."""

    def simulated(self, config):
        dataset = super().simulated(config)
        return replace(dataset, provenance=replace(dataset.provenance, synthetic=False))


class OtherColumns(RowsDatasets):
    """The sample has names that ``inputs`` does not know."""

    def sample(self, folder, config):
        table = super().sample(folder, config)
        return table.rename_columns([name.upper() for name in table.column_names])


class Recut(RowsDatasets):
    """Cuts the same rows into splits of its own."""

    def simulated(self, config):
        dataset = super().simulated(config)
        parts = {name: self.recut(getattr(dataset, name), name) for name in ("train", "valid", "test")}
        return replace(dataset, **parts)

    def recut(self, split, name):
        return TableSplit(split.table, key=("plot",), targets=("harvest",))


class SharedGroups(Recut):
    """A soil stands in every split."""

    def simulated(self, config):
        return replace(super().simulated(config), disjoint=("soil",))

    def recut(self, split, name):
        return TableSplit(split.table, key=("plot", "soil"), targets=("harvest",))


class SameContents(Recut):
    """Every split holds the same rows under other keys."""

    def recut(self, split, name):
        table = RowsDatasets().simulated(RowsConfig()).test.table.slice(0, 3)
        plots = pa.array([f"{name}-{row}" for row in range(3)])
        return TableSplit(table.set_column(0, "plot", plots), key=("plot",), targets=("harvest",))


class WholeAtOnce(Recut):
    """Gives all rows in one batch, however few are asked for."""

    def recut(self, split, name):
        split.batches = lambda max_rows=65_536: iter(split.table.to_batches())
        return split


class FirstBatch(Recut):
    """Gives the first batch only."""

    def recut(self, split, name):
        split.batches = lambda max_rows=65_536: iter(split.table.to_batches(max_chunksize=max_rows)[:1])
        return split


class TwiceInTrain(Recut):
    """Rows stand in train twice."""

    def recut(self, split, name):
        table = pa.concat_tables([split.table, split.table.slice(0, 2)]) if name == "train" else split.table
        return TableSplit(table, key=("plot",), targets=("harvest",))


class ManyExamples(Recut):
    """Gives five examples, however few are asked for."""

    def recut(self, split, name):
        split.example = lambda limit=1: split.inputs().slice(0, 5)
        return split


class TargetSent(Recut):
    """The truth is among what predict is sent."""

    def recut(self, split, name):
        return TableSplit(split.table, key=("plot",))


class EmptyTest(Recut):
    """There is nothing to test on."""

    def recut(self, split, name):
        return TableSplit(split.table.slice(0, 0 if name == "test" else None), key=("plot",))


GLOBAL_RANDOMNESS, ONE_SEED, LEAKING, TRACEBACK = GlobalRandomness(), OneSeed(), Leaking(), Traceback()
NO_FORMATS, NO_HINT, FALLS_BACK, NOT_SYNTHETIC = NoFormats(), NoHint(), FallsBack(), NotSynthetic()
SHARED_GROUPS, SAME_CONTENTS, OTHER_COLUMNS = SharedGroups(), SameContents(), OtherColumns()
WHOLE_AT_ONCE, FIRST_BATCH, TWICE_IN_TRAIN = WholeAtOnce(), FirstBatch(), TwiceInTrain()
MANY_EXAMPLES, TARGET_SENT, EMPTY_TEST = ManyExamples(), TargetSent(), EmptyTest()
