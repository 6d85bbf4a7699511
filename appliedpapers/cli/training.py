"""Commands that make and use a model by hand: run, predict, stream."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliedpapers.cli import options
from appliedpapers.cli.output import print_json
from appliedpapers.core.errors import ConfigError

if TYPE_CHECKING:
    from appliedpapers.pipelines.run_folder import RunRequest, RunResult

_EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}


def attach(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("run", context_settings=_EXTRA)(run)
    app.command("predict", context_settings=_EXTRA)(predict)
    app.command("stream")(stream)


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
    from appliedpapers.core.distributed import process_rank
    from appliedpapers.core.progress import choose_progress
    from appliedpapers.pipelines import run as pipeline
    from appliedpapers.pipelines.run_folder import RunRequest, resume_request

    assignments = [
        *options.plugin_flags(plugin, task, context.args, _own_options(context)),
        *([f"seed={seed}"] if seed is not None else []),
        *(sets or []),
    ]
    devices_module.set_threads(threads)
    if resume is not None:
        request = resume_request(resume)
        _refuse_changes(request, plugin, assignments)
    else:
        request = RunRequest(
            plugin=plugin,
            task=task,
            preset=preset,
            config=options.resolve_config(plugin, task, preset, config, assignments),
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
        print(f"interrupted. What was learned is kept in {started.folder}; continue with", file=sys.stderr)
        print(f"  apps run {plugin} --resume {started.folder}", file=sys.stderr)
        raise typer.Exit(130) from None
    _print_result(result, as_json)


def _own_options(context: typer.Context) -> list[str]:
    return [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]


def _refuse_changes(request: RunRequest, plugin: str, assignments: list[str]) -> None:
    if plugin != request.plugin or assignments:
        raise ConfigError(
            "--resume continues a run as it was started.",
            hint=f"Leave out other settings: apps run {request.plugin} --resume FOLDER",
        )


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
    name, version, alias = result.registered.name, result.registered.version, result.registered.alias
    ref = f"{name.removeprefix('apps.')}@{alias}"
    print(f" registered  {name} version {version} → @{alias}")
    print(f" next        apps serve {ref}")
    print(f"             apps score run --model {ref} --input data/*.parquet --output scores/")


def predict(
    context: typer.Context,
    model: options.Model,
    source: Annotated[Path, typer.Option("--input", "-i", help="File in the plugin's formats.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="CSV, Parquet, JSON lines or Arrow; default stdout."),
    ] = None,
    files: Annotated[Path | None, typer.Option("--files", help="Folder for big results.")] = None,
    device: options.Device = "auto",
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Predict for one file by hand."""
    from appliedpapers.core.tables import csv_bytes, plain_row, write_table
    from appliedpapers.pipelines.predict import predict_file

    assignments = options.plugin_flags(_plugin_of(model, store), None, context.args, _own_options(context))
    table = predict_file(
        model, source, files=files, device=device, store_folder=store, assignments=assignments
    )
    if output is not None:
        write_table(table, output)
        print(f" {table.num_rows} rows  {output}", file=sys.stderr)
    elif as_json:
        print_json([plain_row(row) for row in table.to_pylist()])
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(csv_bytes(table))


def _plugin_of(model: str, store: Path) -> str:
    if (Path(model) / "bundle.json").is_file():
        from appliedpapers.core.bundle import read_info

        return read_info(Path(model)).plugin
    return model.removeprefix("models:/").removeprefix("apps.").split("@")[0].split("/")[0].split(".")[0]


def stream(
    model: options.Model,
    device: options.Device = "cpu",
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Read JSON lines from stdin and print predictions as they become known."""
    from appliedpapers.pipelines.predict import stream_lines

    for line in stream_lines(model, sys.stdin, device=device, store_folder=store):
        print(line, flush=True)
