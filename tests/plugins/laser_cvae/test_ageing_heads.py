"""The two heads: what is normal, how p-values come about, what the path prior and the path model find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_ageing import config, fitted

from appliedpapers.core.model import FitContext
from appliedpapers.plugins.laser_cvae.ageing import ageing_rows, training_prefixes
from appliedpapers.plugins.laser_cvae.config import SimulatorConfig
from appliedpapers.plugins.laser_cvae.conformal import Calibration
from appliedpapers.plugins.laser_cvae.decoding import Curves, Readings
from appliedpapers.plugins.laser_cvae.devices import Scale, first_crossing, outliers, prefixes
from appliedpapers.plugins.laser_cvae.fitting import conditioning
from appliedpapers.plugins.laser_cvae.forecast import over_time, reached
from appliedpapers.plugins.laser_cvae.forecast_fit import fit_forecast
from appliedpapers.plugins.laser_cvae.learner import reading_losses
from appliedpapers.plugins.laser_cvae.normal import normal_devices, reference_devices
from appliedpapers.plugins.laser_cvae.path_model import PathModel
from appliedpapers.plugins.laser_cvae.path_prior import PathPrior
from appliedpapers.plugins.laser_cvae.points import draws, simplex
from appliedpapers.plugins.laser_cvae.profile import PROFILE, cleaned, read_at
from appliedpapers.plugins.laser_cvae.simulator import simulate


@pytest.fixture(scope="module")
def devices():
    return simulate(SimulatorConfig(), 5, 500)


def test_failures_by_condition_are_normal_and_others_are_not(devices):
    normal, modes = normal_devices(devices), np.array(devices.modes)
    assert normal[modes == "condition"].mean() > 0.8
    assert normal[modes == ""].all()
    assert normal[modes == "rapid"].mean() < 0.1
    assert normal[modes == "gradual"].mean() < 0.4
    assert not (reference_devices(devices) & devices.failed).any()


def test_a_single_odd_reading_is_marked_and_a_trend_is_not():
    line = np.linspace(0, 0.05, 30)[None]
    assert not outliers(line).any()
    odd = line.copy()
    odd[0, 11] += 0.05
    assert np.flatnonzero(outliers(odd)[0]).tolist() == [11]
    assert np.isinf(first_crossing(np.arange(30.0)[None], odd, 0.06))


def test_a_failure_dated_by_a_reading_happened_on_the_way_to_it(devices):
    limit, failed = devices.scale.limit, devices.take(devices.failed)
    dated = replace(failed, failure=first_crossing(failed.hours, failed.damage, limit), truth=None)
    # the simulator dates failures by the first reading whose noise-free damage is beyond the criterion
    for known, damage in ((failed, failed.truth), (dated, dated.damage)):
        place = (known.hours == known.failure[:, None]).argmax(axis=1)
        every = np.arange(len(known))
        # a step that was taken for an outlier has readings beyond the criterion on both sides
        plain = (place > 0) & (damage[every, place - 1] < limit)
        assert plain.mean() > 0.9
        assert (known.crossing[plain] > known.hours[every, place - 1][plain]).all()
        assert (known.crossing[plain] <= known.failure[plain]).all()
        np.testing.assert_array_equal(known.crossing[~plain], known.failure[~plain])
        for row in every[plain]:
            there = np.isfinite(known.hours[row])
            found = np.interp(known.crossing[row], known.hours[row][there], damage[row][there])
            assert found == pytest.approx(limit)
    moved = replace(failed, failure=failed.failure - 1.0)
    np.testing.assert_array_equal(moved.crossing, moved.failure)


@given(
    arrays(np.float64, (4, 9), elements=st.floats(1e-6, 1.0)), arrays(np.float64, 4, elements=st.floats(0, 1))
)
@settings(max_examples=50, deadline=None)
def test_calibration_moves_whether_a_device_fails_and_not_when_it_does(steps, p_cross):
    chances = np.cumsum(steps, axis=1)
    chances /= np.maximum(chances[:, -1:], 1) * 1.01
    told = over_time(chances, p_cross)
    np.testing.assert_allclose(told[:, -1], p_cross, atol=1e-12)
    assert (np.diff(told, axis=1) >= 0).all()
    before, after = chances / chances[:, -1:], told / np.maximum(told[:, -1:], 1e-300)
    np.testing.assert_allclose(after[p_cross > 1e-200], before[p_cross > 1e-200], rtol=1e-9)


@given(arrays(np.float64, (3, 12), elements=st.floats(0.3, 2.0)), st.sampled_from(["ratio", "percent", "dB"]))
@settings(max_examples=30, deadline=None)
def test_damage_told_in_a_unit_is_read_back(ratio, unit):
    for mode, threshold in (("CC", 0.8), ("CP", 1.2)):
        scale = Scale(mode, unit, threshold)
        damage = scale.damage(ratio)
        np.testing.assert_allclose(scale.damage(scale.ratio(scale.told(damage))), damage, atol=1e-9)


@given(arrays(np.float64, 40, elements=st.floats(-5, 5)), st.floats(-6, 6))
@settings(max_examples=40, deadline=None)
def test_p_values_are_ranks_and_never_zero(scores, asked):
    hours = np.array([10.0, 20.0])
    table = np.stack([scores, scores], axis=1)
    calibration = Calibration.fit(hours, table, ["a"] * 40, (table, ["a"] * 40))
    found, basis = calibration.p_values(np.array([asked]), np.array([15.0]), ["a"])
    relative = calibration.standardised(np.array([asked]), np.array([15.0]), ["a"])
    own = calibration.standardised(scores, np.full(40, 15.0), ["a"] * 40)
    assert found[0] == pytest.approx((1 + (own >= relative[0]).sum()) / 41)
    assert basis == ["standardised"]
    again = Calibration.from_json(calibration.to_json())
    assert again.p_values(np.array([asked]), np.array([15.0]), ["a"])[0] == found


def test_cells_with_fifty_devices_are_compared_among_themselves():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0, 1, (60, 2)), rng.normal(9, 1, (20, 2))])
    cells = ["large"] * 60 + ["small"] * 20
    calibration = Calibration.fit(np.array([1.0, 2.0]), scores, cells, (scores, cells))
    found, basis = calibration.p_values(np.array([9.0, 9.0]), np.array([1.5, 1.5]), ["large", "small"])
    assert basis == ["cell", "standardised"]
    assert found[0] == pytest.approx(1 / 61)
    assert found[1] > 0.2


def test_healthy_devices_have_even_p_values_at_every_length():
    dataset, model = fitted()
    healthy = dataset.test.devices.take(~dataset.test.devices.failed)
    for share in (0.2, 0.6, 1.0):
        seen = healthy.before(share * healthy.horizon)
        p_values, _ = model.ageing.p_values(seen, model.ageing.judge(seen))
        assert 0.38 < p_values.mean() < 0.62


def test_the_path_model_recovers_the_physics_within_its_intervals():
    wanted = SimulatorConfig(p_fail=0.0, unit_sd=0.19)
    made = simulate(wanted, 11, 150)
    found = PathModel.fit(made, np.isfinite(made.hours)).accelerations()
    for name, true, off in (
        ("activation_energy", 0.7, 0.1),
        ("current_exponent", 2.0, 0.5),
        ("time_exponent", 0.6, 0.08),
    ):
        one = found[name]
        assert one.low < one.value < one.high
        assert one.value == pytest.approx(true, abs=off), name


def test_an_exponent_of_what_does_not_vary_is_not_told():
    made = simulate(SimulatorConfig(p_fail=0.0, temperatures=(80.0,), currents=(1.0,)), 1, 20)
    found = PathModel.fit(made).accelerations()
    assert np.isnan(found["activation_energy"].value)
    assert np.isfinite(found["time_exponent"].value)


def test_the_path_prior_goes_on_as_it_learned_and_is_read_back(devices):
    healthy = devices.take(~devices.failed)
    prior = PathPrior.fit(healthy, np.isfinite(healthy.hours), 6)
    seen = prefixes(healthy, np.arange(len(healthy)), 0.5 * healthy.horizon)
    mean = prior.mean(seen.conditions)
    weights, _ = prior.posterior(seen.hours, seen.damage, seen.kept, mean)
    end = prior.paths(weights, seen.horizon[:, None])[:, 0]
    true = healthy.truth[np.arange(len(healthy)), healthy.counts - 1]
    carried = seen.damage[np.arange(len(seen)), seen.counts - 1]
    assert np.abs(end - true).mean() < 0.5 * np.abs(carried - true).mean()
    again = PathPrior.from_json(prior.to_json())
    np.testing.assert_array_equal(again.mean(seen.conditions), mean)


def test_quantiles_of_the_failure_time_are_where_the_chance_reaches_them():
    hours = np.array([[0.0, 10.0, 20.0, 30.0]])
    found = reached(hours, np.array([[0.2, 0.4, 0.8]]))
    np.testing.assert_allclose(found[0, :2], [5.0, 22.5])
    assert np.isnan(found[0, 2])


def test_draws_are_always_the_same_and_standard_normal():
    one = draws(128, 7)
    assert one is draws(128, 7)
    assert np.abs(one.mean(axis=0)).max() < 0.05
    assert np.abs(one.std(axis=0) - 1).max() < 0.1


@pytest.mark.parametrize("size", [1, 4, 6])
def test_the_corners_of_a_simplex_have_mean_zero_and_covariance_one(size):
    corners = simplex(size)
    assert corners.shape == (size + 1, size)
    np.testing.assert_allclose(corners.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(corners.T @ corners / len(corners), np.eye(size), atol=1e-12)


def test_scores_alone_are_those_of_a_whole_judgement():
    dataset, model = fitted()
    devices = dataset.test.devices
    seen = devices.before(0.6 * devices.horizon)
    whole = model.ageing.judge(seen).score
    np.testing.assert_allclose(model.ageing.scores(seen), whole, rtol=1e-4, atol=1e-4)


def test_prefixes_of_those_that_wait_end_before_the_failure_and_are_no_copies(devices):
    failed = devices.take(devices.failed)
    seen = training_prefixes(failed, 12, 1, last=0.95, waiting=True)
    assert (seen.end < failed.failure[seen.device]).all()
    assert len(seen) < 12 * len(failed)
    every = training_prefixes(failed, 12, 1, last=0.95)
    assert len(every) > len(seen)


def test_outliers_are_replaced_by_the_line_between_their_neighbours(devices):
    seen = devices.before(0.7 * devices.horizon)
    marked = np.isfinite(seen.damage) & ~seen.kept
    assert marked.any()
    found = cleaned(seen)
    for row in np.flatnonzero(marked.any(axis=1))[:20]:
        good = seen.kept[row]
        line = np.interp(seen.hours[row, marked[row]], seen.hours[row, good], seen.damage[row, good])
        np.testing.assert_allclose(found[row, marked[row]], line, atol=1e-12)
    np.testing.assert_array_equal(found[~marked], seen.damage[~marked])


def test_two_runs_of_one_seed_are_one_run():
    first, again = simulate(SimulatorConfig(), 3, 40), simulate(SimulatorConfig(), 3, 40)
    np.testing.assert_array_equal(first.damage, again.damage)
    assert (simulate(SimulatorConfig(), 4, 40).damage != first.damage).any()


def test_modes_come_in_equal_shares_and_only_failures_have_one():
    made = simulate(SimulatorConfig(p_fail=1.0, damage_ref=1e-4), 2, 3000)
    modes = np.array(made.modes)
    for mode in ("gradual", "rapid", "sudden"):
        assert abs((modes == mode).sum() - 1000) < 3 * np.sqrt(3000 * 2 / 9)
    assert all(np.isfinite(made.failure) == (modes != ""))


@pytest.mark.parametrize(
    "options",
    [
        {"grid": "irregular", "missing": 0.3},
        {"censored": 0.4},
        {"defects": True, "infant": True},
        {"weibull": True, "precursor": 0.3, "power_exponent": 1.0},
    ],
)
def test_every_fault_of_the_simulator_can_be_wanted(options):
    made = simulate(SimulatorConfig(**options), 1, 200)
    assert (made.counts >= 4).all()
    assert np.isfinite(made.damage[np.isfinite(made.hours)]).all()
    assert (np.diff(made.hours, axis=1)[np.isfinite(np.diff(made.hours, axis=1))] > 0).all()


def test_constant_power_rises_where_constant_current_falls():
    made = simulate(SimulatorConfig(p_fail=0.0), 1, 30, mode="CP")
    assert made.scale.threshold == 1.2
    assert (made.scale.told(made.damage[:, -1]) > 1).mean() > 0.8


def test_intervals_begin_where_devices_did_fail_each_counted_once():
    from appliedpapers.plugins.laser_cvae.forecast_fit import _lower_quantile

    # one device of two prefixes, one of six: what many prefixes of one device say counts no more
    chances = np.array([0.01, 0.02, *np.full(6, 0.3)])
    weight = np.array([0.25, 0.25, *np.full(6, 0.5 / 6)])
    assert _lower_quantile(chances, weight, 0.0) == 0.01
    assert _lower_quantile(chances, weight, 0.25) == 0.02
    assert _lower_quantile(chances, weight, 0.49) == 0.02
    assert _lower_quantile(chances, weight, 0.5) == 0.3
    assert _lower_quantile(chances, np.full(8, 1 / 8), 0.25) == 0.3
    assert _lower_quantile(chances, weight, -0.1) == 0.01


def test_devices_read_at_the_same_hours_are_judged_as_among_others_to_the_bit(devices):
    alike = devices.take(slice(0, 40)).before(2000.0)
    assert (alike.hours == alike.hours[0]).all()
    other = prefixes(devices, np.array([*range(40), 41]), np.array([2000.0] * 40 + [1500.0]))
    profile = read_at(alike, cleaned(alike), PROFILE)
    assert np.array_equal(profile, read_at(other, cleaned(other), PROFILE)[:40])
    _, model = fitted()
    assert np.array_equal(model.ageing.scores(alike), model.ageing.scores(other)[:40])


@pytest.mark.parametrize("alike", [True, False])
def test_losses_without_gradients_are_those_that_were_learned(devices, alike):
    _, model = fitted()
    head, seen = model.ageing, devices.take(slice(0, 40)).before(np.linspace(700.0, 3500.0, 40))
    if not alike:
        slower = np.linspace(1.0, 1.2, 40)
        seen = replace(seen, hours=seen.hours * slower[:, None], end=seen.end * slower)
    rows = ageing_rows(seen, head.how, head.options)
    longest = int(seen.counts.max())
    with torch.inference_mode():
        posterior = head.network.encode(rows.features)
        z = posterior.draw(torch.as_tensor(draws(7, 4)[:, None], dtype=torch.float32))
        losses, _ = reading_losses(head.network, rows, z)
        _, mean = reading_losses(head.network, rows, posterior.mean)
        curves, readings = Curves(head.network), Readings.of(rows, longest)
        assert (readings.place.shape[1] == 1) == alike
        found = curves.losses(readings, rows.condition, z)
        expected = curves.expected(readings, rows.condition, posterior.mean)
    there = np.isfinite(seen.hours)
    for one, other in ((losses.mean(dim=0), found), (mean, expected)):
        np.testing.assert_allclose(other.T.numpy()[there], one.numpy()[there], rtol=1e-3, atol=1e-4)


def test_a_device_is_judged_the_same_beside_one_with_more_readings_to_the_bit(devices):
    # as many readings as there are get computed, and both have the same width
    hours = np.array([devices.hours[0, 17], devices.hours[0, 22]])
    both = prefixes(devices, np.array([0, 0]), hours)
    alone = prefixes(devices, np.array([0]), hours[:1])
    _, model = fitted()
    one, two = model.ageing.judge(alone), model.ageing.judge(both)
    assert one.score[0] == two.score[0]
    np.testing.assert_array_equal(one.attribution[0], two.attribution[0, : one.attribution.shape[1]])
    np.testing.assert_array_equal(one.expected[0, :18], two.expected[0, :18])


def test_no_sudden_failure_is_foretold_where_none_was_seen(tmp_path):
    small = config("forecast_training.epochs=1", "data.simulator.modes=[gradual]")
    made = simulate(small.data.simulator, 5, 60)
    assert not (np.diff(made.damage, axis=1) > made.scale.limit).any()
    run, some = FitContext(tmp_path, seed=1), made.take(slice(0, 20))
    head = fit_forecast(made, some, small.forecast, small.forecast_training, conditioning(made), run)
    head.mix = 1.0
    assert not head.network.sudden
    assert not head.to_json()["sudden"]
    with torch.no_grad():
        before = head.look(made.before(1500.0)).logit
        head.network.hazard[-1].bias += 50.0
        np.testing.assert_array_equal(head.look(made.before(1500.0)).logit, before)
    _, usual = fitted()
    assert usual.forecast.network.sudden


def test_devices_with_few_and_with_many_readings_are_judged_at_once(devices):
    _, model = fitted()
    few, many = devices.hours[0, 8], devices.hours[0, 40]
    both = model.ageing.judge(prefixes(devices, np.array([0, 1]), np.array([few, many])))
    for row, hour in enumerate((few, many)):
        one = model.ageing.judge(prefixes(devices, np.array([row]), np.array([hour])))
        width = one.expected.shape[1]
        np.testing.assert_array_equal(both.expected[row, :width], one.expected[0])
        np.testing.assert_array_equal(both.attribution[row, :width], one.attribution[0])
        assert both.score[row] == one.score[0]
