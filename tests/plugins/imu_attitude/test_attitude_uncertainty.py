"""Expected errors against errors that were drawn with a known spread."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from own_recordings import swaying

from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import from_rotation_vector, multiply
from appliedpapers.plugins.imu_attitude.scoring import inclination_deg
from appliedpapers.plugins.imu_attitude.uncertainty import Calibration

_FLOOR, _SCALE = np.deg2rad(0.3), 4.0


def _drawn(seed: int, factor: float = 1.0) -> tuple[Estimate, Recording]:
    """Return a recording, and an estimate that says a quarter of what it should and forgets a floor."""
    recording, rng = swaying(30.0, seed=seed), np.random.default_rng(seed)
    said = np.deg2rad(10 ** rng.uniform(-2, 0, len(recording)))
    spread = factor * np.hypot(_FLOOR, _SCALE * said)
    tilt = np.zeros((len(recording), 3))
    tilt[:, :2] = rng.normal(size=(len(recording), 2)) * (spread / np.sqrt(2))[:, None]
    assert recording.reference is not None
    return Estimate(multiply(from_rotation_vector(tilt), recording.reference), sd=said), recording


@pytest.fixture(scope="module")
def drawn() -> tuple[list[Estimate], list[Recording]]:
    estimates, recordings = zip(*(_drawn(seed) for seed in range(4)), strict=True)
    return list(estimates), list(recordings)


def _coverage(found: Calibration, estimate: Estimate, recording: Recording) -> float:
    bound = np.rad2deg(found.bound95(found.apply(estimate).sd))
    inside = inclination_deg(estimate, recording) <= bound
    return float(inside[recording.judged].mean())


def test_floor_and_scale_are_found_and_new_trials_are_covered(drawn):
    found = Calibration.fit(*drawn)
    assert found.trials == 4
    assert found.floor == pytest.approx(_FLOOR, rel=0.1)
    assert found.scale == pytest.approx(_SCALE, rel=0.1)
    # two equal normal parts: the 95 % bound is the root of -log(.05) times the root mean square
    assert found.tail == pytest.approx(np.sqrt(np.log(20)), rel=0.05)
    assert _coverage(found, *_drawn(99)) == pytest.approx(0.95, abs=0.02)


def test_trials_that_differ_widen_the_bound(drawn):
    uneven = [_drawn(seed, factor) for seed, factor in enumerate((0.4, 0.7, 1.0, 1.6))]
    found = Calibration.fit(*map(list, zip(*uneven, strict=True)))
    assert found.tail > Calibration.fit(*drawn).tail * 1.1
    assert np.mean([_coverage(found, *one) for one in uneven]) > 0.93


def test_one_trial_is_judged_by_itself():
    found = Calibration.fit(*([one] for one in _drawn(7)))
    assert found.trials == 1
    assert _coverage(found, *_drawn(7)) == pytest.approx(0.95, abs=0.02)


def test_without_references_or_without_sd_nothing_is_changed(drawn):
    estimates, recordings = drawn
    alone = [replace(one, reference=None) for one in recordings]
    plain = Calibration.fit(estimates, alone)
    assert plain == Calibration()
    np.testing.assert_array_equal(plain.apply(estimates[0]).sd, estimates[0].sd)
    assert "no reference" in dict(plain.describe())["expected error"]
    silent = [replace(one, sd=None) for one in estimates]
    assert Calibration.fit(silent, recordings) == Calibration()
    assert Calibration().apply(silent[0]).sd is None


def test_an_exact_estimate_keeps_a_finite_error():
    recording = swaying()
    assert recording.reference is not None
    exact = Estimate(recording.reference, sd=np.zeros(len(recording)))
    found = Calibration.fit([exact], [recording])
    sd = found.apply(exact).sd
    assert sd is not None
    assert np.isfinite(sd).all()
    assert (sd > 0).all()


def test_a_calibration_survives_json_and_single_samples(drawn):
    found = Calibration.fit(*drawn)
    again = Calibration.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    many = found.apply(drawn[0][0]).sd
    assert many is not None
    assert found.expected(float(drawn[0][0].sd[5])) == many[5]
    assert "from 4 trials" in dict(found.describe())["expected error"]
