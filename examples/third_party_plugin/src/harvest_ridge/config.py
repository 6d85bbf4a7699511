"""Configuration of Harvest ridge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from appliedpapers.core.config import Section, TaskConfig


class SimulatorSection(Section):
    """The embedded dataset."""

    plots: int = Field(500, ge=20, description="how many plots are simulated")
    noise: float = Field(0.3, ge=0, description="standard deviation of the harvest's noise, t/ha")


class ModelSection(Section):
    """The regression."""

    penalties: tuple[float, ...] = Field(
        (0.01, 0.1, 1.0, 10.0), min_length=1, description="penalties to choose from on the validation rows"
    )


class Config(TaskConfig):
    """Everything that a run of Harvest ridge can be told."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"simulator": {"plots": 100}},
        "default": {},
        "published": {"model": {"penalties": (0.2,)}},
    }

    simulator: SimulatorSection = SimulatorSection()
    model: ModelSection = ModelSection()
