"""Small fitted models and devices that several tests look at."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pyarrow as pa

from appliedpapers.core.config import resolve
from appliedpapers.core.model import FitContext
from appliedpapers.core.validation import check
from appliedpapers.plugins.laser_cvae.config import LaserConfig
from appliedpapers.plugins.laser_cvae.data import DATASETS
from appliedpapers.plugins.laser_cvae.model import LaserCvae

SMALL = (
    "data.simulator.train_devices=160",
    "data.simulator.valid_devices=80",
    "data.simulator.test_devices=120",
    "data.simulator.readings=24",
    "abnormality_training.epochs=12",
    "abnormality_training.prefixes=6",
    "forecast_training.epochs=10",
    "forecast_training.prefixes=6",
    "forecast.prior=none",
    "forecast.samples=32",
    "judge.cuts=[0.3, 0.6, 1.0]",
    "seed=3",
)


def config(*more):
    return resolve(LaserConfig, assignments=[*SMALL, *more])


@functools.cache
def _scratch():
    """Return the folder of all fits, which goes with the process."""
    return tempfile.TemporaryDirectory(prefix="ageing-")


def context(seed=3):
    return FitContext(Path(tempfile.mkdtemp(dir=_scratch().name)), seed=seed)


@functools.cache
def fitted(*more):
    """Return a dataset and the model that was fitted on it, once for all tests of a module."""
    settings = config(*more)
    dataset = DATASETS.simulated(settings)
    return dataset, LaserCvae(settings).fit(dataset.train, dataset.valid, context())


def ask(model, table):
    """Return what a model says of a table of any columns, row by row."""
    given = check(table if isinstance(table, pa.Table) else pa.table(table), model.input_schema)
    return model.predict(given.require_clean()).to_pylist()
