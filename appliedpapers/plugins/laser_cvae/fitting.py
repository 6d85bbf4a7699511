"""Fitting both heads, with the physics prior where it is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from appliedpapers.core.calibration import Calibrator
from appliedpapers.core.device import derive_seed
from appliedpapers.plugins.laser_cvae.ageing import AgeingHead, fit_ageing, new_ageing
from appliedpapers.plugins.laser_cvae.config import LaserConfig, LaserTraining
from appliedpapers.plugins.laser_cvae.devices import Devices, Floats
from appliedpapers.plugins.laser_cvae.forecast import ForecastHead
from appliedpapers.plugins.laser_cvae.forecast_fit import (
    FEW_DEVICES,
    fit_forecast,
    new_forecast,
    physics_devices,
)
from appliedpapers.plugins.laser_cvae.normal import normal_devices, reference_devices
from appliedpapers.plugins.laser_cvae.path_prior import PathPrior
from appliedpapers.plugins.laser_cvae.profile import PROFILE, Conditioning

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.laser_cvae.model import LaserCvae
    from appliedpapers.plugins.laser_cvae.network import AgeingCVAE, ForecastCVAE

_SLOWER = 0.25  # learning rate of what goes on from another model
_FEATURES = 2 * len(PROFILE) + 3 + 4
_FEWEST_REFERENCES = 10


def fit_heads(
    train: Devices, valid: Devices, config: LaserConfig, run: FitContext, start: LaserCvae | None
) -> tuple[AgeingHead, ForecastHead, dict[str, Any]]:
    """Fit both heads.

    Args:
        train: Devices to learn from.
        valid: Devices to choose and calibrate on, perhaps none.
        config: The configuration.
        run: Seed, device, folder and the like.
        start: A model to go on from.

    Returns:
        Abnormality, forecast, and facts for the report.
    """
    how = conditioning(train)
    begun, facts = _begun(train, config, run, start, choosable=len(valid) > 0)
    ageing, found = _fit_abnormality(train, valid, config, how, run, None if begun is None else begun[0])
    forecast = fit_forecast(
        train,
        valid,
        config.forecast,
        _settings(config.forecast_training, begun is not None),
        how,
        run,
        start=None if begun is None else begun[1],
    )
    return ageing, forecast, facts | found


def _fit_abnormality(
    train: Devices,
    valid: Devices,
    config: LaserConfig,
    how: Conditioning,
    run: FitContext,
    start: AgeingCVAE | None,
) -> tuple[AgeingHead, dict[str, Any]]:
    """Fit and calibrate the autoencoder, and say on how many devices."""
    known = train.failed | (train.last >= 0.98 * train.horizon)
    normal = normal_devices(train)
    healthy = train.take(normal)
    ageing = fit_ageing(
        healthy,
        config.abnormality,
        _settings(config.abnormality_training, start is not None),
        how,
        run,
        name="ageing",
        labelled=bool(known.any()),
        start=start,
    )
    held = reference_devices(valid) if len(valid) else np.zeros(0, dtype=bool)
    enough = int(held.sum()) >= _FEWEST_REFERENCES
    # with too few devices those learned from must do; p-values are then somewhat too small
    ageing.calibrate(valid.take(held) if enough else healthy, healthy)
    active = ageing.active_units(healthy)
    facts = {
        "devices that are normal for their condition": f"{int(normal.sum())} of {len(train)}",
        "calibration devices": str(int(held.sum())) if enough else "training devices",
        "active units of z": f"{active} of {config.abnormality.latent}",
    }
    if active == 0:
        facts["warning"] = "z is not used (KL collapse): lower abnormality.beta, or train longer"
    return ageing, facts


def conditioning(devices: Devices) -> Conditioning:
    """Return how conditions and time of devices are scaled."""
    known = np.isfinite(devices.conditions)
    count = np.maximum(known.sum(axis=0), 1)
    centre: Floats = np.where(known, devices.conditions, 0).sum(axis=0) / count
    rest = np.where(known, devices.conditions - centre, 0)
    spread = np.sqrt((rest**2).sum(axis=0) / count)
    return Conditioning(centre, np.where(spread > 1e-9, spread, 1.0), float(devices.horizon.max()))


def empty_heads(
    config: LaserConfig, state: Mapping[str, Any], device: str
) -> tuple[AgeingHead, ForecastHead]:
    """Return heads of a bundle, whose networks are still to be read."""
    from appliedpapers.plugins.laser_cvae.conformal import Calibration

    how = Conditioning(
        np.array(state["how"]["centre"]), np.array(state["how"]["spread"]), state["how"]["reference"]
    )
    ageing = AgeingHead(config.abnormality, new_ageing(config.abnormality, _FEATURES, 0), how, device)
    ageing.calibration = Calibration.from_json(state["calibration"])
    stored = state["forecast"]
    prior = PathPrior.from_json(stored["prior"])
    forecast = ForecastHead(config.forecast, prior, new_forecast(config.forecast, 0), how, device)
    forecast.mix, forecast.early = float(stored["mix"]), float(stored["early"])
    forecast.network.sudden = bool(stored.get("sudden", True))
    forecast.calibrator = Calibrator.from_json(stored["calibrator"])
    forecast.residual = (float(stored["residual"][0]), float(stored["residual"][1]))
    return ageing, forecast


def _settings(settings: LaserTraining, goes_on: bool) -> LaserTraining:
    return settings.model_copy(update={"lr": _SLOWER * settings.lr}) if goes_on else settings


def _begun(
    train: Devices, config: LaserConfig, run: FitContext, start: LaserCvae | None, *, choosable: bool
) -> tuple[tuple[AgeingCVAE, ForecastCVAE | None] | None, dict[str, Any]]:
    """Return networks to go on from: those of another model, or of simulated devices, or none."""
    if start is not None:
        assert start.ageing is not None
        assert start.forecast is not None
        return (start.ageing.network, start.forecast.network), {"started from": "an earlier model"}
    wanted = config.forecast.prior
    if wanted == "none" or (wanted == "auto" and len(train) >= FEW_DEVICES):
        return None, {"physics prior": "not used"}
    made = physics_devices(train, config.forecast, derive_seed(run.seed, "physics"))
    facts = {"physics prior": f"{len(made)} simulated devices"}
    # folds of one test start from the same networks, which need be trained but once
    key = (config.model_dump_json(), made.damage.tobytes(), run.seed, run.device, choosable)
    if key not in _LEARNED:
        _LEARNED.clear()
        _LEARNED[key] = _learn_physics(made, config, run, choosable=choosable)
    return _LEARNED[key], facts


def _learn_physics(
    made: Devices, config: LaserConfig, run: FitContext, *, choosable: bool
) -> tuple[AgeingCVAE, ForecastCVAE | None]:
    """Return networks that learned from simulated devices."""
    how = conditioning(made)
    ageing = fit_ageing(
        made.take(~made.failed),
        config.abnormality,
        config.abnormality_training,
        how,
        run,
        name="ageing-physics",
        labelled=True,
    )
    if not choosable:
        # the forecast's network will not be heard where nothing can be chosen
        return ageing.network, None
    none = made.take(slice(0, 0))
    settings, name = config.forecast_training, "forecast-physics"
    forecast = fit_forecast(made, none, config.forecast, settings, how, run, name=name)
    return ageing.network, forecast.network


_LEARNED: dict[tuple[str, bytes, int, str, bool], tuple[AgeingCVAE, ForecastCVAE | None]] = {}
