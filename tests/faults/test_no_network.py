"""What asks for no download opens no connection: every part of every plugin is loaded, and one is run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from appliedpapers.core import plugin as plugins

# any connection that leaves the process ends it with a code of its own
_WITHOUT = """
import os, socket, sys

def refuse(self, address, *rest):
    if self.family != getattr(socket, "AF_UNIX", None):
        print("tried to reach", address, file=sys.stderr)
        os._exit(99)
    return connect(self, address, *rest)

def look_up(*names, **more):
    print("tried to look up", names, file=sys.stderr)
    os._exit(99)

connect = socket.socket.connect
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = look_up
"""
_LOAD = """
from appliedpapers.core import plugin as plugins
spec = plugins.find(sys.argv[1])
for task in spec.tasks:
    for part in ("config", "datasets", "model", "evaluation"):
        task.load(part)
"""
_RUN = """
from appliedpapers.cli import main
main(sys.argv[1:])
"""


def without_network(program, *words, cwd):
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT + program, *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        check=False,
    )


def test_the_guard_itself_works(tmp_path):
    found = without_network("socket.create_connection(('203.0.113.1', 80), 1)", cwd=tmp_path)
    assert found.returncode == 99


@pytest.mark.parametrize(
    "plugin", [item.id for item in plugins.discover() if plugins.BUILT_IN_DISTRIBUTION in item.distributions]
)
def test_loading_all_of_a_plugin_needs_no_network(plugin, tmp_path):
    found = without_network(_LOAD, plugin, cwd=tmp_path)
    assert found.returncode == 0, found.stderr


def test_a_run_on_simulated_rows_needs_no_network(tmp_path):
    words = ["run", "tiny-rows", "--preset", "quick", "--quiet"]
    found = without_network(_RUN, *words, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "registered" in found.stdout
