"""How pansharpening is judged: beside a truth, at full resolution, and beside the classical methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.counted import divided
from appliedpapers.core.data import Dataset, Split
from appliedpapers.core.evaluation import Baseline, Evaluation, Material
from appliedpapers.core.metrics import register_metric
from appliedpapers.core.model import Model
from appliedpapers.core.scores import Counted, Counts, MetricScores, Scored, Slices
from appliedpapers.plugins.pansharpening.block_scores import BANDED, METRICS, RANGES
from appliedpapers.plugins.pansharpening.config import (
    CLASSICAL,
    PansharpeningConfig,
)

if TYPE_CHECKING:
    from typing import Protocol

    from appliedpapers.core.figures import Figure
    from appliedpapers.plugins.pansharpening.block_scores import Reduced
    from appliedpapers.plugins.pansharpening.judging import Judged
    from appliedpapers.plugins.pansharpening.scene import Scene

    class Sharpener(Protocol):
        """A model that sharpens scenes."""

        config: PansharpeningConfig

        def sharpen(self, scene: Scene) -> NDArray[np.float32]:
            """Return the product in physical units, shape ``(B, H, W)``."""


Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Bands = Flags | None

register_metric(
    "lr_ergas",
    unit="",
    higher_is_better=False,
    description="ergas of the product as the sensor would see it beside what it saw",
)

_WORST_BANDS = 3
_SEVERAL_SCENES = 5


class OverScenes(Counted):
    """A metric of each scene as a function of how often its blocks are drawn, averaged over scenes.

    A scene counts as often as its blocks were drawn on average.

    Args:
        scenes: Their sums over blocks.
        metric: Its name.
        bands: Which living bands of each scene are judged; None for all.
        chosen: Which blocks of all scenes are judged, shape ``(units,)``.
    """

    def __init__(
        self, scenes: Sequence[Reduced], metric: str, bands: Sequence[Bands], chosen: Flags | None = None
    ) -> None:
        self._scenes, self._metric, self._bands = scenes, metric, bands
        ends = np.cumsum([scene.blocks for scene in scenes]).tolist()
        self._spans = list(zip([0, *ends[:-1]], ends, strict=True))
        self._chosen = None if chosen is None else chosen.astype(np.float64)
        self._measures = [scene.measure(metric, used) for scene, used in zip(scenes, bands, strict=True)]
        self._whole = [scene.value(metric, used) for scene, used in zip(scenes, bands, strict=True)]

    def of_draws(self, counts: Counts) -> Floats:
        """Return the metric when each block is drawn so often."""
        drawn = counts.astype(np.float64) if self._chosen is None else counts * self._chosen
        total, share = np.zeros(len(counts)), np.zeros(len(counts))
        with np.errstate(divide="ignore", invalid="ignore"):
            for number, (begin, end) in enumerate(self._spans):
                weights = drawn[:, begin:end]
                amounts = weights.sum(axis=1) / (end - begin)
                # scenes are drawn as a whole where there are several
                whole = weights.max(axis=1) == amounts
                for row in np.flatnonzero(amounts):
                    value = self._whole[number] if whole[row] else self._measures[number](weights[row])
                    if math.isfinite(value):
                        total[row] += amounts[row] * value
                        share[row] += amounts[row]
        return divided(total, share)

    def restrict(self, chosen: Flags) -> OverScenes:
        """Return the same over some of the blocks."""
        both = chosen if self._chosen is None else chosen & (self._chosen > 0)
        return OverScenes(self._scenes, self._metric, self._bands, both)


class PansharpeningEvaluation(Evaluation):
    """ERGAS, SAM and Q2n beside a truth; D_lambda, D_sR, QNR and D_rho without one; a unit is a block."""

    # no printed figures: the papers' scenes may not be redistributed, and no table of theirs was checked
    primary = "ergas"
    baseline_names = CLASSICAL

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return the classical methods of the configuration, back-projected, too, where ours is."""
        from appliedpapers.plugins.pansharpening.baselines import baselines

        return baselines(cast("PansharpeningConfig", config))

    def predict(self, model: Model, split: Split) -> list[Judged]:
        """Sharpen and judge each scene; cubes are let go one by one.

        Raises:
            DataError: A scene is too small, or nothing in it was observed.
        """
        from appliedpapers.plugins.pansharpening.judging import judge_all

        sharpener = cast("Sharpener", model)
        return judge_all(split, sharpener.sharpen, sharpener.config.evaluation)

    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score the scenes; a unit is a block of 32 x 32 pixels.

        From five scenes on they are resampled as a whole, so that intervals speak of other scenes. Of fewer,
        blocks are resampled: intervals then speak of other parts of these scenes.
        """
        judged = cast("list[Judged]", prediction)
        scenes = [one.reduced for one in judged]
        sizes = [scene.blocks for scene in scenes]
        metrics = _metrics(scenes, METRICS, [None] * len(scenes))
        metrics |= _at_full_resolution(judged, sizes)
        return Scored(
            metrics=metrics,
            clusters=np.repeat(np.arange(len(scenes)), sizes) if len(scenes) >= _SEVERAL_SCENES else None,
            slices=(*_by_range(scenes), *_by_scene(judged)),
        )

    def figures(self, material: Material) -> Sequence[Figure]:
        """Draw the scene beside its truth, maps of the error, the quality of each band, and six spectra."""
        from appliedpapers.plugins.pansharpening.figures import draw

        return draw(material)

    def failures(self, material: Material) -> Sequence[str]:
        """Name the bands and the block that came out worst."""
        judged = cast("list[Judged]", material.predictions[material.model_name])
        return [*_worst_bands(judged), *_worst_block(judged)]


def _metrics(
    scenes: Sequence[Reduced], names: Sequence[str], bands: Sequence[Bands]
) -> dict[str, MetricScores]:
    units = sum(scene.blocks for scene in scenes)
    return {name: MetricScores.counted(OverScenes(scenes, name, bands), units) for name in names}


def _at_full_resolution(judged: Sequence[Judged], sizes: Sequence[int]) -> dict[str, MetricScores]:
    """Return the mean over scenes of what is known of whole scenes only."""
    if any(one.full is None for one in judged):
        return {}
    share = np.repeat(1 / np.asarray(sizes, dtype=np.float64), sizes)
    found = {}
    tables = [one.full.values() for one in judged if one.full is not None]
    for name in tables[0]:
        values = np.repeat([table[name] for table in tables], sizes)
        known = np.isfinite(values)
        if known.any():
            found[name] = MetricScores.mean(values, np.where(known, share, 0.0))
    return found


def _by_range(scenes: Sequence[Reduced]) -> Slices:
    found = []
    for name, (low, high) in RANGES.items():
        bands = [scene.within(low, high) for scene in scenes]
        if all(chosen is not None for chosen in bands):
            found.append(({"range": name}, _metrics(scenes, BANDED, bands)))
    return tuple(found)


def _by_scene(judged: Sequence[Judged]) -> Slices:
    if len(judged) == 1:
        return ()
    return tuple(
        (
            {"scene": one.scene_id},
            _metrics([one.reduced], METRICS, [None]) | _at_full_resolution([one], [one.reduced.blocks]),
        )
        for one in judged
    )


def _worst_bands(judged: Sequence[Judged]) -> list[str]:
    """Say which bands of which scene have the largest error for their mean."""
    found = []
    for one in judged:
        errors = one.reduced.band_rmse()
        middle = float(np.nanmedian(errors))
        for band in np.flatnonzero(np.isfinite(errors)):
            found.append((float(errors[band]), middle, one, int(band)))
    found.sort(key=lambda entry: -entry[0])
    return [
        f"{one.scene_id}, band {band + 1}{_at(one.reduced, band)}: RMSE {100 * error:.3g} % of its mean, "
        f"{error / middle:.1f} times the median band"
        for error, middle, one, band in found[:_WORST_BANDS]
        if middle > 0
    ]


def _worst_block(judged: Sequence[Judged]) -> list[str]:
    """Say where in which scene the spectra are bent most."""
    found = []
    for one in judged:
        sums = one.reduced
        turned = np.divide(
            sums.angles, sums.angle_counts, out=np.zeros(sums.blocks), where=sums.angle_counts > 0
        )
        place = int(turned.argmax())
        found.append((float(turned[place]), sums.value("sam"), one.scene_id, sums.places[place]))
    angle, usual, scene_id, (row, column) = max(found, key=lambda entry: entry[0])
    return [
        f"{scene_id}, block {row + 1} from the top and {column + 1} from the left: spectra are off by "
        f"{angle:.3g}° on average, {usual:.3g}° in the whole scene"
    ]


def _at(reduced: Reduced, band: int) -> str:
    return "" if reduced.wavelengths is None else f" at {reduced.wavelengths[band]:,.0f} nm"


EVALUATION = PansharpeningEvaluation()
