"""The server under load without pause, and ended under load: the short form of ``benchmarks/soak.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="memory is read from /proc")
@pytest.mark.parametrize(("workers", "seconds"), [(1, 30), (2, 6)])
def test_no_request_fails_memory_stays_and_the_end_drops_nothing(workers, seconds):
    words = [
        sys.executable,
        "-m",
        "benchmarks.soak",
        "--seconds",
        str(seconds),
        "--workers",
        str(workers),
        "--json",
    ]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert ended.stdout, ended.stderr
    found = json.loads(ended.stdout)
    assert found["failed"] == 0
    assert found["dropped"] == 0
    assert found["exit_code"] == 0
    assert found["growth"] <= 0.05
    assert found["requests"] > 100 * seconds
    assert found["answered_late"] > 0
