"""Choices of a configuration side by side: fitted with several seeds, judged on the same test rows."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from appliedpapers.core import device as devices
from appliedpapers.core import plugin as plugins
from appliedpapers.core.bootstrap import PairedDifference, paired_difference
from appliedpapers.core.data import Dataset, leakage_audit
from appliedpapers.core.errors import ConfigError, DataError, RunError
from appliedpapers.core.evaluation import Evaluation
from appliedpapers.core.files import write_json
from appliedpapers.core.model import FitContext
from appliedpapers.core.pooling import pooled
from appliedpapers.core.progress import Progress, SilentProgress
from appliedpapers.core.results import Contender, RunFacts, build_results, over_seeds
from appliedpapers.core.scores import Scored
from appliedpapers.core.significance import holm
from appliedpapers.pipelines.compare_cells import Cell, Source, fit_cell
from appliedpapers.pipelines.compare_choices import Choice, choices
from appliedpapers.pipelines.compare_engines import run_cells
from appliedpapers.pipelines.compare_page import write_page
from appliedpapers.pipelines.output_folder import locked_output
from appliedpapers.pipelines.run_fit import Fitter

DOCUMENT = "comparison.json"
VERSION = 1


@dataclass(frozen=True)
class CompareRequest:
    """What one plugin brings into a comparison.

    Attributes:
        plugin: Plugin id.
        overs: What is varied, as ``"head=[mlp, kan(grid=5)]"``; every combination is a choice.
        seeds: How many seeds; the configuration's own and those behind it.
        task: Task name; None where the plugin has one.
        preset: Name of the preset that all choices start from.
        file: YAML file over the preset.
        assignments: ``a.b=c``, for every choice.
        dataset: Name of a published dataset; simulated by default.
        data: The user's own file or folder instead.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``32``, ``bf16`` or ``16``.
        accept_licence: Accept the dataset's terms.
        allow_leakage: Report test scores although rows cross splits.
    """

    plugin: str
    overs: tuple[str, ...] = ()
    seeds: int = 3
    task: str | None = None
    preset: str = "default"
    file: Path | None = None
    assignments: tuple[str, ...] = ()
    dataset: str | None = None
    data: Path | None = None
    device: str = "auto"
    precision: str = "32"
    accept_licence: bool = False
    allow_leakage: bool = False


@dataclass(frozen=True)
class Comparison:
    """What a comparison left behind.

    Attributes:
        document: ``comparison.json``: for each plugin a results document and its choices.
        page: The HTML page.
        failures: Which cells could not be fitted, and why.
    """

    document: dict[str, Any]
    page: Path
    failures: tuple[str, ...]


def compare(
    requests: Sequence[CompareRequest],
    output: Path,
    *,
    engine: str = "local",
    workers: int | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Comparison:
    """Compare choices within each plugin; what was finished before is not done again.

    Args:
        requests: One a plugin.
        output: Folder of cells, document and page.
        engine: ``local`` or ``ray``.
        workers: Processes that fit at a time; one by default, with Ray as many as it has cores.
        command: What repeats it, for the page.
        progress: Where progress is shown.

    Raises:
        ConfigError: An option or a value is refused, or a choice changes what is tested.
        DataError: The data break the contract or leak across splits.
        LockedError: Another comparison is at work in ``output``.
        RunError: No choice of a plugin could be fitted.
    """
    progress = progress or SilentProgress()
    if not requests or any(request.seeds < 1 for request in requests):
        raise ConfigError("a comparison needs a plugin and a seed.", hint="apps compare ID --seeds 3")
    # every option of every plugin is known to be right before the first fit begins
    entries = [_Entry.of(request, output) for request in requests]
    with locked_output(output, "comparison"):
        for entry in entries:
            entry.open(progress)
        failed: dict[str, str] = {}
        for entry in entries:
            cells = [cell for cell in entry.cells if cell.record is None]
            done = len(entry.cells) - len(cells)
            earlier = f", {done} of them done before" if done else ""
            progress.say(f" {entry.source.plugin} · {len(entry.cells)} cells{earlier}")
            failed |= run_cells(fit_cell, cells, engine=engine, workers=workers, progress=progress)
        parts = [entry.judged(failed, progress) for entry in entries]
        document = {"version": VERSION, "command": command, "plugins": parts}
        write_json(output / DOCUMENT, document)
        page = write_page(output, document)
    names = {cell.id: f"{cell.label}, seed {cell.seed}" for entry in entries for cell in entry.cells}
    return Comparison(document, page, tuple(f"{names[key]}: {why}" for key, why in failed.items()))


@dataclass
class _Entry:
    """One plugin's part of a comparison."""

    request: CompareRequest
    source: Source
    device: str
    choices: list[Choice]
    output: Path
    dataset: Dataset = field(init=False)
    cells: list[Cell] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, request: CompareRequest, output: Path) -> _Entry:
        task = plugins.find(request.plugin).task(request.task)
        data = None if request.data is None else str(request.data)
        source = Source(request.plugin, task.name, request.dataset, data, request.accept_licence)
        device = devices.resolve_device(request.device)
        devices.check_precision(request.precision, device)
        found = choices(
            request.plugin,
            request.overs,
            task=request.task,
            preset=request.preset,
            file=request.file,
            assignments=request.assignments,
            dataset=request.dataset,
        )
        return cls(request, source, device, found, output)

    @property
    def evaluation(self) -> Evaluation:
        """How the task is judged."""
        found: Evaluation = plugins.find(self.source.plugin).task(self.source.task).load("evaluation")
        return found

    def open(self, progress: Progress) -> None:
        """Open the data, look for leaks, and name the cells."""
        self.dataset = self.source.load(self.choices[0].config, progress)
        findings = leakage_audit(self.dataset)
        if findings and not self.request.allow_leakage:
            raise DataError(
                f"{self.dataset.name}: {findings[0].sentence()}.",
                hint="A test score would be too good to be true. Mend the data, or add --allow-leakage.",
            )
        self.warnings = [f"leakage: {finding.sentence()}" for finding in findings]
        self.warnings += self.dataset.warnings
        prints = self.dataset.fingerprint(), self.dataset.test_fingerprint()
        first = self.choices[0].config.seed
        # all choices once, then once more: an early look at an unfinished comparison is a fair one
        self.cells = [
            Cell(
                self.source,
                choice.label,
                choice.config.model_dump(mode="json"),
                first + number,
                *prints,
                str(self.output / "cells" / self.source.plugin),
                self.device,
                self.request.precision,
            )
            for number in range(self.request.seeds)
            for choice in self.choices
        ]

    def judged(self, failed: Mapping[str, str], progress: Progress) -> dict[str, Any]:
        """Return the plugin's part of the document, from an earlier time where nothing has changed."""
        kept = [choice for choice in self.choices if not any(cell.id in failed for cell in self._of(choice))]
        if not kept:
            raise RunError(
                f"{self.source.plugin}: no choice could be fitted with all seeds.",
                hint=next(iter(failed.values())),
            )
        path = self.output / "judged" / f"{self.source.plugin}-{self._identity(kept)}.json"
        with suppress(OSError, ValueError):
            return dict(json.loads(path.read_text(encoding="utf-8")))
        part = self._judge(kept, progress)
        write_json(path, part)
        return part

    def _identity(self, kept: Sequence[Choice]) -> str:
        ids = [cell.id for choice in kept for cell in self._of(choice)]
        return hashlib.sha256(" ".join(ids).encode()).hexdigest()[:12]

    def _of(self, choice: Choice) -> list[Cell]:
        return [cell for cell in self.cells if cell.label == choice.label]

    def _judge(self, kept: Sequence[Choice], progress: Progress) -> dict[str, Any]:
        evaluation, config = self.evaluation, self.choices[0].config
        records = {choice.label: [cell.record or {} for cell in self._of(choice)] for choice in kept}
        # chosen before the test set is opened
        valid = {label: sum(one["valid"] for one in found) / len(found) for label, found in records.items()}
        best = min(valid, key=lambda label: valid[label])
        started = time.monotonic()
        contenders = self._rivals(config, progress, {choice.label for choice in kept})
        baselines_s = time.monotonic() - started
        ours: dict[str, list[Scored]] = {}
        with progress.task("judge", len(self.cells)) as bar:
            for choice in kept:
                ours[choice.label] = []
                for cell in self._of(choice):
                    ours[choice.label].append(self._scored(cell))
                    bar.advance()
        contenders = [
            Contender(label, "ours", one, selected=label == best, seed=record["seed"])
            for label, found in ours.items()
            for one, record in zip(found, records[label], strict=True)
        ] + contenders
        fit_s = sum(one["seconds"] for found in records.values() for one in found)
        results = build_results(
            replace(
                RunFacts.of(
                    self.dataset,
                    run_id=f"compare-{self.source.plugin}-{self._identity(kept)}",
                    plugin=self.source.plugin,
                    task=self.source.task,
                    preset=self.request.preset,
                    seed=config.seed,
                    device=self.device,
                ),
                seeds=tuple(config.seed + number for number in range(self.request.seeds)),
                seconds={
                    "fit": fit_s,
                    "baselines": baselines_s,
                    "evaluate": time.monotonic() - started - baselines_s,
                },
                peak_memory_mb=round(devices.peak_memory_mb(), 1),
            ),
            contenders,
            primary=evaluation.primary_for(self.dataset),
            paired_test=evaluation.paired_test,
            lag=evaluation.lag(config, self.dataset),
            warnings=[*self.warnings, *self._left_out(kept)],
            seed=config.seed,
        )
        return {
            "results": results,
            "varied": [over.partition("=")[0].strip() for over in self.request.overs],
            "choices": [
                {
                    "label": choice.label,
                    "assignments": dict(choice.assignments),
                    "parameters": records[choice.label][0]["parameters"],
                    "seconds": [one["seconds"] for one in records[choice.label]],
                    "valid": [one["valid"] for one in records[choice.label]],
                }
                for choice in kept
            ],
            "pairs": self._pairs(ours, best, config.seed),
        }

    def _left_out(self, kept: Sequence[Choice]) -> list[str]:
        gone = [choice.label for choice in self.choices if choice not in kept]
        return [f"left out, because a seed could not be fitted: {', '.join(gone)}."] if gone else []

    def _scored(self, cell: Cell) -> Scored:
        evaluation = self.evaluation
        return pooled(
            [
                evaluation.score(evaluation.predict(model, sample.test), sample.test, sample)
                for model, sample in zip(cell.models(self.device), self.dataset.resamples(), strict=True)
            ]
        )

    def _rivals(self, config: Any, progress: Progress, labels: Collection[str]) -> list[Contender]:
        """Fit the baselines once: they know neither the choices nor the seeds."""
        folder = self.output / "baselines" / self.source.plugin
        fitter = Fitter(
            plugins.find(self.source.plugin).task(self.source.task).load("model"),
            self.evaluation,
            self.source.plugin,
            config,
            lambda name, given: FitContext(
                folder=folder / name, seed=given.seed, device=self.device, progress=progress
            ),
            progress,
        )
        samples = self.dataset.resamples()
        rivals = fitter.baselines(self.dataset)
        return [
            Contender(
                # a choice of ours may be called as one of them: both have an mlp
                f"{same[0].name} (baseline)" if same[0].name in labels else same[0].name,
                same[0].kind,
                pooled(
                    [
                        self.evaluation.score(rival.predict(sample.test), sample.test, sample)
                        for rival, sample in zip(same, samples, strict=True)
                    ]
                ),
                attainable=same[0].attainable,
            )
            for same in zip(*rivals, strict=True)
        ]

    def _pairs(self, ours: Mapping[str, Sequence[Scored]], best: str, seed: int) -> list[dict[str, Any]]:
        """Compare each choice with the selected one; with several, small p values come by themselves."""
        primary = self.evaluation.primary_for(self.dataset)
        metrics = {
            label: over_seeds([one.metrics[primary] for one in found]) for label, found in ours.items()
        }
        first = ours[best][0]
        pairs = []
        for label in ours:
            if label == best:
                continue
            found = paired_difference(
                metrics[best],
                metrics[label],
                test=self.evaluation.paired_test,
                clusters=first.clusters,
                block=first.block,
                lag=self.evaluation.lag(self.choices[0].config, self.dataset),
                folds=first.folds,
                seed=seed,
            )
            pairs.append({"a": best, "b": label, "metric": primary, **_numbers(found)})
        tested = [pair for pair in pairs if pair["p"] is not None]
        adjusted = holm([pair["p"] for pair in tested])
        return [
            {**pair, "adjusted_p": adjusted[tested.index(pair)] if pair in tested else None} for pair in pairs
        ]


def _numbers(found: PairedDifference) -> dict[str, Any]:
    values = {name: getattr(found, name) for name in ("difference", "low", "high", "p")}
    # JSON has no NaN; null says that there were too few units
    known = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {**known, "test": found.test}
