import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from appliedpapers.core import training, training_loop
from appliedpapers.core.errors import ConfigError, RunError
from appliedpapers.core.model import FitContext
from appliedpapers.core.training import TrainingConfig, TrainTask, shuffled_slices
from appliedpapers.core.training_loop import FitLoop


class Regression(TrainTask):
    """A small network on 48 rows of known data; 8 rows a batch."""

    monitor = "valid_mse"

    def __init__(self, dropout=0.0, lr=0.05, batch_size=8, target=None, poison_step=None):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
        self.x = torch.randn(48, 4)
        self.y = self.x.sum(1, keepdim=True) if target is None else torch.full((48, 1), target)
        self.lr, self.batch_size, self.poison_step = lr, batch_size, poison_step
        self.modes, self.orders, self.steps = [], [], 0

    def optimizer(self):
        return torch.optim.Adam(self.network.parameters(), self.lr)

    def num_steps(self):
        return math.ceil(48 / self.batch_size)

    def batches(self, order):
        slices = list(shuffled_slices(48, self.batch_size, order))
        self.orders.append(torch.cat(slices).tolist())
        return iter(slices)

    def loss(self, batch):
        self.steps += 1
        loss = nn.functional.mse_loss(self.network(self.x[batch]), self.y[batch])
        return loss * math.nan if self.steps == self.poison_step else loss

    def validate(self):
        self.modes.append((self.network.training, torch.is_grad_enabled()))
        return {"valid_mse": nn.functional.mse_loss(self.network(self.x), self.y).item()}


class Scripted(Regression):
    """Validation values as told, whatever the network does; keeps the weights that had each of them."""

    def __init__(self, values):
        super().__init__()
        self.values, self.weights = list(values), []

    def validate(self):
        self.weights.append(weights_of(self))
        return {"valid_mse": self.values[len(self.weights) - 1]}


def fit(task, settings, context, **named):
    task.settings = settings
    return training.fit(task, context, **named)


