"""Networks on images of order flow: the kinds that arXiv 2304.02472 names, with and without features.

Widths, depths and heads are ours: the paper does not say them. All give ``z = ln(volatility / median)``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from appliedpapers.nn import build
from appliedpapers.plugins.volatility_images.config import ModelConfig

_HIDDEN = 32
_STAGES = (64, 128, 256, 512)


class CNN(nn.Sequential):
    """Three layers: convolution 3 x 3, batch norm, ReLU, max pooling by two.

    Shape:
        - input: ``(batch, channels, rows, seconds)``
        - output: ``(batch, widths[-1])``
    """

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        for width in widths:
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            channels = width
        super().__init__(*layers, _GlobalMean())
        self.width = widths[-1]


class _GlobalMean(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016, section 4.1)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``(batch, inputs, h, w)`` to ``(batch, outputs, h / stride, w / stride)``."""
        inner = torch.relu(self.first_norm(self.first(maps)))
        return torch.relu(self.second_norm(self.second(inner)) + self.shortcut(maps))


class ResNet18(nn.Sequential):
    """ResNet-18 with a 3 x 3 stem of stride 1 and without pooling, for small images.

    Shape:
        - input: ``(batch, channels, rows, seconds)``
        - output: ``(batch, 512)``
    """

    def __init__(self, channels: int) -> None:
        stem = [nn.Conv2d(channels, _STAGES[0], 3, 1, 1, bias=False), nn.BatchNorm2d(_STAGES[0]), nn.ReLU()]
        blocks, inputs = [], _STAGES[0]
        for number, width in enumerate(_STAGES):
            blocks += [BasicBlock(inputs, width, 1 if number == 0 else 2), BasicBlock(width, width, 1)]
            inputs = width
        super().__init__(*stem, *blocks, _GlobalMean())
        self.width = _STAGES[-1]


class _Mixing(nn.Module):
    """Depthwise convolution beside a shortcut, then a pointwise one (Trockman and Kolter 2022)."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.spatial = nn.Sequential(
            nn.Conv2d(dim, dim, kernel, groups=dim, padding="same"), nn.GELU(), nn.BatchNorm2d(dim)
        )
        self.pointwise = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.GELU(), nn.BatchNorm2d(dim))

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.spatial(maps) + maps)
        return out


class ConvMixer(nn.Sequential):
    """Patches, then blocks that mix places and channels in turn.

    Shape:
        - input: ``(batch, channels, rows, seconds)``
        - output: ``(batch, dim)``
    """

    def __init__(self, channels: int, dim: int, depth: int, kernel: int, patch: int) -> None:
        stem = [nn.Conv2d(channels, dim, patch, stride=patch), nn.GELU(), nn.BatchNorm2d(dim)]
        super().__init__(*stem, *(_Mixing(dim, kernel) for _ in range(depth)), _GlobalMean())
        self.width = dim


class VolatilityNetwork(nn.Module):
    """A body that sees the image, the features beside it, a head, and perhaps a linear forecast underneath.

    Args:
        config: Kind, widths, head.
        image: Shape of an image ``(channels, rows, seconds)``, or of the flat input of ``raw-mlp``.
        features: How many features there are.

    Attributes:
        skip: ``(features + 1,)`` weights and intercept of the linear forecast; zero where there is none.
        share: How much of what the network adds to it is kept.

    Shape:
        - image: ``(batch, *image)``
        - features: ``(batch, features)``, standardised
        - output: ``(batch,)``
    """

    skip: Tensor
    share: Tensor

    def __init__(self, config: ModelConfig, image: tuple[int, ...], features: int) -> None:
        super().__init__()
        self.kind = config.network
        self.uses_features = config.features or config.network == "mlp"
        self.body, width = _body(config, image)
        width += features if self.uses_features else 0
        if config.head == "mlp":
            last = nn.Linear(_HIDDEN, 1)
            self.head: nn.Module = nn.Sequential(
                nn.Dropout(config.dropout), nn.Linear(width, _HIDDEN), nn.ReLU(), last
            )
            self.factor = nn.Parameter(torch.ones(1), requires_grad=False)
            if config.skip == "linear":
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
        else:
            module = build(config.head, in_features=width, out_features=1)
            self.head = nn.Sequential(nn.Dropout(config.dropout), nn.LayerNorm(width), module)
            # whatever the module is, training starts from the linear forecast
            self.factor = nn.Parameter(torch.full((1,), 0.0 if config.skip == "linear" else 1.0))
        self.register_buffer("skip", torch.zeros(features + 1))
        self.register_buffer("share", torch.ones(()))

    def embed(self, image: Tensor, features: Tensor) -> Tensor:
        """Return what the head sees: the pooled image, and the features where they are used."""
        parts = [] if self.body is None else [self.body(image)]
        if self.uses_features:
            parts.append(features)
        return torch.cat(parts, dim=1)

    def correction(self, image: Tensor, features: Tensor) -> Tensor:
        """Return what the network itself says, ``(batch,)``."""
        out: Tensor = self.head(self.embed(image, features)).squeeze(1) * self.factor
        return out

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        """Return ``ln(volatility / median)``, ``(batch,)``."""
        linear = features @ self.skip[:-1] + self.skip[-1]
        return linear + self.share * self.correction(image, features)


def _body(config: ModelConfig, image: tuple[int, ...]) -> tuple[nn.Module | None, int]:
    if config.network == "mlp":
        return None, 0
    if config.network == "raw-mlp":
        wide = image[0]
        return nn.Sequential(nn.Linear(wide, 64), nn.ReLU(), nn.Linear(64, _HIDDEN), nn.ReLU()), _HIDDEN
    body: CNN | ResNet18 | ConvMixer
    if config.network == "cnn":
        body = CNN(image[0], config.widths)
    elif config.network == "resnet18":
        body = ResNet18(image[0])
    else:
        body = ConvMixer(image[0], *config.mixer)
    return body, body.width
