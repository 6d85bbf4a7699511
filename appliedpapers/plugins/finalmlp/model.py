"""The click model: encoder, networks, calibration, and optionally boosted trees, stored and asked as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.boosting import LightGbm
from appliedpapers.core.calibration import Calibrator, fit_calibrator
from appliedpapers.core.errors import ConfigError, DataError, did_you_mean
from appliedpapers.core.features.encoded import EncodedRows
from appliedpapers.core.features.encoder import Encoder
from appliedpapers.core.features.fields import INPUTS, Fields
from appliedpapers.core.model import FitContext, Model
from appliedpapers.core.schema import Column, OutputSchema, TableSchema
from appliedpapers.core.sparse_logistic import SparseLogistic
from appliedpapers.core.weights import load_network, parameter_count, save_network
from appliedpapers.plugins.finalmlp.combine import Blend, Cascade, fit_blend, fit_cascade
from appliedpapers.plugins.finalmlp.config import FinalMlpConfig
from appliedpapers.plugins.finalmlp.fitting import (
    Earlier,
    new_network,
    new_weak_network,
    train_networks,
    train_weak,
)
from appliedpapers.plugins.finalmlp.input_columns import Kinds, input_columns, kinds_of
from appliedpapers.plugins.finalmlp.learner import score_rows
from appliedpapers.plugins.finalmlp.network import FinalMLP
from appliedpapers.plugins.finalmlp.prepared import Prepared, prepare
from appliedpapers.plugins.finalmlp.scorer import Scorer
from appliedpapers.plugins.finalmlp.scoring import ClickPrediction
from appliedpapers.plugins.finalmlp.splits import ClickSplit

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.data import Split

Floats = NDArray[np.float64]
Logits = Callable[[EncodedRows], Floats]

_WEIGHTS = "network-{}.safetensors"
_WEAK = "weak"
_TREES = "trees.txt"
_ONNX = "model.onnx"
_ROWS_A_BLOCK = 65_536


class FinalMlpModel(Model):
    """Predicts the probability of a click, purchase or install for each row.

    Values that were never seen in training, missing values, further columns and absent optional columns are
    handled by rule; see the plugin's README.
    """

    config: FinalMlpConfig

    def __init__(self, config: FinalMlpConfig) -> None:
        super().__init__(config)
        self.networks: list[FinalMLP] = []
        self.encoder: Encoder | None = None
        self.calibrator: Calibrator
        self.oov_dropout = 0.0
        self.trees: LightGbm | None = None
        self.blend: Blend | None = None
        self.weak: FinalMLP | LightGbm | SparseLogistic | None = None
        self.cascade: Cascade | None = None
        self.kinds: Kinds = {}
        self._device = "cpu"
        self._scorers: list[Scorer] = []
        self._weak_scorer: Scorer | None = None

    @property
    def input_schema(self) -> TableSchema:
        """One row an impression: the input columns; further ones are ignored."""
        return TableSchema(input_columns(self._columns(), self.kinds))

    @property
    def output_schema(self) -> OutputSchema:
        """One row an impression: carried ids, the calibrated probability and what it was made from."""
        carried = tuple(
            Column(name, self.kinds.get(name, "string"), "id of the row, carried over", nullable=True)
            for name, field in self._columns().items()
            if field.role == "ignore" and field.carry
        )
        columns = (
            Column("probability", "float64", "calibrated probability of label 1", minimum=0, maximum=1),
            Column("uncalibrated", "float64", "probability before calibration", minimum=0, maximum=1),
            Column("unseen", "int32", "categories that were never seen in training", minimum=0),
        )
        return OutputSchema(
            (*carried, *columns), rows="per_row", keys=tuple(column.name for column in carried)
        )

    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Fit encoder and networks on ``train``, choose and calibrate on ``valid``.

        Args:
            train: A :class:`ClickSplit`.
            valid: A :class:`ClickSplit`.
            run: Where and how.
            init: An earlier model: its weights are the start, its vocabularies grow by new tokens.

        Raises:
            RunError: Training diverged.
            DataError: A value does not fit its role.
            ConfigError: The configuration does not fit the columns, or the earlier model.
        """
        train, valid = cast("ClickSplit", train), cast("ClickSplit", valid)
        _check_left_out(self.config.model.leave_out, train.fields)
        before = cast("FinalMlpModel | None", init)
        prepared = prepare(
            train,
            valid,
            self.config.data,
            run.folder / "encoded",
            run.progress,
            leave_out=self.config.model.leave_out,
            start=None if before is None else before.encoder,
        )
        self.encoder, self._device = prepared.encoder, run.device
        self.kinds = kinds_of(prepared.encoder.columns, train.source.schema)
        earlier = None
        if before is not None and before.encoder is not None:
            earlier = Earlier(before.networks, before.encoder)
        self.networks, self.oov_dropout = train_networks(self.config, prepared, run, earlier)
        self._scorers = [Scorer(network) for network in self.networks]
        self._add_others(prepared, run)
        labels = prepared.valid.label
        assert labels is not None
        logits = self.logits(prepared.valid)
        self.calibrator = fit_calibrator(self.config.model.calibration, logits, labels, prepared.valid.weight)
        return self

    def logits(self, rows: EncodedRows) -> Floats:
        """Return the uncalibrated logit of encoded rows, ``(rows,)`` float64."""
        if self.cascade is None:
            return self._strong(rows)
        found = self.cascade.weak_logits(self._weak_logits(rows))
        sent = np.flatnonzero(self.cascade.unsure(found))
        if sent.size:
            found[sent] = self.cascade.strong_logits(self._strong(rows.take(sent)))
        return found

    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Predict for a validated table.

        Args:
            table: Rows with the columns of :attr:`input_schema`.
            files: Not used.

        Returns:
            A row for each row, in its order: carried ids, ``probability``, ``uncalibrated``, ``unseen``.
        """
        import pyarrow as pa

        parts = [
            self._answer(table.slice(start, _ROWS_A_BLOCK))
            for start in range(0, table.num_rows, _ROWS_A_BLOCK)
        ]
        joined = _joined(parts)
        columns: dict[str, Any] = {name: table.column(name) for name in self.output_schema.keys}
        columns |= {
            "probability": pa.array(joined.probability),
            "uncalibrated": pa.array(joined.uncalibrated),
            "unseen": pa.array(joined.unseen),
        }
        return pa.table(columns)

    def predict_split(self, split: ClickSplit) -> ClickPrediction:
        """Predict for one part of a log, read in batches."""
        return _joined(list(self._answers(split)))

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the model card."""
        yield "networks", str(len(self.networks))
        yield "parameters", parameter_count(*self.networks)
        yield "calibration", f"{self.calibrator.method}, fitted on the valid rows"
        yield "tokens trained as never seen", f"{self.oov_dropout:g} of each batch"
        if self.blend is not None:
            yield "blend", str(self.blend)
        if self.cascade is not None:
            yield (
                "cascade",
                f"{self.config.cascade.weak} first, {100 * self.cascade.share:.0f} % of rows to the network",
            )
        if self.encoder is not None:
            yield from self.encoder.describe()

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write weights, vocabularies and trees; numbers of calibration and routing are returned."""
        assert self.encoder is not None
        for number, network in enumerate(self.networks):
            save_network(network, folder / _WEIGHTS.format(number))
        if self.trees is not None:
            self.trees.write(folder / _TREES)
        if self.config.model.onnx:
            from appliedpapers.plugins.finalmlp.onnx import export_onnx

            export_onnx(self.networks, self.calibrator, self.encoder.fields, folder / _ONNX)
        state: dict[str, Any] = {
            "encoder": self.encoder.write(folder),
            "networks": len(self.networks),
            "calibration": self.calibrator.to_json(),
            "oov_dropout": self.oov_dropout,
            "kinds": dict(self.kinds),
        }
        if self.blend is not None:
            state["blend"] = [self.blend.network, self.blend.trees, self.blend.intercept]
        if self.cascade is not None:
            state["cascade"] = self.cascade.to_json()
            state["weak"] = self._write_weak(folder)
        return state

    @classmethod
    def read_parts(cls, config: Any, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the model from verified parts."""
        model = cls(config)
        model._device = device
        model.encoder = Encoder.read(state["encoder"], folder)
        model.kinds = dict(state["kinds"])
        model.oov_dropout = float(state["oov_dropout"])
        model.calibrator = Calibrator.from_json(state["calibration"])
        for number in range(int(state["networks"])):
            network = new_network(model.encoder.fields, config.model, seed=0)
            model.networks.append(load_network(network, folder / _WEIGHTS.format(number), device))
        model._scorers = [Scorer(network) for network in model.networks]
        if (folder / _TREES).is_file():
            model.trees = LightGbm.read(folder / _TREES)
        if "blend" in state:
            model.blend = Blend(*state["blend"])
        if "cascade" in state:
            model.cascade = Cascade.from_json(state["cascade"])
            model._read_weak(state["weak"], folder)
        return model

    def _add_others(self, prepared: Prepared, run: FitContext) -> None:
        """Fit the trees of a blend and the cheap model of a cascade, and how they go together."""
        weak = self.config.cascade.weak
        labels = prepared.valid.label
        assert labels is not None
        if self.config.model.blend == "lightgbm" or weak == "lightgbm":
            sample = prepared.sample(self.config.baseline_rows, run.seed)
            self.trees = LightGbm.tuned(sample, prepared.valid, seed=run.seed, progress=run.progress)
        if self.config.model.blend == "lightgbm" and self.trees is not None:
            network = self._network_logits(prepared.valid)
            self.blend = fit_blend(network, self.trees.logits(prepared.valid), labels)
            run.progress.say(f" blend {self.blend}")
        if weak == "none":
            return
        if weak == "lightgbm":
            self.weak = self.trees
        elif weak == "logistic-regression":
            sample = prepared.sample(self.config.baseline_rows, run.seed)
            self.weak = SparseLogistic.tuned(sample, prepared.valid)
        else:
            self.weak = train_weak(weak, self.config, prepared, run)
            self._weak_scorer = Scorer(self.weak)
        wanted = self.config.cascade.strong_share
        self.cascade = fit_cascade(
            self._weak_logits(prepared.valid),
            self._strong(prepared.valid),
            labels,
            share=None if wanted == "auto" else float(wanted),
            tolerance=self.config.cascade.tolerance,
        )
        run.progress.say(
            f" cascade {weak} first, {100 * self.cascade.share:.0f} % of valid rows to the strong model"
        )

    def _network_logits(self, rows: EncodedRows) -> Floats:
        found = [score_rows(scorer, rows, self._device) for scorer in self._scorers]
        return found[0] if len(found) == 1 else np.asarray(np.mean(found, axis=0))

    def _strong(self, rows: EncodedRows) -> Floats:
        network = self._network_logits(rows)
        if self.blend is None or self.trees is None:
            return network
        return self.blend(network, self.trees.logits(rows))

    def _weak_logits(self, rows: EncodedRows) -> Floats:
        if self._weak_scorer is not None:
            return score_rows(self._weak_scorer, rows, self._device)
        assert isinstance(self.weak, LightGbm | SparseLogistic)
        return self.weak.logits(rows)

    def _write_weak(self, folder: Path) -> dict[str, Any]:
        if isinstance(self.weak, FinalMLP):
            save_network(self.weak, folder / f"{_WEAK}.safetensors")
            return {"kind": "network"}
        if isinstance(self.weak, SparseLogistic):
            return {"kind": "logistic-regression", "state": self.weak.write(folder / _WEAK)}
        return {"kind": "lightgbm"}

    def _read_weak(self, state: Mapping[str, Any], folder: Path) -> None:
        assert self.encoder is not None
        if state["kind"] == "lightgbm":
            self.weak = self.trees
        elif state["kind"] == "logistic-regression":
            self.weak = SparseLogistic.read(state["state"], folder / _WEAK)
        else:
            network = new_weak_network(self.encoder.fields, self.config.cascade.weak, seed=0)
            self.weak = load_network(network, folder / f"{_WEAK}.safetensors", self._device)
            self._weak_scorer = Scorer(self.weak)

    def _answers(self, split: ClickSplit) -> Iterator[ClickPrediction]:
        import pyarrow as pa

        names = [name for name in split.inputs() if name in split.source.schema.names]
        for batch in split.read(names, max_rows=_ROWS_A_BLOCK):
            yield self._answer(pa.Table.from_batches([batch]))

    def _answer(self, table: pa.Table) -> ClickPrediction:
        assert self.encoder is not None
        rows = self.encoder.encode(table)
        logits = self.logits(rows)
        if not np.isfinite(logits).all():
            raise DataError(
                "the model gives no finite score for a row.",
                hint="Look for numbers far outside the range of the training rows.",
            )
        raw = 1.0 / (1.0 + np.exp(-np.clip(logits, -700, 700)))
        return ClickPrediction(self.calibrator(logits), raw, rows.unseen())

    def _columns(self) -> Mapping[str, Any]:
        if self.encoder is not None:
            return self.encoder.columns
        if self.config.data.fields:
            return self.config.data.fields
        from appliedpapers.plugins.finalmlp.simulator import simulated_fields

        return simulated_fields()


def _check_left_out(names: Iterable[str], fields: Fields) -> None:
    inputs = [name for name, field in fields.items() if field.role in (*INPUTS, "timestamp")]
    for name in names:
        if name not in inputs:
            raise ConfigError(
                f"option 'model.leave_out': '{name}' is no input column.", hint=did_you_mean(name, inputs)
            )


def _joined(parts: list[ClickPrediction]) -> ClickPrediction:
    return ClickPrediction(
        np.concatenate([part.probability for part in parts]),
        np.concatenate([part.uncalibrated for part in parts]),
        np.concatenate([part.unseen for part in parts]),
    )
