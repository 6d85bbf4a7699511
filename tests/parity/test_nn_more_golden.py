"""DARUAN gives the expectation of Z of the reference circuit, and not the public default's quantity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from appliedpapers.nn.daruan import DARUAN


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, torch.Tensor]:
    with np.load(shared / "golden" / "nn-modules.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files if name.startswith("daruan")}


def loaded(golden, dtype: torch.dtype) -> DARUAN:
    module = DARUAN(6, reps=3, dtype=dtype)
    with torch.no_grad():
        module.theta.copy_(golden["daruan.w.theta"].permute(1, 2, 0))
        module.weight.copy_(golden["daruan.w.preacts_weight"].t())
        module.shift.copy_(golden["daruan.w.preacts_bias"].t())
        module.post_weight.copy_(golden["daruan.w.postact_weights"])
        module.post_bias.copy_(golden["daruan.w.postact_bias"])
    return module


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_activation_is_the_expectation_of_z(golden, dtype, tolerance):
    ours = loaded(golden, dtype)(golden["daruan.x"].to(dtype)).double()
    assert float((ours - golden["daruan.z_expectation"]).detach().abs().max()) <= tolerance


def test_the_activation_is_not_the_public_default(golden):
    z = loaded(golden, torch.float64)(golden["daruan.x"].double()).detach()
    theirs = golden["daruan.y"].double()
    assert float((z - theirs).abs().max()) > 0.1
    public = ((1 + z) / 2).sqrt() - ((1 - z) / 2).sqrt()
    assert float((public - theirs).abs().max()) < 1e-5
