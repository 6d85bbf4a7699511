"""Judging devices: no look ahead, no chance, no company; units, grids, prefixes, bundles and ONNX."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from scipy.stats import spearmanr
from small_ageing import ask, config, context, fitted

from appliedpapers.core.errors import ConfigError, DataError, UnusableGroups
from appliedpapers.plugins.laser_cvae.model import LaserCvae

NUMBERS = ("score", "p_value", "p_cross", "ttf_p10", "ttf_p50", "expected", "attribution")


@pytest.fixture(scope="module")
def both():
    return fitted()


@pytest.fixture(scope="module")
def table(both):
    return both[0].test.example(4)


def same(one, other, exact=False):
    for name in NUMBERS:
        a, b = one[name], other[name]
        assert (a is None) == (b is None), name
        if a is not None:
            assert a == b if exact else a == pytest.approx(b, abs=1e-5, rel=1e-5), name


def test_what_was_said_at_a_cut_does_not_change_with_what_came_later(both, table):
    one = table.filter(pa.compute.equal(table["device"], table["device"][0]))
    upset = one.to_pylist()
    for row in upset[12:]:
        row["value"] *= 0.5
    before = ask(both[1], one.slice(0, 12))
    for later in (one, pa.Table.from_pylist(upset, one.schema)):
        after = ask(both[1], later)[:12]
        for a, b in zip(before, after, strict=True):
            same(a, b, exact=True)


def test_two_calls_are_equal_to_the_bit(both, table):
    for a, b in zip(ask(both[1], table), ask(both[1], table), strict=True):
        same(a, b, exact=True)


def test_rows_in_any_order_get_the_same_answers(both, table):
    order = np.random.default_rng(0).permutation(table.num_rows)
    mixed = ask(both[1], table.take(pa.array(order)))
    straight = ask(both[1], table)
    for place, row in enumerate(order):
        same(mixed[place], straight[row])


def test_minutes_with_a_declared_unit_are_hours(both, table):
    _, model = both
    minutes = LaserCvae(model.config.replace(data={"time_unit": "min"}))
    minutes.__dict__.update({**model.__dict__, "config": minutes.config})
    scaled = table
    for name in ("time", "horizon"):
        place = scaled.column_names.index(name)
        scaled = scaled.set_column(place, name, pa.compute.multiply(scaled[name], 60.0))
    for a, b in zip(ask(model, table), ask(minutes, scaled), strict=True):
        assert (
            a["score"] == pytest.approx(b["score"], abs=1e-6)
            if a["score"] is not None
            else b["score"] is None
        )
        if a["ttf_p50"] is not None:
            assert 60 * a["ttf_p50"] == pytest.approx(b["ttf_p50"], rel=1e-5)


def test_fewer_than_four_readings_are_insufficient_and_never_a_number(both, table):
    answers = ask(both[1], table.slice(0, 3))
    assert [row["status"] for row in answers] == ["insufficient"] * 3
    assert all(row[name] is None for row in answers for name in NUMBERS)
    assert not any(row["alert"] for row in answers)


def test_a_device_beyond_the_criterion_has_failed_already(both, table):
    rows = table.slice(0, 8).to_pylist()
    for row in rows[5:]:
        row["value"] = 0.7
    answer = ask(both[1], pa.Table.from_pylist(rows, table.schema))[-1]
    assert (answer["status"], answer["p_cross"], answer["ttf_p50"]) == ("already-failed", 1.0, None)


def test_quantiles_beyond_the_end_of_the_test_are_censored(both, table):
    for row in ask(both[1], table):
        late = set((row["censored"] or "").split())
        for name in ("p10", "p50", "p90"):
            if row["p_cross"] is not None and row["status"] == "ok":
                assert (row[f"ttf_{name}"] is None) == (name in late)


def test_a_condition_outside_the_trained_ones_is_flagged(both, table):
    hot = table.set_column(
        table.column_names.index("temperature"), "temperature", pa.array([200.0] * table.num_rows)
    )
    assert all(row["extrapolated"] for row in ask(both[1], hot))
    assert not any(row["extrapolated"] for row in ask(both[1], table))


def test_half_the_readings_give_nearly_the_same_order(both):
    _, model = both
    devices = both[0].test.devices
    thin = devices.__class__(
        **{**devices.__dict__, "hours": devices.hours[:, ::2], "damage": devices.damage[:, ::2]}
    )
    seen = [one.before(0.6 * one.horizon) for one in (devices, thin)]
    scores = [model.ageing.judge(one).score for one in seen]
    assert spearmanr(*scores).statistic > 0.85


def test_a_missing_condition_is_masked_not_refused(both, table):
    bare = table.drop_columns(["temperature"])
    assert all(np.isfinite(row["score"]) for row in ask(both[1], bare) if row["status"] == "ok")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [("temperature", 20.0, "changes"), ("time", 0.0, "stands twice")],
)
def test_a_device_that_contradicts_itself_is_named(both, table, column, value, words):
    rows = table.slice(0, 8).to_pylist()
    rows[5][column] = value
    with pytest.raises(UnusableGroups, match=words) as caught:
        ask(both[1], pa.Table.from_pylist(rows, table.schema))
    assert caught.value.problems[0].column == column


def test_one_sided_models_do_not_alert_on_devices_that_age_too_little(both, table):
    _, model = both
    kind = LaserCvae(model.config.replace(abnormality={"one_sided": True}))
    kind.__dict__.update({**model.__dict__, "config": kind.config})
    rows = table.slice(0, 24).to_pylist()
    for row in rows:
        row["value"] = 1.0 + 0.002 * row["time"] / 100
    odd = pa.Table.from_pylist(rows, table.schema)
    assert ask(model, odd)[-1]["direction"] == "less"
    assert ask(model, odd)[-1]["alert"]
    assert not ask(kind, odd)[-1]["alert"]


def test_a_stream_answers_in_its_own_order_alone(both, table):
    rows = table.slice(0, 8).to_pylist()
    stream = both[1].stream()
    full = [{**row, "voltage": None, "power": None, "batch": None} for row in rows]
    found = [stream.step(row)[0] for row in full]
    for a, b in zip(found, ask(both[1], table.slice(0, 8)), strict=True):
        same(a, b)
    with pytest.raises(DataError, match="not later"):
        stream.step(full[3])
    with pytest.raises(DataError, match="stream of"):
        stream.step({**full[7], "device": "other", "time": 9999.0})


def test_a_bundle_gives_the_same_bits_and_onnx_agrees(both, table, tmp_path):
    pytest.importorskip("onnxruntime")
    _, model = both
    again = LaserCvae(model.config.replace(onnx=True))
    again.__dict__.update({**model.__dict__, "config": again.config})
    state = again.write_parts(tmp_path)
    assert {"encoder.onnx", "decoder.onnx"} <= {file.name for file in tmp_path.iterdir()}
    loaded = LaserCvae.read_parts(again.config, state, tmp_path, "cpu")
    for a, b in zip(ask(model, table), ask(loaded, table), strict=True):
        same(a, b, exact=True)


def test_thresholds_were_chosen_before_the_test_part_was_read(both):
    dataset, model = both
    assert [len(model.thresholds[name]) for name in ("forecast", "abnormality")] == [3, 3]
    assert np.isfinite(np.array(model.thresholds["abnormality"])).all()
    assert dataset.test.num_rows == 120


def test_a_model_of_another_size_is_no_start(both):
    other = LaserCvae(config("abnormality.latent=3"))
    with pytest.raises(ConfigError, match=r"abnormality\.latent"):
        other.fit(both[0].train, both[0].valid, context(), init=both[1])


@pytest.mark.parametrize("encoder", ["gru", "kan(grid=3)"])
def test_other_encoders_judge_as_well(encoder):
    tiny = (
        "data.simulator.train_devices=40",
        "data.simulator.valid_devices=20",
        "data.simulator.test_devices=4",
        "abnormality_training.epochs=1",
        "forecast_training.epochs=1",
        f"abnormality.encoder={encoder}",
    )
    dataset, model = fitted(*tiny)
    answers = ask(model, dataset.test.example(1))
    assert np.isfinite(answers[-1]["score"])


def test_few_devices_start_from_physics():
    few = (
        "data.simulator.train_devices=16",
        "data.simulator.valid_devices=8",
        "data.simulator.test_devices=4",
        "forecast.prior=auto",
        "forecast.prior_devices=60",
        "abnormality_training.epochs=1",
        "forecast_training.epochs=1",
    )
    _, model = fitted(*few)
    assert model.facts["physics prior"] == "60 simulated devices"


def test_a_collapsed_latent_is_said():
    model = fitted()[1]
    assert int(model.facts["active units of z"].split()[0]) >= 1
    assert "warning" not in model.facts
