"""Dispersion, gates, losses, predictions and routing of the confidence-gated mixture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from appliedpapers.nn.mowst import ConfidenceGatedMixture, ExpertError, ProbabilityExpert, dispersion
from appliedpapers.nn.mowst_gates import GATES, ConfidenceGate
from appliedpapers.nn.mowst_routing import look_into_gate

quick = settings(max_examples=40, deadline=None)
finite = st.floats(-60, 60, width=32)


@st.composite
def logits(draw, rows=3):
    classes = draw(st.integers(2, 7))
    values = draw(st.lists(finite, min_size=rows * classes, max_size=rows * classes))
    return torch.tensor(values).reshape(rows, classes)


class Counting(nn.Module):
    """A linear expert that keeps what it was called with."""

    def __init__(self, inputs=6, classes=3):
        super().__init__()
        self.linear = nn.Linear(inputs, classes)
        self.calls = []

    def forward(self, x):
        self.calls.append(x)
        return self.linear(x)


def made(seed=0, classes=3, **options) -> ConfidenceGatedMixture:
    torch.manual_seed(seed)
    mixture = ConfidenceGatedMixture(Counting(classes=classes), Counting(classes=classes), **options)
    with torch.no_grad():
        mixture.weak.linear.weight.mul_(6)
    return mixture.eval()


@pytest.fixture
def x():
    return torch.randn(40, 6, generator=torch.Generator().manual_seed(1))


@quick
@given(logits())
def test_dispersion_lies_between_0_and_1_and_ignores_the_order_of_classes(z):
    d = dispersion(z)
    assert ((d >= 0) & (d <= 1)).all()
    order = torch.randperm(z.shape[-1], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(dispersion(z[:, order]), d, atol=1e-5, rtol=0)


def test_dispersion_is_0_for_uniform_and_1_for_one_hot_with_finite_gradients():
    z = torch.tensor([[0.0, 0, 0], [300.0, 0, 0]], requires_grad=True)
    d = dispersion(z)
    torch.testing.assert_close(d, torch.tensor([[0.0, 0], [1, 1]]), atol=1e-6, rtol=0)
    d.sum().backward()
    assert z.grad.isfinite().all()


def test_dispersion_of_two_classes_is_the_squared_margin():
    z = torch.randn(9, 2)
    torch.testing.assert_close(dispersion(z)[:, 0], (2 * z.softmax(-1)[:, 1] - 1).square())


@pytest.mark.parametrize("weak", [torch.zeros(4, 1), torch.zeros(4, 0)])
def test_one_class_is_refused(weak):
    with pytest.raises(ValueError, match="at least two classes"):
        dispersion(weak)


@quick
@given(logits(), st.floats(0, 1), st.integers(0, 2**31))
def test_star_loss_is_never_above_mowst_loss(z, c, seed):
    source = torch.Generator().manual_seed(seed)
    strong = torch.randn(z.shape, generator=source) * 5
    y = torch.randint(z.shape[1], (len(z),), generator=source)
    confidence = torch.full((len(z),), c)
    star, mowst = (
        ConfidenceGatedMixture(nn.Identity(), nn.Identity(), mode=mode).mixture_loss(z, strong, confidence, y)
        for mode in ("star", "mowst")
    )
    assert star <= mowst + 1e-6 * (1 + mowst)


@quick
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_monotone_gate_never_falls(seed, variance, entropy, more_variance, more_entropy):
    torch.manual_seed(seed)
    gate = ConfidenceGate("monotone", features=2, hidden=5, depth=3)
    for parameter in gate.parameters():
        parameter.data.normal_()
    features = torch.randn(1, 2)
    low = torch.tensor([[variance, entropy]])
    high = torch.max(low, torch.tensor([[more_variance, more_entropy]]))
    assert gate(high, features) >= gate(low, features) - 1e-6


@pytest.mark.parametrize("kind", GATES)
def test_every_gate_starts_near_the_strong_expert_and_learns(kind, x):
    mixture = made(gate=kind).train()
    y = torch.arange(40) % 3
    mixture.loss(x, y).backward()
    gradients = [p.grad for p in mixture.gate.parameters() if p.requires_grad]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert any(bool((g != 0).any()) for g in gradients)
    if kind != "power":
        assert 0.02 < ConfidenceGate(kind)(torch.full((8, 2), 0.3)).mean() < 0.5


def test_a_power_gate_is_0_at_no_dispersion_and_1_at_full():
    gate = ConfidenceGate("power")
    d = torch.tensor([[0.0, 0], [1, 1]], requires_grad=True)
    c = gate(d)
    assert c.tolist() == [0, 1]
    c.sum().backward()
    assert d.grad.isfinite().all()
    assert gate.level.grad.isfinite()


@pytest.mark.parametrize("mix", ["probabilities", "logits"])
def test_fixed_weights_0_and_1_are_exactly_the_single_experts(mix, x):
    mixture = made(mix=mix)
    for weight, expert in ((1.0, mixture.weak), (0.0, mixture.strong)):
        mixture.weight = weight
        torch.testing.assert_close(mixture.predict(x), expert(x).softmax(-1))
        torch.testing.assert_close(mixture(x), expert(x))
        assert torch.equal(mixture.evidence(x).mixed(weight), expert(x).softmax(-1))


def test_the_expected_prediction_is_the_mean_of_samples(x):
    mixture = made(gate_bias=0.0)
    few = x[:6]
    expected = mixture.predict(few)
    draws = torch.stack([mixture.predict(few.repeat(500, 1), "sample", seed=s) for s in range(40)])
    samples = draws.reshape(40 * 500, 6, 3)
    error = samples.std(0) / math.sqrt(len(samples))
    assert ((samples.mean(0) - expected).abs() <= 4 * error + 1e-6).all()


def test_the_softmax_of_the_output_is_the_prediction(x):
    mixture = made()
    torch.testing.assert_close(mixture(x).softmax(-1), mixture.predict(x))


def test_loss_is_weighted_row_by_row(x):
    mixture, y = made(mode="mowst"), torch.arange(40) % 3
    weights = (torch.arange(40) < 10).float()
    torch.testing.assert_close(mixture.loss(x, y, weights), mixture.loss(x[:10], y[:10]))
    found = mixture.evidence(x)
    c = found.confidence
    rows = -c * found.weak.gather(1, y[:, None])[:, 0].log()
    rows = rows - (1 - c) * found.strong.gather(1, y[:, None])[:, 0].log()
    torch.testing.assert_close(mixture.loss(x, y), rows.mean())


@pytest.mark.parametrize("detach", [True, False])
def test_detached_dispersion_passes_no_gradient_to_the_weak_expert(detach, x):
    mixture = made(detach_dispersion=detach)
    weak = mixture.answer("weak", x)
    c = mixture.confidence(weak)
    (gradient,) = torch.autograd.grad(
        c.sum() + 0 * weak[0].sum(), mixture.weak.linear.weight, retain_graph=True
    )
    assert bool((gradient != 0).any()) is not detach


def test_gate_features_change_the_confidence(x):
    mixture = made(gate_features=6)
    changed = x.clone()
    changed[:, 0] += 3
    weak = mixture.answer("weak", x)
    assert not torch.equal(mixture.confidence(weak, x), mixture.confidence(weak, changed))
    assert torch.equal(made().confidence(weak, x), made().confidence(weak, changed))


@pytest.mark.parametrize("freeze", ["none", "weak", "strong", "both"])
def test_frozen_experts_get_no_gradient_and_stay_in_evaluation_mode(freeze, x):
    mixture = made(freeze=freeze).train()
    mixture.loss(x, torch.arange(40) % 3).backward()
    for side in ("weak", "strong"):
        frozen = freeze in (side, "both")
        assert (mixture.expert(side).linear.weight.grad is None) is frozen
        assert mixture.expert(side).training is not frozen


@pytest.mark.parametrize("tau", [0.0, 0.08, 0.12, 0.5, 1.1])
def test_routing_calls_the_strong_expert_on_exactly_the_unsure_rows(tau, x):
    mixture = made()
    threshold = mixture.predict(x, "threshold", tau=tau)
    mixture.strong.calls.clear()
    routed = mixture.route(x, tau)
    torch.testing.assert_close(routed.prediction, threshold)
    unsure = routed.confidence < tau
    assert torch.equal(routed.routed, unsure)
    assert routed.share == pytest.approx(float(unsure.float().mean()))
    assert len(mixture.strong.calls) == int(bool(unsure.any()))
    if unsure.any():
        assert torch.equal(mixture.strong.calls[0], x[unsure])
    assert set(routed.seconds) == {"weak", "gate", "strong"}


def test_routed_rows_may_get_the_average_or_the_mixture(x):
    mixture = made()
    found = mixture.evidence(x)
    torch.testing.assert_close(mixture.route(x, 2.0, answer=0.5).prediction, found.mixed(0.5))
    torch.testing.assert_close(mixture.route(x, 2.0, answer="gate").prediction, found.mixed())
    assert torch.equal(mixture.route(x, -1.0, answer=0.5).prediction, found.weak)


def test_routing_takes_any_leading_axes_and_no_rows(x):
    mixture = made()
    flat = mixture.route(x, 0.12).prediction
    torch.testing.assert_close(mixture.route(x.reshape(4, 10, 6), 0.12).prediction, flat.reshape(4, 10, 3))
    assert mixture.route(x[:0], 0.12).prediction.shape == (0, 3)
    assert mixture(x[:0]).shape == (0, 3)


@pytest.mark.parametrize("budget", [0.0, 0.25, 0.3, 0.5, 1.0])
def test_a_budget_is_kept_to_and_used(budget, x):
    mixture = made()
    share = mixture.route(x, mixture.tau_for(x, budget=budget)).share
    assert budget - 1 / len(x) <= share <= budget


def test_ties_of_the_confidence_do_not_break_a_budget(x):
    mixture = made(gate="constant")
    assert mixture.route(x, mixture.tau_for(x, budget=0.5)).share == 0
    assert mixture.route(x, mixture.tau_for(x, budget=1.0)).share == 1


@pytest.mark.parametrize("points", [0.0, 2.5, 20.0])
def test_the_smallest_share_within_the_loss_is_chosen(points, x):
    mixture = made()
    y = mixture.strong(x).argmax(-1)
    tau = mixture.tau_for(x, y, max_loss=points)

    def accuracy(tau):
        return 100 * float((mixture.route(x, tau).prediction.argmax(-1) == y).double().mean())

    assert accuracy(tau) >= 100 - points - 1e-9
    share = mixture.route(x, tau).share
    smaller = [mixture.tau_for(x, budget=k / 40) for k in range(round(share * 40))]
    assert all(accuracy(t) < 100 - points for t in smaller)


def test_the_curve_ends_at_the_single_experts(x):
    mixture = made()
    y = torch.arange(40) % 3
    curve = mixture.curve(x, y, (0.0, 0.5, 1.0))
    found = mixture.evidence(x)
    assert [point["share"] for point in curve] == [0.0, 0.5, 1.0]
    assert curve[0]["score"] == pytest.approx(float((found.weak.argmax(-1) == y).double().mean()))
    assert curve[2]["score"] == pytest.approx(float((found.strong.argmax(-1) == y).double().mean()))
    assert curve[2]["loss"] == 0
    assert all(point["low"] <= point["score"] <= point["high"] for point in curve)
    assert curve[0]["ms_per_1000"] <= curve[2]["ms_per_1000"]


def test_the_gate_can_be_looked_into(x):
    mixture, y = made(gate_bias=0.0), torch.arange(40) % 3
    found = mixture.evidence(x)
    table = look_into_gate(found, y, bins=4)
    assert [row["low"] for row in table] == [0, 0.25, 0.5, 0.75]
    assert sum(row["rows"] for row in table) == 40
    right = (found.weak.argmax(-1) == y).double()
    for row in table:
        inside = (found.confidence >= row["low"]) & (found.confidence < row["high"])
        expected = float(right[inside].mean()) if inside.any() else None
        assert row["weak"] == (None if expected is None else pytest.approx(expected))


def test_experts_read_different_inputs_and_lazy_ones_only_for_their_rows(x):
    asked = []

    def dear(rows):
        asked.append(rows)
        return x if rows is None else x[rows]

    mixture = made()
    plain = mixture.route(x, 0.12)
    lazy = mixture.route({"weak": x, "strong": dear}, 0.12)
    torch.testing.assert_close(lazy.prediction, plain.prediction)
    assert asked[0].tolist() == plain.routed.nonzero()[:, 0].tolist()
    asked.clear()
    mixture.route({"weak": x, "strong": dear}, 0.0)
    assert asked == []
    torch.testing.assert_close(mixture.predict({"weak": x, "strong": lambda: x}), mixture.predict(x))
    renamed = made(features={"weak": "own", "strong": "own"})
    torch.testing.assert_close(renamed.predict({"own": x}), renamed.predict(x))
    with pytest.raises(ValueError, match="lacks 'strong'; it has weak"):
        mixture.predict({"weak": x})


def test_models_of_other_libraries_are_experts(x):
    class Foreign:
        def predict_proba(self, rows):
            assert isinstance(rows, np.ndarray)
            p = 1 / (1 + np.exp(-rows[:, 0]))
            return np.stack([1 - p, p], axis=1)

    by_object = ConfidenceGatedMixture(Foreign(), Counting(classes=2)).eval()
    by_function = ConfidenceGatedMixture(lambda rows: 1 / (1 + np.exp(-rows[:, 0])), by_object.strong).eval()
    expected = torch.sigmoid(x[:, 0])
    torch.testing.assert_close(by_object.evidence(x).weak[:, 1], expected)
    torch.testing.assert_close(by_function.evidence(x).weak[:, 1], expected)
    assert by_object.frozen == {"weak"}
    by_object.train().loss(x, torch.arange(40) % 2).backward()
    assert by_object.gate.linears[0].weight.grad is not None


def test_a_certain_foreign_model_has_dispersion_1_and_finite_logits():
    expert = ProbabilityExpert(lambda rows: np.eye(3)[[0, 1]])
    z = expert(torch.zeros(2, 1))
    assert z.isfinite().all()
    torch.testing.assert_close(dispersion(z), torch.ones(2, 2), atol=1e-4, rtol=0)


def test_a_data_frame_reaches_a_foreign_model_as_it_is_and_only_the_routed_rows():
    import pandas as pd

    frame = pd.DataFrame({"a": np.linspace(-3, 3, 20)})
    seen = []

    def predict(rows):
        seen.append(len(rows))
        p = 1 / (1 + np.exp(-rows["a"].to_numpy()))
        return np.stack([1 - p, p], axis=1)

    mixture = ConfidenceGatedMixture(predict, predict, gate="power").eval()
    routed = mixture.route(frame, 0.1)
    assert seen == [20, int(routed.routed.sum())]
    assert 0 < routed.share < 1


def test_experts_with_one_logit_are_two_classes(x):
    mixture = made(classes=1, in_features=6, out_features=1)
    assert mixture(x).shape == (40, 1)
    torch.testing.assert_close(torch.sigmoid(mixture(x)[:, 0]), mixture.predict(x)[:, 1])
    torch.testing.assert_close(mixture.evidence(x).weak[:, 1], torch.sigmoid(mixture.weak(x)[:, 0]))
    mixture.train().loss(x, torch.arange(40) % 2).backward()


class Certain(nn.Module):
    """A regression expert: the first feature, with the second's square as its variance."""

    def forward(self, x):
        return x[:, :1], x[:, 1:2].square()


