"""The estimator of attitude: filter, network, delay and uncertainty, fitted, stored and asked as one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Split
from appliedpapers.core.errors import ConfigError, DataError, UnusableGroups
from appliedpapers.core.model import FitContext, Model, Stream
from appliedpapers.core.schema import OutputSchema, TableSchema
from appliedpapers.core.weights import load_network, parameter_count, save_network
from appliedpapers.plugins.imu_attitude import answers
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig, FilterConfig
from appliedpapers.plugins.imu_attitude.embedded import WEIGHTS, is_plain, single_corrector
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.heading import MagneticHeading
from appliedpapers.plugins.imu_attitude.recording import Recording, with_reference
from appliedpapers.plugins.imu_attitude.residual import Corrector, ResidualFilter, network_pace
from appliedpapers.plugins.imu_attitude.samples import problems_of, read_samples
from appliedpapers.plugins.imu_attitude.splits import AttitudeSplit
from appliedpapers.plugins.imu_attitude.tuning import fit_filter
from appliedpapers.plugins.imu_attitude.uncertainty import Calibration

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.imu_attitude.network import AttitudeNetwork
    from appliedpapers.plugins.imu_attitude.residual_choice import Filtered
    from appliedpapers.plugins.imu_attitude.residual_network import ResidualNetwork


class AttitudeEstimator(Model):
    """Answers for every sample of a 6-axis (or 9-axis) sensor where up is.

    Attributes:
        filter: Noises of the filter, tuned where that was asked for.
        delay: Seconds that the answer is carried on by.
        share: Share of the network's correction that is kept.
        calibration: Makes an honest error out of the filter's own.
    """

    config: AttitudeConfig
    reads: ClassVar[tuple[str, ...]] = ("data",)

    def __init__(self, config: AttitudeConfig) -> None:
        super().__init__(config)
        self.filter = config.filter
        self.delay = 0.0 if config.filter.delay == "auto" else config.filter.delay
        self.share = 0.0
        self.calibration = Calibration()
        self._residual: ResidualNetwork | None = None
        self._paper: AttitudeNetwork | None = None
        self._held_out: dict[float, float] = {}

    @property
    def is_paper(self) -> bool:
        """Whether a model of arXiv 2302.06037 answers."""
        return self.config.model.kind.startswith("paper")

    @property
    def input_schema(self) -> TableSchema:
        """Samples: ``trial``, ``time``, accelerometer, gyroscope and, if there is one, magnetometer."""
        return answers.input_schema(self.config.data)

    @property
    def output_schema(self) -> OutputSchema:
        """One row a sample: orientation, up, its expected error, bias and flags."""
        return answers.output_schema(self.config.data)

    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Fit delay, network and uncertainty to the trials that have a reference.

        Without any reference nothing is fitted: the filter answers with its own error.

        Args:
            train: Trials to learn from.
            valid: Trials to choose on, with those of ``train`` held out in turn.
            run: Seed, device, scratch folder, progress and metric sink.
            init: Not used: nothing here takes long enough to be worth starting from.

        Raises:
            RunError: Training diverged.
            DataError: A model of the paper was asked for and there is no reference.
        """
        learned = cast("AttitudeSplit", train).recordings
        chosen = cast("AttitudeSplit", valid).recordings
        known = with_reference((*learned, *chosen))
        if self.is_paper:
            self._fit_paper(learned, chosen, run)
        elif known:
            self._fit_residual(known, run)
        # errors on trials that a network has learned from would promise too much
        if self.is_paper:
            known = with_reference(chosen)
        answer = self._uncalibrated if self.is_paper else self._by_filter
        self.calibration = Calibration.fit([answer(recording) for recording in known], known)
        return self

    def estimate(self, recording: Recording) -> Estimate:
        """Answer for every sample of a recording, with the error that is to be expected."""
        return self.calibration.apply(self._uncalibrated(recording))

    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Answer for every row of a validated table.

        Args:
            table: Samples; trials may be mixed, each in the order of its time.
            files: Not used.

        Raises:
            UnusableGroups: Trials have no usable times or samples.
        """
        samples = read_samples(table, self.config.data)
        if problems := problems_of(samples, self.config.data):
            raise UnusableGroups(problems, hint="Leave the trial out, or send what is missing.")
        parts = []
        for one in samples:
            recording = one.recording()
            estimate = self.estimate(recording)
            estimate, heading = _with_heading(estimate, recording)
            parts.append(answers.columns_of(one, estimate, heading, self.config.data, self.config.filter.gap))
        rows = np.concatenate([one.rows for one in samples])
        return answers.to_table(parts, rows, self.output_schema)

    @property
    def streams(self) -> bool:
        """Whether it answers sample by sample: the paper's models answer for whole windows."""
        return not self.is_paper

    def stream(self, state: bytes | None = None) -> Stream:
        """Start, or go on with, a stream over one trial.

        Raises:
            ConfigError: The paper's models answer for whole windows.
        """
        from appliedpapers.plugins.imu_attitude.streaming import AttitudeStream

        if not self.streams:
            raise ConfigError(
                f"model.kind={self.config.model.kind} does not stream.",
                hint="Use apps predict, or train with model.kind=residual.",
            )
        return AttitudeStream(self, self.config.data, state)

    def machine(self, *, compiled: bool = True) -> GravityFilter | ResidualFilter:
        """Return what takes samples one by one and answers as :meth:`estimate` does.

        Args:
            compiled: False keeps to numpy alone.
        """
        gravity = GravityFilter(self.filter, delay=self.delay, compiled=compiled)
        if self._residual is None:
            return gravity
        # one window at a time, torch takes longer than numpy
        if not is_plain(self.config.model.head):
            return self._corrected(gravity, _torch_corrector(self._residual))
        weights = {name: value.detach().cpu().numpy() for name, value in self._residual.state_dict().items()}
        return self._corrected(gravity, single_corrector(weights, self.config))

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the model card."""
        yield "estimator", self.config.model.kind
        yield "heading", "not observable without a magnetometer: yaw drifts"
        if self.is_paper:
            assert self._paper is not None
            yield "parameters", f"{sum(p.numel() for p in self._paper.parameters() if p.requires_grad):,}"
            return
        tuned = {
            name: value
            for name, value in self.filter.model_dump().items()
            if value != getattr(self.config.filter, name)
        }
        if tuned:
            words = (
                f"{name} {value if isinstance(value, str) else format(value, '.3g')}"
                for name, value in tuned.items()
            )
            yield "fitted options of the filter", ", ".join(words)
        yield "delay of the readings", f"{1000 * self.delay:.2f} ms"
        if self.config.model.kind == "residual" and not self._held_out:
            yield "network", "nothing is kept: fewer than two trials with a reference cannot judge it"
        elif self.config.model.kind == "residual":
            kept = f"{self.share:g} of its correction is kept"
            nothing = "nothing is kept: the network adds nothing on this data"
            yield "network", kept if self.share else nothing
            if self._residual is not None:
                yield "parameters", parameter_count(self._residual)
            errors = ", ".join(f"{share:g}: {error:.3f}" for share, error in self._held_out.items())
            yield "inclination RMSE of held-out trials by that share, deg", errors
        yield from self.calibration.describe()

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write the network as safetensors and, if asked for, as ONNX."""
        network = self._paper or self._residual
        if network is not None:
            save_network(network, folder / WEIGHTS)
        if self._residual is not None and self.config.model.onnx:
            from appliedpapers.plugins.imu_attitude.onnx import export_residual

            export_residual(self._residual, network_pace(self.config)[0], folder)
        return {
            "filter": self.filter.model_dump(mode="json"),
            "delay": self.delay,
            "share": self.share,
            "held_out": [[share, error] for share, error in self._held_out.items()],
            "network": network is not None,
            "calibration": self.calibration.to_json(),
        }

    @classmethod
    def read_parts(cls, config: Any, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the estimator from verified parts."""
        model = cls(config)
        model.filter = FilterConfig.model_validate(state["filter"])
        model.delay, model.share = float(state["delay"]), float(state["share"])
        model._held_out = {float(share): float(error) for share, error in state["held_out"]}
        model.calibration = Calibration.from_json(state["calibration"])
        if state["network"]:
            load_network(model._new_network(seed=0), folder / WEIGHTS, device)
        return model

    def _uncalibrated(self, recording: Recording) -> Estimate:
        if self._paper is not None:
            from appliedpapers.plugins.imu_attitude.learner_paper import estimate

            # it says nothing of its error: the calibration then gives one for all samples
            return replace(estimate(self._paper, recording, self.config.model), sd=np.zeros(len(recording)))
        if self._residual is None:
            return self._by_filter(recording)
        gravity = GravityFilter(self.filter, delay=self.delay)
        return self._corrected(gravity, _torch_corrector(self._residual)).batch(recording)

    def _by_filter(self, recording: Recording) -> Estimate:
        return GravityFilter(self.filter, delay=self.delay).batch(recording)

    def _new_network(self, seed: int) -> Any:
        if self.is_paper:
            from appliedpapers.plugins.imu_attitude.learner_paper import build_network

            self._paper = build_network(self.config.model, seed)
            return self._paper
        from appliedpapers.plugins.imu_attitude.residual_network import ResidualNetwork

        options = self.config.model
        self._residual = ResidualNetwork(options.head, math.radians(options.limit_deg), seed)
        return self._residual

    def _fit_residual(self, known: Sequence[Recording], run: FitContext) -> None:
        self.filter, self.delay = fit_filter(self.filter, known, run.progress)
        if self.config.model.kind == "filter":
            return
        from appliedpapers.plugins.imu_attitude.residual_choice import train_residual

        filtered = [self._filtered(recording) for recording in known]
        length, every = network_pace(self.config)
        self._residual, self.share, self._held_out = train_residual(filtered, length, every, self.config, run)

    def _filtered(self, recording: Recording) -> Filtered:
        gravity = GravityFilter(self.filter, delay=self.delay)
        estimate, blocks = gravity.batch_with_blocks(recording)
        return recording, estimate.quaternion, blocks

    def _fit_paper(self, learned: Sequence[Recording], chosen: Sequence[Recording], run: FitContext) -> None:
        from appliedpapers.core.training import fit
        from appliedpapers.plugins.imu_attitude.learner_paper import PaperTask
        from appliedpapers.plugins.imu_attitude.paper_windows import PaperWindows

        options = self.config.model
        parts = []
        for name, recordings in (("train", learned), ("valid", chosen)):
            known = [recording for recording in recordings if recording.reference is not None]
            if not known:
                raise DataError(
                    f"no {name} trial has a reference; {options.kind} learns from one.",
                    hint="Bring quaternions (quat_w to quat_z), or use model.kind=filter.",
                )
            parts.append(PaperWindows(known, options))
        network = self._new_network(run.seed)
        fit(PaperTask(network, parts[0], parts[1], self.config.training, options), run)

    def _corrected(self, gravity: GravityFilter, corrector: Corrector) -> ResidualFilter:
        length, every = network_pace(self.config)
        base = self.config.model.base
        return ResidualFilter(gravity, corrector, share=self.share, length=length, every=every, base=base)


def _with_heading(estimate: Estimate, recording: Recording) -> tuple[Estimate, NDArray[np.bool_]]:
    """Return the estimate against magnetic north, and where that is known."""
    known = np.zeros(len(recording), dtype=bool)
    if recording.mag is None:
        return estimate, known
    compass, quaternion = MagneticHeading(), estimate.quaternion.copy()
    rows = zip(estimate.quaternion.tolist(), recording.mag.tolist(), recording.time.tolist(), strict=True)
    for n, (six, mag, time) in enumerate(rows):
        quaternion[n] = compass.turn(six, compass.step(six, mag, time))
        known[n] = compass.observable
    return replace(estimate, quaternion=quaternion), known


def _torch_corrector(network: ResidualNetwork) -> Corrector:
    import torch

    def corrector(series: NDArray[np.float32], statics: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            inputs = (torch.from_numpy(part).to(network.gain.device) for part in (series, statics))
            return np.asarray(network(*inputs).cpu().numpy())

    return corrector
