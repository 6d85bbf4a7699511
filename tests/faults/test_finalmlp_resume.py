"""A click model killed after an epoch and resumed has the weights of an uninterrupted run, bit by bit."""

from __future__ import annotations

import multiprocessing
import signal

import pytest
import torch
from killed_fits import fit_until_killed

from appliedpapers.core import training_loop
from appliedpapers.plugins.finalmlp.learner import ClickTask
from appliedpapers.plugins.finalmlp.model import FinalMlpModel


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads, share = torch.get_num_threads(), training_loop._WRITING_SHARE
    yield
    torch.set_num_threads(threads)
    training_loop._WRITING_SHARE = share


@pytest.fixture(scope="module")
def children():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "appliedpapers.plugins.finalmlp.model", "killed_fits"])
    return context


def weights(model: FinalMlpModel) -> dict[str, torch.Tensor]:
    named = {f"network-{number}": network for number, network in enumerate(model.networks)}
    if isinstance(model.weak, torch.nn.Module):
        named["weak"] = model.weak
    return {f"{name}.{key}": value for name, one in named.items() for key, value in one.state_dict().items()}


@pytest.mark.parametrize(
    ("way", "deaths"),
    [
        ("in-memory", (3,)),
        ("in-memory", (1, 3)),
        ("streamed", (3,)),
        ("ensemble", (3,)),
        ("weak-network", (3,)),
    ],
)
def test_killed_after_an_epoch_and_resumed_it_ends_with_the_same_weights(tmp_path, children, way, deaths):
    whole = fit_until_killed(tmp_path / "whole", way, False)
    folder = tmp_path / "killed"
    for number, die_after in enumerate(deaths):
        child = children.Process(target=fit_until_killed, args=(folder, way, number > 0, die_after))
        child.start()
        child.join(120)
        assert child.exitcode == -signal.SIGKILL
    resumed = fit_until_killed(folder, way, True)
    ours, expected = weights(resumed), weights(whole)
    assert ours.keys() == expected.keys()
    assert (
        max((ours[name] - expected[name]).abs().max().item() for name in expected if ours[name].numel()) == 0
    )
    assert resumed.calibrator.to_json() == whole.calibrator.to_json()


def test_what_was_trained_is_not_trained_again(tmp_path, children):
    child = children.Process(target=fit_until_killed, args=(tmp_path, "in-memory", False, 4))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    steps = []
    original = ClickTask.loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClickTask, "loss", lambda self, batch: (steps.append(1), original(self, batch))[1])
        fit_until_killed(tmp_path, "in-memory", True)
    # five steps an epoch; the fourth epoch's checkpoint may not have been written when the process died
    assert 5 <= len(steps) <= 10
