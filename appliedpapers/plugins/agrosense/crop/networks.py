"""Networks on standardised columns: an MLP or another head by name, and TabNet."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from appliedpapers import nn as modules
from appliedpapers.core.progress import SeldomNotes
from appliedpapers.core.training import fit
from appliedpapers.core.weights import drawn_by, load_network, save_network
from appliedpapers.nn.registry import parse
from appliedpapers.plugins.agrosense.crop.family import Family, Lesson
from appliedpapers.plugins.agrosense.crop.learner import ClassTask
from appliedpapers.plugins.agrosense.crop.matrix import Scaler
from appliedpapers.plugins.agrosense.crop.tabnet import TabNet

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.core.training_config import TrainingConfig
    from appliedpapers.plugins.agrosense.crop.config import CropConfig, ModelConfig

Floats = NDArray[np.float64]

_WATCHED = 0.1
_ROWS = 16_384


class _NetworkFamily(Family):
    """A network in double precision when it answers, so that attributions add up and rows stand alone."""

    def __init__(self, network: nn.Module, scaler: Scaler, inputs: int, classes: int) -> None:
        self._network = network.double().cpu().eval()
        self._scaler, self._inputs, self._classes = scaler, inputs, classes

    @property
    def parameters(self) -> int:
        """Numbers of the network that were learned."""
        return sum(one.numel() for one in self._network.parameters())

    def logits(self, matrix: Floats) -> Floats:
        """Return logits."""
        scaled = torch.from_numpy(self._scaler(matrix))
        with torch.no_grad():
            parts = [self._network(part).numpy() for part in torch.split(scaled, _ROWS)]
        return np.concatenate(parts) if parts else np.zeros((0, self._classes))

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the weights as safetensors."""
        save_network(self._network, folder / f"{self.name}.safetensors")
        return {"scaler": self._scaler.to_json(), "inputs": self._inputs, "classes": self._classes}

    @classmethod
    def read(cls, state: Mapping[str, Any], folder: Path, config: CropConfig) -> Self:
        """Read the weights."""
        network = cls._new(int(state["inputs"]), int(state["classes"]), config).double()
        load_network(network, folder / f"{cls.name}.safetensors", "cpu")
        return cls(network, Scaler.from_json(state["scaler"]), int(state["inputs"]), int(state["classes"]))

    @classmethod
    @abstractmethod
    def _new(cls, inputs: int, classes: int, config: CropConfig) -> nn.Module:
        """Return the untrained network."""

    @classmethod
    def _learn(
        cls,
        lesson: Lesson,
        config: CropConfig,
        run: FitContext,
        settings: TrainingConfig,
        *,
        watched: float = 0.0,
        sparsity: float = 0.0,
    ) -> Self:
        apart = np.zeros(len(lesson.labels), dtype=bool)
        if watched:
            order = np.random.default_rng(run.seed).permutation(len(apart))
            apart[order[: max(1, round(watched * len(apart)))]] = True
        scaler = Scaler.fit(lesson.matrix[~apart])
        scaled = torch.from_numpy(scaler(lesson.matrix).astype(np.float32))
        labels = torch.from_numpy(lesson.labels.astype(np.int64))
        with drawn_by(run.seed):
            network = cls._new(scaled.shape[1], lesson.classes, config)
        keep = torch.from_numpy(~apart)
        shown = (scaled[~keep], labels[~keep]) if watched else None
        task = ClassTask(network, settings, (scaled[keep], labels[keep]), shown, sparsity)
        # hundreds of fits, each of a few seconds: a line an epoch would bury everything else in a log
        fit(task, replace(run, progress=SeldomNotes(run.progress)), lesson.name)
        return cls(task.network, scaler, scaled.shape[1], lesson.classes)


class MlpFamily(_NetworkFamily):
    """A multilayer perceptron with ReLU, or any shared head by its name."""

    name = "mlp"

    @classmethod
    def fit(cls, lesson: Lesson, config: CropConfig, run: FitContext) -> Self:
        """Train for the epochs of the option ``network``, as the paper does: no schedule, no stopping."""
        return cls._learn(lesson, config, run, config.network)

    @classmethod
    def _new(cls, inputs: int, classes: int, config: CropConfig) -> nn.Module:
        return new_head(config.model, inputs, classes)


class TabNetFamily(_NetworkFamily):
    """TabNet; a tenth of the rows decides at which epoch it stops."""

    name = "tabnet"

    @classmethod
    def fit(cls, lesson: Lesson, config: CropConfig, run: FitContext) -> Self:
        """Train until the watched rows are predicted no better."""
        options = config.tabnet
        return cls._learn(lesson, config, run, options.training, watched=_WATCHED, sparsity=options.sparsity)

    def looked_at(self, matrix: Floats) -> Floats:
        """Return how much each standardised column was looked at, ``(rows, columns)``; rows sum to 1."""
        network = self._network
        assert isinstance(network, TabNet)
        with torch.no_grad():
            masks = network.look(torch.from_numpy(self._scaler(matrix)))[2].numpy()
        return np.asarray(masks / np.maximum(masks.sum(axis=1, keepdims=True), 1e-12))

    @classmethod
    def _new(cls, inputs: int, classes: int, config: CropConfig) -> nn.Module:
        options = config.tabnet
        return TabNet(
            *(inputs, classes, options.n_d, options.n_a, options.steps, options.gamma),
            options.virtual_batch,
        )


def new_head(options: ModelConfig, inputs: int, classes: int) -> nn.Module:
    """Return the network of family mlp with fresh weights."""
    entry, given = parse(options.head)
    if entry.name == "mlp" and not given:
        sizes = [inputs, *options.hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))
    head: nn.Module = modules.build(options.head, in_features=inputs, out_features=classes)
    return head
