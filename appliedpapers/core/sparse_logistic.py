"""Logistic regression on encoded rows: one weight a token, without ever building the wide table.

A row's one-hot columns are known by its ids, so that products with the design matrix are look-ups and counts:
memory is that of the ids. Minimised by L-BFGS (Liu and Nocedal 1989) from zero along falling penalties.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import BundleError, DataError
from appliedpapers.core.features.encoded import PADDING, EncodedField, EncodedRows
from appliedpapers.core.files import whole_file
from appliedpapers.core.metrics import auc

if TYPE_CHECKING:
    from appliedpapers.core.progress import Progress

Floats = NDArray[np.float64]

PENALTIES = (100.0, 10.0, 1.0)
"""Weights of half the sum of squares against the sum of the losses: 1 / C of other libraries."""

WEIGHTS_FILE = "logistic.safetensors"

_MAX_STEPS = 200
_ENOUGH = 1e-6  # relative gain of a step below which the ranking of rows no longer moves
_BLOCK_ROWS = 262_144


class SparseLogistic:
    """Logistic regression with an L2 penalty that is chosen on valid rows.

    Categorical fields are one-hot, a sequence is the mean of its tokens' columns (empty: zeros), numeric
    fields are standardised. The intercept is not penalised. A token that no train row holds weighs 0.

    Attributes:
        weights_: One weight a column, ``(columns,)`` float64: fields with tables in schema order, then
            numeric ones, for their values as encoded.
        intercept_: Log odds of a row whose columns are all 0.
        penalty_: The chosen penalty.
        valid_auc_: Its AUC on the valid rows.
    """

    def __init__(self) -> None:
        self.weights_: Floats = np.zeros(0)
        self.intercept_ = 0.0
        self.penalty_, self.valid_auc_ = float("nan"), float("-inf")

    @classmethod
    def tuned(
        cls,
        train: EncodedRows,
        valid: EncodedRows,
        *,
        penalties: Sequence[float] = PENALTIES,
        progress: Progress | None = None,
    ) -> Self:
        """Fit every penalty, each from where the stronger one ended, and keep the best by AUC on ``valid``.

        Args:
            train: Rows with labels; their weights count.
            valid: Rows with labels.
            penalties: What is chosen from.
            progress: Told after each penalty.

        Raises:
            DataError: The train or the valid rows all have the same label.
        """
        for part, rows in (("train", train), ("valid", valid)):
            if rows.label is None or not len(rows) or rows.label.min() == rows.label.max():
                raise DataError(
                    f"logistic-regression: the {part} rows all have the same label.",
                    hint="Clicks and non-clicks are needed in both parts; cut the rows differently.",
                )
        made, judged = cls(), _Design.of(valid)
        problem = _Problem(_Design.of(train), train)
        at = problem.start()
        for penalty in sorted(penalties, reverse=True):
            at = problem.solve(at, penalty)
            weights, intercept = problem.plain(at)
            area = auc(np.asarray(valid.label), judged.times(weights) + intercept, valid.weight)
            if progress is not None:
                progress.say(f"logistic-regression, penalty {penalty:g}: valid auc {area:.4f}")
            if area > made.valid_auc_:
                made.weights_, made.intercept_ = weights, intercept
                made.penalty_, made.valid_auc_ = penalty, area
        return made

    def logits(self, rows: EncodedRows) -> Floats:
        """Return log odds, ``(rows,)`` float64, in blocks: memory stays bounded.

        Raises:
            ValueError: The model was not fitted, or on fields of other sizes.
        """
        width = _width(rows.fields)
        if self.weights_.shape != (width,):
            raise ValueError(f"rows have {width} columns, the model {self.weights_.size}")
        starts = range(0, len(rows), _BLOCK_ROWS)
        blocks = (_Design.of(rows.take(slice(at, at + _BLOCK_ROWS))) for at in starts)
        parts = [block.times(self.weights_) + self.intercept_ for block in blocks]
        return np.concatenate(parts) if parts else np.zeros(0)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the weights to ``folder/logistic.safetensors`` and return the rest, for JSON.

        Raises:
            RunError: The folder is not writable.
        """
        from safetensors.numpy import save_file

        with whole_file(folder / WEIGHTS_FILE) as aside:
            save_file({"weights": self.weights_}, str(aside))
        return {"intercept": self.intercept_, "penalty": self.penalty_, "columns": int(self.weights_.size)}

    @classmethod
    def read(cls, state: Mapping[str, Any], folder: Path) -> Self:
        """Return the model that :meth:`write` stored.

        Raises:
            BundleError: The file is absent, broken, or does not belong to the state.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = folder / WEIGHTS_FILE
        try:
            weights = load_file(str(path))["weights"]
        except (OSError, SafetensorError, KeyError) as error:
            raise BundleError(f"{path}: cannot be read.", hint="Restore the bundle.") from error
        if weights.shape != (state["columns"],) or weights.dtype != np.float64:
            raise BundleError(f"{path}: does not belong to its model.", hint="Restore the bundle.")
        made = cls()
        made.weights_, made.intercept_ = weights, float(state["intercept"])
        made.penalty_ = float(state["penalty"])
        return made

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield ``(name, value)`` facts for the report."""
        yield "penalty", f"{self.penalty_:g}"
        yield "weights", f"{np.count_nonzero(self.weights_):,}"


