"""An iteration of both networks beside its formulas written down plainly; Q2n, GSA and the quick preset.

    python -m benchmarks.pansharpening_speed
    python -m benchmarks.pansharpening_speed --only iterations --threads 1 2 --json

An iteration is forward pass, both losses, backward pass and a step of Adam on 132 x 132 pixels of San
Francisco at ratio 6, or on a simulated scene of that size where the data folder does not have it. Ours and
the plain one take turns in one process; ratios are medians over rounds that stood beside each other. CPU time
is taken with one thread, wall time with more. GSA and the quick preset run in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from appliedpapers.core.config import resolve
from appliedpapers.core.errors import AppsError
from appliedpapers.plugins.pansharpening.bandwise import BandAdapter
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.inputs import NetworkInputs, Normalisation, adaptation_windows
from appliedpapers.plugins.pansharpening.losses import FLOOR
from appliedpapers.plugins.pansharpening.network import BandNetwork, RhoPnn, RPnn
from appliedpapers.plugins.pansharpening.q2n import BLOCK, q2n_of
from appliedpapers.plugins.pansharpening.rhopnn import RhoPnnAdapter
from appliedpapers.plugins.pansharpening.rpnn import RPnnAdapter
from appliedpapers.plugins.pansharpening.scene import Optics, Scene
from appliedpapers.plugins.pansharpening.simulator import SceneOptions, simulate_scene
from benchmarks.acceptance_case import printed_by
from benchmarks.pansharpening_plain import PlainLosses, PlainNetwork
from benchmarks.pansharpening_q2n import literal
from benchmarks.pansharpening_scenes import scene_of

Network = Literal["r-pnn", "rho-pnn"]
NETWORKS: tuple[Network, ...] = ("r-pnn", "rho-pnn")
PARTS = ("iterations", "q2n", "gsa", "quick")
ROUNDS = 15
GOAL = 2.0

_WARM = 3
_BAND = 5
_STRUCTURAL_WEIGHT = 0.5
_Q2N_BANDS = 218


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of pansharpening beside plain formulations.")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads of iterations")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--gsa-size", type=int, default=1200, help="side of GSA's product in pixels")
    parser.add_argument("--gsa-bands", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    if "iterations" in options.only:
        scene, found["scene"] = _scene()
        found["iterations"] = {
            str(threads): {name: iterations(name, scene, threads, options.rounds) for name in NETWORKS}
            for threads in options.threads
        }
    if "q2n" in options.only:
        found["q2n"] = q2n()
    if "gsa" in options.only:
        found["gsa"] = gsa(options.gsa_size, options.gsa_bands)
    if "quick" in options.only:
        found["quick"] = quick()
    print(json.dumps(found) if options.json else _words(found))
    return 0


def iterations(name: Network, scene: Scene, threads: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Return seconds of our iteration, of its forward pass and of the plain iteration, and their ratios."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    ours, forward, plain = steps_of(name, scene)
    seconds = _alternating({"ours": ours, "forward": forward, "plain": plain}, clock, rounds)
    return {
        **{part: statistics.median(values) for part, values in seconds.items()},
        "to_forward": _ratio(seconds["ours"], seconds["forward"]),
        "speedup": _ratio(seconds["plain"], seconds["ours"]),
    }


def steps_of(
    name: Network, scene: Scene
) -> tuple[Callable[[], tuple[float, float]], Callable[[], Any], Callable[[], tuple[float, float]]]:
    """Return our iteration, our forward pass alone, and the plain iteration.

    Iterations return both losses before the step; all start from the same weights.
    """
    config = resolve(PansharpeningConfig, assignments=[f"method={name}"])
    thresholded = name == "r-pnn"
    inputs = NetworkInputs(scene, Normalisation.of(scene), thresholded=thresholded)
    torch.manual_seed(0)
    network: BandNetwork = RPnn() if thresholded else RhoPnn()
    kind: type[BandAdapter] = RPnnAdapter if thresholded else RhoPnnAdapter
    windows = adaptation_windows(scene, 50, 4, 0)
    plain = PlainNetwork(network, same=not thresholded)
    adapter = kind(inputs, config.adaptation, windows, 0, network)
    band = inputs.patches(_BAND, windows)
    pan = inputs.pans(adapter.fine())
    losses = PlainLosses(
        torch.as_tensor(scene.hs[_BAND] * np.float32(inputs.normalisation.scale))[None, None],
        pan,
        scene.optics,
        float(scene.optics.sensor.gains(scene.bands)[_BAND]),
        band.structural.threshold,
        FLOOR,
    )
    optimizer = torch.optim.Adam(plain.parameters(), lr=config.adaptation.lr)

    def ours() -> tuple[float, float]:
        sharp = adapter.sharpened(band, pan)
        spectral, structural = band.spectral(sharp), band.structural(sharp)
        adapter.step(spectral + _STRUCTURAL_WEIGHT * structural)
        return spectral.item(), structural.item()

    def forward() -> Any:
        with torch.inference_mode():
            return adapter.sharpened(band, pan)

    def literally() -> tuple[float, float]:
        sharp = plain(band.interpolated, pan)
        spectral, structural = losses.spectral(sharp), losses.structural(sharp)
        optimizer.zero_grad()
        (spectral + _STRUCTURAL_WEIGHT * structural).backward()
        optimizer.step()
        return spectral.item(), structural.item()

    return ours, forward, literally


def q2n(bands: int = _Q2N_BANDS, repeats: int = 3) -> dict[str, float]:
    """Return seconds a block of Q2n as a recursion a pixel and as one product, and how far they differ."""
    random = np.random.default_rng(0)
    truth = 1000 * random.uniform(0.2, 1, (bands, BLOCK * BLOCK))
    other = np.round(truth * (1 + 0.1 * random.standard_normal(truth.shape)))
    truth = np.round(truth)
    found: dict[str, float] = {}

    def kept(name: str, function: Callable[[Any, Any], float]) -> Callable[[], None]:
        def run() -> None:
            found[name] = function(truth, other)

        return run

    runs = {"recursion": kept("a", literal), "product": kept("b", q2n_of)}
    seconds = _alternating(runs, time.process_time, repeats, warm=1)
    return {
        **{part: statistics.median(values) for part, values in seconds.items()},
        "speedup": _ratio(seconds["recursion"], seconds["product"]),
        "difference": abs(found["a"] - found["b"]),
    }


def gsa(size: int, bands: int) -> dict[str, float]:
    """Return what a product of GSA takes by windows, and its time as a share of that in memory."""
    found = printed_by("pansharpening_gsa", "--size", str(size), "--bands", str(bands))
    windowed = found["variants"]["gsa windowed"]
    return {
        "seconds": windowed["seconds"],
        "gigabytes": windowed["bytes"] / 1e9,
        "to_in_memory": found["windowed_to_in_memory"],
    }


def quick() -> dict[str, float]:
    """Return the seconds of ``apps run pansharpening --preset quick``, imports included, with two threads.

    Raises:
        LookupError: It failed.
    """
    command = [sys.executable, "-m", "appliedpapers", "run", "pansharpening", "--preset", "quick"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--no-register", "--quiet"],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "2"},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        raise LookupError(f"the quick preset failed: {done.stderr.strip().splitlines()[-1:]}")
    return {"seconds": seconds}


def _alternating(
    runs: dict[str, Callable[[], Any]], clock: Callable[[], float], rounds: int, warm: int = _WARM
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + warm):
        for name, run in runs.items():
            started = clock()
            run()
            if number >= warm:
                seconds[name].append(clock() - started)
    return seconds


def _ratio(above: Sequence[float], below: Sequence[float]) -> float:
    # of rounds that stood beside each other: the machine's speed drifts
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _scene() -> tuple[Scene, str]:
    try:
        return scene_of("san-francisco", resolve(PansharpeningConfig)), "San Francisco"
    except AppsError:
        optics = Optics(6, phase="reference")
        made = simulate_scene(0, SceneOptions.clean(), ratio=6, size=132, bands=8, phase="reference")
        return made.to_scene(optics), "simulated"


def _words(found: dict[str, Any]) -> str:
    lines = []
    for threads, both in found.get("iterations", {}).items():
        for name, one in both.items():
            lines.append(
                f"{name:<8} {threads} thread(s): ours {1e3 * one['ours']:.1f} ms, "
                f"{one['to_forward']:.2f} x its forward pass; plain {1e3 * one['plain']:.1f} ms, "
                f"{one['speedup']:.2f} x ours (goal {GOAL:.0f})"
            )
    for part in PARTS[1:]:
        if part in found:
            lines.append(
                f"{part}: " + ", ".join(f"{name} {value:.4g}" for name, value in found[part].items())
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
