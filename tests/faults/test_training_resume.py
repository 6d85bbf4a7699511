"""A fit that is killed, interrupted or out of disk at any moment goes on as if nothing had happened."""

import errno
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from appliedpapers.core import checkpoint, training_loop
from appliedpapers.core.checkpoint import Checkpoint, CheckpointStore
from appliedpapers.core.errors import ConfigError, RunError
from appliedpapers.core.model import FitContext
from appliedpapers.core.training import TrainingConfig, TrainTask, fit, shuffled_slices

SETTINGS = TrainingConfig(epochs=4, batch_size=8, lr=0.05, lr_decay=0.7, checkpoint_every_steps=2)
STEPS = 5  # an epoch: 36 rows, 8 a batch


class Noisy(TrainTask):
    """Draws from every generator there is: dropout, NumPy and Python noise, running statistics."""

    monitor = "valid_mse"

    def __init__(self, at_step=None, config=SETTINGS):
        torch.manual_seed(0)
        self.settings = config
        self.network = nn.Sequential(
            nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(6, 1)
        )
        self.x = torch.randn(36, 3)
        self.y = self.x.prod(1, keepdim=True)
        self.at_step, self.steps = at_step, 0

    def optimizer(self):
        return torch.optim.AdamW(self.network.parameters(), 0.05, weight_decay=0.01)

    def num_steps(self):
        return STEPS

    def batches(self, order):
        return shuffled_slices(36, 8, order)

    def loss(self, batch):
        self.steps += 1
        if self.at_step is not None:
            self.at_step(self.steps)
        noise = np.random.randn() + random.gauss(0, 1) + random.random()
        return nn.functional.mse_loss(self.network(self.x[batch]), self.y[batch] + 0.1 * noise)

    def validate(self):
        return {"valid_mse": nn.functional.mse_loss(self.network(self.x), self.y).item()}


def train(folder, *, resume, at_step=None, config=SETTINGS, seed=3):
    task = Noisy(at_step, config)
    history = fit(task, FitContext(folder, seed=seed, resume=resume))
    return {key: value.clone() for key, value in task.network.state_dict().items()}, history, task


def assert_same(result, expected):
    (weights, history, _), (whole, whole_history, _) = result, expected
    assert all(torch.equal(weights[key], whole[key]) for key in whole)
    assert history.epochs == whole_history.epochs
    assert history.best_epoch == whole_history.best_epoch


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_every_checkpoint():
    threads, share = torch.get_num_threads(), training_loop._WRITING_SHARE
    torch.set_num_threads(1)
    training_loop._WRITING_SHARE = math.inf
    yield
    torch.set_num_threads(threads)
    training_loop._WRITING_SHARE = share


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"), resume=False)


class Crash(Exception):
    pass


def crash_at(step):
    def act(now):
        if now == step:
            raise Crash

    return act


@given(
    crashes=st.lists(st.integers(1, 4 * STEPS), min_size=1, max_size=3),
    every=st.integers(0, STEPS + 1),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_crashes_with_any_checkpoint_interval_change_no_bit(tmp_path, uninterrupted, crashes, every):
    shutil.rmtree(tmp_path, ignore_errors=True)
    config = SETTINGS.model_copy(update={"checkpoint_every_steps": every})
    for step in crashes:
        try:
            train(tmp_path, resume=True, at_step=crash_at(step), config=config)
        except Crash:
            continue
    assert_same(train(tmp_path, resume=True, config=config), uninterrupted)


def test_resuming_trains_only_what_is_missing(tmp_path):
    with pytest.raises(Crash):
        train(tmp_path, resume=False, at_step=crash_at(2 * STEPS + 4))  # the checkpoint is after step 2
    _, _, task = train(tmp_path, resume=True)
    assert task.steps == 4 * STEPS - (2 * STEPS + 2)


def test_a_finished_fit_returns_at_once_with_the_best_weights(tmp_path, uninterrupted):
    train(tmp_path, resume=False)
    again = train(tmp_path, resume=True)
    assert again[2].steps == 0
    assert not again[2].network.training
    assert_same(again, uninterrupted)


def test_without_resume_training_starts_afresh(tmp_path, uninterrupted):
    train(tmp_path, resume=False, seed=9)
    fresh = train(tmp_path, resume=False)
    assert fresh[2].steps == 4 * STEPS
    assert_same(fresh, uninterrupted)


def test_earlier_epochs_are_replayed_to_the_metric_sink(tmp_path, uninterrupted):
    with pytest.raises(Crash):
        train(tmp_path, resume=False, at_step=crash_at(3 * STEPS))
    seen = []
    context = FitContext(
        tmp_path, seed=3, resume=True, log_metrics=lambda m, step: seen.append((step, dict(m)))
    )
    fit(Noisy(), context)
    assert seen == list(enumerate(uninterrupted[1].epochs, start=1))


def test_ctrl_c_finishes_the_step_writes_a_checkpoint_and_raises(tmp_path, uninterrupted):
    config = SETTINGS.model_copy(update={"checkpoint_every_steps": 0})
    handler = signal.getsignal(signal.SIGINT)

    def press(step):
        if step == 8:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, resume=False, at_step=press, config=config)
    assert signal.getsignal(signal.SIGINT) is handler
    rest = train(tmp_path, resume=True, config=config)
    assert rest[2].steps == 4 * STEPS - 8
    assert_same(rest, uninterrupted)


