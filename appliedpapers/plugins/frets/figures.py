"""Figures that answer a forecaster's questions: how good, how far ahead, how sure, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core import figures as drawing
from appliedpapers.core.figures import BASELINE, MUTED, OURS, STRONGEST, TRUTH, Figure
from appliedpapers.plugins.frets.scoring import Forecast

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Material
    from appliedpapers.plugins.frets.model import FretsForecaster
    from appliedpapers.plugins.frets.splits import ForecastSplit

Floats = NDArray[np.float64]

_FANS = 4
_PAST_HORIZONS = 1.5
_SPECTRUM_WINDOWS = 256


def draw(material: Material) -> list[Figure]:
    """Draw all figures of a run."""
    found = [_fans(material), _by_horizon(material), _coverage(material), _spectrum(material)]
    return [figure for figure in found if figure is not None]


def _fans(material: Material) -> Figure:
    """Draw the last test window of a few series with its intervals, in the units of the data."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    split = cast("ForecastSplit", material.dataset.test)
    forecast: Forecast = material.predictions[material.model_name]
    shown = min(_FANS, len(split.panel.unique_ids))
    fig, grid = drawing.start(height=1.5 + 1.5 * shown, rows=shown, sharex=True, squeeze=False)
    window = _last_complete(split.windows.valid[:, :shown])
    cutoff = int(split.windows.cutoffs[window])
    first = max(cutoff - int(_PAST_HORIZONS * split.horizon), 0)
    past, future = slice(first, cutoff), slice(cutoff, cutoff + split.horizon)
    inside = total = 0
    for axes, column in zip(grid[:, 0], range(shown), strict=True):
        shift, scale = split.scaler.shift[column], split.scaler.scale[column]
        observed = split.panel.values[:, column]
        for level, alpha in zip(sorted(forecast.bounds, reverse=True), (0.15, 0.3, 0.4), strict=False):
            low, high = (bound[window, :, column] * scale + shift for bound in forecast.bounds[level])
            axes.fill_between(split.panel.ds[future], low, high, color=OURS, alpha=alpha, lw=0)
            if level == max(forecast.bounds):
                truth = observed[future]
                inside += int(((truth >= low) & (truth <= high)).sum())
                total += len(truth)
        axes.plot(split.panel.ds[past], observed[past], color=MUTED, lw=1)
        axes.plot(split.panel.ds[future], observed[future], color=TRUTH, lw=1.2)
        axes.plot(
            split.panel.ds[future], forecast.values[window, :, column] * scale + shift, color=OURS, lw=1.4
        )
        axes.set_title(split.panel.unique_ids[column])
    locator = AutoDateLocator(maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    levels = " and ".join(f"{level} %" for level in sorted(forecast.bounds))
    intervals = f" with {levels} intervals" if levels else ""
    outer = f" {inside} of {total} true values lie in the widest band." if total else ""
    return drawing.finish(
        fig,
        name="forecasts",
        title="The last test window, series by series"
        if window == len(split.windows) - 1
        else "The last test window without gaps, series by series",
        alt=f"Forecasts of {shown} series{intervals} against what was observed.{outer}",
        caption=f"Blue: forecast{intervals}. Green: what was observed. Grey: the past.",
        synthetic=material.synthetic,
    )


def _last_complete(valid: NDArray[np.bool_]) -> int:
    """Return the latest of the windows in which the most series miss nothing; others have no forecast."""
    complete = valid.sum(axis=1)
    return int(np.flatnonzero(complete == complete.max())[-1])


def _by_horizon(material: Material) -> Figure | None:
    """Draw the scaled mean squared error of each step ahead."""
    split = cast("ForecastSplit", material.dataset.test)
    if split.horizon == 1:
        return None
    rival = material.rival
    steps = np.arange(1, split.horizon + 1)
    curves = {name: _curve(forecast, split) for name, forecast in material.predictions.items()}
    fig, axes = drawing.start()
    ends = []
    for name, curve in curves.items():
        ours, strong = name == material.model_name, name == rival
        color = OURS if ours else STRONGEST if strong else TRUTH if name == "oracle" else BASELINE
        axes.plot(steps, curve, color=color, lw=1.8 if ours or strong else 1.0, zorder=3 if ours else 2)
        ends.append((float(curve[-1]), name, color))
    top = _top(curves, material.model_name, rival)
    axes.set_ylim(bottom=0, top=top)
    axes.set_xlim(1, split.horizon * 1.22)
    drawing.label_ends(axes, split.horizon, [end for end in ends if end[0] <= top])
    axes.set_xlabel("steps ahead")
    axes.set_ylabel("mean squared error, scaled")
    mine = curves[material.model_name]
    return drawing.finish(
        fig,
        name="error-by-horizon",
        title="Error by horizon",
        alt=f"Our error is {mine[0]:.3g} at the first step and {mine[-1]:.3g} at step {split.horizon}.",
        caption="Mean over all test windows and series. Lines that leave the figure are weak baselines.",
        synthetic=material.synthetic,
    )


def _curve(forecast: Forecast, split: ForecastSplit) -> Floats:
    valid = split.windows.valid[:, None, :]
    error = np.where(valid, (forecast.values - split.windows.targets) ** 2, np.nan)
    curve: Floats = np.nanmean(error, axis=(0, 2))
    return curve


def _top(curves: dict[str, Floats], ours: str, rival: str | None) -> float:
    interesting = [curve.max() for name, curve in curves.items() if name in (ours, rival)]
    return float(min(max(curve.max() for curve in curves.values()), 2.2 * max(interesting)))


def _coverage(material: Material) -> Figure | None:
    """Draw nominal against empirical coverage by step ahead."""
    split = cast("ForecastSplit", material.dataset.test)
    forecast: Forecast = material.predictions[material.model_name]
    if not forecast.bounds:
        return None
    truth, valid = split.windows.targets, split.windows.valid[:, None, :]
    fig, axes = drawing.start(height=2.8)
    steps = np.arange(1, split.horizon + 1)
    found = {}
    for level, (low, high) in sorted(forecast.bounds.items()):
        inside = np.where(valid, (truth >= low) & (truth <= high), np.nan)
        by_step = 100 * np.nanmean(inside, axis=(0, 2))
        found[level] = 100 * float(np.nanmean(inside))
        axes.axhline(level, color=TRUTH, lw=1, ls="--")
        axes.plot(steps, by_step, color=OURS, lw=1.6)
        drawing.label_end(axes, split.horizon, float(by_step[-1]), f"{level} % interval", OURS)
    axes.set_ylim(0, 103)
    axes.set_xlim(1, split.horizon * 1.25)
    axes.set_xlabel("steps ahead")
    axes.set_ylabel("true values inside, %")
    words = "; ".join(f"the {level} % interval holds {value:.1f} %" for level, value in found.items())
    count = int(split.windows.valid.sum()) * split.horizon
    return drawing.finish(
        fig,
        name="coverage",
        title="Do the intervals hold what they promise?",
        alt=f"On the test windows {words}.",
        caption=f"Dashed: the promise. On {count:,} test points {words}.",
        synthetic=material.synthetic,
    )


def _spectrum(material: Material) -> Figure | None:
    """Draw what the temporal learner lets through, by frequency."""
    import torch

    model = cast("FretsForecaster", material.model)
    split = cast("ForecastSplit", material.dataset.test)
    windows = split.at_lookback(model.config.model.lookback)
    rows = np.ascontiguousarray(windows.inputs[:: max(len(windows) // _SPECTRUM_WINDOWS, 1)])
    if not model.config.model.channel_mixing:
        rows = rows.transpose(0, 2, 1).reshape(-1, rows.shape[1], 1)
    rows = rows[~np.isnan(rows).any(axis=(1, 2))]
    if not len(rows):
        return None
    network = model.networks[0]
    device = next(network.parameters()).device
    told = network.explain_spectrum(torch.from_numpy(rows.astype(np.float32)).to(device))
    frequency, before, after = (
        value.cpu().numpy() for value in (told.frequencies, told.amplitude_in, told.amplitude_out)
    )
    fig, axes = drawing.start(height=2.8)
    axes.plot(frequency[1:], before[1:], color=BASELINE, lw=1.2)
    axes.plot(frequency[1:], after[1:], color=OURS, lw=1.6)
    axes.set_yscale("log")
    axes.set_xlabel("frequency, cycles a step")
    axes.set_ylabel("mean amplitude")
    strongest = 1 + int(np.argmax(after[1:]))
    period = 1 / frequency[strongest]
    return drawing.finish(
        fig,
        name="spectrum",
        title="What the network learned in the frequency domain",
        alt=f"The learned spectrum is strongest at a period of {period:.3g} steps.",
        caption="Mean amplitude over test inputs, before (grey) and after (blue) the frequency-domain MLP. "
        f"It is strongest at a period of {period:.3g} steps.",
        synthetic=material.synthetic,
    )
