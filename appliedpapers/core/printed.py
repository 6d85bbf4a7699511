"""Figures that somebody printed: which may stand beside ours, and why the others may not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliedpapers.core.evaluation import PublishedFigure

if TYPE_CHECKING:
    from appliedpapers.core.config import TaskConfig


@dataclass(frozen=True)
class Elsewhere:
    """A published figure that may not stand beside ours, and why."""

    figure: PublishedFigure
    reason: str


def split_published(
    figures: Iterable[PublishedFigure], *, dataset: str, protocol: str, config: TaskConfig
) -> tuple[list[PublishedFigure], list[Elsewhere]]:
    """Separate figures of the same dataset, protocol and setting from the others.

    Args:
        figures: What :meth:`Evaluation.published` returned.
        dataset: Id of the run's dataset.
        protocol: Name of its protocol.
        config: The resolved configuration; settings are dotted paths into it.

    Returns:
        Figures for the table, and the others with the reason, for the report's own section.
    """
    options = dict(_flat(config.model_dump(mode="json")))
    same: list[PublishedFigure] = []
    elsewhere: list[Elsewhere] = []
    for figure in figures:
        reason = _difference(figure, dataset, protocol, options)
        if reason:
            elsewhere.append(Elsewhere(figure, reason))
        else:
            same.append(figure)
    return same, elsewhere


def _difference(
    figure: PublishedFigure, dataset: str, protocol: str, options: Mapping[str, Any]
) -> str | None:
    if figure.dataset != dataset:
        return f"dataset {figure.dataset}, ours {dataset}"
    if figure.protocol != protocol:
        return f"protocol {figure.protocol}, ours {protocol}"
    for path, value in figure.setting.items():
        if path not in options:
            return f"{path} {value}, which this run does not have"
        wanted = list(value) if isinstance(value, tuple) else value
        if options[path] != wanted:
            return f"{path} {value}, ours {options[path]}"
    return None


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
