"""Progress of many short tasks: a line each, and every step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliedpapers.core import progress
from appliedpapers.core.progress import SeldomNotes


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps, self.notes, self.said = 0, [], []

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Heard]:
        yield self

    def advance(self, steps: int = 1, *, note: str | None = None) -> None:
        self.steps += steps
        self.notes += [] if note is None else [note]

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_short_task_leaves_its_last_note_and_all_its_steps(clock):
    heard = Heard()
    with SeldomNotes(heard).task("mlp", total=50) as task:
        for epoch in range(1, 6):
            clock[0] += 1
            task.advance(10, note=f"epoch {epoch}")
        assert heard.notes == []
    assert (heard.steps, heard.notes) == (50, ["epoch 5"])


def test_a_long_task_has_a_note_every_ten_seconds_and_none_twice(clock):
    heard = Heard()
    with SeldomNotes(heard).task("mlp") as task:
        for epoch in range(1, 5):
            clock[0] += 5
            task.advance(note=f"epoch {epoch}")
    assert heard.notes == ["epoch 2", "epoch 4"]


def test_a_task_without_notes_has_none_and_words_go_on():
    heard = Heard()
    seldom = SeldomNotes(heard)
    with seldom.task("trees") as task:
        task.advance(3)
    seldom.say("done")
    assert (heard.steps, heard.notes, heard.said) == (3, [], ["done"])
