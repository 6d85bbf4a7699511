"""KAN layers and networks: grids, precision, states, products, pruning, and what hypothesis finds."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from appliedpapers import nn
from appliedpapers.nn.basis import SplineBasis
from appliedpapers.nn.kan import KAN, relative_change
from appliedpapers.nn.kan_linear import KANLinear
from appliedpapers.nn.kan_prune import connected
from appliedpapers.nn.problems import product_of_curves, sparse_linear
from benchmarks.nn_toy import error_of, minimise

D = torch.float64
BASES = ("bspline", "rbf", "chebyshev", "fourier")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def rough(net: torch.nn.Module, size: float = 1.0) -> torch.nn.Module:
    """Give every parameter a value that matters, so that a lost one is seen."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(size * torch.randn_like(parameter) / math.sqrt(max(parameter.shape[-1], 1)))
    return net


def curved(net: torch.nn.Module) -> torch.nn.Module:
    """Give every edge a gentle curve of its own, as training does."""
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, KANLinear):
                size, *edges = layer.weight.shape
                place = torch.arange(size)[:, None, None] / size
                height = torch.randn(edges) / math.sqrt(layer.in_features)
                layer.weight.copy_(height * torch.sin(3 * place + 6 * torch.rand(edges)))
                if layer.scale is not None:
                    layer.scale.copy_(0.5 + torch.rand(edges))
    return net


def trained(net: KAN, x: Tensor, y: Tensor, steps: int, rate: float = 0.02) -> KAN:
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        ((net(x) - y).square().mean() + net.aux_loss()).backward()
        optimiser.step()
    return net


HARD_SAMPLES = {
    "constant": torch.full((50, 3), 2.5),
    "zeros": torch.zeros(50, 3),
    "binary": (torch.arange(150).view(50, 3) % 2).float(),
    "four rows": torch.tensor([[0.1, -0.5, 2.0], [0.3, 0.2, 1.0], [-0.7, 0.9, 0.0], [0.0, 0.0, -1.0]]),
    "one row": torch.tensor([[0.1, -0.5, 2.0]]),
    "huge": 1e4 * torch.tensor([[1.0, -1.0, 0.5]]) * torch.linspace(-1, 1, 50)[:, None],
}


# grids


@pytest.mark.parametrize("scaling", ["none", "spline", "edge"])
@pytest.mark.parametrize("outside", ["linear", "zero"])
def test_updating_the_grids_hardly_changes_a_network_on_the_sample(scaling, outside):
    net = curved(KAN(4, 3, hidden=(6, 5), scaling=scaling, outside=outside))
    x = torch.randn(500, 4)
    before = net(x)
    reports = net.update(x)
    assert relative_change(before, net(x)) <= 0.02
    assert len(reports) == 3
    assert any(report.updated for report in reports)
    assert outside == "zero" or all(report.updated for report in reports)
    assert 0.2 < reports[0].outside < 0.5  # of a normal sample 32 % lie beyond [-1, 1]


def test_a_grid_that_would_change_the_network_too_much_is_left_alone():
    net = rough(KAN(4, 3, hidden=(6,), grid=20, outside="zero"))
    x = 3 * torch.randn(500, 4)
    before, state = net(x), copy.deepcopy(net.state_dict())
    reports = net.update(x, max_drift=0.0)
    assert not any(report.updated for report in reports)
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert torch.equal(before, net(x))


def test_refining_keeps_the_network_where_cells_are_divided_evenly():
    net = rough(KAN(4, 3, hidden=(6,), grid=5, dtype=D))
    x = 2 * torch.randn(200, 4, dtype=D)
    net.update(x)
    before = net(x)
    net.refine(10)
    assert relative_change(before, net(x)) <= 1e-9
    net.refine(40)
    assert relative_change(before, net(x)) <= 1e-9
    assert net.config()["grid"] == 40


def test_refining_to_other_numbers_of_cells_stays_within_two_percent():
    x = torch.rand(500, 2, dtype=D) * 2 - 1
    problem = product_of_curves(rows=300)
    net = trained(KAN(2, 1, hidden=(3,), dtype=D), problem.x, problem.y, 50)
    before = net(x)
    net.refine(13)
    assert relative_change(before, net(x)) <= 0.02


