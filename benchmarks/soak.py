"""Whether the server keeps on: clients without pause, then SIGTERM while they ask.

    python -m benchmarks.soak
    python -m benchmarks.soak --seconds 30 --workers 2

Half of the clients keep their connections, the others connect for each request. Asked is: no answer but 200;
the resident memory of all processes of the server at most 5 % above what it was when the first tenth of the
time was over; and at the end, under load, an answer to each request of which the server had taken the
connection, and exit code 0. The small model of the tests is served, unless ``--model`` names another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.load import Load, asking, post
from benchmarks.serving import bodies_for, commands, free_port, running, tiny_bundle

_MOST_GROWTH = 0.05
_AFTER_S = 3.0
_LEAD_S = 1.0


@dataclass(frozen=True)
class Endurance:
    """What came of it.

    Attributes:
        seconds: How long was asked before the end.
        requests: Answers before the end.
        rate: Answers in a second.
        p50: Latency in milliseconds.
        p99: Latency in milliseconds.
        failed: Answers that were not 200, and requests that got none, before the end.
        memory_mb: Resident memory of the server's processes after the first tenth, in MiB.
        growth: By how much it had grown over the last tenth, as a share.
        answered_late: Answers after SIGTERM.
        dropped: Requests after SIGTERM whose connection was taken and that got no answer, or not 200.
        exit_code: Of the server.
        ended_after: Seconds from SIGTERM to the end of the process.
    """

    seconds: float
    requests: int
    rate: float
    p50: float
    p99: float
    failed: int
    memory_mb: float
    growth: float
    answered_late: int
    dropped: int
    exit_code: int
    ended_after: float

    @property
    def holds(self) -> bool:
        """Whether all that is asked was kept."""
        return not (self.failed or self.dropped or self.exit_code) and self.growth <= _MOST_GROWTH


def resident_mb(process: int) -> float:
    """Return the resident memory of a process and its children, in MiB."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    total = 0.0
    for number in (process, *map(int, children)):
        status = Path(f"/proc/{number}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        total += int(found[1]) / 1024 if found else 0.0
    return total


async def endure(
    process: subprocess.Popen[bytes], port: int, sent: list[bytes], clients: int, seconds: float
) -> Endurance:
    """Ask for some time, then once more while the server is told to end."""

    async def both(length: float) -> list[Load]:
        kinds = [(True, clients - clients // 2), (False, clients // 2)]
        made = [
            asking(
                port,
                post("/invocations", sent, keep_alive=kept, media_type="application/json"),
                clients=number,
                seconds=length,
                keep_alive=kept,
            )
            for kept, number in kinds
        ]
        return list(await asyncio.gather(*made))

    memory: list[float] = []

    async def weigh() -> None:
        while True:
            memory.append(resident_mb(process.pid))
            await asyncio.sleep(min(1.0, seconds / 50))

    ended = 0.0

    async def end() -> None:
        nonlocal ended
        await asyncio.sleep(_LEAD_S)
        started = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60)
        ended = time.perf_counter() - started

    weighing = asyncio.create_task(weigh())
    loads = await both(seconds)
    weighing.cancel()
    late = (await asyncio.gather(both(_LEAD_S + _AFTER_S), end()))[0]
    part = max(1, len(memory) // 10)
    first = statistics.median(memory[part : 2 * part])
    merged = Load(max(load.seconds for load in loads))
    for load in loads:
        merged.latencies += load.latencies
    good = sum(load.statuses[200] for load in loads)
    lost = sum(sum(load.failures.values()) for load in loads)
    return Endurance(
        seconds=merged.seconds,
        requests=len(merged.latencies),
        rate=merged.rate,
        p50=merged.percentile(50),
        p99=merged.percentile(99),
        failed=len(merged.latencies) - good + lost,
        memory_mb=first,
        growth=statistics.median(memory[-part:]) / first - 1,
        answered_late=sum(load.statuses[200] for load in late),
        dropped=sum(
            sum(load.statuses.values())
            - load.statuses[200]
            + load.failures["reset"]
            + load.failures["broken"]
            for load in late
        ),
        exit_code=process.returncode,
        ended_after=ended,
    )


def main() -> None:
    """Endure and print; exit with 1 where something that is asked was not kept."""
    import uvloop

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--model", type=Path, help="a bundle, in place of the small model of the tests")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = options.model or tiny_bundle(folder)
        port = free_port()
        command = commands(bundle, folder, options.workers, port)["ours"]
        command += ["--access-log", str(folder / "access.jsonl")]
        sent = bodies_for(bundle, 1)
        with running(command, bundle, port, "/v2/health/ready") as process:
            found = uvloop.run(endure(process, port, sent, options.clients, options.seconds))
    if options.json:
        print(json.dumps(asdict(found) | {"holds": found.holds}))
    else:
        for what, value in asdict(found).items():
            print(f"{what:<14} {value:>12,.3f}" if isinstance(value, float) else f"{what:<14} {value:>12,}")
        print("holds" if found.holds else "MISSED")
    sys.exit(0 if found.holds else 1)


if __name__ == "__main__":
    main()
