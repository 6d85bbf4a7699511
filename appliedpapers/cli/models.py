"""Commands about registered models and runs: registry, runs, ui."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliedpapers.cli import options
from appliedpapers.cli.output import print_columns, print_json
from appliedpapers.core.errors import ConfigError, GateError

if TYPE_CHECKING:
    from appliedpapers.pipelines.registry_promotion import Promotion
    from appliedpapers.pipelines.registry_versions import Version

registry_app = typer.Typer(help="Registered models.", no_args_is_help=True, rich_markup_mode=None)
runs_app = typer.Typer(help="Runs on this machine.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="Model name: frets, or agrosense.crop.", metavar="NAME")]


def attach(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(registry_app, name="registry")
    app.add_typer(runs_app, name="runs")
    app.command("ui")(ui)


@registry_app.command("list")
def list_models(store: options.Store = options.DEFAULT_STORE, as_json: options.Json = False) -> None:
    """List registered models with their versions and aliases."""
    from appliedpapers.pipelines import registry
    from appliedpapers.pipelines.tracking_store import has_store, open_store

    # looking makes no store
    models = registry.list_models(open_store(store)) if has_store(store) else []
    if as_json:
        print_json([asdict(model) for model in models])
        return
    rows = [
        (
            model.name,
            str(model.versions),
            f"version {model.champion}" if model.champion is not None else "-",
            model.standing.text() if model.standing else "-",
        )
        for model in models
    ]
    print_columns(("model", "versions", "@champion", "test"), rows)
    if not rows:
        print(" none yet. apps run ID registers a first version.")


@registry_app.command("show")
def show(name: Name, store: options.Store = options.DEFAULT_STORE, as_json: options.Json = False) -> None:
    """Show the versions of a model: metric, dataset, aliases, history, cards."""
    from appliedpapers.pipelines import registry
    from appliedpapers.pipelines.tracking_store import existing_store

    found = registry.show(existing_store(store), name)
    if as_json:
        print_json(asdict(found))
        return
    rows = [
        (
            str(version.number),
            " ".join(f"@{alias}" for alias in version.aliases) or "-",
            _tested(version),
            version.tags.get("apps.dataset", "-"),
            f"{version.created:%Y-%m-%d %H:%M}",
        )
        for version in found.versions
    ]
    print_columns(("version", "alias", "test", "dataset", "made"), rows)
    for move in found.moves:
        print(f" {_sentence(move)}")
    for version in found.versions:
        for kind, path in version.cards.items():
            print(f" {kind} card of version {version.number}  {path}")


def _tested(version: Version) -> str:
    try:
        return version.standing().text()
    except GateError:
        # a version that somebody registered without figures is still a version
        return "-"


def _sentence(move: Promotion) -> str:
    before = f"version {move.before}" if move.before is not None else "none"
    moved = f"@champion from {before} to version {move.after}"
    return f"{move.at}  {move.action}: {moved}, by {move.by}. {move.reason}"


@registry_app.command("diff")
def diff(
    name: Name,
    first: Annotated[int, typer.Argument(help="A version.")],
    second: Annotated[int, typer.Argument(help="Another version.")],
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Show what differs between two versions: configuration, metrics, schema."""
    from appliedpapers.pipelines import registry
    from appliedpapers.pipelines.tracking_store import existing_store

    changes = registry.diff(existing_store(store), name, first, second)
    if as_json:
        print_json(asdict(changes))
        return
    rows = [
        (section, key, str(pair[0]), str(pair[1]))
        for section in ("facts", "metrics", "config", "schema")
        for key, pair in getattr(changes, section).items()
    ]
    print_columns(("what", "option", f"version {first}", f"version {second}"), rows)


@registry_app.command("promote")
def promote(
    name: Name,
    version: Annotated[int | None, typer.Argument(help="Version; default: the challenger.")] = None,
    new_benchmark: Annotated[
        bool, typer.Option("--new-benchmark", help="The test set changed on purpose; do not compare.")
    ] = False,
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Make a version the champion when it is not worse on the same test set; exit 5 when it is."""
    from appliedpapers.pipelines import registry
    from appliedpapers.pipelines.tracking_store import existing_store

    promotion = registry.promote(existing_store(store), name, version, new_benchmark=new_benchmark)
    print_json(asdict(promotion)) if as_json else print(f" {_sentence(promotion)}")


@registry_app.command("rollback")
def rollback(name: Name, store: options.Store = options.DEFAULT_STORE, as_json: options.Json = False) -> None:
    """Give the champion's alias back to the champion before it."""
    from appliedpapers.pipelines import registry
    from appliedpapers.pipelines.tracking_store import existing_store

    promotion = registry.rollback(existing_store(store), name)
    print_json(asdict(promotion)) if as_json else print(f" {_sentence(promotion)}")


@registry_app.command("export")
def export(
    model: options.Model,
    file: Annotated[Path, typer.Argument(help="Archive to write.")],
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Write a version into one file, for a machine without network."""
    from appliedpapers.pipelines import registry
    from appliedpapers.pipelines.tracking_store import existing_store

    print(f" written  {registry.export_version(existing_store(store), model, file)}")


@registry_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Archive that apps registry export wrote.")],
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Register a version from an archive."""
    from appliedpapers.pipelines import registry
    from appliedpapers.pipelines.tracking_store import open_store

    if not file.is_file():
        raise ConfigError(f"{file}: no such file.", hint="Check the path.")
    version, alias = registry.import_version(open_store(store), file)
    print(f" registered  version {version} → @{alias}")


@runs_app.command("list")
def list_runs(
    output: Annotated[Path, typer.Option("--output", help="Folder of all runs.")] = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """List the runs in a folder: complete, running and interrupted."""
    from appliedpapers.pipelines.run_folder import list_runs as read_runs

    runs = read_runs(output)
    if as_json:
        print_json(runs)
        return
    rows = [(run["id"], run["state"], run["dataset"], run["preset"], run["score"]) for run in runs]
    print_columns(("run", "state", "dataset", "preset", "test"), rows)
    halted = next((run for run in runs if run["state"] == "interrupted"), None)
    if halted:
        folder = shlex.quote(str(output / halted["id"]))
        print(f" continue an interrupted one:  apps run {halted['plugin']} --resume {folder}")


@runs_app.command("prune")
def prune(
    output: Annotated[Path, typer.Option("--output", help="Folder of all runs.")] = Path("runs"),
    older_than: Annotated[
        int, typer.Option("--older-than", metavar="DAYS", min=0, help="Leave what was worked on since.")
    ] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed.")] = False,
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Remove interrupted runs and checkpoints of complete ones; reports and models stay."""
    from appliedpapers.pipelines.run_prune import prune_runs

    pruned = prune_runs(output, older_than_days=older_than, dry_run=dry_run, store_folder=store)
    if as_json:
        print_json([asdict(item) for item in pruned])
        return
    print_columns(
        ("run", "removed", "size"),
        [(item.id, item.what, f"{item.bytes / 1e6:,.1f} MB") for item in pruned],
    )
    verb = "would make" if dry_run else "made"
    print(f" {verb} {sum(item.bytes for item in pruned) / 1e6:,.1f} MB of room")


def ui(
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 5000,
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Open MLflow's own page on our store."""
    from appliedpapers.pipelines.tracking_store import open_store
    from appliedpapers.pipelines.ui import serve_ui

    serve_ui(open_store(store), port)
