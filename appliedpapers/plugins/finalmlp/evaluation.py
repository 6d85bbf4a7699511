"""How click probabilities are judged: ranked, weighed and calibrated, beside trees and simple models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.data import Dataset, Split
from appliedpapers.core.evaluation import Baseline, Evaluation, Material
from appliedpapers.core.model import Model
from appliedpapers.core.scores import MetricScores, Scored
from appliedpapers.plugins.finalmlp.config import BASELINES, FinalMlpConfig
from appliedpapers.plugins.finalmlp.published import PUBLISHED_FIGURES

if TYPE_CHECKING:
    from appliedpapers.core.figures import Figure
    from appliedpapers.plugins.finalmlp.model import FinalMlpModel
    from appliedpapers.plugins.finalmlp.scoring import ClickPrediction
    from appliedpapers.plugins.finalmlp.splits import ClickSplit

_WORST_SHOWN = 3
_FEWEST_ROWS = 200
_SURE = 4.0  # standard errors: some of thousands of values are always two or three away
_MOST_COLUMNS = 40


class ClickEvaluation(Evaluation):
    """AUC first; logloss, Brier score and calibration before and after calibrating."""

    primary = "auc"
    published_figures = PUBLISHED_FIGURES
    baseline_names = BASELINES
    answer = "probability"

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return the baselines that the configuration names, rows without a column, and the oracle."""
        from appliedpapers.plugins.finalmlp.baselines import baselines

        return baselines(cast("FinalMlpConfig", config), dataset)

    def predict(self, model: Model, split: Split) -> ClickPrediction:
        """Predict for every row of a part, read in batches."""
        return cast("FinalMlpModel", model).predict_split(cast("ClickSplit", split))

    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score predictions; a unit is a row."""
        from appliedpapers.plugins.finalmlp.scoring import score_clicks

        if split is dataset.test:
            # all fits are done by now, and what they shared is large
            cast("ClickSplit", dataset.train).prepared.clear()
        return score_clicks(prediction, cast("ClickSplit", split))

    def figures(self, material: Material) -> Sequence[Figure]:
        """Draw calibration, what inputs are worth, drift over time and the cost of a cascade."""
        from appliedpapers.plugins.finalmlp.figures import draw

        return draw(material)

    def failures(self, material: Material) -> Sequence[str]:
        """Name the parts of the test rows that are ranked or calibrated worst."""
        split = cast("ClickSplit", material.dataset.test)
        prediction = cast("ClickPrediction", material.predictions[material.model_name])
        scored = material.scored[material.model_name]
        return [
            *_suspected(material.dataset),
            *_cold(scored),
            *_days(scored, prediction, split),
            *_misjudged(prediction, split),
        ]


def _suspected(dataset: Dataset) -> Iterator[str]:
    for name in getattr(dataset, "suspects", ()):
        yield f"the column {name} may give the label away: compare the rows without {name}"


def _cold(scored: Scored) -> Iterator[str]:
    from appliedpapers.plugins.finalmlp.scoring import ALL_SEEN, SOME_UNSEEN

    parts = {labels["ids"]: metrics for labels, metrics in scored.slices if "ids" in labels}
    if len(parts) < 2:
        return
    new, known = parts[SOME_UNSEEN], parts[ALL_SEEN]
    count = new["auc"].count
    yield (
        f"{count:,} rows ({100 * (count / scored.size):.1f} %) with a value that training never saw: AUC "
        f"{new['auc'].value:.4f} against {known['auc'].value:.4f} on the others, logloss "
        f"{new['logloss'].value:.4f} against {known['logloss'].value:.4f}, calibration error "
        f"{new['ece'].value:.4f} against {known['ece'].value:.4f}"
    )


def _days(scored: Scored, prediction: ClickPrediction, split: ClickSplit) -> Iterator[str]:
    days = {labels["day"]: metrics for labels, metrics in scored.slices if "day" in labels}
    if not days:
        return
    worst = min(days, key=lambda day: days[day]["auc"].value)
    chosen = _rows_of(days[worst]["auc"])
    said, clicks = prediction.probability[chosen].mean(), split.labels[chosen].mean()
    yield (
        f"the day {worst}: AUC {days[worst]['auc'].value:.4f} against {scored.metrics['auc'].value:.4f} on "
        f"all, mean prediction {said:.4f} where {clicks:.4f} clicked"
    )


def _rows_of(scores: MetricScores) -> np.ndarray[Any, np.dtype[np.bool_]]:
    assert scores.weights is not None
    return np.asarray(scores.weights > 0)


def _misjudged(prediction: ClickPrediction, split: ClickSplit) -> Iterator[str]:
    """Name the values whose mean prediction is further from their click rate than chance explains."""
    import pyarrow.compute as pc

    chance, label = prediction.probability, split.labels
    named = [name for name in split.inputs() if split.fields[name].role == "categorical"]
    found: dict[tuple[int, float], tuple[float, str]] = {}
    for name in named[:_MOST_COLUMNS]:
        column = split.column(name).combine_chunks()
        encoded = pc.dictionary_encode(column, null_encoding="encode")
        codes = encoded.indices.to_numpy()
        rows = np.bincount(codes)
        gap = np.bincount(codes, chance - label)
        error = np.sqrt(np.bincount(codes, chance * (1 - chance)))
        surprise = np.where(rows >= _FEWEST_ROWS, np.abs(gap) / np.maximum(error, 1e-12), 0.0)
        worst = int(surprise.argmax())
        if surprise[worst] < _SURE:
            continue
        value = encoded.dictionary[worst].as_py()
        shown = "missing" if value is None else str(value)[:40]
        said, clicks = (np.bincount(codes, one)[worst] / rows[worst] for one in (chance, label))
        text = f"{name} {shown} ({rows[worst]:,} rows): mean prediction {said:.4f} where {clicks:.4f} clicked"
        # a brand of one item is the same rows again
        found.setdefault((int(rows[worst]), float(gap[worst])), (float(surprise[worst]), text))
    for _, text in sorted(found.values(), reverse=True)[:_WORST_SHOWN]:
        yield text


EVALUATION = ClickEvaluation()
