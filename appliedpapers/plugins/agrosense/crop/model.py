"""The crop recommender: encoder, recommender, novelty and photos, stored and asked as one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import ConfigError, DataError, UnusableGroups
from appliedpapers.core.files import write_json
from appliedpapers.core.model import FitContext, GroupProblem, Model
from appliedpapers.core.schema import Column, OutputSchema, TableSchema
from appliedpapers.plugins.agrosense.columns import Feature, features_to_json
from appliedpapers.plugins.agrosense.crop.answers import PHOTO_COLUMN, Answers, answer_columns
from appliedpapers.plugins.agrosense.crop.cascade import Cascade
from appliedpapers.plugins.agrosense.crop.config import CropConfig
from appliedpapers.plugins.agrosense.crop.data import SIMULATED_FEATURES
from appliedpapers.plugins.agrosense.crop.family import Lesson
from appliedpapers.plugins.agrosense.crop.fertiliser_table import COLUMNS as FERTILISER
from appliedpapers.plugins.agrosense.crop.fertiliser_table import fertiliser_columns
from appliedpapers.plugins.agrosense.crop.fusion import (
    Picture,
    SoilReader,
    learn_photos,
    read_photos,
    usual_teacher,
)
from appliedpapers.plugins.agrosense.crop.matrix import Encoder
from appliedpapers.plugins.agrosense.crop.novelty import Novelty
from appliedpapers.plugins.agrosense.crop.recommender import Recommender
from appliedpapers.plugins.agrosense.simulator_crops import CROPS
from appliedpapers.plugins.agrosense.splits import inner_folds

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.data import Split
    from appliedpapers.plugins.agrosense.crop.data import CropSplit

Floats = NDArray[np.float64]

_STATE = "recommender.json"


class CropRecommender(Model):
    """Recommends crops with calibrated probabilities, or says that a field is outside what it knows."""

    reads = ("answer", "fertiliser", "data")
    config: CropConfig

    def __init__(self, config: CropConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(tuple(SIMULATED_FEATURES))
        self.classes: tuple[str, ...] = CROPS
        self.recommender: Recommender | None = None
        self.novelty: Novelty | None = None
        self.reader: SoilReader | None = None
        self.prior: Floats = np.zeros(0)
        self.cascade: Cascade | None = None
        self.synthetic = False

    @property
    def input_schema(self) -> TableSchema:
        """One row a field: the features, each of which may be missing, and a photo where it is read."""
        columns = [
            Column("id", "string", "name of the field, carried over", nullable=True, required=False),
            *(feature.column() for feature in self.encoder.features),
        ]
        if self.encoder.soils:
            columns.append(
                Column("image", "string", "photo of the soil", nullable=True, required=False, file="image")
            )
        return TableSchema(tuple(columns))

    @property
    def output_schema(self) -> OutputSchema:
        """One row a field: ranked crops, whether they are advice, the conformal set and warnings."""
        names = [name for name, _ in self.encoder.players] if self.config.answer.explain else None
        carried = Column("id", "string", "name of the field, carried over", nullable=True)
        columns = answer_columns(len(self.classes), names)
        fusion = self.config.fusion
        if fusion.images and fusion.kind == "mowst":
            columns = (*columns, PHOTO_COLUMN)
        return OutputSchema((carried, *columns, *FERTILISER), rows="per_row", keys=("id",))

    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Fit on both parts: folds inside them decide on calibration, thresholds and novelty.

        Args:
            train: A :class:`~appliedpapers.plugins.agrosense.crop.data.CropSplit`.
            valid: Likewise.
            run: Where and how.
            init: Not possible.

        Raises:
            DataError: The photos cannot be learned from.
            ConfigError: An earlier model was given.
        """
        if init is not None:
            raise ConfigError(
                "a crop recommender does not start from an earlier one.",
                hint="Train on all rows that are to count.",
            )
        rows = joined(cast("CropSplit", train), cast("CropSplit", valid))
        self.classes, self.synthetic = rows.classes, rows.synthetic
        soil = None
        if self.config.fusion.images:
            photos = learn_photos(rows, self.config.fusion, run.seed, usual_teacher(self.config.fusion))
            self.reader, soil, self.prior = photos.reader, photos.block, photos.prior
        self.learn(rows, soil, run)
        return self

    def learn(self, rows: CropSplit, soil: Floats | None, run: FitContext) -> None:
        """Fit on rows whose photos were read already.

        Args:
            rows: All that is learned from.
            soil: Soil columns of the rows, ``(rows, soil classes + 1)``; None without photos.
            run: Where and how.
        """
        soils = self.reader.classes if self.reader is not None else ()
        self.encoder = Encoder(rows.features, tuple(soils))
        matrix = self.encoder.matrix(rows.table, soil)
        folds = inner_folds(rows.labels, rows.together, self.config.model.inner_folds, run.seed)
        lesson = Lesson(matrix, rows.labels, len(self.classes), self.config.model.family)
        self.recommender, chances = Recommender.fit_judged(lesson, folds, self.config, run)
        if soil is not None and self.config.fusion.kind == "mowst":
            own = replace(lesson, matrix=matrix[:, : self._table_width])
            alone = replace(run, folder=run.folder / "table-alone")
            weak, without = Recommender.fit_judged(own, folds, self.config, alone)
            pair, seen = (without, chances), soil[:, -1] == 0
            self.cascade = Cascade.fit(weak, pair, rows.labels, seen, rows.together, self.config, run.seed)
        numbers = matrix[:, self._number_columns]
        by_chance = inner_folds(rows.labels, None, self.config.model.inner_folds, run.seed)
        self.novelty = Novelty.fit(numbers, rows.labels, self._numbers, by_chance)

    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Recommend crops.

        Args:
            table: Rows with columns of :attr:`input_schema`.
            files: Not used.

        Raises:
            UnusableGroups: A photo cannot be read, or a percentage is a share of 1.
        """
        try:
            answers = self.answers(table)
        except (DataError, ValueError, OSError):
            self._refuse(table)
            raise
        order, advised = answers.order[:, 0], answers.advised
        crops = [self.classes[one] if said else None for one, said in zip(order, advised, strict=True)]
        more = fertiliser_columns(table, self.encoder.features, crops, self.config.fertiliser)
        return answers.table(self.output_schema, {"id": table.column("id"), **more})

    def answers(self, table: pa.Table, *, attributions: bool | None = None) -> Answers:
        """Return what is answered for rows, as arrays.

        Args:
            table: Rows with columns of :attr:`input_schema`, or more.
            attributions: Whether inputs are held to account; None does as the option ``answer.explain`` says.
        """
        assert self.recommender is not None
        assert self.novelty is not None
        explain = self.config.answer.explain if attributions is None else attributions
        if self.cascade is not None:
            return self._cascaded(self.cascade, table, explain)
        matrix = self.matrix(table)
        logits = self.recommender.logits(matrix)
        warnings = self.novelty.warnings(matrix[:, self._number_columns])
        shares = None
        if explain:
            players = [columns for _, columns in self.encoder.players]
            shares = self.recommender.attributions(matrix, logits.argmax(axis=1), players)
        return Answers(
            classes=self.classes,
            probabilities=self.recommender.calibration(logits),
            logits=logits,
            threshold=self.recommender.threshold,
            set_from=self.recommender.set_from,
            warnings=warnings,
            attributions=shares,
        )

    def _cascaded(self, cascade: Cascade, table: pa.Table, explain: bool) -> Answers:
        """Answer by the table first; photos of rows that it is sure of are not opened."""
        assert self.recommender is not None
        assert self.novelty is not None
        assert self.reader is not None
        reader, strong = self.reader, self.recommender
        cells, bare = pictures(table), replace(self.encoder, soils=()).matrix(table)
        matrix = np.concatenate([bare, read_photos(reader, [None] * len(cells), self.prior)], axis=1)

        def look(rows: NDArray[np.int64]) -> Floats:
            photos = [cells[row] for row in rows]
            matrix[rows, self._table_width :] = read_photos(reader, photos, self.prior)
            return strong.logits(matrix[rows])

        logits, seen, looked = cascade.joint(bare, np.array([cell is not None for cell in cells]), look)
        chances = cascade.weak.calibration(logits)
        logits[looked], chances[looked] = seen, strong.calibration(seen)
        shares = None
        if explain:
            players = [columns for _, columns in self.encoder.players]
            first = logits.argmax(axis=1)
            shares = np.zeros((len(cells), len(players) + 1))
            if not looked.all():
                own = cascade.weak.attributions(bare[~looked], first[~looked], players[:-1])
                # a photo that was not opened says nothing
                shares[~looked] = np.insert(own, -1, 0.0, axis=1)
            if looked.any():
                shares[looked] = strong.attributions(matrix[looked], first[looked], players)
        return Answers(
            classes=self.classes,
            probabilities=chances,
            logits=logits,
            threshold=cascade.threshold,
            set_from=cascade.set_from,
            warnings=self.novelty.warnings(bare[:, self._number_columns]),
            attributions=shares,
            looked=looked,
        )

    def matrix(self, table: pa.Table) -> Floats:
        """Return the columns that the recommender reads, ``(rows, width)``."""
        if self.reader is None:
            return self.encoder.matrix(table)
        soil = read_photos(self.reader, pictures(table), self.prior)
        return self.encoder.matrix(table, soil)

    def advice(self, table: pa.Table, prediction: pa.Table) -> str:
        """Return the answer in words: crops, warnings, what speaks for the first, and fertiliser."""
        from appliedpapers.plugins.agrosense.crop.advice import advice

        return advice(self, table)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the model card."""
        assert self.recommender is not None
        assert self.novelty is not None
        if self.synthetic:
            yield "data", "SYNTHETIC: figures say nothing about fields"
        yield "crops", f"{', '.join(self.classes)} ({len(self.classes)})"
        yield "inputs", ", ".join(_with_unit(feature) for feature in self.encoder.features)
        yield from self.recommender.describe()
        yield "novel from squared distance", f"{self.novelty.limit:.1f}"
        if self.encoder.soils:
            yield "photos", f"probabilities of {', '.join(self.encoder.soils)}"
        if self.cascade is not None:
            yield from self.cascade.describe()

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write the members' own formats; everything else is JSON beside them."""
        assert self.recommender is not None
        assert self.novelty is not None
        state = {
            "classes": list(self.classes),
            "features": features_to_json(self.encoder.features),
            "soils": list(self.encoder.soils),
            "recommender": self.recommender.write(folder),
            "novelty": self.novelty.to_json(),
            "reader": None if self.reader is None else self.reader.write(folder),
            "prior": self.prior.tolist(),
            "cascade": None if self.cascade is None else self.cascade.write(folder),
            "synthetic": self.synthetic,
        }
        write_json(folder / _STATE, state)
        return {}

    @classmethod
    def read_parts(cls, config: Any, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the model from verified parts."""
        model, state = cls(config), json.loads((folder / _STATE).read_text(encoding="utf-8"))
        model.classes = tuple(state["classes"])
        features = tuple(Feature.from_json(one) for one in state["features"])
        model.encoder = Encoder(features, tuple(state["soils"]))
        model.recommender = Recommender.read(state["recommender"], folder, config)
        model.novelty = Novelty.from_json(state["novelty"])
        model.prior, model.synthetic = np.array(state["prior"], dtype=np.float64), state["synthetic"]
        if state.get("cascade") is not None:
            model.cascade = Cascade.read(state["cascade"], folder, config)
        if state["reader"] is not None:
            from appliedpapers.plugins.agrosense.soil_image.reader import read

            model.reader = read(state["reader"], folder)
        return model

    @property
    def _numbers(self) -> list[Feature]:
        return [feature for feature in self.encoder.features if feature.kind == "number"]

    @property
    def _table_width(self) -> int:
        """Columns of the table, before those of the photo."""
        return replace(self.encoder, soils=()).width

    @property
    def _number_columns(self) -> list[int]:
        numbers = {feature.name for feature in self._numbers}
        return [columns[0] for name, columns in self.encoder.players if name in numbers]

    def _refuse(self, table: pa.Table) -> None:
        """Name the rows whose photo cannot be read."""
        problems = []
        if self.reader is not None:
            for row, cell in enumerate(pictures(table)):
                if cell is None:
                    continue
                try:
                    self.reader.probabilities([cell])
                except (DataError, ValueError, OSError) as error:
                    rule = getattr(error, "message", str(error)).removesuffix(".")
                    problems.append(GroupProblem((row,), rule, row + 1, "image"))
        if problems:
            raise UnusableGroups(problems, hint="Mend the photo, or leave it out.")


def joined(train: CropSplit, valid: CropSplit) -> CropSplit:
    """Return all rows that may be learned from."""
    import pyarrow as pa

    whole = pa.concat_tables([train.table, valid.table])
    return train._of(whole)


def pictures(table: pa.Table) -> Sequence[Picture | None]:
    """Return the photos of a table, None where there is none."""
    if "image" not in table.column_names:
        return [None] * table.num_rows
    return [cell or None for cell in table.column("image").to_pylist()]


def _with_unit(feature: Feature) -> str:
    return f"{feature.name} ({feature.unit})" if feature.unit and feature.unit != "pH" else feature.name
