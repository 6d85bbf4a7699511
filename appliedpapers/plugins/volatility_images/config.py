"""The options of a volatility run and their presets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from appliedpapers.core.config import Section, TaskConfig
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.nn.spec import HeadSpec

Format = Literal["auto", "seconds", "binance-ws", "l2-frame", "l3-events", "taq", "trades"]
Direction = Literal["auto", "given", "prevailing", "snapshot"]
ZeroTargets = Literal["drop", "drop-all", "floor"]
NetworkKind = Literal["cnn", "resnet18", "convmixer", "mlp", "raw-mlp"]
Loss = Literal["qlike", "log-mse", "rmspe"]
BaselineName = Literal[
    "zero",
    "best-constant",
    "train-mean",
    "naive",
    "ewma",
    "har",
    "har-weighted",
    "log-har",
    "har+flow",
    "har-weighted+flow",
    "log-har+flow",
    "qlike-har+flow",
    "garch",
    "lightgbm",
    "mlp",
]

BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
_CLOCK = re.compile(r"([01]\d|2[0-4]):([0-5]\d)")


class SimulatorConfig(Section):
    """Size and rates of the embedded order book."""

    sessions: int = Field(2, ge=1, le=1000, description="sessions; the last one tests where there are two")
    seconds: int = Field(7200, ge=300, le=86_400, description="seconds of each session")
    dt: float = Field(
        0.1, gt=0, le=1, description="seconds of a step; a whole number of steps makes a second"
    )
    mid: int = Field(10_000, ge=1000, le=10_000_000, description="first mid price, ticks")
    tick: float = Field(0.01, gt=0, le=1000, description="price of a tick")
    mu0: float = Field(0.12, gt=0, le=100, description="market orders a second and side at the calmest hour")
    lambda1: float = Field(
        0.5, gt=0, le=100, description="limit orders a second one tick from the other side"
    )
    theta: float = Field(0.12, gt=0, le=10, description="cancellations a second of each resting lot")
    n_same: float = Field(0.3, ge=0, lt=1, description="children of a market order on its own side")
    n_cross: float = Field(0.1, ge=0, lt=1, description="children of a market order on the other side")
    tau: tuple[float, float, float] = Field(
        (900.0, 400.0, 180.0), description="mean seconds of a calm, a normal and a stressed regime"
    )
    futures: int = Field(
        40, ge=0, le=10_000, description="futures simulated from each test anchor for the oracle; 0: none"
    )

    @model_validator(mode="after")
    def _stable(self) -> Self:
        if self.n_same + self.n_cross >= 1:
            raise ValueError("n_same + n_cross must stay below 1: each order would start an avalanche")
        return self


class ColumnsConfig(Section):
    """Names of the columns of a file."""

    time: str = Field(
        "time",
        min_length=1,
        description="column with the time; without one of that name, one called timestamp or the like",
    )


class DataConfig(Section):
    """How feeds are read, cleaned, cut into windows and split."""

    format: Format = Field("auto", description="what the files are; auto looks at them")
    columns: ColumnsConfig = ColumnsConfig()
    hours: tuple[str, str] | None = Field(
        None,
        description="first and last clock time of a session in UTC, such as [14:30, 21:00]; null: all day",
    )
    price: Literal["mid", "wap"] = Field(
        "mid", description="price that returns are of: mid, or size-weighted"
    )
    tick: float | None = Field(
        None, gt=0, description="smallest step of the price; null reads it off the book"
    )
    window: int = Field(60, ge=5, le=86_400, description="seconds that are forecast (W)")
    windows: tuple[int, ...] = Field(
        (60, 300, 1800), description="seconds of past realised volatility that HAR and features look at"
    )
    stride: int = Field(10, ge=1, le=86_400, description="seconds between anchors of train and predict")
    test_stride: int = Field(20, ge=1, le=86_400, description="seconds between anchors of the test part")
    zero_targets: ZeroTargets = Field(
        "drop",
        description="windows without movement: drop leaves them out of RMSPE and of training, drop-all "
        "out of every metric, floor keeps them at the floor",
    )
    direction: Direction = Field(
        "auto",
        description="side of trades: given by the feed, prevailing (against the quote before, ties by tick "
        "rule), snapshot (against the mid at the second's end); auto takes what is given, else snapshot",
    )
    auctions: Literal["drop", "keep"] = Field(
        "drop", description="opening, closing and crossing prints in the flow"
    )
    market: Literal["spot", "usdm", "coinm"] = Field("spot", description="kind of a binance-ws feed")
    before_snapshot: Literal["replay", "drop"] = Field(
        "replay",
        description="updates that arrived before the snapshot and are newer than it: applied, or left out",
    )
    symbol: str | None = Field(
        None, description="the one symbol to read of files that mix several; null where they hold one"
    )
    max_gap: int = Field(
        5, ge=1, le=3600, description="seconds without a book that are bridged by the last one"
    )
    crossed: Literal["repair", "error"] = Field(
        "repair", description="books whose bid is not below the ask: repaired and counted, or refused"
    )
    on_gap: Literal["count", "error"] = Field(
        "count", description="gaps in sequence numbers: counted and cut at, or refused"
    )
    protocol: Literal["holdout", "walk-forward"] = Field(
        "holdout", description="test on the last session, or on each session after those before it"
    )
    valid_share: float = Field(0.15, gt=0, lt=0.5, description="share of the train period to choose on")
    valid_blocks: int = Field(4, ge=1, le=50, description="blocks of time that it is spread over")
    embargo: int = Field(0, ge=0, le=86_400, description="further seconds kept free behind each valid block")
    simulator: SimulatorConfig = SimulatorConfig()

    @field_validator("hours")
    @classmethod
    def _hours(cls, hours: tuple[str, str] | None) -> tuple[str, str] | None:
        if hours is not None:
            if not all(_CLOCK.fullmatch(hour) for hour in hours):
                raise ValueError("hours are two clock times such as '14:30'")
            if clock_seconds(hours[0]) >= clock_seconds(hours[1]):
                raise ValueError("hours end after they begin; split nights into two sessions")
        return hours

    @field_validator("windows")
    @classmethod
    def _windows(cls, windows: tuple[int, ...]) -> tuple[int, ...]:
        if len(windows) != 3 or any(one < 5 for one in windows) or sorted(set(windows)) != list(windows):
            raise ValueError("windows are three rising lengths of at least 5 seconds")
        return windows


class ImageConfig(Section):
    """The image of the order flow before an anchor."""

    seconds: int = Field(60, ge=8, le=3600, description="columns: seconds before the anchor (T)")
    rows: int = Field(64, ge=8, le=1024, description="rows: price steps around the last mid (P), even")
    bin: int | Literal["auto"] = Field(
        1, description="ticks a row; auto takes the fewest that hold 99 % of the train trades"
    )
    rgb: bool = Field(False, description="three channels: buys, depth of both sides, sells; else four")
    trace: bool = Field(False, description="one more channel: the mid's path and the band of the spread")
    basis_points: float | None = Field(
        None, gt=0, description="rows of so many basis points of the last mid instead of ticks; null: ticks"
    )

    @field_validator("rows")
    @classmethod
    def _even(cls, rows: int) -> int:
        if rows % 2:
            raise ValueError("rows must be even: half of them lie below the mid")
        return rows

    @field_validator("bin")
    @classmethod
    def _positive(cls, size: int | str) -> int | str:
        if isinstance(size, int) and not 1 <= size <= 100_000:
            raise ValueError("bin is a number of ticks from 1 to 100000, or auto")
        return size

    @property
    def channels(self) -> int:
        """How many channels an image has."""
        return (3 if self.rgb else 4) + self.trace


class ModelConfig(Section):
    """The network; arXiv 2304.02472 names its kinds, everything else is ours."""

    network: NetworkKind = Field("cnn", description="what sees the image; mlp sees the features alone")
    features: bool = Field(True, description="give the hand-crafted features to the network as well (aggr)")
    widths: tuple[int, int, int] = Field((12, 24, 48), description="channels of the three layers of cnn")
    mixer: tuple[int, int, int, int] = Field(
        (64, 4, 5, 4), description="dim, depth, kernel and patch of convmixer"
    )
    head: HeadSpec = Field(
        "mlp",
        description="what turns pooled image and features into the forecast; mlp is one hidden layer of 32; "
        "any other shared module, such as kan(grid=5), takes its place",
    )
    dropout: float = Field(
        0.2, ge=0, lt=1, description="share of units before the head dropped while training"
    )
    loss: Loss = Field("qlike", description="what is minimised; rmspe is kept for comparison and warns")
    skip: Literal["linear", "none"] = Field(
        "linear",
        description="linear: start from a linear forecast on the features, fitted by QLIKE, and learn what "
        "it misses; none: the network alone, as in the paper",
    )
    seeds: int = Field(
        3, ge=1, le=50, description="networks of different seeds, each shown, their mean is used"
    )
    smearing: Literal["auto", "on", "off"] = Field(
        "auto", description="turn the forecast of a log model into one of the mean; auto: for log-mse alone"
    )
    level: int = Field(90, ge=50, le=99, description="nominal coverage of the interval, percent")
    onnx: bool = Field(False, description="write the first network as ONNX into the bundle, too")


class VolatilityTraining(TrainingConfig):
    """Settings of AdamW."""

    epochs: int = Field(20, ge=1, le=100_000, description="passes over the training data, at most")
    weight_decay: float = Field(1e-3, ge=0, le=10, description="weight decay of the optimiser")
    patience: int = Field(
        5, ge=0, le=100_000, description="epochs without a better validation before training stops; 0 never"
    )
    gradient_clip: float | None = Field(
        1.0, gt=0, allow_inf_nan=False, description="largest norm of the gradient; null leaves it as it is"
    )


class OutputConfig(Section):
    """What ``predict`` writes beside its table."""

    images: Literal["none", "npz", "png"] = Field(
        "none", description="save the image behind each forecast: raw sizes as npz, or a picture"
    )


_SMALL = {"simulator": {"sessions": 2, "seconds": 4200, "futures": 20}}
_RGB240 = {"seconds": 240, "rows": 240, "rgb": True}


class VolatilityConfig(TaskConfig):
    """Everything that a volatility run can be told."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "quick": {"data": _SMALL, "model": {"seeds": 1}, "training": {"epochs": 3}},
        "check": {
            "data": {
                "simulator": {"sessions": 3, "seconds": 900, "futures": 5},
                "window": 20,
                "windows": (20, 60, 120),
            },
            "image": {"seconds": 20, "rows": 16},
            "model": {"seeds": 1, "widths": (4, 8, 8)},
            "training": {"epochs": 1},
            "baselines": ("zero", "best-constant", "train-mean", "naive", "har", "log-har+flow"),
        },
        "published": {
            "image": _RGB240,
            "model": {"skip": "none", "widths": (32, 64, 128)},
        },
        "rgb240": {"image": _RGB240},
        "convmixer-gpu": {"model": {"network": "convmixer", "mixer": (256, 8, 9, 7)}},
        "taq-equity": {"data": {"test_stride": 10, "zero_targets": "drop-all"}},
        "binance-spot": {
            "data": {
                "window": 10,
                "windows": (10, 30, 60),
                "test_stride": 10,
                "stride": 5,
                "valid_blocks": 1,
            },
            "image": {"bin": "auto"},
            "model": {"seeds": 1},
        },
    }
    dataset_presets: ClassVar[Mapping[str, str]] = {
        "taq-equity": "taq-equity",
        "binance-spot": "binance-spot",
    }

    data: DataConfig = DataConfig()
    image: ImageConfig = ImageConfig()
    model: ModelConfig = ModelConfig()
    training: VolatilityTraining = VolatilityTraining()
    output: OutputConfig = OutputConfig()
    baselines: tuple[BaselineName, ...] = Field(
        BASELINES, description="models that ours is compared with; zero, best-constant and naive always are"
    )

    @field_validator("baselines")
    @classmethod
    def _with_the_rules(cls, names: tuple[BaselineName, ...]) -> tuple[BaselineName, ...]:
        """Keep the rules that unmask a score: RMSPE without them misleads."""
        always: tuple[BaselineName, ...] = ("zero", "best-constant", "naive")
        return tuple(dict.fromkeys((*always, *names)))


def clock_seconds(text: str) -> int:
    """Return seconds after midnight of a clock time such as ``14:30``."""
    hours, minutes = text.split(":")
    return 3600 * int(hours) + 60 * int(minutes)


def hours_of(data: DataConfig) -> tuple[int, int]:
    """Return the seconds after midnight UTC between which a session lies; the whole day by default."""
    if data.hours is None:
        return 0, 86_400
    return clock_seconds(data.hours[0]), clock_seconds(data.hours[1])
