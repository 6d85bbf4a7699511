"""The plugin under test: its parts, made once and shared by all checks."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from appliedpapers.core import bundle, config
from appliedpapers.core.inference import predict_all
from appliedpapers.core.model import FitContext, Model
from appliedpapers.core.plugin import PluginSpec, TaskSpec

if TYPE_CHECKING:
    from appliedpapers.core.config import TaskConfig
    from appliedpapers.core.contest import Contest
    from appliedpapers.core.data import Dataset
    from appliedpapers.core.evaluation import Baseline, Evaluation
    from appliedpapers.core.schema import TableSchema

_UNITS = 4
_RTOL, _ATOL = 1e-5, 1e-6


class CheckFailed(Exception):
    """The plugin breaks a promise; the text says which and where."""


class NotApplicable(Exception):
    """The promise says nothing about this plugin; the text says why."""


def require(holds: bool, text: str) -> None:
    """Raise :class:`CheckFailed` with ``text`` unless the promise holds."""
    if not holds:
        raise CheckFailed(text)


class Subject:
    """One task of a plugin with everything that checks need: fitted once, on a small simulator.

    Args:
        spec: The plugin.
        task: One of its tasks.
        folder: Scratch folder of the checks.

    Attributes:
        histories: Metrics of each epoch, by the name of what was fitted.
    """

    def __init__(self, spec: PluginSpec, task: TaskSpec, folder: Path) -> None:
        self.spec, self.task, self.folder = spec, task, folder
        self.histories: dict[str, list[dict[str, float]]] = {}
        self._made = 0
        self._failure: Exception | None = None

    @cached_property
    def others(self) -> list[Subject]:
        """The other tasks of the plugin."""
        return [
            Subject(self.spec, task, self.folder / "others" / task.name)
            for task in self.spec.tasks
            if task is not self.task
        ]

    @cached_property
    def preset(self) -> str:
        """The preset ``check``, or ``quick`` where there is none."""
        return "check" if "check" in self.task.load("config").presets else "quick"

    @cached_property
    def config(self) -> TaskConfig:
        """The configuration of the preset."""
        kind: type[TaskConfig] = self.task.load("config")
        return config.resolve(kind, preset=self.preset)

    @cached_property
    def dataset(self) -> Dataset:
        """The simulator's dataset."""
        return self.simulate(self.config)

    @cached_property
    def sample(self) -> Dataset:
        """The first triple of the dataset: all that is fitted here is fitted on it."""
        return self.dataset.resamples()[0]

    @cached_property
    def model(self) -> Model:
        """The fitted model."""
        # every check needs it: a fit that fails is not tried again
        if self._failure is None:
            try:
                return self.fit()
            except Exception as error:
                self._failure = error
        raise CheckFailed(f"fit failed: {type(self._failure).__name__}: {self._failure}")

    @cached_property
    def bundle(self) -> Path:
        """The folder of the saved model."""
        folder = self.fresh("bundle")
        bundle.save_bundle(self.model, folder, plugin=self.spec.id, task=self.task.name)
        return folder

    @cached_property
    def example(self) -> pa.Table:
        """Up to four groups (or rows) as a user would send them, of other splits where test has one only."""
        schema = self.model.input_schema
        table = self.dataset.test.example(_UNITS)
        for split in (self.dataset.valid, self.dataset.train):
            more = split.example(_UNITS)
            if len(groups(table, schema)) < 2 and not _share_groups(table, more, schema):
                table = pa.concat_tables([table, more.select(table.column_names)])
        return table

    @cached_property
    def prediction(self) -> pa.Table:
        """What the fitted model says about the example."""
        return self.predict(self.example)

    @cached_property
    def units(self) -> list[pa.Table]:
        """The example taken apart into groups, or rows where there are no groups."""
        return groups(self.example, self.model.input_schema)

    @cached_property
    def alone(self) -> list[pa.Table]:
        """What the fitted model says about each unit by itself."""
        return [self.predict(unit) for unit in self.units]

    @cached_property
    def evaluation(self) -> Evaluation:
        """How the task is judged."""
        evaluation: Evaluation = self.task.load("evaluation")
        return evaluation

    @cached_property
    def baselines(self) -> list[Baseline]:
        """The fitted baselines."""
        made = self.evaluation.baselines(self.config, self.sample)
        parts = self.sample.train, self.sample.valid
        return [baseline.fit(*parts, self.context(baseline.name)) for baseline in made]

    @cached_property
    def contest(self) -> Contest:
        """The fitted model, its parts and the baselines on the test rows of all triples, as in a run."""
        from appliedpapers.core.contest import contend_on_all

        triples = len(self.dataset.resamples())
        fitted = [self.model] * triples, [self.baselines] * triples
        return contend_on_all(self.evaluation, self.dataset, self.spec.id, *fitted, seed=self.config.seed)

    def simulate(self, settings: TaskConfig) -> Dataset:
        """Make the simulator's dataset anew."""
        dataset: Dataset = self.task.load("datasets").simulated(settings)
        return dataset

    def fit(self) -> Model:
        """Fit a model anew."""
        model: Model = self.task.load("model")(self.config)
        return model.fit(self.sample.train, self.sample.valid, self.context(self.spec.id), init=None)

    def context(self, name: str) -> FitContext:
        """Return what a run lends to a fit, with the metrics kept under ``name``."""
        history = self.histories[name] = []

        def log_metrics(metrics: Mapping[str, float], step: int, /) -> None:
            history.append({"step": step, **metrics})

        return FitContext(self.fresh("fit"), seed=self.config.seed, log_metrics=log_metrics)

    def reload(self) -> Model:
        """Load the saved model anew."""
        return bundle.load_bundle(self.bundle, spec=self.spec)[0]

    def predict(self, table: pa.Table, model: Model | None = None) -> pa.Table:
        """Predict along the way that every pipeline takes, with a folder of its own for files."""
        return predict_all(model or self.model, table, files=self.fresh("files"))

    def fresh(self, name: str) -> Path:
        """Make an empty folder."""
        self._made += 1
        path = self.folder / f"{name}-{self._made}"
        path.mkdir(parents=True)
        return path


