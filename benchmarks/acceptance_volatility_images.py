"""The acceptance cases of ``volatility-images``: the equity, the simulator and speed.

What is compared with reference values (books, images, features, scores of rules), what must be equal to the
bit (streams, noise after an anchor) and what must be refused is tested, not measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import partial

from appliedpapers.plugins.volatility_images.verdict import RIVALS
from benchmarks.acceptance_case import Case, Check, Measured, Settings, printed_by

Runs = Mapping[str, Measured]
Figure = Callable[[Runs], float]

_RULES = "baselines=[train-mean, log-har+flow]"
# a network alone, at the size and length that a deep one takes minutes for
_ALONE_AND_SHORT = (
    *("model.skip=none", "model.seeds=1", "training.epochs=2"),
    *("data.stride=60", "data.test_stride=60", _RULES),
)
_FEW = "baselines=[train-mean, har, log-har, log-har+flow, qlike-har+flow]"
_NETWORKS = tuple(f"network {number}" for number in (1, 2, 3))
_SEEDS = (1, 2, 3, 4, 5)
_DEEP_NETWORKS = ("cnn", "convmixer", "resnet18")


def _ours(metric: str, run: str = "run") -> Figure:
    return lambda runs: runs[run].ours(metric)


def _of(model: str, metric: str, run: str = "run") -> Figure:
    return lambda runs: runs[run].of(model, metric)


def _mean(metric: str, run: str = "run") -> Figure:
    return lambda runs: statistics.fmean(runs[run].of(name, metric) for name in _NETWORKS)


def _spread(metric: str, run: str = "run") -> Figure:
    return lambda runs: statistics.stdev(runs[run].of(name, metric) for name in _NETWORKS)


def _less(one: Figure, other: Figure) -> Figure:
    return lambda runs: one(runs) - other(runs)


def _low(model: str, run: str = "run") -> Figure:
    return lambda runs: runs[run].difference_to(model)[0]


def _speed(name: str) -> Figure:
    return lambda _: float(printed_by("volatility_images_speed")[name])


def _seconds(run: str = "run") -> Figure:
    return lambda runs: sum(float(value) for value in runs[run].results["seconds"].values())


def _fit_seconds(runs: Runs, run: str) -> float:
    return float(runs[run].results["seconds"]["fit"])


def _coverage(run: str = "run") -> Figure:
    return lambda runs: runs[run].ours("coverage", level="90")


def _says(words: str, run: str = "run") -> Figure:
    def found(runs: Runs) -> float:
        return float(words in runs[run].report.read_text(encoding="utf-8"))

    return found


def _sentence_agrees(run: str = "run") -> Figure:
    """Return 1 where the report says of images what the paired tests say."""

    def agrees(runs: Runs) -> float:
        one = runs[run]
        known = [test for test in one.results["tests"] if test["b"] in RIVALS]
        best = min(known, key=lambda test: one.of(test["b"], "qlike"))
        page = one.report.read_text(encoding="utf-8")
        helps = best["low"] is not None and best["low"] > 0
        return float(
            ("Images help here" in page) is helps and ("Images do not help here" in page) is not helps
        )

    return agrees


def _best_model_less_oracle(runs: Runs) -> float:
    rows = [
        row
        for row in runs["run"].results["rows"]
        if row["metric"] == "qlike" and not row["slice"] and row["seed"] is None and row["model"] != "oracle"
    ]
    return min(float(row["value"]) for row in rows) - runs["run"].of("oracle", "qlike")


_EQUITY = Case(
    "taq-equity",
    (2, 3, 13),
    {"run": Settings("published", "taq-equity")},
    (
        Check("zero: RMSPE", _of("zero", "rmspe"), low=1.0, high=1.0),
        Check("naive: RMSPE", _of("naive", "rmspe"), low=1.243, high=1.249),
        Check("best constant: RMSPE", _of("best-constant", "rmspe"), low=0.587, high=0.591),
        Check("HAR: RMSPE", _of("har", "rmspe"), low=0.957, high=0.977),
        Check("HAR: R2", _of("har", "r2"), low=0.19, high=0.21),
        Check("weighted HAR: RMSPE", _of("har-weighted", "rmspe"), low=0.557, high=0.567),
        Check("QLIKE", _ours("qlike"), high=0.79),
        Check("log-HAR with flow: QLIKE", _of("log-har+flow", "qlike")),
        Check("low end of the difference in QLIKE to log-HAR with flow", _low("log-har+flow"), low=1e-12),
        Check("linear forecast by QLIKE, no image: QLIKE", _of("qlike-har+flow", "qlike")),
        Check(
            "low end of the difference to that, which sees no image",
            _low("qlike-har+flow"),
            low=1e-12,
            stretch=True,
        ),
        Check("the report says of images what the tests say", _sentence_agrees(), low=1),
        Check("coverage of the 90 % interval", _coverage()),
        Check("seconds of the whole run", _seconds(), high=300),
    ),
)
_QLIKE = Case(
    "taq-equity-qlike",
    (5,),
    {"run": Settings("published", "taq-equity", ("model.skip=none", _FEW))},
    (
        Check("CNN and features, mean of 3 seeds: QLIKE", _mean("qlike"), high=0.95),
        Check("less that of the train mean", _less(_mean("qlike"), _of("train-mean", "qlike")), high=-1e-12),
        Check("CNN and features, mean of 3 seeds: R2", _mean("r2"), low=0.10),
        Check("standard deviation of QLIKE over seeds", _spread("qlike")),
        Check("mean of 3 seeds: QLIKE, stretch", _mean("qlike"), high=0.79, stretch=True),
        Check("mean of the three forecasts: QLIKE", _ours("qlike")),
    ),
)
_RMSPE = Case(
    "taq-equity-rmspe",
    (4, 5),
    {"run": Settings("published", "taq-equity", ("model.skip=none", "model.loss=rmspe", _RULES))},
    (
        Check("CNN and features by RMSPE, mean of 3 seeds: RMSPE", _mean("rmspe"), high=0.575),
        Check("less the best constant's", _less(_mean("rmspe"), _of("best-constant", "rmspe")), high=-1e-12),
        Check("R2", _mean("r2")),
        Check("mean ratio of forecast to truth", _mean("mean_ratio")),
        Check("QLIKE, far worse than its twin's", _mean("qlike"), low=0.95),
        Check("the report carries the warning", _says("rewards forecasts that are far too low"), low=1),
    ),
)
_IMAGE_ONLY = Case(
    "taq-equity-image-only",
    (),
    {
        "run": Settings(
            "published",
            "taq-equity",
            ("model.skip=none", "model.features=false", "model.seeds=1", _RULES),
        )
    },
    (Check("CNN on the image alone: QLIKE", _ours("qlike")), Check("R2", _ours("r2"))),
)
_OTHERS = Case(
    "taq-equity-networks",
    (),
    {
        name: Settings(
            "published",
            "taq-equity",
            (f"model.network={name}", "model.seeds=1", "training.epochs=2", "data.stride=30", _RULES),
        )
        for name in ("convmixer", "raw-mlp", "mlp")
    },
    tuple(Check(f"{name}: QLIKE", _ours("qlike", name)) for name in ("convmixer", "raw-mlp", "mlp")),
)
_DEEP = Case(
    "taq-equity-deep",
    (),
    {
        name: Settings(
            "published",
            "taq-equity",
            (f"model.network={name}", *_ALONE_AND_SHORT),
        )
        for name in _DEEP_NETWORKS
    },
    tuple(Check(f"{name} alone, quick size: QLIKE", _ours("qlike", name)) for name in _DEEP_NETWORKS)
    + tuple(Check(f"{name}: seconds of fitting", partial(_fit_seconds, run=name)) for name in _DEEP_NETWORKS),
)
_RGB240 = Case(
    "taq-equity-rgb240",
    (),
    {
        "run": Settings(
            "rgb240",
            "taq-equity",
            ("data.zero_targets=drop-all", *_ALONE_AND_SHORT),
        )
    },
    (
        Check("CNN alone on 240 x 240 x 3, quick size: QLIKE", _ours("qlike")),
        Check("R2", _ours("r2")),
        Check("log-HAR with flow: QLIKE", _of("log-har+flow", "qlike")),
        Check("seconds of fitting", partial(_fit_seconds, run="run")),
    ),
)
_SIMULATED = Case(
    "simulated",
    (10,),
    {"run": Settings("default", "simulated", ("data.simulator.futures=200", "training.epochs=6"))},
    (
        Check("best model's QLIKE less the oracle's", _best_model_less_oracle, low=0.0),
        Check("QLIKE", _ours("qlike")),
        Check("low end of the difference in QLIKE to log-HAR with flow", _low("log-har+flow")),
        Check("the report says of images what the tests say", _sentence_agrees(), low=1),
        Check("coverage of the 90 % interval", _coverage()),
    ),
)
_SIMULATED_SEEDS = Case(
    "simulated-seeds",
    (10,),
    {
        f"seed {seed}": Settings(
            "default",
            "simulated",
            (
                f"seed={seed}",
                "data.simulator.futures=0",
                "data.simulator.seconds=23400",
                "model.network=mlp",
                "model.seeds=1",
                "training.epochs=1",
                "baselines=[har]",
            ),
        )
        for seed in _SEEDS
    },
    tuple(
        Check(
            f"HAR's R2 above the naive one's, seed {seed}",
            _less(_of("har", "r2", f"seed {seed}"), _of("naive", "r2", f"seed {seed}")),
            low=1e-12,
        )
        for seed in _SEEDS
    ),
)
_SPOT = Case(
    "binance-spot",
    (8,),
    {"run": Settings("published", "binance-spot", ("training.epochs=3",))},
    (
        Check("test windows: too few for any claim", lambda runs: runs["run"].results["test_size"], low=10),
        Check("one clock is named in the report", _says("clock: the local stamps throughout"), low=1),
        Check("zero: RMSPE", _of("zero", "rmspe"), low=1.0, high=1.0),
    ),
)
_FAST = Case(
    "speed",
    (11,),
    {},
    (
        Check("CPU seconds for 4,000 compact images", _speed("images_s"), high=2.0),
        Check("times faster than a loop an image", _speed("faster_than_loops"), low=4.0),
        Check("raw messages a second", _speed("messages_a_second"), low=200_000, stretch=True),
        Check("milliseconds of a forecast in a stream", _speed("stream_forecast_ms")),
        Check("microseconds of any other second", _speed("stream_second_us")),
    ),
    commands={"speed": "python -m benchmarks.volatility_images_speed"},
)

CASES = (
    _EQUITY,
    _QLIKE,
    _RMSPE,
    _IMAGE_ONLY,
    _OTHERS,
    _DEEP,
    _RGB240,
    _SIMULATED,
    _SIMULATED_SEEDS,
    _SPOT,
    _FAST,
)
