"""The options of Varifocal-Net and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from appliedpapers.core.config import Section, TaskConfig
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.nn.spec import HeadSpec

Dispatch = Literal["assignment", "paper", "none"]


class DataConfig(Section):
    """How images are read and cells are split."""

    background: Literal["auto", "white", "black"] = Field(
        "auto", description="auto looks at the border of each image and inverts black ones"
    )
    polarity: Literal["q-down", "q-up"] = Field(
        "q-down", description="how labelled images stand that have no column 'polarity' of their own"
    )
    scale: Literal["auto"] | Annotated[float, Field(ge=0.1, le=10)] = Field(
        "auto",
        description="factor on the size of all images; auto brings the median area of a cell's chromosomes to"
        " that of the cells that were learned from",
        json_schema_extra={"flag": "--scale"},
    )
    split: Literal["specimen", "case", "random"] = Field(
        "specimen",
        description="what stays on one side of the split; random lets cells leak and is only for comparison "
        "with papers that did so",
    )
    valid_share: float = Field(0.15, ge=0, lt=1, description="share of your own specimens to choose on")
    test_share: float = Field(0.25, gt=0, lt=1, description="share of your own specimens to judge on")


class SimulatorConfig(Section):
    """Size of the embedded dataset."""

    train_cells: int = Field(60, ge=2, le=100_000, description="cells to learn from")
    valid_cells: int = Field(16, ge=2, le=10_000, description="cells to choose on")
    test_cells: int = Field(26, ge=2, le=10_000, description="cells to judge on")
    artefacts: bool = Field(True, description="touching neighbours, cut corners and debris")
    abnormal: bool = Field(True, description="trisomies, sex chromosome anomalies and lost chromosomes")


class NetworkConfig(Section):
    """Size of G-Net and L-Net, and where L-Net looks."""

    input_size: int = Field(128, ge=64, le=512, multiple_of=16, description="side of G-Net's input (S)")
    canvas: int = Field(
        160, ge=32, le=2048, description="side in pixels that images are padded to; larger ones are shrunk"
    )
    width: tuple[int, int, int, int] = Field(
        (16, 32, 64, 128),
        description="channels of stem and blocks; the paper: 16 160 320 640",
    )
    units_per_block: int = Field(1, ge=1, le=16, description="residual units a block; the paper: 4")
    localiser_hidden: int = Field(256, ge=1, le=65_536, description="units of the localiser; the paper: 1024")
    stem_stride: Literal[1, 2] = Field(2, description="stride of G-Net's first convolution; the paper: 1")
    local_stem_stride: Literal[1, 2] = Field(2, description="the same of L-Net, whose input is half as large")
    crop: Literal["auto", "varifocal", "simple"] = Field(
        "auto",
        description="where L-Net looks: what the localiser says, or the chromosome's own box; auto trains "
        "both and takes what is better on the validation cells",
    )
    crop_grad: Literal["grid", "paper"] = Field(
        "grid", description="gradient to the localiser: exact, of the sampled box, or the paper's mask"
    )
    answer: Literal["blend", "networks", "joint"] = Field(
        "blend",
        description="who answers: the joint classifiers alone, as in the paper; networks: G-Net and L-Net "
        "with them; blend: boosted trees on band profiles as well",
    )
    head: HeadSpec = Field(
        "mlp",
        description="what turns both networks' features into types and polarity; mlp is one hidden layer; "
        "any other shared module, such as kan(grid=5), takes its place",
    )
    head_hidden: int = Field(512, ge=1, le=65_536, description="hidden units of an mlp head")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the features before the heads dropped while training"
    )
    views: Literal[1, 2, 4] = Field(
        2, description="answers are averaged over the image, it upside down, and mirror images of both"
    )

    @model_validator(mode="after")
    def _maps_are_large_enough(self) -> NetworkConfig:
        # the localiser reads 8 x 8 cells of G-Net's last map, the classifiers 4 x 4 of L-Net's
        least = 64 * max(self.stem_stride, self.local_stem_stride)
        if self.input_size < least:
            raise ValueError(f"input_size must be {least} or more with these strides")
        return self


class StepsConfig(Section):
    """The four training steps and the classifiers on both networks' features."""

    g: TrainingConfig = TrainingConfig(epochs=9, batch_size=32, lr=3e-3, weight_decay=0.01)
    localiser: TrainingConfig = TrainingConfig(epochs=1, batch_size=32, lr=1e-3)
    l: TrainingConfig = TrainingConfig(epochs=6, batch_size=32, lr=3e-3, weight_decay=0.01)  # noqa: E741
    follow: TrainingConfig = TrainingConfig(epochs=1, batch_size=32, lr=1e-3)
    again: TrainingConfig = TrainingConfig(epochs=1, batch_size=32, lr=1e-3, weight_decay=0.01)
    fusion: TrainingConfig = TrainingConfig(epochs=6, batch_size=256, lr=1e-3, weight_decay=0.01)
    alternations: int = Field(
        2,
        ge=0,
        le=20,
        description="rounds in which the localiser follows L-Net (follow), and L-Net it (again)",
    )
    copies: int = Field(
        2, ge=1, le=100, description="variations of each image that the joint classifiers see"
    )
    schedule: Literal["one-cycle", "steps"] = Field(
        "one-cycle", description="one-cycle with AdamW, or the paper's Adam with a tenth every 10 epochs"
    )
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="smoothing of the labels of types")
    polarity_weight: float = Field(0.5, ge=0, description="weight of the polarity in the loss")
    box_weight: float = Field(
        0.01, ge=0, description="weight of the first target while the localiser follows L-Net"
    )
    shift: float = Field(
        0.08,
        ge=0,
        le=0.5,
        description="largest random shift of the box while L-Net first learns, as a share of half the side: "
        "what lies beside the middle must mean something to L-Net before the localiser can follow it; the "
        "paper: 0",
    )
    rotation: float = Field(10.0, ge=0, le=180, description="largest random turn in degrees; the paper: 45")
    stretch: float = Field(0.05, ge=0, le=0.5, description="largest random change of scale; the paper: 0")


