"""Scores of attitudes against errors that are known by construction, with a reference and without."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_recordings import swaying

from appliedpapers.core.bootstrap import interval, paired_difference
from appliedpapers.core.metrics import metric
from appliedpapers.plugins.imu_attitude import no_reference
from appliedpapers.plugins.imu_attitude.delay import carry_on, fit_delay
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.phases import PHASES, acceleration_band, around, phases
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import from_rotation_vector, multiply, rotate, up_vector
from appliedpapers.plugins.imu_attitude.scoring import Answers, TrialMean, score_answers


def _tilted(recording: Recording, degrees: float) -> Estimate:
    """Return the reference, tilted in the earth frame by a known angle."""
    tilt = from_rotation_vector(np.array([np.deg2rad(degrees), 0.0, 0.0]))
    return Estimate(multiply(tilt, recording.reference))


def _turned(recording: Recording, degrees) -> Estimate:
    """Return the reference with another heading at each sample."""
    turn = np.zeros((len(recording), 3))
    turn[:, 2] = np.deg2rad(degrees)
    return Estimate(multiply(from_rotation_vector(turn), recording.reference))


def _several(count: int, seconds: float = 20.0) -> list[Recording]:
    return [swaying(seconds, trial=f"trial-{number}", seed=number) for number in range(count)]


def test_inclination_is_a_mean_over_trials_of_roots_over_judged_samples():
    short, long = swaying(12.0, trial="short"), swaying(40.0, trial="long", seed=1)
    scored = score_answers(Answers.plain([_tilted(short, 1.0), _tilted(long, 4.0)]), [short, long])
    assert scored.metrics["inclination_rmse"].value == pytest.approx(2.5, abs=1e-9)
    assert scored.metrics["latency_s"].value == 0.0
    assert "coverage" not in scored.metrics


def test_rest_and_hidden_references_do_not_count():
    recording = swaying()
    hidden = recording.reference.copy()
    hidden[500:600] = np.nan
    estimate = _tilted(recording, 2.0).quaternion.copy()
    estimate[~recording.movement] = [1.0, 0.0, 0.0, 0.0]
    estimate[500:600] = [0.0, 1.0, 0.0, 0.0]
    scored = score_answers(Answers.plain([Estimate(estimate)]), [replace(recording, reference=hidden)])
    assert scored.metrics["inclination_rmse"].value == pytest.approx(2.0, abs=1e-9)


def test_a_constant_heading_is_no_error_and_a_growing_one_is_drift():
    recording = swaying()
    since = np.clip(recording.time - recording.time[np.argmax(recording.judged)], 0, None)
    scored = score_answers(Answers.plain([_turned(recording, 70.0 + since)]), [recording]).metrics
    expected = np.sqrt(np.mean(since[recording.judged] ** 2))
    assert scored["inclination_rmse"].value == pytest.approx(0.0, abs=1e-6)
    assert scored["heading_drift"].value == pytest.approx(expected, rel=1e-6)
    assert scored["total_drift"].value == pytest.approx(expected, rel=1e-6)
    # the published arccosine loses half of the digits near no error
    assert scored["paper_angle"].value == pytest.approx(0.0, abs=1e-3)


def test_coverage_and_width_are_those_of_the_bounds_that_are_promised():
    recording = swaying()
    bound = np.where(np.arange(len(recording)) % 4 == 0, np.deg2rad(0.5), np.deg2rad(1.5))
    scored = score_answers(Answers((_tilted(recording, 1.0),), (bound,)), [recording])
    share = float(np.mean(bound[recording.judged] > 0.02))
    assert scored.metrics["coverage"].value == pytest.approx(share)
    assert scored.metrics["interval_width"].value == pytest.approx(0.5 + share)
    assert scored.units == {"interval_width": "°"}


def test_every_metric_is_registered_and_has_a_unit():
    recordings = _several(2)
    scored = score_answers(Answers.plain([_tilted(one, 1.0) for one in recordings]), recordings)
    alone = [replace(one, reference=None, movement=None) for one in recordings]
    more = score_answers(Answers.plain([_tilted(one, 1.0) for one in recordings]), alone)
    for name in (*scored.metrics, *more.metrics):
        assert metric(name).unit
        assert metric(name).higher_is_better is False


def test_five_trials_are_resampled_as_trials_and_fewer_by_runs_of_blocks():
    recordings = _several(5, 42.0)
    answers = Answers.plain([_tilted(one, 1.0 + number) for number, one in enumerate(recordings)])
    five = score_answers(answers, recordings)
    assert len(np.unique(five.clusters)) == 5
    low, high = interval(five.metrics["inclination_rmse"], five.clusters, five.block)
    assert low < 3.0 < high
    assert low >= 1.0
    few = score_answers(Answers.plain(answers.estimates[:4]), recordings[:4])
    assert few.clusters is None
    # trials differ, their blocks do not: nothing of another trial is claimed
    low, high = interval(few.metrics["inclination_rmse"], few.clusters, few.block)
    assert high - low < 1e-6


def test_a_paired_difference_over_trials_is_that_of_the_means():
    recordings = _several(6, 12.0)
    ours = score_answers(Answers.plain([_tilted(one, 1.0) for one in recordings]), recordings)
    theirs = score_answers(
        Answers.plain([_tilted(one, 1.5 + 0.1 * number) for number, one in enumerate(recordings)]), recordings
    )
    name = "inclination_rmse"
    found = paired_difference(ours.metrics[name], theirs.metrics[name], clusters=ours.clusters)
    assert found.difference == pytest.approx(0.75, abs=1e-9)
    assert 0.5 <= found.low < found.difference < found.high <= 1.0
    assert found.p < 0.01


@given(
    counts=st.lists(st.integers(0, 3), min_size=6, max_size=6).filter(
        lambda row: sum(row[:3]) * sum(row[3:])
    ),
    values=st.lists(st.floats(0, 10), min_size=6, max_size=6),
)
@settings(max_examples=50, deadline=None)
def test_trial_mean_is_what_its_definition_says(counts, values):
    trial = np.array([0, 0, 0, 1, 1, 1])
    samples = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    mean = TrialMean(np.array(values) * samples, samples, trial, root=False, whole=False)
    weights = np.array(counts) * samples
    expected = np.mean(
        [np.average(values[:3], weights=weights[:3]), np.average(values[3:], weights=weights[3:])]
    )
    assert mean(np.array(counts)) == pytest.approx(expected, abs=1e-9)


def test_a_trial_that_is_drawn_twice_counts_twice():
    trial = np.array([0, 0, 1])
    mean = TrialMean(np.array([4.0, 4.0, 16.0]), np.ones(3), trial, root=True, whole=True)
    assert mean(np.array([1, 1, 1])) == pytest.approx(3.0)
    assert mean(np.array([2, 2, 1])) == pytest.approx(8 / 3)
    assert np.isnan(mean(np.zeros(3, dtype=np.int64)))


def test_slices_by_trial_phase_and_acceleration_hold_the_error_of_their_part():
    recordings = _several(2)
    scored = score_answers(
        Answers.plain([_tilted(recordings[0], 1.0), _tilted(recordings[1], 3.0)]), recordings
    )
    found = {next(iter(labels.items())): metrics["inclination_rmse"] for labels, metrics in scored.slices}
    assert found["trial", "trial-1"].value == pytest.approx(3.0, abs=1e-9)
    assert found["trial", "trial-1"].units != scored.size
    assert found["phase", "slow"].value == pytest.approx(2.0, abs=1e-9)
    assert found["phase", "rest"].value == pytest.approx(2.0, abs=1e-9)
    assert ("phase", "tap") not in found
    assert any(dimension == "||acc| - g|" for dimension, _ in found)


def test_a_failed_trial_leaves_the_score_missing_and_not_better():
    recordings = _several(2)
    scored = score_answers(Answers.plain([_tilted(recordings[0], 1.0), None]), recordings)
    assert np.isnan(scored.metrics["inclination_rmse"].value)
    assert list(scored.metrics) == ["inclination_rmse"]


def test_phases_are_read_off_the_signals():
    recording = swaying(rest=5.0)
    acc = recording.acc.copy()
    acc[1500:1501] += [60.0, 0.0, 0.0]
    found = phases(replace(recording, acc=acc))
    assert (found[50:450] == PHASES.index("rest")).all()
    assert (found[1480:1520] == PHASES.index("tap")).all()
    assert np.isin(found[600:1400], (PHASES.index("slow"), PHASES.index("fast"))).all()
    assert acceleration_band(replace(recording, acc=acc))[1500] == 3


@given(seconds=st.floats(0.01, 3.0), size=st.integers(2, 60), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_means_around_a_sample_are_by_time_stamps(seconds, size, seed):
    rng = np.random.default_rng(seed)
    stamps, values = np.cumsum(rng.uniform(0.01, 0.3, size)), rng.normal(size=size)
    near = np.abs(stamps[:, None] - stamps) <= seconds / 2
    expected = (near * values).sum(axis=1) / near.sum(axis=1)
    np.testing.assert_allclose(around(stamps, values, seconds), expected, atol=1e-9)


def test_what_follows_says_where_up_is_without_a_reference():
    recording = swaying()
    up, known = no_reference.gravity_ahead(recording, 2.0)
    assert known.sum() == pytest.approx(len(recording) - 200, abs=1)
    off = np.rad2deg(np.arccos(np.clip((up * up_vector(recording.reference)).sum(axis=1), -1, 1)))
    assert off[known].max() < 2.0


def test_without_a_reference_estimators_are_ranked_as_their_errors_rank_them():
    recordings = [replace(one, movement=None) for one in _several(2)]
    alone = [replace(one, reference=None) for one in recordings]
    values = [
        score_answers(Answers.plain([_tilted(one, angle) for one in recordings]), alone).metrics
        for angle in (0.0, 2.0, 6.0)
    ]
    residuals = [found["gravity_residual"].value for found in values]
    assert residuals == sorted(residuals)
    assert residuals[2] == pytest.approx(6.0, abs=1.0)
    assert "inclination_rmse" not in values[0]
    # nothing comes to rest here
    assert "rest_consistency" not in values[0]


def test_a_rest_judges_the_answer_before_it():
    recording = swaying(10.0, rest=1.0)
    still = 400
    last = recording.reference[-1]
    held = Recording(
        "rested",
        np.arange(len(recording) + still) / 100,
        np.concatenate([recording.acc, np.tile(9.81 * up_vector(last), (still, 1))]),
        np.concatenate([recording.gyr, np.zeros((still, 3))]),
        reference=np.concatenate([recording.reference, np.tile(last, (still, 1))]),
    )
    samples, up = no_reference.before_rests(held)
    assert len(samples) == 1
    assert held.time[samples[0]] == pytest.approx(9.5, abs=0.3)
    truth = up_vector(held.reference[samples])
    assert np.rad2deg(np.arccos((up * truth).sum())) < 2.0
    assert len(no_reference.before_rests(recording)[0]) == 0


@pytest.mark.parametrize("delay", [-0.004, 0.0, 0.0123])
def test_a_delay_is_found_and_taken_back(delay):
    recordings = _several(2)
    true = [Estimate(one.reference, bias=np.full((len(one), 3), 0.01)) for one in recordings]
    biased = [replace(one, gyr=one.gyr + 0.01) for one in recordings]
    late = [carry_on(estimate, one, -delay) for estimate, one in zip(true, biased, strict=True)]
    assert fit_delay(late, biased) == pytest.approx(delay, abs=3e-5)
    back = carry_on(late[0], biased[0], delay)
    np.testing.assert_allclose(np.abs((back.quaternion * true[0].quaternion).sum(axis=1)), 1.0, atol=1e-12)


def test_no_delay_is_fitted_without_a_reference():
    recording = replace(swaying(), reference=None)
    estimate = Estimate(swaying().reference)
    assert fit_delay([estimate], [recording]) == 0.0
    assert carry_on(estimate, recording, 0.0) is estimate


def tiled(recording: Recording, times: int) -> Recording:
    return Recording(
        "long",
        np.arange(times * len(recording)) / 100,
        np.tile(recording.acc, (times, 1)),
        np.tile(recording.gyr, (times, 1)),
        reference=np.tile(recording.reference, (times, 1)),
    )


def calls_made(work) -> int:
    made = itertools.count()
    sys.setprofile(lambda *_: next(made))
    try:
        work()
    finally:
        sys.setprofile(None)
    return next(made)


def test_a_long_recording_is_scored_without_a_loop_over_its_samples():
    recording = swaying(5.0)
    calls = []
    for times in (4, 40):
        long = tiled(recording, times)
        answers = Answers.plain([_tilted(long, 1.0)])
        calls.append(calls_made(lambda answers=answers, long=long: score_answers(answers, [long])))
    assert calls[1] < 1.5 * calls[0]


def test_an_earth_frame_error_is_not_a_matter_of_the_sensor_frame():
    recording = swaying()
    turn = from_rotation_vector(np.array([0.3, -1.0, 0.7]))
    other = replace(
        recording,
        acc=rotate(turn, recording.acc),
        gyr=rotate(turn, recording.gyr),
        reference=multiply(recording.reference, turn * [1, -1, -1, -1]),
    )
    values = [
        score_answers(Answers.plain([_tilted(one, 3.0)]), [one]).metrics["inclination_rmse"].value
        for one in (recording, other)
    ]
    assert values[0] == pytest.approx(values[1], abs=1e-9)
