"""What is answered about a sample: columns, flags, and rows of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.schema import Column, OutputSchema, TableSchema
from appliedpapers.plugins.imu_attitude.config import DataConfig
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.recording import Floats
from appliedpapers.plugins.imu_attitude.rotations import enu_to_ned, roll_pitch, up_vector
from appliedpapers.plugins.imu_attitude.samples import (
    AXES,
    CLIP_ACC,
    CLIP_GYR,
    MOST_ACC,
    MOST_GYR,
    MOST_TIME,
    Samples,
    clipped,
)
from appliedpapers.plugins.imu_attitude.units import acc_scale, gyr_scale

if TYPE_CHECKING:
    import pyarrow as pa

FLAGS = ("skipped", "gap", "acc-clipped", "gyr-clipped", "bias")
LARGE_BIAS = math.radians(2.0)
MOST_SD = math.pi / 2
"""Expected error where nothing is known, in radians; a larger one would say no more."""


def input_schema(data: DataConfig) -> TableSchema:
    """Return the contract of samples in the units of ``data``."""
    missing = data.on_bad == "skip"
    columns = [
        Column("trial", "string", "name of the recording", nullable=True, required=False, example="walk-1"),
        Column(
            "time",
            "float64",
            "time of the sample; without it, --fs says how far samples stand apart",
            unit="s",
            nullable=missing or data.fs is not None,
            required=data.fs is None,
            infinity="missing" if missing else "refuse",
            **_bounds(MOST_TIME, missing),
            example=0.01,
        ),
    ]
    gravity = 9.81 if data.acc_unit == "m/s2" else (1.0 if data.acc_unit == "g" else 1000.0)
    up = gravity if data.acc_sign == "specific-force" else -gravity
    for kind, unit, most, what, examples in (
        ("acc", data.acc_unit, MOST_ACC / abs(acc_scale(data)), "accelerometer", (0.0, 0.0, up)),
        ("gyr", data.gyr_unit, MOST_GYR / gyr_scale(data), "gyroscope", (0.0, 0.0, 0.0)),
    ):
        columns += [
            Column(
                f"{kind}_{axis}",
                "float64",
                f"{what}, sensor axis {axis}",
                unit=unit,
                nullable=missing,
                infinity="missing" if missing else "refuse",
                **_bounds(most, missing),
                example=example,
            )
            for axis, example in zip(AXES, examples, strict=True)
        ]
    columns += [
        Column(
            f"mag_{axis}",
            "float64",
            f"magnetometer, sensor axis {axis}, any unit; all three give a heading",
            nullable=True,
            required=False,
            infinity="missing" if missing else "refuse",
        )
        for axis in AXES
    ]
    return TableSchema(tuple(columns), group_by=("trial",))


def _bounds(most: float, skipped: bool) -> dict[str, Any]:
    """Return the range that is refused beyond; where bad rows are skipped, that of a row does it."""
    return {} if skipped else {"minimum": -most, "maximum": most}


def output_schema(data: DataConfig) -> OutputSchema:
    """Return the contract of answers against the frame of ``data``."""
    quaternion = tuple(
        Column(
            f"q{part}", "float64", f"{part} of the orientation, sensor to {data.frame}", minimum=-1, maximum=1
        )
        for part in "wxyz"
    )
    up = tuple(
        Column(f"up_{axis}", "float64", f"up in the sensor frame, axis {axis}", minimum=-1, maximum=1)
        for axis in AXES
    )
    bias = tuple(
        Column(f"bias_{axis}", "float64", f"gyroscope bias, axis {axis}", unit="deg/s") for axis in AXES
    )
    return OutputSchema(
        (
            Column("trial", "string", "name of the recording", nullable=True),
            Column("time", "float64", "time of the sample", unit="s", nullable=True),
            *quaternion,
            *up,
            Column("roll", "float64", "roll, rotations about z, y, x", unit="deg", minimum=-180, maximum=180),
            Column("pitch", "float64", "pitch, rotations about z, y, x", unit="deg", minimum=-90, maximum=90),
            Column(
                "inclination_sd",
                "float64",
                "expected error of up, root mean square; 90 where nothing is known",
                unit="deg",
                minimum=0,
                maximum=90,
            ),
            *bias,
            Column("at_rest", "bool", "whether the sensor is held for resting"),
            Column(
                "heading_observable", "bool", "whether yaw means anything; without a magnetometer it drifts"
            ),
            Column("flags", "string", f"what to be careful about: {', '.join(FLAGS)}; empty where nothing"),
        ),
        group_by=("trial",),
        rows="per_row",
        keys=("trial", "time"),
    )


def flags_of(samples: Samples, bias: Floats, gap: float) -> list[str]:
    """Return the flags of every row, separated by blanks.

    Args:
        samples: The rows.
        bias: ``(G, 3)`` at the good rows, rad/s.
        gap: Seconds between good rows that are a gap.
    """
    recording = samples.recording()
    late = np.diff(recording.time, prepend=recording.time[:1]) > gap
    marks = np.stack(
        [
            late,
            clipped(recording.acc, CLIP_ACC),
            clipped(recording.gyr, CLIP_GYR),
            np.abs(bias).max(axis=1) > LARGE_BIAS,
        ],
        axis=1,
    )
    codes = marks @ (1 << np.arange(len(FLAGS) - 1))
    words = [_words(code) for code in range(1 << (len(FLAGS) - 1))]
    flags = np.full(len(samples.rows), FLAGS[0], dtype=object)
    flags[samples.good] = np.array(words, dtype=object)[codes]
    return [str(flag) for flag in flags]


def flag_words(marks: Sequence[bool]) -> str:
    """Return the flags of a good row in words; ``marks`` are those of :data:`FLAGS` after the first."""
    return " ".join(word for word, mark in zip(FLAGS[1:], marks, strict=True) if mark)


def _words(code: int) -> str:
    return flag_words([bool(code >> place & 1) for place in range(len(FLAGS) - 1)])


def columns_of(
    samples: Samples, estimate: Estimate, heading: NDArray[np.bool_], data: DataConfig, gap: float
) -> dict[str, Any]:
    """Return the output columns of one trial, a value a row; see :func:`output_schema`.

    Args:
        samples: The rows.
        estimate: Of the good rows.
        heading: ``(G,)`` whether heading is known.
        data: The frame to answer in.
        gap: Seconds that are a gap.
    """
    held = samples.held()
    count = len(estimate.quaternion)
    bias = np.zeros((count, 3)) if estimate.bias is None else estimate.bias
    rest = np.zeros(count, dtype=bool) if estimate.at_rest is None else estimate.at_rest
    sd = np.zeros(count) if estimate.sd is None else estimate.sd
    # before the first usable sample nothing is known
    nothing = np.array([1.0, 0.0, 0.0, 0.0])
    quaternion = np.vstack([estimate.quaternion, nothing])[held]
    return {
        "trial": [samples.trial] * len(held),
        "time": samples.time,
        **framed(quaternion, data),
        "inclination_sd": np.degrees(np.minimum(np.append(sd, MOST_SD), MOST_SD)[held]),
        **{f"bias_{axis}": np.degrees(np.append(bias[:, n], 0.0)[held]) for n, axis in enumerate(AXES)},
        "at_rest": np.append(rest, False)[held],
        "heading_observable": np.append(heading, False)[held],
        "flags": flags_of(samples, bias, gap),
    }


def framed(quaternion: Floats, data: DataConfig) -> dict[str, Floats]:
    """Return what follows from orientations ``(N, 4)`` against ENU: quaternion, up, roll and pitch."""
    answered = enu_to_ned(quaternion) if data.frame == "NED" else quaternion
    up = np.clip(up_vector(quaternion), -1.0, 1.0)
    roll, pitch = roll_pitch(answered)
    return {
        **{f"q{part}": np.clip(answered[:, n], -1.0, 1.0) for n, part in enumerate("wxyz")},
        **{f"up_{axis}": up[:, n] for n, axis in enumerate(AXES)},
        "roll": np.degrees(roll),
        "pitch": np.degrees(pitch),
    }


def to_table(parts: Sequence[dict[str, Any]], rows: NDArray[np.int64], schema: OutputSchema) -> pa.Table:
    """Return the columns of several trials as one table, in the order of the input's rows."""
    import pyarrow as pa

    order = np.argsort(rows, kind="stable")
    sorted_already = bool((order == np.arange(len(order))).all())
    arrays = {}
    for field in schema.arrow_schema():
        values = [value for part in parts for value in part[field.name]] if _listed(field.type) else None
        if values is None:
            joined = np.concatenate([np.asarray(part[field.name]) for part in parts])
            array = pa.array(joined if sorted_already else joined[order], field.type, from_pandas=True)
        else:
            array = pa.array(values if sorted_already else [values[n] for n in order], field.type)
        arrays[field.name] = array
    return pa.table(arrays, schema=schema.arrow_schema())


def _listed(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind))
