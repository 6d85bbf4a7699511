"""Lines in, lines out: JSON and CSV, and what is said of a line that is neither."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.config import resolve
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.validation import check, from_records
from appliedpapers.pipelines.stream import stream_lines
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig
from appliedpapers.plugins.imu_attitude.model import AttitudeEstimator

NAMES = ("time", *(f"acc_{axis}" for axis in "xyz"), *(f"gyr_{axis}" for axis in "xyz"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A model that needs no training: the gravity filter."""
    folder = tmp_path_factory.mktemp("models") / "filter"
    model = AttitudeEstimator(resolve(AttitudeConfig, assignments=["model.kind=filter", "filter.delay=0"]))
    save_bundle(model, folder, plugin="imu-attitude", task="attitude")
    return str(folder)


@pytest.fixture(scope="module")
def records():
    random = np.random.default_rng(0)
    values = random.normal(0, 0.1, (40, 6))
    values[:, 2] += 9.81
    return [
        {"time": n / 50, **dict(zip(NAMES[1:], row, strict=True))} for n, row in enumerate(values.tolist())
    ]


@pytest.fixture(scope="module")
def expected(bundle, records):
    model, _ = load_bundle(Path(bundle))
    table = from_records(records, model.input_schema)
    return model.predict(check(table, model.input_schema).table).to_pylist()


def as_json(records):
    return [json.dumps(record) + "\n" for record in records]


def as_csv(records, end="\n"):
    return [",".join(records[0]) + end, *(",".join(map(repr, record.values())) + end for record in records)]


def require_close(found, expected):
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        for name, value in two.items():
            given = float(one[name]) if isinstance(value, float) else one[name]
            assert given == pytest.approx(value, abs=1e-9), name


def plain(cells):
    """Return CSV cells as the values that they stand for."""
    words = {"true": True, "false": False}
    return {name: words.get(cell, cell) for name, cell in cells.items()} | {"trial": cells["trial"] or None}


def test_json_in_gives_json_out(bundle, records, expected):
    require_close([json.loads(line) for line in stream_lines(bundle, as_json(records))], expected)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_in_gives_csv_out(bundle, records, expected, end):
    lines = list(stream_lines(bundle, as_csv(records, end)))
    assert lines[0] == ",".join(expected[0])
    require_close([plain(row) for row in csv.DictReader(lines)], expected)


def test_csv_with_a_mark_in_front_blank_lines_and_columns_of_no_use(bundle, records, expected):
    lines = as_csv([record | {"note": "a, b"} for record in records])
    lines = [line.replace("'", '"') for line in lines]
    lines = ["\n", "\ufeff" + lines[0], "  \n", *lines[1:]]
    found = list(csv.DictReader(stream_lines(bundle, lines)))
    require_close([plain(row) for row in found], expected)


def test_csv_in_gives_json_where_it_is_asked_for(bundle, records, expected):
    found = [json.loads(line) for line in stream_lines(bundle, as_csv(records), as_json=True)]
    require_close(found, expected)


def test_an_answer_comes_before_the_next_line_is_read(bundle, records):
    read = []

    def lines():
        for line in as_csv(records):
            read.append(line)
            yield line

    answers = stream_lines(bundle, lines())
    next(answers)
    next(answers)
    assert len(read) == 2


def test_trials_that_take_turns_have_streams_of_their_own(bundle, records, expected):
    mixed = [record | {"trial": name} for record in records for name in ("a", "b")]
    for form in (as_json, lambda given: [line.replace("'", "") for line in as_csv(given)]):
        found = [json.loads(line) for line in stream_lines(bundle, form(mixed), as_json=True)]
        for name in ("a", "b"):
            own = [answer | {"trial": None} for answer in found if answer["trial"] == name]
            require_close(own, expected)


def test_units_are_those_that_are_said(bundle, records, expected):
    degrees = [
        {name: value * (57.29577951308232 if name[:3] == "gyr" else 1) for name, value in record.items()}
        for record in records
    ]
    lines = stream_lines(bundle, as_json(degrees), assignments=["data.gyr_unit=deg/s"])
    require_close([json.loads(line) for line in lines], expected)
    with pytest.raises(ConfigError, match="gyr_unit"):
        list(stream_lines(bundle, as_json(degrees), assignments=["data.gyr_unit=deg"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [lines[0].replace("gyr_y", "gry_y"), *lines[1:]], "line 1: .*CSV header with 'gyr_y'"),
        (lambda lines: ["time;acc_x\n", *lines[1:]], "line 1: .*CSV header with 'time'"),
        (lambda lines: [*lines[:4], "0.06,1,2\n"], "line 5: 3 cells"),
        (lambda lines: [*lines[:4], lines[4].replace("0.06,", "0.06,x", 1)], "line 5.*acc_x.*not a number"),
        (lambda lines: [*lines[:4], "0.06,,0,9.8,0,0,0\n"], "line 5.*acc_x.*missing"),
        (lambda lines: [*lines[:4], "0.06,nan,0,9.8,0,0,0\n"], "line 5.*acc_x.*missing"),
        (lambda lines: [*lines[:4], "0.06,inf,0,9.8,0,0,0\n"], "line 5.*acc_x.*infinity"),
        (lambda lines: [*lines[:4], lines[3]], "line 5: time 0.04 s is not after 0.04 s"),
        (lambda lines: [*lines[:4], '"0.06,0,0,9.8,0,0,0\n'], "line 5"),
    ],
    ids=range(9),
)
def test_a_broken_line_of_csv_is_named_after_the_answers_before_it(bundle, records, change, said):
    answers = []
    with pytest.raises(DataError, match=said) as caught:
        answers.extend(stream_lines(bundle, change(as_csv(records))))
    assert "\n" not in caught.value.message
    assert "row" not in caught.value.message
    assert ("gry_y" in caught.value.hint) == ("'gyr_y'" in said)
    assert len(answers) == (0 if "line 1" in said else 4)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 3: not JSON"),
        ("[1]", "line 3: not a JSON object"),
        ('{"time": 1}', "line 3.*acc_x"),
        ("0.1,2,3", "line 3: not"),
    ],
)
def test_a_broken_line_of_json_is_named(bundle, records, line, said):
    with pytest.raises(DataError, match=said):
        list(stream_lines(bundle, [*as_json(records[:2]), line]))


def test_nothing_in_gives_nothing_out(bundle):
    assert list(stream_lines(bundle, [])) == []
    assert list(stream_lines(bundle, [",".join(NAMES)])) == []
