"""The trained networks as one: images in, logits and local boxes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliedpapers.plugins.varifocal_net.augment import normalise
from appliedpapers.plugins.varifocal_net.chromosomes import INK
from appliedpapers.plugins.varifocal_net.config import NetworkConfig
from appliedpapers.plugins.varifocal_net.crop import (
    Box,
    box_of,
    crop_float,
    crop_integer,
    integer_box,
    localiser_target,
)
from appliedpapers.plugins.varifocal_net.network import POOLED, Branch, Joint, Localiser, pooled

Crop = Literal["varifocal", "simple"]

_BLOCK = 64


@dataclass(frozen=True)
class Seen:
    """What one pass over a batch gives.

    Attributes:
        features: Of both networks, ``(B, 32 c3)``.
        corners: The local box in pixels of the input, ``(B, 4)``.
    """

    features: Tensor
    corners: Tensor


@dataclass(frozen=True)
class Logits:
    """Answers of one classifier: types ``(B, 24)``, polarity ``(B, 2)`` as q-up and q-down."""

    types: Tensor
    polarity: Tensor


class Looker:
    """Both networks with a way to choose where L-Net looks.

    Args:
        options: Sizes, and which gradient reaches the localiser.
        crop: Where L-Net looks.
        g: G-Net.
        local: L-Net.
        localiser: Needed for ``varifocal``.
    """

    def __init__(
        self, options: NetworkConfig, crop: Crop, g: Branch, local: Branch, localiser: Localiser
    ) -> None:
        self.crop, self.g, self.local, self.localiser = crop, g, local, localiser
        self._size, self._grid = options.input_size, options.crop_grad == "grid"

    def look(
        self, images: Tensor, inputs: Tensor, last_map: Tensor | None, shift: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return L-Net's input ``(B, 1, S / 2, S / 2)``, the box's corners, and ``u``.

        Args:
            images: ``(B, S, S)`` in 0 to 255.
            inputs: The same, normalised, ``(B, 1, S, S)``.
            last_map: Of G-Net; not needed for the simple crop.
            shift: Largest random shift of the localiser's box, in ``u``.
        """
        half = self._size // 2
        if self.crop == "simple":
            corners = simple_corners(images)
            return crop_integer(inputs, corners, half), corners.to(inputs.dtype), None
        assert last_map is not None
        u = self.localiser(last_map)
        if shift:
            moved = u[:, :2] + shift * (2 * torch.rand(len(u), 2).to(u) - 1)
            u = torch.cat([moved.clamp(0, 1), u[:, 2:]], dim=1)
        box = box_of(u, self._size)
        if self._grid:
            return crop_float(inputs, box, half), box.corners(), u
        corners = integer_box(box, self._size)
        return crop_integer(inputs, corners, half), corners.to(inputs.dtype), u

    def local_inputs(self, images: Tensor, inputs: Tensor, shift: float = 0.0) -> Tensor:
        """Return what L-Net sees while all but L-Net stand still; arguments as those of :meth:`look`."""
        with torch.no_grad():
            last_map = None if self.crop == "simple" else self.g.backbone(inputs)
            return self.look(images, inputs, last_map, shift)[0]

    def see(self, images: Tensor) -> Seen:
        """Return features and box of images ``(B, S, S)`` in 0 to 255."""
        inputs = normalise(images)
        return self.see_on(images, inputs, self.g.backbone(inputs))

    def see_on(self, images: Tensor, inputs: Tensor, last_map: Tensor) -> Seen:
        """Return the same where G-Net has looked already; arguments as those of :meth:`look`."""
        local, corners, _ = self.look(images, inputs, last_map)
        features = torch.cat([pooled(last_map, POOLED), self.local.features(local)], dim=1)
        return Seen(features, corners)


@dataclass(frozen=True)
class Told:
    """What the networks say of many images, each answer averaged over the views.

    Attributes:
        g: G-Net alone.
        local: L-Net alone.
        joint: Both.
        corners: The local box of each image as given, float64 ``(N, 4)`` in pixels of the input.
        profile: Boosted trees on band profiles, which are asked apart; None where they are not.
    """

    g: Logits
    local: Logits
    joint: Logits
    corners: NDArray[np.float64]
    profile: Logits | None = None


