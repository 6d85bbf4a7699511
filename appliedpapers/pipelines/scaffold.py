"""``apps new``: a working plugin as a distribution of its own, to start from."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

import appliedpapers
from appliedpapers.core import plugin as plugins
from appliedpapers.core.errors import ConfigError
from appliedpapers.core.files import whole_folder, write_text

_LAYOUT = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "init.py": "src/{module}/__init__.py",
    "package_readme.md": "src/{module}/README.md",
    "plugin.py": "src/{module}/plugin.py",
    "config.py": "src/{module}/config.py",
    "data.py": "src/{module}/data.py",
    "simulator.py": "src/{module}/simulator.py",
    "estimators.py": "src/{module}/estimators.py",
    "model.py": "src/{module}/model.py",
    "evaluation.py": "src/{module}/evaluation.py",
    "test_contract.py": "tests/test_contract.py",
}


def new_plugin(name: str, folder: Path) -> Path:
    """Write the skeleton of a new plugin: ridge regression on a CSV, complete and conforming.

    Args:
        name: Id of the plugin: lower case, digits and hyphens.
        folder: Where the distribution's folder is made.

    Returns:
        ``folder / name``; ``pip install -e`` takes it.

    Raises:
        ConfigError: The name is not fit for an id, is taken by an installed plugin or module, or the folder
            exists.
        RunError: The folder cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise ConfigError(
            f"'{name}' cannot be a plugin's id.",
            hint="Expected lower-case words joined by hyphens, such as my-paper.",
        )
    taken = next((item for item in plugins.discover() if item.id == name), None)
    if taken is not None:
        owners = ", ".join(taken.distributions) or "an installed plugin"
        raise ConfigError(f"'{name}' is taken by {owners}.", hint="Choose another id.")
    module = name.replace("-", "_")
    if importlib.util.find_spec(module) is not None:
        raise ConfigError(f"'{module}' is already a module here.", hint="Choose another id.")
    target = folder / name
    if target.exists():
        raise ConfigError(f"{target} is already there.", hint="Choose another id or another --folder.")
    with whole_folder(target) as aside:
        for place, text in render(name).items():
            write_text(aside / place, text)
    return target


def render(name: str) -> dict[str, str]:
    """Return the text of every file of the skeleton by its place."""
    module = name.replace("-", "_")
    words = {
        "id": name,
        "module": module,
        "title": name.replace("-", " ").capitalize(),
        "version": appliedpapers.__version__,
    }
    templates = files("appliedpapers.pipelines.skeleton")
    return {
        place.format(module=module): Template(
            (templates / f"{template}.tmpl").read_text(encoding="utf-8")
        ).substitute(words)
        for template, place in _LAYOUT.items()
    }
