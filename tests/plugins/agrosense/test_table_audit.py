"""The audit of tables: what a program drew, codes of groups, ladders of replicates."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from appliedpapers.core.tables import write_table
from appliedpapers.plugins.agrosense.audit.nitrogen import date_codes, index_deviation, replicate_ladder
from appliedpapers.plugins.agrosense.audit.synthetic import synthetic_test
from appliedpapers.plugins.agrosense.crop.config import CropConfig
from appliedpapers.plugins.agrosense.crop.data import DATASETS

CONFIG = CropConfig()


def drawn(seed=0):
    """Uniform numbers between the bounds of each class, as a program draws them."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5), 80)
    values = rng.uniform(0, 20, (400, 4)) + 10 * rng.integers(0, 10, (5, 4))[labels]
    return values, labels


def measured(seed=0):
    """Correlated numbers with a spread of their own in each class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5), 80)
    mixed = rng.normal(size=(4, 4))
    values = rng.normal(size=(400, 4)) @ mixed * rng.uniform(0.5, 3, (5, 4))[labels] + 20
    return values, labels


def test_a_table_that_a_program_drew_is_found():
    found = synthetic_test(*drawn(), ["a", "b", "c", "d"])
    assert found.fires
    assert found.uniform > 0.85
    assert len(found.equal_spans) == 4
    assert "SYNTHETIC" in found.sentences()[0]


def test_a_table_that_was_measured_is_not():
    found = synthetic_test(*measured(), ["a", "b", "c", "d"])
    assert not found.fires
    assert found.correlation > 2 * found.shuffled


def test_too_few_rows_say_nothing():
    values, labels = drawn()
    assert synthetic_test(values[:15], labels[:15], ["a"] * 4).sentences() == []


def test_a_ladder_of_replicates_is_seen_through_exceptions():
    rng = np.random.default_rng(0)
    first = rng.uniform(500, 1200, 12)
    values = np.stack([first, 0.95 * first, 0.9025 * first], axis=1)
    values[3, 1] *= 1.01
    groups = np.repeat(np.arange(12), 3)
    found = replicate_ladder(values.ravel(), groups)
    assert found is not None
    assert (found.samples, found.of) == (11, 12)
    assert found.ratio == pytest.approx(0.95, abs=1e-4)
    moved = replicate_ladder(values.ravel() + 324.33, groups)
    assert (moved.samples, moved.offset) == (11, pytest.approx(324.33, abs=1))
    assert replicate_ladder(rng.uniform(500, 1200, 36), groups) is None


def test_columns_that_only_say_the_date_are_named():
    dates = np.repeat(["a", "b", "c"], 20)
    rng = np.random.default_rng(0)
    columns = {"temp": np.repeat([20.0, 25.0, 30.0], 20), "ndvi": rng.random(60), "one": np.ones(60)}
    assert date_codes(columns, dates) == {"temp": 3}
    assert date_codes(columns, None) == {"temp": 3}


def test_an_index_is_held_against_its_formula():
    columns = {"nir": np.array([300.0, 300.0]), "red": np.array([100.0, 100.0]), "ndvi": np.array([0.5, 0.8])}
    worst, gaps = index_deviation(columns)
    assert worst == pytest.approx(0.3)
    assert gaps.argmax() == 1
    assert index_deviation({"nir": np.ones(2)}) is None


def test_remarks_name_duplicates_codes_constants_and_unknown_units(tmp_path):
    rng = np.random.default_rng(0)
    farms = np.arange(60) % 6
    columns = {
        "crop": ["rice", "maize"] * 30,
        "farm": [f"f{one}" for one in farms],
        "rainfall": (100.0 * farms).tolist(),
        "ph": np.round(rng.uniform(5, 7, 60), 2).tolist(),
        "N": rng.uniform(1, 9, 60).tolist(),
        "clay": [20.0] * 60,
    }
    for name in columns:
        columns[name][59] = columns[name][53]
    path = tmp_path / "fields.csv"
    write_table(pa.table(columns), path)
    dataset = DATASETS.from_user(path, CONFIG)
    said = " | ".join(DATASETS.remarks(dataset, CONFIG))
    assert "columns that never change: clay" in said
    assert "1 rows repeat the inputs of another" in said
    assert "tell the groups apart, as a code would: rainfall" in said
    assert "unit not stated: nitrogen" in said


def published(shared, monkeypatch, name):
    monkeypatch.setenv("APPS_DATA_HOME", str(shared / "data"))
    from appliedpapers.core.sources import load_dataset

    return load_dataset(DATASETS, "agrosense", CONFIG, dataset=name)


@pytest.mark.shared
def test_the_published_crop_table_is_called_synthetic_with_its_traces(shared, monkeypatch):
    dataset = published(shared, monkeypatch, "crop-recommendation")
    said = DATASETS.remarks(dataset, CONFIG)
    assert "this table is SYNTHETIC" in said[0]
    assert "nitrogen 39 to 40; phosphorus 24 to 25; potassium 10 to 10" in said[1]
    assert "0.0755" in said[2]
    assert "of 154 cells" in said[3]
    assert "SYNTHETIC" in dataset.summary


@pytest.mark.shared
def test_the_ethiopian_table_looks_measured_and_has_sixteen_locations(shared, monkeypatch):
    dataset = published(shared, monkeypatch, "ethiopia")
    assert "looks measured" in DATASETS.remarks(dataset, CONFIG)[0]
    assert len(set(dataset.train.groups) | set(dataset.valid.groups)) == 16
    assert [one.name for one in dataset.train.features][-1] == "soil_colour"
