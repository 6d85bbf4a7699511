"""REST serving: a registered model behind HTTP, with limits, jobs, streams and a page to try it by hand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core.errors import AppsError, ConfigError, RunError
from appliedpapers.pipelines import DEFAULT_STORE
from appliedpapers.pipelines.serving_settings import ServedModel, ServeSettings

if TYPE_CHECKING:
    from types import FrameType

    import pyarrow as pa
    from fastapi import FastAPI

    from appliedpapers.core.model import Model
    from appliedpapers.core.schema import TableSchema
    from appliedpapers.pipelines.locate import ModelRef
    from appliedpapers.pipelines.serving_routes import Serving

__all__ = ["ServeSettings", "ServedModel", "create_app", "load_served", "run_server", "serve"]
_log = logging.getLogger("appliedpapers.serve")


def create_app(models: Sequence[ServedModel], settings: ServeSettings | None = None) -> FastAPI:
    """Return the application over fitted models.

    Args:
        models: At least one; ``/invocations`` asks the first.
        settings: Limits; the defaults serve this machine alone.

    Raises:
        ConfigError: There is no model, or two carry one name.
    """
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    import appliedpapers
    from appliedpapers.pipelines.serving_guard import Guard
    from appliedpapers.pipelines.serving_page import add_pages
    from appliedpapers.pipelines.serving_routes import make_routes

    names = [served.name for served in models]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"cannot serve {names}.", hint="Give at least one model, each under its own name.")
    serving = _serving(models, settings or ServeSettings())
    app = FastAPI(
        title=serving.first.name,
        version=serving.first.version,
        description=serving.first.summary,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(serving),
        openapi_tags=[{"name": name} for name in ("predict", "jobs", "models", "operation")],
    )
    app.openapi_version = "3.1.0"
    app.state.serving = serving
    app.state.generator = f"applied-papers {appliedpapers.__version__}"
    app.include_router(make_routes(serving))
    add_pages(app, serving)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _parameter_problem)
    app.add_middleware(Guard, settings=serving.settings, metrics=serving.metrics, door=serving.door)
    return app


def load_served(ref: str, store_folder: Path = DEFAULT_STORE, *, device: str = "cpu") -> ServedModel:
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


def serve(ref: str, settings: ServeSettings | None = None, store_folder: Path = DEFAULT_STORE) -> None:
    """Serve one registered model until SIGTERM or Ctrl-C; what is in flight then is finished.

    Args:
        ref: ``frets@champion``, ``frets@3``, or the folder of a bundle.
        settings: Where to listen, and limits.
        store_folder: Where MLflow's store lies.

    Raises:
        ConfigError: No such model.
        RunError: The port is taken or may not be opened.
    """
    settings = settings or ServeSettings()
    listener = _listen(settings)
    with contextlib.closing(listener):
        served = load_served(ref, store_folder, device=settings.device)
        if settings.state_folder is None and served.model.cost == "job":
            from platformdirs import user_state_path

            settings = replace(
                settings, state_folder=user_state_path("applied-papers") / "serve" / served.name
            )
        run_server(create_app([served], settings), settings, listener)


def run_server(app: FastAPI, settings: ServeSettings, listener: socket.socket | None = None) -> None:
    """Run an application until SIGTERM or Ctrl-C.

    Raises:
        RunError: The port is taken, or the application could not start.
    """
    import uvicorn

    serving: Serving = app.state.serving
    listener = listener or _listen(settings)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    first = serving.first
    print(f"serving {first.name} version {first.version} at http://{shown}:{port}/", file=sys.stderr)
    if settings.exposed and settings.token is None:
        print("  other machines can reach it and no token is asked for (--token-file)", file=sys.stderr)
    config = uvicorn.Config(
        app,
        loop="auto" if sys.platform == "win32" else "uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        ws_max_size=settings.max_body,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s)),
    )

    class Server(uvicorn.Server):
        """Turns ready false before connections are closed."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """Drain at the first signal."""
            serving.door.draining = True
            super().handle_exit(sig, frame)

    server = Server(config)
    with _ends_quietly():
        server.run(sockets=[listener])
    if not server.started:
        raise RunError("the server could not start.", hint="The lines above say why.")


@contextlib.contextmanager
def _ends_quietly() -> Iterator[None]:
    """Let SIGTERM end the program with exit code 0: uvicorn raises the signal again after it has drained."""

    def ignore(sig: int, frame: FrameType | None) -> None:
        """Do nothing: the server has ended already."""

    try:
        before = signal.signal(signal.SIGTERM, ignore)
    except ValueError:
        # not the main thread: uvicorn takes no signals there either
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _serving(models: Sequence[ServedModel], settings: ServeSettings) -> Serving:
    from appliedpapers.pipelines.serving_batcher import Batcher
    from appliedpapers.pipelines.serving_codec import Decoder
    from appliedpapers.pipelines.serving_guard import Door
    from appliedpapers.pipelines.serving_jobs import JobRunner, JobStore
    from appliedpapers.pipelines.serving_metrics import Metrics
    from appliedpapers.pipelines.serving_routes import Serving

    metrics = Metrics()
    slow = [served for served in models if served.model.cost == "job"]
    store = None
    if slow:
        folder = settings.state_folder or Path(tempfile.mkdtemp(prefix="applied-papers-jobs-"))
        store = JobStore(folder, settings.max_jobs)
    decoders = {
        served.name: Decoder(
            served.model.input_schema, max_rows=settings.max_rows, folders=settings.file_folders
        )
        for served in models
    }
    return Serving(
        models={served.name: served for served in models},
        settings=settings,
        metrics=metrics,
        door=Door(),
        jobs=store,
        decoders=decoders,
        batchers={served.name: Batcher(served, decoders[served.name], metrics) for served in models},
        runners={served.name: JobRunner(served, store, metrics) for served in slow if store is not None},
    )


def _lifespan(serving: Serving) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if serving.jobs is not None:
            await asyncio.to_thread(serving.jobs.open)
        for batcher in serving.batchers.values():
            batcher.start()
        for runner in serving.runners.values():
            runner.start()
        warming = asyncio.create_task(serving.become_ready())
        try:
            yield
        finally:
            serving.door.draining = True
            serving.metrics.ready.set(0)
            warming.cancel()
            for runner in serving.runners.values():
                runner.stop()
            for batcher in serving.batchers.values():
                batcher.stop()
            if serving.jobs is not None:
                await asyncio.to_thread(serving.jobs.close)

    return lifespan


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


def _listen(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise RunError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror or error}).",
            hint="Choose another port with --port, or stop what uses this one.",
        ) from None


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