def weights_of(task):
    return {key: value.detach().clone() for key, value in task.network.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_training_lowers_the_loss_and_reports_every_epoch_once(tmp_path):
    logged = []
    task = Regression()
    history = fit(
        task,
        TrainingConfig(epochs=5, lr=0.05),
        FitContext(tmp_path, log_metrics=lambda metrics, step: logged.append((step, dict(metrics)))),
    )
    losses = [epoch["train_loss"] for epoch in history.epochs]
    assert losses[-1] < losses[0] / 2
    assert logged == list(enumerate(history.epochs, start=1))
    assert set(history.epochs[0]) == {"train_loss", "valid_mse", "lr"}
    assert json.loads(json.dumps(dataclasses.asdict(history))) == dataclasses.asdict(history)
    assert history.seconds > 0


def test_the_mean_train_loss_is_that_of_a_loop_written_by_hand(tmp_path):
    task = Regression()
    history = fit(task, TrainingConfig(epochs=2), FitContext(tmp_path))
    twin = Regression()
    optimizer = twin.optimizer()
    for epoch, order in enumerate(task.orders):
        losses = []
        for batch in torch.tensor(order).split(8):
            optimizer.zero_grad()
            loss = twin.loss(batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert history.epochs[epoch]["train_loss"] == sum(losses) / 6
    assert same(weights_of(task), weights_of(twin))


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path):
    def trained(seed, folder):
        task = Regression(dropout=0.3)
        torch.rand(seed + 3)  # what ran before must not matter
        return fit(task, TrainingConfig(epochs=3), FitContext(tmp_path / folder, seed=seed)), weights_of(task)

    (history_a, a), (history_b, b), (_, c) = trained(1, "a"), trained(1, "b"), trained(2, "c")
    assert same(a, b)
    assert history_a.epochs == history_b.epochs
    assert not same(a, c)


def test_every_epoch_has_its_own_order_of_all_rows(tmp_path):
    task = Regression()
    fit(task, TrainingConfig(epochs=3), FitContext(tmp_path))
    assert all(sorted(order) == list(range(48)) for order in task.orders)
    assert task.orders[0] != task.orders[1] != task.orders[2]


def test_slices_cover_all_rows_and_keep_the_short_last_one():
    slices = list(shuffled_slices(10, 4, torch.Generator().manual_seed(0)))
    assert [len(part) for part in slices] == [4, 4, 2]
    assert sorted(torch.cat(slices).tolist()) == list(range(10))


def test_validation_runs_in_eval_mode_without_gradients_and_fit_ends_in_eval_mode(tmp_path):
    task = Regression(dropout=0.5)
    fit(task, TrainingConfig(epochs=2), FitContext(tmp_path))
    assert task.modes == [(False, False), (False, False)]
    assert not task.network.training


def test_the_best_epoch_is_restored_and_of_equal_ones_the_earlier(tmp_path):
    task = Scripted([3.0, 1.0, 2.0, 1.0])
    history = fit(task, TrainingConfig(epochs=4), FitContext(tmp_path))
    assert (history.best_epoch, history.best_value, history.stopped_early) == (2, 1.0, False)
    assert same(weights_of(task), task.weights[1])
    assert not same(weights_of(task), task.weights[3])


def test_the_last_epoch_is_kept_where_a_task_says_so_and_patience_never_stops_it(tmp_path):
    class Last(Scripted):
        keeps_last = True

    task, progress = Last([1.0, 3.0, 2.0, 4.0]), []
    history = fit(
        task,
        TrainingConfig(epochs=4, patience=1),
        FitContext(tmp_path, log_metrics=lambda metrics, step: progress.append(step)),
    )
    assert (history.best_epoch, history.best_value, history.stopped_early) == (4, 4.0, False)
    assert same(weights_of(task), task.weights[-1])
    assert not same(task.weights[0], task.weights[-1])
    assert progress == [1, 2, 3, 4]
    # a checkpoint that kept the best one is another training
    with pytest.raises(ConfigError, match="of the last epoch"):
        fit(Scripted([1.0]), TrainingConfig(epochs=4, patience=1), FitContext(tmp_path, resume=True))


def test_where_the_last_epoch_is_kept_no_other_weights_are(tmp_path, monkeypatch):
    class Last(Regression):
        keeps_last = True

    monkeypatch.setattr(training_loop, "_WRITING_SHARE", math.inf)
    monkeypatch.setattr(training_loop, "_copy_weights", lambda network: pytest.fail("copied"))
    settings = TrainingConfig(epochs=3, checkpoint_every_steps=2)
    whole = Last(dropout=0.3)
    fit(whole, settings, FitContext(tmp_path / "whole"))
    with pytest.raises(RunError):
        fit(Last(dropout=0.3, poison_step=11), settings, FitContext(tmp_path))
    [checkpoint] = (tmp_path / "network").iterdir()
    assert not (checkpoint / "best.safetensors").exists()
    # as earlier versions left it there
    shutil.copy(checkpoint / "last.safetensors", checkpoint / "best.safetensors")
    resumed = Last(dropout=0.3)
    fit(resumed, settings, FitContext(tmp_path, resume=True))
    assert same(weights_of(resumed), weights_of(whole))


def test_patience_counts_epochs_without_improvement(tmp_path):
    task = Scripted([3.0, 2.0, 2.0, 2.5, 1.0])
    history = fit(task, TrainingConfig(epochs=5, patience=2), FitContext(tmp_path))
    assert len(history.epochs) == 4
    assert history.stopped_early
    assert history.best_epoch == 2


class Maximising(Scripted):
    higher_is_better = True


def test_a_maximised_monitor_restores_its_highest_epoch(tmp_path):
    task = Maximising([-3.0, 0.9, 0.8, 0.9, 0.95])
    history = fit(task, TrainingConfig(epochs=5, patience=2), FitContext(tmp_path))
    assert (history.best_epoch, history.best_value, history.stopped_early) == (2, 0.9, True)
    assert len(history.epochs) == 4
    assert same(weights_of(task), task.weights[1])
    assert not same(weights_of(task), task.weights[3])


@pytest.mark.parametrize(
    ("higher", "values", "best"),
    [
        (True, [0.5, 0.75, 0.75 + 0.0625, 0.75 + 0.125], 4),
        (True, [0.5, 0.75, 0.75 + 0.0625, 0.75 + 0.1249], 2),
        (False, [0.5, 0.375, 0.3125, 0.2501], 2),
        (False, [0.5, 0.375, 0.3125, 0.25], 4),
        (True, [0.5], 1),
    ],
)
def test_an_epoch_is_better_from_the_smallest_gain_that_counts(tmp_path, higher, values, best):
    task = Scripted(values)
    task.higher_is_better, task.min_delta = higher, 0.125
    history = fit(task, TrainingConfig(epochs=len(values)), FitContext(tmp_path))
    assert (history.best_epoch, history.best_value) == (best, values[best - 1])


def test_a_maximising_fit_that_was_interrupted_continues_identically(tmp_path, monkeypatch):
    class Scored(Regression):
        monitor, higher_is_better, min_delta = "valid_score", True, 1e-6

        def validate(self):
            return {"valid_score": -super().validate()["valid_mse"]}

    monkeypatch.setattr(training_loop, "_WRITING_SHARE", math.inf)
    settings = TrainingConfig(epochs=4, patience=2, checkpoint_every_steps=2)
    whole = Scored(dropout=0.3)
    expected = fit(whole, settings, FitContext(tmp_path / "whole"))
    for poison in (5, 15):  # before there is a best epoch, and after
        folder = tmp_path / str(poison)
        with pytest.raises(RunError):
            fit(Scored(dropout=0.3, poison_step=poison), settings, FitContext(folder))
        resumed = Scored(dropout=0.3)
        history = fit(resumed, settings, FitContext(folder, resume=True))
        assert (history.epochs, history.best_value) == (expected.epochs, expected.best_value)
        assert same(weights_of(resumed), weights_of(whole))


def test_a_checkpoint_of_the_other_direction_is_not_continued(tmp_path):
    fit(Maximising([1.0]), TrainingConfig(epochs=1), FitContext(tmp_path))
    with pytest.raises(ConfigError, match="monitor was valid_mse maximised and is now valid_mse"):
        fit(Scripted([1.0]), TrainingConfig(epochs=1), FitContext(tmp_path, resume=True))


def test_running_out_of_patience_in_the_last_epoch_is_not_early(tmp_path):
    history = fit(Scripted([1.0, 2.0]), TrainingConfig(epochs=2, patience=1), FitContext(tmp_path))
    assert not history.stopped_early


def test_lr_decay_multiplies_the_rate_after_every_epoch(tmp_path):
    history = fit(Regression(lr=0.08), TrainingConfig(epochs=3, lr_decay=0.5), FitContext(tmp_path))
    assert [epoch["lr"] for epoch in history.epochs] == pytest.approx([0.08, 0.04, 0.02])


def test_a_plateau_scheduler_sees_the_monitored_metric(tmp_path):
    class Plateau(Scripted):
        def scheduler(self, optimizer, steps):
            return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)

    history = fit(Plateau([1.0, 2.0, 0.5]), TrainingConfig(epochs=3), FitContext(tmp_path))
    assert [epoch["lr"] for epoch in history.epochs] == pytest.approx([0.05, 0.05, 0.005])


