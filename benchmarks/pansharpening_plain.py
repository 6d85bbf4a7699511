"""One iteration of R-PNN and rho-PNN as their formulas read: the peer that ours is timed against.

The low-pass is a convolution at every fine pixel of which all but a few are thrown away; box sums are
differences of running sums, in double precision; both images of the correlation are treated anew each time;
the network is library layers in their usual layout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from appliedpapers.plugins.pansharpening.degradation import low_pass_kernel
from appliedpapers.plugins.pansharpening.network import BandNetwork
from appliedpapers.plugins.pansharpening.operators import loss_taps
from appliedpapers.plugins.pansharpening.scene import Optics


class PlainNetwork(nn.Module):
    """Three convolutions with the weights of another network.

    Args:
        network: Whose weights are copied.
        same: Whether each layer reflects its own edges, as in rho-PNN; otherwise all do at once.
    """

    def __init__(self, network: BandNetwork, *, same: bool) -> None:
        super().__init__()
        shapes = [layer.weight.shape for layer in network.layers]
        pads = [shape[2] // 2 for shape in shapes] if same else [network.halo, 0, 0]
        layers: list[nn.Module] = []
        for number, (shape, pad) in enumerate(zip(shapes, pads, strict=True)):
            layers += [nn.ReLU()] if number else []
            layers += [nn.ReflectionPad2d(pad)] if pad else []
            layers.append(nn.Conv2d(shape[1], shape[0], shape[2]))
        self.layers = nn.Sequential(*layers)
        given = [layer.state_dict() for layer in network.layers]
        own = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        for layer, values in zip(own, given, strict=True):
            layer.load_state_dict(values)

    def forward(self, interpolated: Tensor, pan: Tensor) -> Tensor:
        """Return the sharpened band, shape ``(N, 1, H, W)``."""
        residual: Tensor = self.layers(torch.cat([interpolated, pan], dim=1))
        return interpolated + residual


@dataclass(frozen=True)
class PlainLosses:
    """The losses of one band (specification of R-PNN, 2.3 and 2.4).

    Attributes:
        coarse: The normalised hyperspectral band, shape ``(1, 1, h, w)``.
        pan: The normalised panchromatic band, shape ``(1, 1, R h, R w)``.
        optics: Ratio, phase and kernel normalisation.
        gain: Gain at Nyquist of the band.
        threshold: R-PNN's, shape of ``pan``; None for rho-PNN.
        floor: Smallest sum of squares.
    """

    coarse: Tensor
    pan: Tensor
    optics: Optics
    gain: float
    threshold: Tensor | None
    floor: float

    def spectral(self, sharp: Tensor) -> Tensor:
        """Return the mean absolute difference between what the sensor would see and what it saw."""
        ratio, phase = self.optics.ratio, self.optics.phase
        taps = loss_taps(ratio)
        kernel = low_pass_kernel(self.gain, ratio, phase, taps, normalize=self.optics.normalize_kernel)
        weights = torch.as_tensor(np.array(kernel), dtype=sharp.dtype)
        half = taps // 2
        skipped = -(-(half - ratio // 2) // ratio)
        first = ratio * skipped + ratio // 2 - half
        seen = functional.conv2d(sharp, weights[None, None])[..., first::ratio, first::ratio]
        rows, columns = seen.shape[-2:]
        wanted = self.coarse[..., skipped : skipped + rows, skipped : skipped + columns]
        return (seen - wanted).abs().mean()

    def structural(self, sharp: Tensor) -> Tensor:
        """Return one minus the local correlation with the panchromatic band."""
        reach = -(-self.optics.ratio // 2)
        x, y = sharp.double(), self.pan.double()
        x = x - box_sums(x, reach) / (4 * reach * reach)
        y = y - box_sums(y, reach) / (4 * reach * reach)
        xx = box_sums(x * x, reach).clamp(min=self.floor)
        yy = box_sums(y * y, reach).clamp(min=self.floor)
        xy = box_sums(x * y, reach)
        if self.threshold is None:
            return (1 - (xy / (xx.sqrt() * yy.sqrt() + self.floor)).abs()).mean().float()
        loss = 1 - xy.clamp(min=self.floor) / (xx.sqrt() * yy.sqrt() + self.floor)
        return (loss * (loss > self.threshold)).mean().float()


def box_sums(image: Tensor, reach: int) -> Tensor:
    """Return sums over ``i + 1 - reach`` to ``i + reach`` of the last two axes, zeros beyond the edges."""
    sums = functional.pad(image, [reach] * 4)
    for axis in (-2, -1):
        running = sums.cumsum(dim=axis)
        size = sums.shape[axis] - 2 * reach
        # windows in the padded image end at 2 * reach and later, and begin one after what is taken away
        ends = running.narrow(axis, 2 * reach, size)
        sums = ends - running.narrow(axis, 0, size)
    return sums
