"""Configuration of tiny-rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from appliedpapers.core.config import Section, TaskConfig


class DataSection(Section):
    """What the simulator makes."""

    rows: int = Field(300, ge=10, description="rows of the simulator")


class ModelSection(Section):
    """The regression."""

    alpha: float = Field(1.0, ge=0, description="strength of the ridge penalty")


class RowsConfig(TaskConfig):
    """Ridge regression of ``harvest``."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"data": {"rows": 60}},
        "default": {},
        "published": {"model": {"alpha": 0.1}},
    }

    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
