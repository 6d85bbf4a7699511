"""Attitude sample by sample, as it comes: the numbers of ``predict``, without knowing what follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from appliedpapers.core.errors import DataError
from appliedpapers.core.model import Stream
from appliedpapers.plugins.imu_attitude import answers
from appliedpapers.plugins.imu_attitude.config import DataConfig
from appliedpapers.plugins.imu_attitude.filter import Answer
from appliedpapers.plugins.imu_attitude.heading import MagneticHeading
from appliedpapers.plugins.imu_attitude.samples import (
    AXES,
    CLIP_ACC,
    CLIP_GYR,
    MOST_ACC,
    MOST_GYR,
    MOST_TIME,
    fault_of,
)
from appliedpapers.plugins.imu_attitude.units import acc_scale, gyr_scale

if TYPE_CHECKING:
    from appliedpapers.plugins.imu_attitude.model import AttitudeEstimator

_NOTHING = Answer((1.0, 0.0, 0.0, 0.0), answers.MOST_SD, (0.0, 0.0, 0.0), at_rest=False)


class AttitudeStream(Stream):
    """One trial of a 6-axis or 9-axis sensor.

    Args:
        model: What answers.
        data: Units, signs and frame of what comes and of what is answered.
        state: What an earlier stream gave out.
    """

    def __init__(self, model: AttitudeEstimator, data: DataConfig, state: bytes | None = None) -> None:
        self._data, self._calibration = data, model.calibration
        self._gap = model.config.filter.gap
        self._machine, self._compass = model.machine(), MagneticHeading()
        self._acc_scale, self._gyr_scale = acc_scale(data), gyr_scale(data)
        self._clips = (_Clip(CLIP_ACC), _Clip(CLIP_GYR))
        self._seen, self._time, self._stamped = 0, math.nan, False
        self._last: dict[str, Any] = self._columns(_NOTHING, _NOTHING.sd, known=False, flags="")
        if state is not None:
            self._restore(state)

    def step(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Answer for one sample.

        Raises:
            DataError: Its time is missing or not after that of the sample before, or a reading is missing or
                beyond any sensor, and ``data.on_bad`` is ``error``.
        """
        time = self._time_of(record)
        acc = [_number(record, f"acc_{axis}") * self._acc_scale for axis in AXES]
        gyr = [_number(record, f"gyr_{axis}") * self._gyr_scale for axis in AXES]
        # false for NaN, too
        good = abs(time) <= MOST_TIME and not time <= self._time
        good &= all(abs(value) <= MOST_ACC for value in acc) and all(abs(value) <= MOST_GYR for value in gyr)
        if not good and self._data.on_bad == "error":
            column, said = fault_of(time, self._time, acc, gyr)
            expected = "increasing times in seconds" if column == "time" else f"another '{column}'"
            raise DataError(f"{said}.", hint=f"Expected {expected}, or --set data.on_bad=skip.")
        self._seen += 1
        self._stamped |= record.get("time") is not None
        if good:
            self._last = self._take(record, acc, gyr, time)
        else:
            self._last = self._last | {"flags": answers.FLAGS[0]}
        shown = None if math.isnan(time) else time
        return [{"trial": record.get("trial"), "time": shown, **self._last}]

    def state(self) -> bytes:
        """Return filter, network window, compass and flags as safetensors."""
        last = {name: float(value) for name, value in self._last.items() if name != "flags"}
        arrays = {
            **self._machine.state(),
            **self._compass.state(),
            "clips": np.array([clip.state() for clip in self._clips]),
            "stream": np.array([float(self._seen), self._time, float(self._stamped)]),
            "last": np.array(list(last.values())),
        }
        return bytes(save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))

    def _time_of(self, record: Mapping[str, Any]) -> float:
        """Return seconds, NaN where there are none; samples are counted only where none has a stamp."""
        time = record.get("time")
        if time is not None:
            return float(time)
        return math.nan if self._stamped or self._data.fs is None else self._seen / self._data.fs

    def _restore(self, state: bytes) -> None:
        arrays = load(state)
        self._machine.restore(arrays)
        self._compass.restore(arrays)
        for clip, values in zip(self._clips, arrays["clips"], strict=True):
            clip.restore(values)
        seen, self._time, stamped = arrays["stream"].tolist()
        self._seen, self._stamped = int(seen), bool(stamped)
        names = [name for name in self._last if name != "flags"]
        for name, value in zip(names, arrays["last"].tolist(), strict=True):
            self._last[name] = bool(value) if isinstance(self._last[name], bool) else value

    def _take(
        self, record: Mapping[str, Any], acc: list[float], gyr: list[float], time: float
    ) -> dict[str, Any]:
        late = time - self._time > self._gap
        self._time = time
        answer = self._machine.step(acc, gyr, time)
        sd = float(self._calibration.expected(answer.sd))
        mag = tuple(_number(record, f"mag_{axis}") for axis in AXES)
        angle = self._compass.step(answer.quaternion, mag, time)
        if self._compass.observable:
            answer = answer._replace(quaternion=self._compass.turn(answer.quaternion, angle))
        biased = max(map(abs, answer.bias)) > answers.LARGE_BIAS
        marks = (late, self._clips[0].step(acc), self._clips[1].step(gyr), biased)
        known = self._compass.observable
        return self._columns(answer, sd, known=known, flags=answers.flag_words(marks))

    def _columns(self, answer: Answer, sd: float, *, known: bool, flags: str) -> dict[str, Any]:
        framed = answers.framed(np.array([answer.quaternion]), self._data)
        return {
            **{name: float(value[0]) for name, value in framed.items()},
            "inclination_sd": math.degrees(min(sd, answers.MOST_SD)),
            **{f"bias_{axis}": math.degrees(b) for axis, b in zip(AXES, answer.bias, strict=True)},
            "at_rest": answer.at_rest,
            "heading_observable": known,
            "flags": flags,
        }


class _Clip:
    """Notices readings that stand at the largest value so far; see ``samples.clipped``."""

    def __init__(self, limit: float) -> None:
        self._limit, self._most, self._before = limit, [0.0] * 3, [math.nan] * 3

    def step(self, values: list[float]) -> bool:
        found = False
        for axis, value in enumerate(values):
            size = abs(value)
            self._most[axis] = max(self._most[axis], size)
            found |= size == self._most[axis] and value == self._before[axis] and size > self._limit
        self._before = values
        return found

    def state(self) -> list[float]:
        return [*self._most, *self._before]

    def restore(self, values: NDArray[Any]) -> None:
        numbers = values.tolist()
        self._most, self._before = numbers[:3], numbers[3:]


def _number(record: Mapping[str, Any], name: str) -> float:
    value = record.get(name)
    return math.nan if value is None else float(value)
