"""Training one network on windows, and forecasting windows with it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from appliedpapers.core.training import TrainTask, shuffled_slices
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.plugins.frets.network import FreTS
from appliedpapers.plugins.frets.windows import WindowArrays

_WINDOWS_A_BLOCK = 256
_ROWS_A_BLOCK = 2048


class WindowTask(TrainTask):
    """Fit a network on scaled windows by the mean squared error, judged on validation windows.

    A batch is a set of windows with all their series, as in the paper. A network that mixes series sees
    whole windows ``(batch, lookback, series)``; any other sees each series alone, ``(rows, lookback, 1)``,
    so that windows in which a series has a gap still teach with the other series.

    Args:
        network: Maps ``(batch, lookback, series)`` to ``(batch, horizon, series)``.
        train: Windows to learn from.
        valid: Windows to judge on.
        settings: How it is trained.
        mixes_series: Whether the network needs whole windows.
    """

    monitor = "valid_mse"

    def __init__(
        self,
        network: nn.Module,
        train: WindowArrays,
        valid: WindowArrays,
        settings: TrainingConfig,
        *,
        mixes_series: bool = False,
    ) -> None:
        self.network = network
        self._train = WindowTensors(train, mixes_series)
        self._valid = WindowTensors(valid, mixes_series)
        self.settings = settings

    def optimizer(self) -> Optimizer:
        """Return Adam on the parameters that require gradients."""
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        decay = self.settings.weight_decay
        # one pass over the weights: a third of the time of the default on CPU
        return torch.optim.Adam(parameters, lr=self.settings.lr, weight_decay=decay, fused=True)

    def num_steps(self) -> int:
        """Return the number of whole batches, at least 1."""
        return max(len(self._train) // self.settings.batch_size, 1)

    def batches(self, order: torch.Generator) -> Iterator[Tensor]:
        """Yield indices of windows; those left over from whole batches wait for the next epoch.

        On ETTh1 one window would be left over, and Adam takes as large a step on one window as on 32: the
        level of all forecasts then jumps at the end of every epoch, just where the epoch is judged.
        """
        return islice(shuffled_slices(len(self._train), self.settings.batch_size, order), self.num_steps())

    def loss(self, batch: Tensor) -> Tensor:
        """Return the mean squared error over all observed targets of the batch, and what the head adds."""
        inputs, targets = self._train.gather(batch)
        error = F.mse_loss(self.network(inputs.to(self.device)), targets.to(self.device))
        return error + self.network.aux_loss() if isinstance(self.network, FreTS) else error

    def validate(self) -> Mapping[str, float]:
        """Return mean squared and absolute error over all validation windows."""
        squared = absolute = 0.0
        count = 0
        for indices in torch.split(torch.arange(len(self._valid)), _WINDOWS_A_BLOCK):
            inputs, targets = self._valid.gather(indices)
            error = self.network(inputs.to(self.device)).double() - targets.to(self.device).double()
            squared += float(error.square().sum())
            absolute += float(error.abs().sum())
            count += error.numel()
        return {"valid_mse": squared / count, "valid_mae": absolute / count}


class WindowTensors:
    """Windows as tensors, gathered on demand from one ``(T, N)`` array.

    Args:
        windows: Scaled windows; those without a usable series are left out.
        mixes_series: Gather whole windows ``(batch, steps, series)`` rather than rows ``(rows, steps, 1)``.
    """

    def __init__(self, windows: WindowArrays, mixes_series: bool) -> None:
        usable = windows.valid
        kept = usable.all(axis=1) if mixes_series else usable.any(axis=1)
        length = windows.lookback + windows.horizon
        values = torch.from_numpy(np.nan_to_num(windows.values).astype(np.float32))
        self._views = values.unfold(0, length, 1)
        self._starts = torch.from_numpy(windows.cutoffs[kept] - windows.lookback)
        self._usable = torch.from_numpy(usable[kept])
        self._complete = bool(usable[kept].all())
        self._lookback = windows.lookback
        self._mixes_series = mixes_series

    def __len__(self) -> int:
        return len(self._starts)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of some windows."""
        block = self._views.index_select(0, self._starts[indices])
        if self._mixes_series:
            whole = block.transpose(1, 2)
            return whole[:, : self._lookback], whole[:, self._lookback :]
        rows = block.flatten(0, 1) if self._complete else block[self._usable[indices]]
        return rows[:, : self._lookback, None], rows[:, self._lookback :, None]


def shrink_correction(network: FreTS, valid: WindowArrays, *, mixes_series: bool) -> float:
    """Keep that share of a network's correction to its linear skip that fits the valid windows best.

    The share is the least-squares factor of the correction on what the skip leaves over, kept within 0 and
    1: a correction that does not carry over to later data is taken back, in the limit to the skip alone.

    Returns:
        The share that was kept.
    """
    whole = forecast_windows(network, valid, mixes_series=mixes_series)
    kept = copy.deepcopy(network)
    kept.scale_correction(0.0)
    skip = forecast_windows(kept, valid, mixes_series=mixes_series)
    usable = np.broadcast_to(valid.valid[:, None, :], whole.shape) & np.isfinite(whole)
    correction, left = (whole - skip)[usable], (valid.targets - skip)[usable]
    power = float(correction @ correction)
    share = float(np.clip(correction @ left / power, 0.0, 1.0)) if power > 0 else 0.0
    network.scale_correction(share)
    return share


def forecast_windows(network: nn.Module, windows: WindowArrays, *, mixes_series: bool) -> NDArray[np.float64]:
    """Forecast every window with a trained network.

    Returns:
        ``(W, H, N)`` float64 in scaled space; NaN where a window's inputs are incomplete.
    """
    inputs = windows.inputs
    count, lookback, series = inputs.shape
    if mixes_series:
        complete = ~np.isnan(inputs).any(axis=(1, 2))
        out = np.full((count, windows.horizon, series), np.nan)
        out[complete] = forecast_rows(network, inputs[complete])
        return out
    rows = inputs.transpose(0, 2, 1).reshape(-1, lookback)
    complete = ~np.isnan(rows).any(axis=1)
    flat = np.full((len(rows), windows.horizon), np.nan)
    flat[complete] = forecast_rows(network, rows[complete][:, :, None])[:, :, 0]
    return flat.reshape(count, series, windows.horizon).transpose(0, 2, 1)


@torch.inference_mode()
def forecast_rows(network: nn.Module, inputs: NDArray[Any]) -> NDArray[np.float64]:
    """Forecast ``(B, L, N)`` scaled inputs to ``(B, H, N)`` float64, in blocks: memory stays bounded."""
    device = next(network.parameters()).device
    blocks = []
    for start in range(0, max(len(inputs), 1), _ROWS_A_BLOCK):
        block = torch.from_numpy(
            np.ascontiguousarray(inputs[start : start + _ROWS_A_BLOCK], dtype=np.float32)
        )
        blocks.append(network(block.to(device)).double().cpu().numpy())
    return np.concatenate(blocks)