def groups(table: pa.Table, schema: TableSchema) -> list[pa.Table]:
    """Take a table apart into its groups by first appearance, or its rows where there are no groups."""
    if not schema.group_by:
        return [table.slice(row, 1) for row in range(table.num_rows)]
    keys = list(zip(*(table.column(name).to_pylist() for name in schema.group_by), strict=True))
    return [table.filter(pa.array([key == one for key in keys])) for one in dict.fromkeys(keys)]


def _share_groups(table: pa.Table, more: pa.Table, schema: TableSchema) -> bool:
    # a series that goes on in the next split would become another group when joined
    sets = [
        set(zip(*(part.column(name).to_pylist() for name in schema.group_by), strict=True))
        for part in (table, more)
    ]
    return bool(sets[0] & sets[1])


def require_equal(found: pa.Table, expected: pa.Table, what: str, *, exact: bool = False) -> None:
    """Raise :class:`CheckFailed` where two tables differ; floats may differ by rounding unless ``exact``."""
    require(
        found.column_names == expected.column_names,
        f"{what}: columns {found.column_names}, expected {expected.column_names}",
    )
    require(
        found.num_rows == expected.num_rows, f"{what}: {found.num_rows} rows, expected {expected.num_rows}"
    )
    for name in expected.column_names:
        cells = zip(found.column(name).to_pylist(), expected.column(name).to_pylist(), strict=True)
        for row, (one, other) in enumerate(cells):
            if not _same(one, other, exact):
                raise CheckFailed(
                    f"{what}: column '{name}', row {row + 1} is {_short(one)}, expected {_short(other)}"
                )


def _same(one: Any, other: Any, exact: bool) -> bool:
    if isinstance(one, float | list) and isinstance(other, float | list):
        try:
            a, b = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
        except (TypeError, ValueError):
            return bool(one == other)
        if a.shape != b.shape:
            return False
        if exact:
            return bool(np.array_equal(a, b, equal_nan=True))
        return bool(np.allclose(a, b, rtol=_RTOL, atol=_ATOL * _size(b), equal_nan=True))
    return bool(one == other)


def _size(values: np.ndarray[Any, Any]) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return max(1.0, float(finite.max())) if finite.size else 1.0


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def shaken_randomness(seed: int) -> Iterator[None]:
    """Put every global random generator elsewhere: who draws from an explicit seed does not notice."""
    import sys

    torch = sys.modules.get("torch")
    before = random.getstate(), np.random.get_state(), torch.get_rng_state() if torch else None
    random.seed(seed)
    np.random.seed(seed)
    if torch:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        if torch:
            torch.set_rng_state(before[2])
