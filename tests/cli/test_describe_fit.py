"""``apps data describe FILE --for ID``: whether a file fits, and the options that make it fit."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("workspace")


@pytest.fixture
def lasers():
    lines = [
        f"{device};{hour};{str(100 - 0.01 * device * hour).replace('.', ',')};{80 + device % 2};30"
        for device in range(8)
        for hour in range(0, 60, 10)
    ]
    Path("test.csv").write_text("DUT;Dauer [h];Popt [%];Tc [°C];If [mA]\n" + "\n".join(lines), "cp1252")
    return "test.csv"


def test_a_file_that_fits_gets_its_options_and_commands_that_are_ready(apps, lasers):
    outcome = apps("data", "describe", lasers, "--for", "laser-cvae")
    assert outcome.code == 0
    for said in ("Windows-1252", "decimal points", "begins near 100", "8 devices in 2 conditions"):
        assert said in outcome.out
    audit = next(line for line in outcome.out.splitlines() if "apps data audit" in line)
    words = shlex.split(audit)
    words = words[words.index("apps") + 1 :]
    assert '{device: DUT, time: "Dauer [h]", value: "Popt [%]"' in audit
    assert apps(*words).code == 0


def test_what_was_found_as_json(apps, lasers):
    found = json.loads(apps("data", "describe", lasers, "--for", "laser-cvae", "--json").out)
    assert found["fits"] is True
    assert found["renamed"]["If [mA]"] == "current"
    assert "data.current_unit=mA" in found["options"]
    assert "data.value_unit=absolute" in found["options"]
    assert found["next"][1].startswith("apps run laser-cvae --data test.csv --columns ")
    assert found["missing"] == ["voltage", "power", "batch", "horizon", "failure_time"]


def test_options_that_were_given_stay(apps, lasers):
    words = ("data", "describe", lasers, "--for", "laser-cvae", "--set", "data.value_unit=percent", "--json")
    found = json.loads(apps(*words).out)
    assert "data.value_unit=absolute" not in found["options"]
    assert found["next"][0].endswith("--set data.value_unit=percent")


def test_a_wide_table_needs_its_dates_named_alone(apps):
    rows = [f"{day:02d}.01.2024;{day},5;{2 * day},0" for day in range(1, 29)]
    Path("sales.csv").write_text("Datum;Nord;Süd\n" + "\n".join(rows))
    found = json.loads(apps("data", "describe", "sales.csv", "--for", "frets", "--json").out)
    assert found["options"] == ["--set", "data.columns.ds=Datum"]
    assert found["renamed"] == {"Datum": "ds"}
    assert found["missing"] == []


def test_a_table_whose_task_is_not_named_gets_the_task_and_the_label(apps):
    lines = [f"{k % 3};{5 + k % 7},{k % 10};{100 + 9 * k % 80};Hof {k % 5}" for k in range(60)]
    Path("fields.csv").write_text("Kultur;pH-Wert;Niederschlag (mm);Betrieb\n" + "\n".join(lines))
    outcome = apps("data", "describe", "fields.csv", "--for", "agrosense")
    assert outcome.code == 0
    assert "apps run agrosense --task crop --data fields.csv" in outcome.out
    assert "--label Kultur" in outcome.out
    assert "--group-column Betrieb" in outcome.out


def test_units_of_a_vector_come_from_its_headers(apps):
    Path("logs").mkdir()
    head = "t_ms,Acc X (g),Acc Y (g),Acc Z (g),Gyro X (dps),Gyro Y (dps),Gyro Z (dps)\n"
    for trial in range(3):
        rows = [f"{10 * k},{0.001 * math.sin(k)},0.0,1.0,0.1,0.0,0.0" for k in range(300)]
        Path(f"logs/{trial}.csv").write_text(head + "\n".join(rows))
    found = json.loads(apps("data", "describe", "logs", "--for", "imu-attitude", "--json").out)
    assert found["fits"] is True
    assert {"data.acc_unit=g", "data.gyr_unit=deg/s"} <= set(found["options"])


@pytest.mark.parametrize(
    ("content", "plugin", "said"),
    [
        ("a,b\n1,2\n", "laser-cvae", "column 'time' is missing"),
        ("", "frets", "empty"),
        ("a,b\nx,2\n", "agrosense", "no task of agrosense takes it"),
    ],
)
def test_a_file_that_does_not_fit_is_exit_4_with_the_reason(apps, content, plugin, said):
    Path("x.csv").write_text(content)
    outcome = apps("data", "describe", "x.csv", "--for", plugin)
    assert outcome.code == 4
    assert said in outcome.out
    assert plugin != "agrosense" or "\n   crop: " in outcome.out  # a line for each task that refused it
    found = apps("data", "describe", "x.csv", "--for", plugin, "--json")
    assert found.code == 4
    assert json.loads(found.out)["fits"] is False


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--for", "frets"), 2, "give the file once"),
        (("absent.csv", "--for", "frets"), 4, "no such file"),
        (("absent.csv",), 4, "no such file"),
        (("absent.csv", "--freq", "D"), 2, "no option is called '--freq'"),
        (("absent.csv", "--for", "fretz"), 3, "fretz"),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(apps, words, code, said):
    outcome = apps("data", "describe", *words)
    assert (outcome.code, outcome.out) == (code, "")
    assert said in outcome.first


def test_why_a_file_fits_another_task_than_the_first_is_said(apps):
    rows = [f"{'maize' if n % 2 else 'rice'},{'abc' if n == 3 else n % 7},{n % 5 + 0.5}" for n in range(40)]
    Path("fields.csv").write_text("crop,pH,total nitrogen (g/kg)\n" + "\n".join(rows) + "\n")
    found = json.loads(apps("data", "describe", "fields.csv", "--for", "agrosense", "--json").out)
    said = found["hint"] if not found["fits"] else " ".join(found["look"])
    assert "column 'pH', row 4: expected a number, not 'abc'" in said


def test_a_table_without_clicks_is_pointed_to_other_plugins(apps):
    Path("test.csv").write_text("device,time,value\na,0,1.0\na,5,0.9\n")
    outcome = apps("data", "describe", "test.csv")
    assert outcome.code == 2
    assert "For another plugin: --for ID." in outcome.err
