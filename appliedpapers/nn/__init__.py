"""Shared architecture modules that any plugin takes by name in its configuration.

>>> from appliedpapers import nn
>>> head = nn.build("kan(basis=rbf, grid=8)", in_features=64, out_features=3)

Importing this package is cheap: torch is loaded when a module is built.
"""

from __future__ import annotations

import importlib
from typing import Any

from appliedpapers.nn.registry import Entry, SpecError, entries, list_modules, register

__all__ = ["Entry", "SpecError", "build", "build_cell", "build_conv", "entries", "list_modules", "register"]

_LAZY = {"build": "factory", "build_conv": "factory", "build_cell": "factory"}


def __getattr__(name: str) -> Any:
    """Load what needs torch on first use: the builders, and every class of the catalogue by its name."""
    if name in _LAZY:
        return getattr(importlib.import_module(f"appliedpapers.nn.{_LAZY[name]}"), name)
    for entry in entries():
        target = entry.target if isinstance(entry.target, str) else entry.target.__qualname__
        if target.partition(":")[2] == name or target == name:
            return entry.load()
    raise AttributeError(f"module 'appliedpapers.nn' has no attribute '{name}'")
