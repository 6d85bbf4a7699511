"""Weights: the same whoever draws around them, and whole after they were written and read."""

import pytest
import torch
from torch import nn

from appliedpapers.core.errors import ConfigError
from appliedpapers.core.weights import drawn_by, load_network, parameter_count, save_network, start_from


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_weights_depend_on_the_seed_alone_and_the_global_generator_goes_on():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with drawn_by(1):
        first = nn.Linear(4, 2)
    assert torch.equal(torch.rand(3), expected)
    with drawn_by(1):
        again = nn.Linear(4, 2)
    with drawn_by(2):
        other = nn.Linear(4, 2)
    assert same(first, again)
    assert not same(first, other)


def test_the_global_generator_is_put_back_where_making_a_network_fails():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with pytest.raises(TypeError), drawn_by(1):
        nn.Sequential(nn.Linear(4, 2), "no layer")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("make", [Tied, lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).train()])
def test_a_network_that_was_written_and_read_is_the_same_and_ready_to_answer(tmp_path, make):
    network = make()
    save_network(network, tmp_path / "network.safetensors")
    found = load_network(make(), tmp_path / "network.safetensors", "cpu")
    assert same(found, network)
    assert not found.training


def test_parameters_are_counted_over_networks_and_buffers_are_none():
    assert parameter_count(nn.Linear(1000, 3), nn.BatchNorm1d(2)) == "3,007"
    assert parameter_count() == "0"


def test_a_network_starts_from_an_earlier_one_of_its_sizes():
    network, earlier = nn.Linear(3, 2), nn.Linear(3, 2)
    start_from(network, earlier.state_dict())
    assert same(network, earlier)
    assert network.weight is not earlier.weight


@pytest.mark.parametrize(
    ("earlier", "message"),
    [
        (nn.Linear(4, 2), "'weight' has another size than in that model"),
        (nn.Linear(3, 2, bias=False), "'bias' is in one of the two models only"),
        (nn.Sequential(nn.Linear(3, 2)), "'weight' is in one of the two models only"),
    ],
)
def test_an_earlier_network_of_other_sizes_is_refused_and_nothing_taken_over(earlier, message):
    network = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ConfigError, match=f"^--init-from: {message}") as caught:
        start_from(network, earlier.state_dict())
    assert caught.value.hint
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(ConfigError):
        start_from(earlier, before)