@dataclass(frozen=True)
class _Design:
    """The design matrix of some rows, by how to multiply with it."""

    ids: tuple[tuple[int, int, NDArray[np.int32]], ...]  # first column, number of columns, id of each row
    means: tuple[tuple[int, int, Any], ...]  # the same, with a sparse matrix of shares
    numbers: NDArray[np.float32]  # the last columns, (rows, numeric fields)
    width: int

    @classmethod
    def of(cls, rows: EncodedRows) -> _Design:
        ids, means, start = [], [], 0
        taken = {"categorical": 0, "numeric": 0, "sequence": 0}
        for field in rows.fields:
            place = taken[field.kind]
            taken[field.kind] += 1
            if field.kind == "categorical":
                ids.append((start, field.size, np.ascontiguousarray(rows.ids[:, place])))
            elif field.kind == "sequence":
                means.append((start, field.size, _shares(rows.sequences[place], field.size)))
            start += field.size
        return cls(tuple(ids), tuple(means), rows.numbers, _width(rows.fields))

    def times(self, weights: Floats) -> Floats:
        """Return the product with ``weights``, ``(rows,)``."""
        out = np.zeros(len(self.numbers))
        for start, size, ids in self.ids:
            out += weights[start : start + size][ids]
        for start, size, shares in self.means:
            out += shares @ weights[start : start + size]
        tail = weights[self.width - self.numbers.shape[1] :]
        for column, weight in enumerate(tail):
            out += weight * self.numbers[:, column]
        return out

    def transposed_times(self, values: Floats) -> Floats:
        """Return the product of the transposed matrix with ``values``, ``(columns,)``."""
        out = np.empty(self.width)
        for start, size, ids in self.ids:
            out[start : start + size] = np.bincount(ids, values, minlength=size)
        for start, size, shares in self.means:
            out[start : start + size] = shares.T @ values
        first = self.width - self.numbers.shape[1]
        for column in range(self.numbers.shape[1]):
            out[first + column] = np.dot(self.numbers[:, column], values)
        return out


class _Problem:
    """The penalised mean loss over scaled weights; the intercept comes last.

    The curvature of a rare token's weight is thousands of times smaller than that of a frequent one, so that
    plain L-BFGS needs hundreds of steps. Weights are measured in units that make the diagonal of the Hessian
    about 1.
    """

    def __init__(self, design: _Design, rows: EncodedRows) -> None:
        label = rows.label
        assert label is not None
        self.design = design
        self.sign = np.where(label == 1, 1.0, -1.0)
        self.share = np.ones(len(rows)) if rows.weight is None else rows.weight.astype(np.float64)
        self.total = float(self.share.sum())
        self.rate = float(np.dot(self.share, label)) / self.total
        first = design.width - rows.numbers.shape[1]
        self.scale, self.shift = np.ones(design.width), np.zeros(design.width)
        if rows.numbers.shape[1]:
            spread = rows.numbers.std(axis=0, dtype=np.float64)
            self.scale[first:] = 1.0 / np.where(spread > 0, spread, 1.0)
            self.shift[first:] = rows.numbers.mean(axis=0, dtype=np.float64)
        held = design.transposed_times(self.share)
        held[first:] = self.total
        self.curvature = held * self.rate * (1 - self.rate) / self.total

    def start(self) -> Floats:
        """Return zero weights with the intercept of the click rate."""
        at = np.zeros(self.design.width + 1)
        at[-1] = np.log(self.rate / (1 - self.rate))
        return at

    def plain(self, at: Floats) -> tuple[Floats, float]:
        """Return weights and intercept for the values as encoded."""
        weights = at[:-1] * self.scale
        return weights, float(at[-1] - np.dot(weights, self.shift))

    def solve(self, at: Floats, penalty: float) -> Floats:
        """Return the minimum for one penalty, from standardised weights to standardised weights."""
        from scipy.optimize import minimize

        mean_penalty = penalty / self.total
        unit = np.append(1.0 / np.sqrt(self.curvature + mean_penalty), 1.0)

        def loss(scaled: Floats) -> tuple[float, Floats]:
            value, slope = self.loss(scaled * unit, mean_penalty)
            return value, slope * unit

        options = {"maxiter": _MAX_STEPS, "ftol": _ENOUGH, "gtol": 1e-7}
        found = minimize(loss, at / unit, jac=True, method="L-BFGS-B", options=options)
        return np.asarray(found.x * unit, dtype=np.float64)

    def loss(self, at: Floats, penalty: float) -> tuple[float, Floats]:
        """Return the penalised mean loss and its gradient."""
        weights, intercept = self.plain(at)
        margin = self.sign * (self.design.times(weights) + intercept)
        small = np.exp(-np.abs(margin))
        loss = np.dot(self.share, np.log1p(small) + np.maximum(-margin, 0.0)) / self.total
        chance = np.where(margin > 0, small, 1.0) / (1.0 + small)  # of the other class
        pull = -self.share * self.sign * chance / self.total
        raw = self.design.transposed_times(pull)
        slope = np.empty(at.size)
        slope[-1] = pull.sum()
        slope[:-1] = (raw - self.shift * slope[-1]) * self.scale + penalty * at[:-1]
        return float(loss + penalty / 2 * np.dot(at[:-1], at[:-1])), slope


def _width(fields: Sequence[EncodedField]) -> int:
    return sum(field.size if field.kind != "numeric" else 1 for field in fields)


def _shares(tokens: NDArray[np.int32], size: int) -> Any:
    """Return what share of a row each token is, ``(rows, size)`` sparse."""
    from scipy.sparse import csr_array

    held = tokens != PADDING
    count = held.sum(axis=1)
    ends = np.concatenate([[0], np.cumsum(count)])
    share = np.repeat(1.0 / np.maximum(count, 1), count)
    return csr_array((share, tokens[held], ends), shape=(len(tokens), size))
