"""What one does with any plugin: run, track, report, score, serve."""

import os as _os
from pathlib import Path as _Path

DEFAULT_STORE = _Path("mlruns")
"""Where MLflow's store lies unless a person or ``MLFLOW_TRACKING_URI`` says otherwise."""

# MLflow reads these when it is imported, whichever pipeline imports it first
_os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
_os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
_os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# a run on a server would print its address on stdout, where our data goes
_os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# a uv project in the working folder is the user's, not the model's
_os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
