"""Encoders: the default offline, foundation models built with random weights, local files, refusals."""

from __future__ import annotations

import json
import socket
from dataclasses import replace

import numpy as np
import pytest
import torch

from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.vision.encoders import _pooled
from appliedpapers.core.vision.networks import create
from appliedpapers.plugins.virtual_inking import encoders, features_h5
from appliedpapers.plugins.virtual_inking.colour_texture import DIM, describe
from appliedpapers.plugins.virtual_inking.config import EncoderConfig
from appliedpapers.plugins.virtual_inking.encoders import MODELS, Foundation, load_foundation, open_encoder
from appliedpapers.plugins.virtual_inking.phikon import under_timm_names

RNG = np.random.default_rng(3)
TILES = list(RNG.integers(0, 255, (3, 32, 32, 3), dtype=np.uint8))


def _small(name, **arguments):
    """Return a model of the registry with few layers, so that it fits: its form is kept."""
    model = MODELS[name]
    build = replace(model.build, arguments={**model.build.arguments, **arguments})
    return replace(model, build=build)


def test_the_default_encoder_needs_no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    encoder = open_encoder(EncoderConfig(), 32)
    features = encoder.encode(TILES)
    assert features.shape == (3, 1280)
    np.testing.assert_array_equal(encoder.encode(TILES[1:2])[0], features[1])
    assert encoder.calls == 4


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_foundation_model_gives_features_of_its_size(name):
    # numbers go through one layer: a whole one takes gigabytes, and its form is tested below
    encoder = load_foundation(_small(name, depth=1), EncoderConfig(name=name), random_weights=True)
    features = encoder.encode(TILES[:1])
    assert features.shape == (1, MODELS[name].build.dim)
    assert np.isfinite(features).all()
    assert MODELS[name].repository.count("/") == 1


WHOLE = {
    "uni": (24, 303),
    "uni2-h": (24, 681),
    "virchow": (32, 631),
    "virchow2": (32, 631),
    "h-optimus-0": (40, 1135),
    "h-optimus-1": (40, 1135),
    "gigapath": (40, 1135),
    "phikon": (12, 86),
    "phikon-v2": (24, 303),
}
"""Layers, and millions of parameters."""


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_whole_foundation_model_has_its_layers_and_its_features(name):
    """Without memory for weights: shapes alone go through all layers."""
    model = MODELS[name]
    arguments = {**model.build.arguments, **encoders._callables(model.extra)}
    with torch.device("meta"):
        network = create(model.build.network, arguments=arguments).eval()
        features = _pooled(network(torch.empty(2, 3, 224, 224)), model.build)
    assert features.shape == (2, model.build.dim)
    millions = sum(one.numel() for one in network.parameters()) / 1e6
    assert (len(network.blocks), round(millions)) == WHOLE[name]


def test_the_registry_says_what_its_table_says():
    assert {name: model.build.dim for name, model in MODELS.items()} == {
        "uni": 1024,
        "uni2-h": 1536,
        "virchow": 2560,
        "virchow2": 2560,
        "h-optimus-0": 1536,
        "h-optimus-1": 1536,
        "gigapath": 1536,
        "phikon": 768,
        "phikon-v2": 1024,
    }
    assert MODELS["virchow2"].build.prefix_tokens == 5
    assert MODELS["h-optimus-0"].build.preprocess.mean == (0.707223, 0.578729, 0.703617)
    assert MODELS["gigapath"].build.preprocess.resize == 256


def test_local_weights_are_found_by_path_and_by_the_registry_file(tmp_path, monkeypatch):
    model = _small("uni", depth=1, embed_dim=64, num_heads=2)
    model = replace(model, build=replace(model.build, dim=64))
    drawn = load_foundation(model, EncoderConfig(name="uni"), random_weights=True)
    path = tmp_path / "uni.bin"
    torch.save(drawn._network.state_dict(), path)
    expected = drawn.encode(TILES[:1])
    by_path = load_foundation(model, EncoderConfig(name="uni", weights=str(path)))
    np.testing.assert_array_equal(by_path.encode(TILES[:1]), expected)
    registry = tmp_path / "models.json"
    registry.write_text(json.dumps({"uni": str(path)}))
    monkeypatch.setenv(encoders.REGISTRY_FILE, str(registry))
    by_registry = load_foundation(model, EncoderConfig(name="uni"))
    assert by_registry.identity == by_path.identity
    # one tensor too few
    broken = dict(drawn._network.state_dict())
    broken.pop("norm.weight")
    torch.save(broken, path)
    with pytest.raises(DataError, match=r"norm\.weight"):
        load_foundation(model, EncoderConfig(name="uni", weights=str(path)))
    path.unlink()
    with pytest.raises(DataError, match="no such file of weights") as caught:
        load_foundation(model, EncoderConfig(name="uni", weights=str(path)))
    assert "MahmoodLab/UNI" in caught.value.hint


def test_absent_weights_name_the_page_with_the_licence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="not on this machine") as caught:
        open_encoder(EncoderConfig(name="virchow2", allow_download=True), 224)
    assert "paige-ai/Virchow2" in caught.value.hint
    assert "pytorch_model.bin" in caught.value.hint


