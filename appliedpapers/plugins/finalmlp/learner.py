"""Training of the network and scoring of encoded rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from appliedpapers.core import metrics
from appliedpapers.core.features.encoded import EncodedRows
from appliedpapers.core.training import TrainTask, shuffled_slices
from appliedpapers.plugins.finalmlp.config import FinalMlpTraining
from appliedpapers.plugins.finalmlp.network import Batch, FinalMLP
from appliedpapers.plugins.finalmlp.scorer import Scorer

_BETTER_BY = 1e-6
_LOWEST_RATE = 1e-6
_ROWS_A_BLOCK = 16_384
_MANY_TABLE_ROWS = 5_000_000


class Scores(Protocol):
    """What gives the logits of a batch."""

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return logits ``(batch,)``."""


class RowStream(Protocol):
    """Encoded rows that are too many for the memory."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def shuffled(self, batch_size: int, *, seed: int, buffer_rows: int) -> Iterator[EncodedRows]:
        """Yield every row once, in random batches."""


class ClickTask(TrainTask):
    """Cross-entropy plus penalties; an epoch is judged by the AUC of the valid rows.

    Args:
        network: What is trained.
        train: Rows with labels, in memory or streamed.
        valid: Rows with labels.
        settings: How it is trained: batch size, penalties, schedule.
        oov_dropout: Share of tokens that are trained as if never seen.
        shuffle_buffer: Rows that are shuffled at a time where they are streamed.
    """

    monitor = "valid_auc"
    higher_is_better = True
    min_delta = _BETTER_BY

    def __init__(
        self,
        network: FinalMLP,
        train: EncodedRows | RowStream,
        valid: EncodedRows,
        settings: FinalMlpTraining,
        *,
        oov_dropout: float = 0.0,
        shuffle_buffer: int = 1_000_000,
    ) -> None:
        assert valid.label is not None
        self.network: FinalMLP = network
        self.settings: FinalMlpTraining = settings
        self._valid = valid
        self._oov_dropout, self._buffer = oov_dropout, shuffle_buffer
        self._rows = len(train)
        self._stream = None if isinstance(train, EncodedRows) else train
        self._memory = _Tensors(train) if isinstance(train, EncodedRows) else None
        if settings.monitor == "auc-logloss":
            self.monitor = "valid_auc_minus_logloss"
        last = [field.unseen for field in valid.fields if field.kind == "categorical"]
        self._unseen = torch.tensor(last, dtype=torch.int32)
        many = network.tables.table.shape[0] >= _MANY_TABLE_ROWS
        self._batch_rows_only = settings.l2 == "batch_rows" or (settings.l2 == "auto" and many)

    def optimizer(self) -> torch.optim.Optimizer:
        """Return Adam with the paper's constants."""
        settings = self.settings
        return torch.optim.Adam(
            self.network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """Return what lowers the rate after each epoch that is no better; it is essential (see README)."""
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            mode="max",
            factor=self.settings.lr_decay,
            patience=0,
            threshold=_BETTER_BY,
            threshold_mode="abs",
            min_lr=_LOWEST_RATE,
        )

    def num_steps(self) -> int:
        """Return the batches of an epoch; a rest of one row is left out, which has no batch statistics."""
        whole, rest = divmod(self._rows, self.settings.batch_size)
        return max(whole + (rest > 1), 1)

    def batches(self, order: torch.Generator) -> Iterator[Any]:
        """Yield row numbers, or encoded rows where they are streamed."""
        size = self.settings.batch_size
        if self._stream is None:
            found: Iterator[Any] = shuffled_slices(self._rows, size, order)
        else:
            seed = int(torch.randint(0, 2**31, (), generator=order))
            found = self._stream.shuffled(size, seed=seed, buffer_rows=self._buffer)
        for number, batch in enumerate(found):
            if number < self.num_steps():
                yield batch

    def loss(self, batch: Any) -> Tensor:
        """Return the weighted mean cross-entropy of a batch plus the penalties."""
        rows = self._memory.take(batch) if self._memory is not None else _Tensors(batch)
        inputs = rows.batch(self.device)
        if self._oov_dropout > 0:
            inputs = self._forget(inputs)
        label = rows.label.to(self.device)
        losses = F.binary_cross_entropy_with_logits(
            self.network(inputs).float(), label, reduction="none", pos_weight=self._positive()
        )
        mean = losses.mean() if rows.weight is None else _weighted(losses, rows.weight.to(self.device))
        extra = self.network.aux_loss()
        total = mean + self._penalty(inputs)
        return total if extra is None else total + extra

    def validate(self) -> Mapping[str, float]:
        """Return AUC and logloss of the valid rows, uncalibrated."""
        logits = score_rows(Scorer(self.network), self._valid)
        probabilities = 1.0 / (1.0 + np.exp(-logits))
        label = self._valid.label
        assert label is not None
        auc = metrics.auc(label, logits, self._valid.weight)
        logloss = metrics.logloss(label, probabilities, self._valid.weight)
        found = {"valid_auc": auc, "valid_logloss": logloss}
        return found | {"valid_auc_minus_logloss": auc - logloss} if self.monitor not in found else found

    def _forget(self, batch: Batch) -> Batch:
        forgotten = torch.rand(batch.ids.shape, device=batch.ids.device) < self._oov_dropout
        unseen = self._unseen.to(batch.ids.device).expand_as(batch.ids)
        return Batch(torch.where(forgotten, unseen, batch.ids), batch.numbers, batch.sequences)

    def _penalty(self, batch: Batch) -> Tensor:
        settings = self.settings
        if not self._batch_rows_only:
            return self.network.penalty(settings.embedding_l2, settings.net_l2)
        whole = self.network.penalty(0.0, settings.net_l2)
        return whole + settings.embedding_l2 * self.network.batch_penalty(batch)

    def _positive(self) -> Tensor | None:
        weight = self.settings.positive_weight
        return None if weight == 1.0 else torch.tensor(weight, device=self.device)


