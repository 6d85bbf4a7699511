"""Activations with parameters of their own, and the resolver of activation names.

Input and output are ``(..., in_features)``; every feature is worked on alone, except by :class:`PolyNorm`,
which takes the root mean square over the features of a row. Low-precision input is worked on in the
precision of the parameters and comes back in its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from appliedpapers.nn.module import Module, check_features, check_positive
from appliedpapers.nn.registry import SpecError, list_modules, nearest, normalised, parse, read

ActivationSpec = str | Mapping[str, Any] | nn.Module | None

PLAIN: Mapping[str, Callable[..., nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "mish": nn.Mish,
    "hard_swish": nn.Hardswish,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}

_BY_NAME = {normalised(name): make for name, make in PLAIN.items()}


def make_activation(
    spec: ActivationSpec,
    features: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Return an activation by name.

    Args:
        spec: A plain name (those of :data:`PLAIN`), one of the shelf's own (``snake``, ``rational``, ...),
            either with options as in ``leaky_relu(negative_slope=0.1)`` or as a mapping with the key
            ``name``; ``None`` for the identity. A module is copied, so that no two places share weights.
        features: Size of the last axis.
        device: Device of the weights.
        dtype: Type of the weights.

    Raises:
        SpecError: The name or an option is unknown, or the name is no activation's.
    """
    if spec is None:
        return nn.Identity()
    if isinstance(spec, nn.Module):
        return copy.deepcopy(spec)
    name, options = _name_and_options(spec)
    plain = _BY_NAME.get(normalised(name))
    if plain is not None:
        try:
            return plain(**options)
        except TypeError as error:
            raise SpecError(f"the activation '{name}': {error}") from error
    shelf = list_modules(kind="activation")
    try:
        entry, _ = parse(spec)
    except SpecError as error:
        names = (*PLAIN, *shelf)
        hint = nearest(name, names) or f"; choose one of {', '.join(names)}"
        raise SpecError(f"there is no activation '{name}'{hint}") from error
    if entry.kind != "activation":
        raise SpecError(f"'{name}' is a {entry.kind}, not an activation; choose one of {', '.join(shelf)}")
    from appliedpapers.nn.factory import build

    built: nn.Module = build(spec, in_features=features, device=device, dtype=dtype)
    return built


def _name_and_options(spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, str):
        return read(spec)
    options = dict(spec)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise SpecError(f"an activation's mapping needs the key 'name', got the keys {sorted(spec)}")
    return name, options


class Snake(Module):
    """Snake, ``x + sin²(a x) / a`` with a learnable frequency a per feature (arXiv 2006.08195).

    Periodic around the identity, so that it goes on waving outside the training range. At a = 0 the limit
    ``x`` is taken.

    Args:
        in_features: Size of the last axis.
        alpha: Initial frequency; 1 is our default.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: the same

    Raises:
        ValueError: ``in_features`` is not positive, or does not fit the input.
    """

    def __init__(
        self,
        in_features: int,
        *,
        alpha: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("Snake", in_features=in_features)
        self.in_features = in_features
        self.initial = float(alpha)
        self.alpha = nn.Parameter(torch.empty(in_features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set every frequency to its initial value."""
        nn.init.constant_(self.alpha, self.initial)

    def forward(self, x: Tensor) -> Tensor:
        """Apply Snake."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        alpha = self.alpha
        sine = torch.sin(alpha * x)
        return (x + sine * sine / torch.where(alpha == 0, torch.ones_like(alpha), alpha)).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the size."""
        return f"in_features={self.in_features}"


class Cauchy(Module):
    """Cauchy activation ``(λ1 x + λ2) / (x² + d²)`` with learnable λ1, λ2 and d (arXiv 2409.19221, XNet).

    Its output goes to 0 far from the origin, so it picks out what is local; d is the width.

    Args:
        in_features: Size of the last axis.
        per_feature: Learn the three numbers per feature; the paper shares them (3 parameters in all).
        init: Initial (λ1, λ2, d); (1, 1, 1) is our default.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: the same

    Raises:
        ValueError: ``in_features`` is not positive or does not fit the input, or the initial d is 0.
    """

    def __init__(
        self,
        in_features: int,
        *,
        per_feature: bool = False,
        init: tuple[float, float, float] = (1.0, 1.0, 1.0),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("Cauchy", in_features=in_features)
        if len(init) != 3 or init[2] == 0:
            raise ValueError(
                f"Cauchy: init must be three numbers λ1, λ2, d with d other than 0, not {init!r}"
            )
        self.in_features = in_features
        self.initial = tuple(float(value) for value in init)
        shape = (3, in_features if per_feature else 1)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set λ1, λ2 and d to their initial values."""
        with torch.no_grad():
            self.weight.copy_(self.weight.new_tensor(self.initial)[:, None].expand_as(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the Cauchy activation."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        slope, shift, width = self.weight[0], self.weight[1], self.weight[2]
        return ((slope * x + shift) / (x * x + width * width)).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the size."""
        return f"in_features={self.in_features}, per_feature={self.weight.shape[1] > 1}"


class _Polynomial(Module):
    """Weights of powers, the highest first, and a constant, shared by all features."""

    def __init__(
        self, in_features: int, order: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        check_positive(type(self).__name__, in_features=in_features, order=order)
        self.in_features, self.order = in_features, order
        self.weight = nn.Parameter(torch.empty(order, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weigh all powers alike, ``1 / order``, with a constant of 0."""
        nn.init.constant_(self.weight, 1 / self.order)
        nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """Return the size and the highest power."""
        return f"in_features={self.in_features}, order={self.order}"


class PolyReLU(_Polynomial):
    """Polynomial of the rectified input, ``Σ w_i relu(x)^i + b`` (arXiv 2411.03884).

    ``weight[0]`` belongs to the highest power.

    Args:
        in_features: Size of the last axis.
        order: Highest power; the paper uses 3.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: the same

    Raises:
        ValueError: A size is not positive, or ``in_features`` does not fit the input.
    """

    def __init__(
        self,
        in_features: int,
        *,
        order: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, order, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Apply PolyReLU by Horner's rule."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        positive = torch.relu(x)
        total = self.weight[0:1] * positive
        for index in range(1, self.order):
            total = (total + self.weight[index : index + 1]) * positive
        return (total + self.bias).to(x.dtype)


class PolyNorm(_Polynomial):
    """Polynomial of normalised powers, ``Σ w_i x^i / rms(x^i) + b`` (arXiv 2411.03884).

    The root mean square is taken over the last axis with 1e-6 added under the root. ``weight[0]`` belongs to
    the highest power.

    Args:
        in_features: Size of the last axis.
        order: Highest power; the paper uses 3.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: the same

    Raises:
        ValueError: A size is not positive, or ``in_features`` does not fit the input.
    """

    def __init__(
        self,
        in_features: int,
        *,
        order: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, order, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Apply PolyNorm."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        power = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        base, total = power, self.bias.expand_as(power)
        for index in range(self.order - 1, -1, -1):
            scale = torch.rsqrt(power.square().mean(-1, keepdim=True) + 1e-6)
            total = total + self.weight[index : index + 1] * (power * scale)
            power = power * base
        return total.to(x.dtype)