def test_a_second_ctrl_c_stops_at_once_and_the_checkpoint_before_stays(tmp_path, uninterrupted):
    def press_twice(step):
        if step == 8:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, resume=False, at_step=press_twice)
    rest = train(tmp_path, resume=True)
    assert rest[2].steps == 4 * STEPS - 7
    assert_same(rest, uninterrupted)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 0.01}, "lr was 0.05 and is now 0.01"),
        ({"epochs": 9}, "epochs was 4"),
        ({"patience": 1}, "patience"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused_and_kept(tmp_path, uninterrupted, change, named):
    train(tmp_path, resume=False)
    with pytest.raises(ConfigError, match=named) as caught:
        train(tmp_path, resume=True, config=SETTINGS.model_copy(update=change))
    assert str(tmp_path) in caught.value.hint
    assert_same(train(tmp_path, resume=True), uninterrupted)


def test_a_checkpoint_of_another_seed_or_network_is_refused(tmp_path):
    train(tmp_path, resume=False)
    with pytest.raises(ConfigError, match="seed was 3 and is now 4"):
        train(tmp_path, resume=True, seed=4)
    other = Noisy()
    other.network[0] = nn.Linear(3, 6, bias=False)
    with pytest.raises(ConfigError, match="shapes"):
        fit(other, FitContext(tmp_path, seed=3, resume=True))


@pytest.mark.parametrize("file", ["last.safetensors", "best.safetensors", "state.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_a_run_error_that_names_it(tmp_path, file):
    train(tmp_path, resume=False)
    [damaged] = tmp_path.glob(f"network/checkpoint-*/{file}")
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(RunError, match=r"network.checkpoint-\d+: the checkpoint cannot be read"):
        train(tmp_path, resume=True)


@pytest.mark.parametrize("write", [1, 2, 3, 4, 9, 16])
def test_a_full_disk_leaves_the_checkpoint_before_and_names_the_folder(
    tmp_path, uninterrupted, monkeypatch, write
):
    real, count = checkpoint._write, 0

    def fill_up(path, content):
        nonlocal count
        count += 1
        if count < write:
            return real(path, content)
        path.write_bytes(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write", fill_up)
        with pytest.raises(RunError, match="No space left on device") as caught:
            train(tmp_path, resume=False)
    assert str(tmp_path / "network") in caught.value.hint
    assert not list(tmp_path.glob("network/.aside*"))
    assert len(list(tmp_path.glob("network/checkpoint-*"))) == (0 if write <= 3 else 1)
    assert_same(train(tmp_path, resume=True), uninterrupted)


def test_nothing_in_a_checkpoint_is_pickle(tmp_path):
    train(tmp_path, resume=False)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    assert not any(
        path.read_bytes().startswith(b"\x80") or b"\x80\x04" in path.read_bytes()[:64] for path in files
    )


# Killed processes: forked from a server that has torch imported already, so that each costs little.


def _train_until_killed(folder, die):
    torch.set_num_threads(1)
    training_loop._WRITING_SHARE = math.inf
    kind, number = die
    if kind == "operation":
        _die_at_operation(number)
        train(folder, resume=True)
    else:

        def pause(step):
            time.sleep(0.005)
            (folder / "pulse").write_text(str(step))

        train(folder, resume=True, at_step=pause)


def _die_at_operation(number):
    """Kill this process before its ``number``-th operation on checkpoint files; writes are cut in half."""
    count = 0

    def deadly(name, owner):
        real = getattr(owner, name)

        def operation(*arguments, **options):
            nonlocal count
            count += 1
            if count == number:
                if name == "_write":
                    Path(arguments[0]).write_bytes(arguments[1][: len(arguments[1]) // 2])
                if name == "rmtree":
                    next(Path(arguments[0]).iterdir()).unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return operation

    checkpoint._write = deadly("_write", checkpoint)
    checkpoint._link = deadly("_link", checkpoint)
    checkpoint._flush_folder = deadly("_flush_folder", checkpoint)
    checkpoint.os = _Standin(checkpoint.os, replace=deadly("replace", checkpoint.os))
    checkpoint.shutil = _Standin(checkpoint.shutil, rmtree=deadly("rmtree", checkpoint.shutil))


class _Standin:
    def __init__(self, module, **replaced):
        self.__dict__.update(vars(module), **replaced)


@pytest.fixture(scope="module")
def children():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning_fabric", "appliedpapers.core.training", "hypothesis"])
    return context


@pytest.mark.parametrize("operation", [*range(1, 15), 17, 20, 23, 30, 41, 42, 43, 55])
def test_killed_at_any_operation_on_the_disk_it_continues_identically(
    tmp_path, uninterrupted, children, operation
):
    child = children.Process(target=_train_until_killed, args=(tmp_path, ("operation", operation)))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert_same(train(tmp_path, resume=True), uninterrupted)
    assert len(list(tmp_path.glob("network/*"))) == 1


def test_killed_again_and_again_at_random_moments_it_continues_identically(tmp_path, uninterrupted, children):
    moments = random.Random(11)
    killed = 0
    for _ in range(5):
        (tmp_path / "pulse").write_text("0")
        child = children.Process(target=_train_until_killed, args=(tmp_path, ("moment", 0)))
        child.start()
        wanted = moments.randint(1, 6)
        deadline = time.monotonic() + 60
        while child.is_alive() and int((tmp_path / "pulse").read_text() or 0) < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(moments.random() * 0.02)
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
    assert killed >= 2
    assert_same(train(tmp_path, resume=True), uninterrupted)


# The store and the packing alone.


def test_linked_best_weights_survive_the_checkpoint_they_came_from(tmp_path):
    store = CheckpointStore(tmp_path)
    store.write(Checkpoint({"w": torch.zeros(2)}, {"w": torch.ones(2)}, {"n": 1}))
    store.write(Checkpoint({"w": torch.full((2,), 5.0)}, None, {"n": 2}), keep_best=True)
    found = store.read()
    assert found.state == {"n": 2}
    assert found.last["w"].tolist() == [5, 5]
    assert found.best["w"].tolist() == [1, 1]


def test_tied_weights_are_stored_and_read(tmp_path):
    shared = torch.arange(4.0)
    CheckpointStore(tmp_path).write(Checkpoint({"a": shared, "b": shared, "c": shared[1:]}, None, {}))
    found = CheckpointStore(tmp_path).read()
    assert found.last["b"].tolist() == [0, 1, 2, 3]
    assert found.last["c"].tolist() == [1, 2, 3]
    assert found.best is None


scalars = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(trees)
def test_packing_keeps_values_types_and_keys(tree):
    document, tensors = checkpoint.pack(tree)
    assert checkpoint.unpack(json.loads(json.dumps(document, allow_nan=False)), tensors) == tree


def test_packing_keeps_tensors_and_refuses_objects():
    tree = {"a": [torch.arange(3), {0: torch.tensor(2.5)}], "a/0": torch.zeros(1)}
    document, tensors = checkpoint.pack(tree)
    back = checkpoint.unpack(json.loads(json.dumps(document)), tensors)
    assert back["a"][0].tolist() == [0, 1, 2]
    assert back["a"][1][0].item() == 2.5
    with pytest.raises(TypeError, match="/f: a builtin_function_or_method"):
        checkpoint.pack({"f": print})
