"""The acceptance cases of ``laser-cvae``: published tests by the product, the simulator, and speed.

Invariance, bad input, bundles and ONNX are tested, not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.acceptance_case import Case, Check, Measured, Settings, printed_by

Runs = Mapping[str, Measured]
Figure = Callable[[Runs], float]

_SEEDS = "8"
_AGEING = {"simulator": f"python -m benchmarks.laser_cvae_ageing --seeds {_SEEDS}"}
_WITHIN = ("114 C, 1 x", "130 C, 1.333 x")


def _mean(name: str) -> Figure:
    return lambda _: float(printed_by("laser_cvae_ageing", "--seeds", _SEEDS)["means"][name])


def _less(one: Figure, other: Figure) -> Figure:
    return lambda runs: one(runs) - other(runs)


def _over(one: Figure, other: Figure) -> Figure:
    return lambda runs: one(runs) / other(runs)


def _speed(name: str) -> Figure:
    return lambda _: float(printed_by("laser_cvae_speed")[name])


def _ours(metric: str, **part: str) -> Figure:
    return lambda runs: runs["run"].ours(metric, **part)


def _of(model: str, metric: str) -> Figure:
    return lambda runs: runs["run"].of(model, metric)


def _clear_of(model: str) -> Figure:
    return lambda runs: runs["run"].difference_to(model)[0]


def _largest(*figures: Figure) -> Figure:
    return lambda runs: max(figure(runs) for figure in figures)


def _farthest(target: float, *figures: Figure) -> Figure:
    return lambda runs: max(abs(figure(runs) - target) for figure in figures)


def _of_part(runs: Runs, run: str, cut: str) -> float:
    """Return the AUC of the abnormality head alone at a cut."""
    for row in runs[run].results["rows"]:
        if row["model"] == "abnormality" and row["metric"] == "auc" and row["slice"] == {"cut": cut}:
            return float(row["value"])
    raise LookupError(f"no auc of abnormality at {cut}")


def _fit_seconds(runs: Runs, run: str) -> float:
    return float(runs[run].results["seconds"]["fit"])


def _within(runs: Runs, cell: str, model: str | None) -> float:
    """Return the AUC within a condition cell, of a baseline or of ours."""
    for row in runs["run"].results["rows"]:
        mine = row["selected"] if model is None else row["model"] == model
        if mine and row["metric"] == "auc" and row["slice"] == {"cell": cell} and row["seed"] is None:
            return float("nan") if row["value"] is None else float(row["value"])
    raise LookupError(f"no auc within {cell}")


def _cell_gain(cell: str, baseline: str) -> Figure:
    return lambda runs: _within(runs, cell, None) - _within(runs, cell, baseline)


_LENGTHS = ("15%", "30%", "60%", "80%", "100%")
_BEST_FULL, _BEST_EARLY = (
    _largest(*(_mean(f"{name} {cut} auc") for name in ("autoencoder", "vae", "conditional-autoencoder")))
    for cut in ("100%", "60%")
)
_ALPHA = 0.02

_FULL = Case(
    "full",
    (1, 2, 7),
    {},
    (
        Check("whole test: F1 at the healthy 98 % quantile", _mean("abnormality 100% f1"), low=0.92),
        Check("whole test: AUC", _mean("abnormality 100% auc"), low=0.99),
        Check("whole test: F1 of the rule", _mean("rule 100% f1")),
        Check("whole test: F1, tuned", _mean("abnormality 100% f1_tuned"), low=0.95, stretch=True),
        Check(
            "whole test: AUC less the best of VAE and AE",
            _less(_mean("abnormality 100% auc"), _BEST_FULL),
            low=0.01,
        ),
        Check(
            "60 %, not yet failed: AUC less the best of VAE and AE",
            _less(_mean("abnormality 60% auc"), _BEST_EARLY),
        ),
        Check(
            "60 %: recall of gradual failures, tuned", _mean("abnormality gradual 60% recall_tuned"), low=0.85
        ),
        *(
            Check(f"60 %: recall of {mode} failures, p <= .02", _mean(f"abnormality {mode} 60% recall"))
            for mode in ("condition", "gradual", "rapid", "sudden")
        ),
    ),
    _AGEING,
)
_EARLY = Case(
    "early",
    (3, 4),
    {},
    (
        Check(
            "60 %: abnormality AUC less OCSVM",
            _less(_mean("abnormality 60% auc"), _mean("ocsvm 60% auc")),
            low=-0.02,
        ),
        Check("60 %: p_cross AUC", _mean("ours 60% auc"), low=0.80, stretch=True),
        Check("60 %: AUC of one who knows every failure that shows by then", _mean("begun 60% auc")),
        Check("60 %: p_cross AUC less OCSVM", _less(_mean("ours 60% auc"), _mean("ocsvm 60% auc")), low=0.0),
        Check(
            "60 %: p_cross AUC less linear", _less(_mean("ours 60% auc"), _mean("linear 60% auc")), low=0.0
        ),
        Check(
            "60 %: p_cross AUC less OCSVM, stretch",
            _less(_mean("ours 60% auc"), _mean("ocsvm 60% auc")),
            low=0.03,
            stretch=True,
        ),
        Check("60 %: p_cross AUC less path", _less(_mean("ours 60% auc"), _mean("path 60% auc"))),
        Check("30 %: p_cross AUC", _mean("ours 30% auc")),
        *(
            Check(
                f"{cut}: Brier as a share of the condition-only one",
                _over(_mean(f"ours {cut} brier"), _mean(f"condition-only {cut} brier")),
                high=most,
            )
            for cut, most in (("30%", 0.9), ("60%", 0.75))
        ),
        *(Check(f"{cut}: ECE of p_cross", _mean(f"ours {cut} ece"), high=0.05) for cut in ("30%", "60%")),
        Check("60 %: coverage of the 80 % failure times", _mean("ours 60% coverage"), low=0.70, high=0.90),
        Check("hours saved for each failing device at 2 % false alarms", _mean("ours hours_saved")),
        Check("hours saved by OCSVM", _mean("ocsvm hours_saved")),
    ),
    _AGEING,
)
_CALIBRATED = Case(
    "calibrated",
    (5, 6, 12, 16),
    {},
    (
        Check("healthy test devices a seed", _mean("healthy devices"), low=1900),
        *(
            Check(
                f"{cut}: alerts on healthy devices",
                _mean(f"healthy {cut} alerts"),
                low=0.5 * _ALPHA,
                high=1.5 * _ALPHA,
            )
            for cut in ("30%", "60%", "100%")
        ),
        *(
            Check(f"{cut}: p of uniform p-values (KS)", _mean(f"uniform {cut} ks p"), low=0.01)
            for cut in ("30%", "60%", "100%")
        ),
        Check(
            "largest distance of the mean healthy p from .5 over lengths",
            _farthest(0.5, *(_mean(f"healthy {cut} mean p") for cut in _LENGTHS)),
            high=0.05,
        ),
        Check(
            "60 %: median p of failures by condition",
            _mean("abnormality condition 60% median_p_value"),
            low=0.2,
        ),
        Check(
            "60 %: median p_cross of failures by condition",
            _mean("ours condition 60% median_p_cross"),
            low=0.5,
        ),
        Check("half the readings: Spearman of scores", _mean("half density spearman"), low=0.9),
        Check("half the readings: mean change of p_cross", _mean("half density p_cross change"), high=0.05),
        Check("path model: activation energy, eV", _mean("path activation_energy"), low=0.65, high=0.75),
        Check("path model: current exponent", _mean("path current_exponent"), low=1.85, high=2.15),
        Check("path model: time exponent", _mean("path time_exponent"), low=0.55, high=0.65),
    ),
    _AGEING,
)
_GAAS = Case(
    "gaas",
    (8,),
    {"run": Settings("published", "gaas")},
    (
        Check("forecast MAE at 4,000 h from 1,000 h, pct-pt", _ours("forecast_mae"), high=0.74),
        Check("linear", _of("linear", "forecast_mae")),
        Check("path", _of("path", "forecast_mae")),
        Check(
            "devices on the wrong side of +10 %", lambda runs: 15 * _ours("wrong_verdicts")(runs), high=1.0
        ),
        Check("from 500 h", _ours("forecast_mae", cut="500 h")),
        Check("from 2,000 h", _ours("forecast_mae", cut="2000 h")),
    ),
)
_LED = Case(
    "led-a",
    (9,),
    {"run": Settings("published", "led-a")},
    (
        Check("forecast MAE at 906 h from 330 h", _ours("forecast_mae"), high=0.050),
        Check("exp-linear", _of("exp-linear", "forecast_mae")),
        Check("path", _of("path", "forecast_mae")),
        Check("condition alone", _of("condition-only", "forecast_mae")),
        Check("lower end of the gain over exp-linear", _clear_of("exp-linear"), low=1e-9),
        *(
            check
            for cell in _WITHIN
            for check in (
                Check(
                    f"auc within {cell}, less that of the last reading",
                    _cell_gain(cell, "last-reading"),
                    low=-0.02,
                ),
                Check(
                    f"auc within {cell}, less that of the median of three readings", _cell_gain(cell, "rule")
                ),
            )
        ),
        Check("from 138 h", _ours("forecast_mae", cut="138 h")),
        Check("from 498 h", _ours("forecast_mae", cut="498 h")),
    ),
)
_DEVICE_B = Case(
    "device-b",
    (10,),
    {"run": Settings("published", "device-b")},
    (
        Check("forecast MAE from 50 %, dB", _ours("forecast_mae"), high=0.45),
        Check(
            "devices on the wrong side of -.5 dB", lambda runs: 34 * _ours("wrong_verdicts")(runs), high=3.0
        ),
        Check("linear", _of("linear", "forecast_mae")),
        Check("from 25 %", _ours("forecast_mae", cut="25 %")),
    ),
)
_ENCODERS = Case(
    "encoders",
    (),
    {
        "profile": Settings("default", "simulated", ("baselines=[ocsvm,ocsvm-conditions,path,rule]",)),
        "gru": Settings("gru", "simulated", ("baselines=[ocsvm,ocsvm-conditions,path,rule]",)),
    },
    tuple(
        Check(f"{name}: abnormality AUC at {cut}", partial(_of_part, run=name, cut=cut))
        for cut in ("60 %", "100 %")
        for name in ("profile", "gru")
    )
    + tuple(
        Check(f"{name}: seconds of fitting", partial(_fit_seconds, run=name)) for name in ("profile", "gru")
    ),
)
_SPEED = Case(
    "speed",
    (14,),
    {},
    (
        Check("quick preset end to end, s", _speed("quick preset, s"), high=60.0),
        Check("devices judged a second, one thread", _speed("devices a second"), low=2000.0),
        Check(
            "as a share of OCSVM's rate in the same run, both from readings",
            _speed("share of ocsvm's rate"),
            low=0.2,
        ),
        Check(
            "as a share of OCSVM's rate, its table prepared",
            _speed("share of ocsvm's decision alone"),
        ),
        Check("update of one device, ms", _speed("median update, ms"), high=10.0),
    ),
    {"speed": "OMP_NUM_THREADS=1 python -m benchmarks.laser_cvae_speed"},
)

CASES = (_FULL, _EARLY, _CALIBRATED, _GAAS, _LED, _DEVICE_B, _ENCODERS, _SPEED)
