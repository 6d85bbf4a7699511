"""Baselines on the eleven BROAD trials against figures that were measured apart from this code."""

from __future__ import annotations

import numpy as np
import pytest

from appliedpapers.plugins.imu_attitude.estimators import Estimator, estimators
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import angle_between, normalise, up_vector

pytestmark = pytest.mark.shared

_TEST = ("03", "12", "21", "24", "35")
_TRAIN = ("01", "04", "06", "10", "15", "25")
_WITHIN_DEG = 0.02


@pytest.fixture(scope="module")
def trials(shared):
    folder = shared / "data" / "imu-attitude"
    return {number: _read(next(folder.glob(f"{number}_*.npz"))) for number in (*_TEST, *_TRAIN)}


def _read(path):
    with np.load(path) as file:
        return Recording(
            trial=path.stem,
            time=np.arange(len(file["acc"])) / file["fs"],
            acc=file["acc"] * file["acc_lsb"] + file["acc_offset"],
            gyr=file["gyr"] * file["gyr_lsb"],
            reference=normalise(file["quat"]),
            movement=file["movement"],
        )


def _errors_deg(estimator, recordings):
    errors = []
    for recording in recordings:
        judged = recording.judged
        up = estimator(recording).up[judged]
        angles = angle_between(up, up_vector(recording.reference[judged]))
        errors.append(np.rad2deg(np.sqrt(np.mean(angles**2))))
    return np.array(errors)


@pytest.mark.parametrize(
    ("name", "expected", "train"),
    [
        ("vqf", (0.42, 0.25, 1.72, 0.61, 0.66), 0.56),
        ("corrected-mean-10s", (0.43, 0.26, 2.32, 0.64, 0.86), 0.82),
        ("mean-10s", (1.96, 2.52, 2.23, 2.26, 0.84), 1.38),
        ("mean-5s", (1.06, 1.25, 2.23, 1.23, 1.03), 1.30),
        ("mean-0.35s", (1.63, 4.77, 31.8, 2.56, 9.67), 12.3),
    ],
)
def test_fast_baselines_have_the_errors_that_are_known(trials, name, expected, train):
    if name == "vqf":
        pytest.importorskip("vqf")
    estimator = estimators([name])[name]
    within = 0.05 if name == "mean-0.35s" else _WITHIN_DEG  # known to three digits only
    np.testing.assert_allclose(_errors_deg(estimator, [trials[n] for n in _TEST]), expected, atol=within)
    assert _errors_deg(estimator, [trials[n] for n in _TRAIN]).mean() == pytest.approx(train, abs=within)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        ("madgwick", {"gain": 0.033}, (0.85, 1.33, 3.81, 1.31, 1.11)),
        ("mahony", {"k_p": 0.74, "k_i": 0.0012}, (0.66, 1.38, 8.27, 0.87, 2.38)),
        ("mahony", {"k_p": 1.0, "k_i": 0.3}, (0.56, 1.81, 34.4, 0.89, 7.95)),
        ("ekf", {}, (0.80, 1.31, 7.82, 1.00, 2.18)),
    ],
)
def test_filters_in_pure_python_have_the_errors_that_are_known(trials, method, settings, expected):
    pytest.importorskip("ahrs")
    estimator = Estimator(method, method, settings)
    found = _errors_deg(estimator, [trials[n] for n in _TEST])
    np.testing.assert_allclose(found, expected, atol=_WITHIN_DEG, rtol=2e-3)
