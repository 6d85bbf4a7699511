"""Answers to one row that a person types in: which model is meant, the row, and the answer in words."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core.bundle import is_bundle
from appliedpapers.core.device import resolve_device
from appliedpapers.core.errors import ConfigError, DataError, did_you_mean
from appliedpapers.core.inference import predict_all
from appliedpapers.core.validation import check
from appliedpapers.pipelines import DEFAULT_STORE
from appliedpapers.pipelines.locate import ModelRef, locate
from appliedpapers.pipelines.predict import read_as

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.config import TaskConfig

Assignments = Callable[[str, str], Sequence[str]]
_TYPED = "values"


@dataclass(frozen=True)
class Answer:
    """What one model says of the row.

    Attributes:
        model: Its name without our prefix, or the folder of a bundle.
        table: The row that it returned.
        text: In words.
    """

    model: str
    table: pa.Table
    text: str


def parse_values(words: Sequence[str]) -> dict[str, str]:
    """Return ``name=value`` words as a row.

    Raises:
        ConfigError: A word has no sign or no name, or a name stands twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name.strip():
            raise ConfigError(f"--value {word}: not a value.", hint="Expected --value NAME=VALUE.")
        if name.strip() in found:
            raise ConfigError(f"--value {name.strip()}: given twice.", hint="Give each value once.")
        found[name.strip()] = value.strip()
    return found


def predict_values(
    reference: str,
    values: Mapping[str, str],
    *,
    files: Path | None = None,
    device: str = "cpu",
    store_folder: Path = DEFAULT_STORE,
    assignments: Assignments = lambda plugin, task: (),
) -> list[Answer]:
    """Answer for one row.

    Where a plugin has several registered models and none is named, each is asked about the values that it
    takes: the one that takes most of them first.

    Args:
        reference: The model, or a plugin with several.
        values: The row, by names of columns as the plugin's own files may have them.
        files: Where models may write big results.
        device: ``auto``, ``cpu`` or ``cuda``.
        store_folder: Where MLflow's store lies.
        assignments: Gives ``a.b=c`` overrides that say how rows are read, by plugin and task.

    Raises:
        DataError: A value is none, or no model takes it.
        ConfigError: No such model.
    """
    left, answers = dict(values), list[Answer]()
    asked = _candidates(reference, store_folder)
    resolved = resolve_device(device)
    while asked and left:
        read = [(one, _read(one, left, assignments)) for one in asked]
        best, (row, used) = max(read, key=lambda pair: len(pair[1][1]))
        if not used:
            break
        asked = [one for one in asked if one is not best]
        row = row.select([name for name in row.column_names if name in best.info.input_schema.names])
        answers.append(_answer(best, row, files, resolved, assignments))
        left = {name: value for name, value in left.items() if name not in used}
    if left:
        name = next(iter(left))
        known = {
            one for found in _candidates(reference, store_folder) for one in found.info.input_schema.names
        }
        raise DataError(f"no input is called '{name}'.", hint=did_you_mean(name, known))
    return answers


def _candidates(reference: str, store_folder: Path) -> list[ModelRef]:
    if is_bundle(Path(reference).expanduser()) or any(sign in reference for sign in "@/\\"):
        return [locate(reference, store_folder)]
    from appliedpapers.pipelines.registry_versions import models_below
    from appliedpapers.pipelines.tracking_store import existing_store

    below = models_below(existing_store(store_folder), reference)
    return [locate(name, store_folder) for name in below or [reference]]


def _read(found: ModelRef, values: Mapping[str, str], assignments: Assignments) -> tuple[pa.Table, set[str]]:
    """Return the row as a model's plugin reads it, and which of the values the model takes.

    Each value is read by itself first: its column may get another name on the way.
    """
    config = _config(found, assignments)
    known = set(found.info.input_schema.names)
    used = set()
    for name, value in values.items():
        try:
            table = _table(found, {name: value}, config)
        except DataError:
            # a value that cannot be is its model's to refuse, in company
            if name in known or not _others_take(found, values, name):
                used.add(name)
            continue
        if set(table.column_names) - {"id"} <= known and set(table.column_names) & known - {"id"}:
            used.add(name)
    own = {name: value for name, value in values.items() if name in used}
    if not own:
        import pyarrow as pa

        return pa.table({}), set()
    return _table(found, own, config), used


def _others_take(found: ModelRef, values: Mapping[str, str], name: str) -> bool:
    return len(values) > 1 and name not in found.info.input_schema.names


def _config(found: ModelRef, assignments: Assignments) -> TaskConfig:
    from appliedpapers.core import config as configs

    config: TaskConfig = configs.validate(found.task.load("config"), found.info.config)
    for assignment in assignments(found.info.plugin, found.info.task):
        over = configs.parse_assignment(assignment)
        config = configs.validate(type(config), configs.merge(config.model_dump(), over))
    return config


def _table(found: ModelRef, values: Mapping[str, str], config: TaskConfig) -> pa.Table:
    """Let the plugin's own reader read the row, as if it stood in a file."""
    schema = found.info.input_schema
    paths = {column.name for column in schema.columns if column.file is not None}
    cells = [
        str(Path(value).expanduser().resolve()) if name in paths and value else value
        for name, value in values.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{_TYPED}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([list(values), cells])
        try:
            table: pa.Table = found.task.load("datasets").inputs(path, config)
        except DataError as error:
            # nobody wrote that file
            said = error.message.replace(str(path), "--value").replace(path.name, "--value")
            raise DataError(said, hint=error.hint, violations=error.violations) from None
    return table


def _answer(
    found: ModelRef, row: pa.Table, files: Path | None, device: str, assignments: Assignments
) -> Answer:
    model = found.load(device)
    read_as(model, list(assignments(found.info.plugin, found.info.task)))
    table = predict_all(model, row, source=_TYPED, files=files)
    checked = check(row, model.input_schema, source=_TYPED).require_clean()
    from appliedpapers.core.plugin import NAME_PREFIX

    return Answer(found.name.removeprefix(NAME_PREFIX), table, model.advice(checked, table))
