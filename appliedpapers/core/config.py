"""Typed configuration: class defaults < preset < file < ``--set a.b=c``."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliedpapers.core import bounded_yaml
from appliedpapers.core.errors import ConfigError, did_you_mean


class Section(BaseModel):
    """A part of a configuration: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TaskConfig(Section):
    """Base of every task's configuration.

    A field may carry ``json_schema_extra={"flag": "--freq"}``: then the command line takes that flag too.

    Class attributes:
        presets: Named overrides of the defaults; every plugin has ``quick``, ``default`` and ``published``.
            It may have ``check``, for the conformance suite where ``quick`` would take it too long.
        dataset_presets: What ``published`` means on a published dataset, by dataset id, where one setting
            does not fit all.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {}, "default": {}, "published": {}}
    dataset_presets: ClassVar[Mapping[str, str]] = {}

    seed: int = Field(2021, ge=0, le=2**32 - 1, description="the one seed of the run")
    candidates: Mapping[str, dict[str, Any]] = Field(
        {}, description="further configurations by name, as overrides; the best on valid is registered"
    )

    def replace(self, **sections: Any) -> Self:
        """Return a validated copy with nested overrides, such as ``replace(model={"horizon": 24})``."""
        return type(self).model_validate(merge(self.model_dump(), sections))


T = TypeVar("T", bound=TaskConfig)

_MOST_MEANT = 3
# what pydantic says in the words of Python, by its name of the problem
_IN_WORDS = {
    "int_.*": "expected a whole number",
    "float_.*": "expected a number",
    "bool_.*": "expected true or false",
    "string_type": "expected a text",
    "(tuple|list|set|frozenset)_type": "expected a list such as [a, b]",
    "(dict|mapping)_type": "expected names and values such as {a: 1}",
    "model_(attributes_)?type": "it is a section of options",
    "missing": "a value is missing",
}
_KINDS = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false"}


class _Loader(bounded_yaml.BoundedLoader):
    """The safe loader, with dates and times left as texts: ``1990-01-01``, ``14:30``."""


def _in_tens(tag: str, form: re.Pattern[str]) -> re.Pattern[str]:
    """Leave out the numbers of base 60: YAML 1.1 makes 870 of 14:30."""
    return (
        re.compile(rf"(?![^\n]*:)(?:{form.pattern})", form.flags) if tag.endswith(("int", "float")) else form
    )


_Loader.yaml_implicit_resolvers = {
    first: [(tag, _in_tens(tag, form)) for tag, form in forms if tag != "tag:yaml.org,2002:timestamp"]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def resolve(
    config_class: type[T],
    *,
    preset: str = "default",
    file: Path | None = None,
    assignments: Sequence[str] = (),
    dataset: str | None = None,
) -> T:
    """Build the configuration of a run.

    Args:
        config_class: The task's configuration class.
        preset: Name in ``config_class.presets``.
        file: YAML file whose keys override the preset.
        assignments: ``a.b=c`` strings that override the file; ``c`` is read as YAML.
        dataset: Id of the published dataset that the run is about; it decides what ``published`` means.

    Raises:
        ConfigError: Unknown preset or key, unreadable file, or a value out of range.
    """
    if preset == "published" and dataset is not None:
        preset = config_class.dataset_presets.get(dataset, preset)
    if preset not in config_class.presets:
        raise ConfigError(f"unknown preset '{preset}'.", hint=did_you_mean(preset, config_class.presets))
    values = copy.deepcopy(dict(config_class.presets[preset]))
    if file is not None:
        values = merge(values, read_yaml(file))
    written = values
    for assignment in assignments:
        values = merge(values, parse_assignment(assignment), empties=True)
    values = _over_defaults(config_class, values)
    try:
        return validate(config_class, values)
    except ConfigError:
        if file is not None:
            _validate_file(config_class, written, file)
        raise


def resolve_config(
    plugin: str,
    *,
    task: str | None = None,
    preset: str = "default",
    file: Path | None = None,
    assignments: Sequence[str] = (),
    dataset: str | None = None,
) -> TaskConfig:
    """Build the configuration of a plugin's task; see :func:`resolve`.

    Raises:
        PluginError: The plugin is unknown or cannot be used.
        ConfigError: Unknown task, preset or key, unreadable file, or a value out of range.
    """
    from appliedpapers.core.plugin import find

    config_class: type[TaskConfig] = find(plugin).task(task).load("config")
    return resolve(config_class, preset=preset, file=file, assignments=assignments, dataset=dataset)


def validate(config_class: type[T], values: Mapping[str, Any]) -> T:
    """Validate ``values``; every problem becomes one line that names the option."""
    try:
        return config_class.model_validate(values)
    except ValidationError as error:
        raise _first_problem(config_class, error) from None


@contextmanager
def yaml_problems(path: Path, *, hint: str, absent: str = "Check the path that you gave.") -> Iterator[None]:
    """Say in one line what is wrong with a YAML file that is read inside the block.

    Raises:
        ConfigError: The file is absent (the remedy is ``absent``), unreadable, or not YAML (``hint``).
    """
    try:
        yield
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.", hint=absent) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({reason}).", hint="Expected a UTF-8 YAML file.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{path}{where}: {problem}.", hint=hint) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader.

    Raises:
        ConfigError: The file is absent, unreadable, not YAML or not a mapping.
    """
    expected = "Expected YAML, such as 'model: {horizon: 24}'."
    with yaml_problems(path, hint=expected, absent="Check the path given to --config."):
        content = bounded_yaml.load(path.read_text(encoding="utf-8"), _Loader)
    if content is None:
        return {}
    if not isinstance(content, dict):
        kind = _KINDS.get(type(content), type(content).__name__)
        raise ConfigError(f"{path}: {kind} at the top.", hint="Expected 'key: value' lines.")
    return content


