"""Units, headers and the arithmetic of fertiliser, by cases worked by hand."""

from __future__ import annotations

import pytest

from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.plugins.agrosense.columns import colour_class, known_as, split_header
from appliedpapers.plugins.agrosense.crop.config import FertiliserConfig
from appliedpapers.plugins.agrosense.crop.fertiliser import (
    GRADES,
    Target,
    deficits,
    lime_note,
    nutrient_stock,
    plan,
    targets,
)
from appliedpapers.plugins.agrosense.units import convert, kg_per_ha, mg_per_kg, unit_named

OPTIONS = FertiliserConfig()
EXACT = FertiliserConfig(bag=0)


@pytest.mark.parametrize(
    ("value", "unit", "wanted", "expected"),
    [
        *((0.12, "%", "g/kg", 1.2), (1.2, "g/kg", "mg/kg", 1200), (77, "°F", "°C", 25)),
        *((10, "inch", "mm", 254), (0.82, "fraction", "%", 82), (5, "mg/kg", "mg/kg", 5)),
    ],
)
def test_units_turn_into_one_another(value, unit, wanted, expected):
    assert convert(value, unit, wanted, field="x") == pytest.approx(expected)


def test_stocks_need_density_and_depth():
    assert convert(20, "mg/kg", "kg/ha", field="P", density=1.3, depth=20) == pytest.approx(52.0, abs=0.01)
    with pytest.raises(DataError, match="P: mg/kg becomes kg/ha only with the bulk density"):
        convert(20, "mg/kg", "kg/ha", field="P")
    with pytest.raises(DataError, match="rain: °C cannot become mm"):
        convert(20, "°C", "mm", field="rain")


def test_a_stock_and_back():
    assert kg_per_ha(20, 1.3, 20) == pytest.approx(52.0)
    assert mg_per_kg(52, 1.3, 20) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("header", "name", "unit"),
    [
        *(("P (mg/kg)", "P", "mg/kg"), ("k_mg_per_kg", "k", "mg/kg"), ("Temp (C)", "Temp", "°C")),
        *(("rain [inch]", "rain", "inch"), ("humidity_pct", "humidity", "%"), ("N_ppm", "N", "mg/kg")),
    ],
)
def test_headers_say_name_and_unit(header, name, unit):
    found, text = split_header(header)
    assert (found, unit_named(text or "")) == (name, unit)


def test_headers_without_a_unit_stay_whole():
    assert split_header("\ufeffpH") == ("pH", None)
    assert known_as("Available P").name == "phosphorus"
    assert known_as("OC").unit == "%"
    assert known_as("colour of the tractor") is None


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        *(
            ("Yellowish brown", "yellow"),
            ("Redish", "redbrown"),
            ("dark gray", "gray"),
            ("Dark", "darkbrown"),
        ),
        *(("BLACK", "black"), ("Red", "red"), ("light brown", "brown"), ("sandy", "other")),
    ],
)
def test_spellings_of_colours_are_joined(text, colour):
    assert colour_class(text) == colour


def test_20_mg_per_kg_in_20_cm_of_density_1_3_are_52_kg_per_ha():
    assert nutrient_stock(20, "mg/kg", OPTIONS, "P") == pytest.approx(52.0, abs=0.01)
    assert nutrient_stock(0.002, "%", OPTIONS, "P") == pytest.approx(52.0, abs=0.01)
    assert nutrient_stock(52, "kg/ha", OPTIONS, "P") == 52


def test_an_unknown_unit_gives_no_recommendation_and_names_the_field():
    with pytest.raises(DataError, match="no recommendation: the unit of 'nitrogen' is not known"):
        nutrient_stock(90, None, OPTIONS, "nitrogen")


def test_products_for_120_60_40_are_what_a_hand_gets():
    found = plan([120, 60, 40], EXACT)
    assert found.rates == pytest.approx({"DAP": 130.43, "urea": 209.83, "MOP": 66.67}, abs=0.01)
    assert found.over == {}
    assert found.short == {}


def test_bags_are_whole_and_what_they_bring_too_much_is_said():
    found = plan([120, 60, 40], OPTIONS)
    assert found.bags == {"urea": 4, "DAP": 3, "MOP": 1}
    # 3 bags of DAP bring 69 kg P2O5, 60 were wanted; 1 bag of MOP brings 30 K2O of 40
    assert found.over == pytest.approx({"P2O5": 9.0})
    assert found.short == pytest.approx({"N": 120 - (4 * 50 * 0.46 + 3 * 50 * 0.18), "K2O": 10.0})


def test_a_nutrient_that_no_product_brings_is_called_lacking():
    found = plan([100, 0, 50], FertiliserConfig(products=("urea",), bag=0))
    assert found.rates["urea"] == pytest.approx(100 / 0.46)
    assert found.short == pytest.approx({"K2O": 50})
    assert plan([0, 0, 0], EXACT).rates == {}


def test_the_lightest_plan_is_taken_where_several_meet_the_demand():
    found = plan([0, 0, 60], FertiliserConfig(products=("SOP", "MOP"), bag=0))
    assert found.rates == pytest.approx({"MOP": 100})
    assert set(GRADES) == {"urea", "DAP", "TSP", "SSP", "MOP", "SOP", "CAN", "NPK"}


def test_unknown_products_are_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"fertiliser\.products") as caught:
        plan([1, 1, 1], FertiliserConfig(products=("ureaa",)))
    assert "urea" in (caught.value.hint or "")


def test_a_deficit_is_uptake_less_what_the_soil_gives():
    target = Target("maize", 6, 130, 55, 110, "a table")
    tests = {"P": (10.0, "mg/kg", "phosphorus"), "K": (500.0, "mg/kg", "potassium")}
    phosphorus, potassium = deficits(tests, target, OPTIONS)
    # 10 mg/kg are 26 kg/ha P, 59.58 P2O5, of which 0.3 are available
    assert phosphorus.stock == pytest.approx(26 / 0.4364, abs=0.01)
    assert phosphorus.missing == pytest.approx(55 - 0.3 * 26 / 0.4364, abs=0.01)
    assert potassium.missing == 0
    assert all("a table" in one.source for one in (phosphorus, potassium))


def test_acid_soil_gets_a_note_on_lime():
    assert "5.1" in (lime_note(5.1) or "")
    assert lime_note(5.5) is None
    assert lime_note(None) is None


def test_shipped_targets_say_that_they_illustrate_and_own_ones_need_a_source(tmp_path):
    assert all("illustrative" in one.source for one in targets(None).values())
    path = tmp_path / "targets.csv"
    path.write_text("crop,yield,n,p2o5,k2o,source\nrice,5,100,46,110,our station 2020\n")
    assert targets(str(path))["rice"].n == 100
    path.write_text("crop,yield,n,p2o5,k2o,source\nrice,5,100,46,110,\n")
    with pytest.raises(DataError, match="row 1: no source"):
        targets(str(path))
    path.write_text("crop,yield,n,p2o5,k2o,source\nrice,5,much,46,110,x\n")
    with pytest.raises(DataError, match="column 'n', row 1"):
        targets(str(path))
    with pytest.raises(DataError, match="no such file"):
        targets(str(tmp_path / "absent.csv"))
