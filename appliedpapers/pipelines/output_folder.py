"""The folder that a command writes its results into: one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from appliedpapers.core.errors import ConfigError, LockedError

LOCK = ".lock"


@contextmanager
def locked_output(output: Path, work: str) -> Iterator[None]:
    """Hold a folder while something is written into it; one that stays empty is taken away again.

    Args:
        output: The folder; it is made.
        work: What another process is then said to be: "scoring run".

    Raises:
        LockedError: Another process holds it.
        ConfigError: It cannot be written.
    """
    from filelock import FileLock, Timeout

    new = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = FileLock(output / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise LockedError(
            f"{output}: another {work} is working on it.",
            hint="Wait for it, or choose another --output.",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{output}: cannot be written ({error.strerror or error}).",
            hint="Give --output a writable folder.",
        ) from None
    try:
        yield
    finally:
        # what was refused before anything was written leaves nothing; a folder of the user's own stays
        empty = [path.name for path in output.iterdir()] == [LOCK]
        if empty:
            (output / LOCK).unlink(missing_ok=True)
        lock.release()
        if empty and new:
            with suppress(OSError):
                output.rmdir()
