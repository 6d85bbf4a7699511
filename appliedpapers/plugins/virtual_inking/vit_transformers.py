"""Vision transformers that the library transformers makes: phikon and phikon-v2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core.errors import ConfigError
from appliedpapers.core.vision.encoders import Build, Encoder

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_vit(build: Build, weights: Path | None, device: str) -> Encoder:
    """Make an encoder of a ViT (phikon) or a DINOv2 network (phikon-v2); its first token is the features.

    Args:
        build: Sizes in ``arguments``.
        weights: A safetensors or torch file; None draws weights by a fixed seed.
        device: Resolved device.

    Raises:
        ConfigError: transformers is not installed.
        DataError: The weights do not fit.
    """
    from appliedpapers.core.files import sha256_file
    from appliedpapers.core.vision.encoders import state_sha256
    from appliedpapers.core.vision.networks import load_weights, read_weights
    from appliedpapers.core.weights import drawn_by

    with drawn_by(0):
        network = _network(build)
    if weights is not None:
        load_weights(network, read_weights(weights), weights.name)
    wrapped = _tokens_of(network)
    return Encoder(wrapped, build, sha256_file(weights) if weights else state_sha256(network), device)


def _network(build: Build) -> Any:
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            f"the encoder '{build.name}' needs transformers, which is not installed.",
            hint="pip install transformers, or choose another encoder.",
        ) from None
    sizes = dict(build.arguments)
    if build.name == "phikon-v2":
        # DINOv2 says its width as a ratio
        ratio = sizes.pop("intermediate_size") // sizes["hidden_size"]
        config = transformers.Dinov2Config(**sizes, mlp_ratio=ratio, patch_size=16, image_size=224)
        return transformers.Dinov2Model(config)
    return transformers.ViTModel(transformers.ViTConfig(**sizes), add_pooling_layer=False)


def _tokens_of(network: Any) -> nn.Module:
    from torch import nn

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            found: Tensor = self.network(pixel_values=images).last_hidden_state
            return found

    return Tokens()
