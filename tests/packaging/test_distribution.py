"""What is built can be installed and used outside of the repository, without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import appliedpapers

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "plugins" / "tiny"
BUILD = """
import sys
from setuptools import build_meta

out = sys.argv[1]  # each build writes its own words there
build_meta.build_sdist(out)
build_meta.build_wheel(out)
"""
pytestmark = pytest.mark.slow


def tracked(*folders: str) -> list[str]:
    """Return what git tracks or would, by path; a folder of an sdist has no git."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist and the wheel, built from a copy without what earlier builds left behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked("appliedpapers", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    # files that a checkout has and no distribution may carry
    for name in ("tests/test_x.py", "docs/results/x.json", "data/someone.csv", "benchmarks/x.py"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The scripts of an environment with the wheel; its dependencies are those of this one."""
    home = tmp_path_factory.mktemp("venv") / "env"
    venv.create(home, with_pip=False, symlinks=True)
    paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
    # pip of this environment installs into the other one, which needs none
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(home / "bin" / "python"),
        "--disable-pip-version-check",
    ]
    words = [*pip, "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    # what stands on this path would count as installed already
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    places = {sysconfig.get_paths()[key] for key in ("purelib", "platlib")}
    # stands after its own packages on the path
    (Path(paths["purelib"]) / "dependencies.pth").write_text("\n".join(sorted(places)))
    return home / "bin"


def run(words, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "APPS_PLUGINS")}
    env |= {"PYTHONPATH": str(TINY), "MLFLOW_TRACKING_URI": "", "OMP_NUM_THREADS": "1"}
    env = {key: value for key, value in env.items() if value}
    return subprocess.run(
        list(map(str, words)), cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == set(tracked("appliedpapers"))
    kinds = {Path(name).suffix for name in inside}
    assert {".py", ".html", ".js", ".css", ".json", ".md", ".tmpl", ".safetensors"} <= kinds
    assert "appliedpapers/py.typed" in inside


def test_the_metadata_say_what_pyproject_says(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        about = Parser().parsestr(archive.read(info).decode())
        folder = info.rpartition("/")[0]
        points = archive.read(f"{folder}/entry_points.txt").decode()
        assert any(name.startswith(f"{folder}/licenses/LICENSE") for name in archive.namelist())
    assert about["Name"] == "applied-papers"
    assert about["Version"] == appliedpapers.__version__
    assert about["License-Expression"] == "Apache-2.0"
    assert "apps = appliedpapers.__main__:main" in points
    plugins = {
        path.parent.name.replace("_", "-")
        for path in (ROOT / "appliedpapers" / "plugins").glob("*/plugin.py")
    }
    assert {line.partition(" = ")[0] for line in points.splitlines() if line.endswith(":PLUGIN")} == plugins
    assert plugins <= set(about.get_all("Provides-Extra"))


def test_the_sdist_holds_what_a_build_needs_and_nothing_of_others(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(tracked("appliedpapers")) <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} <= names
    assert not any(name.startswith(("docs/", "data/", "benchmarks/")) for name in names)


def test_the_installed_command_works_outside_of_the_repository(installed, tmp_path):
    where = "import appliedpapers; print(appliedpapers.__file__)"
    found = run([installed / "python", "-c", where], tmp_path).stdout.strip()
    assert Path(found).is_relative_to(installed.parent)
    assert run([installed / "apps", "--version"], tmp_path).stdout == f"apps {appliedpapers.__version__}\n"
    listed = run([installed / "apps", "list", "--json"], tmp_path)
    assert listed.returncode == 0, listed.stderr
    states = {item["id"]: item["state"] for item in json.loads(listed.stdout)}
    assert sum(state == "ok" for name, state in states.items() if not name.startswith("tiny")) == 9
    done = run([installed / "apps", "run", "tiny-rows", "--preset", "quick", "--json", "--quiet"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["plugin"] == "tiny-rows"
    report = next((tmp_path / "runs").glob("*/report.html"))
    assert "<html" in report.read_text()
