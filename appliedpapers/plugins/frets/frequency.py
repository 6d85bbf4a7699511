"""Learners in the frequency domain: the complex layer of FreTS and its rank-one form for scalar series.

Source: "Frequency-domain MLPs are More Effective Learners in Time Series Forecasting"
(arXiv 2311.06184), section 3.3.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Mixing = Literal["full", "diagonal"]


class FrequencyMLP(nn.Module):
    """One complex-valued linear map with separate rectification of both parts (eq. 7-8).

    ``mixing="full"`` multiplies by the whole ``(dim, dim)`` matrix as the paper writes it;
    ``mixing="diagonal"`` uses its diagonal alone, which is what the published results were made with,
    and stores only that diagonal. The soft shrinkage by ``sparsity`` follows a rectifier, so both are one
    rectifier with a lower bias: ``softshrink(relu(a), s) = relu(a - s)`` for ``s >= 0``.

    Args:
        dim: Size of the last axis.
        mixing: ``"full"`` or ``"diagonal"``.
        sparsity: Shrinkage, at least 0.
        init_scale: Standard deviation of the initial weights and biases.

    Shape:
        - input: ``(..., dim)`` complex
        - output: the same

    Raises:
        ValueError: ``sparsity`` is negative, ``mixing`` is unknown, or the last axis is not ``dim``.
    """

    def __init__(
        self, dim: int, mixing: Mixing = "diagonal", sparsity: float = 0.01, init_scale: float = 0.02
    ) -> None:
        super().__init__()
        if sparsity < 0:
            raise ValueError(f"sparsity must be at least 0, not {sparsity}")
        if mixing not in ("full", "diagonal"):
            raise ValueError(f"mixing must be 'full' or 'diagonal', not {mixing!r}")
        shape = (dim, dim) if mixing == "full" else (dim,)
        self.dim, self.mixing, self.sparsity, self.init_scale = dim, mixing, sparsity, init_scale
        self.real = nn.Parameter(torch.empty(shape))
        self.imag = nn.Parameter(torch.empty(shape))
        self.real_bias = nn.Parameter(torch.empty(dim))
        self.imag_bias = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights and biases from ``init_scale * N(0, 1)``."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=self.init_scale)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Map a complex ``(..., dim)`` spectrum to one of the same shape with non-negative parts."""
        if spectrum.shape[-1] != self.dim:
            raise ValueError(f"expected {self.dim} features on the last axis, got {spectrum.shape[-1]}")
        re, im = spectrum.real, spectrum.imag
        real_bias, imag_bias = self.real_bias - self.sparsity, self.imag_bias - self.sparsity
        if self.mixing == "diagonal":
            out_re = re * self.real - im * self.imag + real_bias
            out_im = im * self.real + re * self.imag + imag_bias
        else:
            out_re = re @ self.real - im @ self.imag + real_bias
            out_im = im @ self.real + re @ self.imag + imag_bias
        return torch.complex(F.relu(out_re), F.relu(out_im))

    def gain(self) -> Tensor:
        """Return the learned gain of each output feature before rectification, ``(dim,)``."""
        power = self.real.square() + self.imag.square()
        return power.sqrt() if self.mixing == "diagonal" else power.sum(0).sqrt()

    def extra_repr(self) -> str:
        """Describe the module for ``print``."""
        return f"dim={self.dim}, mixing={self.mixing!r}, sparsity={self.sparsity}"


def _rectified_spectrum(basis: Tensor, theta: Tensor) -> Tensor:
    """Return ``relu(theta @ basis)``, ``(P, D, 2F)``: element-wise, since a product of depth four starves."""
    real_slot = torch.arange(basis.shape[-1], device=basis.device) % 2 == 0
    bias = torch.where(real_slot, theta[:, 2, None], theta[:, 3, None])
    out = basis[:, 0, None, :] * theta[:, 0, None]
    return out.addcmul_(basis[:, 1, None, :], theta[:, 1, None]).add_(bias).clamp_min_(0.0)


