"""Frozen encoders: images in, features out, each image's the same alone and in company."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.files import sha256_file
from appliedpapers.core.vision import lite0
from appliedpapers.core.vision.networks import cached_weights, create, load_weights, read_weights
from appliedpapers.core.vision.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

if TYPE_CHECKING:
    from torch import Tensor, nn

Pixels = NDArray[np.uint8]
Features = NDArray[np.float32]
Pooling = Literal["output", "cls", "cls+mean", "stages"]

DEFAULT = "efficientnet-lite0"
_GPU_BATCH = 32


@dataclass(frozen=True)
class Build:
    """How an encoder is made of a timm network.

    Attributes:
        name: What users call the encoder.
        network: timm's name of the network.
        dim: Features of an image.
        arguments: Further arguments of ``timm.create_model``; the classifier is left away always.
        preprocess: How an image becomes the network's input.
        pooling: ``output`` takes what the network returns; of a sequence of tokens, ``cls`` takes the
            first and ``cls+mean`` appends the mean of all patch tokens. ``stages`` appends mean and
            standard deviation of the maps of inner stages to the output: texture, not only objects. It is
            known of timm's EfficientNets.
        prefix_tokens: Tokens before the patch tokens, for ``cls+mean``: 1, or 5 with four registers.
    """

    name: str
    network: str
    dim: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Preprocess = field(default_factory=Preprocess)
    pooling: Pooling = "output"
    prefix_tokens: int = 1


LITE0 = Build(DEFAULT, lite0.NAME, lite0.DIM)
"""The default: ImageNet weights from a package, 224 px, ``x / 127.5 - 1``."""


@dataclass(frozen=True)
class Identity:
    """What features depend on besides the pixels: stored with them, so that a mix is refused.

    Attributes:
        encoder: Its name.
        weights_sha256: Of the file of weights; of names and values where they were drawn.
        preprocess: Options in JSON.
        dim: Features of an image.
    """

    encoder: str
    weights_sha256: str
    preprocess: dict[str, Any]
    dim: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON keeps it."""
        return {
            "encoder": self.encoder,
            "weights_sha256": self.weights_sha256,
            "preprocess": self.preprocess,
            "dim": self.dim,
        }


class Encoder:
    """A frozen network with its preprocessing.

    On the CPU images pass one by one, which is both what keeps an image's features from depending on its
    company and the fastest there (measured: 22 ms an image alone, 27 in eights, 62 in sixteens). On a GPU
    they pass in batches of one size, of which the last is filled up.

    Args:
        network: Takes float32 ``(B, 3, size, size)``; what it returns is pooled.
        build: How it was made, and what it takes.
        weights_sha256: Identity of its weights.
        device: A resolved device.
    """

    def __init__(self, network: nn.Module, build: Build, weights_sha256: str, device: str = "cpu") -> None:
        import torch

        self.build, self.device = build, device
        # measured a quarter faster on the CPU than with channels first
        channels_last: Any = {"memory_format": torch.channels_last}
        if build.pooling == "stages":
            network = _with_stages(network, build)
        self._network = network.to(device, **channels_last).eval().requires_grad_(False)
        self._batch = _GPU_BATCH if device.startswith("cuda") else 1
        self.identity = Identity(build.name, weights_sha256, build.preprocess.to_json(), build.dim)

    @property
    def dim(self) -> int:
        """Features of an image."""
        return self.build.dim

    def encode(self, images: Iterable[Pixels]) -> Features:
        """Return features of images, read one batch at a time.

        Args:
            images: uint8 ``(h, w, 3)`` of any sizes; an iterator may decode them as they are asked for.

        Returns:
            float32 ``(n, dim)``.
        """
        blocks = list(self.stream(images))
        return np.concatenate(blocks) if blocks else np.empty((0, self.dim), np.float32)

    def stream(self, images: Iterable[Pixels]) -> Iterator[Features]:
        """Yield features of a batch at a time, in order; memory is bounded by the batch."""
        source = iter(images)
        while batch := list(islice(source, self._batch)):
            yield self.encode_inputs(self.build.preprocess.tensor(batch))

    def encode_inputs(self, inputs: NDArray[np.float32]) -> Features:
        """Return features ``(n, dim)`` of inputs ``(n, 3, size, size)`` that are preprocessed already.

        Raises:
            DataError: The network gives another number of features, or what is no number.
        """
        parts = [self._batch_of(inputs[at : at + self._batch]) for at in range(0, len(inputs), self._batch)]
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)

    def _batch_of(self, inputs: NDArray[np.float32]) -> Features:
        import torch

        count = len(inputs)
        if count < self._batch:
            inputs = np.concatenate([inputs, np.zeros((self._batch - count, *inputs.shape[1:]), np.float32)])
        given = torch.from_numpy(np.ascontiguousarray(inputs)).to(self.device)
        with torch.inference_mode():
            found = _pooled(self._network(given.contiguous(memory_format=torch.channels_last)), self.build)
        if found.ndim != 2 or found.shape[1] != self.dim:
            raise DataError(
                f"the encoder '{self.build.name}' gives features {tuple(found.shape[1:])} an image.",
                hint=f"Expected {self.dim}; check the network, its pooling and the file of weights.",
            )
        features: Features = found[:count].float().cpu().numpy()
        return features


