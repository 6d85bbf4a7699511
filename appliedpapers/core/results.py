"""The results document: one JSON that the terminal, the report, MLflow and the model card all show."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from appliedpapers.core.bootstrap import N_BOOT, intervals, paired_difference
from appliedpapers.core.errors import DataError
from appliedpapers.core.evaluation import Kind, PairedTest, PublishedFigure
from appliedpapers.core.files import write_json
from appliedpapers.core.metrics import metric
from appliedpapers.core.scores import MetricScores, Scored
from appliedpapers.core.verdict import Row

if TYPE_CHECKING:
    from appliedpapers.core.data import Dataset

VERSION = 1

_MOST_SLICE_ROWS = 5_000


@dataclass(frozen=True)
class RunFacts:
    """What identifies a run; each field stands under its own name in the document."""

    run_id: str
    plugin: str
    task: str
    dataset: str
    synthetic: bool
    protocol: str
    preset: str
    seeds: tuple[int, ...]
    device: str
    test_size: int
    test_fingerprint: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: float | None = None
    model_version: int | str | None = None

    @classmethod
    def of(
        cls, dataset: Dataset, *, run_id: str, plugin: str, task: str, preset: str, seed: int, device: str
    ) -> Self:
        """Return the facts of a run on ``dataset``."""
        return cls(
            *(run_id, plugin, task, dataset.name, dataset.provenance.synthetic, dataset.protocol, preset),
            seeds=(seed,),
            device=device,
            test_size=dataset.test_size,
            test_fingerprint=dataset.test_fingerprint(),
        )


@dataclass(frozen=True)
class Contender:
    """One scored model of a run.

    Attributes:
        model: Its name in the table; the same name with several seeds is one model.
        kind: Whose it is.
        scored: Its scores on the test rows.
        selected: True for the one that is registered, chosen before the test set was opened.
        seed: Seed it was fitted with; None when it has no randomness.
        attainable: False for an oracle: shown, never compared with.
    """

    model: str
    kind: Kind
    scored: Scored
    selected: bool = False
    seed: int | None = None
    attainable: bool = True


def build_results(
    facts: RunFacts,
    contenders: Sequence[Contender],
    *,
    primary: str,
    paired_test: PairedTest = "paired-bootstrap",
    lag: int = 0,
    published: Sequence[PublishedFigure] = (),
    warnings: Sequence[str] = (),
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> dict[str, Any]:
    """Build the results document.

    Rows with ``seed: null`` speak of the mean over the run's seeds (also when there is one); their interval
    says how sure the test set makes us of that mean, not how much another seed would differ. The selected
    model comes first and the primary metric leads each model's rows. ``tests`` compare the selected model
    with every attainable baseline on the primary metric; the strongest of them is the best by its test
    value, which favours the baselines.

    Args:
        facts: What identifies the run.
        contenders: Every scored model, all on the same test rows; exactly one model is selected.
        primary: The metric that is compared.
        paired_test: Which test.
        lag: Correlated neighbours (Diebold-Mariano).
        published: Figures of the same dataset, protocol and setting (see :mod:`appliedpapers.core.printed`).
        warnings: Sentences for every table.
        n_boot: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: Not exactly one model is selected, the models were scored on different units, the
            primary metric is missing or has no direction, or a published figure is of another protocol.
    """
    _check_published(published, facts)
    builder = _Builder(facts, contenders, primary, n_boot, seed)
    rows = [*builder.rows(), *(_published_row(figure, facts.protocol) for figure in published)]
    rows += builder.slice_rows()
    tests = list(builder.tests(paired_test, lag))
    document = {
        "version": VERSION,
        **vars(facts),
        "seeds": list(facts.seeds),
        "seconds": {stage: float(value) for stage, value in facts.seconds.items()},
        "rows": rows,
        "tests": tests,
        "warnings": [*warnings, *builder.notes()],
    }
    validate_results(document)
    return document


def validate_results(document: Mapping[str, Any]) -> None:
    """Check a document against the schema and what a schema cannot say.

    Raises:
        DataError: The first problem, with its place in the document.
    """
    import jsonschema

    validator = jsonschema.Draft202012Validator(_schema())
    problem = next(iter(validator.iter_errors(document)), None)
    if problem is not None:
        place = "".join(f"[{part!r}]" for part in problem.absolute_path) or "top level"
        _refuse(f"results document, {place}: {problem.message}")
    selected = {(row["model"], row["kind"]) for row in document["rows"] if row["selected"]}
    if len(selected) != 1:
        _refuse(f"results document: {len(selected)} models are selected, expected exactly one")
    seen = set()
    for row in document["rows"]:
        key = (row["model"], row["kind"], row["metric"], row["seed"], tuple(sorted(row["slice"].items())))
        if key in seen and row["kind"] != "published":
            _refuse(f"results document: two rows for {row['model']}, {row['metric']}, {row['slice']}")
        seen.add(key)
    for item in [*document["rows"], *document["tests"]]:
        for name in ("value", "difference", "low", "high", "p"):
            number = item.get(name)
            if number is not None and not math.isfinite(number):
                _refuse(f"results document: {name} of {item['metric']} is {number}, expected null")
        if item["low"] is not None and item["high"] is not None and item["low"] > item["high"]:
            _refuse(f"results document: an interval of {item['metric']} has its ends swapped")


def write_results(path: Path, document: Mapping[str, Any]) -> None:
    """Validate and write the document; the file appears whole."""
    validate_results(document)
    write_json(path, document)


def read_results(path: Path) -> dict[str, Any]:
    """Read and validate a document.

    Raises:
        DataError: The file is absent, not JSON, or breaks the schema.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}).", hint="Expected results.json of a run."
        ) from None
    validate_results(document)
    return dict(document)


