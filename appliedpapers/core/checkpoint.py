"""Checkpoints of a fit: safetensors and JSON, whole or absent, never pickle.

A checkpoint is a folder ``checkpoint-<number>`` that holds ``last.safetensors`` (weights),
``best.safetensors`` (weights of the best epoch, once there is one), ``state.safetensors`` (tensors of the
optimiser and of the random generators) and ``state.json`` (everything else). It is written aside, flushed to
the disk and renamed; the one with the highest number counts, older ones are removed after that. So there is
a usable checkpoint at every moment, and ``last`` and ``best`` always belong together.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core.errors import RunError
from appliedpapers.core.weights import stored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_PREFIX = "checkpoint-"
_ASIDE = ".aside-"


@dataclass(frozen=True)
class Checkpoint:
    """A fit at one moment.

    Attributes:
        last: Weights at that moment, by name.
        best: Weights of the best epoch so far, by name; ``None`` before the first epoch has ended.
        state: Mappings, lists, tuples, numbers, strings and tensors: all that continuing needs besides.
    """

    last: Mapping[str, Tensor]
    best: Mapping[str, Tensor] | None
    state: dict[str, Any]


class CheckpointStore:
    """The newest checkpoint of one fit, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> Checkpoint | None:
        """Return the newest checkpoint, on the CPU, or ``None`` where there is none.

        Raises:
            RunError: The checkpoint is damaged.
        """
        found = self._complete()
        if not found:
            return None
        folder = found[-1]
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            document = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            tensors = load((folder / "state.safetensors").read_bytes())
            best = folder / "best.safetensors"
            return Checkpoint(
                last=load((folder / "last.safetensors").read_bytes()),
                best=load(best.read_bytes()) if best.exists() else None,
                state=unpack(document, tensors),
            )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise RunError(
                f"{folder}: the checkpoint cannot be read ({error}).",
                hint="Delete this folder and train again without --resume.",
            ) from error

    def write(self, checkpoint: Checkpoint, *, keep_best: bool = False) -> None:
        """Write ``checkpoint`` whole and then remove the one before.

        Args:
            checkpoint: What to write.
            keep_best: The best weights are still those of the checkpoint before, which are linked in.

        Raises:
            RunError: The disk is full or the folder cannot be written; the checkpoint before is untouched.
        """
        before = self._complete()
        number = _number(before[-1]) + 1 if before else 1
        aside = self.folder / f"{_ASIDE}{number:08d}"
        try:
            self._discard(aside)
            aside.mkdir(parents=True)
            self._fill(aside, checkpoint, before[-1] if before and keep_best else None)
            _flush_folder(aside)
            os.replace(aside, self.folder / f"{_PREFIX}{number:08d}")
            _flush_folder(self.folder)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise RunError(
                f"{self.folder}: the checkpoint could not be written ({error.strerror or error}).",
                hint=f"Free space or make {self.folder} writable, then continue with --resume"
                f"{' from the checkpoint before' if before else ''}.",
            ) from error
        for old in before:
            shutil.rmtree(old, ignore_errors=True)

    def clear(self) -> None:
        """Remove all checkpoints and what an interrupted write left behind."""
        for folder in self._complete():
            # Renamed first, so that an interruption leaves no half of a checkpoint under its own name.
            aside = self.folder / f"{_ASIDE}{_number(folder):08d}"
            self._discard(aside)
            os.replace(folder, aside)
        for aside in self.folder.glob(f"{_ASIDE}*"):
            self._discard(aside)

    def _fill(self, aside: Path, checkpoint: Checkpoint, before: Path | None) -> None:
        document, tensors = pack(checkpoint.state)
        _write(aside / "last.safetensors", _serialise(checkpoint.last))
        if before is not None and (before / "best.safetensors").exists():
            _link(before / "best.safetensors", aside / "best.safetensors")
        elif checkpoint.best is not None:
            _write(aside / "best.safetensors", _serialise(checkpoint.best))
        _write(aside / "state.safetensors", _serialise(tensors))
        _write(aside / "state.json", json.dumps(document, allow_nan=False, indent=1).encode())

    def _complete(self) -> list[Path]:
        return sorted(self.folder.glob(f"{_PREFIX}*"), key=_number)

    @staticmethod
    def _discard(folder: Path) -> None:
        if folder.exists():
            shutil.rmtree(folder)


