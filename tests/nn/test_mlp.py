"""MLP variants: plain, residual, hourglass, gated and Fourier analysis networks."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from appliedpapers import nn
from appliedpapers.nn.catalogue import activations, mlp
from appliedpapers.nn.fan import FAN, FANLinear
from appliedpapers.nn.gated import GLU
from appliedpapers.nn.hourglass import Hourglass
from appliedpapers.nn.mlp import MLP, ResidualMLP
from appliedpapers.nn.registry import SpecError

ENTRIES = [*mlp.ENTRIES, *activations.ENTRIES]
SMOOTH = [
    "mlp", "resmlp", "hourglass", "glu", "activator", "residual-block", "hourglass-block", "fan", "fan-linear"
]  # fmt: skip
by_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def sample(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def small(name, **options):
    torch.manual_seed(0)
    example = next(entry.example for entry in ENTRIES if entry.name == name)
    return nn.build(name, **{**example, "dtype": torch.float64, **options})


@by_entry
def test_a_module_is_rebuilt_from_its_configuration(entry):
    module = small(entry.name).eval()
    again = nn.build(module.config()).eval()
    again.load_state_dict(module.state_dict())
    x = sample(5, module.in_features)
    torch.testing.assert_close(again(x), module(x), atol=0, rtol=0)
    assert again.config() == module.config()


@by_entry
def test_every_alias_builds_the_same_class(entry):
    for alias in (*entry.aliases, *entry.presets):
        assert type(nn.build(alias, **entry.example)) is type(small(entry.name))


@by_entry
def test_rows_and_leading_dimensions_are_independent(entry):
    module = small(entry.name).eval()
    x = sample(3, 4, module.in_features)
    y = module(x)
    torch.testing.assert_close(module(x.transpose(0, 1)), y.transpose(0, 1))
    torch.testing.assert_close(module(x[1, 2]), y[1, 2])
    assert module(x[:0]).shape == y[:0].shape
    changed = x.clone()
    changed[1:] = 50
    torch.testing.assert_close(module(changed)[0], y[0])


@by_entry
def test_a_wrong_last_axis_or_type_is_refused(entry):
    module = small(entry.name)
    size = module.in_features
    with pytest.raises(ValueError, match=rf"in_features={size}, got {size + 1}"):
        module(sample(2, size + 1))
    with pytest.raises(TypeError, match="floating point"):
        module(torch.zeros(2, size, dtype=torch.long))


@by_entry
def test_drawing_anew_changes_every_random_weight_and_restores_every_fixed_one(entry):
    module = small(entry.name)
    start = copy.deepcopy(module.state_dict())
    with torch.no_grad():
        for value in module.state_dict().values():
            value.fill_(9)
    module.reset_parameters()
    for name, value in module.state_dict().items():
        assert (value != 9).all(), name
        assert value.std(correction=0) < 3 * start[name].std(correction=0) + 0.5, name


@by_entry
def test_low_precision_stays_finite_and_near(entry):
    module = small(entry.name, dtype=torch.float32).eval()
    x = sample(16, module.in_features).float()
    reference = module(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = module(x)
    error = (mixed.float() - reference).pow(2).mean().sqrt()
    assert error <= 0.03 * reference.std() + 1e-6
    assert torch.isfinite(copy.deepcopy(module).bfloat16()(x.bfloat16())).all()


@pytest.mark.parametrize("name", SMOOTH)
def test_first_and_second_derivatives_are_right(name):
    module = small(name)
    x = sample(2, module.in_features, seed=3).requires_grad_()
    assert gradcheck(module, (x,))
    assert gradgradcheck(module, (x,))


@settings(max_examples=15, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 9), max_size=3),
    act=st.sampled_from(["relu", "snake", "rational", "polynorm", "leaky_relu(negative_slope=0.2)"]),
    norm=st.sampled_from([None, "layer", "layer_no_bias", "rms"]),
    bias=st.booleans(),
)
def test_any_stack_of_layers_maps_to_the_output_size(hidden, act, norm, bias):
    module = MLP(5, 3, hidden=hidden, act=act, norm=norm, bias=bias)
    assert module(torch.randn(2, 5)).shape == (2, 3)
    assert len([layer for layer in module.layers if isinstance(layer, torch.nn.Linear)]) == len(hidden) + 1


def test_one_width_and_a_row_of_widths_are_the_same():
    assert MLP(4, 2, hidden=8).hidden == MLP(4, 2, hidden=(8,)).hidden
    assert ResidualMLP(4, 2, hidden=(8,)).hidden == 8
    with pytest.raises(ValueError, match="hidden must be one width"):
        ResidualMLP(4, 2, hidden=(8, 8))


def test_dropout_is_off_in_evaluation():
    module = MLP(4, 2, drop=0.5)
    x = torch.randn(64, 4)
    assert not torch.equal(module(x), module(x))
    assert torch.equal(module.eval()(x), module(x))


def test_a_fixed_lift_is_saved_but_not_trained():
    module = Hourglass(4, 2, lift="fixed")
    assert "lift.weight" in module.state_dict()
    assert "lift.weight" not in dict(module.named_parameters())
    other = Hourglass(4, 2, lift="fixed")
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other(torch.ones(1, 4)), module(torch.ones(1, 4)))


def test_bilinear_is_a_product_of_two_linear_maps():
    module = nn.build("bilinear", in_features=3, out_features=2, bias=False, dtype=torch.float64)
    x = sample(4, 3)
    torch.testing.assert_close(module(2 * x), 4 * module(x))


def test_glu_is_its_formula():
    module, x = GLU(3, 4, 2, act="silu", dtype=torch.float64), sample(5, 3)
    w, b = module.up.weight, module.up.bias
    gate, value = x @ w[:4].T + b[:4], x @ w[4:].T + b[4:]
    torch.testing.assert_close(module(x), module.down(torch.nn.functional.silu(gate) * value))


def test_fan_has_a_quarter_fewer_weights_than_linear():
    fan = sum(parameter.numel() for parameter in FANLinear(16, 32).parameters())
    linear = sum(parameter.numel() for parameter in torch.nn.Linear(16, 32).parameters())
    assert fan == 0.75 * linear


def test_fan_without_a_periodic_feature_is_refused():
    with pytest.raises(ValueError, match="leaves no periodic feature"):
        FANLinear(4, 3)
    with pytest.raises(ValueError, match=r"at most 0.5"):
        FAN(4, 2, ratio=0.6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"in_features": 0, "out_features": 2}, "in_features must be a whole number"),
        ("mlp", {"in_features": 2, "out_features": 2, "norm": "layr"}, "did you mean 'layer'"),
        ("mlp", {"in_features": 2, "out_features": 2, "drop": 1.0}, "drop must be at least 0 and below 1"),
        ("mlp", {"in_features": 2, "out_features": 2, "hiden": 3}, "did you mean 'hidden'"),
        ("hourglass", {"in_features": 2, "out_features": 2, "width": 4, "hidden": 4}, "below width=4"),
        ("hourglass", {"in_features": 2, "out_features": 2, "lift": "random"}, "learned, fixed"),
        ("activator", {"in_features": 2, "out_features": 3}, "must be in_features=2"),
        ("glu", {"in_features": 2, "hidden_features": 0}, "hidden_features must be a whole number"),
    ],
)
def test_a_bad_option_is_answered_in_one_line(name, options, message):
    with pytest.raises((ValueError, SpecError), match=message) as caught:
        nn.build(name, **options)
    assert "\n" not in str(caught.value)


def test_exported_and_scripted_take_any_number_of_rows():
    module = small("hourglass", dtype=torch.float32).eval()
    batch = torch.export.Dim("batch")
    exported = torch.export.export(module, (torch.randn(4, 6),), dynamic_shapes=({0: batch},)).module()
    x = torch.randn(9, 6)
    torch.testing.assert_close(exported(x), module(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.jit.script(module)(x), module(x), atol=1e-5, rtol=1e-5)
