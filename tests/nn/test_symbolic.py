"""Curves get their right name, and every candidate is reported."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.nn.kan import KAN
from appliedpapers.nn.symbolic import CANDIDATES, fit_curve

CURVES = {
    "x": lambda x: 2 * x - 1,
    "x^2": lambda x: (x - 0.3) ** 2,
    "x^3": lambda x: (x + 0.2) ** 3,
    "1/x": lambda x: 1 / (x + 1.3),
    "sqrt": lambda x: np.sqrt(x + 1.01),
    "exp": lambda x: np.exp(2 * x),
    "log": lambda x: np.log(x + 1.05),
    "sin": lambda x: np.sin(5 * x + 0.2),
    "cos": lambda x: np.cos(5 * x + 0.2),
    "tanh": lambda x: np.tanh(3 * x + 1),
    "|x|": lambda x: np.abs(x - 0.2),
    "gaussian": lambda x: np.exp(-((3 * x - 1) ** 2)),
}


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, 300)


@pytest.mark.parametrize("name", CANDIDATES)
def test_every_candidate_is_found_with_its_parameters(points, name):
    y = 1.5 * CURVES[name](points) - 0.7
    fit = fit_curve(points, y)
    assert fit.best.name == name
    assert fit.best.r2 > 1 - 1e-9
    assert np.allclose(fit.best(points), y, atol=1e-4 * np.ptp(y))


@pytest.mark.parametrize("complexity", [0.0, 0.002, 0.02])
def test_a_noisy_sine_is_called_a_sine_with_any_weight_of_complexity(complexity):
    random = np.random.default_rng(1)
    x = random.uniform(-3, 3, 1000)
    y = np.sin(3 * x)
    fit = fit_curve(x, y + 0.01 * y.std() * random.normal(size=1000), complexity=complexity)
    assert fit.best.name == "sin"
    assert fit.best.r2 >= 0.99
    assert fit.best.a == pytest.approx(3.0, abs=0.01)
    assert fit.best.b == pytest.approx(0.0, abs=0.01)
    assert set(fit.r2) == set(CANDIDATES)
    assert fit.r2["x^2"] < 0.5


def test_an_edge_trained_on_a_noisy_sine_is_called_a_sine():
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(500, 1, generator=generator, dtype=torch.float64) - 1
    y = torch.sin(3 * x)
    y = y + 0.01 * y.std() * torch.randn(500, 1, generator=generator, dtype=torch.float64)
    torch.manual_seed(0)
    net = KAN(1, 1, hidden=(), grid=8, dtype=torch.float64)
    optimiser = torch.optim.LBFGS(net.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    fit = net.symbolic(0, 0, 0, x)
    assert fit.best.name == "sin"
    assert fit.best.r2 >= 0.99
    # the formula is about as good as the net
    formula = torch.from_numpy(fit.best(x[:, 0].numpy())) + net.layers[0].bias
    assert float((formula - y[:, 0]).detach().square().mean().sqrt()) < 0.03


def test_the_curve_of_an_edge_is_what_the_layer_adds_up():
    torch.manual_seed(0)
    net = KAN(3, 2, hidden=(4,), multiply=1, dtype=torch.float64)
    x = torch.randn(20, 3, dtype=torch.float64)
    total = sum(net.curve(1, 1, number, x)[1] for number in range(4)) + net.layers[1].bias[1]
    assert torch.allclose(total, net(x)[:, 1])
    assert torch.equal(net.curve(0, 0, 2, x)[0], x[:, 2])


@pytest.mark.parametrize(
    ("edge", "message"),
    [((2, 0, 0), "no layer 2, it has 2"), ((0, 0, 3), "no edge from input 3 to output 0; it has 3 inputs")],
)
def test_an_edge_that_is_not_there_is_named(edge, message):
    with pytest.raises(IndexError, match=message):
        KAN(3, 2, hidden=(4,)).symbolic(*edge, torch.zeros(5, 3))


def test_formulas_read_as_one_writes_them(points):
    assert str(fit_curve(points, 2 * points - 1).best) == "2 x - 1"
    assert str(fit_curve(points, 1.5 * np.exp(2 * points), candidates=["exp"]).best).startswith(
        "1.5 exp(2 x)"
    )


def test_a_constant_curve_is_a_line_without_slope(points):
    fit = fit_curve(points, np.full_like(points, 3.0))
    assert fit.best.name == "x"
    assert (fit.best.c, fit.best.d) == (0.0, 3.0)


def test_complexity_prefers_the_simpler_function_where_both_fit(points):
    y = points + 0.02 * points**2
    assert fit_curve(points, y, complexity=0.0).best.name != "x"
    assert fit_curve(points, y, complexity=0.01).best.name == "x"


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0], {}, "at least 3 finite points are needed, got 2"),
        ([1.0, 2.0, float("nan")], [1.0, 2.0, 3.0], {}, "got 2"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], {}, r"one shape \(points,\)"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"candidates": ["sinus"]}, "no candidate 'sinus'; there are x, "),
    ],
)
def test_wrong_tables_are_refused(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        fit_curve(x, y, **options)


@settings(max_examples=20, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=3, max_size=12),
)
def test_any_table_gets_finite_formulas_with_r2_of_at_most_one(points):
    x, y = np.array(points).T
    fit = fit_curve(x, y, candidates=["x", "x^2", "1/x", "sqrt", "log", "sin"])
    for formula in fit.formulas:
        assert -1e-6 <= formula.r2 <= 1.0
        assert all(np.isfinite([formula.a, formula.b, formula.c, formula.d]))
