"""Training of the networks: losses on volatility, batches of images, and forecasts of many anchors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliedpapers.core.training import TrainingConfig, TrainTask, shuffled_slices
from appliedpapers.plugins.volatility_images.config import Loss
from appliedpapers.plugins.volatility_images.features import Standard
from appliedpapers.plugins.volatility_images.images import ImageBuilder, Scale
from appliedpapers.plugins.volatility_images.market import Floats, Ints, Session, top_levels
from appliedpapers.plugins.volatility_images.network import VolatilityNetwork
from appliedpapers.plugins.volatility_images.splits import VolatilitySplit

if TYPE_CHECKING:
    from torch.optim import Optimizer

_CLAMP = 6.0
_KEPT_BYTES = 600_000_000
_BLOCK = 128
_RAW_SECONDS = 10
_FEWEST_BLOCKS = 6
MONITORS: Mapping[Loss, str] = {"qlike": "qlike", "log-mse": "log_mse", "rmspe": "rmspe"}


def losses_of(kind: Loss, apart: Tensor) -> Tensor:
    """Return the loss of each row.

    Args:
        kind: ``qlike`` is ``exp(2 d) - 2 d - 1`` with ``2 d`` held below 6, ``log-mse`` is ``d^2``, ``rmspe``
            the squared relative error ``(exp(-d) - 1)^2``.
        apart: ``d = ln truth - ln forecast``.
    """
    if kind == "qlike":
        twice = 2 * apart
        held = torch.clamp(twice, max=_CLAMP)
        # beyond the clamp it goes on along its tangent, so that a far miss still pulls
        return torch.exp(held) * (1 + (twice - held)) - twice - 1
    if kind == "log-mse":
        return apart.square()
    return (torch.exp(torch.clamp(-apart, max=_CLAMP)) - 1).square()


class Inputs:
    """What a network is shown of the anchors of a split: images or a raw vector, and features.

    Args:
        builder: Images.
        scale: Of images.
        standard: Of features.
        raw: Give the last ten seconds of book and trades as one vector instead of an image.
        seen: False for a network that sees features alone.
        tick: Smallest step of the price.
    """

    def __init__(
        self, builder: ImageBuilder, scale: Scale, standard: Standard, *, raw: bool, seen: bool, tick: float
    ) -> None:
        self.builder, self.scale, self.standard = builder, scale, standard
        self.raw, self.seen, self.tick = raw, seen, tick
        self._kept: dict[int, tuple[VolatilitySplit, Tensor]] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what stands for the image."""
        if self.raw:
            return (23 * _RAW_SECONDS,)
        return self.builder.shape if self.seen else (0,)

    def features(self, split: VolatilitySplit) -> Tensor:
        """Return standardised features of all anchors, float32."""
        return torch.from_numpy(self.standard(split.features).astype(np.float32))

    def images(self, split: VolatilitySplit, rows: NDArray[np.int64]) -> Tensor:
        """Return scaled images of some anchors; those of a split are kept where they fit into memory."""
        if not self.seen:
            return torch.zeros((len(rows), 0))
        known = self._kept.get(id(split))
        if known is None and 4 * split.num_rows * int(np.prod(self.shape)) <= _KEPT_BYTES:
            known = self._kept[id(split)] = (split, self._made(split, np.arange(split.num_rows)))
        return self._made(split, rows) if known is None else known[1][torch.from_numpy(rows)]

    def one(self, session: Session, anchor: int) -> Tensor:
        """Return what stands for the image of one anchor, ``(1, ...)``."""
        at = np.array([anchor], dtype=np.int64)
        if self.raw:
            return torch.from_numpy(raw_vectors(session, at, self.tick))
        if not self.seen:
            return torch.zeros((1, 0))
        return torch.from_numpy(self.scale(self.builder.build(session, at)))

    def forget(self) -> None:
        """Let go of kept images."""
        self._kept.clear()

    def _made(self, split: VolatilitySplit, rows: NDArray[np.int64]) -> Tensor:
        if not self.raw:
            return torch.from_numpy(self.scale(split.images(self.builder, rows)))
        number, anchors = split.place
        out = np.empty((len(rows), *self.shape), dtype=np.float32)
        for one in np.unique(number[rows]).tolist():
            chosen = number[rows] == one
            out[chosen] = raw_vectors(split.windows[one].session, anchors[rows[chosen]], self.tick)
        return torch.from_numpy(out)


def raw_vectors(session: Session, anchors: Ints, tick: float) -> NDArray[np.float32]:
    """Return the last ten seconds as one vector an anchor: five levels a side, what was traded, the return.

    Returns:
        ``(anchors, 230)`` float32; sizes as logarithms, prices in ticks from the last mid, held within 50.
    """
    cut = anchors[:, None] + np.arange(-_RAW_SECONDS, 0)
    centre = session.mid[anchors - 1][:, None, None]
    columns: list[Floats] = []
    for prices, sizes, highest in (
        (session.bid_px, session.bid_qty, True),
        (session.ask_px, session.ask_qty, False),
    ):
        px, qty = top_levels(prices, sizes, highest=highest)
        columns.append(np.log1p(qty[cut]) / 5)
        columns.append(np.clip(np.nan_to_num((px[cut] - centre) / tick), -50, 50) / 10)
    trades, seconds = session.trades, len(session)
    for sign in (1, -1):
        size = np.bincount(trades.second, trades.qty * (trades.side == sign), seconds)
        columns.append(np.log1p(size[cut])[:, :, None] / 5)
    columns.append(np.clip(session.returns[cut][:, :, None] * centre / tick, -50, 50) / 10)
    return np.concatenate(columns, axis=2).reshape(len(anchors), -1).astype(np.float32)


