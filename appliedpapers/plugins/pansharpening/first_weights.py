"""R-PNN's first weights: those that are shipped, and how they are trained (``--preset r-pnn-init``)."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.device import derive_seed
from appliedpapers.core.errors import DataError
from appliedpapers.core.fingerprint import arrays_sha256
from appliedpapers.core.model import FitContext
from appliedpapers.core.training import fit
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.learner import PatchTask
from appliedpapers.plugins.pansharpening.network import RPnn
from appliedpapers.plugins.pansharpening.splits import SceneSplit

Weights = dict[str, NDArray[np.float32]]

_SHIPPED = "r-pnn.safetensors"


def shipped_weights() -> tuple[Weights, dict[str, str]]:
    """Return the weights in the package and their provenance.

    Raises:
        DataError: The file was altered.
    """
    from safetensors import safe_open

    path = files("appliedpapers.plugins.pansharpening").joinpath("weights", _SHIPPED)
    with safe_open(str(path), framework="numpy") as file:
        provenance = dict(file.metadata() or {})
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if arrays_sha256(weights) != provenance.get("sha256"):
        raise DataError(f"{_SHIPPED}: the weights do not match their checksum.", hint="Install anew.")
    return weights, provenance


def train_first_weights(
    train: SceneSplit, valid: SceneSplit, config: PansharpeningConfig, run: FitContext
) -> tuple[Weights, dict[str, str]]:
    """Train R-PNN on the loss that it adapts with, on patches of many scenes and ratios (2.5).

    Args:
        train: Scenes to learn from.
        valid: Scenes that decide which epoch is best.
        config: Options ``initial`` and ``adaptation``.
        run: Seed, device and where checkpoints go.

    Returns:
        Weights by name, and what they were made from.

    Raises:
        DataError: There is no scene to learn from.
        RunError: Training diverged.
    """
    if not train.num_rows or not valid.num_rows:
        raise DataError(
            "first weights need scenes to learn from and scenes to choose on.",
            hint="Use apps run pansharpening --preset r-pnn-init without --data or --dataset.",
        )
    options = config.initial
    network = RPnn.seeded(derive_seed(run.seed, "network"))
    settings = TrainingConfig(
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        patience=options.patience,
        checkpoint_every_steps=0,
    )
    task = PatchTask(network, train, valid, settings, config, run)
    history = fit(task, run, name="first-weights")
    weights = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    provenance = {
        "network": "R-PNN, 2-48-32-1 channels, kernels 7-5-3",
        "seed": str(run.seed),
        "options": json.dumps(options.model_dump(), sort_keys=True),
        "scenes": f"{train.num_rows} to learn from, {valid.num_rows} to choose on",
        "train_fingerprint": train.fingerprint(),
        "epochs": str(len(history.epochs)),
        "licence": "Apache-2.0",
        "sha256": arrays_sha256(weights),
    }
    return weights, provenance
