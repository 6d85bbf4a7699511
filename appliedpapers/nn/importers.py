"""Kolmogorov-Arnold networks of other libraries, from their state dicts.

Only tensors are read, so neither library needs to be installed. Both let splines fade to zero beyond their
grid, so the networks are made with ``outside="zero"``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from appliedpapers.nn.basis import SplineBasis
from appliedpapers.nn.kan import KAN
from appliedpapers.nn.kan_linear import KANLinear

_EFFICIENT = ("base_weight", "spline_weight", "grid")
_PYKAN = ("grid", "coef", "scale_base", "scale_sp", "mask")


def from_efficient_kan(state: Mapping[str, Tensor]) -> KAN:
    """Make a network of the state of an efficient-kan model or of one of its layers.

    Args:
        state: ``layers.{i}.base_weight (out, in)``, ``spline_weight (out, in, functions)``,
            ``grid (in, knots)`` and, where splines are scaled, ``spline_scaler (out, in)``; a single
            layer's without prefix.

    Returns:
        A network with the same outputs, without biases, in the dtype of the state. The silu branch is
        assumed, which is that library's default.

    Raises:
        ValueError: The state is not of that layout; the message names the tensor.
    """
    layers = _numbered(state, r"(?:layers\.(\d+)\.)?", _EFFICIENT, "efficient-kan")
    scaled = {"spline_scaler" in layer for layer in layers}
    if len(scaled) > 1:
        raise ValueError("efficient-kan: spline_scaler must be there for all layers or for none")
    weights = [layer["spline_weight"].permute(2, 0, 1) for layer in layers]
    scaling = "spline" if scaled == {True} else "none"
    net = _stack([layer["grid"] for layer in layers], weights, scaling, bias=False)
    for target, layer in zip(_layers(net), layers, strict=True):
        _copy(target, "base_weight", layer["base_weight"])
        if scaling == "spline":
            _copy(target, "scale", layer["spline_scaler"])
    return net


def from_pykan(state: Mapping[str, Tensor]) -> KAN:
    """Make a network of the state of a pykan model or of one of its layers.

    Factors and offsets of nodes are folded into the layers where they are not 1 and 0. Products of two
    (``mult_arity=2``) become multiplication nodes.

    Args:
        state: ``act_fun.{i}.coef (in, out, functions)``, ``grid (in, knots)``, ``mask``, ``scale_base`` and
            ``scale_sp (in, out)``, and, where there are, ``node_scale_{i}``, ``node_bias_{i}``,
            ``subnode_scale_{i}``, ``subnode_bias_{i}`` and ``symbolic_fun.{i}.mask``; a single layer's
            without prefix.

    Returns:
        A network with the same outputs, in the dtype of the state. The silu branch is assumed, which is that
        library's default.

    Raises:
        ValueError: The state is not of that layout, or has what a KAN here cannot express: edges made
            symbolic, an offset on a product, products in the last layer or of more than two; the message
            names the tensor.
    """
    layers = _numbered(state, r"(?:act_fun\.(\d+)\.)?", _PYKAN, "pykan")
    for name, tensor in state.items():
        if re.fullmatch(r"symbolic_fun\.\d+\.mask", name) and bool((tensor != 0).any()):
            raise ValueError(
                f"pykan: {name} has edges made symbolic, whose functions the state does not keep"
            )
    products = [_products_of(state, layers, number) for number in range(len(layers))]
    weights = [layer["coef"].permute(2, 1, 0) for layer in layers]
    net = _stack([layer["grid"] for layer in layers], weights, "edge", bias=True, products=products)
    for number, (target, layer) in enumerate(zip(_layers(net), layers, strict=True)):
        factor, offset = _folded(state, number, target.out_features, products[number])
        _copy(target, "base_weight", factor[:, None] * layer["scale_base"].t())
        _copy(target, "scale", factor[:, None] * layer["scale_sp"].t())
        _copy(target, "bias", offset)
        mask = layer["mask"].t()
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(f"pykan: the mask of layer {number} has values other than 0 and 1")
        target.prune(mask != 0)
    return net


def _numbered(
    state: Mapping[str, Tensor], prefix: str, names: tuple[str, ...], library: str
) -> list[dict[str, Tensor]]:
    """Return the tensors of each layer by their last name."""
    pattern = re.compile(prefix + r"(\w+)")
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        match = pattern.fullmatch(name)
        if match:
            found.setdefault(int(match[1] or 0), {})[match[2]] = tensor.detach()
    layers = {number: tensors for number, tensors in found.items() if names[0] in tensors or len(found) == 1}
    if not layers or sorted(layers) != list(range(len(layers))):
        raise ValueError(
            f"{library}: the state has no layers numbered from 0; expected tensors such as "
            f"'{_first_prefix(library)}{names[0]}', got {', '.join(sorted(state)[:4]) or 'nothing'}"
        )
    for number in sorted(layers):
        missing = [name for name in names if name not in layers[number]]
        if missing:
            raise ValueError(f"{library}: layer {number} lacks {', '.join(missing)}")
    return [layers[number] for number in sorted(layers)]


def _first_prefix(library: str) -> str:
    """Return what the names of the first layer's tensors begin with."""
    return "act_fun.0." if library == "pykan" else "layers.0."


