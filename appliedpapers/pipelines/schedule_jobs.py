"""Jobs in YAML: what is run, when, and what happens when it fails; errors name file and line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from appliedpapers.core import bounded_yaml
from appliedpapers.core.config import Section, yaml_problems
from appliedpapers.core.errors import ConfigError, did_you_mean
from appliedpapers.pipelines.schedule_times import Cron, Interval, Trigger, seconds_of, time_zone

NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
_SUFFIXES = (".yaml", ".yml")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+)\}")
_PLACEHOLDERS = ("scheduled_for", "date", "time", "year", "month", "day", "hour", "job")
_KEPT_BY_US = {"json", "quiet", "resume", "help", "debug"}
_URL = re.compile(r"https?://\S+|\$\{\w+\}")

Scalar = str | bool | int | float
Options = dict[str, Scalar | list[Scalar]]


def _duration(text: str) -> str:
    seconds_of(text)
    return text


def _zone(name: str) -> str:
    time_zone(name)
    return name


def _cron(text: str) -> str:
    Cron(text)
    return text


def _options(options: Options) -> Options:
    for key, value in options.items():
        if key.lower().replace("_", "-") in _KEPT_BY_US:
            raise ValueError(f"option '{key}' is the schedule's own")
        for text in value if isinstance(value, list) else [value]:
            _check_placeholders(str(text))
    return options


def _web(text: str) -> str:
    if not _URL.fullmatch(text):
        raise ValueError(f"'{text}' is no address; expected https://..., or ${{NAME}} of the environment")
    return text


Duration = Annotated[
    str, AfterValidator(_duration), Field(json_schema_extra={"pattern": r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"})
]
CronLine = Annotated[str, AfterValidator(_cron)]
CheckedOptions = Annotated[Options, AfterValidator(_options)]


class Notice(Section):
    """Who is told when a firing has failed for good."""

    command: tuple[str, ...] | None = Field(
        None, min_length=1, description="program and arguments; no shell reads them"
    )
    webhook: Annotated[str, AfterValidator(_web)] | None = Field(
        None, description="address that is sent JSON; ${NAME} is read from the environment"
    )

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if self.command is None and self.webhook is None:
            raise ValueError("says neither command nor webhook")
        return self


class Job(Section):
    """One job: options of ``apps score run`` or ``apps run``, and when it is due."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    score: CheckedOptions | None = Field(None, description="options of apps score run, without dashes")
    run: CheckedOptions | None = Field(None, description="plugin, and options of apps run, without dashes")
    cron: CronLine | None = Field(None, description="five fields: minute, hour, day of month, month, weekday")
    every: Duration | None = Field(None, description="interval such as 15m or 6h, instead of cron")
    timezone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="clock of the cron expression")
    folder: Path | None = Field(None, description="where the command runs; default: where it was added")
    catch_up: Literal["none", "latest", "all"] = Field(
        "latest", description="which missed times are made up for"
    )
    retries: int = Field(2, ge=0, le=100, description="further tries after a failure")
    backoff: Duration = Field("1m", description="wait before the first retry; doubled each time, at most 1h")
    timeout: Duration = Field("1d", description="a try that takes longer is stopped")
    on_failure: Notice | None = Field(None, description="who is told when all tries failed")

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        for names in (("score", "run"), ("cron", "every")):
            given = [name for name in names if getattr(self, name) is not None]
            if len(given) != 1:
                raise ValueError(
                    f"expected either {names[0]} or {names[1]}, not {'both' if given else 'none'}"
                )
        if self.run is not None and not re.fullmatch(r"[\w.-]+", str(self.run.get("plugin", ""))):
            raise ValueError("run needs a plugin, such as plugin: frets")
        return self

    @property
    def kind(self) -> Literal["score", "run"]:
        """``score`` or ``run``."""
        return "score" if self.score is not None else "run"

    @property
    def options(self) -> Options:
        """Options of the command as they were written."""
        return (self.score if self.score is not None else self.run) or {}

    @cached_property
    def trigger(self) -> Trigger:
        """When it is due."""
        return Cron(self.cron, self.timezone) if self.cron else Interval(seconds_of(self.every or ""))

    @property
    def when(self) -> str:
        """When it is due, in words."""
        return f"cron {self.cron} {self.timezone}" if self.cron else f"every {self.every}"

    def words(self, name: str, scheduled_for: datetime) -> list[str]:
        """Return the words behind ``apps`` for one firing.

        Args:
            name: The job's name.
            scheduled_for: When it was due; ``{date}`` and the like speak of it on the job's clock.
        """
        local = scheduled_for.astimezone(time_zone(self.timezone))
        values = {
            "job": name,
            "scheduled_for": scheduled_for.strftime("%Y-%m-%dT%H%M%SZ"),
            "date": f"{local:%Y-%m-%d}",
            "time": f"{local:%H%M}",
            **{part: f"{getattr(local, part):02d}" for part in ("year", "month", "day", "hour")},
        }
        words = ["score", "run"] if self.kind == "score" else ["run", str(self.options["plugin"])]
        for key, value in self.options.items():
            if self.kind == "run" and key == "plugin":
                continue
            option = f"--{key.replace('_', '-')}"
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, bool):
                    words.append(option if item else option.replace("--", "--no-", 1))
                else:
                    filled = _PLACEHOLDER.sub(lambda match: values[match[1]], str(item))
                    words.append(f"{option}={filled}")
        return words

    def option(self, name: str, default: str) -> str:
        """Return one option of the command as text."""
        return str(self.options.get(name, default))


