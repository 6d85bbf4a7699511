"""Configurations of tiny-tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from appliedpapers.core.config import Section, TaskConfig


class DataSection(Section):
    """What the simulator makes."""

    items: int = Field(60, ge=5, description="spectra or series of the simulator")


class ModelSection(Section):
    """The regression."""

    alpha: float = Field(0.01, ge=0, description="strength of the ridge penalty")


class SpectrumConfig(TaskConfig):
    """Concentration from a spectrum."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"data": {"items": 30}},
        "default": {},
        "published": {"model": {"alpha": 0.1}},
    }

    data: DataSection = DataSection()
    model: ModelSection = ModelSection()


class AheadConfig(TaskConfig):
    """Forecast of short series."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"data": {"items": 20}},
        "default": {},
        "published": {"model": {"alpha": 0.1}},
    }

    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
