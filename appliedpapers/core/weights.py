"""Weights of networks: drawn by a seed, counted, stored, read, and taken over from an earlier network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from appliedpapers.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    N = TypeVar("N", bound=nn.Module)


@contextmanager
def drawn_by(seed: int) -> Iterator[None]:
    """Let the weights of networks that are made in this context depend on ``seed`` alone.

    The global generator of the CPU goes on as if nothing had been drawn.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def parameter_count(*networks: nn.Module) -> str:
    """Return how many parameters networks have together, in words for a person: ``1,465,476``."""
    return f"{sum(one.numel() for network in networks for one in network.parameters()):,}"


def stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors takes them: on the CPU, contiguous, each in memory of its own."""
    # without clones, tied weights and expanded buffers are refused
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def save_network(network: nn.Module, path: Path) -> None:
    """Write the weights of a network, wherever it is, to a safetensors file."""
    from safetensors.torch import save_file

    save_file(stored(network.state_dict()), path)


def load_network(network: N, path: Path, device: str) -> N:
    """Read what :func:`save_network` wrote into a network of the same sizes, and make it ready to answer.

    Returns:
        ``network`` on ``device``, in eval mode.
    """
    from safetensors.torch import load_file

    network.load_state_dict(load_file(path))
    return network.to(device).eval()


def start_from(network: nn.Module, earlier: Mapping[str, Tensor]) -> None:
    """Let a network start from the weights of an earlier one.

    Args:
        network: Any.
        earlier: The state of a network of the same sizes, by name.

    Raises:
        ConfigError: A tensor is in one of them only, or has another size.
    """
    own = network.state_dict()
    for name in {**own, **earlier}:
        in_both = name in own and name in earlier
        if in_both and own[name].shape == earlier[name].shape:
            continue
        differs = "has another size than in that model" if in_both else "is in one of the two models only"
        raise ConfigError(
            f"--init-from: '{name}' {differs}.",
            hint="Use the same options as the model to start from; apps registry diff compares two.",
        )
    network.load_state_dict(earlier)
