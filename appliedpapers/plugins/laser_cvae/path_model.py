"""The closed-form degradation path: a rival forecast, and the acceleration factors with intervals.

d_i(t) = exp(b0 + delta_i + (1 + mu_i) y) + beta_i (1 - exp(-t / 100 h)) + noise with
y = b1 x + b2 ln(I/I_ref) + m ln(t / 1000 h) and x = 1/(k T_j) less its mean: a rate that is lognormal between
devices, an exponent m that differs a little between them, Arrhenius and power-law acceleration, and a burn-in
of each device. Fitted by maximum likelihood in Laplace's approximation; E_a = -b1 / m and n = b2 / m.
Intervals are robust: a device is the unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.laser_cvae.devices import Devices, Flags, Floats, Prefixes, outliers

_REF_HOURS, _BURN_HOURS = 1000.0, 100.0
_ROUNDS, _INNER = 30, 6
_START_SPREADS = (0.4, 0.005, 0.15)
_SPREADS = ((0.02, 1.0), (1e-5, 0.012))
_LEAST_NOISE, _LEAST_SHARE = 2e-3, 0.02
_SETTLED = 4  # rounds before the noise is believed
# what any laser or LED does: weak, so that data that say nothing of a weight do not send it astray
_USUAL = np.array([0.0, -0.35, 1.2, 0.8])
_CERTAINTY = np.array([0.0, 1 / 0.5**2, 1 / 1.5**2, 1 / 0.5**2])
_TRIED = (1.0, 0.5, 0.25, 0.1, 0.03)
_Z95 = 1.959964
_TOLERANCE = 1e-7


@dataclass(frozen=True)
class Acceleration:
    """One acceleration factor with its 95 % interval; NaN where conditions do not vary."""

    value: float
    low: float
    high: float


@dataclass
class PathModel:
    """See the module.

    Attributes:
        weights: b0, b1, b2, m.
        covariance: Of the weights, robust, ``(4, 4)``.
        centre: Mean of 1/(k T_j).
        varies: Whether temperature and current do.
        spreads: Standard deviations of delta, beta and mu between devices.
        noise: Standard deviation of a reading, and its share of the damage.
    """

    weights: Floats
    covariance: Floats
    centre: float
    varies: tuple[bool, bool]
    spreads: tuple[float, float, float]
    noise: tuple[float, float] = (3e-3, 0.05)

    @classmethod
    def fit(cls, devices: Devices, counted: Flags | None = None) -> PathModel:
        """Fit to devices.

        Args:
            devices: At least two.
            counted: ``(N, L)``, readings that count; by default those before the failure.
        """
        known = np.isfinite(devices.hours) & (np.nan_to_num(devices.hours) > 0) & ~outliers(devices.damage)
        ok = known & (devices.hours < devices.failure[:, None]) if counted is None else known & counted
        # a device that failed at its first readings says something, too
        ok |= known & (ok.sum(axis=1) < 2)[:, None] & (devices.damage < 2 * devices.scale.limit)
        inverse = devices.conditions[:, 0]
        centre = float(np.nanmean(inverse)) if np.isfinite(inverse).any() else 0.0
        varies = tuple(
            bool(np.nanstd(column) > 1e-9) if np.isfinite(column).any() else False
            for column in devices.conditions.T
        )
        model = cls(np.zeros(4), np.eye(4), centre, (varies[0], varies[1]), _START_SPREADS)
        model._start(devices, ok)
        model._maximise(devices, ok)
        return model

    def accelerations(self) -> Mapping[str, Acceleration]:
        """Return ``activation_energy`` (eV), ``current_exponent`` and ``time_exponent``."""
        power = self.weights[3]
        found = {}
        for name, place, sign, there in (
            ("activation_energy", 1, -1.0, self.varies[0]),
            ("current_exponent", 2, 1.0, self.varies[1]),
        ):
            value = sign * self.weights[place] / power
            slope = np.zeros(4)
            slope[place], slope[3] = sign / power, -value / power
            found[name] = _interval(value, slope, self.covariance, there)
        found["time_exponent"] = _interval(power, np.array([0, 0, 0, 1.0]), self.covariance, True)
        return found

    def posterior(self, seen: Prefixes) -> tuple[Floats, Floats]:
        """Return delta, beta and mu of prefixes ``(R, 3)``, and their covariance ``(R, 3, 3)``."""
        ok = seen.kept & (np.nan_to_num(seen.hours) > 0)
        damage = np.minimum(seen.damage, 2 * seen.scale.limit)
        own = np.zeros((len(seen), 3))
        fixed = self._design(seen.conditions, seen.hours) @ self.weights
        for _ in range(12):
            own, curve = self._own_step(own, fixed, seen.hours, damage, ok)
        return own, np.asarray(np.linalg.inv(curve), dtype=np.float64)

    def forecast(self, seen: Prefixes, hours: Floats) -> tuple[Floats, Floats]:
        """Return damage at hours ``(R,)`` and the standard deviation of its logarithm."""
        own, doubt = self.posterior(seen)
        fixed = self._design(seen.conditions, hours[:, None])[:, 0] @ self.weights
        moved = fixed - self.weights[0]
        grown = np.exp(np.clip(fixed + own[:, 0] + own[:, 2] * moved, -12, 3))
        spread = doubt[:, 0, 0] + 2 * moved * doubt[:, 0, 2] + moved**2 * doubt[:, 2, 2]
        return grown + own[:, 1] * _burn(hours), np.sqrt(np.maximum(spread, 1e-12))

    def _design(self, conditions: Floats, hours: Floats) -> Floats:
        """Return ``(N, L, 4)``; what does not vary or is not known has no part."""
        inverse = np.nan_to_num(conditions[:, 0] - self.centre) * self.varies[0]
        current = np.nan_to_num(conditions[:, 1]) * self.varies[1]
        logs = np.log(np.maximum(np.nan_to_num(hours, nan=_REF_HOURS), 1e-6) / _REF_HOURS)
        wide = np.ones(hours.shape)
        return np.stack([wide, wide * inverse[:, None], wide * current[:, None], logs], axis=-1)

    def _start(self, devices: Devices, ok: Flags) -> None:
        """Start from a least-squares line of the logarithms of damage that stands out of the noise."""
        good = ok & (np.nan_to_num(devices.damage) > 4 * self.noise[0])
        good = good if good.sum() > 8 else ok & (np.nan_to_num(devices.damage) > 0)
        design, logs = self._design(devices.conditions, devices.hours)[good], np.log(devices.damage[good])
        ridge = np.diag([1e-6, 1e-3, 1e-3, 1e-3])
        self.weights = np.linalg.solve(
            design.T @ design + ridge, design.T @ logs + ridge @ np.array([0, 0, 0, 0.7])
        )

    def _maximise(self, devices: Devices, ok: Flags) -> None:
        damage = np.minimum(np.where(ok, devices.damage, 0), 2 * devices.scale.limit)
        design = self._design(devices.conditions, devices.hours)
        own = np.zeros((len(devices), 3))
        fitted = np.array([True, *self.varies, True])
        for turn in range(_ROUNDS):
            for _ in range(_INNER):
                own, curve = self._own_step(own, design @ self.weights, devices.hours, damage, ok)
            slope, schur, scores = self._fixed_step(design, own, devices.hours, damage, ok, curve)
            step = np.zeros(4)
            slope = slope - _CERTAINTY * (self.weights - _USUAL)
            schur = schur + np.diag(_CERTAINTY)
            step[fitted] = np.linalg.solve(schur[np.ix_(fitted, fitted)], slope[fitted])
            step = self._downhill(np.clip(step, -0.5, 0.5), own, design, devices.hours, damage, ok)
            self.weights = self.weights + step
            doubt = np.linalg.inv(curve)
            spreads = np.sqrt((own**2).mean(axis=0) + doubt[:, range(3), range(3)].mean(axis=0))
            first, second = (
                min(max(float(value), low), high)
                for value, (low, high) in zip(spreads, _SPREADS, strict=False)
            )
            # readings say little of it beside the rate
            self.spreads = (first, second, _START_SPREADS[2])
            if turn >= _SETTLED:
                self._hear(own, design, devices.hours, damage, ok)
                if np.abs(step).max() < _TOLERANCE:
                    break
        inner = np.zeros((4, 4))
        inner[np.ix_(fitted, fitted)] = np.linalg.inv(schur[np.ix_(fitted, fitted)])
        self.covariance = inner @ (scores.T @ scores) @ inner

    def _hear(self, own: Floats, design: Floats, hours: Floats, damage: Floats, ok: Flags) -> None:
        """Estimate the noise: squared residuals as a constant plus a share of the squared damage."""
        from scipy.optimize import nnls

        grown, _, _, rest = self._parts(own, design @ self.weights, hours, damage, ok)
        squares = np.square(rest[ok])
        size = np.square(np.minimum(grown[ok], 1.0))
        weight = 1 / (self.noise[0] ** 2 + self.noise[1] ** 2 * size)
        # outliers and failures are not noise
        squares = np.minimum(squares, np.quantile(squares * weight, 0.95) / weight)
        found, _ = nnls(np.stack([weight, weight * size], axis=1), weight * squares)
        self.noise = (
            max(float(np.sqrt(found[0])), _LEAST_NOISE),
            max(float(np.sqrt(found[1])), _LEAST_SHARE),
        )

    def _downhill(
        self, step: Floats, own: Floats, design: Floats, hours: Floats, damage: Floats, ok: Flags
    ) -> Floats:
        """Return the part of a step that makes readings more likely, devices' effects following it."""
        before, loss = self.weights, self._loss(own, design, hours, damage, ok)
        for share in _TRIED:
            self.weights, moved = before + share * step, own
            for _ in range(_INNER):
                moved, _ = self._own_step(moved, design @ self.weights, hours, damage, ok)
            better = self._loss(moved, design, hours, damage, ok) < loss
            self.weights = before
            if better:
                return share * step
        return np.zeros(4)

    def _loss(self, own: Floats, design: Floats, hours: Floats, damage: Floats, ok: Flags) -> float:
        """Return the negative log-likelihood with effects, less its constant."""
        _, _, weight, rest = self._parts(own, design @ self.weights, hours, damage, ok)
        fit = weight * rest**2 - np.log(np.where(ok, weight, 1.0))
        usual = _CERTAINTY * (self.weights - _USUAL) ** 2
        return float((fit.sum() + (own**2 / np.square(self.spreads)).sum() + usual.sum()) / 2)

    def _own_step(
        self, own: Floats, fixed: Floats, hours: Floats, damage: Floats, ok: Flags
    ) -> tuple[Floats, Floats]:
        """Move each device's effects once; return them and the curvature there."""
        _, parts, weight, rest = self._parts(own, fixed, hours, damage, ok)
        curve = np.einsum("nla,nl,nlb->nab", parts, weight, parts) + np.diag(1 / np.square(self.spreads))
        pull = np.einsum("nla,nl->na", parts, weight * rest) - own / np.square(self.spreads)
        step = np.linalg.solve(curve, pull[..., None])[..., 0]
        return own + np.clip(step, -0.3, 0.3), curve

    def _fixed_step(
        self, design: Floats, own: Floats, hours: Floats, damage: Floats, ok: Flags, curve: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Return gradient, curvature with devices' effects eliminated, and each device's part ``(N, 4)``."""
        grown, parts, weight, rest = self._parts(own, design @ self.weights, hours, damage, ok)
        scaled = np.concatenate([np.ones((len(own), 1)), np.repeat(1 + own[:, 2:], 3, axis=1)], axis=1)
        slopes = design * grown[..., None] * scaled[:, None]
        cross = np.einsum("nla,nl,nlb->nab", slopes, weight, parts)
        eliminated = np.einsum("nab,nbc->nac", cross, np.linalg.inv(curve))
        direct = np.einsum("nla,nl,nlb->ab", slopes, weight, slopes)
        schur = direct - np.einsum("nab,ncb->ac", eliminated, cross)
        own_pull = np.einsum("nla,nl->na", parts, weight * rest) - own / np.square(self.spreads)
        scores = np.einsum("nla,nl->na", slopes, weight * rest) - np.einsum(
            "nab,nb->na", eliminated, own_pull
        )
        return scores.sum(axis=0), schur, scores

    def _parts(
        self, own: Floats, fixed: Floats, hours: Floats, damage: Floats, ok: Flags
    ) -> tuple[Floats, Floats, NDArray[np.float64], Floats]:
        moved = fixed - self.weights[0]
        grown = np.exp(np.clip(fixed + own[:, :1] + own[:, 2:] * moved, -12, 3))
        burnt = _burn(np.nan_to_num(hours))
        weight = ok / (self.noise[0] ** 2 + (self.noise[1] * grown) ** 2)
        rest = np.where(ok, damage - grown - own[:, 1:2] * burnt, 0.0)
        return grown, np.stack([grown, burnt, grown * moved], axis=-1), weight, rest


def _burn(hours: Floats) -> Floats:
    return np.asarray(1 - np.exp(-hours / _BURN_HOURS))


def _interval(value: float, slope: Floats, covariance: Floats, there: bool) -> Acceleration:
    if not there:
        return Acceleration(float("nan"), float("nan"), float("nan"))
    error = _Z95 * float(np.sqrt(max(float(slope @ covariance @ slope), 0.0)))
    return Acceleration(float(value), float(value) - error, float(value) + error)
