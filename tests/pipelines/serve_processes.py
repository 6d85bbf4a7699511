"""``apps serve`` as a process of its own, which never outlives a test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

# a busy machine may take longer to answer than the 5 s of httpx, and no test is about that
for kind in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, kind, 60.0)


@contextmanager
def apps_serve(
    *words: object, env: Mapping[str, str] | None = None, cwd: object = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a server that is ready, and its address; ``process.said`` is what it said on stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "appliedpapers", "serve", *map(str, words), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | dict(env or {}),
    )
    process.said = []
    told = threading.Event()

    def listen() -> None:
        for line in process.stderr:
            process.said.append(line)
            if "http://" in line:
                told.set()
        told.set()

    threading.Thread(target=listen, daemon=True).start()
    try:
        assert told.wait(120)
        found = re.search(r"http://[\d.]+:\d+", "".join(process.said))
        assert found, process.said
        wait_for(lambda: httpx.get(f"{found.group()}/v2/health/ready").status_code == 200)
        yield process, found.group()
    finally:
        if process.poll() is None:
            # a parent of workers takes them along
            process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(holds, seconds: float = 120.0) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if holds():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError("it did not come to pass in time")
