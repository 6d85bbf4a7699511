"""How long a person waits for ``apps --help`` and ``apps list``, beside an empty interpreter.

Run: python benchmarks/cli_startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import typer'": [sys.executable, "-c", "import typer"],
    "apps --help": [sys.executable, "-m", "appliedpapers", "--help"],
    "apps list": [sys.executable, "-m", "appliedpapers", "list"],
}


def measure(command: list[str]) -> list[float]:
    """Return wall seconds of warm runs."""
    seconds = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def main() -> None:
    """Print median and range of each command."""
    print(f"{'command':<28}{'median s':>10}{'min':>8}{'max':>8}   ({RUNS} warm runs)")
    for name, command in COMMANDS.items():
        seconds = measure(command)
        print(f"{name:<28}{statistics.median(seconds):>10.3f}{min(seconds):>8.3f}{max(seconds):>8.3f}")


if __name__ == "__main__":
    main()