def test_a_refined_network_trains_with_optimisers_that_flatten_parameters():
    problem = product_of_curves(rows=100)
    net = KAN(2, 1, hidden=(2,), dtype=D)
    net.refine(10)
    optimiser = torch.optim.LBFGS(net.parameters(), max_iter=5)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (net(problem.x) - problem.y).square().mean()
        loss.backward()
        return loss

    assert float(optimiser.step(closure).detach()) > float(closure().detach())


@pytest.mark.parametrize("mode", ["float32", "bfloat16", "autocast"])
@pytest.mark.parametrize("sample", HARD_SAMPLES)
def test_hard_samples_give_no_nan_before_and_after_update_refine_and_a_step(sample, mode):
    dtype = torch.bfloat16 if mode == "bfloat16" else torch.float32
    x = HARD_SAMPLES[sample].to(dtype)
    net = KAN(3, 2, hidden=(4,), dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
        for change in (lambda: None, lambda: net.update(x), lambda: net.refine(10), lambda: net.update(x)):
            change()
            net.zero_grad()
            y = net(x)
            y.float().square().mean().backward()
            assert torch.isfinite(y).all()
            assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


@pytest.mark.parametrize("sample", HARD_SAMPLES)
def test_updating_on_hard_samples_keeps_the_network(sample):
    x = HARD_SAMPLES[sample]
    net = rough(KAN(3, 2, hidden=(4,)))
    before = net(x)
    net.update(x)
    assert relative_change(before, net(x)) <= 0.02


def test_rows_that_are_not_finite_are_left_out_of_an_update():
    x = torch.randn(100, 3)
    net = rough(KAN(3, 2, hidden=(4,)))
    other = copy.deepcopy(net)
    bad = torch.tensor([[float("nan"), 0.0, 0.0], [0.0, float("inf"), 0.0]])
    net.update(x)
    other.update(torch.cat([x[:50], bad, x[50:]]))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("basis", BASES)
def test_autocast_is_within_two_percent_of_the_spread(basis):
    net = KAN(64, 64, hidden=(64,), basis=basis)
    x = torch.randn(256, 64).clamp(-2, 2)
    exact = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        rough_values = net(x)
    error = (rough_values.float() - exact).square().mean().sqrt() / exact.std()
    assert float(error.detach()) <= 0.02


# defects of public implementations


@pytest.mark.parametrize("weighting", ["weights", "activity"])
def test_the_penalty_of_an_edge_that_is_exactly_zero_is_finite_with_its_gradient(weighting):
    layer = KANLinear(3, 2)
    with torch.no_grad():
        layer.weight[:, 1, 2] = 0.0
        layer.base_weight[1, 2] = 0.0
    x = torch.randn(20, 3)
    value = (
        layer.weight_regularization()
        if weighting == "weights"
        else layer.regularization(layer.activity(x), size=1.0, step=1.0)
    )
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(layer.weight.grad).all()


def test_the_penalty_of_a_layer_that_is_all_zero_is_finite_with_its_gradient():
    layer = KANLinear(3, 2)
    with torch.no_grad():
        layer.weight.zero_()
    layer.weight_regularization().backward()
    assert torch.isfinite(layer.weight.grad).all()


@pytest.mark.parametrize("size", [20.0, 1e4])
def test_chebyshev_gradients_are_finite_far_out(size):
    net = KAN(3, 2, hidden=(4,), basis="chebyshev")
    x = (size * torch.tensor([[1.0, -1.0, 0.0]])).requires_grad_()
    net(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


def test_the_grid_update_counts_scaled_splines_once():
    net = curved(KAN(6, 4, hidden=(), scaling="spline", bias=False))
    x = torch.randn(300, 6)
    before = net(x)
    (report,) = net.update(x)
    assert report.updated
    assert relative_change(before, net(x)) <= 0.02


def test_values_outside_the_grid_are_reported_and_not_silenced():
    sample, far = torch.tensor([[-3.0], [0.0], [0.5], [5.0]]), torch.tensor([[50.0], [100.0]])
    moves = {}
    for outside in ("linear", "zero"):
        torch.manual_seed(0)
        net = rough(KAN(1, 1, hidden=(), base=False, outside=outside))
        assert net.update(sample, max_drift=-1.0)[0].outside == 0.5
        moves[outside] = float(net(far).detach().diff(dim=0).abs())
    assert moves["linear"] > 0.1
    assert moves["zero"] == 0.0


# states


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("multiply", [0, 2])
def test_a_state_makes_an_equal_network_bit_by_bit(basis, multiply):
    net = rough(KAN(3, 2, hidden=(4, 5), basis=basis, multiply=multiply))
    x = torch.randn(20, 3)
    net.update(x)
    net.prune(0.05, x)
    other = nn.build(net.config())
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(x), other(x))
    assert other.active_inputs() == net.active_inputs()
    assert other.config() == net.config()


def test_a_state_of_another_grid_is_refused_with_the_way_to_load_it():
    coarse, fine = rough(KAN(3, 2, grid=5)), KAN(3, 2, grid=10)
    with pytest.raises(RuntimeError, match=r"layers\.0.*5 cells.*10.*refine\(5\).*refine\(10\)"):
        fine.load_state_dict(coarse.state_dict())
    fine.refine(5)
    fine.load_state_dict(coarse.state_dict())
    fine.refine(10)
    x = torch.rand(20, 3) * 2 - 1
    assert torch.allclose(coarse(x), fine(x), atol=1e-5)


def test_a_network_can_be_copied_between_forward_and_step():
    net = KAN(3, 2, reg=0.1)
    net(torch.randn(5, 3)).sum().backward()
    x = torch.randn(5, 3)
    assert torch.equal(copy.deepcopy(net)(x), net(x))


# interface


@pytest.mark.parametrize("basis", BASES)
def test_rows_are_independent_and_shapes_are_free(basis):
    net = rough(KAN(3, 2, hidden=(5,), basis=basis, multiply=1, dtype=D)).eval()
    x = torch.randn(4, 6, 3, dtype=D)
    whole = net(x)
    assert whole.shape == (4, 6, 2)
    alone = torch.stack([net(row) for row in x.reshape(-1, 3)]).view(4, 6, 2)
    assert torch.allclose(whole, alone, atol=1e-12)
    turned = x.transpose(0, 1)
    assert torch.allclose(net(turned), whole.transpose(0, 1), atol=1e-12)
    assert net(x[:0]).shape == (0, 6, 2)


def test_products_multiply_pairs_of_sums():
    net = rough(KAN(3, 1, hidden=(4,), multiply=2, dtype=D))
    x = torch.randn(10, 3, dtype=D)
    inside = net.layers[0](x)
    assert inside.shape == (10, 6)
    nodes = torch.stack(
        [inside[:, 0], inside[:, 1], inside[:, 2] * inside[:, 3], inside[:, 4] * inside[:, 5]], dim=1
    )
    assert torch.allclose(net(x), net.layers[1](nodes), atol=1e-12)


def test_a_product_is_learned_by_a_multiplication_node():
    x = torch.rand(300, 2, dtype=D) * 2 - 1
    y = x[:, :1] * x[:, 1:]
    errors = []
    for options in ({"hidden": (1,), "multiply": 1}, {"hidden": ()}):
        net = KAN(2, 1, grid=3, dtype=D, **options)
        minimise(net, x, y, 150)
        errors.append(float((net(x) - y).detach().square().mean().sqrt()))
    assert errors[0] < 5e-3
    assert errors[1] > 0.2  # a sum of curves of single inputs cannot be a product


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"multiply": 9}, "multiply must be 0 to the hidden width 8"),
        ({"multiply": (1, 1)}, "2 numbers for 1 hidden"),
        ({"hidden": (0,)}, "hidden must be a whole number"),
        ({"basis": "rfb"}, "did you mean 'rbf'"),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        KAN(3, 2, **{"hidden": (8,), **options})


