"""Frozen encoders by name: the default, colour and texture, and pathology foundation models."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import ConfigError, DataError, did_you_mean
from appliedpapers.core.vision.encoders import LITE0, Build, Identity, load_encoder, named_build
from appliedpapers.core.vision.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from appliedpapers.plugins.virtual_inking.config import EncoderConfig

if TYPE_CHECKING:
    from appliedpapers.core.vision.encoders import Encoder

Bytes = NDArray[np.uint8]
Features = NDArray[np.float32]

COLOUR_TEXTURE = "colour-texture"
REGISTRY_FILE = "APPS_ENCODERS"
"""Names a JSON file ``{"uni": "/models/uni.bin"}`` of weights that lie on this machine."""

_IMAGENET = Preprocess(mean=IMAGENET_MEAN, std=IMAGENET_STD)
_OPTIMUS = Preprocess(mean=(0.707223, 0.578729, 0.703617), std=(0.211883, 0.230117, 0.177517))


@dataclass(frozen=True)
class Foundation:
    """A pathology model and where its weights are kept.

    Attributes:
        build: For timm.
        repository: On the model hub.
        file: Name of the weights there.
        gated: Whether a licence must be accepted first.
        extra: Names of callables that ``arguments`` cannot hold, by argument.
    """

    build: Build
    repository: str
    file: str = "pytorch_model.bin"
    gated: bool = True
    extra: Mapping[str, str] = field(default_factory=dict)


def _model(
    name: str,
    network: str,
    dim: int,
    repository: str,
    *,
    file: str = "pytorch_model.bin",
    preprocess: Preprocess = _IMAGENET,
    pooling: Any = "output",
    prefix: int = 1,
    extra: Mapping[str, str] | None = None,
    gated: bool = True,
    **arguments: Any,
) -> Foundation:
    build = Build(name, network, dim, arguments, preprocess, pooling, prefix)
    return Foundation(build, repository, file, gated, extra or {})


_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
_PRECISE = {"norm_layer": "LayerNorm"}
_VIRCHOW: dict[str, Any] = {
    "img_size": 224,
    "mlp_ratio": 5.3375,
    "global_pool": "",
    "init_values": 1e-5,
    "dynamic_img_size": True,
}

MODELS: Mapping[str, Foundation] = {
    model.build.name: model
    for model in (
        _model(
            "uni",
            "vit_large_patch16_224",
            1024,
            "MahmoodLab/UNI",
            init_values=1e-5,
            dynamic_img_size=True,
        ),
        _model(
            "uni2-h",
            "vit_giant_patch14_224",
            1536,
            "MahmoodLab/UNI2-h",
            extra=_SWIGLU,
            img_size=224,
            depth=24,
            num_heads=24,
            embed_dim=1536,
            mlp_ratio=2.66667 * 2,
            no_embed_class=True,
            reg_tokens=8,
            init_values=1e-5,
            dynamic_img_size=True,
        ),
        _model(
            "virchow",
            "vit_huge_patch14_224",
            2560,
            "paige-ai/Virchow",
            extra=_SWIGLU,
            pooling="cls+mean",
            **_VIRCHOW,
        ),
        _model(
            "virchow2",
            "vit_huge_patch14_224",
            2560,
            "paige-ai/Virchow2",
            extra=_SWIGLU,
            pooling="cls+mean",
            prefix=5,
            reg_tokens=4,
            **_VIRCHOW,
        ),
        *(
            _model(
                name,
                "vit_giant_patch14_reg4_dinov2",
                1536,
                f"bioptimus/{repository}",
                preprocess=_OPTIMUS,
                img_size=224,
                init_values=1e-5,
                dynamic_img_size=False,
                global_pool="token",
            )
            for name, repository in (("h-optimus-0", "H-optimus-0"), ("h-optimus-1", "H-optimus-1"))
        ),
        _model(
            "gigapath",
            "vit_giant_patch14_dinov2",
            1536,
            "prov-gigapath/prov-gigapath",
            preprocess=replace(_IMAGENET, resize=256, fit="crop", interpolation="bicubic"),
            img_size=224,
            in_chans=3,
            patch_size=16,
            embed_dim=1536,
            depth=40,
            num_heads=24,
            init_values=1e-5,
            mlp_ratio=5.33334,
        ),
        _model(
            "phikon",
            "vit_base_patch16_224",
            768,
            "owkin/phikon",
            file="model.safetensors",
            gated=False,
            extra=_PRECISE,
            global_pool="token",
        ),
        _model(
            "phikon-v2",
            "vit_large_patch16_224",
            1024,
            "owkin/phikon-v2",
            file="model.safetensors",
            global_pool="token",
            init_values=1.0,
        ),
    )
}


class TileEncoder(ABC):
    """Turns tiles into features; a tile's features are its own whatever its company.

    Attributes:
        identity: What is stored with features, so that a mix is refused.
        calls: How many tiles it has seen.
    """

    identity: Identity
    calls: int = 0

    @property
    def dim(self) -> int:
        """Features of a tile."""
        return self.identity.dim

    @abstractmethod
    def encode(self, tiles: Iterable[Bytes]) -> Features:
        """Return features ``(N, dim)`` of tiles ``(t, t, 3)``."""


class FrozenEncoder(TileEncoder):
    """A network of :mod:`appliedpapers.core.vision`."""

    def __init__(self, network: Encoder) -> None:
        self._network, self.identity = network, network.identity

    def encode(self, tiles: Iterable[Bytes]) -> Features:
        """Return the network's features."""
        found = self._network.encode(tiles)
        self.calls += len(found)
        return found


