"""``apps data describe``: what the columns of a table seem to be for."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliedpapers.cli import options
from appliedpapers.cli.output import paint, print_columns, print_json
from appliedpapers.core import plugin as registry
from appliedpapers.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from appliedpapers.core.features.infer import Inferred
    from appliedpapers.pipelines.describe import FileFit

_DEFAULT_PLUGIN = "finalmlp"
_DEFAULT_FILE = Path("fields.yaml")
_NEXT = (("data", "audit"), ("run",))
_EXAMPLE = 20
_TYPE = 16


def describe(
    context: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(help="File or folder; without --for, a plugin's id with --data.", metavar="[FILE]"),
    ] = None,
    meant: Annotated[
        str | None,
        typer.Option("--for", help="Say whether it fits this plugin, and with which options.", metavar="ID"),
    ] = None,
    task: options.Task = None,
    preset: options.Preset = "default",
    config: options.ConfigFile = None,
    sets: options.Sets = None,
    data: options.DataPath = None,
    write: Annotated[
        Path | None, typer.Option("--write", help="YAML file to write the roles to, for --config.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="The 0/1 column to predict, where its name does not say so.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Say whether a file fits a plugin (--for), or guess what each column is for, as YAML to edit."""
    from appliedpapers.core.features.infer import fields_yaml, infer_fields
    from appliedpapers.core.features.rows import open_rows
    from appliedpapers.core.files import write_text

    if meant is not None:
        if (file is None) == (data is None):
            raise ConfigError("give the file once.", hint="Such as apps data describe FILE --for ID")
        # its own --label is a flag of some plugins, too
        context.args += ["--label", label] if label else []
        words = [*options.plugin_flags(context, meant, task), *(sets or [])]
        _describe_fit(Path(data or file or ""), meant, task, preset, config, words, as_json)
        return
    if context.args:
        said = f"no option is called '{context.args[0]}'."
        raise ConfigError(said, hint="Options of a plugin need --for ID.")
    plugin = None
    if file is not None and (data is not None or file in options.complete_plugin(file)):
        plugin = file
    elif file is not None:
        data = Path(file)
    if data is None:
        raise ConfigError("no data given.", hint="Name a file or a folder: --data clicks.parquet")
    if plugin is not None:
        registry.find(plugin)
    if write is not None and write.exists():
        raise ConfigError(f"{write}: exists already.", hint="Remove it or choose another name.")
    source = open_rows(data)
    try:
        inferred = infer_fields(source, label=label)
    except ConfigError as error:
        if plugin is not None or label is not None:
            raise
        # this guess is for tables of clicks, and the file may be meant for something else
        raise ConfigError(error.message, hint=f"{error.hint} For another plugin: --for ID.") from None
    if write is not None:
        write_text(write, fields_yaml(inferred))
    if as_json:
        print_json(_document(data, source.num_rows, inferred))
        return
    print(f" {data} · {source.num_rows:,} rows · {len(inferred.fields)} columns")
    print(f" roles guessed from {inferred.sampled:,} rows\n")
    _print_roles(inferred)
    _print_next(plugin or _DEFAULT_PLUGIN, data, write, label)


def _describe_fit(
    path: Path,
    plugin: str,
    task: str | None,
    preset: str,
    config: Path | None,
    assignments: Sequence[str],
    as_json: bool,
) -> None:
    from appliedpapers.pipelines.describe import command, describe_file

    fit = describe_file(path, plugin, task=task, preset=preset, file=config, assignments=assignments)
    several = len(registry.find(plugin).tasks) > 1
    said = [word for text in assignments for word in ("--set", text)]
    lines = [
        " ".join([command(fit, ("apps", *verb), path, several), *map(shlex.quote, said)]) for verb in _NEXT
    ]
    if as_json:
        print_json(asdict(fit) | {"data": str(path), "next": lines if fit.fits else []})
    else:
        _print_fit(fit, path, lines)
    if not fit.fits:
        raise typer.Exit(DataError.exit_code)


def _print_fit(fit: FileFit, path: Path, lines: Sequence[str]) -> None:
    size = f" · {fit.summary}" if fit.summary else ""
    task = f" {fit.task}" if len(registry.find(fit.plugin).tasks) > 1 else ""
    print(f" {path} · {fit.plugin}{task}{size}")
    if fit.renamed:
        print()
        print_columns(
            ("column", "read as"), [(_short(name, 40), meaning) for name, meaning in fit.renamed.items()]
        )
    if fit.missing:
        print(f" not found  {', '.join(fit.missing)}")
    for line in fit.look:
        print(f" {paint('look', 'bad')}       {line}")
    if fit.fits:
        print(f" {paint('fits', 'good')}       {'with these options' if fit.options else 'as it is'}\n")
        for number, line in enumerate(lines):
            print(f" {'next' if number == 0 else '':<10} {line}")
        return
    print(f" {paint('does not fit', 'bad')}  {fit.problem}")
    if fit.hint:
        print(textwrap.indent(fit.hint, "   "))
    if fit.options:
        print(f"   tried with  {shlex.join(fit.options)}")


def _print_roles(inferred: Inferred) -> None:
    rows = []
    for name, spec in inferred.fields.items():
        seen = inferred.columns[name]
        distinct = "-" if seen.distinct is None else f"{seen.distinct:,}"
        missing = f"{100 * seen.missing:.1f}" if seen.missing else "0"
        cells = (
            _short(name, 32),
            _short(seen.type, _TYPE),
            distinct,
            missing,
            _short(seen.example, _EXAMPLE),
        )
        rows.append((*cells, spec.role, inferred.reasons[name]))
    print_columns(("column", "type", "distinct", "missing %", "example", "role", "why"), rows)
    for warning in inferred.warnings:
        print(f" {paint('look', 'bad')}  {warning}")


def _print_next(plugin: str, data: Path, write: Path | None, label: str | None) -> None:
    where = shlex.quote(str(data))
    if write is None:
        given = f" --label {shlex.quote(label)}" if label else ""
        whose = "" if plugin == _DEFAULT_PLUGIN else f"{plugin} "
        print(f"\n next  apps data describe {whose}--data {where}{given} --write {_DEFAULT_FILE}")
        print(f"       apps run {plugin} --data {where} --config {_DEFAULT_FILE}")
        return
    print(
        f"\n written  {write}\n next     apps run {plugin} --data {where} --config {shlex.quote(str(write))}"
    )


def _document(data: Path, rows: int, inferred: Inferred) -> dict[str, Any]:
    return {
        "data": str(data),
        "rows": rows,
        "sampled": inferred.sampled,
        "columns": [
            {
                "column": name,
                **asdict(inferred.columns[name]),
                "field": {"role": spec.role, **spec.model_dump(mode="json", exclude_unset=True)},
                "why": inferred.reasons[name],
            }
            for name, spec in inferred.fields.items()
        ],
        "warnings": list(inferred.warnings),
    }


def _short(text: str, most: int) -> str:
    # line ends and other control characters would break the table
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: most + 1])
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"
