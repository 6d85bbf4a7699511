"""From uint8 pixels to what a network takes, with pillow and numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
HALF: Triple = (0.5, 0.5, 0.5)
"""Mean and std with which 0 to 255 becomes -1 to 1: ``x / 127.5 - 1``."""

Interpolation = Literal["bilinear", "bicubic", "area"]
Fit = Literal["stretch", "crop"]


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the input of a network.

    Attributes:
        size: Side of the input in pixels.
        mean: Subtracted from colours in 0 to 1.
        std: What they are divided by then.
        resize: ``crop`` brings the shorter side to this many pixels before the middle is cut out;
            ``size`` where it is None.
        fit: ``stretch`` brings both sides to ``size``, ``crop`` keeps the ratio of sides and cuts.
        interpolation: How pixels in between are read; an image that is made smaller is averaged over what
            a pixel covers, whichever is chosen. ``area`` is the plain mean of that.
    """

    size: int = 224
    mean: Triple = HALF
    std: Triple = HALF
    resize: int | None = None
    fit: Fit = "stretch"
    interpolation: Interpolation = "bilinear"

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON keeps them; what stores features stores this with them."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Read what :meth:`to_json` returned."""
        return cls(**{**stored, "mean": tuple(stored["mean"]), "std": tuple(stored["std"])})

    def pixels(self, image: Pixels) -> Pixels:
        """Return uint8 ``(size, size, 3)`` of uint8 ``(h, w, 3)``; one of that size as it is."""
        height, width = image.shape[:2]
        if self.fit == "stretch":
            return resized(image, self.size, self.size, self.interpolation)
        scale = (self.resize or self.size) / min(height, width)
        image = resized(image, round(height * scale), round(width * scale), self.interpolation)
        return centre(image, self.size)

    def tensor(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        """Return float32 ``(n, 3, size, size)`` of uint8 images ``(h, w, 3)`` of any sizes."""
        values = np.empty((len(images), 3, self.size, self.size), np.float32)
        mean, std = (np.array(one, np.float32)[:, None, None] for one in (self.mean, self.std))
        for place, image in enumerate(images):
            channels = self.pixels(image).transpose(2, 0, 1).astype(np.float32)
            values[place] = (channels / np.float32(255) - mean) / std
        return values


def resized(image: Pixels, height: int, width: int, interpolation: Interpolation = "bilinear") -> Pixels:
    """Return uint8 ``(height, width, 3)`` of uint8 ``(h, w, 3)``, or grey of grey."""
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    ways = {
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "area": Image.Resampling.BOX,
    }
    return np.asarray(Image.fromarray(image).resize((width, height), ways[interpolation]))


def centre(image: Pixels, size: int) -> Pixels:
    """Return the middle ``(size, size)`` of an image that is at least as large."""
    top, left = ((side - size) // 2 for side in image.shape[:2])
    return image[top : top + size, left : left + size]
