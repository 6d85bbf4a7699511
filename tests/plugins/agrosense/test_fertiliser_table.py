"""Fertiliser of many fields: the same arithmetic as of one, and what is said where there is none."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from appliedpapers.plugins.agrosense.columns import Feature
from appliedpapers.plugins.agrosense.crop.config import FertiliserConfig
from appliedpapers.plugins.agrosense.crop.fertiliser import GRADES, deficits, plan, targets
from appliedpapers.plugins.agrosense.crop.fertiliser_table import COLUMNS, fertiliser_columns, products_for


def feature(name, unit, nutrient):
    return Feature(name, "number", unit, 0, None, (), "test", nutrient)


FEATURES = (feature("nitrogen", "mg/kg", "N"), feature("p", "mg/kg", "P"), feature("k", "mg/kg", "K"))
TABLE = pa.table({"nitrogen": [20.0, 20.0, None], "p": [5.0, 900.0, None], "k": [60.0, None, None]})


def told(crops, features=FEATURES, **options):
    found = fertiliser_columns(TABLE, features, crops, FertiliserConfig(**options))
    assert set(found) == {column.name for column in COLUMNS}
    return {name: column.to_pylist() for name, column in found.items()}


def test_a_demand_of_120_60_40_is_met_as_by_hand():
    rates = products_for(np.array([[120.0, 60.0, 40.0]]), FertiliserConfig())
    np.testing.assert_allclose(rates, [[209.83, 130.43, 66.67]], atol=0.01)


@given(
    arrays(np.float64, (4, 3), elements=st.floats(0, 500)),
    st.sets(st.sampled_from(sorted(GRADES)), min_size=1),
)
def test_many_plans_are_the_plans_of_one(demand, products):
    options = FertiliserConfig(products=tuple(sorted(products)), bag=0)
    rates = products_for(demand, options)
    grades = np.array([GRADES[name] for name in options.products]).T / 100
    for wanted, row in zip(demand, rates, strict=True):
        one = plan(wanted, options)
        single = np.array([one.rates.get(name, 0.0) for name in options.products])
        assert row.sum() == pytest.approx(single.sum(), abs=1e-2, rel=1e-4)
        np.testing.assert_allclose(grades @ row, grades @ single, atol=1e-2, rtol=1e-4)


def test_what_rows_lack_is_what_one_field_lacks():
    crop = next(iter(targets(None)))
    found = told([crop, crop, None])
    tests = {"N": (20.0, "mg/kg", "nitrogen"), "P": (5.0, "mg/kg", "p"), "K": (60.0, "mg/kg", "k")}
    by_hand = {one.nutrient: one.missing for one in deficits(tests, targets(None)[crop], FertiliserConfig())}
    for name in ("N", "P2O5", "K2O"):
        assert found[f"lacks_{name.lower()}"][0] == pytest.approx(by_hand[name])
    assert found["lacks_p2o5"][1] == 0.0
    assert found["lacks_k2o"][1] is None
    assert "not measured: K2O" in found["fertiliser"][1]
    assert [found[name][2] for name in found] == [None, None, None, ""]


def test_why_there_is_no_fertiliser_is_said():
    crop = next(iter(targets(None)))
    unknown = [feature("nitrogen", None, "N"), *FEATURES[1:2]]
    assert told(["dragonfruit"] * 3)["fertiliser"][0].startswith("no recommendation: no uptake figures")
    assert "no soil test" in told([crop] * 3)["fertiliser"][2]
    found = told([crop] * 3, features=unknown[:1])
    assert "unit of 'nitrogen' is not known" in found["fertiliser"][0]
    assert found["lacks_n"] == [None, None, None]
