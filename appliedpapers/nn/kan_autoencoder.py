"""Autoencoders of Kolmogorov-Arnold layers.

Sources: Moradi et al. 2024, Kolmogorov-Arnold Network Autoencoders (arXiv 2410.02077); Yu et al. 2025, KAE:
Kolmogorov-Arnold Auto-Encoder (arXiv 2501.00420). Written from the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from appliedpapers.nn.activations import make_activation
from appliedpapers.nn.kan_linear import KANLinear
from appliedpapers.nn.mlp import layer_widths
from appliedpapers.nn.module import Module, check_choice, check_features, check_positive


class PolynomialLinear(Module):
    """``y_o = sum_i sum_{d=1..order} c_oid x_i^d + bias_o``: every edge is a polynomial (KAE, 2501.00420).

    Args:
        in_features: Inputs I.
        out_features: Outputs O.
        order: Highest power.
        bias: Whether there is a bias, which is the constant of all edges.
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
        order: int = 3,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("PolynomialLinear", in_features=in_features, out_features=out_features, order=order)
        self.in_features, self.out_features, self.order = in_features, out_features, order
        self.weight = nn.Parameter(torch.empty(order, out_features, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all powers' coefficients as those of a linear layer of ``order`` times its inputs."""
        reach = 1.0 / math.sqrt(self.order * self.in_features)
        nn.init.uniform_(self.weight, -reach, reach)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        powers = [x]
        for _ in range(1, self.order):
            powers.append(powers[-1] * x)
        matrix = self.weight.transpose(0, 1).flatten(1)
        return nn.functional.linear(torch.cat(powers, -1), matrix, self.bias)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, order={self.order}"


class KANAutoencoder(Module):
    """Encoder to ``latent`` numbers and its mirror as decoder.

    ``layer="kan"``: KAN -> ReLU -> Dense (-> ReLU -> Dense ...) to the code, and back in the opposite order,
    so that the KAN layers read the input and write the output (arXiv 2410.02077). ``layer="polynomial"``:
    all layers are :class:`PolynomialLinear`, as in KAE (arXiv 2501.00420).

    Args:
        in_features: Size of the last axis.
        out_features: Size of the last axis of the output; ``in_features`` if not given.
        latent: Size of the code.
        hidden: Widths of the encoder's hidden layers, or one width; the decoder has them in reverse.
        layer: ``kan`` or ``polynomial``.
        basis: Basis of the KAN layers, see :class:`~appliedpapers.nn.kan_linear.KANLinear`.
        grid: Its grid.
        order: Order of the splines, or of the polynomials.
        act: Activation between layers; by default ``relu``, for polynomials ``sigmoid``, so that powers
            stay bounded (our default).
        bias: Whether the layers have a bias.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: ``(..., out_features)``

    Raises:
        ValueError: A size is not positive or does not fit the input, there is no hidden layer, or a name is
            unknown.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int | None = None,
        *,
        latent: int = 8,
        hidden: int | Sequence[int] = (64,),
        layer: str = "kan",
        basis: str = "bspline",
        grid: int | None = None,
        order: int = 3,
        act: str | nn.Module | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        out_features = in_features if out_features is None else out_features
        check_positive("KANAutoencoder", in_features=in_features, out_features=out_features, latent=latent)
        check_choice("KANAutoencoder", "layer", layer, ("kan", "polynomial"))
        widths = layer_widths("KANAutoencoder", hidden)
        if not widths:
            raise ValueError("KANAutoencoder: hidden must name at least one width, such as (64,)")
        self.in_features, self.out_features, self.latent, self.layer = (
            in_features,
            out_features,
            latent,
            layer,
        )
        where: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        act = act or ("relu" if layer == "kan" else "sigmoid")

        def stack(sizes: tuple[int, ...], kan_at: int) -> nn.Sequential:
            parts: list[nn.Module] = []
            for number, (width, wider) in enumerate(pairwise(sizes)):
                if layer == "polynomial":
                    parts.append(PolynomialLinear(width, wider, order=order, **where))
                elif number == kan_at:
                    parts.append(KANLinear(width, wider, basis=basis, grid=grid, order=order, **where))
                else:
                    parts.append(nn.Linear(width, wider, **where))
                if number < len(sizes) - 2:
                    parts.append(make_activation(act, wider, device, dtype))
            return nn.Sequential(*parts)

        self.encoder = stack((in_features, *widths, latent), 0)
        self.decoder = stack((latent, *reversed(widths), out_features), len(widths))

    def reset_parameters(self) -> None:
        """Draw the weights of every layer anew."""
        for part in (*self.encoder, *self.decoder):
            if isinstance(part, Module | nn.Linear):
                part.reset_parameters()

    def encode(self, x: Tensor) -> Tensor:
        """Return the code ``(..., latent)`` of ``x (..., in_features)``."""
        check_features(x, self.in_features, self)
        code: Tensor = self.encoder(x)
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Return ``(..., out_features)`` for a code ``(..., latent)``."""
        check_features(code, self.latent, self, "latent")
        out: Tensor = self.decoder(code)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Encode and decode."""
        return self.decode(self.encode(x))

    def update(self, x: Tensor) -> None:
        """Move the grids of the KAN layers to where a sample ``(..., in_features)`` lies."""
        with torch.no_grad():
            for part in (*self.encoder, *self.decoder):
                if isinstance(part, KANLinear):
                    part.update(x)
                x = part(x)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, latent={self.latent}, "
            f"layer={self.layer!r}"
        )
