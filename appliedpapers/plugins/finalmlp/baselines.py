"""What ours is held against: the click rate, logistic regression, boosted trees, and the simulator's oracle.

All of them learn from the same encoded rows and are calibrated on valid by the rule of ours.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from appliedpapers.core.calibration import fit_calibrator
from appliedpapers.core.data import Dataset, Split
from appliedpapers.core.errors import ConfigError, did_you_mean
from appliedpapers.core.evaluation import Baseline, Kind
from appliedpapers.core.features.encoded import EncodedRows
from appliedpapers.plugins.finalmlp.prepared import columns_of, prepare
from appliedpapers.plugins.finalmlp.scoring import ClickPrediction, Floats, sigmoid

if TYPE_CHECKING:
    from appliedpapers.core.boosting import BoostedTrees
    from appliedpapers.core.calibration import Calibrator
    from appliedpapers.core.features.encoder import Encoder
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.finalmlp.config import BaselineName, FinalMlpConfig
    from appliedpapers.plugins.finalmlp.model import FinalMlpModel
    from appliedpapers.plugins.finalmlp.prepared import Prepared
    from appliedpapers.plugins.finalmlp.splits import ClickSplit

_BLOCK_ROWS = 65_536


def baselines(config: FinalMlpConfig, dataset: Dataset) -> list[Baseline]:
    """Return the unfitted baselines that the configuration names.

    Simulated data add the oracle. Each column of ``config.without``, and each that the dataset suspects of
    giving the label away (unless ``config.suspects`` says no), adds LightGBM and ours without it.

    Raises:
        ConfigError: ``without`` names no input column.
    """
    train = cast("ClickSplit", dataset.train)
    known = columns_of({name: one for name, one in train.fields.items() if name in train.inputs()}, train)
    for name in config.without:
        if name not in known:
            raise ConfigError(
                f"option 'without': '{name}' is no input column.", hint=did_you_mean(name, known)
            )
    made: list[Baseline] = [_rival(name, config) for name in config.baselines]
    suspected = getattr(dataset, "suspects", ()) if config.suspects else ()
    for name in dict.fromkeys((*config.without, *suspected)):
        if name in config.model.leave_out:
            continue
        if "lightgbm" in config.baselines:
            made.append(Trees("lightgbm", config, leave_out=name))
        made.append(FinalMlpWithout(config, name))
    if train.truth is not None:
        made.append(Oracle(config))
    return made


def _rival(name: BaselineName, config: FinalMlpConfig) -> Baseline:
    if name == "click-rate":
        return ClickRate(config)
    if name == "logistic-regression":
        return LogisticRegression(config)
    return Trees(name, config)


def without_column(rows: EncodedRows, column: str) -> EncodedRows:
    """Return rows without the fields that are made from a column."""
    kept = [field.column != column for field in rows.fields]

    def places(kind: str) -> list[int]:
        of_kind = [keep for field, keep in zip(rows.fields, kept, strict=True) if field.kind == kind]
        return [place for place, keep in enumerate(of_kind) if keep]

    return EncodedRows(
        tuple(field for field, keep in zip(rows.fields, kept, strict=True) if keep),
        rows.ids[:, places("categorical")],
        rows.numbers[:, places("numeric")],
        tuple(rows.sequences[place] for place in places("sequence")),
        rows.label,
        rows.weight,
    )


class ClickBaseline(Baseline):
    """What knows the encoder of the run.

    Args:
        config: Of the run: how many rows, how to calibrate, how rows are encoded.
    """

    def __init__(self, config: FinalMlpConfig) -> None:
        self.config = config
        self._encoder: Encoder

    def _prepare(self, train: Split, valid: Split, run: FitContext) -> Prepared:
        learn, judge = cast("ClickSplit", train), cast("ClickSplit", valid)
        left = self.config.model.leave_out
        folder = run.folder / "encoded"
        prepared = prepare(learn, judge, self.config.data, folder, run.progress, leave_out=left)
        self._encoder = prepared.encoder
        return prepared

    def _encoded(self, split: ClickSplit) -> Iterator[EncodedRows]:
        names = [name for name in columns_of(self._encoder.columns, split) if name in split.inputs()]
        for batch in split.read(names, max_rows=_BLOCK_ROWS):
            yield self._encoder.encode(batch)


class EncodedBaseline(ClickBaseline):
    """A model over encoded rows, calibrated on valid."""

    def __init__(self, config: FinalMlpConfig) -> None:
        super().__init__(config)
        self._calibrator: Calibrator
        self._rows = self._of = 0

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit on at most ``baseline_rows`` train rows, choose and calibrate on valid.

        Raises:
            DataError: A part holds one class only.
        """
        prepared = self._prepare(train, valid, run)
        sample = prepared.sample(self.config.baseline_rows, run.seed)
        self._rows, self._of = len(sample), len(prepared.train)
        self._learn(sample, prepared.valid, run)
        label = prepared.valid.label
        assert label is not None
        logits = self.logits(prepared.valid)
        self._calibrator = fit_calibrator(self.config.model.calibration, logits, label, prepared.valid.weight)
        return self

    def predict(self, split: Split) -> ClickPrediction:
        """Predict for every row of a part, encoded block by block."""
        blocks = [(self.logits(rows), rows.unseen()) for rows in self._encoded(cast("ClickSplit", split))]
        logits = np.concatenate([block for block, _ in blocks])
        unseen = np.concatenate([block for _, block in blocks])
        return ClickPrediction(self._calibrator(logits), sigmoid(logits), unseen)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield how many rows it saw, what was chosen and how it was calibrated."""
        if self._rows < self._of:
            yield "train rows", f"{self._rows:,} of {self._of:,}, drawn at random"
        yield from self._chosen()
        yield "calibration", self._calibrator.method

    @abstractmethod
    def logits(self, rows: EncodedRows) -> Floats:
        """Return the log odds of encoded rows, ``(rows,)`` float64."""

    @abstractmethod
    def _learn(self, train: EncodedRows, valid: EncodedRows, run: FitContext) -> None: ...

    def _chosen(self) -> Iterable[tuple[str, str]]:
        return ()


class ClickRate(EncodedBaseline):
    """Every row has the click rate of the train rows."""

    name = "click-rate"

    def logits(self, rows: EncodedRows) -> Floats:
        """Return the same log odds for every row."""
        return np.full(len(rows), self._logit)

    def _learn(self, train: EncodedRows, valid: EncodedRows, run: FitContext) -> None:
        assert train.label is not None
        # kept off 0 and 1: train rows without a click do not prove that there is none
        clicks, rows = np.average(train.label, weights=train.weight) * len(train), len(train)
        self._logit = float(np.log((clicks + 0.5) / (rows - clicks + 0.5)))


class LogisticRegression(EncodedBaseline):
    """One weight a token, the penalty chosen on valid."""

    name = "logistic-regression"

    def logits(self, rows: EncodedRows) -> Floats:
        """Return the linear log odds."""
        return self._model.logits(rows)

    def _learn(self, train: EncodedRows, valid: EncodedRows, run: FitContext) -> None:
        from appliedpapers.core.sparse_logistic import SparseLogistic

        self._model = SparseLogistic.tuned(train, valid)

    def _chosen(self) -> Iterable[tuple[str, str]]:
        return self._model.describe()


class Trees(EncodedBaseline):
    """LightGBM or XGBoost with native categories, the better of two settings on valid.

    Args:
        library: ``"lightgbm"`` or ``"xgboost"``.
        config: Of the run.
        leave_out: A column to do without.
    """

    def __init__(self, library: str, config: FinalMlpConfig, leave_out: str | None = None) -> None:
        super().__init__(config)
        self.library, self.leave_out = library, leave_out
        self.name = library if leave_out is None else f"{library} without {leave_out}"

    def logits(self, rows: EncodedRows) -> Floats:
        """Return the trees' margins."""
        return self._model.logits(self._without(rows))

    def _learn(self, train: EncodedRows, valid: EncodedRows, run: FitContext) -> None:
        from appliedpapers.core.boosting import LightGbm, XgBoost

        maker: type[BoostedTrees] = LightGbm if self.library == "lightgbm" else XgBoost
        self._model = maker.tuned(
            self._without(train), self._without(valid), seed=run.seed, progress=run.progress
        )

    def _chosen(self) -> Iterable[tuple[str, str]]:
        return self._model.describe()

    def _without(self, rows: EncodedRows) -> EncodedRows:
        return rows if self.leave_out is None else without_column(rows, self.leave_out)