class ReviewConfig(Section):
    """What becomes of probabilities."""

    dispatch: Dispatch = Field(
        "assignment", description="how a cell's types are made consistent: by cost, by Algorithm 1, or not"
    )
    threshold: float = Field(0.9, gt=0, le=1, description="Algorithm 1: beyond it one more copy is kept")
    penalty: float = Field(4.0, ge=0, description="assignment: cost of a copy beyond the normal number, nat")
    missing: float = Field(4.0, ge=0, description="assignment: cost of a copy below the normal number, nat")
    abnormal_share: float = Field(
        0.065,
        gt=0,
        lt=1,
        description="share of cells taken to have gained a chromosome, and as many to have lost one, before "
        "images are seen: for probabilities of gain and loss; 125 of the paper's 1909 cases were abnormal",
    )
    confidence: float = Field(
        0.9, gt=0, le=1, description="chromosomes below this probability are listed for review"
    )
    karyograms: bool = Field(True, description="draw a karyogram of every cell, as PNG and as a page")


_FULL: Mapping[str, Any] = {
    "network": {
        **{"input_size": 256, "canvas": 320, "width": (16, 160, 320, 640), "units_per_block": 4},
        **{"stem_stride": 1, "local_stem_stride": 1, "localiser_hidden": 1024},
    },
    "steps": {"g": {"epochs": 30}, "l": {"epochs": 30}, "fusion": {"epochs": 20}},
}
_PAPER_STEP: dict[str, Any] = {"lr": 1e-4, "weight_decay": 0.0, "batch_size": 64}


class KaryotypeConfig(TaskConfig):
    """Everything that a run of Varifocal-Net can be told."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "quick": {
            "simulator": {"train_cells": 6, "valid_cells": 2, "test_cells": 4},
            "network": {"width": (8, 16, 32, 64)},
            "steps": {"g": {"epochs": 7}, "l": {"epochs": 5}, "alternations": 1},
        },
        "check": {
            "simulator": {"train_cells": 2, "valid_cells": 2, "test_cells": 2},
            "network": {
                **{"input_size": 64, "canvas": 128, "width": (8, 8, 16, 16)},
                **{"stem_stride": 1, "local_stem_stride": 1, "localiser_hidden": 16, "head_hidden": 32},
            },
            "steps": {
                **{name: {"epochs": 1} for name in ("g", "localiser", "l", "follow", "again", "fusion")},
                **{"alternations": 1, "copies": 1},
            },
        },
        "full": _FULL,
        "published": {
            "data": {"scale": 1.0},
            "network": {
                **_FULL["network"],
                "crop": "varifocal",
                "crop_grad": "paper",
                "views": 1,
                "answer": "joint",
            },
            "steps": {
                **{name: _PAPER_STEP | {"epochs": 30} for name in ("g", "l", "localiser")},
                **{name: _PAPER_STEP | {"epochs": 10} for name in ("follow", "again")},
                **{"fusion": _PAPER_STEP | {"epochs": 20}, "schedule": "steps"},
                **{"label_smoothing": 0.0, "shift": 0.0, "rotation": 45.0, "stretch": 0.0},
            },
            "review": {"dispatch": "paper", "missing": 0.0},
        },
        "fine-tune": {
            "steps": {
                **{name: {"epochs": 2, "lr": 3e-4} for name in ("g", "l")},
                **{"localiser": {"epochs": 1, "lr": 1e-4}, "fusion": {"epochs": 5, "lr": 3e-4}},
                "alternations": 1,
            },
        },
    }

    data: DataConfig = DataConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    network: NetworkConfig = NetworkConfig()
    steps: StepsConfig = StepsConfig()
    review: ReviewConfig = ReviewConfig()
