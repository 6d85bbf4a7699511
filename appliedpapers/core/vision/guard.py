"""Importing torchvision and timm, also where torchvision's compiled part does not fit torch.

With a CPU build of torch the compiled extension of torchvision cannot be loaded, and its import stops because
the operator ``torchvision::nms`` is unknown. Nothing here needs that operator: its schema is enough for the
import, and timm for all its networks. On a matching build nothing is touched.
"""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

from appliedpapers.core.errors import PluginError

_UNKNOWN = "operator torchvision::nms does not exist"
_SCHEMAS = ("nms", "qnms")
_LOCK = threading.Lock()
# operators are forgotten with the library that defines them: kept for the life of the process
_LIBRARIES: list[Any] = []


def import_torchvision() -> ModuleType:
    """Import torchvision; safe to repeat.

    Raises:
        PluginError: It is not installed.
    """
    with _LOCK:
        try:
            return _imported("torchvision")
        except RuntimeError as error:
            if str(error) != _UNKNOWN:
                raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _define_schemas()
        return _imported("torchvision")


def import_timm() -> ModuleType:
    """Import timm; safe to repeat.

    Raises:
        PluginError: It or torchvision is not installed.
    """
    import_torchvision()
    return _imported("timm")


def _define_schemas() -> None:
    if _LIBRARIES:
        return
    import torch

    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in _SCHEMAS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARIES.append(library)


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # a module that is missing inside of an installed package is another matter
        if error.name not in (name, "torch", "timm", "torchvision"):
            raise
        raise PluginError(
            f"networks that look at images need {error.name}, which is not installed.",
            hint='Install it: pip install "applied-papers[vision]"',
        ) from None
