"""Batch scoring: a second run does nothing, a killed run continues, a changed input is scored again alone."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from appliedpapers.core.device import resolve_device
from appliedpapers.core.errors import ConfigError, did_you_mean
from appliedpapers.core.progress import Progress, SilentProgress
from appliedpapers.pipelines import DEFAULT_STORE
from appliedpapers.pipelines.engines import BatchScorer
from appliedpapers.pipelines.locate import ModelRef, locate
from appliedpapers.pipelines.output_folder import locked_output
from appliedpapers.pipelines.score_chunks import fitting_rows
from appliedpapers.pipelines.score_drift import drift_of_run, warning_of
from appliedpapers.pipelines.score_files import find_fragments
from appliedpapers.pipelines.score_local import score_here
from appliedpapers.pipelines.score_manifest import FORMAT_VERSION, MANIFEST, PREDICTIONS, QUARANTINE, Ledger
from appliedpapers.pipelines.score_sort import FOLDER as SORT_FOLDER
from appliedpapers.pipelines.score_work import Engine, Tally, Work, execute, rehearse

DEFAULT_BATCH_ROWS = 262_144
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class ScoreSummary:
    """What came of a scoring run; ``dataclasses.asdict`` is its JSON form.

    Attributes:
        model: Name of the model.
        version: Its version, or the digest of a bundle that is not registered.
        output: The output folder.
        predictions: Folder of the Parquet parts.
        manifest: The manifest; None after a dry run.
        quarantine: Folder of the Parquet parts with every broken value; None where nothing broke.
        rows_in: Input rows.
        rows_out: Output rows.
        rejected: Input rows that are in no prediction because they (or their group) broke the contract.
        failed: Items whose prediction raised: file, row, key, error.
        parts_written: Parts written by this run; after a dry run, those that a run would write.
        parts_kept: Parts that were there already.
        seconds: Wall time.
        rows_per_second: Rows scored by this run per second; 0 where it scored none.
        exit_code: 0, 1 with failed items, 4 with rejected rows under ``strict``.
        dry_run: Nothing was predicted or written.
        drift: How far inputs and predictions are from those of training, the farthest column first: column,
            ``input`` or ``prediction``, population stability index, rows. Empty where the bundle does not
            know its training data, or fewer than 200 rows were scored.
        notes: Sentences worth reading.
    """

    model: str
    version: str
    output: str
    predictions: str
    manifest: str | None
    quarantine: str | None
    rows_in: int
    rows_out: int
    rejected: int
    failed: tuple[dict[str, Any], ...]
    parts_written: int
    parts_kept: int
    seconds: float
    rows_per_second: float
    exit_code: int
    dry_run: bool = False
    drift: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def score_run(
    model: str,
    inputs: Sequence[str],
    output: Path,
    *,
    store_folder: Path = DEFAULT_STORE,
    job: str = "",
    assignments: Sequence[str] = (),
    device: str = "cpu",
    strict: bool = False,
    limit: int | None = None,
    dry_run: bool = False,
    sort: bool = False,
    engine: str = "local",
    workers: int | None = None,
    batch_rows: int = DEFAULT_BATCH_ROWS,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Score files and write Parquet parts, quarantined values, files and a manifest below ``output``.

    Parts are named by a hash of job, model version, rows and fingerprints, so that the same command does
    nothing the second time, continues after a kill, and scores a changed input alone. Parts of inputs that
    this run does not name are left as they are.

    Args:
        model: A registered model (``frets@champion``, ``frets@3``) or a bundle's folder.
        inputs: Files, folders and globs of Parquet, CSV, JSON lines and Arrow files.
        output: The output folder; one run at a time.
        store_folder: Where MLflow's store lies.
        job: Name of the job that this run belongs to; another job never takes over its parts.
        assignments: ``a.b=c`` overrides that say how the model reads its rows; other ones, other parts.
        device: ``cpu``, ``cuda`` or ``auto``.
        strict: Exit code 4 when a row was rejected; the outputs stay.
        limit: Score about this many rows; a group is never cut.
        dry_run: Check everything, predict and write nothing.
        sort: Sort the inputs by their groups first, on disk: for groups whose rows stand apart.
        engine: ``local`` or ``ray``; both make the same parts.
        workers: How many processes score; by default this one alone, and on Ray one a core. A script that
            asks for several must guard its main part, as multiprocessing wants it.
        batch_rows: Most rows of a part; a few parts are in memory together.
        progress: Where progress is shown.

    Raises:
        ConfigError: An option is wrong, the model is unknown, or the output cannot be a folder.
        DataError: An input is missing, empty or unreadable, lacks a column, or a group reappears.
        LockedError: Another run works on ``output``.
        RunError: The disk is full, or the model fails on everything.
    """
    started = time.monotonic()
    progress = progress or SilentProgress()
    _check_options(engine, {"--limit": limit, "--batch-rows": batch_rows, "--workers": workers})
    device = resolve_device(device)
    scored = locate(model, store_folder)
    scorer = BatchScorer(scored, output, device, progress, assignments)
    # how rows are read may decide which columns there are
    schema = scorer.model.input_schema if assignments else scored.info.input_schema
    if sort and not schema.group_by:
        raise ConfigError(f"--sort: {scored.name} scores row by row.", hint="Leave --sort out.")
    work = Work(
        fragments=find_fragments(inputs, output),
        info=replace(scored.info, input_schema=schema),
        task=scored.task,
        identity=(FORMAT_VERSION, job, scored.name, scored.edition, scored.digest, *assignments),
        rows=fitting_rows(schema, batch_rows),
        limit=limit,
        sorting=_scratch(output, dry_run) if sort else None,
        say=progress.say,
    )
    if dry_run:
        tally = rehearse(work, Ledger.open(output))
        return _summary(scored, output, work, tally, started, strict=strict, dry_run=True)
    with locked_output(output, "scoring run"):
        ledger = Ledger.open(output)
        tally = execute(work, ledger, _engine(engine, scorer, workers), progress)
        if said := warning_of(drift_of_run(scored.info, tally.parts)):
            work.note(said)
        if tally.written or not ledger.lists(tally.parts, [item.place for item in work.fragments]):
            ledger.close(_manifest(scored, job, assignments, work, tally, ledger))
        else:
            work.note(f"nothing to do: {len(tally.parts)} parts in {output} are up to date")
        return _summary(scored, output, work, tally, started, strict=strict)


