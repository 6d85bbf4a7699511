"""FinalMLP as its equations read: the peer that our network is timed against.

One table a field, one gate computation a row, library layers, automatic gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PlainFinalMLP(nn.Module):
    """The network of arXiv 2304.00902 at one hidden layer a stream.

    Args:
        sizes: Rows of the table of each categorical field.
        contexts: Positions of the context fields of each gate.
        dim: Size of an embedding.
        widths: Widths of the two streams.
        gate_hidden: Width inside the gates.
        dropout: Share of units dropped.
        heads: Heads of the fusion.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        contexts: tuple[Sequence[int], Sequence[int]],
        *,
        dim: int = 10,
        widths: tuple[int, int] = (400, 100),
        gate_hidden: int = 400,
        dropout: float = 0.4,
        heads: int = 5,
    ) -> None:
        super().__init__()
        inputs = len(sizes) * dim
        self.contexts, self.heads = contexts, heads
        self.fields = nn.ModuleList(nn.Embedding(size, dim, padding_idx=0) for size in sizes)
        self.context_fields = nn.ModuleList(
            nn.ModuleList(nn.Embedding(sizes[place], dim, padding_idx=0) for place in context)
            for context in contexts
        )
        self.gates = nn.ModuleList(
            nn.Sequential(
                nn.Linear(dim * len(context), gate_hidden),
                nn.ReLU(),
                nn.Linear(gate_hidden, inputs),
                nn.Sigmoid(),
            )
            for context in contexts
        )
        self.streams = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout))
            for width in widths
        )
        self.outputs = nn.ModuleList(nn.Linear(width, 1) for width in widths)
        self.fusion = nn.Parameter(torch.empty(widths[0] * widths[1] // heads, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights as the paper's settings do."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1e-4)
        nn.init.xavier_normal_(self.fusion)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits ``(rows, 1)`` of ids ``(rows, fields)`` int64."""
        flat = torch.cat([table(ids[:, place]) for place, table in enumerate(self.fields)], dim=1)
        outputs = []
        for context, tables, gate, stream in zip(
            self.contexts, self.context_fields, self.gates, self.streams, strict=True
        ):
            own = torch.cat(
                [table(ids[:, place]) for place, table in zip(context, tables, strict=True)], dim=1
            )
            outputs.append(stream(flat * (2 * gate(own))))
        first, second = outputs
        k = self.heads
        a, b = first.view(len(ids), k, -1), second.view(len(ids), k, -1)
        products = torch.einsum("rki,kij,rkj->r", a, self.fusion.view(k, a.shape[2], b.shape[2]), b)
        return self.outputs[0](first) + self.outputs[1](second) + products[:, None]

    def penalty(self, strength: float) -> Tensor:
        """Return half the strength times the squares of all tables."""
        tables = [module.weight for module in self.modules() if isinstance(module, nn.Embedding)]
        return strength / 2 * sum(table.square().sum() for table in tables)