def _stack(
    grids: list[Tensor],
    weights: list[Tensor],
    scaling: str,
    *,
    bias: bool,
    products: list[int] | None = None,
) -> KAN:
    """Make the network and give it grids and coefficients ``(functions, outputs, inputs)``."""
    sizes = {(knots.shape[1], len(weight)) for knots, weight in zip(grids, weights, strict=True)}
    if len(sizes) != 1:
        raise ValueError(
            f"the layers have different grids, (knots, functions) are {sorted(sizes)}; refine them first"
        )
    knots, functions = sizes.pop()
    order = knots - functions - 1
    if order < 1 or functions <= order:
        raise ValueError(
            f"{knots} knots do not fit {functions} functions: there are grid + 2 order + 1 knots"
        )
    counts = products or [0] * len(weights)
    widths = [weight.shape[1] - count for weight, count in zip(weights, counts, strict=True)]
    for weight, before in zip(weights[1:], widths, strict=False):
        if weight.shape[2] != before:
            raise ValueError(f"a layer with {before} nodes is followed by one with {weight.shape[2]} inputs")
    net = KAN(
        weights[0].shape[2],
        widths[-1],
        hidden=tuple(widths[:-1]),
        multiply=tuple(counts[:-1]),
        grid=functions - order,
        order=order,
        scaling=scaling,  # type: ignore[arg-type]
        outside="zero",
        bias=bias,
        dtype=weights[0].dtype,
        device=weights[0].device,
    )
    for layer, grid, weight in zip(_layers(net), grids, weights, strict=True):
        assert isinstance(layer.basis, SplineBasis)
        layer.basis.set_knots(grid, grid.device, weight.dtype)
        _copy(layer, "weight", weight)
    return net


def _products_of(state: Mapping[str, Tensor], layers: list[dict[str, Tensor]], number: int) -> int:
    """Return how many nodes after a layer are products: there is one factor more for each."""
    outputs = layers[number]["coef"].shape[1]
    if number + 1 < len(layers):
        nodes = layers[number + 1]["coef"].shape[0]
    else:
        nodes = state[f"node_scale_{number}"].numel() if f"node_scale_{number}" in state else outputs
    count = outputs - nodes
    if count and number + 1 == len(layers):
        raise ValueError(
            f"pykan: layer {number}, the last, has products; a KAN has them in hidden layers only"
        )
    if not 0 <= count <= nodes:
        raise ValueError(
            f"pykan: layer {number} has {outputs} outputs for {nodes} nodes: products of more than two"
        )
    return count


def _folded(state: Mapping[str, Tensor], number: int, outputs: int, products: int) -> tuple[Tensor, Tensor]:
    """Return the factor and the offset of every output of a layer."""
    some = next(iter(state.values()))

    def get(name: str, size: int, default: float) -> Tensor:
        tensor = state.get(f"{name}_{number}")
        if tensor is None:
            return torch.full((size,), default, dtype=torch.float64, device=some.device)
        return tensor.detach().double().flatten()

    nodes = outputs - products
    sums = nodes - products
    factor, offset = get("subnode_scale", outputs, 1.0), get("subnode_bias", outputs, 0.0)
    node_factor, node_offset = get("node_scale", nodes, 1.0), get("node_bias", nodes, 0.0)
    if bool((node_offset[sums:] != 0).any()):
        raise ValueError(f"pykan: node_bias_{number} is not 0 on a product, which no layer can take up")
    ones = torch.ones(products, dtype=torch.float64, device=some.device)
    # of a product the first factor takes the node's
    pairs = torch.stack([node_factor[sums:], ones], dim=1).flatten()
    outer = torch.cat([node_factor[:sums], pairs])
    shift = torch.cat([node_offset[:sums], torch.zeros_like(pairs)])
    return factor * outer, offset * outer + shift


@torch.no_grad()
def _copy(layer: KANLinear, name: str, value: Tensor) -> None:
    parameter = layer.get_parameter(name)
    if parameter.shape != value.shape:
        raise ValueError(
            f"{name} of the state has the shape {tuple(value.shape)}, expected {tuple(parameter.shape)}"
        )
    parameter.copy_(value)


def _layers(net: KAN) -> list[KANLinear]:
    return list(net.layers)  # type: ignore[arg-type]
