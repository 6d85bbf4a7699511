"""Numbers: reading, normalising, buckets; labels and weights."""

import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliedpapers.core.errors import DataError
from appliedpapers.core.features.labels import labels_of, weights_of
from appliedpapers.core.features.numeric import LIMIT, Moments, Normaliser, Quantiles, floats_of, log_square

FLOATS = st.lists(st.floats(-1e6, 1e6), max_size=40)


def test_null_nan_and_infinity_are_missing():
    values = pa.array([1.5, None, math.nan, math.inf, -math.inf])
    assert np.isnan(floats_of(values, "x")).tolist() == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1, 2], pa.uint8()), [1, 2]),
        (pa.array([True, False]), [1, 0]),
        (pa.array([Decimal("1.25")]), [1.25]),
        (pa.array(["1.5", " 2 ", "1e3"]), [1.5, 2, 1000]),
        (pa.array(["4"]).dictionary_encode(), [4]),
        (pa.array([1.5], pa.float16()), [1.5]),
    ],
)
def test_numbers_are_read_from_many_types(values, expected):
    assert floats_of(values, "x").tolist() == expected


def test_text_that_is_no_number_is_named_with_its_row():
    with pytest.raises(DataError, match="column 'age', row 12: 'old' is not a number"):
        floats_of(pa.array(["1", "", "old"]), "age", first_row=10)


def test_dates_are_no_numbers():
    with pytest.raises(DataError, match="column 'x' holds timestamp"):
        floats_of(pa.array([0], pa.timestamp("s")), "x")


@given(st.lists(FLOATS, max_size=6))
def test_merged_moments_are_those_of_all_rows(batches):
    moments = Moments()
    for batch in batches:
        moments.add(np.array([*batch, np.nan]))
    values = np.array([value for batch in batches for value in batch])
    assert moments.missing == len(batches)
    assert moments.count == len(values)
    if len(values):
        assert moments.mean == pytest.approx(values.mean(), abs=1e-6)
        assert moments.m2 == pytest.approx(values.var() * len(values), rel=1e-6, abs=1e-3)


@given(FLOATS.filter(bool), st.sampled_from(["standard", "min-max", "none"]), st.floats(allow_nan=True))
def test_normalised_values_are_always_finite_and_missing_is_zero(train, kind, asked):
    moments = Moments()
    moments.add(np.array(train))
    normaliser = Normaliser.fitted(kind, moments, "x")
    found = normaliser.apply(np.array([asked if math.isfinite(asked) else np.nan, np.nan]))
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= LIMIT * 1.001
    assert found[1] == 0


def test_standard_values_have_mean_0_and_deviation_1_and_min_max_ones_end_at_0_and_1():
    values = np.random.default_rng(0).normal(5, 3, 1000)
    moments = Moments()
    moments.add(values)
    standard = Normaliser.fitted("standard", moments, "x").apply(values)
    assert standard.mean() == pytest.approx(0, abs=1e-6)
    assert standard.std() == pytest.approx(1, abs=1e-6)
    ranged = Normaliser.fitted("min-max", moments, "x").apply(values)
    assert (ranged.min(), ranged.max()) == (0, 1)


@pytest.mark.parametrize("kind", ["standard", "min-max"])
def test_a_constant_column_becomes_0(kind):
    moments = Moments()
    moments.add(np.full(1000, 0.1))
    assert Normaliser.fitted(kind, moments, "x").apply(np.array([0.1])).tolist() == [0]


def test_values_too_large_to_average_are_refused():
    moments = Moments()
    moments.add(np.array([1e308, -1e308, 1e308]))
    with pytest.raises(DataError, match="column 'x' holds values from -1e\\+308"):
        Normaliser.fitted("standard", moments, "x")


def test_log_square_follows_its_formula():
    values = np.array([0.5, 2.0, 2.1, 100.0, -3.7, np.nan, -1e300])
    expected = [0, 2, 0, math.floor(math.log(100) ** 2), -3, None, -9 * 10**18]
    assert log_square(values).to_pylist() == expected


def test_quantile_edges_are_distinct_and_no_bucket_is_empty():
    quantiles = Quantiles()
    values = np.array([0.0] * 50 + list(range(1, 40)) + [99.0] * 30)
    for part in np.array_split(values, 7):
        quantiles.add(part)
    edges = quantiles.edges(10)
    assert np.all(np.diff(edges) > 0)
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
    assert counts.min() > 0


def test_a_sample_of_quantiles_does_not_depend_on_batches_and_is_close():
    values = np.random.default_rng(1).normal(size=50_000)
    found = []
    for parts in (3, 500):
        quantiles = Quantiles(exact=5000)
        for part in np.array_split(values, parts):
            quantiles.add(part)
        found.append(quantiles.edges(4))
    assert found[0].tolist() == found[1].tolist()
    np.testing.assert_allclose(found[0], np.quantile(values, [0.25, 0.5, 0.75]), atol=0.05)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([True, False]),
        pa.array([1, 0], pa.int8()),
        pa.array([1.0, 0.0]),
        pa.array(["1", "0"]),
        pa.array(["True", "false"]),
        pa.array(["1", "0"]).dictionary_encode(),
    ],
)
def test_labels_are_read_from_many_types(values):
    labels = labels_of(values, "click")
    assert labels.tolist() == [1, 0]
    assert labels.dtype == np.float32


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (pa.array([1, 2]), "2"),
        (pa.array([0.0, 0.5]), "0.5"),
        (pa.array(["1", "yes"]), "'yes'"),
        (pa.array([1, None]), "null"),
        (pa.array([True, None]), "null"),
        (pa.array([1.0, math.nan]), "nan"),
        (pa.array(["0", "z" * 10_000_000]), "'zzz"),
        (pa.array([[0], [1]]).slice(0, 2), r"\[0\]"),
    ],
)
def test_any_other_label_is_refused_with_its_row(values, shown):
    row = 41 if pa.types.is_list(values.type) else 42
    with pytest.raises(DataError, match=f"label column 'click', row {row}: {shown}") as error:
        labels_of(values, "click", first_row=41)
    assert len(error.value.message) < 200


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan, None, 1e300])
def test_weights_that_are_not_positive_and_finite_are_refused(bad):
    assert weights_of(pa.array([1, 2.5]), "w").tolist() == [1, 2.5]
    with pytest.raises(DataError, match="weight column 'w', row 2"):
        weights_of(pa.array([1.0, bad]), "w")
