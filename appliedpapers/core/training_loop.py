"""One fit in one process: position, steps, checkpoints. :mod:`appliedpapers.core.training` is its face."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from appliedpapers.core.checkpoint import (
    Checkpoint,
    CheckpointStore,
    capture_generators,
    restore_generators,
)
from appliedpapers.core.device import derive_seed, seed_everything
from appliedpapers.core.errors import ConfigError, RunError
from appliedpapers.core.interrupt import Interrupt
from appliedpapers.core.model import FitContext
from appliedpapers.core.progress import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from appliedpapers.core.training import TrainTask

ONLY = "network"  # name of the network of a run that has but one

_SETTLE_EVERY = 25  # steps between transfers of the losses: the device need not wait for each one
_SHOW_EVERY_S = 0.1
_WRITING_SHARE = 0.05  # of the time may go into checkpoints

_UNCHECKED = {"checkpoint_every_steps"}  # settings that do not change what is learnt


@dataclass
class History:
    """What happened during a fit; :func:`dataclasses.asdict` of it is JSON.

    Attributes:
        epochs: For each epoch the mean ``train_loss``, its ``lr`` and the metrics of ``validate``.
        best_epoch: Number of the epoch whose weights were kept, from 1; of equal ones the earliest.
        best_value: Its monitored metric; infinite, and worse than any, before the first epoch has ended.
        stopped_early: Patience ran out before the last epoch.
        seconds: Time in the loop, over all interruptions.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = math.inf
    stopped_early: bool = False
    seconds: float = 0.0


class _Step(nn.Module):
    """The loss as a forward pass, so that data-parallel training sees it whatever the network's call is."""

    def __init__(self, task: TrainTask) -> None:
        super().__init__()
        self.network = task.network
        self._loss = task.loss

    def forward(self, held: _Held) -> Tensor:
        return self._loss(held.batch)


class _Held:
    """Keeps a batch opaque: Fabric would cast its floats, targets included, to the training precision."""

    __slots__ = ("batch",)

    def __init__(self, batch: Any) -> None:
        self.batch = batch


