"""What a report shows of crops: reliability, abstention, what speaks for crops, and what colour is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.figures import MUTED, OURS, Figure, finish, start
from appliedpapers.core.significance import holm, mcnemar
from appliedpapers.core.verdict import format_p
from appliedpapers.plugins.agrosense import reliability as curves
from appliedpapers.plugins.agrosense.crop.scoring import BINS, Told

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Material
    from appliedpapers.plugins.agrosense.crop.data import CropSplit
    from appliedpapers.plugins.agrosense.crop.model import CropRecommender

Floats = NDArray[np.float64]

_EXPLAINED = 60
_WORST = 3


def draw(material: Material) -> list[Figure]:
    """Return the figures of a run."""
    figures = [_reliability(material), _abstention(material), _attributions(material)]
    arms = [name for name in material.predictions if _is_arm(name)]
    if arms:
        figures.append(_ablation(material, arms))
    return figures


def failures(material: Material) -> list[str]:
    """Name the crops that are most often taken for others."""
    told, labels, classes = _ours(material)
    guess = told.probabilities.argmax(axis=1)
    found = []
    for number, name in enumerate(classes):
        own = labels == number
        wrong = own & (guess != number)
        if wrong.any():
            taken = classes[int(np.bincount(guess[wrong]).argmax())]
            found.append((wrong.sum() / own.sum(), int(wrong.sum()), int(own.sum()), name, taken))
    return [
        f"{name}: {wrong} of {all_} fields get another crop, most often {taken}"
        for _, wrong, all_, name, taken in sorted(found, reverse=True)[:_WORST]
    ]


def _ours(material: Material, name: str | None = None) -> tuple[Told, NDArray[np.int64], tuple[str, ...]]:
    """Return what a model says of all judged rows, their labels and the crops."""
    prediction = material.predictions[name or material.model_name]
    parts = prediction if isinstance(prediction, list) else [prediction]
    splits = [cast("CropSplit", sample.test) for sample in material.dataset.resamples()]
    labels = np.concatenate([split.labels for split in splits])
    told = [cast("Told", part) for part in parts]
    advised = [part.advised for part in told if part.advised is not None]
    whole = Told(
        np.concatenate([part.probabilities for part in told]), np.concatenate(advised) if advised else None
    )
    return whole, labels, splits[0].classes


def _reliability(material: Material) -> Figure:
    shown = []
    for name, color in _shown(material):
        told, labels, _ = _ours(material, name)
        right = told.probabilities.argmax(axis=1) == labels
        shown.append((name, color, told.probabilities.max(axis=1), right))
    return curves.reliability(
        shown,
        BINS,
        caption="Share of right answers at each confidence; on the dotted line probabilities mean what they "
        "say. Larger dots hold more fields.",
        synthetic=material.synthetic or _is_synthetic(material),
    )


def _abstention(material: Material) -> Figure:
    canvas, axes = start(height=2.8)
    told, labels, _ = _ours(material)
    confidence = told.probabilities.max(axis=1)
    wrong = (told.probabilities.argmax(axis=1) != labels)[np.argsort(-confidence, kind="stable")]
    answered = np.arange(1, len(wrong) + 1) / len(wrong)
    risk = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
    step = max(1, len(wrong) // 400)
    axes.plot(answered[::step], risk[::step], color=OURS)
    target = cast("CropRecommender", material.model).config.answer.risk
    axes.axhline(target, color=MUTED, lw=0.8, ls=":")
    note = "no row is answered"
    if told.advised is not None and told.advised.any():
        guess = told.probabilities.argmax(axis=1)
        share, error = float(told.advised.mean()), float((guess != labels)[told.advised].mean())
        axes.plot([share], [error], marker="o", ms=8, mfc="none", mec=OURS)
        note = f"{100 * share:.1f} % of the fields are answered, {100 * error:.1f} % of the answers are wrong"
    axes.set(xlabel="share of fields that get an answer", ylabel="share of wrong answers", xlim=(0, 1.02))
    return finish(
        canvas,
        name="abstention",
        title="What silence is worth",
        caption=f"Wrong answers when only the surest fields are answered. Ring: the threshold in use; {note}."
        f" Dotted: the risk that is borne, {100 * target:.0f} %.",
        alt=f"At the threshold in use {note}; the risk that is borne is {100 * target:.0f} %.",
        synthetic=material.synthetic or _is_synthetic(material),
    )


def _attributions(material: Material) -> Figure:
    model = cast("CropRecommender", material.model)
    split = cast("CropSplit", material.dataset.resamples()[0].test)
    rows = np.random.default_rng(0).permutation(split.num_rows)[:_EXPLAINED]
    answers = model.answers(split.take(np.sort(rows)).table, attributions=True)
    assert answers.attributions is not None
    sizes = np.abs(answers.attributions[:, :-1]).mean(axis=0)
    names = [name for name, _ in model.encoder.players]
    order = np.argsort(sizes)[-12:]
    canvas, axes = start(height=0.9 + 0.26 * len(order))
    axes.barh([names[place] for place in order], sizes[order], color=OURS, height=0.6)
    axes.set(xlabel="mean size of the part in the logit of the first crop")
    axes.grid(axis="y", visible=False)
    first = names[int(order[-1])]
    return finish(
        canvas,
        name="attributions",
        title="What speaks",
        caption=f"Mean absolute Shapley value of each input over {len(rows)} judged fields. For each field "
        "the parts and the base add up to the logit.",
        alt=f"{first} speaks loudest, with a mean part of {sizes.max():.2f} in the logit.",
        synthetic=material.synthetic or _is_synthetic(material),
    )


def _ablation(material: Material, arms: Sequence[str]) -> Figure:
    names = [material.model_name, *arms]
    right = {name: _right(material, name) for name in names}
    held = [name for name in names if name.startswith("locations held out")]
    near = [name for name in names if name not in held]
    pairs = [(name, near[0]) for name in near[1:]]
    pairs += [(held[1], held[0])] if len(held) > 1 else []
    raw = [mcnemar(right[one], right[other]).p for one, other in pairs]
    adjusted = dict(zip([one for one, _ in pairs], holm(raw), strict=True))
    canvas, axes = start(height=0.9 + 0.3 * len(names))
    values = [float(right[name].mean()) for name in names]
    axes.barh(
        names[::-1], values[::-1], color=[_arm_colour(name, near[0]) for name in names[::-1]], height=0.6
    )
    for place, name in enumerate(names[::-1]):
        said = f"{float(right[name].mean()):.3f}"
        said += f"  {format_p(adjusted[name])}" if name in adjusted else ""
        axes.annotate(
            said,
            (float(right[name].mean()), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    axes.set(xlabel="share of fields with the right crop", xlim=(0, max(values) * 1.3))
    axes.grid(axis="y", visible=False)
    subject = "photos are" if any("photos" in name for name in arms) else "the colour of the soil is"
    listed = "; ".join(f"{name} {value:.3f}" for name, value in zip(names, values, strict=True))
    return finish(
        canvas,
        name="ablation",
        title=f"What {subject} worth",
        caption="Each arm against ours in the same protocol: McNemar's exact p, adjusted by Holm for having "
        "looked at all. Shuffled: those of another field. Held out: no field of the location was "
        "learned from.",
        alt=f"Accuracy: {listed}.",
        synthetic=material.synthetic,
    )


def _arm_colour(name: str, ours: str) -> str:
    return OURS if name == ours else MUTED


def _right(material: Material, name: str) -> NDArray[np.bool_]:
    told, labels, _ = _ours(material, name)
    return np.asarray(told.probabilities.argmax(axis=1) == labels)


def _is_arm(name: str) -> bool:
    return name.startswith(("without ", "locations held out", "photos ")) or name.endswith(" shuffled")


def _is_synthetic(material: Material) -> bool:
    return cast("CropSplit", material.dataset.train).synthetic


def _shown(material: Material) -> list[tuple[str, str]]:
    return [(name, color) for _, name, color in material.compared()]
