"""The acceptance cases of FinalMLP: Frappe, calibration, simulator, cold start, speed, memory, the goal."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Mapping

from benchmarks.acceptance_case import Case, Check, Measured, Settings, printed_by

Runs = Mapping[str, Measured]
Figure = Callable[[Runs], float]

_TWENTY = "training.epochs=20"
_FIRST, _SECOND = "seed 2021", "seed 2019"
_FEW = ("baselines=[]", "suspects=false")
_SEEDS = (1, 2, 3)
# nothing to choose: what these cases ask is not about forgotten tokens
_PLAIN = "model.oov_dropout=0"
_NOISE = ("noise_10", "noise_100", "noise_1000", "noise_5000")
_LOUD = ("user", "item", "category")


def _frappe(*assignments: str, preset: str = "frappe_x1") -> Settings:
    return Settings(preset, "frappe", assignments)


def _simulated(seed: int, *assignments: str) -> Settings:
    return Settings("default", "simulated", (f"seed={seed}", *assignments))


def _ours(run: str, metric: str) -> Figure:
    return lambda runs: runs[run].ours(metric)


def _rival(model: str, metric: str, run: str = _FIRST) -> Figure:
    return lambda runs: runs[run].of(model, metric)


def _epoch(run: str, number: int) -> Figure:
    return lambda runs: runs[run].history[number - 1]["valid_auc"]


def _row(runs: Runs, model: str, metric: str) -> float:
    """Return a figure of any model of the first run, variants of ours included."""
    for row in runs[_FIRST].results["rows"]:
        if row["model"] == model and row["metric"] == metric and not row["slice"]:
            return math.nan if row["value"] is None else float(row["value"])
    raise LookupError(f"no {metric} of {model}")


def _of_seed(seed: str) -> tuple[Check, ...]:
    return (
        Check(f"{seed}: valid AUC after epoch 1", _epoch(seed, 1), low=0.93, high=0.95),
        Check(f"{seed}: valid AUC after epoch 2", _epoch(seed, 2), low=0.96),
        Check(f"{seed}: test AUC", _ours(seed, "auc"), low=0.983),
        Check(f"{seed}: test logloss, uncalibrated", _ours(seed, "uncalibrated_logloss"), high=0.170),
    )


_FRAPPE = Case(
    "frappe",
    (3, 5),
    {
        _FIRST: _frappe(_TWENTY, "seed=2021"),
        _SECOND: _frappe(_TWENTY, "seed=2019", *_FEW),
    },
    (
        *_of_seed(_FIRST),
        *_of_seed(_SECOND),
        Check(
            "mean test AUC of both seeds",
            lambda runs: statistics.mean(run.ours("auc") for run in runs.values()),
            low=0.9855,
            stretch=True,
        ),
        Check(
            "AUC above logistic regression, weaker seed",
            lambda runs: (
                min(run.ours("auc") for run in runs.values()) - runs[_FIRST].of("logistic-regression", "auc")
            ),
            low=0.045,
        ),
        Check("LightGBM: test AUC", _rival("lightgbm", "auc"), low=0.983),
        Check("LightGBM: test logloss", _rival("lightgbm", "logloss")),
        Check("XGBoost: test AUC", _rival("xgboost", "auc")),
        Check("XGBoost: test logloss", _rival("xgboost", "logloss")),
        Check("logistic regression: test logloss", _rival("logistic-regression", "logloss")),
        Check("ours without cost: test AUC", lambda runs: _row(runs, "finalmlp without cost", "auc")),
        Check(
            "LightGBM without cost: test AUC",
            lambda runs: _row(runs, "lightgbm without cost", "auc"),
        ),
    ),
)

_CALIBRATION = Case(
    "calibration",
    (4,),
    {
        "isotonic": _frappe(_TWENTY, "seed=2019", "model.calibration=isotonic", *_FEW),
        "platt": _frappe(_TWENTY, "seed=2019", "model.calibration=platt", *_FEW),
    },
    (
        Check("isotonic: test logloss", _ours("isotonic", "logloss"), high=0.135),
        Check("isotonic: ECE", _ours("isotonic", "ece"), high=0.01),
        Check(
            # a rising line leaves the order of rows: its AUC is that of the raw scores
            "isotonic: change of AUC",
            lambda runs: abs(runs["isotonic"].ours("auc") - runs["platt"].ours("auc")),
            high=0.001,
        ),
        Check("Platt: test logloss", _ours("platt", "logloss"), high=0.145),
    ),
)

_GOAL = Case(
    "goal",
    (),
    {"blend": _frappe("seed=2021", "suspects=false", "baselines=[lightgbm]", preset="frappe_best")},
    (
        Check("test AUC", _ours("blend", "auc"), low=0.9860),
        Check("test logloss, calibrated", _ours("blend", "logloss"), high=0.106),
        Check("LightGBM alone: test AUC", _rival("lightgbm", "auc", "blend")),
        Check("LightGBM alone: test logloss", _rival("lightgbm", "logloss", "blend")),
    ),
)


def _share(run: str) -> Figure:
    """Return the share of the valid rows that a cascade sent to the network."""

    def found(runs: Runs) -> float:
        from appliedpapers.core.bundle import read_info

        return float(read_info(runs[run].report.parent / "model").state["cascade"]["share"])

    return found


_WEAK = ("lightgbm", "logistic-regression")
_CASCADE = Case(
    "cascade",
    (),
    {weak: _frappe(_TWENTY, "seed=2021", f"cascade.weak={weak}", *_FEW) for weak in _WEAK},
    tuple(
        check
        for weak in _WEAK
        for check in (
            Check(f"{weak} first: share of rows sent to the network", _share(weak)),
            Check(f"{weak} first: test AUC", _ours(weak, "auc")),
            Check(f"{weak} first: test logloss", _ours(weak, "logloss")),
        )
    ),
)


def _gain(runs: Runs) -> float:
    return statistics.mean(run.ours("auc") - run.of("logistic-regression", "auc") for run in runs.values())


@functools.cache
def _importances(bundle: str, seed: int) -> dict[str, float]:
    from pathlib import Path
    from typing import cast

    from appliedpapers.core.bundle import load_bundle
    from appliedpapers.plugins.finalmlp.data import DATASETS
    from appliedpapers.plugins.finalmlp.importance import importance
    from appliedpapers.plugins.finalmlp.model import FinalMlpModel
    from appliedpapers.plugins.finalmlp.prepared import encode_split
    from appliedpapers.plugins.finalmlp.splits import ClickSplit

    model = cast("FinalMlpModel", load_bundle(Path(bundle))[0])
    assert model.encoder is not None
    valid = encode_split(model.encoder, cast("ClickSplit", DATASETS.simulated(model.config).valid))
    return {one.column: one.drop for one in importance(valid, model.logits, seed=seed)}


def _quiet_noise(runs: Runs) -> float:
    """Return the least by which user, item and category matter more than any noise field."""
    gaps = []
    for run in runs.values():
        drops = _importances(str(run.report.parent / "model"), run.results["seeds"][0])
        gaps.append(min(drops[name] for name in _LOUD) - max(drops[name] for name in _NOISE))
    return min(gaps)


_SIMULATOR = Case(
    "simulator",
    (6,),
    {f"seed {seed}": _simulated(seed, _PLAIN) for seed in _SEEDS},
    (
        Check("AUC above logistic regression, mean of 3 seeds", _gain, low=0.01),
        Check(
            "calibration error against the truth, worst seed",
            lambda runs: max(run.ours("true_calibration_error") for run in runs.values()),
            high=0.02,
        ),
        Check("least of user, item, category above noise, in AUC", _quiet_noise, low=0.0),
        Check(
            "AUC of the truth, mean",
            lambda runs: statistics.mean(run.of("oracle", "auc") for run in runs.values()),
        ),
        Check(
            "AUC of ours, mean",
            lambda runs: statistics.mean(run.ours("auc") for run in runs.values()),
        ),
        Check(
            "AUC of LightGBM, mean",
            lambda runs: statistics.mean(run.of("lightgbm", "auc") for run in runs.values()),
        ),
    ),
)

_ADDITIVE = Case(
    "additive",
    (6,),
    {
        f"seed {seed}": _simulated(
            seed, _PLAIN, "data.simulator.variant=additive", "baselines=[logistic-regression]"
        )
        for seed in _SEEDS
    },
    (Check("AUC above logistic regression, mean of 3 seeds", _gain, high=0.01),),
)


def _cold_difference(runs: Runs) -> float:
    chosen = statistics.mean(run.ours("logloss") for name, run in runs.items() if name.startswith("auto"))
    never = statistics.mean(run.ours("logloss") for name, run in runs.items() if name.startswith("never"))
    return chosen - never


_COLD_ROWS = ("data.simulator.variant=cold", "baselines=[]")
_COLD = Case(
    "cold",
    (7,),
    {f"auto {seed}": _simulated(seed, *_COLD_ROWS) for seed in _SEEDS}
    | {f"never {seed}": _simulated(seed, _PLAIN, *_COLD_ROWS) for seed in _SEEDS},
    (
        Check("logloss of auto less that of never, mean of 3 seeds", _cold_difference, high=0.003),
        Check(
            "ECE on rows with unseen ids, auto, mean (reported apart)",
            lambda runs: statistics.mean(
                run.ours("ece", ids="some unseen") for name, run in runs.items() if name.startswith("auto")
            ),
        ),
    ),
)


def _ratio(what: str) -> Figure:
    return lambda _: float(printed_by("finalmlp_speed")[what]["ratio"])


_SPEED = Case(
    "speed",
    (8,),
    {},
    (
        Check("training beside the plain equations", _ratio("training"), low=1.0),
        Check("scoring beside the plain equations", _ratio("scoring"), low=1.0),
        Check("goal: training", _ratio("training"), low=2.0, stretch=True),
        Check("goal: scoring", _ratio("scoring"), low=3.0, stretch=True),
    ),
)

CASES = (_FRAPPE, _CALIBRATION, _GOAL, _CASCADE, _SIMULATOR, _ADDITIVE, _COLD, _SPEED)
