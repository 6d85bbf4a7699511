"""The residual network in numpy alone: for embedded use, and for single windows, where torch is slow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class NumpyResidual:
    """The network of :mod:`appliedpapers.plugins.imu_attitude.residual_network` with an MLP for a head.

    Args:
        weights: Its state dict as arrays.
        limit: Largest rotation in radians.
        stride: Stride of both convolutions.
    """

    def __init__(self, weights: Mapping[str, Any], limit: float, stride: int = 2) -> None:
        arrays = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in weights.items()}
        self._limit, self._stride = limit, stride
        self._first = _as_matrix(arrays["first.weight"]), arrays["first.bias"]
        self._second = _as_matrix(arrays["second.weight"]), arrays["second.bias"]
        self._kernels = arrays["first.weight"].shape[2], arrays["second.weight"].shape[2]
        self._inputs = arrays["recurrent.weight_ih_l0"].T.copy(), arrays["recurrent.bias_ih_l0"]
        self._hidden = arrays["recurrent.weight_hh_l0"].T.copy(), arrays["recurrent.bias_hh_l0"]
        names = sorted(
            (name for name in arrays if name.startswith("head.layers.") and name.endswith(".weight")),
            key=lambda name: int(name.split(".")[2]),
        )
        self._head = [(arrays[name].T.copy(), arrays[name.replace("weight", "bias")]) for name in names]
        self._gain = float(arrays["gain"][0])

    def __call__(self, series: Array, statics: Array) -> Array:
        """Return the rotation ``(2,)`` in radians for one window.

        Args:
            series: ``(n, CHANNELS)`` float32.
            statics: ``(STATICS,)`` float32.
        """
        hidden = _mish(self._convolved(series, *self._first, self._kernels[0]))
        hidden = _mish(self._convolved(hidden, *self._second, self._kernels[1]))
        value = np.concatenate([self._last_state(hidden), statics])
        for number, (weight, bias) in enumerate(self._head):
            value = value @ weight + bias
            if number + 1 < len(self._head):
                value = _gelu(value)
        raw = self._gain * value
        size = np.sqrt(np.sum(raw * raw) + 1e-12)
        return np.asarray(self._limit * np.tanh(size) / size * raw, dtype=np.float32)

    def _convolved(self, series: Array, weight: Array, bias: Array, kernel: int) -> Array:
        seen = np.lib.stride_tricks.sliding_window_view(series, kernel, axis=0)[:: self._stride]
        return np.asarray(seen.reshape(len(seen), -1) @ weight + bias)

    def _last_state(self, series: Array) -> Array:
        inputs = series @ self._inputs[0] + self._inputs[1]
        weight, bias = self._hidden
        size = len(weight)
        state = np.zeros(size, dtype=np.float32)
        for row in inputs:
            carried = state @ weight + bias
            gates = _sigmoid(row[: 2 * size] + carried[: 2 * size])
            update = gates[size:]
            new = np.tanh(row[2 * size :] + gates[:size] * carried[2 * size :])
            state = new + update * (state - new)
        return state


def _as_matrix(kernel: Array) -> Array:
    """Return ``(out, in, k)`` as ``(in * k, out)``, which windows of ``(in, k)`` are multiplied by."""
    return np.ascontiguousarray(kernel.reshape(len(kernel), -1).T)


def _sigmoid(value: Array) -> Array:
    return np.asarray(0.5 * np.tanh(0.5 * value) + 0.5)


def _mish(value: Array) -> Array:
    return np.asarray(value * np.tanh(np.logaddexp(np.float32(0), value)))


def _gelu(value: Array) -> Array:
    from math import erf, sqrt

    wide = value.astype(np.float64)
    return np.asarray([x * 0.5 * (1 + erf(x / sqrt(2))) for x in wide.tolist()], dtype=np.float32)
