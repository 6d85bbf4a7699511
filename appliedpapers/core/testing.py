"""The conformance suite: what every plugin promises, checked; third parties run it on theirs too.

    from appliedpapers.core.testing import check_plugin

    def test_my_plugin_keeps_the_contract(tmp_path):
        failed = [result for result in check_plugin("my-plugin", folder=tmp_path) if not result.ok]
        assert not failed, failed

``apps check ID`` prints the same results. One model a task is fitted, on the simulator with the preset
``check`` (where there is none, ``quick``), and shared by all checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from appliedpapers.core import plugin as plugins
from appliedpapers.core.conformance import (
    datasets,
    declaration,
    jobs,
    judgement,
    prediction,
    storage,
    streams,
    tasks,
)
from appliedpapers.core.conformance.subject import CheckFailed, NotApplicable, Subject
from appliedpapers.core.errors import AppsError, ConfigError, did_you_mean
from appliedpapers.core.plugin import PluginSpec

__all__ = ["CHECKS", "CheckResult", "Subject", "check_plugin", "run_check", "subjects"]

Check = Callable[[Subject], str]

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "light-import": declaration.light_import,
        "documents": declaration.documents,
        "config": declaration.config_round_trip,
        "presets": declaration.presets,
        "simulator": declaration.simulator,
        "leakage": declaration.leakage,
        "splits": datasets.splits,
        "bad-files": declaration.bad_files,
        "sample": datasets.sample,
        "repeatable": prediction.repeatable,
        "independent": prediction.independent,
        "row-order": prediction.row_order,
        "keys-and-order": prediction.keys_and_order,
        "output-schema": prediction.output_schema,
        "violations": prediction.violations,
        "threads": prediction.threads,
        "streaming": streams.streaming,
        "files": jobs.files,
        "unreadable": jobs.unreadable,
        "resumes": jobs.resumes,
        "save-and-load": storage.save_and_load,
        "starts-from": storage.starts_from,
        "no-pickle": storage.no_pickle,
        "tampering": storage.tampering,
        "newer-format": storage.newer_format,
        "results": judgement.results,
        "reports": judgement.reports,
        "tasks": tasks.tasks,
    }
)


@dataclass(frozen=True)
class CheckResult:
    """What came of one check.

    Attributes:
        name: Name in :data:`CHECKS`.
        task: The task that was checked.
        ok: Whether the promise holds, or says nothing about this plugin.
        detail: What was found, or what is wrong and where.
        seconds: How long it took; the first check that needs the fitted model pays for it.
        skipped: Why the promise says nothing about this plugin; None when it was checked.
    """

    name: str
    task: str
    ok: bool
    detail: str
    seconds: float
    skipped: str | None = None


def check_plugin(
    plugin: PluginSpec | str, *, folder: Path, checks: Sequence[str] | None = None
) -> list[CheckResult]:
    """Run the conformance suite on a plugin.

    Args:
        plugin: An installed plugin's id, or a spec at hand.
        folder: Scratch folder.
        checks: Names in :data:`CHECKS`; all of them by default.

    Returns:
        One result a task and check; nothing is raised because a promise is broken.

    Raises:
        PluginError: The id is unknown, or the plugin is not usable.
        ConfigError: There is no check of that name.
    """
    spec = plugins.find(plugin) if isinstance(plugin, str) else plugin
    wanted = list(CHECKS) if checks is None else list(checks)
    for name in wanted:
        if name not in CHECKS:
            raise ConfigError(f"unknown check '{name}'.", hint=did_you_mean(name, CHECKS))
    return [run_check(subject, name) for subject in subjects(spec, folder) for name in wanted]


def subjects(spec: PluginSpec, folder: Path) -> list[Subject]:
    """Return what the checks are run on: one subject a task, each with a folder of its own."""
    made = [Subject(spec, task, folder / task.name) for task in spec.tasks]
    for one in made:
        # fitted once, whoever asks for it
        one.others = [other for other in made if other is not one]
    return made


def run_check(subject: Subject, name: str) -> CheckResult:
    """Run one check on one task."""
    started = time.perf_counter()
    ok, skipped = True, None
    try:
        detail = CHECKS[name](subject)
    except NotApplicable as reason:
        detail = skipped = str(reason)
    except CheckFailed as failure:
        ok, detail = False, str(failure)
    except AppsError as error:
        ok, detail = False, error.render()
    except Exception as error:
        ok, detail = False, f"{type(error).__name__}: {error}"
    return CheckResult(name, subject.task.name, ok, detail, time.perf_counter() - started, skipped)
