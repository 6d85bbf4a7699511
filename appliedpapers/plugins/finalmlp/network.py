"""FinalMLP and DualMLP (arXiv 2304.00902, section 3): two gated MLP streams and their bilinear fusion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from appliedpapers.core.features.encoded import EncodedField
from appliedpapers.nn import build
from appliedpapers.nn.module import Module
from appliedpapers.plugins.finalmlp.layers import (
    bilinear,
    half_square,
    hidden_layer,
    is_lean,
    look_up,
    spread,
)

Fusion = Literal["bilinear", "sum"]

_TABLE_STD = 1e-4
_WORTH_SHARING = 0.75


@dataclass(frozen=True)
class Batch:
    """Encoded rows as tensors, on the network's device.

    Attributes:
        ids: Categorical ids, ``(batch, categorical fields)``, int32 or int64.
        numbers: ``(batch, numeric fields)`` float.
        sequences: One ``(batch, length)`` integer tensor a sequence field, 0 behind.
    """

    ids: Tensor
    numbers: Tensor
    sequences: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class StreamOptions:
    """One stream.

    Attributes:
        hidden: Widths of the layers; the last is the width of the stream's output.
        dropout: Share of units dropped behind each layer.
        batch_norm: Normalise before the rectification.
        block: ``mlp`` for the paper's layers, or a shared module such as ``kan(grid=5)`` from the gated
            embeddings to the last width.
    """

    hidden: tuple[int, ...] = (400,)
    dropout: float = 0.0
    batch_norm: bool = True
    block: str = "mlp"


class FieldTables(nn.Module):
    """Embeddings of some fields: one table for all tokens, one weight a numeric field.

    A numeric value x becomes ``x w``, a sequence the mean of its tokens (empty: zeros).

    Args:
        fields: All fields of the batch, in schema order.
        chosen: Positions in ``fields`` of those that are embedded; kept in schema order.
        dim: Size of an embedding (d).

    Shape:
        - input: :class:`Batch`
        - output: ``(batch, chosen fields * dim)``, in schema order
    """

    offsets: Tensor
    padding: Tensor
    order: Tensor

    def __init__(self, fields: Sequence[EncodedField], chosen: Sequence[int], dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.chosen = tuple(sorted(set(chosen)))
        places = {kind: _places(fields, self.chosen, kind) for kind in ("categorical", "numeric", "sequence")}
        self.columns = {kind: tuple(column for _, column in found) for kind, found in places.items()}
        tabled = [*places["categorical"], *places["sequence"]]
        sizes = [fields[position].size for position, _ in tabled]
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        self.spans = {
            position: (start, size) for (position, _), start, size in zip(tabled, starts, sizes, strict=True)
        }
        # an empty parameter never gets a gradient, which several processes would wait for
        self.table = nn.Parameter(torch.empty(sum(sizes), dim), requires_grad=bool(sizes))
        numeric = torch.empty(len(places["numeric"]), dim)
        self.scale = nn.Parameter(numeric, requires_grad=bool(len(numeric)))
        made = [position for kind in places for position, _ in places[kind]]
        order = [made.index(position) for position in self.chosen]
        self.in_order = order == list(range(len(order)))
        self.all_categorical = len(places["categorical"]) == sum(
            field.kind == "categorical" for field in fields
        )
        self.register_buffer("offsets", torch.tensor(starts, dtype=torch.int32), persistent=False)
        self.register_buffer("padding", torch.tensor(starts, dtype=torch.int64), persistent=False)
        self.register_buffer("order", torch.tensor(order, dtype=torch.int64), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw tables with standard deviation 1e-4, padding 0; numeric weights by Xavier's normal rule."""
        nn.init.normal_(self.table, std=_TABLE_STD)
        with torch.no_grad():
            self.table.index_fill_(0, self.padding, 0.0)
        nn.init.normal_(self.scale, std=math.sqrt(2.0 / (1 + self.dim)))

    def forward(self, batch: Batch) -> Tensor:
        """Embed a batch."""
        parts = []
        columns = self.columns
        if columns["categorical"]:
            ids = batch.ids if self.all_categorical else batch.ids[:, list(columns["categorical"])]
            parts.append(look_up(self.table, ids, self.offsets[: len(columns["categorical"])], self.padding))
        if columns["numeric"]:
            values = batch.numbers[:, list(columns["numeric"])].to(self.scale.dtype)
            parts.append(values[:, :, None] * self.scale)
        for number, column in enumerate(columns["sequence"], start=len(columns["categorical"])):
            parts.append(self._pooled(batch.sequences[column], self.offsets[number])[:, None])
        together = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        if not self.in_order:
            together = together.index_select(1, self.order)
        return together.flatten(1)

    def looked_up(self, batch: Batch) -> Tensor:
        """Return the squares of all rows that a batch looks up (again for each time), over its size."""
        total = self.scale.square().sum()
        categorical = self.columns["categorical"]
        if categorical:
            ids = batch.ids[:, list(categorical)]
            rows = look_up(self.table, ids, self.offsets[: len(categorical)], self.padding)
            total = total + rows.square().sum() / len(batch)
        for number, column in enumerate(self.columns["sequence"], start=len(categorical)):
            rows = look_up(self.table, batch.sequences[column], self.offsets[number], self.padding)
            total = total + rows.square().sum() / len(batch)
        return total

    def _pooled(self, tokens: Tensor, offset: Tensor) -> Tensor:
        rows = look_up(self.table, tokens, offset, self.padding)
        present = (tokens != 0).to(rows.dtype)
        # padding's row is zero: only the count needs the mask. The paper's count + 1e-12 is the same number,
        # but exporters take 1e-12 for nothing, and the mean of no token is then no number
        return rows.sum(dim=1) / present.sum(dim=1, keepdim=True).clamp_min(1.0)


