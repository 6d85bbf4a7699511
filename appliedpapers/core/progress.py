"""Progress of long work: a bar on a terminal, plain lines in a log, nothing on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

_LINE_EVERY_S = 10.0


class Task(Protocol):
    """One piece of long work that is being reported."""

    def advance(self, steps: int = 1, *, note: str | None = None) -> None:
        """Move on by ``steps``; ``note`` replaces the text behind the bar."""


class Progress(Protocol):
    """Where work is reported."""

    def task(self, title: str, total: int | None = None) -> Any:
        """Return a context manager that yields a :class:`Task`."""

    def say(self, text: str) -> None:
        """Print one line of fact."""


class _SilentTask:
    def advance(self, steps: int = 1, *, note: str | None = None) -> None:
        """Report nothing."""


class SilentProgress:
    """Reports nothing: for ``--quiet``, tests and the Python API."""

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        """Yield a task that reports nothing."""
        yield _SilentTask()

    def say(self, text: str) -> None:
        """Print nothing."""


class _LineTask:
    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._total, self._done = title, total, 0
        self._started = self._printed = time.monotonic()

    def advance(self, steps: int = 1, *, note: str | None = None) -> None:
        self._done += steps
        now = time.monotonic()
        if note is not None or now - self._printed >= _LINE_EVERY_S:
            self._printed = now
            of = f"/{self._total}" if self._total else ""
            tail = f"  {note}" if note else ""
            print(f"{self._title} {self._done}{of} {now - self._started:.0f}s{tail}", file=sys.stderr)


class LineProgress:
    """Plain lines on stderr: for logs and pipes. A note is always printed, a bare step every ten seconds."""

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        """Yield a task that prints lines."""
        yield _LineTask(title, total)

    def say(self, text: str) -> None:
        """Print ``text`` on stderr."""
        print(text, file=sys.stderr)


class SeldomNotes:
    """Passes on to another progress few notes of each task: for short fits of which there are hundreds.

    A note goes on where the last one is ten seconds old, and the last one of all when the task ends, so that
    a log has a line a fit. Steps go on as they come.

    Args:
        progress: Where the work is reported.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        """Yield a task that keeps most notes to itself."""
        with self._progress.task(title, total=total) as task:
            seldom = _SeldomTask(task)
            yield seldom
            seldom.end()

    def say(self, text: str) -> None:
        """Pass on ``text``."""
        self._progress.say(text)


class _SeldomTask:
    def __init__(self, task: Task) -> None:
        self._task, self._passed = task, time.monotonic()
        self._kept: str | None = None

    def advance(self, steps: int = 1, *, note: str | None = None) -> None:
        now = time.monotonic()
        if note is not None and now - self._passed < _LINE_EVERY_S:
            self._kept, note = note, None
        elif note is not None:
            self._kept, self._passed = None, now
        self._task.advance(steps, note=note)

    def end(self) -> None:
        if self._kept is not None:
            self._task.advance(0, note=self._kept)


class BarProgress:
    """A rich progress bar on stderr: for a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        """Yield a task that moves a bar."""
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn(" {task.description:<9}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as bar:
            handle = bar.add_task(title, total=total, note="")

            class _BarTask:
                def advance(self, steps: int = 1, *, note: str | None = None) -> None:
                    bar.advance(handle, steps)
                    if note is not None:
                        bar.update(handle, note=note)

            yield _BarTask()

    def say(self, text: str) -> None:
        """Print ``text`` on stderr above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def choose_progress(quiet: bool = False) -> Progress:
    """Return a bar on a terminal, plain lines elsewhere, silence when ``quiet``."""
    if quiet:
        return SilentProgress()
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def rate_text(count: float) -> str:
    """Return a count a second for a person: whole numbers, or two digits where it is below ten."""
    return f"{count:,.0f}" if count >= 10 else f"{count:.2g}"