def pack(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """Split nested Python values into a JSON document and the tensors it refers to by name.

    Mappings may have any scalar keys; tuples, non-finite floats and exact float values survive.

    Raises:
        TypeError: A value is neither a tensor, a number, a string, ``None`` nor a container of these.
    """
    tensors: dict[str, Tensor] = {}
    return _pack(tree, "", tensors), tensors


def unpack(document: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo :func:`pack`."""
    if isinstance(document, list):
        return [unpack(item, tensors) for item in document]
    if not isinstance(document, dict):
        return document
    if "$tensor" in document:
        return tensors[document["$tensor"]]
    if "$float" in document:
        return float(document["$float"])
    if "$tuple" in document:
        return tuple(unpack(document["$tuple"], tensors))
    if "$pairs" in document:
        return {key: unpack(value, tensors) for key, value in document["$pairs"]}
    return {key: unpack(value, tensors) for key, value in document.items()}


def _pack(tree: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    import torch

    if isinstance(tree, torch.Tensor):
        name = f"{len(tensors)}{path}"  # keys may hold slashes: the number makes it unique
        tensors[name] = tree
        return {"$tensor": name}
    if isinstance(tree, float) and not math.isfinite(tree):
        return {"$float": str(tree)}
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    if isinstance(tree, Mapping):
        pairs = [(key, _pack(value, f"{path}/{key}", tensors)) for key, value in tree.items()]
        plain = all(isinstance(key, str) and not key.startswith("$") for key in tree)
        return dict(pairs) if plain else {"$pairs": [list(pair) for pair in pairs]}
    if isinstance(tree, (list, tuple)):
        items = [_pack(item, f"{path}/{index}", tensors) for index, item in enumerate(tree)]
        return {"$tuple": items} if isinstance(tree, tuple) else items
    raise TypeError(f"{path}: a {type(tree).__name__} cannot be part of a checkpoint")


def capture_generators(device: str) -> dict[str, Tensor]:
    """Return the states of the global generators (Python, NumPy, torch, the CUDA device) as CPU tensors.

    Every tensor has the same shape in every process, so that processes can exchange them.
    """
    import numpy as np
    import torch

    numpy_state: Any = np.random.get_state(legacy=True)
    _, keys, position, has_gauss, gauss = numpy_state
    _, words, spare = random.getstate()
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor([*keys.tolist(), position, has_gauss], dtype=torch.int64),
        "python": torch.tensor(words, dtype=torch.int64),
        "gauss": torch.tensor([gauss, math.nan if spare is None else spare], dtype=torch.float64),
    }
    if device.startswith("cuda"):
        states["cuda"] = torch.cuda.get_rng_state(torch.device(device))
    return states


def restore_generators(states: Mapping[str, Tensor], device: str) -> None:
    """Set the global generators to what :func:`capture_generators` returned."""
    import numpy as np
    import torch

    *keys, position, has_gauss = states["numpy"].tolist()
    gauss, spare = states["gauss"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    random.setstate((3, tuple(states["python"].tolist()), None if math.isnan(spare) else spare))
    # Clones, because torch 2.13 crashes on a state that is a view into a larger tensor.
    torch.set_rng_state(states["torch"].clone())
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].clone(), torch.device(device))


def _serialise(tensors: Mapping[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save

    content: bytes = save(stored(tensors))
    return content


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        _write(target, source.read_bytes())


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix(_PREFIX))
