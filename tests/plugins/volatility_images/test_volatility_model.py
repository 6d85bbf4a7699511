"""The forecaster: what is fitted, that streams and tables agree to the bit, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from markets import config, dataset, noisy_after, session

from appliedpapers.core.errors import UnusableGroups
from appliedpapers.core.inference import predict_all
from appliedpapers.core.json_rows import records
from appliedpapers.core.model import FitContext
from appliedpapers.core.validation import check
from appliedpapers.plugins.volatility_images.learner import kept_share, losses_of
from appliedpapers.plugins.volatility_images.linear import fit_by_qlike, qlike_losses, with_constant
from appliedpapers.plugins.volatility_images.market import Session
from appliedpapers.plugins.volatility_images.model import VolatilityForecaster
from appliedpapers.plugins.volatility_images.tables import table_of


def fitted(folder: Path, *assignments: str) -> VolatilityForecaster:
    of = config(*assignments)
    made = dataset(of)
    return VolatilityForecaster(of).fit(made.train, made.valid, FitContext(folder, seed=of.seed))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> VolatilityForecaster:
    return fitted(tmp_path_factory.mktemp("fit"), "model.seeds=2")


def streamed(model: VolatilityForecaster, table: pa.Table, cut: int | None = None) -> list[dict]:
    given = records(check(table, model.input_schema).require_clean())
    stream, answers = model.stream(), []
    for number, record in enumerate(given):
        if number == cut:
            stream = model.stream(stream.state())
        answers += stream.step(record)
    return answers


def test_a_stream_equals_predict_to_the_last_bit(model):
    table = table_of([session(300, 7, "live")])
    told = predict_all(model, table)
    assert told.num_rows == 18
    for cut in (None, 1, 150, 299):
        answers = streamed(model, table, cut)
        for name in ("volatility", "low", "high", "past", "outside", "time"):
            assert [answer[name] for answer in answers] == told.column(name).to_pylist(), (name, cut)


def test_holes_and_breaks_are_the_same_in_a_stream_and_in_a_table(model):
    whole = table_of([session(600, 8, "holes")])
    kept = [row for row in range(600) if row not in (40, 41, 42) and not 250 <= row < 262]
    table = whole.take(kept)
    told = predict_all(model, table)
    answers = streamed(model, table)
    assert [answer["volatility"] for answer in answers] == told.column("volatility").to_pylist()
    assert 0 < told.num_rows < predict_all(model, whole).num_rows


def test_noise_after_an_anchor_leaves_its_forecast_bit_for_bit(model):
    one = session(300, 7, "live")
    first = predict_all(model, table_of([one]))
    other = noisy_after(one, 201)
    second = predict_all(model, table_of([other]))
    known = first.column("time").cast(pa.int64()).to_numpy() <= one.time_us[200]
    for name in ("volatility", "low", "high", "past", "outside"):
        np.testing.assert_array_equal(
            first.column(name).to_numpy()[known], second.column(name).to_numpy()[: known.sum()]
        )


def test_sessions_that_are_too_short_or_on_another_scale_are_refused(model):
    with pytest.raises(UnusableGroups) as caught:
        model.predict(table_of([session(100, 1, "short")]))
    assert "100 seconds in one piece, and a forecast needs 121" in caught.value.problems[0].rule
    one = session(300, 7, "dear")
    dear = Session(
        **{
            **vars_of(one),
            **{name: 1e3 * getattr(one, name) for name in ("bid", "ask", "bid_px", "ask_px")},
        }
    )
    with pytest.raises(UnusableGroups) as caught:
        model.predict(table_of([dear]))
    assert "times those that were trained on" in caught.value.problems[0].rule


def vars_of(one: Session) -> dict:
    names = (
        "name",
        "time_us",
        "bid",
        "ask",
        "bid_px",
        "bid_qty",
        "ask_px",
        "ask_qty",
        "trades",
        "broken",
        "price",
    )
    return {name: getattr(one, name) for name in names}


@pytest.mark.parametrize(
    "words",
    [
        ("model.network=resnet18", "data.stride=40", "training.batch_size=8"),
        ("model.network=convmixer", "model.mixer=[8,1,3,4]"),
        ("model.network=mlp",),
        ("model.network=raw-mlp", "model.features=false"),
        ("model.features=false", "model.skip=none"),
        ("model.head=fan", "model.loss=log-mse"),
        ("image.rgb=true", "image.trace=true", "model.loss=rmspe"),
    ],
    ids=lambda words: words[0],
)
def test_every_network_loss_and_head_gives_finite_forecasts(words, tmp_path):
    model = fitted(tmp_path, *words)
    told = predict_all(model, table_of([session(300, 7, "live")]))
    values = told.column("volatility").to_numpy()
    assert np.isfinite(values).all()
    assert (told.column("low").to_numpy() <= told.column("high").to_numpy()).all()


def test_training_without_the_linear_start_moves_away_from_a_constant(tmp_path):
    model = fitted(tmp_path, "model.skip=none", "training.epochs=3")
    made = dataset(config())
    assert np.std(model.forecasts(made.test)[0]) > 0


def test_a_share_of_zero_leaves_the_linear_forecast_alone(model):
    for network, share in zip(model.networks, model.shares, strict=True):
        assert 0 <= share <= 1
        assert float(network.share) == pytest.approx(share)


def test_images_are_saved_with_their_time(tmp_path):
    model = fitted(tmp_path / "fit", "output.images=npz")
    told = model.predict(table_of([session(300, 7, "a/b")]), files=tmp_path / "out")
    path = tmp_path / "out" / told.column("image")[0].as_py()
    with np.load(path) as saved:
        assert saved["image"].shape == (4, 16, 20)
        assert int(saved["time_us"]) == told.column("time").cast(pa.int64())[0].as_py()
    model.read_as(config("output.images=png"))
    told = model.predict(table_of([session(300, 7, "a/b")]), files=tmp_path / "out")
    assert (tmp_path / "out" / told.column("image")[0].as_py()).read_bytes()[:4] == b"\x89PNG"


def test_losses_are_those_of_their_names():
    truth, told = np.array([1e-4, 2e-4, 5e-4]), np.array([2e-4, 1e-4, 5e-4])
    apart = torch.from_numpy(np.log(truth / told))
    np.testing.assert_allclose(losses_of("qlike", apart), qlike_losses(truth, told), atol=1e-12)
    np.testing.assert_allclose(losses_of("rmspe", apart), ((told - truth) / truth) ** 2, atol=1e-12)
    np.testing.assert_allclose(losses_of("log-mse", apart), np.log(truth / told) ** 2, atol=1e-12)
    far = torch.tensor([8.0], requires_grad=True)
    losses_of("qlike", far).sum().backward()
    assert 0 < float(far.grad) < 1e3


def test_a_linear_forecast_by_qlike_finds_what_made_the_data_and_no_other_is_better():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(4000, 3))
    weights = np.array([0.4, -0.2, 0.1, -8.0])
    logs = with_constant(inputs) @ weights + 0.5 * np.log(random.chisquare(10, 4000) / 10)
    found = fit_by_qlike(inputs, logs, 0.0)
    np.testing.assert_allclose(found, weights, atol=0.03)

    def loss(of: np.ndarray) -> float:
        return float(qlike_losses(np.exp(logs), np.exp(with_constant(inputs) @ of)).mean())

    for _ in range(5):
        assert loss(found) <= loss(found + 0.02 * random.normal(size=4))


def test_a_correction_is_kept_as_far_as_it_carries_over():
    random = np.random.default_rng(1)
    truth, linear = random.normal(size=500), np.zeros(500)
    assert kept_share(linear, truth, truth, "qlike", 4) == 1.0
    assert kept_share(linear, -truth, truth, "qlike", 4) == 0.0
    assert kept_share(linear, 0.05 * random.normal(size=500), truth, "qlike", 4) == 0.0
    assert kept_share(linear[:8], truth[:8], truth[:8], "qlike", 4) == 0.0


def test_a_record_out_of_order_leaves_no_trace(model):
    given = records(check(table_of([session(130, 7, "live")]), model.input_schema).require_clean())
    stream = model.stream()
    for record in given:
        stream.step(record)
    before = stream.state()
    from appliedpapers.core.errors import DataError

    with pytest.raises(DataError, match="whole seconds"):
        stream.step(given[5])
    with pytest.raises(DataError, match="differ in length"):
        stream.step(
            {**given[-1], "time": given[-1]["time"].replace(microsecond=0, second=59), "bid_qty": [1.0]}
        )
    assert stream.state() == before
    assert json.loads(before[8 : 8 + int.from_bytes(before[:8], "little")])


def test_the_first_network_leaves_as_onnx_that_answers_alike(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = fitted(tmp_path / "fit", "model.onnx=true")
    (tmp_path / "parts").mkdir()
    model.write_parts(tmp_path / "parts")
    session = onnxruntime.InferenceSession(str(tmp_path / "parts" / "model.onnx"))
    image, features = torch.rand(1, *model.inputs.shape), torch.randn(1, 20)
    (told,) = session.run(None, {"image": image.numpy(), "features": features.numpy()})
    with torch.inference_mode():
        assert told[0] == pytest.approx(float(model.networks[0](image, features)[0]), abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    arrays(np.float64, st.integers(1, 40), elements=st.floats(1e-6, 1e-2)),
    st.floats(0.2, 5.0),
)
def test_qlike_is_zero_for_the_truth_alone_and_punishes_too_low_more(truth, factor):
    assert np.allclose(qlike_losses(truth, truth), 0, atol=1e-12)
    assert (qlike_losses(truth, factor * truth) >= 0).all()
    if factor > 1.01:
        assert (qlike_losses(truth, truth / factor) > qlike_losses(truth, truth * factor)).all()
