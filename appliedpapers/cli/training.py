"""Commands that make and use a model by hand: run, predict, stream."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliedpapers.cli import options
from appliedpapers.cli.output import Interrupted, print_json
from appliedpapers.core.errors import ConfigError, RunError

if TYPE_CHECKING:
    from appliedpapers.pipelines.run import Run
    from appliedpapers.pipelines.run_folder import RunResult

_WITH_RESUME = {"plugin", "resume", "store", "threads", "quiet", "as_json"}


def attach(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("run", context_settings=options.PLUGIN_FLAGS)(run)
    app.command("predict", context_settings=options.PLUGIN_FLAGS)(predict)
    app.command("stream", context_settings=options.PLUGIN_FLAGS)(stream)


def run(
    context: typer.Context,
    plugin: options.Plugin,
    task: options.Task = None,
    preset: options.Preset = "default",
    config: options.ConfigFile = None,
    sets: options.Sets = None,
    dataset: options.DatasetName = None,
    data: options.DataPath = None,
    device: options.Device = "auto",
    precision: Annotated[str, typer.Option("--precision", help="32, bf16, or 16 on CUDA.")] = "32",
    devices: Annotated[int, typer.Option("--devices", min=1, help="Processes that train together.")] = 1,
    seed: Annotated[int | None, typer.Option("--seed", help="Short for --set seed=N.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.")] = None,
    output: Annotated[Path, typer.Option("--output", help="Folder of all runs.")] = Path("runs"),
    store: options.Store = options.DEFAULT_STORE,
    register: Annotated[bool, typer.Option("--register/--no-register", help="Register the model.")] = True,
    init_from: Annotated[
        str | None, typer.Option("--init-from", metavar="MODEL", help="Start from this model's weights.")
    ] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Folder of an interrupted run.")] = None,
    allow_leakage: Annotated[
        bool, typer.Option("--allow-leakage", help="Report a test score although rows cross splits.")
    ] = False,
    accept_licence: options.AcceptLicence = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Train, evaluate against real baselines, report, log and register: the whole life of a model."""
    from appliedpapers.core import device as devices_module
    from appliedpapers.core.config import resolve_config
    from appliedpapers.core.distributed import process_rank
    from appliedpapers.core.progress import choose_progress
    from appliedpapers.pipelines import run as pipeline
    from appliedpapers.pipelines.run_folder import RunRequest, resume_request

    task = options.task_meant(plugin, task, dataset)
    assignments = [
        *options.plugin_flags(context, plugin, task),
        *([f"seed={seed}"] if seed is not None else []),
        *(sets or []),
    ]
    devices_module.set_threads(threads)
    if resume is not None:
        _refuse_changes(context, plugin)
        request = resume_request(resume)
        if request.plugin != plugin:
            raise ConfigError(
                f"{resume}: a run of {request.plugin}, not of {plugin}.",
                hint=f"apps run {request.plugin} --resume {shlex.quote(str(resume))}",
            )
    else:
        request = RunRequest(
            plugin=plugin,
            task=task,
            preset=preset,
            config=resolve_config(
                plugin, task=task, preset=preset, file=config, assignments=assignments, dataset=dataset
            ),
            dataset=dataset,
            data=data,
            device=device,
            precision=precision,
            devices=devices,
            allow_leakage=allow_leakage,
            accept_licence=accept_licence,
            init_from=init_from,
            register=register,
        )
    started = pipeline.start(
        request, runs=output, store_folder=store, resume=resume, progress=choose_progress(quiet or as_json)
    )
    if process_rank():
        started.assist()
        return
    try:
        result = started.live()
    except KeyboardInterrupt:
        if not started.claimed:
            raise
        kept = f"what was learned is kept in {started.folder}; continue with"
        raise Interrupted(kept, hint=_resumption(started)) from None
    except RunError as error:
        # the machine failed, not the run: what was learned until then is worth keeping
        if isinstance(error.__cause__, OSError) and started.claimed:
            hint = f"{error.hint or ''} Then continue with\n  {_resumption(started)}".strip()
            raise RunError(error.message, hint=hint) from error
        raise
    _print_result(result, as_json)


def _refuse_changes(context: typer.Context, plugin: str) -> None:
    given = {
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name
        and parameter.name not in _WITH_RESUME
        and str(getattr(context.get_parameter_source(parameter.name), "name", "")) == "COMMANDLINE"
    }
    given |= {word.partition("=")[0] for word in context.args if word.startswith("-")}
    if given:
        raise ConfigError(
            f"--resume continues a run as it was started, without {', '.join(sorted(given))}.",
            hint=f"Leave other settings out: apps run {plugin} --resume FOLDER",
        )


