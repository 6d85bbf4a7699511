"""Networks, boxes, crops and the paper's gradient, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from appliedpapers.plugins.varifocal_net import crop
from appliedpapers.plugins.varifocal_net.network import Backbone


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "varifocal-net.npz") as file:
        return {name: file[name] for name in file.files}


def test_backbones_have_as_many_parameters_as_the_reference(golden):
    for width, expected in zip(golden["wrn_channels"].tolist(), golden["wrn_params"], strict=True):
        found = sum(one.numel() for one in Backbone(tuple(width), 4).parameters())
        assert found == expected


@pytest.mark.parametrize("size", [256, 128, 64])
def test_boxes(golden, size):
    box = crop.box_of(torch.tensor(golden["box_u"]), size)
    assert np.abs(box.corners().numpy() - golden[f"box{size}_float"]).max() < 1e-9
    assert (crop.integer_box(box, size).numpy() == golden[f"box{size}_int"]).all()


def test_the_first_target_of_the_localiser(golden):
    width, height = torch.tensor(golden["loc_wh"]).unbind(1)
    found = crop.localiser_target(width, height, 256).double()
    assert np.abs(found[:, 2].numpy() - golden["loc_ul"]).max() < 1e-7
    assert (found[:, :2] == 0.5).all()


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_the_integer_crop(golden, kind, tolerance):
    image = torch.tensor(golden["crop_img"], dtype=kind).expand(8, 1, 64, 64)
    found = crop.crop_integer(image, torch.tensor(golden["box64_int"]), 32)[:, 0]
    assert np.abs(found.numpy() - golden["crop_out"]).max() < tolerance


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_the_mask_and_its_partials(golden, kind, tolerance):
    xc, yc, t = (torch.tensor([value], dtype=kind) for value in golden["boxcar_ctl"])
    pixels = torch.arange(64, dtype=kind)[None]
    x, y = crop.mask_edges(pixels, xc, t), crop.mask_edges(pixels, yc, t)
    found = {
        "value": torch.outer(y.inside[0], x.inside[0]),
        "d_tx": torch.outer(y.inside[0], x.moved[0]),
        "d_ty": torch.outer(y.moved[0], x.inside[0]),
        "d_tl": torch.outer(y.inside[0], x.grown[0]) + torch.outer(y.grown[0], x.inside[0]),
    }
    for name, value in found.items():
        expected = golden[f"boxcar_{name}"]
        assert np.abs(value.numpy() - expected).max() < tolerance * max(np.abs(expected).max(), 1), name


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_the_papers_gradient(golden, number, kind):
    u = torch.tensor(golden[f"pg{number}_u"], dtype=kind)[None]
    gradient = torch.tensor(golden[f"pg{number}_G"], dtype=kind)[None]
    found = crop.mask_gradient(u, gradient, 64, limit=None)[0]
    assert found.numpy() == pytest.approx(golden[f"pg{number}_grad"], rel=1e-3)
    limited = crop.mask_gradient(u, gradient, 64)[0]
    assert float(limited.norm()) == pytest.approx(1.0, rel=1e-5)
    assert torch.allclose(limited * found.norm(), found, rtol=1e-4)