def _weighted(losses: Tensor, weights: Tensor) -> Tensor:
    return (losses * weights).sum() / weights.sum()


class _Tensors:
    """Encoded rows as tensors that share memory with the arrays."""

    def __init__(self, rows: EncodedRows) -> None:
        assert rows.label is not None
        self.ids = torch.from_numpy(rows.ids)
        self.numbers = torch.from_numpy(rows.numbers)
        self.sequences = tuple(torch.from_numpy(one) for one in rows.sequences)
        self.label = torch.from_numpy(rows.label)
        self.weight = None if rows.weight is None else torch.from_numpy(rows.weight)

    def take(self, places: Tensor) -> _Tensors:
        taken = _Tensors.__new__(_Tensors)
        taken.ids = self.ids.index_select(0, places)
        taken.numbers = self.numbers.index_select(0, places)
        taken.sequences = tuple(one.index_select(0, places) for one in self.sequences)
        taken.label = self.label.index_select(0, places)
        taken.weight = None if self.weight is None else self.weight.index_select(0, places)
        return taken

    def batch(self, device: torch.device) -> Batch:
        return Batch(
            self.ids.to(device),
            self.numbers.to(device),
            tuple(one.to(device) for one in self.sequences),
        )


def as_batch(rows: EncodedRows, device: torch.device | str = "cpu") -> Batch:
    """Return encoded rows as tensors on a device."""
    return Batch(
        torch.from_numpy(rows.ids).to(device),
        torch.from_numpy(rows.numbers).to(device),
        tuple(torch.from_numpy(one).to(device) for one in rows.sequences),
    )


def score_rows(scores: Scores, rows: EncodedRows, device: torch.device | str = "cpu") -> NDArray[np.float64]:
    """Return the logits of encoded rows, ``(rows,)`` float64, in blocks: memory stays bounded."""
    blocks = [
        scores(as_batch(rows.take(slice(start, start + _ROWS_A_BLOCK)), device)).double().cpu().numpy()
        for start in range(0, len(rows), _ROWS_A_BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0)
