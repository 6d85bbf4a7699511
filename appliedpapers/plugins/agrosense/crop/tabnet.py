"""TabNet (Arik and Pfister 2019, arXiv 1908.07442): attention over columns, step by step.

Our own code from the paper's equations, sections 3.1 to 3.4. Its sizes, its normalisation in ghost batches
and the names of no weights are those of any implementation; :func:`from_common_names` takes the weights of
the common one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MOMENTUM = 0.02
_INPUT_MOMENTUM = 0.01
_EPSILON = 1e-15
_HALF = math.sqrt(0.5)


def sparsemax(scores: Tensor) -> Tensor:
    """Project rows of scores onto the simplex (Martins and Astudillo 2016, algorithm 1).

    Args:
        scores: ``(rows, columns)``.

    Returns:
        Not negative, rows sum to 1, many entries exactly 0.
    """
    # the projection does not feel a shift: with the largest at 0 nothing is rounded that matters
    scores = scores - scores.max(dim=1, keepdim=True).values
    ordered, _ = scores.sort(dim=1, descending=True)
    sums = ordered.cumsum(dim=1) - 1
    ranks = torch.arange(1, scores.shape[1] + 1, device=scores.device, dtype=scores.dtype)
    support = (ranks * ordered > sums).sum(dim=1, keepdim=True)
    threshold = sums.gather(1, support - 1) / support
    return (scores - threshold).clamp_min(0)


class GhostNorm(nn.BatchNorm1d):
    """Batch normalisation with the moments of ghost batches (Hoffer et al. 2017), parts of a batch.

    Args:
        width: Columns.
        rows: Of a ghost batch.
    """

    def __init__(self, width: int, rows: int) -> None:
        super().__init__(width, momentum=_MOMENTUM)
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(rows, width)``, in training each ghost batch by itself."""
        if not self.training:
            return super().forward(x)
        count = -(-len(x) // self.rows)
        if len(x) % count == 0:
            return self._together(x, count)
        return torch.cat([super(GhostNorm, self).forward(part) for part in x.chunk(count)])

    def _together(self, x: Tensor, count: int) -> Tensor:
        # equal parts side by side are columns of one normalisation; with a momentum of 1 its running moments
        # are those of the parts, which then count as if they had come one after the other
        width = x.shape[1]
        beside = x.view(count, -1, width).transpose(0, 1).reshape(-1, count * width)
        means, variances = x.new_zeros(count * width), x.new_zeros(count * width)
        weight, bias = self.weight.repeat(count), self.bias.repeat(count)
        found = F.batch_norm(beside, means, variances, weight, bias, True, 1.0, self.eps)
        with torch.no_grad():
            self._follow(means.view(count, width), variances.view(count, width))
        return found.view(-1, count, width).transpose(0, 1).reshape_as(x)

    def _follow(self, means: Tensor, variances: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        # one after the other, as they would have come: a sum of all at once is rounded differently
        for mean, variance in zip(means, variances, strict=True):
            self.running_mean.mul_(1 - _MOMENTUM).add_(mean, alpha=_MOMENTUM)
            self.running_var.mul_(1 - _MOMENTUM).add_(variance, alpha=_MOMENTUM)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += len(means)


class Gated(nn.Module):
    """A linear map to twice the width, normalised; one half gates the other.

    Args:
        linear: The map, without bias; several of these may share one.
        rows: Of a ghost batch.
    """

    def __init__(self, linear: nn.Linear, rows: int) -> None:
        super().__init__()
        self.linear, self.norm = linear, GhostNorm(linear.out_features, rows)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(rows, width)``."""
        value, gate = self.norm(self.linear(x)).chunk(2, dim=1)
        gated: Tensor = value * torch.sigmoid(gate)
        return gated


class Transformer(nn.Module):
    """Features to decision and attention: two gated layers that steps share, and two of its own.

    Args:
        shared: Linear maps that all steps share.
        width: Of the result.
        rows: Of a ghost batch.
    """

    def __init__(self, shared: nn.ModuleList, width: int, rows: int) -> None:
        super().__init__()
        own = [_linear(width, 2 * width, gated=True) for _ in range(2)]
        self.layers = nn.ModuleList(Gated(linear, rows) for linear in [*shared, *own])

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(rows, width)``."""
        x = self.layers[0](x)
        for layer in self.layers[1:]:
            x = (x + layer(x)) * _HALF
        return x


class Attention(nn.Module):
    """Which columns a step looks at.

    Args:
        width: Of what it decides by.
        columns: That it chooses from.
        rows: Of a ghost batch.
    """

    def __init__(self, width: int, columns: int, rows: int) -> None:
        super().__init__()
        self.linear, self.norm = _linear(width, columns), GhostNorm(columns, rows)

    def forward(self, told: Tensor, prior: Tensor) -> Tensor:
        """Return the mask ``(rows, columns)``: not negative, rows sum to 1."""
        return sparsemax(self.norm(self.linear(told)) * prior)


class TabNet(nn.Module):
    """Logits of classes from columns.

    Args:
        columns: Inputs.
        classes: Outputs.
        n_d: Width of the decisions.
        n_a: Width of the attention.
        steps: Steps of attention.
        gamma: 1 lets a column be looked at in one step only; more, in several.
        rows: Of a ghost batch.
    """

    def __init__(
        self, columns: int, classes: int, n_d: int, n_a: int, steps: int, gamma: float, rows: int
    ) -> None:
        super().__init__()
        self.n_d, self.gamma = n_d, gamma
        width = n_d + n_a
        self.norm = nn.BatchNorm1d(columns, momentum=_INPUT_MOMENTUM)
        shared = nn.ModuleList([_linear(columns, 2 * width, True), _linear(width, 2 * width, True)])
        self.first = Transformer(shared, width, rows)
        self.transformers = nn.ModuleList(Transformer(shared, width, rows) for _ in range(steps))
        self.attentions = nn.ModuleList(Attention(n_a, columns, rows) for _ in range(steps))
        self.last = _linear(n_d, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(rows, classes)``."""
        return self.look(x)[0]

    def look(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, the mean entropy of the masks, and the masks weighted by their decisions.

        Args:
            x: ``(rows, columns)``.

        Returns:
            ``(rows, classes)``, a scalar, and ``(rows, columns)``.
        """
        x = self.norm(x)
        told = self.first(x)[:, self.n_d :]
        prior = torch.ones_like(x)
        decided, entropy, looked = x.new_zeros(len(x), self.n_d), x.new_zeros(()), torch.zeros_like(x)
        for transformer, attention in zip(self.transformers, self.attentions, strict=True):
            mask = attention(told, prior)
            entropy = entropy - (mask * torch.log(mask + _EPSILON)).sum(dim=1).mean()
            prior = prior * (self.gamma - mask)
            found = transformer(mask * x)
            decision = torch.relu(found[:, : self.n_d])
            decided = decided + decision
            looked = looked + mask * decision.sum(dim=1, keepdim=True)
            told = found[:, self.n_d :]
        return self.last(decided), entropy / len(self.transformers), looked


def _linear(inputs: int, outputs: int, gated: bool = False) -> nn.Linear:
    """Return a map without bias whose first weights keep the scale of what goes through it."""
    layer = nn.Linear(inputs, outputs, bias=False)
    gain = math.sqrt((inputs + outputs) / math.sqrt(inputs if gated else 4 * inputs))
    nn.init.xavier_normal_(layer.weight, gain=gain)
    return layer


def from_common_names(weights: Mapping[str, Tensor], steps: int) -> dict[str, Tensor]:
    """Return the weights of the common implementation (pytorch-tabnet 4.1) under our names.

    Args:
        weights: Of its network without embeddings; keys begin with ``tabnet.`` or ``encoder.``.
        steps: Steps of attention.
    """
    found: dict[str, Tensor] = {}
    theirs = {key.removeprefix("tabnet.").removeprefix("encoder."): value for key, value in weights.items()}

    def take(own: str, other: str) -> None:
        for name, value in theirs.items():
            if name.startswith(f"{other}."):
                found[f"{own}.{name.removeprefix(f'{other}.')}"] = value

    take("norm", "initial_bn")
    take("last", "final_mapping")
    pairs = [("first", "initial_splitter")]
    pairs += [(f"transformers.{step}", f"feat_transformers.{step}") for step in range(steps)]
    for own, other in pairs:
        for place in range(4):
            part = "shared" if place < 2 else "specifics"
            source = f"{other}.{part}.glu_layers.{place % 2}"
            take(f"{own}.layers.{place}.linear", f"{source}.fc")
            take(f"{own}.layers.{place}.norm", f"{source}.bn.bn")
    for step in range(steps):
        take(f"attentions.{step}.linear", f"att_transformers.{step}.fc")
        take(f"attentions.{step}.norm", f"att_transformers.{step}.bn.bn")
    return found
