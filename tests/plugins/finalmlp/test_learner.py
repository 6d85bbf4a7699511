"""Training: what the loss counts, which rows a batch has, how the rate falls, what is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_clicks import (
    assert_same_weights,
    batch_of,
    clicks,
    configured,
    fitted,
    mixed_fields,
    prepared_of,
    random_rows,
    small_network,
)

from appliedpapers.core.features.encoded import concat_rows
from appliedpapers.core.features.store import EncodedStore
from appliedpapers.core.model import FitContext
from appliedpapers.core.training import fit
from appliedpapers.plugins.finalmlp import learner
from appliedpapers.plugins.finalmlp.config import FinalMlpTraining
from appliedpapers.plugins.finalmlp.learner import ClickTask

FIELDS = mixed_fields()
ROWS = random_rows(FIELDS, 50)
PLAIN = {"embedding_l2": 0.0, "batch_size": 16}


def task_of(rows=ROWS, valid=ROWS, network=None, oov_dropout=0.0, **settings):
    # no batch statistics: a row's loss is then its own
    return ClickTask(
        small_network(FIELDS) if network is None else network,
        rows,
        valid,
        FinalMlpTraining(**{**PLAIN, **settings}),
        oov_dropout=oov_dropout,
    )


def loss_of(rows, **settings):
    task = task_of(rows, **settings)
    task.network.eval()
    return task.loss(torch.arange(len(rows))).item()


# -- what the loss counts


def test_the_loss_is_the_mean_cross_entropy_and_the_penalties():
    network = small_network(FIELDS).eval()
    logits, label = network(batch_of(ROWS)), torch.from_numpy(ROWS.label)
    plain = F.binary_cross_entropy_with_logits(logits, label).item()
    assert loss_of(ROWS) == pytest.approx(plain, rel=1e-6)
    expected = plain + network.penalty(0.05, 0.002).item()
    assert loss_of(ROWS, embedding_l2=0.05, net_l2=0.002) == pytest.approx(expected, rel=1e-6)


def test_a_row_of_weight_two_counts_as_the_row_twice():
    weight = np.ones(len(ROWS), np.float32)
    weight[[3, 7]] = 2.0
    weighted = loss_of(replace(ROWS, weight=weight))
    repeated = concat_rows([ROWS, ROWS.take(np.array([3, 7]))])
    assert weighted == pytest.approx(loss_of(repeated), rel=1e-5)
    assert weighted != pytest.approx(loss_of(ROWS), rel=1e-4)


def test_the_positive_weight_multiplies_positive_rows_alone():
    positives = ROWS.take(np.flatnonzero(ROWS.label == 1))
    negatives = ROWS.take(np.flatnonzero(ROWS.label == 0))
    assert loss_of(positives, positive_weight=3.0) == pytest.approx(3 * loss_of(positives), rel=1e-5)
    assert loss_of(negatives, positive_weight=3.0) == pytest.approx(loss_of(negatives), rel=1e-6)


@pytest.mark.parametrize("l2", ["dense", "batch_rows"])
def test_the_penalty_is_on_whole_tables_or_on_the_rows_of_the_batch(l2):
    network = small_network(FIELDS)
    task = task_of(network=network, embedding_l2=0.1, l2=l2)
    places = torch.arange(6)
    difference = task.loss(places) - F.binary_cross_entropy_with_logits(
        network.train()(batch_of(ROWS.take(slice(0, 6)))), torch.from_numpy(ROWS.label[:6])
    )
    batch = batch_of(ROWS.take(slice(0, 6)))
    expected = network.penalty(0.1, 0.0) if l2 == "dense" else 0.1 * network.batch_penalty(batch)
    assert difference.item() == pytest.approx(expected.item(), rel=1e-3)
    task.loss(places).backward()
    unused = sorted(set(range(1, 9)) - set(ROWS.ids[:6, 0].tolist()))
    start, _ = network.tables.spans[1]
    decays = network.tables.table.grad[start + np.array(unused)].abs().sum() > 0
    assert decays == (l2 == "dense")


def test_auto_is_dense_until_tables_are_huge(monkeypatch):
    assert not task_of(l2="auto")._batch_rows_only
    monkeypatch.setattr(learner, "_MANY_TABLE_ROWS", 10)
    assert task_of(l2="auto")._batch_rows_only
    assert not task_of(l2="dense")._batch_rows_only


# -- tokens that are trained as if never seen


def test_forgotten_tokens_are_those_of_the_unseen_row_at_the_share_asked_for():
    rows = random_rows(FIELDS, 4000)
    task = task_of(rows, oov_dropout=0.1)
    unseen = np.array([field.unseen for field in FIELDS if field.kind == "categorical"])
    known = replace(rows, ids=np.minimum(rows.ids, unseen.astype(np.int32) - 1))
    torch.manual_seed(0)
    forgotten = task._forget(batch_of(known)).ids.numpy()
    changed = forgotten != known.ids
    assert (forgotten[changed] == np.broadcast_to(unseen, forgotten.shape)[changed]).all()
    assert abs(changed.mean() - 0.1) < 0.015
    assert changed.any(axis=0).all()


def test_with_oov_dropout_alone_the_unseen_row_learns():
    unseen = np.array([field.unseen for field in FIELDS if field.kind == "categorical"], np.int32)
    known = replace(ROWS, ids=np.minimum(ROWS.ids, unseen - 1))
    for share, learns in ((0.0, False), (0.5, True)):
        network = small_network(FIELDS, large=False)
        task = task_of(known, network=network, oov_dropout=share)
        task.loss(torch.arange(len(known))).backward()
        start, size = network.tables.spans[1]
        gradient = network.tables.table.grad[start + size - 1]
        assert (gradient.abs().sum() > 0) == learns


# -- batches


@pytest.mark.parametrize(
    ("rows", "size", "steps"), [(50, 16, 4), (48, 16, 3), (49, 16, 3), (3, 16, 1), (17, 16, 1)]
)
def test_each_row_comes_once_an_epoch_and_a_rest_of_one_is_left_out(rows, size, steps):
    task = task_of(random_rows(FIELDS, rows), batch_size=size)
    assert task.num_steps() == steps
    batches = list(task.batches(torch.Generator().manual_seed(0)))
    assert len(batches) == steps
    places = torch.cat(batches).tolist()
    assert len(places) == len(set(places)) == rows - (rows % size == 1)
    again = list(task.batches(torch.Generator().manual_seed(0)))
    assert all(torch.equal(one, other) for one, other in zip(batches, again, strict=True))
    other = torch.cat(list(task.batches(torch.Generator().manual_seed(1)))).tolist()
    assert rows < 5 or other != places


def test_streamed_rows_come_once_an_epoch_in_another_order_each_time(tmp_path):
    rows = random_rows(FIELDS, 300)
    rows = replace(rows, numbers=np.stack([np.arange(300), np.zeros(300)], axis=1).astype(np.float32))
    store = EncodedStore.write(tmp_path / "rows.arrow", [rows], block_rows=32)
    task = ClickTask(small_network(FIELDS), store, ROWS, FinalMlpTraining(**PLAIN), shuffle_buffer=64)
    order = torch.Generator().manual_seed(0)
    first, second = (
        np.concatenate([one.numbers[:, 0] for one in task.batches(order)]).tolist() for _ in range(2)
    )
    assert sorted(first) == sorted(second) == list(range(300))
    assert first != second
    assert task.num_steps() == len(list(task.batches(order)))


def test_a_streamed_batch_has_the_loss_of_the_same_rows_in_memory(tmp_path):
    weighted = replace(ROWS, weight=np.linspace(0.5, 2, len(ROWS)).astype(np.float32))
    store = EncodedStore.write(tmp_path / "rows.arrow", [weighted])
    streamed = ClickTask(small_network(FIELDS), store, ROWS, FinalMlpTraining(**PLAIN))
    held = task_of(weighted)
    batch = next(store.sequential(20))
    torch.testing.assert_close(streamed.loss(batch), held.loss(torch.arange(20)), rtol=1e-6, atol=1e-6)


# -- the schedule


def test_the_rate_falls_after_each_epoch_that_is_no_better_down_to_a_floor():
    task = task_of(lr=1e-3)
    optimiser = task.optimizer()
    schedule = task.scheduler(optimiser, 8)
    rates = []
    for value in (0.8, 0.9, 0.9, 0.9 + 5e-7, 0.95, 0.94, 0.94, 0.94):
        schedule.step(value)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6, 1e-6])


def test_adam_has_the_papers_constants():
    group = task_of(lr=2e-3).optimizer().param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (
        2e-3,
        (0.9, 0.999),
        1e-8,
        0.0,
    )


class Judged(ClickTask):
    """Valid figures by script."""

    figures = ()

    def validate(self):
        self.asked = getattr(self, "asked", -1) + 1
        return {"valid_auc": self.figures[self.asked]}


@pytest.mark.parametrize(
    ("figures", "epochs", "best"),
    [
        ((0.6, 0.5, 0.7, 0.6, 0.65, 0.9), 5, 3),
        ((0.6, 0.61, 0.62, 0.62 + 5e-7, 0.62, 0.9), 5, 3),
        ((0.6, 0.5, 0.4, 0.9), 3, 1),
    ],
)
def test_training_stops_after_two_epochs_in_a_row_that_are_no_better(tmp_path, figures, epochs, best):
    task = Judged(small_network(FIELDS), ROWS, ROWS, FinalMlpTraining(**PLAIN, epochs=9, patience=2))
    task.figures = figures
    history = fit(task, FitContext(tmp_path))
    assert len(history.epochs) == epochs
    assert history.best_epoch == best


def test_the_monitor_may_take_the_logloss_into_account():
    plain, both = task_of(), task_of(monitor="auc-logloss")
    assert (plain.monitor, both.monitor) == ("valid_auc", "valid_auc_minus_logloss")
    assert set(plain.validate()) == {"valid_auc", "valid_logloss"}
    figures = both.validate()
    assert figures[both.monitor] == pytest.approx(figures["valid_auc"] - figures["valid_logloss"])
    assert plain.higher_is_better


# -- seeds


@pytest.mark.parametrize("streaming", ["off", "on"])
def test_the_seed_decides_every_weight(tmp_path, streaming):
    options = ("training.epochs=1", f"data.streaming={streaming}", "model.oov_dropout=0.05")
    table = clicks(600)
    first, again = (fitted(configured(*options), tmp_path / str(k), table) for k in range(2))
    other = fitted(configured(*options, "seed=1"), tmp_path / "other", table)
    assert_same_weights(first.networks[0], again.networks[0])
    assert not torch.equal(first.networks[0].fusion, other.networks[0].fusion)


def test_scoring_does_not_disturb_the_draws_of_training(tmp_path):
    config = configured()
    prepared = prepared_of(clicks(300), config, tmp_path)
    task = ClickTask(small_network(prepared.encoder.fields), prepared.train, prepared.valid, config.training)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    task.validate()
    assert torch.equal(torch.get_rng_state(), before)
