"""Gradient-boosted trees for a 0/1 label on encoded rows, with categories as categories.

LightGBM and XGBoost behind one contract: :meth:`BoostedTrees.fit` stops early on the AUC of the valid rows,
:meth:`BoostedTrees.logits` gives raw margins, and what is written is the library's own text, never pickle.

Example:
    >>> model = LightGbm.tuned(train, valid, seed=0)
    >>> model.logits(test)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import BundleError, DataError
from appliedpapers.core.features.encoded import EncodedRows
from appliedpapers.core.features.tree_table import TreeTable, tree_table
from appliedpapers.core.files import whole_file
from appliedpapers.core.lightgbm_trees import grow, read_booster
from appliedpapers.core.metrics import auc
from appliedpapers.core.progress import SilentProgress

if TYPE_CHECKING:
    from appliedpapers.core.progress import Progress

Parameters = Mapping[str, Any]
Floats = NDArray[np.float64]

MAX_TREES = 500
PATIENCE = 30
"""Trees without a better AUC on the valid rows before it stops."""

_BLOCK_ROWS = 131_072
# below it threads of a library wait for one another longer than they work, many times so on a busy machine
_ROWS_A_THREAD = 200_000
_NOTE_EVERY = 50


class BoostedTrees(ABC):
    """Gradient-boosted trees; immutable once fitted and safe to share between threads.

    Args:
        parameters: What the library is told beside our fixed settings.
        max_trees: Upper bound of the number of trees.
        patience: Trees without a better AUC on the valid rows before it stops.

    Class attributes:
        name: Of the library.
        suffix: Ending of its files.
        candidates: What :meth:`tuned` chooses from.

    Attributes:
        trees_: Number of trees that early stopping chose.
        valid_auc_: Their AUC on the valid rows.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    candidates: ClassVar[tuple[Parameters, ...]]

    def __init__(
        self, parameters: Parameters | None = None, *, max_trees: int = MAX_TREES, patience: int = PATIENCE
    ) -> None:
        self.parameters = dict(parameters or {})
        self.max_trees, self.patience = max_trees, patience
        self.trees_ = 0
        self.valid_auc_ = float("nan")
        self._booster: Any = None

    @classmethod
    def tuned(
        cls,
        train: EncodedRows,
        valid: EncodedRows,
        *,
        seed: int,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Fit every one of :attr:`candidates` and return the best by AUC on ``valid``, ties to the first.

        Args:
            train: As in :meth:`fit`.
            valid: As in :meth:`fit`.
            seed: As in :meth:`fit`.
            threads: As in :meth:`fit`.
            progress: As in :meth:`fit`.

        Raises:
            DataError: As in :meth:`fit`.
        """
        fitted = [
            cls(one).fit(train, valid, seed=seed, threads=threads, progress=progress)
            for one in cls.candidates
        ]
        return max(fitted, key=lambda one: one.valid_auc_)

    def fit(
        self,
        train: EncodedRows,
        valid: EncodedRows,
        *,
        seed: int,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Grow trees on ``train`` until those of ``valid`` are ranked no better.

        Args:
            train: Rows with labels; their weights count.
            valid: Rows with labels.
            seed: The same seed and rows give the same trees, whatever the number of threads.
            threads: Threads of the library; None takes as many as torch may use and the rows are worth.
            progress: Told after each tree.

        Raises:
            DataError: One of the parts holds one class only.
        """
        for part, rows in (("train", train), ("valid", valid)):
            label = _label_of(rows)
            if not len(rows) or label.min() == label.max():
                raise DataError(
                    f"{self.name}: the {part} rows all have the same label.",
                    hint="Boosted trees need clicks and non-clicks in both parts; cut the rows differently.",
                )
        threads = threads or _worth(len(train))
        with (progress or SilentProgress()).task(self.name, self.max_trees) as task:

            def grown(trees: int, area: float) -> None:
                note = f"valid auc {area:.4f}" if trees % _NOTE_EVERY == 0 else None
                task.advance(note=note)

            self._train(train, valid, seed, threads, grown)
        self.valid_auc_ = auc(_label_of(valid), self.logits(valid, threads=threads), valid.weight)
        return self

    def logits(self, rows: EncodedRows, *, threads: int | None = None) -> Floats:
        """Return raw margins (log odds), ``(rows,)`` float64, in blocks: memory stays bounded.

        Args:
            rows: Of the fields that the trees were grown on.
            threads: As in :meth:`fit`.

        Raises:
            ValueError: The model was not fitted, or on other fields.
        """
        if self._booster is None:
            raise ValueError(f"{self.name}: fit before logits")
        threads = threads or _worth(len(rows))
        starts = range(0, len(rows), _BLOCK_ROWS)
        parts = [self._margins(tree_table(rows.take(slice(at, at + _BLOCK_ROWS))), threads) for at in starts]
        return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)

    def write(self, path: Path) -> None:
        """Write the trees as the library's own text.

        Raises:
            RunError: The file cannot be written.
            ValueError: The model was not fitted.
        """
        if self._booster is None:
            raise ValueError(f"{self.name}: fit before write")
        with whole_file(path) as aside:
            self._save(aside)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the model that :meth:`write` stored; it gives the same logits.

        Raises:
            BundleError: The file is absent or broken.
        """
        made = cls()
        made._load(path)
        return made

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield ``(name, value)`` facts for the report."""
        yield "trees", str(self.trees_)
        yield from ((name.replace("_", " "), f"{value:g}") for name, value in self.parameters.items())

    @abstractmethod
    def _train(
        self,
        train: EncodedRows,
        valid: EncodedRows,
        seed: int,
        threads: int,
        grown: Callable[[int, float], None],
    ) -> None: ...

    @abstractmethod
    def _margins(self, table: TreeTable, threads: int) -> NDArray[Any]: ...

    @abstractmethod
    def _save(self, path: Path) -> None: ...

    @abstractmethod
    def _load(self, path: Path) -> None: ...


