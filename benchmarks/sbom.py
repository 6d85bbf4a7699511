"""The software bill of materials of the installed environment, as CycloneDX 1.6 JSON.

    make sbom
    python -m benchmarks.sbom --output sbom.json

Lists every distribution that ``applied-papers`` with the given extras needs here, directly or not: name,
version, package URL, licence as its author states it, what it needs in turn, and the sha256 of its archive
where ``requirements-ci.txt`` states it. The same environment gives the same bytes. What is not a
distribution (Python, system libraries) is not listed.
"""

from __future__ import annotations

import argparse
import re
import sys
import uuid
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from appliedpapers.core.files import write_json
from benchmarks.lock import LOCK, normal

ROOT = "applied-papers"
_COPYLEFT = re.compile(r"\b(A?GPL|General Public License|SSPL|EUPL|CC-BY-NC)", re.IGNORECASE)
_WEAK = re.compile(r"LGPL|Lesser|exception|\bOR\b", re.IGNORECASE)
_CLASSIFIER = "License :: "
_LONGEST_NAME = 100


def needed(extras: Sequence[str]) -> dict[str, list[str]]:
    """Return every distribution that ours needs with some extras, and what each needs, by normalised name.

    Raises:
        importlib.metadata.PackageNotFoundError: Ours is not installed.
    """
    found: dict[str, set[str]] = {}
    due: list[tuple[str, frozenset[str]]] = [(ROOT, frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while due:
        name, wanted = due.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        below = found.setdefault(name, set())
        for requirement in _requirements(name, wanted):
            child = normal(requirement.name)
            if child != ROOT and not _is_installed(child):
                continue
            if child != name:
                below.add(child)
            due.append((child, frozenset(requirement.extras)))
    return {name: sorted(below) for name, below in sorted(found.items())}


def _requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield requirement


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def licence(name: str) -> dict[str, Any]:
    """Return a distribution's licence as CycloneDX has it: an SPDX expression, or a name."""
    about = metadata.metadata(name)
    if about.get("License-Expression"):
        return {"expression": about["License-Expression"]}
    classified = [
        line.removeprefix(_CLASSIFIER).removeprefix("OSI Approved :: ")
        for line in about.get_all("Classifier") or []
        if line.startswith(_CLASSIFIER)
    ]
    # some put the whole text of the licence into this field
    stated = (about.get("License") or "").strip().partition("\n")[0][:_LONGEST_NAME]
    return {"license": {"name": " OR ".join(classified) or stated or "not stated"}}


def bill(extras: Sequence[str] = ("dev",)) -> dict[str, Any]:
    """Return the bill of materials."""
    tree = needed(extras)
    hashes = _hashes()
    refs = {name: f"pkg:pypi/{name}@{metadata.version(name)}" for name in tree}
    components = []
    for name, ref in refs.items():
        if name == ROOT:
            continue
        about = {
            "type": "library",
            "bom-ref": ref,
            "name": name,
            "version": metadata.version(name),
            "purl": ref,
        }
        # of several published archives of one version, the one that is installed is not known
        known = hashes.get((name, metadata.version(name).partition("+")[0]), [])
        stated = {"hashes": [{"alg": "SHA-256", "content": known[0]}]} if len(known) == 1 else {}
        components.append({**about, "licenses": [licence(name)], **stated})
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": refs[ROOT],
                "name": ROOT,
                "version": metadata.version(ROOT),
                "purl": refs[ROOT],
                "licenses": [{"expression": "Apache-2.0"}],
            }
        },
        "components": components,
        "dependencies": [
            {"ref": refs[name], "dependsOn": [refs[child] for child in below]} for name, below in tree.items()
        ],
    }
    # a number of its own for each content, and the same for the same
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, repr(document))}"
    return document


def _hashes() -> dict[tuple[str, str], list[str]]:
    if not LOCK.is_file():
        return {}
    items = re.split(r"(?m)^(?=[a-z0-9][\w.-]*==)", LOCK.read_text(encoding="utf-8"))
    found = {}
    for item in items[1:]:
        name, _, rest = item.partition("==")
        found[name, rest.split()[0]] = re.findall(r"sha256:([0-9a-f]{64})", item)
    return found


def stated(component: dict[str, Any]) -> str:
    """Return the licence of a component as text."""
    entry = component["licenses"][0]
    return str(entry.get("expression") or entry["license"]["name"])


def copyleft(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the components whose licence would bind what is distributed together with them."""
    found = [(component["name"], stated(component)) for component in document["components"]]
    return [(name, words) for name, words in found if _COPYLEFT.search(words) and not _WEAK.search(words)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the bill; return 1 where a licence binds what is distributed with it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sbom", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--output", type=Path, default=Path("sbom.json"))
    parser.add_argument("--extra", action="append", default=[], help="may be repeated; default: dev")
    options = parser.parse_args(arguments)
    document = bill(options.extra or ("dev",))
    write_json(options.output, document)
    binding = copyleft(document)
    print(f"{len(document['components'])} components: {options.output}")
    for name, words in binding:
        print(f"  {name} is under {words}", file=sys.stderr)
    return 1 if binding else 0


if __name__ == "__main__":
    sys.exit(main())
