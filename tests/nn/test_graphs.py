"""Graphs: sparse products, operators, neighbourhoods, experts and readers."""

from __future__ import annotations

import csv

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from scipy.sparse import csr_matrix, random_array

from appliedpapers.nn.graph import Graph, GraphError, GraphExpert, SparseMatrix, read_npz, read_tables
from appliedpapers.nn.graph.container import clean_edges
from appliedpapers.nn.mowst import ConfidenceGatedMixture

EDGES = np.array([[0, 0, 1, 3], [1, 2, 2, 4]])
NODES = 7  # 5 and 6 are isolated


def graph_of(edges=EDGES, nodes=NODES, features=None) -> Graph:
    matrix = np.random.default_rng(0).normal(size=(nodes, 4)) if features is None else features
    return Graph(
        features=SparseMatrix.of(csr_matrix(matrix)),
        edges=edges,
        labels=torch.arange(nodes) % 2,
        classes=(0, 1),
        splits=np.array([np.arange(nodes) % 3], dtype=np.int8),
    )


def random_sparse(rows, columns, seed):
    return random_array((rows, columns), density=0.3, rng=np.random.default_rng(seed), format="csr")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_a_sparse_product_equals_the_dense_one(rows, columns, seed):
    matrix = random_sparse(rows, columns, seed)
    dense, ours = torch.randn(columns, 3), SparseMatrix.of(matrix)
    whole = torch.as_tensor(matrix.toarray(), dtype=torch.float32)
    torch.testing.assert_close(ours @ dense, whole @ dense)
    torch.testing.assert_close(ours.T @ torch.ones(rows, 1), whole.T @ torch.ones(rows, 1))
    index = np.random.default_rng(seed).permutation(rows)[: rows // 2]
    torch.testing.assert_close(ours.take(index) @ dense, (whole @ dense)[index])


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_gradient_of_a_sparse_product_is_exact_to_second_order(symmetric):
    matrix = random_sparse(6, 6, 1)
    matrix = matrix + matrix.T if symmetric else matrix
    ours = SparseMatrix.of(matrix, symmetric=symmetric)
    dense = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: ours @ m, dense)
    assert torch.autograd.gradgradcheck(lambda m: (ours @ m).square(), dense)


def test_dropout_of_sparse_values_keeps_the_mean_and_the_gradient():
    torch.manual_seed(0)
    ours = SparseMatrix.of(csr_matrix(np.ones((200, 50))))
    dropped = ours.dropped(0.5)
    values = dropped.values
    assert set(values.tolist()) == {0.0, 2.0}
    assert values.mean() == pytest.approx(1, abs=0.05)
    dense = torch.randn(50, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad((dropped @ dense).sum(), dense)
    torch.testing.assert_close(gradient[:, 0], torch.as_tensor(dropped.scipy().sum(0)).ravel())


def test_a_product_of_wrong_sizes_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 4\) cannot be multiplied by \(3, 2\)"):
        SparseMatrix.of(random_sparse(3, 4, 0)) @ torch.ones(3, 2)


def test_operators_are_those_of_the_formulas():
    adjacency = np.zeros((NODES, NODES))
    adjacency[EDGES[0], EDGES[1]] = adjacency[EDGES[1], EDGES[0]] = 1
    looped = adjacency + np.eye(NODES)
    root = np.diag(looped.sum(1) ** -0.5)
    degrees = adjacency.sum(1, keepdims=True)
    mean = np.divide(adjacency, degrees, out=np.zeros_like(adjacency), where=degrees > 0)
    graph = graph_of()
    for kind, expected in (("symmetric", root @ looped @ root), ("mean", mean), ("sum", adjacency)):
        np.testing.assert_allclose(graph.operator(kind).scipy().toarray(), expected, atol=1e-6)


def test_row_normalised_rows_sum_to_one_and_empty_ones_stay_empty():
    matrix = SparseMatrix.of(csr_matrix([[1.0, 3.0], [0.0, 0.0]])).row_normalised()
    assert matrix.scipy().toarray().tolist() == [[0.25, 0.75], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("rows", "hops", "closure"),
    [([0], 1, {0, 1, 2}), ([1], 0, {1}), ([3], 5, {3, 4}), ([6], 2, {6}), ([4, 1], 1, {0, 1, 2, 3, 4})],
)
def test_the_closure_is_what_the_answers_depend_on(rows, hops, closure):
    found = graph_of().closure(rows, hops)
    assert set(found.tolist()) == closure
    assert len(found) == len(closure)
    assert found[: len(rows)].tolist() == rows


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["gcn", "sage", "gin", "mlp"]),
    st.integers(1, 3),
    st.lists(st.integers(0, 29), min_size=1, max_size=6, unique=True),
    st.integers(0, 50),
)
def test_an_answer_on_the_neighbourhood_equals_that_on_the_whole_graph(kind, depth, rows, seed):
    random = np.random.default_rng(seed)
    edges, _ = clean_edges(random.integers(0, 30, (2, 40)), 30, "drawn")
    graph = graph_of(edges, 30)
    torch.manual_seed(seed)
    net = GraphExpert(4, 2, kind=kind, hidden=5, depth=depth).eval()
    index = torch.tensor(rows)
    whole = net(graph.at())
    torch.testing.assert_close(net(graph.at(index)), whole[index])
    torch.testing.assert_close(net(graph.at(index, sampled=True)), whole[index])


