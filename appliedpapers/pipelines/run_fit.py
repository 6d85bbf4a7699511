"""What a run fits: the configured model, its variants and the baselines, on each triple of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliedpapers.core import device as devices
from appliedpapers.core.config import TaskConfig
from appliedpapers.core.data import Dataset
from appliedpapers.core.evaluation import Baseline, Evaluation
from appliedpapers.core.metrics import metric
from appliedpapers.core.model import FitContext, Model
from appliedpapers.core.pooling import pooled
from appliedpapers.core.progress import Progress


@dataclass(frozen=True)
class Fitter:
    """Fits and chooses.

    Attributes:
        model_class: Of the task.
        evaluation: Likewise.
        name: Name of the configured model.
        config: As it was asked for.
        context: Returns what a run lends to a fit of that name and configuration.
        progress: Where progress is shown.
    """

    model_class: type[Model]
    evaluation: Evaluation
    name: str
    config: TaskConfig
    context: Callable[[str, TaskConfig], FitContext]
    progress: Progress

    def models(self, dataset: Dataset, init: Model | None) -> tuple[str, list[Model], Model]:
        """Fit our model and its variants; the primary metric on valid chooses.

        Returns:
            Name of the chosen one, its fits by triple, and the one that is registered: with several triples
            it is fitted once more, on all that may be learned from.
        """
        candidates = {self.name: self.config, **self.evaluation.variants(self.config)}
        fitted: dict[str, tuple[float, list[Model]]] = {}
        for name, config in candidates.items():
            models = [self.fit(name, config, sample, init) for sample in dataset.resamples()]
            value = self.valid_loss(name, models, dataset) if len(candidates) > 1 else 0.0
            fitted[name] = (value, models)
        name = min(fitted, key=lambda key: fitted[key][0])
        models = fitted[name][1]
        registered = self.fit(name, candidates[name], dataset, init) if dataset.folds else models[0]
        return name, models, registered

    def baselines(self, dataset: Dataset) -> list[list[Baseline]]:
        """Fit the baselines on each triple."""
        by_sample = [list(self.evaluation.baselines(self.config, one)) for one in dataset.resamples()]
        if by_sample[0]:
            self.progress.say(" baselines " + " · ".join(baseline.name for baseline in by_sample[0]))
        for sample, baselines in zip(dataset.resamples(), by_sample, strict=True):
            for baseline in baselines:
                devices.seed_everything(self.config.seed)
                context = self.context(_place(baseline.name, sample), self.config)
                baseline.fit(sample.train, sample.valid, context)
        return by_sample

    def fit(self, name: str, config: TaskConfig, sample: Dataset, init: Model | None = None) -> Model:
        """Fit one configuration on one triple."""
        devices.seed_everything(config.seed)
        context = self.context(_place(name, sample), config)
        model = self.model_class(config).fit(sample.train, sample.valid, context, init=init)
        model.progress = self.progress
        return model

    def valid_loss(self, name: str, models: Sequence[Model], dataset: Dataset) -> float:
        """Return how bad a candidate is on the rows that are chosen on: the primary metric, lower is better.

        Args:
            name: Of the candidate, for the progress.
            models: Its fits, one a triple.
            dataset: With its triples.
        """
        evaluation, primary = self.evaluation, self.evaluation.primary_for(dataset)
        scored = [
            evaluation.score(evaluation.predict(model, sample.valid), sample.valid, sample)
            for model, sample in zip(models, dataset.resamples(), strict=True)
        ]
        value = pooled(scored).metrics[primary].value
        self.progress.say(f" {name}: valid {primary} {value:.4g}")
        return -value if metric(primary).higher_is_better else value


def _place(name: str, sample: Dataset) -> str:
    return f"{name}/{sample.fold}" if sample.fold else name