class VolatilityTask(TrainTask):
    """Training of one network.

    Args:
        network: Gives ``ln(volatility / median)``.
        inputs: What it is shown.
        train: Anchors to learn from.
        valid: Anchors to judge on.
        median: Of the train targets.
        least: Targets are held at this from below.
        loss: What is minimised.
        settings: How it is trained.
    """

    def __init__(
        self,
        network: VolatilityNetwork,
        inputs: Inputs,
        train: VolatilitySplit,
        valid: VolatilitySplit,
        *,
        median: float,
        least: float,
        loss: Loss,
        settings: TrainingConfig,
    ) -> None:
        self.network = network
        self.settings = settings
        self.monitor = f"valid_{MONITORS[loss]}"
        self._inputs, self._kind = inputs, loss
        self._rows = np.flatnonzero(train.learned)
        self._parts = {
            name: _Part(split, inputs, median, least) for name, split in (("t", train), ("v", valid))
        }

    def optimizer(self) -> Optimizer:
        """Return AdamW on the parameters that require gradients."""
        parameters = [one for one in self.network.parameters() if one.requires_grad]
        return torch.optim.AdamW(parameters, lr=self.settings.lr, weight_decay=self.settings.weight_decay)

    def num_steps(self) -> int:
        """Return the number of whole batches, at least 1."""
        return max(len(self._rows) // self.settings.batch_size, 1)

    def batches(self, order: torch.Generator) -> Iterator[Tensor]:
        """Yield indices of anchors; batch norm wants whole batches, so the rest waits for the next epoch."""
        return islice(shuffled_slices(len(self._rows), self.settings.batch_size, order), self.num_steps())

    def loss(self, batch: Tensor) -> Tensor:
        """Return the mean loss of some train anchors."""
        return self._losses(self._parts["t"], self._rows[batch.numpy()]).mean()

    def validate(self) -> Mapping[str, float]:
        """Return the loss's own metric over the valid anchors that are learned from."""
        part = self._parts["v"]
        rows = np.flatnonzero(part.split.learned)
        rows = rows if len(rows) else np.arange(part.split.num_rows)
        blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
        total = sum(float(self._losses(part, block).double().sum()) for block in blocks)
        mean = total / len(rows)
        return {self.monitor: mean**0.5 if self._kind == "rmspe" else mean}

    def _losses(self, part: _Part, rows: NDArray[np.int64]) -> Tensor:
        index = torch.from_numpy(rows)
        image = self._inputs.images(part.split, rows).to(self.device)
        told = self.network(image, part.features[index].to(self.device))
        return losses_of(self._kind, part.targets[index].to(self.device) - told)


class _Part:
    """Features and targets of a split as tensors."""

    def __init__(self, split: VolatilitySplit, inputs: Inputs, median: float, least: float) -> None:
        self.split = split
        self.features = inputs.features(split)
        logs = np.log(np.maximum(split.targets, least) / median)
        self.targets = torch.from_numpy(logs.astype(np.float32))


@torch.inference_mode()
def answers(network: VolatilityNetwork, inputs: Inputs, split: VolatilitySplit) -> tuple[Floats, Floats]:
    """Return the linear part and the network's correction for all anchors, each ``(anchors,)`` float64."""
    device = next(network.parameters()).device
    features = inputs.features(split)
    linear, added = np.empty(split.num_rows), np.empty(split.num_rows)
    for start in range(0, split.num_rows, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, split.num_rows))
        own = features[start : start + _BLOCK].to(device)
        added[rows] = network.correction(inputs.images(split, rows).to(device), own).double().cpu().numpy()
        linear[rows] = (own @ network.skip[:-1] + network.skip[-1]).double().cpu().numpy()
    return linear, added


def kept_share(linear: Floats, added: Floats, log_targets: Floats, kind: Loss, block: int) -> float:
    """Return the share of a correction, from 0 to 1, that later anchors bear out.

    The epoch was chosen on the same anchors, which flatters it. So a share counts by its gain less
    two standard errors, over blocks of neighbouring anchors, and none is kept where that is not above zero.

    Args:
        linear: Forecast without the correction, ``(anchors,)``, logarithms.
        added: The correction.
        log_targets: What came.
        kind: The loss.
        block: Anchors of a block, more than overlap one another.
    """
    shares = np.linspace(0, 1, 21)
    apart = torch.from_numpy(log_targets - linear - shares[:, None] * added)
    losses = losses_of(kind, apart).numpy()
    gains = losses[:1] - losses
    starts = np.arange(0, gains.shape[1], block)
    sizes = np.diff(np.append(starts, gains.shape[1]))
    if len(starts) < _FEWEST_BLOCKS:
        return 0.0
    means = np.add.reduceat(gains, starts, axis=1) / sizes
    error = means.std(axis=1, ddof=1) / np.sqrt(len(starts))
    return float(shares[int(np.argmax(gains.mean(axis=1) - 2 * error))])
