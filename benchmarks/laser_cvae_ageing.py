"""Laser CVAE on simulated devices over several seeds: early warning, calibration, physics, time grids.

    python -m benchmarks.laser_cvae_ageing
    python -m benchmarks.laser_cvae_ageing --seeds 5 --json

Each seed simulates and fits anew: 525 devices to learn from, 175 to choose on, and more test devices than
the embedded dataset has, so that 2,000 of them are healthy. Baselines are those of the product, fitted to the
same devices. Figures are means over seeds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from appliedpapers.core.config import resolve
from appliedpapers.core.data import Dataset
from appliedpapers.core.device import derive_seed
from appliedpapers.core.metrics import auc
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.laser_cvae.config import LaserConfig
from appliedpapers.plugins.laser_cvae.data import DATASETS
from appliedpapers.plugins.laser_cvae.devices import Devices, Floats, cell_names
from appliedpapers.plugins.laser_cvae.evaluation import EVALUATION
from appliedpapers.plugins.laser_cvae.model import LaserCvae
from appliedpapers.plugins.laser_cvae.path_model import PathModel
from appliedpapers.plugins.laser_cvae.simulator import CONDITION_ONLY, simulate
from appliedpapers.plugins.laser_cvae.splits import DeviceSplit

_TEST = 2800
_CUTS = (0.3, 0.6, 1.0)
_RIVALS = (
    *("ocsvm", "ocsvm-conditions", "autoencoder", "vae", "conditional-autoencoder"),
    *("rule", "linear", "path", "condition-only"),
)
_PHYSICS_DEVICES, _PHYSICS_SPREAD = 200, 0.19
Figures = dict[str, float]


def measure(seed: int) -> tuple[Figures, dict[str, list[Floats]]]:
    """Return the figures of one seed, and standardised scores of healthy devices by cut."""
    config = resolve(
        LaserConfig,
        assignments=(
            f"seed={seed}",
            f"data.simulator.test_devices={_TEST}",
            f"judge.cuts={list(_CUTS)}",
            f"baselines={list(_RIVALS)}",
        ),
    )
    dataset = DATASETS.simulated(config)
    with tempfile.TemporaryDirectory() as folder:
        run = FitContext(Path(folder), seed=seed)
        model = LaserCvae(config).fit(dataset.train, dataset.valid, run)
        found = _scored(config, dataset, model, run)
    test = dataset.test
    assert isinstance(test, DeviceSplit)
    found |= _half_density(model, test.devices) | _healthy(model, test.devices)
    found |= _begun(config, test.devices)
    return found | _physics(config, seed), _scores(model, test.devices)


def _scored(config: LaserConfig, dataset: Dataset, model: LaserCvae, run: FitContext) -> Figures:
    said = {"ours": EVALUATION.predict(model, dataset.test), **EVALUATION.parts(model, dataset)}
    for baseline in EVALUATION.baselines(config, dataset):
        said[baseline.name] = baseline.fit(dataset.train, dataset.valid, run).predict(dataset.test)
    found: Figures = {}
    for name, answers in said.items():
        scored = EVALUATION.score(answers, dataset.test, dataset)
        for labels, metrics in scored.slices:
            if "cell" in labels:
                continue
            where = " ".join(part.replace(" ", "") for part in labels.values())
            found |= {f"{name} {where} {metric}": value.value for metric, value in metrics.items()}
        found |= {f"{name} {key}": scored.metrics[key].value for key in ("hours_saved", "lead_time")}
    return found


def _begun(config: LaserConfig, devices: Devices) -> Figures:
    """Return the AUC of one who knows every failure that shows at a cut, and nothing of later ones.

    A failure shows where its damage is beyond the noise of a reading by then, or where it is the condition
    that fails the device; a step or a dark line that comes later can be known to nobody.
    """
    wanted = config.data.simulator.model_copy(update={"p_fail": 0.0})
    seed = derive_seed(config.seed, "simulated-ageing", "test")
    plain = simulate(wanted, seed, len(devices), mode=config.data.mode, limit=config.data.criterion)
    assert devices.truth is not None
    assert plain.truth is not None
    extra, rows, found = devices.truth - plain.truth, np.arange(len(devices)), {}
    by_condition = np.array(devices.modes) == CONDITION_ONLY
    for share in _CUTS[:-1]:
        hours = share * devices.horizon
        at = (devices.hours <= hours[:, None] * (1 + 1e-12)).sum(axis=1) - 1
        shows = devices.failed & (by_condition | (extra[rows, at] > float(np.mean(wanted.noise))))
        waiting = devices.failure > hours
        found[f"begun {100 * share:g}% auc"] = auc(devices.failed[waiting], shows[waiting].astype(float))
    return found


def _half_density(model: LaserCvae, devices: Devices) -> Figures:
    """Return how scores and chances change where every other reading is left out, at 60 % of the test."""
    from scipy.stats import spearmanr

    assert model.ageing is not None
    assert model.forecast is not None
    few = devices.take(slice(0, 500))
    thin = replace(few, hours=few.hours[:, ::2], damage=few.damage[:, ::2])
    both = [one.before(0.6 * few.horizon) for one in (few, thin)]
    scores = [model.ageing.scores(seen) for seen in both]
    waiting = ~both[0].crossed & ~both[1].crossed
    chances = [model.forecast.look(seen.take(waiting)).p_cross for seen in both]
    return {
        "half density spearman": float(spearmanr(*scores).statistic),
        "half density p_cross change": float(np.abs(chances[0] - chances[1]).mean()),
    }


def _healthy(model: LaserCvae, devices: Devices) -> Figures:
    """Return the mean p-value and the alert rate of healthy devices by the length of their prefix."""
    assert model.ageing is not None
    healthy, found = devices.take(~devices.failed), {}
    for share in (0.15, *_CUTS, 0.8):
        seen = healthy.before(share * healthy.horizon)
        p_values, _ = model.ageing.p_values(seen, model.ageing.judge(seen))
        found[f"healthy {100 * share:g}% mean p"] = float(p_values.mean())
        found[f"healthy {100 * share:g}% alerts"] = float((p_values <= model.config.abnormality.alpha).mean())
    return found | {"healthy devices": float(len(healthy))}


def _scores(model: LaserCvae, devices: Devices) -> dict[str, list[Floats]]:
    """Return standardised scores of calibration devices and of healthy test devices, by cut."""
    assert model.ageing is not None
    calibration = model.ageing.calibration
    assert calibration is not None
    healthy, found = devices.take(~devices.failed), {}
    for share in _CUTS:
        seen = healthy.before(share * healthy.horizon)
        score = model.ageing.scores(seen)
        fresh = calibration.standardised(score, seen.end, cell_names(seen.conditions))
        at = float(seen.end[0])
        held = np.array([np.interp(at, calibration.hours, row) for row in calibration.scores])
        own = calibration.standardised(held, np.full(len(held), at), calibration.cells)
        found[f"{100 * share:g}%"] = [own[np.isfinite(own)], fresh]
    return found


def _physics(config: LaserConfig, seed: int) -> Figures:
    """Return the acceleration factors that the path model finds in healthy devices."""
    wanted = config.data.simulator.model_copy(update={"p_fail": 0.0, "unit_sd": _PHYSICS_SPREAD})
    devices = simulate(wanted, seed + 7_000, _PHYSICS_DEVICES)
    model = PathModel.fit(devices, np.isfinite(devices.hours))
    return {f"path {name}": one.value for name, one in model.accelerations().items()}


def summary(seeds: int) -> dict[str, Any]:
    """Return means over seeds, the values of each seed, and the test of uniform p-values."""
    from scipy.stats import ks_2samp

    rows, scores = zip(*(measure(seed) for seed in range(1, seeds + 1)), strict=True)
    means = {name: float(np.nanmean([row.get(name, np.nan) for row in rows])) for name in rows[0]}
    uniform = {
        f"uniform {cut} ks p": float(
            ks_2samp(
                np.concatenate([one[cut][0] for one in scores]),
                np.concatenate([one[cut][1] for one in scores]),
            ).pvalue
        )
        for cut in scores[0]
    }
    return {"seeds": seeds, "means": means | uniform, "by_seed": list(rows)}


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    found = summary(options.seeds)
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"python -m benchmarks.laser_cvae_ageing --seeds {options.seeds}")
    for name, value in sorted(found["means"].items()):
        print(f"{name:<60} {value:8.4f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
