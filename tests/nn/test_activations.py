"""Activations with parameters, and the resolver of activation names."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from appliedpapers import nn
from appliedpapers.nn.activations import PLAIN, Cauchy, PolyNorm, PolyReLU, Snake, make_activation
from appliedpapers.nn.registry import SpecError

KINDS = [Snake, Cauchy, PolyReLU, PolyNorm]


def sample(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("make", KINDS)
def test_first_and_second_derivatives_are_right(make):
    module = make(4, dtype=torch.float64)
    parameters = tuple(sample(*p.shape, seed=1).abs().add(0.5).requires_grad_() for p in module.parameters())
    names = [name for name, _ in module.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

    x = sample(3, 4).requires_grad_()
    assert gradcheck(function, (x, *parameters))
    assert gradgradcheck(function, (x, *parameters))


@pytest.mark.parametrize("make", KINDS)
@settings(max_examples=20, deadline=None)
@given(lead=st.lists(st.integers(0, 3), max_size=3), features=st.integers(1, 5))
def test_leading_dimensions_do_not_matter(make, lead, features):
    module = make(features, dtype=torch.float64)
    x = sample(*lead, features)
    torch.testing.assert_close(module(x), module(x.reshape(-1, features)).reshape(x.shape))
    turned = x.transpose(0, 1) if len(lead) > 1 else x
    torch.testing.assert_close(module(turned), module(turned.contiguous()))


@pytest.mark.parametrize("make", KINDS)
def test_half_precision_input_comes_back_in_its_type(make):
    module = make(6)
    x = sample(5, 6).float()
    y = module(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), module(x), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("make", KINDS)
def test_wrong_last_axis_is_named_with_both_sizes(make):
    with pytest.raises(ValueError, match=r"in_features=4, got 5"):
        make(4)(torch.zeros(2, 5))


def test_snake_of_frequency_zero_is_the_identity():
    x = sample(3, 4)
    module = Snake(4, alpha=0.0, dtype=torch.float64)
    torch.testing.assert_close(module(x), x)
    module(x).sum().backward()
    assert torch.isfinite(module.alpha.grad).all()


def test_polynorm_does_not_look_at_other_rows():
    module, x = PolyNorm(4), sample(6, 4).float()
    other = torch.cat((x[:1], 100 * x[1:]))
    torch.testing.assert_close(module(x)[0], module(other)[0])


@pytest.mark.parametrize("name", PLAIN)
def test_every_plain_name_makes_an_activation_that_keeps_the_shape(name):
    assert make_activation(name, 3)(torch.zeros(2, 3)).shape == (2, 3)


def test_names_are_read_loosely_and_with_options():
    assert make_activation("Leaky-ReLU(negative_slope=0.5)", 3)(torch.tensor(-2.0)) == -1
    assert make_activation({"name": "elu", "alpha": 2.0}, 3).alpha == 2
    assert isinstance(make_activation("snake(alpha=3)", 5, dtype=torch.float64), Snake)


def test_a_module_is_copied_so_that_no_two_places_share_weights():
    own = Snake(8)
    mlp = nn.build("mlp", 3, 2, hidden=(8, 8), act=own)
    copies = [layer for layer in mlp.layers if isinstance(layer, Snake)]
    assert len(copies) == 2
    assert all(copy is not own for copy in copies)
    assert copies[0].alpha is not copies[1].alpha


def test_a_stack_with_an_activation_of_its_own_is_rebuilt_from_its_configuration():
    module = nn.build("mlp", 3, 2, hidden=8, act=Snake(8, alpha=2.0))
    again = nn.build(module.config())
    again.load_state_dict(module.state_dict())
    torch.testing.assert_close(again(torch.ones(1, 3)), module(torch.ones(1, 3)))


def test_an_unknown_activation_names_the_nearest():
    with pytest.raises(SpecError, match="'gelu'"):
        make_activation("geluu", 3)
    with pytest.raises(SpecError, match="is a network, not an activation"):
        make_activation("mlp", 3)
    with pytest.raises(SpecError, match="slope"):
        make_activation("leaky_relu(slope=0.5)", 3)
