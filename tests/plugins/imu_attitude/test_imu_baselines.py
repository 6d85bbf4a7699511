"""Trailing means by their definition, and packages that are missing, broken, odd or well."""

from __future__ import annotations

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.errors import ConfigError, PluginError
from appliedpapers.plugins.imu_attitude import estimators as module
from appliedpapers.plugins.imu_attitude.config import SimulatorConfig
from appliedpapers.plugins.imu_attitude.estimators import Estimator, estimators, tune, unavailable
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import (
    angle_between,
    conjugate,
    from_rotation_vector,
    multiply,
    normalise,
    rotate,
    up_vector,
)
from appliedpapers.plugins.imu_attitude.simulator import simulate
from appliedpapers.plugins.imu_attitude.trailing_mean import initial_rest, strapdown, trailing_mean

_MEANS = ("corrected-mean-10s", "mean-10s", "mean-5s", "mean-0.35s")


def _error_deg(recording, estimate):
    judged = recording.judged
    angles = angle_between(estimate.up[judged], up_vector(recording.reference[judged]))
    return float(np.rad2deg(np.sqrt(np.mean(angles**2))))


@pytest.fixture(scope="module")
def gentle():
    options = SimulatorConfig(sequences=3, seconds=40, fs=(100.0,), noise=0, jitter=0, drops=0, taps=False)
    return simulate(options, 5)[0]


@pytest.fixture
def fresh_check():
    module._fault.cache_clear()
    yield
    module._fault.cache_clear()


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 2100), seed=st.integers(0, 1000))
def test_strapdown_is_the_product_of_all_steps(count, seed):
    rng = np.random.default_rng(seed)
    time, gyr = np.cumsum(rng.uniform(0.001, 0.02, count)), rng.normal(0, 5, (count, 3))
    product, expected = np.array([1.0, 0, 0, 0]), []
    for k in range(count):
        step = time[k] - time[k - 1] if k else 0.0
        product = multiply(product, from_rotation_vector(gyr[k] * step))
        expected.append(product)
    np.testing.assert_allclose(strapdown(time, gyr), expected, atol=1e-12)


@pytest.mark.parametrize("seconds", [0.35, 2.0, 100.0])
def test_a_trailing_mean_is_what_its_definition_says(seconds):
    recording = simulate(SimulatorConfig(sequences=3, seconds=6, fs=(50.0,)), 1)[2]
    held = strapdown(recording.time, recording.gyr)
    force = rotate(held, recording.acc)
    estimate = trailing_mean(recording, seconds, corrected=False)
    for k in (0, 1, 40, len(recording) - 1):
        recent = recording.time > recording.time[k] - seconds
        mean = force[: k + 1][recent[: k + 1]].mean(axis=0)
        np.testing.assert_allclose(estimate.up[k], normalise(rotate(conjugate(held[k]), mean)), atol=1e-12)
    assert estimate.latency == 0
    assert estimate.bias is None


def test_the_mean_of_a_hundred_samples_has_a_hundred_at_286_hz():
    time = np.arange(300) / 285.7142857142857
    acc = np.tile([0.0, 0.0, 9.81], (300, 1))
    acc[50] = [9.81, 0.0, 0.0]
    estimate = trailing_mean(Recording("one", time, acc, np.zeros((300, 3))), 0.35, corrected=False)
    assert np.flatnonzero(estimate.up[:, 0] > 1e-6).tolist() == list(range(50, 150))


def test_the_rest_is_found_without_the_reference(gentle):
    rest = initial_rest(replace(gentle, reference=None, movement=None))
    begins = gentle.time[np.argmax(gentle.movement)]
    assert rest.start == 0
    assert rest.stop == np.searchsorted(gentle.time - gentle.time[0], 10.0, side="right")
    assert gentle.time[rest.stop - 1] < begins - 1

    later = int(np.searchsorted(gentle.time, begins - 4.0))
    short = replace(gentle, time=gentle.time[later:], acc=gentle.acc[later:], gyr=gentle.gyr[later:])
    rest = initial_rest(short)
    # gentle motion takes a moment to be seen
    assert 2.9 < short.time[rest.stop - 1] - short.time[0] < 4.0


