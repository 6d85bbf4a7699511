"""Two experts: colour and texture decide the easy tiles, the encoder sees the uncertain ones (mowst)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.virtual_inking.config import HeadConfig
from appliedpapers.plugins.virtual_inking.heads import Features, Floats, Head

if TYPE_CHECKING:
    from appliedpapers.nn.mowst import ConfidenceGatedMixture
    from appliedpapers.plugins.virtual_inking.learner import Tiles

Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]

_GATE_EPOCHS, _PATIENCE = 60, 15
_ROWS = 256


@dataclass(frozen=True)
class Cascade:
    """The cheap expert and the gate; the dear expert is the model's own head.

    Attributes:
        weak: Head over colour and texture.
        gate: The mixture that tells how sure the weak one is.
        most_calls: Share of a slide's tiles that the encoder may see.
    """

    weak: Head
    gate: ConfidenceGatedMixture
    most_calls: float

    @classmethod
    def fit(
        cls,
        weak: Head,
        strong: Head,
        train: tuple[Tiles, Tiles],
        valid: tuple[Tiles, Tiles],
        most_calls: float,
        seed: int,
    ) -> Cascade:
        """Train the gate between two heads that stand still.

        The budget is a slide's own: a threshold of one source's slides sends most tiles of another one, and
        saves nothing there.

        Args:
            weak: Over colour and texture.
            strong: Over the encoder's features.
            train: The same tiles as each head sees them, weak first.
            valid: Likewise, of other blocks.
            most_calls: Share of tiles that the encoder may see.
            seed: Of the gate.
        """
        from appliedpapers.core.weights import drawn_by
        from appliedpapers.nn.mowst_phases import MixtureTraining
        from appliedpapers.nn.mowst_training import train_mixture

        with drawn_by(seed):
            gate = _mixture(weak, strong)
        options = MixtureTraining(seed=seed % 2**31, pretrain="none", epochs=_GATE_EPOCHS, patience=_PATIENCE)
        train_mixture(gate, _rows(*train), _rows(*valid), options)
        gate.eval()
        return cls(weak, gate, most_calls)

    def uncertain(self, features: Features, always: Rows) -> Flags:
        """Tell which tiles of a slide the encoder sees: the least certain ones, as many as the budget allows.

        Args:
            features: What the cheap expert sees of all tiles of the slide, ``(N, dim)``.
            always: Tiles that it sees in any case, ``(K,)``; they count.
        """
        import torch

        certain = np.empty(len(features))
        block = np.zeros((_ROWS, self.weak.dim), dtype=np.float32)
        for start in range(0, len(features), _ROWS):
            part = features[start : start + _ROWS]
            block[: len(part)] = part
            with torch.inference_mode():
                inputs = {"weak": torch.from_numpy(block)}
                sure = self.gate.confidence(self.gate.answer("weak", inputs), inputs).numpy()
            certain[start : start + len(part)] = sure[: len(part)]
        certain[always] = -np.inf
        found = np.zeros(len(features), dtype=bool)
        count = max(int(self.most_calls * len(features)), len(always))
        found[np.argsort(certain, kind="stable")[:count]] = True
        return found

    def calibrated(self, features: Features) -> Floats:
        """Return the cheap expert's logits, brought to the scale of probabilities."""
        return self.weak.calibration.slope * self.weak.logits(features)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write weights as safetensors, and return the rest."""
        from appliedpapers.core.weights import save_network

        save_network(self.gate, folder / "gate.safetensors")
        return {
            "weak": self.weak.write(folder / "weak.safetensors"),
            "most_calls": self.most_calls,
            "signal": self.gate.signal,
        }

    @classmethod
    def read(cls, folder: Path, state: Mapping[str, Any], config: HeadConfig, strong: Head) -> Cascade:
        """Rebuild what :meth:`write` wrote."""
        from appliedpapers.core.weights import load_network

        weak = Head.read(folder / "weak.safetensors", state["weak"], config)
        gate = load_network(_mixture(weak, strong), folder / "gate.safetensors", "cpu")
        gate.eval()
        gate.signal = state["signal"]
        return cls(weak, gate, float(state["most_calls"]))


def _mixture(weak: Head, strong: Head) -> ConfidenceGatedMixture:
    from torch import Tensor, nn

    from appliedpapers.nn.mowst import ConfidenceGatedMixture

    class Expert(nn.Module):
        """A head on the scale of probabilities, with a last axis."""

        def __init__(self, head: Head) -> None:
            super().__init__()
            self.network, self.slope = head.network, head.calibration.slope

        def forward(self, features: Tensor) -> Tensor:
            found: Tensor = self.slope * self.network(features)
            return found.unsqueeze(-1)

    return ConfidenceGatedMixture(Expert(weak), Expert(strong), out_features=1, freeze="both", mode="mowst")


def _rows(weak: Tiles, strong: Tiles) -> tuple[dict[str, Any], Any]:
    return {"weak": weak.features, "strong": strong.features}, weak.labels.long()
