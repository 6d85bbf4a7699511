"""timm networks by name, with weights that are drawn or read from a file, never fetched unasked."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core.device import derive_seed
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.vision.guard import import_timm
from appliedpapers.core.weights import drawn_by

if TYPE_CHECKING:
    from torch import Tensor, nn

_INSIDE = ("state_dict", "model", "model_state_dict")


def create(
    name: str,
    *,
    classes: int = 0,
    arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    weights: Path | None = None,
    drop_head: bool = True,
) -> nn.Module:
    """Make a timm network.

    Args:
        name: timm's name of it, such as ``resnet18``.
        classes: Outputs of its classifier; 0 leaves the classifier away and returns pooled features.
        arguments: Further arguments of ``timm.create_model``.
        seed: Draws the weights, which stay where no file is given.
        weights: A safetensors file, or a file of ``torch.save`` that holds tensors alone.
        drop_head: Whether a classifier of the file is passed over. All other tensors must fit, each one;
            without ``classes`` the file's classifier is passed over always.

    Returns:
        The network on the CPU, in training mode.

    Raises:
        ConfigError: There is no network of that name, or it does not take an argument.
        DataError: The weights cannot be read or do not fit.
        PluginError: timm is not installed.
    """
    timm = import_timm()
    options = dict(arguments or {})
    with drawn_by(derive_seed(seed, "timm", name)):
        try:
            network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, **options)
        except RuntimeError as error:
            if "Unknown model" not in str(error):
                raise
            raise ConfigError(f"timm has no network '{name}'.", hint=_similar(name)) from None
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"the network '{name}' cannot be made: {_line(error)}.",
                hint="Check its arguments in timm's documentation.",
            ) from None
    if weights is not None:
        load_weights(network, read_weights(weights), weights.name, drop_head=drop_head or not classes)
    return network


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from a safetensors file or from what ``torch.save`` wrote; nothing in it executes.

    Raises:
        DataError: It is absent, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of weights.", hint="Check the path.")
    try:
        found = _read(path)
    # a damaged archive is met anywhere in its reader
    except Exception as error:
        raise DataError(
            f"{path.name}: the weights cannot be read ({_line(error)}).",
            hint="Expected a safetensors file, or a .pth file that holds tensors alone.",
        ) from None
    for key in _INSIDE:
        if isinstance(found.get(key), Mapping):
            found = dict(found[key])
    import torch

    if not found or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise DataError(
            f"{path.name}: there is more in the file than tensors by name.",
            hint="Save network.state_dict() alone, best as safetensors.",
        )
    return found


def load_weights(
    network: nn.Module, weights: Mapping[str, Tensor], name: str, *, drop_head: bool = False
) -> None:
    """Put tensors into a network, all of them.

    Args:
        network: Any.
        weights: A tensor for each of the network's, and for no other.
        name: What messages call the file.
        drop_head: Pass over a classifier on either side, where timm names one; the network's own stays.

    Raises:
        DataError: A tensor is missing, unknown, or of another size.
    """
    own, heads = network.state_dict(), _heads(network) if drop_head else ()
    kept = {key: value for key, value in weights.items() if not key.startswith(heads)}
    kept |= {key: value for key, value in own.items() if key.startswith(heads)}
    for key in {**own, **kept}:
        if key not in own or key not in kept:
            reason = f"'{key}' is missing" if key in own else f"'{key}' is unknown to the network"
        elif own[key].shape != kept[key].shape:
            reason = f"'{key}' is {_size(kept[key])} and should be {_size(own[key])}"
        else:
            continue
        raise DataError(
            f"{name}: the weights do not fit the network: {reason}.",
            hint="Use the file that belongs to this network and these options.",
        )
    network.load_state_dict(kept)


def cached_weights(name: str, *, allow_download: bool = False) -> Path:
    """Return timm's published weights of a network from the local model cache.

    Args:
        name: timm's name of the network, with a tag where it has several: ``resnet18.a1_in1k``.
        allow_download: Whether a file that is not there may be fetched; ``HF_HUB_OFFLINE`` forbids it still.

    Raises:
        ConfigError: There is no such network.
        DataError: The weights are not in the cache, or cannot be fetched.
    """
    timm = import_timm()
    try:
        published = timm.models.get_pretrained_cfg(name)
    except RuntimeError:
        published = None
    if published is None:
        raise ConfigError(f"timm publishes no weights of '{name}'.", hint=_similar(name.partition(".")[0]))
    if not published.hf_hub_id:
        raise DataError(f"timm names no repository for weights of '{name}'.", hint="Give a file of weights.")
    return cached_file(published.hf_hub_id, "model.safetensors", allow_download=allow_download)


def cached_file(repository: str, file: str, *, allow_download: bool = False) -> Path:
    """Return a file of a model repository from the local model cache.

    Args:
        repository: Its owner and name.
        file: The file's name in it.
        allow_download: Whether a file that is not there may be fetched; ``HF_HUB_OFFLINE`` forbids it still.

    Raises:
        DataError: It is not in the cache and may or can not be fetched, with what is expected and where.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    found = try_to_load_from_cache(repository, file)
    if isinstance(found, str):
        return Path(found)
    expected = f"Expected {file} of {repository} (licence: https://huggingface.co/{repository})"
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if offline or not allow_download:
        how = "unset HF_HUB_OFFLINE" if offline and allow_download else "add --allow-download"
        raise DataError(
            f"the weights of {repository} are not on this machine.",
            hint=f"{expected}: give it as a file, or {how}.",
        )
    try:
        return Path(hf_hub_download(repository, file))
    # the hub's client raises what its transport raises: refused, gated, absent, no network
    except Exception as error:
        raise DataError(
            f"the weights of {repository} cannot be fetched ({_line(error)}).",
            hint=f"{expected}: accept the licence on that page, fetch the file and give its path.",
        ) from None


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    import torch

    return dict(torch.load(path, map_location="cpu", weights_only=True))


def _heads(network: nn.Module) -> tuple[str, ...]:
    """Return how the names of a classifier's tensors begin."""
    named = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{one}." for one in ((named,) if isinstance(named, str) else named))


def _similar(name: str) -> str:
    known: list[str] = import_timm().list_models()
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean '{close[0]}'?" if close else f"timm knows {len(known):,}, such as resnet18."


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
