"""The acceptance cases of ``imu-attitude``: BROAD by the product and trial by trial, speed, the simulator.

What is compared with reference values (metrics, layers, units, bad input, ONNX) is tested, not measured here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.acceptance_case import Case, Check, Measured, Settings, printed_by

Runs = Mapping[str, Measured]
Figure = Callable[[Runs], float]

_RMSE = "inclination_rmse"
_AHRS = ("madgwick", "mahony", "ekf")
_MEANS = ("corrected-mean-10s", "mean-10s", "mean-5s", "mean-0.35s")
_RATES = ("143", "95", "57")
_SHORT_MEAN, _SMOOTHED_S = "mean-0.35s", 1.0
_SIMULATED_S = 60.0


def _trials() -> dict[str, Any]:
    return printed_by("imu_attitude_trials")


def _mean(method: str, part: str = "test") -> Figure:
    return lambda _: float(_trials()["means"][method][part])


def _worst(method: str, rival: str) -> Figure:
    """Return by how many degrees a method is worse than a rival on its worst trial."""

    def found(_: Runs) -> float:
        errors = _trials()["errors"]
        return max(float(errors[method][trial] - errors[rival][trial]) for trial in errors[rival])

    return found


def _paired(what: str, part: str, figure: str) -> Figure:
    return lambda _: float(_trials()["paired"][what][part][figure])


def _left_out(what: str, figure: str) -> Figure:
    return lambda _: float(_trials()["left_out"][what][figure])


def _script(name: str) -> dict[str, str]:
    return {name: f"python -m benchmarks.{name} --json"}


_TRIALS_COMMAND = _script("imu_attitude_trials")


_FILTER = Case(
    "filter",
    (3,),
    {},
    (
        Check("worst trial beside VQF, deg, of all 11", _worst("filter-delay", "vqf"), high=0.05),
        Check("mean over the test trials, deg", _mean("filter-delay"), high=0.78),
        Check("goal: mean over the test trials, deg", _mean("filter-delay"), high=0.50, stretch=True),
        Check("without the delay: worst trial beside VQF, deg", _worst("filter", "vqf")),
        Check("without the delay: mean over the test trials, deg", _mean("filter")),
        Check("delay fitted on the other six trials, ms", lambda _: float(_trials()["delay_ms"]["filter"])),
        Check("without scale errors in its state, deg", _mean("filter-trusting-delay")),
        Check("without either, deg", _mean("filter-trusting")),
        Check("VQF: mean over the test trials, deg", _mean("vqf")),
        Check("VQF with delay and sampling fitted likewise, deg", _mean("vqf-delay")),
        Check("its delay, ms", lambda _: float(_trials()["delay_ms"]["vqf"])),
    ),
    _TRIALS_COMMAND,
)


def _ours(runs: Runs) -> float:
    return runs["run"].ours(_RMSE)


def _over(model: str) -> Figure:
    return lambda runs: runs["run"].ours(_RMSE) / runs["run"].of(model, _RMSE)


def _gain(model: str, end: int) -> Figure:
    return lambda runs: runs["run"].difference_to(model)[end]


_DEFAULT = Case(
    "default",
    (4,),
    {"run": Settings("default", "broad")},
    (
        Check("mean over the test trials, deg", _ours, high=0.78),
        Check("latency, s", lambda runs: runs["run"].ours("latency_s"), high=0.0),
        *(Check(f"error over that of {name}", _over(name), high=0.999) for name in (*_AHRS, *_MEANS)),
        Check("no worse than VQF as published, deg", _ours, high=0.73, stretch=True),
        Check("goal: mean over the test trials, deg", _ours, high=0.50, stretch=True),
        Check("VQF's error less ours, low end, deg", _gain("vqf", 0), low=1e-9, stretch=True),
        Check("delayed VQF's error less ours, low end, deg", _gain("vqf-delay", 0), low=1e-9, stretch=True),
        Check("error over that of our filter alone", _over("filter")),
        Check("share of the network's correction kept", lambda _: float(_trials()["share"])),
        Check("with all of it: mean over the test trials, deg", _mean("whole-correction")),
        Check("errors within their 95 % bound", lambda runs: runs["run"].ours("coverage")),
    ),
    _TRIALS_COMMAND,
)
_PAIRED = Case(
    "paired",
    (4,),
    {},
    tuple(
        Check(f"{what}, {part} trials: {words}", _paired(what, part, figure))
        for what in ("default less vqf", "default less vqf-delay", "filter less vqf", "filter less vqf-delay")
        for part in ("test", "all")
        for figure, words in (
            ("mean", "mean, deg"),
            ("low", "95 % low, deg"),
            ("high", "95 % high, deg"),
            ("wins", "trials won"),
            ("sign_p", "p of the sign test"),
        )
    )
    + tuple(
        Check(f"delay fitted to ten trials, the eleventh judged, {what}: {words}", _left_out(what, figure))
        for what in ("filter less vqf without delay", "filter less vqf")
        for figure, words in (
            ("mean", "mean, deg"),
            ("low", "95 % low, deg"),
            ("high", "95 % high, deg"),
            ("wins", "trials won"),
            ("sign_p", "p of the sign test"),
        )
    ),
    _TRIALS_COMMAND,
)


def _network(name: str) -> Figure:
    return lambda _: float(printed_by("imu_attitude_network")[name])


_WINDOW_MEAN = Case(
    "window-mean",
    (5,),
    {},
    (
        Check("better than its own window mean by, share of it", _network("gain"), low=0.05),
        Check("goal: the same", _network("gain"), low=0.10, stretch=True),
        Check("window mean: mean over the test trials, deg", _network("window_mean")),
        Check("network: mean over the test trials, deg", _network("ours")),
        Check("share of its correction that held-out trials chose", _network("share")),
    ),
    _script("imu_attitude_network"),
)


def _paper_model(runs: Runs) -> Any:
    from appliedpapers.core.bundle import load_bundle

    return load_bundle(runs["run"].report.parent / "model")[0]


def _smoothed(runs: Runs) -> float:
    """Return the error of the same network when its answers are averaged along the gyroscope."""
    from benchmarks.imu_attitude_trials import broad, errors_of, recordings

    model = _paper_model(runs)
    options = model.config.model.model_copy(update={"smooth": _SMOOTHED_S})
    model.config = model.config.model_copy(update={"model": options})
    return float(errors_of(model.estimate, recordings(broad(), "test")).mean())


def _untrained(runs: Runs) -> float:
    """Return the error before training: that of the mean along the gyroscope over the network's window."""
    from appliedpapers.plugins.imu_attitude.learner_paper import build_network, estimate
    from benchmarks.imu_attitude_trials import broad, errors_of, recordings

    options = _paper_model(runs).config.model
    network = build_network(options, 0).eval()
    trials = recordings(broad(), "test")
    return float(errors_of(lambda one: estimate(network, one, options), trials).mean())


