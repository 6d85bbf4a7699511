"""The options of pansharpening and their presets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator

from appliedpapers.core.config import Section, TaskConfig

Classical = Literal["gsa", "mtf-glp-fs", "bt-h", "brovey", "exp"]
Method = Literal["rho-pnn", "r-pnn", "gsa", "mtf-glp-fs", "bt-h", "brovey", "exp"]
Base = Literal["exp", "gsa", "mtf-glp-fs"]
SensorName = Literal["generic", "prisma", "hyperion-ali", "enmap"]

CLASSICAL: tuple[Classical, ...] = get_args(Classical)


class SensorConfig(Section):
    """Modulation transfer at Nyquist of the coarse grid, by instrument or by hand."""

    name: SensorName = Field("generic", description="instrument whose gains are taken")
    hs_gain: float | tuple[float, ...] | None = Field(
        None, description="gain of the hyperspectral bands, one or one a band; null takes the instrument's"
    )
    pan_gain: float | None = Field(
        None, gt=0, lt=1, description="gain of the panchromatic band; null takes the instrument's"
    )

    @field_validator("hs_gain")
    @classmethod
    def _gains_are_fractions(cls, value: float | tuple[float, ...] | None) -> Any:
        gains = () if value is None else value if isinstance(value, tuple) else (value,)
        if not all(0 < gain < 1 for gain in gains):
            raise ValueError("a gain lies between 0 and 1")
        return value


class DataConfig(Section):
    """How a pair of rasters is read."""

    ratio: int | None = Field(
        None, ge=2, le=8, description="fine pixels per coarse pixel; null measures it on the files"
    )
    phase: Literal["auto", "reference", "centre"] = Field(
        "auto",
        description="where coarse samples lie: centre of the coarse pixel, or ratio // 2 as in public code;"
        " auto is centre",
    )
    wavelengths: str | None = Field(
        None,
        description="CSV with a column 'wavelength_nm' (and 'fwhm_nm'), one row a band; null takes the "
        "file's own",
        json_schema_extra={"flag": "--wavelengths"},
    )
    assume_ordered: bool = Field(
        False,
        description="without wavelengths, take the bands as ordered in steps of 10 nm",
        json_schema_extra={"flag": "--assume-ordered"},
    )
    bands: tuple[float, float] | None = Field(
        None, description="keep bands with a centre in this range of nm, such as [400, 2400]; null keeps all"
    )
    nodata: float | None = Field(
        None, description="value of the hyperspectral file that means missing; null takes the file's own"
    )
    overlap: Literal["vnir", "swir", "both"] = Field(
        "vnir", description="PRISMA: which detector's bands are kept where the two overlap"
    )
    align: bool = Field(
        False, description="shift the panchromatic band by the measured misregistration, by resampling"
    )


class SimulatorConfig(Section):
    """Size and faults of the embedded dataset."""

    size: int = Field(192, ge=32, le=4096, description="height and width of the fine grid in pixels")
    ratio: int = Field(3, ge=2, le=8, description="fine pixels per coarse pixel; divides the size")
    bands: int = Field(48, ge=4, le=512, description="bands between 420 and 2,400 nm")
    train_scenes: int = Field(64, ge=0, le=10_000, description="scenes to learn initial weights from")
    valid_scenes: int = Field(8, ge=0, le=1_000, description="scenes to choose on")
    test_scenes: int = Field(16, ge=1, le=1_000, description="scenes to judge on")
    noise: bool = Field(True, description="sensor noise, stripes and water-vapour windows")
    nonlinear: bool = Field(False, description="panchromatic response with an exponent of 0.95 to 1.05")
    misregistered: bool = Field(False, description="shift the panchromatic band by up to half a pixel")
    dead_bands: bool = Field(True, description="lose bands with a probability of 3 % each")
    nodata: bool = Field(True, description="a wedge of up to 15 % of the scene was not observed")


class RhoConfig(Section):
    """rho-PNN (arXiv 2505.16658): hysteresis around a spectral target, band after band."""

    gamma: float = Field(0.65, gt=0, lt=2, description="spectral target as a share of the loss of EXP")
    gamma_low: float = Field(0.90, gt=0, lt=1, description="lower edge of the hysteresis, as a share of it")
    beta: float = Field(2.0, gt=0, description="first weight of the structural loss in the search")
    epsilon: float = Field(1.007, gt=1, description="growth of the spectral loss that the search tolerates")
    steps: int = Field(20, ge=1, description="iterations with the structural loss on that end a band (ns)")
    eta: float = Field(30.0, ge=0, description="how much of the cap follows the change from band to band")
    patch: int = Field(120, ge=16, description="side of the patches of the first training, in fine pixels")
    soups: int = Field(10, ge=1, le=100, description="networks that are averaged to start from")
    soup_epochs: int = Field(10, ge=0, description="epochs of each")
    first_epochs: int = Field(300, ge=0, description="epochs on the first band")
    most_first_steps: int = Field(
        600, ge=1, description="most steps of the training on the first band, and of each network of the soup"
    )
    tiles: int = Field(4, ge=1, description="tiles that stand for the scene while it adapts")
    tile: int = Field(50, ge=16, description="their side in coarse pixels")


class RConfig(Section):
    """R-PNN (arXiv 2311.06510): one network passed on from band to band."""

    first_iterations: int = Field(20, ge=0, description="iterations on the first band")
    per_step: int = Field(15, ge=1, description="iterations for each begun 10 nm to the next band")
    cap: int = Field(80, ge=1, description="most iterations a band")
    struct_visible: float = Field(0.5, ge=0, description="weight of the structural loss up to 700 nm")
    struct_infrared: float = Field(0.25, ge=0, description="weight of the structural loss beyond")
    weights: Literal["shipped", "random"] = Field(
        "shipped", description="where the first band starts: our trained weights, or random ones"
    )
    random_iterations: int = Field(
        300, ge=0, description="iterations on the first band when it starts from random weights"
    )


class AdaptationConfig(Section):
    """How the networks adapt to a scene."""

    normalize: Literal["scene", "fixed16"] = Field(
        "scene", description="scale by the scene's own 99.9th percentile, or by 65,536 as public code does"
    )
    normalize_kernel: bool = Field(True, description="make low-pass kernels sum to 1")
    boundary: Literal["symmetric", "circular"] = Field(
        "symmetric", description="edges of the interpolator; circular is what public code does"
    )
    base: Base | Literal["auto"] = Field(
        "auto",
        description="what the networks add to: EXP as in the papers, or a classical product; "
        "auto is exp for r-pnn and gsa for rho-pnn",
    )
    fallback: bool = Field(
        True, description="give a band as what the network adds to where the network ends worse than that"
    )
    lr: float = Field(1e-4, gt=0, le=1, description="learning rate of Adam")
    max_iterations: int = Field(200, ge=1, description="most iterations a band, whatever the schedule says")
    plateau: int = Field(
        25, ge=0, description="stop a band whose spectral loss improves < 0.1 % in so many steps; 0 never"
    )
    rho: RhoConfig = RhoConfig()
    r: RConfig = RConfig()


class OutputConfig(Section):
    """What a product looks like."""

    dtype: Literal["keep", "float32"] = Field("keep", description="type of the output bands")
    cog: bool = Field(True, description="cloud-optimised GeoTIFF with overviews")
    compress: Literal["deflate", "zstd", "lzw", "none"] = Field("deflate", description="compression")
    quality: Literal["full", "fast", "none"] = Field(
        "full",
        description="report of each product: reduced and full resolution with baselines, full resolution "
        "alone, or none",
    )


class InitConfig(Section):
    """Training of R-PNN's first weights: ``--preset r-pnn-init``."""

    enabled: bool = Field(False, description="train initial weights on the train scenes")
    scenes: int = Field(96, ge=1, description="simulated scenes")
    size: int = Field(240, ge=48, description="their side in fine pixels")
    patch: int = Field(120, ge=24, description="side of a training patch in fine pixels")
    batch_size: int = Field(4, ge=1, description="patches a step (per process)")
    epochs: int = Field(40, ge=1, description="passes over the training scenes, at most; the paper: 200")
    patience: int = Field(
        20, ge=0, description="epochs without a better validation before training stops; 0 never"
    )
    lr: float = Field(1e-4, gt=0, le=1, description="learning rate of the first epoch; a tenth in the last")
    san_francisco: bool = Field(True, description="also learn from rows 0 to 131 of san-francisco")


