"""Normalisation and dropout of the blocks, by name."""

from __future__ import annotations

import torch
from torch import nn

from appliedpapers.nn.module import check_choice

NORMS = ("none", "layer", "layer_no_bias", "rms")


def make_norm(
    name: str | None,
    features: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Return a normalisation over the last axis, so that rows stay independent of one another.

    Args:
        name: ``layer`` (LayerNorm), ``layer_no_bias``, ``rms`` (root mean square), ``none`` or ``None``.
        features: Size of the last axis.
        device: Device of the weights.
        dtype: Type of the weights.

    Raises:
        ValueError: The name is unknown; the message gives the choices.
    """
    if name is None or name == "none":
        return nn.Identity()
    check_choice("norm", "norm", name, NORMS)
    if name == "rms":
        return nn.RMSNorm(features, device=device, dtype=dtype)
    return nn.LayerNorm(features, bias=name == "layer", device=device, dtype=dtype)


def make_dropout(rate: float) -> nn.Module:
    """Return dropout, or the identity for a rate of 0.

    Raises:
        ValueError: The rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"drop must be at least 0 and below 1, not {rate!r}")
    return nn.Dropout(rate) if rate else nn.Identity()
