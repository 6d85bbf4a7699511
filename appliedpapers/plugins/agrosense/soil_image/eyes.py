"""What is looked at in a photo: colour alone, or features of a frozen network with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.soil_image.descriptor import SIZE, colour_descriptor
from appliedpapers.plugins.agrosense.soil_image.views import Pixels

if TYPE_CHECKING:
    from appliedpapers.core.vision.encoders import Encoder

Floats = NDArray[np.float64]

COLOUR = "colour"


class Eye:
    """Turns views into numbers.

    The first 145 are the colour descriptor, whatever else is looked at.

    Args:
        name: ``colour``, or the encoder's name.
        encoder: A frozen network; None for colour alone.
    """

    def __init__(self, name: str, encoder: Encoder | None = None) -> None:
        self.name, self._encoder = name, encoder

    @property
    def size(self) -> int:
        """How many numbers a view gives."""
        return SIZE + (self._encoder.dim if self._encoder else 0)

    def look(self, views: Iterable[Pixels], seen: Callable[[], None] | None = None) -> Floats:
        """Return float64 ``(n, size)`` of views, which are read one at a time.

        Args:
            views: uint8 ``(192, 192, 3)`` each.
            seen: Called after each.
        """
        found = []
        for view in views:
            parts = [colour_descriptor(view)]
            if self._encoder is not None:
                parts.append(self._encoder.encode([view])[0].astype(np.float64))
            found.append(np.concatenate(parts))
            if seen is not None:
                seen()
        return np.stack(found) if found else np.empty((0, self.size))

    def identity(self) -> dict[str, Any] | None:
        """Return what features depend on besides the photo; None for colour alone."""
        return self._encoder.identity.to_json() if self._encoder else None


def open_eye(name: str, *, weights: Path | None = None, device: str = "cpu") -> Eye:
    """Return an eye by its name.

    Args:
        name: ``colour``, ``efficientnet-lite0-texture``, ``efficientnet-lite0`` or ``timm:NAME``.
        weights: A local file of weights for a network other than the default.
        device: A resolved device.

    Raises:
        ConfigError: There is no such network.
        DataError: Weights are absent, damaged or do not fit.
        PluginError: timm or the package of weights is not installed.
    """
    if name == COLOUR:
        return Eye(name)
    from appliedpapers.core.vision.encoders import load_encoder, named_build

    build = named_build(name)
    # the whole of a square photo is seen at whatever size the network takes
    build = replace(build, preprocess=replace(build.preprocess, fit="stretch"))
    return Eye(name, load_encoder(build, weights=weights, device=device))


def require_same_eye(stored: Mapping[str, Any] | None, eye: Eye) -> None:
    """Refuse an encoder that is not the one whose features were learned from.

    Raises:
        DataError: It has other weights, or another preprocessing.
    """
    if stored is None:
        return
    from appliedpapers.core.vision.encoders import require_same

    assert eye._encoder is not None
    require_same(stored, eye._encoder.identity, "this model")
