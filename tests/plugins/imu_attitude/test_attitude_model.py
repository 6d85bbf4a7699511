"""The estimator on tables: units, order, bad rows, flags, and never NaN."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from attitude_machines import estimator, simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.config import resolve
from appliedpapers.core.errors import DataError, UnusableGroups
from appliedpapers.core.inference import predict_all
from appliedpapers.core.model import FitContext
from appliedpapers.core.tables import write_table
from appliedpapers.core.validation import check
from appliedpapers.pipelines.predict import predict_file
from appliedpapers.pipelines.score import score_run
from appliedpapers.plugins.imu_attitude import residual_choice
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig, DataConfig
from appliedpapers.plugins.imu_attitude.data import DATASETS
from appliedpapers.plugins.imu_attitude.model import AttitudeEstimator
from appliedpapers.plugins.imu_attitude.samples import MOST_ACC, MOST_GYR
from appliedpapers.plugins.imu_attitude.units import acc_from_si, gyr_from_si

UP = ("up_x", "up_y", "up_z")


def table_of(recording, data=None, **extra):
    data = data or DataConfig()
    acc, gyr = acc_from_si(recording.acc, data), gyr_from_si(recording.gyr, data)
    columns = {"trial": [recording.trial] * len(recording), "time": recording.time}
    columns |= {f"acc_{axis}": acc[:, n] for n, axis in enumerate("xyz")}
    columns |= {f"gyr_{axis}": gyr[:, n] for n, axis in enumerate("xyz")}
    return pa.table(columns | extra)


def still(count=300, fs=100.0):
    """Return the columns of a sensor that lies still, with a little noise."""
    random = np.random.default_rng(0)
    acc = np.array([0.0, 0.0, 9.81]) + random.normal(0, 0.05, (count, 3))
    gyr = random.normal(0, 0.002, (count, 3))
    columns = {"time": np.arange(count) / fs}
    columns |= {f"acc_{axis}": acc[:, n] for n, axis in enumerate("xyz")}
    return columns | {f"gyr_{axis}": gyr[:, n] for n, axis in enumerate("xyz")}


def predicted(model, table):
    if isinstance(table, dict):
        table = pa.table(table)
    return predict_all(model, check(table, model.input_schema).require_clean())


def plain(*assignments):
    return estimator("model.kind=filter", *assignments)


def up(answer):
    return np.stack([answer[name].to_numpy() for name in UP], axis=1)


def finite(answer):
    return all(
        np.isfinite(answer[name].to_numpy()).all()
        for name in answer.column_names
        if pa.types.is_floating(answer.schema.field(name).type) and name != "time"
    )


# Units and order.


@pytest.mark.parametrize("kind", ["filter", "residual"])
@pytest.mark.parametrize(
    "said",
    [
        {"acc_unit": "g", "gyr_unit": "deg/s"},
        {"acc_unit": "mg", "acc_sign": "gravity"},
        {"frame": "NED", "quat_order": "xyzw"},
        {"acc_unit": "g", "gyr_unit": "deg/s", "acc_sign": "gravity", "frame": "NED"},
    ],
    ids=str,
)
def test_units_signs_and_frames_give_the_same_up(kind, said):
    recording = simulated(seconds=4.0)
    model = estimator(f"model.kind={kind}")
    expected = predicted(model, table_of(recording))
    model.read_as(
        resolve(AttitudeConfig, assignments=[f"data.{name}={value}" for name, value in said.items()])
    )
    found = predicted(model, table_of(recording, DataConfig(**said)))
    # float32 inside the network sees the last place of the inputs
    np.testing.assert_allclose(up(found), up(expected), rtol=0, atol=1e-9 if kind == "filter" else 1e-6)
    for name in ("inclination_sd", "bias_x", "flags"):
        assert found[name].to_pylist() == pytest.approx(expected[name].to_pylist(), abs=1e-6)
    if said.get("frame") == "NED":
        quaternion = np.stack([found[f"q{part}"].to_numpy() for part in "wxyz"], axis=1)
        w, x, y, z = quaternion.T
        down = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1)
        np.testing.assert_allclose(down, -up(found), atol=1e-9)


def test_units_of_a_batch_are_said_as_those_of_a_file_are(tmp_path):
    bundle, log = tmp_path / "model", tmp_path / "log.csv"
    save_bundle(plain(), bundle, plugin="imu-attitude", task="attitude")
    write_table(table_of(simulated(seconds=2.0), DataConfig(acc_unit="g")), log)
    said = ["data.acc_unit=g"]
    score_run(str(bundle), [str(log)], tmp_path / "out", assignments=said)
    scored = pq.read_table(tmp_path / "out" / "predictions.parquet")
    expected = predict_file(str(bundle), log, assignments=said)
    np.testing.assert_allclose(up(scored), up(expected), rtol=0, atol=1e-12)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["set"] == said
    again = score_run(str(bundle), [str(log)], tmp_path / "out", assignments=["data.acc_unit=mg"])
    assert again.parts_written == 1


def test_trials_that_take_turns_keep_the_order_of_their_rows():
    model = plain()
    one, two = (simulated(seconds=3.0, number=number) for number in (0, 1))
    tables = [table_of(one), table_of(two)]
    joined = pa.concat_tables(tables)
    order = np.argsort(np.concatenate([one.time, two.time]), kind="stable")
    mixed = predicted(model, joined.take(order))
    apart = pa.concat_tables([predicted(model, table) for table in tables]).take(order)
    assert mixed.select(["trial", "time"]).equals(joined.take(order).select(["trial", "time"]))
    assert mixed.equals(apart)


def test_without_trial_all_rows_are_one_and_without_time_fs_counts():
    columns = still(50)
    named = predicted(plain(), pa.table(columns | {"trial": ["a"] * 50}))
    assert predicted(plain(), columns).drop_columns(["trial"]).equals(named.drop_columns(["trial"]))
    counted = plain("data.fs=100")
    without = {name: value for name, value in columns.items() if name != "time"}
    assert predicted(counted, without).equals(predicted(plain(), columns))
    # stamps win over the rate
    assert predicted(plain("data.fs=7"), columns).equals(predicted(plain(), columns))


HEADS = ("mlp", "kan(grid=3, hidden=[8])", "fan", "grkan", "glu(hidden_features=8)", "fff(depth=2)")


@pytest.mark.parametrize("head", HEADS)
def test_a_bundle_reloads_to_the_same_answers_and_holds_no_pickle(tmp_path, head):
    table = table_of(simulated(seconds=3.0))
    model = estimator(f"model.head={head}")
    save_bundle(model, tmp_path / "model", plugin="imu-attitude", task="attitude")
    again = load_bundle(tmp_path / "model")[0]
    assert predicted(again, table).equals(predicted(model, table))
    assert [*again.describe()] == [*model.describe()]
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md", ".txt", ""}


def test_a_model_says_why_nothing_of_its_network_is_kept():
    said = dict(estimator(share=0.0).describe())
    assert said["network"].startswith("nothing is kept: fewer than two trials")


def fitted(folder, *assignments):
    options = (
        *("data.simulator.sequences=5", "data.simulator.seconds=8", "data.simulator.fs=[50]"),
        *("training.epochs=1", "training.batch_size=64", "model.head=linear"),
    )
    config = resolve(AttitudeConfig, assignments=[*options, *assignments])
    dataset = DATASETS.simulated(config)
    model = AttitudeEstimator(config).fit(dataset.train, dataset.valid, FitContext(folder, seed=3))
    return model, dataset


def test_what_a_network_learned_by_heart_makes_no_smaller_promise(tmp_path, monkeypatch):
    alone, dataset = fitted(tmp_path / "alone", "model.kind=filter")
    monkeypatch.setattr(residual_choice, "_choose", lambda errors: 1.0)
    whole, _ = fitted(tmp_path / "whole")
    recording = dataset.train.recordings[0]
    assert whole.share == 1.0
    assert np.abs(whole.estimate(recording).quaternion - alone.estimate(recording).quaternion).max() > 1e-9
    assert whole.calibration == alone.calibration
    assert whole.calibration.trials == len(dataset.train.recordings) + len(dataset.valid.recordings)


def test_the_papers_networks_are_held_to_trials_that_they_did_not_learn_from(tmp_path):
    model, dataset = fitted(
        tmp_path, "model.kind=paper-a", "model.window=20", "model.width=0.01", "model.stride=40"
    )
    assert model.calibration.trials == len(dataset.valid.recordings)
    expected = np.rad2deg(model.estimate(dataset.test.recordings[0]).sd)
    np.testing.assert_allclose(expected, expected[0])
    assert expected[0] > 0.1


def test_a_bundle_without_a_network_does_not_wait_for_torch(tmp_path):
    model = estimator("model.kind=residual", "model.head=mlp")
    model._residual = None
    save_bundle(model, tmp_path / "model", plugin="imu-attitude", task="attitude")
    assert not list((tmp_path / "model").rglob("*.safetensors"))
    script = (
        "import numpy as np, pathlib, sys\n"
        "from appliedpapers.core.bundle import load_bundle\n"
        "from appliedpapers.plugins.imu_attitude.recording import Recording\n"
        "time = np.arange(200) / 100\n"
        "acc = np.tile([0.0, 3.0, 9.0], (200, 1))\n"
        "model, _ = load_bundle(pathlib.Path(sys.argv[1]))\n"
        "up = model.estimate(Recording('a', time, acc, 0 * acc)).up[-1]\n"
        "assert 'torch' not in sys.modules\n"
        "print(up.tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), np.array([0.0, 3.0, 9.0]) / np.sqrt(90), atol=1e-6)


# Bad rows.


def broken(**cells):
    """Return a still sensor with cells replaced: ``column={row: value}``."""
    columns = still()
    for name, changes in cells.items():
        columns[name] = columns[name].copy()
        for row, value in changes.items():
            columns[name][row] = value
    return columns


def test_skipped_rows_are_flagged_and_hold_the_answer_before():
    bad = {
        "acc_x": {0: math.nan, **dict.fromkeys(range(100, 130), math.nan)},
        "gyr_y": {150: math.inf, 299: math.nan},
        "time": {200: 1.99, 210: 1.5, 220: math.nan},
    }
    answer = predicted(plain("data.on_bad=skip"), broken(**bad))
    rows = [row for row, flags in enumerate(answer["flags"].to_pylist()) if "skipped" in flags]
    assert rows == [0, *range(100, 130), 150, 200, 210, 220, 299]
    assert finite(answer)
    held = up(answer)
    for row in rows[1:]:
        np.testing.assert_array_equal(held[row], held[row - 1])
    # before the first usable sample nothing is known, and that is said
    assert answer["inclination_sd"][0].as_py() == pytest.approx(90.0)
    assert math.degrees(math.acos(held[140, 2])) < 1.0


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        ({"acc_x": {6: math.nan}}, "row 7, column 'acc_x'"),
        ({"gyr_z": {2: -math.inf}}, "row 3, column 'gyr_z'"),
        ({"time": {9: 0.08}}, "row 10, column 'time': time 0.08 s is not after 0.08 s"),
        ({"time": {9: 0.01}}, "row 10, column 'time': time 0.01 s is not after 0.08 s"),
        ({"time": {4: math.nan}}, "row 5, column 'time'"),
    ],
    ids=str,
)
def test_without_skip_a_bad_row_is_refused_with_row_and_column(cells, named):
    with pytest.raises(DataError) as caught:
        predicted(plain(), broken(**cells))
    listed = caught.value.violations
    first = "" if listed is None else "row {row}, column '{column}'".format(**listed.to_pylist()[0])
    assert named in f"{first}; {caught.value.message}"


def test_a_stamp_of_years_is_named_in_full():
    columns = broken(time={9: 0.05})
    columns["time"] = columns["time"] + 1.7e9
    with pytest.raises(DataError, match=r"time 1700000000\.05 s is not after 1700000000\.08 s"):
        predicted(plain(), columns)


def test_a_missing_stamp_among_others_is_named_although_fs_is_given():
    with pytest.raises(DataError, match="row 5, column 'time': no time"):
        predicted(plain("data.fs=100"), broken(time={4: math.nan}))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (still(1), "1 usable sample; expected 2 or more"),
        (
            still() | dict.fromkeys(("acc_x", "acc_y", "acc_z"), np.zeros(300)),
            "every accelerometer reading is 0",
        ),
        (still() | {"time": np.full(300, np.nan)}, "no time"),
    ],
    ids=["one row", "no gravity", "no time"],
)
def test_a_trial_that_cannot_be_answered_for_is_named(columns, said):
    model = plain("data.on_bad=skip")
    with pytest.raises(DataError, match=said):
        predicted(model, columns)
    with pytest.raises(UnusableGroups) as caught:
        model.predict(pa.table(columns))
    (problem,) = caught.value.problems
    assert said in problem.rule


def test_no_time_and_no_rate_names_both():
    columns = {name: value for name, value in still().items() if name != "time"}
    with pytest.raises(DataError, match="'time'"):
        predicted(plain(), columns)


def test_a_constant_sensor_is_answered_for():
    columns = {name: np.full(200, values[0]) for name, values in still(200).items()}
    columns["time"] = np.arange(200) / 50
    answer = predicted(plain(), columns)
    assert finite(answer)
    assert answer["at_rest"][199].as_py()


# Flags.


def flagged(answer):
    return [row for row, flags in enumerate(answer["flags"].to_pylist()) if flags]


def test_gaps_clipping_and_large_biases_are_flagged():
    columns = still(600)
    columns["time"] = columns["time"] + 3.0 * (np.arange(600) >= 200)
    columns["acc_y"][300:303] = -4 * 9.81
    columns["gyr_x"][400:403] = math.radians(500)
    flags = predicted(plain(), columns)["flags"].to_pylist()
    assert [row for row, found in enumerate(flags) if "gap" in found] == [200]
    assert [row for row, found in enumerate(flags) if "acc-clipped" in found] == [301, 302]
    assert [row for row, found in enumerate(flags) if "gyr-clipped" in found] == [401, 402]
    biased = still(3000)
    biased["gyr_z"] = biased["gyr_z"] + math.radians(1.9)
    biased["gyr_y"] = biased["gyr_y"] + math.radians(1.9)
    assert flagged(predicted(plain(), biased)) == []
    wide = plain("filter.rest_gyr=10", "filter.bias_start=5")
    biased["gyr_y"] = biased["gyr_y"] + math.radians(2.0)
    assert predicted(wide, biased)["flags"][2999].as_py() == "bias"


# Whatever comes.

LIMITS = {"acc": MOST_ACC, "gyr": MOST_GYR, "mag": 1e308}
NO_NUMBERS = st.sampled_from([math.nan, math.inf, -math.inf, 1e300])


def readings(kind):
    most = LIMITS[kind]
    return st.floats(-most, most) | st.floats(-100, 100) | st.sampled_from([0.0, most, -most])


def require_finite(model, columns):
    """Predict and look for NaN, unless the whole trial is refused."""
    table = check(pa.table(columns), model.input_schema).require_clean()
    try:
        answer = model.predict(table)
    except UnusableGroups:
        return
    assert finite(answer)
    norms = np.linalg.norm(np.stack([answer[f"q{part}"].to_numpy() for part in "wxyz"]), axis=0)
    np.testing.assert_allclose(norms, 1.0, atol=1e-6)


@given(data=st.data(), count=st.integers(2, 30))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("kind", ["filter", "residual"])
def test_a_finite_table_never_yields_nan(kind, data, count):
    steps = st.floats(1e-4, 5.0) | st.sampled_from([1e-9, 1e9])
    columns = {"time": np.cumsum(data.draw(arrays.arrays(float, count, elements=steps)))}
    for name in LIMITS:
        drawn = data.draw(arrays.arrays(float, (count, 3), elements=readings(name)))
        columns |= {f"{name}_{axis}": drawn[:, n] for n, axis in enumerate("xyz")}
    require_finite(estimator(f"model.kind={kind}"), columns)


@given(data=st.data(), count=st.integers(2, 30))
@settings(max_examples=25, deadline=None)
def test_with_skip_no_cell_yields_nan(data, count):
    columns = {"time": data.draw(arrays.arrays(float, count, elements=st.floats(-10, 10) | NO_NUMBERS))}
    for name in LIMITS:
        drawn = data.draw(arrays.arrays(float, (count, 3), elements=readings(name) | NO_NUMBERS))
        columns |= {f"{name}_{axis}": drawn[:, n] for n, axis in enumerate("xyz")}
    require_finite(plain("data.on_bad=skip"), columns)
