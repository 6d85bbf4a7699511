"""Attitude killed in training, or fed with damaged files."""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
import zipfile
from unittest.mock import patch

import numpy as np
import pytest
import torch

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.config import resolve
from appliedpapers.core.errors import BundleError, DataError
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.imu_attitude import learner_residual, residual_choice
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig
from appliedpapers.plugins.imu_attitude.data import DATASETS
from appliedpapers.plugins.imu_attitude.model import AttitudeEstimator

OPTIONS = (
    *(
        "data.simulator.sequences=4",
        "data.simulator.seconds=8",
        "data.simulator.fs=[50]",
        "model.head=linear",
    ),
    *("training.epochs=2", "training.batch_size=16", "training.checkpoint_every_steps=2", "model.folds=2"),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fitted(folder, *, resume=False):
    config = resolve(AttitudeConfig, assignments=list(OPTIONS))
    dataset = DATASETS.simulated(config)
    context = FitContext(folder, seed=3, resume=resume)
    # some of the network is kept, whatever so little training is worth
    with patch.object(residual_choice, "_choose", lambda errors: 0.5):
        return AttitudeEstimator(config).fit(dataset.train, dataset.valid, context)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("calm"))


def _fit_until_killed(folder, batch):
    torch.set_num_threads(1)
    count, real = 0, learner_residual.ResidualTask.loss

    def deadly(task, rows):
        nonlocal count
        count += 1
        if count == batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(task, rows)

    learner_residual.ResidualTask.loss = deadly
    fitted(folder, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("batches", [(3,), (9, 8)], ids=str)
def test_killed_and_resumed_it_is_the_same_model(tmp_path, calm, batches):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning_fabric", "appliedpapers.core.training"])
    for batch in batches:
        child = context.Process(target=_fit_until_killed, args=(tmp_path, batch))
        child.start()
        child.join(100)
        assert child.exitcode == -signal.SIGKILL
    again = fitted(tmp_path, resume=True)
    ours, theirs = again._residual.state_dict(), calm._residual.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (again.share, again.delay, again._held_out) == (calm.share, calm.delay, calm._held_out)
    assert again.calibration.to_json() == calm.calibration.to_json()


# Files.


def still(count=200):
    random = np.random.default_rng(0)
    acc, gyr = random.normal(0, 0.05, (count, 3)), random.normal(0, 0.002, (count, 3))
    acc[:, 2] += 9.81
    return {"acc": acc, "gyr": gyr, "time": np.arange(count) / 100}


def damaged(folder, kind):
    """Write a file that is broken in one way and return it."""
    path = folder / f"walk.{kind.rpartition(' ')[2]}"
    if kind == "empty csv":
        path.write_text("")
    elif kind == "header only csv":
        path.write_text("time,acc_x,acc_y,acc_z,gyr_x,gyr_y,gyr_z\n")
    elif kind == "binary csv":
        path.write_bytes(bytes(range(256)) * 9)
    elif kind == "ragged csv":
        path.write_text("time,acc_x,acc_y,acc_z,gyr_x,gyr_y,gyr_z\n0,0,0,9.8,0,0,0\n0.1,0,0\n")
    elif kind == "text npz":
        path.write_text("no archive")
    elif kind == "half npz":
        np.savez(path, **still())
        path.write_bytes(path.read_bytes()[:900])
    elif kind == "flipped npz":
        np.savez_compressed(path, **still())
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 0xFF
        path.write_bytes(bytes(content))
    elif kind == "pickled npz":
        np.savez(path, **(still() | {"acc": np.array([{"a": 1}], dtype=object)}))
    elif kind == "member npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("acc.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 9999))
    elif kind == "text mat":
        path.write_text("no matrix" * 40)
    elif kind == "half mat":
        scipy_io = pytest.importorskip("scipy.io")
        columns = still()
        scipy_io.savemat(path, {"imu_acc": columns["acc"], "imu_gyr": columns["gyr"], "sampling_rate": 100.0})
        path.write_bytes(path.read_bytes()[:700])
    return path


KINDS = (
    *("empty csv", "header only csv", "binary csv", "ragged csv", "text npz", "half npz", "flipped npz"),
    *("pickled npz", "member npz", "text mat", "half mat"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_a_data_error_of_one_line_that_names_it(tmp_path, kind):
    path = damaged(tmp_path, kind)
    with pytest.raises(DataError) as caught:
        DATASETS.from_user(path, AttitudeConfig())
    assert path.name in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_bundle_with_changed_weights_is_refused(tmp_path, calm):
    save_bundle(calm, tmp_path / "model", plugin="imu-attitude", task="attitude")
    (weights,) = (tmp_path / "model").rglob("network.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(BundleError, match=r"network\.safetensors"):
        load_bundle(tmp_path / "model")
