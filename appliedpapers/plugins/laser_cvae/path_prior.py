"""The path prior: log damage as a line of knots over the square root of time, learned from devices.

ln d_i(t) = sum_k w_ik phi_k(sqrt t) with w_i ~ N(B'x(c_i) + v_cell, S): the mean depends on 1/kT and ln I,
cells of conditions deviate from it, devices from their cell. B, v and S are fitted by expectation
maximisation (empirical Bayes); S is shrunk to what the physics of power laws allows, so that few devices
suffice. Readings have a noise of their own plus a share of the damage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.laser_cvae.devices import Devices, Flags, Floats, cell_names

_LEVEL_SD, _SLOPE_SD, _BEND_SD = 0.3, 0.15, 0.03  # spreads of power laws: ln u, m, and what bends them
_WEIGHT = 8.0  # devices that the physics of S counts for
_STEPS, _ROUNDS = 8, 8
_LEAST, _MOST = -12.0, 3.0  # of ln d


@dataclass
class PathPrior:
    """See the module.

    Attributes:
        knots: Square roots of hours, ``(K,)``, rising.
        centre: Mean of the conditions, ``(2,)``.
        spread: Their standard deviation, 1 where they do not vary, ``(2,)``.
        weights: B, ``(3, K)``.
        cells: v by the name of the cell, each ``(K,)``.
        covariance: S, ``(K, K)``.
        noise: Standard deviation of a reading.
        share: Deviation of readings from their path, as a share of the damage.
    """

    knots: Floats
    centre: Floats
    spread: Floats
    weights: Floats
    cells: dict[str, Floats] = field(default_factory=dict)
    covariance: Floats = field(default_factory=lambda: np.eye(2))
    noise: float = 2e-3
    share: float = 0.04

    @classmethod
    def fit(cls, devices: Devices, readings: Flags, knots: int) -> PathPrior:
        """Learn from readings of devices.

        Args:
            devices: At least two.
            readings: ``(N, L)``, which count; damage is cut off at twice the criterion.
            knots: How many, at least 2.
        """
        damage = np.minimum(devices.damage, 2 * devices.scale.limit)
        ok = readings & (np.nan_to_num(devices.hours) > 0) & np.isfinite(damage)
        roots = np.sqrt(devices.hours[ok])
        low = np.quantile(roots, 0.1)
        prior = cls(
            knots=np.linspace(low, max(roots.max(), low * 1.01), knots),
            centre=_centre(devices.conditions),
            spread=_spread(devices.conditions),
            weights=np.zeros((3, knots)),
        )
        prior.weights[0] = prior._first_guess(devices.hours, damage, ok)
        physics = prior._physics()
        prior.covariance = physics * 3
        names = cell_names(devices.conditions)
        for _ in range(_ROUNDS):
            prior._round(devices, damage, ok, names, physics)
        return prior

    def mean(self, conditions: Floats) -> Floats:
        """Return the expected weights ``(R, K)`` at conditions ``(R, 2)``."""
        found = self._design(conditions) @ self.weights
        zero = np.zeros(len(self.knots))
        return np.asarray(found + np.array([self.cells.get(name, zero) for name in cell_names(conditions)]))

    def basis(self, hours: Floats) -> Floats:
        """Return the hat functions ``(..., K)`` at hours of any shape; straight beyond the outer knots."""
        x = np.sqrt(np.maximum(np.nan_to_num(hours, nan=float(self.knots[0]) ** 2), 0))
        place = np.clip(np.searchsorted(self.knots, x) - 1, 0, len(self.knots) - 2)
        left = self.knots[place]
        step = (x - left) / (self.knots[place + 1] - left)
        found = np.zeros((*x.shape, len(self.knots)))
        np.put_along_axis(found, place[..., None], (1 - step)[..., None], axis=-1)
        np.put_along_axis(found, place[..., None] + 1, step[..., None], axis=-1)
        return found

    def posterior(self, hours: Floats, damage: Floats, kept: Flags, mean: Floats) -> tuple[Floats, Floats]:
        """Return mode ``(R, K)`` and covariance ``(R, K, K)`` of the weights, given readings ``(R, L)``."""
        ok = kept & np.isfinite(damage) & (np.nan_to_num(hours) > 0)
        basis, given = self.basis(hours), np.where(ok, damage, 0.0)
        precision = np.linalg.inv(self.covariance)
        at = mean.copy()
        for _ in range(_STEPS):
            path = self._path(basis, at)
            weight = ok / (self.noise**2 + (self.share * path) ** 2)
            slopes = basis * path[..., None]
            curve = np.einsum("rla,rlb->rab", slopes * weight[..., None], slopes, optimize=True) + precision
            pull = np.einsum("rl,rla->ra", weight * (given - path), slopes) - (at - mean) @ precision
            at = at + np.clip(np.linalg.solve(curve, pull[..., None])[..., 0], -0.5, 0.5)
        return at, np.linalg.inv(curve)

    def paths(self, weights: Floats, hours: Floats) -> Floats:
        """Return the damage ``(..., H)`` of weights ``(..., K)`` at hours that broadcast to ``(..., H)``."""
        return self._path(self.basis(hours), weights)

    def to_json(self) -> dict[str, Any]:
        """Return numbers that :meth:`from_json` reads back exactly."""
        found = {
            name: getattr(self, name).tolist()
            for name in ("knots", "centre", "spread", "weights", "covariance")
        }
        cells = {name: value.tolist() for name, value in self.cells.items()}
        return {**found, "cells": cells, "noise": self.noise, "share": self.share}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PathPrior:
        """Rebuild a prior from :meth:`to_json`."""
        names = ("knots", "centre", "spread", "weights", "covariance")
        arrays = {name: np.array(document[name], dtype=np.float64) for name in names}
        cells = {name: np.array(value) for name, value in document["cells"].items()}
        return cls(**arrays, cells=cells, noise=document["noise"], share=document["share"])

    def _path(self, basis: Floats, weights: Floats) -> Floats:
        line = np.einsum("...lk,...k->...l", basis, weights)
        return np.asarray(np.exp(np.clip(line, _LEAST, _MOST)))

    def _design(self, conditions: Floats) -> Floats:
        scaled = np.nan_to_num((conditions - self.centre) / self.spread)
        return np.concatenate([np.ones((len(scaled), 1)), scaled], axis=1)

    def _first_guess(self, hours: Floats, damage: Floats, ok: Flags) -> Floats:
        """Return a straight path through the mean of the logarithms."""
        level = float(np.log(np.maximum(damage[ok], 1e-3)).mean())
        middle = float(np.log(hours[ok]).mean())
        return np.asarray(level + 2 * np.log(np.maximum(self.knots, 1e-3)) - middle)

    def _physics(self) -> Floats:
        """Return the covariance of power laws that differ in rate and exponent, with a little bend."""
        count, logs = len(self.knots), 2 * np.log(np.maximum(self.knots, 1e-3))
        slope = logs - logs.mean()
        level = np.full((count, count), _LEVEL_SD**2)
        return level + _SLOPE_SD**2 * np.outer(slope, slope) + _BEND_SD**2 * np.eye(count)

    def _round(self, devices: Devices, damage: Floats, ok: Flags, names: list[str], physics: Floats) -> None:
        at, doubt = self.posterior(devices.hours, damage, ok, self.mean(devices.conditions))
        design, count = self._design(devices.conditions), len(self.knots)
        zero = np.zeros(count)
        own = np.array([self.cells.get(name, zero) for name in names])
        ridge = np.diag([1e-6, 1e-2, 1e-2])
        self.weights = np.linalg.solve(design.T @ design + ridge, design.T @ (at - own))
        rest = at - design @ self.weights
        if len(set(names)) > 1:
            rest = rest - self._cell_round(rest, names)
        total = rest.T @ rest + doubt.sum(axis=0) + _WEIGHT * physics
        self.covariance = total / (len(at) + _WEIGHT) + 1e-6 * np.eye(count)

    def _cell_round(self, rest: Floats, names: list[str]) -> Floats:
        """Shrink the mean of each cell, by how much cells differ, and return it for each device."""
        known, number = np.unique(names, return_inverse=True)
        sizes = np.bincount(number)
        means = np.stack([np.bincount(number, column) / sizes for column in rest.T], axis=1)
        between = _between(means, sizes, self.covariance)
        within, across = np.linalg.inv(self.covariance), np.linalg.inv(between)
        for name, size, mean in zip(known, sizes, means, strict=True):
            self.cells[str(name)] = np.linalg.solve(across + size * within, size * within @ mean)
        return np.array([self.cells[str(name)] for name in known])[number]


def _between(means: Floats, sizes: NDArray[np.int64], within: Floats) -> Floats:
    """Return the covariance of cells: what their means differ by beyond chance, kept positive."""
    raw = means.T @ means / len(means) - within * float(np.mean(1 / sizes))
    values, vectors = np.linalg.eigh(raw)
    return np.asarray(vectors @ np.diag(np.maximum(values, 1e-3)) @ vectors.T)


def _centre(conditions: Floats) -> Floats:
    known = np.isfinite(conditions)
    return np.asarray(np.where(known, conditions, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _spread(conditions: Floats) -> Floats:
    known = np.isfinite(conditions)
    rest = np.where(known, conditions - _centre(conditions), 0)
    found = np.sqrt((rest**2).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
    return np.where(found > 1e-9, found, 1.0)