def _check_options(engine: str, counts: Mapping[str, int | None]) -> None:
    if engine not in ENGINES:
        raise ConfigError(f"--engine {engine}: unknown.", hint=did_you_mean(engine, ENGINES))
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} {value} is too small.", hint="Expected 1 or more.")


def _scratch(output: Path, dry_run: bool) -> Path:
    # a dry run writes nothing below the output folder, which need not even be there
    return Path(tempfile.mkdtemp(prefix="apps-sort-")) if dry_run else output / SORT_FOLDER


def _engine(name: str, scorer: BatchScorer, workers: int | None) -> Engine:
    if name == "ray":
        from appliedpapers.pipelines.score_ray import score_on_ray

        return partial(score_on_ray, scorer, workers=workers)
    if workers is not None and workers > 1:
        from appliedpapers.pipelines.score_processes import score_in_processes

        return partial(score_in_processes, scorer, workers=workers)
    return partial(score_here, scorer)


def _manifest(
    model: ModelRef, job: str, assignments: Sequence[str], work: Work, tally: Tally, ledger: Ledger
) -> dict[str, Any]:
    """Describe the output folder: this run's parts, and those of inputs that it did not name."""
    current = {fragment.place for fragment in work.fragments}
    parts = {part.name: part for part in tally.parts}
    for name in sorted(ledger.finished - parts.keys()):
        part = ledger.parts[name]
        if not part.touches(current):
            parts[name] = part
    rows = Counter[str]()
    for part in tally.parts:
        rows.update({origin.input: origin.rows for origin in part.origins})
    inputs = [item for path, item in ledger.inputs.items() if path not in current]
    inputs += [
        {
            "path": fragment.place,
            "fingerprint": fragment.fingerprint,
            "size": fragment.size,
            "rows": rows[fragment.place],
        }
        for fragment in work.fragments
    ]
    return {
        "version": FORMAT_VERSION,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "job": job,
        "model": {
            "name": model.name,
            "version": model.edition,
            "alias": model.alias,
            "uri": model.uri,
            "digest": model.digest,
            "plugin": work.info.plugin,
            "task": work.info.task,
            "output": work.info.output_schema.to_json(),
        },
        "set": list(assignments),
        "limit": work.limit,
        "counts": {
            "rows_in": sum(part.rows_in for part in parts.values()),
            "rows_out": sum(part.rows_out for part in parts.values()),
            "rejected": sum(part.rejected for part in parts.values()),
            "failed": sum(len(part.failed) for part in parts.values()),
        },
        "drift": [asdict(item) for item in drift_of_run(work.info, tally.parts)],
        "inputs": inputs,
        "units": {key: names for key, names in ledger.units.items() if parts.keys() >= set(names)},
        "parts": [asdict(part) for part in parts.values()],
    }


def _summary(
    model: ModelRef,
    output: Path,
    work: Work,
    tally: Tally,
    started: float,
    *,
    strict: bool,
    dry_run: bool = False,
) -> ScoreSummary:
    seconds = time.monotonic() - started
    failed = tuple(asdict(item) for part in tally.parts for item in part.failed)
    rejected = sum(part.rejected for part in tally.parts) + tally.waiting_rejected
    quarantined = any(part.quarantine for part in tally.parts)
    return ScoreSummary(
        model=model.name,
        version=model.edition,
        output=str(output),
        predictions=str(output / PREDICTIONS),
        manifest=None if dry_run else str(output / MANIFEST),
        quarantine=str(output / QUARANTINE) if quarantined else None,
        rows_in=sum(part.rows_in for part in tally.parts) + tally.waiting_rows,
        rows_out=sum(part.rows_out for part in tally.parts),
        rejected=rejected,
        failed=failed,
        parts_written=tally.written,
        parts_kept=len(tally.parts) - (0 if dry_run else tally.written),
        seconds=seconds,
        rows_per_second=tally.written_rows / seconds,
        exit_code=1 if failed else 4 if strict and rejected else 0,
        dry_run=dry_run,
        drift=() if dry_run else tuple(asdict(item) for item in drift_of_run(work.info, tally.parts)),
        notes=tuple(work.notes),
    )
