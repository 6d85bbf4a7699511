"""Acceptance cases of agrosense's photos: the audit, Soil7, what is no soil, and the time of one photo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.acceptance_case import Case, Check, Measured, Settings, printed_by

Figure = Callable[[Mapping[str, Measured]], float]


def _ours(metric: str, run: str = "run") -> Figure:
    return lambda runs: runs[run].ours(metric)


def _of(model: str, metric: str, run: str = "run") -> Figure:
    return lambda runs: runs[run].of(model, metric)


def _p(model: str) -> Figure:
    def measure(runs: Mapping[str, Measured]) -> float:
        tests: Any = runs["run"].results["tests"]
        return float(next(test["p"] for test in tests if test["b"] == model))

    return measure


def _printed(part: str, name: str, script: str = "agrosense_images") -> Figure:
    return lambda _: float(printed_by(script, part)[name])


def _beside(part: str, name: str) -> Figure:
    return _printed(part, name, "agrosense_fusion")


def _gain(part: str, arm: str, than: str = "table") -> Figure:
    return lambda runs: _beside(part, arm)(runs) - _beside(part, than)(runs)


def _arms(part: str, least: float) -> tuple[Check, ...]:
    return (
        Check("table alone, three variables hidden", _beside(part, "table")),
        Check("table and photo", _beside(part, "table and photo")),
        Check("table and true soil class", _beside(part, "table and true soil")),
        Check("gain of the photo", _gain(part, "table and photo"), low=least),
        Check("gain of a shuffled photo", _gain(part, "table and shuffled photo"), high=0.01),
        Check("photo missing, against the table alone", _gain(part, "photo missing"), -0.01, 0.01),
        Check(
            "logloss of photos read by readers that had not seen them, less that of photos read by heart",
            _gain(part, "table and photo, logloss", "photos read by heart, logloss"),
            high=0.0,
        ),
    )


def _table(part: str) -> dict[str, str]:
    return {part: f"python -m benchmarks.agrosense_images {part}"}


def _fusion(part: str) -> dict[str, str]:
    return {part: f"python -m benchmarks.agrosense_fusion {part}"}


PHOTO_CASES: tuple[Case, ...] = (
    Case(
        "photo-audit",
        (2,),
        {},
        (
            Check("checksums: test photos that stand in train", _printed("audit", "crossing"), 341, 341),
            Check("checksums: test photos", _printed("audit", "test"), 341, 341),
            Check("checksums: label conflicts", _printed("audit", "conflicts"), 1, 1),
            Check("soil7: groups across folds", _printed("audit", "across folds"), 0, 0),
            Check("soil7: planted copies found", _printed("audit", "planted found"), low=0.95),
            Check("soil7: photos merged falsely", _printed("audit", "merged falsely"), high=0.02),
        ),
        commands=_table("audit"),
    ),
    Case(
        "soil7",
        (3,),
        {"run": Settings("default", "soil7", (), task="soil-image")},
        (
            Check("accuracy of ours", _ours("accuracy"), low=0.86),
            Check("accuracy of ours, goal", _ours("accuracy"), low=0.90, stretch=True),
            Check("macro_f1 of ours", _ours("macro_f1"), low=0.82),
            Check("accuracy of colour + boosting", _of("colour + boosting", "accuracy")),
            Check("accuracy of efficientnet-lite0 + colour", _of("efficientnet-lite0 + colour", "accuracy")),
            Check("p against colour + boosting, McNemar", _p("colour + boosting"), high=0.05),
            Check("ece of ours, mean over folds", _ours("ece"), high=0.06),
            Check("photos of soil that are rejected", _ours("soil_rejected"), high=0.05),
            Check("five folds with features, one thread [s]", _printed("folds", "whole"), high=300),
            Check("five folds, features kept [s]", _printed("folds", "kept"), high=20),
        ),
        commands=_table("folds"),
    ),
    Case(
        "drawn-photos",
        (6,),
        {"run": Settings("default", "simulated", (), task="soil-image")},
        (
            Check("accuracy of ours", _ours("accuracy")),
            Check("photos without soil that are rejected", _ours("no_soil_rejected"), low=0.90),
            Check("photos of soil that are rejected", _ours("soil_rejected"), high=0.05),
        ),
    ),
    Case("photos-beside-tables", (4, 5), {}, _arms("mixed", 0.02), commands=_fusion("mixed")),
    Case("photos-one-soil-a-site", (4, 5), {}, _arms("sites", 0.02), commands=_fusion("sites")),
    Case(
        "photos-where-unsure",
        (4, 5),
        {},
        (
            Check(
                "share of photos looked at, of 0.5 at most in training", _beside("routed", "photos looked at")
            ),
            Check("table alone", _beside("routed", "table")),
            Check("photo in every row", _beside("routed", "table and photo")),
            Check("photo where the table is unsure", _beside("routed", "photo where unsure")),
            *(
                Check(f"{arm}, where the photo was {place}", _beside("routed", f"{arm}, {place}"))
                for place in ("looked at", "not looked at")
                for arm in ("table", "table and photo")
            ),
            Check(
                "photo missing, against the table alone",
                _gain("routed", "photo missing, where unsure"),
                -0.01,
                0.01,
            ),
        ),
        commands=_fusion("routed"),
    ),
    Case(
        "missing-values",
        (5,),
        {},
        (
            Check("simulated fields, all six variables", _beside("missing", "whole")),
            Check(
                "gain of losing a tenth of the values", _gain("missing", "a tenth lost", "whole"), low=-0.03
            ),
        ),
        commands=_fusion("missing"),
    ),
    Case(
        "one-photo",
        (13,),
        {},
        (
            Check(
                "a photo of 12 million pixels to its answer, warm [s]", _printed("speed", "photo"), high=0.5
            ),
            Check(
                "a photo of 192 px to its answer, warm [s]",
                _printed("speed", "small photo"),
                high=0.15,
                stretch=True,
            ),
        ),
        commands=_table("speed"),
    ),
)
