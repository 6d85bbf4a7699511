"""Blends and cascades: how they are fitted, which rows go where, and that they survive storing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from small_clicks import clicks, configured, fitted, probabilities, round_trip

from appliedpapers.core import metrics
from appliedpapers.plugins.finalmlp.combine import Blend, Cascade, confidence, fit_blend, fit_cascade
from appliedpapers.plugins.finalmlp.network import FinalMLP

ROWS = 4000


def drawn(seed=0):
    """Return logits of a good and a poor model, and labels drawn from what both know a part of."""
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(2, ROWS))
    truth = 1.5 * first + 1.0 * second
    labels = (random.random(ROWS) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    return first, second, labels


def logloss(logits, labels):
    return metrics.logloss(labels, 1 / (1 + np.exp(-logits)))


# -- blend


def test_a_blend_finds_the_weights_that_the_labels_were_drawn_with():
    first, second, labels = drawn()
    blend = fit_blend(first, second, labels)
    assert (blend.network, blend.trees, blend.intercept) == pytest.approx((1.5, 1.0, 0.0), abs=0.15)
    np.testing.assert_allclose(
        blend(first, second), blend.network * first + blend.trees * second + blend.intercept
    )
    best_alone = min(logloss(1.5 * first, labels), logloss(second, labels))
    assert logloss(blend(first, second), labels) < best_alone


def test_a_blend_never_turns_a_model_round():
    first, _, labels = drawn()
    blend = fit_blend(first, -first, labels)
    assert blend.trees == pytest.approx(0.0, abs=1e-6)
    assert blend.network > 0.5
    useless = fit_blend(-first, -first, labels)
    assert (useless.network, useless.trees) == pytest.approx((0.0, 0.0), abs=1e-6)
    rate = labels.mean()
    assert useless.intercept == pytest.approx(np.log(rate / (1 - rate)), abs=1e-3)


# -- cascade


def test_confidence_is_the_square_of_the_distance_from_even_odds():
    logits = np.array([-700.0, -2.0, 0.0, 0.3, 2.0, 700.0])
    chances = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(confidence(logits), (2 * chances - 1) ** 2, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_threshold_sends_the_share_that_was_asked_for(share):
    weak, strong, labels = drawn()
    cascade = fit_cascade(weak, strong, labels, share=share, tolerance=0.0)
    sent = cascade.unsure(cascade.weak_logits(weak))
    assert sent.mean() == pytest.approx(share, abs=1e-3)
    assert cascade.share == pytest.approx(sent.mean())
    if 0 < share < 1:
        sure = confidence(cascade.weak_logits(weak))
        assert sure[sent].max() <= sure[~sent].min()


def test_auto_takes_the_smallest_share_within_the_tolerance():
    weak, _, labels = drawn()
    # the strong model knows more about every row
    strong = np.where(labels == 1, 1.0, -1.0) + weak
    greedy = fit_cascade(weak, strong, labels, share=None, tolerance=0.0)
    content = fit_cascade(weak, strong, labels, share=None, tolerance=1.0)
    some = fit_cascade(weak, strong, labels, share=None, tolerance=0.02)
    assert content.share == min(point["share"] for point in content.curve)
    assert content.share <= some.share <= greedy.share
    assert greedy.share > content.share
    best = max(point["auc"] for point in some.curve)
    chosen = next(point for point in some.curve if point["share"] == some.share)
    assert chosen["auc"] >= best - 0.02
    assert all(point["auc"] < best - 0.02 for point in some.curve if point["share"] < some.share)


def test_the_curve_holds_the_auc_of_the_routed_rows():
    weak, strong, labels = drawn()
    cascade = fit_cascade(weak, strong, labels, share=0.5, tolerance=0.0)
    lines = cascade.weak_logits(weak), cascade.strong_logits(strong)
    routed = np.where(cascade.unsure(lines[0]), lines[1], lines[0])
    point = next(point for point in cascade.curve if point["share"] == pytest.approx(0.5, abs=1e-3))
    assert point["auc"] == pytest.approx(metrics.auc(labels, routed))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_cascade_survives_json(share):
    weak, strong, labels = drawn()
    cascade = fit_cascade(weak, strong, labels, share=share, tolerance=0.0)
    back = Cascade.from_json(json.loads(json.dumps(cascade.to_json(), allow_nan=False)))
    on_scale = cascade.weak_logits(weak)
    np.testing.assert_array_equal(back.unsure(on_scale), cascade.unsure(on_scale))
    np.testing.assert_array_equal(back.strong_logits(strong), cascade.strong_logits(strong))
    assert (back.share, back.curve) == (cascade.share, cascade.curve)


# -- in a model

NEW = clicks(300, seed=7)


def watched(model):
    """Count the rows that each network of a model is asked for."""
    asked = []
    for scorers in (model._scorers,):
        original = scorers[0]

        def counted(batch, original=original):
            asked.append(len(batch))
            return original(batch)

        scorers[0] = counted
    return asked


@pytest.mark.parametrize("weak", ["logistic-regression", "lightgbm", "mlp", "kan(grid=3)"])
def test_a_cascade_asks_the_network_about_unsure_rows_alone_and_survives_storing(tmp_path, weak):
    config = configured(
        f"cascade.weak={weak}", "cascade.strong_share=0.3", "training.epochs=1", "model.calibration=platt"
    )
    model = fitted(config, tmp_path / "run")
    assert model.cascade.share == pytest.approx(0.3, abs=0.05)
    loaded = round_trip(model, tmp_path / "bundle")
    asked = watched(loaded)
    np.testing.assert_array_equal(probabilities(loaded, NEW), probabilities(model, NEW))
    rows = loaded.encoder.encode(NEW)
    on_scale = loaded.cascade.weak_logits(loaded._weak_logits(rows))
    sent = loaded.cascade.unsure(on_scale)
    assert sum(asked) == sent.sum()
    assert 0 < sent.sum() < len(sent)
    found = loaded.logits(rows)
    np.testing.assert_allclose(found[~sent], on_scale[~sent])
    strong = loaded.cascade.strong_logits(loaded._strong(rows))
    np.testing.assert_allclose(found[sent], strong[sent], atol=1e-5)
    assert any(name == "cascade" for name, _ in loaded.describe())


def test_the_weak_network_is_a_small_one_without_gates(tmp_path):
    config = configured("cascade.weak=hourglass", "cascade.strong_share=0.5", "training.epochs=1")
    model = fitted(config, tmp_path)
    assert isinstance(model.weak, FinalMLP)
    assert model.weak.gates is None
    sizes = [sum(one.numel() for one in net.tables.parameters()) for net in (model.weak, model.networks[0])]
    assert sizes[0] <= sizes[1]


def test_a_cascade_that_sends_nothing_or_everything_is_one_of_its_models(tmp_path):
    for share in (0.0, 1.0):
        options = ("cascade.weak=logistic-regression", f"cascade.strong_share={share}", "training.epochs=1")
        model = fitted(configured(*options), tmp_path / str(share))
        loaded = round_trip(model, tmp_path / f"bundle-{share}")
        asked = watched(loaded)
        assert np.isfinite(probabilities(loaded, NEW)).all()
        assert sum(asked) == share * NEW.num_rows


def test_a_blend_is_stored_and_is_not_worse_than_the_network_on_valid(tmp_path):
    config = configured("model.blend=lightgbm", "training.epochs=1")
    model = fitted(config, tmp_path / "run")
    loaded = round_trip(model, tmp_path / "bundle")
    np.testing.assert_array_equal(probabilities(loaded, NEW), probabilities(model, NEW))
    rows = loaded.encoder.encode(NEW)
    expected = Blend(*[getattr(model.blend, name) for name in ("network", "trees", "intercept")])(
        model._network_logits(rows), model.trees.logits(rows)
    )
    np.testing.assert_allclose(loaded.logits(rows), expected)
    assert model.blend.trees > 0


def test_a_blend_can_be_the_strong_model_of_a_cascade(tmp_path):
    options = ("model.blend=lightgbm", "cascade.weak=lightgbm", "cascade.strong_share=0.4")
    model = fitted(configured(*options, "training.epochs=1"), tmp_path / "run")
    loaded = round_trip(model, tmp_path / "bundle")
    assert loaded.weak is loaded.trees
    np.testing.assert_array_equal(probabilities(loaded, NEW), probabilities(model, NEW))


def test_an_ensemble_is_the_mean_of_logits_of_different_networks(tmp_path):
    model = fitted(configured("model.ensemble=3", "training.epochs=1"), tmp_path / "run")
    assert len(model.networks) == 3
    assert not torch.equal(model.networks[0].fusion, model.networks[1].fusion)
    assert not torch.equal(model.networks[1].fusion, model.networks[2].fusion)
    loaded = round_trip(model, tmp_path / "bundle")
    np.testing.assert_array_equal(probabilities(loaded, NEW), probabilities(model, NEW))
    rows = model.encoder.encode(NEW)
    from small_clicks import batch_of

    each = [scorer(batch_of(rows)).double().numpy() for scorer in model._scorers]
    np.testing.assert_allclose(loaded.logits(rows), np.mean(each, axis=0), atol=1e-6)
