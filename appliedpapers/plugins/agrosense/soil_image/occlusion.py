"""What part of a photo speaks for its class: how much its logit falls where a patch is covered."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.soil_image.views import Pixels

if TYPE_CHECKING:
    from appliedpapers.plugins.agrosense.soil_image.reader import Answering

Floats = NDArray[np.float64]

_FLAT = 1e-9


def occlusion(reader: Answering, view: Pixels, patches: int) -> tuple[Floats, int]:
    """Return the fall of the logit of the likeliest class by patch, ``(patches, patches)``, and that class.

    A covered patch shows the mean colour of the photo: neither a new colour nor an edge is brought in.
    """
    edges = np.linspace(0, view.shape[0], patches + 1).astype(int)
    mean = view.mean(axis=(0, 1)).astype(np.uint8)
    covered = [view]
    for top, bottom in pairwise(edges.tolist()):
        for left, right in pairwise(edges.tolist()):
            other = view.copy()
            other[top:bottom, left:right] = mean
            covered.append(other)
    logits = reader.logits(covered)
    best = int(logits[0].argmax())
    return (logits[0, best] - logits[1:, best]).reshape(patches, patches), best


def occlusion_png(view: Pixels, falls: Floats) -> bytes:
    """Return the photo with what speaks for its class tinted blue, and what speaks against it orange."""
    from PIL import Image

    side = view.shape[0]
    strength = falls / max(float(np.abs(falls).max()), _FLAT)
    grown = np.asarray(
        Image.fromarray(strength.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    )
    tint = np.where(grown[..., None] > 0, (0, 114, 178), (213, 94, 0))
    share = 0.6 * np.abs(grown)[..., None]
    mixed = (1 - share) * view + share * tint
    buffer = io.BytesIO()
    Image.fromarray(mixed.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
