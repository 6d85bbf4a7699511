"""Files of users: long and wide, units, conditions, and what is refused with row and column."""

from __future__ import annotations

import numpy as np
import pytest
from small_ageing import config

from appliedpapers.core.config import resolve
from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.plugins.laser_cvae.config import LaserConfig
from appliedpapers.plugins.laser_cvae.data import DATASETS
from appliedpapers.plugins.laser_cvae.readers import read_user

HOURS = (0, 50, 100, 200, 400)


def rows_of(devices=12, **changes):
    rng = np.random.default_rng(0)
    lines = []
    for number in range(devices):
        for hour in HOURS:
            value = 1 - (0.0001 + 0.0001 * (number % 12)) * hour + 0.001 * rng.normal()
            row = {
                "device": f"L{number}",
                "time": hour,
                "value": value,
                "temperature": 50 + 35 * (number % 2),
            }
            lines.append({**row, "current": 1.0})
    for place, change in changes.items():
        lines[int(place.removeprefix("row"))].update(change)
    return lines


def write(path, rows):
    names = list(rows[0])
    text = [",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def read(tmp_path, rows, *settings):
    return read_user(write(tmp_path / "test.csv", rows), config(*settings).data)


def test_a_long_file_is_read_with_its_conditions(tmp_path):
    devices, notes = read(tmp_path, rows_of())
    assert len(devices) == 12
    assert notes == ()
    assert sorted(set(devices.cells())) == ["50 C, 1 x", "85 C, 1 x"]
    assert (devices.horizon == 400).all()
    assert devices.damage[3, -1] == pytest.approx(-np.log(rows_of()[3 * 5 + 4]["value"]))


def test_rows_in_any_order_are_the_same_devices(tmp_path):
    rows = rows_of()
    mixed = [rows[place] for place in np.random.default_rng(1).permutation(len(rows))]
    one, other = read(tmp_path, rows)[0], read(tmp_path, mixed)[0]
    order = [other.names.index(name) for name in one.names]
    np.testing.assert_array_equal(one.damage, other.damage[order])


def test_minutes_kelvin_and_milliampere_say_the_same(tmp_path):
    rows = rows_of()
    usual = read(tmp_path, rows)[0]
    for row in rows:
        row.update(time=60 * row["time"], temperature=row["temperature"] + 273.15, current=30)
    units = ("time_unit=min", "temperature_unit=K", "current_unit=mA", "reference_current=30")
    other = read(tmp_path, rows, *(f"data.{unit}" for unit in units))[0]
    np.testing.assert_allclose(other.hours, usual.hours)
    np.testing.assert_allclose(other.conditions, usual.conditions, atol=1e-9)


def test_milliwatts_are_relative_to_the_first_three_readings(tmp_path):
    rows = rows_of()
    for row in rows:
        row["value"] *= 9.5
    devices = read(tmp_path, rows, "data.value_unit=absolute")[0]
    own = np.array([row["value"] for row in rows[:5]])
    np.testing.assert_allclose(devices.damage[0], -np.log(own / own[:3].mean()))


def test_a_column_that_stands_twice_is_named(tmp_path):
    path = tmp_path / "twice.csv"
    path.write_text("device,time,value,temperature,temperature\nL1,0,1,80,80\n")
    with pytest.raises(DataError, match=r"twice\.csv: column 'temperature' occurs twice"):
        read_user(path, config().data)


def test_a_run_in_is_skipped(tmp_path):
    devices = read(tmp_path, rows_of(), "data.skip=50")[0]
    assert (devices.counts == 4).all()
    assert (devices.hours[:, 0] == 0).all()


def test_heat_of_the_junction_raises_its_temperature(tmp_path):
    rows = [{**row, "voltage": 2.0, "power": 0.5} for row in rows_of()]
    cold = read(tmp_path, rows)[0]
    warm = read(tmp_path, rows, "data.thermal_resistance=10", "data.current_unit=A")[0]
    kelvin = 1 / (8.617e-5 * warm.conditions[:, 0]) - 1 / (8.617e-5 * cold.conditions[:, 0])
    np.testing.assert_allclose(kelvin, 15.0, atol=1e-6)


def test_a_wide_file_takes_its_conditions_from_a_table_beside_it(tmp_path):
    rows = rows_of()
    names = sorted({row["device"] for row in rows})
    lines = ["time," + ",".join(names)]
    for hour in HOURS:
        cells = {row["device"]: row["value"] for row in rows if row["time"] == hour}
        # one reading was not taken
        lines.append(f"{hour}," + ",".join("" if (n, hour) == ("L3", 100) else str(cells[n]) for n in names))
    (tmp_path / "wide.csv").write_text("\n".join(lines) + "\n")
    beside = ["device,temperature,current", *(f"{name},80,1.2" for name in names)]
    (tmp_path / "conditions.csv").write_text("\n".join(beside) + "\n")
    devices, _ = read_user(tmp_path / "wide.csv", config("data.conditions=conditions.csv").data)
    assert set(devices.cells()) == {"80 C, 1.2 x"}
    assert devices.counts[devices.names.index("L3")] == 4
    (tmp_path / "conditions.csv").write_text("\n".join(beside[:-1]) + "\n")
    with pytest.raises(DataError, match="no condition of device 'L9'"):
        read_user(tmp_path / "wide.csv", config("data.conditions=conditions.csv").data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": -0.2}, "no positive power"),
        ({"value": 0}, "no positive power"),
        ({"value": "nan"}, "missing or not finite"),
        ({"value": ""}, "missing or not finite"),
        ({"value": "good"}, "not a number"),
        ({"time": 50}, "stands twice"),
        ({"time": -5}, "negative"),
        ({"temperature": 60}, "changes from"),
    ],
)
def test_a_bad_reading_is_refused_with_its_row(tmp_path, change, words):
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, rows_of(row7=change))
    assert "test.csv" in caught.value.message
    assert caught.value.hint


def test_short_and_constant_devices_are_said(tmp_path):
    rows = [row for row in rows_of() if row["device"] != "L2" or row["time"] < 100]
    devices, notes = read(tmp_path, rows)
    assert len(devices) == 11
    assert "fewer than four readings" in notes[0]
    with pytest.raises(DataError, match="constant over its whole test"):
        read(tmp_path, [{**row, "value": 1.0} for row in rows_of()])
    with pytest.raises(DataError, match="6 needed"):
        read(tmp_path, rows_of(devices=3))


def test_a_missing_column_and_an_unknown_unit_are_named(tmp_path):
    rows = [{name: value for name, value in row.items() if name != "time"} for row in rows_of()]
    with pytest.raises(DataError, match="'time' is missing"):
        read(tmp_path, rows)
    with pytest.raises(ConfigError, match="time_unit"):
        resolve(LaserConfig, assignments=["data.time_unit=fortnight"])
    with pytest.raises(ConfigError, match="criterion"):
        resolve(LaserConfig, assignments=["data.mode=CP", "data.criterion=0.8"])


def test_own_devices_are_dealt_by_condition_and_failure(tmp_path):
    path = write(tmp_path / "test.csv", rows_of(devices=40))
    dataset = DATASETS.from_user(path, config())
    sizes = [part.num_rows for part in (dataset.train, dataset.valid, dataset.test)]
    assert sum(sizes) == 40
    assert abs(sizes[2] - 10) <= 2
    assert leakage_audit(dataset) == []
    cells = [set(part.devices.cells()) for part in (dataset.train, dataset.valid, dataset.test)]
    assert all(len(one) == 2 for one in cells)
