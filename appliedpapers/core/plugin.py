"""Plugins: what one declares, and how they are found. Standard library only: ``apps list`` reads this."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from appliedpapers.core.errors import ConfigError, PluginError, did_you_mean

API_VERSION = 1
GROUP = "appliedpapers.plugins"
BUILT_IN_DISTRIBUTION = "applied-papers"
NAME_PREFIX = "apps."
"""How the names of our registered models and experiments begin."""

State = Literal["ok", "missing-extra", "incompatible", "broken"]


@dataclass(frozen=True)
class Paper:
    """A paper that a plugin brings to life."""

    title: str
    year: int
    arxiv: str | None = None
    doi: str | None = None

    @property
    def url(self) -> str | None:
        """Public address of the paper."""
        if self.arxiv:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return f"https://doi.org/{self.doi}" if self.doi else None


@dataclass(frozen=True)
class TaskSpec:
    """One task of a plugin; each part is a ``"module:attribute"`` string, imported when it is needed.

    Attributes:
        name: Short, lower-case name.
        config: A :class:`~appliedpapers.core.config.TaskConfig` subclass.
        datasets: A :class:`~appliedpapers.core.sources.DatasetCatalog` instance.
        model: A :class:`~appliedpapers.core.model.Model` subclass.
        evaluation: An :class:`~appliedpapers.core.evaluation.Evaluation` instance.
    """

    name: str
    config: str
    datasets: str
    model: str
    evaluation: str

    def load(self, part: Literal["config", "datasets", "model", "evaluation"]) -> Any:
        """Import one part.

        Raises:
            PluginError: The module or the attribute is not there, or a library that it imports is not.
        """
        place = getattr(self, part)
        module, _, attribute = place.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise PluginError(
                f"{part} of task '{self.name}', {place}, cannot be imported ({error}).",
                hint="apps list shows the state of every plugin; apps doctor looks deeper.",
            ) from error


@dataclass(frozen=True)
class PluginSpec:
    """A plugin's front door.

    Attributes:
        id: The name on the command line; equal to the entry point's name.
        title: The method's name as people say it.
        summary: One sentence: what it does for whom.
        papers: The papers behind it.
        tasks: At least one task.
        requires: Modules that must be importable; looked up, not imported.
        extra: What to install when one is missing, such as ``applied-papers[frets]``.
        api_version: The contract version that the plugin was written for.
        advice: Lines for ``apps info`` on which method or setting suits whom.
        field: Whose work it is for, in a word or two, such as ``remote sensing``.
        data: The shape of the data that one brings and the files it comes in, for ``apps list``.
    """

    id: str
    title: str
    summary: str
    papers: tuple[Paper, ...]
    tasks: tuple[TaskSpec, ...]
    requires: tuple[str, ...] = ()
    extra: str | None = None
    api_version: int = API_VERSION
    advice: tuple[str, ...] = ()
    field: str = ""
    data: str = ""

    def task(self, name: str | None = None) -> TaskSpec:
        """Return the named task, or the only one.

        Raises:
            ConfigError: Unknown name, or several tasks and no name.
        """
        names = [task.name for task in self.tasks]
        if name is None:
            if len(self.tasks) > 1:
                raise ConfigError(f"{self.id} has several tasks.", hint=f"Give --task {' | '.join(names)}.")
            return self.tasks[0]
        for task in self.tasks:
            if task.name == name:
                return task
        raise ConfigError(f"{self.id} has no task '{name}'.", hint=did_you_mean(name, names))

    def registered_name(self, task: TaskSpec) -> str:
        """Return the name in the model registry: ``apps.frets``, or ``apps.agrosense.crop``."""
        name = f"{NAME_PREFIX}{self.id}"
        return name if len(self.tasks) == 1 else f"{name}.{task.name}"


@dataclass(frozen=True)
class Found:
    """One entry point and what became of it.

    Attributes:
        id: The entry point's name.
        state: ``ok``, ``missing-extra``, ``incompatible`` or ``broken``.
        spec: The plugin, when its front door could be read.
        reason: Why it is not ``ok``, and what mends it.
        distributions: Distributions that claim the id.
    """

    id: str
    state: State
    spec: PluginSpec | None
    reason: str = ""
    distributions: tuple[str, ...] = ()


def discover() -> list[Found]:
    """Return every installed plugin; ``APPS_PLUGINS=a,b`` restricts which are loaded.

    Nothing that one plugin does breaks another: each is read in its own try.
    """
    found = [_inspect(name, points) for name, points in _claims().items()]
    return sorted(found, key=lambda item: item.id)


def find(plugin_id: str) -> PluginSpec:
    """Return a usable plugin.

    Raises:
        PluginError: It is unknown, lacks an extra, is incompatible or broken.
    """
    claims = _claims()
    if plugin_id not in claims:
        raise PluginError(f"no plugin is called '{plugin_id}'.", hint=did_you_mean(plugin_id, claims))
    found = _inspect(plugin_id, claims[plugin_id])
    if found.state == "ok" and found.spec is not None:
        return found.spec
    raise PluginError(f"{plugin_id} is {found.state}: {found.reason}", hint=_remedy(found))


def _remedy(item: Found) -> str:
    if item.state == "missing-extra" and item.spec is not None and item.spec.extra:
        return f'pip install "{item.spec.extra}"'
    return "apps list shows the state of every plugin; apps doctor looks deeper."


def _claims() -> dict[str, list[importlib.metadata.EntryPoint]]:
    wanted = {name.strip() for name in os.environ.get("APPS_PLUGINS", "").split(",") if name.strip()}
    claims: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for point in _entry_points():
        if not wanted or point.name in wanted:
            claims.setdefault(point.name, []).append(point)
    return claims


def _entry_points() -> Iterator[importlib.metadata.EntryPoint]:
    seen = set()
    for point in importlib.metadata.entry_points(group=GROUP):
        distribution = point.dist.name if point.dist else ""
        if (point.name, distribution, point.value) not in seen:
            seen.add((point.name, distribution, point.value))
            yield point


def _inspect(name: str, points: list[importlib.metadata.EntryPoint]) -> Found:
    distributions = tuple(sorted({point.dist.name for point in points if point.dist}))
    if len(points) > 1:
        claimed = " and ".join(distributions) or " and ".join(point.value for point in points)
        return Found(name, "broken", None, f"claimed by {claimed}; uninstall one", distributions)
    try:
        spec = points[0].load()
    # a module may even call sys.exit when it is imported
    except (Exception, SystemExit) as error:
        return Found(name, "broken", None, f"{type(error).__name__}: {error}", distributions)
    return _judge(name, spec, distributions)


def _judge(name: str, spec: Any, distributions: tuple[str, ...]) -> Found:
    if not isinstance(spec, PluginSpec):
        return Found(
            name, "broken", None, f"expected a PluginSpec, found {type(spec).__name__}", distributions
        )
    if spec.id != name:
        return Found(
            name, "broken", spec, f"entry point '{name}' but PluginSpec.id '{spec.id}'", distributions
        )
    if spec.api_version != API_VERSION:
        reason = f"written for api_version {spec.api_version}, this is {API_VERSION}"
        return Found(name, "incompatible", spec, reason, distributions)
    names = [task.name for task in spec.tasks]
    if not names or len(set(names)) < len(names):
        return Found(
            name, "broken", spec, f"tasks must be there and differ in name, found {names}", distributions
        )
    missing = [module for module in spec.requires if not _importable(module)]
    if missing:
        return Found(name, "missing-extra", spec, f"needs {', '.join(missing)}", distributions)
    return Found(name, "ok", spec, "", distributions)


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    # the parent of a dotted name is absent, or a module was marked as absent
    except (ImportError, ValueError):
        return False
