"""What ours is held against: the classical methods, plain and back-projected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Split
from appliedpapers.core.evaluation import Baseline
from appliedpapers.plugins.pansharpening.config import Classical, PansharpeningConfig

if TYPE_CHECKING:
    from appliedpapers.plugins.pansharpening.judging import Judged
    from appliedpapers.plugins.pansharpening.scene import Scene

_BACK_PROJECTED: tuple[Classical, ...] = ("gsa", "mtf-glp-fs")


def baselines(config: PansharpeningConfig) -> list[Baseline]:
    """Return the classical methods of the configuration but its own.

    Where our product is back-projected, the best of them are too, beside their plain form: what the
    network adds is then seen apart from what back-projection adds.
    """
    steps = config.back_projections
    plain = [name for name in config.baselines if name != config.method or steps]
    helped = [name for name in plain if steps and name in _BACK_PROJECTED and name != config.method]
    return [
        *(ClassicalBaseline(name, config) for name in plain),
        *(ClassicalBaseline(name, config, steps) for name in helped),
    ]


class ClassicalBaseline(Baseline):
    """A classical method: it has nothing to learn, and is fitted to each scene by itself.

    Args:
        method: Its name.
        config: How scenes are judged, and how much memory one may take.
        consistency: Steps of back-projection on its product.
    """

    def __init__(self, method: Classical, config: PansharpeningConfig, consistency: int = 0) -> None:
        self.name = f"{method}, back-projected" if consistency else method
        self._config = config.replace(method=method, consistency=consistency)

    def predict(self, split: Split) -> list[Judged]:
        """Sharpen and judge each scene."""
        from appliedpapers.plugins.pansharpening.judging import judge_all
        from appliedpapers.plugins.pansharpening.products import Task, sharpen

        def product(scene: Scene) -> NDArray[np.float32]:
            return sharpen(Task(scene, self._config)).whole()

        return judge_all(split, product, self._config.evaluation)
