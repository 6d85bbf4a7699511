"""The options of the soil classifier and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from appliedpapers.core.config import Section, TaskConfig
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.nn.spec import LinearOrHead


class DataConfig(Section):
    """How photos are listed and split."""

    split: Literal["auto", "single", "folds"] = Field(
        "auto",
        description="auto takes the split that folders or a column state, else folds below 2,000 photos and "
        "one split beyond",
    )
    folds: int = Field(5, ge=2, le=20, description="folds of photos; whole groups are judged together")
    valid_share: float = Field(
        0.15, gt=0, lt=1, description="share of your own groups to choose on, in one split"
    )
    test_share: float = Field(
        0.25, gt=0, lt=1, description="share of your own groups to judge on, in one split"
    )
    near_duplicates: bool = Field(
        True, description="look for turned, mirrored, shrunk and saved copies, and keep them together"
    )


class SimulatorConfig(Section):
    """Size of the embedded dataset of drawn photos."""

    sites: int = Field(84, ge=15, le=1000, description="sites; each has one soil, and stands in one part")
    fields: int = Field(3, ge=2, le=1000, description="fields a site")
    photos: int = Field(2, ge=1, le=20, description="photos a field")
    distractors: float = Field(
        0.05, ge=0, le=0.5, description="share of photos that show no soil, among those that are judged on"
    )


class ModelConfig(Section):
    """What looks at photos, and what learns."""

    method: Literal["features", "colour-boosting", "network"] = Field(
        "features",
        description="features: frozen network and colour with logistic regression; colour-boosting: trees on "
        "colour alone; network: train a network of its own",
        json_schema_extra={"flag": "--method"},
    )
    features: str = Field(
        "auto",
        description="auto, efficientnet-lite0-texture, efficientnet-lite0, colour, or timm:NAME; auto is the "
        "first of them where its weights are installed, else colour",
    )
    penalties: tuple[float, ...] = Field(
        (0.003, 0.01, 0.03),
        description="C of the logistic regression is chosen among these on left-out groups",
    )
    network: str = Field(
        "cnn",
        description="trunk of method network: cnn (the paper's), resnet18, efficientnet_b0, "
        "vit_base_patch16_224, "
        "vit_tiny_patch16_224 or any of timm",
    )
    weights: str | None = Field(
        None, description="file of ImageNet weights for a timm network; null draws them, which learns little"
    )
    head: LinearOrHead = Field(
        "linear",
        description="what turns a network's features into classes; linear is one layer; any other shared "
        "module, such as kan(grid=5), takes its place",
    )
    input_size: int = Field(224, ge=32, le=1024, description="side that a trained network sees")


class FineTuning(TrainingConfig):
    """How a network is trained."""

    epochs: int = Field(20, ge=1, le=100_000, description="passes over the training photos, at most")
    lr: float = Field(3e-4, gt=0, le=10, description="learning rate of the head")
    trunk_lr: float = Field(3e-5, gt=0, le=10, description="learning rate of a pretrained trunk")
    weight_decay: float = Field(0.05, ge=0, le=10, description="weight decay of the optimiser")
    patience: int = Field(
        5, ge=0, description="epochs without a better validation before training stops; 0 never"
    )
    schedule: Literal["cosine", "constant"] = Field("cosine", description="learning rate over all epochs")
    optimiser: Literal["adamw", "adam"] = Field("adamw", description="the paper: adam")
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="smoothing of the labels of classes")
    crop: float = Field(0.6, gt=0, le=1, description="least area of the random crop; the paper: 1")
    rotation: float = Field(15.0, ge=0, le=180, description="largest random turn in degrees")


class AnswerConfig(Section):
    """What is said of photos."""

    reject: bool = Field(True, description="give no class to photos that are no soil or like none known")
    occlusion: bool = Field(
        False, description="draw what part of each photo speaks for its class; wants --files"
    )
    patches: int = Field(8, ge=2, le=32, description="patches a side of the occlusion map")


class SoilImageConfig(TaskConfig):
    """Everything that a run of the soil classifier can be told."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "quick": {"simulator": {"sites": 28, "fields": 2}},
        "check": {
            "simulator": {"sites": 21, "fields": 2, "photos": 1, "distractors": 0.1},
            "model": {"features": "colour", "penalties": (0.01,)},
        },
        "published": {
            "model": {"method": "network", "network": "cnn"},
            "training": {
                **{"epochs": 15, "lr": 1e-3, "trunk_lr": 1e-3, "weight_decay": 0.0, "patience": 0},
                **{"schedule": "constant", "optimiser": "adam", "label_smoothing": 0.0, "crop": 1.0},
            },
        },
        "fine-tune": {"model": {"method": "network", "network": "efficientnet_b0"}},
    }

    data: DataConfig = DataConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    model: ModelConfig = ModelConfig()
    training: FineTuning = FineTuning()
    answer: AnswerConfig = AnswerConfig()
