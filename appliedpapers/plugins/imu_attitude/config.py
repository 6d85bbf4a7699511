"""The options of an attitude run and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from appliedpapers.core.config import Section, TaskConfig
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.nn.spec import HeadSpec

Frame = Literal["ENU", "NED"]
AccUnit = Literal["m/s2", "g", "mg"]
GyrUnit = Literal["rad/s", "deg/s"]
TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
BaselineName = Literal[
    "filter",
    "vqf",
    "vqf-delay",
    "madgwick",
    "mahony",
    "ekf",
    "corrected-mean-10s",
    "mean-10s",
    "mean-5s",
    "mean-0.35s",
]

BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)


class ColumnsConfig(Section):
    """Names of the columns of a file; the first that is present counts where a list is given."""

    trial: str = Field("trial", min_length=1, description="column with the name of the recording")
    time: str = Field("time", min_length=1, description="column with the time")
    acc: tuple[str, str, str] = Field(("acc_x", "acc_y", "acc_z"), description="accelerometer columns")
    gyr: tuple[str, str, str] = Field(("gyr_x", "gyr_y", "gyr_z"), description="gyroscope columns")
    mag: tuple[str, str, str] = Field(("mag_x", "mag_y", "mag_z"), description="magnetometer columns")
    quat: tuple[str, str, str, str] = Field(
        ("quat_w", "quat_x", "quat_y", "quat_z"),
        description="columns of the reference, in the order of quat_order",
    )
    movement: str = Field("movement", min_length=1, description="column that says where the sensor moved")


class SimulatorConfig(Section):
    """Size and faults of the embedded dataset."""

    sequences: int = Field(24, ge=3, le=10_000, description="simulated recordings; 16 : 4 : 4 are split")
    seconds: float = Field(60.0, gt=1, le=36_000, description="length of each in seconds")
    fs: tuple[float, ...] = Field(
        (50.0, 100.0, 143.0, 200.0, 286.0), min_length=1, description="sampling rates in Hz, one is drawn"
    )
    noise: float = Field(
        1.0, ge=0, le=100, description="factor on all errors of the sensor; 0 is a perfect one"
    )
    jitter: float = Field(
        0.1, ge=0, lt=0.5, description="largest jitter of the time stamps, as a share of a step"
    )
    drops: float = Field(0.02, ge=0, lt=0.9, description="largest share of samples that are lost")
    taps: bool = Field(True, description="hit some of the sensors")


class DataConfig(Section):
    """What the columns of a file mean, how it is read, and how trials are split."""

    columns: ColumnsConfig = Field(ColumnsConfig(), json_schema_extra={"flag": "--columns"})
    fs: float | None = Field(
        None,
        gt=0,
        le=1e5,
        allow_inf_nan=False,
        description="sampling rate in Hz of files without a time column; null wants the column, which wins "
        "over it",
        json_schema_extra={"flag": "--fs"},
    )
    time_unit: TimeUnit = Field("auto", description="unit of the time column; auto reads it off its steps")
    acc_unit: AccUnit = Field("m/s2", description="unit of the accelerometer")
    gyr_unit: GyrUnit = Field("rad/s", description="unit of the gyroscope")
    acc_sign: Literal["specific-force", "gravity"] = Field(
        "specific-force",
        description="what the accelerometer shows at rest: specific-force points up, gravity points down",
    )
    frame: Frame = Field("ENU", description="earth frame of references that are read and of what is answered")
    quat_order: Literal["wxyz", "xyzw"] = Field("wxyz", description="order of the reference's columns")
    self_test: bool = Field(
        True, description="refuse units, signs and frames that contradict the first second at rest"
    )
    on_bad: Literal["error", "skip"] = Field(
        "error",
        description="what to do with missing or infinite readings: refuse them, or skip and flag them",
    )
    split: Literal["by-trial", "by-time"] = Field(
        "by-trial",
        description="how your own data are split; by-time cuts each trial in three, for one long recording",
    )
    valid_share: float = Field(0.2, gt=0, lt=0.9, description="share of your own trials to choose on")
    test_share: float = Field(0.2, gt=0, lt=0.9, description="share of your own trials to judge on")
    simulator: SimulatorConfig = SimulatorConfig()


class FilterConfig(Section):
    """The gravity filter: what the sensor's noises are like, and how the wearer moves."""

    delay: float | Literal["auto"] = Field(
        "auto",
        description="seconds by which readings lag behind the motion; the answer is carried on by them. auto "
        "fits them to the references of the training trials, and is 0 without any",
    )
    sampling: Literal["auto", "mean", "instant"] = Field(
        "auto",
        description="whether a gyroscope reading is the mean rate since the one before, as most chips give "
        "it, or the rate of its moment; auto is what fits the references better, and mean without any",
    )
    tune: bool = Field(False, description="fit the noises of the filter to the training trials, too")
    block: float = Field(0.05, gt=0, le=1, description="seconds between corrections of gravity")
    gap: float = Field(1.0, gt=0, description="seconds without a sample after which gravity is found anew")
    motion_hz: float = Field(
        0.47,
        gt=0,
        le=20,
        description="frequency in Hz below which a moving sensor comes back to where it was",
    )
    motion_damping: float = Field(1.1, gt=0, le=10, description="damping of that motion")
    noise_least: float = Field(0.11, gt=0, description="least noise of acceleration, m/s^2 root second")
    noise_most: float = Field(4.4, gt=0, description="largest noise of acceleration, m/s^2 root second")
    noise_memory: float = Field(20.0, gt=0, description="seconds over which that noise is watched")
    noise_rest: float = Field(0.005, gt=0, description="noise of acceleration at rest, m/s^2 root second")
    gyr_noise: float = Field(0.016, gt=0, description="angular random walk, degrees per root second")
    gyr_share: float = Field(3e-4, ge=0, description="random walk that grows with the rate, root second")
    bias_walk: float = Field(6e-4, ge=0, description="random walk of the bias, deg/s per root second")
    bias_start: float = Field(0.5, gt=0, description="standard deviation of the bias before any data, deg/s")
    bias_rest: float = Field(0.03, gt=0, description="noise of the bias measured at rest, deg/s")
    scale_error: float = Field(
        0.001, ge=0, le=0.1, description="standard deviation of the gyroscope's scale and cross-axis errors"
    )
    rest_tau: float = Field(
        0.5, gt=0, description="time constant in seconds of the means that rest is held against"
    )
    rest_gyr: float = Field(2.0, gt=0, description="largest deviation, and mean, of the rate at rest, deg/s")
    rest_acc: float = Field(0.5, gt=0, description="largest deviation of acceleration at rest, m/s^2")
    rest_seconds: float = Field(1.5, gt=0, description="seconds after which a quiet sensor is at rest")
    gravity: float = Field(9.81, gt=9.7, lt=9.9, description="gravity at the place, m/s^2")


