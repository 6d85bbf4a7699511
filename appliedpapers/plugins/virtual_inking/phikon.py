"""Phikon and phikon-v2 under timm's names: their weights are published under those of another library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from appliedpapers.core.vision.encoders import Build, Encoder

_AROUND = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
}
_INSIDE = {
    # ViT
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    # DINOv2
    "norm1": "norm1",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    # both
    "attention.output.dense": "attn.proj",
}
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+?)(\.weight|\.bias)?\Z")
_QKV = ("query", "key", "value")


def load_phikon(build: Build, weights: Path, device: str) -> Encoder:
    """Make an encoder of a published file of weights.

    Raises:
        DataError: The file cannot be read, or does not fit.
    """
    from appliedpapers.core.files import sha256_file
    from appliedpapers.core.vision.encoders import Encoder
    from appliedpapers.core.vision.networks import create, load_weights, read_weights

    network = create(build.network, arguments=build.arguments)
    load_weights(network, under_timm_names(read_weights(weights), weights.name), weights.name)
    return Encoder(network, build, sha256_file(weights), device)


def under_timm_names(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return tensors under timm's names; query, key and value of a layer become one.

    Raises:
        DataError: A layer lacks one of the three.
    """
    import torch

    found: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        plain = key.removeprefix("vit.").removeprefix("dinov2.")
        if plain == "embeddings.mask_token" or plain.startswith("pooler."):
            continue
        layer = _LAYER.match(plain)
        if layer is None:
            stem, dot, ending = plain.rpartition(".")
            found[_AROUND.get(plain) or _AROUND.get(stem, stem) + dot + ending] = value
            continue
        number, inside, ending = layer.group(1), layer.group(2), layer.group(3) or ""
        role = inside.removeprefix("attention.attention.")
        if role in _QKV:
            parts.setdefault(f"blocks.{number}.attn.qkv{ending}", {})[role] = value
        else:
            found[f"blocks.{number}.{_INSIDE.get(inside, inside)}{ending}"] = value
    for key, three in parts.items():
        if set(three) != set(_QKV):
            raise DataError(
                f"{name}: '{key}' lacks {', '.join(sorted(set(_QKV) - set(three)))}.",
                hint="Expected the file model.safetensors of the model's own repository.",
            )
        found[key] = torch.cat([three[role] for role in _QKV])
    return found
