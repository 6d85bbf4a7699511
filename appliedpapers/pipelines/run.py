"""The life of a run: resolve, audit, fit, choose, open the test set, report, track, register."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core import config as configs
from appliedpapers.core import device as devices
from appliedpapers.core import plugin as plugins
from appliedpapers.core.bundle import save_bundle
from appliedpapers.core.contest import Contest, contend_on_all
from appliedpapers.core.data import Dataset, LeakageFinding, leakage_audit
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.evaluation import Evaluation, Material
from appliedpapers.core.files import write_json, write_text
from appliedpapers.core.model import FitContext, Model
from appliedpapers.core.printed import Elsewhere, split_published
from appliedpapers.core.progress import Progress, SilentProgress
from appliedpapers.core.results import RunFacts, build_results, write_results
from appliedpapers.core.sources import load_dataset
from appliedpapers.pipelines import DEFAULT_STORE
from appliedpapers.pipelines.run_fit import Fitter
from appliedpapers.pipelines.run_folder import (
    RESULTS,
    Registration,
    RunRequest,
    RunResult,
    environment,
    is_run,
    new_id,
    with_quarantine,
    write_request,
)
from appliedpapers.pipelines.run_mark import MARK, note_record, take_mark
from appliedpapers.pipelines.run_profile import training_profile

if TYPE_CHECKING:
    from appliedpapers.core.config import TaskConfig
    from appliedpapers.pipelines.tracking import RunLog
    from appliedpapers.pipelines.tracking_store import Store

_EXAMPLE_ROWS = 3
_EXAMPLE_BYTES = 20_000


def run(
    request: RunRequest,
    *,
    runs: Path = Path("runs"),
    store_folder: Path = DEFAULT_STORE,
    resume: Path | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Live one run from data to registered model.

    Args:
        request: What to run.
        runs: Folder in which the run's own folder is made.
        store_folder: Where MLflow's store lies unless ``MLFLOW_TRACKING_URI`` says otherwise.
        resume: Folder of an interrupted run of the same request.
        progress: Where progress is shown.

    Returns:
        Paths and the results document.

    Raises:
        DataError: The data breaks the contract or leaks across splits.
        RunError: Training failed.
    """
    return start(request, runs=runs, store_folder=store_folder, resume=resume, progress=progress).live()


