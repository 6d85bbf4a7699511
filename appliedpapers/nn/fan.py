"""Fourier analysis layers: periodic features beside ordinary ones (FAN)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from appliedpapers.nn.activations import ActivationSpec, make_activation
from appliedpapers.nn.mlp import layer_widths
from appliedpapers.nn.module import Module, check_features, check_positive
from appliedpapers.nn.norms import make_dropout


class FANLinear(Module):
    """``[cos(p) | sin(p) | act(g)]`` with ``p = W_p x + b_p`` and ``g = W_g x + b_g`` (arXiv 2410.02675).

    A share ``ratio`` of the outputs are cosines and as many sines of the same arguments, so the layer has
    ``(1 - ratio) (in + 1) out`` parameters, fewer than Linear. Both maps are one matrix.

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        ratio: Share of the outputs that are cosines, above 0 and at most 1/2.
        act: Activation of the ordinary part, see :func:`appliedpapers.nn.activations.make_activation`.
        bias: Whether the maps have a bias.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: ``(..., out_features)``

    Raises:
        ValueError: A size is not positive or does not fit the input, or ``ratio`` leaves no cosine.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        ratio: float = 0.25,
        act: ActivationSpec = "gelu",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("FANLinear", in_features=in_features, out_features=out_features)
        if not 0 < ratio <= 0.5:
            raise ValueError(f"FANLinear: ratio must be above 0 and at most 0.5, not {ratio!r}")
        periodic = int(ratio * out_features)
        if not periodic:
            raise ValueError(
                f"FANLinear: ratio={ratio} of out_features={out_features} leaves no periodic feature; "
                "take more features or a larger ratio"
            )
        self.in_features, self.out_features, self.periodic = in_features, out_features, periodic
        self.linear = nn.Linear(in_features, out_features - periodic, bias=bias, device=device, dtype=dtype)
        self.act = make_activation(act, out_features - 2 * periodic, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        mapped = self.linear(x)
        argument, rest = mapped[..., : self.periodic], mapped[..., self.periodic :]
        return torch.cat((torch.cos(argument), torch.sin(argument), self.act(rest)), dim=-1)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, periodic={self.periodic}"


class FAN(Module):
    """Stack of :class:`FANLinear` that ends in a linear layer (arXiv 2410.02675).

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        hidden: Widths of the FAN layers, or one width.
        ratio: Share of cosines in each, see :class:`FANLinear`.
        act: Activation of the ordinary part.
        drop: Dropout after each FAN layer.
        bias: Whether the layers have a bias.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: ``(..., out_features)``

    Raises:
        ValueError: As for :class:`FANLinear`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden: int | Sequence[int] = (64,),
        ratio: float = 0.25,
        act: ActivationSpec = "gelu",
        drop: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("FAN", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.hidden = layer_widths("FAN", hidden)
        layers: list[nn.Module] = []
        width = in_features
        for wider in self.hidden:
            layers.append(
                FANLinear(width, wider, ratio=ratio, act=act, bias=bias, device=device, dtype=dtype)
            )
            if drop:
                layers.append(make_dropout(drop))
            width = wider
        layers.append(nn.Linear(width, out_features, bias=bias, device=device, dtype=dtype))
        self.layers = nn.Sequential(*layers)

    def reset_parameters(self) -> None:
        """Draw the weights of every layer anew."""
        for layer in self.layers:
            if isinstance(layer, FANLinear | nn.Linear):
                layer.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers."""
        if not is_scripting():
            check_features(x, self.in_features, self)
        out: Tensor = self.layers(x)
        return out

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, hidden={self.hidden}"
