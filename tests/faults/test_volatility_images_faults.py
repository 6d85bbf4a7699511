"""Feeds that broke on their way, as a user meets them: one line, the place, a remedy, exit code 4."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def audit(path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "appliedpapers",
        "data",
        "audit",
        "volatility-images",
        "--data",
        str(path),
    ]
    return subprocess.run(
        [*command, *words], cwd=path.parent, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


def capture(path, *, broken: bool):
    ticker = b'{"stream":"x","data":{"u":1,"s":"BTCUSDT","b":"1.0","B":"1","a":"1.1","A":"1"}}'
    update = b'{"stream":"x","data":{"e":"depthUpdate","s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}}'
    # the same second over and over
    lines = [b"1723161254087085768 " + ticker, b"1723161254087085768 " + update]
    packed = gzip.compress(b"\n".join(lines * 500))
    path.write_bytes(packed[: len(packed) // 2] if broken else packed)
    return path


@pytest.mark.parametrize(("broken", "said"), [(True, "cannot be read"), (False, "no snapshot")])
def test_a_capture_that_broke_off_or_has_no_snapshot_is_refused(tmp_path, broken, said):
    done = audit(capture(tmp_path / "feed.gz", broken=broken))
    assert done.returncode == 4
    assert "feed.gz" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_frame_whose_clock_was_set_back_is_refused_with_its_row(tmp_path):
    count = 4000
    frame = pd.DataFrame(
        {"ts_ms": 1_700_000_000_000 + 500 * np.arange(count), "bid_px_0": 100.0, "bid_qty_0": 1.0}
    )
    frame = frame.assign(ask_px_0=100.01, ask_qty_0=1.0)
    frame.loc[3000:, "ts_ms"] -= 3_600_000
    frame.to_csv(tmp_path / "book.csv", index=False)
    done = audit(tmp_path / "book.csv")
    assert done.returncode == 4
    assert "row 3001: time goes backwards (1 times in the file)" in " ".join(done.stderr.split())
