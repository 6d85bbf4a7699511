"""Options that the tasks share: the simulator of sites, soil, weather, crops and spectra."""

from __future__ import annotations

from pydantic import Field

from appliedpapers.core.config import Section


class SimulatorConfig(Section):
    """Size of the embedded dataset; all its ranges are illustrative textbook values."""

    sites: int = Field(24, ge=3, le=1000, description="sites; the parts of a split have different ones")
    fields_from: int = Field(40, ge=2, le=10_000, description="fewest fields a site")
    fields_to: int = Field(120, ge=2, le=10_000, description="most fields a site")
    missing: float = Field(0.05, ge=0, lt=1, description="share of the values that is missing at random")
    label_noise: float = Field(0.02, ge=0, lt=1, description="share of the fields with a random crop")
    mixed_soils: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the fields whose soil is drawn by itself; the rest have their site's",
    )
