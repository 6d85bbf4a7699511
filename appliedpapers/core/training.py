"""The fit loop of every network: epochs, early stopping, checkpoints, identical continuation.

A plugin describes its training as a :class:`TrainTask` and calls :func:`fit`; papers with several phases or
optimisers give several tasks.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from appliedpapers.core.device import check_precision
from appliedpapers.core.distributed import start_fabric, started_ranks
from appliedpapers.core.model import FitContext
from appliedpapers.core.progress import SilentProgress
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.core.training_loop import ONLY, FitLoop, History

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["History", "TrainTask", "TrainingConfig", "fit", "shuffled_slices"]


class TrainTask(ABC):
    """What is trained: a network, its batches, its loss and how it is judged.

    In-memory data bypasses ``DataLoader`` (it costs half of a small step): let :meth:`batches` yield slices
    of indices (:func:`shuffled_slices`) and gather the rows in :meth:`loss`. Then skipping batches, as
    resuming and training in several processes do, costs next to nothing.

    Attributes:
        network: All that is trained, moved to the device by :func:`fit`.
        settings: How it is trained.
        monitor: The metric of :meth:`validate` that decides which epoch is best.
        higher_is_better: Whether ``monitor`` is maximised (an AUC) rather than minimised (a loss).
        min_delta: An epoch counts as better only where it improves the best by at least so much, not
            negative; with 0 it must be strictly better. The first epoch always counts.
        keeps_last: Keep the weights of the last epoch whatever ``monitor`` says, as a schedule that ends low,
            or data without a validation part, ask for; ``patience`` then never stops it.
        schedules_steps: The scheduler is stepped after every step rather than after every epoch.
        shown: What is told of each epoch: ``monitor`` where empty, or ``train_loss`` where nothing is
            measured on validation data; what ``monitor`` names is then not recorded.
    """

    network: nn.Module
    settings: TrainingConfig
    monitor: str = "valid_loss"
    higher_is_better: bool = False
    min_delta: float = 0.0
    keeps_last: bool = False
    schedules_steps: bool = False
    shown: str = ""

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @abstractmethod
    def optimizer(self) -> Optimizer:
        """Return the optimiser of the network's parameters, which are on their device by now."""

    def scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler | None:
        """Return what changes the learning rate; ``None`` applies ``lr_decay`` after every epoch.

        Args:
            optimizer: What :meth:`optimizer` returned.
            steps: How often the schedule is stepped in all: after every epoch or, with ``schedules_steps``,
                after every step, of which there are fewer where several processes share them.
        """
        return None

    @abstractmethod
    def num_steps(self) -> int:
        """Return the number of batches in an epoch, positive and the same in all of them."""

    @abstractmethod
    def batches(self, order: torch.Generator) -> Iterator[Any]:
        """Yield the batches of one epoch; their order depends on ``order`` alone, a CPU generator."""

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Return the mean loss of ``batch``, a scalar; tensors in the batch are on the device."""

    @abstractmethod
    def validate(self) -> Mapping[str, float]:
        """Return metrics of the validation data; called in eval mode, no gradients, 32 bits."""


def fit(task: TrainTask, context: FitContext, name: str = ONLY) -> History:
    """Train ``task.network`` and leave it on its device, in eval mode, with the weights of the best epoch.

    The same seed gives the same weights on the same machine, also when training is interrupted at any step
    and resumed. Checkpoints go to ``context.folder / name`` (:mod:`appliedpapers.core.checkpoint`); Ctrl-C
    finishes the step, writes one and raises ``KeyboardInterrupt``, a second Ctrl-C stops at once.
    ``context.log_metrics`` receives every epoch of the history once a call, with keys such as
    ``encoder/train_loss`` where the network has a name; on resume the earlier epochs are replayed first.
    With several processes each takes every n-th batch and gradients are averaged, so a step covers n batches;
    in a shorter last step some processes repeat a batch.

    Args:
        task: What to train, and how.
        context: Seed, device, precision, folder, progress and metric sink of the run.
        name: Names this network among those of the run: its folder, its random streams and its metrics.

    Raises:
        RunError: The loss or the monitored metric is not finite (the message names the step), a checkpoint
            could not be written or read, or another training process failed.
        ConfigError: The precision does not fit the device, or the checkpoint that should be resumed belongs
            to other settings.
        KeyboardInterrupt: After Ctrl-C.
    """
    check_precision(context.precision, context.device)
    elsewhere = dataclasses.replace(context, progress=SilentProgress(), log_metrics=_drop)
    with started_ranks(context.devices, _fit_elsewhere, task, elsewhere, name):
        return _run(task, context, name)


def shuffled_slices(rows: int, batch_size: int, order: torch.Generator) -> Iterator[Tensor]:
    """Yield the indices ``0 .. rows - 1`` in random order, int64, ``batch_size`` at a time, the rest last."""
    shuffled = torch.randperm(rows, generator=order)
    for start in range(0, rows, batch_size):
        yield shuffled[start : start + batch_size]


def _drop(metrics: Mapping[str, float], step: int, /) -> None:
    """Log nothing: rank 0 speaks for all processes."""


def _fit_elsewhere(task: TrainTask, context: FitContext, name: str) -> None:
    # CPU tensors arrive in memory shared with rank 0: without copies both would train the same numbers.
    with torch.no_grad():
        for tensor in (*task.network.parameters(), *task.network.buffers()):
            tensor.data = tensor.data.clone()
    _run(task, context, name)


def _run(task: TrainTask, context: FitContext, name: str) -> History:
    fabric = start_fabric(context.device, context.precision)
    return FitLoop(task, context, name, fabric).run()
