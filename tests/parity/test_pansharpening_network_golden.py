"""Optics, losses, networks and schedules of pansharpening against reference values on a real scene."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from appliedpapers.plugins.pansharpening.degradation import degrade, low_pass, mtf_kernel
from appliedpapers.plugins.pansharpening.interpolation import Interpolator
from appliedpapers.plugins.pansharpening.losses import (
    PARITY_FLOOR,
    LocalCorrelation,
    SpectralLoss,
    StructuralLoss,
    structural_threshold,
)
from appliedpapers.plugins.pansharpening.network import RhoPnn, RPnn
from appliedpapers.plugins.pansharpening.operators import Observation
from appliedpapers.plugins.pansharpening.rhopnn import iteration_caps
from appliedpapers.plugins.pansharpening.scene import Optics, Sensor

pytestmark = pytest.mark.shared

BAND, INFRARED = 3, 6
OPTICS = Optics(6, "reference", Sensor(0.30, 0.20), "circular", normalize_kernel=False)


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "pansharpening.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def scene(golden):
    """The scene as public code normalises it, in double precision."""

    def tensor(name):
        return torch.tensor(golden[name].astype(np.float32) / 65_536, dtype=torch.float64)

    return SimpleNamespace(
        pan=tensor("pan")[None, None],
        interpolated=tensor("hs_exp_rounded")[:, None],
        coarse=tensor("hs_lr")[:, None],
    )


def apart(found, expected):
    """Largest difference, relative to the largest expected value."""
    expected = np.asarray(expected, dtype=np.float64)
    return np.abs(np.asarray(found, dtype=np.float64) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
    ("key", "gain", "ratio", "taps"),
    [
        ("mtf_kernel_g0.30_r6_k41", 0.3, 6, 41),
        ("mtf_kernel_g0.30_r6_k61", 0.3, 6, 61),
        ("mtf_kernel_g0.30_r4_k41", 0.3, 4, 41),
        ("mtf_kernel_g0.30_r3_k41", 0.3, 3, 41),
        ("mtf_kernel_pan_g0.20_r6_k41", 0.2, 6, 41),
    ],
)
def test_kernels(golden, key, gain, ratio, taps):
    assert apart(mtf_kernel(gain, ratio, taps, normalize=False), golden[key]) < 1e-12


def test_low_pass_and_decimation(golden):
    truth, kernel = golden["gt"].astype(float), mtf_kernel(0.3, 6, normalize=False)
    assert apart(low_pass(truth[[0, 5]], kernel), golden["mtf_filtered_f64_b05"]) < 1e-6
    assert apart(degrade(truth, 6, 0.3, normalize=False), golden["mtf_decimated_f64"]) < 1e-6
    kernel = mtf_kernel(0.2, 6, normalize=False)
    assert apart(low_pass(golden["pan"], kernel), golden["pan_mtf_filtered_f64"]) < 1e-6


@pytest.mark.parametrize(
    ("key", "ratio", "bands"),
    [
        ("interp_x6_f64_b05", 6, [0, 5]),
        ("interp_x4_23tap_f64_b01", 4, [0, 1]),
        ("interp_x3_sinc_f64_b05", 3, [0, 5]),
        ("interp_x2_23tap_f64_b05", 2, [0, 5]),
    ],
)
def test_interpolation(golden, key, ratio, bands):
    interpolate = Interpolator((22, 22), ratio, "reference", "circular")
    assert apart(interpolate(golden["hs_lr"].astype(float)[bands]), golden[key]) < 1e-6


@pytest.mark.parametrize(
    ("key", "clip"),
    [("xcorr_clipped_expband_pan_w3", True), ("xcorr_unclipped_expband_pan_w3", False)],
)
def test_local_correlation(golden, scene, key, clip):
    rho = LocalCorrelation(scene.pan, 3, clip=clip, floor=PARITY_FLOOR)
    assert apart(rho(scene.interpolated[BAND : BAND + 1])[0, 0], golden[key]) < 1e-6


def losses(scene, *, thresholded):
    band = scene.interpolated[BAND : BAND + 1]
    observe = Observation((132, 132), OPTICS, 0.3, dtype=torch.float64)
    spectral = SpectralLoss(observe, scene.coarse[BAND : BAND + 1][..., observe.rows, observe.columns])
    rho = LocalCorrelation(scene.pan, 3, clip=thresholded, floor=PARITY_FLOOR)
    threshold = (
        structural_threshold(band, scene.pan, OPTICS, 0.3, floor=PARITY_FLOOR) if thresholded else None
    )
    return spectral, StructuralLoss(rho, threshold)


def test_threshold_and_structural_loss_of_r_pnn(golden, scene):
    band = scene.interpolated[BAND : BAND + 1]
    _, structural = losses(scene, thresholded=True)
    assert apart(structural.threshold[0, 0], golden["rpnn_threshold_mask"]) < 1e-4
    everything = StructuralLoss(structural.correlate, torch.full_like(structural.threshold, -1.0))
    found = [structural(band).item(), everything(band).item()]
    assert found == pytest.approx(golden["rpnn_struct_loss_exp"], rel=1e-6)


def test_spectral_loss_and_structural_loss_of_rho_pnn(golden, scene):
    spectral, structural = losses(scene, thresholded=False)
    band = scene.interpolated[BAND : BAND + 1]
    # the reference value was computed in single precision
    assert spectral(band).item() == pytest.approx(float(golden["rpnn_spec_loss_exp"]), rel=1e-4)
    assert structural(band).item() == pytest.approx(float(golden["rho_struct_loss_exp"]), rel=1e-6)
    infrared = scene.interpolated[INFRARED : INFRARED + 1]
    assert structural(infrared).item() == pytest.approx(float(golden["rho_struct_loss_nirband6"]), rel=1e-6)


def formula_weights(network):
    with torch.no_grad():
        for number, layer in enumerate(network.layers, 1):
            index = torch.arange(layer.weight.numel(), dtype=torch.float64)
            channel = torch.arange(layer.bias.numel(), dtype=torch.float64)
            share = 0.02 if number == 3 else 1.0
            weight = torch.sin(1.7 * number * index + 0.3) / layer.weight[0].numel() ** 0.5
            layer.weight.copy_(share * weight.view_as(layer.weight))
            layer.bias.copy_(share * 0.01 * torch.cos(channel + number))
    return network


@pytest.mark.parametrize(("kind", "key", "parameters"), [(RPnn, "rpnn", 43_473), (RhoPnn, "rho", 80_849)])
def test_network_and_five_steps_of_adam(golden, scene, kind, key, parameters):
    network = formula_weights(kind().double())
    assert sum(value.numel() for value in network.parameters()) == parameters
    band = scene.interpolated[BAND : BAND + 1]
    spectral, structural = losses(scene, thresholded=kind is RPnn)
    with torch.no_grad():
        sharp = network(band, scene.pan)
    assert apart(sharp[0, 0], golden[f"{key}_formula_weights_out_f64"]) < 1e-6
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    trace = []
    for _ in range(5):
        sharp = network(band, scene.pan)
        parts = spectral(sharp), structural(sharp)
        total = parts[0] + 0.5 * parts[1]
        trace.append([parts[0].item(), parts[1].item(), total.item()])
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert trace == pytest.approx(golden[f"{key}_formula_5steps_spec_struct_total_f64"], rel=1e-6)
    bias = network.layers[2].bias.detach().numpy()
    assert apart(bias, golden[f"{key}_formula_5steps_bias_out"]) < 1e-6


@pytest.mark.parametrize(("key", "steps"), [("rho_iteration_caps_fr", 20), ("rho_iteration_caps_rr", 5)])
def test_iteration_caps(golden, key, steps):
    coarse = golden["hs_lr"]
    stand_in = SimpleNamespace(hs=coarse, hs_valid=np.ones(coarse.shape[1:], dtype=bool))
    assert iteration_caps(stand_in, range(8), steps, 30.0).tolist() == golden[key].tolist()