class EvaluationConfig(Section):
    """How methods are judged."""

    crop: int = Field(
        384, ge=64, description="most pixels a side that are judged: of larger scenes the middle"
    )
    full_resolution: bool = Field(True, description="also judge at full resolution, without a reference")


class PansharpeningConfig(TaskConfig):
    """Everything that a pansharpening run can be told."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {"simulator": {"train_scenes": 0, "valid_scenes": 1, "test_scenes": 2}},
        "quick": {
            "simulator": {
                **{"size": 96, "bands": 24, "train_scenes": 0},
                **{"valid_scenes": 1, "test_scenes": 1},
            },
            "adaptation": {
                "max_iterations": 15,
                "rho": {"soups": 1, "soup_epochs": 0, "first_epochs": 20, "steps": 4, "beta": 1.0},
            },
        },
        "check": {
            "simulator": {
                **{"size": 48, "bands": 5, "train_scenes": 0},
                **{"valid_scenes": 1, "test_scenes": 1},
            },
            "adaptation": {
                "max_iterations": 2,
                "rho": {"soups": 1, "soup_epochs": 0, "first_epochs": 1, "steps": 1, "beta": 1.0},
            },
            "output": {"quality": "none", "cog": False},
        },
        "published": {
            "sensor": {"name": "prisma"},
            "data": {"phase": "reference"},
            "adaptation": {
                **{"normalize": "fixed16", "normalize_kernel": False, "boundary": "circular", "lr": 1e-5},
                **{"max_iterations": 100_000, "plateau": 0, "base": "exp", "fallback": False},
            },
            "consistency": 0,
        },
        "r-pnn-init": {
            "method": "r-pnn",
            "initial": {"enabled": True},
            "simulator": {"size": 240, "train_scenes": 96, "valid_scenes": 8, "test_scenes": 4},
        },
    }

    method: Method = Field("rho-pnn", description="what sharpens the scene")
    sensor: SensorConfig = SensorConfig()
    data: DataConfig = DataConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    adaptation: AdaptationConfig = AdaptationConfig()
    initial: InitConfig = InitConfig()
    output: OutputConfig = OutputConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    consistency: int | None = Field(
        None,
        ge=0,
        le=100,
        description="steps of back-projection, which bring each band back to what the sensor saw; null takes "
        "1 after a network and none after a classical method",
    )
    memory: str = Field(
        "2GB",
        description="how much memory a scene may take, such as 2GB or 500MB",
    )
    baselines: tuple[Classical, ...] = Field(CLASSICAL, description="models that ours is compared with")

    @field_validator("memory")
    @classmethod
    def _memory_is_a_size(cls, value: str) -> str:
        if not re.fullmatch(r"\s*\d+(\.\d+)?\s*[KMGT]?i?B\s*", value, re.IGNORECASE):
            raise ValueError(f"{value!r} is no size such as 2GB or 500MB")
        return value

    @property
    def network_base(self) -> Base:
        """What the network adds to: for R-PNN, whose first weights were trained on it, EXP; else GSA."""
        if self.adaptation.base != "auto":
            return self.adaptation.base
        return "exp" if self.method == "r-pnn" else "gsa"

    @property
    def back_projections(self) -> int:
        """Steps of back-projection on the product."""
        if self.consistency is not None:
            return self.consistency
        return 0 if self.method in CLASSICAL else 1