class Stepwise(Regression):
    schedules_steps = True

    def scheduler(self, optimizer, steps):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)


def test_a_schedule_by_steps_moves_within_an_epoch_and_survives_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "_WRITING_SHARE", math.inf)
    settings = TrainingConfig(epochs=2, checkpoint_every_steps=2)
    whole = Stepwise(lr=0.08)
    history = fit(whole, settings, FitContext(tmp_path / "whole"))
    steps = whole.num_steps()
    # the rate of an epoch is read after its last step
    rates = [0.08 * 0.9 ** (steps * epoch) for epoch in (1, 2)]
    assert [epoch["lr"] for epoch in history.epochs] == pytest.approx(rates)
    with pytest.raises(RunError):
        fit(Stepwise(lr=0.08, poison_step=steps + 3), settings, FitContext(tmp_path))
    resumed = Stepwise(lr=0.08)
    fit(resumed, settings, FitContext(tmp_path, resume=True))
    assert same(weights_of(resumed), weights_of(whole))


class Together:
    """What the loop asks of Fabric before it begins, as one of some processes."""

    device, global_rank = torch.device("cpu"), 0

    def __init__(self, world_size):
        self.world_size = world_size

    def setup_module(self, module):
        return module

    def setup_optimizers(self, optimizer):
        return optimizer


@pytest.mark.parametrize(
    ("by_steps", "processes", "told"),
    [(False, 1, 3), (False, 4, 3), (True, 1, 18), (True, 2, 9), (True, 4, 6)],
)
def test_a_schedule_is_told_how_often_it_is_stepped(tmp_path, by_steps, processes, told):
    class Told(Regression):
        schedules_steps = by_steps

        def scheduler(self, optimizer, steps):
            self.told = steps

    task = Told()
    task.settings = TrainingConfig(epochs=3)
    loop = FitLoop(task, FitContext(tmp_path), "network", Together(processes))
    assert task.told == told
    assert loop.num_steps == math.ceil(6 / processes)


