"""The routes of a served model: invocations, health, metadata, jobs and metrics."""

from __future__ import annotations

import asyncio
import gc
import logging
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response
from starlette.websockets import WebSocket

import appliedpapers
from appliedpapers.core.json_rows import records, to_json
from appliedpapers.core.validation import check
from appliedpapers.pipelines.serving_about import documented, metadata
from appliedpapers.pipelines.serving_batcher import Batcher
from appliedpapers.pipelines.serving_codec import Decoder, media_type
from appliedpapers.pipelines.serving_guard import Door
from appliedpapers.pipelines.serving_infer import read_tensors, write_tensors
from appliedpapers.pipelines.serving_jobs import Job, JobRunner, JobStore
from appliedpapers.pipelines.serving_log import AccessLog
from appliedpapers.pipelines.serving_metrics import Metrics
from appliedpapers.pipelines.serving_problems import Refused, problem_of, refuse, shorten
from appliedpapers.pipelines.serving_settings import ServedModel, ServeSettings
from appliedpapers.pipelines.serving_streams import run_stream

_log = logging.getLogger("appliedpapers.serve")
_POLL_S = 0.05
_BOOKS_S = 0.5


@dataclass
class Serving:
    """Everything that the routes share.

    Attributes:
        models: Served models by name; ``/invocations`` asks the first.
        settings: Limits.
        metrics: Counters.
        door: Whether requests are taken.
        jobs: Where jobs are kept; None when no model needs them.
        batchers: One for each model.
        decoders: One for each model.
        runners: One for each model whose cost is ``job``.
        log: Where answers are written to, if anywhere.
        unready: Why the server is not ready; empty when it is.
    """

    models: dict[str, ServedModel]
    settings: ServeSettings
    metrics: Metrics
    door: Door
    jobs: JobStore | None
    decoders: dict[str, Decoder]
    batchers: dict[str, Batcher]
    runners: dict[str, JobRunner]
    log: AccessLog | None = None
    unready: str = "warming up"

    @property
    def first(self) -> ServedModel:
        """The model that ``/invocations`` asks."""
        return next(iter(self.models.values()))

    def model(self, name: str, version: str | None = None) -> ServedModel:
        """Return a model.

        Raises:
            Refused: 404, it is not served here, or not in this version.
        """
        if name not in self.models:
            raise refuse(
                404,
                "no-model",
                f"No model is called '{shorten(name)}'.",
                f"Served: {', '.join(self.models)}.",
            )
        served = self.models[name]
        if version not in (None, served.version):
            raise refuse(
                404, "no-model", f"{name} is not served in that version.", f"Served: {served.version}."
            )
        return served

    @property
    def lanes(self) -> dict[str, Batcher]:
        """Who answers, by the path of the predicting routes of models that answer at once."""
        paths = {"/invocations": self.first, **{_named(name): item for name, item in self.models.items()}}
        return {
            path: self.batchers[served.name] for path, served in paths.items() if served.model.cost != "job"
        }

    def warm_up(self) -> None:
        """Predict each example, so that no client pays for imports, allocations and kernels."""
        for served in self.models.values():
            # Arrow imports pandas at the first conversion when it is installed
            pa.array([1.0, None])
            if served.example is None:
                continue
            if served.model.cost == "job":
                check(served.example, served.model.input_schema).require_clean()
            else:
                self.batchers[served.name].rehearse(served.example)

    async def become_ready(self) -> None:
        """Warm up without keeping the loop from answering health questions."""
        try:
            await asyncio.to_thread(self.warm_up)
        except Exception as error:
            _log.exception("the example could not be predicted")
            self.unready = f"the example could not be predicted: {problem_of(error).detail}"
            return
        # what lives as long as the server is not looked through again by the garbage collector
        gc.collect()
        gc.freeze()
        self.unready = ""
        self.metrics.ready = 1

    async def keep_books(self) -> None:
        """Write the access log and tell the other workers what was counted, as long as the server runs."""
        while True:
            await asyncio.sleep(_BOOKS_S)
            if self.log is not None:
                self.log.flush()
            self.metrics.publish()

    def retire(self, successor: Serving) -> None:
        """Let models end that are no longer served: batches when they are done, jobs when none is left."""
        for name, batcher in self.batchers.items():
            if successor.batchers.get(name) is not batcher:
                batcher.stop()
        for name, runner in self.runners.items():
            if successor.runners.get(name) is not runner:
                runner.retire()


