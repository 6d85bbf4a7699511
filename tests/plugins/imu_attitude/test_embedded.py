"""A bundle runs without torch, numba, pandas and pyarrow, and answers as the model does."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from appliedpapers.core.bundle import save_bundle
from appliedpapers.core.config import resolve
from appliedpapers.core.errors import ConfigError
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig, SimulatorConfig
from appliedpapers.plugins.imu_attitude.embedded import load_machine
from appliedpapers.plugins.imu_attitude.model import AttitudeEstimator
from appliedpapers.plugins.imu_attitude.simulator import simulate

_SCRIPT = """
import json, sys
for name in ("torch", "numba", "pandas", "pyarrow", "mlflow", "scipy"):
    sys.modules[name] = None
from pathlib import Path
from appliedpapers.plugins.imu_attitude.embedded import load_machine

machine = load_machine(Path(sys.argv[1]))
rows = json.load(open(sys.argv[2]))
print(json.dumps([machine.step(*row).quaternion for row in rows]))
"""


def bundle(folder, share=0.5, **options):
    model = AttitudeEstimator(resolve(AttitudeConfig, assignments=[f"{k}={v}" for k, v in options.items()]))
    if share:
        with torch.no_grad():
            model._new_network(seed=1).gain.fill_(1.0)
    model.share, model.delay = share, 0.002
    save_bundle(model, folder, plugin="imu-attitude", task="attitude")
    return model


@pytest.fixture(scope="module")
def recording():
    return simulate(SimulatorConfig(sequences=3, seconds=6.0, fs=(100.0,)), seed=3)[1]


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_bundle_answers_without_torch(tmp_path, recording, share):
    model = bundle(tmp_path / "model", share)
    rows = list(zip(recording.acc.tolist(), recording.gyr.tolist(), recording.time.tolist(), strict=True))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path / "model"), str(tmp_path / "rows.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.array(json.loads(done.stdout))
    expected = model.estimate(recording).quaternion
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    alone = bundle(tmp_path / "alone", 0.0).estimate(recording).quaternion
    assert bool(np.abs(expected - alone).max() > 1e-4) is (share > 0)


def test_a_head_that_needs_torch_is_named(tmp_path):
    bundle(tmp_path / "model", **{"model.head": "fan"})
    with pytest.raises(ConfigError, match="needs torch"):
        load_machine(tmp_path / "model")
