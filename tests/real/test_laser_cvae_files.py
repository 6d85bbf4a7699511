"""The published ageing tests: read whole, in folds, and forecast by the path prior alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from appliedpapers.core.config import resolve
from appliedpapers.core.data import leakage_audit
from appliedpapers.core.sources import list_datasets, load_dataset
from appliedpapers.plugins.laser_cvae.baselines import LastReading
from appliedpapers.plugins.laser_cvae.config import LaserConfig
from appliedpapers.plugins.laser_cvae.data import DATASETS
from appliedpapers.plugins.laser_cvae.devices import prefixes
from appliedpapers.plugins.laser_cvae.path_prior import PathPrior

pytestmark = pytest.mark.shared

SIZES = {"gaas": (15, 3), "led-a": (180, 60), "device-b": (34, 27)}


@pytest.fixture(scope="module")
def opened(shared):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APPS_DATA_HOME", str(shared / "data"))
        assert {row.state for row in list_datasets(DATASETS, "laser-cvae")} == {"ready"}
        config = resolve(LaserConfig, preset="published", assignments=["data.repeats=1"])
        return {name: load_dataset(DATASETS, "laser-cvae", config, dataset=name) for name in SIZES}


@pytest.mark.parametrize("name", SIZES)
def test_every_device_is_tested_once_and_stands_in_one_part(opened, name):
    dataset = opened[name]
    devices, failures = SIZES[name]
    tested = [device for fold in dataset.folds for device in fold.test.devices.names]
    assert sorted(tested) == sorted(set(tested))
    assert len(tested) == devices
    assert sum(int(fold.test.devices.failed.sum()) for fold in dataset.folds) == failures
    assert leakage_audit(dataset) == []


def test_cells_and_units_are_those_of_the_source(opened):
    led = opened["led-a"].train.devices
    assert {"130 C, 1.333 x", "61 C, 1 x"} <= set(led.cells())
    assert set(opened["gaas"].train.devices.cells()) == {"80 C"}
    amplifiers = opened["device-b"].train.devices
    assert set(amplifiers.horizon) == {4000.0, 2000.0, 1000.0}
    assert amplifiers.scale.limit == pytest.approx(0.05 * np.log(10))


@pytest.mark.parametrize(
    ("hours", "whole", "within"),
    [
        (138.0, 0.956, (0.90, 1.0, 0.99)),
        (330.0, 0.960, (0.92, 0.83, 1.0)),
        (498.0, 0.988, (0.97, 0.97, 1.0)),
    ],
)
def test_the_last_reading_of_the_leds_ranks_as_the_literature_of_the_set_says(opened, hours, whole, within):
    folds = opened["led-a"].folds
    parts = [
        (fold.test, LastReading(LaserConfig())._said(fold.test, list(fold.test.cuts[:, 0]).index(hours)))
        for fold in folds
    ]
    rank = np.concatenate([said["rank"] for _, said in parts])
    failed = np.concatenate([part.devices.failed for part, _ in parts])
    cells = np.concatenate([part.devices.cells() for part, _ in parts])
    assert roc_auc_score(failed, rank) == pytest.approx(whole, abs=5e-4)
    for cell, value in zip(("114 C, 1 x", "110 C, 1.333 x", "130 C, 1.333 x"), within, strict=True):
        own = cells == cell
        assert roc_auc_score(failed[own], rank[own]) == pytest.approx(value, abs=5e-3)


@pytest.mark.parametrize(("name", "most"), [("gaas", 0.74), ("led-a", 0.03), ("device-b", 0.2)])
def test_the_path_prior_alone_forecasts_better_than_a_line(opened, name, most):
    errors = []
    for fold in opened[name].folds:
        learned, test = fold.train.devices, fold.test
        prior = PathPrior.fit(learned, np.isfinite(learned.hours), 6)
        seen = prefixes(test.devices, np.arange(len(test.devices)), test.cuts[test.main])
        weights, _ = prior.posterior(seen.hours, seen.damage, seen.kept, prior.mean(seen.conditions))
        ends = np.stack([seen.end, seen.horizon], axis=1)
        now, then = prior.paths(weights, ends).T
        said = seen.damage[np.arange(len(seen)), seen.counts - 1] + then - now
        true = test.devices.damage[np.arange(len(seen)), test.devices.counts - 1]
        scale = test.devices.scale
        errors += np.abs(scale.told(said) - scale.told(true)).tolist()
    assert np.mean(errors) < most
