"""The scorer answers as the network does: whatever its gates, streams and fusion, in any batch and thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_clicks import batch_of, mixed_fields, random_rows, small_network

from appliedpapers.plugins.finalmlp import scorer as scorers
from appliedpapers.plugins.finalmlp.learner import as_batch, score_rows
from appliedpapers.plugins.finalmlp.network import StreamOptions
from appliedpapers.plugins.finalmlp.scorer import Scorer

FIELDS = mixed_fields()
ROWS = random_rows(FIELDS, 200)


def used(network):
    """Move the running statistics away from where they start."""
    network.train()
    with torch.no_grad():
        for seed in range(3):
            network(batch_of(random_rows(FIELDS, 64, seed)))
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
    return network


STREAMS = {
    "deep": (StreamOptions((8, 6), 0.3), StreamOptions((4,), 0.3)),
    "without-norm": (StreamOptions((8, 6), batch_norm=False), StreamOptions((4,))),
    "shared-module": (StreamOptions((8, 6), 0.3, block="kan(grid=3)"), StreamOptions((4,))),
    "many-heads": (StreamOptions((48,)), StreamOptions((24,))),
}
CONTEXTS = {
    "tabled": ((1,), (3,)),
    "several": ((1, 3), (3, 6)),
    "without": ((), ()),
    "other-kinds": ((0, 2), (1,)),
}


@pytest.mark.parametrize("contexts", CONTEXTS)
@pytest.mark.parametrize("streams", STREAMS)
def test_the_scorer_gives_the_networks_logits(streams, contexts):
    heads = 24 if streams == "many-heads" else 2
    network = used(small_network(FIELDS, streams=STREAMS[streams], contexts=CONTEXTS[contexts], heads=heads))
    scores = Scorer(network)
    assert not network.training
    with torch.no_grad():
        expected = network(batch_of(ROWS))
    assert expected.std() > 0.1
    torch.testing.assert_close(scores(batch_of(ROWS)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("gate", "fusion"), [(False, "sum"), (False, "bilinear"), (True, "sum")])
def test_the_scorer_knows_the_ablations(gate, fusion):
    network = used(small_network(FIELDS, use_gate=gate, fusion=fusion))
    with torch.no_grad():
        expected = network.eval()(batch_of(ROWS))
    torch.testing.assert_close(Scorer(network)(batch_of(ROWS)), expected, rtol=1e-5, atol=1e-5)


def test_a_table_of_gates_that_would_be_too_large_is_not_made(monkeypatch):
    network = used(small_network(FIELDS))
    tabled = Scorer(network)
    monkeypatch.setattr(scorers, "_TABLE_FLOATS", 10)
    untabled = Scorer(network)
    assert isinstance(tabled._gates[0], scorers._TabledGate)
    assert not isinstance(untabled._gates[0], scorers._TabledGate)
    torch.testing.assert_close(tabled(batch_of(ROWS)), untabled(batch_of(ROWS)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("contexts", CONTEXTS)
def test_a_rows_logit_does_not_depend_on_its_batch_or_place(contexts):
    scores = Scorer(used(small_network(FIELDS, contexts=CONTEXTS[contexts])))

    def chances(rows):
        return torch.sigmoid(scores(batch_of(rows)).double()).numpy()

    together = chances(ROWS)
    assert together.std() > 0.1
    alone = np.concatenate([chances(ROWS.take(slice(k, k + 1))) for k in range(len(ROWS))])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-6)
    order = np.random.default_rng(0).permutation(len(ROWS))
    np.testing.assert_allclose(chances(ROWS.take(order)), together[order], rtol=0, atol=1e-6)


def test_threads_may_share_a_scorer():
    scores = Scorer(used(small_network(FIELDS, contexts=CONTEXTS["several"])))
    parts = [ROWS.take(slice(start, start + 40)) for start in range(0, 200, 40)] * 8
    expected = [scores(batch_of(part)) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda part: scores(batch_of(part)), parts))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_rows_are_scored_in_blocks_of_bounded_size(monkeypatch):
    sizes = []

    def scores(batch):
        sizes.append(len(batch))
        return batch.numbers.sum(dim=1)

    monkeypatch.setattr("appliedpapers.plugins.finalmlp.learner._ROWS_A_BLOCK", 64)
    found = score_rows(scores, ROWS)
    assert sizes == [64, 64, 64, 8]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, ROWS.numbers.sum(axis=1), rtol=1e-6)
    assert score_rows(scores, ROWS.take(slice(0, 0))).shape == (0,)


def test_what_is_scored_is_not_changed():
    before = [array.copy() for array in (ROWS.ids, ROWS.numbers, *ROWS.sequences)]
    score_rows(Scorer(used(small_network(FIELDS))), ROWS)
    for kept, now in zip(before, (ROWS.ids, ROWS.numbers, *ROWS.sequences), strict=True):
        np.testing.assert_array_equal(kept, now)
    assert as_batch(ROWS).ids.data_ptr() == ROWS.ids.ctypes.data
