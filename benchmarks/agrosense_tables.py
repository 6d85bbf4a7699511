"""Figures of agrosense that no single run shows: arms with tests, silence, warnings, intervals, seeds, speed.

    python -m benchmarks.agrosense_tables arms --json

Parts: ``arms`` (what colour is worth on the Ethiopian table), ``trust`` (silence and warnings), ``intervals``
(coverage over 20 random splits), ``seeds`` (what tuning gives under other seeds), ``speed``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from appliedpapers.core.config import resolve
from appliedpapers.core.model import FitContext
from appliedpapers.core.significance import corrected_t, holm, mcnemar
from appliedpapers.core.sources import load_dataset
from appliedpapers.plugins.agrosense.crop.baselines import Arm
from appliedpapers.plugins.agrosense.crop.config import CropConfig
from appliedpapers.plugins.agrosense.crop.data import DATASETS as CROPS
from appliedpapers.plugins.agrosense.crop.model import CropRecommender
from appliedpapers.plugins.agrosense.nitrogen.baselines import band_matrix, paper_regressor
from appliedpapers.plugins.agrosense.nitrogen.config import NitrogenConfig
from appliedpapers.plugins.agrosense.nitrogen.data import DATASETS as NITROGEN
from appliedpapers.plugins.agrosense.nitrogen.intervals import Interval
from appliedpapers.plugins.agrosense.nitrogen.model import NitrogenModel

ETHIOPIA = (
    *("model.family=lightgbm", "model.trees=80", "model.tree_rate=0.06", "model.leaves=15"),
    "model.calibration=temperature",
)


def main() -> None:
    """Measure a part and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agrosense_tables")
    parser.add_argument("part", choices=sorted(_PARTS))
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _PARTS[options.part](Path(folder))
    print(json.dumps(found) if options.json else json.dumps(found, indent=1))


def _run(folder: Path, name: str, seed: int = 0) -> FitContext:
    return FitContext(folder / name, seed=seed)


def arms(folder: Path) -> dict[str, Any]:
    """Compare nutrients with colour, without it, and with the colour of other fields, near and far."""
    config = resolve(CropConfig, assignments=[*ETHIOPIA, "model.inner_folds=2"])
    dataset = load_dataset(CROPS, "agrosense", config, dataset="ethiopia")
    made = {
        "with": {},
        "without": {"without": ("soil_colour",)},
        "shuffled": {"shuffled": ("soil_colour",)},
        "far with": {"elsewhere": True},
        "far without": {"elsewhere": True, "without": ("soil_colour",)},
    }
    right: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in made}
    for sample in dataset.resamples():
        for name, options in made.items():
            arm = Arm(name, config, **options).fit(  # type: ignore[arg-type]
                sample.train, sample.valid, _run(folder, f"{name}-{sample.fold}")
            )
            told = arm.predict(sample.test).probabilities.argmax(axis=1)
            right[name].append(told == sample.test.labels)  # type: ignore[attr-defined]
    whole = {name: np.concatenate(parts) for name, parts in right.items()}
    raw = [mcnemar(whole["without"], whole["with"]).p, mcnemar(whole["without"], whole["shuffled"]).p]
    folds = [a.mean() - b.mean() for a, b in zip(right["with"], right["without"], strict=True)]
    adjusted = holm(raw)
    return {
        **{name: float(values.mean()) for name, values in whole.items()},
        "mcnemar": raw[0],
        "mcnemar shuffled": raw[1],
        "holm": adjusted[0],
        "holm shuffled": adjusted[1],
        "corrected t": corrected_t(folds, 0.25).p,
    }


def trust(folder: Path) -> dict[str, Any]:
    """Measure silence and warnings on the crop table, and silence on the Ethiopian one."""
    found: dict[str, Any] = {}
    settings = {
        "crop-recommendation": ("model.family=lightgbm", "model.inner_folds=3"),
        "ethiopia": (*ETHIOPIA, "model.inner_folds=3", "answer.risk=0.4"),
    }
    for name, assignments in settings.items():
        config = resolve(CropConfig, assignments=assignments)
        dataset = load_dataset(CROPS, "agrosense", config, dataset=name)
        answered, wrong, warned, moved, told = 0, 0, [], [], 0
        for sample in dataset.resamples():
            model = CropRecommender(config).fit(
                sample.train, sample.valid, _run(folder, f"{name}-{sample.fold}")
            )
            test: Any = sample.test
            answers = model.answers(test.table, attributions=False)
            said, guess = answers.advised, answers.probabilities.argmax(axis=1)
            answered, wrong = answered + int(said.sum()), wrong + int((guess != test.labels)[said].sum())
            warned += [bool(one) for one in answers.warnings]
            moved += _moved(model, test.table)
            told += len(guess)
        found[name] = {
            "answered": answered / told,
            "selective risk": wrong / max(answered, 1),
            "risk": config.answer.risk,
            "warned": float(np.mean(warned)),
            "moved": float(np.mean(moved)),
        }
    return found