@pytest.mark.parametrize("name", ["phikon", "phikon-v2"])
def test_phikons_weights_are_read_under_their_own_names(tmp_path, name):
    from safetensors.torch import save_file

    model: Foundation = _small(name, depth=1)
    drawn = load_foundation(model, EncoderConfig(name=name), random_weights=True)
    path = tmp_path / "model.safetensors"
    save_file(_their_names(drawn._network.state_dict(), dino=name == "phikon-v2"), path)
    read = load_foundation(model, EncoderConfig(name=name, weights=str(path)))
    np.testing.assert_array_equal(read.encode(TILES[:1]), drawn.encode(TILES[:1]))
    with pytest.raises(DataError, match="key, value"):
        under_timm_names({"encoder.layer.0.attention.attention.query.weight": torch.zeros(1)}, "file")


def _their_names(state, *, dino):
    inside = {
        "norm1": "norm1" if dino else "layernorm_before",
        "norm2": "norm2" if dino else "layernorm_after",
        "mlp.fc1": "mlp.fc1" if dino else "intermediate.dense",
        "mlp.fc2": "mlp.fc2" if dino else "output.dense",
        "attn.proj": "attention.output.dense",
        "ls1": "layer_scale1",
        "ls2": "layer_scale2",
    }
    found = {}
    for key, value in state.items():
        if not key.startswith("blocks."):
            name = key.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
            name = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings"}.get(
                key, name
            )
            found[name.replace("norm.", "layernorm.")] = value.contiguous()
            continue
        _, number, rest = key.split(".", 2)
        stem, ending = rest.rsplit(".", 1)
        start = f"encoder.layer.{number}."
        if stem == "attn.qkv":
            for role, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"{start}attention.attention.{role}.{ending}"] = part.contiguous()
        else:
            found[f"{start}{inside[stem]}.{'lambda1' if ending == 'gamma' else ending}"] = value.contiguous()
    return found


def test_a_torchscript_file_is_an_encoder(tmp_path):
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    path = tmp_path / "mean.pt"
    torch.jit.script(network).save(str(path))
    encoder = open_encoder(EncoderConfig(name=f"torchscript:{path}"), 32)
    assert encoder.encode(TILES).shape == (3, 12)
    path.write_bytes(b"noise")
    with pytest.raises(DataError, match="no TorchScript"):
        open_encoder(EncoderConfig(name=f"torchscript:{path}"), 32)


def test_an_onnx_file_is_an_encoder(tmp_path):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["x"], ["y"])],
        "mean",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 1, 1])],
    )
    path = tmp_path / "mean.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    assert open_encoder(EncoderConfig(name=f"onnx:{path}"), 32).encode(TILES).shape == (3, 3)


def test_unknown_encoders_and_16_bits_on_a_cpu_are_refused():
    with pytest.raises(ConfigError, match="unknown encoder 'unj'") as caught:
        open_encoder(EncoderConfig(name="unj"), 32)
    assert "uni" in caught.value.hint
    with pytest.raises(ConfigError, match="16 bits need a GPU"):
        open_encoder(EncoderConfig(half=True), 32)


def test_colour_and_texture_tell_dark_from_pale():
    pale = np.full((64, 64, 3), (230, 180, 210), dtype=np.uint8)
    dark = np.full((64, 64, 3), (90, 30, 90), dtype=np.uint8)
    found = np.stack([describe(pale), describe(dark), describe(np.full_like(pale, 255))])
    assert found.shape == (3, DIM)
    assert np.isfinite(found).all()
    assert found[0, 0] > found[1, 0]
    # haematoxylin and eosin rise with darkness
    assert (found[1, [6, 11]] > found[0, [6, 11]]).all()


def test_features_are_kept_in_the_layout_of_the_field(tmp_path):
    import h5py

    encoder = open_encoder(EncoderConfig(name="colour-texture"), 32)
    features, coords = encoder.encode(TILES), np.array([[0, 0], [32, 0], [64, 0]])
    attributes = {"patch_size": 32, "patch_size_level0": 64, "name": "a"}
    identity = {**encoder.identity.to_json(), "mpp": 0.5}
    for name in ("a.h5", "b.h5"):
        features_h5.write_features(tmp_path / name, features, coords, attributes, identity)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["features"].shape == (3, DIM)
        assert dict(file["coords"].attrs)["patch_size_level0"] == 64
    stored = features_h5.read_features(tmp_path / "a.h5")
    np.testing.assert_array_equal(stored.features, features)
    features_h5.require_encoder(stored, encoder.identity, 0.5, "a.h5")
    with pytest.raises(DataError, match=r"0\.5 um"):
        features_h5.require_encoder(stored, encoder.identity, 1.0, "a.h5")
    other = replace(encoder.identity, weights_sha256="0" * 64)
    with pytest.raises(DataError, match="another weights"):
        features_h5.require_encoder(stored, other, 0.5, "a.h5")
    # of files of others the size must fit
    foreign = replace(stored, identity={})
    features_h5.require_encoder(foreign, encoder.identity, 0.5, "a.h5")
    with pytest.raises(DataError, match="another encoder"):
        features_h5.require_encoder(foreign, replace(encoder.identity, dim=1024), 0.5, "a.h5")
    features_h5.write_clam(tmp_path / "a.pt", features)
    assert torch.equal(torch.load(tmp_path / "a.pt", weights_only=True), torch.from_numpy(features))


@pytest.mark.parametrize("content", [b"", b"noise", None])
def test_damaged_feature_files_are_named(tmp_path, content):
    import h5py

    path = tmp_path / "bad.h5"
    if content is None:
        with h5py.File(path, "w") as file:
            file["features"] = np.zeros((2, 4), dtype=np.float32)
            file["coords"] = np.zeros((3, 2), dtype=np.int64)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.h5"):
        features_h5.read_features(path)
