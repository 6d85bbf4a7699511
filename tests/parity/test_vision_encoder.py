"""The default encoder against golden features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from appliedpapers.core.vision import lite0
from appliedpapers.core.vision.encoders import load_encoder
from appliedpapers.core.vision.networks import create, read_weights


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "virtual-inking.npz") as file:
        return {name: file[name] for name in ("enc_tiles", "enc_feat")}


def test_features_agree_with_the_golden_ones(golden):
    found = load_encoder().encode(golden["enc_tiles"])
    expected = golden["enc_feat"]
    assert np.abs(found - expected).max() <= 1e-3
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() >= 0.9999


def test_all_296_tensors_of_the_package_find_their_place():
    renamed = lite0.under_timm_names(read_weights(lite0.weights_file()))
    network = create(lite0.NAME, classes=1000)
    assert len(renamed) == 296
    assert renamed.keys() == network.state_dict().keys()
    network.load_state_dict(renamed, strict=True)
    assert torch.equal(network.blocks[6][0].conv_pwl.weight, renamed["blocks.6.0.conv_pwl.weight"])
