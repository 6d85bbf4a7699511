"""Rational activations with learnable coefficients, and the two-layer block made of them (GR-KAN)."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import is_scripting, is_tracing  # type: ignore[attr-defined]

from appliedpapers.nn.module import Module, check_choice, check_features, check_positive
from appliedpapers.nn.norms import make_dropout, make_norm

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
NUMERATOR_SIZE, DENOMINATOR_SIZE = 6, 4

# Bytes in a slab of rows: with fewer the calls cost more than they save, with more the cache overflows.
_SLAB_BYTES = 512 * 1024


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
                fast: Tensor = _Rational.apply(x.to(dtype), numerator, denominator, absolute)  # type: ignore[no-untyped-call]
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


def rational(x: Tensor, numerator: Tensor, denominator: Tensor, absolute: bool) -> Tensor:
    """Evaluate ``P(x) / Q(x)`` by Horner's rule with ordinary operations.

    Args:
        x: ``(..., features)``.
        numerator: ``(6,)``, the constant first.
        denominator: ``(4, features)``, the linear term first; not negative where ``absolute``.
        absolute: ``Q = 1 + Σ b_i |x|^i`` (version A), else ``1 + |Σ b_i x^i|``.
    """
    above = numerator[5] * x + numerator[4]
    above = ((above * x + numerator[3]) * x + numerator[2]) * x
    above = (above + numerator[1]) * x + numerator[0]
    t = x.abs() if absolute else x
    below = ((denominator[3] * t + denominator[2]) * t + denominator[1]) * t
    below = (below + denominator[0]) * t
    return above / (1 + (below if absolute else below.abs()))


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


class _Rational(torch.autograd.Function):
    """:func:`rational` in slabs of rows; the backward under ``create_graph`` goes by ordinary operations."""

    @staticmethod
    def forward(x: Tensor, numerator: Tensor, denominator: Tensor, absolute: bool) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        out = torch.empty_like(rows)
        slabs = _Slabs(rows, numerator, denominator, absolute)
        for start, stop in slabs.bounds:
            x_slab, y_slab = rows[start:stop], out[start:stop]
            slabs.numerator(x_slab, y_slab)
            y_slab.div_(slabs.denominator(x_slab)[0])
        return out.view(x.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.absolute = inputs[3]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, numerator, denominator = ctx.saved_tensors
        if torch.is_grad_enabled():
            # aliases, so that the derivative by one input does not run through another that it depends on
            inputs = tuple(tensor.view_as(tensor) for tensor in (x, numerator, denominator))
            wanted = [item for item, need in zip(inputs, ctx.needs_input_grad, strict=False) if need]
            with torch.enable_grad():
                y = rational(inputs[0], inputs[1], inputs[2], ctx.absolute)
                found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
            by_x, by_above, by_below = (next(found) if need else None for need in ctx.needs_input_grad[:3])
            return by_x, by_above, by_below, None
        need_x, need_above, need_below, _ = ctx.needs_input_grad
        slabs = _Slabs(x.reshape(-1, x.shape[-1]).contiguous(), numerator, denominator, ctx.absolute)
        g = grad.reshape(slabs.rows.shape).contiguous()
        return (*slabs.gradients(g, x.shape, need_x, need_above or need_below), None)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, int | None, int | None, None],
        x: Tensor,
        numerator: Tensor,
        denominator: Tensor,
        absolute: bool,
    ) -> tuple[Tensor, int]:
        if in_dims[0] is not None and in_dims[1] is None and in_dims[2] is None:
            moved = x.movedim(in_dims[0], 0)
            return _Rational.apply(moved, numerator, denominator, absolute), 0  # type: ignore[no-untyped-call]
        mapped = torch.vmap(functools.partial(rational, absolute=absolute), in_dims=in_dims[:3])
        return mapped(x, numerator, denominator), 0


class _Slabs:
    """Scratch space and steps of one pass over the rows, a slab at a time."""

    def __init__(self, rows: Tensor, numerator: Tensor, denominator: Tensor, absolute: bool) -> None:
        count, features = rows.shape
        row_bytes = max(1, features * rows.element_size())
        size = max(1, _SLAB_BYTES // row_bytes) if rows.device.type == "cpu" else max(1, count)
        self.rows, self.absolute = rows, absolute
        self.bounds = [(start, min(start + size, count)) for start in range(0, count, size)]
        self.size = min(size, count)
        self.above, self.below = numerator.unbind(), denominator.unbind()
        self.one = numerator.new_ones(())
        self.t, self.q, self.w = (rows.new_empty(self.size, features) for _ in range(3))

    def numerator(self, x: Tensor, out: Tensor) -> None:
        torch.mul(x, self.above[5], out=out).add_(self.above[4])
        for coefficient in self.above[3::-1]:
            torch.addcmul(coefficient, out, x, out=out)

    def denominator(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return Q, the variable t of its polynomial, and the sign of the polynomial (B) or of x (A)."""
        count = x.shape[0]
        t = torch.abs(x, out=self.t[:count]) if self.absolute else x
        q, sign = self.q[:count], self.w[:count]
        torch.mul(t, self.below[3], out=q).add_(self.below[2])
        for coefficient in self.below[1::-1]:
            torch.addcmul(coefficient, q, t, out=q)
        if self.absolute:
            return torch.addcmul(self.one, q, t, out=q), t, sign
        q.mul_(t)
        torch.sign(q, out=sign)
        return q.abs_().add_(1), t, sign

    def gradients(
        self, grad: Tensor, shape: torch.Size, need_x: bool, need_weights: bool
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients by x, numerator and denominator for the gradient by the output."""
        rows = self.rows
        by_x = torch.empty_like(rows) if need_x else None
        by_above = rows.new_zeros(len(self.bounds), NUMERATOR_SIZE)
        by_below = rows.new_zeros(len(self.bounds), DENOMINATOR_SIZE, rows.shape[1])
        u_space, v_space, d_space = (rows.new_empty(self.size, rows.shape[1]) for _ in range(3))
        slopes = [index * self.above[index] for index in range(1, NUMERATOR_SIZE)]
        steeps = [(index + 1) * self.below[index] for index in range(DENOMINATOR_SIZE)]
        for number, (start, stop) in enumerate(self.bounds):
            x, count = rows[start:stop], stop - start
            u, v, d = u_space[:count], v_space[:count], d_space[:count]
            q, t, sign = self.denominator(x)
            self.numerator(x, v)
            torch.div(grad[start:stop], q, out=u)  # by P
            v.div_(q).mul_(u)  # by Q, but for the sign
            if not self.absolute:
                v.mul_(sign)
            if by_x is not None:
                target = by_x[start:stop]
                torch.mul(x, slopes[4], out=target).add_(slopes[3])
                for slope in slopes[2::-1]:
                    torch.addcmul(slope, target, x, out=target)
                target.mul_(u)
                torch.mul(t, steeps[3], out=d).add_(steeps[2])
                for steep in steeps[1::-1]:
                    torch.addcmul(steep, d, t, out=d)
                if self.absolute:
                    d.mul_(torch.sign(x, out=sign))
                target.addcmul_(d, v, value=-1)
            if need_weights:
                for power in range(NUMERATOR_SIZE):
                    if power:
                        u.mul_(x)
                    torch.sum(u, (0, 1), out=by_above[number, power])
                for power in range(DENOMINATOR_SIZE):
                    torch.sum(v.mul_(t), 0, out=by_below[number, power])
        return (
            None if by_x is None else by_x.view(shape),
            by_above.sum(0) if need_weights else None,
            -by_below.sum(0) if need_weights else None,
        )