class LightGbm(BoostedTrees):
    """LightGBM with native categories (Ke et al. 2017); written as its text format."""

    name = "lightgbm"
    suffix = ".txt"
    candidates = (
        # large clean logs: categories are hardly smoothed
        MappingProxyType({"learning_rate": 0.2, "num_leaves": 127, "cat_l2": 1.0, "cat_smooth": 1.0}),
        # small or noisy ones
        MappingProxyType(
            {
                "learning_rate": 0.1,
                "num_leaves": 31,
                "min_data_in_leaf": 100,
                "feature_fraction": 0.5,
                "cat_smooth": 30.0,
            }
        ),
    )

    def _train(
        self,
        train: EncodedRows,
        valid: EncodedRows,
        seed: int,
        threads: int,
        grown: Callable[[int, float], None],
    ) -> None:
        fitted = self._dataset(train, None)

        def report(state: Any) -> None:
            grown(state.iteration + 1, state.evaluation_result_list[0][2])

        self._booster = grow(
            {"objective": "binary", "metric": "auc", **self.parameters},
            fitted,
            self._dataset(valid, fitted),
            rounds=self.max_trees,
            patience=self.patience,
            seed=seed,
            threads=threads,
            told=[report],
        )
        self.trees_ = int(self._booster.current_iteration())

    def _dataset(self, rows: EncodedRows, reference: Any) -> Any:
        import lightgbm

        table = tree_table(rows)
        return lightgbm.Dataset(
            table.values,
            rows.label,
            weight=rows.weight,
            reference=reference,
            categorical_feature=np.flatnonzero(table.categorical).tolist(),
        )

    def _margins(self, table: TreeTable, threads: int) -> NDArray[Any]:
        return np.asarray(
            self._booster.predict(
                table.values, raw_score=True, num_iteration=self.trees_, num_threads=threads
            )
        )

    def _save(self, path: Path) -> None:
        self._booster.save_model(str(path))

    def _load(self, path: Path) -> None:
        self._booster = read_booster(path)
        self.trees_ = int(self._booster.current_iteration())


