"""The options of a forecasting run and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator

from appliedpapers.core.config import Section, TaskConfig
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.nn.spec import HeadSpec

Protocol = Literal["auto", "ltsf-zscore", "authors-minmax", "rolling"]
BaselineName = Literal["last-value", "seasonal-naive", "nlinear", "dlinear", "ridge-nlinear", "lightgbm"]

BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)


class ColumnsConfig(Section):
    """Names of the columns of a long file."""

    id: str = Field("unique_id", min_length=1, description="column with the name of the series")
    ds: str = Field("ds", min_length=1, description="date column; in a wide file the first one where absent")
    y: str = Field("y", min_length=1, description="column with the value")


class SimulatorConfig(Section):
    """Size and faults of the embedded dataset."""

    series: int = Field(8, ge=1, le=10_000, description="number of simulated series")
    steps: int = Field(17_520, ge=48, le=10_000_000, description="hourly steps of each")
    level_shift: bool = Field(False, description="shift the level of some series")
    missing: bool = Field(False, description="take 1 % of the values away")
    sentinel: bool = Field(False, description="write -9999 in place of some values")
    duplicated_hour: bool = Field(False, description="repeat an hour, as local clocks do in autumn")
    outliers: bool = Field(False, description="add outliers of 8 sigma")


class DataConfig(Section):
    """How files are read, and how the history is cut into train, valid and test."""

    layout: Literal["auto", "long", "wide", "headless"] = Field(
        "auto", description="how series are arranged in a file"
    )
    columns: ColumnsConfig = ColumnsConfig()
    date_format: str | None = Field(
        None, description="strptime format of the dates; null reads ISO 8601 and unambiguous common forms"
    )
    freq: str | None = Field(
        None,
        description="step of the series as a pandas offset alias (h, D, B, W-TUE, MS); null infers it",
        json_schema_extra={"flag": "--freq"},
    )
    start: str | None = Field(
        None,
        description="timestamp of the first row of a file without dates; null wants a date column",
        json_schema_extra={"flag": "--start"},
    )
    sentinels: Literal["auto", "keep"] | tuple[float, ...] = Field(
        "auto", description="values that stand for missing ones: auto, keep (none), or a list such as [-9999]"
    )
    impute: Literal["ffill", "linear", "seasonal"] | None = Field(
        None, description="how gaps inside a series are filled; null leaves windows with gaps out"
    )
    season: int | None = Field(
        None, ge=1, description="steps of a season; null takes a day, a week or a year by the step"
    )
    exogenous: Literal["refuse", "drop"] = Field(
        "refuse", description="what to do with further columns of a long file; FreTS has no use for them"
    )
    protocol: Protocol = Field(
        "auto", description="split and scaling; auto is rolling for your own data and else ltsf-zscore"
    )
    n_windows: int | None = Field(
        None, ge=1, description="rolling: test cutoffs; null takes as many as a fifth of the history holds"
    )
    step: int | None = Field(
        None, ge=1, description="rolling: rows between test cutoffs; null takes a quarter of the horizon"
    )
    simulator: SimulatorConfig = SimulatorConfig()


class ModelConfig(Section):
    """The network of arXiv 2311.06184, section 3, and our options."""

    lookback: int = Field(336, ge=2, le=100_000, description="steps that a forecast looks back on (L)")
    horizon: int = Field(96, ge=1, le=100_000, description="steps that are forecast at once (H)")
    embed_dim: int = Field(16, ge=1, le=4096, description="width of the embedding (D)")
    hidden: int = Field(128, ge=1, le=65_536, description="width of the hidden layer of the head")
    channel_mixing: bool = Field(False, description="learn across the series, too")
    mixing: Literal["diagonal", "full"] = Field(
        "diagonal", description="full is the formula of the paper, diagonal what its figures were made with"
    )
    sparsity: float = Field(0.01, ge=0, description="threshold of the soft shrinkage (lambda)")
    init_scale: float = Field(0.02, gt=0, description="scale of the first weights")
    instance_norm: bool = Field(
        True, description="normalise each window and undo it on the forecast; not in the paper"
    )
    dropout: float = Field(0.3, ge=0, lt=1, description="share of hidden units dropped while training")
    skip: Literal["none", "linear"] = Field(
        "linear",
        description="linear: start from the ridge map from lookback to horizon and learn what it misses; "
        "none: the network alone, as in the paper",
    )
    head: HeadSpec = Field(
        "mlp",
        description="what turns the spectrum's answer into the forecast; mlp is the paper's; any other "
        "shared "
        "module, such as kan(grid=5), takes its place",
    )
    ensemble: int = Field(
        1, ge=1, le=100, description="networks of different seeds whose forecasts are averaged"
    )


class FretsTraining(TrainingConfig):
    """Settings of Adam on the scaled mean squared error (arXiv 2311.06184 names none; these are ours)."""

    lr: float = Field(1e-4, gt=0, le=10, allow_inf_nan=False, description="learning rate of the first epoch")
    lr_decay: float = Field(0.5, gt=0, le=1, description="factor on the learning rate after every epoch")
    patience: int = Field(
        3, ge=0, le=100_000, description="epochs without a better validation before training stops; 0 never"
    )


class IntervalsConfig(Section):
    """Split conformal intervals."""

    levels: tuple[int, ...] = Field((80, 95), description="nominal coverage in percent")
    method: Literal["symmetric", "asymmetric"] = Field(
        "symmetric", description="quantiles of absolute residuals, or of both tails"
    )
    adaptive: bool = Field(False, description="adapt the level along the backtest")
    gamma: float = Field(0.02, gt=0, lt=1, description="rate of that adaptation")

    @field_validator("levels")
    @classmethod
    def _levels_are_percentages(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= level <= 99 for level in levels) or len(set(levels)) != len(levels):
            raise ValueError("levels are distinct whole percentages from 1 to 99")
        return tuple(sorted(levels))


# arXiv 2311.06184, section 4, and what public implementations run
_PAPER = {
    "lookback": 96,
    "embed_dim": 128,
    "hidden": 256,
    "instance_norm": False,
    "dropout": 0.0,
    "skip": "none",
}


class FretsConfig(TaskConfig):
    """Everything that a forecasting run can be told."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "quick": {
            "data": {"simulator": {"series": 4, "steps": 4032}},
            "model": {"lookback": 168, "horizon": 24},
            "training": {"epochs": 2, "lr": 3e-4},
        },
        "best": {
            "model": {"lookback": 512, "dropout": 0.5, "ensemble": 3},
            "training": {"epochs": 4},
        },
        "published": {"model": _PAPER, "training": {"lr": 1e-4}},
        "published-minmax": {
            "data": {"protocol": "authors-minmax"},
            "model": _PAPER,
            "training": {"lr": 1e-4, "batch_size": 8},
        },
    }

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: FretsTraining = FretsTraining()
    intervals: IntervalsConfig = IntervalsConfig()
    baselines: tuple[BaselineName, ...] = Field(BASELINES, description="models that ours is compared with")
