"""volatility-images against reference values made from the published equity: exact, or to the last digits."""

from __future__ import annotations

import numpy as np
import pytest

from appliedpapers.core.config import resolve
from appliedpapers.plugins.volatility_images.baselines import baselines
from appliedpapers.plugins.volatility_images.config import ImageConfig, VolatilityConfig
from appliedpapers.plugins.volatility_images.data import DATASETS
from appliedpapers.plugins.volatility_images.features import NAMES
from appliedpapers.plugins.volatility_images.images import ImageBuilder, infer_tick
from appliedpapers.plugins.volatility_images.published_data import TAQ_EQUITY, open_equity
from appliedpapers.plugins.volatility_images.scoring import score_forecast
from appliedpapers.plugins.volatility_images.windows import anchors_of, history, realised, trailing

pytestmark = pytest.mark.shared
NAMED = {
    "zero": "zero",
    "best const": "best-constant",
    "train mean": "train-mean",
    "naive raw": "naive",
    "HAR OLS": "har",
    "HAR WLS 1/y^2": "har-weighted",
}


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "volatility-images.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "data" / "volatility-images"


@pytest.fixture(scope="module")
def feed(folder):
    of = resolve(VolatilityConfig, assignments=("data.auctions=keep",))
    return open_equity(folder, of.data)


@pytest.fixture(scope="module")
def dataset(folder):
    of = resolve(VolatilityConfig, preset="published", dataset="taq-equity")
    return DATASETS.from_published(TAQ_EQUITY, folder, of)


@pytest.mark.parametrize("day", [1, 2])
def test_mid_spread_volume_trades_and_volatility(golden, feed, day):
    one, of = feed.sessions[day - 1], VolatilityConfig()
    seconds = len(one)
    for name, found in (
        ("mid", one.mid),
        ("spread", one.spread),
        ("volume", np.bincount(one.trades.second, one.trades.qty, seconds)),
        ("trades", np.bincount(one.trades.second, minlength=seconds)),
    ):
        np.testing.assert_allclose(found, golden[f"{name}_day{day}"], rtol=1e-6, atol=1e-10)
    anchors = anchors_of(one, history(of), 60, 10)
    np.testing.assert_array_equal(anchors, golden["anchors"])
    came = realised(one, anchors, 60)
    np.testing.assert_allclose(came, golden[f"rv60_day{day}"], rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(
        trailing(one, anchors, 60, 60), golden[f"naive60_day{day}"], rtol=1e-6, atol=1e-10
    )
    np.testing.assert_array_equal(came > 1e-5, golden[f"keep_day{day}"])


def test_features(golden, dataset):
    split = dataset.test
    kept = golden["keep_day2"]
    found = split.features
    past = np.exp(found[:, :3])
    np.testing.assert_allclose(
        past, np.maximum(golden["features_day2"][kept][:, :3], 1e-5), rtol=1e-6, atol=1e-10
    )
    assert NAMES[3:7] == ("log_volume", "log_trades", "log_trades_long", "spread_ticks")
    np.testing.assert_allclose(found[:, 3:7], golden["features_day2"][kept][:, 3:], rtol=1e-6, atol=1e-10)


def test_images_are_exactly_equal(golden, feed):
    one = feed.sessions[1]
    builder = ImageBuilder(ImageConfig(), infer_tick(feed.sessions))
    np.testing.assert_array_equal(builder.build(one, golden["image_anchors"]), golden["images"])
    np.testing.assert_array_equal(one.mid[golden["image_anchors"] - 1], golden["image_ref"])


def test_scores_of_rules_and_har(golden, dataset):
    known = {one.name: one for one in baselines(dataset.test.config, dataset)}
    for row, name in enumerate(golden["score_names"].tolist()):
        model = known[NAMED[name]].fit(dataset.train, dataset.valid, None)
        metrics = score_forecast(model.predict(dataset.test), dataset.test).metrics
        for column, metric in enumerate(golden["score_metrics"].tolist()):
            found = metrics["log_rmse" if metric == "logrmse" else metric].value
            loose = metric == "qlike" and name in ("zero", "naive raw")
            # around zero a relative error says nothing
            assert found == pytest.approx(
                golden["scores_w60"][row, column], rel=0.01 if loose else 1e-3, abs=1e-5
            )
    assert score_forecast(known["zero"].predict(dataset.test), dataset.test).metrics["rmspe"].value == 1.0


def test_the_cleaning_report_counts_what_is_known_of_these_files(dataset):
    said = " ".join(dataset.notes)
    for words in (
        "131,401 quotes read",
        "96 quotes removed",
        "77,263 trades read",
        "2 trades with a correction code",
        "14 of 2,154 test windows (0.6 %) do not move",
    ):
        assert words in said
