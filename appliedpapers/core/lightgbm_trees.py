"""LightGBM as it is grown here: the same on any number of threads, stopped early, kept as text.

What the trees see and what they minimise is the caller's: datasets and parameters come from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core.errors import BundleError

if TYPE_CHECKING:
    from lightgbm import Booster, Dataset

Judge = Callable[[Any, "Dataset"], tuple[str, float, bool]]


def grow(
    parameters: Mapping[str, Any],
    train: Dataset,
    valid: Dataset,
    *,
    rounds: int,
    patience: int,
    seed: int,
    threads: int,
    judge: Judge | None = None,
    told: Sequence[Callable[[Any], None]] = (),
) -> Booster:
    """Grow trees until ``valid`` is predicted no better.

    Args:
        parameters: Objective, metric and sizes, as LightGBM names them.
        train: What is learned from.
        valid: What decides where to stop, binned by ``train``.
        rounds: Upper bound of the rounds of boosting.
        patience: Rounds without a better ``valid`` before it stops.
        seed: The same seed and rows give the same trees.
        threads: Of LightGBM; they change nothing.
        judge: LightGBM's ``feval``: name, value and whether higher is better of predictions; None takes the
            metric of ``parameters``.
        told: LightGBM's callbacks after each round.

    Returns:
        The booster up to its best round.
    """
    import lightgbm

    fixed = {
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
        "seed": seed,
        "num_threads": threads,
    }
    return lightgbm.train(
        {**fixed, **parameters},
        train,
        rounds,
        valid_sets=[valid],
        feval=judge,
        callbacks=[lightgbm.early_stopping(patience, verbose=False), *told],
    )


def read_booster(path: Path) -> Booster:
    """Read what ``Booster.save_model`` wrote.

    Raises:
        BundleError: The file is absent or broken.
    """
    import lightgbm

    try:
        return lightgbm.Booster(model_file=str(path))
    except (lightgbm.basic.LightGBMError, OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read by lightgbm.", hint="Restore the bundle.") from error