def test_one_noisy_reading_is_no_motion_and_a_moving_start_is_no_rest(gentle):
    acc = gentle.acc.copy()
    acc[200] += 0.6
    assert initial_rest(replace(gentle, acc=acc)) == initial_rest(gentle)
    moving = slice(int(np.argmax(gentle.movement)) + 200, None)
    cut = Recording("moving", gentle.time[moving], gentle.acc[moving], gentle.gyr[moving] + 0.2)
    assert initial_rest(cut) is None
    estimate = trailing_mean(cut, 10.0, corrected=True)
    assert not estimate.bias.any()
    assert "no rest" in estimate.notes[0]


def test_the_correction_takes_a_constant_bias_off(gentle):
    bias = np.deg2rad([0.5, -0.4, 0.3])
    biased = replace(gentle, gyr=gentle.gyr + bias)
    clean = trailing_mean(gentle, 10.0, corrected=True)
    corrected = trailing_mean(biased, 10.0, corrected=True)
    np.testing.assert_allclose(corrected.bias, np.tile(bias, (len(gentle), 1)), atol=1e-12)
    np.testing.assert_allclose(corrected.up, clean.up, atol=1e-9)
    assert _error_deg(gentle, trailing_mean(biased, 10.0, corrected=False)) > 1


def test_an_accelerometer_of_zeros_gives_no_nan():
    time = np.arange(200) / 100
    estimate = trailing_mean(
        Recording("dead", time, np.zeros((200, 3)), np.zeros((200, 3))), 5, corrected=True
    )
    assert np.isfinite(estimate.quaternion).all()


def test_means_need_no_package_and_keep_their_order():
    made = estimators(_MEANS)
    assert list(made) == list(_MEANS)
    assert unavailable(_MEANS) == {}
    assert dict(made["mean-0.35s"].describe()) == {"seconds": "0.35"}
    with pytest.raises(ConfigError, match="no baseline 'median'"):
        estimators(["median"])


@pytest.mark.parametrize("name", ["vqf", "madgwick", "mahony", "ekf", *_MEANS])
def test_every_estimator_finds_up_in_our_frame(name, gentle):
    if name in ("vqf", "madgwick", "mahony", "ekf"):
        pytest.importorskip("vqf" if name == "vqf" else "ahrs")
    made = estimators([name])
    assert list(made) == [name]
    part = slice(0, 1200)
    recording = Recording("part", gentle.time[part], gentle.acc[part], gentle.gyr[part])
    estimate = made[name](recording)
    assert estimate.quaternion.shape == (1200, 4)
    np.testing.assert_allclose(np.linalg.norm(estimate.quaternion, axis=1), 1)
    rest = initial_rest(recording).stop
    assert np.rad2deg(angle_between(estimate.up[:rest], recording.acc[:rest])).max() < 1


def test_a_missing_package_costs_only_its_own(monkeypatch, fresh_check):
    monkeypatch.setitem(sys.modules, "vqf", None)
    assert list(estimators(["vqf", "mean-5s"])) == ["mean-5s"]
    notes = unavailable(["vqf", "mean-5s"])
    assert list(notes) == ["vqf"]
    assert "pip install vqf" in notes["vqf"]


class _Upside:
    """A rival that answers in another frame."""

    def __init__(self, step, **options):
        self.answer = {}

    def updateBatch(self, gyr, acc):
        upside = np.tile([0.0, 1.0, 0.0, 0.0], (len(acc), 1))
        return {"quat6D": upside, "bias": np.zeros_like(acc), "restDetected": np.zeros(len(acc), bool)}


class _Crashing(_Upside):
    def updateBatch(self, gyr, acc):
        raise RuntimeError("renamed")


class _Lost(_Upside):
    def updateBatch(self, gyr, acc):
        return super().updateBatch(gyr, acc) | {"quat6D": np.full((len(acc), 4), np.nan)}


@pytest.mark.parametrize(
    ("rival", "message"), [(_Upside, "frame is not ours"), (_Crashing, "renamed"), (_Lost, "NaN")]
)
def test_a_package_that_misbehaves_is_named_and_left_out(monkeypatch, fresh_check, rival, message):
    monkeypatch.setitem(sys.modules, "vqf", types.SimpleNamespace(VQF=rival))
    assert estimators(["vqf"]) == {}
    assert message in unavailable(["vqf"])["vqf"]