def test_presets_are_the_bases_they_stand_for():
    for name, basis in {
        "fastkan": "rbf",
        "ChebyKAN": "chebyshev",
        "fourier-kan": "fourier",
        "matrix-kan": "bspline",
    }.items():
        net = nn.build(name, in_features=3, out_features=2, hidden=(4,))
        assert isinstance(net, KAN)
        assert net.layers[0].basis_name == basis


@pytest.mark.parametrize("reg", [0.0, 0.5])
def test_the_auxiliary_loss_is_the_weighted_penalty_of_the_last_batch(reg):
    net = rough(KAN(3, 2, hidden=(4,), multiply=1, reg=reg, dtype=D))
    x = torch.randn(30, 3, dtype=D)
    net(x)
    expected = reg * net.regularization(x)
    assert torch.allclose(net.aux_loss(), expected)
    if reg:
        net.aux_loss().backward()
        assert all(layer.weight.grad.abs().sum() > 0 for layer in net.layers)


# pruning


@pytest.mark.parametrize("signal_to_noise", [1.0, 10.0])
def test_pruning_finds_the_five_active_inputs_of_twenty(signal_to_noise):
    problem = sparse_linear(0, signal_to_noise=signal_to_noise)
    x, y = problem.x.float(), (problem.y / problem.y.std()).float()
    net = KAN(20, 1, hidden=(4,), grid=3, reg=0.03)
    net.update(x, uniform_share=0.5)
    trained(net, x, y, 150)
    report = net.prune(0.1, x)
    assert set(problem.active) <= set(report.inputs)
    assert len(report.inputs) <= 5 + 3
    clean = problem.y_test / problem.y.std()
    error = (net(problem.x_test.float()) - clean).square().mean() / clean.square().mean()
    assert float(error.detach()) < 0.15


