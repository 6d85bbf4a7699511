"""One device on test, reading by reading: the answers of ``predict``, as soon as they can be given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from appliedpapers.core.errors import DataError
from appliedpapers.core.model import Stream
from appliedpapers.plugins.laser_cvae.answers import BLANK

if TYPE_CHECKING:
    from appliedpapers.plugins.laser_cvae.model import LaserCvae

_KEPT = ("device", "time", "value", "temperature", "current", "voltage", "power", "horizon", "batch")


class DeviceStream(Stream):
    """Keeps the readings of one device, and judges it after each.

    Args:
        model: What answers.
        state: What an earlier stream gave out.
    """

    def __init__(self, model: LaserCvae, state: bytes | None = None) -> None:
        self._model = model
        self._records: list[dict[str, Any]] = [] if state is None else json.loads(state)

    def step(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Judge the device after one more reading.

        Raises:
            DataError: Another device, a time that is not later, or a reading that is not usable.
        """
        import pyarrow as pa

        new = {name: record.get(name) for name in _KEPT}
        self._require_next(new)
        schema = self._model.input_schema.arrow_schema()
        rows = [*self._records, new]
        table = pa.table(
            {name: pa.array([row[name] for row in rows], schema.field(name).type) for name in _KEPT}
        )
        read = self._model.read(table)
        if read.faults:
            fault = read.faults[0]
            raise DataError(f"{fault.rule}.", hint="Mend the reading, or start another stream.")
        self._records = rows
        return [self._answer(read, new)]

    def state(self) -> bytes:
        """Return the readings so far as JSON."""
        return json.dumps(self._records).encode()

    def _require_next(self, new: Mapping[str, Any]) -> None:
        if not self._records:
            return
        last = self._records[-1]
        if new["device"] != last["device"]:
            raise DataError(
                f"device '{new['device']}' in the stream of '{last['device']}'.",
                hint="Start a stream for each device.",
            )
        time = new["time"]
        if time is None or not float(time) > float(last["time"]):
            raise DataError(
                f"device '{new['device']}': time {time} is not later than {last['time']:g}.",
                hint="Give readings in the order of time, each once.",
            )

    def _answer(self, read: Any, new: Mapping[str, Any]) -> dict[str, Any]:
        from appliedpapers.plugins.laser_cvae.devices import prefixes
        from appliedpapers.plugins.laser_cvae.judging import judge_prefixes

        devices = read.devices
        if float(new["time"]) < self._model.config.data.skip:
            columns = {column.name: [BLANK.get(column.name)] for column in self._model.output_schema.columns}
        else:
            seen = prefixes(devices, np.zeros(1, dtype=np.intp), devices.last)
            columns = judge_prefixes(self._model, seen, devices.names, alone=True)
        answer = {name: values[0] for name, values in columns.items()}
        return {**answer, "device": new["device"], "time": float(new["time"])}
