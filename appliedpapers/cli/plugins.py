"""Commands about plugins: list, info, config, data, check, new, doctor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from appliedpapers.cli import options
from appliedpapers.cli.describe import describe
from appliedpapers.cli.measured import in_words, measured
from appliedpapers.cli.output import paint, print_columns, print_json
from appliedpapers.core import plugin as registry
from appliedpapers.core.errors import ConfigError

config_app = typer.Typer(
    help="Show, validate and write configurations.", no_args_is_help=True, rich_markup_mode=None
)
data_app = typer.Typer(
    help="List, fetch, audit and describe datasets.", no_args_is_help=True, rich_markup_mode=None
)


def attach(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("list")(list_plugins)
    app.command("info")(info)
    app.command("check")(check)
    app.command("new")(new)
    app.command("doctor")(doctor)
    data_app.command("describe", context_settings=options.PLUGIN_FLAGS)(describe)
    app.add_typer(config_app, name="config")
    app.add_typer(data_app, name="data")


def list_plugins(as_json: options.Json = False) -> None:
    """List every installed plugin and its state."""
    found = registry.discover()
    if as_json:
        print_json([_found_json(item) for item in found])
        return
    rows = [(item.id, _does(item), _state(item)) for item in found]
    print_columns(("plugin", "what it does", "state"), rows, notes=[_field_and_data(item) for item in found])
    # one of several tasks would have to be named, which a first command need not
    usable = [item.spec for item in found if item.spec is not None and item.state == "ok"]
    ready = min(usable, key=lambda spec: len(spec.tasks) > 1).id if usable else None
    noun = "plugin" if len(found) == 1 else "plugins"
    tip = f" Try:  apps info {ready}    apps run {ready}" if ready else ""
    print(f" {len(found)} {noun}.{tip}")


def _does(item: registry.Found) -> str:
    if item.spec is None:
        return "-"
    text = item.spec.summary.rstrip(".")
    return text[0].lower() + text[1:]


def _field_and_data(item: registry.Found) -> str:
    return "" if item.spec is None else " · ".join(filter(None, (item.spec.field, item.spec.data)))


def _state(item: registry.Found) -> str:
    if item.state == "ok":
        return paint("ready", "good")
    if item.state == "missing-extra" and item.spec is not None:
        return f'needs  pip install "{item.spec.extra}"' if item.spec.extra else item.reason
    return paint(f"{item.state}: {item.reason}", "bad")


def _found_json(item: registry.Found) -> dict[str, Any]:
    spec = item.spec
    return {
        "id": item.id,
        "state": item.state,
        "reason": item.reason,
        "title": spec.title if spec else None,
        "summary": spec.summary if spec else None,
        "field": (spec.field or None) if spec else None,
        "data": (spec.data or None) if spec else None,
        "tasks": [task.name for task in spec.tasks] if spec else [],
        "install": f'pip install "{spec.extra}"' if spec and spec.extra else None,
        "distributions": list(item.distributions),
    }


def info(plugin: options.Plugin, as_json: options.Json = False) -> None:
    """Show what a plugin is: papers, tasks, presets, datasets, baselines, what was measured."""
    spec = registry.find(plugin)
    found = measured(spec.id)
    facts = [_task_facts(spec, task) for task in spec.tasks]
    if as_json:
        papers = [{"title": paper.title, "year": paper.year, "url": paper.url} for paper in spec.papers]
        print_json(
            {
                "id": spec.id,
                "title": spec.title,
                "summary": spec.summary,
                "field": spec.field or None,
                "data": spec.data or None,
                "papers": papers,
                "tasks": facts,
                "advice": list(spec.advice),
                "measured": found,
            }
        )
        return
    print(f" {spec.title}: {spec.summary}\n")
    for paper in spec.papers:
        print(f" paper     {paper.title} ({paper.year}){'  ' + paper.url if paper.url else ''}")
    for task in facts:
        print(f"\n task      {task['name']} · registered as {task['registered']}")
        print(f" presets   {' · '.join(task['presets'])}")
        print(f" datasets  {' · '.join(task['datasets'])}")
        print(f" own data  {task['formats']}")
        print(f" metric    {task['primary']}")
        print(f" baselines {' · '.join(task['baselines'])}")
    _print_listed("choose", spec.advice)
    _print_listed("measured", [line for row in found for line in in_words(row)])
    # without a task, a plugin with several would ask for one
    one = f"{spec.id} --task {spec.tasks[0].name}" if len(spec.tasks) > 1 else spec.id
    print(
        f"\n next      apps run {one} --preset quick    apps config init {one}    apps run {one} --data FILE"
    )
    if found:
        print(f" page      docs/{spec.id}.md: your own data, step by step")


def _print_listed(title: str, lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        print(f"{chr(10) if number == 0 else ''} {title if number == 0 else '':<9} {line}")


def _task_facts(spec: registry.PluginSpec, task: registry.TaskSpec) -> dict[str, Any]:
    from appliedpapers.core.sources import SIMULATED

    config_class, catalog, evaluation = task.load("config"), task.load("datasets"), task.load("evaluation")
    return {
        "name": task.name,
        "registered": spec.registered_name(task),
        "presets": list(config_class.presets),
        "datasets": [SIMULATED, *(entry.id for entry in catalog.published)],
        "formats": catalog.formats,
        "primary": evaluation.primary,
        "baselines": list(evaluation.baseline_names),
    }


@config_app.command("show", context_settings=options.PLUGIN_FLAGS)
def config_show(
    context: typer.Context,
    plugin: options.Plugin,
    task: options.Task = None,
    preset: options.Preset = "default",
    config: options.ConfigFile = None,
    sets: options.Sets = None,
    dataset: options.DatasetName = None,
    as_json: options.Json = False,
) -> None:
    """Print the resolved configuration with each option's meaning."""
    from appliedpapers.core.config import commented_yaml, resolve_config

    task = options.task_meant(plugin, task, dataset)
    assignments = [*options.plugin_flags(context, plugin, task), *(sets or ())]
    resolved = resolve_config(
        plugin, task=task, preset=preset, file=config, assignments=assignments, dataset=dataset
    )
    if as_json:
        print_json(resolved.model_dump(mode="json"))
    else:
        print(commented_yaml(resolved), end="")


