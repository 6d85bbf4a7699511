"""Group-rational activations and the block made of them."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from appliedpapers.nn import rational_kernel
from appliedpapers.nn.rational import INIT_NAMES, GRKANMlp, GroupRational

FUNCTIONS = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "swish": F.silu,
    "geglu": lambda x: x * F.gelu(x),
    "swishglu": lambda x: x * F.silu(x),
}


def sample(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def rational(features=6, **options):
    """A rational with coefficients away from their start, no two groups alike."""
    module = GroupRational(features, **{"groups": 3, "dtype": torch.float64, **options})
    with torch.no_grad():
        module.denominator += 0.3 * sample(*module.denominator.shape, seed=7)
        module.numerator += 0.3 * sample(*module.numerator.shape, seed=8)
    return module


def by_definition(module, x):
    """The formula of the docstring, powers and all, group by group."""
    width = x.shape[-1] // module.groups
    columns = []
    for column in range(x.shape[-1]):
        v, b = x[..., column], module.denominator[column // width]
        above = sum(module.numerator[i] * v**i for i in range(6))
        if module.version == "A":
            below = 1 + sum(b[i].abs() * v.abs() ** (i + 1) for i in range(4))
        else:
            below = 1 + sum(b[i] * v ** (i + 1) for i in range(4)).abs()
        columns.append(above / below)
    return torch.stack(columns, dim=-1)


def test_every_name_is_tested():
    assert set(FUNCTIONS) == set(INIT_NAMES)


@pytest.mark.parametrize("version", ["A", "B"])
@pytest.mark.parametrize("name", INIT_NAMES)
def test_a_named_start_is_its_function_within_a_hundredth(name, version):
    x = torch.linspace(-3, 3, 2001, dtype=torch.float64)[:, None]
    y = GroupRational(1, init=name, version=version, dtype=torch.float64)(x)
    assert (y - FUNCTIONS[name](x)).abs().max() < 1e-2


@pytest.mark.parametrize("path", ["auto", "plain"])
@pytest.mark.parametrize("version", ["A", "B"])
def test_values_and_gradients_are_those_of_the_definition(version, path, monkeypatch):
    monkeypatch.setattr(rational_kernel, "_SLAB_BYTES", 4 * 6 * 8)  # several slabs, the last one short
    module, x = rational(version=version, path=path), sample(3, 5, 6).requires_grad_()
    weights = sample(3, 5, 6, seed=2)
    inputs = (x, *module.parameters())
    expected = by_definition(module, x)
    torch.testing.assert_close(module(x), expected, atol=1e-12, rtol=0)
    ours = torch.autograd.grad((module(x) * weights).sum(), inputs)
    theirs = torch.autograd.grad((expected * weights).sum(), inputs)
    torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("path", ["auto", "plain"])
@pytest.mark.parametrize("version", ["A", "B"])
def test_first_and_second_derivatives_are_right(version, path):
    module = rational(version=version, path=path)

    def function(x, numerator, denominator):
        values = {"numerator": numerator, "denominator": denominator}
        return torch.func.functional_call(module, values, (x,))

    inputs = (sample(4, 6).requires_grad_(), *module.parameters())
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_second_derivatives_of_both_paths_agree_through_shared_weights():
    """The input depends on the same coefficients here, which a partial derivative must not run through."""

    def second(path):
        module, x = rational(path=path), sample(5, 6).requires_grad_()
        (first,) = torch.autograd.grad(module(module(x)).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), (x, *module.parameters()))

    torch.testing.assert_close(second("auto"), second("plain"), atol=1e-12, rtol=1e-12)


def test_function_transforms_agree_with_plain_operations():
    module, plain, x = rational(), rational(path="plain"), sample(5, 6)
    jacobians = [torch.func.vmap(torch.func.jacrev(m))(x) for m in (module, plain)]
    torch.testing.assert_close(*jacobians)
    vectorised = [torch.autograd.functional.jacobian(m, x, vectorize=True) for m in (module, plain)]
    torch.testing.assert_close(*vectorised)


@settings(max_examples=20, deadline=None)
@given(lead=st.lists(st.integers(0, 3), max_size=3), features=st.integers(1, 12), groups=st.integers(1, 9))
def test_leading_dimensions_and_strides_do_not_matter(lead, features, groups):
    module, x = rational(features, groups=groups), sample(*lead, features)
    torch.testing.assert_close(module(x), by_definition(module, x), atol=1e-12, rtol=0)
    turned = x.transpose(0, 1) if len(lead) > 1 else x
    torch.testing.assert_close(module(turned), module(turned.contiguous()))


@pytest.mark.parametrize(("features", "groups", "taken"), [(12, 8, 6), (7, 8, 7), (32, 8, 8), (13, 8, 1)])
def test_groups_are_the_largest_divisor_up_to_the_number_asked_for(features, groups, taken):
    assert GroupRational(features, groups=groups).groups == taken


def test_half_precision_is_computed_in_single():
    module, x = GroupRational(8), (3 * sample(16, 8).tanh()).bfloat16().float()
    assert module(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(module(x.bfloat16()).float(), F.gelu(x), atol=0.03, rtol=0.01)
    low = copy.deepcopy(module).bfloat16()
    assert torch.isfinite(low(x.bfloat16())).all()


def test_values_far_outside_stay_finite_with_finite_gradients():
    x = torch.tensor([[-1e4], [0.0], [1e4]], requires_grad=True)
    module = GroupRational(1)
    module(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(module.denominator.grad).all()


def test_only_the_input_is_kept_for_the_way_back():
    module, x = GroupRational(64), torch.randn(256, 64, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        module(x)
    assert sum(tensor.numel() for tensor in kept if tensor.numel() >= x.numel()) == x.numel()


def test_wrong_choices_are_answered_with_the_right_ones():
    with pytest.raises(ValueError, match=r"init must be one of identity.*'gelu'"):
        GroupRational(8, init="gleu")
    with pytest.raises(ValueError, match="version must be one of A, B"):
        GroupRational(8, version="C")
    with pytest.raises(ValueError, match=r"in_features=8, got 9"):
        GroupRational(8)(torch.zeros(2, 9))


@pytest.mark.parametrize("act", ["gelu", "swish"])
def test_grkan_keeps_the_variance_of_standardised_input(act):
    torch.manual_seed(0)
    assert GRKANMlp(256, 256, act=act)(torch.randn(200, 256)).var().item() == pytest.approx(1, abs=0.1)


def test_grkan_starts_as_the_mlp_of_its_activation():
    torch.manual_seed(0)
    block = GRKANMlp(8, 16, 3, dtype=torch.float64)
    x = sample(20, 8)
    torch.testing.assert_close(block(x), block.fc2(F.gelu(block.fc1(x))), atol=2e-2, rtol=0)


def test_grkan_derivatives_are_right():
    block = GRKANMlp(3, 4, 2, norm="layer", dtype=torch.float64)
    x = sample(2, 3).requires_grad_()
    assert gradcheck(block, (x,))
    assert gradgradcheck(block, (x,))


def test_compiled_is_the_same():
    module, x = rational(dtype=torch.float32), sample(5, 6).float()
    torch.testing.assert_close(
        torch.compile(module, fullgraph=True, backend="aot_eager")(x), module(x), atol=1e-5, rtol=1e-5
    )


def test_exported_and_scripted_take_any_number_of_rows():
    block = GRKANMlp(8, 6, 3).eval()
    batch = torch.export.Dim("batch")
    exported = torch.export.export(block, (torch.randn(4, 8),), dynamic_shapes=({0: batch},)).module()
    scripted = torch.jit.script(block)
    x = torch.randn(9, 8)
    torch.testing.assert_close(exported(x), block(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scripted(x), block(x), atol=1e-5, rtol=1e-5)
