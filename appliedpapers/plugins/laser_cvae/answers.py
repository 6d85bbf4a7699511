"""What is asked about a reading and what is answered: columns, words, rows of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from appliedpapers.core.schema import Column, OutputSchema, TableSchema
from appliedpapers.plugins.laser_cvae.config import DataConfig
from appliedpapers.plugins.laser_cvae.network import STEPS

if TYPE_CHECKING:
    import pyarrow as pa

STATUS = ("ok", "insufficient", "already-failed")
HINTS = ("normal", "gradual", "rapid", "sudden", "too-good", "outlier")
DIRECTIONS = ("more", "less")

_CENSORED = "null: censored"

_VALUES: Mapping[str, tuple[str, float | None, float]] = {
    "ratio": ("relative value, 1 at the start", 1e-9, 0.997),
    "percent": ("change since the start", None, 0.4),
    "dB": ("change since the start", None, -0.02),
    "absolute": ("optical power or current, in any unit", 1e-300, 9.8),
}


def input_schema(data: DataConfig) -> TableSchema:
    """Return the contract of readings in the units of ``data``."""
    about, least, example = _VALUES[data.value_unit]
    kelvin, ratio = data.temperature_unit == "K", data.current_unit == "ratio"
    unit = {"percent": "%", "dB": "dB"}.get(data.value_unit)
    optional: dict[str, Any] = {"nullable": True, "required": False}
    return TableSchema(
        (
            Column("device", "string", "name of the device", example="L-101"),
            Column("time", "float64", "time on test", unit=data.time_unit, minimum=0, example=250.0),
            Column("value", "float64", f"{about}, as read", unit=unit, minimum=least, example=example),
            Column(
                "temperature",
                "float64",
                "temperature of the test, the same for all readings of a device",
                unit="K" if kelvin else "°C",
                minimum=1.0 if kelvin else -272.0,
                maximum=1000.0,
                example=353.15 if kelvin else 80.0,
                **optional,
            ),
            Column(
                "current",
                "float64",
                "drive current, the same for all readings of a device",
                unit=None if ratio else data.current_unit,
                minimum=1e-9,
                example=1.0 if ratio else 30.0,
                **optional,
            ),
            Column(
                "voltage", "float64", "forward voltage, for the junction temperature", unit="V", **optional
            ),
            Column("power", "float64", "optical power, for the junction temperature", unit="W", **optional),
            Column(
                "horizon",
                "float64",
                "planned end of the test; by default that of its condition when the model was trained",
                unit=data.time_unit,
                minimum=0,
                **optional,
            ),
            Column("batch", "string", "batch or wafer, carried over", **optional),
        ),
        group_by=("device",),
        order_by="time",
    )


def output_schema(data: DataConfig) -> OutputSchema:
    """Return the contract of answers: a row a reading, with what was known by then and nothing later."""
    told = {"percent": "%", "dB": "dB"}.get(data.value_unit)
    return OutputSchema(
        (
            Column("device", "string", "name of the device"),
            Column("time", "float64", "time of the reading", unit=data.time_unit),
            Column(
                "status",
                "string",
                "insufficient: fewer than four readings; already-failed: beyond the criterion",
                categories=STATUS,
            ),
            *_abnormality_columns(told, data.time_unit),
            *_forecast_columns(told, data.time_unit),
        ),
        group_by=("device",),
        rows="per_row",
        keys=("device", "time"),
    )


def _abnormality_columns(told: str | None, hours: str) -> tuple[Column, ...]:
    return (
        _number("score", "abnormality for its condition: loss of a reading plus KL term", "nat"),
        _number("reconstruction", "the same without the KL term", "nat"),
        _number("p_value", "share of healthy devices at least as abnormal at this time", None, 0, 1),
        Column("alert", "bool", "whether the p-value is at most alpha"),
        Column(
            "compared_with",
            "string",
            "what the p-value is of",
            categories=("cell", "standardised"),
            nullable=True,
        ),
        Column(
            "direction",
            "string",
            "aged more or less than its condition lets expect",
            categories=DIRECTIONS,
            nullable=True,
        ),
        Column("mode_hint", "string", "what the path looks like", categories=HINTS, nullable=True),
        _number("worst_time", "time of the reading that adds most to the score", hours, 0),
        _number("attribution", "what the latest reading adds to the score", "nat"),
        _number("expected", "value of this reading if the device were healthy", told),
    )


def _forecast_columns(told: str | None, hours: str) -> tuple[Column, ...]:
    def curve(name: str, about: str, unit: str | None) -> Column:
        return Column(name, "float64", about, unit=unit, nullable=True, shape=(STEPS,))

    return (
        _number("p_cross", "chance to fail by the planned end", None, 0, 1),
        _number("ttf_p10", f"early end of the 80 % interval of the failure time; {_CENSORED}", hours, 0),
        _number("ttf_p50", f"time by which it has failed with 50 % chance; {_CENSORED}", hours, 0),
        _number("ttf_p90", f"late end: time by which it has failed with 90 % chance; {_CENSORED}", hours, 0),
        Column("censored", "string", "quantiles of the failure time that lie beyond the planned end"),
        Column("extrapolated", "bool", "whether its condition lies outside those of the training devices"),
        curve("forecast_time", "times of the forecast", hours),
        curve("forecast_p10", "value that is undercut with 10 % chance", told),
        curve("forecast_p50", "median value", told),
        curve("forecast_p90", "value that is exceeded with 10 % chance", told),
    )


def _number(
    name: str, about: str, unit: str | None = None, low: float | None = None, high: float | None = None
) -> Column:
    return Column(name, "float64", about, unit=unit, nullable=True, minimum=low, maximum=high)


def table_of(columns: Mapping[str, Any], data: DataConfig) -> pa.Table:
    """Return answers as the table that is promised."""
    import pyarrow as pa

    schema = output_schema(data)
    arrays = []
    for column in schema.columns:
        values = columns[column.name]
        if column.shape is not None:
            storage = pa.array(values, pa.list_(pa.float64(), STEPS))
            arrays.append(pa.ExtensionArray.from_storage(column.arrow_type(), storage))
        else:
            arrays.append(pa.array(values, column.arrow_type()))
    return pa.table(arrays, schema=schema.arrow_schema())


BLANK: Mapping[str, Any] = {
    "status": "insufficient",
    "alert": False,
    "censored": "",
    "extrapolated": False,
}
"""What a row says of which nothing is known; null in all other columns."""