def test_a_package_that_does_not_load_is_left_out(monkeypatch, fresh_check, tmp_path):
    (tmp_path / "vqf.py").write_text("raise TypeError('too new a Python')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "vqf", raising=False)
    assert "too new a Python" in unavailable(["vqf"])["vqf"]


def test_a_failure_on_one_trial_names_it(monkeypatch, gentle):
    monkeypatch.setitem(sys.modules, "vqf", types.SimpleNamespace(VQF=_Crashing))
    with pytest.raises(PluginError, match="vqf failed on trial simulated-0001: RuntimeError: renamed"):
        Estimator("vqf", "vqf", {"tau_acc": 3.0})(gentle)


def test_uneven_time_costs_vqf_little():
    pytest.importorskip("vqf")
    options = {"sequences": 3, "seconds": 40, "fs": (200.0,), "noise": 0.0, "taps": False}
    even = simulate(SimulatorConfig(jitter=0, drops=0, **options), 0)[1]
    uneven = simulate(SimulatorConfig(jitter=0.3, drops=0.05, **options), 0)[1]
    vqf = estimators(["vqf"])["vqf"]
    assert vqf(even).notes == ()
    estimate = vqf(uneven)
    assert "uneven time stamps" in estimate.notes[0]
    assert len(estimate.bias) == len(estimate.at_rest) == len(uneven)
    assert _error_deg(uneven, estimate) < 1.1 * _error_deg(even, vqf(even)) + 0.05


@pytest.mark.parametrize("name", ["vqf", "madgwick"])
def test_a_gap_of_a_day_is_crossed_in_a_step(name, gentle):
    pytest.importorskip("vqf" if name == "vqf" else "ahrs")
    part = slice(0, 800)
    time = gentle.time[part] + np.where(np.arange(800) < 400, 0.0, 86_400.0)
    recording = Recording("gap", time, gentle.acc[part], gentle.gyr[part], reference=gentle.reference[part])
    estimate = estimators([name])[name](recording)
    assert len(estimate.quaternion) == 800
    assert np.rad2deg(angle_between(estimate.up, up_vector(recording.reference))).max() < 1


def test_tuning_picks_the_best_length_on_the_training_trials():
    train = simulate(SimulatorConfig(sequences=5, seconds=30, fs=(50.0,)), 0)
    tuned = tune("corrected-mean-10s", train)
    assert tuned.name == "corrected-mean-tuned"

    def mean(estimator):
        return np.mean([_error_deg(one, estimator(one)) for one in train if one.judged.any()])

    lengths = module._METHODS["corrected-mean"].grid["seconds"]
    every = [mean(Estimator("x", "corrected-mean", {"seconds": length})) for length in lengths]
    assert mean(tuned) == pytest.approx(min(every))
    assert tuned.settings["seconds"] == lengths[int(np.argmin(every))]


def test_what_cannot_be_tuned_stays_as_it_was(gentle):
    unknown = replace(gentle, reference=None)
    assert tune("mean-5s", [unknown]).name == "mean-5s"
    assert tune("mean-5s", []).settings == {"seconds": 5.0}
    assert tune("ekf", [gentle]).name == "ekf"


def test_slow_filters_are_tuned_on_the_first_motion_only(gentle, monkeypatch):
    pytest.importorskip("ahrs")
    monkeypatch.setattr(module, "_SLOW_BUDGET", 2400)
    seen = []
    original = Estimator.__call__

    def watched(self, recording):
        seen.append((self.settings["gain"], len(recording)))
        return original(self, recording)

    monkeypatch.setattr(Estimator, "__call__", watched)
    tuned = tune("madgwick", [gentle] * 12)
    grid = module._METHODS["madgwick"].grid["gain"]
    assert tuned.name == "madgwick-tuned"
    assert tuned.settings["gain"] in grid
    assert seen == [(gain, 400) for gain in grid for _ in range(6)]


def test_a_thinned_recording_still_turns_as_the_whole(gentle):
    thin = module._excerpt(replace(gentle, time=gentle.time / 3), 10_000)
    assert thin.step == pytest.approx(0.04 / 3)
    first = int(np.searchsorted(gentle.time, thin.time[0] * 3 + 1e-9))
    whole = strapdown(gentle.time[first - 1 :] / 3, gentle.gyr[first - 1 :])[::4][: len(thin)]
    turned = strapdown(thin.time, thin.gyr)
    assert np.rad2deg(angle_between(up_vector(turned), up_vector(whole))).max() < 0.1
    np.testing.assert_array_equal(thin.acc[1:], gentle.acc[first - 1 :][4::4][: len(thin) - 1])
