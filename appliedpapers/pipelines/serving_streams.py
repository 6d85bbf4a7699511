"""Model streams over a WebSocket: a record a message in, its output records and the state out.

The client may open with ``{"open": {"model": NAME, "state": BASE64, "state_every": 1}}``; every other
message is one input record, or several, one a line. Each is answered by
``{"records": [...], "state": BASE64}``, or by ``{"problem": {...}}``, after which the stream
stands where it stood. The state lets the client go on elsewhere after a lost connection; the server keeps
nothing. A stream is one group (one device, one series).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from appliedpapers.core.errors import AppsError
from appliedpapers.core.json_rows import records as to_records
from appliedpapers.core.json_rows import to_json
from appliedpapers.core.model import Stream
from appliedpapers.core.record_check import RecordCheck
from appliedpapers.core.validation import check
from appliedpapers.pipelines.serving_codec import Decoder, parse_json
from appliedpapers.pipelines.serving_problems import Refused, problem_of, refuse
from appliedpapers.pipelines.serving_settings import ServedModel

_log = logging.getLogger("appliedpapers.serve")
_EXPECTED = 'Expected one JSON object a line: {"column": value}.'


class StreamSession:
    """One open stream.

    Args:
        served: The model; it streams.
        decoder: Turns records into tables.
        state: State that an earlier session gave out.
        state_every: After how many messages the state is sent; 0 sends it never.
    """

    def __init__(
        self, served: ServedModel, decoder: Decoder, state: bytes | None = None, state_every: int = 1
    ) -> None:
        self._model = served.model
        self._schema = served.model.input_schema
        self._decoder = decoder
        self._check = RecordCheck(self._schema)
        self._stream: Stream = served.model.stream(state)
        self._every = state_every
        self._messages = 0
        self._group: tuple[Any, ...] | None = None

    def take(self, text: str) -> bytes:
        """Return the answer to one message."""
        try:
            records = [_object(line) for line in text.splitlines() if line.strip()]
            if not records:
                raise refuse(400, "malformed", "An empty message.", _EXPECTED)
            return self._answer(records)
        except Exception as error:
            problem = problem_of(error)
            if problem.status >= 500:
                _log.exception("a stream failed")
            return to_json({"problem": problem.document()})

    def _keep_to_one_group(self, rows: list[dict[str, Any]]) -> None:
        keys = {tuple(row[name] for name in self._schema.group_by) for row in rows}
        if self._group is None and len(keys) == 1:
            self._group = next(iter(keys))
        if keys != {self._group}:
            raise refuse(
                422,
                "group",
                f"A stream is one group by {', '.join(self._schema.group_by)}; this is another.",
                "Open a stream for each.",
            )

    def _rows(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows = [self._check.row(record) for record in records]
        kept = [row for row in rows if row is not None]
        if len(kept) == len(rows):
            return kept
        names = dict.fromkeys(name for record in records for name in record)
        table = self._decoder.from_columns({name: [record.get(name) for record in records] for name in names})
        return to_records(check(table, self._schema, source="message").require_clean())

    def _answer(self, records: list[dict[str, Any]]) -> bytes:
        rows = self._rows(records)
        self._keep_to_one_group(rows)
        before = self._stream.state() if len(rows) > 1 else b""
        try:
            answer: dict[str, Any] = {"records": [made for row in rows for made in self._stream.step(row)]}
        except Exception:
            if len(rows) > 1:
                # half of the message may have been taken in
                self._stream = self._model.stream(before)
            raise
        self._messages += 1
        if self._every and self._messages % self._every == 0:
            answer["state"] = base64.b64encode(self._stream.state()).decode("ascii")
        return to_json(answer)


async def run_stream(
    socket: WebSocket, models: dict[str, ServedModel], decoders: dict[str, Decoder], max_body: int
) -> None:
    """Talk to one client until it leaves."""
    await socket.accept()
    session: StreamSession | None = None
    try:
        while True:
            text = await _receive(socket)
            if len(text) > max_body:
                await socket.close(1009, "message too large")
                return
            if session is None:
                opening, rest = _opening(text)
                session = await asyncio.to_thread(_open, opening, models, decoders)
                if rest is None:
                    await socket.send_text('{"records":[]}')
                    continue
            await socket.send_text((await asyncio.to_thread(session.take, text)).decode())
    except WebSocketDisconnect:
        return
    except Refused as error:
        await socket.send_text(to_json({"problem": error.problem.document()}).decode())
        await socket.close(1008, error.problem.kind)


async def _receive(socket: WebSocket) -> str:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    text = message.get("text")
    if text is None:
        raise refuse(400, "malformed", "A binary message.", _EXPECTED)
    return str(text)


def _opening(text: str) -> tuple[dict[str, Any], str | None]:
    """Return the options of the stream, and the message itself where it already holds records."""
    try:
        document = parse_json(text)
    except Refused:
        return {}, text
    if isinstance(document, dict) and set(document) == {"open"}:
        options = document["open"]
        if not isinstance(options, dict):
            raise refuse(400, "malformed", "'open' is not an object.", 'Expected {"open": {"state": "..."}}.')
        return options, None
    return {}, text


def _object(line: str) -> dict[str, Any]:
    record = parse_json(line)
    if not isinstance(record, dict):
        raise refuse(400, "malformed", "Not a JSON object.", _EXPECTED)
    return record


def _open(
    options: dict[str, Any], models: dict[str, ServedModel], decoders: dict[str, Decoder]
) -> StreamSession:
    name = options.get("model", next((key for key, served in models.items() if served.model.streams), None))
    if not isinstance(name, str) or name not in models or not models[name].model.streams:
        raise refuse(404, "no-stream", "No model here streams.", "Use POST /invocations instead.")
    every = options.get("state_every", 1)
    if not isinstance(every, int) or isinstance(every, bool) or every < 0:
        raise refuse(400, "malformed", "'state_every' is not a whole number from 0.", "Leave it out for 1.")
    try:
        given = options.get("state")
        state = None if given is None else base64.b64decode(given, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise refuse(400, "malformed", "'state' is not base64.", "Send back what the server sent.") from None
    try:
        return StreamSession(models[name], decoders[name], state, every)
    except Exception as error:
        if isinstance(error, AppsError):
            raise Refused(problem_of(error)) from None
        # the bytes are the client's: whatever the model makes of them is not a defect
        _log.info("a stream state was refused", exc_info=error)
        raise refuse(
            422, "state", "The state does not belong to this model.", "Start without a state."
        ) from None
