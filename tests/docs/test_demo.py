"""The demonstration cleans up after itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"


@pytest.mark.parametrize("wanted", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(tmp_path, wanted):
    demo = subprocess.Popen(
        [sys.executable, str(DEMO)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("demo-output/runs/*/request.json")):
            assert demo.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # to the demo alone, as a process manager does; a terminal tells the whole group
        demo.send_signal(wanted)
        _, complaint = demo.communicate(timeout=60)
    except BaseException:
        os.killpg(demo.pid, signal.SIGKILL)
        raise
    assert demo.returncode == 130
    assert "Traceback" not in complaint
    assert "nothing is left running" in complaint
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)
