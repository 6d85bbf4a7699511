"""Scoring on Ray: a cluster (``RAY_ADDRESS``), or one that is started here for the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from appliedpapers.core.errors import ConfigError, RunError
from appliedpapers.pipelines.engines import BatchScorer, NamedChunk

if TYPE_CHECKING:
    from appliedpapers.pipelines.score_manifest import PartRecord

_QUEUED = 2
_TRIES = 3


class _Scorer:
    """What lives on a worker: the same unit of work as everywhere."""

    def __init__(self, scorer: BatchScorer) -> None:
        self._scorer = scorer

    def score(self, work: NamedChunk) -> PartRecord:
        return self._scorer(work)

    def process(self) -> int:
        """Return the process's id, by which a test ends it."""
        return os.getpid()


def score_on_ray(
    scorer: BatchScorer, work: Iterator[NamedChunk], workers: int | None = None
) -> Iterator[PartRecord]:
    """Yield the records of parts, as they are finished.

    The driver reads and cuts. An actor whose process or machine is lost is started again elsewhere, and what
    it was scoring is scored again. Bundle and output folder must be the same path on every machine.

    Args:
        scorer: The unit of work, sent to each actor once.
        work: Chunks; a few a worker are on their way at a time.
        workers: How many actors; as many as Ray has cores by default.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
        AppsError: Whatever reading, scoring or writing raises, after the parts that are finished.
        RunError: A chunk ended its process time and again.
    """
    ray = started_ray(workers)
    gpus = 1 if scorer.device.startswith("cuda") else 0
    actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=_TRIES - 1)(_Scorer)
    actors = [actor.remote(scorer) for _ in range(workers or int(ray.cluster_resources()["CPU"]))]
    running: dict[Any, int] = {}
    failure: Exception | None = None
    try:
        while running or failure is None:
            failure = failure or _fill(actors, running, work)
            if not running:
                break
            for answer in ray.wait(list(running), num_returns=1)[0]:
                running.pop(answer)
                try:
                    yield ray.get(answer)
                except ray.exceptions.RayError as error:
                    if failure is None or isinstance(failure, StopIteration):
                        failure = _cause(ray, error)
    finally:
        for one in actors:
            ray.kill(one)
    if not isinstance(failure, StopIteration):
        assert failure is not None
        raise failure


def _fill(actors: list[Any], running: dict[Any, int], work: Iterator[NamedChunk]) -> Exception | None:
    """Give every actor enough to do; return why there is no more, which at the end is StopIteration."""
    loads = [0] * len(actors)
    for number in running.values():
        loads[number] += 1
    while min(loads) < _QUEUED:
        number = loads.index(min(loads))
        try:
            item = next(work)
        except Exception as error:
            return error
        running[actors[number].score.remote(item)] = number
        loads[number] += 1
    return None


def started_ray(workers: int | None) -> Any:
    """Return the module of Ray, connected to the cluster of ``RAY_ADDRESS`` or to one on this machine.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--engine ray needs Ray.", hint="Install it: pip install 'applied-papers[ray]'"
        ) from None
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        # how many cores a cluster has, it knows itself
        own = {} if address else {"num_cpus": workers, "include_dashboard": False}
        try:
            ray.init(address=address, log_to_driver=False, logging_level="warning", **own)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"Ray cannot be reached ({str(error).splitlines()[0]}).",
                hint="Check RAY_ADDRESS, or unset it to start Ray on this machine.",
            ) from error
    return ray


def _cause(ray: Any, error: Any) -> Exception:
    if isinstance(error, ray.exceptions.RayTaskError):
        cause = error.cause
        return cause if isinstance(cause, Exception) else RunError(str(error))
    return RunError(
        f"a chunk ended its worker {_TRIES} times ({type(error).__name__}).",
        hint="Mostly memory is short: fewer --workers need less. The same command continues.",
    )
