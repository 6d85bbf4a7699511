"""KAN layers give the values of the reference implementations, in double precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from appliedpapers.nn import splines
from appliedpapers.nn.basis import SplineBasis
from appliedpapers.nn.kan_linear import KANLinear

D = torch.float64
PATHS = ("fast", "lean", "plain")


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, torch.Tensor]:
    with np.load(shared / "golden" / "nn-modules.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def close(ours: torch.Tensor, theirs: torch.Tensor, atol: float = 1e-9) -> bool:
    assert ours.shape == theirs.shape
    return float((ours - theirs).detach().abs().max()) <= atol


def load(layer: KANLinear, **tensors: torch.Tensor) -> KANLinear:
    with torch.no_grad():
        for name, value in tensors.items():
            layer.get_parameter(name).copy_(value)
    return layer


def gradients(layer: KANLinear, x: torch.Tensor, upstream: torch.Tensor) -> dict[str, Any]:
    x = x.clone().requires_grad_()
    y = layer(x)
    (y * upstream).sum().backward()
    return {"y": y.detach(), "x": x.grad, **{name: p.grad for name, p in layer.named_parameters()}}


@pytest.mark.parametrize(("grid", "order"), [(5, 3), (3, 2), (8, 1), (20, 3), (5, 4)])
def test_splines_equal_the_reference_basis_at_every_knot(golden, grid, order):
    name = f"bspline.G{grid}k{order}"
    basis = SplineBasis(1, grid, order, outside="zero", dtype=D)
    x = golden[f"{name}.x"].unsqueeze(1)
    assert torch.allclose(basis.knots[0], golden[f"{name}.grid"], atol=1e-14)
    for reference in ("basis_pykan", "basis_efficient"):
        assert close(basis(x)[:, 0], golden[f"{name}.{reference}"])


def test_splines_on_uneven_knots_equal_the_reference_basis(golden):
    knots = golden["bspline.nonuniform.grid"].unsqueeze(0)
    values = splines.basis(golden["bspline.nonuniform.x"].unsqueeze(1), knots, 3)[:, 0]
    assert close(values, golden["bspline.nonuniform.basis"])


def weight_form(golden, path: str) -> KANLinear:
    layer = KANLinear(6, 4, scaling="spline", outside="zero", bias=False, path=path, dtype=D)
    layer.basis.set_knots(golden["efficient.w.grid"], "cpu", D)
    return load(
        layer,
        base_weight=golden["efficient.w.base_weight"],
        weight=golden["efficient.w.spline_weight"].permute(2, 0, 1),
        scale=golden["efficient.w.spline_scaler"],
    )


@pytest.mark.parametrize("path", PATHS)
def test_the_weight_form_equals_the_reference_in_values_and_gradients(golden, path):
    ours = gradients(weight_form(golden, path), golden["efficient.x"], golden["efficient.grad_out"])
    assert close(ours["y"], golden["efficient.y"])
    assert close(ours["x"], golden["efficient.grad_x"])
    assert close(ours["base_weight"], golden["efficient.grad.base_weight"])
    assert close(ours["scale"], golden["efficient.grad.spline_scaler"])
    spline = golden["efficient.grad.spline_weight"].permute(2, 0, 1)
    assert close(ours["weight"], spline)


def test_the_weight_regularisation_equals_the_reference(golden):
    ours = weight_form(golden, "fast").weight_regularization()
    assert float(ours.detach()) == pytest.approx(float(golden["efficient.reg"]), abs=1e-9)


def test_a_grid_update_keeps_the_function_where_the_reference_loses_it(golden):
    layer, x = weight_form(golden, "fast"), golden["efficient.x"]
    before = layer(x).detach()
    report = layer.update(x)
    after = layer(x).detach()
    reference = (golden["efficient.after_update.y"] - golden["efficient.y"]).square().mean().sqrt()
    ours = (after - before).square().mean().sqrt()
    assert float(reference / before.std()) > 0.4
    assert float(ours / before.square().mean().sqrt()) <= 0.02
    assert report.drift >= 0


def authors_form(golden) -> KANLinear:
    layer = KANLinear(6, 4, scaling="edge", outside="zero", bias=False, dtype=D)
    layer.basis.set_knots(golden["pykan.w.grid"], "cpu", D)
    load(
        layer,
        base_weight=golden["pykan.w.scale_base"].t(),
        scale=golden["pykan.w.scale_sp"].t(),
        weight=golden["pykan.w.coef"].permute(2, 1, 0),
    )
    layer.prune(golden["pykan.w.mask"].t() != 0)
    return layer


def test_the_authors_form_equals_the_reference_in_values_and_edges(golden):
    layer, x = authors_form(golden), golden["pykan.x"]
    assert close(layer(x), golden["pykan.y"])
    assert close(layer.edges(x), golden["pykan.postacts"])


def test_a_grid_update_equals_that_of_the_authors(golden):
    layer, x = authors_form(golden), golden["pykan.x"]
    layer.update(x, max_drift=float("inf"))
    # our smallest cell may be wider than theirs, so the knots are compared where theirs are wide enough
    assert close(layer.basis.knots, golden["pykan.after_update.w.grid"])
    assert close(layer(x), golden["pykan.after_update.y"])


# the reference rounds its centres to single precision; the paths that go from one centre to the next take
# them for equidistant, which they are to 6e-8, so these paths are held to plain ones on exact centres
@pytest.mark.parametrize(("path", "atol"), [("plain", 1e-9), ("fast", 2e-6), ("lean", 2e-6)])
def test_gaussians_equal_the_reference(golden, path, atol):
    layer = load(
        KANLinear(6, 4, basis="rbf", path=path, dtype=D),
        weight=golden["fastkan.w.spline_linear.weight"].view(4, 6, 8).permute(2, 0, 1),
        base_weight=golden["fastkan.w.base_linear.weight"],
        bias=golden["fastkan.w.base_linear.bias"],
    )
    layer.basis.centres.copy_(golden["fastkan.w.rbf.grid"])
    load(layer, **{f"norm.{name}": golden[f"fastkan.w.layernorm.{name}"] for name in ("weight", "bias")})
    ours = gradients(layer, golden["fastkan.x"], golden["fastkan.grad_out"])
    theirs = {name: golden[f"fastkan.grad.{name}"] for name in ("layernorm.weight", "layernorm.bias")}
    spline = golden["fastkan.grad.spline_linear.weight"].view(4, 6, 8).permute(2, 0, 1)
    assert close(layer.basis(layer.norm(golden["fastkan.x"])), golden["fastkan.rbf"])
    assert close(ours["y"], golden["fastkan.y"], atol)
    assert close(ours["x"], golden["fastkan.grad_x"], atol)
    assert close(ours["weight"], spline, atol)
    assert close(ours["base_weight"], golden["fastkan.grad.base_linear.weight"], atol)
    assert close(ours["norm.weight"], theirs["layernorm.weight"], atol)
    assert close(ours["norm.bias"], theirs["layernorm.bias"], atol)


@pytest.mark.parametrize("path", PATHS)
def test_gaussians_on_exact_centres_are_the_same_on_every_path(path):
    torch.manual_seed(0)
    exact = KANLinear(6, 4, basis="rbf", grid=19, path="plain", dtype=D)
    other = KANLinear(6, 4, basis="rbf", grid=19, path=path, dtype=D)
    other.load_state_dict(exact.state_dict())
    x, upstream = 3 * torch.randn(50, 6, dtype=D), torch.randn(50, 4, dtype=D)
    reference = gradients(exact, x, upstream)
    for name, value in gradients(other, x, upstream).items():
        assert close(value, reference[name]), name


@pytest.mark.parametrize("path", PATHS)
def test_chebyshev_polynomials_equal_the_reference(golden, path):
    layer = load(
        KANLinear(6, 4, basis="chebyshev", grid=5, bias=False, path=path, dtype=D),
        weight=golden["cheby.w.cheby_coeffs"].permute(2, 1, 0),
    )
    ours = gradients(layer, golden["cheby.x"], golden["cheby.grad_out"])
    assert close(ours["y"], golden["cheby.y"])
    assert close(ours["x"], golden["cheby.grad_x"])
    assert close(ours["weight"], golden["cheby.grad.cheby_coeffs"].permute(2, 1, 0))


@pytest.mark.parametrize("path", PATHS)
def test_harmonics_equal_the_reference(golden, path):
    def order(coefficients: torch.Tensor) -> torch.Tensor:
        return coefficients.permute(0, 3, 1, 2).flatten(0, 1)

    layer = load(
        KANLinear(6, 4, basis="fourier", grid=5, path=path, dtype=D),
        weight=order(golden["fourier.w.fouriercoeffs"]),
        bias=golden["fourier.w.bias"][0],
    )
    ours = gradients(layer, golden["fourier.x"], golden["fourier.grad_out"])
    assert close(ours["y"], golden["fourier.y"])
    assert close(ours["x"], golden["fourier.grad_x"])
    assert close(ours["weight"], order(golden["fourier.grad.fouriercoeffs"]))
    assert close(ours["bias"], golden["fourier.grad.bias"][0])
