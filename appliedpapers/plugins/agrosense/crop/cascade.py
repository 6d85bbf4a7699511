"""Table first, photo only where the table is unsure (mowst): which rows' photos are worth a look.

Source: "Mixture of Weak and Strong Experts on Graphs" (ICLR 2024, arXiv 2311.05185). The weak expert reads
the table alone, the strong one the table and the photo; both stand still, and the gate between them is
trained on what each says of rows that it did not learn from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.agrosense.crop.recommender import Recommender
from appliedpapers.plugins.agrosense.crop.trust import set_threshold, threshold_for
from appliedpapers.plugins.agrosense.splits import inner_folds

if TYPE_CHECKING:
    from appliedpapers.nn.mowst import ConfidenceGatedMixture
    from appliedpapers.plugins.agrosense.crop.config import CropConfig

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_GATE = "photo-gate.safetensors"
_TABLE = "table-alone"
_EPOCHS, _PATIENCE = 100, 20
_LEAST = 1e-12


@dataclass(frozen=True)
class Cascade:
    """The table's own recommender, and the gate that says where it is unsure.

    Attributes:
        weak: Reads the table alone.
        gate: The mixture whose confidence in ``weak`` is asked for.
        below: Confidence below which the photo is looked at.
        threshold: Confidence of the joint answer from which a crop is advice.
        set_from: Probability from which a crop belongs to the conformal set of the joint answer.
        found: What the cross-fitted rows that the gate did not learn from say of it, by name.
    """

    weak: Recommender
    gate: ConfidenceGatedMixture
    below: float
    threshold: float
    set_from: float
    found: Mapping[str, float | str]

    @classmethod
    def fit(
        cls,
        weak: Recommender,
        chances: tuple[Floats, Floats],
        labels: Integers,
        seen: Flags,
        groups: NDArray[Any] | None,
        config: CropConfig,
        seed: int,
    ) -> Self:
        """Train the gate on cross-fitted probabilities, and choose where photos are looked at.

        Args:
            weak: Fitted on the table alone.
            chances: Calibrated probabilities of rows by fits that did not see them, ``(rows, classes)``: by
                the table alone, and with the photo.
            labels: ``(rows,)``.
            seen: Rows whose photo is there and was not dropped, ``(rows,)``: only these tell what it adds.
            groups: What stays together when rows are kept from the gate, ``(rows,)``.
            config: How many photos may be looked at, the gate's form, the risk that is borne.
            seed: Of the gate.

        Raises:
            DataError: Too few rows have a photo.
        """
        from appliedpapers.core.weights import drawn_by
        from appliedpapers.nn.mowst_phases import MixtureTraining
        from appliedpapers.nn.mowst_training import train_mixture

        learned, kept = inner_folds(labels, groups, 2, seed)[0]
        learned, kept = learned[seen[learned]], kept[seen[kept]]
        if len(np.unique(labels[learned])) < 2 or not len(kept):
            raise DataError(
                f"{int(seen.sum())} rows with a photo are too few to learn where a photo is needed.",
                hint="Bring more photos, or set fusion.kind to late.",
            )
        with drawn_by(seed):
            gate = _mixture(config.fusion.gate, chances[0].shape[1])
        options = MixtureTraining(seed=seed % 2**31, pretrain="none", epochs=_EPOCHS, patience=_PATIENCE)
        done = train_mixture(gate, _rows(chances, labels, learned), _rows(chances, labels, kept), options)
        assert done.selection is not None
        gate.eval()
        everything, _ = _rows(chances, labels, np.flatnonzero(seen))
        # a row may be less sure than any that was learned from: none at all is said by a threshold of 0
        below = gate.tau_for(everything, budget=config.fusion.looks) if config.fusion.looks else 0.0
        made = cls(weak, gate, below, math.inf, 0.0, {})
        looked = made.unsure(chances[0]) & seen
        joint = np.where(looked[:, None], chances[1], chances[0])
        return cls(
            weak,
            gate,
            below,
            threshold_for(joint, labels, config.answer.risk),
            set_threshold(joint, labels, config.answer.alpha),
            {
                "best on rows kept from the gate": done.selection.name,
                **_compared(chances, labels, looked, kept),
            },
        )

    def unsure(self, chances: Floats) -> Flags:
        """Tell for which rows the photo is looked at, where there is one, ``(rows,)``.

        Args:
            chances: Calibrated probabilities by the table alone, ``(rows, classes)``.
        """
        from appliedpapers.nn.mowst_routing import confidences

        return confidences(self.gate, _logs(chances)) < self.below

    def joint(
        self, table: Floats, there: Flags, look: Callable[[Integers], Floats]
    ) -> tuple[Floats, Floats, Flags]:
        """Answer by the table, and ask for the photos of the rows that are unsure and have one.

        Args:
            table: The table's columns, ``(rows, width)``.
            there: Rows with a photo, ``(rows,)``.
            look: Called once at most, with the numbers of the rows whose photo is needed; gives the logits
                of the table with these photos.

        Returns:
            Logits of the table alone, those of the rows that were looked at, and which rows these are.
        """
        logits = self.weak.logits(table)
        looked = self.unsure(self.weak.calibration(logits)) & there
        rows = np.flatnonzero(looked)
        return logits, look(rows) if len(rows) else np.empty((0, logits.shape[1])), looked

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the report."""
        yield (
            "photos are looked at",
            "where the table is unsure" + (f" (confidence below {self.below:.3f})" if self.below < 1 else ""),
        )
        for name, value in self.found.items():
            yield f"gate: {name}", value if isinstance(value, str) else f"{value:.3f}"

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the gate's weights as safetensors and the table's recommender, and return the state."""
        from appliedpapers.core.weights import save_network

        save_network(self.gate, folder / _GATE)
        (folder / _TABLE).mkdir()
        return {
            "weak": self.weak.write(folder / _TABLE),
            "classes": self.gate.out_features,
            "signal": self.gate.signal,
            "below": self.below if math.isfinite(self.below) else None,
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
            "set_from": self.set_from,
            "found": dict(self.found),
        }

    @classmethod
    def read(cls, state: Mapping[str, Any], folder: Path, config: CropConfig) -> Self:
        """Rebuild what :meth:`write` wrote."""
        from appliedpapers.core.weights import load_network

        weak = Recommender.read(state["weak"], folder / _TABLE, config)
        gate = load_network(_mixture(config.fusion.gate, state["classes"]), folder / _GATE, "cpu")
        gate.eval()
        gate.signal = state["signal"]
        below, threshold = (
            math.inf if state[name] is None else float(state[name]) for name in ("below", "threshold")
        )
        return cls(weak, gate, below, threshold, float(state["set_from"]), state["found"])


def _compared(
    chances: tuple[Floats, Floats], labels: Integers, looked: Flags, kept: Integers
) -> dict[str, float]:
    """Return shares of right answers on rows with a photo that the gate did not learn from."""
    right = [(one[kept].argmax(axis=1) == labels[kept]) for one in chances]
    sent = looked[kept]
    found = {
        "share of photos looked at": float(sent.mean()),
        "accuracy, table alone": float(right[0].mean()),
        "accuracy, photo everywhere": float(right[1].mean()),
        "accuracy, photo where unsure": float(np.where(sent, right[1], right[0]).mean()),
    }
    for name, rows in (("looked at", sent), ("not looked at", ~sent)):
        if rows.any():
            found[f"accuracy where {name}, table alone"] = float(right[0][rows].mean())
            found[f"accuracy where {name}, with the photo"] = float(right[1][rows].mean())
    return found


def _mixture(gate: str, classes: int) -> ConfidenceGatedMixture:
    """Return a mixture of two experts that are given by their logits, float64: near ties stay as they are."""
    import torch
    from torch import nn

    from appliedpapers.nn.mowst import ConfidenceGatedMixture

    return ConfidenceGatedMixture(
        nn.Identity(),
        nn.Identity(),
        out_features=classes,
        gate=gate,
        mode="mowst",
        freeze="both",
        dtype=torch.float64,
    )


def _rows(chances: tuple[Floats, Floats], labels: Integers, rows: Integers) -> tuple[dict[str, Any], Any]:
    import torch

    weak, strong = (torch.from_numpy(_logs(one[rows])) for one in chances)
    return {"weak": weak, "strong": strong}, torch.from_numpy(labels[rows].astype(np.int64))


def _logs(chances: Floats) -> Floats:
    return np.log(np.maximum(chances, _LEAST))
