"""REST serving: a registered model behind HTTP, with limits, jobs, streams and a page to try it by hand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core.errors import AppsError, ConfigError
from appliedpapers.pipelines import DEFAULT_STORE
from appliedpapers.pipelines.serving_settings import ServedModel, ServeSettings

if TYPE_CHECKING:
    import pyarrow as pa
    from fastapi import FastAPI

    from appliedpapers.core.model import Model
    from appliedpapers.core.schema import TableSchema
    from appliedpapers.pipelines.locate import ModelRef
    from appliedpapers.pipelines.serving_express import Application
    from appliedpapers.pipelines.serving_routes import Serving

__all__ = ["ServeSettings", "ServedModel", "create_app", "exchange", "load_served", "run_server", "serve"]
_log = logging.getLogger("appliedpapers.serve")


def create_app(models: Sequence[ServedModel], settings: ServeSettings | None = None) -> Application:
    """Return the application over fitted models.

    Args:
        models: At least one; ``/invocations`` asks the first.
        settings: Limits; the defaults serve this machine alone.

    Raises:
        ConfigError: There is no model, or two carry one name.
    """
    names = [served.name for served in models]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"cannot serve {names}.", hint="Give at least one model, each under its own name.")
    return _framework(_serving(models, settings or ServeSettings()))


def _framework(serving: Serving) -> Application:
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    import appliedpapers
    from appliedpapers.pipelines.serving_express import Application
    from appliedpapers.pipelines.serving_page import add_pages
    from appliedpapers.pipelines.serving_routes import make_routes

    app = Application(
        title=serving.first.name,
        version=serving.first.version,
        description=serving.first.summary,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        openapi_tags=[{"name": name} for name in ("predict", "jobs", "models", "operation")],
    )
    app.openapi_version = "3.1.0"
    app.state.serving = serving
    app.state.generator = f"applied-papers {appliedpapers.__version__}"
    app.include_router(make_routes(serving))
    add_pages(app, serving)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _parameter_problem)
    app.guarded(serving)
    return app


def exchange(app: Application, models: Sequence[ServedModel]) -> None:
    """Serve other versions from now on; requests that are inside are answered by the ones that they met.

    Called in any thread but the event loop's, which it does not hold up.

    Args:
        app: What :func:`create_app` returned, running.
        models: The models, under the names that are served already.

    Raises:
        AppsError: A model cannot predict its example; nothing has changed then.
    """
    before: Serving = app.state.serving
    serving = _serving(models, before.settings, before)
    serving.warm_up()
    fresh = _framework(serving)

    def switch() -> None:
        app.router.routes = fresh.router.routes
        app.lanes = fresh.lanes
        app.state.serving = serving
        serving.unready = ""
        for name, runner in serving.runners.items():
            if runner is not before.runners.get(name):
                runner.start()
        before.retire(serving)
        said = ", ".join(f"{served.name} version {served.version}" for served in models)
        _log.warning("serving %s", said)

    app.state.loop.call_soon_threadsafe(switch)


def load_served(
    ref: str | ModelRef, store_folder: Path = DEFAULT_STORE, *, device: str = "cpu"
) -> ServedModel:
    """Load a registered model, with an example from its simulator.

    Args:
        ref: ``frets@champion``, ``frets@3``, or the folder of a bundle.
        store_folder: Where MLflow's store lies.
        device: Where the model computes.

    Raises:
        ConfigError: No such model, alias or version.
        BundleError: The bundle is corrupt or was changed.
    """
    from appliedpapers.core.device import resolve_device
    from appliedpapers.pipelines.locate import locate

    found = locate(ref, store_folder)
    model = found.load(resolve_device(device))
    version = str(found.version or 0)
    return ServedModel(found.name, version, model, found.info, found.spec.summary, _example(model, found))


def serve(
    refs: str | Sequence[str], settings: ServeSettings | None = None, store_folder: Path = DEFAULT_STORE
) -> None:
    """Serve registered models until SIGTERM or Ctrl-C; what is in flight then is finished.

    Args:
        refs: The models; ``/invocations`` asks the first.
        settings: Where to listen, limits, and how many processes serve.
        store_folder: Where MLflow's store lies.

    Raises:
        ConfigError: No such model, or one is named twice.
        RunError: The port is taken or may not be opened, or workers end again and again.
    """
    from appliedpapers.core.device import set_threads
    from appliedpapers.pipelines.locate import locate
    from appliedpapers.pipelines.serving_server import listen
    from appliedpapers.pipelines.serving_watch import Watcher

    settings = settings or ServeSettings()
    set_threads(settings.threads)
    listener = listen(settings)
    with contextlib.closing(listener):
        found = {ref: locate(ref, store_folder) for ref in ([refs] if isinstance(refs, str) else refs)}
        names = [item.name for item in found.values()]
        if len(set(names)) < len(names):
            raise ConfigError(f"cannot serve {', '.join(names)} together.", hint="Name each model once.")
        if settings.workers > 1:
            from appliedpapers.pipelines.serving_workers import Workers

            pool = Workers(list(found.values()), settings, listener)
            if settings.watch_s is not None:
                Watcher(found, store_folder, settings.watch_s, pool.exchange).start()
            pool.run()
            return
        served = [load_served(item, device=settings.device) for item in found.values()]
        costs = [(item.name, item.model.cost) for item in served]
        settings = replace(settings, state_folder=settings.state_folder or state_folder(costs))
        app = create_app(served, settings)

        def moved(items: list[ModelRef]) -> None:
            exchange(app, reloaded(app, items, settings.device))

        if settings.watch_s is not None:
            Watcher(found, store_folder, settings.watch_s, moved).start()
        run_server(app, settings, listener)


def reloaded(app: FastAPI, found: Sequence[ModelRef], device: str) -> list[ServedModel]:
    """Return the models to be served, those of another version loaded and the others as they are."""
    serving: Serving = app.state.serving
    models = []
    for item in found:
        served = serving.models.get(item.name)
        same = served is not None and served.version == str(item.version or 0)
        models.append(served if served is not None and same else load_served(item, device=device))
    return models


def state_folder(costs: Sequence[tuple[str, str]]) -> Path | None:
    """Return where jobs are kept unless the operator said where; None where no model has any.

    Args:
        costs: Name and cost of each model.
    """
    from platformdirs import user_state_path

    slow = [name for name, cost in costs if cost == "job"]
    return user_state_path("applied-papers") / "serve" / slow[0] if slow else None


def run_server(app: FastAPI, settings: ServeSettings, listener: socket.socket | None = None) -> None:
    """Run an application until SIGTERM or Ctrl-C.

    Raises:
        RunError: The port is taken, or the application could not start.
    """
    from appliedpapers.pipelines.serving_server import announce, listen, run_until_signal

    serving: Serving = app.state.serving
    listener = listener or listen(settings)
    said = ", ".join(f"{served.name} version {served.version}" for served in serving.models.values())
    announce(listener, said, settings)
    run_until_signal(app, settings, listener)


def _serving(
    models: Sequence[ServedModel], settings: ServeSettings, before: Serving | None = None
) -> Serving:
    """Put together what the routes share; what does not change is taken from ``before``."""
    from appliedpapers.pipelines.serving_batcher import Batcher
    from appliedpapers.pipelines.serving_codec import Decoder
    from appliedpapers.pipelines.serving_guard import Door
    from appliedpapers.pipelines.serving_jobs import JobRunner, JobStore
    from appliedpapers.pipelines.serving_log import AccessLog
    from appliedpapers.pipelines.serving_metrics import Metrics
    from appliedpapers.pipelines.serving_routes import Serving

    metrics = before.metrics if before else Metrics(settings.metrics_folder)
    kept = {} if before is None else before.models
    slow = [served for served in models if served.model.cost == "job"]
    store = before.jobs if before else None
    if slow and store is None:
        folder = settings.state_folder or Path(tempfile.mkdtemp(prefix="applied-papers-jobs-"))
        store = JobStore(folder, settings.max_jobs, shared=settings.workers > 1)
    decoders = {
        served.name: Decoder(
            served.model.input_schema,
            max_rows=settings.max_rows,
            max_body=settings.max_body,
            folders=settings.file_folders,
        )
        for served in models
    }
    batchers, runners = {}, {}
    for served in models:
        same = before if kept.get(served.name) is served else None
        batchers[served.name] = (
            same.batchers[served.name]
            if same
            else Batcher(
                served, decoders[served.name], metrics, settings.request_timeout_s, settings.max_rows
            )
        )
        if served in slow and store is not None:
            runners[served.name] = same.runners[served.name] if same else JobRunner(served, store, metrics)
    return Serving(
        models={served.name: served for served in models},
        settings=settings,
        metrics=metrics,
        door=before.door if before else Door(),
        jobs=store,
        decoders=decoders,
        batchers=batchers,
        runners=runners,
        log=before.log if before else (AccessLog(settings.access_log) if settings.access_log else None),
    )


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    serving: Serving = app.state.serving
    app.state.loop = asyncio.get_running_loop()
    if serving.jobs is not None:
        await asyncio.to_thread(serving.jobs.open)
    for batcher in serving.batchers.values():
        batcher.start()
    for runner in serving.runners.values():
        runner.start()
    tasks = [asyncio.create_task(serving.become_ready()), asyncio.create_task(serving.keep_books())]
    try:
        yield
    finally:
        serving = app.state.serving
        serving.door.draining = True
        serving.metrics.ready = 0
        for task in tasks:
            task.cancel()
        for runner in serving.runners.values():
            runner.stop()
        for batcher in serving.batchers.values():
            batcher.stop()
        serving.metrics.publish(ended=True)
        if serving.log is not None:
            serving.log.flush()
        if serving.jobs is not None:
            await asyncio.to_thread(serving.jobs.close)


def _http_problem(request: Any, error: Any) -> Any:
    from appliedpapers.pipelines.serving_problems import Problem

    kinds = {404: "no-route", 405: "method"}
    details = {404: "There is no such route.", 405: f"{request.method} is not taken here."}
    problem = Problem(
        error.status_code,
        kinds.get(error.status_code, "http"),
        details.get(error.status_code, str(error.detail)),
        "GET /docs lists the routes.",
        headers=error.headers or {},
    )
    request.app.state.serving.metrics.refused(problem.kind)
    return problem.response()


def _parameter_problem(request: Any, error: Any) -> Any:
    from appliedpapers.pipelines.serving_problems import Problem

    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    return Problem(422, "parameter", f"{name}: {first['msg']}.", "GET /docs lists the routes.").response()


def _example(model: Model, found: ModelRef) -> pa.Table | None:
    """Return rows to try the model with: those of its own data, or one group (or a few rows) simulated.

    A model whose columns are its own and that brought no rows is tried with the examples of its schema; one
    without any is served all the same.
    """
    from appliedpapers.core.sources import load_dataset

    schema = model.input_schema
    brought = _checked(found.info.dataset.get("example"), schema)
    if brought is not None:
        return brought
    try:
        split = load_dataset(found.task.load("datasets"), found.spec.id, model.config).test
        return split.example(1 if schema.group_by else 3)
    except AppsError as error:
        record = {column.name: column.example for column in schema.columns if column.example is not None}
        made = _checked([record], schema) if record else None
        if made is None:
            _log.warning("no example for the page: %s", error.message)
        return made


def _checked(records: Any, schema: TableSchema) -> pa.Table | None:
    from appliedpapers.core.validation import check, from_records

    if not records:
        return None
    try:
        return check(from_records(records, schema), schema, source="example").require_clean()
    except AppsError:
        return None
