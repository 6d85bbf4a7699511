"""One row typed in by hand: read as the plugin reads files, answered in words, refused in one line."""

from __future__ import annotations

import json

import pytest

from appliedpapers.core.bundle import save_bundle
from appliedpapers.core.config import resolve_config
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.model import FitContext
from appliedpapers.core.plugin import find
from appliedpapers.pipelines.predict_values import parse_values, predict_values


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """The bundle of a crop recommender of a few simulated fields."""
    folder = tmp_path_factory.mktemp("values")
    config = resolve_config(
        "agrosense", task="crop", preset="check", assignments=["model.family=gaussian-nb"]
    )
    task = find("agrosense").task("crop")
    dataset = task.load("datasets").simulated(config)
    fitted = task.load("model")(config).fit(dataset.train, dataset.valid, FitContext(folder / "fit"))
    save_bundle(fitted, folder / "model", plugin="agrosense", task="crop")
    return str(folder / "model")


def test_words_become_a_row():
    assert parse_values(["ph=6.5", "P = 20 mg/kg", "note=a=b"]) == {
        **{"ph": "6.5", "P": "20 mg/kg", "note": "a=b"}
    }
    for words in (["ph"], ["=6.5"], ["ph=6", "ph=7"]):
        with pytest.raises(ConfigError, match="--value"):
            parse_values(words)


def test_a_row_is_read_with_the_words_and_units_of_the_plugin(model):
    values = {"pH": "6.5", "Temp": "77 °F", "P": "20 mg/kg", "rain": "900"}
    answer = predict_values(model, values)[0]
    assert answer.table.num_rows == 1
    assert "why (parts of the logit of the first crop)" in answer.text
    assert "25 °C" in answer.text or "temperature" in answer.text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ph": "65"}, "column 'ph', row 1: 65.0 is above 14"),
        ({"rainfall": "-5"}, "column 'rainfall', row 1: -5.0 is below 0 mm"),
        ({"ph": "acid"}, "column 'ph', row 1: expected a number, not 'acid'"),
        ({"ph": "6.5", "tractor": "3"}, "no input is called 'tractor'"),
        ({"humidity": "0.82"}, "looks like a share of 1"),
    ],
)
def test_what_cannot_be_is_named(model, values, said):
    with pytest.raises(DataError) as caught:
        predict_values(model, values)
    assert said in caught.value.message
    assert caught.value.hint


def test_the_command_prints_words_or_json_and_wants_one_kind_of_input(model, apps):
    done = apps("predict", model, "--value", "ph=6.5", "--value", "rainfall=900")
    assert done.code == 0
    assert done.out.startswith("crop")
    done = apps("predict", model, "--value", "ph=6.5", "--json")
    rows = next(iter(json.loads(done.out).values()))
    assert rows[0]["crop_1"]
    refused = apps("predict", model)
    assert refused.code == 2
    assert "either --input or --value" in refused.err
