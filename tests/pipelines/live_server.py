"""An application behind a real socket, in a thread of the test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from appliedpapers.pipelines.serving_express import ExpressProtocol


@contextmanager
def listening(app) -> Iterator[str]:
    """Yield the address at which an application listens, once it is ready; it ends with the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", http=ExpressProtocol, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while thread.is_alive() and (not server.started or app.state.serving.unready == "warming up"):
            time.sleep(0.01)
        assert not app.state.serving.unready
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
