"""The README's own commands, executed in order as a reader would type them.

A fenced block of ``sh`` or ``python`` is executed unless ``<!-- not run: reason -->`` stands above it.
A server that a block starts answers until the next heading.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PIECE = re.compile(
    r"^(?P<heading>## [^\n]*)$"
    r"|(?P<mark><!-- not run: [^\n]* -->\n)?^```(?P<kind>sh|python)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
# the reader's own data are compared with every baseline; one is enough to see that the command works
SHORTER = {
    "apps run frets --data load.csv --preset quick": "--set baselines=[last-value] --set training.epochs=1",
    '"model.horizon=12"': '"model.horizon=12", "baselines=[last-value]", "training.epochs=1"',
}


class Reader:
    """Somebody who works through the README in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.server: subprocess.Popen[bytes] | None = None
        self.said: dict[str, list[str]] = {}
        dropped = ("MLFLOW_TRACKING_URI", "APPS_TOKEN")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        commands = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
        self.environment = kept | {"PATH": commands, "APPS_PLUGINS": "frets", "OMP_NUM_THREADS": "1"}

    def shell(self, command: str) -> None:
        if command.startswith("apps serve"):
            return self.serve(command)
        longer = f"{command} {SHORTER.get(command, '')}".replace(":5001/", f":{self.port}/")
        done = self.ran(["bash", "-c", longer])
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        self.said.setdefault(command, []).append(done.stdout)
        return None

    def python(self, code: str) -> None:
        for text, longer in SHORTER.items():
            code = code.replace(text, longer) if text in code and not text.startswith("apps") else code
        done = self.ran([sys.executable, "-c", code])
        assert done.returncode == 0, f"{code}\n{done.stderr}"
        self.said["python"] = [done.stdout]

    def serve(self, command: str) -> None:
        words = [*shlex.split(command), "--port", str(self.port)]
        self.server = subprocess.Popen(
            words, cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.server.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/health/ready", timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"{command}: the server did not become ready")

    def stop(self) -> int | None:
        """Stop the server if one runs; return its exit code."""
        server, self.server = self.server, None
        if server is None:
            return None
        server.terminate()
        try:
            return server.wait(30)
        finally:
            server.kill()

    def ran(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def commands(code: str) -> list[str]:
    lines = [line.split(" # ")[0].strip() for line in code.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def write_load(path: Path) -> None:
    """Write the wide file that the README speaks of: two hourly series of five weeks."""
    hours = np.arange(24 * 35)
    noise = np.random.default_rng(7).normal(0, 0.5, (2, len(hours)))
    north, south = (
        20 + 5 * np.sin(hours / 24 * 2 * np.pi) + noise[0],
        37 + 8 * np.cos(hours / 12 * np.pi) + noise[1],
    )
    stamps = np.datetime64("2024-01-01T00:00") + hours.astype("m8[h]")
    rows = [
        f"{str(ds).replace('T', ' ')},{a:.2f},{b:.2f}" for ds, a, b in zip(stamps, north, south, strict=True)
    ]
    path.write_text("\n".join(["date,north,south", *rows, ""]))


@pytest.mark.slow
def test_every_command_of_the_readme_works_as_it_stands(tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("the README asks the server with curl, which is not installed")
    write_load(tmp_path / "load.csv")
    reader = Reader(tmp_path)
    try:
        for piece in PIECE.finditer((ROOT / "README.md").read_text(encoding="utf-8")):
            if piece["heading"]:
                assert reader.stop() in (None, 0)
            elif piece["mark"]:
                continue
            elif piece["kind"] == "python":
                reader.python(piece["code"])
            else:
                for command in commands(piece["code"]):
                    reader.shell(command)
    finally:
        reader.stop()
    said = reader.said
    assert "frets" in said["apps list"][0]
    assert "apps.frets version 1 → @champion" in said["apps run frets --preset quick"][0]
    assert len(list(tmp_path.glob("runs/*/report.html"))) == 3
    answer = next(texts[0] for command, texts in said.items() if command.startswith("curl"))
    assert len(json.loads(answer)["predictions"]) == 24
    first, again = next(texts for command, texts in said.items() if command.startswith("apps score run"))
    assert "wrote 1, kept 0" in first
    assert "nothing to do" in again
    assert "report.html" in said["python"][0]


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_parse(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"demo": "examples/demo.py", "test": "pytest"}[target] in done.stdout
