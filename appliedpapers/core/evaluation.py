"""The evaluation contract: what a plugin says about scores, baselines, published figures and drawings.

Scores are kept per unit (:mod:`appliedpapers.core.scores`, whose names stand here, too), and
:mod:`appliedpapers.core.results` writes what follows from them into the one results document.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from appliedpapers.core.figures import OURS, STRONGEST
from appliedpapers.core.metrics import Metric
from appliedpapers.core.scores import Counted, MetricScores, Scored, Slices
from appliedpapers.core.verdict import strongest_baseline

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.config import TaskConfig
    from appliedpapers.core.data import Dataset, Split
    from appliedpapers.core.figures import Figure
    from appliedpapers.core.model import FitContext, Model
    from appliedpapers.core.schema import OutputSchema

__all__ = [
    "Baseline",
    "Counted",
    "Evaluation",
    "Kind",
    "Material",
    "Metric",
    "MetricScores",
    "PairedTest",
    "PublishedFigure",
    "Scored",
    "Slices",
]

Kind = Literal["ours", "paper", "baseline"]
PairedTest = Literal["diebold-mariano", "paired-bootstrap", "corrected-t", "mcnemar"]


class Baseline(ABC):
    """A model that ours must be held against, fitted on the same rows with the same tuning budget.

    Attributes:
        name: As it stands in the results table.
        kind: ``"baseline"`` for classical models, ``"paper"`` for a network of the paper, ``"ours"`` for a
            variant of ours that is shown but not chosen from.
        attainable: False for a bound that nobody can reach without knowing the truth (an oracle): it is
            shown, but ours is neither tested against it nor called worse than it.
    """

    name: str
    kind: Kind = "baseline"
    attainable: bool = True

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit on ``train``, choose penalties and the like on ``valid``, return self; by default nothing."""
        return self

    @abstractmethod
    def predict(self, split: Split) -> Any:
        """Return predictions in the form that :meth:`Evaluation.score` takes."""

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield ``(name, value)`` facts for the report, such as the chosen penalty."""
        return ()


@dataclass(frozen=True)
class PublishedFigure:
    """A figure that somebody printed.

    Attributes:
        model: Name of the method as its source gives it.
        metric: Name in the registry.
        value: In the registry's unit.
        dataset: Id of the dataset.
        protocol: Name of the split and scaling rules; must equal the dataset's to stand in our table.
        setting: What else must be equal, by dotted configuration path: ``{"model.horizon": 96}``.
        source: Where it is printed.
        verified: True when we checked it at the source or by a run.
    """

    model: str
    metric: str
    value: float
    dataset: str
    protocol: str
    setting: Mapping[str, Any]
    source: str
    verified: bool


@dataclass
class Material:
    """What a report is made from.

    Attributes:
        dataset: The data of the run.
        model: The fitted model that was selected.
        model_name: Its name in the results table.
        predictions: On the test split, by model name; lists in the order of :meth:`Dataset.resamples` where
            the dataset has folds.
        scored: By model name.
        results: The results document.
        histories: Metrics of each epoch, by model name.
        config: The configuration of ``model``.
    """

    dataset: Dataset
    model: Model
    model_name: str
    predictions: dict[str, Any]
    scored: dict[str, Scored]
    results: dict[str, Any]
    histories: dict[str, list[dict[str, float]]]
    config: TaskConfig

    @property
    def synthetic(self) -> bool:
        """Whether the data are synthetic, which every figure says."""
        return self.dataset.provenance.synthetic

    @property
    def rival(self) -> str | None:
        """Name of the strongest baseline, beside which ours is drawn; None without one."""
        test = strongest_baseline(self.results)
        return None if test is None else str(test["b"])

    def compared(self) -> list[tuple[Any, str, str]]:
        """Return prediction, name and colour of the strongest baseline, and of ours to be drawn over it."""
        shown = [(self.rival, STRONGEST), (self.model_name, OURS)]
        return [(self.predictions[name], name, color) for name, color in shown if name is not None]


class Evaluation(ABC):
    """How one task is judged; ``EVALUATION`` in a plugin's ``evaluation.py`` is an instance.

    Class attributes:
        primary: The metric that is compared, gated and selected on; must have a direction.
        paired_test: ``"diebold-mariano"`` for additive losses in time order, ``"mcnemar"`` for an accuracy of
            independent rows, ``"corrected-t"`` for folds of them, else ``"paired-bootstrap"``.
        baseline_names: What ``apps info`` lists.
        published_figures: Every printed figure worth showing, of any dataset.
        answer: The column of a prediction that labels are held against; None where there is but one beside
            the keys, or where rows of predictions are not what is judged.
    """

    primary: ClassVar[str]
    baseline_names: ClassVar[tuple[str, ...]] = ()
    paired_test: ClassVar[PairedTest] = "paired-bootstrap"
    published_figures: ClassVar[Sequence[PublishedFigure]] = ()
    answer: ClassVar[str | None] = None

    def variants(self, config: TaskConfig) -> Mapping[str, TaskConfig]:
        """Return further configurations of our model, by name, to be fitted and chosen among on valid.

        By default those of the option ``candidates``, overrides by name.
        """
        alone = config.model_copy(update={"candidates": {}})
        return {name: alone.replace(**changes) for name, changes in config.candidates.items()}

    @abstractmethod
    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return unfitted baselines, at least one that a child could compute."""

    @abstractmethod
    def predict(self, model: Model, split: Split) -> Any:
        """Return the model's predictions on ``split`` in the form that :meth:`score` takes."""

    def parts(self, model: Model, dataset: Dataset) -> Mapping[str, Any]:
        """Return test predictions of parts of the fitted model alone, by name: an ablation.

        They stand in the table as ``"ours"``, in the form that :meth:`score` takes, and are not chosen from.
        """
        return {}

    @abstractmethod
    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score predictions; units and clusters are the same for every model on the same split."""

    def late(self, rows: pa.Table, answer: str, label: str, schema: OutputSchema) -> Scored:
        """Score predictions of production, joined with labels that arrived later; a unit is a row.

        By default numbers, probabilities (where the schema bounds them by 0 and 1) or classes are judged by
        the general metrics of their kind, and rows of a group are resampled together.

        Args:
            rows: Columns of predictions and the label; neither is null.
            answer: The column of the prediction.
            label: The column of the label.
            schema: Of the predictions.
        """
        from appliedpapers.core.late import late_scores
        from appliedpapers.core.row_hashes import row_hashes

        column = schema.column(answer)
        groups = [name for name in schema.group_by if name in rows.column_names]
        return late_scores(
            rows.column(answer),
            rows.column(label),
            probability=(column.minimum, column.maximum) == (0, 1),
            clusters=row_hashes(rows.select(groups)) if groups else None,
        )

    def primary_for(self, dataset: Dataset) -> str:
        """Return the primary metric under the dataset's protocol, where protocols are judged differently."""
        return self.primary

    def lag(self, config: TaskConfig, dataset: Dataset) -> int:
        """Return how many neighbouring units are correlated (Diebold-Mariano); horizon - 1 for windows."""
        return 0

    def published(self, config: TaskConfig, dataset: Dataset) -> Sequence[PublishedFigure]:
        """Return the printed figures of the dataset; those of another protocol are set apart."""
        return [figure for figure in self.published_figures if figure.dataset == dataset.name]

    def figures(self, material: Material) -> Sequence[Figure]:
        """Return two or three figures that answer the field's question."""
        return ()

    def failures(self, material: Material) -> Sequence[str]:
        """Return the worst cases in words, for the report."""
        return ()
