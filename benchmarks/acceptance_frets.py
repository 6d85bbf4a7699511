"""The acceptance cases of ``frets``: full runs on the real files and on the whole simulated set."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.acceptance_case import Case, Check, Measured, Settings

_STEP = Path(__file__).with_name("frets_step.py")
_SEED_LIST = (2021, 2022, 2023, 2024, 2025)
_FEW = "baselines=[last-value, seasonal-naive, ridge-nlinear]"
_NAIVE = "baselines=[last-value, seasonal-naive]"

Measure = Callable[[Mapping[str, Measured]], float]


def _ours(metric: str, run: str = "run") -> Measure:
    return lambda runs: runs[run].ours(metric)


def _theirs(model: str, metric: str = "mse") -> Measure:
    return lambda runs: runs["run"].of(model, metric)


def _ratio(model: str, metric: str = "mse") -> Measure:
    return lambda runs: runs["run"].ours(metric) / runs["run"].of(model, metric)


def _excess(model: str, metric: str = "mse") -> Measure:
    return lambda runs: runs["run"].ours(metric) - runs["run"].of(model, metric)


def _coverage(level: int, run: str = "run") -> Measure:
    return lambda runs: runs[run].ours("coverage", level=str(level))


def _mean_of_seeds(metric: str, model: str | None = None) -> Measure:
    def mean(runs: Mapping[str, Measured]) -> float:
        return statistics.fmean(
            run.ours(metric) if model is None else run.of(model, metric) for run in runs.values()
        )

    return mean


def _deviation_of_seeds(metric: str) -> Measure:
    return lambda runs: statistics.stdev(run.ours(metric) for run in runs.values())


def _report(runs: Mapping[str, Measured]) -> float:
    return float(all(run.report.is_file() for run in runs.values()))


def _closer(level: int) -> Measure:
    """Return how much farther from its level the fixed interval is than the adapted one."""

    def measure(runs: Mapping[str, Measured]) -> float:
        fixed, adapted = (_coverage(level, name)(runs) for name in ("fixed", "adaptive"))
        return abs(fixed - level / 100) - abs(adapted - level / 100)

    return measure


def _speedup() -> float:
    done = subprocess.run(
        [sys.executable, str(_STEP), "--json", "--repeats", "40"],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    times = json.loads(done.stdout)["milliseconds"]
    return float(times["ours, direct form"] / times["ours, fast path"])


_PUBLISHED = Case(
    "etth1-96-published",
    (2, 6, 10),
    {"run": Settings("published", "etth1")},
    (
        # one seed moves by more than its distance to the target, so the mean of five is what must reach it
        Check("FreTS MSE, seed 2021 alone", _ours("mse"), high=0.405, stretch=True),
        Check("FreTS MAE", _ours("mae"), high=0.418),
        Check(
            "train loss of epoch 3",
            lambda runs: runs["run"].history[2]["train_loss"],
            low=0.352 * 0.98,
            high=0.352 * 1.02,
        ),
        Check("MSE over that of last value", _ratio("last-value"), high=0.9),
        Check("MSE over that of seasonal naive", _ratio("seasonal-naive"), high=0.9),
        Check("last value MSE", _theirs("last-value"), low=1.293, high=1.295),
        Check("seasonal naive MSE", _theirs("seasonal-naive"), low=0.511, high=0.513),
        Check("ridge MSE, lookback chosen on valid", _theirs("ridge-nlinear"), low=0.3630, high=0.3638),
        Check("seconds of training", lambda runs: runs["run"].results["seconds"]["fit"], high=360),
    ),
)
_SEEDS = Case(
    "etth1-96-published-seeds",
    (2,),
    {f"seed {seed}": Settings("published", "etth1", (f"seed={seed}", _NAIVE)) for seed in _SEED_LIST},
    (
        Check("mean MSE of five seeds", _mean_of_seeds("mse"), high=0.405),
        Check("mean MAE of five seeds", _mean_of_seeds("mae"), high=0.418),
        Check("standard deviation of MSE", _deviation_of_seeds("mse"), high=0.005),
    ),
)
_LINEAR_SEEDS = Case(
    "etth1-96-linear-seeds",
    (6,),
    {
        f"seed {seed}": Settings(
            # the network is made tiny, since only its baselines are looked at here
            "published",
            "etth1",
            (f"seed={seed}", "model.embed_dim=1", "model.hidden=8", "baselines=[nlinear, dlinear]"),
        )
        for seed in _SEED_LIST
    },
    (
        Check("mean NLinear MSE of five seeds", _mean_of_seeds("mse", "nlinear"), low=0.3869, high=0.3989),
        # ours comes out stronger than the figure it was given; what must not be is a weaker one
        Check("mean DLinear MSE of five seeds", _mean_of_seeds("mse", "dlinear"), high=0.4113),
        Check(
            "mean DLinear MSE of five seeds, both bounds",
            _mean_of_seeds("mse", "dlinear"),
            low=0.3993,
            high=0.4113,
            stretch=True,
        ),
    ),
)
_NORMED = Case(
    "etth1-96-normed",
    (3,),
    {
        "run": Settings(
            "published",
            "etth1",
            (
                "model.instance_norm=true",
                "training.lr=3e-4",
                "training.epochs=5",
                "baselines=[nlinear, dlinear]",
            ),
        )
    },
    (
        Check("MSE", _ours("mse"), high=0.398),
        Check("MAE", _ours("mae"), high=0.408),
        Check("MSE less that of DLinear", _excess("dlinear"), high=0.0),
        Check("MSE less that of NLinear", _excess("nlinear"), high=0.006),
    ),
)
_LONG = Case(
    "etth1-720-published",
    (4,),
    {"run": Settings("published", "etth1", ("model.horizon=720", _FEW))},
    (Check("MSE", _ours("mse"), high=0.60),),
)
_MINMAX = Case(
    "etth1-96-minmax",
    (5,),
    {"run": Settings("published-minmax", "etth1", ("baselines=[nlinear, dlinear]",))},
    (
        Check("MAE", _ours("mae"), high=0.067),
        Check("RMSE", _ours("rmse"), high=0.095),
        Check("epochs", lambda runs: float(len(runs["run"].history)), high=10),
        Check("MAE as printed", _ours("mae"), high=0.061, stretch=True),
        Check("RMSE as printed", _ours("rmse"), high=0.087, stretch=True),
    ),
)
_SIMULATED = Case(
    "simulated",
    (7, 8),
    {"run": Settings("default", "simulated")},
    (
        Check("MSE over that of the oracle", _ratio("oracle"), low=1.0),
        Check("MSE over that of seasonal naive", _ratio("seasonal-naive"), high=0.999),
        Check("MSE over that of ridge", _ratio("ridge-nlinear"), high=1.0, stretch=True),
        Check("coverage of the 80 % interval", _coverage(80), low=0.77, high=0.83),
        Check("coverage of the 95 % interval", _coverage(95), low=0.92, high=0.98),
        Check("test windows", lambda runs: runs["run"].results["test_size"], low=2000),
    ),
)
_ETTH1_COVERAGE = Case(
    "etth1-coverage",
    (8,),
    {
        name: Settings("default", "etth1", ("training.epochs=2", f"intervals.adaptive={value}", _NAIVE))
        for name, value in (("fixed", "false"), ("adaptive", "true"))
    },
    tuple(Check(f"{level} %: adapted coverage is closer by", _closer(level), low=1e-9) for level in (80, 95)),
)


def _one_command(name: str, settings: Settings, *more: Check) -> Case:
    bounds = (
        Check("a report was written", _report, low=1),
        Check("MAE", _ours("mae"), low=0, high=10),
    )
    return Case(name, (9,), {"run": settings}, (*bounds, *more))


_OTHERS = (
    _one_command("exchange-96", Settings("published", "exchange", (_FEW, "training.epochs=3"))),
    _one_command(
        "covid-12",
        Settings("published-minmax", "covid", ("model.lookback=12", "model.horizon=12", _FEW)),
        Check("MAE as printed", _ours("mae"), high=0.123, stretch=True),
        Check("RMSE as printed", _ours("rmse"), high=0.167, stretch=True),
    ),
    _one_command(
        "illness-24", Settings("published", "illness", ("model.lookback=36", "model.horizon=24", _FEW))
    ),
)
_SPEED = Case(
    "speed",
    (10,),
    {},
    (Check("CPU time of a step, direct form over fast path", lambda _: _speedup(), low=2.0),),
)


def _best(horizon: int) -> Case:
    goal = horizon <= 336
    return Case(
        f"etth1-{horizon}-best",
        (),
        {"run": Settings("best", "etth1", (f"model.horizon={horizon}", _FEW))},
        (
            # equal to four digits is not behind
            Check("MSE less that of ridge-nlinear", _excess("ridge-nlinear"), high=5e-5, stretch=not goal),
            Check(
                "low end of the paired difference to ridge-nlinear",
                lambda runs: runs["run"].difference_to("ridge-nlinear")[0],
                low=1e-12,
                stretch=True,
            ),
        ),
    )


CASES = (
    _PUBLISHED,
    _SEEDS,
    _LINEAR_SEEDS,
    _NORMED,
    _LONG,
    _MINMAX,
    _SIMULATED,
    _ETTH1_COVERAGE,
    *_OTHERS,
    _SPEED,
    *(_best(horizon) for horizon in (96, 192, 336, 720)),
)