class Gate(nn.Module):
    """Stream-specific feature gate ``2 sigmoid(W2 relu(W1 c + b1) + b2)`` (equations 4 to 6).

    A gate depends on its context alone, so it is computed once for each distinct context of a batch.

    Args:
        fields: All fields.
        context: Positions of the context fields; none means one learned vector.
        dim: Size of an embedding.
        hidden: Widths of the hidden layers.

    Shape:
        - output: ``(batch or 1, fields * dim)``, values in (0, 2)
    """

    def __init__(
        self, fields: Sequence[EncodedField], context: Sequence[int], dim: int, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        self.tables = FieldTables(fields, context, dim) if context else None
        self.vector = None if context else nn.Parameter(torch.zeros(1, dim))
        self.sizes = [fields[position].size for position in sorted(set(context))]
        self.shareable = bool(context) and all(fields[position].kind == "categorical" for position in context)
        widths = [dim * max(len(set(context)), 1), *hidden, len(fields) * dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, batch: Batch) -> Tensor:
        """Return the gate of each row, or one row for all where there is no context."""
        if self.tables is None:
            assert self.vector is not None
            return self.of_context(self.vector)
        if self.shareable and is_lean(self.tables.table):
            first, inverse = self._distinct(batch)
            if len(first) < _WORTH_SHARING * len(batch):
                shared = Batch(batch.ids.index_select(0, first), batch.numbers[:0])
                return spread(self.of_context(self.tables(shared)), inverse)
        return self.of_context(self.tables(batch))

    def of_context(self, context: Tensor) -> Tensor:
        """Return the gates of embedded contexts."""
        hidden = context
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        return 2.0 * torch.sigmoid(self.layers[-1](hidden))

    def _distinct(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return a row of each distinct context, and which of them each row has."""
        assert self.tables is not None
        ids = batch.ids[:, list(self.tables.columns["categorical"])].long()
        key = ids[:, 0]
        for column, size in enumerate(self.sizes[1:], start=1):
            key = key * size + ids[:, column]
            if column + 1 < len(self.sizes):
                # renumbered, so that the product of many sizes cannot overflow
                key = torch.unique(key, return_inverse=True)[1]
        values, inverse = torch.unique(key, return_inverse=True)
        first = torch.empty(len(values), dtype=torch.int64, device=key.device)
        first[inverse] = torch.arange(len(key), device=key.device)
        return first, inverse


class Stream(nn.Module):
    """Hidden layers Linear, BatchNorm, ReLU, Dropout, without an output layer; or a shared module.

    Shape:
        - input: ``(batch, in_features)``
        - output: ``(batch, options.hidden[-1])``
    """

    def __init__(self, in_features: int, options: StreamOptions) -> None:
        super().__init__()
        self.options = options
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        self.module: Module | None = None
        if options.block != "mlp":
            self.module = build(options.block, in_features=in_features, out_features=options.hidden[-1])
            return
        widths = [in_features, *options.hidden]
        for a, b in pairwise(widths):
            self.layers.append(nn.Linear(a, b))
            self.norms.append(nn.BatchNorm1d(b) if options.batch_norm else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream's output."""
        dropout = self.options.dropout
        if self.module is not None:
            return nn.functional.dropout(self.module(x), dropout, self.training)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            chosen = norm if isinstance(norm, nn.BatchNorm1d) else None
            x = hidden_layer(layer(x), chosen, dropout, training=self.training)
        return x


class FinalMLP(nn.Module):
    """Two streams over the gated embeddings, fused to one logit.

    Args:
        fields: The fields in schema order.
        dim: Size of an embedding (d).
        streams: The two streams.
        contexts: Positions of the context fields of each gate; their order does not matter.
        gate_hidden: Widths of the gates' hidden layers.
        heads: Heads of the fusion (k); divides the widths of both streams.
        use_gate: False leaves the gates out (``h1 = h2 = e``).
        fusion: ``bilinear`` (equation 9), or ``sum`` of two linear maps, which without gates is DualMLP.

    Shape:
        - input: :class:`Batch`
        - output: logits ``(batch,)``

    Raises:
        ValueError: ``heads`` does not divide both widths.
    """

    def __init__(
        self,
        fields: Sequence[EncodedField],
        *,
        dim: int = 10,
        streams: tuple[StreamOptions, StreamOptions] = (StreamOptions(), StreamOptions()),
        contexts: tuple[Sequence[int], Sequence[int]] = ((), ()),
        gate_hidden: Sequence[int] = (800,),
        heads: int = 1,
        use_gate: bool = True,
        fusion: Fusion = "bilinear",
    ) -> None:
        super().__init__()
        widths = [options.hidden[-1] for options in streams]
        if fusion == "bilinear" and any(width % heads for width in widths):
            raise ValueError(
                f"heads {heads} must divide the widths {widths[0]} and {widths[1]} of both streams"
            )
        self.tables = FieldTables(fields, range(len(fields)), dim)
        self.gates = (
            nn.ModuleList(Gate(fields, one, dim, gate_hidden) for one in contexts) if use_gate else None
        )
        self.streams = nn.ModuleList(Stream(len(fields) * dim, options) for options in streams)
        self.outputs = nn.ModuleList(nn.Linear(width, 1) for width in widths)
        self.heads = heads
        self.fusion: nn.Parameter | None = None
        if fusion == "bilinear":
            self.fusion = nn.Parameter(torch.empty(widths[0] * widths[1] // heads, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights by Xavier's normal rule, biases 0, tables near zero."""
        for module in self.modules():
            if isinstance(module, Module):
                module.reset_parameters()
        linear = [
            layer for part in (self.gates, self.streams, self.outputs) if part for layer in _linears(part)
        ]
        for layer in linear:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        if self.fusion is not None:
            nn.init.xavier_normal_(self.fusion)
        for module in self.modules():
            if isinstance(module, FieldTables | nn.BatchNorm1d):
                module.reset_parameters()

    def forward(self, batch: Batch) -> Tensor:
        """Return the logit of each row."""
        return self.fuse(*self.represent(batch))

    def represent(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the outputs ``o1``, ``o2`` of the streams."""
        flat = self.tables(batch)
        first, second = self.gated(flat, batch)
        return self.streams[0](first), self.streams[1](second)

    def gated(self, flat: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the two gated forms of the embeddings ``(batch, fields * dim)``."""
        if self.gates is None:
            return flat, flat
        return flat * self.gates[0](batch), flat * self.gates[1](batch)

    def fuse(self, o1: Tensor, o2: Tensor) -> Tensor:
        """Return the logit of the streams' outputs (equation 9)."""
        logit: Tensor = (self.outputs[0](o1) + self.outputs[1](o2)).squeeze(1)
        if self.fusion is None:
            return logit
        k = self.heads
        return logit + bilinear(o1, o2, self.fusion.view(k, o1.shape[1] // k, o2.shape[1] // k))

    def embeddings(self) -> list[nn.Parameter]:
        """Return field tables, numeric weights and gate tables: what the embedding penalty is on."""
        found = [module for module in self.modules() if isinstance(module, FieldTables)]
        return [parameter for one in found for parameter in (one.table, one.scale) if parameter.numel()]

    def penalty(self, embedding: float, net: float) -> Tensor:
        """Return ``embedding / 2 sum E^2 + net / 2 sum theta^2``, over whole tables and all other weights."""
        tables = self.embeddings()
        total = embedding * half_square(*tables) if embedding else tables[0].new_zeros(())
        if net:
            known = {id(parameter) for parameter in tables}
            rest = [one for one in self.parameters() if id(one) not in known and one.numel()]
            total = total + net * half_square(*rest)
        return total

    def batch_penalty(self, batch: Batch) -> Tensor:
        """Return half the squares of the table rows that a batch looks up, over its size."""
        found = [module for module in self.modules() if isinstance(module, FieldTables)]
        return 0.5 * torch.stack([one.looked_up(batch) for one in found]).sum()

    def aux_loss(self) -> Tensor | None:
        """Return what shared modules in the streams add to the loss, None where there are none."""
        named = [one for one in self.streams.children() if isinstance(one, Stream) and one.module is not None]
        found = [one.module.aux_loss() for one in named if one.module is not None]
        return torch.stack(found).sum() if found else None


def _places(fields: Sequence[EncodedField], chosen: Sequence[int], kind: str) -> list[tuple[int, int]]:
    """Return position among all fields and column among those of its kind, for the chosen ones."""
    of_kind = [position for position, field in enumerate(fields) if field.kind == kind]
    return [(position, of_kind.index(position)) for position in chosen if position in of_kind]


def _linears(part: nn.Module) -> list[nn.Linear]:
    # layers inside shared modules have initial values of their own
    inside = {id(one) for module in part.modules() if isinstance(module, Module) for one in module.modules()}
    return [one for one in part.modules() if isinstance(one, nn.Linear) and id(one) not in inside]
