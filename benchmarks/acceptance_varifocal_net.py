"""The acceptance cases of ``varifocal-net``: Pki-3, CIR-Net and the simulator by the product, and speed.

What is compared with reference values (dispatch, boxes, crops, gradients, metrics) is tested, not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from benchmarks.acceptance_case import Case, Check, Measured, Settings, printed_by

Runs = Mapping[str, Measured]
Figure = Callable[[Runs], float]

_ASKED_S = 720.0


def _ours(metric: str, run: str = "run", **part: str) -> Figure:
    return lambda runs: runs[run].ours(metric, **part)


def _of(model: str, metric: str, run: str = "run") -> Figure:
    return lambda runs: runs[run].of(model, metric)


def _less(one: Figure, other: Figure) -> Figure:
    return lambda runs: one(runs) - other(runs)


def _seconds(run: str = "run") -> Figure:
    return lambda runs: float(runs[run].results["seconds"]["fit"])


def _fusion_over_parts(runs: Runs) -> float:
    accuracy = "type_accuracy"
    parts = [runs["run"].of(name, accuracy) for name in ("g-net", "l-net")]
    return runs["run"].of("joint", accuracy) - max(parts)


def _box_offset(runs: Runs) -> float:
    offsets = [epoch["box_offset"] for epoch in runs["run"].history if "box_offset" in epoch]
    return float(offsets[-1])


def _slice(metric: str, cells: str) -> Figure:
    return _ours(metric, cells=cells)


def _speed(name: str) -> Figure:
    return lambda _: float(printed_by("varifocal_speed")[name])


def _dispatch(name: str) -> Figure:
    return lambda _: float(printed_by("varifocal_dispatch")["seconds"][name])


# the paper's own pipeline: four steps and joint classifiers, without what we add
_PIPELINE = (
    *(
        Check(f"joint classifiers: {words}", _of("joint", metric), low=low)
        for metric, words, low in (
            ("type_accuracy", "type accuracy", 0.925),
            ("macro_f1", "macro-F1 of the types", 0.92),
            ("polarity_accuracy", "polarity accuracy", 0.978),
            ("case_accuracy_assignment", "accuracy by case after assignment", 0.968),
            ("cells_right_assignment", "cells all right after assignment", 0.52),
        )
    ),
    Check(
        "joint classifiers: accuracy by case, Algorithm 1 less argmax",
        _less(_of("joint", "case_accuracy_dispatch"), _of("joint", "case_accuracy_argmax")),
        low=0.015,
    ),
)
_ACCURACY = (
    Check("type accuracy", _ours("type_accuracy"), low=0.925),
    Check("macro-F1 of the types", _ours("macro_f1"), low=0.92),
    Check("polarity accuracy", _ours("polarity_accuracy"), low=0.978),
    Check(
        "accuracy by case: Algorithm 1 less argmax",
        _less(_ours("case_accuracy_dispatch"), _ours("case_accuracy_argmax")),
    ),
    Check("accuracy by case after assignment", _ours("case_accuracy_assignment"), low=0.968),
    Check("cells all right after assignment", _ours("cells_right_assignment"), low=0.52),
    Check("stretch: type accuracy", _ours("type_accuracy"), low=0.945, stretch=True),
    Check("stretch: macro-F1 of the types", _ours("macro_f1"), low=0.94, stretch=True),
    Check("stretch: polarity accuracy", _ours("polarity_accuracy"), low=0.985, stretch=True),
    Check(
        "stretch: accuracy by case after assignment",
        _ours("case_accuracy_assignment"),
        low=0.98,
        stretch=True,
    ),
    Check(
        "stretch: cells all right after assignment", _ours("cells_right_assignment"), low=0.62, stretch=True
    ),
    Check("goal: type accuracy", _ours("type_accuracy"), low=0.97, stretch=True),
    Check(
        "goal: accuracy by case after assignment", _ours("case_accuracy_assignment"), low=0.99, stretch=True
    ),
)


def _other_crop(runs: Runs, metric: str) -> float:
    measured = runs["run"]
    name = next(row["model"] for row in measured.results["rows"] if row["model"].endswith(" crop"))
    return measured.of(name, metric)


def _transferred(what: str) -> Figure:
    """Return how many types, or polarities, of CIR-Net the model of the run has right; scale by patient."""

    def found(runs: Runs) -> float:
        from appliedpapers.core.bundle import load_bundle
        from appliedpapers.core.sources import load_dataset
        from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
        from appliedpapers.plugins.varifocal_net.data import DATASETS
        from appliedpapers.plugins.varifocal_net.scoring import judged

        model, _ = load_bundle(runs["run"].report.parent / "model", "cpu")
        dataset = load_dataset(DATASETS, "varifocal-net", KaryotypeConfig(), dataset="cirnet")
        right: list[np.ndarray] = []
        for split in (dataset.train, dataset.valid, dataset.test):
            own = judged(split)  # type: ignore[arg-type]
            reading = model.read(replace(own, cases=own.specimens))  # type: ignore[attr-defined]
            said = reading.types.argmax(axis=1) if what == "types" else reading.q_down >= 0.5
            right.append(said == (own.labels if what == "types" else own.polarity))
        return float(np.concatenate(right).mean())

    return found


_CROPS = Case(
    "crops",
    (3,),
    {"run": Settings("default", "pki3")},
    (
        Check("training of both, s", _seconds()),
        Check("chosen crop: type accuracy", _ours("type_accuracy")),
        Check("the other crop: type accuracy", lambda runs: _other_crop(runs, "type_accuracy")),
        Check(
            "chosen crop less the other: type accuracy",
            lambda runs: runs["run"].ours("type_accuracy") - _other_crop(runs, "type_accuracy"),
        ),
        Check(
            "chosen crop less the other: accuracy by case after assignment",
            lambda runs: (
                runs["run"].ours("case_accuracy_assignment") - _other_crop(runs, "case_accuracy_assignment")
            ),
        ),
    ),
)

_PKI3 = Case(
    "pki3",
    (2, 3, 4, 5),
    {"run": Settings("default", "pki3", ("network.crop=varifocal",))},
    (
        Check("training, s", _seconds(), high=_ASKED_S),
        *_ACCURACY,
        *_PIPELINE,
        Check("networks without trees: type accuracy", _of("networks", "type_accuracy")),
        Check("joint classifiers less the better of G-Net and L-Net", _fusion_over_parts, low=-0.003),
        Check("G-Net alone: type accuracy", _of("g-net", "type_accuracy")),
        Check("L-Net alone: type accuracy", _of("l-net", "type_accuracy")),
        Check("boosted trees alone: type accuracy", _of("profile-trees", "type_accuracy")),
        Check("accuracy by case, argmax", _ours("case_accuracy_argmax")),
        Check("accuracy by case, Algorithm 1", _ours("case_accuracy_dispatch")),
        Check("cells all right, argmax", _ours("cells_right_argmax")),
        Check("cells all right, Algorithm 1", _ours("cells_right_dispatch")),
        Check("count of every type right", _ours("counts_right")),
        Check("calibration error of the best type", _ours("ece")),
        Check("aneuploid cells (8) named by assignment, share", _ours("aneuploid_recall"), low=0.75),
        Check("false alarms on normal test cells (53), share", _ours("false_alarm_rate"), high=0.10),
        Check("goal: aneuploid cells named, share", _ours("aneuploid_recall"), low=1.0, stretch=True),
        Check("goal: false alarms", _ours("false_alarm_rate"), high=0.0, stretch=True),
        Check("mean distance of boxes from the middle, share", _box_offset, low=0.02),
        Check("CIR-Net, never learned from: type accuracy", _transferred("types")),
        Check("CIR-Net, never learned from: polarity accuracy", _transferred("polarity")),
        *(
            Check(f"{name}: type accuracy", _of(name, "type_accuracy"))
            for name in ("profile-lightgbm", "profile-logistic", "length")
        ),
    ),
)
_SIMULATOR = Case(
    "simulator",
    (6,),
    {"run": Settings("default", "simulated")},
    (
        Check("training, s", _seconds(), high=360.0),
        Check("type accuracy", _ours("type_accuracy"), low=0.90),
        Check(
            "accuracy by case: assignment less argmax",
            _less(_ours("case_accuracy_assignment"), _ours("case_accuracy_argmax")),
            low=1e-6,
        ),
        Check("polarity accuracy", _ours("polarity_accuracy")),
        Check("cells all right after assignment", _ours("cells_right_assignment")),
        Check("profile-lightgbm: type accuracy", _of("profile-lightgbm", "type_accuracy")),
    ),
)
_SPEED = Case(
    "speed",
    (7,),
    {},
    (
        Check("a cell of 46 over one pass of ResNet-18 at 128 px", _speed("ratio"), high=2.0),
        Check("goal: chromosomes/s", _speed("chromosomes_a_second"), low=300.0, stretch=True),
        Check("Algorithm 1, s for 1,000 cells", _dispatch("Algorithm 1"), high=2.0),
        Check("assignment, s for 1,000 cells", _dispatch("assignment"), high=2.0),
    ),
    {
        "varifocal_speed": "python -m benchmarks.varifocal_speed --json",
        "varifocal_dispatch": "python -m benchmarks.varifocal_dispatch --json",
    },
)
CASES = (_PKI3, _CROPS, _SIMULATOR, _SPEED)
