"""Figures that answer: when is it off, in which motion, does it follow, does it know how far it is off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core import figures as drawing
from appliedpapers.core.figures import FLAGGED, MUTED, OURS, TRUTH, Figure
from appliedpapers.plugins.imu_attitude.phases import PHASES, phases
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import Floats, angle_between, roll_pitch
from appliedpapers.plugins.imu_attitude.scoring import Answers, has_reference, inclination_deg

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Material
    from appliedpapers.plugins.imu_attitude.splits import AttitudeSplit

_POINTS = 600  # a line: what the report's column can show
_STRIP_S = 8.0
_MARGIN_S = 3.0
_RATES_DEG_S = (0.0, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, np.inf)
_OFFS_M_S2 = (0.0, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, np.inf)
_FEWEST = 200  # samples of a bin that is drawn
_LEVELS = 10
_GRAVITY = 9.81
_SHADES = {"slow": ("#e9eef2", 1.0), "fast": ("#c9d6e0", 1.0), "tap": (FLAGGED, 0.35)}
_LONGEST_NAME = 22


class _Scene(NamedTuple):
    """What every figure draws: test trials with the answers of ours and, where there is one, of a rival.

    Attributes:
        recordings: The test trials.
        ours: Our answers.
        name: Of our model.
        models: Answers, name and colour of all that are drawn, ours last.
        synthetic: Whether the data are.
    """

    recordings: tuple[Recording, ...]
    ours: Answers
    name: str
    models: list[tuple[Answers, str, str]]
    synthetic: bool

    def errors(self, answers: Answers) -> list[Floats]:
        """Return the inclination errors of each trial in degrees; NaN where they do not count."""
        found = []
        for estimate, recording in zip(answers.estimates, self.recordings, strict=True):
            error = np.full(len(recording), np.nan)
            if estimate is not None:
                error[recording.judged] = inclination_deg(estimate, recording)[recording.judged]
            found.append(error)
        return found


def draw(material: Material) -> list[Figure]:
    """Draw all figures of a run; without a reference only where ours and the strongest rival differ most."""
    scene = _scene(material)
    if not has_reference(scene.recordings):
        strip = _disagreement(scene)
        return [] if strip is None else [strip]
    errors = scene.errors(scene.ours)
    worst = int(np.argmax([_rms(error) for error in errors]))
    found = [_over_time(scene, worst), _by_motion(scene), _strip(scene, worst, errors[worst])]
    promise = _calibration(scene)
    return found if promise is None else [*found, promise]


def _scene(material: Material) -> _Scene:
    return _Scene(
        cast("AttitudeSplit", material.dataset.test).recordings,
        material.predictions[material.model_name],
        material.model_name,
        material.compared(),
        material.synthetic,
    )


def _over_time(scene: _Scene, worst: int) -> Figure:
    """Draw the error along the trial where ours is worst, with what the sensor does behind it."""
    recording = scene.recordings[worst]
    time = recording.time - recording.time[0]
    counted = time[recording.judged][[0, -1]]
    fig, axes = drawing.start(height=3.0)
    shown = _shade(axes, time, phases(recording))
    words, ends = [], []
    for answers, name, color in scene.models:
        error = scene.errors(answers)[worst]
        at, values = _binned(time, error)
        axes.plot(at, values, color=color, lw=1.4 if color == OURS else 1.0, zorder=3 if color == OURS else 2)
        words.append(f"{name} {_rms(error):.2f}°")
        known = np.flatnonzero(np.isfinite(values))
        ends.append((float(values[known[-1]]), name, color))
    axes.set_ylim(0, axes.get_ylim()[1])
    bound = scene.ours.bounds[worst]
    if bound is not None:
        at, values = _binned(time, np.where(recording.judged, np.rad2deg(bound), np.nan))
        axes.plot(at, values, color=OURS, lw=0.9, ls=":", zorder=4)
        shown = f"Dotted: what 95 % of our errors are said to stay below. {shown}"
    first, last = max(counted[0] - _MARGIN_S, 0.0), min(counted[1] + _MARGIN_S, float(time[-1]))
    axes.set_xlim(first, last + 0.16 * (last - first))
    drawing.label_ends(axes, last, ends)
    axes.set(xlabel="time, s", ylabel="inclination error, °")
    about = f"Worst test trial {recording.trial}: root mean squared error {', '.join(words)}"
    return drawing.finish(
        fig,
        name="error-over-time",
        title=f"The worst trial, {recording.trial}",
        caption=f"{about}. {shown}. Errors count where the sensor moves and the reference is known.",
        alt=f"{about}.",
        synthetic=scene.synthetic,
    )


def _by_motion(scene: _Scene) -> Figure:
    """Draw the median error, and where its middle half lies, by angular rate and by acceleration."""
    rate = [np.rad2deg(np.linalg.norm(one.gyr, axis=1)) for one in scene.recordings]
    off = [np.abs(np.linalg.norm(one.acc, axis=1) - _GRAVITY) for one in scene.recordings]
    fig, grid = drawing.start(
        height=3.8, rows=2, columns=2, sharex="col", sharey="row", gridspec_kw={"height_ratios": [3, 1]}
    )
    errors = {name: np.concatenate(scene.errors(answers)) for answers, name, _ in scene.models}
    words = []
    for column, (values, edges, label) in enumerate(
        (
            (np.concatenate(rate), _RATES_DEG_S, "angular rate, °/s"),
            (np.concatenate(off), _OFFS_M_S2, "| |acc| − g |, m/s²"),
        )
    ):
        place = np.digitize(values, edges) - 1
        judged = np.isfinite(errors[scene.name])
        counts = np.bincount(place[judged], minlength=len(edges) - 1)
        bins = [number for number, count in enumerate(counts) if count >= _FEWEST]
        for _, name, color in scene.models:
            quartiles = np.array(
                [
                    np.nanquantile(errors[name][judged & (place == number)], (0.25, 0.5, 0.75))
                    for number in bins
                ]
            ).reshape(-1, 3)
            top, x = grid[0, column], np.arange(len(bins))
            top.fill_between(x, quartiles[:, 0], quartiles[:, 2], color=color, alpha=0.18, lw=0)
            top.plot(x, quartiles[:, 1], color=color, lw=1.6, marker="o", ms=3)
            if name == scene.name and len(bins):
                first, last = quartiles[0, 1], quartiles[-1, 1]
                words.append(f"{first:.2f}° to {last:.2f}° from the lowest to the highest {label}")
        low = grid[1, column]
        low.bar(np.arange(len(bins)), 100 * counts[bins] / max(counts.sum(), 1), color=MUTED, width=0.6)
        low.set_xticks(np.arange(len(bins)), [_range(edges, number) for number in bins], rotation=35)
        low.set_xlabel(label)
    grid[0, 0].set_ylim(bottom=0)
    grid[0, 0].set_ylabel("inclination error, °")
    grid[1, 0].set_ylabel("samples, %")
    drawing.name_lines(grid[0, 0], [line[1:] for line in scene.models], (0.03, 0.95))
    return drawing.finish(
        fig,
        name="error-by-motion",
        title="Error by motion",
        caption="Median error and its middle half over all test samples that count, by how fast the sensor "
        "turns and by how far the accelerometer is from gravity; below, how many samples that is.",
        alt=f"Our median error goes from {' and from '.join(words)}.",
        synthetic=scene.synthetic,
    )


def _strip(scene: _Scene, worst: int, error: Floats) -> Figure:
    """Draw roll and pitch around the largest error of the worst trial."""
    recording, estimate = scene.recordings[worst], scene.ours.estimates[worst]
    assert estimate is not None
    assert recording.reference is not None
    part = _around(recording, int(np.nanargmax(error)))
    fig = _roll_and_pitch(
        recording,
        part,
        [(recording.reference, "reference", TRUTH), (estimate.quaternion, scene.name, OURS)],
        error,
    )
    largest = float(np.nanmax(error))
    return drawing.finish(
        fig,
        name="roll-and-pitch",
        title="Roll and pitch where the error is largest",
        caption=f"{_STRIP_S:.0f} s of {recording.trial}. Green: reference, with gaps where its markers were "
        "hidden. Blue: ours. Below: the angle between both directions of up, which unlike roll is defined at "
        "±90° of pitch, too.",
        alt=f"Roll and pitch of {scene.name} and the reference around the largest error of trial "
        f"{recording.trial}, {largest:.2f}°.",
        synthetic=scene.synthetic,
    )


def _disagreement(scene: _Scene) -> Figure | None:
    """Draw roll and pitch where two estimators differ most; None without a second one."""
    if len(scene.models) < 2:
        return None
    (other, other_name, color), _ = scene.models
    apart = [
        np.zeros(1) if ours is None or rival is None else np.rad2deg(angle_between(ours.up, rival.up))
        for ours, rival in zip(scene.ours.estimates, other.estimates, strict=True)
    ]
    trial = int(np.argmax([part.max() for part in apart]))
    recording = scene.recordings[trial]
    ours, rival = scene.ours.estimates[trial], other.estimates[trial]
    if ours is None or rival is None:
        return None
    part = _around(recording, int(np.argmax(apart[trial])))
    lines = [(rival.quaternion, other_name, color), (ours.quaternion, scene.name, OURS)]
    fig = _roll_and_pitch(recording, part, lines, apart[trial])
    about = f"{scene.name} and {other_name} differ most in {recording.trial}, by {apart[trial].max():.2f}°"
    return drawing.finish(
        fig,
        name="disagreement",
        title="Where two estimators differ most",
        caption=f"{about}; below, the angle between them. Without a reference nobody knows which is right.",
        alt=f"{about}.",
        synthetic=scene.synthetic,
    )


def _roll_and_pitch(
    recording: Recording, part: NDArray[np.intp], lines: Sequence[tuple[Floats, str, str]], apart: Floats
) -> Any:
    """Draw roll and pitch of some orientations, and below by how many degrees their up is apart."""
    fig, grid = drawing.start(height=4.2, rows=3, sharex=True)
    time = recording.time[part] - recording.time[0]
    for quaternion, name, color in lines:
        for axes, angle in zip(grid[:2], roll_pitch(quaternion[part]), strict=True):
            degrees = np.rad2deg(angle)
            # a turn past 180 degrees is no line across the figure
            degrees[1:][np.abs(np.diff(degrees)) > 180] = np.nan
            axes.plot(time, degrees, color=color, lw=2.6 if color == TRUTH else 1.1, label=name)
    grid[0].set_ylabel("roll, °")
    grid[1].set_ylabel("pitch, °")
    grid[2].plot(time, apart[part], color=OURS, lw=1.1)
    grid[2].set_ylim(bottom=0)
    grid[2].set_ylabel("apart, °")
    grid[2].set_xlabel("time, s")
    grid[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9, borderaxespad=0.1)
    return fig


def _calibration(scene: _Scene) -> Figure | None:
    """Draw what errors were expected against what they were, and how often the 95 % bound held."""
    from matplotlib.ticker import LogLocator, NullFormatter

    expected, observed, inside, trials = [], [], [], []
    rows = zip(
        scene.recordings, scene.ours.estimates, scene.ours.bounds, scene.errors(scene.ours), strict=True
    )
    for recording, estimate, bound, error in rows:
        judged = recording.judged
        if estimate is None or estimate.sd is None or bound is None or not judged.any():
            continue
        expected.append(np.rad2deg(estimate.sd[judged]))
        observed.append(error[judged])
        inside.append(100 * float(np.mean(error[judged] <= np.rad2deg(bound[judged]))))
        trials.append(recording.trial)
    if not trials:
        return None
    said, was = _levels(np.concatenate(expected), np.concatenate(observed))
    fig, (left, right) = drawing.start(height=3.0, columns=2, gridspec_kw={"width_ratios": [1, 1]})
    ends = (0.8 * float(min(said.min(), was.min())), 1.25 * float(max(said.max(), was.max())))
    left.plot(ends, ends, color=TRUTH, lw=1, ls="--")
    left.scatter(said, was, color=OURS, s=24, zorder=3)
    left.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    left.set(xlabel="expected error, °", ylabel="error that was found, °")
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    at = np.arange(len(trials))[::-1]
    right.axvline(95, color=TRUTH, lw=1, ls="--")
    right.scatter(inside, at, color=[OURS if share >= 85 else FLAGGED for share in inside], s=28, zorder=3)
    right.set_yticks(at, [_short(trial) for trial in trials])
    right.set(xlim=(min(80.0, min(inside) - 3), 101), ylim=(-0.6, len(trials) - 0.4))
    right.set_xlabel("errors below the 95 % bound, %")
    least = f"{min(inside):.0f} % in the worst trial"
    held = f"{np.mean(inside):.1f} % of errors stay below their 95 % bound, {least}"
    span = f"{said[0]:.2f}° to {said[-1]:.2f}° were {was[0]:.2f}° to {was[-1]:.2f}°"
    return drawing.finish(
        fig,
        name="calibration",
        title="Does it know how far it is off?",
        caption=f"Left: expected against found error, root mean square, in {len(said)} groups of equally "
        f"many samples; dashed: a perfect promise. Right, trial by trial: {held}.",
        alt=f"Expected errors of {span}; {held}.",
        synthetic=scene.synthetic,
    )


def _levels(expected: Floats, observed: Floats) -> tuple[Floats, Floats]:
    """Return root mean squares of both in groups of equally many samples by what was expected."""
    groups = np.array_split(np.argsort(expected, kind="stable"), _LEVELS)
    said, was = ([_rms(values[group]) for group in groups if group.size] for values in (expected, observed))
    return np.array(said), np.array(was)


def _shade(axes: Any, time: Floats, phase: NDArray[np.int8]) -> str:
    """Shade slow and fast motion and taps, and return in words which shade is which."""
    found = []
    for name, (color, alpha) in _SHADES.items():
        inside = np.concatenate([[False], phase == PHASES.index(name), [False]])
        edges = np.flatnonzero(np.diff(inside.astype(np.int8)))
        if len(edges):
            found.append({"slow": "pale, slow", "fast": "darker, fast", "tap": "pink, taps"}[name])
        for begin, end in edges.reshape(-1, 2):
            axes.axvspan(time[begin], time[min(end, len(time) - 1)], color=color, alpha=alpha, lw=0, zorder=0)
    return "Behind: " + "; ".join((*found, "white, rest"))


def _binned(time: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return root mean squares over so many equal spans of time; NaN where nothing is known."""
    edges = np.linspace(0.0, float(time[-1]), _POINTS + 1)
    place = np.clip(np.digitize(time, edges) - 1, 0, _POINTS - 1)
    known = np.isfinite(values)
    count = np.bincount(place[known], minlength=_POINTS)
    total = np.bincount(place[known], values[known] ** 2, minlength=_POINTS)
    means = np.full(_POINTS, np.nan)
    means[count > 0] = np.sqrt(total[count > 0] / count[count > 0])
    return (edges[:-1] + edges[1:]) / 2, means


def _around(recording: Recording, sample: int) -> NDArray[np.intp]:
    """Return at most so many samples of the seconds around one."""
    centre = recording.time[sample]
    first, last = np.searchsorted(recording.time, [centre - _STRIP_S / 2, centre + _STRIP_S / 2])
    every = max(1, -(-(int(last) - int(first)) // _POINTS))
    return np.arange(first, last, every)


def _range(edges: Sequence[float], number: int) -> str:
    low, high = edges[number], edges[number + 1]
    return f"> {low:g}" if np.isinf(high) else f"{low:g}–{high:g}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _rms(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(known**2))) if known.size else float("nan")
