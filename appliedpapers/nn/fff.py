"""Fast feedforward layers: a binary tree of planes that sends every row to one small network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import is_scripting, is_tracing  # type: ignore[attr-defined]
from torch.nn import functional as F

from appliedpapers.nn.activations import ActivationSpec, make_activation
from appliedpapers.nn.mlp import one_width
from appliedpapers.nn.module import Module, check_features, check_positive

# Rows a leaf needs on average for its own matrix product to beat reading weights row by row.
_ROWS_PER_LEAF = 8
# Numbers of leaf weights that are read at a time.
_GATHERED = 1 << 22


class FastFeedforward(Module):
    """Tree of ``2^depth - 1`` planes over ``2^depth`` leaves ``Linear -> act -> Linear`` (arXiv 2308.14711).

    In training all leaves are mixed, a leaf's share being the product of the choices on its way: right with
    probability ``sigmoid(w x + b)``. In evaluation a row goes down the tree, right where ``w x + b >= 0``,
    and only its leaf is computed; rows that share a leaf share its product. :meth:`aux_loss` is the
    hardening loss, the entropy of the choices (natural logarithm), batch mean, summed over the planes (the
    sum is our default), which makes both agree.

    Planes are in breadth-first order. Compiled, exported and scripted evaluation reads each row's leaf
    weights instead of sorting rows, with the same values. Evaluation trains the leaves, but no plane.

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        hidden: Width of a leaf; 8 is our default.
        depth: Depth of the tree.
        act: Activation of the leaves, one without weights of its own.
        hardening: Weight of the hardening loss, our default 0.1; 0 switches it off. Much of it from the
            start leaves few leaves in use: add :meth:`aux_loss` in the second half of training, and train
            the leaves alone for the last third, in evaluation mode.
        bias: Whether the leaves have biases; planes always have.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: ``(..., out_features)``

    Raises:
        ValueError: A size is not positive or does not fit the input, ``hardening`` is negative, or the
            activation is unknown or has weights.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden: int | Sequence[int] = 8,
        depth: int = 3,
        act: ActivationSpec = "relu",
        hardening: float = 0.1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("FastFeedforward", in_features=in_features, out_features=out_features, depth=depth)
        if hardening < 0:
            raise ValueError(f"FastFeedforward: hardening must not be negative, got {hardening!r}")
        width, leaves = one_width("FastFeedforward", hidden), 2**depth
        self.in_features, self.out_features, self.hidden, self.depth = in_features, out_features, width, depth
        self.leaves, self.hardening = leaves, float(hardening)
        self.act = make_activation(act, width, device, dtype)
        if next(self.act.parameters(), None) is not None:
            raise ValueError(f"FastFeedforward: act must have no weights, since leaves share it; not {act!r}")
        self.planes = nn.Linear(in_features, leaves - 1, device=device, dtype=dtype)
        # rows of a leaf lie together, so that one view serves both all leaves at once and a single one
        self.weight1 = nn.Parameter(torch.empty(leaves * width, in_features, device=device, dtype=dtype))
        self.weight2 = nn.Parameter(torch.empty(leaves * width, out_features, device=device, dtype=dtype))
        self.bias1: nn.Parameter | None = None
        self.bias2: nn.Parameter | None = None
        if bias:
            self.bias1 = nn.Parameter(torch.empty(leaves * width, device=device, dtype=dtype))
            self.bias2 = nn.Parameter(torch.empty(leaves, out_features, device=device, dtype=dtype))
        self.__dict__["_entropy"] = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew, uniform within ``1 / sqrt(fan_in)``."""
        wide, narrow = 1 / math.sqrt(self.in_features), 1 / math.sqrt(self.hidden)
        for parameter in (self.planes.weight, self.planes.bias, self.weight1, self.bias1):
            if parameter is not None:
                nn.init.uniform_(parameter, -wide, wide)
        for parameter in (self.weight2, self.bias2):
            if parameter is not None:
                nn.init.uniform_(parameter, -narrow, narrow)

    def forward(self, x: Tensor) -> Tensor:
        """Mix all leaves in training, take one of them in evaluation."""
        if self.training:
            return self.soft(x)
        return self.hard(x)

    def soft(self, x: Tensor) -> Tensor:
        """Return the mixture of all leaves, as in training."""
        scores = self._scores(x)
        if not is_scripting():
            self._remember(scores)
        right = torch.sigmoid(scores)
        share = torch.ones_like(right[..., :1])
        first, width = 0, 1
        for _ in range(self.depth):
            chosen = right[..., first : first + width]
            share = torch.stack((share * (1 - chosen), share * chosen), dim=-1).flatten(-2)
            first, width = first + width, 2 * width
        inside = self.act(F.linear(x, self.weight1, self.bias1))
        inside = inside.unflatten(-1, (self.leaves, self.hidden)) * share.unsqueeze(-1)
        out = torch.matmul(inside.flatten(-2), self.weight2)
        bias = self.bias2
        return out if bias is None else out + torch.matmul(share, bias)

    def hard(self, x: Tensor) -> Tensor:
        """Return the output of the one leaf that each row is sent to, as in evaluation."""
        leaf = self.leaf(x).reshape(-1)
        rows = x.reshape(-1, self.in_features)
        if is_scripting():
            out = self._read_leaves(rows, leaf)
        else:
            self._remember(None)
            out = self._hard_rows(rows, leaf)
        return out.reshape(x.shape[:-1] + (self.out_features,))  # noqa: RUF005 - TorchScript cannot unpack

    def leaf(self, x: Tensor) -> Tensor:
        """Return the number of the leaf each row is sent to, ``(...)`` int64, counted from the left."""
        step = (self._scores(x) >= 0).long() + 1  # from node n the way goes to 2 n + 1 or 2 n + 2
        node = step[..., :1]
        for _ in range(self.depth - 1):
            node = torch.add(step.gather(-1, node), node, alpha=2)
        leaf: Tensor = node.squeeze(-1) - (self.leaves - 1)
        return leaf

    def node_entropies(self, x: Tensor) -> Tensor:
        """Return the entropy of every plane's choice, natural logarithm, ``(..., 2^depth - 1)``."""
        return _choice_entropy(self._scores(x))

    def aux_loss(self) -> Tensor:
        """Return the hardening loss of the last training pass; 0 before one and after an evaluation."""
        entropy: Tensor | None = self.__dict__["_entropy"]
        if entropy is None or not entropy.numel():
            return self.weight1.new_zeros(())
        loss: Tensor = self.hardening * entropy.reshape(-1, self.leaves - 1).mean(0).sum()
        return loss

    def extra_repr(self) -> str:
        """Return the sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, hidden={self.hidden}, "
            f"depth={self.depth}"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the last pass, whose graph can be neither copied nor saved."""
        return {**self.__dict__, "_entropy": None}

    def _remember(self, scores: Tensor | None) -> None:
        if not torch.compiler.is_exporting():
            entropy = _choice_entropy(scores) if scores is not None and self.training else None
            # past nn.Module, which would take it for a buffer
            self.__dict__["_entropy"] = entropy

    def _scores(self, x: Tensor) -> Tensor:
        if not is_scripting():
            check_features(x, self.in_features, self)
        scores: Tensor = self.planes(x)
        return scores

    def _hard_rows(self, rows: Tensor, leaf: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or is_tracing():  # type: ignore[no-untyped-call]
            return self._read_leaves(rows, leaf)
        count = rows.shape[0]
        if count >= _ROWS_PER_LEAF * self.leaves:
            return self._by_leaf(rows, leaf)
        step = max(1, _GATHERED // (self.hidden * (self.in_features + self.out_features)))
        if count <= step:
            return self._read_leaves(rows, leaf)
        parts = zip(torch.split(rows, step), torch.split(leaf, step), strict=True)
        return torch.cat([self._read_leaves(some, theirs) for some, theirs in parts])

    def _read_leaves(self, rows: Tensor, leaf: Tensor) -> Tensor:
        """Compute every row with the weights of its leaf, read for it."""
        weight1 = self.weight1.view(self.leaves, self.hidden, self.in_features)[leaf]
        inside = torch.matmul(weight1, rows.unsqueeze(-1)).squeeze(-1)
        bias1, bias2 = self.bias1, self.bias2
        if bias1 is not None:
            inside = inside + bias1.view(self.leaves, self.hidden)[leaf].to(inside.dtype)
        weight2 = self.weight2.view(self.leaves, self.hidden, self.out_features)[leaf]
        out = torch.matmul(self.act(inside).unsqueeze(-2), weight2).squeeze(-2)
        return out if bias2 is None else out + bias2[leaf].to(out.dtype)

    def _by_leaf(self, rows: Tensor, leaf: Tensor) -> Tensor:
        """Sort the rows by leaf and compute each leaf's rows in one product."""
        order = torch.argsort(leaf)
        counts = torch.bincount(leaf, minlength=self.leaves).tolist()
        width = self.hidden
        weights1, weights2 = torch.split(self.weight1, width), torch.split(self.weight2, width)
        biases1 = [None] * self.leaves if self.bias1 is None else torch.split(self.bias1, width)
        biases2 = None if self.bias2 is None else self.bias2.unbind()
        outs = []
        for number, some in enumerate(torch.split(rows.index_select(0, order), counts)):
            if counts[number]:
                inside = self.act(F.linear(some, weights1[number], biases1[number]))
                weight2 = weights2[number]
                outs.append(
                    inside @ weight2 if biases2 is None else torch.addmm(biases2[number], inside, weight2)
                )
        return torch.cat(outs).index_select(0, torch.argsort(order))


def _choice_entropy(scores: Tensor) -> Tensor:
    """Return the entropy of ``sigmoid(scores)``, finite and differentiable however large they are."""
    size = scores.abs()
    return torch.log1p(torch.exp(-size)) + size * torch.sigmoid(-size)