class XgBoost(BoostedTrees):
    """XGBoost by histograms with native categories (Chen and Guestrin 2016); written as its JSON.

    Ids that no train row holds take the branch of the categories that a split does not name.
    """

    name = "xgboost"
    suffix = ".json"
    candidates = (
        MappingProxyType({"learning_rate": 0.2, "max_leaves": 127, "max_depth": 0, "max_cat_threshold": 256}),
        MappingProxyType(
            {
                "learning_rate": 0.1,
                "max_leaves": 31,
                "max_depth": 0,
                "min_child_weight": 10.0,
                "colsample_bytree": 0.5,
            }
        ),
    )

    def _train(
        self,
        train: EncodedRows,
        valid: EncodedRows,
        seed: int,
        threads: int,
        grown: Callable[[int, float], None],
    ) -> None:
        import xgboost

        class Report(xgboost.callback.TrainingCallback):  # type: ignore[misc]
            def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
                grown(epoch + 1, evals_log["valid"]["auc"][-1])
                return False

        fitted = self._matrix(train, threads, None)
        checked = self._matrix(valid, threads, fitted)
        booster = xgboost.train(
            {
                "objective": "binary:logistic",
                "eval_metric": "auc",
                "tree_method": "hist",
                "grow_policy": "lossguide",
                "verbosity": 0,
                "seed": seed,
                "nthread": threads,
                **self.parameters,
            },
            fitted,
            self.max_trees,
            evals=[(checked, "valid")],
            early_stopping_rounds=self.patience,
            verbose_eval=False,
            callbacks=[Report()],
        )
        self.trees_ = int(booster.best_iteration) + 1
        self._booster = booster[: self.trees_]

    def _matrix(self, rows: EncodedRows, threads: int, reference: Any) -> Any:
        import xgboost

        table = tree_table(rows)
        return xgboost.QuantileDMatrix(
            table.values,
            rows.label,
            weight=rows.weight,
            ref=reference,
            nthread=threads,
            feature_types=_feature_types(table),
            enable_categorical=True,
        )

    def _margins(self, table: TreeTable, threads: int) -> NDArray[Any]:
        import xgboost

        # the booster's own number of threads is that of fitting, and setting it is not thread-safe
        matrix = xgboost.DMatrix(
            table.values, nthread=threads, feature_types=_feature_types(table), enable_categorical=True
        )
        return np.asarray(self._booster.predict(matrix, output_margin=True))

    def _save(self, path: Path) -> None:
        # the ending chooses the format
        text = self._booster.save_raw("json")
        path.write_bytes(bytes(text))

    def _load(self, path: Path) -> None:
        import xgboost

        self._booster = xgboost.Booster({"nthread": 1})
        try:
            # by path: an empty buffer would end the process
            self._booster.load_model(str(path))
        except (xgboost.core.XGBoostError, OSError, ValueError) as error:
            raise BundleError(f"{path}: cannot be read by xgboost.", hint="Restore the bundle.") from error
        self.trees_ = int(self._booster.num_boosted_rounds())


def _worth(rows: int) -> int:
    """Return how many threads so many rows are worth, at most those that torch may use."""
    import torch

    # torch follows --threads and OMP_NUM_THREADS
    return min(int(torch.get_num_threads()), 1 + rows // _ROWS_A_THREAD)


def _label_of(rows: EncodedRows) -> NDArray[np.float32]:
    if rows.label is None:
        raise ValueError("rows without labels cannot be learned from")
    return rows.label


def _feature_types(table: TreeTable) -> list[str]:
    return ["c" if is_id else "q" for is_id in table.categorical]
