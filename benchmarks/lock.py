"""The hashed lock of the development environment: what ``constraints.txt`` pins, each with its sha256.

    python -m benchmarks.lock

pip resolves the extra ``dev`` under ``constraints.txt`` without installing anything, and says of each archive
which sha256 it has. ``requirements-ci.txt`` holds them for Linux on x86-64 with Python 3.11 and the CPU build
of torch, where CI runs; other platforms get other archives, and install with ``constraints.txt`` alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements-ci.txt"
_HEAD = """\
# Written by: python -m benchmarks.lock
# The development environment on Linux, x86-64, Python 3.11, as pip install --require-hashes takes it: what CI
# installs. Elsewhere wheels differ; install with: pip install -c constraints.txt -e ".[dev]"
"""
_OWN = "applied-papers"


def normal(name: str) -> str:
    """Return a package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    """Return the versions that a file of constraints or requirements states, by normalised name."""
    lines = re.findall(r"^([\w.-]+)==([^\s;\\]+)", path.read_text(encoding="utf-8"), flags=re.M)
    return {normal(name): version for name, version in lines}


def resolved() -> dict[str, tuple[str, str]]:
    """Return version and sha256 of every archive that pip would install here, by name."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--no-build-isolation", "--only-binary", ":all:", "--report", str(report)]
        command += ["-c", "constraints.txt", "setuptools>=77", "-e", ".[dev]"]
        subprocess.run(command, cwd=ROOT, check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {
        normal(item["metadata"]["name"]): (
            # the lock says what the index calls it, with or without the build
            item["metadata"]["version"].partition("+")[0],
            item["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for item in found
        if normal(item["metadata"]["name"]) != _OWN
    }


def main() -> int:
    """Resolve, and write the lock."""
    found = resolved()
    lines = [
        f"{name}=={version} \\\n    --hash=sha256:{sha256}\n"
        for name, (version, sha256) in sorted(found.items())
    ]
    LOCK.write_text(_HEAD + "".join(lines), encoding="utf-8")
    print(f"{len(found)} packages: {LOCK.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
