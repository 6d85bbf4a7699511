"""Rational activations with learnable coefficients, and the two-layer block made of them (GR-KAN)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import is_scripting, is_tracing  # type: ignore[attr-defined]

from appliedpapers.nn.module import Module, check_choice, check_features, check_positive
from appliedpapers.nn.norms import make_dropout, make_norm
from appliedpapers.nn.rational_kernel import DENOMINATOR_SIZE, NUMERATOR_SIZE, Rational, rational

VERSIONS = ("A", "B")
PATHS = ("auto", "plain")

# Fitted by us, largest error made small on [-6, 6] (geglu, swishglu: [-3.5, 3.5]), the published tables not
# used: the published "gelu" was fitted under version B and is off by 1.46 under A, "geglu" and "swishglu"
# likewise. All ours have an even denominator without negative terms, where versions A and B are the same.
# ReLU and its leaky kin are left out: no rational of this order is nearer than 1.2e-2 to them on [-3, 3].
INITS: Mapping[str, tuple[tuple[float, ...], tuple[float, float]]] = {
    "identity": ((0.0, 1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0)),
    "tanh": ((0.0, 0.999543, 0.0, 0.0983935, 0.0, 0.000566674), (0.430532, 0.0116924)),
    "sigmoid": (
        (0.5, 0.249999, 0.0551257, 0.00673126, 0.000455566, 1.36056e-05),
        (0.110251, 0.000911134),
    ),
    "gelu": (
        (-0.00322787, 0.5, 0.418167, 0.1236935, 0.0151693, 0.00063707),
        (0.247387, 0.00127414),
    ),
    "swish": (
        (6.86373e-05, 0.5, 0.249782, 0.0521575, 0.00535544, 0.0002246385),
        (0.104315, 0.000449277),
    ),
    "geglu": ((0.0, -0.00900434, 0.5, 0.422064, 0.118245, 0.0110145), (0.236489, 0.0)),
    "swishglu": ((0.0, 0.000493242, 0.5, 0.249087, 0.0477727, 0.00349192), (0.0955453, 0.0)),
}
INIT_NAMES = tuple(INITS)


class GroupRational(Module):
    r"""Rational activation whose coefficients groups of features share (arXiv 2409.10594).

    Version A, the paper's and the default: ``F(x) = Σ_{i=0..5} a_i x^i / (1 + Σ_{i=1..4} |b_i| |x|^i)``.
    Version B: ``1 + |Σ b_i x^i|`` below the line (the safe Padé activation unit). Neither has a pole. The
    numerator is shared by all features, the denominator by each run of neighbouring features:
    ``6 + 4 groups`` parameters.

    Forward and backward run by Horner's rule over slabs of rows that fit the cache, and only the input is
    kept for the way back. Compiled, exported and scripted it is ordinary operations, with the same values.

    Args:
        in_features: Size of the last axis.
        groups: Groups of features; the largest divisor of ``in_features`` up to this number is taken.
        version: ``A`` or ``B``, see above.
        init: Function to start as: ``identity``, ``tanh``, ``sigmoid``, ``gelu``, ``swish``, ``geglu``
            (``x gelu(x)``), ``swishglu`` (``x swish(x)``); each within 1e-2 on [-3, 3].
        path: ``auto``, or ``plain`` for ordinary operations throughout (forward-mode differentiation).
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: the same, of the input's type; half precision is computed in float32

    Raises:
        ValueError: A size is not positive or does not fit the input, or a choice is unknown.
    """

    def __init__(
        self,
        in_features: int,
        *,
        groups: int = 8,
        version: str = "A",
        init: str = "gelu",
        path: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("GroupRational", in_features=in_features, groups=groups)
        check_choice("GroupRational", "version", version, VERSIONS)
        check_choice("GroupRational", "init", init, INIT_NAMES)
        check_choice("GroupRational", "path", path, PATHS)
        self.in_features, self.version, self.init, self.path = in_features, version, init, path
        self.groups = next(size for size in range(min(groups, in_features), 0, -1) if not in_features % size)
        self.numerator = nn.Parameter(torch.empty(NUMERATOR_SIZE, device=device, dtype=dtype))
        self.denominator = nn.Parameter(
            torch.empty(self.groups, DENOMINATOR_SIZE, device=device, dtype=dtype)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start again as the function named by ``init``."""
        above, (second, fourth) = INITS[self.init]
        with torch.no_grad():
            self.numerator.copy_(self.numerator.new_tensor(above))
            self.denominator.copy_(self.denominator.new_tensor((0.0, second, 0.0, fourth)))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the rational function."""
        dtype = torch.promote_types(x.dtype, self.numerator.dtype)
        if dtype == torch.bfloat16 or dtype == torch.float16:
            dtype = torch.float32
        numerator, denominator = self.numerator.to(dtype), self._rows().to(dtype)
        absolute = self.version == "A"
        if not is_scripting():
            check_features(x, self.in_features, self)
            traced = torch.compiler.is_compiling() or is_tracing()  # type: ignore[no-untyped-call]
            if self.path != "plain" and not traced:
                fast: Tensor = Rational.apply(x.to(dtype), numerator, denominator, absolute)  # type: ignore[no-untyped-call]
                return fast.to(x.dtype)
        return rational(x.to(dtype), numerator, denominator, absolute).to(x.dtype)

    def gain(self) -> float:
        """Return ``E[F(x)²]^(-1/2)`` for ``x ~ N(0, 1)``: what keeps the variance through a linear layer."""
        grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
        density = torch.exp(-0.5 * grid * grid)
        with torch.no_grad():
            x = grid[:, None].expand(-1, self.in_features)
            above, below = self.numerator.double().cpu(), self._rows().double().cpu()
            mean = rational(x, above, below, self.version == "A").square().mean(1)
        return float((density.sum() / (density * mean).sum()).sqrt())

    def extra_repr(self) -> str:
        """Return sizes, version and start."""
        return (
            f"in_features={self.in_features}, groups={self.groups}, version={self.version}, init={self.init}"
        )

    def _rows(self) -> Tensor:
        """Return the denominator's coefficients, one contiguous row of features for each power."""
        below = self.denominator.abs() if self.version == "A" else self.denominator
        width = self.in_features // self.groups
        return below.t().unsqueeze(-1).expand(-1, -1, width).flatten(1)


