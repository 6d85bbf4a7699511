"""Commands that only look import nothing heavy, and modules import downward only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import appliedpapers
from appliedpapers.core.conformance import declaration

PACKAGE = Path(appliedpapers.__file__).parent
# a plugin's configuration may read arrays, a command that looks may not
HEAVY = (*declaration.HEAVY, "pyarrow", "numpy")
_LOADED = """
import sys
sys.argv = ["apps", *sys.argv[1:]]
try:
    from appliedpapers.cli import main
    main()
finally:
    print("\\n".join(sorted(sys.modules)), file=sys.stderr)
"""


def loaded(*words: str) -> set[str]:
    found = subprocess.run(
        [sys.executable, "-c", _LOADED, *words], capture_output=True, text=True, check=True
    )
    return set(found.stderr.split())


@pytest.mark.parametrize(
    "words", [("--help",), ("list",), ("list", "--json"), ("run", "--help"), ("--version",)]
)
def test_a_command_that_looks_loads_nothing_heavy(words):
    assert loaded(*words) & set(HEAVY) == set()


def test_list_loads_no_pydantic_either():
    assert "pydantic" not in loaded("list")


def test_importing_the_package_loads_nothing_of_it():
    program = "import sys; old = set(sys.modules); import appliedpapers; print(*set(sys.modules) - old)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    ours = [name for name in found.stdout.split() if name.startswith("appliedpapers.")]
    assert ours == []
    assert set(found.stdout.split()) & set(HEAVY) == set()


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be read"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import(tree: ast.Module) -> Iterator[str]:
    """Names that are imported with the module itself; not those inside functions or for type checkers."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


MODULES = dict(modules())
ROOM = {
    name: name.split(".")[1] if name.count(".") else ""
    for name in MODULES
    if name != "appliedpapers.__main__"
}
FORBIDDEN = {
    "core": {"plugins", "pipelines", "cli"},
    "nn": {"plugins", "pipelines", "cli"},
    "pipelines": {"plugins", "cli"},
    "plugins": {"pipelines", "cli"},
    "cli": {"plugins"},
}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_arrows_run_downward(room):
    upward = [
        f"{name} imports {other}"
        for name in MODULES
        if ROOM.get(name) == room
        for other in imported(MODULES[name])
        if other.startswith("appliedpapers.") and other.split(".")[1] in FORBIDDEN[room]
    ]
    assert upward == []


def test_a_plugin_imports_no_other_plugin():
    strangers = [
        f"{name} imports {other}"
        for name in MODULES
        if name.startswith("appliedpapers.plugins.")
        for other in imported(MODULES[name])
        if other.startswith("appliedpapers.plugins.") and other.split(".")[2] != name.split(".")[2]
    ]
    assert strangers == []


def test_only_vision_imports_timm_and_torchvision():
    guarded = [
        f"{name} imports {other}"
        for name in MODULES
        if not name.startswith("appliedpapers.core.vision.")
        for other in imported(MODULES[name])
        if other.split(".")[0] in ("timm", "torchvision")
    ]
    assert guarded == []


def test_no_module_imports_a_pickler():
    picklers = ("pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve")
    # the check that looks for pickles knows their opcodes
    searcher = "appliedpapers.core.conformance.storage"
    found = [
        f"{name} imports {other}"
        for name in MODULES
        if name != searcher
        for other in imported(MODULES[name])
        if other in picklers
    ]
    assert found == []


def light(name: str) -> bool:
    front_door = name.startswith("appliedpapers.plugins.") and name.endswith((".plugin", ".config"))
    lower = ("appliedpapers.core.errors", "appliedpapers.core.plugin", "appliedpapers.core.config")
    return front_door or name in lower or name.startswith("appliedpapers.cli")


@pytest.mark.parametrize("name", [name for name in MODULES if light(name)])
def test_a_light_module_imports_nothing_heavy_when_it_is_read(name):
    assert {other.split(".")[0] for other in at_import(MODULES[name])} & set(HEAVY) == set()


def test_the_readers_of_imports_see_what_they_should():
    # so that the tests above cannot pass by seeing nothing
    tree = ast.parse("import a.b\ndef f():\n    from c import d\nclass E:\n    import g\n")
    assert set(imported(tree)) == {"a.b", "c", "c.d", "g"}
    assert set(at_import(tree)) == {"a.b", "g"}
    assert {"core", "pipelines", "plugins", "cli"} <= set(ROOM.values())


_STARTED = """
import sys
started = []
sys.addaudithook(lambda event, values: started.append(values[1]) if event == "subprocess.Popen" else None)
from appliedpapers.cli import main
try:
    main(["--version"])
finally:
    import mlflow
    print(started, file=sys.stderr)
"""


def test_loading_mlflow_starts_no_process_that_ctrl_c_could_leave_behind():
    found = subprocess.run([sys.executable, "-c", _STARTED], capture_output=True, text=True, check=True)
    assert found.stderr.splitlines()[-1] == "[]"
