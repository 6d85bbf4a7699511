"""Graphs in memory: features, labels, edges, splits, and views of some of the nodes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from appliedpapers.nn.graph.sparse import SparseMatrix

Operator = Literal["symmetric", "mean", "sum"]


class GraphError(ValueError):
    """A graph that cannot be used; the message names the file, row or node and what to do."""


@dataclass(frozen=True)
class Split:
    """Labelled nodes for training, validation and test, each int64 ``(n,)``, sorted."""

    train: Tensor
    valid: Tensor
    test: Tensor


@dataclass
class Graph:
    """An undirected graph with node features and, for some nodes, labels.

    Attributes:
        features: ``(nodes, features)``.
        edges: ``(2, edges)`` int64; each pair once, no self loops.
        labels: ``(nodes,)`` int64 in 0..classes-1, -1 where unlabelled.
        classes: The labels as they were given, by class.
        splits: ``(splits, nodes)`` int8: 0 train, 1 valid, 2 test, -1 none.
        ids: The nodes' names, by position.
        dropped: How many self loops and duplicate edges were left out.
    """

    features: SparseMatrix
    edges: np.ndarray
    labels: Tensor
    classes: tuple[Any, ...]
    splits: np.ndarray
    ids: tuple[Any, ...] | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    _operators: dict[str, SparseMatrix] = field(default_factory=dict, repr=False)

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return self.features.shape[0]

    def operator(self, kind: Operator) -> SparseMatrix:
        """Return the matrix that gathers neighbours, ``(nodes, nodes)``, made once.

        ``symmetric`` is ``D^-1/2 (A + I) D^-1/2`` with the degrees of ``A + I``; ``mean`` is ``D^-1 A``
        and ``sum`` is ``A``, in both of which an isolated node has an empty row.
        """
        if kind not in self._operators:
            self._operators[kind] = _operator(self.edges, self.nodes, kind)
        return self._operators[kind]

    def split(self, index: int = 0) -> Split:
        """Return one of the splits, labelled nodes only.

        Raises:
            GraphError: There is no such split, or one of its parts has no labelled node.
        """
        if not 0 <= index < len(self.splits):
            raise GraphError(f"there is no split {index}; the graph has {len(self.splits)}, counted from 0")
        parts = []
        for part, name in enumerate(("train", "valid", "test")):
            chosen = np.flatnonzero((self.splits[index] == part) & (self.labels.numpy() >= 0))
            if not chosen.size:
                raise GraphError(f"split {index} has no labelled {name} nodes")
            parts.append(torch.from_numpy(chosen))
        return Split(*parts)

    def at(self, rows: Tensor | None = None, *, sampled: bool = False) -> NodeView:
        """Return a view of some nodes (all if None) for an expert.

        Args:
            rows: int64 ``(n,)``.
            sampled: Compute on the neighbourhood of ``rows`` only, instead of on the whole graph.
        """
        every = torch.arange(self.nodes) if rows is None else rows
        return NodeView(self, every, sampled=sampled, whole=rows is None)

    def closure(self, rows: Any, hops: int) -> np.ndarray:
        """Return the nodes that the answers for ``rows`` depend on through ``hops`` layers.

        Returns:
            int64; ``rows`` first, then those one hop away, and so on, each node once.
        """
        return self._rings(np.asarray(rows), hops)[-1]

    def _rings(self, rows: np.ndarray, hops: int) -> list[np.ndarray]:
        adjacency = self.operator("sum").scipy()
        rings = [rows.astype(np.int64)]
        known = np.zeros(self.nodes, dtype=bool)
        known[rows] = True
        for _ in range(hops):
            touched = np.unique(adjacency[rings[-1]].indices)
            new = touched[~known[touched]]
            known[new] = True
            rings.append(np.concatenate([rings[-1], new]))
        return rings


@dataclass(frozen=True)
class NodeView:
    """Some nodes of a graph, as the input of a graph expert.

    Attributes:
        graph: The graph.
        rows: The nodes that are asked for, int64 ``(n,)``, each once.
        sampled: Compute on their neighbourhood only.
        whole: ``rows`` are all nodes in order.
    """

    graph: Graph
    rows: Tensor
    sampled: bool = False
    whole: bool = False

    def take(self, index: Any) -> NodeView:
        """Return a sampled view of some of these rows: what routing computes."""
        return NodeView(self.graph, self.rows[torch.as_tensor(index)], sampled=True)

    def __len__(self) -> int:
        return len(self.rows)

    def hops(self, kind: Operator, layers: int) -> tuple[SparseMatrix, list[SparseMatrix], Tensor | None]:
        """Return what a network of so many layers computes on.

        Returns:
            The features of the outermost nodes; one operator a layer, outermost first, whose rows are the
            first of its columns; and which rows of the last layer to give, None for all.
        """
        operator = self.graph.operator(kind)
        if not self.sampled:
            return self.graph.features, [operator] * layers, None if self.whole else self.rows
        rings = self.graph._rings(self.rows.numpy(), layers)
        matrix = operator.scipy()
        place = np.zeros(self.graph.nodes, dtype=np.int64)
        blocks = []
        for inner, outer in itertools.pairwise(rings):
            place[outer] = np.arange(len(outer))
            blocks.append(_renamed(matrix[inner], place, len(outer)))
        return self.graph.features.take(rings[-1]), blocks[::-1], None


def _renamed(rows: Any, place: np.ndarray, width: int) -> SparseMatrix:
    from scipy.sparse import csr_matrix

    return SparseMatrix.of(csr_matrix((rows.data, place[rows.indices], rows.indptr), (rows.shape[0], width)))


def _operator(edges: np.ndarray, nodes: int, kind: Operator) -> SparseMatrix:
    from scipy.sparse import coo_matrix, diags, identity

    source, target = np.concatenate([edges, edges[::-1]], axis=1)
    adjacency = coo_matrix((np.ones(len(source)), (source, target)), (nodes, nodes)).tocsr()
    if kind == "sum":
        return SparseMatrix.of(adjacency, symmetric=True)
    if kind == "mean":
        return SparseMatrix.of(adjacency).row_normalised()
    looped = adjacency + identity(nodes, format="csr")
    root = diags(1 / np.sqrt(np.asarray(looped.sum(axis=1)).ravel()))
    return SparseMatrix.of(root @ looped @ root, symmetric=True)


def clean_edges(pairs: np.ndarray, nodes: int, where: str) -> tuple[np.ndarray, dict[str, int]]:
    """Return each undirected pair once, without self loops, and how many of each were dropped.

    Args:
        pairs: ``(2, n)`` node positions.
        nodes: Number of nodes.
        where: The file, for the message.

    Raises:
        GraphError: A position is outside 0..nodes-1.
    """
    unknown = np.flatnonzero(((pairs < 0) | (pairs >= nodes)).any(axis=0))
    if unknown.size:
        first = int(unknown[0])
        raise GraphError(
            f"{where}, edge {first + 1}: {pairs[0, first]} - {pairs[1, first]} names a node outside "
            f"0..{nodes - 1}; {unknown.size} of {pairs.shape[1]} edges do"
        )
    apart = pairs[:, pairs[0] != pairs[1]].astype(np.int64)
    low, high = apart.min(axis=0), apart.max(axis=0)
    # one number a pair, sorted plainly: measured many times faster than np.unique
    keys = np.sort(low * nodes + high)
    is_new = np.ones(len(keys), dtype=bool)
    is_new[1:] = keys[1:] != keys[:-1]
    unique = np.stack(np.divmod(keys[is_new], nodes))
    loops = pairs.shape[1] - apart.shape[1]
    return unique, {"self_loops": loops, "duplicates": apart.shape[1] - unique.shape[1]}


def numbered(labels: np.ndarray) -> tuple[Tensor, tuple[Any, ...]]:
    """Return labels as 0..classes-1 and the classes; -1 and None stay unlabelled (-1).

    Raises:
        GraphError: Fewer than two classes.
    """
    values = labels.tolist()
    known = sorted({value for value in values if not _unlabelled(value)})
    if len(known) < 2:
        raise GraphError(f"classification needs at least two classes, the labels have {len(known)}")
    place = {value: index for index, value in enumerate(known)}
    found = [-1 if _unlabelled(value) else place[value] for value in values]
    return torch.tensor(found, dtype=torch.int64), tuple(known)


def _unlabelled(value: Any) -> bool:
    return value is None or value == -1 or value != value
