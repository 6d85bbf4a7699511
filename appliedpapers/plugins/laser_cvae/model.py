"""Both heads with everything around them: units, conditions, calibration, streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np

from appliedpapers.core.data import Split
from appliedpapers.core.errors import ConfigError, UnusableGroups
from appliedpapers.core.model import FitContext, GroupProblem, Model, Stream
from appliedpapers.core.schema import OutputSchema, TableSchema
from appliedpapers.core.weights import load_network, parameter_count, save_network
from appliedpapers.plugins.laser_cvae import answers
from appliedpapers.plugins.laser_cvae.config import LaserConfig
from appliedpapers.plugins.laser_cvae.devices import Devices, Floats, Indices, Prefixes, Scale, prefixes
from appliedpapers.plugins.laser_cvae.tables import Read, read_devices

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.laser_cvae.ageing import AgeingHead
    from appliedpapers.plugins.laser_cvae.forecast import ForecastHead
    from appliedpapers.plugins.laser_cvae.splits import DeviceSplit

AGEING, FORECAST = "ageing.safetensors", "forecast.safetensors"

_FEWEST_HELD = 4


class LaserCvae(Model):
    """Judges devices on test after every reading, by what was read until then.

    Attributes:
        ageing: Abnormality for the condition; None before it is fitted.
        forecast: Remaining path and crossing; None before it is fitted.
        scale: What values mean; the failure criterion.
        horizons: Planned end by condition cell, in hours; ``""`` for others.
        bounds: Smallest and largest condition of the training devices, ``(2, 2)``.
        facts: What fitting found, for the report.
        thresholds: Of alerts at the cuts of the validation part, by head.
    """

    config: LaserConfig
    reads: ClassVar[tuple[str, ...]] = ("data",)

    def __init__(self, config: LaserConfig) -> None:
        super().__init__(config)
        self.ageing: AgeingHead | None = None
        self.forecast: ForecastHead | None = None
        self.scale = Scale.of(config.data)
        self.horizons: dict[str, float] = {"": 0.0}
        self.bounds: Floats = np.array([[-np.inf, -np.inf], [np.inf, np.inf]])
        self.facts: dict[str, Any] = {}
        self.thresholds: dict[str, list[list[float]]] = {}

    @property
    def input_schema(self) -> TableSchema:
        """One row a reading, in the units of the configuration."""
        return answers.input_schema(self.config.data)

    @property
    def output_schema(self) -> OutputSchema:
        """One row a reading: what was known of its device by then."""
        return answers.output_schema(self.config.data)

    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Train both heads, and choose and calibrate on ``valid``.

        Args:
            train: Devices to learn from.
            valid: Devices to choose on; without any, choices fall to the physics.
            run: Seed, device, folder and the like.
            init: A model to go on from; its networks are kept as a start.

        Raises:
            ConfigError: ``init`` has networks of another size.
            RunError: Training diverged.
        """
        from appliedpapers.plugins.laser_cvae.assessment import thresholds
        from appliedpapers.plugins.laser_cvae.fitting import fit_heads

        learned, chosen = cast("DeviceSplit", train), cast("DeviceSplit", valid)
        start = None
        if init is not None:
            start = self._start(cast("LaserCvae", init))
        self.scale = learned.devices.scale
        # a published test has units of its own, in which the registered model is asked, too
        self.config = self.config.model_copy(update={"data": _own_units(self.config, learned)})
        self._remember(learned.devices)
        self.ageing, self.forecast, self.facts = fit_heads(
            learned.devices, chosen.devices, self.config, run, start
        )
        held = chosen if len(chosen.devices) >= _FEWEST_HELD else learned
        self.thresholds = thresholds(self.ageing, self.forecast, held, self.config.judge.false_alarms)
        return self

    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Judge devices after each of their readings.

        Args:
            table: One row a reading; a device's rows in any order.
            files: Not used.

        Raises:
            UnusableGroups: A device has a reading that is not usable.
        """
        read = self.read(table)
        if read.faults:
            problems = [
                GroupProblem((fault.device,), fault.rule, fault.row + 1, fault.column)
                for fault in read.faults
            ]
            raise UnusableGroups(problems, hint="Mend or leave out the device.")
        own = np.full(table.num_rows, -1, dtype=np.intp)
        rows: list[int] = []
        cuts: list[float] = []
        place = 0
        for device, listed in enumerate(read.rows):
            own[listed] = place + np.arange(len(listed))
            rows += [device] * len(listed)
            cuts += read.devices.hours[device, : len(listed)].tolist()
            place += len(listed)
        seen = prefixes(read.devices, np.array(rows, dtype=np.intp), np.array(cuts))
        from appliedpapers.plugins.laser_cvae.judging import judge_prefixes

        columns = judge_prefixes(self, seen, read.devices.names)
        return self._in_order(columns, table, own)

    def read(self, table: pa.Table) -> Read:
        """Read devices of a table that keeps the schema; what cannot be used is named."""
        return read_devices(table, self.config.data, self.horizons)

    def outside(self, seen: Prefixes) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which rows have a condition outside those of the training devices, ``(R,)``."""
        with np.errstate(invalid="ignore"):
            low = seen.conditions < self.bounds[0] - 1e-9
            return np.asarray((low | (seen.conditions > self.bounds[1] + 1e-9)).any(axis=1))

    def stream(self, state: bytes | None = None) -> Stream:
        """Follow one device, reading by reading."""
        from appliedpapers.plugins.laser_cvae.streaming import DeviceStream

        return DeviceStream(self, state)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the model card."""
        yield "mode", f"{self.scale.mode}, failure at {self.scale.threshold:.4g} of the start"
        if self.ageing is not None and self.forecast is not None:
            yield "parameters", parameter_count(self.ageing.network, self.forecast.network)
            yield "share of the learned correction in the forecast", f"{self.forecast.mix:g}"
            yield "calibration of p_cross", self.forecast.calibrator.method
        yield from ((name, str(value)) for name, value in self.facts.items())

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write both networks as safetensors, and ONNX where that is wanted."""
        assert self.ageing is not None
        assert self.forecast is not None
        assert self.ageing.calibration is not None
        save_network(self.ageing.network, folder / AGEING)
        save_network(self.forecast.network, folder / FORECAST)
        if self.config.onnx:
            from appliedpapers.plugins.laser_cvae.onnx import export

            export(self.ageing, folder)
        how = self.ageing.how
        return {
            "scale": {"mode": self.scale.mode, "unit": self.scale.unit, "threshold": self.scale.threshold},
            "horizons": self.horizons,
            "bounds": _finite(self.bounds),
            "facts": self.facts,
            "thresholds": self.thresholds,
            "how": {
                "centre": how.centre.tolist(),
                "spread": how.spread.tolist(),
                "reference": how.reference,
            },
            "calibration": self.ageing.calibration.to_json(),
            "forecast": self.forecast.to_json(),
        }

    @classmethod
    def read_parts(cls, config: Any, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the model from verified parts."""
        from appliedpapers.plugins.laser_cvae.fitting import empty_heads

        model = cls(config)
        model.scale = Scale(**state["scale"])
        model.horizons = dict(state["horizons"])
        model.bounds = _bounds(state["bounds"])
        model.facts = dict(state["facts"])
        model.thresholds = {name: [list(pair) for pair in rows] for name, rows in state["thresholds"].items()}
        model.ageing, model.forecast = empty_heads(config, state, device)
        load_network(model.ageing.network, folder / AGEING, device)
        load_network(model.forecast.network, folder / FORECAST, device)
        return model

    def _start(self, init: LaserCvae) -> LaserCvae:
        for section, name in (
            ("abnormality", "encoder"),
            ("abnormality", "latent"),
            ("forecast", "encoder"),
            ("forecast", "latent"),
        ):
            mine = getattr(getattr(self.config, section), name)
            theirs = getattr(getattr(init.config, section), name)
            if mine != theirs:
                raise ConfigError(
                    f"option '{section}.{name}' is {mine}, but the model to start from has {theirs}.",
                    hint=f"Give --set {section}.{name}={theirs}, or start afresh.",
                )
        return init

    def _remember(self, devices: Devices) -> None:
        """Keep what a forecast of new devices needs to know of the training test."""
        self.horizons = {"": float(devices.horizon.max())}
        for cell, end in zip(devices.cells(), devices.horizon, strict=True):
            self.horizons[cell] = max(self.horizons.get(cell, 0.0), float(end))
        known = np.isfinite(devices.conditions)
        low = np.where(known, devices.conditions, np.inf).min(axis=0)
        high = np.where(known, devices.conditions, -np.inf).max(axis=0)
        # of what was never known, nothing lies outside
        free = ~known.any(axis=0)
        self.bounds = np.stack([np.where(free, -np.inf, low), np.where(free, np.inf, high)])

    def _in_order(self, columns: Mapping[str, Any], table: pa.Table, own: Indices) -> pa.Table:
        """Return judged rows in the order of the input; rows before the end of a run-in say nothing."""
        late = own >= 0
        places = np.maximum(own, 0)
        ordered: dict[str, Any] = {}
        for column in self.output_schema.columns:
            if column.name in ("device", "time"):
                ordered[column.name] = table.column(column.name).to_pylist()
                continue
            values = columns[column.name]
            blank = answers.BLANK.get(column.name)
            ordered[column.name] = [
                values[place] if there else blank for place, there in zip(places, late, strict=True)
            ]
        return answers.table_of(ordered, self.config.data)


def _own_units(config: LaserConfig, split: DeviceSplit) -> Any:
    """Return how the devices of a split are read, with the user's own split and sizes."""
    kept = {name: getattr(config.data, name) for name in ("folds", "repeats", "simulator", "valid_share")}
    # the criterion of simulated and own devices may be left to the mode; it is spelt out
    return split.data.model_copy(update={**kept, "test_share": config.data.test_share})


def _finite(bounds: Floats) -> list[list[float | None]]:
    return [[float(v) if np.isfinite(v) else None for v in row] for row in bounds]


def _bounds(rows: list[list[float | None]]) -> Floats:
    ends = (-np.inf, np.inf)
    return np.array([[end if v is None else v for v in row] for row, end in zip(rows, ends, strict=True)])
