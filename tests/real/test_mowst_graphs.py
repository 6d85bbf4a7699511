"""Reduced forms of the figures on published graphs; benchmarks/mowst_graphs.py measures them whole."""

from __future__ import annotations

import statistics

import pytest
import torch

from appliedpapers.nn.graph import read_npz
from appliedpapers.nn.mowst_phases import MixtureTraining
from appliedpapers.nn.mowst_training import train_mixture
from benchmarks.mowst_acceptance import usual_gcn
from benchmarks.mowst_graphs import LIMIT, experts, part, routing

pytestmark = pytest.mark.shared


def graph_of(shared, name):
    return read_npz(shared / "data" / "mowst" / f"graph_{name}.npz")


def trained(graph, index, hidden=64, **options):
    mixture = experts(graph, hidden, "star", seed=index)
    train, valid, test = (part(graph, index, name) for name in ("train", "valid", "test"))
    done = train_mixture(mixture, train, valid, MixtureTraining(seed=index, **options))
    return mixture, done, valid, test


@pytest.mark.parametrize(
    ("name", "nodes", "features", "edges", "classes", "splits", "unlabelled"),
    [
        ("blogcatalog", 5196, 8189, 171743, 6, 5, 0),
        ("fb100_johnshopkins55", 5180, 2406, 186586, 2, 5, 418),
        ("cora", 2708, 1433, 5278, 7, 6, 0),
        ("chameleon_filtered", 890, 2325, 8854, 5, 10, 0),
    ],
)
def test_the_graphs_are_read_whole(shared, name, nodes, features, edges, classes, splits, unlabelled):
    graph = graph_of(shared, name)
    assert graph.features.shape == (nodes, features)
    assert graph.edges.shape == (2, edges)
    assert graph.dropped == {"self_loops": 0, "duplicates": 0}
    assert (len(graph.classes), len(graph.splits)) == (classes, splits)
    assert int((graph.labels < 0).sum()) == unlabelled
    assert all((graph.labels[graph.split(0).train] >= 0).tolist())


@pytest.mark.slow
def test_a_short_training_on_blogcatalog_ships_more_than_either_expert(shared):
    graph = graph_of(shared, "blogcatalog")
    mixture, done, valid, test = trained(graph, 0, epochs=40, patience=15)
    found = done.compare(mixture, *test)
    assert done.selection.valid[done.selection.name] == max(done.selection.valid.values())
    assert found["weak"] >= 0.89
    assert found["shipped"] >= max(found["weak"], found["strong"]) + 0.01
    saved = routing(graph, mixture, valid, test)
    assert saved["half"]["share"] <= 0.56
    assert saved["half"]["loss"] <= 3 * LIMIT


def test_selection_protects_where_no_expert_is_good(shared):
    graph = graph_of(shared, "chameleon_filtered")
    margins = []
    for index in range(3):
        mixture, done, _, test = trained(graph, index, epochs=60, patience=20)
        found = done.compare(mixture, *test)
        assert done.selection.valid[done.selection.name] == max(done.selection.valid.values())
        margins.append(found["shipped"] - max(found["weak"], found["strong"]))
    assert statistics.fmean(margins) >= -0.04


def test_the_usual_graph_network_reaches_the_usual_figure_on_cora(shared):
    torch.set_num_threads(1)
    assert usual_gcn(shared / "data", seed=0) >= 79.5
