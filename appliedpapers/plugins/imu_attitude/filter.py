"""The gravity filter: one state machine for live steps and for whole recordings."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.imu_attitude import kernel
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.recording import Recording

if TYPE_CHECKING:
    from appliedpapers.plugins.imu_attitude.config import FilterConfig

Floats = NDArray[np.float64]

_COMPILED = (
    *("_empty_block", "_forget_motion", "_turn", "_watch_rest", "_add_to_block", "_level", "_tilt_sd"),
    *("_correct", "_quiet_swing", "_stand_still", "_mirror", "_start", "_predict"),
    *("take_sample", "close_block", "orientation", "run_batch"),
)


class Answer(NamedTuple):
    """What the filter says after a sample.

    Attributes:
        quaternion: ``(w, x, y, z)``, sensor to an earth frame whose heading is arbitrary.
        sd: Expected error of up in radians, root mean square.
        bias: Gyroscope bias in rad/s.
        at_rest: Whether the sensor is held for resting.
    """

    quaternion: tuple[float, float, float, float]
    sd: float
    bias: tuple[float, float, float]
    at_rest: bool


@cache
def compiled_kernel() -> ModuleType | None:
    """Return a copy of the kernel whose functions numba compiles, or None where numba is not installed."""
    try:
        import numba
    except ImportError:
        return None
    spec = importlib.util.find_spec(kernel.__name__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in _COMPILED:
        plain = getattr(module, name)
        try:
            made = numba.njit(cache=True)(plain)
        except RuntimeError:
            # no folder that could be written to: compiled anew in every process
            made = numba.njit(plain)
        setattr(module, name, made)
    return module


@dataclass(frozen=True)
class Blocks:
    """What the blocks of a recording held, in the order they were closed.

    Attributes:
        records: ``(B, RECORDS)``, see :func:`appliedpapers.plugins.imu_attitude.kernel.close_block`.
        ends: ``(B,)`` index of the sample that closed each.
    """

    records: Floats
    ends: NDArray[np.int64]


class GravityFilter:
    """Orientation up to heading, sample by sample.

    Args:
        options: Noises and time constants.
        delay: Seconds by which the answer is carried on; by default what the options say, 0 for auto.
        compiled: Whether numba may compile the arithmetic; without it, or without numba, numpy does it all.

    Attributes:
        closed: Whether the last step closed a block.
    """

    def __init__(self, options: FilterConfig, *, delay: float | None = None, compiled: bool = True) -> None:
        self._delay = _delay(options) if delay is None else delay
        self._constants = _constants(options)
        self._compiled = compiled_kernel() if compiled else None
        self._state: Any = np.zeros(kernel.STATES)
        self._memory: Any = np.zeros(kernel.MEMORY)
        self._covariance = np.zeros((kernel.STATES, kernel.STATES))
        self._time = math.nan
        self.closed = False
        self._as_lists()

    def step(self, acc: Any, gyr: Any, time: float) -> Answer:
        """Take one sample.

        Args:
            acc: Three numbers in m/s^2, finite.
            gyr: Three numbers in rad/s, finite.
            time: Seconds, later than the sample before.
        """
        step = 0.0 if math.isnan(self._time) else time - self._time
        self._time = time
        module: Any = self._compiled or kernel
        ax, ay, az = acc
        gx, gy, gz = gyr
        full = module.take_sample(self._memory, self._state, self._constants, ax, ay, az, gx, gy, gz, step)
        self.closed = bool(full)
        if full:
            self._close(module)
        memory, state = self._memory, self._state
        return Answer(
            module.orientation(memory, self._delay),
            float(memory[kernel.SPREAD]),
            (float(state[9]), float(state[10]), float(state[11])),
            bool(memory[kernel.RESTING] > self._constants[kernel.O_REST_TIME]),
        )

    def batch(self, recording: Recording) -> Estimate:
        """Take every sample of a recording, as :meth:`step` would one after the other."""
        return self.batch_with_blocks(recording)[0]

    def batch_with_blocks(self, recording: Recording) -> tuple[Estimate, Blocks]:
        """Take every sample of a recording and return the blocks, too."""
        time = recording.time
        steps = np.diff(time, prepend=time[0] if math.isnan(self._time) else self._time)
        count = len(recording)
        quaternion, bias = np.empty((count, 4)), np.empty((count, 3))
        sd, rest = np.empty(count), np.empty(count, dtype=bool)
        records, ends = np.empty((count, kernel.RECORDS)), np.empty(count, dtype=np.int64)
        blocks = 0
        if self._compiled is None:
            for n in range(count):
                answer = self.step(recording.acc[n].tolist(), recording.gyr[n].tolist(), float(time[n]))
                quaternion[n], sd[n], bias[n], rest[n] = answer
                if self.closed:
                    records[blocks], ends[blocks] = self.record(), n
                    blocks += 1
        else:
            acc, gyr = (
                np.ascontiguousarray(part, dtype=np.float64) for part in (recording.acc, recording.gyr)
            )
            blocks = self._compiled.run_batch(
                *(self._memory, self._state, self._covariance, self._constants),
                *(acc, gyr, steps, self._delay, quaternion, sd, bias, rest, records, ends),
            )
            self._time = float(time[-1])
        estimate = Estimate(quaternion, sd=sd, bias=bias, at_rest=rest)
        return estimate, Blocks(records[:blocks].copy(), ends[:blocks].copy())

    def record(self) -> Floats:
        """Return what the block held that was closed last."""
        return np.array(self._memory[kernel.RECORD : kernel.RECORD + kernel.RECORDS])

    def state(self) -> dict[str, Floats]:
        """Return everything needed to go on: three arrays and the time of the last sample."""
        return {
            "memory": np.array(self._memory),
            "state": np.array(self._state),
            "covariance": self._covariance.copy(),
            "time": np.array([self._time]),
        }

    def restore(self, state: Mapping[str, Floats]) -> Self:
        """Go on from :meth:`state`."""
        self._memory, self._state = np.array(state["memory"]), np.array(state["state"])
        self._covariance = np.array(state["covariance"])
        self._time = float(state["time"][0])
        self._as_lists()
        return self

    def _as_lists(self) -> None:
        """Python is several times faster with lists than with arrays where it takes numbers one by one."""
        if self._compiled is None:
            self._memory, self._state = np.asarray(self._memory).tolist(), np.asarray(self._state).tolist()
            self._constants = np.asarray(self._constants).tolist()

    def _close(self, module: Any) -> None:
        if self._compiled is not None:
            module.close_block(self._memory, self._state, self._covariance, self._constants)
            return
        memory, state = np.array(self._memory), np.array(self._state)
        module.close_block(memory, state, self._covariance, self._constants)
        self._memory, self._state = memory.tolist(), state.tolist()


def _delay(options: FilterConfig) -> float:
    return 0.0 if options.delay == "auto" else options.delay


def _constants(options: FilterConfig) -> Any:
    constants = np.zeros(20)
    degree = math.pi / 180.0
    constants[kernel.O_BLOCK] = options.block
    constants[kernel.O_GAP] = options.gap
    constants[kernel.O_NATURAL] = 2 * math.pi * options.motion_hz
    constants[kernel.O_DAMPING] = options.motion_damping
    constants[kernel.O_LEAST] = options.noise_least
    constants[kernel.O_MOST] = options.noise_most
    constants[kernel.O_MEMORY] = options.noise_memory
    constants[kernel.O_RESTING] = options.noise_rest
    constants[kernel.O_GYR] = options.gyr_noise * degree
    constants[kernel.O_GYR_SHARE] = options.gyr_share
    constants[kernel.O_BIAS] = options.bias_walk * degree
    constants[kernel.O_BIAS_START] = options.bias_start * degree
    constants[kernel.O_BIAS_RESTING] = options.bias_rest * degree
    constants[kernel.O_SCALE] = options.scale_error
    constants[kernel.O_REST_TAU] = options.rest_tau
    constants[kernel.O_REST_GYR] = options.rest_gyr * degree
    constants[kernel.O_REST_ACC] = options.rest_acc
    constants[kernel.O_REST_TIME] = options.rest_seconds
    constants[kernel.O_GRAVITY] = options.gravity
    constants[kernel.O_INSTANT] = float(options.sampling == "instant")
    return constants
