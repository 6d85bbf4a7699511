"""Varifocal-Net stopped in any training step, fed with damaged images, or out of disk while it draws."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch

from appliedpapers.core import files as whole_files
from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.config import resolve
from appliedpapers.core.errors import BundleError, DataError, RunError
from appliedpapers.core.inference import predict_all, predict_usable
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.varifocal_net import steps
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
from appliedpapers.plugins.varifocal_net.data import DATASETS
from appliedpapers.plugins.varifocal_net.images import png_bytes
from appliedpapers.plugins.varifocal_net.model import ChromosomeClassifier
from appliedpapers.plugins.varifocal_net.plugin import PLUGIN
from appliedpapers.plugins.varifocal_net.simulator import simulate
from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit

TWICE = {"epochs": 2, "checkpoint_every_steps": 1, "batch_size": 16}
# of the eight steps one of each kind
STEPS = ("localiser", "l-net-1", "joint", "l-net-simple")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def first_cell(chromosomes):
    return chromosomes.take(next(iter(chromosomes.rows_by_case().values())))


def fitted(folder, *, resume=False):
    config = resolve(KaryotypeConfig, preset="check").replace(
        network={"answer": "joint"},
        steps={name: TWICE for name in ("g", "localiser", "l", "follow", "again", "fusion")},
    )
    train, valid, _ = (ChromosomeSplit(first_cell(part), synthetic=True) for part in simulate(config))
    return ChromosomeClassifier(config).fit(train, valid, FitContext(folder, seed=3, resume=resume))


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("calm"))


def require_same(found, expected):
    ours, theirs = found.network.state_dict(), expected.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (found.crop, found.valid_losses, found.blend) == (
        expected.crop,
        expected.valid_losses,
        expected.blend,
    )
    assert found.box_offset == expected.box_offset


class _Stopped(Exception):
    """Stands for whatever ends a process."""


def poisoned(wanted, batch, end):
    """Return ``fit`` that calls ``end`` at a batch of one step."""
    real = steps.fit

    def fit(task, run, name):
        count, loss = 0, task.loss

        def deadly(rows):
            nonlocal count
            count += 1
            if count == batch:
                end()
            return loss(rows)

        if name == wanted:
            task.loss = deadly
        return real(task, run, name)

    return fit


def _stop():
    raise _Stopped


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("step", STEPS)
def test_stopped_in_any_step_and_resumed_it_is_the_same_model(tmp_path, calm, step, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(steps, "fit", poisoned(step, 5, _stop))
        with pytest.raises(_Stopped):
            fitted(tmp_path)
    require_same(fitted(tmp_path, resume=True), calm)


def test_resumed_when_all_is_done_it_is_the_same_model(tmp_path, calm):
    fitted(tmp_path)
    require_same(fitted(tmp_path, resume=True), calm)


def _fit_until_killed(folder):
    torch.set_num_threads(1)
    steps.fit = poisoned("l-net-1", 4, _kill)
    fitted(folder)


@pytest.mark.slow
def test_killed_and_resumed_it_is_the_same_model(tmp_path, calm):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning_fabric", "appliedpapers.core.training"])
    child = context.Process(target=_fit_until_killed, args=(tmp_path,))
    child.start()
    child.join(100)
    assert child.exitcode == -signal.SIGKILL
    require_same(fitted(tmp_path, resume=True), calm)


@pytest.mark.parametrize("step", ["g-net", "localiser-1"])
def test_training_that_diverges_names_where(tmp_path, step, monkeypatch):
    real = steps.fit

    def fit(task, run, name):
        if name == step:
            loss = task.loss
            task.loss = lambda rows: loss(rows) * float("nan")
        return real(task, run, name)

    monkeypatch.setattr(steps, "fit", fit)
    with pytest.raises(RunError, match="step") as caught:
        fitted(tmp_path)
    assert caught.value.hint


# Images.


@pytest.fixture
def cell_folder(tmp_path):
    """Two cells of six chromosomes each, as users bring them."""
    folder = tmp_path / "cells"
    test = simulate(resolve(KaryotypeConfig, preset="check"))[2]
    for case, rows in test.rows_by_case().items():
        (folder / case).mkdir(parents=True)
        for row in rows[:6]:
            (folder / case / f"n{test.names[row]}.png").write_bytes(png_bytes(test.images[row]))
    return folder


def damaged(folder, kind):
    """Put a file that is broken in one way beside the images of the first cell, and return it."""
    from PIL import Image

    cell = sorted(folder.iterdir())[0]
    image = np.full((30, 12), 255, np.uint8)
    image[4:26, 3:9] = 60
    path = cell / f"broken.{kind.rpartition(' ')[2]}"
    Image.fromarray(image).save(path)
    content = bytearray(path.read_bytes())
    if kind.startswith("half"):
        content = content[: len(content) // 2]
    elif kind.startswith("empty"):
        content = b""
    elif kind.startswith("text"):
        content = b"no image at all" * 9
    elif kind.startswith("wild"):
        # sizes and offsets of the directory, which stands first, point anywhere
        content[8:80] = b"\xff" * 72
    path.write_bytes(bytes(content))
    return path


KINDS = ("half tiff", "empty tiff", "text tiff", "wild tiff", "half png", "half jpg", "text bmp")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_image_is_named_and_nothing_is_written(tmp_path, cell_folder, calm, kind):
    path = damaged(cell_folder, kind)
    asked = DATASETS.inputs(cell_folder, calm.config)
    out = tmp_path / "out"
    with pytest.raises(DataError) as caught:
        predict_all(calm, asked, source="cells", files=out)
    assert path.name in str(caught.value)
    assert not out.exists()
    with pytest.raises(DataError, match=path.name):
        calm.predict(asked, files=out)
    assert not out.exists()


def test_the_other_cells_are_answered_for(tmp_path, cell_folder, calm):
    path = damaged(cell_folder, "half tiff")
    asked = DATASETS.inputs(cell_folder, calm.config)
    prediction = predict_usable(calm, asked, files=tmp_path / "out")
    sick, well = (folder.name for folder in sorted(cell_folder.iterdir()))
    assert path.parent.name == sick
    assert set(prediction.table.column("case").to_pylist()) == {well}
    assert sorted(one.name for one in (tmp_path / "out" / "karyograms").iterdir()) == [
        f"{well}.html",
        f"{well}.png",
    ]


# Files.


def everything(folder):
    return {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}


# cases.csv, corrections.csv, then picture and page of each cell
@pytest.mark.parametrize("room", range(6))
def test_a_disk_that_fills_up_leaves_whole_files_and_the_next_try_succeeds(
    tmp_path, cell_folder, calm, room, monkeypatch
):
    asked, count = DATASETS.inputs(cell_folder, calm.config), 0
    expected = calm.predict(asked, files=tmp_path / "calm")
    real = whole_files._sync

    def full(path):
        nonlocal count
        count += 1
        if count > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(whole_files, "_sync", full)
        with pytest.raises(RunError, match="the disk is full") as caught:
            calm.predict(asked, files=out)
    assert caught.value.hint
    left = everything(out)
    assert len(left) == room
    assert left <= everything(tmp_path / "calm")
    for name in left:
        assert (out / name).read_bytes() == (tmp_path / "calm" / name).read_bytes()
    assert calm.predict(asked, files=out).equals(expected)
    assert everything(out) == everything(tmp_path / "calm")


def test_a_folder_that_is_a_file_is_said_so(tmp_path, cell_folder, calm):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(RunError, match="out"):
        calm.predict(DATASETS.inputs(cell_folder, calm.config), files=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


# Bundles.


@pytest.fixture
def saved(tmp_path, calm):
    save_bundle(calm, tmp_path / "model", plugin="varifocal-net", task="karyotype")
    return tmp_path / "model"


def test_a_bundle_with_changed_weights_is_refused(saved):
    (weights,) = saved.rglob("network.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(BundleError, match=r"network\.safetensors"):
        load_bundle(saved, spec=PLUGIN)


@pytest.mark.parametrize("change", [("reference", 1.0), ("crop", "simple!"), ("blend", {})], ids=str)
def test_a_bundle_with_a_changed_state_is_refused(saved, change):
    document = json.loads((saved / "bundle.json").read_text())
    document["state"][change[0]] = change[1]
    (saved / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="changed"):
        load_bundle(saved, spec=PLUGIN)


def test_a_bundle_without_its_weights_is_refused(saved):
    (weights,) = saved.rglob("network.safetensors")
    weights.unlink()
    with pytest.raises(BundleError, match="missing"):
        load_bundle(saved, spec=PLUGIN)
