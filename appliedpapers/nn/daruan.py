"""DARUAN activations and the layer made of them: a qubit whose angle is the input.

Source: Jiang et al. 2025, Quantum-inspired Kolmogorov-Arnold Networks (arXiv 2509.14026), the data
re-uploading activation. Written from the formulas, as rotations of the Bloch vector.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from appliedpapers.nn.bloch import measure, measured_sum
from appliedpapers.nn.module import Module, check_features, check_positive


class _Qubits(Module):
    """The turns of a set of qubits, one for each edge, and the scale of what is measured."""

    def __init__(
        self,
        edges: tuple[int, ...],
        reps: int,
        preacts: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        check_positive(
            type(self).__name__, **dict(zip(("in_features", "out_features"), edges[::-1], strict=False))
        )
        check_positive(type(self).__name__, reps=reps)
        self.in_features, self.reps = edges[-1], reps
        self.theta = nn.Parameter(torch.empty(reps + 1, 2, *edges, device=device, dtype=dtype))
        weight = torch.empty(reps, *edges, device=device, dtype=dtype)
        if preacts:
            self.weight, self.shift = nn.Parameter(weight), nn.Parameter(torch.empty_like(weight))
        else:
            self.register_buffer("weight", weight, persistent=False)
            self.register_buffer("shift", torch.empty_like(weight), persistent=False)
        self.post_weight = nn.Parameter(torch.empty(edges, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Draw the constant turns; the input turns the qubit once per repetition, unscaled."""
        nn.init.normal_(self.theta, std=0.1 * math.pi)
        with torch.no_grad():
            self.weight.fill_(1.0)
            self.shift.fill_(0.0)
        nn.init.ones_(self.post_weight)


class DARUAN(_Qubits):
    """``w_post <Z> + b_post``, a function for every feature, that data re-uploading into one qubit makes.

    The qubit starts in ``|+>``; then ``reps`` times ``Rz(theta0) Ry(theta1) Rz(w x + b)``, then
    ``Rz(theta0) Ry(theta1)``, and Z is measured (arXiv 2509.14026). The function is a trigonometric
    polynomial with frequencies that are sums and differences of the ``w``: learned ones, so that their number
    grows as 3^reps. Evaluated exactly, in real numbers, as turns of the Bloch vector; the public default is
    another quantity, ``sqrt((1 + z) / 2) - sqrt((1 - z) / 2)``.

    Args:
        in_features: Size of the last axis.
        reps: Repetitions r.
        preacts: Whether w and b are learned; else 1 and 0.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: the same

    Raises:
        ValueError: A size is not positive or does not fit the input.
    """

    def __init__(
        self,
        in_features: int,
        *,
        reps: int = 3,
        preacts: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__((in_features,), reps, preacts, device, dtype)
        self.post_bias = nn.Parameter(torch.empty(in_features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the constant turns; unscaled input, unscaled output."""
        super().reset_parameters()
        nn.init.zeros_(self.post_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function of every feature."""
        check_features(x, self.in_features, self)
        z = measure(x, self.theta, self.weight, self.shift)
        return (self.post_weight * z + self.post_bias).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, reps={self.reps}"


class QKANLinear(_Qubits):
    """``y_o = sum_i [ base_oi silu(x_i) + w_oi <Z>_oi(x_i) ] + bias_o``: KANLinear with DARUAN edges.

    Every edge has a qubit of its own, see :class:`DARUAN`, so time and memory grow as rows times edges, as
    no shared basis can be multiplied. Rows are worked on in blocks of bounded size; between forward and
    backward only the input is kept.

    Args:
        in_features: Inputs I.
        out_features: Outputs O.
        reps: Repetitions r: ``2 (r + 1) + 2 r`` turns for each edge.
        preacts: Whether scale and shift of the input are learned; else ``2 (r + 1)`` turns for each edge.
        base: Whether there is a silu branch.
        bias: Whether there is a bias.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: ``(..., out_features)``

    Raises:
        ValueError: A size is not positive or does not fit the input.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        reps: int = 3,
        preacts: bool = True,
        base: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__((out_features, in_features), reps, preacts, device, dtype)
        self.out_features = out_features
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.base = nn.Linear(in_features, out_features, bias=bias, **where) if base else None
        self.bias = nn.Parameter(torch.empty(out_features, **where)) if bias and not base else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the turns, and weights so that the sum over edges has the size of one (our default)."""
        super().reset_parameters()
        nn.init.uniform_(self.post_weight, -(self.in_features**-0.5), self.in_features**-0.5)
        if self.base is not None:
            self.base.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        check_features(x, self.in_features, self)
        out = measured_sum(x, self.theta, self.weight, self.shift, self.post_weight)
        if self.base is not None:
            out = out + self.base(F.silu(x))
        if self.bias is not None:
            out = out + self.bias
        return out.to(x.dtype)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, reps={self.reps}"
