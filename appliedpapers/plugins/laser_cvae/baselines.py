"""What ours is held against: detectors of whole series, and simple forecasts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from appliedpapers.core.data import Split
from appliedpapers.core.evaluation import Baseline
from appliedpapers.plugins.laser_cvae.devices import Devices, Floats, Prefixes
from appliedpapers.plugins.laser_cvae.path_model import PathModel
from appliedpapers.plugins.laser_cvae.profile import cleaned, read_at
from appliedpapers.plugins.laser_cvae.scoring import Answers, best_threshold, quantile_threshold

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.laser_cvae.config import LaserConfig
    from appliedpapers.plugins.laser_cvae.splits import DeviceSplit

GRID = np.linspace(1 / 32, 1.0, 32)
"""Shares of the elapsed time at which detectors read a series."""

_FEWEST = 4


def baselines(config: LaserConfig, judge: str) -> list[Baseline]:
    """Return the unfitted baselines of the configuration; detectors only where early warning is judged."""
    from appliedpapers.plugins.laser_cvae.detectors import DETECTORS

    forecasts: Mapping[str, Callable[[LaserConfig], Baseline]] = {
        "linear": Linear,
        "exp-linear": ExpLinear,
        "path": PathForecast,
        "condition-only": ConditionOnly,
        "rule": Rule,
        "last-reading": LastReading,
    }
    found: list[Baseline] = []
    for name in config.baselines:
        if name in forecasts:
            found.append(forecasts[name](config))
        elif judge == "early-warning" and (detector := DETECTORS[name](config)) is not None:
            found.append(detector)
    return found


class AgeingBaseline(Baseline):
    """Ranks devices at each cut; thresholds are those of validation devices, as for ours.

    Args:
        config: The configuration of the run.
    """

    def __init__(self, config: LaserConfig) -> None:
        self._config = config
        self._thresholds: list[tuple[float, float]] = []

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit at each cut of ``train``, and take thresholds from ``valid``."""
        learned, chosen = cast("DeviceSplit", train), cast("DeviceSplit", valid)
        self._learn(learned, run)
        own = chosen if len(chosen.devices) >= _FEWEST else learned
        self._thresholds = []
        for cut in range(len(own.cuts)):
            rank = self._said(own, cut)["rank"]
            failed = own.devices.failed
            healthy = quantile_threshold(rank[~failed], self._config.judge.false_alarms)
            self._thresholds.append((healthy, best_threshold(failed, rank)))
        return self

    def predict(self, split: Split) -> Answers:
        """Answer for all devices at all cuts."""
        own = cast("DeviceSplit", split)
        said = [self._said(own, cut) for cut in range(len(own.cuts))]
        rank = np.stack([one["rank"] for one in said])
        limits = np.array(self._thresholds)
        others = {name: np.stack([one[name] for one in said]) for name in said[0] if name != "rank"}
        return Answers(rank, rank > limits[:, :1], rank > limits[:, 1:], **others)

    @abstractmethod
    def _learn(self, train: DeviceSplit, run: FitContext) -> None: ...

    @abstractmethod
    def _said(self, split: DeviceSplit, cut: int) -> dict[str, Floats]:
        """Return ``rank`` and what else is said at a cut: ``chance``, ``end``."""


def series(devices: Devices, hours: Floats) -> tuple[Prefixes, Floats]:
    """Return what had been read by a cut, and it on the common grid ``(N, 32)``."""
    seen = devices.before(hours)
    return seen, read_at(seen, cleaned(seen), GRID)


class Rule(AgeingBaseline):
    """The criterion itself: the largest median of three readings so far."""

    name = "rule"

    def _learn(self, train: DeviceSplit, run: FitContext) -> None: ...

    def _said(self, split: DeviceSplit, cut: int) -> dict[str, Floats]:
        seen = split.devices.before(split.cuts[cut])
        damage = np.where(np.isfinite(seen.damage), seen.damage, -np.inf)
        if damage.shape[1] < 3:
            return {"rank": damage.max(axis=1), "end": damage.max(axis=1)}
        windows = np.lib.stride_tricks.sliding_window_view(damage, 3, axis=1)
        rank = np.median(windows, axis=-1).max(axis=1)
        return {"rank": rank, "end": rank}


class LastReading(AgeingBaseline):
    """The latest damage that was read, as if ageing ended there: the current value of the device."""

    name = "last-reading"

    def _learn(self, train: DeviceSplit, run: FitContext) -> None: ...

    def _said(self, split: DeviceSplit, cut: int) -> dict[str, Floats]:
        seen = split.devices.before(split.cuts[cut])
        latest = np.maximum(seen.counts - 1, 0)
        return _as_damage(np.nan_to_num(seen.damage[np.arange(len(seen)), latest]))


