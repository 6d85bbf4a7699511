"""The four steps: what stands still, what moves, what is repeated, and what augmentation does to labels."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.model import FitContext
from appliedpapers.core.training import fit
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.core.training_loop import FitLoop
from appliedpapers.plugins.varifocal_net import looking
from appliedpapers.plugins.varifocal_net.augment import normalise, vary
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig, NetworkConfig
from appliedpapers.plugins.varifocal_net.crop import Box, PaperCrop, box_of, crop_float, crop_integer
from appliedpapers.plugins.varifocal_net.learner import (
    Examples,
    FollowTask,
    JointTask,
    classification_loss,
    one_cycle,
)
from appliedpapers.plugins.varifocal_net.looking import Looker, ask, simple_corners
from appliedpapers.plugins.varifocal_net.network import Backbone, VarifocalNet
from appliedpapers.plugins.varifocal_net.steps import new_network, stand_still, train

SMALL = NetworkConfig(
    input_size=64,
    canvas=64,
    width=(4, 4, 8, 8),
    units_per_block=1,
    stem_stride=1,
    local_stem_stride=1,
    localiser_hidden=8,
    head_hidden=16,
)
STEP = {"epochs": 1, "batch_size": 8}


def small_config(**network):
    return KaryotypeConfig().replace(
        network={**SMALL.model_dump(), **network},
        steps={
            **{name: STEP for name in ("g", "localiser", "l", "follow", "again", "fusion")},
            "alternations": 1,
            "copies": 1,
        },
    )


def striped(rows=24, size=64, seed=0):
    """Images of dark bars of some lengths; the length is the type."""
    rng = np.random.default_rng(seed)
    images = np.full((rows, size, size), 255, np.uint8)
    types = rng.integers(0, 3, rows)
    for image, kind in zip(images, types, strict=True):
        half = 4 + 4 * kind
        image[size // 2 - half : size // 2 + half, 13:19] = rng.integers(60, 120)
        image[size // 2 - half : size // 2 - half + 3, 13:19] = 20
    return Examples(torch.from_numpy(images), torch.from_numpy(types), torch.ones(rows, dtype=torch.int64))


def looker_of(network, options=SMALL, crop="varifocal"):
    return Looker(options, crop, network.g, network.l, network.localiser)


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_maps_have_the_sizes_of_the_paper():
    backbone = Backbone((4, 8, 8, 16), 1)
    with torch.inference_mode():
        assert backbone(torch.zeros(1, 1, 256, 256)).shape == (1, 16, 32, 32)
        assert backbone(torch.zeros(1, 1, 128, 128)).shape == (1, 16, 16, 16)


@pytest.mark.parametrize(("width", "last"), [((8, 16, 32, 64), False), ((16, 16, 32, 64), True)])
def test_channels_stand_last_only_where_the_library_keeps_within_its_memory(width, last):
    network = new_network(NetworkConfig(width=width), seed=0)
    weight = network.g.backbone.units[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) is last


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.sampled_from([32, 64, 128, 256]))
def test_boxes_never_leave_the_image(u, size):
    corners = box_of(torch.tensor([u], dtype=torch.float64), size).corners()[0]
    assert corners.min() >= -1e-9
    assert corners.max() <= size + 1e-9
    assert size / 4 - 1e-9 <= corners[2] - corners[0] <= size / 2 + 1e-9


def test_the_float_crop_is_what_grid_sample_gives_with_its_gradient():
    torch.manual_seed(1)
    images = torch.rand(3, 1, 32, 32, dtype=torch.float64)
    u = torch.rand(3, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    ours = crop_float(images, box_of(u, 32), 16)
    (gradient,) = torch.autograd.grad((ours * weight).sum(), u)
    box = box_of(u, 32)
    zero = torch.zeros_like(box.t)
    turn = torch.stack(
        [
            torch.stack([box.t / 16, zero, box.xc / 16 - 1], 1),
            torch.stack([zero, box.t / 16, box.yc / 16 - 1], 1),
        ],
        1,
    )
    grid = torch.nn.functional.affine_grid(turn, [3, 1, 16, 16], align_corners=False)
    theirs = torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    (expected,) = torch.autograd.grad((theirs * weight).sum(), u)
    assert torch.allclose(ours, theirs, atol=1e-12)
    assert torch.allclose(gradient, expected, atol=1e-9)


def test_the_papers_crop_gives_the_image_no_gradient_and_the_box_one_of_norm_one_at_most():
    images = torch.rand(2, 1, 32, 32, requires_grad=True)
    u = torch.rand(2, 3, requires_grad=True)
    (100 * PaperCrop.apply(u, images, 16)).square().sum().backward()
    assert images.grad is None
    norms = u.grad.norm(dim=1)
    assert (norms > 0).all()
    assert norms.max() <= 1 + 1e-5


def test_corners_of_a_turned_white_image_stay_white():
    varied, _ = vary(torch.full((8, 32, 32), 255, dtype=torch.uint8), 45.0, 0.2, torch.rand(4, 8))
    assert (varied == 255).all()


def test_flipping_upside_down_is_what_the_label_says():
    image = torch.full((1, 32, 32), 255, dtype=torch.uint8)
    image[0, 4:8, 14:18] = 0
    # turn and scale in the middle: no change; no mirror image
    kept, flipped = vary(image, 45.0, 0.2, torch.tensor([[0.5], [0.5], [0.9], [0.9]]))
    assert not bool(flipped)
    assert torch.allclose(kept, image.float(), atol=1e-3)
    turned, flipped = vary(image, 45.0, 0.2, torch.tensor([[0.5], [0.5], [0.9], [0.1]]))
    assert bool(flipped)
    assert torch.allclose(turned, image.float().flip(1), atol=1e-3)


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1))
def test_normalised_images_have_mean_0_and_deviation_1(seed):
    rng = np.random.default_rng(seed)
    found = normalise(torch.from_numpy(rng.integers(0, 256, (3, 16, 16), dtype=np.uint8)))
    assert found.mean((1, 2, 3)).abs().max() < 1e-4
    assert torch.allclose(found.std((1, 2, 3), correction=0), torch.ones(3), atol=1e-3)


def test_a_blank_image_is_normalised_to_nothing():
    assert (normalise(torch.full((1, 8, 8), 255, dtype=torch.uint8)) == 0).all()


def test_the_simple_crop_surrounds_the_chromosome():
    images = torch.full((1, 32, 32), 255, dtype=torch.uint8)
    images[0, 6:20, 10:14] = 30
    x0, y0, x1, y1 = simple_corners(images)[0].tolist()
    assert (x1 - x0, y1 - y0) == (14, 14)
    assert (y0, y1) == (6, 20)
    assert x0 <= 10
    assert x1 >= 14


def test_a_blank_image_has_a_simple_crop_inside_the_image():
    corners = simple_corners(torch.full((1, 32, 32), 255, dtype=torch.uint8))[0]
    assert corners.min() >= 0
    assert corners.max() <= 32


def test_shifted_boxes_keep_their_size_and_go_no_further_than_asked():
    looker, images = looker_of(new_network(SMALL, 1).eval()), striped().images.float()
    inputs = normalise(images)
    with torch.no_grad():
        last_map = looker.g.backbone(inputs)
        _, still, u = looker.look(images, inputs, last_map)
        torch.manual_seed(0)
        _, moved, shifted = looker.look(images, inputs, last_map, shift=0.1)
    assert torch.allclose(u[:, 2], shifted[:, 2])
    assert torch.allclose(moved[:, 2] - moved[:, 0], still[:, 2] - still[:, 0], atol=1e-4)
    distance = (shifted - u)[:, :2].abs()
    assert 0.05 < distance.max() <= 0.1 + 1e-6
    assert len(torch.unique(distance)) == distance.numel()


@pytest.mark.parametrize("gradient", ["grid", "paper"])
def test_while_the_localiser_follows_all_else_stands_still(tmp_path, gradient):
    options = SMALL.model_copy(update={"crop_grad": gradient})
    network, data = new_network(options, 1), striped()
    stand_still(network.g)
    stand_still(network.l)
    frozen = state_of(network.g), state_of(network.l)
    before = state_of(network.localiser)
    plan = small_config().steps
    task = FollowTask(looker_of(network, options), data, data, TrainingConfig(**STEP), plan)
    history = fit(task, FitContext(tmp_path))
    assert same(frozen[0], network.g.state_dict())
    assert same(frozen[1], network.l.state_dict())
    assert not same(before, network.localiser.state_dict())
    assert history.epochs[0]["box_offset"] > 0


@pytest.mark.parametrize("crop", ["auto", "varifocal", "simple"])
def test_all_steps_run_and_repeat_themselves(tmp_path, crop):
    config, data = small_config(crop=crop), striped()
    first = train(config, data, data, FitContext(tmp_path / "1", seed=3), None)
    second = train(config, data, data, FitContext(tmp_path / "2", seed=3), None)
    assert [variant.crop for variant in first] == (["varifocal", "simple"] if crop == "auto" else [crop])
    for one, other in zip(first, second, strict=True):
        assert same(one.network().state_dict(), other.network().state_dict())
        assert not any(weight.requires_grad for weight in one.network().parameters())


def test_training_goes_on_from_other_networks(tmp_path):
    config, data = small_config(crop="simple"), striped()
    start = new_network(SMALL, 9)
    weights = state_of(start)
    rates = config.replace(steps={name: {**STEP, "lr": 1e-12} for name in ("g", "l", "fusion")})
    found = train(rates, data, data, FitContext(tmp_path), start)[0].network()
    assert torch.allclose(found.g.backbone.stem.weight, weights["g.backbone.stem.weight"], atol=1e-6)
    assert same(weights, start.state_dict())


def test_lengths_are_learned(tmp_path):
    data = striped(96)
    config = small_config(crop="simple").replace(
        steps={name: {"epochs": 12, "batch_size": 16, "lr": 3e-3} for name in ("g", "l", "fusion")}
    )
    trained = train(config, data, striped(48, seed=1), FitContext(tmp_path), None)[0]
    unseen = striped(48, seed=2)
    told = ask(trained.looker, trained.joint, unseen.images.numpy(), 2, "cpu")
    assert (told.joint.types.argmax(1) == unseen.types).float().mean() > 0.9


def test_unknown_labels_teach_nothing(tmp_path):
    data = striped()
    blank = Examples(data.images, torch.full_like(data.types, -1), torch.full_like(data.polarity, -1))
    loss = looking.Logits(torch.randn(24, 24), torch.randn(24, 2))
    assert float(classification_loss(loss, blank, small_config().steps)) == 0.0


def test_views_upside_down_answer_for_the_image_as_it_is():
    network, data = new_network(SMALL, 1), striped()
    stand_still(network)
    images = data.images.numpy()
    told = ask(looker_of(network), network.joint, images, 4, "cpu")
    turned = ask(looker_of(network), network.joint, np.ascontiguousarray(images[:, ::-1]), 4, "cpu")
    assert torch.allclose(told.joint.types, turned.joint.types, atol=1e-4)
    assert torch.allclose(told.joint.polarity, turned.joint.polarity.flip(1), atol=1e-4)


def test_making_networks_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = copy.copy(torch.rand(2))
    torch.manual_seed(5)
    new_network(SMALL, 1)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("head", ["kan(basis=rbf)", "fan"])
def test_other_heads_fit_the_joint_classifiers(head):
    network = VarifocalNet.of(SMALL.model_copy(update={"head": head}))
    types, polarity = network.joint(torch.randn(2, 2 * 8 * 16))
    assert (types.shape, polarity.shape) == ((2, 24), (2, 2))


def test_one_cycle_rises_and_falls():
    rates = [one_cycle(share / 100) for share in range(101)]
    top = rates.index(max(rates))
    assert 25 <= top <= 35
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[-1] < 0.01
    assert math.isclose(max(rates), 1.0, rel_tol=1e-3)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_one_cycle_ends_with_the_last_step_however_many_processes_share_them(tmp_path, processes):
    # as under torchrun, where the context says nothing of the other processes
    together = SimpleNamespace(
        device=torch.device("cpu"),
        world_size=processes,
        global_rank=0,
        setup_module=lambda module: module,
        setup_optimizers=lambda optimizer: optimizer,
    )
    features = Examples(torch.zeros(40, 8), torch.zeros(40).long(), torch.zeros(40).long())
    settings, plan = TrainingConfig(epochs=3, batch_size=8, lr=0.5), small_config().steps
    assert plan.schedule == "one-cycle"
    task = JointTask(torch.nn.Linear(8, 2), features, features, settings, plan)
    loop = FitLoop(task, FitContext(tmp_path), "joint", together)
    rates = []
    for _ in range(settings.epochs * loop.num_steps):
        loop.optimizer.step()
        loop.scheduler.step()
        rates.append(loop.optimizer.param_groups[0]["lr"])
    assert rates[-1] == pytest.approx(0.5 * one_cycle(1.0))
    assert rates[-2] > rates[-1]


def test_integer_and_float_crops_agree_where_the_box_is_whole():
    image = torch.rand(1, 1, 64, 64)
    box = Box(torch.tensor([32.0]), torch.tensor([30.0]), torch.tensor([16.0]))
    whole = box.corners().long()
    assert torch.allclose(crop_float(image, box, 32), crop_integer(image, whole, 32), atol=1e-6)