def test_regression_routes_by_the_variance_of_the_weak_expert(x):
    mixture = ConfidenceGatedMixture(
        Certain(), Counting(classes=1), task="regression", gate="power", out_features=1
    ).eval()
    y = mixture.strong(x)
    routed = mixture.route(x, mixture.tau_for(x, budget=0.5))
    assert routed.share == 0.5
    variance = x[:, 1].square()
    assert variance[routed.routed].min() >= variance[~routed.routed].max()
    torch.testing.assert_close(routed.prediction[routed.routed], y[routed.routed])
    assert mixture.tau_for(x, y, max_loss=0.0) > 0
    mixture.train().loss(x, y.detach() + 1).backward()


def test_regression_without_a_variance_is_refused(x):
    mixture = ConfidenceGatedMixture(Counting(), Certain(), task="regression")
    with pytest.raises(ValueError, match="needs a weak expert that gives"):
        mixture.predict(x)


def test_bad_input_is_named(x):
    y = torch.arange(40) % 3
    with pytest.raises(ValueError, match="weak expert gives 3 classes, the strong one 4"):
        ConfidenceGatedMixture(Counting(classes=3), Counting(classes=4)).loss(x, y)
    with pytest.raises(ValueError, match="at least two classes; for experts with one logit"):
        made(classes=1).predict(x)
    with pytest.raises(ValueError, match=r"label 3 is outside 0\.\.2"):
        made().loss(x, y + 1)
    with pytest.raises(ValueError, match=r"label -1 is outside 0\.\.2; leave unlabelled rows out"):
        made().loss(x, y - 1)
    with pytest.raises(ValueError, match="no labelled rows"):
        made().loss(x[:0], y[:0])
    bad = x.clone()
    bad[3] = math.nan
    with pytest.raises(ExpertError, match="weak expert gave NaN or infinite values in 1 rows"):
        made().predict(bad)
    with pytest.raises(ValueError, match="either budget"):
        made().tau_for(x)
    with pytest.raises(ValueError, match="needs tau"):
        made().predict(x, "threshold")
    with pytest.raises(ValueError, match="needs a seed"):
        made().predict(x, "sample")
    with pytest.raises(ValueError, match="did you mean 'star'"):
        made(mode="stat")
    with pytest.raises(ValueError, match=r"in_features=6, got 5"):
        made(in_features=6, out_features=3)(x[:, :5])


def test_a_strong_expert_that_raises_is_named(x):
    def broken(rows):
        raise OSError("no such table")

    mixture = ConfidenceGatedMixture(Counting(), broken).eval()
    assert mixture.route(x, 0.0).share == 0
    with pytest.raises(ExpertError, match="strong expert failed on 40 routed rows: no such table"):
        mixture.route(x, 1.1)


def test_prediction_leaves_the_mode_of_every_part_alone(x):
    mixture = made().train()
    mixture.gate.eval()
    mixture.predict(x)
    assert mixture.training
    assert mixture.weak.training
    assert not mixture.gate.training


def test_rows_do_not_depend_on_one_another(x):
    mixture = made()
    torch.testing.assert_close(mixture(x)[5:6], mixture(x[5:6]))
    assert mixture.train()(x[:1]).shape == (1, 3)


def test_it_compiles_whole_and_exports(x):
    mixture = made(in_features=6, out_features=3)
    mixture.weak, mixture.strong = nn.Linear(6, 3), nn.Linear(6, 3)
    mixture.eval()
    compiled = torch.compile(mixture, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), mixture(x))
    exported = torch.export.export(mixture, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.testing.assert_close(exported.module()(x[:7]), mixture(x[:7]))
