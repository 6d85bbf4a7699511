"""Options that several commands share, so that they are spelled and explained once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliedpapers import pipelines
from appliedpapers.core import plugin as plugins
from appliedpapers.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from appliedpapers.core.config import TaskConfig


def complete_plugin(incomplete: str) -> list[str]:
    """Return the plugin ids that begin so, for the shell."""
    # the names of entry points alone: nothing of a plugin is imported while a person presses Tab
    from importlib.metadata import entry_points

    return sorted(name for name in entry_points(group=plugins.GROUP).names if name.startswith(incomplete))


Plugin = Annotated[
    str,
    typer.Argument(help="Plugin id; apps list shows them.", metavar="ID", autocompletion=complete_plugin),
]
Model = Annotated[
    str,
    typer.Argument(
        help="frets, frets@champion, frets@3 or a bundle's folder.",
        metavar="MODEL",
        autocompletion=complete_plugin,
    ),
]
Task = Annotated[str | None, typer.Option("--task", help="Task, where the plugin has several.")]
Preset = Annotated[
    str, typer.Option("--preset", help="quick, default, published, or one of the plugin's own.")
]
# readable=False: whoever reads the file says what is wrong with it, with the exit code that belongs to it
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file that overrides the preset.", readable=False)
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override one option; may be repeated.")
]
DatasetName = Annotated[str | None, typer.Option("--dataset", help="Published dataset; default: simulated.")]
DataPath = Annotated[Path | None, typer.Option("--data", help="Your own file or folder.", readable=False)]
AcceptLicence = Annotated[bool, typer.Option("--accept-licence", help="Accept the dataset's terms.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Store = Annotated[
    Path, typer.Option("--store", help="Folder of the MLflow store (MLFLOW_TRACKING_URI overrides it).")
]
DEFAULT_STORE = pipelines.DEFAULT_STORE
PLUGIN_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of a command that takes the flags of the plugin's configuration, too."""


def plugin_flags(context: typer.Context, plugin: str, task: str | None) -> list[str]:
    """Turn flags that the plugin's configuration declares into ``a.b=c`` assignments.

    Args:
        context: The command at work; it was made with :data:`PLUGIN_FLAGS`.
        plugin: Plugin id.
        task: Task name.

    Raises:
        ConfigError: A word is neither an option of the command nor a flag of the plugin.
    """
    return _assigned(context, context.args, plugin, task, None)


def folder_and_flags(
    context: typer.Context, words: Sequence[str], plugin: str, task: str | None
) -> tuple[Path, list[str]]:
    """Tell a folder from flags of the plugin, where a command takes both.

    Args:
        context: As for :func:`plugin_flags`.
        words: What follows the plugin and is no option of the command.
        plugin: Plugin id.
        task: Task name.

    Returns:
        The folder, the current one unless named, and assignments.

    Raises:
        ConfigError: As for :func:`plugin_flags`, or two folders are named.
    """
    plain: list[str] = []
    assignments = _assigned(context, words, plugin, task, plain)
    for word in plain[1:]:
        raise ConfigError(f"'{word}' is one word too many.", hint="Name one folder.")
    return Path(*plain), assignments


def _assigned(
    context: typer.Context, words: Sequence[str], plugin: str, task: str | None, plain: list[str] | None
) -> list[str]:
    """Return the assignments of flags; other words go into ``plain`` or are refused where that is None."""
    require_name(context, plugin)
    if not words:
        return []
    from appliedpapers.core.config import flags

    config_class = plugins.find(plugin).task(task).load("config")
    declared = flags(config_class)
    assignments: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, sign, value = word.partition("=")
        if plain is not None and not word.startswith("-"):
            plain.append(word)
            continue
        if name not in declared:
            raise _unknown(name, config_class, [*_own_options(context), *declared])
        path, is_switch = declared[name]
        if is_switch and not sign:
            value = "true"
        elif not sign:
            if not rest:
                raise ConfigError(f"option '{name}' needs a value.", hint=f"It sets {path}.")
            value = rest.pop(0)
        assignments.append(f"{path}={value}")
    return assignments


def task_meant(plugin: str, task: str | None, dataset: str | None) -> str | None:
    """Return the task that is meant: the one that was named, or the only one that knows the dataset.

    Args:
        plugin: Plugin id.
        task: What was given to ``--task``.
        dataset: What was given to ``--dataset``.
    """
    from appliedpapers.core.sources import SIMULATED

    if task is not None or dataset is None or dataset == SIMULATED or plugin.startswith("-"):
        return task
    tasks = plugins.find(plugin).tasks
    if len(tasks) < 2:
        return None
    known = [one.name for one in tasks if dataset in {entry.id for entry in one.load("datasets").published}]
    return known[0] if len(known) == 1 else None


def require_name(context: typer.Context, word: str) -> None:
    """Refuse an option that stands where a plugin or a model is named.

    Raises:
        ConfigError: ``word`` is one.
    """
    if word.startswith("-"):
        raise ConfigError(f"no option is called '{word}'.", hint=did_you_mean(word, _own_options(context)))


def _own_options(context: typer.Context) -> list[str]:
    return [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]


def _unknown(name: str, config_class: type[TaskConfig], known: Sequence[str]) -> ConfigError:
    if not name.startswith("-"):
        return ConfigError(
            f"'{name}' is one word too many.", hint="Options begin with --; quote their values."
        )
    from appliedpapers.core.config import option_paths

    last = name.lstrip("-").replace("-", "_")
    path = next((path for path in option_paths(config_class) if path.rpartition(".")[2] == last), None)
    hint = f"Use --set {path}=..." if path else did_you_mean(name, known)
    return ConfigError(f"no option is called '{name}'.", hint=hint)
