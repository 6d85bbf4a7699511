"""A plugin in somebody else's distribution lives the same life; ``apps new`` writes one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliedpapers.core.errors import ConfigError
from appliedpapers.pipelines.scaffold import new_plugin, render

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_plugin"
IN_A_PROCESS = """
import json, sys
from pathlib import Path
from appliedpapers.core.plugin import discover
from appliedpapers.core.testing import check_plugin
states = {item.id: item.state for item in discover()}
results = check_plugin("harvest-ridge", folder=Path(sys.argv[1]))
failed = [f"{result.name}: {result.detail}" for result in results if not result.ok]
print(json.dumps({"states": states, "failed": failed}))
"""


def test_the_example_is_what_apps_new_writes():
    written = render("harvest-ridge")
    kept = {
        path.relative_to(EXAMPLE).as_posix(): path.read_text()
        for path in EXAMPLE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.parent.name.endswith(".egg-info")
    }
    assert kept == written


def test_a_new_plugin_installs_is_discovered_and_keeps_the_contract(tmp_path):
    source = new_plugin("harvest-ridge", tmp_path / "source")
    site = tmp_path / "site"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True, timeout=120)
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, str(tmp_path / "checks")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["states"]["harvest-ridge"] == "ok"
    assert said["failed"] == []


@pytest.mark.parametrize("name", ["Harvest", "my_paper", "9lives", "a--b", "-a", "", "../up", "class"])
def test_a_name_that_cannot_be_an_id_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be a plugin's id"):
        new_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "words"), [("tiny-rows", "taken by tiny-plugins"), ("numpy", "a module")])
def test_a_name_that_is_taken_is_refused(tmp_path, name, words):
    with pytest.raises(ConfigError, match=words):
        new_plugin(name, tmp_path)


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "my-paper").mkdir()
    (tmp_path / "my-paper" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="already there"):
        new_plugin("my-paper", tmp_path)
    assert (tmp_path / "my-paper" / "notes.txt").read_text() == "mine"
