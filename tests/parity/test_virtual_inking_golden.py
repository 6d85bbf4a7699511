"""Tilings, optical density, profiles, regions, distances, masks and encoder against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from appliedpapers.plugins.virtual_inking import decision, measures, tissue
from appliedpapers.plugins.virtual_inking.config import EncoderConfig, MaskConfig, SlideConfig
from appliedpapers.plugins.virtual_inking.simulator_stains import STAINS, cauterise, to_stains
from appliedpapers.plugins.virtual_inking.slides import open_slide
from appliedpapers.plugins.virtual_inking.tiling import plan_tiles

PROFILES = [*range(9), "r"]


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "virtual-inking.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("case", range(8))
def test_tilings_are_exact(golden, case):
    width, height, mpp_x, mpp_y, pixels, target, stride = golden[f"t{case}_in"].tolist()
    found = plan_tiles(
        (int(width), int(height)),
        (mpp_x, mpp_y),
        golden[f"t{case}_ds"].tolist(),
        pixels=int(pixels),
        target_mpp=target,
        stride=int(stride),
    )
    assert found.size0 == tuple(golden[f"t{case}_size0"])
    assert found.level == golden[f"t{case}_level"]
    assert found.read == tuple(golden[f"t{case}_read"])
    np.testing.assert_array_equal(found.xs, golden[f"t{case}_x"])
    np.testing.assert_array_equal(found.ys, golden[f"t{case}_y"])
    assert found.upsampled == (str(golden[f"t{case}_name"]) == "upsample")


def test_cautery_in_optical_density(golden):
    np.testing.assert_allclose(STAINS, golden["od_matrix"], atol=1e-12)
    np.testing.assert_allclose(to_stains(golden["od_rgb"]), golden["od_stains"], atol=1e-6)
    np.testing.assert_allclose(cauterise(golden["od_rgb"], golden["od_z"]), golden["od_out"], atol=1e-6)


@pytest.mark.parametrize("case", PROFILES)
def test_profiles_are_smoothed_and_labelled(golden, case):
    profile = golden[f"c{case}_p"]
    np.testing.assert_allclose(decision.smooth_circular(profile, 3), golden[f"c{case}_smooth"], atol=1e-9)
    labels = decision.potts(profile, 1.5)
    expected = float(golden[f"c{case}_potts_cost"])
    assert decision.potts_cost(profile, labels, 1.5) == pytest.approx(expected, abs=1e-9)
    np.testing.assert_array_equal(labels, golden[f"c{case}_potts"] == 1)


@pytest.mark.parametrize("case", range(9))
def test_gaps_are_bridged_before_short_runs_are_dropped(golden, case):
    final = decision.bridge_and_drop(golden[f"c{case}_p"] > 0.5, 50.0, gap=250, shortest=300)
    np.testing.assert_array_equal(final, golden[f"c{case}_final"])
    assert decision.runs(final) == [tuple(run) for run in golden[f"c{case}_runs"].tolist()]


def test_regions_and_their_accuracy(golden):
    truth = measures.arc_labels(golden["g_true"], 20)
    predicted = measures.arc_labels(golden["g_pred"], 20)
    np.testing.assert_array_equal(truth, golden["g_arc_true"])
    np.testing.assert_array_equal(predicted, golden["g_arc_pred"])
    assert np.mean(truth == predicted) == pytest.approx(float(golden["g_acc"]))
    assert measures.balanced_accuracy(truth, predicted) == pytest.approx(float(golden["g_bal"]))


def test_distances(golden):
    a, b = [golden["h_a"]], [golden["h_b"]]
    assert measures.hausdorff(a, b) == pytest.approx(float(golden["h_hd"]), abs=1)
    assert measures.hausdorff(a, b, 0.95) == pytest.approx(float(golden["h_hd95"]), abs=1)
    assert measures.boundary_f1(a, b, 200) == pytest.approx(float(golden["h_bf200"]), abs=1e-3)
    found = measures.clearance(golden["h_tumour"], [golden["h_margin"]])
    assert found.minimum == pytest.approx(float(golden["h_min"]), abs=1)
    assert found.percentile_5 == pytest.approx(float(golden["h_p5"]), abs=1)
    assert found.where == pytest.approx(golden["h_where"].tolist(), abs=1)


@pytest.mark.parametrize(
    ("name", "file", "mpp"),
    [("cmu", "cmu-1-small-region.svs", None), ("tcga", "tcga-cr-7395-01a-01-ts1.svs", 0.5)],
)
def test_masks_of_real_slides(shared, golden, name, file, mpp):
    slide = open_slide(shared / "data" / "virtual-inking" / file, SlideConfig(), mpp=mpp)
    thumbnail, own = slide.thumbnail(8.0)
    slide.close()
    shape = tuple(golden[f"mask_{name}_shape"])
    assert thumbnail.shape[:2] == shape
    found = tissue.find_tissue(thumbnail, own, MaskConfig(pen=False))
    expected = np.unpackbits(golden[f"mask_{name}"])[: shape[0] * shape[1]].reshape(shape).astype(bool)
    assert found.otsu == pytest.approx(float(golden[f"mask_{name}_otsu"]), abs=1)
    assert (found.tissue & expected).sum() / (found.tissue | expected).sum() >= 0.98
    # nobody drew on these
    assert tissue.find_pen(thumbnail, MaskConfig()).sum() == 0


def test_pen_is_found_and_nothing_else(shared, golden):
    from PIL import Image

    picture = np.asarray(
        Image.open(shared / "data" / "virtual-inking" / "green_pen_thumb.jpg").convert("RGB")
    )
    shape = tuple(golden["pen_shape"])
    expected = np.unpackbits(golden["pen_mask"])[: shape[0] * shape[1]].reshape(shape).astype(bool)
    found = tissue.find_pen(picture, MaskConfig())
    assert found[expected].mean() >= 0.85
    assert found[~expected].mean() <= 0.05


def test_features_of_the_default_encoder(golden):
    from appliedpapers.plugins.virtual_inking.encoders import open_encoder

    found = open_encoder(EncoderConfig(), 224).encode(list(golden["enc_tiles"]))
    np.testing.assert_allclose(found, golden["enc_feat"], atol=1e-3)
    products = (found * golden["enc_feat"]).sum(axis=1)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(golden["enc_feat"], axis=1)
    assert (products / lengths).min() >= 0.9999