def test_pruning_removes_what_never_acts_and_keeps_the_values():
    net = rough(KAN(4, 2, hidden=(5,), dtype=D))
    with torch.no_grad():
        for name in ("weight", "base_weight"):
            net.layers[0].get_parameter(name)[..., 2, :] = 0.0  # hidden node 2 is constant
            net.layers[0].get_parameter(name)[..., 3] = 0.0  # input 3 does nothing
    x = torch.randn(100, 4, dtype=D)
    before = net(x)
    report = net.prune(1e-9, x)
    assert report.inputs == (0, 1, 2)
    assert report.nodes == (3, 4, 2)
    assert report.edges == (12, 8)
    # the constant of the dead node is now in the bias of the layer after it
    assert torch.allclose(net(x), before, atol=1e-9)
    assert report.drift < 1e-9


def test_pruned_edges_no_longer_pass_anything_and_do_not_come_back_by_training():
    net = rough(KAN(3, 1, hidden=(3,)))
    x = torch.randn(50, 3)
    keep = torch.ones(3, 3)
    keep[:, 1] = 0
    net.layers[0].prune(keep)
    assert net.active_inputs() == (0, 2)
    trained(net, x, torch.randn(50, 1), 5)
    other = x.clone()
    other[:, 1] += 1.0
    assert torch.equal(net(x), net(other))


def test_dangling_edges_go_with_products_too():
    first = torch.ones(4, 2, dtype=torch.bool)  # two sums, then the two factors of one product
    second = torch.tensor([[True, True, False]])
    first[1] = False
    keeps = connected([first, second], (1, 0))
    assert keeps[1].tolist() == [[True, False, False]]
    assert keeps[0].any(1).tolist() == [True, False, False, False]


def test_pruning_needs_a_sample():
    with pytest.raises(ValueError, match="at least 2 finite rows, got 1"):
        KAN(3, 1).prune(0.1, torch.zeros(1, 3))


# the smooth function of the paper, in short


def test_a_finer_grid_fits_a_smooth_function_better_in_short():
    problem = product_of_curves(rows=400)
    torch.manual_seed(1)
    net = KAN(2, 1, hidden=(1,), grid=5, dtype=D)
    for _ in range(3):
        net.update(problem.x, uniform_share=1.0)
        minimise(net, problem.x, problem.y, 65)
    coarse = error_of(net, problem)
    net.refine(10)
    minimise(net, problem.x, problem.y, 80)
    assert coarse <= 1e-2
    assert error_of(net, problem) <= 1e-3


# properties


SAMPLES = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(values=SAMPLES, grid=st.integers(1, 20), order=st.integers(1, 4))
def test_splines_sum_to_one_inside_the_domain_after_any_update(values, grid, order):
    layer = KANLinear(1, 1, grid=grid, order=order, dtype=D)
    layer.update(torch.tensor(values, dtype=D)[:, None], max_drift=float("inf"))
    low, high = (float(end[0]) for end in layer.basis.domain)
    inside = low + (high - low) * torch.linspace(0.0, 0.999, 101, dtype=D)[:, None]
    assert torch.allclose(layer.basis(inside).sum(-1), torch.ones(101, 1, dtype=D), atol=1e-9)
    assert torch.isfinite(layer.weight).all()


