"""Small seeded problems with known answers, on which the shared modules are tried.

(a) to (f) of the acceptance: two smooth functions, a wave to extrapolate, an oscillator to solve, a board to
classify, and a table of which few columns matter. All are computed; nothing is downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """A sample to train on and one to test on.

    Attributes:
        x: ``(rows, inputs)`` float64.
        y: ``(rows, 1)`` float64, or classes ``(rows,)`` int64.
        x_test: As ``x``.
        y_test: As ``y``, without noise.
        active: Inputs that act on the target.
    """

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    active: tuple[int, ...]


def product_of_curves(seed: int = 0, rows: int = 1000) -> Problem:
    """(a) ``exp(sin(pi x) + y^2)`` on ``[-1, 1]^2`` (KAN, section 2.4)."""
    return _smooth(seed, rows, 2, lambda x: torch.exp(torch.sin(math.pi * x[:, :1]) + x[:, 1:].square()))


def nested_sums(seed: int = 0, rows: int = 1000) -> Problem:
    """(b) ``exp((sin(pi (x1^2 + x2^2)) + sin(pi (x3^2 + x4^2))) / 2)`` on ``[-1, 1]^4`` (as a)."""

    def target(x: Tensor) -> Tensor:
        squares = x.square()
        first, second = squares[:, :2].sum(1, keepdim=True), squares[:, 2:].sum(1, keepdim=True)
        return torch.exp((torch.sin(math.pi * first) + torch.sin(math.pi * second)) / 2)

    return _smooth(seed, rows, 4, target)


def two_waves(seed: int = 0, rows: int = 1000) -> Problem:
    """(c) ``sin 3x + 0.5 sin 17x``; trained on ``|x| < 2``, tested beyond it up to 3."""
    random = torch.Generator().manual_seed(seed)
    x = 4 * torch.rand(rows, 1, dtype=torch.float64, generator=random) - 2
    beyond = torch.linspace(2.0, 3.0, rows // 2, dtype=torch.float64)
    x_test = torch.cat([-beyond.flip(0), beyond])[:, None]

    def target(x: Tensor) -> Tensor:
        return torch.sin(3 * x) + 0.5 * torch.sin(17 * x)

    return Problem(x, target(x), x_test, target(x_test), (0,))


def damped_oscillator(time: Tensor, damping: float) -> Tensor:
    """(d) The solution of ``u'' + 2 damping u' + u = 0`` from ``u = 1, u' = 0``, for damping below 1.

    Args:
        time: ``(rows, 1)``.
        damping: 0.05 to 0.4 in the acceptance.
    """
    rate = math.sqrt(1.0 - damping**2)
    return torch.exp(-damping * time) * (torch.cos(rate * time) + damping / rate * torch.sin(rate * time))


def oscillator_residual(u: Tensor, time: Tensor, damping: float) -> Tensor:
    """Return ``u'' + 2 damping u' + u`` of a network's output, with a graph for training.

    Args:
        u: Output ``(rows, 1)``.
        time: Input ``(rows, 1)`` that requires a gradient.
        damping: See :func:`damped_oscillator`.
    """
    first = torch.autograd.grad(u.sum(), time, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), time, create_graph=True)[0]
    return second + 2 * damping * first + u


def checkerboard(seed: int = 0, rows: int = 1000, cells: int = 4) -> Problem:
    """(e) The colour of a board with ``cells`` x ``cells`` fields on ``[0, 1]^2``; classes 0 and 1."""
    random = torch.Generator().manual_seed(seed)
    x, x_test = (torch.rand(rows, 2, dtype=torch.float64, generator=random) for _ in range(2))

    def colour(x: Tensor) -> Tensor:
        return (x * cells).long().sum(1) % 2

    return Problem(x, colour(x), x_test, colour(x_test), (0, 1))


def sparse_linear(
    seed: int = 0, rows: int = 1000, inputs: int = 20, active: int = 5, signal_to_noise: float = 5.0
) -> Problem:
    """(f) A linear function of ``active`` of the ``inputs`` normal columns, with noise.

    Weights have sizes of 1 to 2 and random signs; ``signal_to_noise`` is the ratio of variances.
    """
    random = torch.Generator().manual_seed(seed)
    x, x_test = (torch.randn(rows, inputs, dtype=torch.float64, generator=random) for _ in range(2))
    chosen = torch.randperm(inputs, generator=random)[:active].sort().values
    signs = 2.0 * torch.randint(0, 2, (active,), generator=random).double() - 1.0
    weight = signs * (1.0 + torch.rand(active, dtype=torch.float64, generator=random))
    clean, y_test = (part[:, chosen] @ weight[:, None] for part in (x, x_test))
    noise = torch.randn(rows, 1, dtype=torch.float64, generator=random)
    noise *= weight.norm() / math.sqrt(signal_to_noise)
    return Problem(x, clean + noise, x_test, y_test, tuple(chosen.tolist()))


def _smooth(seed: int, rows: int, inputs: int, target: Callable[[Tensor], Tensor]) -> Problem:
    random = torch.Generator().manual_seed(seed)
    x, x_test = (2 * torch.rand(rows, inputs, dtype=torch.float64, generator=random) - 1 for _ in range(2))
    return Problem(x, target(x), x_test, target(x_test), tuple(range(inputs)))
