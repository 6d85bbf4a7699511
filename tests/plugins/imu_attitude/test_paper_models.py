"""The paper's models: sizes, first weights, losses, training, and answers for every sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from turning_sensor import SMALL, turning

from appliedpapers.core.model import FitContext
from appliedpapers.core.training import fit
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.plugins.imu_attitude.attitude_loss import (
    hamilton,
    paper_angle_deg,
    truncated_l1,
    up_angle,
    up_loss,
)
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig, ModelConfig
from appliedpapers.plugins.imu_attitude.learner_paper import PaperTask, build_network, estimate
from appliedpapers.plugins.imu_attitude.network import AttitudeLayer, GaussianNoise, ModelA, ModelB, up_of
from appliedpapers.plugins.imu_attitude.paper_windows import PaperWindows
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import (
    angle_between,
    from_rotation_vector,
    multiply,
    up_vector,
)

UNIT = st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1)


def inputs(rows=3, window=100, seed=0):
    random = torch.Generator().manual_seed(seed)
    acc, gyr = (torch.randn(rows, window, 3, generator=random) for _ in range(2))
    return acc, gyr, torch.full((rows,), 285.714)


def trainable(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def unit(values) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(values, dtype=torch.float64), dim=-1)


@pytest.fixture(scope="module")
def full():
    return {"a": ModelA().eval(), "b": ModelB().eval()}


@pytest.mark.parametrize(("kind", "count"), [("a", 1_465_476), ("b", 15_617_924)])
def test_full_models_have_the_papers_size(full, kind, count):
    assert trainable(full[kind]) == count
    second = [p for name, p in full[kind].named_parameters() if "bias_hh" in name]
    assert second
    assert not any(p.requires_grad or p.any() for p in second)
    with torch.inference_mode():
        answers = full[kind](*inputs())
    assert answers.shape == (3, 4)
    torch.testing.assert_close(answers.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(("name", "rows"), [("axes", 768), ("merge", 128), ("merged_dense", 256)])
def test_layers_of_model_a(full, name, rows):
    assert getattr(full["a"], name).weight.shape[0] == rows
    assert full["a"].last.in_features == 34_304


@pytest.mark.parametrize("model", [ModelA, ModelB])
@pytest.mark.parametrize(("window", "width"), [(100, 0.25), (31, 0.5), (20, 0.01)])
def test_width_scales_every_hidden_size(model, window, width):
    network = model(window, width).eval()
    assert trainable(network) < trainable(model(window, 1.0)) * width * 1.2
    answers = network(*inputs(2, window))
    torch.testing.assert_close(answers.norm(dim=1), torch.ones(2))


def test_first_weights_are_those_of_keras():
    network = ModelA(100, 0.25, seed=3)
    hidden = network.lstm.hidden_size
    recurrent = network.lstm.weight_hh_l0
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(hidden))
    bias = network.lstm.bias_ih_l0.detach().view(4, hidden)
    assert bias[1].eq(1).all()
    assert not bias[[0, 2, 3]].any()
    # of each axis on its own: 11 inputs, 11 * 32 outputs
    bound = (6 / (11 + 11 * 32)) ** 0.5
    assert 0.9 * bound < network.axes.weight.abs().max() <= bound
    assert not network.last.bias.any()


@pytest.mark.parametrize("model", [ModelA, ModelB])
def test_first_weights_depend_on_their_seed_alone(model):
    first = model(20, 0.1, seed=1)
    torch.randn(5)
    again, other = model(20, 0.1, seed=1), model(20, 0.1, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.last.weight, other.last.weight)


def test_first_weights_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    ModelA(20, 0.1)
    ModelB(20, 0.1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("network", [ModelA(20, 0.1, input_noise=0.25), ModelB(20, 0.1)])
def test_input_noise_acts_while_training_and_never_else(network):
    """Known defect 4: the published model reads the inputs from before the noise."""
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout | GaussianNoise) and module is not network.input_noise:
            module.eval()
    data = inputs(2, 20)
    assert not torch.equal(network(*data), network(*data))
    network.eval()
    assert torch.equal(network(*data), network(*data))


@pytest.mark.parametrize("pitch", [-90.0, 90.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pitch_of_90_degrees_is_finite(pitch, dtype):
    """Known defect 6: an arcsine that is not clipped."""
    half = np.radians(pitch) / 2
    quaternion = torch.tensor([[np.cos(half), 0, np.sin(half), 0]], dtype=dtype, requires_grad=True)
    attitude = AttitudeLayer()(quaternion)
    reference = torch.tensor([[0.5, 0.5, -0.5, 0.5]], dtype=dtype)
    loss = up_loss(attitude, reference).sum() + truncated_l1(attitude, reference).sum()
    (gradient,) = torch.autograd.grad(loss, quaternion)
    assert torch.isfinite(attitude).all()
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    up = torch.tensor([[-np.sign(pitch), 0, 0]], dtype=dtype)
    torch.testing.assert_close(up_of(attitude), up, atol=1e-3, rtol=0)


@pytest.mark.parametrize("outputs", ["quaternion", "up"])
def test_half_precision_answers_in_full(outputs):
    network = ModelA(20, 0.1, outputs=outputs)
    with torch.autocast("cpu", torch.bfloat16):
        answers = network(*inputs(4, 20))
    loss = up_loss(answers, unit([[1.0, 0, 0, 0]]).float())
    loss.sum().backward()
    assert answers.dtype == torch.float32
    assert torch.isfinite(network.last.weight.grad).all()


@pytest.mark.parametrize(("outputs", "count"), [("quaternion", 4), ("up", 3)])
def test_last_layer_gives_a_quaternion_or_up(outputs, count):
    for model in (ModelA, ModelB):
        network = model(20, 0.1, outputs=outputs).eval()
        assert network.last.out_features == count
        answers = network(*inputs(4, 20))
        torch.testing.assert_close(AttitudeLayer()(answers), answers, atol=1e-3, rtol=0)


@given(UNIT, UNIT)
def test_our_loss_sees_no_sign_and_no_yaw(first, second):
    """Known defect 7: the published loss differs for q and -q."""
    estimate, reference = unit(first), unit(second)
    loss = up_loss(estimate, reference)
    for other in (-estimate, hamilton(unit([0.8, 0, 0, 0.6]), estimate)):
        torch.testing.assert_close(up_loss(other, reference), loss, atol=1e-12, rtol=0)
    torch.testing.assert_close(up_loss(estimate, -reference), loss, atol=1e-12, rtol=0)


def test_the_papers_loss_sees_the_sign():
    estimate, reference = unit([[0.9, 0.1, 0.3, 0.2]]), unit([[0.9, 0.2, 0.3, 0.2]])
    assert truncated_l1(-estimate, reference) > 2 * truncated_l1(estimate, reference)


def test_the_papers_loss_charges_nothing_where_the_reference_is_missing():
    estimate = unit([[1.0, 0, 0, 0], [0.6, 0.8, 0, 0]]).requires_grad_()
    reference = torch.tensor([[np.nan] * 4, [1.0, 0, 0, 0]], dtype=torch.float64)
    loss = truncated_l1(estimate, reference)
    (gradient,) = torch.autograd.grad(loss.sum(), estimate)
    assert loss[0] == 0
    assert loss[1] > 0
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("error_deg", [0.0, 180.0])
def test_our_loss_has_a_gradient_at_no_and_at_all_error(error_deg):
    half = np.radians(error_deg) / 2
    estimate = torch.tensor([np.cos(half), np.sin(half), 0, 0], dtype=torch.float32, requires_grad=True)
    loss = up_loss(estimate, torch.tensor([1.0, 0, 0, 0]))
    (gradient,) = torch.autograd.grad(loss, estimate)
    assert torch.isfinite(gradient).all()
    assert loss.item() == pytest.approx(0.0 if error_deg == 0 else 2 + 0.1 * np.pi, abs=1e-6)


@given(UNIT, st.floats(1e-6, 3.1))
def test_angles_are_what_was_turned(quaternion, angle):
    """Known defect 11: an arccosine loses small angles."""
    reference = unit(quaternion).numpy()
    up = up_vector(reference)
    normal = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    turned = multiply(reference, from_rotation_vector(angle * normal / np.linalg.norm(normal)))
    found = up_angle(up_of(torch.from_numpy(turned)), up_of(torch.from_numpy(reference)))
    assert found.item() == pytest.approx(angle, abs=1e-12)
    if angle > 1e-4:
        total = paper_angle_deg(torch.from_numpy(turned), torch.from_numpy(reference))
        assert total.item() == pytest.approx(np.degrees(angle), abs=1e-6)


def fitted(folder, kind="paper-a", seed=0, **changes):
    config = ModelConfig(kind=kind, **{**SMALL, **changes})
    training = TrainingConfig(epochs=5, batch_size=32, lr=5e-3)
    train = PaperWindows([turning(seed=1), turning(seed=2)], config)
    valid = PaperWindows([turning(seed=3)], config)
    task = PaperTask(build_network(config, seed), train, valid, training, config)
    history = fit(task, FitContext(folder=folder, seed=seed))
    return task.network, config, history


@pytest.mark.parametrize(
    ("kind", "loss", "rotation"),
    [("paper-a", "up", True), ("paper-b", "up", False), ("paper-a", "l1-trunc", False)],
)
def test_training_learns(tmp_path, kind, loss, rotation):
    _, _, history = fitted(tmp_path, kind, loss=loss, random_rotation=rotation)
    losses = [epoch["train_loss"] for epoch in history.epochs]
    assert losses[-1] < 0.8 * losses[0]
    assert history.epochs[-1]["valid_inclination_deg"] < 90


def test_training_is_the_same_by_seed(tmp_path):
    first, again, other = (fitted(tmp_path / str(i), seed=s)[0] for i, s in enumerate((0, 0, 1)))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.last.weight, other.last.weight)


def test_plateau_lowers_the_rate_unless_it_decays():
    config = ModelConfig(kind="paper-a", **SMALL)
    windows = PaperWindows([turning()], config)
    network = build_network(config, 0)
    for decay, expected in ((1.0, torch.optim.lr_scheduler.ReduceLROnPlateau), (0.9, type(None))):
        task = PaperTask(network, windows, windows, TrainingConfig(lr_decay=decay), config)
        assert isinstance(task.scheduler(task.optimizer(), 10), expected)


def test_the_published_preset_is_the_papers():
    config = AttitudeConfig.model_validate(AttitudeConfig.presets["published"])
    assert (config.model.target, config.model.loss, config.model.random_rotation) == (
        "centre",
        "l1-trunc",
        False,
    )
    assert not config.model.upright
    assert trainable(build_network(config.model, 0)) == 1_465_476


def test_the_quarter_preset_is_small_and_causal():
    model = AttitudeConfig.model_validate(AttitudeConfig.presets["paper-quarter"]).model
    assert (model.target, model.upright) == ("last", True)
    assert trainable(build_network(model, 0)) < 1_465_476 / 12


def test_every_sample_is_answered_for():
    recording = turning(rows=203)
    for target, average, latency in (("last", 3, 0.0), ("centre", 1, 0.11), ("centre", 2, 0.22)):
        config = ModelConfig(kind="paper-a", target=target, average=average, **SMALL)
        network = build_network(config, 0).eval()
        answer = estimate(network, recording, config)
        assert answer.quaternion.shape == (203, 4)
        np.testing.assert_allclose(np.linalg.norm(answer.quaternion, axis=1), 1, atol=1e-12)
        assert answer.latency == pytest.approx(latency)


def test_the_gyroscope_carries_answers_between_windows():
    """A network that is right where it answers is right everywhere: here it is asked
    once or twice only."""
    recording = turning(rows=200)
    config = ModelConfig(kind="paper-a", window=20, stride=10_000, width=0.01)
    late = config.model_copy(update={"target": "centre", "stride": 180})
    for options, row in ((config, 19), (late, 0)):
        answer = estimate(_Oracle(recording, row, every=180), recording, options)
        error = angle_between(answer.up, up_vector(recording.reference))
        assert error[row:].max() < 1e-6


def test_centre_answers_are_carried_back_to_the_start():
    recording = turning(rows=30)
    config = ModelConfig(kind="paper-a", window=20, stride=4, width=0.01, target="centre")
    answer = estimate(_Oracle(recording, 8, every=4), recording, config)
    assert angle_between(answer.up, up_vector(recording.reference)).max() < 1e-6


def test_smoothing_averages_along_the_gyroscope():
    recording = turning(rows=300)
    config = ModelConfig(kind="paper-a", window=20, stride=1, width=0.01)
    oracle = _Oracle(recording, 19)
    wobble = from_rotation_vector(0.2 * np.random.default_rng(0).normal(size=oracle.answers.shape)[:, :3])
    errors = []
    for answers in (oracle.answers, torch.from_numpy(multiply(oracle.answers.numpy(), wobble))):
        oracle.answers = answers
        for seconds in (0.0, 0.5):
            answer = estimate(oracle, recording, config.model_copy(update={"smooth": seconds}))
            error = angle_between(answer.up, up_vector(recording.reference))[100:]
            errors.append(np.sqrt(np.mean(error**2)))
    assert max(errors[:2]) < 1e-6
    assert errors[3] < errors[2] / 4


class _Oracle(torch.nn.Module):
    """Answers with the reference of rows ``first``, ``first + every``, and so on."""

    window = 20

    def __init__(self, recording, first, every=1) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.answers = torch.from_numpy(recording.reference[first::every])

    def forward(self, acc, gyr, fs):
        return self.answers[: len(acc)]


def test_before_the_first_window_up_is_the_mean_accelerometer():
    recording = turning(rows=15)
    config = ModelConfig(kind="paper-a", **SMALL)
    answer = estimate(build_network(config, 0).eval(), recording, config)
    mean = np.cumsum(recording.acc, axis=0)
    assert angle_between(answer.up, mean).max() < 1e-7
    assert answer.notes == ("Parts shorter than the window: 1; mean accelerometer instead.",)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 98))
def test_last_uses_no_sample_that_is_still_to_come(row):
    """Known defect 5: answers that are called real-time and look half a window ahead."""
    config = ModelConfig(kind="paper-a", average=2, smooth=0.2, **SMALL)
    network = build_network(config, 0).eval()
    recording = turning(rows=100)
    other = turning(rows=100, seed=9)
    acc, gyr = recording.acc.copy(), recording.gyr.copy()
    acc[row + 1 :], gyr[row + 1 :] = other.acc[row + 1 :], other.gyr[row + 1 :]
    changed = Recording("changed", recording.time, acc, gyr)
    before, after = (estimate(network, each, config).quaternion for each in (recording, changed))
    assert np.array_equal(before[: row + 1], after[: row + 1])
    assert not np.array_equal(before, after)


def test_a_gap_starts_the_estimate_anew():
    recording = turning(rows=120)
    time = recording.time + np.where(np.arange(120) < 60, 0, 5.0)
    config = ModelConfig(kind="paper-a", **SMALL)
    network = build_network(config, 0).eval()
    answer = estimate(network, Recording("gap", time, recording.acc, recording.gyr), config)
    second = Recording("second", time[60:], recording.acc[60:], recording.gyr[60:])
    np.testing.assert_allclose(
        answer.quaternion[60:], estimate(network, second, config).quaternion, atol=1e-6
    )
