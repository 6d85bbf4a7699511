"""The autoencoder's losses of readings without gradients: what judging devices spends its time on.

The same numbers as :func:`~appliedpapers.plugins.laser_cvae.learner.reading_losses`, to rounding, for half
the time. A curve lies between two knots at any time, so that these are looked up and not all sixteen summed;
rows are the last axis, so that those read at the same hours are copied in one piece; and only readings that
are there are computed. None of this changes a bit of a row: what is looked up is rounded alike in both ways,
and what is summed or multiplied as a matrix has a shape that does not follow from the other rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from appliedpapers.plugins.laser_cvae.learner import AgeingRows, wide_hats
from appliedpapers.plugins.laser_cvae.network import MEAN_KNOTS, SPREAD_START, AgeingCVAE


@dataclass(frozen=True)
class Readings:
    """The readings of R rows beside the knots that they lie between, in units of the size of their damage.

    Attributes:
        place: Knot to the left of each reading, ``(L, R)``, or ``(L, 1)`` where rows were read alike.
        step: How far it lies on the way to the next one, from 0 to 1, likewise.
        damage: ``(L, R)``.
        weight: ``(L, R)``, 1 for readings that count.
        count: Their number, at least 1, ``(R,)``.
        size: Of the damage, ``(R,)``.
        floor: Smallest variance of a reading, ``(R,)``.
        limit: Damage at the failure criterion, ``(R,)``.
    """

    place: Tensor
    step: Tensor
    damage: Tensor
    weight: Tensor
    count: Tensor
    size: Tensor
    floor: Tensor
    limit: Tensor

    @classmethod
    def of(cls, rows: AgeingRows, longest: int) -> Readings:
        """Return the readings of rows, of which none has more than ``longest``."""
        shares, weight = rows.shares[:, :longest], rows.weight[:, :longest]
        common = shares.amax(dim=0)
        # where nothing was read, or does not count, any time will do
        alike = bool(((shares == common) | ((shares == 0) & (weight == 0))).all())
        root = torch.sqrt((common[None] if alike else shares).clamp(0, 1)).T * (MEAN_KNOTS - 1)
        left = root.floor().clamp_(max=MEAN_KNOTS - 2)
        size = rows.size[:, 0]
        return cls(
            left.long().contiguous(),
            (root - left).contiguous(),
            (rows.damage[:, :longest] / rows.size).T.contiguous(),
            weight.T.contiguous(),
            weight.sum(dim=1).clamp_(min=1),
            size,
            (rows.floor / size) ** 2,
            rows.limit / size,
        )

    def part(self, start: int, size: int) -> Readings:
        """Return those of some of the rows."""
        own, alike = slice(start, start + size), self.place.shape[1] == 1
        return Readings(
            self.place if alike else self.place[:, own],
            self.step if alike else self.step[:, own],
            self.damage[:, own],
            self.weight[:, own],
            self.count[own],
            self.size[own],
            self.floor[own],
            self.limit[own],
        )


class Curves:
    """The decoder of a network, with the knots of both curves as its outputs.

    Args:
        network: The autoencoder; its weights must not change while this is used.
    """

    def __init__(self, network: AgeingCVAE) -> None:
        first, middle, last = (layer for layer in network.decoder if isinstance(layer, nn.Linear))
        latent = network.latent
        self._of_z, self._of_condition = first.weight[:, :latent].T, first.weight[:, latent:].T
        self._first, self._middle, self._shift = first.bias, middle.weight.T, middle.bias
        # four hats over the square root of time are lines between the sixteen: one product does for both
        wide = wide_hats(last.weight).T
        spread = wide @ last.weight[MEAN_KNOTS:]
        self._last = torch.cat([last.weight[:MEAN_KNOTS], spread])
        bias = wide @ (last.bias[MEAN_KNOTS:] + SPREAD_START)
        self._end = torch.cat([last.bias[:MEAN_KNOTS], bias])[:, None]

    def losses(self, readings: Readings, condition: Tensor, z: Tensor) -> Tensor:
        """Return the mean over z of the negative log-likelihood of readings without its constant, ``(L, R)``.

        Args:
            readings: R rows of L readings.
            condition: ``(R, 4)``.
            z: ``(S, R, latent)``.
        """
        mean, variance = self._at(readings, condition, z)
        mean = torch.minimum(mean, readings.limit, out=mean)
        variance.exp_().add_(readings.floor)
        off = torch.sub(readings.damage[:, None], mean, out=mean).square_().div_(variance)
        total = off.sum(dim=1).add_((2 * len(z)) * torch.log(readings.size))
        # the logarithm of a product: four variances of at least exp(-20) are far from the smallest number
        for first in range(0, len(z), 4):
            total += torch.log(variance[:, first : first + 4].prod(dim=1))
        return total.mul_(0.5 / len(z))

    def expected(self, readings: Readings, condition: Tensor, z: Tensor) -> Tensor:
        """Return the damage ``(L, R)`` that is expected of healthy devices with this z, ``(R, latent)``."""
        mean, _ = self._at(readings, condition, z[None])
        return torch.minimum(mean[:, 0], readings.limit) * readings.size

    def _at(self, readings: Readings, condition: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance at the readings, ``(L, S, R)`` each."""
        knots = self._knots(condition, z)
        rise, place = knots[:, 1:] - knots[:, :-1], readings.place
        if place.shape[1] == 1:
            low, high = knots.index_select(1, place[:, 0]), rise.index_select(1, place[:, 0])
        else:
            wanted = place[None, :, None].expand(2, -1, len(z), -1)
            low, high = knots.gather(1, wanted), rise.gather(1, wanted)
        # two roundings, not one: whether product and sum are fused might follow from how memory lies
        mean, spread = high.mul_(readings.step[:, None]).add_(low).unbind(0)
        return mean, spread

    def _knots(self, condition: Tensor, z: Tensor) -> Tensor:
        """Return mean and log variance at the knots of the mean, ``(2, 16, S, R)``."""
        points, count, latent = z.shape
        hidden = (z.reshape(-1, latent) @ self._of_z).view(points, count, -1)
        hidden += torch.addmm(self._first, condition, self._of_condition)
        hidden = torch.addmm(self._shift, hidden.relu_().view(points * count, -1), self._middle).relu_()
        found = torch.addmm(self._end, self._last, hidden.T).view(2, MEAN_KNOTS, points, count)
        found[1].clamp_(-20, 4)
        return found
