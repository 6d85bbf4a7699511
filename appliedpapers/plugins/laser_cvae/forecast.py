"""The second head: the remaining path, the chance to cross the criterion, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from appliedpapers.core.calibration import Calibrator, Line
from appliedpapers.plugins.laser_cvae.blocks import gathered, in_blocks
from appliedpapers.plugins.laser_cvae.devices import Floats, Prefixes
from appliedpapers.plugins.laser_cvae.learner import crossing
from appliedpapers.plugins.laser_cvae.network import NO_HAZARD, STEPS, ForecastCVAE
from appliedpapers.plugins.laser_cvae.path_prior import PathPrior
from appliedpapers.plugins.laser_cvae.points import draws
from appliedpapers.plugins.laser_cvae.profile import Conditioning, forecast_features

if TYPE_CHECKING:
    from appliedpapers.plugins.laser_cvae.config import ForecastConfig

QUANTILES = (0.1, 0.5, 0.9)
"""Of the time to failure, and of the fan."""

_BLOCK = 16
_EDGE = 1e-6
_SMALLEST_STEP = 1e-5


@dataclass(frozen=True)
class Base:
    """What the path prior expects of prefixes.

    Attributes:
        weights: Mode of the knots' weights, ``(R, K)``.
        covariance: ``(R, K, K)``.
        hours: Now and the steps ahead, ``(R, STEPS + 1)``.
        path: Damage at these, ``(R, STEPS + 1)``.
        doubt: Standard deviation of ln damage at the end, ``(R,)``.
    """

    weights: Floats
    covariance: Floats
    hours: Floats
    path: Floats
    doubt: Floats

    @property
    def increments(self) -> Floats:
        """Growth in each step, positive, ``(R, STEPS)``."""
        return np.asarray(np.maximum(np.diff(self.path, axis=1), _SMALLEST_STEP))


@dataclass(frozen=True)
class Outlook:
    """A forecast of prefixes.

    Attributes:
        p_cross: Chance to cross the criterion by the planned end, calibrated, ``(R,)``.
        logit: Before calibration, ``(R,)``.
        ttf: Hours at which the chance reaches the early level, 50 and 90 %, ``(R, 3)``; NaN beyond the
            planned end.
        hours: Of the fan, ``(R, STEPS)``.
        fan: Damage quantiles at these hours, ``(R, STEPS, 3)``.
        chances: Calibrated chance to have crossed by each of these hours, ``(R, STEPS)``.
    """

    p_cross: Floats
    logit: Floats
    ttf: Floats
    hours: Floats
    fan: Floats
    chances: Floats

    @property
    def end(self) -> Floats:
        """Median damage at the planned end, ``(R,)``."""
        return np.asarray(self.fan[:, -1, 1])


class ForecastHead:
    """Path prior, latent correction, hazard and calibration.

    Attributes:
        prior: The fitted path prior.
        network: The fitted network.
        how: Scaling of conditions and time.
        mix: How much of the network's correction is applied: 1 all of it, 0 none; what is left of the spread
            comes from the path prior. Chosen on validation devices.
        calibrator: From logits of crossing to calibrated chances.
        early: Chance at which the interval of the failure time begins, at most .1: lowered until the interval
            holds 80 % of the validation failures.
        residual: Standard deviation and autocorrelation from reading to reading around a path.
    """

    def __init__(
        self,
        options: ForecastConfig,
        prior: PathPrior,
        network: ForecastCVAE,
        how: Conditioning,
        device: str = "cpu",
    ) -> None:
        self.options, self.prior, self.network, self.how, self.device = options, prior, network, how, device
        self.mix, self.early = 1.0, QUANTILES[0]
        self.calibrator: Calibrator = Line("none")
        self.residual = (prior.noise, 0.0)

    def look(self, given: Prefixes, *, alone: bool = False) -> Outlook:
        """Forecast prefixes of at least four readings; a row does not depend on the others, to the bit.

        Args:
            given: Prefixes.
            alone: Compute each row by itself, as the stream of one device does, which never has more.
        """
        size = 1 if alone else _BLOCK
        blocks = [(own, self._look(rows)) for own, rows in in_blocks(given, size)]
        if not blocks:
            none = np.empty(0)
            fan = np.empty((0, STEPS, 3))
            return Outlook(none, none, np.empty((0, 3)), np.empty((0, STEPS)), fan, np.empty((0, STEPS)))
        ahead, fans, chances = (
            gathered([(own, parts[place]) for own, parts in blocks], len(given)) for place in range(3)
        )
        logit = _logit(chances[:, -1])
        p_cross = self.calibrator(logit)
        curve = over_time(chances, p_cross)
        hours = np.concatenate([given.end[:, None], ahead], axis=1)
        ttf = reached(hours, curve, (self.early, *QUANTILES[1:]))
        return Outlook(p_cross, logit, ttf, ahead, fans, curve)

    def base(self, given: Prefixes) -> Base:
        """Return what the path prior expects of prefixes."""
        limit = 2 * given.scale.limit
        mean = self.prior.mean(given.conditions)
        weights, covariance = self.prior.posterior(
            given.hours, np.minimum(given.damage, limit), given.kept, mean
        )
        left = np.maximum(given.horizon - given.end, 1e-6)
        hours = given.end[:, None] + left[:, None] * np.arange(STEPS + 1) / STEPS
        basis = self.prior.basis(hours[:, -1])
        doubt = np.sqrt(np.maximum(np.einsum("rk,rkl,rl->r", basis, covariance, basis), 0))
        return Base(weights, covariance, hours, self.prior.paths(weights, hours), doubt)

    def _look(self, given: Prefixes) -> tuple[Floats, Floats, Floats]:
        base = self.base(given)
        seen = forecast_features(given, self.how, base.path[:, [0, -1]], base.doubt)
        normal = draws(self.options.samples, self.network.latent + len(self.prior.knots) + 1)
        latent, knots = self.network.latent, len(self.prior.knots)
        increments = self._increments(base, normal[:, latent : latent + knots])
        with torch.inference_mode():
            code, prefix = self.network.read(self._tensor(seen.features))
            z = prefix.draw(self._tensor(normal[:, None, :latent]))
            level, grown = self._tensor(self._level(given, seen.level)), self._tensor(increments)
            path = self.network.decode(z, code, level, grown, self.mix)
            log_sd = self._spread(path.mean, path.log_sd)
            hazard = path.hazard if self.mix > 0 else torch.full_like(path.hazard, NO_HAZARD)
            steps = torch.arange(1, STEPS + 1, device=self.device, dtype=path.mean.dtype)
            by_then = crossing(path.mean, log_sd, hazard[..., None], given.scale.limit, steps)
            chance = torch.cummax(by_then.mean(dim=0), dim=-1).values
            drawn = path.mean + torch.exp(log_sd) * self._tensor(normal[:, None, -1:])
            levels = torch.tensor(QUANTILES, device=self.device, dtype=drawn.dtype)
            fan = torch.quantile(drawn, levels, dim=0).permute(1, 2, 0)
        return base.hours[:, 1:], fan.double().cpu().numpy(), chance.double().cpu().numpy()

    def _level(self, given: Prefixes, smooth: Floats) -> Floats:
        """Return where paths start, ``(R,)``: the prior alone goes on from the last reading."""
        latest = given.damage[np.arange(len(given)), given.counts - 1]
        return np.asarray(self.mix * smooth + (1 - self.mix) * latest)

    def _increments(self, base: Base, normal: Floats) -> Floats:
        """Return growth ``(R, STEPS)``, or ``(S, R, STEPS)`` where the prior has a share in the spread."""
        if self.mix >= 1:
            return base.increments
        root = np.linalg.cholesky(base.covariance + 1e-12 * np.eye(base.covariance.shape[1]))
        moved = (1 - self.mix) * np.einsum("rkl,sl->srk", root, normal)
        paths = self.prior.paths(base.weights + moved, base.hours)
        grown = np.diff(paths, axis=-1)
        return np.asarray(np.maximum(grown, _SMALLEST_STEP) if self.options.monotone else grown)

    def _spread(self, mean: torch.Tensor, log_sd: torch.Tensor) -> torch.Tensor:
        """Return the log standard deviation of readings around a path."""
        if self.mix >= 1:
            return log_sd
        size, memory = self.residual
        ahead = torch.arange(1, STEPS + 1, device=mean.device, dtype=mean.dtype)
        grown = size**2 * (1 - memory ** (2 * ahead)) + (self.prior.share * mean) ** 2
        return 0.5 * torch.log(self.mix * torch.exp(2 * log_sd) + (1 - self.mix) * grown + 1e-12)

    def _tensor(self, values: Floats) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=self.device)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the network."""
        return {
            "prior": self.prior.to_json(),
            "mix": self.mix,
            "sudden": self.network.sudden,
            "early": self.early,
            "calibrator": self.calibrator.to_json(),
            "residual": list(self.residual),
        }