@settings(max_examples=25, deadline=None)
@given(
    values=SAMPLES,
    grid=st.integers(2, 12),
    order=st.integers(1, 4),
    basis=st.sampled_from(BASES),
    outside=st.sampled_from(["linear", "clamp", "zero"]),
    update=st.booleans(),
)
def test_all_paths_agree_in_values_and_gradients(values, grid, order, basis, outside, update):
    layer = KANLinear(2, 3, basis=basis, grid=grid, order=order, outside=outside, dtype=D)
    x = torch.tensor(values, dtype=D)[:, None] * torch.tensor([[1.0, -0.01]], dtype=D)
    if update:
        layer.update(x)
    results = []
    for path in ("fast", "lean", "plain", "auto"):
        layer.path = path
        layer.zero_grad()
        given_x = x.clone().requires_grad_()
        y = layer(given_x)
        (y * torch.arange(1.0, 4.0, dtype=D)).sum().backward()
        # hat functions have two slopes at a knot, clamped splines at the ends, and a gradient may be either
        kinks = basis == "bspline" and (order == 1 or outside == "clamp")
        slope = [] if kinks else [given_x.grad]
        results.append([y.detach(), layer.weight.grad.clone(), *slope])
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            scale = max(float(ours.abs().max()), 1.0)
            assert float((ours - theirs).abs().max()) <= 1e-8 * scale


@pytest.mark.parametrize("path", ["fast", "lean", "plain"])
@pytest.mark.parametrize("order", [2, 3])
def test_the_slope_at_the_very_end_of_the_domain_is_that_beside_it(path, order):
    layer = KANLinear(2, 3, grid=4, order=order, path=path, dtype=D)
    x = torch.tensor([[0.0, 0.0], [1.0, -0.01]], dtype=D)  # binary columns lie on the ends after an update
    layer.update(x)
    for function in (layer, lambda x: layer.edges(x).sum(-1) + layer.bias):
        slopes = []
        for shift in (0.0, 1e-9, -1e-9):
            moved = (x + shift).requires_grad_()
            slopes.append(torch.autograd.grad(function(moved).sum(), moved)[0])
        assert torch.allclose(slopes[0], slopes[1], rtol=1e-3, atol=1e-3)
        assert torch.allclose(slopes[0], slopes[2], rtol=1e-3, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(values=SAMPLES, grid=st.integers(1, 12), order=st.integers(1, 4), seed=st.integers(0, 1000))
def test_the_linear_extension_is_continuous_with_its_slope(values, grid, order, seed):
    torch.manual_seed(seed)
    layer = KANLinear(1, 2, grid=grid, order=order, base=False, dtype=D)
    layer.update(torch.tensor(values, dtype=D)[:, None], max_drift=float("inf"))
    low, high = (end.item() for end in layer.basis.domain)
    step = 1e-6 * (high - low)
    for end, outward in ((low, -1.0), (high, 1.0)):
        at, out, further = (
            layer(torch.tensor([[end + outward * far]], dtype=D)).detach() for far in (0.0, step, 1e3 * step)
        )
        scale = max(float(layer.weight.detach().abs().max()), 1e-3)
        assert float((out - at).abs().max()) <= 1e-2 * scale
        # the same slope near the end and far from it: a straight line
        assert torch.allclose((out - at) * 1e3, further - at, atol=1e-5 * scale)
    if order >= 2:
        x = torch.tensor([[high - step / 1e3], [high + step / 1e3]], dtype=D, requires_grad=True)
        (slope,) = torch.autograd.grad(layer(x)[:, 0].sum(), x)
        reach = float(slope.abs().max()) + scale / (high - low)
        assert float((slope[0] - slope[1]).abs()) <= 1e-3 * reach


def test_a_basis_keeps_its_double_knots_in_a_single_precision_network():
    net = KAN(2, 1).to(torch.float32)
    basis = net.layers[0].basis
    assert isinstance(basis, SplineBasis)
    assert basis.knots.dtype == D
