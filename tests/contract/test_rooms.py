"""Whoever knows one plugin knows all: the same thing is in the file of the same name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import appliedpapers.plugins
from appliedpapers.core import plugin as plugins

HOUSE = Path(appliedpapers.plugins.__file__).parent
PLUGINS = sorted(folder for folder in HOUSE.iterdir() if (folder / "plugin.py").is_file())
OF_A_TASK = ("config.py", "data.py", "model.py", "evaluation.py")
SHARED = ("simulator.py", "splits.py", "README.md")
MATHS = ("network*.py", "estimators.py")
ROOMS = {
    "TaskConfig": "config",
    "DatasetCatalog": "data",
    "Split": "splits",
    "Model": "model",
    "TrainTask": "learner",
    "Baseline": "baselines",
    "Evaluation": "evaluation",
}
LONGEST = 400


def classes(path: Path):
    """Yield names and base names of a file's classes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
            yield node.name, {base.id for base in bases if isinstance(base, ast.Name)}


def test_there_are_plugins():
    assert len(PLUGINS) >= 5


def homes(folder: Path) -> list[Path]:
    """Return where each task lives: in the plugin's folder, or, of several, in a folder of its name."""
    found = next(item for item in plugins.discover() if item.id == folder.name.replace("_", "-"))
    tasks = [task.name.replace("-", "_") for task in found.spec.tasks]
    return [folder / task for task in tasks] if len(tasks) > 1 else [folder]


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_every_plugin_has_the_same_rooms(folder):
    assert [name for name in ("plugin.py", *SHARED) if not (folder / name).is_file()] == []
    for home in homes(folder):
        assert [name for name in OF_A_TASK if not (home / name).is_file()] == [], home.name
        assert any(found for pattern in MATHS for found in home.glob(pattern)), home.name


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_what_extends_a_contract_is_in_its_room(folder):
    astray = [
        f"{path.name}: {name} is a {base}, which belongs in {ROOMS[base]}.py"
        for path in folder.rglob("*.py")
        for name, bases in classes(path)
        for base in bases & ROOMS.keys()
        if path.stem != ROOMS[base] and not path.stem.startswith(f"{ROOMS[base]}_")
    ]
    assert astray == []


def test_long_files_say_why_they_are_long():
    for path in HOUSE.parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > LONGEST:
            said = ast.get_docstring(ast.parse(text)) or ""
            assert "400 lines" in said, f"{path.name} has {lines} lines and its docstring does not say why"
