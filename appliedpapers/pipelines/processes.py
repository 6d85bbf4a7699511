"""Whether a process that wrote its number down is still at work."""

from __future__ import annotations

from pathlib import Path


def born(pid: int) -> str | None:
    """Return when a process started, as the system counts; None where it is gone or cannot be asked.

    A process number is used again after a while; number and birth together are not.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    # a zombie has ended
    return None if state == "Z" else rest[18]


def is_alive(pid: int | None, since: str | None) -> bool | None:
    """Whether the process with this number and birth is at work on this machine; None: cannot tell."""
    if pid is None or since is None:
        return None
    return born(pid) == since
