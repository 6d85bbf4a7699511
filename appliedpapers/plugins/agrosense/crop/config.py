"""The options of the crop recommender and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from appliedpapers.core.config import Section, TaskConfig
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.nn.spec import HeadSpec
from appliedpapers.plugins.agrosense.config import SimulatorConfig

FamilyName = Literal[
    "lightgbm", "xgboost", "mlp", "tabnet", "gaussian-nb", "logistic", "random-forest", "blend"
]


class DataConfig(Section):
    """How tables are read and split."""

    label: str | None = Field(
        None,
        description="column with the crop; null looks for label, crop and the like",
        json_schema_extra={"flag": "--label"},
    )
    group: str | None = Field(
        None,
        description="column whose rows stay on one side of a split, such as the farm; null looks for one",
        json_schema_extra={"flag": "--group-column"},
    )
    split: Literal["auto", "stratified", "groups"] = Field(
        "auto",
        description="stratified folds, or whole groups held out; auto takes groups where there are some, and "
        "for published tables what their figures are of",
    )
    folds: int = Field(5, ge=2, le=50, description="folds of a table; each row is judged once")
    weather: bool = Field(
        False, description="ethiopia: take its climate columns, too, which tell its 16 locations apart"
    )
    units: Mapping[str, str] = Field({}, description="units of columns whose header does not say them")


class ModelConfig(Section):
    """What learns, and how it is calibrated."""

    family: FamilyName = Field(
        "blend",
        description="what learns; blend weights lightgbm, mlp, gaussian-nb and logistic by what each says of "
        "rows that it has not seen",
        json_schema_extra={"flag": "--family"},
    )
    head: HeadSpec = Field(
        "mlp",
        description="network of family mlp; mlp is the paper's; any other shared module, such as "
        "kan(grid=5), takes its place",
    )
    hidden: tuple[int, ...] = Field((64, 64), description="hidden units of an mlp head; the paper: 64 and 64")
    trees: int = Field(200, ge=1, le=10_000, description="rounds of boosting, or trees of the forest")
    tree_rate: float = Field(0.1, gt=0, le=1, description="learning rate of boosting")
    leaves: int = Field(31, ge=2, le=1024, description="leaves of a tree of lightgbm")
    calibration: Literal["auto", "none", "temperature", "isotonic"] = Field(
        "auto", description="auto takes for trees what predicts better, for networks the temperature"
    )
    inner_folds: int = Field(
        3, ge=2, le=20, description="folds inside the training rows: for calibration, thresholds and novelty"
    )
    masked: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="where columns miss values: share of their numbers that a second copy of the rows "
        "loses in training, so that later gaps cost less; 0 adds no copy",
    )


class TabNetConfig(Section):
    """Size and training of TabNet (arXiv 1908.07442), with the values of its common implementation."""

    n_d: int = Field(8, ge=1, le=256, description="width of the decisions")
    n_a: int = Field(8, ge=1, le=256, description="width of the attention")
    steps: int = Field(3, ge=1, le=16, description="steps of attention")
    gamma: float = Field(1.3, ge=1, le=10, description="how often a feature may be looked at again")
    sparsity: float = Field(1e-3, ge=0, le=1, description="weight of the masks' entropy in the loss")
    virtual_batch: int = Field(128, ge=2, description="rows of a ghost batch of the normalisation")
    training: TrainingConfig = TrainingConfig(epochs=60, batch_size=256, lr=2e-2, patience=15)


class AnswerConfig(Section):
    """What is answered, and what is not."""

    risk: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="share of wrong answers that is borne; rows that cannot keep it get no advice",
        json_schema_extra={"flag": "--risk"},
    )
    alpha: float = Field(0.1, gt=0, lt=1, description="share of rows whose crop may lie outside the set")
    top: int = Field(3, ge=1, le=10, description="crops that are named in the text")
    explain: bool = Field(
        False,
        description="attributions of every row of a table; advice on a few values has them always",
        json_schema_extra={"flag": "--explain"},
    )


class FertiliserConfig(Section):
    """How deficits become products; see the page on agrosense."""

    density: float = Field(1.3, gt=0.1, le=2.5, description="bulk density of the soil, g/cm³")
    depth: float = Field(20.0, gt=0, le=200, description="depth of the sampled layer, cm")
    nitrogen_efficiency: float = Field(0.5, gt=0, le=1, description="share of the stock that a crop takes up")
    phosphorus_efficiency: float = Field(0.3, gt=0, le=1, description="share of the stock, likewise")
    potassium_efficiency: float = Field(0.6, gt=0, le=1, description="share of the stock, likewise")
    bag: float = Field(
        50.0, ge=0, le=1000, description="kg in a bag, to which rates are rounded; 0 rounds not"
    )
    products: tuple[str, ...] = Field(
        ("urea", "DAP", "MOP"), description="products at hand: urea DAP TSP SSP MOP SOP CAN NPK"
    )
    targets: str | None = Field(
        None, description="CSV with crop, yield, n, p2o5, k2o, source; null takes the illustrative table"
    )


class FusionConfig(Section):
    """Photos of soil beside the table."""

    images: bool = Field(False, description="read the photos of column 'image', where the table has one")
    kind: Literal["late", "mowst"] = Field(
        "late",
        description="late: the photo's soils stand beside the numbers of every row; mowst: the table answers "
        "first, and the photo is looked at only where the table is unsure",
    )
    looks: float = Field(0.5, ge=0, le=1, description="mowst: largest share of photos that is looked at")
    gate: Literal["monotone", "power", "mlp"] = Field(
        "monotone", description="mowst: form of the gate that says how sure the table is"
    )
    soil_model: str | None = Field(
        None, description="folder of a trained soil-image model; null trains one on the photos of the table"
    )
    eye: str = Field(
        "auto", description="what the reader looks at: auto, colour (quick) or features as in soil-image"
    )
    folds: int = Field(5, ge=2, le=20, description="folds of the reader: probabilities of rows not seen")
    dropped: float = Field(0.3, ge=0, lt=1, description="share of the photos that is dropped in training")
    hidden: tuple[str, ...] = Field((), description="simulator: columns of the soil test that are not given")


_FEW = {"sites": 6, "fields_from": 12, "fields_to": 18}


class CropConfig(TaskConfig):
    """Everything that a run of the crop recommender can be told."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "quick": {"simulator": {"sites": 16, "fields_from": 25, "fields_to": 40}, "model": {"trees": 60}},
        "check": {
            "simulator": _FEW,
            "model": {"trees": 8, "inner_folds": 2},
            "network": {"epochs": 3},
        },
        "published": {
            "model": {"family": "mlp", "calibration": "none"},
            "network": {"epochs": 50, "batch_size": 32, "lr": 1e-3},
        },
    }

    data: DataConfig = DataConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    model: ModelConfig = ModelConfig()
    network: TrainingConfig = TrainingConfig(epochs=50, batch_size=32, lr=1e-3)
    tabnet: TabNetConfig = TabNetConfig()
    answer: AnswerConfig = AnswerConfig()
    fertiliser: FertiliserConfig = FertiliserConfig()
    fusion: FusionConfig = FusionConfig()
