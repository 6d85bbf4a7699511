"""From prefixes to the columns of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from appliedpapers.plugins.laser_cvae.ageing import Judgement
from appliedpapers.plugins.laser_cvae.devices import Flags, Floats, Prefixes, Scale
from appliedpapers.plugins.laser_cvae.forecast import ForecastHead, Outlook
from appliedpapers.plugins.laser_cvae.tables import HOURS

if TYPE_CHECKING:
    from appliedpapers.plugins.laser_cvae.model import LaserCvae

_RAPID = 3.0  # times the mean slope so far
_SUDDEN = 0.5  # of the criterion, between two readings


def judge_prefixes(
    model: LaserCvae, seen: Prefixes, names: Sequence[str], *, alone: bool = False
) -> dict[str, list[Any]]:
    """Return the columns of the answer for prefixes, as lists; missing values are None.

    Args:
        model: A fitted model.
        seen: Prefixes of devices, at least none.
        names: Names of the devices that ``seen.device`` numbers.
        alone: Compute each row by itself, for a stream.
    """
    assert model.ageing is not None
    assert model.forecast is not None
    data, count = model.config.data, len(seen)
    hour = HOURS[data.time_unit]
    enough = seen.usable
    failed = seen.crossed & enough
    found = _blank(model, count)
    found["device"] = [names[device] for device in seen.device]
    found["status"] = [
        "already-failed" if bad else ("ok" if long else "insufficient")
        for bad, long in zip(failed, enough, strict=True)
    ]
    found["extrapolated"] = model.outside(seen).tolist()
    rows = np.flatnonzero(enough)
    if len(rows):
        usable = seen.take(rows)
        judgement = model.ageing.judge(usable, alone=alone)
        _fill_judgement(found, rows, usable, judgement, model, hour, data.skip)
    rows = np.flatnonzero(enough & ~failed & (seen.end < seen.horizon))
    if len(rows):
        look = model.forecast.look(seen.take(rows), alone=alone)
        _fill_outlook(found, rows, look, model.scale, hour, data.skip)
    for row in np.flatnonzero(failed):
        found["p_cross"][row] = 1.0
    for row in np.flatnonzero(enough & ~failed & (seen.end >= seen.horizon)):
        # the test is over, and it has not failed
        found["p_cross"][row], found["censored"][row] = 0.0, "p10 p50 p90"
    return found


def _blank(model: LaserCvae, count: int) -> dict[str, list[Any]]:
    from appliedpapers.plugins.laser_cvae.answers import BLANK

    return {column.name: [BLANK.get(column.name)] * count for column in model.output_schema.columns}


def _fill_judgement(
    found: dict[str, list[Any]],
    rows: np.ndarray[Any, np.dtype[np.intp]],
    seen: Prefixes,
    judgement: Judgement,
    model: LaserCvae,
    hour: float,
    skip: float,
) -> None:
    assert model.ageing is not None
    assert model.forecast is not None
    p_value, basis = model.ageing.p_values(seen, judgement)
    more = ages_more(seen, model.forecast)
    options = model.config.abnormality
    alert = p_value <= options.alpha
    if options.one_sided:
        p_value, alert = np.where(more, p_value, 1.0), alert & more
    latest = seen.counts - 1
    index = np.arange(len(seen))
    worst = judgement.attribution.argmax(axis=1)
    expected = model.scale.told(judgement.expected[index, latest])
    hints = mode_hints(seen, alert, more, model.scale)
    columns = {
        "score": judgement.score,
        "reconstruction": judgement.reconstruction,
        "p_value": p_value,
        "attribution": judgement.attribution[index, latest],
        "expected": expected,
        "worst_time": seen.hours[index, worst] / hour + skip,
    }
    for place, row in enumerate(rows):
        for name, values in columns.items():
            found[name][row] = float(values[place])
        found["alert"][row] = bool(alert[place])
        found["compared_with"][row] = basis[place]
        found["direction"][row] = "more" if more[place] else "less"
        found["mode_hint"][row] = hints[place]


def ages_more(seen: Prefixes, head: ForecastHead) -> Flags:
    """Return which rows have aged more than the path prior expects of their condition, ``(R,)``."""
    expected = head.prior.paths(head.prior.mean(seen.conditions), seen.end[:, None])[:, 0]
    return np.asarray(_recent(seen) >= expected)


def mode_hints(seen: Prefixes, alert: Flags, more: Flags, scale: Scale) -> list[str]:
    """Return what the path of each row looks like; ``normal`` where there is no alert."""
    rows = np.arange(len(seen))
    steps = np.nan_to_num(np.diff(seen.damage, axis=1), nan=0.0)
    largest = steps.max(axis=1, initial=0.0)
    half = np.maximum(seen.counts // 2, 1)
    middle = seen.damage[rows, half]
    gone = np.maximum(seen.end, 1e-9)
    early = middle / np.maximum(seen.hours[rows, half], 1e-9)
    late = (_recent(seen) - middle) / np.maximum(gone - seen.hours[rows, half], 1e-9)
    odd = np.asarray((np.isfinite(seen.damage) & ~seen.kept).any(axis=1))
    hints = []
    for row in rows:
        if not alert[row]:
            hints.append("outlier" if odd[row] else "normal")
        elif largest[row] > _SUDDEN * scale.limit:
            hints.append("sudden")
        elif not more[row]:
            hints.append("too-good")
        else:
            hints.append("rapid" if late[row] > _RAPID * max(float(early[row]), 1e-9) else "gradual")
    return hints


def _recent(seen: Prefixes) -> Floats:
    """Return the median of the last three readings, ``(R,)``."""
    rows, count = np.arange(len(seen)), seen.counts
    last = [seen.damage[rows, np.maximum(count - 1 - back, 0)] for back in range(3)]
    return np.asarray(np.median(np.stack(last), axis=0))


def _fill_outlook(
    found: dict[str, list[Any]],
    rows: np.ndarray[Any, np.dtype[np.intp]],
    look: Outlook,
    scale: Scale,
    hour: float,
    skip: float,
) -> None:
    told = scale.told(look.fan)
    # where power falls, the large damage is the small value
    ordered = told if scale.sign > 0 else told[..., ::-1]
    times = look.hours / hour + skip
    for place, row in enumerate(rows):
        found["p_cross"][row] = float(look.p_cross[place])
        late = []
        for number, level in enumerate((10, 50, 90)):
            value = look.ttf[place, number]
            if np.isfinite(value):
                found[f"ttf_p{level}"][row] = float(value) / hour + skip
            else:
                late.append(f"p{level}")
            found[f"forecast_p{level}"][row] = ordered[place, :, number].tolist()
        found["censored"][row] = " ".join(late)
        found["forecast_time"][row] = times[place].tolist()
