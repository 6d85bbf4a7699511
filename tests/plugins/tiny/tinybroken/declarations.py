"""Defective configurations, catalogs and evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel
from tinyplugins.rows.config import RowsConfig
from tinyplugins.rows.data import RowsDatasets
from tinyplugins.rows.evaluation import EVALUATION
from tinyplugins.scoring import RegressionEvaluation

from appliedpapers.core.data import TableSplit


class LooseSection(BaseModel):
    """Not a Section: unknown keys pass."""

    alpha: float = 1.0


class LooseConfig(RowsConfig):
    """A nested section that takes unknown options."""

    extra: LooseSection = LooseSection()


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


class UnknownMetric(RegressionEvaluation):
    """The primary metric is not scored."""

    primary = "rmse"


GLOBAL_RANDOMNESS, ONE_SEED, LEAKING, TRACEBACK = GlobalRandomness(), OneSeed(), Leaking(), Traceback()
UNKNOWN_METRIC = UnknownMetric(EVALUATION._truth, EVALUATION._forecast)
