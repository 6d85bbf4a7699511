"""What a report shows of photos: confusions, reliability, and what speaks for a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.figures import Figure, finish, start
from appliedpapers.core.significance import mcnemar
from appliedpapers.core.verdict import format_p
from appliedpapers.plugins.agrosense import reliability as curves
from appliedpapers.plugins.agrosense.soil_image.photos import NO_SOIL
from appliedpapers.plugins.agrosense.soil_image.scoring import BINS, Seen, joined

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Material
    from appliedpapers.plugins.agrosense.soil_image.model import SoilClassifier
    from appliedpapers.plugins.agrosense.soil_image.splits import PhotoSplit

_WORST = 3
_SHOWN = 4
_RIVAL = "colour + boosting"


def draw(material: Material) -> list[Figure]:
    """Return the figures of a run."""
    return [_confusion(material), _reliability(material), _occlusion(material)]


def failures(material: Material) -> list[str]:
    """Name the soils that are most often taken for others, and the exact test against colour."""
    chances, labels, classes = told(material, material.model_name)
    guess = chances.argmax(axis=1)
    found = []
    for number, name in enumerate(classes):
        own = labels == number
        wrong = own & (guess != number)
        if wrong.any():
            taken = classes[int(np.bincount(guess[wrong]).argmax())]
            found.append((wrong.sum() / own.sum(), int(wrong.sum()), int(own.sum()), name, taken))
    said = [
        f"{name}: {wrong} of {count} photos get another class, most often {taken}"
        for _, wrong, count, name, taken in sorted(found, reverse=True)[:_WORST]
    ]
    if _RIVAL in material.predictions:
        other = told(material, _RIVAL)[0].argmax(axis=1) == labels
        ours = guess == labels
        test = mcnemar(ours, other)
        only = int((ours & ~other).sum()), int((other & ~ours).sum())
        said.append(
            f"against {_RIVAL}: {only[0]} photos are right with ours alone, {only[1]} with it alone "
            f"(McNemar, exact, {format_p(test.p)})"
        )
    said.append("photos of another collection, camera and light are classified worse: expect 60 to 70 %")
    return said


def told(material: Material, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64], tuple[str, ...]]:
    """Return probabilities and labels of all judged photos of soil, and the classes."""
    prediction = material.predictions[name]
    parts = prediction if isinstance(prediction, list) else [prediction]
    splits = [cast("PhotoSplit", sample.test) for sample in material.dataset.resamples()]
    labels = np.concatenate([split.photos.labels for split in splits])
    soil = labels != NO_SOIL
    seen = joined([cast("Seen", part) for part in parts])
    return seen.chances[soil], labels[soil], splits[0].photos.classes


def _confusion(material: Material) -> Figure:
    chances, labels, classes = told(material, material.model_name)
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (labels, chances.argmax(axis=1)), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    canvas, axes = start(height=1.2 + 0.42 * len(classes))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            ink = "white" if share[row, column] > 0.55 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=ink, fontsize=8.5)
    axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="class that is given", ylabel="soil")
    right = float(np.mean(chances.argmax(axis=1) == labels))
    return finish(
        canvas,
        name="confusion",
        title="Which soils are confused",
        caption="Photos by their soil (rows) and the class that is given (columns).",
        alt=f"{100 * right:.1f} % of {len(labels)} photos of soil get the right class.",
        synthetic=material.synthetic,
    )


def _reliability(material: Material) -> Figure:
    shown = []
    for _, name, color in material.compared():
        chances, labels, _ = told(material, name)
        shown.append((name, color, chances.max(axis=1), chances.argmax(axis=1) == labels))
    return curves.reliability(
        shown,
        BINS,
        caption="Share of right classes at each confidence; on the dotted line probabilities mean what they "
        "say. Larger dots hold more photos.",
        synthetic=material.synthetic,
    )


def _occlusion(material: Material) -> Figure:
    """Draw photos with the patches that speak for the class that they get."""
    from appliedpapers.plugins.agrosense.soil_image.occlusion import occlusion

    model = cast("SoilClassifier", material.model)
    assert model.reader is not None
    split = cast("PhotoSplit", material.dataset.resamples()[0].test)
    soil = split.photos.soil()
    rows = _one_of_each(soil.labels)[:_SHOWN]
    canvas, axes = start(height=3.4, rows=2, columns=len(rows), squeeze=False)
    named = []
    for place, (row, view) in enumerate(zip(rows, soil.take(rows).views(), strict=True)):
        falls, best = occlusion(model.reader, view, model.config.answer.patches)
        top = max(float(np.abs(falls).max()), 1e-9)
        axes[0, place].imshow(view)
        axes[1, place].imshow(view.mean(axis=2), cmap="gray", vmin=0, vmax=255)
        axes[1, place].imshow(
            falls, cmap="PuOr_r", vmin=-top, vmax=top, alpha=0.55, extent=(-0.5, 191.5, 191.5, -0.5)
        )
        axes[0, place].set_title(soil.classes[soil.labels[row]], fontsize=8.5)
        axes[1, place].set_title(f"called {soil.classes[best]}", fontsize=8.5)
        named.append(f"{soil.classes[soil.labels[row]]} called {soil.classes[best]}")
    for one in axes.ravel():
        one.set_axis_off()
    return finish(
        canvas,
        name="occlusion",
        title="What part of a photo speaks for its class",
        caption="Below: how far the logit of the class that is given falls when a patch is covered with the "
        "photo's mean colour. Dark purple speaks for the class, orange against it.",
        alt=f"Photos: {', '.join(named)}.",
        synthetic=material.synthetic,
    )


def _one_of_each(labels: NDArray[np.int64]) -> Sequence[int]:
    return [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