class FinalMlpWithout(Baseline):
    """Ours, fitted once more without a column.

    Args:
        config: Of the run.
        leave_out: The column.
    """

    kind: Kind = "ours"

    def __init__(self, config: FinalMlpConfig, leave_out: str) -> None:
        self.leave_out = leave_out
        self.name = f"finalmlp without {leave_out}"
        changed: dict[str, Any] = {"leave_out": (*config.model.leave_out, leave_out)}
        for which in ("context1", "context2"):
            wanted = getattr(config.model, which)
            if wanted != "auto":
                changed[which] = tuple(name for name in wanted if name != leave_out)
        self.config = config.replace(model=changed)
        self._model: FinalMlpModel

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit as ours."""
        from appliedpapers.plugins.finalmlp.model import FinalMlpModel

        self._model = FinalMlpModel(self.config).fit(train, valid, run)
        return self

    def predict(self, split: Split) -> ClickPrediction:
        """Predict as ours."""
        return self._model.predict_split(cast("ClickSplit", split))

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield what ours says about itself in one line."""
        return [fact for fact in self._model.describe() if fact[0] in ("parameters", "calibration")]


class Oracle(ClickBaseline):
    """The simulator's true probabilities: nobody can be better but by luck."""

    name = "oracle"
    attainable = False

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Take the encoder alone, which knows the tokens that are new."""
        self._prepare(train, valid, run)
        return self

    def predict(self, split: Split) -> ClickPrediction:
        """Return the true probability of every row."""
        part = cast("ClickSplit", split)
        assert part.truth is not None
        unseen = np.concatenate([rows.unseen() for rows in self._encoded(part)])
        return ClickPrediction(part.truth, part.truth, unseen)
