"""Do units, signs and frames fit what the sensor says? Wrong settings are named, honest data are left alone.

Three facts hold for any motion, and each judges one setting:

- At its calmest an accelerometer shows gravity: its unit.
- Turned into one frame by the gyroscope and averaged over seconds, the accelerometer shows gravity and
  nothing else, for the velocity of what carries it does not grow; so it stays the same: the gyroscope's unit.
- A reference turns as the gyroscope does (its order), and in its earth frame the accelerometer's mean is
  gravity, upward (its frame, and the accelerometer's sign). Without a reference the accelerometer's sign
  cannot be told: a world whose up is down looks the same to both sensors.

What is not plain is not refused: a wrong setting must be contradicted clearly and another must fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.imu_attitude import rotations
from appliedpapers.plugins.imu_attitude.config import DataConfig, GyrUnit
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.units import ACC_UNITS, GYR_UNITS, STANDARD_GRAVITY

Floats = NDArray[np.float64]

_BLOCK_S = 0.02
_WINDOW_S = 6.0
_CALM_S = 1.0
_SHORTEST_S = 0.5  # to judge the accelerometer's length
_LONG_ENOUGH_S = 3.0  # to judge directions: in a shorter time a hand gives a speed that looks like gravity
_TURNING_WINDOWS = 10
_CALM_SHARE = 0.1
_FASTEST = 75.0  # rad/s: no gyroscope of this kind reads beyond 4,000 deg/s
_GAP = 1.5  # a window that takes this much longer than it should has a gap
_UNIT_FITS = 0.15  # of gravity
_PLAUSIBLE = (0.5, 2.0)  # of gravity: a sensor that is shaken all the time shows more, one that falls less
_SURELY_GRAVITY = (0.8, 1.2)
_MOVED = 0.1  # of gravity: what translation and bias leave of it at times
_BETTER = 2.5  # times less: data of 92 real and simulated trials reach 1.4 where the unit is right
_STILL = 0.05  # of gravity
_AGREES = 0.8
_PAIR_S = 0.06
_LEAST_TURN = np.radians(3.0)  # rad/s, root mean square
_LEAST_PAIRS = 20
_SCALE_FITS = 0.4  # of the logarithm: units differ by a factor of 57


@dataclass(frozen=True)
class _Blocks:
    """A recording in blocks of about 20 ms: mean ``acc`` and rotation vector, both ``(n, 3)``."""

    acc: Floats
    turn: Floats
    seconds: Floats
    size: int

    def windows(self, seconds: float) -> tuple[Floats, Floats]:
        """Return ``acc`` and ``turn`` as ``(windows, blocks, 3)`` without windows that have a gap."""
        usual = float(np.median(self.seconds))
        long = min(max(round(seconds / usual), 1), len(self.acc))
        count = len(self.acc) // long
        shape = (count, long, 3)
        whole = self.seconds[: count * long].reshape(count, long).sum(axis=1) < _GAP * long * usual
        used = count * long
        return self.acc[:used].reshape(shape)[whole], self.turn[:used].reshape(shape)[whole]


@dataclass(frozen=True)
class _Fit:
    """How a reference agrees with the sensor.

    Attributes:
        up: Mean specific force along the reference's up, over gravity: 1 where all is right.
        turning: Correlation of the turns of both; None where there are too few.
        scale: How much more the gyroscope turns than the reference; None likewise.
    """

    up: float
    turning: float | None
    scale: float | None

    @property
    def turns(self) -> bool:
        """Whether the reference turns as the gyroscope does, as far as can be told."""
        return self.turning is None or abs(self.turning) > _AGREES


def self_test(recording: Recording, data: DataConfig) -> tuple[str, ...]:
    """Look for a setting of ``data`` that contradicts a recording that was read with it.

    Args:
        recording: As converted with ``data``, in SI units and ENU.
        data: What the columns were said to mean.

    Returns:
        Sentences about what is odd but not surely wrong.

    Raises:
        DataError: A unit, the sign, the frame or the order is plainly wrong; it is named, with the setting
            that fits.
    """
    blocks = _cut(recording)
    if blocks is None:
        return ()
    gravity = _calm_level(blocks)
    _require_acc_unit(recording, gravity, data)
    if data.gyr_unit == "rad/s" and np.abs(recording.gyr).max() > _FASTEST:
        _refuse_gyr_unit(recording, "deg/s", data)
    level = gravity / STANDARD_GRAVITY
    if not _PLAUSIBLE[0] < level < _PLAUSIBLE[1]:
        return (
            f"at its calmest the accelerometer shows {gravity:.1f} m/s^2 and gravity is 9.8: units and signs "
            "could not be checked",
        )
    if recording.time[-1] - recording.time[0] < _LONG_ENOUGH_S:
        return ()
    notes: tuple[str, ...] = ()
    if recording.reference is not None:
        notes = _judge_reference(recording, recording.reference, blocks, data)
    if _SURELY_GRAVITY[0] < level < _SURELY_GRAVITY[1]:
        _require_gyr_unit(recording, blocks, gravity, data)
    return notes


def _cut(recording: Recording) -> _Blocks | None:
    if len(recording) < 3 or recording.time[-1] - recording.time[0] < _SHORTEST_S:
        return None
    size = max(round(_BLOCK_S / recording.step), 1)
    count = (len(recording) - 1) // size
    used = count * size
    step = np.diff(recording.time)[:used]
    turn = recording.gyr[:used] * step[:, None]
    return _Blocks(
        recording.acc[:used].reshape(count, size, 3).mean(axis=1),
        turn.reshape(count, size, 3).sum(axis=1),
        step.reshape(count, size).sum(axis=1),
        size,
    )


def _calm_level(blocks: _Blocks) -> float:
    """Return the length of the accelerometer where it changes least, in m/s^2."""
    acc, _ = blocks.windows(_CALM_S)
    if not len(acc):
        return float(np.median(np.linalg.norm(blocks.acc, axis=1)))
    length = np.linalg.norm(acc, axis=2)
    level = np.median(length, axis=1)
    restless = np.std(length, axis=1) / np.maximum(level, np.finfo(float).tiny)
    calm = np.argsort(restless, kind="stable")[: max(int(_CALM_SHARE * len(level)), 1)]
    return float(np.median(level[calm]))


def _require_acc_unit(recording: Recording, gravity: float, data: DataConfig) -> None:
    for unit, factor in ACC_UNITS.items():
        fitting = gravity * factor / ACC_UNITS[data.acc_unit]
        if unit != data.acc_unit and abs(fitting / STANDARD_GRAVITY - 1) < _UNIT_FITS:
            shown = gravity / ACC_UNITS[data.acc_unit]
            _refuse(
                recording,
                f"acc looks like {unit}, read as {data.acc_unit}: its length at rest is {shown:,.4g}",
                f"Expected about 9.81 m/s2, 1 g or 1,000 mg; use --set data.acc_unit={unit}",
            )


def _require_gyr_unit(recording: Recording, blocks: _Blocks, gravity: float, data: DataConfig) -> None:
    unit: GyrUnit = "deg/s" if data.gyr_unit == "rad/s" else "rad/s"
    factors = np.array([1.0, GYR_UNITS[unit] / GYR_UNITS[data.gyr_unit], -1.0])
    given, other, opposite = _gravity_moved(blocks, gravity, factors)
    if given < _MOVED:
        return
    if other * _BETTER < given:
        _refuse_gyr_unit(recording, unit, data)
    if opposite * _BETTER < given and opposite < _MOVED:
        _refuse(
            recording,
            "gyr turns against acc",
            "Expected right-handed axes that both sensors share; negate the gyroscope, or mend the order and "
            "signs of its columns",
        )


def _gravity_moved(blocks: _Blocks, gravity: float, factors: Floats) -> Floats:
    """Return how far gravity moves from one half of a window to the other, relative, for factors on gyr.

    The median is over windows that turn most.
    """
    acc, turn = blocks.windows(_WINDOW_S)
    if not len(acc) or acc.shape[1] < 2:
        return np.zeros(len(factors))
    turn = turn - _bias(blocks) * float(np.median(blocks.seconds))
    busy = np.argsort(-np.linalg.norm(turn, axis=2).sum(axis=1), kind="stable")[:_TURNING_WINDOWS]
    acc, turn = acc[busy], turn[busy]
    steps = rotations.matrix(rotations.from_rotation_vector(factors[:, None, None, None] * turn))
    attitude = np.broadcast_to(np.eye(3), (len(factors), len(busy), 3, 3))
    half = acc.shape[1] // 2
    means = np.zeros((2, len(factors), len(busy), 3))
    for number in range(2 * half):
        means[number // half] += (attitude @ acc[:, number, :, None])[..., 0] / half
        attitude = attitude @ steps[:, :, number]
    moved = np.linalg.norm(means[1] - means[0], axis=2) / gravity
    return np.asarray(np.median(moved, axis=1))


def _bias(blocks: _Blocks) -> Floats:
    """Return the mean rate of the stillest second, ``(3,)`` rad/s: cheap gyroscopes are off by degrees."""
    acc, turn = blocks.windows(_CALM_S)
    if not len(acc):
        return np.zeros(3)
    spread = np.sqrt(acc.var(axis=1).sum(axis=1)) / np.linalg.norm(acc.mean(axis=1), axis=1)
    best = int(np.argmin(spread))
    if not spread[best] < _STILL:
        return np.zeros(3)
    return np.asarray(turn[best].mean(axis=0) / float(np.median(blocks.seconds)))


def _judge_reference(
    recording: Recording, reference: Floats, blocks: _Blocks, data: DataConfig
) -> tuple[str, ...]:
    fit = _fit(reference, blocks)
    if fit is None:
        return ("the reference is known at too few samples to be checked",)
    if fit.turning is not None and fit.scale is not None and fit.turns:
        _require_scale(recording, fit.turning, fit.scale, data)
    if fit.turns and fit.up < -_AGREES:
        frame = "NED" if data.frame == "ENU" else "ENU"
        sign = "gravity" if data.acc_sign == "specific-force" else "specific-force"
        _refuse(
            recording,
            f"acc points down by the reference, 180 deg off: frame looks like {frame}, read as {data.frame}, "
            f"or acc_sign looks like {sign}, read as {data.acc_sign}",
            "Lay the sensor flat, an axis up: if this axis reads -1 g the sign is gravity. Use "
            f"--set data.frame={frame} or --set data.acc_sign={sign}",
        )
    if fit.turns and fit.up > _AGREES:
        return ()
    _require_order(recording, reference, blocks, data)
    off = "" if fit.turning is None else f"; their turns correlate at {fit.turning:.2f}"
    return (
        f"reference and sensor disagree: {100 * fit.up:.0f} % of gravity lies along the reference's up{off}",
    )


def _require_scale(recording: Recording, turning: float, scale: float, data: DataConfig) -> None:
    if turning < 0:
        _refuse(
            recording,
            "gyr turns against the reference",
            "Expected right-handed axes and quaternions that map sensor to earth; negate the gyroscope, or "
            "conjugate the reference",
        )
    for unit, factor in GYR_UNITS.items():
        fitting = scale * factor / GYR_UNITS[data.gyr_unit]
        if unit != data.gyr_unit and abs(np.log(fitting)) < _SCALE_FITS:
            _refuse_gyr_unit(recording, unit, data)


def _require_order(recording: Recording, reference: Floats, blocks: _Blocks, data: DataConfig) -> None:
    order = "xyzw" if data.quat_order == "wxyz" else "wxyz"
    if _explains(_as_order(reference, order, data), blocks):
        _refuse(
            recording,
            f"reference looks like quat_order {order}, read as {data.quat_order}",
            f"Expected an orientation that keeps up upward; use --set data.quat_order={order}",
        )
    if _explains(rotations.conjugate(reference), blocks):
        _refuse(
            recording,
            "reference looks like earth to sensor, read as sensor to earth",
            "Expected quaternions that map sensor to earth; negate x, y and z of yours",
        )


def _as_order(reference: Floats, order: str, data: DataConfig) -> Floats:
    """Return the reference as it would be had its file been read in another order."""
    framed = rotations.enu_to_ned(reference) if data.frame == "NED" else reference
    # read as wxyz the file's xyzw stands in (w, x, y, z): its last number is w
    moved = np.roll(framed, 1 if order == "xyzw" else -1, axis=1)
    return rotations.enu_to_ned(moved) if data.frame == "NED" else moved


def _explains(reference: Floats, blocks: _Blocks) -> bool:
    fit = _fit(reference, blocks)
    return fit is not None and fit.turns and abs(fit.up) > _AGREES


def _fit(reference: Floats, blocks: _Blocks) -> _Fit | None:
    starts = np.arange(len(blocks.acc)) * blocks.size
    # the middle of a block, where its mean is meant
    up = rotations.up_vector(reference[starts + blocks.size // 2])
    along = np.sum(up * blocks.acc, axis=1)
    known = np.isfinite(along)
    if known.sum() < _LEAST_PAIRS:
        return None
    return _Fit(float(along[known].mean()) / STANDARD_GRAVITY, *_turning(reference, blocks))


def _turning(reference: Floats, blocks: _Blocks) -> tuple[float | None, float | None]:
    """Return correlation and ratio of the gyroscope's turns to the reference's."""
    stride = max(round(_PAIR_S / float(np.median(blocks.seconds))), 1)
    count = len(blocks.acc) // stride
    at = reference[np.arange(count + 1) * stride * blocks.size]
    theirs = _rotation_vector(rotations.multiply(rotations.conjugate(at[:-1]), at[1:]))
    seconds = blocks.seconds[: count * stride].reshape(count, stride).sum(axis=1)
    ours = blocks.turn[: count * stride].reshape(count, stride, 3).sum(axis=1)
    used = np.isfinite(theirs).all(axis=1) & (seconds < _GAP * np.median(seconds))
    theirs, ours = theirs[used], ours[used]
    if used.sum() < _LEAST_PAIRS:
        return None, None
    power, own = np.sum(theirs**2), np.sum(ours**2)
    if power < used.sum() * (_LEAST_TURN * np.median(seconds)) ** 2 or own == 0:
        return None, None
    common = float(np.sum(theirs * ours))
    return common / float(np.sqrt(power * own)), abs(common) / float(power)


def _rotation_vector(quaternion: Floats) -> Floats:
    short = np.where(quaternion[:, :1] < 0, -quaternion, quaternion)
    sine = np.linalg.norm(short[:, 1:], axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, short[:, :1])
    return np.asarray(short[:, 1:] * np.where(sine > 0, angle / np.where(sine > 0, sine, 1), 2))


def _refuse_gyr_unit(recording: Recording, unit: str, data: DataConfig) -> NoReturn:
    _refuse(
        recording,
        f"gyr looks like {unit}, read as {data.gyr_unit}",
        f"Expected a rotation that agrees with the accelerometer; use --set data.gyr_unit={unit}",
    )


def _refuse(recording: Recording, found: str, remedy: str) -> NoReturn:
    raise DataError(
        f"trial '{recording.trial}': {found}.",
        hint=f"{remedy}, or --set data.self_test=false to go on as it is.",
    )
