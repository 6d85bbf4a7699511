"""What is read is never executed, and what names an address is not fetched unless it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tinyplugins.rows.config import RowsConfig
from tinyplugins.rows.data import DATASETS
from tinyplugins.rows.model import RowsModel

import appliedpapers as ap
from appliedpapers.core import plugin as plugins
from appliedpapers.core.bundle import save_bundle
from appliedpapers.core.config import resolve
from appliedpapers.core.errors import AppsError, DataError
from appliedpapers.core.model import FitContext

ADDRESSES = (
    "http://127.0.0.1:9/a.csv",
    "https://127.0.0.1:9/a.csv",
    "s3://bucket/a.csv",
    "file:///etc/passwd",
)
# what a first load imports is of the package; a second one has no reason to run any code but its own
_LOAD_TWICE = """
import sys
from pathlib import Path
from appliedpapers.core.bundle import load_bundle

found, watched = [], False

def watch(event, arguments):
    if watched and event in ("compile", "exec", "import", "os.exec", "os.fork", "os.posix_spawn", "os.system",
                             "pickle.find_class", "subprocess.Popen", "ctypes.dlopen", "marshal.loads"):
        found.append(f"{event} {arguments!r:.200}")

sys.addaudithook(watch)
load_bundle(Path(sys.argv[1]))
watched = True
load_bundle(Path(sys.argv[1]))
exec("1")
watched = False
print("\\n".join(found))
"""


def test_loading_a_bundle_executes_nothing(tmp_path):
    data = DATASETS.simulated(RowsConfig())
    model = RowsModel(RowsConfig()).fit(data.train, data.valid, FitContext(tmp_path / "run"))
    bundle = tmp_path / "bundle"
    save_bundle(model, bundle, plugin="tiny-rows", task="regression")
    # beside the parts lies what an importer would take up
    for name in ("__init__.py", "model.py", "sitecustomize.py", "numpy.py"):
        (bundle / name).write_text("import os; os._exit(98)\n")
    done = subprocess.run(
        [sys.executable, "-c", _LOAD_TWICE, str(bundle)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # the one line that the program itself executes shows that the watch was on
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["compile", "exec"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_as_data_is_a_file_that_is_not_there(address):
    with pytest.raises(DataError, match="no such file"):
        ap.load_dataset(DATASETS, "tiny-rows", RowsConfig(), data=address)


_BUILT_IN = [item.id for item in plugins.discover() if plugins.BUILT_IN_DISTRIBUTION in item.distributions]


@pytest.mark.parametrize("plugin", _BUILT_IN)
def test_no_plugin_takes_an_address_for_data(plugin, monkeypatch, tmp_path):
    import socket

    def refuse(*words):
        raise AssertionError(f"{plugin} tried to reach {words[1:]}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for task in plugins.find(plugin).tasks:
        config = resolve(task.load("config"), preset="quick")
        for address in ADDRESSES:
            with pytest.raises(AppsError):
                ap.load_dataset(task.load("datasets"), plugin, config, data=address)


def test_the_telemetry_of_mlflow_is_off_whatever_the_environment_says(tmp_path):
    program = "import os, appliedpapers.pipelines; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "false"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "true"