def _moved(model: CropRecommender, table: Any) -> list[bool]:
    """Return for each row whether a value a fifth of the span outside is named, with its unit and range."""
    assert model.novelty is not None
    matrix, rng, found = model.matrix(table), np.random.default_rng(0), []
    for row in matrix:
        column = int(rng.integers(len(model.novelty.ranges)))
        about = model.novelty.ranges[column]
        values = row[model._number_columns].copy()
        span = about.high - about.low
        values[column] = about.high + 0.2 * span if rng.random() < 0.5 else about.low - 0.2 * span
        said = " ".join(model.novelty.warnings(values[None])[0])
        unit = about.unit if about.unit and about.unit != "pH" else "training range"
        found.append(about.name in said and unit in said and f"{about.low:g} to {about.high:g}" in said)
    return found


def intervals(folder: Path) -> dict[str, Any]:
    """Measure 90 % split-conformal intervals of spectra over 20 random splits, and the clip."""
    config = resolve(NitrogenConfig, assignments=["model.learners=[svr, pls]"])
    dataset = load_dataset(NITROGEN, "agrosense", config, dataset="nirsoil")
    whole: Any = dataset.train
    model = NitrogenModel(config).fit(dataset.train, dataset.valid, _run(folder, "all"))
    rows = np.concatenate([model.matrix(part.table) for part in (whole, dataset.valid)])  # type: ignore[attr-defined]
    truth = np.concatenate([whole.nitrogen, dataset.valid.nitrogen])  # type: ignore[attr-defined]
    inside, widths = [], []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(truth))
        judged, rest = order[: len(order) // 5], order[len(order) // 5 :]
        kept, learned = rest[: len(rest) // 4], rest[len(rest) // 4 :]
        model.top = float(truth[learned].max())
        learners = model.fitted(("svr", "pls"), rows[learned], truth[learned], seed)
        interval = Interval.fit(
            model.answered(learners, rows[kept]), np.log1p(truth[kept]), 0.1, normalised=False
        )
        low, high = interval(model.answered(learners, rows[judged]))
        low, high = np.maximum(np.expm1(low), 0), np.expm1(high)
        inside.append(float(((truth[judged] >= low) & (truth[judged] <= high)).mean()))
        widths.append(float((high - low).mean()))
    model.top = float(truth.max())
    far = model.answered(model.learners, 5 * rows)
    return {
        "coverage": float(np.mean(inside)),
        "width": float(np.mean(widths)),
        "largest at 5x": float(np.expm1(far.max())),
        "training max": float(truth.max()),
    }


def seeds(folder: Path) -> dict[str, Any]:
    """Tune the paper's models by random search under 20 seeds, on its own split and without its test rows."""
    from sklearn.model_selection import RandomizedSearchCV

    config = resolve(NitrogenConfig, assignments=["data.protocol=paper"])
    dataset: Any = load_dataset(NITROGEN, "agrosense", config, dataset="ums-tn")
    x, y = band_matrix(dataset.train), dataset.train.nitrogen
    judged, truth = band_matrix(dataset.test), dataset.test.nitrogen
    spaces = {
        "mlp": {
            "activation": ["relu", "tanh", "logistic", "identity"],
            "hidden_layer_sizes": [(size,) for size in range(10, 151, 10)],
            "solver": ["adam", "lbfgs"],
            "learning_rate": ["constant", "adaptive", "invscaling"],
        },
        "svm": {
            "kernel": ["poly", "rbf", "sigmoid"],
            "C": np.logspace(0, 4, 20).tolist(),
            "epsilon": np.logspace(-4, 0, 20).tolist(),
        },
    }
    found: dict[str, Any] = {}
    for kind, space in spaces.items():
        errors = []
        for seed in range(20):
            search = RandomizedSearchCV(
                paper_regressor(kind, seed) if kind == "mlp" else paper_regressor(kind),
                space,
                n_iter=8,
                cv=5,
                random_state=seed,
                scoring="neg_mean_squared_error",
            ).fit(x, y)
            errors.append(float(np.sqrt(((search.predict(judged) - truth) ** 2).mean())))
        found[kind] = {"low": min(errors), "median": float(np.median(errors)), "high": max(errors)}
    return found


def speed(folder: Path) -> dict[str, Any]:
    """Time 1,000 rows and one row with its reasons, warm, best of five."""
    found = {}
    for family in ("lightgbm", "xgboost", "mlp", "blend"):
        config = resolve(CropConfig, assignments=[f"model.family={family}", "model.inner_folds=2"])
        dataset: Any = load_dataset(CROPS, "agrosense", config, dataset="crop-recommendation")
        model = CropRecommender(config).fit(dataset.train, dataset.valid, _run(folder, family))
        table = dataset.train.inputs().slice(0, 1000)
        one = table.slice(0, 1)
        found[family] = {
            "thousand rows": _best(lambda table=table, model=model: model.predict(table)),  # type: ignore[misc]
            "advice": _best(lambda one=one, model=model: model.advice(one, one)),  # type: ignore[misc]
        }
    return found


def _best(what: Any) -> float:
    what()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        what()
        times.append(time.perf_counter() - started)
    return min(times)


_PARTS = {"arms": arms, "trust": trust, "intervals": intervals, "seeds": seeds, "speed": speed}

if __name__ == "__main__":
    main()
