"""The closed-form linear map and the simple rules on ETTh1 give the figures that a network has to face."""

from __future__ import annotations

import numpy as np
import pytest

from appliedpapers.plugins.frets.window_models import LastValue, RidgeNLinear, SeasonalNaive
from appliedpapers.plugins.frets.windows import WindowArrays

pytestmark = pytest.mark.shared

TRAIN_END, VALID_END, TEST_END = 8_640, 11_520, 14_400


@pytest.fixture(scope="module")
def etth1(shared):
    path = shared / "data" / "frets" / "ETTh1.csv"
    values = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=range(1, 8))
    train = values[:TRAIN_END]
    return (values - train.mean(0)) / train.std(0)


def parts(values, horizon):
    def windows(first, end):
        return WindowArrays(values, first=first, last=end - horizon, lookback=96, horizon=horizon)

    return windows(96, TRAIN_END), windows(TRAIN_END, VALID_END), windows(VALID_END, TEST_END)


def scores(model, train, valid, test):
    error = model.fit(train, valid, 2021).forecast(test) - test.targets
    return (error**2).mean(), np.abs(error).mean()


@pytest.mark.parametrize(
    ("horizon", "mse", "mae"),
    [(96, 0.3634, 0.3910), (192, 0.3964, 0.4107), (336, 0.4188, 0.4322), (720, 0.4239, 0.4525)],
)
def test_ridge_reaches_its_figures_with_the_lookback_chosen_on_validation(etth1, horizon, mse, mae):
    model = RidgeNLinear()
    found = scores(model, *parts(etth1, horizon))
    assert found == pytest.approx((mse, mae), abs=1e-4)
    assert model.lookback_ == 512


def test_ridge_reaches_its_figure_with_the_lookback_of_the_network(etth1):
    found = scores(RidgeNLinear(lookbacks=(96,)), *parts(etth1, 96))
    assert found == pytest.approx((0.3830, 0.3919), abs=1e-4)


def test_simple_rules_reach_their_figures(etth1):
    windows = parts(etth1, 96)
    assert scores(LastValue(), *windows) == pytest.approx((1.294, 0.713), abs=1e-3)
    seasonal = SeasonalNaive()
    assert scores(seasonal, *windows) == pytest.approx((0.512, 0.433), abs=1e-3)
    assert seasonal.period_ == 24