class Linear(AgeingBaseline):
    """The value goes on along the line through the start that fits best so far."""

    name = "linear"

    def _learn(self, train: DeviceSplit, run: FitContext) -> None: ...

    def _said(self, split: DeviceSplit, cut: int) -> dict[str, Floats]:
        seen, scale = split.devices.before(split.cuts[cut]), split.devices.scale
        told = scale.told(np.nan_to_num(seen.damage)) - scale.told(0.0)
        end = scale.told(0.0) + _through_origin(seen, told) * seen.horizon
        return _as_damage(scale.damage(np.maximum(scale.ratio(end), 1e-6)))


class ExpLinear(AgeingBaseline):
    """Damage goes on along the line through the origin that fits best so far."""

    name = "exp-linear"

    def _learn(self, train: DeviceSplit, run: FitContext) -> None: ...

    def _said(self, split: DeviceSplit, cut: int) -> dict[str, Floats]:
        seen = split.devices.before(split.cuts[cut])
        return _as_damage(_through_origin(seen, np.nan_to_num(seen.damage)) * seen.horizon)


class PathForecast(AgeingBaseline):
    """The closed-form path of each device, given its readings and those of all others."""

    name = "path"

    def _learn(self, train: DeviceSplit, run: FitContext) -> None:
        self._model = PathModel.fit(train.devices)

    def _said(self, split: DeviceSplit, cut: int) -> dict[str, Floats]:
        from scipy.special import ndtr

        seen = split.devices.before(split.cuts[cut])
        end, doubt = self._model.forecast(seen, seen.horizon)
        beyond = (np.log(np.maximum(end, 1e-9)) - np.log(seen.scale.limit)) / doubt
        gone = seen.crossed
        return {
            "rank": np.where(gone, np.inf, beyond),
            "end": end,
            "chance": np.where(gone, 1.0, ndtr(beyond)),
        }

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the acceleration factors with their intervals."""
        for name, one in self._model.accelerations().items():
            if np.isfinite(one.value):
                unit = " eV" if name == "activation_energy" else ""
                yield name.replace("_", " "), f"{one.value:.3f}{unit} ({one.low:.3f} to {one.high:.3f})"


class ConditionOnly(AgeingBaseline):
    """Nothing but the condition: how many devices of the cell failed after the cut, and how they ended."""

    name = "condition-only"

    def _learn(self, train: DeviceSplit, run: FitContext) -> None:
        devices = train.devices
        rows, cells = np.arange(len(devices)), np.array(devices.cells())
        ends = devices.damage[rows, devices.counts - 1]
        self._chances: list[dict[str, float]] = []
        for hours in train.cuts:
            over = hours >= devices.horizon * (1 - 1e-9)
            waiting = over | (devices.failure > hours)
            rate = (devices.failed[waiting].sum() + 0.5) / (waiting.sum() + 1)
            found = {"": float(rate)}
            for cell in sorted(set(cells.tolist())):
                own = waiting & (cells == cell)
                # one device of the mean of all cells keeps small cells off 0 and 1
                found[cell] = float((devices.failed[own].sum() + rate) / (own.sum() + 1))
            self._chances.append(found)
        self._ends = {cell: float(np.median(ends[cells == cell])) for cell in set(cells.tolist())}
        self._ends[""] = float(np.median(ends))

    def _said(self, split: DeviceSplit, cut: int) -> dict[str, Floats]:
        seen, cells = split.devices.before(split.cuts[cut]), split.devices.cells()
        known = self._chances[cut]
        chance = np.array([known.get(cell, known[""]) for cell in cells])
        end = np.array([self._ends.get(cell, self._ends[""]) for cell in cells])
        gone = seen.crossed
        return {"rank": np.where(gone, np.inf, chance), "end": end, "chance": np.where(gone, 1.0, chance)}


def _as_damage(end: Floats) -> dict[str, Floats]:
    return {"rank": end, "end": end}


def _through_origin(seen: Prefixes, values: Floats) -> Floats:
    """Return the least-squares slope through the origin, ``(R,)``."""
    hours = np.nan_to_num(seen.hours)
    there = np.isfinite(seen.hours)
    return np.asarray((there * hours * values).sum(axis=1) / np.maximum((there * hours**2).sum(axis=1), 1e-9))