class _Builder:
    """The models of one run on their way into rows."""

    def __init__(
        self, facts: RunFacts, contenders: Sequence[Contender], primary: str, n_boot: int, seed: int
    ) -> None:
        self.protocol, self.primary = facts.protocol, primary
        self.n_boot, self.seed = n_boot, seed
        self.said: list[str] = []
        self.unsure: dict[str, list[str]] = {}
        self.untested: list[str] = []
        self.models = _by_model(contenders, primary)
        self.chosen = next(iter(self.models))
        self.whole = {name: self._headline(group) for name, group in self.models.items()}
        self.rivals = [
            name
            for name, group in self.models.items()
            if name != self.chosen and group[0].kind != "ours" and group[0].attainable
        ]

    def notes(self) -> Iterator[str]:
        """Yield what the test set was too small for: one sentence a kind, not one a figure."""
        yield from self.said
        if self.unsure:
            metrics = dict.fromkeys(name for names in self.unsure.values() for name in names)
            listed = f"{', '.join(self.unsure)} ({', '.join(metrics)})"
            yield f"too few independent test units for an interval: {listed}."
        if self.untested:
            rivals = ", ".join(self.untested)
            yield f"{self.chosen}: too few independent test units for a test against {rivals}."

    def rows(self) -> Iterator[Row]:
        for name, group in self.models.items():
            yield from self._rows(group[0], [({}, self.whole[name])], noted=True)
            if len(group) > 1:
                for one in group:
                    yield from self._rows(one, [({}, one.scored.metrics)], row_seed=one.seed)

    def slice_rows(self) -> Iterator[Row]:
        shown = list(self.models)
        total = sum(len(metrics) for group in self.models.values() for _, metrics in group[0].scored.slices)
        if total > _MOST_SLICE_ROWS:
            shown = [self.chosen, *self._strongest()]
            self.said.append(f"Slices are listed for {' and '.join(shown)} only: there are very many.")
        for name in shown:
            group = self.models[name]
            parts = [
                (
                    labels,
                    {
                        key: over_seeds([one.scored.slices[number][1][key] for one in group])
                        for key in metrics
                    },
                )
                for number, (labels, metrics) in enumerate(group[0].scored.slices)
            ]
            yield from self._rows(group[0], parts)

    def tests(self, paired_test: PairedTest, lag: int) -> Iterator[dict[str, Any]]:
        ours = self.models[self.chosen][0].scored
        for name in self.rivals:
            found = paired_difference(
                self.whole[self.chosen][self.primary],
                self.whole[name][self.primary],
                test=paired_test,
                clusters=ours.clusters,
                block=ours.block,
                lag=lag,
                folds=ours.folds,
                n_boot=self.n_boot,
                seed=self.seed,
            )
            if not math.isfinite(found.p):
                self.untested.append(name)
            numbers = {key: _number(getattr(found, key)) for key in ("difference", "low", "high", "p")}
            yield {"a": self.chosen, "b": name, "metric": self.primary, **numbers, "test": found.test}

    def _headline(self, group: Sequence[Contender]) -> dict[str, MetricScores]:
        names = sorted(group[0].scored.metrics, key=lambda name: name != self.primary)
        return {name: over_seeds([one.scored.metrics[name] for one in group]) for name in names}

    def _strongest(self) -> list[str]:
        sign = -1 if metric(self.primary).higher_is_better else 1
        ordered = sorted(self.rivals, key=lambda name: sign * self.whole[name][self.primary].value)
        return ordered[:1]

    def _rows(
        self,
        contender: Contender,
        parts: Sequence[tuple[Mapping[str, str], Mapping[str, MetricScores]]],
        *,
        row_seed: int | None = None,
        noted: bool = False,
    ) -> Iterator[Row]:
        """Yield the rows of some parts of the test set; their resamples are drawn once for all."""
        flat = [(labels, name, one) for labels, metrics in parts for name, one in metrics.items()]
        ends = self._intervals(contender.scored, [one for _, _, one in flat])
        for (labels, name, one), (low, high) in zip(flat, ends, strict=True):
            value = one.value
            if noted and not math.isfinite(value):
                self.said.append(f"{contender.model}: {name} is not defined on this test set.")
            elif noted and not math.isfinite(low):
                self.unsure.setdefault(contender.model, []).append(name)
            yield {
                "model": contender.model,
                "kind": contender.kind,
                "selected": contender.selected,
                **_about(name, contender.scored.units),
                "value": _number(value),
                "low": _number(low),
                "high": _number(high),
                "n": one.count,
                "seed": row_seed,
                "protocol": self.protocol,
                "slice": dict(labels),
            }

    def _intervals(self, scored: Scored, scores: Sequence[MetricScores]) -> list[tuple[float, float]]:
        # a slice with its own unit numbering cannot be matched to the clusters
        matched = [one for one in scores if one.units == scored.size]
        found = iter(intervals(matched, scored.clusters, scored.block, self.n_boot, self.seed))
        return [next(found) if one.units == scored.size else (math.nan, math.nan) for one in scores]


