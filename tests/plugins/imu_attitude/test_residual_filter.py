"""The filter with its network: nothing without one, one machine for steps and recordings, causal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from attitude_machines import estimator, part, simulated, stepped
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.config import resolve
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.imu_attitude import residual, residual_choice
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.learner_residual import ResidualTask, examples, rms_deg
from appliedpapers.plugins.imu_attitude.residual import ResidualFilter
from appliedpapers.plugins.imu_attitude.residual_network import ResidualNetwork
from appliedpapers.plugins.imu_attitude.residual_numpy import NumpyResidual
from appliedpapers.plugins.imu_attitude.residual_windows import CHANNELS, STATICS
from appliedpapers.plugins.imu_attitude.rotations import angle_between, up_vector

LENGTH, EVERY = 20, 2


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def recording():
    return simulated()


def angle(first, second):
    return angle_between(up_vector(first), up_vector(second))


@pytest.mark.parametrize(("share", "gain"), [(0.0, 1.0), (1.0, 0.0)])
def test_without_a_share_or_untrained_it_is_the_filter(recording, share, gain):
    model = estimator(share=share, gain=gain)
    plain = GravityFilter(model.config.filter, delay=model.delay).batch(recording).quaternion
    np.testing.assert_allclose(model.estimate(recording).quaternion, plain, rtol=0, atol=1e-15)
    np.testing.assert_allclose(stepped(model.machine(), recording), plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("head", ["mlp", "mlp(hidden=[16,16])", "linear", "fan", "kan"])
@pytest.mark.parametrize("base", ["filter", "window-mean"])
def test_steps_equal_the_batch_also_when_moved_half_way(recording, head, base):
    model = estimator(f"model.head={head}", f"model.base={base}", "model.seconds=1.0")
    expected = model.estimate(recording).quaternion
    plain = GravityFilter(model.config.filter, delay=model.delay).batch(recording).quaternion
    half = len(recording) // 2 + 3
    first = model.machine()
    before = stepped(first, part(recording, slice(0, half)))
    second = model.machine().restore(first.state())
    after = stepped(second, part(recording, slice(half, None)))
    assert angle(np.vstack([before, after]), expected).max() < 1e-5
    assert np.degrees(angle(expected, plain)).max() > 0.05, "the network says nothing"
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1.0, atol=1e-12)


def test_a_correction_is_never_more_than_its_share_of_the_limit(recording):
    model = estimator("model.limit_deg=2", share=0.5, gain=100.0)
    plain = GravityFilter(model.config.filter, delay=model.delay).batch(recording).quaternion
    turned = np.degrees(angle(model.estimate(recording).quaternion, plain))
    assert 0.9 < turned.max() < 1.0 + 1e-6


@pytest.mark.parametrize("windows", [1, 7])
def test_a_long_recording_is_answered_in_parts(recording, windows, monkeypatch):
    model = estimator()
    expected = model.estimate(recording).quaternion
    monkeypatch.setattr(residual, "_WINDOWS_A_PART", windows)
    # float32 sums notice how many windows come at once
    assert angle(model.estimate(recording).quaternion, expected).max() < 1e-6


@pytest.mark.parametrize("count", [1, 2, 30])
def test_before_the_network_is_first_asked_it_is_the_filter(recording, count):
    model, short = estimator("model.rate=1"), part(recording, slice(0, count))
    plain = GravityFilter(model.config.filter, delay=model.delay).batch(short).quaternion
    np.testing.assert_array_equal(model.estimate(short).quaternion, plain)


def test_what_follows_changes_nothing(recording):
    model, half = estimator(), len(recording) // 2
    acc, gyr = recording.acc.copy(), recording.gyr.copy()
    acc[half:], gyr[half:] = 3.0, -2.0
    other = replace(recording, acc=acc, gyr=gyr)
    one, two = (model.estimate(item).quaternion for item in (recording, other))
    # the batch of windows has another size, which float32 sums may notice
    assert angle(one[:half], two[:half]).max() < 1e-6
    assert angle(one[half:], two[half:]).max() > 0.1


@given(
    rows=st.integers(1, 5), length=st.integers(17, 90), scale=st.floats(0.01, 20.0), seed=st.integers(0, 99)
)
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("head", ["mlp", "mlp(hidden=[8,12])", "linear"])
def test_numpy_answers_as_torch_does(head, rows, length, scale, seed):
    network = ResidualNetwork(head, 0.1, seed).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        network.gain.fill_(1.5)
    series = scale * torch.randn(rows, length, CHANNELS, generator=random)
    statics = scale * torch.randn(rows, STATICS, generator=random)
    with torch.inference_mode():
        expected = network(series, statics).numpy()
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    single = NumpyResidual(weights, 0.1)
    found = np.stack([single(*window) for window in zip(series.numpy(), statics.numpy(), strict=True)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_first_weights_follow_from_the_seed_alone_and_leave_the_global_generator():
    before = torch.random.get_rng_state()
    one, two, other = (ResidualNetwork("linear", 0.1, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["first.weight"], other["first.weight"])
    assert torch.equal(before, torch.random.get_rng_state())


def filtered(recordings, model):
    return [model._filtered(recording) for recording in recordings]


def test_a_perfect_rotation_leaves_no_error(recording):
    model = estimator()
    material = filtered([recording], model)
    found = examples(material, LENGTH, EVERY, "filter")
    truth = found.truth.numpy()
    # what brings up to the truth: about (-y, x)
    size = np.arctan2(np.hypot(truth[:, 0], truth[:, 1]), truth[:, 2])
    axis = np.stack([-truth[:, 1], truth[:, 0]], axis=1) / np.hypot(truth[:, 0], truth[:, 1])[:, None]
    answers = iter((axis * size[:, None]).astype(np.float32))
    blocks, judged = material[0][2], recording.judged

    def oracle(series, statics):
        last = np.arange(EVERY - 1, len(blocks.ends), EVERY)
        wanted = np.zeros((len(series), 2), dtype=np.float32)
        wanted[judged[blocks.ends[last]]] = np.stack(list(answers))
        return wanted

    gravity = GravityFilter(model.config.filter, delay=model.delay)
    machine = ResidualFilter(gravity, oracle, share=1.0, length=LENGTH, every=EVERY)
    corrected = machine.batch(recording)
    asked = blocks.ends[EVERY - 1 :: EVERY]
    asked = asked[judged[asked]]
    left = angle_between(corrected.up[asked], up_vector(recording.reference[asked]))
    assert np.degrees(size).max() > 0.3
    assert np.degrees(left).max() < 1e-4


# How much of it is kept.


@pytest.fixture(scope="module")
def material():
    trials = [simulated(seconds=15.0, number=number, taps=False) for number in range(4)]
    return filtered(trials, estimator())


def leaning(lean):
    """Return windows whose truth leans by ``lean(statics)``, radians along the level frame's x and y."""

    def made(material, length, every, base):
        found = examples(material, length, every, base)
        x, y = lean(found.statics).T
        up = torch.stack([x, y, torch.ones(len(found))], dim=1)
        return replace(found, truth=up / up.norm(dim=1, keepdim=True))

    return made


