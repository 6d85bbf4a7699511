"""A stream gives the numbers of ``predict`` row by row: in all units, with a compass, with bad rows."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from attitude_machines import estimator, simulated

from appliedpapers.core.config import resolve
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.validation import check
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig, DataConfig
from appliedpapers.plugins.imu_attitude.rotations import conjugate, rotate
from appliedpapers.plugins.imu_attitude.units import acc_from_si, gyr_from_si


def table_of(recording, data=None, mag=False):
    data = data or DataConfig()
    acc, gyr = acc_from_si(recording.acc, data), gyr_from_si(recording.gyr, data)
    columns = {"trial": [recording.trial] * len(recording), "time": recording.time}
    for kind, values in (("acc", acc), ("gyr", gyr)):
        columns |= {f"{kind}_{axis}": values[:, n].copy() for n, axis in enumerate("xyz")}
    if mag:
        seen = rotate(conjugate(recording.reference), [0.0, 20.0, -44.0])
        seen = seen + np.random.default_rng(2).normal(0, 0.3, seen.shape)
        columns |= {f"mag_{axis}": seen[:, n] for n, axis in enumerate("xyz")}
    return columns


def both(model, columns, *, moved_at=None):
    """Return what ``predict`` and a stream answer, the stream moved to another process on the way."""
    table = check(pa.table(columns), model.input_schema).require_clean()
    expected = model.predict(table).to_pylist()
    stream, found = model.stream(), []
    for number, record in enumerate(table.to_pylist()):
        if number == moved_at:
            stream = model.stream(stream.state())
        found += stream.step(record)
    return expected, found


def require_same(expected, found):
    assert len(expected) == len(found)
    for one, two in zip(expected, found, strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            if isinstance(value, float) and name != "time":
                # degrees or parts of a unit; float32 inside the network
                assert two[name] == pytest.approx(value, rel=0, abs=1e-3), name
            else:
                assert two[name] == value, name


@pytest.mark.parametrize("kind", ["filter", "residual"])
@pytest.mark.parametrize(
    "said",
    [
        {},
        {"acc_unit": "g", "gyr_unit": "deg/s", "acc_sign": "gravity", "frame": "NED"},
        {"acc_unit": "mg"},
    ],
    ids=str,
)
@pytest.mark.parametrize("mag", [False, True])
def test_a_stream_equals_the_table_in_any_units_also_when_moved(kind, said, mag):
    recording = simulated(seconds=3.0)
    model = estimator(f"model.kind={kind}", "model.seconds=1")
    assignments = [f"data.{name}={value}" for name, value in said.items()]
    model.read_as(resolve(AttitudeConfig, assignments=assignments))
    columns = table_of(recording, DataConfig(**said), mag)
    expected, found = both(model, columns, moved_at=len(recording) // 2 + 1)
    require_same(expected, found)
    assert any(record["heading_observable"] for record in found) == mag


@pytest.mark.parametrize("moved_at", [1, 40, 131])
def test_bad_rows_are_skipped_alike(moved_at):
    columns = table_of(simulated(seconds=3.0), mag=True)
    columns["acc_x"][[0, *range(30, 45), 130]] = math.nan
    columns["gyr_z"][50] = math.inf
    columns["time"][60:63] = columns["time"][59]
    columns["time"][70] = math.nan
    columns["time"][80] = 1e300
    for axis in "xyz":
        columns[f"mag_{axis}"][:20] = math.nan
        columns[f"mag_{axis}"][100] = 1e300
    expected, found = both(estimator("data.on_bad=skip"), columns, moved_at=moved_at)
    require_same(expected, found)
    assert sum(record["flags"] == "skipped" for record in found) == 1 + 15 + 1 + 3 + 1 + 1 + 1


@pytest.mark.parametrize("moved_at", [None, 151, 152])
def test_gaps_and_clipping_are_flagged_alike(moved_at):
    columns = table_of(simulated(seconds=3.0))
    columns["time"][100:] += 2.0
    columns["acc_x"][150:153] = 16 * 9.81
    columns["gyr_y"][200:203] = -35.0
    expected, found = both(estimator(), columns, moved_at=moved_at)
    require_same(expected, found)
    flags = [record["flags"] for record in found]
    assert (flags[100], flags[151], flags[152]) == ("gap", "acc-clipped", "acc-clipped")
    assert "gyr-clipped" in flags[201]


def test_samples_are_counted_where_none_has_a_stamp():
    columns = table_of(simulated(seconds=2.0))
    model = estimator("data.fs=100")
    without = {name: values for name, values in columns.items() if name != "time"}
    require_same(*both(model, without, moved_at=60))
    mixed = estimator("data.fs=100", "data.on_bad=skip")
    columns["time"][50:60] = math.nan
    require_same(*both(mixed, columns, moved_at=55))


def test_a_stream_refuses_a_stamp_that_does_not_grow_and_stands_where_it_stood():
    model = estimator("model.kind=filter")
    records = pa.table(table_of(simulated(seconds=2.0))).to_pylist()
    stream = model.stream()
    for record in records[:10]:
        stream.step(record)
    with pytest.raises(DataError, match=r"time 0\.\d+ s is not after 0\.\d+ s") as caught:
        stream.step(records[3])
    assert "data.on_bad=skip" in caught.value.hint
    found = stream.step(records[10])
    assert found == model.predict(pa.Table.from_pylist(records[:11])).slice(10).to_pylist()


def test_the_state_is_small_and_plain():
    stream = estimator().stream()
    for record in pa.table(table_of(simulated(seconds=3.0))).to_pylist():
        stream.step(record)
    state = stream.state()
    header = int.from_bytes(state[:8], "little")
    assert "stream" in json.loads(state[8 : 8 + header])
    assert len(state) < 40_000


def test_the_models_of_the_paper_do_not_stream():
    model = estimator("model.kind=paper-a")
    assert not model.streams
    with pytest.raises(ConfigError, match="paper-a does not stream"):
        model.stream()


def test_a_server_streams_it_over_a_websocket(tmp_path):
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from appliedpapers.core.bundle import BundleInfo
    from appliedpapers.pipelines.serve import ServedModel, ServeSettings, create_app

    model = estimator("model.kind=filter")
    schemas = model.input_schema, model.output_schema
    info = BundleInfo("imu-attitude", "attitude", model.config.model_dump(mode="json"), {}, *schemas, {})
    table = pa.table(table_of(simulated(seconds=2.0))).slice(0, 60)
    served = ServedModel("apps.imu-attitude", "1", model, info, "attitude", table.slice(0, 5))
    settings = ServeSettings(port=0, state_folder=tmp_path, shutdown_grace_s=1)
    sent, found, state = table.to_pylist(), [], None
    with TestClient(create_app([served], settings), base_url="http://localhost") as made:
        for half in (sent[:31], sent[31:]):
            with made.websocket_connect("ws://localhost/v2/streams") as socket:
                if state is not None:
                    socket.send_text(json.dumps({"open": {"state": state}}))
                    assert json.loads(socket.receive_text()) == {"records": []}
                for record in half:
                    socket.send_text(json.dumps(record))
                    answer = json.loads(socket.receive_text())
                    found += answer["records"]
                    state = answer["state"]
                socket.send_text(json.dumps(half[0]))
                assert "is not after" in json.loads(socket.receive_text())["problem"]["detail"]
    require_same(model.predict(table).to_pylist(), found)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ({"acc_y": 1e30}, r"a reading of 9\.81e\+30 m/s2 is beyond|a reading of 1e\+30 m/s2 is beyond"),
        ({"gyr_z": None}, "the reading is missing"),
        ({"time": None}, "no time"),
        ({"time": 1e300}, "is beyond"),
    ],
    ids=str,
)
def test_a_bad_sample_is_refused_for_what_is_bad_about_it(cell, said):
    model = estimator("model.kind=filter")
    records = pa.table(table_of(simulated(seconds=2.0))).to_pylist()
    stream = model.stream()
    stream.step(records[0])
    with pytest.raises(DataError, match=said) as caught:
        stream.step(records[1] | cell)
    assert "is not after" not in caught.value.message
    with pytest.raises(DataError, match=said):
        model.predict(pa.Table.from_pylist([*records[:5], records[5] | cell, *records[6:40]]))
