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
from appliedpapers.core.contest import contend
from appliedpapers.core.data import Dataset, LeakageFinding, leakage_audit
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.evaluation import Baseline, Evaluation, Material, Scored
from appliedpapers.core.files import whole_file, write_json, write_text
from appliedpapers.core.metrics import metric
from appliedpapers.core.model import FitContext, Model
from appliedpapers.core.progress import Progress, SilentProgress
from appliedpapers.core.results import (
    Elsewhere,
    RunFacts,
    build_results,
    split_published,
    write_results,
)
from appliedpapers.core.sources import load_dataset
from appliedpapers.pipelines.run_folder import (
    RESULTS,
    Registration,
    RunRequest,
    RunResult,
    environment,
    is_run,
    new_id,
    write_request,
)

if TYPE_CHECKING:
    from appliedpapers.pipelines.tracking import RunLog
    from appliedpapers.pipelines.tracking_store import Store

_EXAMPLE_ROWS = 3
_EXAMPLE_BYTES = 20_000


def run(
    request: RunRequest,
    *,
    runs: Path = Path("runs"),
    store_folder: Path = Path("mlruns"),
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
    store_folder: Path = Path("mlruns"),
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
        self._fit_and_choose(evaluation, dataset, self._initial_model())
        self._fit_baselines(evaluation, dataset)

    def live(self) -> RunResult:
        """Live it from data to registered model."""
        evaluation: Evaluation = self.task.load("evaluation")
        dataset = self._load()
        findings = self._audit(dataset)
        init = self._initial_model()
        # not before everything that was asked for is known to be there: a refused run leaves no folder
        write_request(self.folder, self.request)
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
        )
        with started as self.log:
            name, model = self._fit_and_choose(evaluation, dataset, init)
            baselines = self._fit_baselines(evaluation, dataset)
            material = self._evaluate(evaluation, dataset, name, model, baselines)
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
                raise self._with_quarantine(error) from error

    def _with_quarantine(self, error: DataError) -> DataError:
        if error.violations is None:
            return error
        import pyarrow.parquet as pq

        path = self.folder / "quarantine.parquet"
        with whole_file(path) as aside:
            pq.write_table(error.violations, aside)
        rows = error.violations.num_rows
        listed = f"{rows} bad {'value is' if rows == 1 else 'values are'} listed in {path}."
        return DataError(
            error.message, hint=f"{error.hint or ''} {listed}".strip(), violations=error.violations
        )

    def _audit(self, dataset: Dataset) -> list[LeakageFinding]:
        findings = leakage_audit(dataset)
        if findings and not self.request.allow_leakage:
            raise DataError(
                f"{dataset.name}: {findings[0].sentence()}.",
                hint="A test score would be too good to be true. Mend the data, or add --allow-leakage.",
            )
        self.warnings += [f"leakage: {finding.sentence()}" for finding in findings]
        return findings

    def _announce(self, dataset: Dataset, findings: Sequence[LeakageFinding]) -> None:
        synthetic = " (synthetic: true)" if dataset.provenance.synthetic else ""
        say = self.progress.say
        say(
            f" {self.spec.id} · {dataset.name}{synthetic} · preset {self.request.preset} · "
            f"{devices.describe_device(self.device)} · seed {self.request.config.seed}"
        )
        leaks = "no leakage found" if not findings else f"{len(findings)} leaks allowed"
        say(
            " "
            + " · ".join(part for part in (f"data      {dataset.summary}", dataset.split_note, leaks) if part)
        )
        for note in dataset.notes:
            say(f"           {note}")

    def _context(self, name: str) -> FitContext:
        history = self.histories.setdefault(name, [])

        def log_metrics(metrics: Mapping[str, float], step: int, /) -> None:
            history.append({"step": step, **metrics})
            if self.log is not None:
                self.log.log_metrics({f"{name}/{key}": value for key, value in metrics.items()}, step)

        return FitContext(
            folder=self.folder / "fit" / name,
            seed=self.request.config.seed,
            device=self.device,
            precision=self.request.precision,
            devices=self.request.devices,
            resume=self.resuming,
            progress=self.progress,
            log_metrics=log_metrics,
        )

    def _fit_and_choose(
        self, evaluation: Evaluation, dataset: Dataset, init: Model | None
    ) -> tuple[str, Model]:
        """Fit the configured model and its variants; the primary metric on valid chooses."""
        model_class: type[Model] = self.task.load("model")
        candidates = {self.spec.id: self.request.config, **evaluation.variants(self.request.config)}
        fitted: dict[str, tuple[float, Model]] = {}
        with self._timed("fit"):
            for name, config in candidates.items():
                devices.seed_everything(config.seed)
                model = model_class(config).fit(dataset.train, dataset.valid, self._context(name), init=init)
                model.progress = self.progress
                value = 0.0
                if len(candidates) > 1:
                    scored = evaluation.score(
                        evaluation.predict(model, dataset.valid), dataset.valid, dataset
                    )
                    primary = evaluation.primary_for(dataset)
                    value = _signed(primary, scored)
                    self.progress.say(f" {name}: valid {primary} {abs(value):.4g}")
                fitted[name] = (value, model)
        name = min(fitted, key=lambda key: fitted[key][0])
        return name, fitted[name][1]

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

    def _fit_baselines(self, evaluation: Evaluation, dataset: Dataset) -> list[Baseline]:
        baselines = list(evaluation.baselines(self.request.config, dataset))
        if not baselines:
            return []
        self.progress.say(" baselines " + " · ".join(baseline.name for baseline in baselines))
        with self._timed("baselines"):
            for baseline in baselines:
                devices.seed_everything(self.request.config.seed)
                baseline.fit(dataset.train, dataset.valid, self._context(baseline.name))
        return baselines

    def _evaluate(
        self, evaluation: Evaluation, dataset: Dataset, name: str, model: Model, baselines: Sequence[Baseline]
    ) -> Material:
        """Open the test set: once, after everything was chosen."""
        config = self.request.config
        with self._timed("evaluate"):
            contest = contend(evaluation, dataset, name, model, baselines, seed=config.seed)
        same, self.elsewhere = split_published(
            evaluation.published(config, dataset),
            dataset=dataset.name,
            protocol=dataset.protocol,
            config=config,
        )
        with self._timed("statistics"):
            results = build_results(
                self._facts(dataset),
                contest.contenders,
                primary=evaluation.primary_for(dataset),
                paired_test=evaluation.paired_test,
                lag=evaluation.lag(config, dataset),
                published=same,
                warnings=self.warnings,
                seed=config.seed,
            )
        self.baseline_facts = {item.name: dict(item.describe()) for item in baselines}
        return Material(
            dataset, model, name, contest.predictions, contest.scored, results, self.histories, config
        )

    def _facts(self, dataset: Dataset) -> RunFacts:
        return RunFacts.of(
            dataset,
            run_id=self.id,
            plugin=self.spec.id,
            task=self.task.name,
            preset=self.request.preset,
            seed=self.request.config.seed,
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
                **self._own_example(dataset),
            },
        )
        return bundle

    def _own_example(self, dataset: Dataset) -> dict[str, Any]:
        """Return a few rows of the user's own data, which a served model is tried with."""
        from appliedpapers.core.tables import plain_row

        if self.request.data is None:
            return {}
        rows = [plain_row(row) for row in dataset.train.example(_EXAMPLE_ROWS).to_pylist()]
        try:
            small = len(json.dumps(rows)) <= _EXAMPLE_BYTES
        except TypeError:  # bytes of files, for one
            small = False
        return {"example": rows} if small else {}

    def _register(self, evaluation: Evaluation, material: Material, bundle: Path) -> Registration | None:
        assert self.log is not None
        if not self.request.register:
            return None
        from appliedpapers.pipelines import registry

        name = self.spec.registered_name(self.task)
        with self._timed("register"):
            uri = self.log.log_model(bundle, name, material.dataset.train.example())
            tags = registry.results_tags(material.results, evaluation.primary_for(material.dataset))
            version, alias = registry.register(
                self.store, name=name, model_uri=uri, run_id=self.log.run_id, tags=tags
            )
        material.results["model_version"] = version
        return Registration(name, version, alias)

    def _report(self, evaluation: Evaluation, material: Material, findings: Sequence[LeakageFinding]) -> Path:
        from appliedpapers.pipelines.report import write_model_card, write_report

        material.results |= self._costs()
        facts = [*material.model.describe(), *self._baseline_lines()]
        report = write_report(
            self.folder,
            material,
            evaluation=evaluation,
            environment=environment(self.device),
            command=self.request.command,
            findings=[finding.sentence() for finding in findings],
            published_elsewhere=self.elsewhere,
            facts=facts,
        )
        write_model_card(
            self.folder, material, environment=environment(self.device), command=self.request.command
        )
        write_text(self.folder / "config.yaml", configs.commented_yaml(self.request.config))
        write_json(self.folder / "config.schema.json", type(self.request.config).model_json_schema())
        return report

    def _finish(self, material: Material) -> None:
        assert self.log is not None
        material.results |= self._costs()
        self.log.log_results(material.results)
        # last: its presence says that the run is complete
        write_results(self.folder / RESULTS, material.results)
        # the bundle is logged as a model, checkpoints stay here
        self.log.log_artifacts(self.folder, leave_out=("model", "fit"))

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


def _signed(primary: str, scored: Scored) -> float:
    value = scored.metrics[primary].value
    return -value if metric(primary).higher_is_better else value
