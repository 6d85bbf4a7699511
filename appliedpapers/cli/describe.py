"""``apps data describe``: what the columns of a table seem to be for."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliedpapers.cli import options
from appliedpapers.cli.output import paint, print_columns, print_json
from appliedpapers.core import plugin as registry
from appliedpapers.core.errors import ConfigError

if TYPE_CHECKING:
    from appliedpapers.core.features.infer import Inferred

_DEFAULT_PLUGIN = "finalmlp"
_DEFAULT_FILE = Path("fields.yaml")
_EXAMPLE = 20
_TYPE = 16


def describe(
    plugin: Annotated[
        str | None,
        typer.Argument(help="Plugin that is to learn from it; finalmlp unless given.", metavar="[ID]"),
    ] = None,
    data: options.DataPath = None,
    write: Annotated[
        Path | None, typer.Option("--write", help="YAML file to write the roles to, for --config.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="The 0/1 column to predict, where its name does not say so.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Guess what each column of a table is for, as YAML that can be edited."""
    from appliedpapers.core.features.infer import fields_yaml, infer_fields
    from appliedpapers.core.features.rows import open_rows
    from appliedpapers.core.files import write_text

    if data is None:
        raise ConfigError("no data given.", hint="Name a file or a folder: --data clicks.parquet")
    if plugin is not None:
        registry.find(plugin)
    if write is not None and write.exists():
        raise ConfigError(f"{write}: exists already.", hint="Remove it or choose another name.")
    source = open_rows(data)
    inferred = infer_fields(source, label=label)
    if write is not None:
        write_text(write, fields_yaml(inferred))
    if as_json:
        print_json(_document(data, source.num_rows, inferred))
        return
    print(f" {data} · {source.num_rows:,} rows · {len(inferred.fields)} columns")
    print(f" roles guessed from {inferred.sampled:,} rows\n")
    _print_roles(inferred)
    _print_next(plugin or _DEFAULT_PLUGIN, data, write, label)


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
