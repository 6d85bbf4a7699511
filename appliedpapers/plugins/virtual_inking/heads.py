"""A trained head with its calibration: fitted, asked, stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.calibration import Calibrator, Line, fit_calibrator
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.virtual_inking.config import HeadConfig

if TYPE_CHECKING:
    from appliedpapers.plugins.virtual_inking.learner import Tiles
    from appliedpapers.plugins.virtual_inking.network import TileHead

Features = NDArray[np.float32]
Floats = NDArray[np.float64]

_ROWS = 256


@dataclass(frozen=True)
class Head:
    """Logits of tiles, and what they mean as probabilities.

    Attributes:
        network: The trained network, in evaluation mode.
        calibration: A temperature, fitted on valid.
        dim: Features of a tile.
    """

    network: TileHead
    calibration: Line
    dim: int

    @classmethod
    def fit(
        cls,
        train: Tiles,
        valid: Tiles,
        config: HeadConfig,
        run: FitContext,
        name: str,
        start: Head | None = None,
    ) -> Head:
        """Train on ``train``, stop and calibrate on ``valid``.

        Args:
            train: Labelled tiles.
            valid: Those of other blocks.
            config: Head, loss and settings.
            run: Seed, device, scratch and progress.
            name: Of the network among those of the run.
            start: An earlier head to go on from.

        Raises:
            RunError: Training diverged.
            ConfigError: ``start`` has another size.
        """
        from appliedpapers.core.device import derive_seed
        from appliedpapers.core.training import fit
        from appliedpapers.core.weights import drawn_by, start_from
        from appliedpapers.plugins.virtual_inking.learner import HeadTask
        from appliedpapers.plugins.virtual_inking.network import TileHead

        dim = train.features.shape[1]
        with drawn_by(derive_seed(run.seed, name)):
            network = TileHead(dim, config.head, config.hidden, config.dropout)
        task = HeadTask(network, train, valid, config)
        if start is not None:
            start_from(network, start.network.state_dict())
        fit(task, run, name)
        network.to("cpu").eval().requires_grad_(False)
        head = cls(network, Line("temperature"), dim)
        logits = head.logits(valid.features.numpy())
        line: Calibrator = fit_calibrator("temperature", logits, valid.labels.numpy())
        assert isinstance(line, Line)
        return cls(network, line, dim)

    def logits(self, features: Features) -> Floats:
        """Return calibrated-scale-free logits ``(N,)``; rows are computed in blocks of one size.

        A block of one size keeps a tile's logit from depending on how many others are asked with it.
        """
        import torch

        count = len(features)
        found = np.empty(count)
        block = np.zeros((_ROWS, self.dim), dtype=np.float32)
        for start in range(0, count, _ROWS):
            part = features[start : start + _ROWS]
            block[: len(part)] = part
            with torch.inference_mode():
                told = self.network(torch.from_numpy(block)).double().numpy()
            found[start : start + len(part)] = told[: len(part)]
        return found

    def probabilities(self, logits: Floats) -> Floats:
        """Return calibrated probabilities of cut."""
        return self.calibration(logits)

    def write(self, path: Path) -> dict[str, Any]:
        """Write the weights as safetensors, and return the rest."""
        from appliedpapers.core.weights import save_network

        save_network(self.network, path)
        return {"calibration": self.calibration.to_json(), "dim": self.dim}

    @classmethod
    def read(cls, path: Path, state: Mapping[str, Any], config: HeadConfig) -> Head:
        """Rebuild what :meth:`write` wrote."""
        from appliedpapers.core.weights import load_network
        from appliedpapers.plugins.virtual_inking.network import TileHead

        network = TileHead(int(state["dim"]), config.head, config.hidden, config.dropout)
        loaded = load_network(network, path, "cpu")
        loaded.eval().requires_grad_(False)
        line = Calibrator.from_json(state["calibration"])
        assert isinstance(line, Line)
        return cls(loaded, line, int(state["dim"]))
