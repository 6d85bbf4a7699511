"""Defective streams."""

from __future__ import annotations

import json
import pickle
from typing import ClassVar

import pyarrow as pa
from tinyplugins.stream.model import OUTPUT, StreamModel, _Filter

from appliedpapers.core.conformance.subject import groups
from appliedpapers.core.errors import ConfigError, DataError


class GroupsMixed(StreamModel):
    """Puts the rows of a group together: the order is lost where groups alternate."""

    def predict(self, table, *, files=None):
        return super().predict(pa.concat_tables(groups(table, self.input_schema)))


class InRowOrder(StreamModel):
    """Takes the rows of a group as they stand in the file."""

    def predict(self, table, *, files=None):
        streams, rows = {}, []
        for record in table.to_pylist():
            rows += streams.setdefault(record["device"], _Filter(self.weight_, None)).step(record)
        return pa.Table.from_pylist(rows, OUTPUT.arrow_schema())


class RefusesByMistake(StreamModel):
    """Says that it streams, and does not."""

    def stream(self, state=None):
        raise ConfigError("no.")


class ForgetfulStream(StreamModel):
    """Starts anew whatever state it is given."""

    def stream(self, state=None):
        return super().stream(None)


class PickledState(StreamModel):
    """The state of a stream is a pickle."""

    def stream(self, state=None):
        stream = super().stream(None if state is None else json.dumps(pickle.loads(state)).encode())
        stream.state = lambda: pickle.dumps(stream._level)
        return stream


class TextState(StreamModel):
    """The state of a stream is text."""

    def stream(self, state=None):
        stream = super().stream(state)
        stream.state = lambda: json.dumps(stream._level)
        return stream


class _Other(StreamModel):
    """Streams through a filter of its own."""

    filter: ClassVar[type]

    def stream(self, state=None):
        return self.filter(self.weight_, None if state is None else json.loads(state))


class _Rounding(_Filter):
    def step(self, record):
        return [
            row | {"filtered": row["filtered"] and round(row["filtered"], 2)} for row in super().step(record)
        ]


class _Omitting(_Filter):
    def step(self, record):
        return [{key: row[key] for key in ("device", "time")} for row in super().step(record)]


class _Telling(_Filter):
    def step(self, record):
        return [row | {"weight": self._weight} for row in super().step(record)]


class _Reset(_Filter):
    def state(self):
        state = super().state()
        self._level = None
        return state


class _Shared(_Filter):
    shared: ClassVar[dict[str, float | None]] = {}
    _level = property(lambda self: self.shared["level"], lambda self, level: self.shared.update(level=level))


class _HalfTaken(_Filter):
    refusal: ClassVar[type[Exception]] = DataError

    def __init__(self, weight, state):
        level, self._last = state or (None, "")
        super().__init__(weight, level)

    def step(self, record):
        answer, time = super().step(record), record["time"].isoformat()
        if time <= self._last:
            raise self.refusal("the time does not increase.")
        self._last = time
        return answer

    def state(self):
        return json.dumps([self._level, self._last]).encode()


class _Crashing(_HalfTaken):
    refusal = ValueError


class DriftingStream(_Other):
    """The stream rounds, ``predict`` does not."""

    filter = _Rounding


class ForgottenColumn(_Other):
    """The stream leaves a column out."""

    filter = _Omitting


class ExtraColumn(_Other):
    """The stream tells more than was declared."""

    filter = _Telling


class ResettingState(_Other):
    """Asking for the state starts the stream anew."""

    filter = _Reset


class SharedLevel(_Other):
    """All streams have one level."""

    filter = _Shared


class HalfTaken(_Other):
    """A record is refused after the level has moved."""

    filter = _HalfTaken


class CrashingStream(_Other):
    """A record is refused with a traceback."""

    filter = _Crashing
