"""A trained reader of soil photos: what it looks at, a classifier, a temperature, and what is new to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.temperature import fit_temperature, softmax
from appliedpapers.plugins.agrosense.soil_image.answers import Reading
from appliedpapers.plugins.agrosense.soil_image.colour_trees import ColourTrees
from appliedpapers.plugins.agrosense.soil_image.eyes import COLOUR, Eye, open_eye, require_same_eye
from appliedpapers.plugins.agrosense.soil_image.linear import Linear, grouped_parts
from appliedpapers.plugins.agrosense.soil_image.novelty import Novelty
from appliedpapers.plugins.agrosense.soil_image.photos import MEMORY, Photos
from appliedpapers.plugins.agrosense.soil_image.views import Pixels, Source

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

DEFAULT_EYE = "efficientnet-lite0-texture"
PENALTIES = (0.003, 0.01, 0.03)
"""What C is chosen from; the paper of no one: the published reference has 0.003."""

_PARTS = 5
_LINEAR, _TREES, _NOVELTY = "soil-linear.safetensors", "soil-trees.txt", "soil-novelty.safetensors"


class Answering(Protocol):
    """Whatever answers for views of photos: a reader of features, or a trained network."""

    classes: tuple[str, ...]

    def logits(self, views: Sequence[Pixels]) -> Floats:
        """Return ``(n, classes)`` before the temperature; a row's is the same alone and in company."""

    def read(self, photos: Photos) -> Reading:
        """Return what is read of photos that were seen before or not; features are kept."""

    def read_views(self, views: Sequence[Pixels]) -> Reading:
        """Return what is read of views; nothing is kept."""

    def write(self, folder: Path) -> dict[str, Any]:
        """Write parts into ``folder`` and return the JSON state beside them."""


class Classifier(Protocol):
    """Features in, logits out."""

    def logits(self, features: Floats) -> Floats:
        """Return ``(n, classes)`` of ``(n, features)``; a row's is the same alone and in company."""

    def write(self, path: Path) -> None:
        """Write to a file."""


@dataclass
class SoilReader:
    """Reads the soil class of photos.

    Attributes:
        classes: Names in the order of probabilities.
        eye: What it looks at.
        classifier: Logistic regression, or trees on colour.
        temperature: Logits are divided by it.
        novelty: What photos that were learned from look like.
        penalty: C of the logistic regression; None for trees.
        held_out: Mean logloss of photos in parts that were left out in turn, calibrated.
    """

    classes: tuple[str, ...]
    eye: Eye
    classifier: Classifier
    temperature: float
    novelty: Novelty
    penalty: float | None
    held_out: float

    def probabilities(self, images: Sequence[Source]) -> Floats:
        """Return calibrated probabilities of images, float64 ``(n, classes)``.

        Raises:
            DataError: An image cannot be read.
        """
        from appliedpapers.plugins.agrosense.soil_image.views import views_of

        names = [str(one) if not isinstance(one, bytes) else f"image {n}" for n, one in enumerate(images, 1)]
        return self.chances(self.eye.look(views_of(images, names)))

    def chances(self, features: Floats) -> Floats:
        """Return calibrated probabilities ``(n, classes)`` of what the eye saw."""
        return softmax(self.classifier.logits(features), self.temperature)

    def logits(self, views: Sequence[Pixels]) -> Floats:
        """Return ``(n, classes)`` of views, before the temperature."""
        return self.classifier.logits(self.eye.look(views))

    def read(self, photos: Photos) -> Reading:
        """Return what is read of photos; what the eye saw is kept for the next who asks.

        Raises:
            DataError: A photo cannot be read.
        """
        return self._reading(MEMORY.features(photos, self.eye))

    def read_views(self, views: Sequence[Pixels]) -> Reading:
        """Return what is read of views."""
        # as the features are kept elsewhere: a photo gets the same answer either way
        seen = self.eye.look(views).astype(np.float32).astype(np.float64)
        return self._reading(seen)

    def _reading(self, features: Floats) -> Reading:
        if not len(features):
            return Reading(np.empty((0, len(self.classes))), (), np.empty(0))
        return Reading(
            self.chances(features), self.novelty.reasons(features), self.novelty.distances(features)
        )

    def write(self, folder: Path) -> dict[str, Any]:
        """Write parts into ``folder`` and return the JSON state beside them."""
        trees = isinstance(self.classifier, ColourTrees)
        self.classifier.write(folder / (_TREES if trees else _LINEAR))
        self.novelty.write(folder / _NOVELTY)
        return {
            "classes": list(self.classes),
            "eye": self.eye.name,
            "eye_identity": self.eye.identity(),
            "classifier": "trees" if trees else "linear",
            "temperature": self.temperature,
            "penalty": self.penalty,
            "held_out": self.held_out,
        }


def read(
    state: Mapping[str, Any], folder: Path, device: str = "cpu", weights: Path | None = None
) -> SoilReader:
    """Read what :meth:`SoilReader.write` wrote.

    Args:
        state: The JSON state.
        folder: Where the parts are.
        device: A resolved device.
        weights: The encoder's file of weights, where it is none that comes with a package.

    Raises:
        DataError: The encoder's weights are not those that were learned with.
        PluginError: The encoder's package is not installed.
    """
    eye = open_eye(state["eye"], weights=weights, device=device)
    require_same_eye(state["eye_identity"], eye)
    trees = state["classifier"] == "trees"
    classifier: Classifier = ColourTrees.read(folder / _TREES) if trees else Linear.read(folder / _LINEAR)
    return SoilReader(
        classes=tuple(state["classes"]),
        eye=eye,
        classifier=classifier,
        temperature=state["temperature"],
        novelty=Novelty.read(folder / _NOVELTY),
        penalty=state["penalty"],
        held_out=state["held_out"],
    )


