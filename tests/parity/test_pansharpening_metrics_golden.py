"""Metrics of pansharpening against reference values on a real scene of 8 bands."""

from __future__ import annotations

import json

import numpy as np
import pytest

from appliedpapers.plugins.pansharpening import fidelity
from appliedpapers.plugins.pansharpening.correlation import local_correlation
from appliedpapers.plugins.pansharpening.degradation import degrade
from appliedpapers.plugins.pansharpening.full_resolution import d_lambda, d_rho, d_s, d_sr, qnr
from appliedpapers.plugins.pansharpening.q2n import q2n_map

RATIO = 6
FUSED = {"exp": "hs_exp_rounded", "pert": "pert"}

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "pansharpening.npz") as file:
        kept = ("gt", "pan", "hs_lr", "hs_exp_rounded", "pert", "metrics_json")
        return {name: file[name] for name in file.files if name in kept or "Q2n" in name or "xcorr" in name}


@pytest.fixture(scope="module")
def published(golden):
    return json.loads(str(golden["metrics_json"]))


@pytest.fixture(params=["exp", "pert"])
def name(request):
    return request.param


def cubes(golden, name):
    return golden["gt"].astype(np.float64), golden[FUSED[name]].astype(np.float64)


def test_ergas_and_sam(golden, published, name):
    truth, fused = cubes(golden, name)
    first, second = (np.clip(fidelity.cut(cube), 0, 65536) for cube in (truth, fused))
    expected = published[f"{name}_rr_cut_ERGAS,SAM,Q2n"]
    assert fidelity.ergas(first, second, RATIO) == pytest.approx(expected[0], rel=1e-6)
    assert fidelity.sam(first, second, parity=True) == pytest.approx(expected[1], abs=1e-3)
    assert fidelity.ergas(truth, fused, RATIO) == pytest.approx(published[f"{name}_rr_full_ERGAS"], rel=1e-6)
    assert fidelity.sam(truth, fused, parity=True) == pytest.approx(
        published[f"{name}_rr_full_SAM"], abs=1e-3
    )


def test_q2n(golden, published, name):
    truth, fused = cubes(golden, name)
    blocks = q2n_map(truth[:, :128, :128], fused[:, :128, :128])
    np.testing.assert_allclose(blocks, golden[f"{name}_Q2n_map_128crop"], rtol=1e-4)
    assert blocks.mean() == pytest.approx(published[f"{name}_rr_128crop_Q2n"], abs=1e-5)
    # square: the sides that public code confuses are equal
    assert q2n_map(truth, fused).mean() == pytest.approx(published[f"{name}_rr_full_Q2n_b32s32"], abs=1e-5)


def test_psnr_cc_and_ssim(golden, published, name):
    truth, fused = cubes(golden, name)
    found = [
        metric(truth, fused).mean() for metric in (fidelity.band_psnr, fidelity.band_cc, fidelity.band_ssim)
    ]
    keys = ("PSNR_peakGTmax_bandmean", "CC_bandmean", "SSIM_bandmean_skimage_gauss_rangeGTmaxmin")
    assert found == pytest.approx([published[f"{name}_{key}"] for key in keys], rel=1e-6)


def test_uiqi(golden, published, name):
    truth, fused = cubes(golden, name)
    expected = published[f"{name}_Q_uiqi_b32_mean"]
    exact = np.mean([fidelity.uiqi(a, b) for a, b in zip(truth, fused, strict=True)])
    # the reference adds up 1,024 numbers in float32, one after the other: that is where they differ
    assert exact == pytest.approx(expected, abs=1e-4)
    assert uiqi_in_float32(truth, fused) == pytest.approx(expected, abs=1e-6)


def uiqi_in_float32(truth, fused, box=32):
    import torch
    from torch.nn.functional import conv2d

    x, y = (torch.from_numpy(cube.astype(np.float32)) for cube in (truth, fused))
    kernel = torch.ones(len(truth), 1, box, box)
    a, b, aa, bb, ab = (conv2d(one[None], kernel, groups=len(truth)) for one in (x, y, x * x, y * y, x * y))
    product, squares, size = a * b, a * a + b * b, box * box
    above = 4 * (size * ab - product) * product
    return float((above / ((size * (aa + bb) - squares) * squares)).mean())


def test_full_resolution(golden, published, name):
    fused, coarse = golden[FUSED[name]].astype(np.float64), golden["hs_lr"].astype(np.float64)
    pan = golden["pan"].astype(np.float64)
    sensed = degrade(fused, RATIO, 0.3, "reference", normalize=False)
    spectral, spatial = d_lambda(sensed, coarse), d_sr(fused, pan)
    expected = published[f"{name}_fr_Dlambda,DsR,QNR"]
    assert spectral == pytest.approx(expected[0], abs=1e-4)
    assert spatial == pytest.approx(expected[1], rel=1e-6)
    assert qnr(spectral, spatial) == pytest.approx(expected[2], abs=1e-4)
    assert d_s(fused, coarse, pan, RATIO) == pytest.approx(published[f"{name}_D_s_q1_b32"], abs=1e-4)
    assert d_rho(fused, pan, RATIO) == pytest.approx(published[f"{name}_D_rho"], abs=1e-4)


@pytest.mark.parametrize("clip", [True, False])
def test_local_correlation(golden, clip):
    band, pan = ((golden[key] / np.float32(65536)).astype(np.float32) for key in ("hs_exp_rounded", "pan"))
    expected = golden[f"xcorr_{'clipped' if clip else 'unclipped'}_expband_pan_w3"]
    found = local_correlation(band[3], pan, 3, clip_negative=clip)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_a_real_pair(shared):
    """Interpolation of the Paris pair, D_lambda on its first 32 x 32 coarse pixels."""
    from scipy.io import loadmat

    from appliedpapers.plugins.pansharpening.assessment import at_full_resolution
    from appliedpapers.plugins.pansharpening.scene import Optics, Scene

    file = loadmat(shared / "data" / "pansharpening" / "paris_data_hs_pan.mat")
    cube, pan = file["HSim"].transpose(2, 0, 1), file["PCim"]
    optics = Optics(3, "reference", boundary="circular", normalize_kernel=False)
    scene = Scene.of("paris", cube, pan, optics, unit=1e-4)
    found = at_full_resolution(scene, scene.interpolator(scene.hs), window="top-left")
    figures = (found.d_lambda, found.d_sr, found.qnr)
    assert figures == pytest.approx((0.0417, 0.4136, 0.562), abs=2e-4)
    assert found.lr_ergas == pytest.approx(2.017, abs=1e-3)