class FileEncoder(TileEncoder):
    """A TorchScript or ONNX file of the user's, named on the command line; it never comes out of a bundle."""

    def __init__(self, kind: str, path: Path, pixels: int) -> None:
        from appliedpapers.core.files import sha256_file

        if not path.is_file():
            raise DataError(f"{path}: no such file.", hint="Check the path of the encoder.")
        self._preprocess = replace(_IMAGENET, size=pixels)
        self._run = _torchscript(path) if kind == "torchscript" else _onnx(path)
        dim = self._run(np.zeros((1, 3, pixels, pixels), dtype=np.float32)).reshape(1, -1).shape[1]
        self.identity = Identity(
            f"{kind}:{path.name}", sha256_file(path), self._preprocess.to_json(), int(dim)
        )

    def encode(self, tiles: Iterable[Bytes]) -> Features:
        """Return what the file's network gives, tile by tile."""
        found = [self._run(self._preprocess.tensor([tile])).reshape(1, -1) for tile in tiles]
        self.calls += len(found)
        return np.concatenate(found) if found else np.empty((0, self.dim), dtype=np.float32)


class ColourTexture(TileEncoder):
    """Statistics of colour, stain and texture: a millisecond a tile, and no network at all."""

    def __init__(self) -> None:
        from appliedpapers.plugins.virtual_inking.colour_texture import DIM, VERSION

        self.identity = Identity(COLOUR_TEXTURE, VERSION, {}, DIM)

    def encode(self, tiles: Iterable[Bytes]) -> Features:
        """Return the statistics of each tile."""
        from appliedpapers.plugins.virtual_inking.colour_texture import describe

        found = [describe(tile) for tile in tiles]
        self.calls += len(found)
        return np.stack(found) if found else np.empty((0, self.dim), dtype=np.float32)


