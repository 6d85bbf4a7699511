"""The nitrogen model: preprocessing, regressions that answer together, and a conformal interval."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import ConfigError, UnusableGroups
from appliedpapers.core.files import write_json
from appliedpapers.core.model import FitContext, GroupProblem, Model
from appliedpapers.core.schema import Column, OutputSchema, TableSchema
from appliedpapers.plugins.agrosense.columns import Feature, features_to_json
from appliedpapers.plugins.agrosense.nitrogen.config import NitrogenConfig
from appliedpapers.plugins.agrosense.nitrogen.estimators import Arrays, fit_learner, predict_learner
from appliedpapers.plugins.agrosense.nitrogen.intervals import Interval
from appliedpapers.plugins.agrosense.nitrogen.scoring import Estimate
from appliedpapers.plugins.agrosense.nitrogen.spectra import preprocess, resampled
from appliedpapers.plugins.agrosense.splits import group_folds

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.data import Split
    from appliedpapers.plugins.agrosense.nitrogen.data import NitrogenSplit

Floats = NDArray[np.float64]
Fitted = tuple[tuple[str, Arrays], ...]

ON_SPECTRA = ("svr", "gpr", "mlp")

_SPLIT = 4
_STATE, _ARRAYS = "nitrogen.json", "nitrogen.safetensors"


class NitrogenModel(Model):
    """Estimates total nitrogen of soil from a spectrum or from bands, with an interval."""

    reads = ("data",)
    config: NitrogenConfig

    def __init__(self, config: NitrogenConfig) -> None:
        super().__init__(config)
        self.kind, self.unit = "spectra", "g/kg"
        self.features: tuple[Feature, ...] = ()
        self.grid: Floats = np.zeros(0)
        self.medians: Floats = np.zeros(0)
        self.top = float("inf")
        self.learners: Fitted = ()
        self.interval = Interval(float("inf"))
        self.ranges: tuple[tuple[float, float], ...] = ()

    @property
    def input_schema(self) -> TableSchema:
        """One row a sample: a spectrum on any grid that covers ours, or bands."""
        carried = Column("id", "string", "name of the sample, carried over", nullable=True, required=False)
        if self.kind == "bands":
            return TableSchema((carried, *(feature.column() for feature in self.features)))
        return TableSchema(
            (
                carried,
                Column("wavelength", "float64", "points of the spectrum, rising", unit="nm", shape=(None,)),
                Column("absorbance", "float64", "at these wavelengths", shape=(None,)),
            )
        )

    @property
    def output_schema(self) -> OutputSchema:
        """One row a sample: the estimate, its interval and warnings."""
        carried = Column("id", "string", "name of the sample, carried over", nullable=True)
        share = 1 - self.config.interval.alpha
        return OutputSchema(
            (
                carried,
                Column("nitrogen", "float64", "total nitrogen", unit=self.unit, minimum=0),
                Column(
                    "low",
                    "float64",
                    f"lower end of the {100 * share:.0f} % interval",
                    unit=self.unit,
                    nullable=True,
                ),
                Column(
                    "high",
                    "float64",
                    f"upper end of the {100 * share:.0f} % interval",
                    unit=self.unit,
                    nullable=True,
                ),
                Column("warnings", "string", "what is outside what was learned from; empty where nothing is"),
            ),
            rows="per_row",
            keys=("id",),
        )

    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Fit on both parts; folds inside them choose and give the interval.

        Args:
            train: A :class:`~appliedpapers.plugins.agrosense.nitrogen.data.NitrogenSplit`.
            valid: Likewise; it may be empty.
            run: Where and how.
            init: Not possible.

        Raises:
            ConfigError: An earlier model was given.
        """
        if init is not None:
            raise ConfigError(
                "a nitrogen model does not start from an earlier one.", hint="Train on all rows that count."
            )
        rows = joined(cast("NitrogenSplit", train), cast("NitrogenSplit", valid))
        self.kind, self.unit, self.features = rows.kind, rows.unit, rows.features
        if self.kind == "spectra":
            self.grid = np.array(rows.table.column("wavelength")[0].as_py(), dtype=np.float64)
        else:
            values = _band_values(rows.table, self.features)
            known = ~np.isnan(values)
            self.medians = np.array(
                [
                    np.median(own[there]) if there.any() else 0.0
                    for own, there in zip(values.T, known.T, strict=True)
                ]
            )
            self.ranges = tuple(
                (float(np.nanmin(own)), float(np.nanmax(own))) if there.any() else (-np.inf, np.inf)
                for own, there in zip(values.T, known.T, strict=True)
            )
        x, y = self.matrix(rows.table), rows.nitrogen
        self.top = float(y.max())
        names = self._chosen(x, y, rows.groups, run.seed)
        self.learners, self.interval = self._with_interval(names, x, y, rows.groups, run.seed)
        return self

    def estimate(self, table: pa.Table) -> Estimate:
        """Return values and intervals of validated rows."""
        return self._estimate(self.matrix(table))

    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Estimate nitrogen.

        Args:
            table: Rows with columns of :attr:`input_schema`.
            files: Not used.

        Raises:
            UnusableGroups: A spectrum does not cover the wavelengths that were learned from.
        """
        import pyarrow as pa

        told = self.estimate(table)
        assert told.low is not None
        assert told.high is not None
        ends = {
            name: pa.array(values, pa.float64(), mask=~np.isfinite(values))
            for name, values in (("low", told.low), ("high", told.high))
        }
        warnings = pa.array(["; ".join(said) for said in self._warnings(table, told)], pa.string())
        columns = {"id": table.column("id"), "nitrogen": pa.array(told.value), **ends, "warnings": warnings}
        return pa.table(columns)

    def matrix(self, table: pa.Table) -> Floats:
        """Return what the regressions see, ``(rows, columns)`` float64.

        Raises:
            UnusableGroups: A spectrum does not cover the grid.
        """
        if self.kind == "bands":
            values = _band_values(table, self.features)
            filled = np.where(np.isnan(values), self.medians, values)
            return _with_indices(filled, self.features) if self.config.model.indices else filled
        spectra, problems = [], []
        pairs = zip(
            table.column("wavelength").to_pylist(), table.column("absorbance").to_pylist(), strict=True
        )
        for row, (points, values) in enumerate(pairs):
            try:
                spectra.append(self._on_grid(points, values))
            except ValueError as error:
                problems.append(GroupProblem((row,), f"spectrum: {error}", row + 1, "wavelength"))
        if problems:
            hint = f"Expected absorbance from {self.grid[0]:g} to {self.grid[-1]:g} nm, finely enough."
            raise UnusableGroups(problems, hint=hint)
        return preprocess(np.stack(spectra), self.config.preprocessing)

    def advice(self, table: pa.Table, prediction: pa.Table) -> str:
        """Return the estimates in words."""
        share = 1 - self.config.interval.alpha
        lines = []
        for row in prediction.to_pylist():
            name = f" {row['id']}" if row["id"] else ""
            lines.append(f"total nitrogen{name}  {row['nitrogen']:.4g} {self.unit}")
            if row["low"] is not None:
                between = f"{row['low']:.4g} to {row['high']:.4g} {self.unit}"
                lines.append(f"  {100 * share:.0f} % of soils like it: {between}")
            lines += [f"  warning: {said}" for said in row["warnings"].split("; ") if said]
        return "\n".join(lines)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the model card."""
        yield "answers together", ", ".join(name for name, _ in self.learners)
        yield "largest value that is ever answered", f"{self.top:g} {self.unit}"
        if self.kind == "spectra":
            yield "wavelengths", f"{self.grid[0]:g} to {self.grid[-1]:g} nm, {len(self.grid)} points"
            yield "preprocessing", self.config.preprocessing.method
        else:
            yield "bands", ", ".join(feature.name for feature in self.features)
        radius = self.interval.radius
        scale = "logarithm of (1 + value)" if self.kind == "spectra" else self.unit
        yield (
            "half width of the interval",
            f"{radius:.4g} ({scale})" if np.isfinite(radius) else "too few rows",
        )

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write the arrays as safetensors, and the rest as JSON."""
        from safetensors.numpy import save_file

        arrays = {
            f"{number}.{name}": np.ascontiguousarray(values, dtype=np.float64)
            for number, (_, own) in enumerate(self.learners)
            for name, values in own.items()
        }
        save_file({**arrays, "grid": self.grid, "medians": self.medians}, folder / _ARRAYS)
        state = {
            **{"kind": self.kind, "unit": self.unit, "top": self.top},
            "features": features_to_json(self.features),
            "learners": [name for name, _ in self.learners],
            "interval": self.interval.to_json(),
            "ranges": self.ranges,
        }
        write_json(folder / _STATE, state)
        return {}

    @classmethod
    def read_parts(cls, config: Any, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the model from verified parts."""
        from safetensors.numpy import load_file

        model, stored = cls(config), json.loads((folder / _STATE).read_text(encoding="utf-8"))
        arrays = load_file(folder / _ARRAYS)
        model.kind, model.unit, model.top = stored["kind"], stored["unit"], stored["top"]
        model.features = tuple(Feature.from_json(one) for one in stored["features"])
        model.grid, model.medians = arrays["grid"], arrays["medians"]
        model.learners = tuple(
            (
                name,
                {
                    key.partition(".")[2]: value
                    for key, value in arrays.items()
                    if key.startswith(f"{number}.")
                },
            )
            for number, name in enumerate(stored["learners"])
        )
        model.interval = Interval.from_json(stored["interval"])
        model.ranges = tuple((float(low), float(high)) for low, high in stored["ranges"])
        return model

    def fitted(self, names: Sequence[str], x: Floats, y: Floats, seed: int) -> Fitted:
        """Return regressions of the transformed target."""
        told = self._forward(y)
        return tuple((name, fit_learner(name, x, told, self.config.model, seed)) for name in names)

    def answered(self, learners: Fitted, x: Floats) -> Floats:
        """Return the mean answer on the scale of the regressions, kept in what was learned from."""
        values = np.mean([predict_learner(name, arrays, x) for name, arrays in learners], axis=0)
        return np.asarray(np.clip(values, 0.0, float(self._forward(np.array([self.top]))[0])))

    def _estimate(self, x: Floats) -> Estimate:
        values = self.answered(self.learners, x)
        low, high = self.interval(values)
        return Estimate(self._back(values), np.maximum(self._back(low), 0.0), self._back(high))

    def _forward(self, y: Floats) -> Floats:
        return np.asarray(np.log1p(y)) if self.kind == "spectra" else y

    def _back(self, values: Floats) -> Floats:
        return np.asarray(np.expm1(values)) if self.kind == "spectra" else values

    def _chosen(self, x: Floats, y: Floats, groups: NDArray[Any] | None, seed: int) -> tuple[str, ...]:
        asked = self.config.model.learners
        if asked or self.kind == "spectra":
            return tuple(asked or ON_SPECTRA)
        folds = list(group_folds(_units(y, groups), 5, seed))
        losses, order = {}, np.concatenate([judged for _, judged in folds])
        units = _units(y, groups)[order]
        for name in self.config.model.tuned:
            errors = [
                self.answered(self.fitted((name,), x[learned], y[learned], seed), x[judged]) - y[judged]
                for learned, judged in folds
            ]
            squared = np.concatenate(errors) ** 2
            losses[name] = np.array([squared[units == one].mean() for one in np.unique(units)])
        best = min(losses.values(), key=lambda own: float(own.mean()))
        # the simplest within a standard error of the best (Breiman et al. 1984): few groups prove little
        enough = float(best.mean() + best.std(ddof=1) / np.sqrt(len(best)))
        return (next(name for name, own in losses.items() if own.mean() <= enough),)

    def _with_interval(
        self, names: Sequence[str], x: Floats, y: Floats, groups: NDArray[Any] | None, seed: int
    ) -> tuple[Fitted, Interval]:
        options = self.config.interval
        split = options.calibration == "split"
        folds = list(group_folds(_units(y, groups), _SPLIT if split else options.folds, seed))
        if split:
            folds = folds[:1]
        told, truth = [], []
        for learned, judged in folds:
            learners = self.fitted(names, x[learned], y[learned], seed)
            told.append(self.answered(learners, x[judged]))
            truth.append(self._forward(y[judged]))
        interval = Interval.fit(
            np.concatenate(told),
            np.concatenate(truth),
            options.alpha,
            normalised=options.scale == "normalised",
        )
        if split:
            return learners, interval
        return self.fitted(names, x, y, seed), interval

    def _on_grid(self, points: Sequence[float], values: Sequence[float]) -> Floats:
        if len(points) != len(values):
            raise ValueError(f"{len(points)} wavelengths for {len(values)} values")
        where, what = np.array(points, dtype=np.float64), np.array(values, dtype=np.float64)
        if len(where) < 2 or not (np.diff(where) > 0).all():
            raise ValueError("the wavelengths do not rise")
        if not np.isfinite(what).all():
            raise ValueError("a value is not a number")
        if len(where) == len(self.grid) and np.array_equal(where, self.grid):
            return what
        return resampled(where, what, self.grid)

    def _warnings(self, table: pa.Table, told: Estimate) -> list[list[str]]:
        found: list[list[str]] = [[] for _ in range(table.num_rows)]
        for row in np.flatnonzero(told.value >= self.top * (1 - 1e-9)):
            found[row].append(f"at the largest value that was learned from, {self.top:g} {self.unit}")
        if self.kind == "bands":
            values = _band_values(table, self.features)
            for row, column in np.argwhere(~np.isnan(values)):
                low, high = self.ranges[column]
                value, feature = values[row, column], self.features[column]
                if not low <= value <= high:
                    unit = f" {feature.unit}" if feature.unit else ""
                    found[row].append(
                        f"{feature.name} {value:g}{unit} is outside the training range {low:g} to "
                        f"{high:g}{unit}"
                    )
        return found


def joined(train: NitrogenSplit, valid: NitrogenSplit) -> NitrogenSplit:
    """Return all rows that may be learned from."""
    import pyarrow as pa

    return train._of(pa.concat_tables([train.table, valid.table]))


def _units(y: Floats, groups: NDArray[Any] | None) -> NDArray[Any]:
    return np.arange(len(y)) if groups is None else groups


def _band_values(table: pa.Table, features: Sequence[Feature]) -> Floats:
    columns = [
        np.array(table.column(one.name).to_pylist(), dtype=np.float64)
        if one.name in table.column_names
        else np.full(table.num_rows, np.nan)
        for one in features
    ]
    return np.stack(columns, axis=1)


def _with_indices(values: Floats, features: Sequence[Feature]) -> Floats:
    """Return bands with NDVI and GNDVI of them, and NDRE where there is a red edge."""
    place = {feature.name: number for number, feature in enumerate(features)}
    added = []
    for other in ("red", "green", "red_edge"):
        if other in place and "nir" in place:
            near, far = values[:, place["nir"]], values[:, place[other]]
            added.append((near - far) / np.where(near + far != 0, near + far, 1.0))
    return np.concatenate([values, np.stack(added, axis=1)], axis=1) if added else values
