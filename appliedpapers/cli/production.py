"""Commands that operate a model: serve, score."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliedpapers.cli import options
from appliedpapers.cli.output import Interrupted, print_json
from appliedpapers.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliedpapers.pipelines.score import ScoreSummary

_FAILURES_SHOWN = 5

score_app = typer.Typer(help="Batch scoring.", no_args_is_help=True, rich_markup_mode=None)


def attach(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("serve")(serve)
    app.add_typer(score_app, name="score")


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            help="frets, frets@champion, frets@3 or a bundle's folder; several are served together.",
            metavar="MODEL...",
        ),
    ],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="Port; 0 takes a free one.")] = 5001,
    device: options.Device = "auto",
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="Require the bearer token in this file (or APPS_TOKEN)."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option("--allowed-host", help="Host header to accept; may be repeated.")
    ] = None,
    file_folder: Annotated[
        list[Path] | None, typer.Option("--file-folder", help="Folder that file columns may name.")
    ] = None,
    state_folder: Annotated[
        Path | None, typer.Option("--state-folder", help="Where jobs are kept; default: the user's state.")
    ] = None,
    max_body_mb: Annotated[float, typer.Option("--max-body-mb", help="Largest request.")] = 16.0,
    max_rows: Annotated[int, typer.Option("--max-rows", help="Most rows in a request.")] = 100_000,
    workers: Annotated[int, typer.Option("--workers", "-w", help="Processes that share the port.")] = 1,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Threads of a worker's numerical libraries.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve another version when an alias moves to it.")
    ] = False,
    watch_seconds: Annotated[
        float, typer.Option("--watch-seconds", help="Time between two looks at the aliases.")
    ] = 10.0,
    access_log: Annotated[
        Path | None, typer.Option("--access-log", help="File for one JSON line an answer; - is stderr.")
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", help="Seconds that requests may still take after SIGTERM.")
    ] = 30.0,
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Serve models over HTTP, with a page to try them by hand."""
    from appliedpapers.pipelines.serve import serve as pipeline
    from appliedpapers.pipelines.serving_settings import ServeSettings

    settings = ServeSettings(
        host=host,
        port=port,
        max_body_mb=max_body_mb,
        max_rows=max_rows,
        allowed_hosts=tuple(allowed_host or ()),
        token=_token(token_file),
        file_folders=tuple(file_folder or ()),
        state_folder=state_folder,
        device=device,
        workers=workers,
        threads=threads,
        watch_s=watch_seconds if watch else None,
        access_log=access_log,
        shutdown_grace_s=grace,
    )
    pipeline(models, settings, store)


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("APPS_TOKEN")
    try:
        token, mode = file.read_text(encoding="utf-8").strip(), file.stat().st_mode
    except OSError as error:
        raise ConfigError(
            f"--token-file {file}: {error.strerror}.", hint="Expected a readable file."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"--token-file {file}: it is no UTF-8 text.", hint="Expected a file that holds the token alone."
        ) from None
    # secrets of containers are mounted like this on purpose, so it is said and not refused
    if os.name == "posix" and mode & stat.S_IROTH:
        print(f"  every user of this machine can read {file} (chmod 600 {file})", file=sys.stderr)
    return token


