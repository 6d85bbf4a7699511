"""What a comparison varies: ``--over "head=[mlp, kan(grid=5)]"`` as configurations with names."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from appliedpapers.core.config import option_paths, resolve_config
from appliedpapers.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from appliedpapers.core.config import TaskConfig

HEAD = "head"
"""Names the option by which a plugin takes a shared module, whatever the plugin calls it."""


@dataclass(frozen=True)
class Choice:
    """One configuration of a comparison.

    Attributes:
        label: What is varied, such as ``kan(grid=5)``, or ``head=fan, lookback=48`` of several options.
        assignments: What it sets, by full option path, as text.
        config: The whole configuration, with the first seed.
    """

    label: str
    assignments: Mapping[str, str]
    config: TaskConfig


def parse_over(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the option and the values of ``head=[mlp, kan(grid=3, hidden=[8]), fan]``.

    Commas within brackets of any kind belong to a value.

    Raises:
        ConfigError: It is not of that form, or a value stands twice.
    """
    name, sign, rest = (part.strip() for part in text.partition("="))
    hint = 'Expected --over "option=[value, value]", such as --over "head=[mlp, kan(grid=5)]".'
    if not sign or not name or not rest.startswith("[") or not rest.endswith("]"):
        raise ConfigError(f"--over {text}: not a list of values.", hint=hint)
    values = tuple(value for value in map(str.strip, _split(rest[1:-1], text)))
    if not all(values):
        raise ConfigError(f"--over {text}: a value is empty.", hint=hint)
    double = next((value for value in values if values.count(value) > 1), None)
    if double is not None:
        raise ConfigError(f"--over {text}: {double} stands twice.", hint="Name each value once.")
    return name, values


def choices(
    plugin: str,
    overs: Sequence[str],
    *,
    task: str | None = None,
    preset: str = "default",
    file: Path | None = None,
    assignments: Sequence[str] = (),
    dataset: str | None = None,
) -> list[Choice]:
    """Return every combination of the values, each checked before anything is computed.

    Args:
        plugin: Plugin id.
        overs: What :func:`parse_over` takes; none compares the configuration as it is.
        task: Task name.
        preset: As in :func:`~appliedpapers.core.config.resolve`.
        file: Likewise.
        assignments: Likewise; they hold for every choice.
        dataset: Likewise.

    Raises:
        ConfigError: An option is unknown or ambiguous, stands twice, or a value is out of range.
    """
    resolved = partial(resolve_config, plugin, task=task, preset=preset, file=file, dataset=dataset)
    config_class = type(resolved(assignments=assignments))
    varied = [parse_over(text) for text in overs]
    paths = [_path(config_class, plugin, name) for name, _ in varied]
    for path in paths:
        if paths.count(path) > 1:
            raise ConfigError(f"--over: {path} is varied twice.", hint="Name each option once.")
    found = []
    for values in itertools.product(*(values for _, values in varied)):
        given = dict(zip(paths, values, strict=True))
        config = resolved(assignments=[*assignments, *(f"{path}={value}" for path, value in given.items())])
        found.append(Choice(_label([name for name, _ in varied], values, preset), given, config))
    return found


def _split(text: str, whole: str) -> Iterator[str]:
    """Split at commas that stand in no bracket."""
    depth, begun = 0, 0
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if depth < 0:
            break
        if sign == "," and depth == 0:
            yield text[begun:place]
            begun = place + 1
    if depth:
        raise ConfigError(f"--over {whole}: brackets do not match.", hint="Close every bracket.")
    yield text[begun:]


def _path(config_class: type[TaskConfig], plugin: str, name: str) -> str:
    """Return the full path of an option that may be named by its last word."""
    paths = option_paths(config_class)
    if name in paths:
        return name
    found = [path for path in paths if path.rpartition(".")[2] == name]
    if not found and name == HEAD:
        found = option_paths(config_class, takes="module")[:1]
    if len(found) > 1:
        raise ConfigError(
            f"--over {name}: {plugin} has {', '.join(found)}.", hint="Name one of them in full."
        )
    if not found:
        last = {path.rpartition(".")[2] for path in paths}
        raise ConfigError(f"--over {name}: {plugin} has no such option.", hint=did_you_mean(name, last))
    return found[0]


def _label(names: Sequence[str], values: Sequence[str], preset: str) -> str:
    if not names:
        return preset
    if len(names) == 1:
        return values[0]
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