def merge(base: Mapping[str, Any], over: Mapping[str, Any], *, empties: bool = False) -> dict[str, Any]:
    """Return ``base`` with the nested keys of ``over`` laid on top.

    Args:
        base: Below.
        over: On top.
        empties: An empty mapping on top empties the one below instead of leaving it as it is.
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping) and (value or not empties)
        merged[key] = merge(below, value, empties=empties) if both else value  # type: ignore[arg-type]
    return merged


def parse_assignment(text: str) -> dict[str, Any]:
    """Return ``a.b=c`` as nested keys; ``c`` is read as YAML.

    Raises:
        ConfigError: There is no key, no sign, or the value is not YAML.
    """
    path, sign, raw = text.partition("=")
    if not sign or not all(path.split(".")):
        raise ConfigError(f"--set {text}: not an assignment.", hint="Expected --set section.option=value.")
    try:
        # formats of dates begin with a sign that YAML keeps for itself
        value: Any = raw if raw.startswith("%") else bounded_yaml.load(raw, _Loader)
    except yaml.YAMLError:
        raise ConfigError(
            f"--set {text}: the value is not YAML.", hint="Quote it, such as --set 'a.b=[1, 2]'."
        ) from None
    if isinstance(value, str) and not raw.strip().startswith(("'", '"')):
        value = _number_or_text(value)
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def flags(config_class: type[TaskConfig]) -> dict[str, tuple[str, bool]]:
    """Return the command-line flags that a configuration declares.

    Returns:
        ``{"--freq": ("data.freq", False)}``; the boolean says that the flag takes no value.
    """
    return {
        extra["flag"]: (path, info.annotation is bool)
        for path, info in _fields(config_class, sections=True)
        if isinstance(extra := info.json_schema_extra, dict) and isinstance(extra.get("flag"), str)
    }


def option_paths(config_class: type[TaskConfig], *, takes: str | None = None) -> list[str]:
    """Return every option as ``a.b``, in the order of its declaration.

    Args:
        config_class: Of a task.
        takes: Only options whose type says that they take such a thing, such as ``"module"``.
    """
    return [
        path
        for path, info in _fields(config_class)
        if takes is None
        or (isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("takes") == takes)
    ]


def commented_yaml(config: TaskConfig) -> str:
    """Return the configuration as YAML with each option's description beside it."""
    return "\n".join(_comment_lines(config, 0)) + "\n"


