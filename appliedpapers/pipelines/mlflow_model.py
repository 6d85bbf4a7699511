"""Serves an Applied Papers bundle to MLflow. The same file in every version; it holds no model."""

from typing import Any

import mlflow
import pandas as pd

from appliedpapers.pipelines.packaging import BundleAnswer


class BundleModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Loads the bundle beside this file and answers with its predictions."""

    def load_context(self, context: Any) -> None:
        """Load the bundle."""
        self._answer = BundleAnswer(context.artifacts["bundle"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Predict for a data frame, a dict of columns or a list of records."""
        return self._answer(model_input)


mlflow.models.set_model(BundleModel())