def _by_model(contenders: Sequence[Contender], primary: str) -> dict[str, list[Contender]]:
    """Group contenders by name, the selected one first."""
    if metric(primary).higher_is_better is None:
        raise ValueError(f"{primary} has no better direction and cannot be the primary metric")
    models: dict[str, list[Contender]] = {}
    for one in contenders:
        models.setdefault(one.model, []).append(one)
    selected = [name for name, group in models.items() if group[0].selected]
    if len(selected) != 1:
        raise ValueError(f"exactly one model must be selected, not {selected}")
    size = models[selected[0]][0].scored.size
    for name, group in models.items():
        if len({(one.kind, one.selected, one.attainable) for one in group}) > 1:
            raise ValueError(f"{name}: its seeds differ in kind or selection")
        if len(group) > 1 and len({one.seed for one in group}) < len(group):
            raise ValueError(f"{name} is given twice with one seed")
        for one in group:
            if primary not in one.scored.metrics:
                raise ValueError(f"{name} was not scored by the primary metric {primary}")
            if one.scored.size != size:
                raise ValueError(f"{name} was scored on {one.scored.size} units, not on {size}")
    return {selected[0]: models.pop(selected[0]), **models}


def over_seeds(scores: Sequence[MetricScores]) -> MetricScores:
    """Return the mean of one metric over the seeds of a model, on the same units."""
    if len(scores) == 1:
        return scores[0]
    plain = [one.losses for one in scores if one.losses is not None and one.weights is None and not one.root]
    if len(plain) == len(scores):
        return MetricScores.mean(np.mean(plain, axis=0))
    return MetricScores.of(
        lambda indices: math.fsum(one.aggregate(indices) for one in scores) / len(scores), scores[0].units
    )


def _about(name: str, units: Mapping[str, str]) -> Row:
    about = metric(name)
    return {
        "metric": name,
        "unit": units.get(name, about.unit),
        "higher_is_better": about.higher_is_better,
    }


def _published_row(figure: PublishedFigure, protocol: str) -> Row:
    return {
        "model": figure.model,
        "kind": "published",
        "selected": False,
        **_about(figure.metric, {}),
        "value": _number(figure.value),
        "low": None,
        "high": None,
        "n": None,
        "seed": None,
        "protocol": protocol,
        "slice": {},
    }


def _check_published(published: Sequence[PublishedFigure], facts: RunFacts) -> None:
    for figure in published:
        if (figure.dataset, figure.protocol) != (facts.dataset, facts.protocol):
            raise ValueError(
                f"{figure.model} was published on {figure.dataset} by {figure.protocol}; this run is on "
                f"{facts.dataset} by {facts.protocol}: split_published() sets it apart"
            )


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _refuse(message: str) -> None:
    raise DataError(f"{message}.", hint="results.schema.json in appliedpapers/core says what is expected.")


@cache
def _schema() -> dict[str, Any]:
    text = files("appliedpapers.core").joinpath("results.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
