"""Fixtures that every test folder uses."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]

# a shell without job control starts background work deaf to Ctrl-C, and children inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# workers with a thread a core each wait for one another: measured several times slower than one thread each
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# the tiny plugins are found as if they were installed, in this process and in those that tests start
_TINY = str(_ROOT / "tests" / "plugins" / "tiny")
sys.path.insert(0, _TINY)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_TINY, os.environ.get("PYTHONPATH"))))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published data and golden files: ``APPS_SHARED``, or ``../shared`` beside the repository.

    Without it the test is skipped, except under CI, where a silent skip would hide a lost check.
    """
    folder = Path(os.environ.get("APPS_SHARED") or _ROOT.parent / "shared")
    if folder.is_dir():
        return folder
    reason = f"the shared folder {folder} is absent; set APPS_SHARED to the folder with data/ and golden/"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
