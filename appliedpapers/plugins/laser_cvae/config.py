"""The options of an ageing run and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from appliedpapers.core.config import Section, TaskConfig
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.nn.spec import HeadSpec

Mode = Literal["CC", "CP"]
ValueUnit = Literal["ratio", "percent", "dB", "absolute"]
TimeUnit = Literal["h", "min", "s", "d"]
FailureMode = Literal["gradual", "rapid", "sudden"]
Judge = Literal["auto", "early-warning", "forecast"]
BaselineName = Literal[
    "ocsvm",
    "ocsvm-conditions",
    "isolation-forest",
    "lof",
    "lof-conditions",
    "autoencoder",
    "vae",
    "conditional-autoencoder",
    "rule",
    "last-reading",
    "linear",
    "exp-linear",
    "path",
    "condition-only",
    "pyod-ecod",
    "pyod-copod",
]

BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)


class ColumnsConfig(Section):
    """Names of the columns of a file."""

    device: str = Field("device", min_length=1, description="column with the name of the device")
    time: str = Field("time", min_length=1, description="column with the time on test")
    value: str = Field("value", min_length=1, description="column with the power or current that is read")
    temperature: str = Field("temperature", min_length=1, description="column with the temperature")
    current: str = Field("current", min_length=1, description="column with the drive current")
    voltage: str = Field("voltage", min_length=1, description="column with the voltage, V")
    power: str = Field("power", min_length=1, description="column with the optical power in W, for T_j")
    batch: str = Field("batch", min_length=1, description="column with the batch or wafer")
    horizon: str = Field("horizon", min_length=1, description="column with the planned end of the test")
    failure_time: str = Field("failure_time", min_length=1, description="column with a known failure time")


class SimulatorConfig(Section):
    """The physics generator: size, ranges and faults of the embedded dataset."""

    train_devices: int = Field(525, ge=8, le=1_000_000, description="devices to learn from")
    valid_devices: int = Field(175, ge=4, le=1_000_000, description="devices to choose and calibrate on")
    test_devices: int = Field(500, ge=4, le=1_000_000, description="devices to judge on")
    readings: int = Field(50, ge=4, le=10_000, description="read-outs of a device")
    horizon: float = Field(3500.0, gt=0, le=1e6, description="length of the test in hours")
    grid: Literal["regular", "irregular"] = Field("regular", description="when read-outs happen")
    missing: float = Field(0.0, ge=0, lt=0.9, description="share of the read-outs that are lost")
    censored: float = Field(0.0, ge=0, lt=0.9, description="share of the devices taken out early")
    temperatures: tuple[float, ...] = Field(
        (50.0, 85.0, 110.0), min_length=1, description="temperatures of the tests, °C"
    )
    currents: tuple[float, ...] = Field(
        (0.8, 1.0, 1.25), min_length=1, description="drive currents of the tests, ratios to I_ref"
    )
    activation_energy: float = Field(0.7, ge=0, le=2, description="E_a in eV; 0.35 to 0.8 in the literature")
    current_exponent: float = Field(
        2.0, ge=0, le=6, description="n, the exponent of the current; 1.5 to 2.1 in the literature"
    )
    power_exponent: float = Field(0.0, ge=0, le=6, description="q, the exponent of the optical power")
    time_exponent: float = Field(0.6, gt=0, le=3, description="mean of m, the exponent of time")
    time_exponent_sd: float = Field(0.1, ge=0, le=1, description="spread of m between devices")
    damage_ref: float = Field(0.02, gt=0, le=1, description="D after 1000 h at 85 °C and I_ref")
    unit_sd: float = Field(0.45, ge=0, le=2, description="log spread of the rate between devices")
    noise: tuple[float, float] = Field((0.002, 0.005), description="read-out noise, from and to")
    random_walk: float = Field(0.003, ge=0, le=0.1, description="random walk over the test")
    outliers: float = Field(0.1, ge=0, le=1, description="share of devices with one read-out outlier")
    burn_in: float = Field(0.01, ge=0, le=0.2, description="size of the burn-in in the first hours")
    p_fail: float = Field(0.25, ge=0, le=1, description="share of devices with a failure mode")
    modes: tuple[FailureMode, ...] = Field(
        ("gradual", "rapid", "sudden"), min_length=1, description="the modes that are drawn, equally often"
    )
    precursor: float = Field(0.0, ge=0, le=1, description="share of sudden failures with a precursor")
    weibull: bool = Field(False, description="draw sudden failures from a Weibull law that depends on I")
    infant: bool = Field(False, description="infant failures: 5.35 % before 20 h, 1 % to 40 h, 0.1 % later")
    defects: bool = Field(False, description="two defect populations with different activation energies")

    @field_validator("noise")
    @classmethod
    def _noise_rises(cls, noise: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= noise[0] <= noise[1] <= 0.5:
            raise ValueError("noise is a pair from 0 to 0.5, the smaller first")
        return noise


class DataConfig(Section):
    """What the columns of a file mean, how it is read, and how devices are split."""

    columns: ColumnsConfig = Field(ColumnsConfig(), json_schema_extra={"flag": "--columns"})
    layout: Literal["auto", "long", "wide"] = Field(
        "auto", description="long: a row a reading of a device; wide: a column a device"
    )
    conditions: str | None = Field(
        None,
        description="table of device, temperature and current beside a file without them; null wants them "
        "in it",
        json_schema_extra={"flag": "--conditions"},
    )
    mode: Mode = Field("CC", description="CC: constant current, power falls; CP: the reverse")
    value_unit: ValueUnit = Field(
        "ratio",
        description="ratio to the start; percent or dB of change; absolute: divided by its first readings",
    )
    time_unit: TimeUnit = Field(
        "h", description="unit of all times", json_schema_extra={"flag": "--time-unit"}
    )
    temperature_unit: Literal["C", "K"] = Field("C", description="unit of the temperature")
    current_unit: Literal["ratio", "mA", "A"] = Field("ratio", description="unit of the drive current")
    reference_current: float = Field(1.0, gt=0, le=1e6, description="I_ref in the unit of the current")
    thermal_resistance: float = Field(0.0, ge=0, le=1e5, description="R_th in K/W for T_j = T + R_th(IV-P)")
    criterion: float | None = Field(
        None, gt=0, le=10, description="failure below (CC) or above (CP) this ratio; null: 0.8 and 1.2"
    )
    skip: float = Field(0.0, ge=0, le=1e6, description="run-in that is not read, in the unit of time")
    horizon: float | None = Field(
        None, gt=0, le=1e9, description="planned end of the test; null: the longest of the condition"
    )
    valid_share: float = Field(0.2, gt=0, lt=0.9, description="share of your own devices to choose on")
    test_share: float = Field(0.25, gt=0, lt=0.9, description="share of your own devices to judge on")
    folds: int = Field(5, ge=2, le=50, description="folds of led-a and device-b (gaas leaves one out)")
    repeats: int = Field(3, ge=1, le=20, description="how often led-a is dealt into folds")
    simulator: SimulatorConfig = SimulatorConfig()

    @property
    def threshold(self) -> float:
        """The failure criterion as a ratio."""
        return self.criterion if self.criterion is not None else (0.8 if self.mode == "CC" else 1.2)

    @model_validator(mode="after")
    def _criterion_fits_mode(self) -> Self:
        if (self.threshold < 1) != (self.mode == "CC"):
            raise ValueError("'criterion' lies below 1 for mode CC and above 1 for mode CP")
        if self.valid_share + self.test_share >= 0.9:
            raise ValueError("'valid_share' and 'test_share' leave too little to learn from")
        return self


class AbnormalityConfig(Section):
    """The conditional variational autoencoder, and how its score becomes a p-value."""

    encoder: Literal["gru"] | HeadSpec = Field(
        "mlp",
        description="what reads a device; gru: the readings themselves; any shared module, such as "
        "kan(grid=5): "
        "their profile",
    )
    latent: int = Field(4, ge=1, le=64, description="size of z")
    beta: float = Field(0.1, ge=0, le=100, description="weight of the KL term at the end of its warm-up")
    score_beta: float = Field(0.1, ge=0, le=100, description="weight of the KL term in the score")
    samples: Literal["simplex"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        "simplex",
        description="points of z that a score is a mean over, the same for all devices: so many draws, or "
        "the corners of a simplex, which are enough where z is known well",
    )
    alpha: float = Field(0.02, gt=0, lt=0.5, description="alerts on healthy devices, as a share")
    one_sided: bool = Field(False, description="never alert on devices that age less than expected")
    trim: float = Field(
        0.05, ge=0, lt=0.5, description="share of the training loss that is left out without labels"
    )
    noise_floor: float = Field(2e-3, gt=0, le=0.1, description="smallest spread of a reading")


class ForecastConfig(Section):
    """The forecast: path prior, latent corrections, hazard of sudden failure."""

    encoder: HeadSpec = Field(
        "mlp", description="what reads the profile of a prefix; any shared module, such as kan(grid=5)"
    )
    latent: int = Field(6, ge=1, le=64, description="size of z")
    knots: int = Field(6, ge=2, le=12, description="knots of the path prior over the square root of time")
    samples: int = Field(128, ge=8, le=4096, description="draws of a path, the same for all devices")
    prior: Literal["auto", "none", "physics"] = Field(
        "auto",
        description="physics: first learn from simulated devices; auto does with fewer than 60 devices",
        json_schema_extra={"flag": "--prior"},
    )
    prior_devices: int = Field(400, ge=50, le=100_000, description="simulated devices of the physics prior")
    monotone: bool = Field(True, description="paths never recover; off for CP with burn-in")
    decision_weight: float = Field(
        3.0, ge=0, le=100, description="weight of the crossing probability in the loss"
    )
    method: Literal["auto", "none", "platt", "isotonic"] = Field(
        "auto", description="calibration of p_cross; auto is isotonic from 50 failures and 500 rows on"
    )


class JudgeConfig(Section):
    """At which cuts devices are judged."""

    by: Judge = Field("auto", description="primary: auc of devices not yet failed, or error of the forecast")
    cuts: tuple[float, ...] = Field(
        (0.15, 0.3, 0.45, 0.6, 0.8, 1.0), min_length=1, description="shares of the test that have been seen"
    )
    main: float = Field(0.6, gt=0, le=1, description="the cut that rows with an empty slice speak of")
    false_alarms: float = Field(
        0.02, gt=0, lt=0.5, description="share of healthy devices at which hours saved are counted"
    )

    @model_validator(mode="after")
    def _main_is_a_cut(self) -> Self:
        if not all(0 < cut <= 1 for cut in self.cuts) or self.main not in self.cuts:
            raise ValueError("'cuts' lie between 0 and 1 and hold 'main'")
        return self


class LaserTraining(TrainingConfig):
    """Settings of one head; a one-cycle schedule ends at a low rate."""

    epochs: int = Field(40, ge=1, le=100_000, description="passes over the training data, at most")
    batch_size: int = Field(256, ge=2, le=1_000_000, description="prefixes a step (per process)")
    lr: float = Field(2e-3, gt=0, le=10, allow_inf_nan=False, description="largest learning rate")
    weight_decay: float = Field(1e-4, ge=0, le=10, description="weight decay of the optimiser")
    gradient_clip: float | None = Field(
        5.0, gt=0, allow_inf_nan=False, description="largest norm of the gradient; null leaves it as it is"
    )
    prefixes: int = Field(12, ge=2, le=200, description="prefixes of each device")


class LaserConfig(TaskConfig):
    """Everything that an ageing run can be told."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "quick": {
            "data": {"repeats": 1},
            "abnormality_training": {"epochs": 30},
            "forecast_training": {"epochs": 25},
            "judge": {"cuts": (0.3, 0.6, 1.0)},
        },
        "check": {
            "data": {
                "simulator": {"train_devices": 60, "valid_devices": 30, "test_devices": 12, "readings": 14}
            },
            "abnormality_training": {"epochs": 2, "prefixes": 4},
            "forecast_training": {"epochs": 2, "prefixes": 4},
            "forecast": {"prior": "none", "samples": 16},
            "judge": {"cuts": (0.6, 1.0)},
        },
        "published": {},
        "gru": {"abnormality": {"encoder": "gru", "latent": 6}},
    }

    data: DataConfig = DataConfig()
    abnormality: AbnormalityConfig = AbnormalityConfig()
    forecast: ForecastConfig = ForecastConfig()
    abnormality_training: LaserTraining = LaserTraining(epochs=60)
    forecast_training: LaserTraining = LaserTraining()
    judge: JudgeConfig = JudgeConfig()
    onnx: bool = Field(False, description="write encoder and decoder as ONNX into the bundle, too")
    baselines: tuple[BaselineName, ...] = Field(BASELINES, description="models that ours is compared with")
