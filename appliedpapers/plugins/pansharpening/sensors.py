"""Modulation transfer of known instruments at the Nyquist frequency of the coarse grid."""

from __future__ import annotations

from appliedpapers.core.errors import ConfigError
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig, SensorName
from appliedpapers.plugins.pansharpening.scene import Optics, Sensor

# EO-1: 0.28 stands for the 0.26 to 0.30 that are stated for the bands of Hyperion; EnMAP: our choice
SENSORS: dict[SensorName, Sensor] = {
    "generic": Sensor(hs_gain=0.30, pan_gain=0.15),
    "prisma": Sensor(hs_gain=0.30, pan_gain=0.20),
    "hyperion-ali": Sensor(hs_gain=0.28, pan_gain=0.13),
    "enmap": Sensor(hs_gain=0.30, pan_gain=0.15),
}


def optics_of(config: PansharpeningConfig, ratio: int, bands: int) -> Optics:
    """Return how the coarse and the fine grid relate by the options.

    Args:
        config: Options ``sensor``, ``data.phase`` and ``adaptation``.
        ratio: Fine pixels per coarse pixel.
        bands: Number of hyperspectral bands.

    Raises:
        ConfigError: ``sensor.hs_gain`` has another number of gains than there are bands.
    """
    known = SENSORS[config.sensor.name]
    given = config.sensor.hs_gain
    if isinstance(given, tuple) and len(given) != bands:
        raise ConfigError(
            f"option 'sensor.hs_gain': {len(given)} gains for {bands} bands.",
            hint="Give one gain for all bands, or one for each band that is used.",
        )
    return Optics(
        ratio=ratio,
        phase="centre" if config.data.phase == "auto" else config.data.phase,
        sensor=Sensor(
            known.hs_gain if given is None else given,
            known.pan_gain if config.sensor.pan_gain is None else config.sensor.pan_gain,
        ),
        boundary=config.adaptation.boundary,
        normalize_kernel=config.adaptation.normalize_kernel,
    )
