"""Headers as people write them."""

import pytest

from appliedpapers.core.headers import axes, match, unit_called, unit_in, words_of


@pytest.mark.parametrize(
    ("name", "words", "unit"),
    [
        ("Tc [°C]", ("tc",), "°C"),
        ("BidPrice Höhe (mm)", ("bid", "price", "hohe"), "mm"),
        ("unit_number", ("unit", "number"), None),
        ("", (), None),
    ],
)
def test_a_header_is_its_words_and_its_unit(name, words, unit):
    assert words_of(name) == words
    assert unit_in(name) == unit


def test_columns_are_told_by_words_and_units_and_stand_for_one_thing_each():
    names = ["DUT", "Tc [°C]", "If [mA]", "Stunden [h]", "Popt [%]"]
    meanings = ["device", "time", "value", "temperature", "current", "voltage"]
    assert match(names, meanings) == {
        "device": "DUT",
        "temperature": "Tc [°C]",
        "current": "If [mA]",
        "time": "Stunden [h]",
        "value": "Popt [%]",
    }
    assert match(["Value 1", "value"], ["y"]) == {"y": "value"}
    assert match(["x"], meanings) == {}


def test_a_vector_has_one_column_an_axis():
    names = ["Acc Z (g)", "Acc X (g)", "Acc Y (g)", "Gyro X (dps)", "gyro_y", "gyro_y2"]
    assert axes(names, "acc") == ("Acc X (g)", "Acc Y (g)", "Acc Z (g)")
    assert axes(names, "gyr") is None


@pytest.mark.parametrize(
    ("unit", "choices", "chosen"),
    [
        ("dps", ("rad/s", "deg/s"), "deg/s"),
        ("MA", ("ratio", "mA", "A"), "mA"),
        ("%", ("ratio", "percent"), "percent"),
        ("°C", ("C", "K"), "C"),
        ("furlong", ("m", "km"), None),
    ],
)
def test_a_unit_is_one_of_the_choices(unit, choices, chosen):
    assert unit_called(unit, choices) == chosen
