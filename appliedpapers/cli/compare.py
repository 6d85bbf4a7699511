"""The command that puts choices of a plugin's configuration side by side."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from appliedpapers.cli import options
from appliedpapers.cli.output import print_json
from appliedpapers.core.errors import RunError

_VARY = 'What is varied, such as --over "head=[mlp, kan(grid=5)]"; several make every combination.'


def attach(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("compare", context_settings=options.PLUGIN_FLAGS)(compare)


def compare(
    context: typer.Context,
    plugin: Annotated[
        str,
        typer.Argument(
            help="Plugin id, or several with commas.",
            metavar="ID[,ID]",
            autocompletion=options.complete_plugin,
        ),
    ],
    over: Annotated[list[str] | None, typer.Option("--over", metavar="OPTION=[A, B]", help=_VARY)] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds that each choice is fitted with.")] = 3,
    task: options.Task = None,
    preset: options.Preset = "default",
    config: options.ConfigFile = None,
    sets: options.Sets = None,
    dataset: options.DatasetName = None,
    data: options.DataPath = None,
    device: options.Device = "auto",
    precision: Annotated[str, typer.Option("--precision", help="32, bf16, or 16 on CUDA.")] = "32",
    engine: Annotated[str, typer.Option("--engine", help="local or ray.")] = "local",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Fits at a time; default 1, with Ray all cores.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the comparison.")] = Path(
        "comparison"
    ),
    allow_leakage: Annotated[
        bool, typer.Option("--allow-leakage", help="Report test scores although rows cross splits.")
    ] = False,
    accept_licence: options.AcceptLicence = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Compare choices over seeds on the same test rows; a second run goes on where the first stopped."""
    from appliedpapers.core import device as devices
    from appliedpapers.core.progress import choose_progress
    from appliedpapers.pipelines.compare import CompareRequest
    from appliedpapers.pipelines.compare import compare as compare_choices
    from appliedpapers.pipelines.compare_page import render_comparison

    devices.set_threads(threads)
    names = {name: options.task_meant(name, task, dataset) for name in map(str.strip, plugin.split(","))}
    requests = [
        CompareRequest(
            plugin=name,
            overs=tuple(over or ()),
            seeds=seeds,
            task=meant,
            preset=preset,
            file=config,
            assignments=(*options.plugin_flags(context, name, meant), *(sets or ())),
            dataset=dataset,
            data=data,
            device=device,
            precision=precision,
            accept_licence=accept_licence,
            allow_leakage=allow_leakage,
        )
        for name, meant in names.items()
    ]
    found = compare_choices(
        requests,
        output,
        engine=engine,
        workers=workers,
        command=shlex.join(["apps", *sys.argv[1:]]),
        progress=choose_progress(quiet or as_json),
    )
    if as_json:
        print_json(found.document)
    else:
        print(f"\n{render_comparison(found.document)}\n")
        print(f" page        {found.page}")
    if found.failures:
        more = f" ({len(found.failures) - 1} more)" if len(found.failures) > 1 else ""
        raise RunError(
            f"could not be fitted: {found.failures[0]}{more}", hint="The same command tries again."
        )
