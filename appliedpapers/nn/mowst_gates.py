"""How sure the weak expert is, and the gate that turns it into a weight.

Source: "Mixture of Weak and Strong Experts on Graphs" (ICLR 2024, arXiv 2311.05185), section 2. The gates
``monotone``, ``power`` and ``constant`` are ours.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliedpapers.nn.module import check_choice, check_positive

GATES = ("mlp", "monotone", "power", "constant")
_SMALLEST_VARIANCE = 1e-6
_INITIAL_POWER = 2.0


def dispersion(logits: Tensor) -> Tensor:
    """Return how far the class probabilities are from uniform: 0 for uniform, 1 for one-hot.

    The softmax is taken once. The released code takes it twice at test, so that its confidences there
    differ from those it was trained with; ours do not.

    Args:
        logits: ``(..., classes)``.

    Returns:
        ``(..., 2)``: the variance of the probabilities over that of a one-hot vector, and one minus their
        entropy over that of the uniform vector. Both lie in [0, 1].

    Raises:
        ValueError: Fewer than two classes.
    """
    classes = logits.shape[-1]
    if classes < 2:
        raise ValueError(f"dispersion needs at least two classes, got {classes}")
    # probabilities of half-precision logits are not exact enough to be squared and summed
    exact = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    log_p = exact.log_softmax(-1)
    p = log_p.exp()
    variance = (p - 1 / classes).square().sum(-1) * (classes / (classes - 1))
    # 0 ln 0 = 0, in the gradient too
    entropy = -(p * torch.where(p > 0, log_p, torch.zeros_like(log_p))).sum(-1)
    stacked = torch.stack([variance, 1 - entropy / math.log(classes)], dim=-1)
    return stacked.clamp(0, 1).to(logits.dtype)


def dispersion_of_variance(variance: Tensor, target_variance: float) -> Tensor:
    """Return the counterpart of :func:`dispersion` for a regression expert that knows its variance.

    Args:
        variance: ``(..., targets)``, not negative.
        target_variance: Variance of the target over the training rows, which sets the scale.

    Returns:
        ``(..., 2)``: ``s^2 / (s^2 + v)`` and ``s / (s + sqrt(v))`` with the mean variance ``v`` over the
        targets; 1 where the expert is certain, towards 0 where its variance is large.
    """
    mean = variance.mean(-1).clamp(min=0)
    scale = math.sqrt(target_variance)
    # the root's slope is infinite at 0
    root = mean.clamp(min=1e-12).sqrt()
    return torch.stack([target_variance / (target_variance + mean), scale / (scale + root)], dim=-1)


class ConfidenceGate(nn.Module):
    """The confidence in the weak expert, from its dispersion.

    Args:
        kind: ``mlp`` (as released; not constrained), ``monotone`` (never falls when dispersion rises, as the
            paper's theory asks), ``power`` (variance to a learned power) or ``constant`` (ignores its input).
        features: Further features the gate reads, beside the dispersion (``mlp`` and ``monotone``).
        hidden: Width of the hidden layers.
        depth: Number of linear layers.
        drop: Dropout after each hidden layer of ``mlp``.
        bias: Initial bias of the last layer; -2 makes the confidence .12, so that training starts near
            the strong expert (ours; the released code leaves it to the framework).
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        - dispersion: ``(..., 2)``, features: ``(..., features)``
        - output: ``(...)``, in [0, 1]

    Raises:
        ValueError: An option is out of range, or the features do not fit.
    """

    def __init__(
        self,
        kind: str = "mlp",
        features: int = 0,
        hidden: int = 64,
        depth: int = 2,
        drop: float = 0.3,
        bias: float = -2.0,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_choice("ConfidenceGate", "gate", kind, GATES)
        check_positive("ConfidenceGate", hidden=hidden, depth=depth)
        if features and kind in ("power", "constant"):
            raise ValueError(f"ConfidenceGate: gate '{kind}' reads no features; take 'mlp' or 'monotone'")
        self.kind, self.features, self.drop, self.initial_bias = kind, features, drop, bias
        where = {"device": device, "dtype": dtype}
        self.linears = nn.ModuleList()
        self.norms = nn.ModuleList()
        if kind in ("mlp", "monotone"):
            sizes = [2 + features, *[hidden] * (depth - 1), 1]
            self.linears.extend(nn.Linear(i, o, **where) for i, o in itertools.pairwise(sizes))
            if kind == "mlp":
                self.norms.extend(nn.BatchNorm1d(hidden, **where) for _ in range(depth - 1))
        else:
            self.level = nn.Parameter(torch.empty((), **where))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew and set the last bias."""
        with torch.no_grad():
            module: Any
            for module in (*self.linears, *self.norms):
                module.reset_parameters()
                if self.kind == "monotone":
                    # what softplus makes of it is uniform in (0, 2 / inputs)
                    module.weight.uniform_(0.01, 2.0).div_(module.in_features).expm1_().log_()
            if self.linears:
                last: Any = self.linears[-1]
                last.bias.fill_(self.initial_bias)
            else:
                level = self.initial_bias if self.kind == "constant" else math.log(math.expm1(_INITIAL_POWER))
                self.level.fill_(level)

    def forward(self, dispersion: Tensor, features: Tensor | None = None) -> Tensor:
        """Return the confidence of each row."""
        if self.kind == "constant":
            return torch.sigmoid(self.level).expand(dispersion.shape[:-1])
        if self.kind == "power":
            variance = dispersion[..., 0]
            power = variance.clamp(min=_SMALLEST_VARIANCE) ** F.softplus(self.level)
            return torch.where(variance > _SMALLEST_VARIANCE, power, torch.zeros_like(power))
        given = 0 if features is None else features.shape[-1]
        if given != self.features:
            raise ValueError(
                f"ConfidenceGate: the gate reads {self.features} features beside the dispersion, got {given}"
            )
        h = dispersion if features is None else torch.cat([dispersion, features.to(dispersion.dtype)], dim=-1)
        linear: Any
        for index, linear in enumerate(self.linears):
            h = F.linear(h, self._weight(index), linear.bias)
            if index + 1 < len(self.linears):
                h = F.relu(self._normed(h, index) if self.kind == "mlp" else h)
                if self.kind == "mlp":
                    h = F.dropout(h, self.drop, self.training)
        return torch.sigmoid(h.squeeze(-1))

    def extra_repr(self) -> str:
        """Name what the parameters do not show."""
        return f"{self.kind}, features={self.features}, drop={self.drop}"

    def _weight(self, index: int) -> Tensor:
        linear: Any = self.linears[index]
        weight: Tensor = linear.weight
        if self.kind == "mlp":
            return weight
        if index == 0 and self.features:
            return torch.cat([F.softplus(weight[:, :2]), weight[:, 2:]], dim=1)
        return F.softplus(weight)

    def _normed(self, h: Tensor, index: int) -> Tensor:
        flat = h.reshape(-1, h.shape[-1])
        norm = self.norms[index]
        if self.training and flat.shape[0] < 2:
            # one row has no variance of its own
            running: Any = norm
            flat = F.batch_norm(flat, running.running_mean, running.running_var, running.weight, running.bias)
        else:
            flat = norm(flat)
        return flat.reshape(h.shape)
