"""The bill of materials and the lock: complete, in the form of CycloneDX, and the same as the constraints."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest

from benchmarks import lock, sbom

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = lock.pins(ROOT / "constraints.txt")


@pytest.fixture(scope="module")
def document():
    return sbom.bill()


def test_every_component_is_named_licensed_and_installed(document):
    assert (document["bomFormat"], document["specVersion"], document["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", document["serialNumber"])
    names = [component["name"] for component in document["components"]]
    assert len(names) == len(set(names)) > 100
    assert {"torch", "mlflow", "numpy", "pyarrow", "fastapi", "hypothesis"} <= set(names)
    for component in document["components"]:
        assert component["version"] == metadata.version(component["name"])
        assert component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}"
        assert component["type"] == "library"
        (entry,) = component["licenses"]
        assert set(entry) in ({"expression"}, {"license"})
        assert all(re.fullmatch("[0-9a-f]{64}", item["content"]) for item in component.get("hashes", []))


def test_dependencies_refer_to_components_and_each_is_reached(document):
    refs = {component["bom-ref"] for component in document["components"]}
    root = document["metadata"]["component"]["bom-ref"]
    below = {item["ref"]: item["dependsOn"] for item in document["dependencies"]}
    assert set(below) == refs | {root}
    reached, due = {root}, [root]
    while due:
        for child in below[due.pop()]:
            if child not in reached:
                reached.add(child)
                due.append(child)
    assert reached == refs | {root}


def test_the_same_environment_gives_the_same_bytes(document, tmp_path, capsys):
    path = tmp_path / "sbom.json"
    assert sbom.main(["--output", str(path)]) == 0
    assert json.loads(path.read_text()) == json.loads(json.dumps(document))
    assert f"{len(document['components'])} components" in capsys.readouterr().out


def test_no_licence_binds_what_is_distributed_with_it(document):
    assert sbom.copyleft(document) == []
    fake = {"components": [{"name": name, "licenses": [{"expression": words}]} for name, words in _LICENCES]}
    assert [name for name, _ in sbom.copyleft(fake)] == ["a", "b"]


_LICENCES = [
    *(("a", "GPL-3.0-only"), ("b", "GNU Affero General Public License v3")),
    *(("c", "LGPL-3.0-only"), ("d", "MIT OR GPL-2.0-only"), ("e", "Apache-2.0"), ("f", "MPL-2.0")),
]


def test_the_official_validator_finds_nothing_where_it_is_installed(document):
    pytest.importorskip("cyclonedx", reason="pip install 'cyclonedx-python-lib[json-validation]'")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None


def test_the_lock_has_a_hash_for_every_version_of_the_constraints():
    pinned = lock.pins(lock.LOCK)
    text = lock.LOCK.read_text(encoding="utf-8")
    items = re.findall(r"(?m)^[a-z0-9][\w.-]*==\S+ \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text)
    assert len(items) == len(pinned) > 100
    differ = {name: (version, CONSTRAINTS.get(name)) for name, version in pinned.items()}
    assert {name: pair for name, pair in differ.items() if pair[0] != pair[1]} == {}, "run: make lock"
    assert "://" not in text


def test_the_lock_covers_what_the_project_asks_for():
    asked = {child for below in sbom.needed(["dev"]).values() for child in below} - {sbom.ROOT}
    assert asked - set(lock.pins(lock.LOCK)) == set(), "run: make lock"


def test_continuous_integration_installs_the_lock():
    script = (ROOT / ".ci" / "run").read_text()
    rules = (ROOT / "Makefile").read_text()
    assert "export HASHED=1" in script
    assert "--require-hashes -r $(LOCK)" in rules
    assert f"LOCK = {lock.LOCK.name}" in rules