class FitLoop:
    """One fit in one process: where it stands, and the steps that move it on."""

    def __init__(self, task: TrainTask, context: FitContext, name: str, fabric: Fabric) -> None:
        self.task, self.context, self.name, self.fabric = task, context, name, fabric
        self.settings = settings = task.settings
        self.store = CheckpointStore(context.folder / name)
        self.network = task.network.to(fabric.device)
        self.device = str(fabric.device)
        seed_everything(derive_seed(context.seed, "fit", name, fabric.global_rank))
        self.optimizer = task.optimizer()
        self.num_steps = math.ceil(task.num_steps() / fabric.world_size)
        steps = settings.epochs * (self.num_steps if task.schedules_steps else 1)
        given = task.scheduler(self.optimizer, steps)
        self.scheduler = given or torch.optim.lr_scheduler.ExponentialLR(self.optimizer, settings.lr_decay)
        self.schedules_steps = task.schedules_steps and given is not None
        step = _Step(task)
        self.forward = fabric.setup_module(step) if fabric.world_size > 1 else step
        self.stepper = fabric.setup_optimizers(self.optimizer)
        self.history = History(best_value=-math.inf if task.higher_is_better else math.inf)
        self.best: dict[str, Tensor] | None = None
        self.best_is_stored = False
        self.epoch = self.step = self.waiting = 0
        self.total = 0.0  # of the settled losses of this epoch
        self.losses: list[Tensor] = []
        self.finished = False
        self.generators: dict[str, Tensor] | None = None  # to be restored at the next step
        self.written_at, self.writing_took = time.monotonic(), 0.0
        self.shown_at, self.unshown = 0.0, 0
        self.seconds_before, self.started = 0.0, time.monotonic()

    def run(self) -> History:
        """Start or continue, train to the end, and put the best weights into the network."""
        self._open()
        title = "training" if self.name == ONLY else self.name
        total = self.settings.epochs * self.num_steps
        with Interrupt() as interrupt, self.context.progress.task(title, total=total) as bar:
            if not self.finished:
                bar.advance(self.epoch * self.num_steps + self.step)
            while not self.finished:
                self._train_epoch(bar, interrupt)
                self._end_epoch(bar)
                if self.finished or self._worth_writing():
                    self._write()
                self._leave_if_asked(interrupt)
        if self.best is not None:
            self.network.load_state_dict(self.best)
        self.network.eval()
        return self.history

    def _train_epoch(self, bar: Task, interrupt: Interrupt) -> None:
        batches = self._remaining_batches()
        if self.generators is not None:
            restore_generators(self.generators, self.device)
            self.generators = None
        self.network.train()
        every, alone = self.settings.checkpoint_every_steps, self.fabric.world_size == 1
        for batch in batches:
            self._train_step(batch)
            self._show(bar)
            at_mark = every > 0 and self.step % every == 0 and self.step < self.num_steps
            if at_mark or self.step % _SETTLE_EVERY == 0 or (alone and interrupt.asked):
                self._settle()
                self._leave_if_asked(interrupt)
                if at_mark and self._worth_writing():
                    self._write()
        self._settle()
        if self.step != self.num_steps:
            raise ValueError(
                f"{type(self.task).__name__}.batches() gave {self.step} steps an epoch, "
                f"num_steps() promised {self.num_steps}"
            )

    def _train_step(self, batch: Any) -> None:
        if self.fabric.device.type != "cpu":
            batch = self.fabric.to_device(batch)
        self.optimizer.zero_grad()
        with self.fabric.autocast():
            loss = self.forward(_Held(batch))
        self.fabric.backward(loss)
        if self.settings.gradient_clip is not None:
            # Half precision skips steps whose gradients overflow, so those are no error here.
            self.fabric.clip_gradients(
                self.network, self.optimizer, max_norm=self.settings.gradient_clip, error_if_nonfinite=False
            )
        self.stepper.step()
        if self.schedules_steps:
            self.scheduler.step()
        self.losses.append(loss.detach())
        self.step += 1

    def _end_epoch(self, bar: Task) -> None:
        rate = float(self.optimizer.param_groups[0]["lr"])
        metrics = self._validate()
        value = metrics[self.task.monitor]
        if not math.isfinite(value):
            raise RunError(
                f"{self.name}: {self.task.monitor} is {value} after epoch {self.epoch + 1}.",
                hint="Lower the learning rate or set gradient_clip, and check the validation data.",
            )
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(value)
        elif not self.schedules_steps:
            self.scheduler.step()
        record = {"train_loss": self.total / self.num_steps, **metrics, "lr": rate}
        if self.task.shown:
            # what stands for a validation is no figure of it
            record.pop(self.task.monitor)
        self.epoch, self.step, self.total = self.epoch + 1, 0, 0.0
        self._judge(value)
        self.history.epochs.append(record)
        self._log(record, self.epoch)
        shown = self.task.shown or self.task.monitor
        said = f"{shown.replace('_', ' ')} {record[shown]:.4g}"
        said += "" if self.task.keeps_last else f" (best {self.history.best_epoch})"
        bar.advance(self.unshown, note=f"epoch {self.epoch}/{self.settings.epochs}  {said}")
        self.unshown = 0

    def _log(self, record: Mapping[str, float], epoch: int) -> None:
        if self.name != ONLY:
            record = {f"{self.name}/{key}": value for key, value in record.items()}
        self.context.log_metrics(record, epoch)

    def _judge(self, value: float) -> None:
        if self._is_better(value):
            self.history.best_value, self.history.best_epoch, self.waiting = value, self.epoch, 0
            # the last weights are those that the network holds at the end
            if not self.task.keeps_last:
                self.best, self.best_is_stored = _copy_weights(self.network), False
        else:
            self.waiting += 1
        patience = self.settings.patience
        out_of_patience = 0 < patience <= self.waiting
        self.finished = out_of_patience or self.epoch == self.settings.epochs
        self.history.stopped_early = out_of_patience and self.epoch < self.settings.epochs

    def _is_better(self, value: float) -> bool:
        if self.task.keeps_last:
            return True
        best, needed = self.history.best_value, self.task.min_delta
        if self.task.higher_is_better:
            return value > best and value >= best + needed
        return value < best and value <= best - needed

    def _validate(self) -> dict[str, float]:
        for buffer in self.network.buffers():  # running statistics are each process's own
            self._share(buffer)
        self.network.eval()
        with torch.no_grad():
            metrics = {key: float(value) for key, value in self.task.validate().items()}
        if self.task.monitor not in metrics:
            raise ValueError(f"validate() gave {sorted(metrics)}, but the monitor is '{self.task.monitor}'")
        return dict(zip(metrics, self._agree(list(metrics.values())), strict=True))

    def _remaining_batches(self) -> Iterator[Any]:
        order = torch.Generator()
        order.manual_seed(derive_seed(self.context.seed, "order", self.epoch))
        batches = iter(self.task.batches(order))
        if self.fabric.world_size > 1:
            batches = _own_share(batches, self.fabric.global_rank, self.fabric.world_size)
        deque(islice(batches, self.step), maxlen=0)
        return batches

    def _settle(self) -> None:
        """Fetch the losses of the last steps, refuse those that are not finite and add them up in order."""
        if not self.losses:
            return
        losses = torch.stack([loss.reshape(()) for loss in self.losses])
        if self.fabric.world_size > 1:
            losses = self.fabric.all_reduce(losses, reduce_op="mean")
        first = self.step - len(self.losses) + 1
        for step, loss in enumerate(losses.tolist(), start=first):
            if not math.isfinite(loss):
                raise RunError(
                    f"{self.name}: the training loss is {loss} in epoch {self.epoch + 1}, "
                    f"step {step} of {self.num_steps}.",
                    hint="Lower the learning rate or set gradient_clip, and look for extreme values.",
                )
            self.total += loss
        self.losses.clear()

    def _leave_if_asked(self, interrupt: Interrupt) -> None:
        if not self._agree([float(interrupt.asked)])[0]:
            return
        if not self.finished:
            self._write()
            self.context.progress.say(f"Interrupted; the checkpoint is in {self.store.folder}.")
        raise KeyboardInterrupt

    def _show(self, bar: Task) -> None:
        self.unshown += 1
        now = time.monotonic()
        if now - self.shown_at >= _SHOW_EVERY_S:
            bar.advance(self.unshown)
            self.shown_at, self.unshown = now, 0

    def _open(self) -> None:
        """Continue from the checkpoint where that is asked for and possible; start afresh otherwise."""
        checkpoint = self.store.read() if self.context.resume else None
        self.fabric.barrier()
        if checkpoint is None:
            if self.fabric.is_global_zero:
                self.store.clear()
            return
        self._check_identity(checkpoint.state["identity"])
        state = checkpoint.state
        self.network.load_state_dict(checkpoint.last)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.history = History(**state["history"])
        self.seconds_before = self.history.seconds
        # earlier versions stored the last weights as best ones, too
        best = None if self.task.keeps_last else checkpoint.best
        self.best = None if best is None else dict(best)
        self.best_is_stored = self.best is not None
        self.epoch, self.step, self.waiting = state["epoch"], state["step"], state["waiting"]
        self.total, self.finished = state["total"], state["finished"]
        self.generators = {key: value[self.fabric.global_rank] for key, value in state["generators"].items()}
        for epoch, record in enumerate(self.history.epochs, start=1):
            self._log(record, epoch)

    def _write(self) -> None:
        started = time.monotonic()
        self.history.seconds = self.seconds_before + started - self.started
        generators = {key: self._gather(state) for key, state in capture_generators(self.device).items()}
        if self.fabric.is_global_zero:
            state = {
                "identity": self._identity(),
                "epoch": self.epoch,
                "step": self.step,
                "waiting": self.waiting,
                "total": self.total,
                "finished": self.finished,
                "history": dataclasses.asdict(self.history),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "scaler": self.fabric.strategy.precision.state_dict(),
                "generators": generators,
            }
            self.store.write(
                Checkpoint(self.network.state_dict(), self.best, state), keep_best=self.best_is_stored
            )
        self.best_is_stored = self.best is not None
        self.written_at = time.monotonic()
        self.writing_took = self.written_at - started

    def _worth_writing(self) -> bool:
        since = time.monotonic() - self.written_at
        return bool(self._agree([float(since * _WRITING_SHARE >= self.writing_took)])[0])

    def _identity(self) -> dict[str, Any]:
        """Return what must be the same for a continuation to be the same training."""
        return {
            **self.settings.model_dump(exclude=_UNCHECKED),
            "seed": self.context.seed,
            "precision": self.context.precision,
            "device": self.fabric.device.type,
            "processes": self.fabric.world_size,
            "steps an epoch": self.num_steps,
            "monitor": self._goal(),
            "weights": {key: list(value.shape) for key, value in self.network.state_dict().items()},
        }

    def _goal(self) -> str:
        # the bare name for the plain case, as checkpoints of earlier versions hold it
        way = "maximised" if self.task.higher_is_better else "minimised"
        if self.task.keeps_last:
            return f"{self.task.monitor} of the last epoch"
        needed = f" by steps of {self.task.min_delta!r}" if self.task.min_delta else ""
        plain = not self.task.higher_is_better and not needed
        return self.task.monitor if plain else f"{self.task.monitor} {way}{needed}"

    def _check_identity(self, stored: Mapping[str, Any]) -> None:
        for key, ours in self._identity().items():
            theirs = stored.get(key)
            if theirs == ours:
                continue
            differ = (
                "the shapes of its weights" if key == "weights" else f"{key} was {theirs} and is now {ours}"
            )
            raise ConfigError(
                f"{self.name} cannot be resumed: its checkpoint was made with other settings ({differ}).",
                hint=f"Train again without --resume, or with the settings of {self.store.folder}.",
            )

    def _agree(self, values: Sequence[float]) -> list[float]:
        """Return the values of rank 0, so that all processes decide alike."""
        if self.fabric.world_size == 1:
            return list(values)
        shared: list[float] = self._share(
            torch.tensor(values, dtype=torch.float64, device=self.device)
        ).tolist()
        return shared

    def _share(self, tensor: Tensor) -> Tensor:
        if self.fabric.world_size > 1:
            torch.distributed.broadcast(tensor, src=0)
        return tensor

    def _gather(self, tensor: Tensor) -> Tensor:
        if self.fabric.world_size == 1:
            return tensor.unsqueeze(0)
        gathered: Tensor = self.fabric.all_gather(tensor.to(self.device))
        return gathered.cpu()


def _own_share(batches: Iterator[Any], rank: int, world_size: int) -> Iterator[Any]:
    """Yield every ``world_size``-th batch; a short last round repeats batches, so that all have as many."""
    while group := list(islice(batches, world_size)):
        yield group[rank % len(group)]


def _copy_weights(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().to("cpu", copy=True) for key, value in network.state_dict().items()}
