"""What a plugin keeps: the bundle on disk, and what goes on from it."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from appliedpapers.core import bundle
from appliedpapers.core.conformance.subject import (
    CheckFailed,
    NotApplicable,
    Subject,
    require,
    require_equal,
)
from appliedpapers.core.errors import BundleError, ConfigError

_MANIFEST = "bundle.json"
_FLIPS = 5


class _Enough(Exception):
    """The first epoch is over: that a fit goes on from a model has been seen."""


def save_and_load(subject: Subject) -> str:
    """A loaded model predicts, bit for bit, what the saved one predicts; so does one saved again."""
    loaded = subject.reload()
    require_equal(subject.predict(subject.example, loaded), subject.prediction, "after loading", exact=True)
    require(loaded.config == subject.config, "the loaded model has another configuration")
    require(
        loaded.input_schema == subject.model.input_schema
        and loaded.output_schema == subject.model.output_schema,
        "the loaded model has other schemas",
    )
    again = subject.fresh("again")
    try:
        bundle.save_bundle(loaded, again, plugin=subject.spec.id, task=subject.task.name)
    except Exception as error:
        raise CheckFailed(
            f"a loaded model cannot be saved, {type(error).__name__}: {error} (set by fit alone?)"
        ) from error
    twice = bundle.load_bundle(again, spec=subject.spec)[0]
    twice.read_as(subject.config)
    what = "saved twice, and told by read_as its own options"
    require_equal(subject.predict(subject.example, twice), subject.prediction, what, exact=True)
    return f"{sum(part.stat().st_size for part in _parts(subject.bundle)) / 1024:.0f} KiB"


def starts_from(subject: Subject) -> str:
    """A fit goes on from an earlier model and leaves that one alone, or says that it cannot."""
    earlier, began = subject.reload(), "to the end"

    def enough(metrics: Mapping[str, float], step: int, /) -> None:
        raise _Enough

    context = replace(subject.context("later"), log_metrics=enough)
    later = subject.task.load("model")(subject.config)
    try:
        # other rows than before: a fit of the earlier model itself then shows
        later.fit(subject.sample.valid, subject.sample.valid, context, init=earlier)
    except _Enough:
        began = "to the first metrics"
    except ConfigError as error:
        require(error.hint is not None, f"fit refuses init without a hint: {error}")
        raise NotApplicable(f"does not start from a model: {error}") from None
    except Exception as error:
        raise CheckFailed(f"fit(init=model) failed, {type(error).__name__}: {error}") from error
    left = subject.predict(subject.example, earlier)
    require_equal(left, subject.prediction, "the model that was started from, afterwards", exact=True)
    return began


def no_pickle(subject: Subject) -> str:
    """No part of the bundle is a pickle, and nothing is unpickled while it is loaded."""
    for part in _parts(subject.bundle):
        require(not _is_pickle(part), f"{part.name} is a pickle")
    with _unpickling_refused():
        subject.reload()
    return ", ".join(sorted(part.name for part in _parts(subject.bundle)))


def tampering(subject: Subject) -> str:
    """A bundle of which one byte was changed is refused, whichever it is."""
    parts = [part.relative_to(subject.bundle) for part in _parts(subject.bundle)]
    for name in parts:
        size = (subject.bundle / name).stat().st_size
        for position in sorted({step * max(size - 1, 0) // (_FLIPS - 1) for step in range(_FLIPS)}):
            if size:
                _require_refused(subject, partial(_flip, name, position), str(name))
        if str(name) != _MANIFEST:
            _require_refused(subject, partial(_remove, name), f"missing {name}")
    return f"{len(parts)} files"


def newer_format(subject: Subject) -> str:
    """A bundle of a newer format is refused with that reason."""

    def age(folder: Path) -> None:
        document = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        document["format_version"] = bundle.FORMAT_VERSION + 1
        (folder / _MANIFEST).write_text(json.dumps(document), encoding="utf-8")

    message = _require_refused(subject, age, "newer format")
    require("newer" in message, f"the reason is not named: {message}")
    return f"format {bundle.FORMAT_VERSION + 1}"


def _parts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _flip(name: Path, position: int, folder: Path) -> None:
    content = bytearray((folder / name).read_bytes())
    content[position] ^= 1
    (folder / name).write_bytes(content)


def _remove(name: Path, folder: Path) -> None:
    (folder / name).unlink()


def _require_refused(subject: Subject, change: Callable[[Path], None], what: str) -> str:
    folder = subject.fresh("changed") / "bundle"
    shutil.copytree(subject.bundle, folder)
    change(folder)
    try:
        bundle.load_bundle(folder, spec=subject.spec)
    except BundleError as error:
        return error.message
    except Exception as error:
        raise CheckFailed(f"{what}: {type(error).__name__} instead of a BundleError: {error}") from None
    finally:
        shutil.rmtree(folder.parent)
    raise CheckFailed(f"{what}: the changed bundle was loaded")


def _is_pickle(path: Path) -> bool:
    content = path.read_bytes()
    framed = len(content) > 2 and content[0] == 0x80 and content[1] <= pickle.HIGHEST_PROTOCOL
    archive = content[:4] == b"PK\x03\x04" and b"data.pkl" in content
    return archive or (framed and content.endswith(b"."))


@contextmanager
def _unpickling_refused() -> Iterator[None]:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise CheckFailed("something is unpickled while the bundle is loaded")

    with ExitStack() as stack:
        for name in ("load", "loads", "Unpickler"):
            stack.enter_context(patch.object(pickle, name, refuse))
        for module, name in (("torch", "load"), ("joblib", "load")):
            if module in sys.modules:
                stack.enter_context(patch.object(sys.modules[module], name, refuse))
        yield
