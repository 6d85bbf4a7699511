"""TabNet: its sparse projection, its ghost batches, and the common implementation where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from appliedpapers.plugins.agrosense.crop.tabnet import GhostNorm, TabNet, from_common_names, sparsemax


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    scores = torch.tensor([[0.5, 0.5, 0.0], [3.0, 0.0, 0.0], [0.2, 0.1, 0.0]])
    found = sparsemax(scores)
    assert found.sum(dim=1).numpy() == pytest.approx(1)
    np.testing.assert_allclose(found[0], [0.5, 0.5, 0.0], atol=1e-7)
    np.testing.assert_allclose(found[1], [1.0, 0.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(found[2], [0.2 + 0.7 / 3, 0.1 + 0.7 / 3, 0.7 / 3], atol=1e-6)


def test_ghost_batches_together_are_ghost_batches_one_by_one():
    torch.manual_seed(0)
    together, apart = GhostNorm(5, 8), GhostNorm(5, 8)
    x = torch.randn(32, 5)
    one = together(x)
    other = torch.cat([super(GhostNorm, apart).forward(part) for part in x.chunk(4)])
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(together.running_mean, apart.running_mean)
    torch.testing.assert_close(together.running_var, apart.running_var)


def test_masks_look_at_each_row_by_itself_and_sum_to_its_decisions():
    torch.manual_seed(0)
    network = TabNet(6, 3, 4, 4, 3, 1.3, 16)
    network(torch.randn(64, 6))
    network.eval()
    x = torch.randn(10, 6)
    logits, entropy, looked = network.look(x)
    assert logits.shape == (10, 3)
    assert float(entropy.detach()) >= 0
    assert (looked >= 0).all()
    torch.testing.assert_close(network(x[:1]), logits[:1])


def test_the_common_implementation_gives_the_same_logits():
    theirs = pytest.importorskip("pytorch_tabnet.tab_network")
    torch.manual_seed(0)
    options = {"n_d": 8, "n_a": 8, "n_steps": 3, "gamma": 1.3, "virtual_batch_size": 32, "momentum": 0.02}
    other = theirs.TabNetNoEmbeddings(7, 22, **options, group_attention_matrix=torch.eye(7))
    ours = TabNet(7, 22, 8, 8, 3, 1.3, 32)
    ours.load_state_dict(from_common_names(other.state_dict(), 3))
    x = torch.randn(128, 7)
    for training in (True, False):
        ours.train(training)
        other.train(training)
        assert (ours(x) - other(x)[0]).abs().max() < 1e-5


def test_weights_are_taken_over_by_name():
    network = TabNet(7, 5, 8, 8, 2, 1.3, 32)
    theirs = {}
    for key, value in network.state_dict().items():
        head, *rest = key.split(".")
        if head in ("norm", "last"):
            name = {"norm": "initial_bn", "last": "final_mapping"}[head]
            theirs[".".join(["tabnet", name, *rest])] = value
    found = from_common_names(theirs, 2)
    assert set(found) == {key for key in network.state_dict() if key.split(".")[0] in ("norm", "last")}