def test_clipping_bounds_the_norm_of_every_step(tmp_path):
    class Plain(Regression):
        def optimizer(self):
            return torch.optim.SGD(self.network.parameters(), lr=1.0)

        def loss(self, batch):
            now = torch.cat([p.detach().flatten() for p in self.network.parameters()])
            self.moves = [*getattr(self, "moves", []), now]
            return 1000 * super().loss(batch)

    task = Plain()
    fit(task, TrainingConfig(epochs=1, gradient_clip=0.01), FitContext(tmp_path))
    moves = [(b - a).norm().item() for a, b in zip(task.moves, task.moves[1:], strict=False)]
    assert moves == pytest.approx([0.01] * len(moves), rel=1e-3)


@pytest.mark.parametrize(("poison", "epoch", "step"), [(1, 1, 1), (6, 1, 6), (8, 2, 2)])
def test_a_loss_that_is_not_finite_names_the_exact_step(tmp_path, poison, epoch, step):
    with pytest.raises(RunError, match=rf"nan in epoch {epoch}, step {step} of 6") as caught:
        fit(Regression(poison_step=poison), TrainingConfig(epochs=3), FitContext(tmp_path))
    assert "learning rate" in caught.value.hint


def test_a_poisoned_network_never_reaches_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "_WRITING_SHARE", math.inf)
    with pytest.raises(RunError):
        fit(
            Regression(poison_step=9),
            TrainingConfig(epochs=3, checkpoint_every_steps=2),
            FitContext(tmp_path),
        )
    resumed = Regression()
    fit(
        resumed,
        TrainingConfig(epochs=3, checkpoint_every_steps=2),
        FitContext(tmp_path, resume=True),
    )
    clean = Regression()
    fit(clean, TrainingConfig(epochs=3), FitContext(tmp_path / "clean"))
    assert same(weights_of(resumed), weights_of(clean))


def test_a_monitor_that_is_not_finite_names_the_epoch(tmp_path):
    with pytest.raises(RunError, match="valid_mse is nan after epoch 2"):
        fit(Scripted([1.0, math.nan]), TrainingConfig(epochs=3), FitContext(tmp_path))


def test_a_task_that_breaks_its_promises_is_told_so(tmp_path):
    short = Regression()
    short.num_steps = lambda: 7
    with pytest.raises(ValueError, match=r"6 steps.*promised 7"):
        fit(short, TrainingConfig(epochs=1), FitContext(tmp_path))
    other = Regression()
    other.monitor = "auc"
    with pytest.raises(ValueError, match="'auc'"):
        fit(other, TrainingConfig(epochs=1), FitContext(tmp_path))


def test_half_precision_is_refused_on_the_cpu(tmp_path):
    with pytest.raises(ConfigError, match="'16'"):
        fit(Regression(), TrainingConfig(epochs=1), FitContext(tmp_path, precision="16"))


def test_bf16_computes_in_bf16_and_leaves_weights_batches_and_validation_alone(tmp_path):
    class Watching(Regression):
        def batches(self, order):
            return ((self.x[rows], self.y[rows].double()) for rows in shuffled_slices(48, 8, order))

        def loss(self, batch):
            x, y = batch
            out = self.network(x)
            self.dtypes = (x.dtype, y.dtype, out.dtype)
            return nn.functional.mse_loss(out.double(), y)

        def validate(self):
            self.valid_dtype = self.network(self.x).dtype
            return super().validate()

    task = Watching()
    fit(task, TrainingConfig(epochs=2), FitContext(tmp_path, precision="bf16"))
    assert task.dtypes == (torch.float32, torch.float64, torch.bfloat16)
    assert task.valid_dtype == torch.float32
    assert {value.dtype for value in task.network.state_dict().values()} == {torch.float32}


