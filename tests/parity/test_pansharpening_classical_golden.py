"""Classical methods against reference values: 8 bands of San Francisco, ratio 6, parity mode."""

from __future__ import annotations

import json

import numpy as np
import pytest

from appliedpapers.plugins.pansharpening.classical import sharpen, whole
from appliedpapers.plugins.pansharpening.scene import Optics, Scene, Sensor

pytestmark = pytest.mark.shared
SAVED = [0, 5]
KEYS = {"gsa": "gsa", "bt-h": "bt_h", "mtf-glp-fs": "mtf_glp_fs"}


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "pansharpening.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def products(golden):
    optics = Optics(6, "reference", Sensor(0.3, 0.2), "circular", normalize_kernel=False)
    hs, pan = golden["hs_lr"].astype(np.float32), golden["pan"].astype(np.float32)
    scene = Scene.of("golden", hs, pan, optics, wavelengths=golden["wavelengths_nm"])
    expanded = golden["hs_exp_rounded"]
    return {m: whole(sharpen(m, scene, parity=True, expanded=expanded), scene) for m in KEYS}


@pytest.mark.parametrize("method", ["bt-h", "mtf-glp-fs"])
def test_products_are_those_of_the_reference(golden, products, method):
    expected = golden[f"{KEYS[method]}_f32_b05"]
    assert np.abs(products[method][SAVED] - expected).max() < 0.01


def test_gsa_differs_from_the_reference_at_its_edges_only(golden, products):
    difference = products["gsa"][SAVED] - golden["gsa_f32_b05"]
    assert np.sqrt((difference**2).mean()) <= 0.2
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("method", list(KEYS))
def test_scores_are_those_of_the_reference(golden, products, method):
    truth = golden["gt"].astype(np.float64)[:, 10:-11, 10:-11]
    product = np.clip(products[method], 0, 65536).astype(np.float64)[:, 10:-11, 10:-11]
    error = ((product - truth) ** 2).mean(axis=(1, 2)) / truth.mean(axis=(1, 2)) ** 2
    cosine = (product * truth).sum(axis=0) / np.sqrt((product**2).sum(axis=0) * (truth**2).sum(axis=0))
    scores = 100 / 6 * np.sqrt(error.mean()), np.degrees(np.arccos(cosine)).mean()
    expected = json.loads(str(golden["metrics_json"]))[f"{KEYS[method]}_rr_cut_ERGAS,SAM"]
    np.testing.assert_allclose(scores, expected, rtol=2e-4 if method == "gsa" else 1e-5)
