"""A mixture on disk: ``mixture.json`` and ``mixture.safetensors``. No pickle; nothing in it is executed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appliedpapers.nn.mowst import ConfidenceGatedMixture

FORMAT = 1
_JSON, _WEIGHTS = "mixture.json", "mixture.safetensors"


def save(mixture: ConfidenceGatedMixture, folder: Path) -> None:
    """Write configuration, selection and weights; each file appears whole, the JSON last."""
    from safetensors.torch import save as to_bytes

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous().clone() for name, value in mixture.state_dict().items()}
    weights = to_bytes(state)
    config = mixture.config()
    for side in ("weak", "strong"):
        if not isinstance(config[side], str | dict):
            # an expert from outside the shelf comes back as an argument of load
            config[side] = None
    document = {
        "format": FORMAT,
        "config": config,
        "weight": mixture.weight,
        "signal": mixture.signal,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    _write(folder / _WEIGHTS, weights)
    _write(folder / _JSON, json.dumps(document, indent=1).encode())


def load(folder: Path, weak: Any, strong: Any) -> ConfidenceGatedMixture:
    """Read a mixture.

    Raises:
        ValueError: The weights were changed, the format is newer, or an expert must be given.
        FileNotFoundError: A file is missing.
    """
    from safetensors.torch import load as from_bytes

    from appliedpapers.nn.mowst import ConfidenceGatedMixture

    document = json.loads((folder / _JSON).read_text(encoding="utf-8"))
    if document["format"] > FORMAT:
        raise ValueError(
            f"{folder / _JSON} has format {document['format']}; this version reads up to {FORMAT}"
        )
    weights = (folder / _WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != document["sha256"]:
        raise ValueError(f"{folder / _WEIGHTS} is not the file that {_JSON} names: its sha256 differs")
    config = {key: value for key, value in document["config"].items() if key != "name"}
    for side, given in (("weak", weak), ("strong", strong)):
        if given is not None:
            config[side] = given
        if config[side] is None:
            raise ValueError(f"the {side} expert is not one of the shelf: give load(folder, {side}=...)")
    if isinstance(config.get("dtype"), str):
        import torch

        config["dtype"] = getattr(torch, config["dtype"])
    mixture = ConfidenceGatedMixture(**config)
    mixture.load_state_dict(from_bytes(weights))
    mixture.weight, mixture.signal = document["weight"], document["signal"]
    return mixture.eval()


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    os.replace(aside, path)