def choose(material, folder, epochs):
    assignments = (
        f"training.epochs={epochs}",
        "training.batch_size=32",
        "training.lr=0.01",
        "model.head=linear",
    )
    config = resolve(AttitudeConfig, assignments=assignments)
    return residual_choice.train_residual(material, LENGTH, EVERY, config, FitContext(folder))


def test_noise_is_not_learned_and_nothing_is_kept(material, tmp_path, monkeypatch):
    random = torch.Generator().manual_seed(0)
    noise = leaning(lambda statics: 0.03 * torch.randn(len(statics), 2, generator=random))
    monkeypatch.setattr(residual_choice, "examples", noise)
    network, share, errors = choose(material, tmp_path, epochs=2)
    assert (network, share) == (None, 0.0)
    assert set(errors) == {0.0, 0.25, 0.5, 1.0}


def test_what_the_window_tells_is_learned_and_kept(material, tmp_path, monkeypatch):
    # up leans along the filter's velocity, which the window holds
    lean = leaning(lambda statics: 0.05 * torch.nn.functional.normalize(statics[:, 0:2]))
    monkeypatch.setattr(residual_choice, "examples", lean)
    network, share, errors = choose(material, tmp_path, epochs=10)
    assert share > 0
    assert errors[share] < 0.93 * errors[0.0]
    assert float(network.gain.detach()) != 0.0


def test_a_trial_that_judges_was_not_learned_from(material, tmp_path, monkeypatch):
    seen = []
    real = ResidualTask.__init__

    def watched(self, network, train, valid, settings):
        seen.append((train, valid))
        real(self, network, train, valid, settings)

    monkeypatch.setattr(ResidualTask, "__init__", watched)
    monkeypatch.setattr(residual_choice, "_choose", lambda errors: 0.5)
    _, _, errors = choose(material, tmp_path, epochs=1)
    *folds, (everything, nobody) = seen
    assert (len(folds), len(nobody)) == (3, 0)
    for train, valid in folds:
        learned = {row.tobytes() for row in train.series.numpy()}
        assert not learned & {row.tobytes() for row in valid.series.numpy()}
        assert len(train) + len(valid) == len(everything)
    assert sum(len(valid) for _, valid in folds) == len(everything)
    # without the network every trial has the filter's own error
    own = [rms_deg(torch.from_numpy(_errors(one))) for one in material]
    assert errors[0.0] == pytest.approx(np.mean(own), rel=1e-4)


def _errors(one):
    recording, orientation, blocks = one
    asked = blocks.ends[EVERY - 1 :: EVERY]
    asked = asked[recording.judged[asked]]
    return angle(orientation[asked], recording.reference[asked])


def test_one_trial_cannot_choose_and_keeps_nothing(material, tmp_path):
    assert choose(material[:1], tmp_path, epochs=1) == (None, 0.0, {})


def test_trials_too_short_for_a_window_keep_the_filter(material, tmp_path):
    recording = part(simulated(seconds=6.0), slice(0, 4))
    short = replace(recording, movement=np.ones(4, dtype=bool))
    network, share, errors = choose(filtered([short, short], estimator()), tmp_path, epochs=1)
    assert (share, errors) == (0.0, {})
    assert network is None
