"""Figures that answer: what will become of single devices, how early it is known, and what wears them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from appliedpapers.core import figures as drawing
from appliedpapers.core.figures import FLAGGED, MUTED, OURS, STRONGEST, TRUTH, Figure
from appliedpapers.core.metrics import auc
from appliedpapers.plugins.laser_cvae.devices import BOLTZMANN, KELVIN, Devices, Floats
from appliedpapers.plugins.laser_cvae.path_model import PathModel
from appliedpapers.plugins.laser_cvae.scoring import Answers

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Material
    from appliedpapers.plugins.laser_cvae.forecast import ForecastHead
    from appliedpapers.plugins.laser_cvae.model import LaserCvae
    from appliedpapers.plugins.laser_cvae.splits import DeviceSplit

_SHOWN = 4
_BINS = 8
_LISTED = 5
_WORDS = {"": "survives", "condition": "fails by its condition"}


class _Scene(NamedTuple):
    """What is drawn: one test part with the answers of ours and of the strongest rival.

    Attributes:
        split: The test part; the last of several.
        ours: Our answers on it.
        rival: Answers and name of the strongest baseline, where there is one.
        head: What forecasts.
        synthetic: Whether the data are.
    """

    split: DeviceSplit
    ours: Answers
    rival: tuple[Answers, str] | None
    head: ForecastHead
    synthetic: bool


def draw(material: Material) -> list[Figure]:
    """Draw all figures of a run."""
    scene = _scene(material)
    found = [_fans(scene)]
    if scene.split.judge == "early-warning":
        found += [_early(scene), _reliability(scene)]
    arrhenius = _arrhenius(material, scene)
    return found if arrhenius is None else [*found, arrhenius]


def failures(material: Material) -> list[str]:
    """Name the failures that were missed, and the largest errors of the forecast."""
    scene = _scene(material)
    devices, main = scene.split.devices, scene.split.main
    label, chance, end = scene.split.labels[main], scene.ours.chance, scene.ours.end
    assert chance is not None
    assert end is not None
    found = []
    waiting = devices.failed & (devices.failure > scene.split.cuts[main])
    for row in np.argsort(chance[main] + ~waiting)[: min(_LISTED, int(waiting.sum()))]:
        mode = f", {devices.modes[row]}" if devices.modes else ""
        found.append(
            f"{devices.names[row]} ({devices.cells()[row]}{mode}) failed at {devices.failure[row]:,.0f} h; "
            f"at {label} its chance was put at {chance[main, row]:.2f}"
        )
    rows, scale = np.arange(len(devices)), devices.scale
    off = np.abs(scale.told(end[main]) - scale.told(devices.damage[rows, devices.counts - 1]))
    for row in np.argsort(-off)[:2]:
        unit = f" {scale.words}" if scale.words else ""
        found.append(f"{devices.names[row]}: forecast at the end off by {off[row]:.3g}{unit}")
    return found


def _scene(material: Material) -> _Scene:
    model = cast("LaserCvae", material.model)
    folds = material.dataset.folds
    test = folds[-1].test if folds else material.dataset.test

    def last(prediction: Any) -> Answers:
        return cast("Answers", prediction[-1] if isinstance(prediction, list) else prediction)

    rival = None
    if material.rival is not None:
        rival = last(material.predictions[material.rival]), material.rival
    assert model.forecast is not None
    ours = last(material.predictions[material.model_name])
    return _Scene(cast("DeviceSplit", test), ours, rival, model.forecast, material.synthetic)


def _fans(scene: _Scene) -> Figure:
    """Draw forecasts of devices that end in different ways, made at the main cut."""
    split, scale = scene.split, scene.split.devices.scale
    chosen = _examples(scene)
    devices = split.devices.take(np.array(chosen))
    hours = split.cuts[split.main, chosen]
    seen = devices.before(hours)
    look = scene.head.look(seen)
    columns = 2 if len(chosen) > 1 else 1
    fig, grid = drawing.start(
        height=2.3 * -(-len(chosen) // columns),
        rows=-(-len(chosen) // columns),
        columns=columns,
        squeeze=False,
    )
    words = []
    for number in range(len(chosen)):
        axes = grid.flat[number]
        told = scale.told(look.fan[number])
        own, damage = devices.hours[number], scale.told(devices.damage[number])
        past = own <= hours[number] * (1 + 1e-9)
        axes.fill_between(look.hours[number], told[:, 0], told[:, 2], color=OURS, alpha=0.25, lw=0)
        axes.plot(look.hours[number], told[:, 1], color=OURS, lw=1.4)
        axes.plot(own[past], damage[past], color="black", lw=1.0)
        axes.plot(own[~past], damage[~past], color=TRUTH, lw=1.0)
        axes.axhline(float(scale.told(scale.limit)), color=FLAGGED, lw=0.9, ls="--")
        mode = devices.modes[number] if devices.modes else ("fails" if devices.failed[number] else "")
        said = f"{_WORDS.get(mode, mode)}, p {look.p_cross[number]:.2f}"
        axes.set_title(f"{devices.names[number]}: {said}", fontsize=8.5, loc="left")
        words.append(f"{devices.names[number]} {said}")
        axes.set(xlabel="hours" if number >= len(chosen) - columns else "")
    for axes in list(grid.flat)[len(chosen) :]:
        axes.set_axis_off()
    return drawing.finish(
        fig,
        name="fans",
        title="What will become of them",
        caption=f"Test devices as seen at {split.labels[split.main]} of the test. Black: what was read; "
        "blue: median and 80 % band of the forecast; green: what came; dashed: the failure criterion. p is "
        "the calibrated chance to fail by the end.",
        alt=f"Forecast fans of devices: {'; '.join(words)}.",
        synthetic=scene.synthetic,
    )


def _examples(scene: _Scene) -> list[int]:
    """Return devices still on test at the cut, one for each way to end, then the likeliest to fail."""
    devices, chance = scene.split.devices, scene.ours.chance
    assert chance is not None
    waiting = np.flatnonzero(devices.failure > scene.split.cuts[scene.split.main])
    order = waiting[np.argsort(-chance[scene.split.main, waiting], kind="stable")]
    found: list[int] = []
    modes = np.array(devices.modes) if devices.modes else np.where(devices.failed, "fails", "")
    for mode in dict.fromkeys(["gradual", "rapid", "condition", "fails", "", *modes.tolist()]):
        own = [int(row) for row in order if modes[row] == mode]
        # of the survivors one in the middle, of the failures a typical one, too
        found += own[len(own) // 2 : len(own) // 2 + 1]
    more = [int(row) for row in order if row not in found]
    return ([*found, *more])[:_SHOWN] or [0]


def _early(scene: _Scene) -> Figure:
    """Draw how well failures are told from survivors that are still on test, by the share that was seen."""
    split = scene.split
    shares = np.array([float(label.split()[0]) for label in split.labels])
    fig, axes = drawing.start(height=3.0)
    ends, words = [], []
    models = [(scene.ours, "laser-cvae", OURS)]
    if scene.rival is not None:
        models.append((*scene.rival, STRONGEST))
    for answers, name, color in models:
        values = np.array([_auc_at(answers, split, cut) for cut in range(len(shares))])
        known = np.isfinite(values) & (shares < 100)
        axes.plot(shares[known], values[known], color=color, marker="o", ms=3, lw=1.4)
        if known.any():
            ends.append((float(values[known][-1]), name, color))
            listed = ", ".join(
                f"{v:.2f} at {s:g} %" for s, v in zip(shares[known], values[known], strict=True)
            )
            words.append(f"{name} {listed}")
    axes.set_ylim(0.45, 1.0)
    axes.set(xlabel="share of the test that was seen, %", ylabel="auc of devices not yet failed")
    drawing.label_ends(axes, float(shares[shares < 100].max(initial=50.0)), ends)
    return drawing.finish(
        fig,
        name="early-prediction",
        title="How early it is known",
        caption="Devices that had failed at a cut are left out there. 0.5 is chance: failures that come "
        "without any sign cannot be predicted by anybody.",
        alt=f"AUC by the share of the test: {'; '.join(words)}.",
        synthetic=scene.synthetic,
    )


def _auc_at(answers: Answers, split: DeviceSplit, cut: int) -> float:
    devices = split.devices
    waiting = devices.failure > split.cuts[cut]
    failed = devices.failed[waiting]
    if not failed.any() or failed.all():
        return float("nan")
    return auc(failed, np.nan_to_num(answers.rank[cut, waiting], posinf=1e300, neginf=-1e300))


def _reliability(scene: _Scene) -> Figure:
    """Draw how often devices fail of which it is said with what chance, with counts."""
    split, chance = scene.split, scene.ours.chance
    assert chance is not None
    waiting = split.devices.failure > split.cuts[split.main]
    said, failed = chance[split.main, waiting], split.devices.failed[waiting]
    bins = np.clip((said * _BINS).astype(int), 0, _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    known = counts > 0
    mean = np.bincount(bins, said, _BINS)[known] / counts[known]
    rate = np.bincount(bins, failed, _BINS)[known] / counts[known]
    fig, axes = drawing.start(height=3.0)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=0.9, ls="--")
    axes.plot(mean, rate, color=OURS, marker="o", ms=4, lw=1.2)
    for x, y, count in zip(mean, rate, counts[known], strict=True):
        axes.annotate(f"{count}", (x, y), xytext=(4, -9), textcoords="offset points", fontsize=8, color=MUTED)
    axes.set(
        xlabel="chance to fail that was told", ylabel="share that failed", xlim=(0, 1.02), ylim=(0, 1.02)
    )
    return drawing.finish(
        fig,
        name="reliability",
        title="Whether the chance means what it says",
        caption=f"Test devices not yet failed at {split.labels[split.main]}, by what was told then; "
        "numbers are counts of devices. On the dashed line chances are right.",
        alt="Share that failed by told chance: "
        + ", ".join(f"{r:.2f} where {m:.2f} was told" for m, r in zip(mean, rate, strict=True)),
        synthetic=scene.synthetic,
    )


def _arrhenius(material: Material, scene: _Scene) -> Figure | None:
    """Draw the rate of wear over the inverse temperature, with the line of the path model."""
    part = cast("DeviceSplit", material.dataset.train).devices
    if len(np.unique(part.conditions[np.isfinite(part.conditions[:, 0]), 0])) < 2:
        return None
    model = PathModel.fit(part)
    rate = _rates(model, part)
    inverse = part.conditions[:, 0]
    known = np.isfinite(inverse)
    fig, axes = drawing.start(height=3.0)
    spread = np.random.default_rng(0).uniform(-0.06, 0.06, len(part))
    axes.plot((inverse + spread)[known], rate[known], ".", color=MUTED, ms=3, alpha=0.6)
    energy = model.accelerations()["activation_energy"]
    line = np.linspace(inverse[known].min(), inverse[known].max(), 20)
    axes.plot(line, model.weights[0] + model.weights[1] * (line - model.centre), color=OURS, lw=1.5)
    for value in np.unique(np.round(inverse[known], 6)):
        celsius = 1 / (BOLTZMANN * value) - KELVIN
        axes.annotate(f"{celsius:.0f} °C", (value, axes.get_ylim()[1]), fontsize=8, color=MUTED, va="top")
    told = f"E_a {energy.value:.2f} eV ({energy.low:.2f} to {energy.high:.2f})"
    axes.set(xlabel="1 / kT, 1/eV", ylabel="ln damage at 1,000 h")
    return drawing.finish(
        fig,
        name="arrhenius",
        title="What heat does",
        caption=f"Each point is a training device at its own current; the line is the path model at the "
        f"reference current: {told}, effective on the damage.",
        alt=f"Arrhenius plot: {told}.",
        synthetic=scene.synthetic,
    )


def _rates(model: PathModel, devices: Devices) -> Floats:
    """Return ln damage at 1,000 h of each device by its own path, ``(N,)``."""
    seen = devices.before(np.nextafter(np.minimum(devices.failure, 1e12), 0))
    own, _ = model.posterior(seen)
    inverse = np.nan_to_num(devices.conditions[:, 0] - model.centre)
    moved = model.weights[1] * inverse + model.weights[2] * np.nan_to_num(devices.conditions[:, 1])
    return np.asarray(model.weights[0] + own[:, 0] + (1 + own[:, 2]) * moved)
