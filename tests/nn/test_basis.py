"""The protocol of bases: values, slabs and derivatives of any order belong together."""

from __future__ import annotations

import pytest
import torch

from appliedpapers.nn.basis import ChebyshevBasis, FourierBasis, GaussianBasis, SplineBasis

D = torch.float64
BASES = {
    "splines": lambda: SplineBasis(3, dtype=D),
    "quartic splines, clamped": lambda: SplineBasis(3, 4, 4, outside="clamp", dtype=D),
    "gaussians": lambda: GaussianBasis(dtype=D),
    "chebyshev": lambda: ChebyshevBasis(4),
    "fourier": lambda: FourierBasis(3),
}


@pytest.mark.parametrize("name", BASES)
def test_slabs_are_the_values_with_the_functions_first(name):
    basis, x = BASES[name](), torch.randn(4, 2, 3, dtype=D)
    values = basis(x)
    assert values.shape == (4, 2, 3, basis.size)
    assert torch.equal(basis.slabs(x), values.movedim(-1, 0))


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_are_those_of_the_values(name, order):
    basis = BASES[name]()
    x = torch.rand(20, 3, dtype=D) * 1.8 - 0.9
    step = 1e-5

    def lower(x: torch.Tensor) -> torch.Tensor:
        return basis.derivative(x, order - 1)

    by_differences = (lower(x + step) - lower(x - step)) / (2 * step)
    assert torch.allclose(basis.derivative(x, order), by_differences, atol=1e-4 * 10**order, rtol=1e-4)


def test_splines_sum_to_one_inside_the_domain_and_fade_out_where_asked():
    basis = SplineBasis(2, outside="zero", dtype=D)
    inside = torch.rand(50, 2, dtype=D) * 2 - 1
    assert torch.allclose(basis(inside).sum(-1), torch.ones(50, 2, dtype=D), atol=1e-12)
    assert basis(torch.full((1, 2), 9.0, dtype=D)).abs().sum() == 0


def test_only_splines_have_a_finite_domain():
    low, high = SplineBasis(2, low=-3.0, high=5.0).domain
    assert (low.tolist(), high.tolist()) == ([-3.0, -3.0], [5.0, 5.0])
    assert torch.isinf(FourierBasis().domain[1]).all()
