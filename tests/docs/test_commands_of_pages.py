"""Every ``apps`` command and every Python block on every page is one that the product understands.

Commands are parsed as typed, with the plugin, its flags, presets, datasets and options; nothing is executed.
The pages that walk through something are executed by tests of their own.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from appliedpapers.cli import app, options
from appliedpapers.core import plugin as plugins
from appliedpapers.core.config import parse_assignment, resolve_config
from appliedpapers.core.sources import SIMULATED, find_published

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`(apps [a-z][^`\n]*)`(?!`)")
# what stands for something that the reader puts in
PLACEHOLDER = re.compile(r"\b(ID|NAME|FILE|MODEL|PLUGIN|FOLDER|DAYS|HOST|N|T|YOUR_\w+|my-\w+)\b|\.\.\.|…|<")
COMMANDS = typer.main.get_command(app)


def blocks(page: Path, kind: str) -> Iterator[str]:
    return (found[2] for found in BLOCK.finditer(page.read_text(encoding="utf-8")) if found[1] == kind)


def commands(page: Path) -> Iterator[tuple[list[str], bool]]:
    """Yield the words of each command, and whether it is only mentioned in a sentence."""
    text = page.read_text(encoding="utf-8")
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    invented = re.findall(r"apps new ([a-z-]+)", text)
    typed = [(line.strip(), False) for line in lines]
    for line, mentioned in [*typed, *((line, True) for line in INLINE.findall(text))]:
        # what stands before a pipe, where no quote hides another
        line = re.sub(r"\s2>>? ?\S+", "", line).removesuffix(" &")
        found = re.search(r"(?:^|\| |&& |; |\()(apps [^|&;>]*)", line) if "'" not in line else None
        said = found[1] if found else line
        if said.startswith("apps ") and not PLACEHOLDER.search(said):
            words = shlex.split(said, comments=True)[1:]
            if not set(words) & set(invented):
                yield words, mentioned


def parsed(words: list[str]) -> tuple[Any, list[str]]:
    """Return the context of the innermost command; groups alone are what ``--help`` is asked of."""
    command: Any = COMMANDS
    parent = None
    while getattr(command, "commands", None):
        if not words or words[0].startswith("-"):
            return None, words
        name, *words = words
        assert name in command.commands, f"no command is called {name}"
        command = command.commands[name]
    return command.make_context(command.name, list(words), parent), words


def check(words: list[str]) -> None:
    context, _ = parsed(words)
    if context is None:
        return
    given = context.params
    plugin = given.get("meant") or given.get("plugin")
    if not isinstance(plugin, str) or "," in plugin:
        return
    spec = plugins.find(plugin)
    task = options.task_meant(plugin, given.get("task"), given.get("dataset"))
    if task is None and len(spec.tasks) > 1:
        return
    part = spec.task(task)
    catalog, dataset = part.load("datasets"), given.get("dataset")
    if dataset not in (None, SIMULATED) and dataset not in catalog.elsewhere:
        find_published(catalog, dataset)
    flags = options.plugin_flags(context, plugin, task) if context.args else []
    words = [*flags, *(given.get("sets") or ())]
    for word in words:
        parse_assignment(word)
    if "preset" in given:
        resolve_config(
            plugin, task=task, preset=given["preset"], assignments=words, dataset=given.get("dataset")
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_understood(page):
    wrong = []
    for words, mentioned in commands(page):
        try:
            check(words)
        except Exception as error:
            # a sentence may name a command without all that it needs
            if not (mentioned and re.search("Missing parameter|requires an argument", str(error))):
                wrong.append(f"apps {shlex.join(words)}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_of_a_page_is_python_and_imports_what_exists(page):
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("appliedpapers"):
                module = importlib.import_module(str(node.module))
                for name in node.names:
                    assert hasattr(module, name.name) or importlib.import_module(
                        f"{node.module}.{name.name}"
                    ), name.name
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ap":
                assert hasattr(importlib.import_module("appliedpapers"), node.attr), node.attr


def test_the_pages_are_looked_at():
    found = {page.stem: len(list(commands(page))) for page in PAGES}
    assert sum(found.values()) > 150
    assert found["bring-your-own-data"] > 10
    assert found["README"] > 8


@pytest.mark.parametrize(
    "line",
    [
        "apps runn frets",
        "apps run frets --presett quick",
        "apps run frets --preset quik",
        "apps run frets --set modell.horizon=3",
        "apps run nothing",
        "apps run frets --dataset nothing",
        "apps score run --modell frets@champion",
    ],
)
def test_a_wrong_command_would_be_noticed(line):
    with pytest.raises(Exception):  # noqa: B017, PT011
        check(shlex.split(line)[1:])
