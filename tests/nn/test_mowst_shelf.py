"""The mixture as one of the shelf: built by name from names, kept, compiled and exported."""

from __future__ import annotations

import pytest
import torch

from appliedpapers import nn
from appliedpapers.nn.mowst import ConfidenceGatedMixture

SPEC = "mowst(weak=mlp, strong=resmlp(depth=2), gate=monotone, gate_hidden=8)"


def built(spec=SPEC, **options) -> ConfidenceGatedMixture:
    torch.manual_seed(0)
    return nn.build(spec, in_features=6, out_features=3, **options)


def test_it_is_built_from_names_with_options_in_brackets():
    mixture = built()
    assert isinstance(mixture, ConfidenceGatedMixture)
    assert mixture(torch.randn(2, 5, 6)).shape == (2, 5, 3)
    assert mixture.gate.kind == "monotone"
    assert isinstance(mixture.strong, type(nn.build("resmlp", 6, 3)))
    assert built("mowst-star(weak=mlp, strong=mlp)").mode == "star"


def test_its_configuration_builds_an_equal_mixture():
    mixture = built()
    again = nn.build(mixture.config())
    again.load_state_dict(mixture.state_dict())
    x = torch.randn(7, 6)
    assert torch.equal(again.eval()(x), mixture.eval()(x))
    assert again.config() == mixture.config()


def test_its_example_builds():
    (entry,) = [entry for entry in nn.entries() if entry.name == "mowst"]
    assert nn.build("mowst", **entry.example)(torch.randn(4, 6)).shape == (4, 3)


@pytest.mark.parametrize("given", [{}, {"strong": nn.build("resmlp(depth=2)", 6, 3)}])
def test_experts_of_the_shelf_come_back_from_the_folder_alone(tmp_path, given):
    mixture = built("mowst(weak=mlp)", strong=given.get("strong", "resmlp(depth=2)")).eval()
    mixture.weight, mixture.signal = 0.5, "variance"
    mixture.save(tmp_path)
    loaded = ConfidenceGatedMixture.load(tmp_path)
    x = torch.randn(9, 6)
    assert torch.equal(loaded.predict(x), mixture.predict(x))
    assert torch.equal(loaded.evidence(x).confidence, mixture.evidence(x).confidence)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_computes_in_other_types(dtype):
    mixture = built(dtype=dtype)
    x = torch.randn(9, 6, dtype=dtype)
    loss = mixture.loss(x, torch.arange(9) % 3)
    loss.backward()
    assert mixture(x).dtype == dtype
    assert loss.isfinite()


def test_gradients_are_right_to_second_order():
    mixture = built(
        "mowst(weak=mlp(act=tanh), strong=mlp(act=tanh), detach_dispersion=false)", dtype=torch.float64
    )
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    mixture.eval()
    assert torch.autograd.gradcheck(mixture, x)
    mixture.gate = nn.build(SPEC, 6, 3, dtype=torch.float64).gate
    assert torch.autograd.gradgradcheck(mixture.eval(), x)


def test_it_exports_to_onnx_with_any_number_of_rows(tmp_path):
    import onnxruntime

    mixture = built().eval()
    path = tmp_path / "mixture.onnx"
    batch = torch.export.Dim("batch", min=1, max=4096)
    torch.onnx.export(
        mixture, (torch.randn(4, 6),), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = torch.randn(11, 6)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.as_tensor(found), mixture(x), atol=1e-5, rtol=1e-5)


def test_the_auxiliary_losses_of_its_experts_are_summed():
    assert built().aux_loss() == 0
