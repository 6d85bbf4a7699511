"""Files that appear whole: written aside, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from appliedpapers.core.errors import AppsError, ConfigError, RunError


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_file(path: Path) -> bool:
    """Return whether a file lies there.

    Unlike the method of a path it has no error for names that people wrote: of a name that is too long, or of
    a folder that may not be looked into, the answer is no.
    """
    return os.path.isfile(path)


def is_there(path: Path) -> bool:
    """Return whether a file or folder lies there; see :func:`is_file`."""
    return os.path.exists(path)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes the name ``path`` when the block succeeds.

    Raises:
        RunError: The folder is not writable or the disk is full; nothing is left behind.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        _sync(aside)
        os.replace(aside, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        # where the folder is not one, there is nothing to take away either
        with suppress(OSError):
            aside.unlink()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside ``path`` to fill; it takes the name ``path`` when the block succeeds.

    An existing folder at ``path`` is replaced.

    Raises:
        RunError: The folder is not writable or the disk is full; nothing is left behind.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    old = aside.with_suffix(".old")
    try:
        aside.mkdir(parents=True)
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                _sync(file)
        # the old folder steps aside first: a crash between the two leaves one of them whole
        if path.exists():
            os.replace(path, old)
        os.replace(aside, path)
    except OSError as error:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def delivered_files(folder: Path) -> list[Path]:
    """Return what a model delivered into ``folder``: every file that no dot hides, which would be scratch."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def require_folder(path: Path, option: str) -> None:
    """Check that results may go into a folder, before the work that fills it.

    Args:
        path: It may be absent.
        option: What names it, for the message.

    Raises:
        ConfigError: A file stands there, or above.
    """
    standing = next((one for one in (path, *path.parents) if one.exists()), path)
    if standing.exists() and not standing.is_dir():
        raise ConfigError(f"{option} {path}: {standing} is a file.", hint="Expected a folder, or a new name.")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole."""
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file whole; NaN and infinity are refused."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_error(path: Path, error: OSError) -> AppsError:
    """Return the error that a person should see when ``path`` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"{path}: the disk is full.", hint="Free some space and run the same command again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RunError(
            f"{path}: no permission to write.", hint="Choose another folder, or change its permissions."
        )
    return RunError(f"{path}: cannot be written ({error.strerror or error}).", hint="Check the path.")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
