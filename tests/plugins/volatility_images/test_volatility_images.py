"""Images: where each price lands, what is counted, and that nothing after the anchor is seen."""

from __future__ import annotations

import numpy as np
import pytest
from markets import TICK, config, noisy_after, session

from appliedpapers.plugins.volatility_images.config import ImageConfig
from appliedpapers.plugins.volatility_images.features import NAMES, Clock, features_of
from appliedpapers.plugins.volatility_images.images import (
    ASK,
    BID,
    BUYS,
    SELLS,
    ImageBuilder,
    Scale,
    infer_tick,
    rows_for_trades,
)

SMALL = ImageConfig(seconds=20, rows=16)
ANCHORS = np.array([30, 100, 333], dtype=np.int64)


def plain_image(one, anchor: int, options: ImageConfig, step: float) -> np.ndarray:
    """The image by loops, as the definition reads."""
    out = np.zeros((4, options.rows, options.seconds))
    centre = one.mid[anchor - 1]

    def row(price: float) -> int:
        return int((2 * np.floor(price / step + 1e-6) - np.rint(2 * centre / step)) // 2) + options.rows // 2

    for column in range(options.seconds):
        second = anchor - options.seconds + column
        for channel, prices, sizes in ((BID, one.bid_px, one.bid_qty), (ASK, one.ask_px, one.ask_qty)):
            for price, size in zip(prices[second], sizes[second], strict=True):
                if np.isfinite(price) and 0 <= row(price) < options.rows:
                    out[channel, row(price), column] += size
        for number in np.flatnonzero(one.trades.second == second):
            channel = BUYS if one.trades.side[number] > 0 else SELLS
            if 0 <= row(one.trades.price[number]) < options.rows:
                out[channel, row(one.trades.price[number]), column] += one.trades.qty[number]
    return out


def test_images_are_those_of_the_definition_written_as_loops():
    one = session()
    found = ImageBuilder(SMALL, TICK).build(one, ANCHORS)
    for anchor, image in zip(ANCHORS, found, strict=True):
        np.testing.assert_array_equal(image, plain_image(one, int(anchor), SMALL, TICK).astype(np.float32))


def test_half_ticks_round_the_same_way_on_either_side_of_the_mid():
    one = session()
    halves = np.flatnonzero(np.rint(2 * one.mid / TICK) % 2 == 1)[25:28].astype(np.int64) + 1
    for anchor, image in zip(halves, ImageBuilder(SMALL, TICK).build(one, halves), strict=True):
        np.testing.assert_array_equal(image, plain_image(one, int(anchor), SMALL, TICK).astype(np.float32))


def test_traded_size_inside_is_the_sum_of_both_channels_and_the_rest_is_counted():
    one, narrow = session(), ImageConfig(seconds=20, rows=8)
    images, outside = ImageBuilder(narrow, TICK).build_with_rest(one, ANCHORS)
    assert outside.trades.sum() > 0
    for anchor, image, lost in zip(ANCHORS, images, outside.traded, strict=True):
        whole = one.trades.part(int(anchor) - 20, int(anchor)).qty.sum()
        assert image[2:].astype(np.float64).sum() + lost == whole


def test_an_image_is_the_same_alone_in_company_and_from_a_part_of_the_session():
    one, builder = session(), ImageBuilder(SMALL, TICK)
    together = builder.build(one, ANCHORS)
    for anchor, image in zip(ANCHORS.tolist(), together, strict=True):
        np.testing.assert_array_equal(builder.build(one, np.array([anchor]))[0], image)
        part = one.part(anchor - 20, anchor)
        np.testing.assert_array_equal(builder.build(part, np.array([20]))[0], image)


def test_noise_after_the_anchor_changes_no_bit_of_image_and_features():
    one, anchor, data = session(), 333, config().data
    other = noisy_after(one, anchor)
    at = np.array([anchor], dtype=np.int64)
    builder = ImageBuilder(SMALL, TICK)
    np.testing.assert_array_equal(builder.build(one, at), builder.build(other, at))
    first, second = (features_of(market, at, data, TICK, Clock()) for market in (one, other))
    np.testing.assert_array_equal(first, second)
    later = features_of(other, at + 60, data, TICK, Clock())
    assert not np.array_equal(features_of(one, at + 60, data, TICK, Clock()), later)


def test_features_are_the_same_for_one_anchor_and_for_all_and_from_what_the_history_holds():
    one, data = session(), config().data
    anchors = np.arange(121, 700, 10, dtype=np.int64)
    together = features_of(one, anchors, data, TICK, Clock())
    assert together.shape == (len(anchors), len(NAMES))
    assert np.isfinite(together).all()
    for row in (0, 7, len(anchors) - 1):
        part = one.part(int(anchors[row]) - 121, int(anchors[row]))
        np.testing.assert_array_equal(
            features_of(part, np.array([121]), data, TICK, Clock())[0], together[row]
        )


def test_rgb_has_three_channels_and_the_trace_one_more():
    one = session()
    four = ImageBuilder(SMALL, TICK).build(one, ANCHORS)
    three = ImageBuilder(ImageConfig(seconds=20, rows=16, rgb=True), TICK).build(one, ANCHORS)
    np.testing.assert_array_equal(three[:, 1], four[:, BID] + four[:, ASK])
    np.testing.assert_array_equal(three[:, 0], four[:, BUYS])
    np.testing.assert_array_equal(three[:, 2], four[:, SELLS])
    traced = ImageBuilder(ImageConfig(seconds=20, rows=16, trace=True), TICK).build(one, ANCHORS)
    np.testing.assert_array_equal(traced[:, :4], four)
    # the last mid is in the middle rows
    assert traced[:, 4, 7:9, -1].max(axis=1).tolist() == [1.0] * 3


def test_rows_of_basis_points_do_not_depend_on_the_price_level():
    one = session()
    from dataclasses import replace

    dear = replace(
        one,
        **{name: 1000 * getattr(one, name) for name in ("bid", "ask", "bid_px", "ask_px")},
        trades=replace(one.trades, price=1000 * one.trades.price),
    )
    options = ImageConfig(seconds=20, rows=16, basis_points=1.0)
    found = [ImageBuilder(options, TICK).build(market, ANCHORS) for market in (one, dear)]
    np.testing.assert_array_equal(*found)


def test_scales_are_the_quantile_of_what_is_there_and_values_are_held():
    raw = np.zeros((2, 4, 8, 8), np.float32)
    raw[:, 0, 0, 0] = (10, 1e6)
    scale = Scale.fit(raw)
    assert scale.divisor[0] == pytest.approx(np.quantile(np.log1p([10, 1e6]), 0.99))
    assert scale.divisor[1:].tolist() == [1, 1, 1]
    assert Scale(np.full(4, 0.1))(raw).max() == 4.0


def test_the_tick_is_read_off_the_book_and_auto_rows_hold_the_trades():
    one = session()
    assert infer_tick([one]) == pytest.approx(TICK)
    assert rows_for_trades([one], TICK, 16, 20) >= 1
    wide = rows_for_trades([one], TICK, 8, 200)
    assert wide > rows_for_trades([one], TICK, 64, 20)


@pytest.mark.parametrize("options", [SMALL, ImageConfig(seconds=20, rows=16, rgb=True)])
def test_images_cut_out_of_one_tape_are_those_built_one_by_one(options):
    one, builder = session(), ImageBuilder(options, TICK)
    many = np.arange(20, 700, 3, dtype=np.int64)
    taped = builder._taped(one, many)
    assert taped is not None
    assert builder._taped(one, ANCHORS) is None
    alone = np.concatenate([builder.build_with_rest(one, many[row : row + 1])[0] for row in range(len(many))])
    np.testing.assert_array_equal(taped, alone)
    np.testing.assert_array_equal(builder.build(one, many), alone)
