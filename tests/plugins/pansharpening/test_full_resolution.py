"""Quality without a reference."""

from __future__ import annotations

import numpy as np
import pytest

from appliedpapers.plugins.pansharpening.full_resolution import (
    d_lambda,
    d_rho,
    d_s,
    d_sr,
    qnr,
    rho_curve,
    shrink,
)


def smooth(seed, *shape):
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).standard_normal(shape)
    return 1000 + 2000 * gaussian_filter(noise, (0,) * (len(shape) - 2) + (2, 2))


def test_spectral_distortion_is_0_for_what_the_sensor_saw_and_grows():
    coarse = smooth(0, 4, 40, 40)
    noise = np.random.default_rng(1).standard_normal(coarse.shape)
    assert d_lambda(coarse, coarse) == pytest.approx(0)
    small, large = (d_lambda(coarse + scale * noise, coarse) for scale in (20, 100))
    assert 0 < small < large


def test_spectral_distortion_of_the_first_block_alone():
    coarse = smooth(0, 4, 40, 64)
    spoilt = coarse.copy()
    spoilt[:, 32:] = 0
    spoilt[:, :, 32:] = 0
    assert d_lambda(spoilt, coarse, window="top-left") == pytest.approx(0)
    assert d_lambda(spoilt, coarse) > 0.5


def test_spectral_distortion_takes_smaller_blocks_where_few_pixels_count():
    coarse = smooth(0, 3, 32, 32)
    mask = np.zeros((32, 32), dtype=bool)
    mask[:16, :16] = True
    spoilt = np.where(mask, coarse, 0)
    assert d_lambda(spoilt, coarse, mask=mask) == pytest.approx(0)
    assert np.isnan(d_lambda(spoilt, coarse, mask=np.zeros_like(mask)))


def test_spatial_distortion_is_the_share_that_bands_do_not_explain():
    bands = smooth(2, 3, 60, 50)
    pan = 0.2 * bands[0] + 0.5 * bands[1] + 0.3 * bands[2]
    noise = 30 * np.random.default_rng(3).standard_normal(pan.shape)
    assert d_sr(bands, pan) == pytest.approx(0, abs=1e-12)
    table, target = bands.reshape(3, -1).T, (pan + noise).ravel()
    rest = target - table @ (np.linalg.pinv(table) @ target)
    assert d_sr(bands, pan + noise) == pytest.approx(rest.var() / target.var())
    assert np.isnan(d_sr(bands, np.ones_like(pan)))


def test_regression_in_parts_agrees_with_all_at_once(monkeypatch):
    from appliedpapers.plugins.pansharpening import full_resolution

    bands, pan = smooth(4, 5, 40, 40), smooth(5, 40, 40)
    whole = d_sr(bands, pan)
    monkeypatch.setattr(full_resolution, "_ROWS", 37)
    assert d_sr(bands, pan) == pytest.approx(whole, rel=1e-9)


def test_regression_survives_equal_bands():
    bands = np.repeat(smooth(6, 1, 30, 30), 4, axis=0)
    pan = smooth(7, 30, 30)
    assert d_sr(bands, pan) == pytest.approx(d_sr(bands[:1], pan), rel=1e-6)


def test_masks_leave_pixels_out():
    bands, pan = smooth(8, 3, 64, 64), smooth(9, 64, 64)
    mask = np.zeros((64, 64), dtype=bool)
    mask[:, :40] = True
    spoilt = np.where(mask, bands, 1e5)
    assert d_sr(spoilt, pan, mask) == pytest.approx(d_sr(bands[:, :, :40], pan[:, :40]))
    coarse = bands[:, ::2, ::2]
    coarse_mask = mask[::2, ::2]
    changed = d_s(spoilt, coarse, pan, 2, mask, coarse_mask)
    assert changed == pytest.approx(d_s(bands, coarse, pan, 2, mask, coarse_mask), rel=1e-6)


def test_quality_without_reference_is_the_product():
    assert qnr(0.1, 0.2) == pytest.approx(0.72)


def test_a_product_with_the_detail_of_pan_has_no_distortion_by_correlation():
    pan = smooth(10, 50, 50)
    fused = np.stack([2 * pan, -pan, smooth(11, 50, 50)])
    curve = rho_curve(fused, pan, 4)
    assert curve[0] == pytest.approx(1)
    assert curve[1] == pytest.approx(-1)
    assert abs(curve[2]) < 0.2
    assert d_rho(fused, pan, 4) == pytest.approx(1 - curve.mean())


@pytest.mark.parametrize("ratio", [2, 3, 6])
def test_shrinking_keeps_constants_and_ramps_at_the_centres_of_pixels(ratio):
    rows, columns = np.mgrid[: 12 * ratio, : 10 * ratio].astype(float)
    assert shrink(np.full((12 * ratio, 10 * ratio), 7.0), ratio) == pytest.approx(np.full((12, 10), 7.0))
    found = shrink(rows + 2 * columns, ratio)
    centre_rows, centre_columns = np.mgrid[:12, :10] * ratio + (ratio - 1) / 2
    expected = centre_rows + 2 * centre_columns
    assert found[3:-3, 3:-3] == pytest.approx(expected[3:-3, 3:-3])


def test_spatial_distortion_by_the_universal_index_is_symmetric_in_scale():
    bands, pan = smooth(12, 2, 96, 96), smooth(13, 96, 96)
    coarse = np.stack([shrink(band, 3) for band in bands])
    expected = d_s(bands, coarse, pan, 3)
    assert 0 <= expected <= 1
    assert d_s(10 * bands, 10 * coarse, 10 * pan, 3) == pytest.approx(expected, rel=1e-6)


def test_correlation_leaves_out_pixels_whose_windows_see_masked_ones():
    bands, pan = smooth(14, 2, 40, 40), smooth(15, 40, 40)
    mask = np.ones((40, 40), dtype=bool)
    mask[:, 30:] = False
    high, low = (rho_curve(np.where(mask, bands, value), pan, 3, mask) for value in (1e5, 0))
    np.testing.assert_allclose(high, low, atol=1e-6)
    assert np.isnan(rho_curve(bands, pan, 3, np.zeros_like(mask))).all()
