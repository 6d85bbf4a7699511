"""What a plugin with several tasks promises: none of them is felt by another."""

from __future__ import annotations

from typing import Literal

from appliedpapers.core import bundle
from appliedpapers.core.conformance.subject import (
    CheckFailed,
    NotApplicable,
    Subject,
    require,
    require_equal,
)

_PARTS: tuple[Literal["config", "datasets", "model", "evaluation"], ...] = (
    "config",
    "datasets",
    "model",
    "evaluation",
)


def tasks(subject: Subject) -> str:
    """The tasks of a plugin have names and bundles of their own, and fitting one leaves the others alone."""
    spec = subject.spec
    if len(spec.tasks) < 2:
        raise NotApplicable("there is one task")
    names = [spec.registered_name(task) for task in spec.tasks]
    require(len(set(names)) == len(names), f"two tasks are registered as {max(names, key=names.count)}")
    before = subject.prediction
    schemas = subject.model.input_schema, subject.model.output_schema
    for other in subject.others:
        _require_fits(other)
    same = (subject.model.input_schema, subject.model.output_schema) == schemas
    others = ", ".join(other.task.name for other in subject.others)
    require(same, f"fitting {others} changes the schemas of {subject.task.name}: keep nothing on a class")
    what = f"after {others} was fitted (keep nothing on a class or module)"
    require_equal(subject.predict(subject.example), before, what, exact=True)
    loaded, info = bundle.load_bundle(subject.bundle, spec=spec)
    right = type(loaded) is type(subject.model) and info.task == subject.task.name
    require(right, f"the bundle of {subject.task.name} loads as {type(loaded).__name__} of {info.task}")
    return ", ".join(names)


def _require_fits(other: Subject) -> None:
    for part in _PARTS:
        try:
            other.task.load(part)
        except Exception as error:
            raise CheckFailed(
                f"the {part} of {other.task.name} cannot be imported beside this task: {error}"
            ) from error
    try:
        other.prediction  # noqa: B018
    except Exception as error:
        raise CheckFailed(f"the task {other.task.name}: {error}") from error
