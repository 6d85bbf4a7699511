"""The forecaster: images, features, networks and intervals, fitted, stored and asked as one model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from appliedpapers.core.data import Split
from appliedpapers.core.device import derive_seed
from appliedpapers.core.errors import UnusableGroups
from appliedpapers.core.model import FitContext, GroupProblem, Model, Stream
from appliedpapers.core.schema import OutputSchema, TableSchema
from appliedpapers.core.training import fit
from appliedpapers.core.weights import drawn_by, load_network, parameter_count, save_network, start_from
from appliedpapers.plugins.volatility_images.config import VolatilityConfig
from appliedpapers.plugins.volatility_images.features import (
    FLOW,
    NAMES,
    PAST,
    Clock,
    Standard,
    features_of,
)
from appliedpapers.plugins.volatility_images.images import ImageBuilder, Scale, rows_for_trades
from appliedpapers.plugins.volatility_images.intervals import Interval, not_overlapping
from appliedpapers.plugins.volatility_images.learner import Inputs, VolatilityTask, answers, kept_share
from appliedpapers.plugins.volatility_images.linear import LinearForecast
from appliedpapers.plugins.volatility_images.market import Floats, Ints, Session
from appliedpapers.plugins.volatility_images.network import VolatilityNetwork
from appliedpapers.plugins.volatility_images.pictures import save_image
from appliedpapers.plugins.volatility_images.scoring import overlap
from appliedpapers.plugins.volatility_images.splits import Grid, VolatilitySplit
from appliedpapers.plugins.volatility_images.tables import (
    forecast_schema,
    seconds_schema,
    sessions_of,
)
from appliedpapers.plugins.volatility_images.windows import (
    LEAST_FORECAST,
    anchors_of,
    floor_of,
    history,
)

if TYPE_CHECKING:
    import pyarrow as pa

_WEIGHTS = "network-{}.safetensors"
_CONSTANTS = "constants.safetensors"
_SCALED_ON = 400
"""Images of the train part, evenly spread, that scales are fitted on."""
_UNDERNEATH = [NAMES.index(name) for name in (*PAST, *FLOW)]
_ENOUGH_WINDOWS = 40
_FAR_PRICE = 20.0


class VolatilityForecaster(Model):
    """Forecasts realised volatility from seconds of book and trades, second by second or all at once."""

    config: VolatilityConfig
    reads: ClassVar[tuple[str, ...]] = ("output",)

    def __init__(self, config: VolatilityConfig) -> None:
        super().__init__(config)
        self.networks: list[VolatilityNetwork] = []
        self.shares: list[float] = []
        self.smears: list[float] = []
        self.grid: Grid
        self.inputs: Inputs
        self.median = 1.0
        self.usual_price = math.nan
        self.bin = 1
        self.penalty = 0.0
        self.interval = Interval(0.0, 0.0, 0)

    @property
    def input_schema(self) -> TableSchema:
        """Seconds: session, time, touch, levels of the book, trades."""
        return seconds_schema()

    @property
    def output_schema(self) -> OutputSchema:
        """A forecast an anchor: volatility of the next window, its interval, what the image leaves out."""
        return forecast_schema(self.config)

    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Fit scales and networks on ``train``, keep their best epochs and calibrate on ``valid``.

        Raises:
            RunError: Training diverged.
            ConfigError: ``init`` has other sizes than this configuration.
        """
        learn, judge = cast("VolatilitySplit", train), cast("VolatilitySplit", valid)
        self._prepare(learn)
        options, least = self.config.model, floor_of(self.config.data.window)
        skip = self._skip(learn, judge, least) if options.skip == "linear" else None
        for number in range(options.seeds):
            network = self._new_network(derive_seed(run.seed, "network", number))
            if skip is not None:
                network.skip.copy_(torch.from_numpy(skip))
            if init is not None:
                earlier = cast("VolatilityForecaster", init).networks
                start_from(network, earlier[min(number, len(earlier) - 1)].state_dict())
            network.to(run.device)
            task = VolatilityTask(
                network,
                self.inputs,
                learn,
                judge,
                median=self.median,
                least=least,
                loss=options.loss,
                settings=self.config.training,
            )
            fit(task, run, name=f"network-{number}")
            self._settle(network, learn, judge, least)
            self.networks.append(network)
        self._calibrate(learn, judge, least)
        self.inputs.forget()
        return self

    def forecasts(self, split: VolatilitySplit) -> list[Floats]:
        """Return the forecasts of each network for all anchors of a split, ``(anchors,)``."""
        found = []
        for network, smear in zip(self.networks, self.smears, strict=True):
            linear, added = answers(network, self.inputs, split)
            told = self.median * smear * np.exp(linear + float(network.share) * added)
            found.append(np.maximum(told, LEAST_FORECAST))
        return found

    def bounds(self, forecast: Floats) -> tuple[Floats, Floats]:
        """Return both ends of the interval around forecasts."""
        return self.interval.around(forecast)

    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Forecast at each anchor of each session of a validated table.

        Args:
            table: Seconds.
            files: Where images are saved, if ``output.images`` asks for them.

        Raises:
            UnusableGroups: Sessions are too short, uneven, or on another scale of prices than was trained on.
        """
        import pyarrow as pa

        sessions = self._read(table)
        columns: dict[str, list[Any]] = {name: [] for name in self.output_schema.names}
        for session in sessions:
            for name, values in self.answer(session, self._anchors(session), files).items():
                columns[name] += values
        schema = self.output_schema.arrow_schema()
        return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema})

    def answer(self, session: Session, anchors: Ints, files: Path | None = None) -> dict[str, list[Any]]:
        """Return the output columns at some anchors; each anchor's are those it has alone, bit for bit."""
        data = self.config.data
        values = features_of(session, anchors, data, self.grid.tick, self.grid.clock)
        features = torch.from_numpy(self.inputs.standard(values).astype(np.float32))
        told = np.array(
            [
                self._alone(session, anchor, features[row : row + 1])
                for row, anchor in enumerate(anchors.tolist())
            ]
        )
        low, high = self.bounds(told)
        past = np.exp(values[:, 0]) if data.windows[0] == data.window else self._past(session, anchors)
        times = session.time_us[anchors - 1]
        made: dict[str, list[Any]] = {
            "session": [session.name] * len(anchors),
            "time": times.tolist(),
            "volatility": told.tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "past": past.tolist(),
            "outside": self._outside(session, anchors).tolist(),
        }
        if self.config.output.images != "none":
            made["image"] = [
                save_image(session, anchor, self.builder, self.config.output.images, files)
                for anchor in anchors.tolist()
            ]
        return made

    @property
    def builder(self) -> ImageBuilder:
        """What builds this model's images."""
        return self.inputs.builder

    def stream(self, state: bytes | None = None) -> Stream:
        """Start, or go on with, a stream over the seconds of one session."""
        from appliedpapers.plugins.volatility_images.streaming import VolatilityStream

        return VolatilityStream(self, state)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the model card."""
        options = self.config.model
        yield "network", options.network + (" with features" if options.features else "")
        yield "networks", str(len(self.networks))
        yield "parameters of each", parameter_count(self.networks[0])
        yield "loss", options.loss
        if options.skip == "linear":
            yield "ridge of the linear forecast underneath", f"{self.penalty:g}"
            shares = ", ".join(f"{share:.2f}" for share in self.shares)
            yield "share of the networks' corrections kept by the valid windows", shares
        yield "ticks a row of the image", str(self.bin)
        yield "tick", f"{self.grid.tick:g}"
        yield "interval", f"{options.level} %, fitted on {self.interval.windows} windows that do not overlap"
        if any(smear != 1 for smear in self.smears):
            yield "smearing factors", ", ".join(f"{smear:.3f}" for smear in self.smears)

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write one safetensors file a network and one of constants; ONNX where asked for."""
        for number, network in enumerate(self.networks):
            save_network(network, folder / _WEIGHTS.format(number))
        save_file(
            {
                "mean": np.ascontiguousarray(self.inputs.standard.mean),
                "scale": np.ascontiguousarray(self.inputs.standard.scale),
                "divisor": np.ascontiguousarray(self.inputs.scale.divisor),
            },
            folder / _CONSTANTS,
        )
        if self.config.model.onnx:
            self._export(folder / "model.onnx")
        return {
            "tick": self.grid.tick,
            "clock": [self.grid.clock.opening, self.grid.clock.length],
            "median": self.median,
            "usual_price": self.usual_price,
            "bin": self.bin,
            "penalty": self.penalty,
            "shares": self.shares,
            "smears": self.smears,
            "interval": [self.interval.low, self.interval.high, self.interval.windows],
        }

    @classmethod
    def read_parts(cls, config: Any, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the forecaster from verified parts."""
        model = cls(config)
        constants = load_file(folder / _CONSTANTS)
        model.grid = Grid(float(state["tick"]), Clock(*state["clock"]))
        model.median, model.bin = float(state["median"]), int(state["bin"])
        model.usual_price = float(state["usual_price"])
        model.penalty = float(state["penalty"])
        model.shares, model.smears = list(state["shares"]), list(state["smears"])
        low, high, windows = state["interval"]
        model.interval = Interval(float(low), float(high), int(windows))
        model.inputs = model._inputs(
            Scale(constants["divisor"]), Standard(constants["mean"], constants["scale"])
        )
        for number in range(config.model.seeds):
            path = folder / _WEIGHTS.format(number)
            model.networks.append(load_network(model._new_network(seed=0), path, device))
        return model

    def _prepare(self, learn: VolatilitySplit) -> None:
        """Fit all that images and features are scaled by, on the train part alone."""
        options, sessions = self.config.image, [one.session for one in learn.windows]
        self.grid = learn.grid
        self.bin = (
            rows_for_trades(sessions, self.grid.tick, options.rows, options.seconds)
            if options.bin == "auto"
            else int(options.bin)
        )
        rows = np.flatnonzero(learn.learned)
        self.median = float(np.median(np.maximum(learn.targets[rows], floor_of(self.config.data.window))))
        self.usual_price = float(np.median(np.concatenate([one.mid for one in sessions])))
        standard = Standard.fit(learn.features[rows])
        self.inputs = self._inputs(Scale(np.ones(options.channels)), standard)
        if self.inputs.seen and not self.inputs.raw:
            chosen = np.unique(np.linspace(0, learn.num_rows - 1, _SCALED_ON).round().astype(np.int64))
            scale = Scale.fit(learn.images(self.builder, chosen))
            self.inputs = self._inputs(scale, standard)

    def _inputs(self, scale: Scale, standard: Standard) -> Inputs:
        kind = self.config.model.network
        builder = ImageBuilder(self.config.image, self.grid.tick * self.bin)
        return Inputs(
            builder, scale, standard, raw=kind == "raw-mlp", seen=kind != "mlp", tick=self.grid.tick
        )

    def _new_network(self, seed: int) -> VolatilityNetwork:
        with drawn_by(seed):
            return VolatilityNetwork(self.config.model, self.inputs.shape, len(NAMES))

    def _skip(self, learn: VolatilitySplit, judge: VolatilitySplit, least: float) -> Floats:
        """Return the linear forecast by QLIKE, its ridge chosen on valid, over ``ln median``.

        It looks at past volatility and flow alone: on all features it was measured to overfit a day.
        """
        parts = []
        for split in (learn, judge):
            rows = np.flatnonzero(split.learned)
            rows = rows if len(rows) else np.arange(split.num_rows)
            logs = np.log(np.maximum(split.targets[rows], least) / self.median)
            parts.append((self.inputs.standard(split.features[rows])[:, _UNDERNEATH], logs))
        chosen = LinearForecast.choose(parts[0], parts[1])
        self.penalty = chosen.penalty
        weights = np.zeros(len(NAMES) + 1)
        weights[[*_UNDERNEATH, -1]] = chosen.weights
        return weights

    def _settle(
        self, network: VolatilityNetwork, learn: VolatilitySplit, judge: VolatilitySplit, least: float
    ) -> None:
        """Keep the share of the correction that valid bears out; make a log forecast one of the mean."""
        options = self.config.model
        if options.skip == "linear":
            linear, added = answers(network, self.inputs, judge)
            known = np.flatnonzero(judge.learned)
            logs = np.log(np.maximum(judge.targets, least) / self.median)
            share = kept_share(linear[known], added[known], logs[known], options.loss, 2 * overlap(judge))
            network.share.fill_(share)
            self.shares.append(share)
        smeared = options.smearing == "on" or (options.smearing == "auto" and options.loss == "log-mse")
        if not smeared:
            self.smears.append(1.0)
            return
        linear, added = answers(network, self.inputs, learn)
        rows = np.flatnonzero(learn.learned)
        told = (linear + float(network.share) * added)[rows]
        residual = np.log(np.maximum(learn.targets[rows], least) / self.median) - told
        self.smears.append(float(np.exp(residual).mean()))

    def _calibrate(self, learn: VolatilitySplit, judge: VolatilitySplit, least: float) -> None:
        """Fit the interval on valid; on train as well where valid alone has too few windows for its tails."""
        parts = []
        for split in (judge, learn):
            told = np.mean(self.forecasts(split), axis=0)
            apart = np.log(np.maximum(split.targets, least) / told)
            parts.append(apart[not_overlapping(split)])
            if len(parts[0]) >= _ENOUGH_WINDOWS:
                break
        self.interval = Interval.fit(np.concatenate(parts), self.config.model.level)

    def _read(self, table: pa.Table) -> list[Session]:
        found = sessions_of(table, max_gap=self.config.data.max_gap, price=self.config.data.price)
        problems = [rows.problem for rows in found if rows.problem is not None]
        sessions = [rows.session for rows in found if rows.session is not None]
        problems += [problem for one in sessions if (problem := self._unusable(one)) is not None]
        if problems:
            raise UnusableGroups(problems, hint="Leave the session out, or send what is missing.")
        return sessions

    def _unusable(self, session: Session) -> GroupProblem | None:
        ratio = float(np.median(session.mid)) / self.usual_price
        if not 1 / _FAR_PRICE < ratio < _FAR_PRICE:
            rule = f"prices are {ratio:.3g} times those that were trained on: another instrument or unit"
            return GroupProblem((session.name,), rule, column="bid")
        if len(self._anchors(session)):
            return None
        longest = max(stop - first for first, stop in session.segments())
        rule = f"{longest:,} seconds in one piece, and a forecast needs {history(self.config):,} behind it"
        return GroupProblem((session.name,), rule)

    def _anchors(self, session: Session) -> Ints:
        return anchors_of(session, history(self.config), 0, self.config.data.stride)

    def _alone(self, session: Session, anchor: int, features: torch.Tensor) -> float:
        """Forecast one anchor by itself: how many others are asked for then changes no bit."""
        told = []
        with torch.inference_mode():
            for network, smear in zip(self.networks, self.smears, strict=True):
                device = network.skip.device
                image = self.inputs.one(session, anchor).to(device)
                z = float(network(image, features.to(device))[0])
                told.append(max(self.median * smear * math.exp(min(z, 50.0)), LEAST_FORECAST))
        return float(np.mean(told))

    def _past(self, session: Session, anchors: Ints) -> Floats:
        from appliedpapers.plugins.volatility_images.windows import trailing

        return trailing(session, anchors, self.config.data.window, self.config.data.window)

    def _outside(self, session: Session, anchors: Ints) -> Floats:
        lost = self.builder.build_with_rest(session, anchors)[1].traded
        cut = [session.trades.part(anchor - self.config.image.seconds, anchor) for anchor in anchors.tolist()]
        whole = np.array([one.qty.sum() for one in cut])
        share = np.divide(lost, whole, out=np.zeros(len(anchors)), where=whole > 0)
        return np.asarray(np.clip(share, 0.0, 1.0))

    def _export(self, path: Path) -> None:
        from appliedpapers.core.onnx import export_onnx

        network = self.networks[0].cpu()
        shape = self.inputs.shape
        inputs = {"image": torch.zeros((1, *shape)), "features": torch.zeros((1, len(NAMES)))}
        export_onnx(network, inputs, ("log_ratio",), path)