def over_time(chances: Floats, p_cross: Floats) -> Floats:
    """Return chances ``(R, STEPS)`` that end at the calibrated one: when a device fails, if it does, stays.

    Calibration knows whether devices fail, not when. Moved by the same logit all along, chances that it makes
    surer would rise too early: a device sure to fail at the end would be so in the middle, too.
    """
    return np.asarray(p_cross[:, None] * chances / np.maximum(chances[:, -1:], _EDGE))


def chance_at(hours: Floats, look: Outlook, end: Floats) -> Floats:
    """Return the chance to have failed by an hour of each row, ``(R,)``.

    Args:
        hours: Asked, ``(R,)``.
        look: The forecast of the rows.
        end: Hour of their last reading, at which the chance is 0, ``(R,)``.
    """
    known = np.concatenate([end[:, None], look.hours], axis=1)
    chances = np.pad(look.chances, ((0, 0), (1, 0)))
    rows = zip(hours, known, chances, strict=True)
    return np.array([np.interp(asked, times, rising) for asked, times, rising in rows])


def _logit(chance: Floats) -> Floats:
    kept = np.clip(chance, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(kept / (1 - kept)))


def reached(hours: Floats, chances: Floats, levels: tuple[float, ...] = QUANTILES) -> Floats:
    """Return the hour at which a rising chance reaches each level, ``(R, levels)``; NaN if it does not."""
    whole = np.concatenate([np.zeros((len(chances), 1)), np.maximum.accumulate(chances, axis=1)], axis=1)
    rows = np.arange(len(whole))
    found = np.full((len(whole), len(levels)), np.nan)
    for number, level in enumerate(levels):
        right = np.clip((whole < level).sum(axis=1), 1, whole.shape[1] - 1)
        low, high = whole[rows, right - 1], whole[rows, right]
        step = np.clip((level - low) / np.maximum(high - low, 1e-12), 0, 1)
        hour = hours[rows, right - 1] + step * (hours[rows, right] - hours[rows, right - 1])
        found[:, number] = np.where(whole[:, -1] >= level, hour, np.nan)
    return found
