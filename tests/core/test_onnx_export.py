"""ONNX files appear whole, answer as the network does, or do not appear."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from appliedpapers.core import onnx
from appliedpapers.core.errors import PluginError, RunError
from appliedpapers.core.onnx import export_onnx


class Two(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x, y):
        return self.layer(x) + y, torch.tanh(y)


@pytest.fixture
def inputs():
    return {"x": torch.ones(2, 3), "y": torch.full((2, 2), 0.5)}


def export(inputs, path, **more):
    torch.manual_seed(0)
    module = Two().eval()
    export_onnx(module, inputs, ["sum", "bent"], path, **more)
    return module


def test_an_exported_module_answers_for_any_number_of_rows(tmp_path, inputs):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    rows = torch.export.Dim("rows", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = export(inputs, tmp_path / "two.onnx", dynamic_shapes=[{0: rows}] * 2)
    session = onnxruntime.InferenceSession(str(tmp_path / "two.onnx"), providers=["CPUExecutionProvider"])
    x, y = torch.randn(7, 3), torch.randn(7, 2)
    found = session.run(["sum", "bent"], {"x": x.numpy(), "y": y.numpy()})
    for one, two in zip(found, module(x, y), strict=True):
        np.testing.assert_allclose(one, two.detach().numpy(), atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["two.onnx"]


def test_a_file_that_answers_otherwise_does_not_appear(tmp_path, inputs, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(onnx, "CLOSE", -1.0)
    with pytest.raises(RunError, match=r"two\.onnx: the exported model differs"):
        export(inputs, tmp_path / "two.onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named_with_what_installs_it(tmp_path, inputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PluginError, match="ONNX needs onnxruntime") as caught:
        export(inputs, tmp_path / "two.onnx")
    assert "applied-papers[onnx]" in caught.value.hint
