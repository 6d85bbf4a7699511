"""Graphs without a graph library: a container, readers, sparse products and experts."""

from __future__ import annotations

from appliedpapers.nn.graph.container import Graph, GraphError, NodeView, Split
from appliedpapers.nn.graph.experts import GraphExpert
from appliedpapers.nn.graph.files import read_npz, read_tables
from appliedpapers.nn.graph.sparse import SparseMatrix

__all__ = [
    "Graph",
    "GraphError",
    "GraphExpert",
    "NodeView",
    "SparseMatrix",
    "Split",
    "read_npz",
    "read_tables",
]
