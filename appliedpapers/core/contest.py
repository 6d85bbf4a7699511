"""Our model and those that it is held against, on the same test rows: what a run and the checks both do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from appliedpapers.core.evaluation import Baseline, Evaluation, Scored
from appliedpapers.core.results import Contender

if TYPE_CHECKING:
    from appliedpapers.core.data import Dataset
    from appliedpapers.core.model import Model


class Contest(NamedTuple):
    """What every model said of the test rows, and how good that was; in the order of the table."""

    predictions: dict[str, Any]
    scored: dict[str, Scored]
    contenders: list[Contender]


def contend(
    evaluation: Evaluation,
    dataset: Dataset,
    name: str,
    model: Model,
    baselines: Sequence[Baseline],
    *,
    seed: int,
) -> Contest:
    """Predict and score the test rows by our model, by its parts and by fitted baselines.

    Args:
        evaluation: How the task is judged.
        dataset: Its test split is opened.
        name: Name of our model in the table.
        model: The fitted model that was selected.
        baselines: Fitted ones.
        seed: Seed that our model was fitted with.
    """
    test = dataset.test
    parts = evaluation.parts(model, dataset)
    predictions = {name: evaluation.predict(model, test), **parts}
    predictions |= {baseline.name: baseline.predict(test) for baseline in baselines}
    scored = {key: evaluation.score(value, test, dataset) for key, value in predictions.items()}
    contenders = [Contender(name, "ours", scored[name], selected=True, seed=seed)]
    contenders += [Contender(part, "ours", scored[part]) for part in parts]
    contenders += [
        Contender(item.name, item.kind, scored[item.name], attainable=item.attainable) for item in baselines
    ]
    return Contest(predictions, scored, contenders)