TEXTURE = Build(
    f"{DEFAULT}-texture",
    lite0.NAME,
    lite0.DIM + 2 * sum(lite0.STAGE_CHANNELS),
    preprocess=Preprocess(size=288, fit="crop"),
    pooling="stages",
)
"""The default with its inner stages, at 288 px: for surfaces, such as soil."""


def load_encoder(
    build: Build | str = LITE0,
    *,
    weights: Path | None = None,
    device: str = "cpu",
    seed: int = 0,
    random_weights: bool = False,
    allow_download: bool = False,
) -> Encoder:
    """Make a frozen encoder.

    Args:
        build: How it is made; ``efficientnet-lite0``, ``efficientnet-lite0-texture`` or ``timm:NAME`` in
            words.
        weights: A local file. Without it the default encoder reads its package, and others timm's published
            weights from the local model cache.
        device: A resolved device.
        seed: Draws random weights.
        random_weights: Draw weights where no file is given, rather than to look for published ones.
        allow_download: Whether published weights may be fetched.

    Raises:
        ConfigError: The encoder is unknown.
        DataError: The weights are absent, damaged, or do not fit.
        PluginError: timm or the package of weights is not installed.
    """
    made = named_build(build) if isinstance(build, str) else build
    plain = weights is None and not random_weights
    if plain and made.network == lite0.NAME and not made.arguments:
        path = lite0.weights_file()
        network = create(made.network, classes=1000)
        load_weights(network, lite0.under_timm_names(read_weights(path)), path.name)
        network.reset_classifier(0)  # type: ignore[operator]
        return Encoder(network, made, sha256_file(path), device)
    if plain:
        weights = cached_weights(made.network, allow_download=allow_download)
    network = create(made.network.partition(".")[0], arguments=made.arguments, seed=seed, weights=weights)
    return Encoder(network, made, sha256_file(weights) if weights else state_sha256(network), device)


def named_build(name: str) -> Build:
    """Return one of the builds above by its name, or that of ``timm:NAME`` as timm states it.

    Raises:
        ConfigError: It is neither, or timm has no such network.
    """
    named = {build.name: build for build in (LITE0, TEXTURE)}
    if name in named:
        return named[name]
    if not name.startswith("timm:"):
        raise ConfigError(f"unknown encoder '{name}'.", hint=f"Choose {', '.join(named)} or timm:NAME.")
    tagged = name.removeprefix("timm:")
    network = create(tagged.partition(".")[0])
    stated = _stated(tagged) or getattr(network, "pretrained_cfg", {})
    preprocess = Preprocess(
        size=int(stated.get("input_size", (3, 224, 224))[-1]),
        mean=tuple(stated.get("mean", IMAGENET_MEAN)),
        std=tuple(stated.get("std", IMAGENET_STD)),
    )
    return Build(name, tagged, int(network.num_features), preprocess=preprocess)  # type: ignore[arg-type]


def state_sha256(network: nn.Module) -> str:
    """Return the sha256 over names and values of a network's tensors."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def require_same(stored: Mapping[str, Any], identity: Identity, what: str) -> None:
    """Refuse features that another encoder made.

    Args:
        stored: What :meth:`Identity.to_json` returned when they were made.
        identity: Of the encoder in use.
        what: What messages call the features.

    Raises:
        DataError: They differ in encoder, weights, preprocessing or size.
    """
    own = identity.to_json()
    for key, value in own.items():
        if stored.get(key) != value:
            raise DataError(
                f"{what}: features of another {key.replace('_', ' ')} ({stored.get(key)}).",
                hint=f"Expected {value}; extract them again, features of two encoders cannot be mixed.",
            )


def _with_stages(network: nn.Module, build: Build) -> nn.Module:
    import torch
    from torch import nn

    if not all(hasattr(network, part) for part in ("conv_stem", "bn1", "blocks", "conv_head", "bn2")):
        raise ConfigError(
            f"the inner stages of '{build.network}' are not known.",
            hint="Use pooling='output', or an EfficientNet.",
        )

    class WithStages(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            inner: Any = self.inner
            x, found = inner.bn1(inner.conv_stem(x)), []
            for place, stage in enumerate(inner.blocks):
                x = stage(x)
                if 0 < place < len(inner.blocks) - 1:
                    found += [x.mean((2, 3)), x.std((2, 3))]
            last = inner.global_pool(inner.bn2(inner.conv_head(x)))
            return torch.cat([last, *found], dim=1)

    return WithStages(network)


def _stated(tagged: str) -> dict[str, Any] | None:
    from appliedpapers.core.vision.guard import import_timm

    if "." not in tagged:
        return None
    found = import_timm().models.get_pretrained_cfg(tagged)
    return {"input_size": found.input_size, "mean": found.mean, "std": found.std} if found else None


def _pooled(found: Tensor, build: Build) -> Tensor:
    import torch

    if build.pooling == "output" or found.ndim != 3:
        return found
    first = found[:, 0]
    if build.pooling == "cls":
        return first
    return torch.cat([first, found[:, build.prefix_tokens :].mean(1)], dim=-1)