class GRKANMlp(Module):
    """Two linear layers, each after a group-rational activation (arXiv 2409.10594).

    ``rational(identity) -> Linear -> rational(act) -> Linear``. Weights start at standard deviation
    ``gain / sqrt(fan_in)`` with ``gain = E[F(x)²]^(-1/2)`` over a standard normal x, so that the variance
    of standardised input is kept; biases start at 0.

    Args:
        in_features: Size of the last axis of the input.
        hidden_features: Size between the layers; ``in_features`` if not given.
        out_features: Size of the last axis of the output; ``in_features`` if not given.
        act: What the second rational starts as, see :class:`GroupRational`.
        norm: Normalisation before the second layer's weights, see
            :func:`appliedpapers.nn.norms.make_norm`.
        bias: Whether the linear layers have a bias.
        drop: Dropout after the second rational and after the output.
        groups: Groups of features, see :class:`GroupRational`.
        version: Version of the rationals, ``A`` or ``B``.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: ``(..., out_features)``

    Raises:
        ValueError: A size is not positive or does not fit the input, or a choice is unknown.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        *,
        act: str = "gelu",
        norm: str | None = None,
        bias: bool = True,
        drop: float = 0.0,
        groups: int = 8,
        version: str = "A",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        hidden = in_features if hidden_features is None else hidden_features
        out = in_features if out_features is None else out_features
        check_positive("GRKANMlp", in_features=in_features, hidden_features=hidden, out_features=out)
        check_choice("GRKANMlp", "act", act, INIT_NAMES)
        options: dict[str, Any] = {"groups": groups, "version": version, "device": device, "dtype": dtype}
        self.in_features, self.hidden_features, self.out_features = in_features, hidden, out
        self.act1 = GroupRational(in_features, init="identity", **options)
        self.fc1 = nn.Linear(in_features, hidden, bias=bias, device=device, dtype=dtype)
        self.act2 = GroupRational(hidden, init=act, **options)
        self.norm = make_norm(norm, hidden, device, dtype)
        self.fc2 = nn.Linear(hidden, out, bias=bias, device=device, dtype=dtype)
        self.drop = make_dropout(drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the rationals again and draw the weights that keep the variance."""
        super().reset_parameters()
        normed = not isinstance(self.norm, nn.Identity)
        for layer, gain in ((self.fc1, self.act1.gain()), (self.fc2, 1.0 if normed else self.act2.gain())):
            nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.in_features))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both layers."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        hidden = self.norm(self.drop(self.act2(self.fc1(self.act1(x)))))
        out: Tensor = self.drop(self.fc2(hidden))
        return out

    def extra_repr(self) -> str:
        """Return the sizes."""
        return (
            f"in_features={self.in_features}, hidden_features={self.hidden_features}, "
            f"out_features={self.out_features}"
        )
