"""The forecaster as a model: horizons, strangers, panels, gaps, storage, starting points."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from small_frets import (
    HORIZON,
    LOOKBACK,
    PLAIN,
    configured,
    dataset_of,
    fitted,
    forecasts,
    panel_of,
    past_of,
    table_of,
    waves,
)

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.inference import predict_all, predict_usable
from appliedpapers.plugins.frets import learner
from appliedpapers.plugins.frets.data import DATASETS
from appliedpapers.plugins.frets.window_models import RidgeNLinear

PANEL = panel_of(waves())


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("frets")


@pytest.fixture(scope="module")
def model(scratch):
    config = configured()
    return fitted(config, dataset_of(PANEL, config), scratch / "model")


@pytest.fixture(scope="module")
def plain(scratch):
    config = configured(*PLAIN)
    return fitted(config, dataset_of(PANEL, config), scratch / "plain")


@pytest.fixture(scope="module")
def mixing(scratch):
    config = configured(*PLAIN, "model.channel_mixing=true", "model.init_scale=0.5")
    return fitted(config, dataset_of(PANEL, config), scratch / "mixing")


# -- horizons


def test_a_shorter_horizon_gives_the_first_steps_of_the_trained_one(model):
    whole = predict_all(model, past_of(PANEL))
    short = predict_all(model, past_of(PANEL, horizon=[3, 3, 3]))
    assert whole.num_rows == 3 * HORIZON
    for name in ("y_hat", "lo-80", "hi-80", "lo-95", "hi-95"):
        np.testing.assert_array_equal(forecasts(short, name), forecasts(whole, name)[:, :3])
    assert not any(whole.column("recursive").to_pylist())


def test_each_series_may_ask_for_its_own_horizon_and_none_takes_the_trained_one(model):
    answer = predict_all(model, past_of(PANEL, horizon=[2, None, 19]))
    counts = answer.group_by("unique_id").aggregate([("ds", "count")]).to_pydict()
    assert dict(zip(counts["unique_id"], counts["ds_count"], strict=True)) == {"a": 2, "b": HORIZON, "c": 19}


def test_steps_beyond_the_trained_horizon_are_fed_back_flagged_and_without_bounds(model):
    asked = 2 * HORIZON + 3
    answer = predict_all(model, past_of(PANEL, horizon=[asked] * 3)).to_pandas()
    recursive = answer["recursive"].to_numpy().reshape(3, asked)
    assert (recursive == (np.arange(asked) >= HORIZON)).all()
    for name in ("lo-80", "hi-80", "lo-95", "hi-95"):
        assert (answer[name].isna().to_numpy() == answer["recursive"].to_numpy()).all()
    assert np.isfinite(answer["y_hat"]).all()

    # the second stretch is the forecast of one who takes the first for the truth
    first = answer[~answer["recursive"]]
    told = pd.concat([past_of(PANEL).to_pandas(), first.assign(y=first["y_hat"])[["unique_id", "ds", "y"]]])
    again = forecasts(predict_all(model, table_of(told)))
    np.testing.assert_allclose(
        answer["y_hat"].to_numpy().reshape(3, asked)[:, HORIZON : 2 * HORIZON], again, atol=1e-4
    )


@pytest.mark.parametrize("horizon", [0, -4])
def test_a_horizon_below_one_is_refused(model, horizon):
    with pytest.raises(DataError, match="horizon"):
        predict_all(model, past_of(PANEL, horizon=[horizon] * 3))


def test_intervals_hold_the_forecast_and_grow_with_the_level(model):
    answer = predict_all(model, past_of(PANEL)).to_pandas()
    ends = answer[["lo-95", "lo-80", "y_hat", "hi-80", "hi-95"]].to_numpy()
    assert (np.diff(ends, axis=1) >= 0).all()


# -- what is forecast


def test_a_longer_past_changes_nothing(model):
    short, long = predict_all(model, past_of(PANEL)), predict_all(model, past_of(PANEL, rows=300))
    np.testing.assert_array_equal(forecasts(short), forecasts(long))


def test_permuting_the_rows_changes_nothing(model):
    frame = past_of(PANEL, rows=30).to_pandas()
    expected = predict_all(model, table_of(frame)).to_pandas()
    for seed in range(3):
        shuffled = predict_all(model, table_of(frame.sample(frac=1, random_state=seed))).to_pandas()
        ordered = shuffled.sort_values(["unique_id", "ds"], ignore_index=True)
        pd.testing.assert_frame_equal(ordered, expected, rtol=1e-6)


def test_series_that_end_at_different_times_get_their_own_cutoffs(model):
    frame = past_of(PANEL, rows=40).to_pandas()
    early = frame[(frame["unique_id"] != "b") | (frame["ds"] < PANEL.ds[-5])]
    answer = predict_all(model, table_of(early)).to_pandas().groupby("unique_id")
    assert (answer["cutoff"].first()[["a", "c"]] == PANEL.ds[-1]).all()
    assert answer["cutoff"].first()["b"] == PANEL.ds[-6]
    assert answer["ds"].first()["b"] == PANEL.ds[-5]


def test_a_constant_series_is_forecast_as_the_constant(scratch):
    values = waves()
    values[:, 1] = 7.25
    panel, config = panel_of(values), configured(*PLAIN)
    for name, settings in (("bare", config), ("normed", configured())):
        model = fitted(settings, dataset_of(panel, settings), scratch / f"constant-{name}")
        answer = predict_all(model, past_of(panel)).to_pandas().set_index("unique_id")
        for column in ("y_hat", "lo-95", "hi-95"):
            np.testing.assert_allclose(answer.loc["b", column], 7.25, atol=1e-5)


@pytest.mark.parametrize(
    ("freq", "start"), [("B", "2010-01-04"), ("MS", "1990-01-01"), ("W-TUE", "2002-01-01"), ("15min", "2024")]
)
def test_futures_follow_the_calendar(scratch, freq, start):
    panel, config = panel_of(waves(), freq, start), configured()
    model = fitted(config, dataset_of(panel, config), scratch / f"calendar-{freq}")
    save_bundle(model, scratch / f"bundle-{freq}", plugin="frets", task="forecasting")
    for each in (model, load_bundle(scratch / f"bundle-{freq}")[0]):
        answer = predict_all(each, past_of(panel, horizon=[11] * 3)).to_pandas()
        expected = pd.date_range(panel.ds[-1], periods=12, freq=freq)[1:]
        for _, part in answer.groupby("unique_id"):
            assert list(part["ds"]) == list(expected)


def test_wide_and_long_files_give_identical_forecasts(tmp_path):
    wide = pd.DataFrame(PANEL.values, columns=list(PANEL.unique_ids))
    wide.insert(0, "date", PANEL.ds)
    long = wide.melt("date", var_name="unique_id", value_name="y").rename(columns={"date": "ds"})
    wide.to_csv(tmp_path / "wide.csv", index=False)
    long.sample(frac=1, random_state=0).to_csv(tmp_path / "long.csv", index=False)
    config, answers = configured(), []
    for name in ("wide.csv", "long.csv"):
        model = fitted(config, DATASETS.from_user(tmp_path / name, config), tmp_path / f"of-{name}")
        answer = predict_all(model, DATASETS.inputs(tmp_path / name, config)).to_pandas()
        answers.append(answer.sort_values(["unique_id", "ds"], ignore_index=True))
    pd.testing.assert_frame_equal(*answers, check_exact=True)


def test_a_wide_input_ends_each_series_at_its_last_value_and_names_the_empty_one(model, tmp_path):
    wide = pd.DataFrame(PANEL.values[-40:], columns=list(PANEL.unique_ids))
    wide.insert(0, "date", PANEL.ds[-40:])
    wide.loc[35:, "b"] = np.nan
    wide["c"] = np.nan
    wide.to_csv(tmp_path / "wide.csv", index=False)
    given = DATASETS.inputs(tmp_path / "wide.csv", model.config)
    prediction = predict_usable(model, given)
    assert [item.value for item in prediction.violations] == ["c"]
    cutoffs = prediction.table.to_pandas().groupby("unique_id")["cutoff"].first()
    assert cutoffs["a"] == PANEL.ds[-1]
    assert cutoffs["b"] == PANEL.ds[-6]


def test_a_long_input_with_other_column_names_and_a_horizon_is_read(model, tmp_path):
    frame = past_of(PANEL, horizon=[5, 5, 5]).to_pandas()
    frame.rename(columns={"unique_id": "meter", "y": "load"}).to_csv(tmp_path / "long.csv", index=False)
    config = configured("data.columns.id=meter", "data.columns.y=load")
    answer = predict_all(model, DATASETS.inputs(tmp_path / "long.csv", config))
    expected = predict_all(model, past_of(PANEL, horizon=[5, 5, 5]))
    np.testing.assert_allclose(forecasts(answer), forecasts(expected))


@pytest.mark.parametrize(("name", "separator"), [("x.csv", ";"), ("x.tsv", "\t"), ("x.txt", ";")])
def test_a_long_file_that_trains_is_predicted_whatever_separates_its_cells(model, tmp_path, name, separator):
    frame = past_of(PANEL, len(PANEL.ds)).to_pandas()
    frame.to_csv(tmp_path / name, index=False, sep=separator)
    assert DATASETS.from_user(tmp_path / name, model.config).train.num_rows
    answer = predict_all(model, DATASETS.inputs(tmp_path / name, model.config))
    expected = predict_all(model, past_of(PANEL, len(PANEL.ds)))
    np.testing.assert_allclose(forecasts(answer), forecasts(expected))


def test_a_long_file_is_predicted_with_the_dates_that_it_trains_with(model, tmp_path):
    frame = past_of(PANEL, len(PANEL.ds)).to_pandas()
    frame["ds"] = frame["ds"].dt.strftime("%d.%m.%Y %H:%M")
    frame.to_csv(tmp_path / "x.csv", index=False)
    expected = forecasts(predict_all(model, past_of(PANEL, len(PANEL.ds))))
    config = configured("data.date_format=%d.%m.%Y %H:%M")
    assert DATASETS.from_user(tmp_path / "x.csv", config).train.num_rows
    np.testing.assert_allclose(
        forecasts(predict_all(model, DATASETS.inputs(tmp_path / "x.csv", config))), expected
    )
    frame.loc[3, "ds"] = "soon"
    frame.to_csv(tmp_path / "y.csv", index=False)
    violations = predict_usable(model, DATASETS.inputs(tmp_path / "y.csv", config)).violations
    assert [(item.row, item.value) for item in violations][:1] == [(4, "soon")]


# -- strangers


def test_an_unknown_series_is_refused_without_instance_norm_and_the_others_are_forecast(plain):
    frame = past_of(PANEL).to_pandas()
    stranger = table_of(pd.concat([frame, frame[frame["unique_id"] == "a"].assign(unique_id="z")]))
    prediction = predict_usable(plain, stranger)
    (violation,) = prediction.violations
    assert violation.value == "z"
    assert violation.rule == "series 'z' was not trained on; model.instance_norm would allow it"
    np.testing.assert_array_equal(forecasts(prediction.table), forecasts(predict_all(plain, past_of(PANEL))))


def test_an_unknown_series_is_forecast_in_its_own_units_under_instance_norm(model):
    frame = past_of(PANEL).to_pandas()
    known = frame[frame["unique_id"] == "a"]
    stranger = known.assign(unique_id="z", y=known["y"] * 1000 + 5)
    answer = predict_all(model, table_of(stranger))
    expected = predict_all(model, table_of(known))
    np.testing.assert_allclose(forecasts(answer), forecasts(expected) * 1000 + 5, rtol=2e-3)
    assert np.isfinite(forecasts(answer, "lo-95")).all()
    assert (forecasts(answer, "lo-95") < forecasts(answer, "hi-95")).all()


# -- channel mixing


def test_panels_are_forecast_apart_and_in_any_order_of_series(mixing):
    frame = past_of(PANEL).to_pandas()
    other = frame.assign(y=frame["y"] * 1.1)
    alone = [predict_all(mixing, table_of(part)) for part in (frame, other)]
    both = pd.concat([frame.assign(panel="north"), other.assign(panel="south")])
    together = predict_all(mixing, table_of(both)).to_pandas()
    for name, expected in zip(("north", "south"), alone, strict=True):
        own = together[together["panel"] == name]["y_hat"].to_numpy().reshape(3, HORIZON)
        np.testing.assert_allclose(own, forecasts(expected), rtol=1e-5)
    backwards = frame.iloc[::-1]
    answer = predict_all(mixing, table_of(backwards)).to_pandas().sort_values(["unique_id", "ds"])
    np.testing.assert_allclose(answer["y_hat"], forecasts(alone[0]).ravel(), rtol=1e-6)


def test_mixing_makes_one_series_depend_on_another(mixing, model):
    frame = past_of(PANEL).to_pandas()
    changed = frame.assign(y=frame["y"].where(frame["unique_id"] != "c", frame["y"] + 3))
    for each, depends in ((mixing, True), (model, False)):
        before, after = (forecasts(predict_all(each, table_of(part)))[0] for part in (frame, changed))
        assert np.allclose(before, after, rtol=1e-6) != depends


def test_a_panel_without_one_of_its_series_is_refused_and_named_once(mixing):
    frame = past_of(PANEL).to_pandas()
    lacking = frame[frame["unique_id"] != "b"].assign(panel="lacking")
    gappy = frame.assign(panel="gappy", y=frame["y"].where(frame.index != 5))
    whole = frame.assign(panel="whole")
    prediction = predict_usable(mixing, table_of(pd.concat([lacking, gappy, whole])))
    rules = {item.value: item.rule for item in prediction.violations}
    assert len(prediction.violations) == 2
    assert rules["lacking"] == "the model mixes 3 series and needs just these; see 'b'"
    assert rules["gappy"].startswith("series 'a' misses 1 of its last 24 values")
    assert set(prediction.table.column("panel").to_pylist()) == {"whole"}


def test_series_of_a_panel_must_end_together(mixing):
    frame = past_of(PANEL, rows=30).to_pandas()
    early = frame[(frame["unique_id"] != "b") | (frame["ds"] < PANEL.ds[-2])]
    with pytest.raises(DataError, match="must end together"):
        predict_all(mixing, table_of(early))


def test_a_mixing_model_survives_its_bundle(mixing, tmp_path):
    save_bundle(mixing, tmp_path / "bundle", plugin="frets", task="forecasting")
    loaded, _ = load_bundle(tmp_path / "bundle")
    assert predict_all(loaded, past_of(PANEL)).equals(predict_all(mixing, past_of(PANEL)))


# -- gaps


def gappy(row: int = -4) -> pa.Table:
    frame = past_of(PANEL, rows=60).to_pandas()
    frame.loc[(frame["unique_id"] == "a") & (frame["ds"] == PANEL.ds[row]), "y"] = None
    return table_of(frame)


def test_a_series_with_a_gap_is_refused_with_the_reason_and_the_others_are_forecast(model):
    prediction = predict_usable(model, gappy())
    (violation,) = prediction.violations
    assert violation.value == "a"
    assert violation.rule.startswith(
        "series 'a' misses 1 of its last 24 values; send them, or train with data."
    )
    assert set(prediction.table.column("unique_id").to_pylist()) == {"b", "c"}
    assert predict_usable(model, gappy(row=-LOOKBACK - 1)).violations == ()


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("ffill", PANEL.values[-5, 0]),
        ("linear", (PANEL.values[-5, 0] + PANEL.values[-3, 0]) / 2),
        ("seasonal", PANEL.values[-4 - 24, 0]),
    ],
)
def test_a_gap_is_filled_as_the_model_was_told(scratch, method, value):
    config = configured(f"data.impute={method}")
    model = fitted(config, dataset_of(PANEL, config), scratch / f"impute-{method}")
    values = PANEL.values.copy()
    values[-4, 0] = value
    expected = predict_all(model, past_of(panel_of(values), rows=60))
    absent = gappy().to_pandas().dropna()
    for given in (gappy(), table_of(absent)):
        np.testing.assert_allclose(forecasts(predict_all(model, given)), forecasts(expected), rtol=1e-6)
    # the last value cannot be made up
    assert [item.value for item in predict_usable(model, gappy(row=-1)).violations] == ["a"]


def test_an_empty_series_is_rejected_while_the_others_are_forecast(model):
    frame = past_of(PANEL, rows=60).to_pandas()
    frame.loc[frame["unique_id"] == "b", "y"] = None
    prediction = predict_usable(model, table_of(frame))
    assert [item.value for item in prediction.violations] == ["b"]
    assert len(prediction.rejected) == 60
    assert list(dict.fromkeys(prediction.table.column("unique_id").to_pylist())) == ["a", "c"]


def test_nothing_missing_ever_reaches_a_network(scratch):
    values = waves(600)
    values[np.random.default_rng(1).random(values.shape) < 0.01] = np.nan
    panel, config = panel_of(values), configured("model.ensemble=2")
    dataset, seen = dataset_of(panel, config), []

    def look(module, inputs):
        for tensor in inputs:
            if isinstance(tensor, torch.Tensor):
                seen.append(len(tensor))
                assert torch.isfinite(tensor).all()

    handle = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        model = fitted(config, dataset, scratch / "gaps")
        found = model.forecast_windows(dataset.test.windows)
        predict_usable(model, past_of(panel, rows=100))
    finally:
        handle.remove()
    assert len(seen) > 20
    complete = ~np.isnan(dataset.test.windows.inputs).any(axis=1)
    assert 0 < complete.sum() < complete.size
    np.testing.assert_array_equal(~np.isnan(found).any(axis=1), complete)


@pytest.mark.parametrize("mixes", [False, True])
def test_a_history_full_of_gaps_is_refused_before_training_with_the_way_out(scratch, mixes):
    values = waves()
    values[:: LOOKBACK + 4, 0] = np.nan
    if not mixes:
        values[:: LOOKBACK + 4] = np.nan
    config = configured(f"model.channel_mixing={str(mixes).lower()}")
    with pytest.raises(DataError, match=r"windows of the (train|test) part") as caught:
        fitted(config, dataset_of(panel_of(values), config), scratch / "nowhere")
    assert "data.impute=linear" in caught.value.hint
    assert ("channel_mixing=false" in caught.value.hint) == mixes


# -- intervals, starting points, storage


def test_a_level_with_too_few_windows_is_refused_and_says_what_it_needs(scratch):
    config = configured("data.protocol=rolling", "data.n_windows=1")
    panel = panel_of(waves(LOOKBACK + 3 * HORIZON + 9))
    dataset = dataset_of(panel, config)
    assert 4 < dataset.valid.num_rows < 19
    model = fitted(config, dataset, scratch / "few")
    names = predict_all(model, past_of(panel)).column_names
    assert {"lo-80", "hi-80"} <= set(names)
    assert not {"lo-95", "hi-95"} & set(names)
    assert dict(model.describe())["95 % interval"] == "refused: 19 calibration windows are needed"


def test_an_ensemble_is_the_mean_of_networks_that_differ(scratch):
    config = configured(*PLAIN, "model.ensemble=3")
    model = fitted(config, dataset_of(PANEL, config), scratch / "ensemble")
    scaled = model.scaler.transform(PANEL.values[-LOOKBACK:]).T[:, :, None]
    members = np.stack([learner.forecast_rows(network, scaled)[:, :, 0] for network in model.networks])
    assert all(np.abs(members[i] - members[j]).max() > 1e-3 for i, j in ((0, 1), (1, 2), (0, 2)))
    expected = members.mean(axis=0) * model.scaler.scale[:, None] + model.scaler.shift[:, None]
    np.testing.assert_allclose(forecasts(predict_all(model, past_of(PANEL))), expected, rtol=1e-6)


@pytest.mark.parametrize("normed", ["true", "false"])
def test_a_linear_skip_starts_at_the_ridge_map(scratch, normed):
    still = ("training.lr=1e-12", "model.dropout=0", f"model.instance_norm={normed}")
    config = configured("model.skip=linear", *still)
    dataset = dataset_of(PANEL, config)
    model = fitted(config, dataset, scratch / f"skip-{normed}")
    ridge = RidgeNLinear(lookbacks=(LOOKBACK,)).fit(dataset.train.windows, dataset.valid.windows, 0)
    expected = ridge.forecast(dataset.test.windows)
    np.testing.assert_allclose(model.forecast_windows(dataset.test.windows), expected, atol=1e-5)


def test_training_starts_from_the_weights_of_an_earlier_model(scratch, plain):
    config = configured(*PLAIN, "training.lr=1e-12")
    again = fitted(config, dataset_of(PANEL, config), scratch / "again", init=plain)
    given = past_of(PANEL)
    np.testing.assert_allclose(
        forecasts(predict_all(again, given)), forecasts(predict_all(plain, given)), rtol=1e-6
    )
    other = configured(*PLAIN, "model.hidden=9")
    with pytest.raises(ConfigError, match="--init-from: 'hidden_layer"):
        fitted(other, dataset_of(PANEL, other), scratch / "other", init=plain)


@pytest.mark.parametrize("which", ["model", "plain"])
def test_a_saved_model_answers_bit_for_bit_as_before(which, request, tmp_path):
    model = request.getfixturevalue(which)
    save_bundle(model, tmp_path / "bundle", plugin="frets", task="forecasting")
    loaded, info = load_bundle(tmp_path / "bundle")
    given = past_of(PANEL, horizon=[4, None, 30])
    assert predict_all(loaded, given).equals(predict_all(model, given))
    assert info.state["freq"] == "h"
    assert loaded.output_schema == model.output_schema


def test_threads_get_the_answers_of_their_own_requests(model):
    requests = [past_of(panel_of(waves(seed=seed))) for seed in range(8)]
    expected = [predict_all(model, request) for request in requests]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for answer, own in zip(
                pool.map(lambda given: predict_all(model, given), requests), expected, strict=True
            ):
                np.testing.assert_allclose(forecasts(answer), forecasts(own), rtol=1e-6)


def test_describe_names_networks_scaling_and_intervals(model):
    facts = dict(model.describe())
    assert facts["networks"] == "1"
    assert facts["scaling"] == "zscore, fitted on the train part"
    assert "80 % and 95 %" in facts["intervals"]
