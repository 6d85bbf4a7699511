"""Errors that a user sees: one line of what happened and where, one line of what to do.

Each class carries the exit code of the command line: 1 run failed, 2 usage or configuration,
3 plugin unknown or unavailable, 4 data contract, 5 quality gate, 75 locked, 130 interrupted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appliedpapers.core.model import GroupProblem


_LONGEST = 2000
_LONGEST_WORD = 100
# what moves a cursor, colours a terminal, turns the direction of text, ends a line, or is no character at all
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class AppsError(Exception):
    """Base of every error that is reported without a traceback.

    Files and options are quoted in messages, so signs that no terminal should obey are written as escapes,
    and a message that is longer than a screen is cut in its middle.

    Args:
        message: What happened and where (file, row, column or option); it is made one line.
        hint: What was expected and what to do next.
    """

    exit_code = 1
    label = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST // 2]} … {message[-_LONGEST // 2 :]}"
        self.message = printable(message).replace("\n", "\\n")
        self.hint = None if hint is None else printable(hint)
        super().__init__(self.message)

    def render(self) -> str:
        """Return the text for a terminal: ``label: message`` and the indented hint."""
        text = f"{self.label}: {self.message}"
        return f"{text}\n  {self.hint}" if self.hint else text


class RunError(AppsError):
    """Training, evaluation, scoring or serving failed."""

    label = "run error"


class ConfigError(AppsError):
    """An option, a preset or a configuration file is wrong."""

    exit_code = 2
    label = "config error"


class PluginError(AppsError):
    """A plugin is unknown, incompatible, broken or lacks an extra."""

    exit_code = 3
    label = "plugin error"


class DataError(AppsError):
    """Data breaks the contract: a file, a column, a row or a value.

    Args:
        message: What happened and where, in one line.
        hint: What was expected and what to do next.
        violations: Arrow table with every broken value (file, row, column, value, rule), if there is one.
    """

    exit_code = 4
    label = "data error"

    def __init__(self, message: str, *, hint: str | None = None, violations: Any = None) -> None:
        super().__init__(message, hint=hint)
        self.violations = violations


class UnusableGroups(DataError):
    """Groups of rows keep the schema and cannot be predicted, such as a series that is too short.

    :meth:`appliedpapers.core.model.Model.predict` raises it before any work; where the other groups are
    wanted, they are then asked for alone.

    Args:
        problems: What is wrong with each, at least one; the first is the message.
        hint: What was expected and what to do next.
    """

    def __init__(self, problems: Sequence[GroupProblem], *, hint: str | None = None) -> None:
        super().__init__(f"{problems[0].rule}.", hint=hint)
        self.problems = tuple(problems)


class BundleError(DataError):
    """A stored model is corrupt, tampered with, or of a newer format."""

    exit_code = 1
    label = "bundle error"


class GateError(AppsError):
    """A quality gate did not hold, for example at promotion."""

    exit_code = 5
    label = "gate"


class LockedError(AppsError):
    """Another process holds the lock of this job or store."""

    exit_code = 75
    label = "locked"


def printable(text: str) -> str:
    """Return a text that a terminal shows as it is: line ends and tabs stay, what else acts is escaped."""
    return _UNPRINTABLE.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


def did_you_mean(word: str, choices: Iterable[str], *, prefix: str = "") -> str:
    """Return a hint that names the closest choice, or lists the choices when none is close.

    Args:
        word: What was written.
        choices: What might have been meant.
        prefix: Stands before each choice where it is used, such as ``model.`` before options.
    """
    known = sorted(choices)
    # the time of a comparison grows with the square of the length
    close = difflib.get_close_matches(word[:_LONGEST_WORD], known, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{prefix}{close[0]}'?"
    listed = ", ".join(f"{prefix}{one}" for one in known)
    return f"Choose one of: {listed}." if known else "There is nothing to choose from."
