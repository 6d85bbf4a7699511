"""Profiles of training columns, and how far later rows are from them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from appliedpapers.core.profile import counts_of, drift_of, profile_of
from appliedpapers.core.schema import Column, OutputSchema, TableSchema

SCHEMA = TableSchema(
    (
        Column("id", "string"),
        Column("when", "timestamp"),
        Column("heat", "float64", nullable=True),
        Column("visits", "int64"),
        Column("soil", "string"),
        Column("wet", "bool", nullable=True),
        Column("trace", "float64", shape=(2,)),
    ),
    group_by=("id",),
)


def rows(count, seed=0, shift=0.0, soils=(0.5, 0.3, 0.2)):
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "id": [f"i{number}" for number in range(count)],
            "heat": pa.array(rng.normal(shift, 1, count), mask=rng.random(count) < 0.1),
            "visits": rng.integers(0, 3, count),
            "soil": rng.choice(["clay", "loam", "sand"], count, p=soils),
            "wet": pa.array(rng.random(count) < 0.5, mask=rng.random(count) < 0.2),
        }
    )


def drifts(profile, *tables):
    found = drift_of(profile, [(table.num_rows, counts_of(table, profile)) for table in tables], "input")
    return {item.column: item.psi for item in found}


def test_a_profile_is_json_and_tells_of_scalars_alone():
    profile = profile_of(rows(5000), SCHEMA)
    assert profile == json.loads(json.dumps(profile, allow_nan=False))
    assert profile.keys() == {"heat", "visits", "soil", "wet"}
    for about in profile.values():
        assert sum(about["shares"]) == pytest.approx(1, abs=1e-4)
    assert profile["heat"]["shares"][:-1] == pytest.approx([0.09] * 10, abs=0.01)
    assert profile["heat"]["shares"][-1] == pytest.approx(0.1, abs=0.02)
    assert profile["soil"]["values"] == ["clay", "loam", "sand"]


def test_rows_of_the_same_population_do_not_drift_and_others_do():
    profile = profile_of(rows(5000), SCHEMA)
    assert max(drifts(profile, rows(3000, seed=1)).values()) < 0.02
    shifted = drifts(profile, rows(3000, seed=1, shift=1.0))
    assert shifted["heat"] > 0.5
    assert shifted["soil"] < 0.02
    assert drifts(profile, rows(3000, seed=1, soils=(0.1, 0.1, 0.8)))["soil"] > 0.5


def test_a_value_that_was_never_seen_and_a_gap_are_drift():
    profile = profile_of(rows(5000), SCHEMA)
    table = rows(3000, seed=1)
    moss = table.set_column(3, "soil", [["moss"] * 1000 + table.column("soil").to_pylist()[1000:]])
    assert drifts(profile, moss)["soil"] > 1
    gone = table.set_column(1, "heat", [pa.nulls(3000, pa.float64())])
    assert drifts(profile, gone)["heat"] > 1


def test_long_parts_count_by_their_rows_not_by_their_samples():
    profile = profile_of(rows(5000), SCHEMA)
    long, short = rows(200_000, seed=1), rows(4000, seed=2, shift=3.0)
    assert drifts(profile, long, short)["heat"] < 0.1
    assert drifts(profile, short)["heat"] > 2


def test_too_few_rows_say_nothing():
    assert profile_of(rows(50), SCHEMA) == {}
    profile = profile_of(rows(5000), SCHEMA)
    assert drifts(profile, rows(100)) == {}


def test_text_that_differs_in_every_row_keys_and_constants_are_left_alone():
    schema = OutputSchema(
        (Column("name", "string"), Column("key", "int64"), Column("one", "float64")), keys=("key",)
    )
    table = pa.table({"name": [f"n{i}" for i in range(500)], "key": range(500), "one": [1.0] * 500})
    profile = profile_of(table, schema)
    assert profile.keys() == {"one"}
    assert drifts(profile, table) == {"one": 0.0}


def test_counts_of_another_profile_are_not_compared():
    profile = profile_of(rows(5000), SCHEMA)
    assert drift_of(profile, [(1000, {"heat": [500, 500]}), (1000, {})], "input") == []


@settings(max_examples=50, deadline=None)
@given(arrays("float32", st.integers(200, 400), elements=st.floats(allow_infinity=False, width=32)))
def test_any_numbers_have_a_profile_that_they_do_not_drift_from(values):
    schema = TableSchema((Column("value", "float64", nullable=True),))
    table = pa.table({"value": pa.array(values, pa.float64())})
    profile = profile_of(table, schema)
    assert all(abs(psi) < 1e-3 for psi in drifts(profile, table).values())
