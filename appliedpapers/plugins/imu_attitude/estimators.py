"""Estimators that ours is held against: VQF, the filters of ``ahrs`` and trailing means.

Packages are optional. Each is loaded, run on a known motion and checked on its own, so that one which is
missing, broken or read in the wrong frame is left out with a note and harms no other.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import ConfigError, PluginError
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.recording import Recording, with_reference
from appliedpapers.plugins.imu_attitude.rotations import (
    angle_between,
    conjugate,
    from_rotation_vector,
    multiply,
    normalise,
    rotate,
    up_vector,
)
from appliedpapers.plugins.imu_attitude.trailing_mean import trailing_mean

Floats = NDArray[np.float64]
Settings = Mapping[str, float]

_LONGEST_STEP_S = 1.0  # what a gap counts for: no package knows where the sensor went meanwhile
_EVEN = 0.01  # steps within 1 % of the median are one sampling rate
_SLOW_BUDGET = 60_000  # samples per setting that a pure Python filter is tuned on: about 2 s
_TUNING_HZ = 70.0
_MOST_EXCERPTS = 10  # else each of many would end before it moves
_BEFORE_MOTION_S = 2.0
_FRAME_LIMIT_RAD = np.deg2rad(1.0)


@dataclass(frozen=True)
class Estimator:
    """One baseline with its settings.

    Attributes:
        name: As it stands in the results table.
        method: Key of the method behind it, such as ``mahony``.
        settings: What it is run with.
    """

    name: str
    method: str
    settings: Settings

    def __call__(self, recording: Recording) -> Estimate:
        """Return its estimate of a recording.

        Raises:
            PluginError: The package raised, or answered with something that is no orientation.
        """
        try:
            estimate = _METHODS[self.method].run(recording, **self.settings)
        except Exception as error:
            raise PluginError(
                f"{self.name} failed on trial {recording.trial}: {type(error).__name__}: {error}",
                hint=f"Leave {self.name} out of the option baselines.",
            ) from error
        if not np.isfinite(estimate.quaternion).all():
            raise PluginError(
                f"{self.name} lost its orientation on trial {recording.trial}: it answered NaN.",
                hint=f"Leave {self.name} out of the option baselines.",
            )
        return estimate

    def describe(self) -> tuple[tuple[str, str], ...]:
        """Return ``(name, value)`` facts for a report: its settings, and the package with its version."""
        facts = tuple((key, f"{value:g}") for key, value in self.settings.items())
        package = _METHODS[self.method].package
        return (*facts, ("package", f"{package} {metadata.version(package)}")) if package else facts


def estimators(names: Iterable[str]) -> dict[str, Estimator]:
    """Return the named baselines that work here, with their published settings; see :func:`unavailable`.

    Raises:
        ConfigError: There is no such baseline.
    """
    made = [_named(name) for name in names]
    return {one.name: one for one in made if _fault(one.method) is None}


def unavailable(names: Iterable[str]) -> dict[str, str]:
    """Return why some of the named baselines cannot be had here, in words with what to type, by name.

    Raises:
        ConfigError: There is no such baseline.
    """
    made = [_named(name) for name in names]
    return {one.name: fault for one in made if (fault := _fault(one.method)) is not None}


def tune(name: str, train: Sequence[Recording]) -> Estimator:
    """Choose a baseline's settings by the mean inclination error over training recordings.

    Args:
        name: A baseline, or ``mean`` or ``corrected-mean``: all lengths of a mean are tuned to one.
        train: Recordings; those without a reference do not count. Pure Python filters see the first seconds
            of motion of up to ten of them, thinned to 70 Hz or more: 60,000 samples in all.

    Returns:
        It is named ``METHOD-tuned``. What has nothing to tune, or nothing to tune it on, comes back as it
        was.

    Raises:
        ConfigError: There is no such baseline.
        PluginError: Its package failed.
    """
    plain = _named(name)
    method = _METHODS[plain.method]
    judged = with_reference(train)
    if method.slow:
        few = judged[:: -(-len(judged) // _MOST_EXCERPTS) or 1]
        judged = with_reference(_excerpt(recording, _SLOW_BUDGET // len(few)) for recording in few)
    if not method.grid or not judged:
        return plain
    tried = [
        Estimator(f"{plain.method}-tuned", plain.method, dict(zip(method.grid, values, strict=True)))
        for values in itertools.product(*method.grid.values())
    ]
    return min(tried, key=lambda one: np.mean([_error(one(recording), recording) for recording in judged]))


def _error(estimate: Estimate, recording: Recording) -> float:
    """Return the root mean square inclination error in radians where errors count."""
    assert recording.reference is not None
    judged = recording.judged
    angles = angle_between(estimate.up[judged], up_vector(recording.reference[judged]))
    return float(np.sqrt(np.mean(angles**2)))


def _excerpt(recording: Recording, samples: int) -> Recording:
    """Return at most so many samples, at no less than 70 Hz, from just before the first that is judged.

    Filters can start there. Rates are means over what is left out, so that turns stay whole; accelerations
    and references are those of the instants that stay. Gains are per second: they carry over.
    """
    every = max(1, int(1 / (recording.step * _TUNING_HZ)))
    begin = recording.time[np.argmax(recording.judged)] - _BEFORE_MOTION_S
    first = int(np.searchsorted(recording.time, begin))
    blocks = min(samples, (len(recording) - first) // every)
    last = first + every * np.arange(1, blocks + 1) - 1
    return replace(
        recording,
        time=recording.time[last],
        acc=recording.acc[last],
        gyr=recording.gyr[first : first + blocks * every].reshape(blocks, every, 3).mean(axis=1),
        mag=None,
        reference=None if recording.reference is None else recording.reference[last],
        movement=None if recording.movement is None else recording.movement[last],
    )


def _mean(recording: Recording, seconds: float) -> Estimate:
    return trailing_mean(recording, seconds, corrected=False)


def _corrected_mean(recording: Recording, seconds: float) -> Estimate:
    return trailing_mean(recording, seconds, corrected=True)


def _vqf(recording: Recording, tau_acc: float) -> Estimate:
    """Run VQF (arXiv 2203.17024), which knows one sampling rate, so that uneven steps are put on a grid."""
    time = _time_without_gaps(recording.time)
    notes: tuple[str, ...] = ()
    step = recording.step
    even = bool(np.all(np.abs(np.diff(time) - step) <= _EVEN * step))
    gyr, acc = recording.gyr, recording.acc
    place, late = np.arange(len(time)), np.zeros(len(time))
    if not even:
        grid = np.arange(time[0], time[-1] + step / 2, step)
        gyr, acc = _interpolate(grid, time, gyr), _interpolate(grid, time, acc)
        place = np.searchsorted(grid, time + 1e-9, side="right") - 1
        late = time - grid[place]
        notes = (f"uneven time stamps: interpolated to {1 / step:.4g} Hz, the one rate that VQF takes",)
    out = (
        importlib.import_module("vqf")
        .VQF(step, tauAcc=tau_acc)
        .updateBatch(np.ascontiguousarray(gyr), np.ascontiguousarray(acc))
    )
    bias = np.asarray(out["bias"], dtype=np.float64)[place]
    since = from_rotation_vector((recording.gyr - bias) * late[:, None])
    return Estimate(
        quaternion=normalise(multiply(out["quat6D"][place], since)),
        bias=bias,
        at_rest=np.asarray(out["restDetected"], dtype=bool)[place],
        notes=notes,
    )


def _time_without_gaps(time: Floats) -> Floats:
    steps = np.diff(time)
    if (steps <= _LONGEST_STEP_S).all():
        return time
    return np.concatenate([time[:1], time[0] + np.cumsum(np.minimum(steps, _LONGEST_STEP_S))])


def _interpolate(grid: Floats, time: Floats, values: Floats) -> Floats:
    return np.stack([np.interp(grid, time, axis) for axis in values.T], axis=1)


def _madgwick(recording: Recording, gain: float) -> Estimate:
    return _ahrs(recording, "Madgwick", "updateIMU", gain=gain)


def _mahony(recording: Recording, k_p: float, k_i: float) -> Estimate:
    return _ahrs(recording, "Mahony", "updateIMU", k_P=k_p, k_I=k_i)


def _ekf(recording: Recording) -> Estimate:
    # the package's NED is the frame in which an accelerometer at rest shows +g along z, as ours does
    return _ahrs(recording, "EKF", "update", frame="NED")


def _ahrs(recording: Recording, kind: str, method: str, **options: float | str) -> Estimate:
    """Run a filter of ``ahrs`` with its own start and the true steps of time."""
    make = getattr(importlib.import_module("ahrs.filters"), kind)
    gyr, acc = recording.gyr, recording.acc
    frequency = 1 / recording.step
    quaternion = np.empty((len(recording), 4))
    quaternion[0] = make(gyr=gyr[:1], acc=acc[:1], frequency=frequency, **options).Q[0]
    update = getattr(make(frequency=frequency, **options), method)
    steps = np.diff(_time_without_gaps(recording.time))
    for k, step in enumerate(steps, start=1):
        quaternion[k] = update(quaternion[k - 1], gyr[k], acc[k], dt=step)
    return Estimate(quaternion=normalise(quaternion))


@dataclass(frozen=True)
class _Method:
    run: Callable[..., Estimate]
    published: Settings = field(default_factory=dict)
    grid: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    package: str | None = None
    slow: bool = False


_LENGTHS = (0.35, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0)

_METHODS: Mapping[str, _Method] = MappingProxyType(
    {
        "vqf": _Method(_vqf, {"tau_acc": 3.0}, {"tau_acc": (1.0, 1.5, 2.0, 3.0, 4.5, 6.0, 9.0)}, "vqf"),
        "madgwick": _Method(
            _madgwick,
            {"gain": 0.033},
            {"gain": (0.0033, 0.006, 0.01, 0.02, 0.033, 0.06, 0.1)},
            "ahrs",
            slow=True,
        ),
        # published: the best common gains of Data 6(7):72
        "mahony": _Method(
            _mahony,
            {"k_p": 0.74, "k_i": 0.0012},
            {"k_p": (0.1, 0.2, 0.4, 0.74, 1.5), "k_i": (0.0012, 0.02)},
            "ahrs",
            slow=True,
        ),
        "ekf": _Method(_ekf, package="ahrs", slow=True),
        "mean": _Method(_mean, {"seconds": 10.0}, {"seconds": _LENGTHS}),
        "corrected-mean": _Method(_corrected_mean, {"seconds": 10.0}, {"seconds": _LENGTHS}),
    }
)

_MEANS = ("corrected-mean-10s", "mean-10s", "mean-5s", "mean-0.35s")


def _named(name: str) -> Estimator:
    if name in _METHODS:
        return Estimator(name, name, _METHODS[name].published)
    if name in _MEANS:
        method, length = name.rsplit("-", 1)
        return Estimator(name, method, {"seconds": float(length.removesuffix("s"))})
    raise ConfigError(
        f"There is no baseline {name!r}.", hint=f"Baselines: {', '.join((*_METHODS, *_MEANS))}."
    )


@functools.cache
def _fault(method: str) -> str | None:
    """Return why a method cannot be used here, or None after it has followed a known motion."""
    package = _METHODS[method].package
    if package is not None:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError:
            return f"{method} is left out: its package is not installed. pip install {package}"
        except Exception as error:  # packages have crashed on load under a newer Python
            return f"{method} is left out: {package} does not load here ({error}). pip install -U {package}"
    motion = _known_motion()
    try:
        estimate = _named(method)(motion)
    except PluginError as error:
        return f"{method} is left out: {error.message}"
    assert motion.reference is not None
    off = angle_between(estimate.up, up_vector(motion.reference))[[len(motion) // 2, -1]]
    if (off > _FRAME_LIMIT_RAD).any():
        angles = " and ".join(f"{angle:.0f}" for angle in np.rad2deg(off))
        return f"{method} is left out: its up is {angles} deg off on a known motion, so its frame is not ours"
    return None


def _known_motion() -> Recording:
    """Return 2 s at rest, tilted, and 2 s that turn by 90 deg, at 100 Hz: every wrong sign shows."""
    time = np.arange(401) / 100
    angle = np.deg2rad(45.0) * np.clip(time - 2, 0, None)
    tilted = normalise(np.array([0.5, -0.6, 0.3, 0.2]))
    axis = normalise(np.array([1.0, 2.0, -1.0]))
    quaternion = multiply(tilted, from_rotation_vector(angle[:, None] * axis))
    acc = rotate(conjugate(quaternion), np.array([0.0, 0.0, 9.81]))
    gyr = np.gradient(angle, time)[:, None] * axis
    return Recording("known motion", time, acc, gyr, reference=quaternion)
