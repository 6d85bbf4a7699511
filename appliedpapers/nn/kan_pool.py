"""A pool of families of functions that are evaluated and multiplied together.

Sources: KAN (arXiv 2404.19756) for splines, Wav-KAN (arXiv 2405.12832) for wavelets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from appliedpapers.nn.slab_linear import Features, Slabs

WAVELETS = ("mexican_hat", "dog")


class Wavelets:
    """Wavelets at fixed places: ``psi((x - centre_j) / width)``.

    ``mexican_hat`` is ``2 / (sqrt(3) pi^(1/4)) (1 - u^2) exp(-u^2 / 2)``, ``dog`` the derivative of a
    Gaussian, ``-u exp(-u^2 / 2)``.

    Args:
        centres: ``(size,)``.
        width: One width for all.
        kind: ``mexican_hat`` or ``dog``.
    """

    def __init__(self, centres: Tensor, width: float, kind: str) -> None:
        self._centres, self._width, self._kind, self.size = centres, width, kind, len(centres)
        self._height = 2.0 / (math.sqrt(3.0) * math.pi**0.25)

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        torch.sub(x, self._centres.view(-1, 1, 1), out=out)
        out.mul_(1.0 / self._width)
        square = out.square()
        bell = torch.exp(square * -0.5)
        if self._kind == "dog":
            out.mul_(bell).neg_()
        else:
            torch.mul(square.neg_().add_(1.0), bell, out=out).mul_(self._height)

    def pull(self, x: Tensor, slabs: Tensor, grad: Slabs) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``."""
        u = (x - self._centres.view(-1, 1, 1)).mul_(1.0 / self._width)
        square = u.square()
        weighted = grad[:].mul_(torch.exp(square * -0.5))
        if self._kind == "dog":
            return weighted.mul_(square.sub_(1.0)).sum(0).mul_(1.0 / self._width)
        return weighted.mul_(square.sub_(3.0).mul_(u)).sum(0).mul_(self._height / self._width)

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)``."""
        u = (x.unsqueeze(-2) - self._centres.unsqueeze(-1)) / self._width
        bell = torch.exp(-0.5 * u.square())
        return -u * bell if self._kind == "dog" else self._height * (1.0 - u.square()) * bell


class Pool:
    """Families one after another, as one family.

    Args:
        families: The families.
    """

    def __init__(self, families: Sequence[Features]) -> None:
        self._families = tuple(families)
        self._sizes = [family.size for family in families]
        self.size = sum(self._sizes)

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        for family, part in zip(self._families, torch.split(out, self._sizes), strict=True):
            family.fill(x, part)

    def pull(self, x: Tensor, slabs: Tensor, grad: Slabs) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``."""
        parts = zip(
            self._families, torch.split(slabs, self._sizes), torch.split(grad[:], self._sizes), strict=True
        )
        return torch.stack([family.pull(x, own, upstream) for family, own, upstream in parts]).sum(0)

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)``."""
        return torch.cat([family.plain(x) for family in self._families], dim=-2)