def read_jobs(path: Path) -> dict[str, Job]:
    """Read the jobs in a YAML file, or in every one of a folder.

    Args:
        path: ``jobs.yaml``, or a folder of such files.

    Returns:
        Jobs by name.

    Raises:
        ConfigError: Something is missing or wrong; the message names file, line and option.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
        if not files:
            raise ConfigError(f"{path}: no YAML file in it.", hint="Expected files such as jobs.yaml.")
    else:
        files = [path]
    jobs: dict[str, Job] = {}
    homes: dict[str, Path] = {}
    for file in files:
        for name, job in _read_file(file).items():
            if name in jobs:
                raise ConfigError(f"{file}: job '{name}' is also in {homes[name]}.", hint="Rename one.")
            jobs[name], homes[name] = job, file
    return jobs


def jobs_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file, for editors that check while one types."""
    job = Job.model_json_schema()
    definitions = job.pop("$defs", {})
    # the shape cannot say it, and a reader of the schema should know
    job["allOf"] = [
        {"oneOf": [{"required": ["score"]}, {"required": ["run"]}]},
        {"oneOf": [{"required": ["cron"]}, {"required": ["every"]}]},
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Jobs of apps schedule",
        "type": "object",
        "required": ["jobs"],
        "additionalProperties": False,
        "properties": {
            "jobs": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^{NAME}$"},
                "additionalProperties": {"$ref": "#/$defs/Job"},
            }
        },
        "$defs": {**definitions, "Job": job},
    }


def command_line(words: Iterable[str]) -> str:
    """Return what a person would type."""
    return shlex.join(["apps", *words])


def _check_placeholders(text: str) -> None:
    for name in _PLACEHOLDER.findall(text):
        if name not in _PLACEHOLDERS:
            raise ValueError(f"unknown placeholder '{{{name}}}'. {did_you_mean(name, _PLACEHOLDERS)}")


def _read_file(file: Path) -> dict[str, Job]:
    root, document = _parse(file)
    _refuse_repeated(file, root)
    jobs = document.get("jobs") if isinstance(document, dict) else None
    if not isinstance(jobs, dict) or not jobs or document.keys() != {"jobs"}:
        raise ConfigError(
            f"{file}, line 1: not a file of jobs.", hint="Expected 'jobs:' at the top, a name a job below it."
        )
    return {name: _read_job(file, root, name, values) for name, values in jobs.items()}


def _read_job(file: Path, root: yaml.Node, name: Any, values: Any) -> Job:
    where = ("jobs", name)
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise _complaint(
            file, root, where, f"'{name}' is no name for a job", "Use small letters, digits, -, _ and dots."
        )
    try:
        return Job.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        place = tuple(part for part in problem["loc"] if part not in _UNION_TAGS)
        raise _complaint(file, root, (*where, *place), *_sentence(problem, place, more)) from None


# what pydantic puts into a place beside keys: which member of a union it tried
_UNION_TAGS = frozenset({"str", "bool", "int", "float", "list[union[str,bool,int,float]]"})


def _sentence(problem: Mapping[str, Any], place: tuple[int | str, ...], more: str) -> tuple[str, str]:
    said = str(problem["msg"]).removeprefix("Value error, ").rstrip(".?")
    if problem["type"] in ("model_type", "dict_type"):
        return f"{'.'.join(map(str, place)) or 'this'} is not a mapping{more}", "Expected 'key: value' lines."
    if problem["type"] == "extra_forbidden":
        known = Notice.model_fields if "on_failure" in place else Job.model_fields
        return f"unknown key '{place[-1]}'{more}", did_you_mean(str(place[-1]), known)
    if place[:1] in (("score",), ("run",)) and len(place) > 1:
        said, more = "expected a text, a number, true, false or a list of them", ""
    key = f"{'.'.join(map(str, place))}: " if place else ""
    text = said if problem["type"] == "value_error" else said[0].lower() + said[1:]
    ending = "" if problem["type"] in ("value_error", "missing") else f", not {problem['input']!r}"
    return f"{key}{text}{ending}{more}", "apps schedule schema prints what a job may say."


def _parse(file: Path) -> tuple[yaml.Node, Any]:
    with yaml_problems(file, hint="Quote texts with special signs, such as cron: '*/15 * * * *'."):
        text = file.read_text(encoding="utf-8")
        root = bounded_yaml.compose(text)
        return root or yaml.MappingNode("", []), bounded_yaml.load(text)


def _refuse_repeated(file: Path, node: yaml.Node) -> None:
    """YAML keeps the last of two equal keys silently; a job that disappears is no trifle."""
    for mapping in _mappings(node):
        seen: set[str] = set()
        for key, _ in mapping.value:
            if key.value in seen:
                raise ConfigError(
                    f"{file}, line {key.start_mark.line + 1}: '{key.value}' is there twice.",
                    hint="Keep one of them.",
                )
            seen.add(key.value)


def _mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from _mappings(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _mappings(value)


def _complaint(file: Path, root: yaml.Node, place: tuple[Any, ...], text: str, hint: str) -> ConfigError:
    return ConfigError(f"{file}, line {_line(root, place)}: job {place[1]}: {text}.", hint=hint)


def _line(node: yaml.Node, place: tuple[Any, ...]) -> int:
    """Return the line of a key, or of the nearest one above it that is there."""
    line = 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
