"""Metrics beside a truth: by hand, by scipy and scikit-learn, and what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.plugins.pansharpening import fidelity
from appliedpapers.plugins.pansharpening.correlation import box_sums, local_correlation


def cubes(seed=0, bands=4, height=40, width=36, noise=0.1):
    random = np.random.default_rng(seed)
    truth = 1000 * random.uniform(0.2, 1, (bands, height, width))
    return truth, truth * (1 + noise * random.standard_normal(truth.shape))


def test_ergas_by_hand():
    truth = np.stack([np.full((4, 4), 10.0), np.full((4, 4), 20.0)])
    fused = truth + np.array([1.0, 4.0])[:, None, None]
    assert fidelity.ergas(truth, fused, 5) == pytest.approx(100 / 5 * np.sqrt((0.01 + 0.04) / 2))


def test_sam_by_hand_and_pixels_without_a_spectrum():
    truth = np.array([[[1.0, 0.0, 2.0]], [[0.0, 0.0, 0.0]]])
    fused = np.array([[[1.0, 5.0, 0.0]], [[1.0, 5.0, 3.0]]])
    assert fidelity.angles(truth, fused)[0] == pytest.approx([45.0, np.nan, 90.0], nan_ok=True)
    assert fidelity.sam(truth, fused) == pytest.approx(67.5)
    assert fidelity.sam(truth, fused, parity=True) == pytest.approx(45.0)
    assert np.isnan(fidelity.sam(0 * truth, fused))


def test_correlation_rmse_and_psnr_agree_with_their_definitions():
    truth, fused = cubes()
    for band in range(4):
        a, b = truth[band].ravel(), fused[band].ravel()
        assert fidelity.band_cc(truth, fused)[band] == pytest.approx(np.corrcoef(a, b)[0, 1])
        assert fidelity.band_rmse(truth, fused)[band] == pytest.approx(np.sqrt(np.mean((a - b) ** 2)))
        expected = 20 * np.log10(a.max() / np.sqrt(np.mean((a - b) ** 2)))
        assert fidelity.band_psnr(truth, fused)[band] == pytest.approx(expected)
    assert np.isnan(fidelity.band_cc(np.ones((1, 3, 3)), np.ones((1, 3, 3)))).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-4, 10.0, 65536.0]))
def test_no_metric_but_rmse_depends_on_the_unit(seed, scale):
    truth, fused = cubes(seed, bands=3, height=16, width=14)
    for metric in (fidelity.band_cc, fidelity.band_psnr, fidelity.band_ssim):
        np.testing.assert_allclose(metric(scale * truth, scale * fused), metric(truth, fused), rtol=1e-9)
    assert fidelity.ergas(scale * truth, scale * fused, 3) == pytest.approx(fidelity.ergas(truth, fused, 3))
    assert fidelity.sam(scale * truth, scale * fused) == pytest.approx(fidelity.sam(truth, fused))
    assert fidelity.uiqi(scale * truth[0], scale * fused[0], 8) == pytest.approx(
        fidelity.uiqi(truth[0], fused[0], 8)
    )


def test_equal_cubes_are_perfect():
    truth, _ = cubes()
    assert fidelity.ergas(truth, truth, 3) == 0
    assert fidelity.sam(truth, truth) == pytest.approx(0, abs=1e-5)
    assert fidelity.band_ssim(truth, truth) == pytest.approx(np.ones(4))
    assert fidelity.uiqi(truth[0], truth[0], 16) == pytest.approx(1)
    assert np.isinf(fidelity.band_psnr(truth, truth)).all()


def test_masked_pixels_change_nothing():
    truth, fused = cubes()
    mask = np.ones((40, 36), dtype=bool)
    mask[:10] = False
    spoilt = np.where(mask, fused, np.nan)
    whole = [cube[:, 10:] for cube in (truth, fused)]
    assert fidelity.ergas(truth, spoilt, 3, mask) == pytest.approx(fidelity.ergas(*whole, 3))
    assert fidelity.sam(truth, spoilt, mask) == pytest.approx(fidelity.sam(*whole))
    assert fidelity.band_cc(truth, spoilt, mask) == pytest.approx(fidelity.band_cc(*whole))
    # structural similarity leaves out the pixels that see masked ones
    high, low = (fidelity.band_ssim(truth, np.where(mask, fused, value), mask) for value in (1e6, -1e6))
    assert high == pytest.approx(low, rel=1e-6)
    assert high == pytest.approx(fidelity.band_ssim(*whole), abs=0.02)
    assert np.isfinite(fidelity.uiqi(truth[0], fused[0], 16, mask))
    assert np.isnan(fidelity.uiqi(truth[0], fused[0], 32, mask))


def test_universal_index_by_its_definition_in_one_box():
    a, b = np.random.default_rng(1).uniform(1, 2, (2, 8, 8))
    covariance = np.cov(a.ravel(), b.ravel(), ddof=0)
    expected = (
        4 * covariance[0, 1] * a.mean() * b.mean() / (np.trace(covariance) * (a.mean() ** 2 + b.mean() ** 2))
    )
    assert fidelity.uiqi_map(a, b, 8) == pytest.approx(np.array([[expected]]))
    flat = np.full((8, 8), 3.0)
    assert fidelity.uiqi(flat, 2 * flat, 4) == pytest.approx(0.8)
    assert fidelity.uiqi(0 * flat, 0 * flat, 4) == 1


def test_the_benchmark_cuts_ten_before_and_eleven_after():
    assert fidelity.cut(np.zeros((2, 100, 90))).shape == (2, 79, 69)


def test_cubes_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        fidelity.ergas(np.ones((2, 4, 4)), np.ones((2, 4, 5)), 3)


def literal_correlation(first, second, half):
    """rho_w by loops over windows."""

    def windows(image):
        padded = np.pad(image, half)
        height, width = image.shape
        return np.array(
            [
                [padded[r + 1 : r + 1 + 2 * half, c + 1 : c + 1 + 2 * half].sum() for c in range(width)]
                for r in range(height)
            ]
        )

    x, y = (image - windows(image) / (4 * half * half) for image in (first, second))
    return windows(x * y) / np.sqrt(windows(x * x) * windows(y * y))


@pytest.mark.parametrize("half", [1, 2, 3])
def test_local_correlation_agrees_with_loops(half):
    first, second = np.random.default_rng(half).standard_normal((2, 12, 10))
    found = local_correlation(first, second, half)
    np.testing.assert_allclose(found, literal_correlation(first, second, half), atol=1e-9)
    clipped = local_correlation(first, second, half, clip_negative=True)
    np.testing.assert_allclose(clipped, np.maximum(found, 0), atol=1e-9)


def test_windows_are_even_and_reach_one_pixel_further_down_and_right():
    image = np.zeros((7, 7))
    image[3, 3] = 1
    assert np.argwhere(box_sums(image, 1)).tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


def test_local_correlation_of_a_cube_is_that_of_its_bands():
    cube, _ = cubes()
    pan = cube.mean(axis=0)
    found = local_correlation(cube, pan, 2)
    np.testing.assert_allclose(found[2], local_correlation(cube[2], pan, 2), atol=1e-12)