def make_routes(serving: Serving) -> APIRouter:
    """Return the routes over ``serving``."""
    router = APIRouter()
    _add_health(router, serving)
    _add_models(router, serving)
    if serving.jobs is not None:
        _add_jobs(router, serving, serving.jobs)

    if any(served.model.streams for served in serving.models.values()):

        @router.websocket("/v2/streams")
        async def streams(socket: WebSocket) -> None:
            with serving.metrics.stream():
                await run_stream(socket, serving.models, serving.decoders, serving.settings.max_body)

    @router.get("/metrics", tags=["operation"], summary="Prometheus metrics")
    async def metrics() -> Response:
        if serving.jobs is not None:
            serving.metrics.jobs = await asyncio.to_thread(serving.jobs.counts)
        text = await asyncio.to_thread(serving.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


async def read_body(request: Request, settings: ServeSettings) -> bytes:
    """Return the whole body, of known length or chunked.

    Raises:
        Refused: 408 too slow, 413 too large, 415 compressed.
    """
    limit = settings.max_body
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(settings)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise refuse(415, "media-type", "Compressed bodies are not read.", "Send it uncompressed.")
    chunks, size = [], 0
    try:
        async with asyncio.timeout(settings.request_timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large(settings)
                chunks.append(chunk)
    except TimeoutError:
        raise refuse(408, "slow", "The body did not arrive in time.", "Send it faster.") from None
    return b"".join(chunks)


def _too_large(settings: ServeSettings) -> Refused:
    return refuse(
        413,
        "too-large",
        f"The body is larger than {settings.max_body_mb:g} MiB.",
        "Send several requests, or score files with apps score run.",
        Connection="close",
    )


def _add_health(router: APIRouter, serving: Serving) -> None:
    @router.get("/v2/health/live", tags=["operation"], summary="Whether the process answers")
    @router.get("/ping", include_in_schema=False)
    @router.get("/health", include_in_schema=False)
    async def live() -> Response:
        return _json({"live": True})

    @router.get("/v2/health/ready", tags=["operation"], summary="Whether requests are taken")
    async def ready() -> Response:
        reason = "shutting down" if serving.door.leaving or serving.door.draining else serving.unready
        if reason:
            raise refuse(503, "not-ready", f"Not ready: {reason}.", Retry_After="1")
        return _json({"ready": True})

    @router.get("/v2", tags=["models"], summary="The server")
    async def server() -> Response:
        extensions = ["jobs"] if serving.jobs is not None else []
        return _json(
            {"name": "applied-papers", "version": appliedpapers.__version__, "extensions": extensions}
        )

    @router.get("/version", include_in_schema=False)
    async def version() -> Response:
        return Response(appliedpapers.__version__, media_type="text/plain")


def _add_models(router: APIRouter, serving: Serving) -> None:
    documents = {name: to_json(metadata(served)) for name, served in serving.models.items()}

    @router.get("/v2/models", tags=["models"], summary="Names and versions of the served models")
    async def models() -> Response:
        listed = [{"name": item.name, "version": item.version} for item in serving.models.values()]
        return _json({"models": listed})

    @router.get("/v2/models/{name}", tags=["models"], summary="Schemas and facts of a model")
    @router.get("/v2/models/{name}/versions/{version}", tags=["models"], summary="The same of a version")
    async def model(name: str, version: str | None = None) -> Response:
        serving.model(name, version)
        return Response(documents[name], media_type="application/json")

    @router.get("/v2/models/{name}/ready", tags=["models"], summary="Whether a model takes requests")
    @router.get(
        "/v2/models/{name}/versions/{version}/ready", tags=["models"], summary="The same of a version"
    )
    async def model_ready(name: str, version: str | None = None) -> Response:
        serving.model(name, version)
        if serving.unready or serving.door.leaving or serving.door.draining:
            raise refuse(503, "not-ready", "Not ready.", Retry_After="1")
        return _json({"name": name, "ready": True})

    @router.post("/invocations", **documented("Predict, in the request shapes of MLflow"))
    async def invocations(request: Request) -> Response:
        return await _invoke(serving, serving.first, request)

    for served in serving.models.values():
        _add_named(router, serving, served)


def _add_named(router: APIRouter, serving: Serving, served: ServedModel) -> None:
    @router.post(_named(served.name), **documented(f"Predict with {served.name}"))
    async def named(request: Request) -> Response:
        return await _invoke(serving, served, request)

    name, said = served.name, documented(f"Predict with {served.name}, in tensors")

    @router.post(f"/v2/models/{name}/infer", include_in_schema=served.model.cost != "job", **said)
    async def infer(request: Request) -> Response:
        return await _infer(serving, served, request)

    @router.post(f"/v2/models/{name}/versions/{{version}}/infer", include_in_schema=False, **said)
    async def infer_version(request: Request, version: str) -> Response:
        return await _infer(serving, serving.model(name, version), request)


def _named(name: str) -> str:
    return f"/v2/models/{name}/invocations"


async def _invoke(serving: Serving, served: ServedModel, request: Request) -> Response:
    body = await read_body(request, serving.settings)
    content_type = request.headers.get("content-type")
    if served.model.cost == "job":
        return await _invoke_job(serving, served, body, content_type)
    answer = await serving.batchers[served.name].answer(body, content_type)
    return Response(answer, media_type="application/json")


async def _infer(serving: Serving, served: ServedModel, request: Request) -> Response:
    """Answer the tensor form of the Open Inference Protocol."""
    if served.model.cost == "job":
        raise refuse(422, "no-infer", f"{served.name} takes long.", "Use POST /v2/jobs for this model.")
    if media_type(request.headers.get("content-type")) != "application/json":
        raise refuse(415, "media-type", "Tensors are read as JSON.", "Expected application/json.")
    body = await read_body(request, serving.settings)
    asked = await asyncio.to_thread(read_tensors, body, served)
    answer = await serving.batchers[served.name].answer(asked.body, "application/json")
    made = await asyncio.to_thread(write_tensors, asked, served, answer)
    return Response(made, media_type="application/json")


async def _invoke_job(
    serving: Serving, served: ServedModel, body: bytes, content_type: str | None
) -> Response:
    """Submit a job and wait for it; a client that asks for too much gets 202 and the job's address."""
    assert serving.jobs is not None
    job = await _submit(serving, serving.jobs, served, body, content_type)
    waited = 0.0
    while job.state not in ("done", "failed"):
        if waited >= serving.settings.request_timeout_s or serving.door.draining:
            return _accepted(job)
        await asyncio.sleep(_POLL_S)
        waited += _POLL_S
        job = await asyncio.to_thread(serving.jobs.get, job.id)
    return await asyncio.to_thread(_result, serving.jobs, job)


async def _submit(
    serving: Serving, store: JobStore, served: ServedModel, body: bytes, content_type: str | None
) -> Job:
    def checked() -> pa.Table:
        table = serving.decoders[served.name].table(body, content_type)
        return check(table, served.model.input_schema, source="request").require_clean()

    try:
        table = await asyncio.to_thread(checked)
        job = await asyncio.to_thread(store.submit, served, table)
    except Exception as error:
        problem = problem_of(error)
        if problem.status >= 500:
            _log.exception("a job could not be taken")
        raise Refused(problem) from error
    serving.runners[served.name].wake()
    return job


def _add_jobs(router: APIRouter, serving: Serving, store: JobStore) -> None:
    first = next(served for served in serving.models.values() if served.model.cost == "job")

    @router.post("/v2/jobs", **documented("Submit a prediction that takes long", job=True))
    async def submit(request: Request, model: str | None = None) -> Response:
        served = first if model is None else serving.model(model)
        if served.name not in serving.runners:
            raise refuse(
                422, "no-job", f"{served.name} answers at once.", "Use POST /invocations for this model."
            )
        content_type = request.headers.get("content-type")
        media_type(content_type)
        body = await read_body(request, serving.settings)
        return _accepted(await _submit(serving, store, served, body, content_type))

    @router.get("/v2/jobs/{key}", tags=["jobs"], summary="The state of a job")
    async def status(key: str) -> Response:
        return _json((await asyncio.to_thread(store.get, key)).document())

    @router.get("/v2/jobs/{key}/result", tags=["jobs"], summary="The prediction of a job that is done")
    async def result(key: str) -> Response:
        job = await asyncio.to_thread(store.get, key)
        if job.state not in ("done", "failed"):
            raise refuse(409, "not-done", f"The job is {job.state}.", "Ask again later.", Retry_After="2")
        return await asyncio.to_thread(_result, store, job)

    @router.get("/v2/jobs/{key}/files/{name:path}", tags=["jobs"], summary="A file that a job wrote")
    async def file(key: str, name: str) -> Response:
        path = await asyncio.to_thread(store.file, key, name)
        headers = {"Content-Disposition": "attachment", "Content-Security-Policy": "sandbox"}
        return FileResponse(path, headers=headers)

    @router.delete("/v2/jobs/{key}", tags=["jobs"], summary="Forget a job and its files")
    async def delete(key: str) -> Response:
        await asyncio.to_thread(store.delete, key)
        return Response(status_code=204)


def _result(store: JobStore, job: Job) -> Response:
    if job.state == "failed":
        document = job.document()["problem"]
        return Response(to_json(document), int(document["status"]), media_type="application/problem+json")
    files = [
        {"path": str(path), "url": f"/v2/jobs/{job.id}/files/{path.as_posix()}"}
        for path in store.files(job.id)
    ]
    return Response(
        to_json({"predictions": records(store.output(job.id)), "files": files}), media_type="application/json"
    )


def _accepted(job: Job) -> Response:
    return Response(
        to_json(job.document()), 202, {"Location": f"/v2/jobs/{job.id}"}, media_type="application/json"
    )


def _json(document: Any) -> Response:
    return Response(to_json(document), media_type="application/json")
