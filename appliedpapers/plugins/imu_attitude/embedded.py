"""A trained estimator without torch: numpy, safetensors and the bundle, for a robot or a small computer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.bundle import read_info
from appliedpapers.core.config import validate
from appliedpapers.core.errors import ConfigError
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig, FilterConfig
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.residual import Corrector, ResidualFilter, network_pace
from appliedpapers.plugins.imu_attitude.residual_numpy import NumpyResidual

WEIGHTS = "network.safetensors"


def load_machine(bundle: Path, *, compiled: bool = False) -> GravityFilter | ResidualFilter:
    """Return what takes samples one by one and answers as the bundle's model does.

    Nothing but numpy is needed; where numba is installed, ``compiled`` makes a step several times faster.

    Args:
        bundle: Folder of a bundle of this plugin.
        compiled: Whether numba may compile the filter.

    Raises:
        BundleError: The bundle is corrupt or was changed.
        ConfigError: It holds a model of the paper, or a network whose head is not an MLP.
    """
    info = read_info(bundle)
    options = dict(info.config["model"])
    # checking a head builds it, which takes torch
    head = str(options.pop("head"))
    config = validate(AttitudeConfig, {**info.config, "model": options})
    if config.model.kind.startswith("paper"):
        raise ConfigError(
            f"{bundle}: model.kind={config.model.kind} answers for whole windows.",
            hint="Train with model.kind=residual or filter.",
        )
    tuned = FilterConfig.model_validate(info.state["filter"])
    gravity = GravityFilter(tuned, delay=float(info.state["delay"]), compiled=compiled)
    if not info.state["network"]:
        return gravity
    if not is_plain(head):
        raise ConfigError(
            f"{bundle}: the head {head} needs torch.",
            hint="Train with an mlp head, or run model-step.onnx (model.onnx=true).",
        )
    from safetensors.numpy import load_file

    corrector = single_corrector(load_file(bundle / WEIGHTS), config)
    length, every = network_pace(config)
    return ResidualFilter(
        gravity,
        corrector,
        share=float(info.state["share"]),
        length=length,
        every=every,
        base=config.model.base,
    )


def is_plain(head: str) -> bool:
    """Return whether numpy alone can compute a head."""
    return head.partition("(")[0] in ("mlp", "linear")


def single_corrector(weights: Mapping[str, Any], config: AttitudeConfig) -> Corrector:
    """Return a corrector that takes windows one by one in numpy."""
    single = NumpyResidual(weights, math.radians(config.model.limit_deg))

    def corrector(series: NDArray[np.float32], statics: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([single(*window) for window in zip(series, statics, strict=True)])

    return corrector