@pytest.mark.parametrize("kind", ["gcn", "sage", "gin"])
def test_experts_are_their_formulas(kind):
    graph = graph_of()
    net = GraphExpert(4, 3, kind=kind, depth=1).eval()
    layer, h = net.layers[0], torch.as_tensor(graph.features.scipy().toarray())
    operator = {"gcn": "symmetric", "sage": "mean", "gin": "sum"}[kind]
    gathered = torch.as_tensor(graph.operator(operator).scipy().toarray()) @ h
    if kind == "gcn":
        expected = gathered @ layer.weight + layer.bias
    elif kind == "sage":
        expected = h @ layer.own + gathered @ layer.weight + layer.bias
    else:
        layer.eps.data.fill_(0.3)
        expected = layer.second(torch.relu((1.3 * h + gathered) @ layer.weight + layer.bias))
    torch.testing.assert_close(net(graph.at()), expected)


@pytest.mark.parametrize("kind", ["mlp", "gcn", "sage", "gin"])
def test_isolated_nodes_get_finite_answers_and_gradients(kind):
    net = GraphExpert(4, 2, kind=kind, drop_input=0.2)
    net(graph_of().at()).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert net.eval()(graph_of(np.zeros((2, 0), dtype=np.int64)).at()).isfinite().all()


def test_routing_runs_the_graph_expert_on_the_neighbourhood_of_the_routed_nodes():
    graph = graph_of()
    torch.manual_seed(0)
    mixture = ConfidenceGatedMixture(GraphExpert(4, 2, kind="mlp"), GraphExpert(4, 2), gate="power").eval()
    seen = []
    mixture.strong.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    inputs = {"weak": graph.features, "strong": graph.at()}
    tau = mixture.tau_for(inputs, budget=0.3)
    seen.clear()
    routed = mixture.route(inputs, tau)
    assert [view.rows.tolist() for view in seen] == [routed.routed.nonzero()[:, 0].tolist()]
    assert seen[0].sampled
    torch.testing.assert_close(routed.prediction, mixture.predict(inputs, "threshold", tau=tau))


def test_an_expert_refuses_what_it_cannot_read():
    with pytest.raises(TypeError, match=r"reads a NodeView \(graph.at\(rows\)\), not Tensor"):
        GraphExpert(4, 2)(torch.ones(3, 4))
    with pytest.raises(ValueError, match="in_features=5, the nodes have 4"):
        GraphExpert(5, 2)(graph_of().at())
    with pytest.raises(ValueError, match="kind must be one of"):
        GraphExpert(4, 2, kind="gat")


def test_self_loops_and_duplicates_are_dropped_and_counted():
    edges, dropped = clean_edges(np.array([[0, 1, 1, 2, 0], [1, 0, 1, 0, 1]]), 3, "edges.csv")
    assert edges.tolist() == [[0, 0], [1, 2]]
    assert dropped == {"self_loops": 1, "duplicates": 2}


# ---- files ------------------------------------------------------------


def arrays(**changed):
    return {
        "x_data": np.ones(1, np.uint8),
        "x_indices": np.array([0, 1, 2, 0], np.int32),
        "x_indptr": np.array([0, 1, 2, 4], np.int32),
        "x_shape": np.array([3, 3]),
        "y": np.array([1, -1, 2], np.int16),
        "edge_index": np.array([[0, 1], [1, 2]], np.int32),
        "split": np.array([[0, 1, 2]], np.int8),
        **changed,
    }


