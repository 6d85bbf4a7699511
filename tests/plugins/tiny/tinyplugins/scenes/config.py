"""Configuration of tiny-scenes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from appliedpapers.core.config import Section, TaskConfig


class DataSection(Section):
    """What the simulator makes."""

    scenes: int = Field(12, ge=5, description="scenes of the simulator")
    size: int = Field(8, ge=2, description="pixels along a side")


class ModelSection(Section):
    """Level and map."""

    alpha: float = Field(0.1, ge=0, description="strength of the ridge penalty")
    steps: int = Field(6, ge=1, description="smoothing steps of a map")


class ScenesConfig(TaskConfig):
    """Level and smoothed map of scenes."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"data": {"scenes": 8}, "model": {"steps": 4}},
        "default": {},
        "published": {"model": {"steps": 10}},
    }

    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
