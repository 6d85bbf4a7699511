"""Runs in the MLflow store. Import this module only where MLflow is needed: it takes 2 s."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from appliedpapers.core.plugin import NAME_PREFIX
from appliedpapers.core.verdict import selected_rows
from appliedpapers.pipelines.tracking_store import Store, store_errors, user_name

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.config import TaskConfig
    from appliedpapers.core.data import Dataset

_FLUSH_EVERY_S = 5.0
_PARAMS_A_WRITE = 100
_METRICS_A_WRITE = 1000
_DIGEST_LENGTH = 36
_TAG_LENGTH = 8000


class RunLog:
    """What is written about one run. Metrics are buffered; everything else is written at once.

    Attributes:
        run_id: MLflow's id of the run.
        store: The store that it lies in.
    """

    def __init__(self, store: Store, run_id: str, experiment_id: str) -> None:
        self.store = store
        self.run_id = run_id
        self._experiment_id = experiment_id
        self._buffer: list[Metric] = []
        self._flushed = time.monotonic()
        self._guard = Lock()

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record the metrics of one epoch; they reach the store within seconds and at the end of the run."""
        now = int(time.time() * 1000)
        with self._guard:
            self._buffer += [Metric(key, float(value), now, step) for key, value in metrics.items()]
            due = time.monotonic() - self._flushed >= _FLUSH_EVERY_S
        if due or len(self._buffer) >= _METRICS_A_WRITE:
            self.flush()

    def flush(self) -> None:
        """Write the buffered metrics."""
        with self._guard:
            pending, self._buffer = self._buffer, []
            self._flushed = time.monotonic()
        with store_errors(self.store.tracking_uri):
            for start in range(0, len(pending), _METRICS_A_WRITE):
                self.store.client.log_batch(
                    self.run_id, metrics=pending[start : start + _METRICS_A_WRITE], synchronous=True
                )

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags of the run."""
        entities = [RunTag(key, str(value)[:_TAG_LENGTH]) for key, value in tags.items()]
        with store_errors(self.store.tracking_uri):
            for start in range(0, len(entities), _PARAMS_A_WRITE):
                chunk = entities[start : start + _PARAMS_A_WRITE]
                self.store.client.log_batch(self.run_id, tags=chunk, synchronous=True)

    def log_results(self, doc: Mapping[str, Any]) -> None:
        """Log the selected model's overall figures in a results document, and its seconds, as metrics.

        Metrics are called ``test.<metric>``, with ``.low`` and ``.high`` for their interval.
        """
        metrics: dict[str, float] = {}
        for row in selected_rows(doc):
            for suffix, key in (("", "value"), (".low", "low"), (".high", "high")):
                if row.get(key) is not None:
                    metrics[f"test.{row['metric']}{suffix}"] = row[key]
        seconds = doc.get("seconds") or {}
        metrics |= {f"seconds.{name}": value for name, value in seconds.items() if value is not None}
        self.log_metrics(metrics)
        self.flush()

    def log_artifacts(self, folder: Path, leave_out: Sequence[str] = ()) -> None:
        """Copy a folder's files to the run's artifacts, except the entries named in ``leave_out``."""
        with store_errors(self.store.tracking_uri):
            for entry in sorted(folder.iterdir()):
                if entry.name in leave_out:
                    continue
                if entry.is_dir():
                    self.store.client.log_artifacts(self.run_id, str(entry), entry.name)
                else:
                    self.store.client.log_artifact(self.run_id, str(entry))

    def log_model(
        self,
        bundle_folder: Path,
        name: str = "model",
        example: pa.Table | None = None,
        *,
        cards: Sequence[Path] = (),
    ) -> str:
        """Log a bundle as an MLflow model made from code; nothing is pickled and nothing is inferred.

        Args:
            bundle_folder: A bundle.
            name: Name of the logged model.
            example: Rows as a user would send them; kept beside the model as JSON.
            cards: Files that travel with the model: what it is, and what it was made from.

        Returns:
            The model's address, ``models:/m-…``.

        Raises:
            BundleError: The bundle is corrupt.
            RunError: The store refused the model.
        """
        import shutil
        import tempfile

        from appliedpapers.pipelines.packaging import write_model

        client = self.store.client
        with store_errors(self.store.tracking_uri):
            # MLflow allows no dots here, and registered names have them
            plain = name.replace(".", "-")
            model = client.create_logged_model(self._experiment_id, name=plain, source_run_id=self.run_id)
            aside = Path(tempfile.mkdtemp(prefix="apps-model-"))
            try:
                write_model(
                    bundle_folder,
                    aside / "model",
                    run_id=self.run_id,
                    model_id=model.model_id,
                    artifact_location=model.artifact_location,
                    example=example,
                )
                for card in cards:
                    shutil.copyfile(card, aside / "model" / card.name)
                client.log_model_artifacts(model.model_id, str(aside / "model"))
            except BaseException:
                client.finalize_logged_model(model.model_id, "FAILED")
                raise
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            client.finalize_logged_model(model.model_id, "READY")
            client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step=0)])
        return f"models:/{model.model_id}"


@contextmanager
def start_run(
    store: Store,
    *,
    plugin: str,
    task: str,
    config: TaskConfig,
    preset: str,
    dataset: Dataset,
    tags: Mapping[str, Any] | None = None,
    fingerprint: str | None = None,
    resumed: str | None = None,
) -> Iterator[RunLog]:
    """Record one run in the experiment ``apps.<plugin>``.

    The run ends as FINISHED, as FAILED when an exception leaves the block, or as KILLED when it was
    interrupted.

    Args:
        store: Where to record.
        plugin: Plugin id.
        task: Task name.
        config: Resolved configuration; its leaves become parameters such as ``model.horizon``.
        preset: Name of the preset.
        dataset: What the run is about; only facts about it are logged, no row.
        tags: Further tags.
        fingerprint: ``dataset.fingerprint()`` where it is known already.
        resumed: Id of the record that an earlier try of this run began; it is gone on with.

    Raises:
        RunError: The store refused.
    """
    digest = fingerprint or dataset.fingerprint()
    names = {"apps.plugin": plugin, "apps.task": task, "apps.preset": preset, "mlflow.user": user_name()}
    title = "-".join((task, dataset.name, preset))
    with store_errors(store.tracking_uri):
        experiment = store.experiment(f"{NAME_PREFIX}{plugin}")
        run_id = _reopened(store, resumed) if resumed else None
        if run_id is None:
            run_id = store.client.create_run(experiment, run_name=title, tags=names).info.run_id
    run = RunLog(store, run_id, experiment)
    status = "FAILED"
    try:
        _log_params(run, config)
        _log_dataset(run, dataset, digest)
        run.set_tags(tags or {})
        yield run
        run.flush()
        status = "FINISHED"
    except Exception:
        raise
    except BaseException:
        status = "KILLED"
        raise
    finally:
        _end(run, status)


def _reopened(store: Store, run_id: str) -> str | None:
    """Return the id of a record that goes on; None where it is gone from the store."""
    try:
        store.client.update_run(run_id, status="RUNNING")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run_id


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings as ``("a.b", value)``."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _log_params(run: RunLog, config: TaskConfig) -> None:
    told = ((key, value) for key, value in leaves(config.model_dump(mode="json")) if value != {})
    params = [Param(key, str(value)) for key, value in told]
    with store_errors(run.store.tracking_uri):
        for start in range(0, len(params), _PARAMS_A_WRITE):
            chunk = params[start : start + _PARAMS_A_WRITE]
            run.store.client.log_batch(run.run_id, params=chunk, synchronous=True)


def _log_dataset(run: RunLog, dataset: Dataset, digest: str) -> None:
    provenance = dataset.provenance
    entity = DatasetEntity(
        name=dataset.name,
        digest=digest[:_DIGEST_LENGTH],
        source_type="applied-papers",
        source=json.dumps({"source": provenance.source, "licence": provenance.licence}),
        profile=json.dumps(
            {
                "fingerprint": digest,
                "protocol": dataset.protocol,
                "synthetic": provenance.synthetic,
                "summary": dataset.summary,
            }
        ),
    )
    facts = {
        "mlflow.data.context": "training",
        "apps.protocol": dataset.protocol,
        "apps.synthetic": str(provenance.synthetic).lower(),
    }
    entry = DatasetInput(entity, tags=[InputTag(key, value) for key, value in facts.items()])
    with store_errors(run.store.tracking_uri):
        run.store.client.log_inputs(run.run_id, datasets=[entry])


def _end(run: RunLog, status: str) -> None:
    if status == "FINISHED":
        with store_errors(run.store.tracking_uri):
            run.store.client.set_terminated(run.run_id, status)
        return
    # the error that ended the run matters more than one of the store
    with contextlib.suppress(Exception):
        run.flush()
    with contextlib.suppress(Exception):
        run.store.client.set_terminated(run.run_id, status)
