"""Two experts: colour and texture see all tiles, the encoder those that matter and are uncertain (mowst)."""

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
# how much more the way to the outline counts than the gate; of 0 to 4 and alone, best on validation slides
_RIM_WEIGHT = 4
_AROUND = 8  # tiles that touch a tile of a grid
_REACH = 1.5  # strides: those around it, and none of the next ring


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

    def chosen(self, features: Features, depth: Floats, always: Rows) -> Flags:
        """Tell which tiles of a slide the encoder sees, as many as the budget allows.

        The line is drawn from tiles near the outline. Tiles are ranked by their way to it and by how sure the
        gate is of the cheap expert, the nearest and least sure first.

        Args:
            features: What the cheap expert sees of all tiles of the slide, ``(N, dim)``.
            depth: Distance of the tiles from the outline in micrometres, ``(N,)``.
            always: Tiles that it sees in any case, ``(K,)``; they count.
        """
        from scipy.stats import rankdata

        from appliedpapers.nn.mowst_routing import confidences

        order = _RIM_WEIGHT * rankdata(depth) + rankdata(confidences(self.gate, features))
        order[always] = -np.inf
        found = np.zeros(len(features), dtype=bool)
        count = max(int(self.most_calls * len(features)), len(always))
        found[np.argsort(order, kind="stable")[:count]] = True
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


def joined(weak: Floats, strong: Floats, chosen: Flags, centres: Floats, stride_um: float) -> Floats:
    """Return the logits of a slide whose tiles were not all seen by the encoder.

    A tile that it saw has its answer. Any other has the mean of the cheap expert's answer and of what the
    encoder said of the tiles around; the cheap expert's alone where it saw none of these.

    Args:
        weak: Calibrated logits of the cheap expert, ``(N,)``.
        strong: Those of the encoder's head, of the chosen tiles, ``(K,)``.
        chosen: Which tiles these are, ``(N,)``.
        centres: Of all tiles in micrometres, ``(N, 2)``.
        stride_um: From tile to tile.
    """
    found = weak.copy()
    found[chosen] = strong
    beside = around(centres[~chosen], centres[chosen], strong, stride_um)
    known = np.isfinite(beside)
    rows = np.flatnonzero(~chosen)[known]
    found[rows] = (weak[rows] + beside[known]) / 2
    return found


def around(places: Floats, centres: Floats, values: Floats, stride_um: float) -> Floats:
    """Return the mean of the values of the tiles around each place, not at it; NaN where there are none.

    Args:
        places: In micrometres, ``(M, 2)``.
        centres: Of the tiles, ``(K, 2)``.
        values: Theirs, ``(K,)``.
        stride_um: From tile to tile.
    """
    from scipy.spatial import cKDTree

    if not len(places) or not len(centres):
        return np.full(len(places), np.nan)
    distances, rows = cKDTree(centres).query(
        places, k=np.arange(1, _AROUND + 2), distance_upper_bound=_REACH * stride_um
    )
    near = np.isfinite(distances) & (distances > 0)
    counts = near.sum(axis=1)
    sums = np.where(near, np.append(values, 0.0)[rows], 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


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
