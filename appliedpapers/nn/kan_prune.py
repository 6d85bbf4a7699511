"""Which edges and nodes of a Kolmogorov-Arnold network matter on a sample.

Pruning nodes: KAN (arXiv 2404.19756), section 2.5.1. Importance is handed down from the outputs as in KAN 2.0
(arXiv 2408.10205): an edge gets the share of its node's spread that it makes, times the node's importance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from appliedpapers.nn.kan_linear import KANLinear


@dataclass(frozen=True)
class PruneReport:
    """What pruning left.

    Attributes:
        edges: Edges that stay, per layer.
        nodes: Nodes with an edge, per layer of nodes: inputs, hidden nodes, outputs.
        inputs: Inputs that still act on an output.
        drift: Root mean square change of the output on the sample, relative to the output's.
    """

    edges: tuple[int, ...]
    nodes: tuple[int, ...]
    inputs: tuple[int, ...]
    drift: float


def moments(layer: KANLinear, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of what every edge contributes, each ``(outputs, inputs)``.

    Args:
        layer: The layer.
        x: Sample ``(rows, inputs)``, at least one row.
    """
    shape = (layer.out_features, layer.in_features)
    total, squares = (torch.zeros(shape, dtype=torch.float64, device=x.device) for _ in range(2))
    shift: Tensor | None = None
    for block in torch.split(x, max((1 << 22) // layer.mask.numel(), 16)):
        edges = layer.edges(block).double()
        shift = edges.mean(0) if shift is None else shift
        centred = edges - shift
        total += centred.sum(0)
        squares += centred.square().sum(0)
    assert shift is not None
    mean = total / len(x)
    return shift + mean, (squares / len(x) - mean.square()).clamp(min=0.0).sqrt()


def edge_scores(layer: KANLinear, x: Tensor, out: Tensor, importance: Tensor) -> Tensor:
    """Return the importance of every edge, ``(outputs, inputs)`` float64.

    Without a bias to take up an edge's mean, the mean counts as well as the spread.

    Args:
        layer: The layer.
        x: Its input ``(rows, inputs)``.
        out: Its output ``(rows, outputs)``.
        importance: That of each output, ``(outputs,)``.
    """
    mean, spread = moments(layer, x)
    values = out.double()
    if layer.bias is None:
        spread = (spread.square() + mean.square()).sqrt()
        node = values.square().mean(0).sqrt()
    else:
        node = values.std(0, correction=0)
    share = torch.where(node > 0, importance / node.clamp(min=1e-300), torch.zeros_like(node))
    return share[:, None] * spread


def connected(keeps: Sequence[Tensor], products: Sequence[int]) -> list[Tensor]:
    """Take away the edges that lead from a constant node or to a node that nothing reads.

    Args:
        keeps: For every layer ``(outputs, inputs)``, true where an edge stays.
        products: For every layer, how many of its nodes are products of its last outputs, in pairs.
    """
    found = [keep.clone() for keep in keeps]
    for number in range(1, len(found)):
        fed = found[number - 1].any(1)
        count = products[number - 1]
        if count:
            sums = fed.numel() - 2 * count
            fed = torch.cat([fed[:sums], fed[sums:].view(count, 2).any(1)])
        found[number] &= fed[None, :]
    for number in range(len(found) - 1, 0, -1):
        read = found[number].any(0)
        found[number - 1] &= factors(read, products[number - 1])[:, None]
    return found


def factors(nodes: Tensor, products: int) -> Tensor:
    """Spread values of nodes to the outputs that make them: a product hands its own to both factors."""
    if not products:
        return nodes
    sums = nodes.numel() - products
    return torch.cat([nodes[:sums], nodes[sums:].repeat_interleave(2)])
