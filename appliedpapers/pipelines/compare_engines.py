"""Where the cells of a comparison are fitted: here, in processes of this machine, or on Ray."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from appliedpapers.core import device as devices
from appliedpapers.core.errors import ConfigError, RunError
from appliedpapers.core.progress import Progress, SilentProgress
from appliedpapers.pipelines.compare_cells import Cell

ENGINES = ("local", "ray")

Fit = Callable[[Cell, Progress | None], str]
_Answers = Iterator[tuple[Cell, str]]


def run_cells(
    fit: Fit, cells: Sequence[Cell], *, engine: str, workers: int | None, progress: Progress
) -> dict[str, str]:
    """Fit cells and return why some could not be fitted, by id.

    Args:
        fit: What fits one and says why not.
        cells: Those that are not done.
        engine: ``local`` or ``ray``.
        workers: Processes at a time; one here, or as many as Ray has cores, by default.
        progress: A line a cell.

    Raises:
        ConfigError: The engine is unknown or not installed, or a choice changes what is tested.
        RunError: A process was ended from outside.
    """
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine '{engine}'.", hint=f"Choose one of: {', '.join(ENGINES)}.")
    if not cells:
        return {}
    if engine == "ray":
        answers = _on_ray(fit, cells, workers)
    elif workers and workers > 1:
        answers = _in_processes(fit, cells, workers)
    else:
        answers = ((cell, fit(cell, progress)) for cell in cells)
    failed = {}
    # one process shows how each fit goes by itself
    shown = progress if engine == "ray" or (workers or 1) > 1 else SilentProgress()
    with shown.task("fit", len(cells)) as bar:
        for cell, why in answers:
            if why:
                failed[cell.id] = why
                progress.say(f" {cell.label}, seed {cell.seed}: {why}")
            bar.advance(note=f"{cell.label}, seed {cell.seed}")
    return failed


def _in_processes(fit: Fit, cells: Sequence[Cell], workers: int) -> _Answers:
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(
        min(workers, len(cells)),
        multiprocessing.get_context("spawn"),
        initializer=devices.set_threads,
        initargs=(threads,),
    )
    try:
        asked = {pool.submit(fit, cell, None): cell for cell in cells}
        for answer in as_completed(asked):
            yield asked[answer], answer.result()
    except BrokenProcessPool:
        raise RunError(
            "a process that fitted a cell was ended from outside.",
            hint="Mostly memory is short: fewer --workers need less. The same command continues.",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _on_ray(fit: Fit, cells: Sequence[Cell], workers: int | None) -> _Answers:
    from appliedpapers.pipelines.score_ray import started_ray

    ray = started_ray(workers)
    gpus = 1 if cells[0].device.startswith("cuda") else 0
    remote = ray.remote(num_cpus=1, num_gpus=gpus)(_alone)
    running: dict[Any, Cell] = {remote.remote(fit, cell): cell for cell in cells}
    try:
        while running:
            for answer in ray.wait(list(running), num_returns=1)[0]:
                cell = running.pop(answer)
                try:
                    yield cell, ray.get(answer)
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    raise cause if isinstance(cause, Exception) else RunError(str(error)) from None
    finally:
        for answer in running:
            ray.cancel(answer)


def _alone(fit: Fit, cell: Cell) -> str:
    devices.set_threads(1)
    return fit(cell, None)
