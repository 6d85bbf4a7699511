"""The sentence that a trader asks for: do images help here?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliedpapers.core.config import TaskConfig

RIVALS = ("log-har", "log-har+flow", "qlike-har+flow", "mlp")
"""What needs no image: the forecasts that images have to beat to be worth anything."""
_SIGNIFICANT = 0.05


def images_sentence(results: Mapping[str, Any], config: TaskConfig) -> str:
    """Return in words whether the selected model, which sees images, beats those that see none.

    Args:
        results: The results document.
        config: Of the selected model.
    """
    kind = config.model_dump()["model"]["network"]
    if kind == "mlp":
        return "The selected model sees no image."
    tests = {test["b"]: test for test in results["tests"] if test["metric"] == "qlike"}
    rivals = [name for name in RIVALS if name in tests]
    if not rivals:
        return "Whether images help was not tested: no forecast without images is among the baselines."
    values = {
        row["model"]: row["value"]
        for row in results["rows"]
        if row["metric"] == "qlike" and not row["slice"] and row["seed"] is None
    }
    best = min(rivals, key=lambda name: values[name] if values[name] is not None else float("inf"))
    test = tests[best]
    if test["p"] is None or test["low"] is None:
        return f"Too few windows to tell whether images help beside {best}."
    ends = f"{test['low']:.3f} to {test['high']:.3f}"
    about = f"QLIKE less by {test['difference']:.3f} than {best} (interval {ends})"
    if test["low"] > 0:
        return f"Images help here: {about}."
    if test["high"] < 0:
        return f"Images do not help here; they do harm: {about}."
    return f"Images do not help here: {about}, which includes no difference."
