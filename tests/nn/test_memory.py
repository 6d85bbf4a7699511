"""How much memory layers need at their peak, counted allocation by allocation."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from appliedpapers import nn
from appliedpapers.nn.kan_linear import KANLinear


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, while they live."""

    def __init__(self):
        super().__init__()
        self.seen, self.now, self.peak = set(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if is_tensor(leaf)}
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if is_tensor(leaf) and leaf.untyped_storage().data_ptr() not in given:
                self.count(leaf.untyped_storage())
        return result

    def count(self, storage):
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self.seen or not size:
            return
        self.seen.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.forget, place, size)

    def forget(self, place, size):
        self.seen.discard(place)
        self.now -= size


def is_tensor(leaf):
    return isinstance(leaf, torch.Tensor)


def peak_bytes(work):
    with LiveBytes() as live:
        work()
    return live.peak


def test_the_count_follows_what_lives():
    def work():
        first = torch.ones(1000)
        second = first + 1
        del first
        return second * 2 + second

    assert peak_bytes(work) == 3 * 4000


@pytest.mark.parametrize(
    "layer",
    [
        KANLinear(32, 16, basis="fourier", grid=4),
        nn.build("karat", length=32, rank=12, grid=4),
    ],
    ids=["kan-linear", "karat"],
)
def test_fourier_layers_need_less_than_three_times_their_features(layer):
    x = torch.randn(4096, 32, requires_grad=True)
    features = 4 * x.numel() * 2 * 4  # bytes of x, times cosines and sines of 4 frequencies
    layer(x[:1]).sum().backward()
    peak = peak_bytes(lambda: layer(x).sum().backward())
    # the features must be there for the way back, so the measure itself is tested too
    assert features <= peak < 3 * features


def test_qubits_keep_no_edge_by_row_for_the_way_back():
    layer, x = nn.build("qkan-linear", 32, 32), torch.randn(2048, 32, requires_grad=True)
    layer(x[:1]).sum().backward()
    assert peak_bytes(lambda: layer(x).sum().backward()) < 2048 * 32 * 32 * 4