class ModelConfig(Section):
    """What estimates the attitude."""

    kind: Literal["residual", "filter", "paper-a", "paper-b"] = Field(
        "residual",
        description="residual: filter and network; filter: alone; paper-a, paper-b: arXiv 2302.06037",
    )
    head: HeadSpec = Field(
        "mlp",
        description="what turns the last state into the correction; mlp is one hidden layer; any other "
        "shared "
        "module, such as kan(grid=5), takes its place",
    )
    seconds: float = Field(4.4, gt=0.2, le=60, description="window of the network in seconds")
    rate: float = Field(5.0, gt=0, le=200, description="answers of the network in Hz")
    base: Literal["filter", "window-mean"] = Field(
        "filter",
        description="what the network corrects: the filter, or the mean acceleration of its own window",
    )
    shares: tuple[float, ...] = Field(
        (0.0, 0.25, 0.5, 1.0),
        min_length=1,
        description="shares of the network's correction that held-out trials choose from; 0 drops it",
    )
    folds: int = Field(3, ge=2, le=20, description="parts of the trials that are held out in turn to choose")
    limit_deg: float = Field(5.0, gt=0, le=45, description="largest correction of the network in degrees")
    onnx: bool = Field(
        False, description="write the residual network as ONNX into the bundle, for windows and for steps"
    )
    width: float = Field(1.0, gt=0, le=4, description="factor on every hidden size of the paper's models")
    target: Literal["centre", "last"] = Field(
        "last",
        description="sample of a window that the paper's models answer for; centre is the paper, and late",
    )
    loss: Literal["up", "l1-trunc"] = Field("up", description="l1-trunc is the paper's")
    random_rotation: bool = Field(
        True,
        description="turn the sensor at random in every training window of the paper's models; the paper "
        "does not",
    )
    upright: bool = Field(
        False,
        description="turn each window of the paper's models so that its mean acceleration, carried along the "
        "gyroscope, is along z, and start from that answer; random_rotation is then about z alone. The paper "
        "does not",
    )
    input_noise: float | None = Field(
        None,
        ge=0,
        description="standard deviation of noise on the inputs of the paper's models while they train, in "
        "m/s^2 and rad/s; null is as published: none for paper-a, 0.25 for paper-b",
    )
    smooth: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="seconds over which answers of the paper's models are averaged along the gyroscope; 0 is "
        "the paper",
    )
    average: int = Field(
        1,
        ge=1,
        le=10_000,
        description="samples averaged into one before the paper's models: windows then reach further back",
    )
    window: int = Field(100, ge=20, le=100_000, description="samples of a window of the paper's models")
    stride: int = Field(4, ge=1, le=10_000, description="samples between windows of the paper's models")


class AttitudeConfig(TaskConfig):
    """Everything that an attitude run can be told."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "quick": {
            "data": {"simulator": {"sequences": 6, "seconds": 20.0}},
            "training": {"epochs": 2},
        },
        # two minutes on one core for six trials of three minutes at 286 Hz
        "paper-quarter": {
            "model": {"kind": "paper-a", "width": 0.25, "average": 5, "stride": 6, "upright": True},
            "training": {
                "epochs": 5,
                "batch_size": 128,
                "lr": 2e-3,
                "lr_decay": 0.5,
                "weight_decay": 0.0,
                "gradient_clip": None,
            },
        },
        "published": {
            "model": {
                "kind": "paper-a",
                "target": "centre",
                "loss": "l1-trunc",
                "random_rotation": False,
            },
            "training": {
                "epochs": 300,
                "batch_size": 520,
                "lr": 1e-4 * 520 / 32,
                "weight_decay": 0.0,
                "gradient_clip": None,
                "patience": 25,
            },
        },
    }

    data: DataConfig = DataConfig()
    filter: FilterConfig = FilterConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig(
        epochs=15, batch_size=128, lr=4e-3, weight_decay=0.01, gradient_clip=1.0
    )
    baselines: tuple[BaselineName, ...] = Field(BASELINES, description="models that ours is compared with")
