"""The exported model answers as ours does, whatever its calibration and its fields."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_clicks import batch_of, clicks, configured, fitted, mixed_fields, random_rows, small_network

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.calibration import Steps, fit_calibrator
from appliedpapers.core.errors import BundleError, ConfigError, PluginError, RunError
from appliedpapers.core.features.encoded import EncodedField
from appliedpapers.plugins.finalmlp.onnx import CalibratedNetworks, export_onnx, onnx_inputs

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
NEW = clicks(300, seed=7)


def answers(path, rows):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = onnx_inputs(rows)
    return session.run(None, {item.name: inputs[item.name] for item in session.get_inputs()})[0]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A model with every kind of field, in a bundle with its ONNX form."""
    folder = tmp_path_factory.mktemp("onnx")
    options = ("model.onnx=true", "training.epochs=1", "model.calibration=isotonic")
    model = fitted(configured(*options), folder / "run")
    save_bundle(model, folder / "bundle", plugin="finalmlp", task="binary-classification")
    return model, folder / "bundle"


@pytest.mark.parametrize("rows", [1, 2, 37, 300])
def test_a_stored_onnx_model_gives_the_same_probabilities_for_any_number_of_rows(stored, rows):
    model, folder = stored
    encoded = model.encoder.encode(NEW.slice(0, rows))
    expected = model.calibrator(model.logits(encoded))
    found = answers(folder / "model.onnx", encoded)
    assert found.shape == (rows,)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_onnx_file_is_sealed_with_the_bundle(stored):
    _, folder = stored
    path = folder / "model.onnx"
    content = path.read_bytes()
    before = hashlib.sha256(content).hexdigest()
    load_bundle(folder)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"model\.onnx"):
        load_bundle(folder)
    path.write_bytes(content)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_a_row_without_any_token_gets_a_probability(stored):
    model, folder = stored
    empty = NEW.slice(0, 3).set_column(
        NEW.column_names.index("tags"), "tags", pa.array([[], None, ["t1"]], pa.list_(pa.string()))
    )
    encoded = model.encoder.encode(empty)
    expected = model.calibrator(model.logits(encoded))
    np.testing.assert_allclose(answers(folder / "model.onnx", encoded), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["none", "platt", "temperature", "isotonic"])
def test_every_calibration_is_part_of_the_graph(method):
    fields = mixed_fields()
    rows = random_rows(fields, 600)
    network = small_network(fields).eval()
    module = CalibratedNetworks([network], fit_calibrator("none", np.zeros(2), np.array([0, 1])))
    inputs = [torch.from_numpy(value) for value in onnx_inputs(rows).values()]
    with torch.no_grad():
        logits = torch.logit(module(*inputs).double()).numpy()
        calibrator = fit_calibrator(method, logits, rows.label)
        found = CalibratedNetworks([network], calibrator)(*inputs).numpy()
    np.testing.assert_allclose(found, calibrator(logits), rtol=0, atol=2e-5)


def test_knots_that_are_one_in_32_bits_leave_no_gap():
    close = 1.0 + np.array([0.0, 1e-9])
    knots = np.concatenate([-2 - close[::-1], [0.0], close])
    steps = Steps(knots, np.array([0.1, 0.2, 0.5, 0.7, 0.8]))

    class Echo(torch.nn.Module):
        def forward(self, batch):
            return batch.numbers[:, 0]

    asked = np.array([-9.0, -3.0, -1.5, 0.0, 0.5, 1.0, 9.0])
    numbers = torch.from_numpy(asked.astype(np.float32))[:, None]
    found = CalibratedNetworks([Echo()], steps)(torch.zeros(7, 0, dtype=torch.int64), numbers).numpy()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[[0, 2, 3, 4, 6]], steps(asked)[[0, 2, 3, 4, 6]], atol=1e-6)


def test_logits_beyond_the_knots_get_the_outermost_chances():
    logits = np.linspace(-3, 3, 400)
    labels = (np.random.default_rng(0).random(400) < 1 / (1 + np.exp(-logits))).astype(float)
    calibrator = fit_calibrator("isotonic", logits, labels)

    class Echo(torch.nn.Module):
        def forward(self, batch):
            return batch.numbers[:, 0]

    asked = np.concatenate([[-50.0, -3.1, 3.1, 50.0], calibrator.knots, np.linspace(-4, 4, 97)])
    numbers = torch.from_numpy(asked.astype(np.float32))[:, None]
    ids = torch.zeros(len(asked), 0, dtype=torch.int64)
    found = CalibratedNetworks([Echo()], calibrator)(ids, numbers).numpy()
    np.testing.assert_allclose(found, calibrator(asked.astype(np.float32)), rtol=0, atol=1e-5)


def test_categories_alone_can_be_exported(tmp_path):
    fields = tuple(EncodedField(name, "categorical", 7, 0, name) for name in "ab")
    calibrator = fit_calibrator("none", np.zeros(2), np.array([0, 1]))
    network = small_network(fields, contexts=((), (1,))).eval()
    export_onnx([network], calibrator, fields, tmp_path / "model.onnx")
    rows = random_rows(fields, 33)
    with torch.no_grad():
        expected = torch.sigmoid(network(batch_of(rows))).numpy()
    np.testing.assert_allclose(answers(tmp_path / "model.onnx", rows), expected, rtol=0, atol=1e-5)


def test_the_graph_of_an_ensemble_is_the_mean_of_its_logits():
    fields = mixed_fields()
    rows = random_rows(fields, 40)
    networks = [small_network(fields, seed=seed).eval() for seed in range(3)]
    calibrator = fit_calibrator("none", np.zeros(2), np.array([0, 1]))
    inputs = [torch.from_numpy(value) for value in onnx_inputs(rows).values()]
    with torch.no_grad():
        found = CalibratedNetworks(networks, calibrator)(*inputs)
        expected = torch.sigmoid(torch.stack([network(batch_of(rows)) for network in networks]).mean(dim=0))
    torch.testing.assert_close(found, expected)


def test_a_file_that_answers_otherwise_is_refused_and_not_left_behind(stored, tmp_path, monkeypatch):
    model, folder = stored
    content = (folder / "model.onnx").read_bytes()
    monkeypatch.setattr(torch.onnx, "export", lambda *inputs, **options: Path(inputs[2]).write_bytes(content))
    networks, calibrator, fields = model.networks, model.calibrator, model.encoder.fields
    with pytest.raises(RunError, match="differs from ours"):
        export_onnx([small_network(fields).eval()], calibrator, fields, tmp_path / "model.onnx")
    export_onnx(networks, calibrator, fields, tmp_path / "same" / "model.onnx")
    (tmp_path / "same" / "model.onnx").unlink()
    (tmp_path / "same").rmdir()
    assert not list(tmp_path.iterdir())


def test_without_the_libraries_the_package_to_install_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    calibrator = fit_calibrator("none", np.zeros(2), np.array([0, 1]))
    with pytest.raises(PluginError, match="ONNX needs onnxscript") as caught:
        export_onnx([small_network(mixed_fields())], calibrator, mixed_fields(), tmp_path / "model.onnx")
    assert "applied-papers[onnx]" in caught.value.hint


@pytest.mark.parametrize("option", ["model.blend=lightgbm", "cascade.weak=lightgbm"])
def test_what_onnx_cannot_hold_is_refused_beforehand(option):
    with pytest.raises(ConfigError, match=r"model\.onnx"):
        configured("model.onnx=true", option)