def start(
    request: RunRequest,
    *,
    runs: Path = Path("runs"),
    store_folder: Path = DEFAULT_STORE,
    resume: Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Return the run before it lives, so that a caller knows its folder; see :func:`run`."""
    return Run(request, runs, store_folder, resume, progress or SilentProgress())


class Run:
    """One run in progress: its folder, its clock and what it has learned so far."""

    def __init__(
        self, request: RunRequest, runs: Path, store_folder: Path, resume: Path | None, progress: Progress
    ) -> None:
        self.request = request
        self.spec = plugins.find(request.plugin)
        self.task = self.spec.task(request.task)
        self.device = devices.resolve_device(request.device)
        devices.check_precision(request.precision, self.device)
        self.store_folder = store_folder
        self.resuming = resume is not None
        self.id = resume.name if resume else new_id(self.spec.id)
        self.folder = resume or runs / self.id
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self.histories: dict[str, list[dict[str, float]]] = {}
        self.warnings: list[str] = []
        self.elsewhere: list[Elsewhere] = []
        self.baseline_facts: dict[str, dict[str, str]] = {}
        self.fingerprint = ""
        self.store: Store
        self.log: RunLog | None = None

    @property
    def claimed(self) -> bool:
        """Whether the run's folder is there, so that it can be resumed."""
        return is_run(self.folder)

    def assist(self) -> None:
        """Train along as another rank of torchrun; rank 0 alone evaluates, reports and registers."""
        self.progress = SilentProgress()
        evaluation: Evaluation = self.task.load("evaluation")
        dataset = self._load()
        fitter = self._fitter(evaluation)
        fitter.models(dataset, self._initial_model())
        fitter.baselines(dataset)

    def live(self) -> RunResult:
        """Live it from data to registered model."""
        evaluation: Evaluation = self.task.load("evaluation")
        dataset = self._load()
        findings = self._audit(dataset)
        init = self._initial_model()
        # not before everything that was asked for is known to be there: a refused run leaves no folder
        write_request(self.folder, self.request)
        mark = take_mark(self.folder)
        self._announce(dataset, findings)
        self.fingerprint = dataset.fingerprint()
        from appliedpapers.pipelines import tracking
        from appliedpapers.pipelines.tracking_store import open_store

        self.store = open_store(self.store_folder)
        started = tracking.start_run(
            self.store,
            plugin=self.spec.id,
            task=self.task.name,
            config=self.request.config,
            preset=self.request.preset,
            dataset=dataset,
            tags={"mlflow.runName": self.id},
            fingerprint=self.fingerprint,
            # the record of the try that was cut off would stay RUNNING for ever
            resumed=mark.record_in(self.store.tracking_uri),
        )
        with started as self.log:
            note_record(self.folder, self.store.tracking_uri, self.log.run_id)
            fitter = self._fitter(evaluation)
            with self._timed("fit"):
                name, models, model = fitter.models(dataset, init)
            with self._timed("baselines"):
                baselines = fitter.baselines(dataset)
            with self._timed("evaluate"):
                contest = contend_on_all(evaluation, dataset, name, models, baselines, seed=model.config.seed)
            self.baseline_facts = {item.name: dict(item.describe()) for item in baselines[0]}
            material = self._judged(evaluation, dataset, name, model, contest)
            bundle = self._save(material)
            report = self._report(evaluation, material, findings)
            registered = self._register(evaluation, material, bundle)
            self._finish(material)
            return RunResult(self.folder, material.results, report, registered)

    def _load(self) -> Dataset:
        request = self.request
        with self._timed("data"):
            try:
                return load_dataset(
                    self.task.load("datasets"),
                    self.spec.id,
                    request.config,
                    dataset=request.dataset,
                    data=request.data,
                    accept_licence=request.accept_licence,
                    progress=self.progress,
                )
            except DataError as error:
                raise with_quarantine(error, self.folder) from error

    def _audit(self, dataset: Dataset) -> list[LeakageFinding]:
        findings = leakage_audit(dataset)
        if findings and not self.request.allow_leakage:
            raise DataError(
                f"{dataset.name}: {findings[0].sentence()}.",
                hint="A test score would be too good to be true. Mend the data, or add --allow-leakage.",
            )
        self.warnings += [f"leakage: {finding.sentence()}" for finding in findings]
        self.warnings += dataset.warnings
        return findings

    def _announce(self, dataset: Dataset, findings: Sequence[LeakageFinding]) -> None:
        synthetic = " (synthetic: true)" if dataset.provenance.synthetic else ""
        say, name = self.progress.say, self.spec.registered_name(self.task).removeprefix("apps.")
        say(
            f" {name} · {dataset.name}{synthetic} · preset {self.request.preset} · "
            f"{devices.describe_device(self.device)} · seed {self.request.config.seed}"
        )
        leaks = "no leakage found" if not findings else f"{len(findings)} leaks allowed"
        say(
            " "
            + " · ".join(part for part in (f"data      {dataset.summary}", dataset.split_note, leaks) if part)
        )
        for note in dataset.notes:
            say(f"           {note}")

    def _context(self, name: str, config: TaskConfig) -> FitContext:
        history = self.histories.setdefault(name, [])

        def log_metrics(metrics: Mapping[str, float], step: int, /) -> None:
            history.append({"step": step, **metrics})
            if self.log is not None:
                self.log.log_metrics({f"{name}/{key}": value for key, value in metrics.items()}, step)

        return FitContext(
            folder=self.folder / "fit" / name,
            seed=config.seed,
            device=self.device,
            precision=self.request.precision,
            devices=self.request.devices,
            resume=self.resuming,
            progress=self.progress,
            log_metrics=log_metrics,
        )

    def _fitter(self, evaluation: Evaluation) -> Fitter:
        return Fitter(
            self.task.load("model"),
            evaluation,
            self.spec.id,
            self.request.config,
            self._context,
            self.progress,
        )

    def _initial_model(self) -> Model | None:
        if self.request.init_from is None:
            return None
        from appliedpapers.pipelines.predict import load_model

        model, info = load_model(self.request.init_from, device=self.device, store_folder=self.store_folder)
        if (info.plugin, info.task) != (self.spec.id, self.task.name):
            raise ConfigError(
                f"--init-from {self.request.init_from}: a model of {info.plugin} ({info.task}).",
                hint=f"Expected one of {self.spec.id} ({self.task.name}).",
            )
        return model

    def _judged(
        self, evaluation: Evaluation, dataset: Dataset, name: str, model: Model, contest: Contest
    ) -> Material:
        """Make of the scores what the results document and the report show."""
        # of the candidate that was chosen, which need not be the one that was asked for first
        config = model.config
        same, self.elsewhere = split_published(
            evaluation.published(config, dataset),
            dataset=dataset.name,
            protocol=dataset.protocol,
            config=config,
        )
        with self._timed("statistics"):
            results = build_results(
                self._facts(dataset, config.seed),
                contest.contenders,
                primary=evaluation.primary_for(dataset),
                paired_test=evaluation.paired_test,
                lag=evaluation.lag(config, dataset),
                published=same,
                warnings=self.warnings,
                seed=config.seed,
            )
        return Material(
            dataset, model, name, contest.predictions, contest.scored, results, self.histories, config
        )

    def _facts(self, dataset: Dataset, seed: int) -> RunFacts:
        return RunFacts.of(
            dataset,
            run_id=self.id,
            plugin=self.spec.id,
            task=self.task.name,
            preset=self.request.preset,
            seed=seed,
            device=self.device,
        )

    def _save(self, material: Material) -> Path:
        dataset = material.dataset
        bundle = self.folder / "model"
        save_bundle(
            material.model,
            bundle,
            plugin=self.spec.id,
            task=self.task.name,
            dataset={
                "name": dataset.name,
                "protocol": dataset.protocol,
                "synthetic": dataset.provenance.synthetic,
                "fingerprint": self.fingerprint,
                "test_fingerprint": material.results["test_fingerprint"],
                **self._example(dataset, material.model),
                **training_profile(dataset, material.model),
            },
        )
        return bundle

    def _example(self, dataset: Dataset, model: Model) -> dict[str, Any]:
        """Return a few rows, or one group, which a served model is tried with; none that name files."""
        from appliedpapers.core.json_rows import plain, records

        if any(column.file is not None for column in model.input_schema.columns):
            return {}
        for count in (_EXAMPLE_ROWS, 1):
            rows = plain(records(dataset.example(count)))
            if len(json.dumps(rows)) <= _EXAMPLE_BYTES:
                return {"example": rows}
        return {}

    def _register(self, evaluation: Evaluation, material: Material, bundle: Path) -> Registration | None:
        assert self.log is not None
        if not self.request.register:
            return None
        from appliedpapers.pipelines import registry
        from appliedpapers.pipelines.report import DATA_CARD, MODEL_CARD

        name = self.spec.registered_name(self.task)
        with self._timed("register"):
            uri = self.log.log_model(
                bundle,
                name,
                material.dataset.example(),
                cards=[self.folder / card for card in (MODEL_CARD, DATA_CARD)],
            )
            tags = registry.results_tags(material.results, evaluation.primary_for(material.dataset))
            version, alias = registry.register(
                self.store, name=name, model_uri=uri, run_id=self.log.run_id, tags=tags
            )
        material.results["model_version"] = version
        return Registration(name, version, alias)

    def _report(self, evaluation: Evaluation, material: Material, findings: Sequence[LeakageFinding]) -> Path:
        from appliedpapers.pipelines.report import write_data_card, write_model_card, write_report

        material.results |= self._costs()
        facts = [*material.model.describe(), *self._baseline_lines()]
        machine, command = environment(self.device), self.request.command
        report = write_report(
            self.folder,
            material,
            evaluation=evaluation,
            environment=machine,
            command=command,
            findings=[finding.sentence() for finding in findings],
            published_elsewhere=self.elsewhere,
            facts=facts,
        )
        write_model_card(self.folder, material, environment=machine, command=command)
        write_data_card(self.folder, material, findings=[finding.sentence() for finding in findings])
        write_text(self.folder / "config.yaml", configs.commented_yaml(material.config))
        write_json(self.folder / "config.schema.json", type(material.config).model_json_schema())
        return report

    def _finish(self, material: Material) -> None:
        assert self.log is not None
        material.results |= self._costs()
        self.log.log_results(material.results)
        # last: its presence says that the run is complete
        write_results(self.folder / RESULTS, material.results)
        # the bundle is logged as a model, checkpoints stay here
        self.log.log_artifacts(self.folder, leave_out=("model", "fit", MARK))

    def _costs(self) -> dict[str, Any]:
        return {
            "seconds": {key: round(value, 3) for key, value in self.seconds.items()},
            "peak_memory_mb": round(devices.peak_memory_mb(), 1),
        }

    def _baseline_lines(self) -> list[tuple[str, str]]:
        return [
            (f"{name}: {key}", value)
            for name, values in self.baseline_facts.items()
            for key, value in values.items()
        ]

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