@config_app.command("schema")
def config_schema(plugin: options.Plugin, task: options.Task = None) -> None:
    """Print the JSON Schema of the configuration."""
    print_json(registry.find(plugin).task(task).load("config").model_json_schema())


@config_app.command("validate")
def config_validate(
    plugin: options.Plugin,
    config: Annotated[Path, typer.Argument(help="YAML file to check.", readable=False)],
    task: options.Task = None,
    preset: options.Preset = "default",
) -> None:
    """Check a configuration file."""
    from appliedpapers.core.config import resolve_config

    resolve_config(plugin, task=task, preset=preset, file=config)
    print(f"{config}: valid for {plugin}.")


@config_app.command("init", context_settings=options.PLUGIN_FLAGS)
def config_init(
    context: typer.Context,
    plugin: options.Plugin,
    words: Annotated[
        list[str] | None, typer.Argument(help="Folder to write into.", metavar="[FOLDER]")
    ] = None,
    task: options.Task = None,
    preset: options.Preset = "default",
    config: options.ConfigFile = None,
    sets: options.Sets = None,
) -> None:
    """Write a commented configuration and a sample input file to start from."""
    from appliedpapers.core.config import commented_yaml, resolve_config
    from appliedpapers.core.files import require_folder, write_text
    from appliedpapers.core.tables import write_table

    spec = registry.find(plugin)
    part = spec.task(task)
    # flags of the plugin stand among the words: only its configuration says which of them take a value
    folder, flagged = options.folder_and_flags(context, words or [], plugin, task)
    assignments = [*flagged, *(sets or ())]
    resolved = resolve_config(plugin, task=task, preset=preset, file=config, assignments=assignments)
    require_folder(folder, "FOLDER")
    yaml_path, sample_path = folder / f"{plugin}.yaml", folder / f"{plugin}-sample.csv"
    for path in (yaml_path, sample_path):
        if path.exists():
            raise ConfigError(f"{path}: exists already.", hint="Remove it or choose another folder.")
    write_table(part.load("datasets").sample(folder, resolved), sample_path)
    write_text(yaml_path, commented_yaml(resolved))
    print(f" configuration  {yaml_path}\n sample input   {sample_path}")
    print(f" next           apps run {plugin} --config {yaml_path} --data YOUR_FILE")


@data_app.command("list")
def data_list(plugin: options.Plugin, task: options.Task = None, as_json: options.Json = False) -> None:
    """List the datasets of a plugin and whether they are here."""
    from appliedpapers.core.sources import list_datasets

    spec = registry.find(plugin)
    # datasets of all tasks, where none is named; what every task simulates is listed once
    tasks = spec.tasks if task is None else (spec.task(task),)
    listed = [row for one in tasks for row in list_datasets(one.load("datasets"), plugin)]
    rows = list({row.id: row for row in listed}.values())
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    shown = [(row.id, row.state, row.licence, row.title) for row in rows]
    print_columns(("dataset", "state", "licence", "what it is"), shown)