_PAPER = Case(
    "paper-quarter",
    (6,),
    {"run": Settings("paper-quarter", "broad", (f"baselines=[{_SHORT_MEAN}]",))},
    (
        Check("mean over the test trials, deg", _ours, high=10.1),
        Check("the same over that of a mean of 0.35 s", _over(_SHORT_MEAN), high=0.999),
        Check("CPU seconds of the whole run", lambda runs: runs["run"].cpu_seconds, high=600),
        Check("untrained: the mean of its window along the gyroscope, deg", _untrained),
        Check("answers averaged over 1 s along the gyroscope (ours), deg", _smoothed),
    ),
)


def _rate(rate: str, method: str) -> Figure:
    return lambda _: float(_trials()["rates"][rate][method])


def _rate_ratio(rate: str, rival: str) -> Figure:
    return lambda _: _rate(rate, "filter-delay")({}) / _rate(rate, rival)({})


_RATE = Case(
    "rates",
    (7,),
    {},
    tuple(
        check
        for rate in _RATES
        for check in (
            Check(f"{rate} Hz: error over VQF's at that rate", _rate_ratio(rate, "vqf"), high=1.05),
            Check(f"{rate} Hz: over VQF's with the delay", _rate_ratio(rate, "vqf-delay")),
            Check(f"{rate} Hz: ours, mean over the test trials, deg", _rate(rate, "filter-delay")),
        )
    ),
    _TRIALS_COMMAND,
)


def _of(part: str, name: str) -> Figure:
    return lambda _: float(_trials()[part][name])


_STEPS = Case(
    "steps",
    (8,),
    {},
    (
        Check("steps beside a batch, rad, filter", _of("steps", "filter"), high=1e-10),
        Check("steps beside a batch, rad, with the network", _of("steps", "network"), high=1e-5),
    ),
    _TRIALS_COMMAND,
)
_IRREGULAR = Case(
    "irregular",
    (9,),
    {},
    (
        Check("jitter of 5 % of a step: error grows by, share", _of("irregular", "jitter"), high=0.02),
        Check("1 % of the samples lost: error grows by, share", _of("irregular", "drops"), high=0.05),
    ),
    _TRIALS_COMMAND,
)
_ROTATION = Case(
    "rotation",
    (11,),
    {},
    (
        Check("sensor mounted otherwise: error changes by, deg, filter", _of("turned", "filter"), high=0.02),
        Check("the same with the network, deg", _of("turned", "network"), high=0.1),
    ),
    _TRIALS_COMMAND,
)