def open_encoder(config: EncoderConfig, pixels: int, device: str = "cpu") -> TileEncoder:
    """Return the configured encoder.

    Args:
        config: Of the section ``encoder``.
        pixels: Side of the tiles; the default encoder, which takes any, sees them as they are.
        device: Resolved device.

    Raises:
        ConfigError: The encoder is unknown, or 16 bits are asked for on the CPU.
        DataError: Its weights are not on this machine, damaged, or of another network.
    """
    if config.half and not device.startswith("cuda"):
        raise ConfigError(
            "option 'encoder.half': 16 bits need a GPU.", hint="Leave it out, or give --device cuda."
        )
    name = config.name
    if name == COLOUR_TEXTURE:
        return ColourTexture()
    kind, sign, place = name.partition(":")
    if sign and kind in ("torchscript", "onnx"):
        return FileEncoder(kind, Path(place).expanduser(), pixels)
    if name in MODELS:
        return FrozenEncoder(load_foundation(MODELS[name], config, device))
    if name != LITE0.name and kind != "timm":
        known = [LITE0.name, COLOUR_TEXTURE, *MODELS, "timm:NAME", "torchscript:FILE", "onnx:FILE"]
        raise ConfigError(f"option 'encoder.name': unknown encoder '{name}'.", hint=did_you_mean(name, known))
    build = named_build(name)
    if name == LITE0.name:
        build = replace(build, preprocess=replace(build.preprocess, size=pixels))
    weights = None if config.weights is None else Path(config.weights).expanduser()
    return FrozenEncoder(
        load_encoder(build, weights=weights, device=device, allow_download=config.allow_download)
    )


def load_foundation(
    model: Foundation, config: EncoderConfig, device: str = "cpu", *, random_weights: bool = False
) -> Encoder:
    """Make a pathology model: weights by their path, the registry file, the cache, or the network if allowed.

    Raises:
        DataError: The weights are nowhere, damaged, or do not fit.
    """
    from appliedpapers.core.vision.networks import cached_file

    weights = None
    if not random_weights:
        weights = local_weights(model, config)
        if weights is None:
            weights = cached_file(model.repository, model.file, allow_download=config.allow_download)
    build = replace(model.build, arguments={**model.build.arguments, **_callables(model.extra)})
    if weights is not None and model.build.name.startswith("phikon"):
        from appliedpapers.plugins.virtual_inking.phikon import load_phikon

        return load_phikon(build, weights, device)
    return load_encoder(build, weights=weights, device=device, random_weights=random_weights)


def local_weights(model: Foundation, config: EncoderConfig) -> Path | None:
    """Return weights that the user named: in the configuration, or in the file that the environment names.

    Raises:
        DataError: The file that is named is not there.
        ConfigError: The registry file is not JSON.
    """
    name = config.weights
    registry = os.environ.get(REGISTRY_FILE)
    if name is None and registry:
        try:
            known = json.loads(Path(registry).expanduser().read_text(encoding="utf-8"))
            name = known.get(model.build.name)
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{REGISTRY_FILE}={registry}: cannot be read ({error}).",
                hint='Expected JSON such as {"uni": "/models/uni.bin"}.',
            ) from None
    if name is None:
        return None
    path = Path(name).expanduser()
    if not path.is_file():
        raise DataError(
            f"{path}: no such file of weights for {model.build.name}.",
            hint=f"Expected {model.file} of {model.repository}.",
        )
    return path


def _callables(names: Mapping[str, str]) -> dict[str, Any]:
    if not names:
        return {}
    from torch import nn

    from appliedpapers.core.vision.guard import import_timm

    known = {
        "SiLU": nn.SiLU,
        "SwiGLUPacked": import_timm().layers.SwiGLUPacked,
        "LayerNorm": partial(nn.LayerNorm, eps=1e-12),
    }
    return {argument: known[name] for argument, name in names.items()}


def _torchscript(path: Path) -> Any:
    import torch

    try:
        load: Any = torch.jit.load
        network = load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"{path.name}: no TorchScript ({str(error)[:80]}).", hint="Save by torch.jit.save."
        ) from None

    def run(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = network(torch.from_numpy(inputs)).float().numpy()
        return found

    return run


def _onnx(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(
            "encoders in ONNX need onnxruntime, which is not installed.",
            hint='pip install "applied-papers[onnx]"',
        ) from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise DataError(
            f"{path.name}: no ONNX ({str(error)[:80]}).", hint="Export it by torch.onnx."
        ) from None
    name = session.get_inputs()[0].name

    def run(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {name: inputs})[0], dtype=np.float32)

    return run