def ask(
    looker: Looker,
    joint: Joint,
    images: NDArray[np.uint8],
    views: int,
    device: str,
    groups: Sequence[NDArray[np.int64]] | None = None,
) -> Told:
    """Ask trained networks about images.

    Args:
        looker: Both networks.
        joint: Their joint classifiers.
        images: uint8 ``(N, S, S)``.
        views: 1, 2 (also upside down, where the polarity is the other one) or 4 (mirror images of both).
        device: Where the networks are.
        groups: Rows that are computed together, of each image once; sums of a batch are rounded by its size,
            so that an answer which may not depend on others is computed without them. All in one by default.
    """
    rows = [np.arange(len(images))] if groups is None else groups
    blocks = [one[start : start + _BLOCK] for one in rows for start in range(0, len(one), _BLOCK)]
    parts = [_ask_block(looker, joint, torch.from_numpy(images[one]).to(device), views) for one in blocks]
    place = torch.from_numpy(np.argsort(np.concatenate(blocks)))
    g, local, joint_says = (
        Logits(
            torch.cat([part[kind].types for part, _ in parts])[place],
            torch.cat([part[kind].polarity for part, _ in parts])[place],
        )
        for kind in range(3)
    )
    corners = torch.cat([corners for _, corners in parts]).cpu()[place].numpy().astype(np.float64)
    return Told(g, local, joint_says, corners)


def _ask_block(
    looker: Looker, joint: Joint, images: Tensor, views: int
) -> tuple[tuple[Logits, Logits, Logits], Tensor]:
    pixels = images.to(torch.float32)
    turns = ((), (1,), (2,), (1, 2))[:views]
    with torch.inference_mode():
        passes = [looker.see(pixels.flip(turn)) for turn in turns]
        half = passes[0].features.shape[1] // 2
        answers = [
            (
                branch_logits(looker.g, one.features[:, :half]),
                branch_logits(looker.local, one.features[:, half:]),
                Logits(*joint(one.features)),
            )
            for one in passes
        ]
        kinds = [_averaged([answer[kind] for answer in answers], turns) for kind in range(3)]
    return (kinds[0], kinds[1], kinds[2]), passes[0].corners


def _averaged(views: list[Logits], turns: tuple[tuple[int, ...], ...]) -> Logits:
    polarity = [
        one.polarity.flip(1) if 1 in turn else one.polarity for one, turn in zip(views, turns, strict=True)
    ]
    types = torch.stack([one.types for one in views]).mean(0)
    return Logits(types.cpu(), torch.stack(polarity).mean(0).cpu())


def branch_logits(branch: Branch, features: Tensor) -> Logits:
    """Return what one network says by itself, of its half of the features."""
    return Logits(branch.to_type(features), branch.to_polarity(features))


def extent(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the edges x0, y0, x1, y1 of the chromosomes' tight boxes, int64 ``(B,)``; 0 where all is white.

    Args:
        images: ``(B, S, S)`` in 0 to 255.
    """
    ink = images < INK
    edges = []
    for axis in (1, 2):
        there = ink.any(axis)
        places = torch.arange(there.shape[1], device=images.device)
        edges.append(torch.where(there, places, there.shape[1]).amin(1) % there.shape[1])
        edges.append(torch.where(there, places + 1, 0).amax(1))
    return edges[0], edges[2], edges[1], edges[3]


def first_target(images: Tensor) -> Tensor:
    """Return the localiser's first target ``(B, 3)``: the middle, as large as the chromosome."""
    x0, y0, x1, y1 = extent(images)
    return localiser_target(x1 - x0, y1 - y0, images.shape[-1])


def simple_corners(images: Tensor) -> Tensor:
    """Return int64 ``(B, 4)``: a square around the chromosome's tight box, as large as the localiser may."""
    size = images.shape[-1]
    x0, y0, x1, y1 = extent(images)
    t = torch.maximum(x1 - x0, y1 - y0).clamp(size // 4, size // 2) / 2
    xc, yc = ((low + high) / 2 for low, high in ((x0, x1), (y0, y1)))
    return integer_box(Box(xc, yc, t), size)
