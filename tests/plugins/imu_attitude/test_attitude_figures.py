"""Figures are drawn from what was scored, say what they found, and leave out what is not known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from own_recordings import swaying

from appliedpapers.core.evaluation import Material
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.figures import draw
from appliedpapers.plugins.imu_attitude.rotations import from_rotation_vector, multiply
from appliedpapers.plugins.imu_attitude.scoring import Answers


def _tilted(recording, degrees, sd=None):
    tilt = from_rotation_vector(np.array([np.deg2rad(degrees), 0.0, 0.0]))
    return Estimate(multiply(tilt, recording.reference), sd=sd)


def _material(recordings, ours, rival=None, *, synthetic=False):
    rows = [{"model": "ours", "metric": "m", "selected": True, "slice": {}, "seed": None, "value": 1.0}]
    predictions = {"ours": ours}
    tests = []
    if rival is not None:
        predictions["vqf"] = rival
        rows.append(rows[0] | {"model": "vqf", "selected": False, "value": 2.0})
        tests.append({"a": "ours", "b": "vqf", "metric": "m"})
    for row in rows:
        row["higher_is_better"] = False
    return Material(
        dataset=SimpleNamespace(
            test=SimpleNamespace(recordings=tuple(recordings)),
            provenance=SimpleNamespace(synthetic=synthetic),
        ),
        model=None,
        model_name="ours",
        predictions=predictions,
        scored={},
        results={"rows": rows, "tests": tests},
        histories={},
        config=None,
    )


@pytest.fixture(scope="module")
def recordings():
    return [swaying(15.0, trial=f"trial-{number}", seed=number) for number in range(2)]


def test_four_figures_say_what_they_found(recordings):
    sd = [np.full(len(one), np.deg2rad(2.0)) for one in recordings]
    ours = Answers(
        (_tilted(recordings[0], 1.0, sd[0]), _tilted(recordings[1], 3.0, sd[1])),
        (np.deg2rad(np.full(len(recordings[0]), 2.0)), np.deg2rad(np.full(len(recordings[1]), 2.0))),
    )
    rival = Answers.plain([_tilted(one, 5.0) for one in recordings])
    found = {one.name: one for one in draw(_material(recordings, ours, rival, synthetic=True))}
    assert list(found) == ["error-over-time", "error-by-motion", "roll-and-pitch", "calibration"]
    assert "trial-1" in found["error-over-time"].alt
    assert "vqf 5.00°, ours 3.00°" in found["error-over-time"].alt
    assert "3.00°" in found["roll-and-pitch"].alt
    assert "50.0 % of errors stay below their 95 % bound, 0 % in the worst trial" in found["calibration"].alt
    for one in found.values():
        assert one.data
        assert b"synthetic data" in one.data or one.media == "image/png"


def test_without_bounds_or_rivals_their_part_is_left_out(recordings):
    hidden = recordings[0].reference.copy()
    hidden[700:760] = np.nan
    trials = [replace(recordings[0], reference=hidden), recordings[1]]
    ours = Answers.plain([_tilted(one, 2.0) for one in recordings])
    found = [one.name for one in draw(_material(trials, ours))]
    assert found == ["error-over-time", "error-by-motion", "roll-and-pitch"]


def test_without_a_reference_the_two_best_are_held_against_each_other(recordings):
    alone = [replace(one, reference=None, movement=None) for one in recordings]
    ours = Answers.plain([_tilted(one, 0.0) for one in recordings])
    rival = Answers.plain([_tilted(recordings[0], 1.0), _tilted(recordings[1], 4.0)])
    (found,) = draw(_material(alone, ours, rival))
    assert found.name == "disagreement"
    assert "trial-1, by 4.00°" in found.alt
    assert draw(_material(alone, ours)) == []