class RankOneLearner(torch.autograd.Function):
    """Embedding, diagonal temporal learner and residual of one scalar series, in one node.

    The embedding of a scalar series is rank one, so its spectrum is ``X[f] * e[d]`` and the learner is
    ``relu(theta @ basis)`` with four basis rows: X and jX as interleaved real numbers, and the indicators
    of real and imaginary slots. The rectified spectrum, as large as the features that the next layer keeps,
    is kept for the way back: to compute it again costs 5 % of a step. Time is the innermost axis, for
    contiguous transforms.
    """

    @staticmethod
    def forward(ctx: Any, basis: Tensor, theta: Tensor, embedding: Tensor, rows: Tensor) -> Tensor:
        """Map ``basis (P, 4, 2F), theta (D, 4), embedding (D,), rows (P, L)`` to ``(P, D, L)``."""
        spectrum = _rectified_spectrum(basis, theta)
        ctx.save_for_backward(basis, theta, embedding, rows, spectrum)
        halves = torch.view_as_complex(spectrum.view(len(basis), len(theta), -1, 2))
        out: Tensor = torch.fft.irfft(halves, n=rows.shape[1], norm="ortho")
        return out.addcmul_(embedding[:, None], rows[:, None, :])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients; those of ``basis`` and ``rows`` only where somebody asks."""
        basis, theta, embedding, rows, spectrum = ctx.saved_tensors
        lookback = rows.shape[1]
        needs_basis, _, _, needs_rows = ctx.needs_input_grad
        grad_rows = torch.matmul(embedding, grad) if needs_rows else None
        # An inner bin stands for itself and its mirror image, so the inverse transform counts it twice.
        twice = torch.full((basis.shape[-1],), 2.0, dtype=basis.dtype, device=basis.device)
        twice[:2] = 1.0
        if lookback % 2 == 0:
            twice[-2:] = 1.0
        weighted = (basis * twice).transpose(1, 2)
        active = torch.view_as_real(torch.fft.rfft(grad, norm="ortho")).flatten(-2)
        # Parseval: the residual's gradient is a product in the frequency domain, which needs no buffer.
        grad_embedding = torch.bmm(active, weighted)[..., 0].sum(0)
        torch.ops.aten.threshold_backward.grad_input(active, spectrum, 0.0, grad_input=active)
        grad_theta = torch.bmm(active, weighted).sum(0)
        grad_basis = torch.matmul(theta.t(), active) * twice if needs_basis else None
        return grad_basis, grad_theta, grad_embedding, grad_rows


def rank_one_features(rows: Tensor, embedding: Tensor, learner: FrequencyMLP) -> Tensor:
    """Embed scalar series, learn along time and add the residual, without ever embedding the spectrum.

    Args:
        rows: ``(rows, lookback)`` in the precision of the weights.
        embedding: ``(embed_dim,)``.
        learner: Temporal learner with ``mixing="diagonal"`` and ``embed_dim`` features.

    Returns:
        ``(rows, embed_dim, lookback)``: ``irfft(learner(rfft(E))) + E`` for ``E = rows * embedding``.
    """
    spectrum = torch.fft.rfft(rows, norm="ortho")
    basis = rows.new_zeros(len(rows), 4, 2 * spectrum.shape[1])
    basis[:, 0] = torch.view_as_real(spectrum).flatten(1)
    basis[:, 1] = torch.view_as_real(1j * spectrum).flatten(1)
    basis[:, 2, 0::2] = 1.0
    basis[:, 3, 1::2] = 1.0
    theta = torch.stack(
        [
            learner.real * embedding,
            learner.imag * embedding,
            learner.real_bias - learner.sparsity,
            learner.imag_bias - learner.sparsity,
        ],
        dim=1,
    )
    features: Tensor = RankOneLearner.apply(basis, theta, embedding, rows)  # type: ignore[no-untyped-call]
    return features
