"""What is fuzzed: how cases are made, who reads them, and which errors a reader may answer with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from appliedpapers.core.errors import AppsError, BundleError, ConfigError, DataError, PluginError

Try = Callable[[Any], None]


@dataclass(frozen=True)
class Fuzzing:
    """A target that is ready.

    Attributes:
        cases: Draws what is sent.
        attempt: Reads one case; an error of ours is a refusal, any other a defect.
    """

    cases: st.SearchStrategy[Any]
    attempt: Try


@dataclass(frozen=True)
class Target:
    """A reader of what people write or send.

    Attributes:
        name: Its name on the command line.
        what: What is read, in words.
        prepare: Makes valid content below a folder and returns the cases.
        refusals: Errors that a refusal may be.
    """

    name: str
    what: str
    prepare: Callable[[Path], Fuzzing]
    refusals: tuple[type[AppsError], ...] = (DataError,)


CONFIG: tuple[type[AppsError], ...] = (ConfigError,)
BUNDLE: tuple[type[AppsError], ...] = (BundleError, ConfigError, PluginError)


def of_file(path: Path, read: Callable[[Path], Any]) -> Try:
    """Return what writes a case to ``path`` and reads it."""

    def attempt(content: bytes) -> None:
        path.write_bytes(content)
        read(path)

    return attempt
