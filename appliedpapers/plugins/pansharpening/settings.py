"""What the options of a run mean in numbers: gains of an instrument, grids, bytes of memory."""

from __future__ import annotations

import re

from appliedpapers.core.errors import ConfigError
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig, SensorConfig
from appliedpapers.plugins.pansharpening.degradation import Phase
from appliedpapers.plugins.pansharpening.scene import Optics, Sensor

SENSORS = {
    "generic": Sensor(0.30, 0.15),
    "prisma": Sensor(0.30, 0.20),
    "hyperion-ali": Sensor(0.28, 0.13),
    "enmap": Sensor(0.30, 0.15),
}
"""Modulation transfer at Nyquist by instrument; EnMAP's is our assumption."""

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def sensor_of(config: SensorConfig) -> Sensor:
    """Return the instrument's gains, or those that were set by hand."""
    usual = SENSORS[config.name]
    return Sensor(
        usual.hs_gain if config.hs_gain is None else config.hs_gain,
        usual.pan_gain if config.pan_gain is None else config.pan_gain,
    )


def optics_of(config: PansharpeningConfig, ratio: int, usual_phase: Phase = "centre") -> Optics:
    """Return how the grids of a scene relate, by the options of a run.

    Args:
        config: Resolved configuration.
        ratio: Fine pixels per coarse pixel.
        usual_phase: What ``data.phase=auto`` means for this data.
    """
    phase = config.data.phase
    return Optics(
        ratio,
        usual_phase if phase == "auto" else phase,
        sensor_of(config.sensor),
        config.adaptation.boundary,
        config.adaptation.normalize_kernel,
    )


def memory_bytes(text: str) -> int:
    """Return the bytes of a size such as ``2GB``, ``500 MB`` or ``1.5GiB``; K to T are powers of 1,024.

    Raises:
        ConfigError: The text is not a size of at least 64 MB.
    """
    found = _SIZE.fullmatch(text)
    size = int(float(found[1]) * 1024 ** _POWER[found[2].lower()]) if found else 0
    if size < 64 * 1024**2:
        raise ConfigError(
            f"option 'memory': '{text}' is not a size of at least 64MB.", hint="Write it as 2GB or 500MB."
        )
    return size
