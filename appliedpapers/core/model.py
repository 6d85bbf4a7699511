"""The model contract: what a plugin's model can do, and what it is given while it is fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from appliedpapers.core.progress import Progress, SilentProgress

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.config import TaskConfig
    from appliedpapers.core.data import Split
    from appliedpapers.core.schema import OutputSchema, TableSchema


class MetricSink(Protocol):
    """Receives the metrics of one finished epoch (or boosting round)."""

    def __call__(self, metrics: Mapping[str, float], step: int, /) -> None:
        """Record ``metrics`` at ``step``."""


def _ignore_metrics(metrics: Mapping[str, float], step: int, /) -> None:
    """Drop the metrics: the default where nobody tracks them."""


@dataclass(frozen=True)
class FitContext:
    """What a run lends to :meth:`Model.fit`.

    Attributes:
        folder: Scratch that survives an interruption; checkpoints live here.
        seed: The one seed of the run.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; already resolved, never ``"auto"``.
        precision: ``"32"``, ``"bf16"`` or ``"16"``.
        devices: Number of processes that train together.
        resume: Continue from the checkpoint in ``folder`` if there is one.
        progress: Where progress is shown.
        log_metrics: Receives metrics once an epoch; keys of a step of training begin with its name and ``/``.
    """

    folder: Path
    seed: int = 0
    device: str = "cpu"
    precision: str = "32"
    devices: int = 1
    resume: bool = False
    progress: Progress = field(default_factory=SilentProgress)
    log_metrics: MetricSink = _ignore_metrics


@dataclass(frozen=True)
class GroupProblem:
    """A group (by the schema's ``group_by``) that keeps the schema but cannot be predicted.

    Attributes:
        key: Values of the ``group_by`` columns; the row number (from 0) where there are none.
        rule: What is wrong and what was expected, in one line.
        row: The row that is to blame, from 1 within the table; None names the first of the group.
        column: The column that is to blame; None names those of ``group_by``.
    """

    key: tuple[Any, ...]
    rule: str
    row: int | None = None
    column: str | None = None


class Stream(ABC):
    """A model over one ordered group, record by record; equals ``predict`` on the whole group."""

    @abstractmethod
    def step(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take one input record, return the output records that it completes (possibly none).

        Args:
            record: A validated row as :func:`appliedpapers.core.json_rows.records` gives it: times are
                ``datetime``, missing values None.
        """

    @abstractmethod
    def state(self) -> bytes:
        """Return everything needed to continue elsewhere; JSON or safetensors, never pickle."""


class Model(ABC):
    """One task's model: a classical learner or a network with everything around it.

    ``predict`` is stateless, thread-safe and deterministic. A result depends on its own row (or group),
    the bundle and the seed, never on how rows were batched.

    Class attributes:
        cost: ``"instant"`` answers within a request; ``"job"`` takes seconds to hours an item.
        needs_files: Whether :meth:`predict` cannot do without a folder for files.
        reads: Sections of the configuration that say how inputs are read, so that whoever predicts may
            set them otherwise than whoever trained.

    Attributes:
        progress: Where a ``"job"`` reports its steps; whoever asks for a prediction may set it.
    """

    cost: ClassVar[Literal["instant", "job"]] = "instant"
    needs_files: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()
    progress: Progress = SilentProgress()

    def __init__(self, config: TaskConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def input_schema(self) -> TableSchema:
        """The contract of the table that :meth:`predict` takes."""

    @property
    @abstractmethod
    def output_schema(self) -> OutputSchema:
        """The contract of the table that :meth:`predict` returns."""

    @abstractmethod
    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Fit on ``train``, choose on ``valid``, return self.

        Args:
            train: The rows to learn from.
            valid: The rows that epochs, thresholds and calibration are chosen on.
            run: Seed, device, scratch folder, progress and metric sink.
            init: An earlier model of the same task to start from.

        Raises:
            RunError: Training diverged; the message names the step.
            DataError: The data cannot support the configuration.
        """

    @abstractmethod
    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Predict for ``table``, which has already been validated against :attr:`input_schema`.

        Args:
            table: Input rows.
            files: Folder for what does not fit into a table. Every file below it is delivered, apart from
                those of which a part of the path begins with a dot: they are scratch, which survives an
                interrupted try. Columns with :attr:`Column.file` name files by their path relative to it.
                Each call has a folder of its own, and meets it again only where the same table is tried
                again after an interruption.

        Returns:
            Rows by :attr:`output_schema`, keys carried over, order kept.

        Raises:
            UnusableGroups: Groups cannot be predicted, such as a series shorter than the lookback. All are
                named before any work is done: they are refused in a request and quarantined in a batch,
                and whoever takes the others asks again for those alone.
        """

    def review(self, table: pa.Table, *, files: Path) -> Sequence[GroupProblem]:
        """Name the groups that :meth:`predict` would refuse, as far as a short look tells.

        A server asks before it accepts a job, so that a client learns at once what would fail hours later.

        Args:
            table: Input rows that keep the schema.
            files: The folder that :meth:`predict` will be given; scratch may be left in it.
        """
        return ()

    def advice(self, table: pa.Table, prediction: pa.Table) -> str:
        """Return predictions of a few rows in words, for a person at a terminal; by default cell by cell.

        Args:
            table: The input rows, checked.
            prediction: What :meth:`predict` returned for them.
        """
        from appliedpapers.core.json_rows import records

        lines = []
        for record in records(prediction):
            width = max(len(name) for name in record)
            lines += [f" {name:<{width}}  {_shown(value)}" for name, value in record.items()]
        return "\n".join(lines)

    def read_as(self, config: TaskConfig) -> None:
        """Take over the sections :attr:`reads` of another configuration of the same class."""
        self.config = self.config.model_copy(update={name: getattr(config, name) for name in self.reads})

    @property
    def streams(self) -> bool:
        """Whether :meth:`stream` gives one; a class that does so in some settings alone overrides this."""
        return type(self).stream is not Model.stream

    def stream(self, state: bytes | None = None) -> Stream:
        """Start (or continue from ``state``) a stream; models without one raise.

        Raises:
            ConfigError: This model does not stream.
        """
        from appliedpapers.core.errors import ConfigError

        raise ConfigError(
            f"{type(self).__name__} does not stream.", hint="Use apps predict or apps score run instead."
        )

    @abstractmethod
    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write weights and other parts into ``folder`` and return the small JSON state beside them.

        Networks go to ``*.safetensors``, boosted trees to their native text, tables to Parquet; no pickle.
        """

    @classmethod
    @abstractmethod
    def read_parts(cls, config: TaskConfig, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the model that :meth:`write_parts` wrote; the files' checksums were verified before."""

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield ``(name, value)`` facts for the report and the model card, such as a parameter count."""
        return ()


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