def test_npz_labels_are_numbered_and_ones_are_filled_in(tmp_path):
    np.savez(tmp_path / "g.npz", **arrays())
    graph = read_npz(tmp_path / "g.npz")
    assert graph.labels.tolist() == [0, -1, 1]
    assert graph.classes == (1, 2)
    assert graph.features.scipy().toarray().tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    with pytest.raises(GraphError, match="split 0 has no labelled valid nodes"):
        graph.split(0)
    with pytest.raises(GraphError, match="no split 3; the graph has 1"):
        graph.split(3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"edge_index": np.array([[0, 5], [1, 2]])},
            r"g.npz, edge 2: 5 - 2 names a node outside 0\.\.2; 1",
        ),
        ({"y": np.array([1, 1, 1])}, "at least two classes, the labels have 1"),
        ({"y": np.array([1, 2])}, "'y' speaks of 2 nodes, x_shape of 3"),
        ({"x_indices": np.array([0, 1, 2, 9])}, r"x_indices must be within 0\.\.2"),
        ({"x_data": np.array([1.0, np.nan, 1, 1])}, "feature value 2 is nan"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(tmp_path, changed, message):
    np.savez(tmp_path / "g.npz", **arrays(**changed))
    with pytest.raises(GraphError, match=message):
        read_npz(tmp_path / "g.npz")


def test_an_npz_without_an_array_is_refused(tmp_path):
    np.savez(tmp_path / "g.npz", **{key: value for key, value in arrays().items() if key != "split"})
    with pytest.raises(GraphError, match="the array 'split' is missing"):
        read_npz(tmp_path / "g.npz")


NODE_COLUMNS = {
    "id": ["a", "b", "c", "d"],
    "label": ["cat", "dog", None, "cat"],
    "split": ["train", "valid", "test", "test"],
    "size": [1.0, 2.0, 3.0, 4.0],
    "age": [0.0, 0.0, 1.0, 0.0],
}
EDGE_COLUMNS = {"src": ["a", "b", "b", "c", "c"], "dst": ["b", "a", "c", "c", "d"]}


def write(path, columns):
    if path.suffix == ".parquet":
        parquet.write_table(pa.table(columns), path)
        return path
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_tables_of_nodes_and_edges_are_read(tmp_path, suffix):
    labels = NODE_COLUMNS["label"] if suffix == ".parquet" else ["1", "2", "-1", "1"]
    nodes = write(tmp_path / f"nodes{suffix}", {**NODE_COLUMNS, "label": labels})
    graph = read_tables(nodes, write(tmp_path / f"edges{suffix}", EDGE_COLUMNS))
    assert graph.ids == ("a", "b", "c", "d")
    assert graph.labels.tolist() == [0, 1, -1, 0]
    assert graph.features.scipy().toarray()[:, 0].tolist() == [1, 2, 3, 4]
    assert graph.edges.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert graph.dropped == {"self_loops": 1, "duplicates": 1}
    split = graph.split()
    assert [part.tolist() for part in (split.train, split.valid, split.test)] == [[0], [1], [3]]


def test_sparse_features_come_from_a_table_of_triples(tmp_path):
    nodes = write(tmp_path / "nodes.parquet", {key: NODE_COLUMNS[key] for key in ("id", "label", "split")})
    triples = {"id": ["a", "d"], "feature": [2, 0], "value": [1.5, 1.0]}
    edges = write(tmp_path / "edges.parquet", EDGE_COLUMNS)
    graph = read_tables(nodes, edges, write(tmp_path / "x.parquet", triples))
    assert graph.features.scipy().toarray().tolist() == [[0, 0, 1.5], [0, 0, 0], [0, 0, 0], [1, 0, 0]]
    with pytest.raises(GraphError, match="no feature column"):
        read_tables(nodes, edges)


@pytest.mark.parametrize(
    ("node_change", "edge_change", "message"),
    [
        ({}, {"dst": ["b", "a", "c", "c", "z"]}, "row 5, column 'dst': 'z' is no node's id; 1 of 5 rows"),
        ({"id": ["a", "b", "b", "d"]}, {}, "'b' appears twice"),
        ({"size": ["x", "y", "z", "w"]}, {}, "column 'size': features must be numbers"),
        ({"age": [0.0, None, 1.0, 0.0]}, {}, "row 2, column 'age': a feature is empty"),
        ({"split": ["train", "dev", "test", "test"]}, {}, "row 2, column 'split': 'dev' is not train"),
        ({"label": ["cat"] * 4}, {}, "at least two classes"),
    ],
)
def test_tables_that_do_not_fit_are_refused_with_row_and_column(tmp_path, node_change, edge_change, message):
    nodes = write(tmp_path / "nodes.parquet", {**NODE_COLUMNS, **node_change})
    edges = write(tmp_path / "edges.parquet", {**EDGE_COLUMNS, **edge_change})
    with pytest.raises(GraphError, match=message):
        read_tables(nodes, edges)


def test_a_missing_column_and_a_missing_file_are_named(tmp_path):
    nodes = write(tmp_path / "nodes.csv", {"id": [1, 2], "size": [1, 2]})
    with pytest.raises(GraphError, match=r"nodes.csv: the column 'label' is missing; it has id, size"):
        read_tables(nodes, nodes)
    with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
        read_tables(tmp_path / "absent.csv", nodes)