@data_app.command("fetch")
def data_fetch(
    plugin: options.Plugin,
    dataset: Annotated[str, typer.Argument(help="Dataset id; apps data list shows them.")],
    task: options.Task = None,
    accept_licence: options.AcceptLicence = False,
) -> None:
    """Download a published dataset, checksum verified."""
    from appliedpapers.core.fetching import fetch
    from appliedpapers.core.progress import choose_progress
    from appliedpapers.core.sources import find_published

    catalog = registry.find(plugin).task(options.task_meant(plugin, task, dataset)).load("datasets")
    entry = find_published(catalog, dataset)
    prepare = partial(catalog.prepare, entry)
    print(fetch(plugin, entry, accept_licence=accept_licence, progress=choose_progress(), prepare=prepare))


@data_app.command("audit", context_settings=options.PLUGIN_FLAGS)
def data_audit(
    context: typer.Context,
    plugin: options.Plugin,
    task: options.Task = None,
    preset: options.Preset = "default",
    config: options.ConfigFile = None,
    sets: options.Sets = None,
    dataset: options.DatasetName = None,
    data: options.DataPath = None,
    accept_licence: options.AcceptLicence = False,
    as_json: options.Json = False,
) -> None:
    """Look for rows, groups and duplicates that cross splits; exit 4 when there are any."""
    from appliedpapers.core.config import resolve_config
    from appliedpapers.core.data import leakage_audit
    from appliedpapers.core.sources import load_dataset

    task = options.task_meant(plugin, task, dataset)
    assignments = [*options.plugin_flags(context, plugin, task), *(sets or [])]
    resolved = resolve_config(
        plugin, task=task, preset=preset, file=config, assignments=assignments, dataset=dataset
    )
    catalog = registry.find(plugin).task(task).load("datasets")
    loaded = load_dataset(
        catalog, plugin, resolved, dataset=dataset, data=data, accept_licence=accept_licence
    )
    findings = [finding.sentence() for finding in leakage_audit(loaded)]
    remarks = list(catalog.remarks(loaded, resolved))
    if as_json:
        print_json(
            {"dataset": loaded.name, "protocol": loaded.protocol, "findings": findings, "remarks": remarks}
        )
    else:
        print(f" {loaded.name} · {loaded.protocol} · {loaded.summary}")
        for line in [*(findings or ["no leakage found"]), *remarks]:
            print(f" {line}")
    if findings:
        raise typer.Exit(4)


def check(
    plugin: options.Plugin,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Run this check alone; may be repeated.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Run the conformance suite on a plugin, yours included."""
    import tempfile

    from appliedpapers.core.testing import check_plugin

    with tempfile.TemporaryDirectory() as folder:
        results = check_plugin(registry.find(plugin), folder=Path(folder), checks=only)
    failed = [result for result in results if not result.ok]
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        for result in results:
            mark = paint("ok", "good") if result.ok else paint("FAILED", "bad")
            print(
                f" {mark:<6} {result.name} · {result.task} · {result.seconds:.1f} s  {result.detail}".rstrip()
            )
        print(f" {len(results) - len(failed)} passed, {len(failed)} failed")
    if failed:
        raise typer.Exit(1)


def new(
    name: Annotated[str, typer.Argument(help="Id of the new plugin: lower case, hyphens.")],
    folder: Annotated[Path, typer.Option("--folder", help="Where to write it.")] = Path(),
) -> None:
    """Write the skeleton of a new plugin as its own small distribution."""
    from appliedpapers.pipelines.scaffold import new_plugin

    path = new_plugin(name, folder)
    print(f" written  {path}\n next     pip install -e {path}    apps check {name}    apps run {name}")


def doctor(as_json: options.Json = False) -> None:
    """Look at versions, plugins, devices, the data folder and the store."""
    from appliedpapers.pipelines.doctor import examine

    findings = examine()
    if as_json:
        print_json([finding.to_json() for finding in findings])
    else:
        for finding in findings:
            mark = paint("ok", "good") if finding.ok else paint("look", "bad")
            print(f" {mark:<5} {finding.name:<10} {finding.detail}")
            if finding.remedy:
                print(f"       {'':<10} {finding.remedy}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
