"""Models A and B of arXiv 2302.06037: a window of raw readings to an attitude quaternion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "AttitudeLayer",
    "AttitudeNetwork",
    "GaussianNoise",
    "ModelA",
    "ModelB",
    "Outputs",
    "attitude_of_up",
    "up_of",
]

Outputs = Literal["quaternion", "up"]

_LARGEST_SINE = 1 - 1e-7
_SIZES: dict[Outputs, int] = {"quaternion": 4, "up": 3}


def up_of(quaternion: Tensor) -> Tensor:
    """Return where up is in the sensor frame, ``(..., 3)``, of unit quaternions ``(..., 4)``."""
    w, x, y, z = quaternion.unbind(-1)
    return torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=-1)


def attitude_of_up(up: Tensor) -> Tensor:
    """Return the quaternions ``(..., 4)`` without yaw for which unit vectors ``(..., 3)`` point up."""
    x, y, z = up.unbind(-1)
    defined = y.square() + z.square() > torch.finfo(up.dtype).eps ** 2
    roll = torch.atan2(y * defined, torch.where(defined, z, 1.0)) / 2
    pitch = torch.asin((-x).clamp(-_LARGEST_SINE, _LARGEST_SINE)) / 2
    cos_roll, sin_roll, cos_pitch, sin_pitch = roll.cos(), roll.sin(), pitch.cos(), pitch.sin()
    return torch.stack(
        [cos_roll * cos_pitch, sin_roll * cos_pitch, cos_roll * sin_pitch, -sin_roll * sin_pitch], dim=-1
    )


class AttitudeLayer(nn.Module):
    """Takes the yaw off quaternions (rotations about z, y, x in this order); has no parameters."""

    def forward(self, quaternion: Tensor) -> Tensor:
        """Return the attitude of quaternions.

        The arcsine is clipped, and where roll is not defined it is 0: values and gradients stay finite at a
        pitch of +-90 deg.

        Args:
            quaternion: ``(..., 4)``, (w, x, y, z).

        Returns:
            ``(..., 4)`` unit quaternions with the roll and pitch of the input and no yaw.
        """
        return attitude_of_up(up_of(quaternion))


class GaussianNoise(nn.Module):
    """Adds white noise while training and nothing otherwise.

    Args:
        deviation: Standard deviation, in the unit of what it is added to.
    """

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, values: Tensor) -> Tensor:
        """Return ``values``, noisy in train mode."""
        if not self.training or self.deviation == 0:
            return values
        return values + self.deviation * torch.randn_like(values)


class AttitudeNetwork(nn.Module, ABC):
    """What both models share: inputs, output and Keras's first weights.

    Attributes:
        unit_first: Whether the paper brings the last layer to unit length before the attitude layer (A) or
            after it (B), where its output has unit length anyhow.

    Args:
        window: Samples of a window.
        outputs: What the last layer gives. ``quaternion`` is the paper's. No such layer is right everywhere:
            there is no continuous way to give every direction of up a quaternion, so that some are answered
            wrongly by up to 180 deg. ``up`` gives that direction itself, with 3 numbers.
        input_noise: Standard deviation of the noise on both sensors while training, in SI units.
        seed: Of a generator of its own that the first weights are drawn from, whatever other threads draw.
    """

    unit_first: bool
    last: nn.Linear

    def __init__(self, window: int, outputs: Outputs, input_noise: float, seed: int) -> None:
        super().__init__()
        self.window, self.outputs = window, outputs
        self.input_noise = GaussianNoise(input_noise)
        self.attitude = AttitudeLayer()
        self._seed = seed

    def forward(self, acc: Tensor, gyr: Tensor, fs: Tensor) -> Tensor:
        """Return attitudes.

        Args:
            acc: ``(N, window, 3)`` specific force in m/s^2.
            gyr: ``(N, window, 3)`` angular rate in rad/s.
            fs: ``(N,)`` sampling rates in Hz.

        Returns:
            ``(N, 4)`` unit quaternions (w, x, y, z) without yaw.
        """
        raw = self.last(self.features(self.input_noise(acc), self.input_noise(gyr), fs[:, None]))
        raw = _full(raw)  # half precision would round the clipped arcsine back to its pole
        if self.outputs == "up":
            return attitude_of_up(functional.normalize(raw, dim=-1))
        attitude: Tensor = self.attitude(functional.normalize(raw, dim=-1) if self.unit_first else raw)
        return attitude

    @abstractmethod
    def features(self, acc: Tensor, gyr: Tensor, fs: Tensor) -> Tensor:
        """Return what the last layer sees, ``(N, F)``; ``fs`` is ``(N, 1)``."""

    def _draw_weights(self) -> None:
        """Draw Keras's first weights: Glorot uniform, orthogonal recurrent, biases 0, forget gates 1.

        Layers are made without values, on the meta device: torch's own draws would share its global state.
        """
        self.to_empty(device="cpu")
        random = torch.Generator().manual_seed(self._seed)
        for layer in self.modules():
            if isinstance(layer, nn.LSTM):
                _draw_lstm(layer, random)
            elif isinstance(layer, nn.Conv1d | nn.Linear):
                groups = layer.groups if isinstance(layer, nn.Conv1d) else 1
                for weight in layer.weight.chunk(groups):
                    nn.init.xavier_uniform_(weight, generator=random)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)


class ModelA(AttitudeNetwork):
    """Model A: convolutions of each axis beside an LSTM of all (section 2 of the paper).

    With one bias a gate, as in the paper, it has 1,465,476 trainable parameters at width 1 and window 100.
    torch knows two; the second one is held at zero, is not trained and is not counted.

    Args:
        window: Samples of a window, at least 3.
        width: Factor on every hidden size.
        outputs: See :class:`AttitudeNetwork`.
        input_noise: See :class:`AttitudeNetwork`. The published code means to add .25 and drops it by a
            slip, so 0 is what was published.
        seed: See :class:`AttitudeNetwork`.
    """

    unit_first = True

    def __init__(
        self,
        window: int = 100,
        width: float = 1.0,
        *,
        outputs: Outputs = "quaternion",
        input_noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(window, outputs, input_noise, seed)
        narrow, wide = _scaled(128, width), _scaled(256, width)
        self.pool, self.noise, self.dropout = nn.MaxPool1d(3), GaussianNoise(0.25), nn.Dropout(0.2)
        with torch.device("meta"):
            # one group an axis: six convolutions of one channel each
            self.axes = nn.Conv1d(6, 6 * narrow, 11, padding="same", groups=6)
            self.merge = nn.Conv1d(6 * narrow, narrow, 11, padding="same")
            self.merged_dense = nn.Linear(narrow, wide)
            self.lstm = _bidirectional(6, narrow)
            self.lstm_dense = nn.Linear(2 * narrow, wide)
            self.rate_dense = nn.Linear(1, wide)
            self.last = nn.Linear(wide * (window // 3 + window + 1), _SIZES[outputs])
        self._draw_weights()

    def features(self, acc: Tensor, gyr: Tensor, fs: Tensor) -> Tensor:
        """Return what the last layer sees; see :class:`AttitudeNetwork`."""
        both = torch.cat([acc, gyr], dim=-1)
        pooled = self.pool(functional.mish(self.axes(both.transpose(1, 2))))
        merged = self.noise(functional.mish(self.merge(pooled))).transpose(1, 2)
        states = self.dropout(_states(self.lstm, both))
        parts = [self.merged_dense(merged), self.lstm_dense(states), self.rate_dense(fs)]
        return torch.cat([functional.mish(part).flatten(1) for part in parts], dim=1)


class ModelB(AttitudeNetwork):
    """Model B: an LSTM of each axis (section 2 of the paper).

    With one bias a gate, as in the paper, it has 15,617,924 trainable parameters at width 1 and window 100;
    see :class:`ModelA` for torch's second one.

    Args:
        window: Samples of a window.
        width: Factor on every hidden size.
        outputs: See :class:`AttitudeNetwork`.
        input_noise: See :class:`AttitudeNetwork`.
        seed: See :class:`AttitudeNetwork`.
    """

    unit_first = False

    def __init__(
        self,
        window: int = 100,
        width: float = 1.0,
        *,
        outputs: Outputs = "quaternion",
        input_noise: float = 0.25,
        seed: int = 0,
    ) -> None:
        super().__init__(window, outputs, input_noise, seed)
        state, wide = _scaled(50, width), _scaled(256, width)
        self.noise, self.dropout = GaussianNoise(0.25), nn.Dropout(0.2)
        with torch.device("meta"):
            self.axes = nn.ModuleList([_bidirectional(1, state) for _ in range(6)])
            self.axes_dense = nn.Linear(12 * state * window, wide)
            self.rate_dense = nn.Linear(1, wide)
            self.both_dense = nn.Linear(2 * wide, wide)
            self.last = nn.Linear(wide, _SIZES[outputs])
        self._draw_weights()

    def features(self, acc: Tensor, gyr: Tensor, fs: Tensor) -> Tensor:
        """Return what the last layer sees; see :class:`AttitudeNetwork`."""
        columns = torch.split(torch.cat([acc, gyr], dim=-1), 1, dim=-1)
        states = [
            self.dropout(_states(lstm, column)) for lstm, column in zip(self.axes, columns, strict=True)
        ]
        sensors = [torch.cat(states[first : first + 3], dim=-1).flatten(1) for first in (0, 3)]
        hidden = torch.relu(self.axes_dense(torch.cat(sensors, dim=1)))
        rate = torch.relu(self.rate_dense(fs))
        noisy: Tensor = self.noise(torch.relu(self.both_dense(torch.cat([hidden, rate], dim=1))))
        return noisy


def _scaled(size: int, width: float) -> int:
    return max(round(size * width), 1)


def _bidirectional(inputs: int, states: int) -> nn.LSTM:
    return nn.LSTM(inputs, states, batch_first=True, bidirectional=True)


def _states(lstm: nn.Module, values: Tensor) -> Tensor:
    """Return all states of an LSTM, never in half precision: not every CPU can."""
    with torch.autocast(values.device.type, enabled=False):
        states: Tensor = lstm(_full(values))[0]
    return states


def _full(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _draw_lstm(layer: nn.LSTM, random: torch.Generator) -> None:
    """Draw the weights of an LSTM and hold torch's second bias at zero."""
    for name, parameter in layer.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(parameter, generator=random)
        elif name.startswith("weight_hh"):
            nn.init.orthogonal_(parameter, generator=random)
        else:
            nn.init.zeros_(parameter)
            if name.startswith("bias_hh"):
                parameter.requires_grad_(False)
            else:
                with torch.no_grad():  # the gates are input, forget, cell, output
                    parameter[layer.hidden_size : 2 * layer.hidden_size] = 1.0