@score_app.command("run")
def score_run(
    model: Annotated[str, typer.Option("--model", help="frets@champion, frets@3 or a bundle's folder.")],
    inputs: Annotated[list[str], typer.Option("--input", "-i", help="Files or globs; may be repeated.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for parts, manifest and quarantine.")
    ],
    more: Annotated[list[str] | None, typer.Argument(help="Further files.")] = None,
    sets: options.Sets = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 4 when a row breaks the contract.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Stop after so many input rows.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be scored.")] = False,
    sort: Annotated[
        bool, typer.Option("--sort", help="Sort by group first, for groups whose rows stand apart.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that score; this one alone by default.")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="local, or ray (RAY_ADDRESS).")] = "local",
    device: options.Device = "auto",
    store: options.Store = options.DEFAULT_STORE,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Score files: streams, skips what is done, continues what was interrupted."""
    from appliedpapers.core.progress import choose_progress
    from appliedpapers.pipelines.score import score_run as pipeline

    try:
        summary = pipeline(
            model,
            [*inputs, *(more or [])],
            output,
            store_folder=store,
            assignments=sets or (),
            strict=strict,
            limit=limit,
            dry_run=dry_run,
            sort=sort,
            workers=workers,
            engine=engine,
            device=device,
            progress=choose_progress(quiet or as_json),
        )
    except KeyboardInterrupt:
        raise Interrupted(
            f"finished parts are kept in {output}.", hint="The same command continues."
        ) from None
    if as_json:
        print_json(asdict(summary))
    else:
        _print_summary(summary)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


@score_app.command("evaluate")
def score_evaluate(
    scores: Annotated[Path, typer.Option("--scores", help="The output folder of a finished scoring run.")],
    labels: Annotated[
        list[str], typer.Option("--labels", help="Files, globs or URLs with key and label; may be repeated.")
    ],
    key: Annotated[
        list[str] | None,
        typer.Option("--key", help="Column to join by; by default all that both have. May be repeated."),
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="The label's column.")] = None,
    prediction: Annotated[
        str | None, typer.Option("--prediction", help="The column of the scores that is judged.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Hold scores against labels that arrived later."""
    from appliedpapers.pipelines.score_evaluate import evaluate_scores

    found = evaluate_scores(scores, labels, keys=key or (), label=label, prediction=prediction)
    if as_json:
        print_json(asdict(found))
        return
    print(f" model       {found.model} version {found.version}")
    joined = f"{found.rows['joined']:,} joined by {', '.join(found.keys)}"
    print(f" rows        {joined} · {found.prediction} against {found.label}")
    for row in found.metrics:
        value = "undefined" if row["value"] is None else f"{row['value']:.4g} {row['unit']}".rstrip()
        ends = "" if row["low"] is None else f"  [{row['low']:.4g}, {row['high']:.4g}]"
        print(f" {row['metric']:<12}{value}{ends}")
    for note in found.notes:
        print(f" note        {note}")


def _first_broken(folder: str | None) -> Iterator[str]:
    """Yield what one of the quarantined values broke, so that nobody has to open Parquet for it."""
    import pyarrow.parquet as pq

    for part in sorted(Path(folder).glob("*.parquet")) if folder else ():
        for row in pq.read_table(part).slice(0, 1).to_pylist():
            yield f"{row['file']}, row {row['row']}, column '{row['column']}': {row['rule']}"
            return


def _print_summary(summary: ScoreSummary) -> None:
    from appliedpapers.core.progress import rate_text

    print(f" model       {summary.model} version {summary.version}")
    verb = "would write" if summary.dry_run else "wrote"
    print(f" parts       {verb} {summary.parts_written}, kept {summary.parts_kept}  {summary.predictions}")
    speed = f" · {rate_text(summary.rows_per_second)} rows/s" if summary.rows_per_second else ""
    print(f" rows        {summary.rows_in:,} in, {summary.rows_out:,} out · {summary.seconds:.1f} s{speed}")
    if summary.rejected:
        print(f" quarantine  {summary.rejected:,} rows broke the contract  {summary.quarantine}")
        for line in _first_broken(summary.quarantine):
            print(f" first       {line}")
    for item in summary.failed[:_FAILURES_SHOWN]:
        print(f" failed      {' · '.join(str(value) for value in item.values())}")
    if len(summary.failed) > _FAILURES_SHOWN:
        print(f" failed      and {len(summary.failed) - _FAILURES_SHOWN} more; all are in {summary.manifest}")
    if summary.drift and not any(note.startswith("drift") for note in summary.notes):
        worst = " · ".join(f"{item['of']} {item['column']} {item['psi']:.2f}" for item in summary.drift[:3])
        print(f" drift       {worst}  (PSI against training)")
    for note in summary.notes:
        print(f" note        {note}")
    if summary.manifest:
        print(f" manifest    {summary.manifest}")
