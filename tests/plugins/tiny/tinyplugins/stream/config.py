"""Configuration of tiny-stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from appliedpapers.core.config import Section, TaskConfig


class DataSection(Section):
    """What the simulator makes."""

    devices: int = Field(6, ge=3, description="devices of the simulator")
    samples: int = Field(120, ge=10, description="samples of a device")


class ModelSection(Section):
    """The filter."""

    weights: tuple[float, ...] = Field((0.1, 0.3, 0.5, 0.7, 0.9), description="weights to choose from")


class StreamConfig(TaskConfig):
    """Exponentially weighted mean."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"data": {"devices": 5, "samples": 40}},
        "default": {},
        "published": {"model": {"weights": (0.2,)}},
    }

    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
