"""KANLinear: all paths agree, derivatives of all orders are right, grids move without moving the function."""

from __future__ import annotations

import pytest
import torch

from appliedpapers.nn import build
from appliedpapers.nn.kan_linear import KANLinear

D = torch.float64
BASES = ("bspline", "rbf", "chebyshev", "fourier")
SPLINES = [
    {"order": 3, "outside": "linear"},
    {"order": 3, "outside": "clamp"},
    {"order": 3, "outside": "zero"},
    {"order": 2, "grid": 4},
    {"order": 1, "grid": 3, "outside": "clamp"},
    {"order": 4, "grid": 2},
    {"order": 3, "grid": 1},
    {"order": 3, "grid": 45},
    {"order": 2, "grid": 40, "outside": "linear"},
    {"scaling": "edge", "domain": (0.5, 3.0)},
]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


def sample(rows: int = 9, inputs: int = 4, spread: float = 1.6) -> torch.Tensor:
    return (torch.rand(rows, inputs, dtype=D) * 2 - 1) * spread


def twin(layer: KANLinear, path: str) -> KANLinear:
    other = build({**layer.config(), "path": path})
    other.load_state_dict(layer.state_dict())
    return other


def everything(layer: KANLinear, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    upstream = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view_as(y)
    return [y, *torch.autograd.grad(y, [x, *layer.parameters()], upstream)]


@pytest.mark.parametrize(
    ("options", "uneven"),
    [({"basis": basis}, False) for basis in BASES]
    + [(options, uneven) for options in SPLINES for uneven in (False, True)],
    ids=str,
)
@pytest.mark.parametrize("rows", [3, 300])
def test_all_paths_give_the_same_values_and_gradients(options, rows, uneven):
    inputs = 32 if rows == 300 else 4  # few and many values take different ways
    x = sample(rows, inputs)
    layer = KANLinear(inputs, 3, dtype=D, **options)
    if uneven:
        layer.update(torch.randn(90, inputs, dtype=D) ** 3 / 3, max_drift=float("inf"))
    reference = everything(twin(layer, "plain"), x)
    for path in ("auto", "fast", "lean"):
        for ours, theirs in zip(everything(twin(layer, path), x), reference, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9), path


@pytest.mark.parametrize("options", [{"basis": basis} for basis in BASES] + SPLINES[:6], ids=str)
@pytest.mark.parametrize("path", ["fast", "lean"])
def test_first_and_second_derivatives_are_those_of_the_function(options, path):
    layer = KANLinear(2, 2, dtype=D, path=path, **options)
    x = sample(3, 2).requires_grad_()

    def function(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        named = dict(zip(dict(layer.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(layer, named, (x,))

    inputs = (x, *layer.parameters())
    assert torch.autograd.gradcheck(function, inputs, eps=1e-7, atol=1e-5)
    assert torch.autograd.gradgradcheck(function, inputs, eps=1e-7, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("basis", BASES)
def test_the_second_derivative_of_the_fast_path_equals_the_plain_one(basis):
    layer, x = KANLinear(5, 1, basis=basis, dtype=D, path="fast"), sample(50, 5, 1.0).requires_grad_()

    def second(layer: KANLinear) -> torch.Tensor:
        (first,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
        (found,) = torch.autograd.grad(first.sin().sum(), x)
        return found

    assert torch.allclose(second(layer), second(twin(layer, "plain")), rtol=0, atol=1e-12)


def test_functional_transforms_see_through_the_layer():
    layer, x = KANLinear(3, 2, dtype=D), sample(4, 3)
    jacobian = torch.func.vmap(torch.func.jacrev(layer))(x)
    by_hand = torch.autograd.functional.jacobian(layer, x)
    assert torch.allclose(jacobian, by_hand.diagonal(dim1=0, dim2=2).permute(2, 0, 1), atol=1e-10)


@pytest.mark.parametrize("grid", [5, 20, 50])
def test_reading_only_the_active_functions_changes_nothing(grid):
    layer = KANLinear(6, 4, grid=grid, dtype=D, path="gather").requires_grad_(False)
    x = torch.cat([sample(200, 6), torch.full((1, 6), 1.0, dtype=D), torch.full((1, 6), -1.0, dtype=D)])
    assert torch.allclose(layer(x), twin(layer, "plain")(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_constant_and_empty_inputs_stay_finite(basis, dtype):
    layer = KANLinear(4, 3, basis=basis, dtype=dtype)
    for value in (0.0, 1.0, -1e4, 1e4):
        x = torch.full((5, 4), value, dtype=dtype, requires_grad=True)
        y = layer(x)
        y.float().sum().backward()
        assert torch.isfinite(y).all()
        assert torch.isfinite(x.grad).all()
    assert layer(torch.zeros(0, 4, dtype=dtype)).shape == (0, 3)
    assert layer(torch.zeros(2, 0, 5, 4, dtype=dtype)).shape == (2, 0, 5, 3)


@pytest.mark.parametrize("basis", BASES)
def test_autocast_stays_near_single_precision(basis):
    layer, x = KANLinear(32, 16, basis=basis), torch.randn(200, 32)
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(x)
    assert (rounded.float() - exact).square().mean().sqrt() <= 0.02 * exact.std()


@pytest.mark.parametrize("basis", BASES)
def test_single_precision_is_good_to_five_digits(basis):
    exact = KANLinear(16, 8, basis=basis, dtype=D)
    single = KANLinear(16, 8, basis=basis)
    single.load_state_dict(exact.state_dict())
    x = sample(100, 16)
    assert torch.allclose(single(x.float()).double(), exact(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("basis", BASES)
def test_rows_layout_and_neighbours_change_nothing(basis):
    layer, x = KANLinear(4, 3, basis=basis, dtype=D).eval(), sample(6, 4)
    whole = layer(x)
    assert torch.allclose(layer(x[2]), whole[2], rtol=0, atol=1e-12)
    assert torch.allclose(layer(x.view(2, 3, 4)).view(6, 3), whole, rtol=0, atol=1e-12)
    turned = x.t().contiguous().t()
    assert not turned.is_contiguous()
    assert torch.allclose(layer(turned), whole, rtol=0, atol=1e-12)


def test_moving_to_another_precision_keeps_the_knots_exact():
    layer = KANLinear(2, 2, grid=7)
    knots = layer.basis.knots.clone()
    layer.to(torch.bfloat16).double()
    assert torch.equal(layer.basis.knots, knots)


def test_linear_extension_continues_value_and_slope():
    layer = KANLinear(1, 1, base=False, bias=False, dtype=D)
    x = torch.tensor([[1.0 - 1e-9], [1.0 + 1e-9], [3.0], [4.0], [5.0]], dtype=D, requires_grad=True)
    y = layer(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(y[0], y[1], atol=1e-8)
    assert torch.allclose(slope, slope[0].expand_as(slope), atol=1e-6)
    assert torch.allclose(y[4] - y[3], y[3] - y[2], atol=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"basis": "bsplin"}, "'bspline'"),
        ({"outside": "nowhere"}, "linear, clamp, zero"),
        ({"grid": 0}, "grid"),
        ({"domain": (1.0, -1.0)}, "domain must rise"),
        ({"scaling": "all"}, "none, spline, edge"),
        ({"path": "quick"}, "lean"),
        ({"basis": "rbf", "grid": 1}, "grid >= 2"),
    ],
)
def test_a_bad_option_is_refused_with_the_choices(options, words):
    with pytest.raises(ValueError, match=words):
        KANLinear(3, 2, **options)


def test_a_wrong_last_axis_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match=r"in_features=3, got 4 \(shape \(2, 4\)\)"):
        KANLinear(3, 2)(torch.zeros(2, 4))
    with pytest.raises(TypeError, match="floating point"):
        KANLinear(3, 2)(torch.zeros(2, 3, dtype=torch.long))


def test_the_saved_bytes_are_those_promised():
    def saved(path: str) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        net = torch.nn.Sequential(KANLinear(64, 64, path=path), KANLinear(64, 64, path=path))
        owned = {item.untyped_storage().data_ptr() for item in (*net.parameters(), *net.buffers())}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(torch.rand(1024, 64) * 2 - 1)
        return sum(size for pointer, size in sizes.items() if pointer not in owned)

    assert saved("fast") <= 5.5e6
    assert saved("lean") <= 1.5e6
