"""An evaluation that claims a metric's name for another unit."""

from tinyplugins.tasks.evaluation import AHEAD

from appliedpapers.core.metrics import register_metric

register_metric("mse", unit="t", higher_is_better=True, description="tonnes")
EVALUATION = AHEAD
