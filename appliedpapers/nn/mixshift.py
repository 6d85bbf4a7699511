"""MixShift blocks for images: far regions are mixed by shifting, over larger windows.

Source: Zheng et al. 2022, Mixing and Shifting: Exploiting Global and Local Dependencies in Vision MLPs
(arXiv 2202.06510). Written from the formulas.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from appliedpapers.nn.activations import make_activation
from appliedpapers.nn.mlp import check_same, reset_each
from appliedpapers.nn.module import Module, check_positive
from appliedpapers.nn.norms import make_dropout, make_norm


class MixShift2d(Module):
    """``x + gamma MLP(LN(mix(x)))`` with channels mixed over shifted windows (MS-MLP, arXiv 2202.06510).

    The channels are split in chunks. Chunk i is rolled by ``shifts[i]`` places along the width, and apart
    from that along the height; each goes through a depthwise convolution of its own with a window of
    ``kernels[i]``, and both are added. The MLP over channels follows.

    Args:
        in_features: Channels.
        hidden_features: Width of the MLP; ``4 in_features`` if not given.
        out_features: ``in_features`` or ``None``: the block adds to its input.
        shifts: Places by which each chunk is rolled; five chunks are our default.
        kernels: Odd window of each chunk; ``2 |shift| + 1`` if not given, so that far regions are mixed over
            more (our default).
        act: Activation of the MLP, see :func:`appliedpapers.nn.activations.make_activation`.
        norm: Normalisation over channels, see :func:`appliedpapers.nn.norms.make_norm`.
        layer_scale: Initial factor of the branch for each channel.
        bias: Whether convolutions and MLP have biases.
        drop: Dropout after the activation and after the second layer.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features, height, width)``
        - output: the same

    Raises:
        ValueError: A size is not positive or does not fit the input, there are more chunks than channels, or
            a kernel is even.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        *,
        shifts: Sequence[int] = (-2, -1, 0, 1, 2),
        kernels: Sequence[int] | None = None,
        act: str | nn.Module = "gelu",
        norm: str | None = "layer",
        layer_scale: float = 1e-6,
        bias: bool = True,
        drop: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        hidden = 4 * in_features if hidden_features is None else hidden_features
        check_positive("MixShift2d", in_features=in_features, hidden_features=hidden)
        check_same("MixShift2d", in_features, out_features)
        windows = tuple(2 * abs(shift) + 1 for shift in shifts) if kernels is None else tuple(kernels)
        if not 1 <= len(shifts) <= in_features:
            raise ValueError(
                f"MixShift2d: shifts must have 1 to in_features={in_features} chunks, not {len(shifts)}"
            )
        if len(windows) != len(shifts) or any(window < 1 or window % 2 == 0 for window in windows):
            raise ValueError(
                f"MixShift2d: kernels must be {len(shifts)} odd numbers, one for each shift, not {windows}"
            )
        self.in_features, self.hidden_features, self.out_features = in_features, hidden, in_features
        self.shifts, self.kernels, self._scale = tuple(shifts), windows, layer_scale
        count = len(shifts)
        self.chunks = [(in_features + count - 1 - index) // count for index in range(count)]

        def depthwise() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv2d(
                    size,
                    size,
                    window,
                    padding=window // 2,
                    groups=size,
                    bias=bias,
                    device=device,
                    dtype=dtype,
                )
                for size, window in zip(self.chunks, windows, strict=True)
            )

        self.along_width, self.along_height = depthwise(), depthwise()
        self.norm = make_norm(norm, in_features, device, dtype)
        self.fc1 = nn.Linear(in_features, hidden, bias=bias, device=device, dtype=dtype)
        self.act = make_activation(act, hidden, device, dtype)
        self.fc2 = nn.Linear(hidden, in_features, bias=bias, device=device, dtype=dtype)
        self.drop = make_dropout(drop)
        self.gamma = nn.Parameter(torch.full((in_features,), layer_scale, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Draw the weights of every layer anew and set the layer scale to its initial value."""
        for part in (self, self.along_width, self.along_height):
            reset_each(part)
        nn.init.constant_(self.gamma, self._scale)

    def forward(self, x: Tensor) -> Tensor:
        """Add to ``x`` what the block makes of it."""
        self._check(x)
        images = x.reshape(-1, *x.shape[-3:]) if x.ndim != 4 else x
        inside = self.norm(self.mix(images).movedim(1, -1))
        inside = self.drop(self.fc2(self.drop(self.act(self.fc1(inside)))))
        out: Tensor = x + (self.gamma * inside).movedim(-1, 1).reshape(x.shape)
        return out

    def mix(self, x: Tensor) -> Tensor:
        """Return the channels mixed over shifted windows, ``(batch, in_features, height, width)``."""
        parts = []
        for part, shift, wide, high in zip(
            torch.split(x, self.chunks, 1), self.shifts, self.along_width, self.along_height, strict=True
        ):
            parts.append(wide(part.roll(shift, -1)) + high(part.roll(shift, -2)))
        return torch.cat(parts, 1)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, shifts={self.shifts}, kernels={self.kernels}"

    def _check(self, x: Tensor) -> None:
        if x.ndim < 3 or x.shape[-3] != self.in_features:
            raise ValueError(
                f"MixShift2d: the input must be (..., in_features={self.in_features}, height, width), "
                f"got {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise TypeError(f"MixShift2d: the input must be floating point, got {x.dtype}; use x.float()")
