"""Whether a file fits what a plugin reads, and the options that make it fit."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from appliedpapers.core import plugin as plugins
from appliedpapers.core.config import TaskConfig, flags, resolve_config
from appliedpapers.core.errors import AppsError, ConfigError, DataError
from appliedpapers.core.headers import axes, match, unit_called, unit_in
from appliedpapers.core.sheets import is_sheet
from appliedpapers.core.tables import kind_of

if TYPE_CHECKING:
    import pyarrow as pa

_TRIES = 4
_FLAGS = {"--label": "label", "--group-column": "group"}
_SETTING = re.compile(r"--set '?([\w.]+)=(\[[^\]]*\]|[^\s';,]+)")
# what a remedy may set without being asked: how the file is written, not what is done about its faults
_OF_THE_FORM = re.compile(r"unit|layout|date_format|acc_sign|quat_order")
_NEAR_100 = (50.0, 150.0)


@dataclass(frozen=True)
class FileFit:
    """What :func:`describe_file` found.

    Attributes:
        plugin: Id of the plugin.
        task: The task that the file was read for.
        fits: Whether the plugin's own reader takes the file with :attr:`options`.
        options: Words for the command line, such as ``--columns '{device: DUT}'``.
        renamed: Meaning by column, of the columns that options name.
        summary: One line of size, where it fits.
        problem: What is wrong, where it does not.
        hint: What mends that.
        missing: Columns that may be named and were not found.
        look: What to check by eye: notes of the reader, units.
    """

    plugin: str
    task: str
    fits: bool
    options: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    problem: str = ""
    hint: str = ""
    missing: tuple[str, ...] = ()
    look: tuple[str, ...] = ()


def describe_file(
    path: Path,
    plugin: str,
    *,
    task: str | None = None,
    preset: str = "default",
    file: Path | None = None,
    assignments: Sequence[str] = (),
) -> FileFit:
    """Say whether a file fits a plugin, by the plugin's own reader, and find options under which it does.

    Columns are told by their names and units, in English and German; nothing is trained.

    Args:
        path: The file or folder.
        plugin: Plugin id.
        task: Task name; by default the first one that takes the file.
        preset: Preset to read with.
        file: YAML file that overrides the preset.
        assignments: ``a.b=c`` overrides.

    Raises:
        PluginError: The plugin is unknown or cannot be used.
        ConfigError: An option is wrong.
        DataError: There is no such file.
    """
    spec = plugins.find(plugin)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder.", hint="Check the path.")
    tasks = spec.tasks if task is None else (spec.task(task),)
    found = []
    for one in tasks:
        config_class = one.load("config")
        proposal = _propose(path, config_class)
        given = {text.partition("=")[0] for text in assignments}
        kept = [(name, value) for name, value in proposal.settings if name not in given]
        found.append(_tried(path, plugin, one, preset, file, assignments, kept, proposal))
        if found[-1].fits:
            refused = [f"not for {fit.task}: {fit.problem}" for fit in found[:-1] if fit.problem]
            return replace(found[-1], look=(*found[-1].look, *refused))
    if len(found) == 1:
        return found[0]
    hint = "\n".join(f"{fit.task}: {fit.problem} {fit.hint}" for fit in found)
    return FileFit(plugin, "", False, problem=f"{path.name}: no task of {plugin} takes it.", hint=hint)


@dataclass
class _Proposal:
    settings: list[tuple[str, Any]] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    look: list[str] = field(default_factory=list)


def _tried(
    path: Path,
    plugin: str,
    task: plugins.TaskSpec,
    preset: str,
    file: Path | None,
    assignments: Sequence[str],
    settings: list[tuple[str, Any]],
    proposal: _Proposal,
) -> FileFit:
    """Read the file as the plugin would, and take up what its own remedies say about the file's form."""
    catalog, config_class = task.load("datasets"), task.load("config")
    settings, problem = list(settings), None
    for _ in range(_TRIES):
        words = [*assignments, *(f"{name}={_yaml(value)}" for name, value in settings)]
        config = resolve_config(plugin, task=task.name, preset=preset, file=file, assignments=words)
        try:
            dataset = catalog.from_user(path, config)
        except (DataError, ConfigError) as error:
            problem = error
            named = {name for name, _ in settings} | {text.partition("=")[0] for text in assignments}
            more = [pair for pair in _remedies(error) if pair[0] not in named]
            if not more:
                break
            settings += more
        else:
            problem = None
            break
    fit = FileFit(
        plugin,
        task.name,
        problem is None,
        options=_words(settings, config_class),
        renamed=proposal.renamed,
        missing=tuple(proposal.missing),
        look=tuple(proposal.look),
    )
    if problem is not None:
        return replace(fit, problem=problem.message, hint=problem.hint or "")
    look = (*fit.look, *dataset.notes, *catalog.remarks(dataset, config))
    return replace(fit, summary=dataset.summary, look=look)


def _remedies(error: AppsError) -> list[tuple[str, Any]]:
    found = _SETTING.findall(error.hint or "")
    return [(name, value) for name, value in found if _OF_THE_FORM.search(name) and "…" not in value]


