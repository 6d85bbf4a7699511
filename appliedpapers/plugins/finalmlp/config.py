"""The options of a click-through-rate run and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from appliedpapers.core.config import Section, TaskConfig
from appliedpapers.core.features.fields import FieldSpec
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.nn.spec import HeadSpec

BaselineName = Literal["click-rate", "logistic-regression", "lightgbm", "xgboost"]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)


class SimulatorConfig(Section):
    """The embedded click log (data card ``simulated-clicks``)."""

    variant: Literal["default", "additive", "cold", "drift", "rare", "hard"] = Field(
        "default", description="named changes of the options below; options that are given win"
    )
    rows: int | None = Field(None, ge=2_000, le=50_000_000, description="impressions; null is 200,000")
    days: int | None = Field(None, ge=1, le=60, description="length of the log; null is 10")
    users: int | None = Field(None, ge=100, le=1_000_000, description="number of users; null is 1,000")
    items: int | None = Field(None, ge=50, le=1_000_000, description="number of items; null is 500")
    cold_users: float | None = Field(None, ge=0, le=0.5, description="share of users born late; null: 0.1")
    cold_items: float | None = Field(None, ge=0, le=0.5, description="share of items born late; null: 0.15")
    diurnal: bool = Field(False, description="traffic follows the hour of the day")
    click_rate: float | None = Field(None, ge=0.001, le=0.5, description="mean probability; null: 0.2")
    main: float | None = Field(None, ge=0, le=2, description="scale of the additive part; null: 0.7")
    inter: float | None = Field(None, ge=0, le=3, description="scale of pairwise products; null: 1.6")
    tri: float | None = Field(None, ge=0, le=2, description="scale of the product of three; null: 0.5")
    drift: float | None = Field(None, ge=0, le=2, description="scale of change over time; null: 0.4")

    def options(self) -> dict[str, Any]:
        """Return the options that were given."""
        given = self.model_dump(exclude={"variant"})
        return {name: value for name, value in given.items() if value is not None}


class DataConfig(Section):
    """What the columns are for, how rows are cut into train, valid and test, and how they are read."""

    fields: Mapping[str, FieldSpec] = Field(
        {}, description="role of each column; empty infers them, apps data describe writes them to a file"
    )
    label: str | None = Field(
        None,
        description="name of the 0/1 column, where roles are inferred; null looks for one",
        json_schema_extra={"flag": "--label"},
    )
    split: Literal["auto", "time", "column", "group", "random"] = Field(
        "auto", description="auto: by the split column, else by time, else by group, else at random"
    )
    shares: tuple[float, float, float] = Field((0.8, 0.1, 0.1), description="shares of train, valid and test")
    streaming: Literal["auto", "on", "off"] = Field(
        "auto", description="encode to disk and train from there; auto does so from 5 million rows"
    )
    gauc: str = Field(
        "auto", description="column within which rows are ranked for gauc; auto: the group column, else users"
    )
    shuffle_buffer: int = Field(
        1_000_000, ge=1_000, le=1_000_000_000, description="streaming: rows that are shuffled at a time"
    )
    simulator: SimulatorConfig = SimulatorConfig()

    @field_validator("streaming", mode="before")
    @classmethod
    def _words_stay_words(cls, value: object) -> object:
        # YAML takes on and off for truth
        return ("on" if value else "off") if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _shares_are_a_partition(self) -> Self:
        if min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError("'shares' of train, valid and test are positive and sum to 1")
        return self


class StreamConfig(Section):
    """One of the two streams."""

    hidden: tuple[int, ...] = Field((128,), min_length=1, description="widths of the layers")
    dropout: float = Field(0.4, ge=0, lt=1, description="share of units dropped while training")
    batch_norm: bool = Field(True, description="batch normalisation before each rectification")
    block: HeadSpec = Field(
        "mlp",
        description="layers of the stream; mlp is the paper's; any other shared module, such as kan(grid=5), "
        "takes its place",
    )

    @model_validator(mode="after")
    def _widths_are_positive(self) -> Self:
        if min(self.hidden) < 1:
            raise ValueError("'hidden' holds widths of at least 1")
        return self


class ModelConfig(Section):
    """The network of arXiv 2304.00902 and our options."""

    leave_out: tuple[str, ...] = Field((), description="input columns that the model does without")
    dim: int = Field(10, ge=1, le=1024, description="size of an embedding (d)")
    stream1: StreamConfig = StreamConfig()
    stream2: StreamConfig = StreamConfig()
    gate: bool = Field(True, description="stream-specific feature gates; false and fusion sum is DualMLP")
    context1: Literal["auto"] | tuple[str, ...] = Field(
        "auto", description="context fields of the first gate; auto takes those named after users; [] none"
    )
    context2: Literal["auto"] | tuple[str, ...] = Field(
        "auto", description="context fields of the second gate; auto takes those named after items"
    )
    gate_hidden: tuple[int, ...] = Field((128,), description="widths of the gates' hidden layers")
    fusion: Literal["bilinear", "sum"] = Field("bilinear", description="sum leaves the products out")
    heads: int = Field(4, ge=1, description="heads of the fusion; divides the last widths of both streams")
    oov_dropout: Literal["auto"] | float = Field(
        "auto",
        description="share of tokens trained as never seen; auto: the best of 0, 0.02, 0.05 and 0.1 on valid",
    )
    ensemble: int = Field(1, ge=1, le=50, description="networks of different seeds, logits averaged")
    blend: Literal["none", "lightgbm"] = Field(
        "none", description="add a boosted-tree model with the share that fits valid best"
    )
    calibration: Literal["auto", "none", "platt", "isotonic", "temperature"] = Field(
        "auto", description="fitted on valid; auto is isotonic from 5,000 rows with 500 positives, else platt"
    )

    onnx: bool = Field(
        False, description="write the network as ONNX into the bundle, too, and check its answers"
    )

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        widths = self.stream1.hidden[-1], self.stream2.hidden[-1]
        if self.fusion == "bilinear" and any(width % self.heads for width in widths):
            raise ValueError(
                f"'heads' {self.heads} must divide the last widths of both streams, "
                f"{widths[0]} and {widths[1]}"
            )
        if self.oov_dropout != "auto" and not 0 <= self.oov_dropout < 1:
            raise ValueError("'oov_dropout' is auto or a share from 0 to below 1")
        return self


class CascadeConfig(Section):
    """A cheap model first, the network on the rows where it is unsure (arXiv 2311.05185)."""

    weak: Literal["none", "lightgbm", "logistic-regression"] | HeadSpec = Field(
        "none",
        description="the cheap model; a shared module, such as kan(grid=5), reads the same encoded rows",
    )
    strong_share: Literal["auto"] | float = Field(
        "auto", description="share of rows for the network; auto: the smallest within tolerance of the best"
    )
    tolerance: float = Field(0.001, ge=0, description="AUC on valid that may be given up for fewer rows")


class FinalMlpTraining(TrainingConfig):
    """Adam on the cross-entropy; the learning rate falls after an epoch that is no better."""

    epochs: int = Field(30, ge=1, le=100_000, description="passes over the training data, at most")
    batch_size: int = Field(2048, ge=2, le=10_000_000, description="rows a step (per process)")
    lr_decay: float = Field(
        0.1, gt=0, le=1, description="factor on the learning rate after an epoch that is no better"
    )
    patience: int = Field(
        2, ge=0, le=100_000, description="such epochs in a row before training stops; 0 never"
    )
    gradient_clip: float | None = Field(
        10.0, gt=0, allow_inf_nan=False, description="largest norm of the gradient; null leaves it as it is"
    )
    monitor: Literal["auc", "auc-logloss"] = Field(
        "auc", description="what an epoch is judged by on valid: AUC, or AUC minus logloss"
    )
    embedding_l2: float = Field(0.05, ge=0, description="penalty on tables and gate tables (lambda_e)")
    net_l2: float = Field(0.0, ge=0, description="penalty on all other weights (lambda_n)")
    l2: Literal["auto", "dense", "batch_rows"] = Field(
        "auto", description="whole tables, or the rows of the batch; auto is dense below 5 million rows"
    )
    positive_weight: float = Field(1.0, gt=0, le=1e6, description="weight of a positive row in the loss")


def _paper(
    *,
    dim: int = 10,
    embedding_l2: float,
    streams: tuple[Mapping[str, Any], Mapping[str, Any]],
    heads: int,
    contexts: tuple[tuple[str, ...], tuple[str, ...]] | None = ((), ()),
    gate_hidden: tuple[int, ...] = (800,),
    batch_size: int = 4096,
) -> dict[str, Any]:
    first, second = contexts or ((), ())
    return {
        "model": {
            "dim": dim,
            "stream1": streams[0],
            "stream2": streams[1],
            "gate": contexts is not None,
            "context1": first,
            "context2": second,
            "gate_hidden": gate_hidden,
            "heads": heads,
            "oov_dropout": 0.0,
        },
        "training": {"epochs": 100, "batch_size": batch_size, "embedding_l2": embedding_l2, "l2": "dense"},
    }


def _stream(*hidden: int, dropout: float, batch_norm: bool = True) -> dict[str, Any]:
    return {"hidden": hidden, "dropout": dropout, "batch_norm": batch_norm}


_FRAPPE = _paper(
    embedding_l2=0.05,
    streams=(_stream(400, dropout=0.4), _stream(100, dropout=0.4)),
    contexts=(("user",), ("item",)),
    gate_hidden=(400,),
    heads=5,
)
# the sizes that the paper settled on for a log of this kind, with whatever users and items are called
_ANY = {**_FRAPPE, "model": {**_FRAPPE["model"], "context1": "auto", "context2": "auto"}}
_MOVIELENS = _paper(
    embedding_l2=0.01, streams=(_stream(400, dropout=0.4), _stream(800, dropout=0.2)), heads=10
)
_CRITEO_X1 = _paper(
    embedding_l2=1e-5,
    streams=(_stream(400, 400, 400, dropout=0.2), _stream(1000, dropout=0.3)),
    contexts=(tuple(f"I{number}" for number in range(1, 14)), ("C6",)),
    heads=200,
)
_AVAZU_X1 = _paper(
    embedding_l2=0.05, streams=(_stream(400, 400, 400, dropout=0.3), _stream(800, dropout=0.3)), heads=10
)
_CRITEO_X4 = _paper(
    dim=16,
    embedding_l2=1e-5,
    streams=(
        _stream(*[1000] * 5, dropout=0.2, batch_norm=False),
        _stream(500, dropout=0.1, batch_norm=False),
    ),
    contexts=None,
    heads=50,
    batch_size=10_000,
)
_AVAZU_X4 = _paper(
    dim=16,
    embedding_l2=1e-9,
    streams=(_stream(*[2000] * 3, dropout=0.0), _stream(500, dropout=0.0, batch_norm=False)),
    contexts=None,
    heads=20,
    batch_size=10_000,
)


_BEST: dict[str, Any] = {"model": {"ensemble": 3, "blend": "lightgbm"}}


class FinalMlpConfig(TaskConfig):
    """Everything that a click-through-rate run can be told."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "quick": {
            "data": {"simulator": {"rows": 20_000, "users": 300, "items": 150}},
            "model": {
                "stream1": {"hidden": (64,)},
                "stream2": {"hidden": (64,)},
                "gate_hidden": (32,),
                "oov_dropout": 0.0,
            },
            "training": {"epochs": 4, "batch_size": 512},
            "baselines": ("click-rate", "logistic-regression", "lightgbm"),
        },
        "best": _BEST,
        "published": _ANY,
        "frappe_x1": _FRAPPE,
        "frappe_best": {**_FRAPPE, "model": {**_FRAPPE["model"], **_BEST["model"]}},
        "movielenslatest_x1": _MOVIELENS,
        "criteo_x1": _CRITEO_X1,
        "avazu_x1": _AVAZU_X1,
        "criteo_x4": _CRITEO_X4,
        "avazu_x4": _AVAZU_X4,
    }
    dataset_presets: ClassVar[Mapping[str, str]] = {
        "frappe": "frappe_x1",
        "movielens": "movielenslatest_x1",
        "criteo": "criteo_x1",
        "criteo-tiny": "criteo_x1",
        "avazu": "avazu_x1",
        "avazu-tiny": "avazu_x1",
    }

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: FinalMlpTraining = FinalMlpTraining()
    cascade: CascadeConfig = CascadeConfig()
    baselines: tuple[BaselineName, ...] = Field(BASELINES, description="models that ours is compared with")
    baseline_rows: int = Field(
        2_000_000, ge=1_000, description="train rows that a baseline is fitted on, at most; drawn at random"
    )
    without: tuple[str, ...] = Field(
        (), description="fields that ours and LightGBM are fitted once more without, in rows of their own"
    )
    suspects: bool = Field(
        True, description="do the same without the columns that a published dataset is suspected of"
    )

    @model_validator(mode="after")
    def _onnx_holds_networks_alone(self) -> Self:
        if self.model.onnx and (self.model.blend != "none" or self.cascade.weak != "none"):
            raise ValueError("'model.onnx' goes with 'model.blend: none' and 'cascade.weak: none' alone")
        return self