def reader_of_bundle(path: Path) -> SoilReader:
    """Return the reader of a trained bundle of the task ``soil-image``.

    Raises:
        DataError: The bundle is of another task, or its classifier is a trained network.
    """
    from appliedpapers.core.bundle import load_bundle

    model: Any = load_bundle(path)
    reader = getattr(model, "reader", None)
    if not isinstance(reader, SoilReader):
        raise DataError(
            f"{path}: there is no reader of soil photos in this bundle.",
            hint="Give a bundle of apps run agrosense --task soil-image, with model.method=features.",
        )
    return reader


def fit_reader(
    photos: Photos,
    eye: Eye,
    *,
    seed: int,
    trees: bool = False,
    penalties: Sequence[float] = PENALTIES,
) -> SoilReader:
    """Fit a reader: its penalty and its temperature by groups that are left out in turn, itself on all.

    Args:
        photos: Soil of known classes, two of them at least.
        eye: What is looked at.
        seed: Deals groups to parts and grows trees.
        trees: Boosted trees on colour rather than logistic regression.
        penalties: What C is chosen from, by logloss after calibration.

    Raises:
        DataError: There are no two classes, or a photo cannot be read.
    """
    require_classes(photos)
    features = MEMORY.features(photos, eye)
    labels, classes = photos.labels, len(photos.classes)
    parts = grouped_parts(photos.groups, labels, _PARTS, seed)

    tries: tuple[float, ...] = (float("nan"),) if trees else tuple(sorted(penalties))

    def fitted(rows: Labels, some: Sequence[float]) -> Sequence[Classifier]:
        if trees:
            return [ColourTrees.fit(features[rows], labels[rows], classes, seed)]
        return Linear.fits(features[rows], labels[rows], classes, some)

    logits = np.zeros((len(tries), len(photos), classes))
    for part in range(_PARTS):
        inside, outside = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        if not len(outside) or len(np.unique(labels[inside])) < 2:
            continue
        for place, one in enumerate(fitted(inside, tries)):
            logits[place, outside] = one.logits(features[outside])
    loss, penalty, temperature = min(
        _calibrated(own, labels, penalty) for own, penalty in zip(logits, tries, strict=True)
    )
    classifier = fitted(np.arange(len(photos)), [penalty])[0]
    return SoilReader(
        classes=photos.classes,
        eye=eye,
        classifier=classifier,
        temperature=temperature,
        novelty=Novelty.fit(features, photos.groups),
        penalty=None if trees else penalty,
        held_out=loss,
    )


def _calibrated(logits: Floats, labels: Labels, penalty: float) -> tuple[float, float, float]:
    temperature = fit_temperature(logits, labels)
    chances = softmax(logits, temperature)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chances, 1e-12)).mean()), penalty, temperature


def require_classes(photos: Photos) -> None:
    """Refuse photos of fewer than two classes.

    Raises:
        DataError: There is one class, or none.
    """
    present = np.unique(photos.labels[photos.labels >= 0])
    if len(present) < 2:
        what = f"all show '{photos.classes[int(present[0])]}'" if len(present) else "none has a class"
        raise DataError(
            f"{len(photos)} photos to learn from, and {what}.",
            hint="Expected photos of two soil classes at least: a folder for each, or a column 'label'.",
        )


@dataclass(frozen=True)
class Teacher:
    """Fits readers for other tasks.

    Attributes:
        eye: What is looked at; ``auto`` is the default network where its package is installed, else colour.
    """

    eye: str = "auto"

    def fit(
        self, images: Sequence[Source], labels: Sequence[str], groups: Sequence[str], seed: int
    ) -> SoilReader:
        """Fit a reader on images and the names of their soils; groups are left out whole.

        Raises:
            DataError: There are no two classes, or an image cannot be read.
        """
        from appliedpapers.plugins.agrosense.soils import SOILS

        known = SOILS if set(labels) <= set(SOILS) else tuple(sorted(set(labels)))
        numbers = {name: number for number, name in enumerate(known)}
        photos = Photos(
            tuple(images),
            tuple(f"image {number}" for number in range(1, len(images) + 1)),
            np.array([numbers[label] for label in labels], dtype=np.int64),
            known,
            (None,) * len(images),
            np.unique(list(groups), return_inverse=True)[1].astype(np.int64),
        )
        return fit_reader(photos, open_eye(eye_named(self.eye)), seed=seed)


TEACHER = Teacher()


def eye_named(name: str) -> str:
    """Return the eye that ``auto`` means here, and others as they are.

    Raises:
        ConfigError: There is no such eye.
    """
    if name != "auto":
        if name not in (COLOUR, DEFAULT_EYE, "efficientnet-lite0") and not name.startswith("timm:"):
            raise ConfigError(
                f"unknown features '{name}'.",
                hint=f"Choose auto, {COLOUR}, {DEFAULT_EYE}, efficientnet-lite0 or timm:NAME.",
            )
        return name
    from appliedpapers.core.vision import lite0

    return DEFAULT_EYE if lite0.is_installed() else COLOUR
