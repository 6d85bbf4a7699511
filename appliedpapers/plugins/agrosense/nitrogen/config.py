"""The options of the nitrogen task and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from appliedpapers.core.config import Section, TaskConfig
from appliedpapers.plugins.agrosense.config import SimulatorConfig

LearnerName = Literal["pls", "svr", "gpr", "mlp", "ridge", "mean"]


class DataConfig(Section):
    """How spectra and bands are read and split."""

    target: str | None = Field(
        None,
        description="column with total nitrogen; null looks for nitrogen, tn, nt and the like",
        json_schema_extra={"flag": "--target"},
    )
    group: str | None = Field(
        None,
        description="column whose rows stay on one side of a split, such as the sample of replicates; null "
        "looks for one",
        json_schema_extra={"flag": "--group-column"},
    )
    quantity: Literal["absorbance", "reflectance"] = Field(
        "absorbance",
        description="what a spectrum holds; reflectance becomes -log10 of it",
        json_schema_extra={"flag": "--quantity"},
    )
    axis: Literal["nm", "cm-1"] = Field(
        "nm", description="what names the columns of a spectrum", json_schema_extra={"flag": "--axis"}
    )
    protocol: Literal["auto", "samples", "dates", "random", "paper", "folds", "official"] = Field(
        "auto",
        description="ums-tn: samples (replicates together, the default), dates, random, or the "
        "paper's split; "
        "nirsoil: folds (the default), or the official split",
        json_schema_extra={"flag": "--protocol"},
    )
    folds: int = Field(5, ge=2, le=50, description="folds where nothing else says how rows are judged")


class PreprocessingConfig(Section):
    """What is done to spectra before anything learns from them."""

    method: Literal["derivative", "snv", "none"] = Field(
        "derivative", description="Savitzky-Golay first derivative, standard normal variate, or nothing"
    )
    window: int = Field(11, ge=3, le=101, description="points of the Savitzky-Golay window, odd")
    order: int = Field(2, ge=1, le=6, description="degree of its polynomial")


class ModelConfig(Section):
    """What learns."""

    learners: tuple[LearnerName, ...] = Field(
        (),
        description="what answers together, as their mean; empty: svr gpr mlp on spectra, on bands the best",
    )
    tuned: tuple[LearnerName, ...] = Field(
        ("mean", "ridge", "svr", "mlp"),
        description="bands: what is chosen from, simplest first, by folds in which replicates stay together",
    )
    components: int = Field(12, ge=1, le=50, description="most components of pls")
    seeds: int = Field(5, ge=1, le=50, description="networks of mlp, whose mean answers")
    indices: bool = Field(False, description="bands: add NDVI and GNDVI, and NDRE where there is a red edge")


class IntervalConfig(Section):
    """Intervals that hold the truth as often as they say."""

    alpha: float = Field(0.1, gt=0, lt=1, description="share of true values that may lie outside")
    calibration: Literal["cross", "split"] = Field(
        "cross",
        description="split keeps a quarter of the rows for the interval alone; cross takes each fold in turn "
        "and then learns from all rows",
    )
    folds: int = Field(
        16,
        ge=2,
        le=100,
        description="folds of cross; the more, the nearer its errors are to those of the model of all rows",
    )
    scale: Literal["plain", "normalised"] = Field(
        "plain", description="normalised: wider where errors were larger for such values"
    )


class NitrogenConfig(TaskConfig):
    """Everything that a run of the nitrogen task can be told."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "quick": {
            "simulator": {"sites": 8, "fields_from": 12, "fields_to": 16},
            "model": {"learners": ("svr",)},
        },
        "check": {
            "simulator": {"sites": 6, "fields_from": 8, "fields_to": 12},
            "model": {"learners": ("svr", "pls"), "components": 4},
        },
        "published": {"data": {"protocol": "paper"}, "model": {"learners": ("mlp",), "seeds": 1}},
    }
    dataset_presets: ClassVar[Mapping[str, str]] = {"nirsoil": "default"}

    data: DataConfig = DataConfig()
    simulator: SimulatorConfig = SimulatorConfig(sites=16, fields_from=15, fields_to=25)
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    model: ModelConfig = ModelConfig()
    interval: IntervalConfig = IntervalConfig()