def test_networks_of_one_run_keep_their_checkpoints_random_streams_and_metrics_apart(tmp_path):
    first, second, logged = Regression(dropout=0.5), Regression(dropout=0.5), []
    context = FitContext(tmp_path, log_metrics=lambda metrics, step: logged.append((step, set(metrics))))
    fit(first, TrainingConfig(epochs=1), context, name="encoder")
    fit(second, TrainingConfig(epochs=1), context, name="decoder")
    keys = ("train_loss", "valid_mse", "lr")
    assert logged == [(1, {f"{name}/{key}" for key in keys}) for name in ("encoder", "decoder")]
    assert {path.name for path in tmp_path.iterdir()} == {"encoder", "decoder"}
    assert not same(weights_of(first), weights_of(second))


def test_the_progress_counts_every_step_and_notes_every_epoch(tmp_path):
    class Counting:
        steps, notes, titles = 0, [], []

        def task(self, title, total=None):
            from contextlib import nullcontext

            self.titles.append((title, total))
            return nullcontext(self)

        def advance(self, steps=1, *, note=None):
            self.steps += steps
            self.notes += [note] if note else []

    progress = Counting()
    fit(Scripted([2.0, 1.0]), TrainingConfig(epochs=2), FitContext(tmp_path, progress=progress))
    assert progress.titles == [("training", 12)]
    assert progress.steps == 12
    assert progress.notes == ["epoch 1/2  valid mse 2 (best 1)", "epoch 2/2  valid mse 1 (best 2)"]
    told = Counting()
    told.notes = []
    task = Scripted([0.0])
    task.shown, task.keeps_last = "train_loss", True
    learned = fit(task, TrainingConfig(epochs=1), FitContext(tmp_path / "other", progress=told))
    assert "valid_mse" not in learned.epochs[0]
    assert told.notes == [f"epoch 1/1  train loss {learned.epochs[0]['train_loss']:.4g}"]


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"lr": 0}, {"lr": math.inf}, {"patience": -1}, {"gradient_clip": 0}, {"momentum": 0.9}],
)
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TrainingConfig(**wrong)


def test_every_setting_is_described():
    assert all(field.description for field in TrainingConfig.model_fields.values())


class Ranked(Regression):
    """Writes its weights after every epoch, each process for itself."""

    folder: Path

    def validate(self):
        rank = int(os.environ.get("RANK", "0"))
        content = {key: value.tolist() for key, value in self.network.state_dict().items()}
        (self.folder / f"rank{rank}.json").write_text(json.dumps(content))
        return super().validate()

    def loss(self, batch):
        if os.environ.get("FAIL") and self.steps == 8:
            raise RuntimeError("as the test asked")
        return super().loss(batch)


def run_ranks(folder, *options, launcher=(), fail=False):
    """Train :class:`Ranked` in new processes; return the weights by rank and what they said."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FAIL": "1" if fail else ""}
    done = subprocess.run(
        [sys.executable, *launcher, __file__, str(folder), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert (done.returncode != 0) == fail, done.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)], done.stderr


@pytest.mark.slow
def test_two_processes_agree_and_equal_one_process_with_batches_twice_as_large(tmp_path):
    (first, second), _ = run_ranks(tmp_path / "two", "--devices", "2")
    assert first == second
    alone = Regression(batch_size=16)
    fit(alone, TrainingConfig(epochs=3), FitContext(tmp_path / "one"))
    for key, value in alone.network.state_dict().items():
        torch.testing.assert_close(torch.tensor(first[key]), value, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run_ranks(tmp_path_factory.mktemp("ranks") / "whole", "--devices", "2", "--dropout", "0.3")[0]


@pytest.mark.slow
def test_torchrun_trains_the_same_as_devices(tmp_path, uninterrupted):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert run_ranks(tmp_path, "--dropout", "0.3", launcher=launcher)[0] == uninterrupted


@pytest.mark.slow
def test_two_processes_that_failed_continue_identically(tmp_path, uninterrupted):
    _, errors = run_ranks(tmp_path, "--devices", "2", "--dropout", "0.3", fail=True)
    assert "as the test asked" in errors
    assert run_ranks(tmp_path, "--devices", "2", "--dropout", "0.3", "--resume")[0] == uninterrupted


def main():
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    training_loop._WRITING_SHARE = math.inf
    torch.set_num_threads(1)
    task = Ranked(dropout=options.dropout)
    task.folder = options.folder
    context = FitContext(options.folder / "fit", devices=options.devices, resume=options.resume)
    fit(task, TrainingConfig(epochs=3, checkpoint_every_steps=2), context)


if __name__ == "__main__":
    main()
