"""How answers at cuts of the test are judged; a unit is a device."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.counted import auc_scores, ece_scores
from appliedpapers.core.metrics import log_losses, register_metric
from appliedpapers.core.scores import Counted, Counts, MetricScores, Scored, Slices
from appliedpapers.plugins.laser_cvae.devices import Devices, Flags, Floats

if TYPE_CHECKING:
    from appliedpapers.plugins.laser_cvae.splits import DeviceSplit

EARLY, FORECAST = "auc", "forecast_mae"
"""Primary metric of devices judged by early warning, and by forecast."""

_ECE_BINS = 10
_EDGE = 1e-6
_PREDICTABLE = ("gradual", "rapid")

for _name, _unit, _better, _about in (
    ("f1_tuned", "", True, "f1 at the threshold that is best on validation devices"),
    ("recall_tuned", "", True, "recall at the threshold that is best on validation devices"),
    ("false_alarm_rate", "", False, "share of healthy devices with an alert at the cut"),
    ("alerts_per_1000", "", False, "alerts on 1,000 healthy devices at the cut"),
    ("hours_saved", "h", True, "hours from the first alert to the end of the test, over failing devices"),
    ("lead_time", "h", True, "hours from the first alert to the failure, over failing devices"),
    ("median_p_value", "", None, "median p-value of abnormality"),
    ("median_p_cross", "", None, "median chance to fail"),
    (
        "wrong_verdicts",
        "",
        False,
        "devices whose forecast lies on the wrong side of the criterion, as a share",
    ),
):
    register_metric(_name, unit=_unit, higher_is_better=_better, description=_about)


@dataclass(frozen=True)
class Answers:
    """What one model says of the devices of a split at each cut; C cuts, N devices.

    Attributes:
        rank: ``(C, N)``, larger for devices that will fail; infinite for those that have.
        alert: ``(C, N)``, alerts at the threshold of healthy validation devices.
        tuned: ``(C, N)``, alerts at the threshold with the best F1 on validation devices.
        chance: ``(C, N)``, calibrated chance to fail by the planned end; None where there is none.
        end: ``(C, N)``, damage forecast at the end; None where there is no forecast.
        ttf: ``(C, N, 3)``, quantiles of the failure time; NaN where censored.
        p_value: ``(C, N)``, of abnormality.
    """

    rank: Floats
    alert: Flags
    tuned: Flags
    chance: Floats | None = None
    end: Floats | None = None
    ttf: Floats | None = None
    p_value: Floats | None = None


class F1Counts(Counted):
    """F1 of alerts as a function of how often each device counts."""

    def __init__(self, truth: Flags, alert: Flags, chosen: Flags | None = None) -> None:
        chosen = np.ones(len(truth), dtype=bool) if chosen is None else chosen
        self._truth, self._alert, self._chosen = truth, alert, chosen

    def of_draws(self, counts: Counts) -> Floats:
        """Return F1 of each resample; NaN where nothing is positive or alerted."""
        kept = counts * self._chosen
        hits = kept @ (self._truth & self._alert)
        named = kept @ self._truth.astype(np.int64) + kept @ self._alert.astype(np.int64)
        return np.where(named > 0, 2 * hits / np.maximum(named, 1), np.nan)

    def restrict(self, chosen: Flags) -> F1Counts:
        """Return F1 over some of the devices."""
        return F1Counts(self._truth, self._alert, self._chosen & chosen)


class MedianCounts(Counted):
    """Weighted median of values, as a function of how often each device counts."""

    def __init__(self, values: Floats, chosen: Flags) -> None:
        self._order = np.argsort(values, kind="stable")
        self._values, self._chosen = values, chosen

    def of_draws(self, counts: Counts) -> Floats:
        """Return the lower median of each resample; NaN where it is empty."""
        sums = np.cumsum((counts * self._chosen)[:, self._order], axis=1)
        total = sums[:, -1]
        place = (2 * sums < total[:, None]).sum(axis=1)
        found = self._values[self._order][np.minimum(place, len(self._order) - 1)]
        return np.where(total > 0, found, np.nan)

    def restrict(self, chosen: Flags) -> MedianCounts:
        """Return the median over some of the devices."""
        return MedianCounts(self._values, self._chosen & chosen)


def score(answers: Answers, split: DeviceSplit) -> Scored:
    """Score answers; the whole speaks of the main cut, slices of cuts, modes and condition cells."""
    devices, main = split.devices, split.main
    whole = _at_cut(answers, split, main)
    if len(split.cuts) > 1:
        whole |= _over_time(answers, split)
    slices = [({"cut": label}, _at_cut(answers, split, number)) for number, label in enumerate(split.labels)]
    slices += _by_mode(answers, split) + _by_cell(whole, devices)
    units = {FORECAST: devices.scale.words} if FORECAST in whole else {}
    return Scored(whole, _names(devices), slices=_slices(slices), units=units)


def _names(devices: Devices) -> NDArray[np.int64]:
    """Return a number a name: one device of several repeats is resampled as one."""
    return np.array([zlib.crc32(name.encode()) for name in devices.names], dtype=np.int64)


def _slices(found: Sequence[tuple[dict[str, str], dict[str, MetricScores]]]) -> Slices:
    return tuple((labels, metrics) for labels, metrics in found if metrics)


def _at_cut(answers: Answers, split: DeviceSplit, cut: int) -> dict[str, MetricScores]:
    devices, hours = split.devices, split.cuts[cut]
    failed, known = devices.failed, _known(devices)
    # what failed before is no early warning; at the end of the test everything counts
    over = hours >= devices.horizon * (1 - 1e-9)
    open_ = known & (over | (devices.failure > hours))
    alert, tuned = answers.alert[cut], answers.tuned[cut]
    found: dict[str, MetricScores] = {}
    found["auc"] = auc_scores(failed, _ranks(answers.rank[cut])).restrict(open_)
    if answers.end is not None:
        found |= _forecast(answers.end[cut], devices)
    count = len(devices)
    found["f1"] = MetricScores.counted(F1Counts(failed, alert, known), count)
    found["f1_tuned"] = MetricScores.counted(F1Counts(failed, tuned, known), count)
    found["recall"] = MetricScores.mean(alert, failed)
    found["false_alarm_rate"] = MetricScores.mean(alert, known & ~failed)
    found["alerts_per_1000"] = MetricScores.mean(1000.0 * alert, known & ~failed)
    if answers.chance is not None:
        chance = np.clip(answers.chance[cut], _EDGE, 1 - _EDGE)
        label = failed.astype(np.int64)
        found["brier"] = MetricScores.mean((chance - failed) ** 2, open_)
        found["logloss"] = MetricScores.mean(log_losses(label, chance), open_)
        found["ece"] = ece_scores(label, chance, bins=_ECE_BINS).restrict(open_)
    if answers.ttf is not None:
        found["coverage"] = _coverage(answers.ttf[cut], devices, open_ & ~over)
    return found


def _known(devices: Devices) -> Flags:
    """Return of which devices it is known whether they failed by the end of their test."""
    return np.asarray(devices.failed | (devices.last >= 0.98 * devices.horizon))


def _forecast(end: Floats, devices: Devices) -> dict[str, MetricScores]:
    rows, count = np.arange(len(devices)), devices.counts
    true = devices.damage[rows, count - 1]
    read = devices.last >= 0.98 * devices.horizon
    scale = devices.scale
    off = np.abs(scale.told(np.maximum(end, -1.0)) - scale.told(true))
    wrong = (end > scale.limit) != (true > scale.limit)
    return {
        FORECAST: MetricScores.mean(off, read),
        "wrong_verdicts": MetricScores.mean(wrong, read),
    }


def _coverage(ttf: Floats, devices: Devices, open_: Flags) -> MetricScores:
    """Return how often the failure lies between the 10 and 90 % quantiles, censored ones being infinite."""
    low, high = (np.nan_to_num(ttf[:, place], nan=np.inf) for place in (0, 2))
    inside = (devices.crossing >= low) & (devices.crossing <= high)
    chosen = open_ & devices.failed
    if devices.modes:
        chosen &= np.isin(np.array(devices.modes), _PREDICTABLE)
    return MetricScores.mean(inside, chosen)


def _over_time(answers: Answers, split: DeviceSplit) -> dict[str, MetricScores]:
    """Return hours saved and lead time, by the first cut with an alert."""
    devices = split.devices
    first = np.where(answers.alert.any(axis=0), answers.alert.argmax(axis=0), -1)
    at = split.cuts[np.maximum(first, 0), np.arange(len(devices))]
    alerted = first >= 0
    saved = np.where(alerted, np.maximum(devices.horizon - at, 0), 0.0)
    failure = np.where(np.isfinite(devices.failure), devices.failure, 0.0)
    lead = np.where(alerted, np.maximum(failure - at, 0), 0.0)
    return {
        "hours_saved": MetricScores.mean(saved, devices.failed),
        "lead_time": MetricScores.mean(lead, devices.failed),
    }


def _by_mode(answers: Answers, split: DeviceSplit) -> list[tuple[dict[str, str], dict[str, MetricScores]]]:
    """Return recall by failure mode and cut, where a simulator knows the modes."""
    devices = split.devices
    if not devices.modes or split.judge != "early-warning":
        return []
    modes, found = np.array(devices.modes), []
    for number, label in enumerate(split.labels):
        for mode in sorted(set(devices.modes) - {""}):
            own = modes == mode
            metrics = {
                "recall": MetricScores.mean(answers.alert[number], own),
                "recall_tuned": MetricScores.mean(answers.tuned[number], own),
            }
            if answers.p_value is not None:
                metrics["median_p_value"] = _median(answers.p_value[number], own)
            if answers.chance is not None:
                waiting = own & (devices.failure > split.cuts[number])
                if waiting.any():
                    metrics["median_p_cross"] = _median(answers.chance[number], waiting)
            found.append(({"mode": mode, "cut": label}, metrics))
    return found


def _median(values: Floats, own: Flags) -> MetricScores:
    return MetricScores.counted(MedianCounts(values, own), len(values))


def _by_cell(
    whole: dict[str, MetricScores], devices: Devices
) -> list[tuple[dict[str, str], dict[str, MetricScores]]]:
    cells = np.array(devices.cells())
    shown = [name for name in ("auc", FORECAST, "false_alarm_rate") if name in whole]
    return [
        ({"cell": str(cell)}, {name: whole[name].restrict(cells == cell) for name in shown})
        for cell in sorted(set(cells.tolist()))
    ]


def _ranks(values: Floats) -> Floats:
    """Return scores that can be ranked: what is not known stands last."""
    return np.asarray(np.nan_to_num(values, nan=-1e300, posinf=1e300, neginf=-1e300))


def best_threshold(truth: Flags, rank: Floats) -> float:
    """Return the threshold with the largest F1 of ``rank > threshold``; infinite without failures."""
    values = _ranks(rank)
    if not truth.any():
        return float("inf")
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(truth) + 1) + truth.sum())
    # only between different values is a threshold possible
    last = np.append(values[order][1:] < values[order][:-1], True)
    best = int(np.argmax(np.where(last, f1, -1)))
    below = values[order][best + 1] if best + 1 < len(truth) else values[order][best] - 1
    return float((values[order][best] + below) / 2)


def quantile_threshold(healthy: Floats, share: float) -> float:
    """Return the threshold that a share of healthy devices exceeds; infinite without any."""
    values = _ranks(healthy)
    if not len(values):
        return float("inf")
    # the finite-sample quantile of conformal prediction
    level = min(np.ceil((len(values) + 1) * (1 - share)) / len(values), 1.0)
    return float(np.quantile(values, level, method="higher"))
