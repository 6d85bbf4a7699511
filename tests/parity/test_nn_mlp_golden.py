"""MLP variants, activations, FAN, rationals and fast feedforward against reference values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from appliedpapers.nn.activations import Cauchy, PolyNorm, PolyReLU, Snake
from appliedpapers.nn.fan import FANLinear
from appliedpapers.nn.fff import FastFeedforward
from appliedpapers.nn.hourglass import HourglassBlock
from appliedpapers.nn.mlp import ResidualMLP
from appliedpapers.nn.rational import GroupRational


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "nn-modules.npz") as file:
        return {name: torch.as_tensor(file[name]) for name in file.files}


def load(module, values):
    """Set parameters by name; all of them must be given."""
    module.load_state_dict(values, strict=True)
    return module


def assert_close(actual, expected, atol=1e-9):
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


@pytest.mark.parametrize("path", ["auto", "plain"])
@pytest.mark.parametrize("name", ["identity", "gelu", "swish"])
def test_group_rational_gives_the_reference_values(golden, name, path):
    group = f"kat.{name}."
    module = GroupRational(32, path=path, dtype=torch.float64)
    load(module, {"numerator": golden[group + "num"][0], "denominator": golden[group + "den"]})
    assert_close(module(golden[group + "x"]), golden[group + "y_kernel"])


@pytest.mark.parametrize("name", ["identity", "gelu", "swish"])
def test_group_rational_keeps_the_sign_out_of_its_denominator(golden, name):
    group = f"kat.{name}."
    module = GroupRational(32, dtype=torch.float64)
    load(module, {"numerator": golden[group + "num"][0], "denominator": golden[group + "den"]})
    x, wrong = golden[group + "x"], golden[group + "y_torch_fallback"]
    off = (module(x) - wrong).abs()
    assert off[x >= 0].max() < 1e-9
    assert off[x < 0].max() > 1e-2


def test_fan_linear_gives_the_reference_values_and_gradients(golden):
    parts = ("weight", "bias")
    module = FANLinear(6, 16, dtype=torch.float64)

    def joined(prefix):
        return {
            f"linear.{part}": torch.cat([golden[f"{prefix}.input_linear_{kind}.{part}"] for kind in "pg"])
            for part in parts
        }

    load(module, joined("fan.w"))
    x = golden["fan.x"].clone().requires_grad_()
    y = module(x)
    assert_close(y, golden["fan.y"])
    y.backward(golden["fan.grad_out"])
    assert_close(x.grad, golden["fan.grad_x"])
    for name, gradient in joined("fan.grad").items():
        assert_close(module.get_parameter(name).grad, gradient)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 10.0])
def test_snake_gives_the_reference_values(golden, alpha):
    x = golden["act.x"]
    assert_close(Snake(33, alpha=alpha, dtype=torch.float64)(x), golden[f"act.snake.a{alpha}"])


@pytest.mark.parametrize("init", [(1.0, 1.0, 1.0), (0.01, 0.01, 1.0), (0.5, -0.3, 0.2)])
@pytest.mark.parametrize("per_feature", [False, True])
def test_cauchy_gives_the_reference_values(golden, init, per_feature):
    module = Cauchy(33, init=init, per_feature=per_feature, dtype=torch.float64)
    assert_close(module(golden["act.x"]), golden["act.cauchy.{}_{}_{}".format(*init)])


@pytest.mark.parametrize(("make", "name"), [(PolyNorm, "polynorm"), (PolyReLU, "polyrelu")])
def test_polynomial_activations_give_the_reference_values(golden, make, name):
    module = make(24, dtype=torch.float64)
    load(module, {"weight": golden["polycom.w"], "bias": golden["polycom.b"]})
    assert_close(module(golden["polycom.x"]), golden[f"polycom.{name}"])


def test_residual_mlp_gives_the_reference_values(golden):
    weights = {name: golden[f"scalingmlp.w.{name}"] for name in _SCALING_ENDS}
    for index in range(2):
        weights[f"blocks.{index}.norm.weight"] = golden[f"scalingmlp.w.layernorms.{index}.weight"]
        for ours, theirs in (("fc1", "0"), ("fc2", "2")):
            for part in ("weight", "bias"):
                reference = golden[f"scalingmlp.w.blocks.{index}.block.{theirs}.{part}"]
                weights[f"blocks.{index}.{ours}.{part}"] = reference
    module = load(ResidualMLP(12, 5, hidden=8, depth=2, dtype=torch.float64), weights)
    assert_close(module(golden["scalingmlp.x"]), golden["scalingmlp.y"])


_SCALING_ENDS = ("linear_in.weight", "linear_in.bias", "linear_out.weight", "linear_out.bias")


def test_hourglass_block_gives_the_reference_values(golden):
    module = HourglassBlock(24, 6, dtype=torch.float64)
    names = {"norm": "norm", "fc1": "w1", "fc2": "w2"}
    load(
        module,
        {
            f"{ours}.{part}": golden[f"hourglass.w.{theirs}.{part}"]
            for ours, theirs in names.items()
            for part in ("weight", "bias")
        },
    )
    assert_close(module(golden["hourglass.z"]), golden["hourglass.y"])


@pytest.fixture
def tree(golden):
    module = FastFeedforward(6, 4, hidden=5, depth=3, hardening=1.0)
    weights = {
        "planes.weight": golden["fff.w.node_weights"],
        "planes.bias": golden["fff.w.node_biases"][:, 0],
        "weight1": golden["fff.w.w1s"].transpose(1, 2).flatten(0, 1),
        "bias1": golden["fff.w.b1s"].flatten(),
        "weight2": golden["fff.w.w2s"].flatten(0, 1),
        "bias2": golden["fff.w.b2s"],
    }
    return load(module, weights)


def test_fast_feedforward_mixes_as_the_reference_does(golden, tree):
    assert_close(tree.train()(golden["fff.x"]), golden["fff.y_soft"], atol=1e-5)
    assert_close(tree.node_entropies(golden["fff.x"]).mean(0), golden["fff.entropies"], atol=1e-5)
    assert_close(tree.aux_loss(), golden["fff.entropies"].sum(), atol=1e-5)


def test_fast_feedforward_takes_the_reference_leaves_and_adds_their_output_bias(golden, tree):
    x = golden["fff.x"]
    torch.testing.assert_close(tree.leaf(x), golden["fff.leaf"])
    y = tree.eval()(x)
    assert_close(y, golden["fff.y_hard_with_b2"].float(), atol=1e-5)
    missing = y - golden["fff.y_hard"]
    assert_close(missing, golden["fff.w.b2s"][golden["fff.leaf"]], atol=1e-5)
    assert missing.abs().max() > 1e-2