def _propose(path: Path, config_class: type[TaskConfig]) -> _Proposal:
    """Guess from names and units which of a table's columns stand for which option."""
    proposal = _Proposal()
    table = _table(path)
    if table is None:
        return proposal
    names = [str(name) for name in table.column_names]
    data: Any = config_class.model_fields.get("data")
    columns = getattr(data.annotation, "model_fields", {}).get("columns") if data else None
    if columns is not None:
        _columns(names, columns.annotation, proposal)
        _units(table, data.annotation.model_fields, proposal)
    for flag, (option, _) in flags(config_class).items():
        meaning = _FLAGS.get(flag, "")
        found = match(names, [meaning]).get(meaning) if meaning else None
        if found is not None:
            proposal.settings.append((option, found))
            proposal.renamed[found] = meaning
    return proposal


def _columns(names: Sequence[str], section: Any, proposal: _Proposal) -> None:
    wanted: dict[str, Any] = {name: info.default for name, info in section.model_fields.items()}
    taken = [one for default in wanted.values() for one in _listed(default) if one in names]
    free = [name for name in names if name not in taken]
    singles = [key for key, default in wanted.items() if isinstance(default, str) and default not in names]
    found: dict[str, Any] = {}
    for key, default in wanted.items():
        if isinstance(default, tuple) and not any(one in names for one in default):
            vector = axes(free, key) if len(default) == 3 else None
            if vector is not None:
                found[key] = vector
                free = [name for name in free if name not in vector]
    # in a wide table every other column is a series or a device
    long_only = {"id", "y"} if "id" in singles else set[str]()
    singles = [key for key in singles if key not in long_only]
    found |= match(free, singles)
    for key, value in found.items():
        proposal.settings.append((f"data.columns.{key}", value if isinstance(value, str) else list(value)))
        proposal.renamed |= dict.fromkeys(_listed(value), key)
    known = {*found, *long_only, *(key for key, default in wanted.items() if _in(default, names))}
    proposal.missing += [key for key in wanted if key not in known]


def _units(table: pa.Table, fields: Mapping[str, Any], proposal: _Proposal) -> None:
    for name, meaning in list(proposal.renamed.items()):
        unit, info = unit_in(name), fields.get(f"{meaning}_unit")
        if unit is None or info is None or get_origin(info.annotation) is not Literal:
            continue
        choices = [str(choice) for choice in get_args(info.annotation)]
        chosen = unit_called(unit, choices)
        if chosen == "percent" and "absolute" in choices and _begins_near_100(table, name):
            chosen = "absolute"
            proposal.look.append(f"'{name}' begins near 100: per cent of the start, not of change")
        option = f"data.{meaning}_unit"
        if chosen is None:
            proposal.look.append(f"the unit '{unit}' of '{name}' is none of {', '.join(choices)} ({option})")
        elif chosen != info.default and all(option != known for known, _ in proposal.settings):
            proposal.settings.append((option, chosen))


def _begins_near_100(table: pa.Table, name: str) -> bool:
    import pyarrow.compute as pc

    try:
        middle = pc.quantile(table.column(name), 0.5)[0].as_py()
    except (TypeError, ValueError, NotImplementedError):
        return False
    return middle is not None and _NEAR_100[0] <= middle <= _NEAR_100[1]


def _table(path: Path) -> pa.Table | None:
    """Return the table that a file, or the first one of a folder, is; None where it is none or unreadable."""
    from appliedpapers.core.tables import read_table

    if path.is_dir():
        path = next((one for one in sorted(path.iterdir()) if one.is_file() and kind_of(one)), path)
    if not path.is_file() or (kind_of(path) is None and not is_sheet(path)):
        return None
    try:
        return read_table(path)
    except DataError:
        return None


def _words(settings: Sequence[tuple[str, Any]], config_class: type[TaskConfig]) -> tuple[str, ...]:
    """Return settings as words of the command line, by the plugin's flags where it has them."""
    flag_of = {option: flag for flag, (option, _) in flags(config_class).items()}
    whole = "data.columns"
    columns = {name.removeprefix(f"{whole}."): value for name, value in settings if name.startswith(whole)}
    words: list[str] = []
    if columns and whole in flag_of:
        words += [flag_of[whole], _yaml(columns)]
    for name, value in settings:
        if name.startswith(whole) and whole in flag_of:
            continue
        words += [flag_of[name], _yaml(value)] if name in flag_of else ["--set", f"{name}={_yaml(value)}"]
    return tuple(words)


def command(fit: FileFit, verb: Sequence[str], path: Path, several_tasks: bool) -> str:
    """Return a command line that is ready to paste."""
    task = ["--task", fit.task] if several_tasks else []
    return shlex.join([*verb, fit.plugin, *task, "--data", str(path), *fit.options])


def _yaml(value: Any) -> str:
    """Return a value as YAML on one line, plain where that reads back."""
    import yaml

    if isinstance(value, str):
        plain = re.fullmatch(r"[\w./+-][\w ./+-]*", value) and yaml.safe_load(value) == value
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value.items()) + "}"
    return "[" + ", ".join(_yaml(one) for one in value) + "]" if isinstance(value, list) else str(value)


def _listed(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _in(default: Any, names: Sequence[str]) -> bool:
    return any(one in names for one in _listed(default))