def _over_defaults(config_class: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` over what sections' own defaults state: one option of a section leaves the others."""
    whole = dict(values)
    for name, info in config_class.model_fields.items():
        given, default = whole.get(name), info.default
        # of a union, another member may be meant
        plain = isinstance(info.annotation, type) and isinstance(default, BaseModel)
        if plain and isinstance(given, Mapping):
            stated = default.model_dump(exclude_unset=True)
            whole[name] = _over_defaults(type(default), merge(stated, given))
    return whole


def _validate_file(config_class: type[BaseModel], values: Mapping[str, Any], file: Path) -> None:
    try:
        config_class.model_validate(values)
    except ValidationError as error:
        problem = _first_problem(config_class, error)
        raise ConfigError(f"{file}: {problem.message}", hint=problem.hint) from None


def _number_or_text(value: str) -> Any:
    # YAML 1.1 reads 1e-4 as text; people mean the number
    try:
        return float(value) if "e" in value.lower() else value
    except ValueError:
        return value


def _first_problem(config_class: type[BaseModel], error: ValidationError) -> ConfigError:
    problem = error.errors()[0]
    location = [str(part) for part in problem["loc"]]
    option = ".".join(location)
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        return ConfigError(f"unknown option '{option}'{more}.", hint=_meant(config_class, location))
    # pydantic says "Value error, " before what a validator of ours says
    said = problem["msg"].removeprefix("Value error, ")
    rule = said[0].lower() + said[1:] if said == problem["msg"] else said
    rule = next((ours for kind, ours in _IN_WORDS.items() if re.fullmatch(kind, problem["type"])), rule)
    quotes_itself = problem["type"] == "value_error" and "'" in rule
    given = "" if quotes_itself else f", not {problem['input']!r}"
    place = f"option '{option}'" if option else "configuration"
    hint = "apps config show ID lists every option with its meaning and range."
    if problem["type"] == "literal_error":
        near = did_you_mean(str(problem["input"]), re.findall("'([^']*)'", problem["msg"]))
        hint = near if near.startswith("Did") else hint
    elif problem["type"] in ("model_type", "model_attributes_type"):
        inside, prefix = _siblings(config_class, location)
        hint = f"Set an option of it: {', '.join(f'{prefix}{name}' for name in inside)}."
    return ConfigError(
        f"{place}: {rule.removesuffix('?')}{given}{more}{'?' if rule.endswith('?') else '.'}", hint=hint
    )


def _meant(config_class: type[BaseModel], location: list[str]) -> str:
    """Return the hint on an unknown option: a neighbour of like name, or options of that name elsewhere."""
    word = location[-1]
    names, prefix = _siblings(config_class, location[:-1])
    hint = did_you_mean(word, names, prefix=prefix)
    elsewhere = [path for path, _ in _fields(config_class) if path.rpartition(".")[2] == word]
    if elsewhere and not hint.startswith("Did"):
        quoted = [f"'{path}'" for path in elsewhere[:_MOST_MEANT]]
        return f"Did you mean {' or '.join(quoted)}?"
    return hint


def _siblings(config_class: type[BaseModel], path: list[str]) -> tuple[list[str], str]:
    """Return the options of a section, and what is written before them: ``network.``, empty in a list."""
    sections, written = [config_class], ""
    for part in path:
        below = [
            section.model_fields[part].annotation for section in sections if part in section.model_fields
        ]
        # a tag of a union, or a number in a list, stands between an option and its section
        if below:
            sections = [kind for annotation in below for kind in _sections(annotation)]
            written += f"{part}."
        elif part.isdecimal():
            written = ""
        elif len(sections) > 1:
            sections = [section for section in sections if part in _tags(section)] or sections
    return sorted({name for section in sections for name in section.model_fields}), written


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections(argument)]


def _tags(section: type[BaseModel]) -> set[Any]:
    return {tag for info in section.model_fields.values() for tag in get_args(info.annotation)}


def _fields(
    config_class: type[BaseModel], prefix: str = "", *, sections: bool = False
) -> Iterator[tuple[str, Any]]:
    """Yield path and description of every option; with ``sections`` those of sections, too."""
    for name, info in config_class.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if sections:
                yield f"{prefix}{name}", info
            yield from _fields(annotation, f"{prefix}{name}.", sections=sections)
        else:
            yield f"{prefix}{name}", info


def _comment_lines(section: BaseModel, indent: int) -> Iterator[str]:
    pad = "  " * indent
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel) and type(value).model_fields:
            yield f"{pad}{name}:"
            yield from _comment_lines(value, indent + 1)
            continue
        plain = section.model_dump(mode="json")[name]
        text = (
            yaml.safe_dump(plain, default_flow_style=True, width=10_000, sort_keys=False)
            .removesuffix("...\n")
            .strip()
        )
        comment = f"  # {' '.join(info.description.split())}" if info.description else ""
        yield f"{pad}{name}: {text}{comment}"
