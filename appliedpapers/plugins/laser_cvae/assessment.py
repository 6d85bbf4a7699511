"""Answers of our model at the cuts of a split, with thresholds that were chosen before on validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from appliedpapers.plugins.laser_cvae.devices import Devices, Floats
from appliedpapers.plugins.laser_cvae.scoring import Answers, best_threshold, quantile_threshold

if TYPE_CHECKING:
    from appliedpapers.plugins.laser_cvae.ageing import AgeingHead
    from appliedpapers.plugins.laser_cvae.forecast import ForecastHead
    from appliedpapers.plugins.laser_cvae.model import LaserCvae
    from appliedpapers.plugins.laser_cvae.splits import DeviceSplit

Thresholds = dict[str, list[list[float]]]
"""By head, and cut: of healthy validation devices, and with the best F1 there."""


def thresholds(ageing: AgeingHead, forecast: ForecastHead, valid: DeviceSplit, share: float) -> Thresholds:
    """Return the thresholds of both heads at the cuts of a validation part."""
    found: Thresholds = {"forecast": [], "abnormality": []}
    failed = valid.devices.failed
    for hours in valid.cuts:
        for head, rank in (
            ("forecast", _chances(forecast, valid.devices, hours)[0]),
            ("abnormality", _abnormality(ageing, valid.devices, hours)[0]),
        ):
            both = quantile_threshold(rank[~failed], share), best_threshold(failed, rank)
            found[head].append([float(np.clip(value, -1e300, 1e300)) for value in both])
    return found


def by_forecast(model: LaserCvae, split: DeviceSplit) -> Answers:
    """Return what the forecast says of devices at each cut."""
    assert model.ageing is not None
    assert model.forecast is not None
    cuts = [_chances(model.forecast, split.devices, hours) for hours in split.cuts]
    chance = np.stack([one[0] for one in cuts])
    limits = _limits(model, "forecast", split)
    p_value = np.stack([_abnormality(model.ageing, split.devices, hours)[1] for hours in split.cuts])
    gone = np.stack([split.devices.before(hours).crossed for hours in split.cuts])
    return Answers(
        np.where(gone, np.inf, chance),
        gone | (chance > limits[:, :1]),
        gone | (chance > limits[:, 1:]),
        chance=chance,
        end=np.stack([one[1] for one in cuts]),
        ttf=np.stack([one[2] for one in cuts]),
        p_value=p_value,
    )


def by_abnormality(model: LaserCvae, split: DeviceSplit) -> Answers:
    """Return what the abnormality head says of devices at each cut; alerts are p-values of at most alpha."""
    assert model.ageing is not None
    cuts = [_abnormality(model.ageing, split.devices, hours) for hours in split.cuts]
    rank, p_value = (np.stack([one[part] for one in cuts]) for part in range(2))
    limits = _limits(model, "abnormality", split)
    alert = p_value <= model.config.abnormality.alpha
    return Answers(rank, alert, rank > limits[:, 1:], p_value=p_value)


def _limits(model: LaserCvae, head: str, split: DeviceSplit) -> Floats:
    stored = model.thresholds.get(head, [])
    # a model that was fitted at other cuts knows no threshold for these
    known = len(stored) == len(split.cuts)
    return np.array(stored) if known else np.full((len(split.cuts), 2), np.inf)


def _chances(head: ForecastHead, devices: Devices, hours: Floats) -> tuple[Floats, Floats, Floats]:
    """Return chance to fail, damage at the end and quantiles of the failure time, ``(N,)`` and ``(N, 3)``."""
    seen = devices.before(hours)
    rows, count = np.arange(len(seen)), seen.counts
    chance, ttf = np.zeros(len(seen)), np.full((len(seen), 3), np.nan)
    end = seen.damage[rows, np.maximum(count - 1, 0)].copy()
    gone = seen.crossed
    chance[gone] = 1.0
    # the path prior has something to say after two readings already
    asked = (count >= 2) & (seen.end < seen.horizon * (1 - 1e-9))
    look = head.look(seen.take(asked))
    end[asked] = look.end
    waiting = ~gone[asked]
    chance[asked & ~gone], ttf[asked & ~gone] = look.p_cross[waiting], look.ttf[waiting]
    return chance, end, ttf


def _abnormality(head: AgeingHead, devices: Devices, hours: Floats) -> tuple[Floats, Floats]:
    """Return score and p-value, ``(N,)`` each; unusable devices have the lowest score and p = 1."""
    seen = devices.before(hours)
    rank, p_value = np.full(len(seen), -np.inf), np.ones(len(seen))
    usable = seen.take(seen.usable)
    judged = head.judge(usable)
    rank[usable.device] = judged.score
    p_value[usable.device] = head.p_values(usable, judged)[0]
    return rank, p_value
