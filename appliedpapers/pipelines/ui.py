"""MLflow's own page on our store."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from appliedpapers.core.errors import RunError

if TYPE_CHECKING:
    from appliedpapers.pipelines.tracking_store import Store


def serve_ui(store: Store, port: int) -> None:
    """Run MLflow's page on ``http://127.0.0.1:<port>`` until Ctrl-C.

    Raises:
        RunError: The server ended by itself, for example because the port is taken.
    """
    words = ["-m", "mlflow", "ui", "--backend-store-uri", store.tracking_uri, "--port", str(port)]
    server = subprocess.Popen([sys.executable, *words])
    try:
        code = server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        raise
    if code:
        raise RunError(
            f"MLflow's page ended with exit code {code}.", hint="Is the port taken? Try --port 5050."
        )
