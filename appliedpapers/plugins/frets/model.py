"""The forecaster: networks, scaling and intervals, fitted, stored and asked as one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from appliedpapers.core.data import Split
from appliedpapers.core.device import derive_seed
from appliedpapers.core.errors import UnusableGroups
from appliedpapers.core.model import FitContext, GroupProblem, Model
from appliedpapers.core.schema import Column, OutputSchema, TableSchema
from appliedpapers.core.training import fit
from appliedpapers.core.weights import (
    drawn_by,
    load_network,
    parameter_count,
    save_network,
    start_from,
)
from appliedpapers.plugins.frets.config import FretsConfig
from appliedpapers.plugins.frets.conformal import ConformalIntervals
from appliedpapers.plugins.frets.contexts import Context, ContextReader
from appliedpapers.plugins.frets.learner import (
    WindowTask,
    forecast_rows,
    forecast_windows,
    shrink_correction,
)
from appliedpapers.plugins.frets.network import FreTS
from appliedpapers.plugins.frets.observations import season_of
from appliedpapers.plugins.frets.panel import Scaler
from appliedpapers.plugins.frets.splits import ForecastSplit, require_complete
from appliedpapers.plugins.frets.window_models import RidgeNLinear
from appliedpapers.plugins.frets.windows import WindowArrays

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import nn

_WEIGHTS = "network-{}.safetensors"
_CONSTANTS = "constants.safetensors"
_SIDES = {"lo": "lower", "hi": "upper"}


class FretsForecaster(Model):
    """Forecasts every series of a long table with intervals.

    Without channel mixing a series is forecast from itself alone; with it, all trained series of a panel
    are needed together. A series that was not trained on is scaled by its own recent past, which is only
    sound under ``model.instance_norm``; otherwise it is refused.
    """

    config: FretsConfig

    def __init__(self, config: FretsConfig) -> None:
        super().__init__(config)
        self.networks: list[FreTS] = []
        self.shares: list[float] = []
        self.unique_ids: tuple[str, ...] = ()
        self.scaler: Scaler
        self.intervals: ConformalIntervals
        self.freq = ""

    @property
    def input_schema(self) -> TableSchema:
        """Long table of the past: ``unique_id, ds, y``, optionally ``horizon`` and ``panel``."""
        columns = [
            Column("unique_id", "string", "name of the series", example="load-1"),
            Column("ds", "timestamp", "time of the value", example="2024-01-31T14:00"),
            Column(
                "y",
                "float64",
                "observed value, in the units of the training data",
                nullable=True,
                example=42.0,
            ),
            Column(
                "horizon",
                "int64",
                "steps to forecast; the last row of a series counts; empty takes the trained horizon",
                nullable=True,
                required=False,
                minimum=1,
                maximum=100_000,
            ),
        ]
        if not self.config.model.channel_mixing:
            return TableSchema(tuple(columns), group_by=("unique_id",), order_by="ds")
        columns.append(
            Column(
                "panel",
                "string",
                "rows with the same panel are forecast together; empty when there is one",
                nullable=True,
                required=False,
            )
        )
        return TableSchema(tuple(columns), group_by=("panel",), order_by="ds")

    @property
    def output_schema(self) -> OutputSchema:
        """Long table of the future: ``unique_id, ds, y_hat``, intervals, ``cutoff``, ``recursive``."""
        bounds = [
            Column(
                f"{side}-{level}",
                "float64",
                f"{_SIDES[side]} end of the {level} % interval; empty beyond the trained horizon",
                nullable=True,
            )
            for level in self._levels()
            for side in _SIDES
        ]
        columns = (
            Column("unique_id", "string", "name of the series"),
            Column("ds", "timestamp", "time that is forecast"),
            Column("y_hat", "float64", "forecast, in the units of the training data"),
            *bounds,
            Column("cutoff", "timestamp", "last time that was known"),
            Column("recursive", "bool", "whether forecasts were fed back to reach this step"),
        )
        panel = (Column("panel", "string", "panel of the series", nullable=True),)
        mixing = self.config.model.channel_mixing
        keys = ("panel", "unique_id") if mixing else ("unique_id",)
        return OutputSchema(
            (*panel, *columns) if mixing else columns,
            group_by=("panel",) if mixing else ("unique_id",),
            order_by="ds",
            rows="many",
            keys=keys,
        )

    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Fit the networks on ``train``, keep their best epochs on ``valid``, calibrate intervals there.

        Raises:
            RunError: Training diverged.
            DataError: Every window of a part touches a missing value.
            ConfigError: ``init`` has other sizes than this configuration.
        """
        train, valid = cast("ForecastSplit", train), cast("ForecastSplit", valid)
        options = self.config.model
        self.unique_ids, self.scaler, self.freq = train.panel.unique_ids, train.scaler, train.panel.freq
        learn, judge = train.at_lookback(options.lookback), valid.at_lookback(options.lookback)
        for part, windows in (("train", learn), ("valid", judge)):
            require_complete(windows, part, all_series=options.channel_mixing)
        ridge = self._ridge(learn, judge) if options.skip == "linear" else None
        for number in range(options.ensemble):
            network = self._new_network(derive_seed(run.seed, "network", number) if number else run.seed)
            if ridge is not None:
                network.set_linear_skip(torch.from_numpy(ridge.weight_).float())
                # trained along, the map would forget the penalty that was chosen for it
                cast("nn.Linear", network.linear_skip).requires_grad_(False)
            if init is not None:
                earlier = cast("FretsForecaster", init).networks
                start_from(network, earlier[min(number, len(earlier) - 1)].state_dict())
            network.to(run.device)
            task = WindowTask(
                network, learn, judge, self.config.training, mixes_series=options.channel_mixing
            )
            fit(task, run, name=f"network-{number}")
            if ridge is not None:
                self.shares.append(shrink_correction(network, judge, mixes_series=options.channel_mixing))
            self.networks.append(network)
        self._calibrate(judge)
        return self

    def forecast_windows(self, windows: WindowArrays) -> NDArray[np.float64]:
        """Return ``(W, H, N)`` float64 forecasts in scaled space; NaN where inputs are incomplete."""
        mixing = self.config.model.channel_mixing
        members = [forecast_windows(network, windows, mixes_series=mixing) for network in self.networks]
        return np.asarray(np.mean(members, axis=0))

    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Forecast every series of a validated long table.

        Args:
            table: ``unique_id``, ``ds``, ``y`` and optionally ``horizon``, ``panel``.
            files: Not used.

        Returns:
            One row a series and step, series in order of first appearance.

        Raises:
            UnusableGroups: Series are too short, gappy, repeated in time, or unknown though they may not be.
        """
        contexts, problems = self._read(table)
        if problems:
            raise UnusableGroups(problems, hint="Leave the series out, or send what is missing.")
        horizon = max(context.horizon for context in contexts)
        scalers = [self._scaler_of(context) for context in contexts]
        scaled = np.stack(
            [(item.values - shift) / scale for item, (shift, scale) in zip(contexts, scalers, strict=True)]
        )
        forecasts = self._roll(scaled, contexts, horizon)
        return self._answer(contexts, scalers, forecasts)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the model card."""
        yield "networks", str(len(self.networks))
        yield "parameters", parameter_count(*self.networks)
        if self.shares:
            shares = ", ".join(f"{share:.2f}" for share in self.shares)
            yield "share of the network's correction kept by the valid windows", shares
        yield "scaling", f"{self.scaler.kind}, fitted on the train part"
        yield from self.intervals.describe()

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write one safetensors file a network and one with scaling and intervals."""
        for number, network in enumerate(self.networks):
            save_network(network, folder / _WEIGHTS.format(number))
        intervals, arrays = self.intervals.to_parts()
        constants = {"shift": self.scaler.shift, "scale": self.scaler.scale, **arrays}
        save_file(
            {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in constants.items()},
            folder / _CONSTANTS,
        )
        return {
            "unique_ids": list(self.unique_ids),
            "freq": self.freq,
            "scaler": self.scaler.kind,
            "shares": self.shares,
            "intervals": intervals,
        }

    @classmethod
    def read_parts(cls, config: Any, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the forecaster from verified parts."""
        model = cls(config)
        constants = {name: value.numpy() for name, value in load_file(folder / _CONSTANTS).items()}
        model.unique_ids, model.freq = tuple(state["unique_ids"]), str(state["freq"])
        model.shares = list(state["shares"])
        model.scaler = Scaler(state["scaler"], constants.pop("shift"), constants.pop("scale"))
        model.intervals = ConformalIntervals.from_parts(state["intervals"], constants)
        for number in range(config.model.ensemble):
            path = folder / _WEIGHTS.format(number)
            model.networks.append(load_network(model._new_network(seed=0), path, device))
        return model

    def _new_network(self, seed: int) -> FreTS:
        options = self.config.model
        with drawn_by(seed):
            return FreTS(
                lookback=options.lookback,
                horizon=options.horizon,
                series=len(self.unique_ids) if options.channel_mixing else 1,
                embed_dim=options.embed_dim,
                hidden=options.hidden,
                channel_mixing=options.channel_mixing,
                mixing=options.mixing,
                sparsity=options.sparsity,
                init_scale=options.init_scale,
                instance_norm=options.instance_norm,
                dropout=options.dropout,
                skip=options.skip,
                head=options.head,
                # so that training starts from the ridge map and can only add to it
                zero_head=options.skip == "linear",
            )

    def _ridge(self, train: WindowArrays, valid: WindowArrays) -> RidgeNLinear:
        return RidgeNLinear(lookbacks=(train.lookback,)).fit(train, valid, seed=self.config.seed)

    def _calibrate(self, valid: WindowArrays) -> None:
        options = self.config.intervals
        self.intervals = ConformalIntervals.fit(
            valid.targets - self.forecast_windows(valid),
            levels=options.levels,
            method=options.method,
        )

    def _levels(self) -> tuple[int, ...]:
        fitted = getattr(self, "intervals", None)
        return self.config.intervals.levels if fitted is None else fitted.levels

    def _reader(self) -> ContextReader:
        options, data = self.config.model, self.config.data
        season = data.season or season_of(self.freq)
        return ContextReader(options.lookback, options.horizon, self.freq, season, data)

    def _read(self, table: pa.Table) -> tuple[list[Context], list[GroupProblem]]:
        contexts, problems = self._reader().read(table)
        told = {problem.key for problem in problems}
        return contexts, [*problems, *(item for item in self._strangers(contexts) if item.key not in told)]

    def _strangers(self, contexts: Sequence[Context]) -> list[GroupProblem]:
        """Name series that the model would have to have been trained on."""
        if self.config.model.channel_mixing:
            return self._incomplete_panels(contexts)
        if self.config.model.instance_norm:
            return []
        known = set(self.unique_ids)
        return [
            GroupProblem(
                (context.unique_id,),
                f"series '{context.unique_id}' was not trained on; model.instance_norm would allow it",
            )
            for context in contexts
            if context.unique_id not in known
        ]

    def _incomplete_panels(self, contexts: Sequence[Context]) -> list[GroupProblem]:
        panels: dict[str | None, list[Context]] = {}
        for context in contexts:
            panels.setdefault(context.panel, []).append(context)
        problems = []
        for name, members in panels.items():
            found = {member.unique_id for member in members}
            if found != set(self.unique_ids):
                absent = sorted(set(self.unique_ids) ^ found)[0]
                rule = f"the model mixes {len(self.unique_ids)} series and needs just these; see '{absent}'"
                problems.append(GroupProblem((name,), rule))
            elif len({(member.cutoff, member.horizon) for member in members}) > 1:
                problems.append(
                    GroupProblem((name,), "the series of a panel must end together, with one horizon")
                )
        return problems

    def _scaler_of(self, context: Context) -> tuple[float, float]:
        if context.unique_id in self.unique_ids:
            column = self.unique_ids.index(context.unique_id)
            return float(self.scaler.shift[column]), float(self.scaler.scale[column])
        own = Scaler.fit(context.values[:, None], "zscore")
        return float(own.shift[0]), float(own.scale[0])

    def _roll(
        self, scaled: NDArray[np.float64], contexts: Sequence[Context], horizon: int
    ) -> NDArray[np.float64]:
        """Forecast ``(S, L)`` to ``(S, horizon)``, feeding forecasts back beyond the trained horizon."""
        known, parts = scaled, []
        for _ in range(-(-horizon // self.config.model.horizon)):
            parts.append(self._forecast(known, contexts))
            known = np.concatenate([known, parts[-1]], axis=1)[:, -self.config.model.lookback :]
        return np.concatenate(parts, axis=1)[:, :horizon]

    def _forecast(self, scaled: NDArray[np.float64], contexts: Sequence[Context]) -> NDArray[np.float64]:
        if not self.config.model.channel_mixing:
            rows_alone = scaled[:, :, None]
            members = [forecast_rows(network, rows_alone)[:, :, 0] for network in self.networks]
            return np.asarray(np.mean(members, axis=0))
        place = {name: column for column, name in enumerate(self.unique_ids)}
        panels = list(dict.fromkeys(context.panel for context in contexts))
        rows = np.array([panels.index(context.panel) for context in contexts])
        columns = np.array([place[context.unique_id] for context in contexts])
        block = np.empty((len(panels), scaled.shape[1], len(place)))
        block[rows, :, columns] = scaled
        out = np.mean([forecast_rows(network, block) for network in self.networks], axis=0)
        return np.asarray(out[rows, :, columns])

    def _answer(
        self,
        contexts: Sequence[Context],
        scalers: Sequence[tuple[float, float]],
        forecasts: NDArray[np.float64],
    ) -> pa.Table:
        import pyarrow as pa

        reader = self._reader()
        trained = self.config.model.horizon
        columns: dict[str, list[Any]] = {name: [] for name in self.output_schema.names}
        for context, (shift, scale), scaled in zip(contexts, scalers, forecasts, strict=True):
            steps = context.horizon
            forecast = scaled[:steps]
            column = (
                self.unique_ids.index(context.unique_id) if context.unique_id in self.unique_ids else None
            )
            for level in self._levels():
                low, high = self.intervals.offsets(level, column)
                for side, offset in (("lo", low), ("hi", high)):
                    bound = np.full(steps, np.nan)
                    reached = min(steps, trained)
                    bound[:reached] = (forecast[:reached] + offset[:reached]) * scale + shift
                    columns[f"{side}-{level}"].append(bound)
            if "panel" in columns:
                columns["panel"] += [context.panel] * steps
            columns["unique_id"] += [context.unique_id] * steps
            columns["ds"].append(reader.future(context.cutoff, steps))
            columns["y_hat"].append(forecast * scale + shift)
            columns["cutoff"].append(np.full(steps, context.cutoff))
            columns["recursive"].append(np.arange(steps) >= trained)
        schema = self.output_schema.arrow_schema()
        return pa.table({field.name: _column(columns[field.name], field.type) for field in schema})


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_string(kind):
        return pa.array(values, kind)
    joined = np.concatenate(values)
    if pa.types.is_floating(kind):
        return pa.array(joined, kind, from_pandas=True)
    return pa.array(joined, kind)
