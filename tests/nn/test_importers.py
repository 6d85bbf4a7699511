"""Networks of other libraries become networks here with the same outputs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from appliedpapers import nn
from appliedpapers.nn import splines
from appliedpapers.nn.kan import KAN

D = torch.float64
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def golden(shared: Path) -> State:
    with np.load(shared / "golden" / "nn-modules.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("prefix", ["layers.0.", ""])
def test_a_layer_of_efficient_kan_gives_the_reference_values(golden, prefix):
    names = ("base_weight", "spline_weight", "spline_scaler", "grid")
    net = KAN.from_efficient_kan({prefix + name: golden[f"efficient.w.{name}"] for name in names})
    assert float((net(golden["efficient.x"]) - golden["efficient.y"]).detach().abs().max()) <= 1e-9


@pytest.mark.parametrize("prefix", ["act_fun.0.", ""])
@pytest.mark.parametrize("when", ["", "after_update."])
def test_a_layer_of_pykan_gives_the_reference_values(golden, prefix, when):
    names = ("coef", "grid", "mask", "scale_base", "scale_sp")
    net = KAN.from_pykan({prefix + name: golden[f"pykan.{when}w.{name}"] for name in names})
    assert float((net(golden["pykan.x"]) - golden[f"pykan.{when}y"]).detach().abs().max()) <= 1e-9


def knots(inputs: int, grid: int, random: torch.Generator) -> Tensor:
    """Uneven knots, another row for each input, as after a grid update; order 3."""
    steps = 0.2 + torch.rand(inputs, grid + 6, dtype=D, generator=random)
    return torch.cat([torch.zeros(inputs, 1, dtype=D), steps.cumsum(1)], dim=1) - 3.0


def efficient_state(widths: tuple[int, ...], random: torch.Generator) -> State:
    state: State = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        drawn = {
            "base_weight": (outputs, inputs),
            "spline_weight": (outputs, inputs, 7),
            "spline_scaler": (outputs, inputs),
        }
        for name, shape in drawn.items():
            state[f"layers.{number}.{name}"] = torch.randn(shape, dtype=D, generator=random)
        state[f"layers.{number}.grid"] = knots(inputs, 4, random)
    return state


def test_a_stack_of_efficient_kan_is_what_its_formula_says(random):
    state = efficient_state((3, 5, 2), random)
    x = torch.randn(40, 3, dtype=D, generator=random)
    y = x
    for number in range(2):
        own = {name.split(".")[-1]: value for name, value in state.items() if f".{number}." in name}
        weight = own["spline_weight"] * own["spline_scaler"][..., None]
        y = torch.nn.functional.silu(y) @ own["base_weight"].t() + torch.einsum(
            "bin,oin->bo", splines.basis(y, own["grid"], 3), weight
        )
    net = KAN.from_efficient_kan(state)
    assert net.hidden == (5,)
    assert net.config()["grid"] == 4
    assert torch.allclose(net(x), y, atol=1e-9)


def pykan_state(random: torch.Generator) -> State:
    """Widths 3, then one sum and one product of two, then 1; with factors and offsets on the nodes."""
    state: State = {}
    for number, (inputs, outputs, nodes) in enumerate(((3, 3, 2), (2, 1, 1))):
        own = {
            "coef": torch.randn(inputs, outputs, 7, dtype=D, generator=random),
            "grid": knots(inputs, 4, random),
            "mask": torch.ones(inputs, outputs, dtype=D),
            "scale_base": torch.randn(inputs, outputs, dtype=D, generator=random),
            "scale_sp": torch.randn(inputs, outputs, dtype=D, generator=random),
        }
        state.update({f"act_fun.{number}.{name}": value for name, value in own.items()})
        state[f"symbolic_fun.{number}.mask"] = torch.zeros(outputs, inputs, dtype=D)
        for name, size in (("subnode", outputs), ("node", nodes)):
            state[f"{name}_scale_{number}"] = 0.5 + torch.rand(size, dtype=D, generator=random)
            state[f"{name}_bias_{number}"] = torch.randn(size, dtype=D, generator=random)
    state["act_fun.0.mask"][1, 0] = 0.0
    state["node_bias_0"][-1] = 0.0
    return state


def pykan_layer(state: State, number: int, x: Tensor, products: int) -> Tensor:
    own = {name.rpartition(".")[2]: state[name] for name in state if name.startswith(f"act_fun.{number}.")}
    curves = torch.einsum("bin,ion->bio", splines.basis(x, own["grid"], 3), own["coef"])
    edges = own["mask"] * (
        own["scale_base"] * torch.nn.functional.silu(x)[..., None] + own["scale_sp"] * curves
    )
    out = state[f"subnode_scale_{number}"] * edges.sum(1) + state[f"subnode_bias_{number}"]
    if products:
        out = torch.cat([out[:, :-2], out[:, -2:-1] * out[:, -1:]], dim=1)
    return state[f"node_scale_{number}"] * out + state[f"node_bias_{number}"]


def test_a_network_of_pykan_with_products_and_node_factors_is_what_its_formula_says(random):
    state = pykan_state(random)
    x = torch.randn(40, 3, dtype=D, generator=random)
    y = pykan_layer(state, 1, pykan_layer(state, 0, x, 1), 0)
    net = KAN.from_pykan(state)
    assert net.config()["multiply"] == [1]
    assert net.layers[0].mask.tolist() == state["act_fun.0.mask"].t().tolist()
    assert torch.allclose(net(x), y, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbolic_fun.0.mask": torch.ones(3, 3)}, "symbolic_fun.0.mask has edges made symbolic"),
        ({"node_bias_0": torch.ones(2)}, "node_bias_0 is not 0 on a product"),
        ({"act_fun.1.coef": None}, "layer 1 lacks coef"),
        ({"node_scale_1": torch.ones(0)}, "layer 1, the last, has products"),
        ({"act_fun.0.mask": torch.full((3, 3), 0.5)}, "values other than 0 and 1"),
        ({"act_fun.0.scale_sp": torch.ones(2, 3)}, r"scale|shape"),
        ({"act_fun.1.grid": torch.arange(14.0).repeat(2, 1)}, "different grids"),
    ],
)
def test_what_cannot_be_taken_over_from_pykan_is_named(random, change, message):
    state = {**pykan_state(random), **change}
    with pytest.raises(ValueError, match=message):
        KAN.from_pykan({name: value for name, value in state.items() if value is not None})


def test_what_cannot_be_taken_over_from_efficient_kan_is_named(random):
    state = efficient_state((3, 5, 2), random)
    del state["layers.1.spline_scaler"]
    with pytest.raises(ValueError, match="spline_scaler must be there for all layers or for none"):
        KAN.from_efficient_kan(state)
    with pytest.raises(ValueError, match=r"no layers numbered from 0; expected tensors such as 'layers\.0"):
        KAN.from_efficient_kan({"fc.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="no layers numbered from 0"):
        KAN.from_pykan({})


def test_an_imported_network_can_be_saved_and_built_again(random):
    net = KAN.from_pykan(pykan_state(random))
    other = nn.build(net.config())
    other.load_state_dict(net.state_dict())
    x = torch.randn(10, 3, dtype=D, generator=random)
    assert torch.equal(net(x), other(x))
