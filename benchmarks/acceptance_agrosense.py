"""Acceptance cases of agrosense's tables: crops, the worth of colour, trust, nitrogen and speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.acceptance_agrosense_photos import PHOTO_CASES
from benchmarks.acceptance_case import Case, Check, Measured, Settings, printed_by

_FAMILIES = ("gaussian-nb", "logistic", "random-forest", "lightgbm", "xgboost", "mlp")


def _crop(dataset: str, *assignments: str) -> Settings:
    return Settings("default", dataset, assignments, task="crop")


def _nitrogen(dataset: str, *assignments: str, preset: str = "default") -> Settings:
    return Settings(preset, dataset, assignments, task="nitrogen")


def _ours(metric: str, run: str = "run") -> Callable[[Mapping[str, Measured]], float]:
    return lambda runs: runs[run].ours(metric)


def _of(model: str, metric: str, run: str = "run") -> Callable[[Mapping[str, Measured]], float]:
    return lambda runs: runs[run].of(model, metric)


def _printed(part: str, *path: str) -> Callable[[Mapping[str, Measured]], float]:
    def measure(runs: Mapping[str, Measured]) -> float:
        value: Any = printed_by("agrosense_tables", part)
        for key in path:
            value = value[key]
        return float(value)

    return measure


def _table(part: str) -> dict[str, str]:
    return {part: f"python -m benchmarks.agrosense_tables {part}"}


CASES: tuple[Case, ...] = (
    *PHOTO_CASES,
    Case(
        "crops",
        (1,),
        {"run": _crop("crop-recommendation", "model.inner_folds=3")},
        (
            Check("accuracy of ours", _ours("accuracy"), low=0.99),
            Check("ece of ours", _ours("ece"), high=0.03),
            Check("top3_accuracy of ours", _ours("top3_accuracy"), low=0.998),
            *(Check(f"accuracy of {name}", _of(name, "accuracy"), low=0.97) for name in _FAMILIES),
            *(Check(f"ece of {name}", _of(name, "ece"), high=0.03) for name in _FAMILIES),
            *(Check(f"top3_accuracy of {name}", _of(name, "top3_accuracy"), low=0.998) for name in _FAMILIES),
        ),
    ),
    Case(
        "crops-tabnet",
        (1,),
        {"run": _crop("crop-recommendation", "model.family=tabnet", "model.inner_folds=2", "model.trees=20")},
        (
            Check("accuracy of tabnet", _ours("accuracy"), low=0.96),
            Check("ece of tabnet", _ours("ece"), high=0.03),
            Check("top3_accuracy of tabnet", _ours("top3_accuracy"), low=0.998),
        ),
    ),
    Case(
        "colour",
        (4,),
        {},
        (
            Check("random folds, with colour", _printed("arms", "with")),
            Check("random folds, without colour", _printed("arms", "without")),
            Check(
                "gain of colour, random folds",
                lambda runs: _printed("arms", "with")(runs) - _printed("arms", "without")(runs),
                low=0.01,
            ),
            Check("p of the gain, McNemar", _printed("arms", "mcnemar"), high=0.05),
            Check("p of the gain, Holm", _printed("arms", "holm")),
            Check("p of the gain, corrected t", _printed("arms", "corrected t")),
            Check("random folds, colour shuffled", _printed("arms", "shuffled")),
            Check("p of shuffled colour, Holm", _printed("arms", "holm shuffled"), low=0.05),
            Check("locations held out, with colour", _printed("arms", "far with")),
            Check("locations held out, without colour", _printed("arms", "far without")),
        ),
        commands=_table("arms"),
    ),
    Case(
        "ethiopia",
        (6,),
        {
            "run": _crop(
                "ethiopia",
                *("model.family=lightgbm", "model.trees=80", "model.tree_rate=0.06", "model.leaves=15"),
                *("model.inner_folds=3",),
            )
        },
        (Check("accuracy of ours", _ours("accuracy")), Check("ece of ours", _ours("ece"), high=0.05)),
    ),
    Case(
        "trust",
        (6,),
        {},
        (
            Check(
                "crop table: wrong answers beyond the risk",
                lambda runs: _printed("trust", "crop-recommendation", "selective risk")(runs) - 0.05,
                high=0.02,
            ),
            Check("crop table: share answered", _printed("trust", "crop-recommendation", "answered")),
            Check(
                "ethiopia: wrong answers beyond the risk of 0.4",
                lambda runs: _printed("trust", "ethiopia", "selective risk")(runs) - 0.4,
                high=0.02,
            ),
            Check("ethiopia: share answered", _printed("trust", "ethiopia", "answered")),
            Check(
                "a fifth of the span outside: named with unit and range",
                _printed("trust", "crop-recommendation", "moved"),
                low=0.95,
            ),
            Check("warnings on judged rows", _printed("trust", "crop-recommendation", "warned"), high=0.02),
        ),
        commands=_table("trust"),
    ),
    Case(
        "ums-tn",
        (9,),
        {
            "paper": _nitrogen("ums-tn", preset="published"),
            "samples": _nitrogen("ums-tn"),
        },
        (
            Check("paper's split: MLP default", _of("paper-mlp-default", "rmse", "paper"), 190.11, 191.11),
            Check("paper's split: SVM default", _of("paper-svm-default", "rmse", "paper"), 215.34, 216.34),
            Check("paper's split: mean of the date", _of("date-mean", "rmse", "paper")),
            Check("samples together: mean of the date", _of("date-mean", "rmse", "samples")),
            Check("samples together: ours", _ours("rmse", "samples")),
            Check("samples together: paper's MLP", _of("paper-mlp-default", "rmse", "samples")),
            *(
                Check(f"random search, {kind}, {end} of 20 seeds", _printed("seeds", kind, end))
                for kind in ("mlp", "svm")
                for end in ("low", "median", "high")
            ),
        ),
        commands=_table("seeds"),
    ),
    Case(
        "nirsoil",
        (10,),
        {"run": _nitrogen("nirsoil")},
        (
            Check("r2 in five folds", _ours("r2"), low=0.75),
            Check("r2 in five folds, goal", _ours("r2"), low=0.83, stretch=True),
            Check("rpd in five folds", _ours("rpd"), low=1.85),
            Check("coverage of 90 % intervals, five folds", _ours("coverage"), 0.88, 0.92, stretch=True),
            Check("width of 90 % intervals, five folds", _ours("interval_width")),
        ),
    ),
    Case(
        "nirsoil-official",
        (10,),
        {"run": _nitrogen("nirsoil", "data.protocol=official")},
        (
            Check("r2 on the official split", _ours("r2"), low=0.70),
            Check("rpd on the official split", _ours("rpd")),
            Check("coverage of 90 % intervals, official split", _ours("coverage")),
        ),
    ),
    Case(
        "nirsoil-intervals",
        (10,),
        {},
        (
            Check("split-conformal coverage, 20 splits", _printed("intervals", "coverage"), 0.87, 0.93),
            Check("split-conformal width, 20 splits", _printed("intervals", "width")),
            Check(
                "spectra times 5: beyond the training maximum by",
                lambda runs: (
                    _printed("intervals", "largest at 5x")(runs) - _printed("intervals", "training max")(runs)
                ),
                high=1e-9,
            ),
        ),
        commands=_table("intervals"),
    ),
    Case(
        "speed",
        (13,),
        {},
        (
            *(
                Check(f"1,000 rows, {name} [s]", _printed("speed", name, "thousand rows"), high=0.2)
                for name in ("lightgbm", "xgboost", "mlp")
            ),
            Check("1,000 rows, blend [s]", _printed("speed", "blend", "thousand rows")),
            Check("one row with its reasons, blend [s]", _printed("speed", "blend", "advice"), high=0.15),
        ),
        commands=_table("speed"),
    ),
)
