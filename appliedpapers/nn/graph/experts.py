"""Experts on graphs: MLP, GCN, GraphSAGE and GIN, on the whole graph or on a neighbourhood."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliedpapers.nn.graph.container import NodeView, Operator
from appliedpapers.nn.graph.sparse import SparseMatrix
from appliedpapers.nn.module import check_choice, check_positive

KINDS = ("mlp", "gcn", "sage", "gin")
_OPERATORS: dict[str, Operator] = {"gcn": "symmetric", "sage": "mean", "gin": "sum"}


class GraphExpert(nn.Module):
    """A network over nodes: layers with BatchNorm, ReLU and dropout between them.

    Every layer multiplies by its weights before it gathers neighbours, so that sparse features are never
    made dense.

    Args:
        in_features: Features of a node.
        out_features: Classes.
        kind: ``mlp`` reads the node's own features only; ``gcn`` is ``S (h W) + b`` with the symmetric
            normalised adjacency (Kipf and Welling, arXiv 1609.02907); ``sage`` is ``W_self h_v + W_nb mean
            of the neighbours`` (arXiv 1706.02216); ``gin`` is ``MLP((1 + eps) h_v + sum of the neighbours)``
            with a learned eps (arXiv 1810.00826).
        hidden: Width of the hidden layers.
        depth: Number of layers.
        drop: Dropout after each hidden layer.
        drop_input: Dropout of the features.
        norm: ``batch`` or None.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        - input: a :class:`NodeView` of ``n`` nodes; for ``mlp`` also a :class:`SparseMatrix` or a tensor
          ``(n, in_features)``
        - output: ``(n, out_features)`` logits

    Raises:
        ValueError: An option is out of range, or the input has another number of features.
        TypeError: A graph network is given rows without a graph.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        kind: str = "gcn",
        hidden: int = 64,
        depth: int = 2,
        drop: float = 0.5,
        drop_input: float = 0.0,
        norm: str | None = "batch",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_choice("GraphExpert", "kind", kind, KINDS)
        check_positive(
            "GraphExpert", in_features=in_features, out_features=out_features, hidden=hidden, depth=depth
        )
        self.in_features, self.out_features, self.kind, self.depth = in_features, out_features, kind, depth
        self.drop, self.drop_input = drop, drop_input
        where = {"device": device, "dtype": dtype}
        sizes = [in_features, *[hidden] * (depth - 1), out_features]
        self.layers = nn.ModuleList(_Layer(kind, i, o, **where) for i, o in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(hidden, **where) if norm else nn.Identity() for _ in range(depth - 1)
        )

    def forward(self, x: NodeView | SparseMatrix | Tensor) -> Tensor:
        """Return the logits of the nodes asked for."""
        h, hops, rows = self._inputs(x)
        if h.shape[1] != self.in_features:
            raise ValueError(f"GraphExpert: in_features={self.in_features}, the nodes have {h.shape[1]}")
        if self.drop_input and self.training:
            dropped = isinstance(h, SparseMatrix)
            h = h.dropped(self.drop_input) if dropped else F.dropout(h, self.drop_input)
        for index, layer in enumerate(self.layers):
            h = layer(h, hops[index])
            if index + 1 < self.depth:
                h = F.dropout(F.relu(self.norms[index](h)), self.drop, self.training)
        assert isinstance(h, Tensor)
        return h if rows is None else h[rows]

    def extra_repr(self) -> str:
        """Name what the layers do not show."""
        return f"{self.kind}, drop={self.drop}"

    def _inputs(self, x: Any) -> tuple[Any, list[SparseMatrix | None], Tensor | None]:
        nothing: list[SparseMatrix | None] = [None] * self.depth
        if isinstance(x, NodeView):
            if self.kind == "mlp":
                return (x.graph.features if x.whole else x.graph.features.take(x.rows)), nothing, None
            features, hops, rows = x.hops(_OPERATORS[self.kind], self.depth)
            return features, [*hops], rows
        if self.kind != "mlp":
            raise TypeError(f"a {self.kind} expert reads a NodeView (graph.at(rows)), not {type(x).__name__}")
        return x, nothing, None


class _Layer(nn.Module):
    """One layer; the rows of the operator are the first of its columns."""

    def __init__(self, kind: str, in_features: int, out_features: int, **where: Any) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.empty(in_features, out_features, **where))
        self.bias = nn.Parameter(torch.empty(out_features, **where))
        if kind == "sage":
            self.own = nn.Parameter(torch.empty(in_features, out_features, **where))
        if kind == "gin":
            self.eps = nn.Parameter(torch.empty((), **where))
            self.second = nn.Linear(out_features, out_features, **where)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew (Glorot), biases at 0."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)
        if self.kind == "sage":
            nn.init.xavier_uniform_(self.own)
        if self.kind == "gin":
            nn.init.zeros_(self.eps)
            self.second.reset_parameters()

    def forward(self, h: Any, hop: SparseMatrix | None) -> Tensor:
        projected: Tensor = h @ self.weight
        if hop is None:
            return projected + self.bias
        gathered = hop @ projected + self.bias
        inner = hop.shape[0]
        if self.kind == "sage":
            own: Tensor = (h @ self.own)[:inner]
            return gathered + own
        if self.kind == "gin":
            answer: Tensor = self.second(F.relu(gathered + (1 + self.eps) * projected[:inner]))
            return answer
        return gathered