def _speed(what: str, name: str, figure: str | None = None) -> Figure:
    def found(_: Runs) -> float:
        value = printed_by("imu_attitude_speed")[what][name]
        return float(value if figure is None else value[figure])

    return found


def _speed_ratio(rival: str) -> Figure:
    return lambda _: _speed("batch", "filter")({}) / _speed("batch", rival)({})


_SPEED = Case(
    "speed",
    (13,),
    {},
    (
        Check("batch, samples a second", _speed("batch", "filter"), low=1e5),
        Check("batch, times Madgwick of ahrs", _speed_ratio("madgwick"), low=4),
        Check("batch, times VQF", _speed_ratio("vqf")),
        Check("step, µs", _speed("step", "filter", "mean_us")),
        Check("step in numpy alone, µs", _speed("step", "filter, numpy", "mean_us"), high=60),
        Check("step with a network, µs", _speed("step", "network", "mean_us"), high=200),
        Check("goal: step with a network, µs", _speed("step", "network", "mean_us"), high=50, stretch=True),
        Check("step with a network, 99th percentile, µs", _speed("step", "network", "p99_us")),
        Check("step with a network in numpy alone, µs", _speed("step", "network, numpy", "mean_us")),
        Check("step of VQF from Python, µs", _speed("step", "vqf", "mean_us")),
        Check(
            "step over that of VQF",
            lambda _: _speed("step", "filter", "mean_us")({}) / _speed("step", "vqf", "mean_us")({}),
            high=10,
            stretch=True,
        ),
    ),
    _script("imu_attitude_speed"),
)


def _integrated(_: Runs) -> float:
    """Return how far the simulator's rate, integrated at 1 kHz for 60 s, ends from its orientation."""
    from appliedpapers.plugins.imu_attitude.rotations import error_quaternion, multiply, total_error
    from appliedpapers.plugins.imu_attitude.simulator import true_motion
    from appliedpapers.plugins.imu_attitude.trailing_mean import strapdown

    worst = 0.0
    step = 1e-3
    at = np.asarray(np.arange(int(_SIMULATED_S / step) + 1) * step, dtype=np.float64)
    # Magnus' series to the fourth order: the midpoint rule alone is off by more than what is asked
    middle, apart = at[1:] - step / 2, step * math.sqrt(3) / 6
    for number in range(3):
        motion = true_motion(_SIMULATED_S, 0, number)
        early, late = motion.at(middle - apart).rate, motion.at(middle + apart).rate
        mean = (early + late) / 2 + math.sqrt(3) / 12 * step * np.cross(early, late)
        truth = motion.at(at).quaternion
        turned = multiply(truth[0], strapdown(at, np.concatenate([np.zeros((1, 3)), mean])))
        worst = max(worst, float(np.degrees(total_error(error_quaternion(turned, truth))).max()))
    return worst


def _at_rest(_: Runs) -> float:
    """Return the largest error of the filter at rest on perfect simulated sensors, root mean square, deg."""
    from appliedpapers.plugins.imu_attitude.config import SimulatorConfig
    from appliedpapers.plugins.imu_attitude.scoring import inclination_deg
    from appliedpapers.plugins.imu_attitude.simulator import simulate
    from benchmarks.imu_attitude_trials import gravity

    perfect = SimulatorConfig(sequences=9, noise=0.0, jitter=0.0, drops=0.0, taps=False)
    errors = []
    for recording in simulate(perfect, 0):
        assert recording.movement is not None
        rest = ~recording.movement
        if rest.any():
            errors.append(float(np.sqrt(np.mean(inclination_deg(gravity(recording), recording)[rest] ** 2))))
    return max(errors)


_SIMULATOR = Case(
    "simulator",
    (15,),
    {"run": Settings("default", "simulated", ("baselines=[filter, vqf, vqf-delay, corrected-mean-10s]",))},
    (
        Check("its rate, integrated for 60 s, deg off", _integrated, high=1e-3),
        Check("perfect sensor: filter at rest, deg", _at_rest, high=0.1),
        Check("default: mean over the test sequences, deg", _ours),
        Check("VQF: the same, deg", lambda runs: runs["run"].of("vqf", _RMSE)),
    ),
)

CASES = (
    _FILTER,
    _DEFAULT,
    _PAIRED,
    _WINDOW_MEAN,
    _PAPER,
    _RATE,
    _STEPS,
    _IRREGULAR,
    _ROTATION,
    _SPEED,
    _SIMULATOR,
)