def _resumption(started: Run) -> str:
    words = ["apps", "run", started.spec.id, "--resume", str(started.folder)]
    if started.store_folder != options.DEFAULT_STORE:
        words += ["--store", str(started.store_folder)]
    return shlex.join(words)


def _print_result(result: RunResult, as_json: bool) -> None:
    if as_json:
        print_json(result.results)
        return
    from appliedpapers.pipelines.terminal import render_results

    print(f"\n{render_results(result.results)}\n")
    print(f" report      {result.report}")
    if result.registered is None:
        print(f" next        apps predict {result.folder / 'model'} --input FILE")
        return
    from appliedpapers.core.plugin import NAME_PREFIX

    name, version, alias = result.registered.name, result.registered.version, result.registered.alias
    ref = f"{name.removeprefix(NAME_PREFIX)}@{alias}"
    print(f" registered  {name} version {version} → @{alias}")
    print(f" next        apps serve {ref}")
    print(f"             apps score run --model {ref} --input {_typical_input(result)} --output scores/")


def _typical_input(result: RunResult) -> str:
    """Return what people score: tables, or one manifest that names files."""
    from appliedpapers.core.bundle import read_info

    columns = read_info(result.folder / "model").input_schema.columns
    return "manifest.csv" if any(column.file for column in columns) else "data/*.parquet"


def predict(
    context: typer.Context,
    model: options.Model,
    source: Annotated[
        Path | None, typer.Option("--input", "-i", help="File in the plugin's formats.", readable=False)
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            "--value", metavar="NAME=VALUE", help="One row by hand instead of a file; answered in words."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="CSV, Parquet, JSON lines or Arrow; default stdout."),
    ] = None,
    files: Annotated[Path | None, typer.Option("--files", help="Folder for big results.")] = None,
    sets: options.Sets = None,
    device: options.Device = "auto",
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Predict for one file, or for one row that is typed in, by hand."""
    from appliedpapers.core.files import require_folder

    if (source is None) == (not value):
        raise ConfigError(
            "give either --input or --value.", hint="A file, or one row such as --value ph=6.5 --value P=20."
        )
    if files is not None:
        require_folder(files, "--files")
    if value:
        _predict_values(context, model, value, files, sets, device, store, as_json)
        return
    assert source is not None
    from appliedpapers.core.json_rows import plain, records
    from appliedpapers.core.progress import choose_progress
    from appliedpapers.core.tables import csv_bytes, require_format, write_table
    from appliedpapers.pipelines.locate import locate
    from appliedpapers.pipelines.predict import predict_file

    if output is not None:
        require_format(output)
    options.require_name(context, model)
    found = locate(model, store)
    table = predict_file(
        found,
        source,
        files=files,
        device=device,
        assignments=[*(sets or ()), *options.plugin_flags(context, found.info.plugin, found.info.task)],
        progress=choose_progress(as_json),
    )
    if output is not None:
        write_table(table, output)
        print(f" {table.num_rows} rows  {output}", file=sys.stderr)
    elif as_json:
        print_json(plain(records(table)))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(csv_bytes(table))
        sys.stdout.buffer.flush()


def _predict_values(
    context: typer.Context,
    model: str,
    values: list[str],
    files: Path | None,
    sets: list[str] | None,
    device: str,
    store: Path,
    as_json: bool,
) -> None:
    """Answer for one row that was typed in: in words, or with ``--json`` as the rows that models return."""
    from appliedpapers.core.json_rows import plain, records
    from appliedpapers.pipelines.predict_values import parse_values, predict_values

    options.require_name(context, model)
    parsed = parse_values(values)

    def assignments(plugin: str, task: str) -> list[str]:
        return [*(sets or ()), *options.plugin_flags(context, plugin, task)]

    answers = predict_values(
        model, parsed, files=files, device=device, store_folder=store, assignments=assignments
    )
    if as_json:
        print_json({answer.model: plain(records(answer.table)) for answer in answers})
        return
    print("\n\n".join(answer.text for answer in answers))


def stream(
    context: typer.Context,
    model: options.Model,
    sets: options.Sets = None,
    device: options.Device = "cpu",
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Read lines from stdin, JSON or CSV, and print predictions as they become known, in the same form."""
    from appliedpapers.pipelines.locate import locate
    from appliedpapers.pipelines.stream import stream_lines

    options.require_name(context, model)
    found = locate(model, store)
    assignments = [*(sets or ()), *options.plugin_flags(context, found.info.plugin, found.info.task)]
    for line in stream_lines(found, sys.stdin, device=device, assignments=assignments, as_json=as_json):
        print(line, flush=True)
