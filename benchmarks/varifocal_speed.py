"""Chromosomes a second of varifocal-net, beside one forward pass of a ResNet-18 on the same images.

    python -m benchmarks.varifocal_speed
    python -m benchmarks.varifocal_speed --json --threads 2

A cell of 46 is read whole: scaled, padded, seen by both networks in every view, its band profiles measured,
told by boosted trees, calibrated and dispatched. The ResNet-18 (3 input channels, 128 px, 1,000 classes) is
timm's where that is installed, and the same layers in plain torch where it is not. Network weights are drawn,
not learned, which changes nothing in time; the trees are fitted to eight cells. All are timed in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from appliedpapers.plugins.varifocal_net.band_profile import usual_sizes
from appliedpapers.plugins.varifocal_net.blend import SOURCES, Blend
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
from appliedpapers.plugins.varifocal_net.karyotype import settle
from appliedpapers.plugins.varifocal_net.model import ChromosomeClassifier
from appliedpapers.plugins.varifocal_net.profile_trees import Profiles, ProfileTrees
from appliedpapers.plugins.varifocal_net.simulator import simulate
from appliedpapers.plugins.varifocal_net.steps import new_network, stand_still

_ROUNDS = 15


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.path(x) + self.shortcut(x))


def resnet18() -> tuple[nn.Module, str]:
    """Return a ResNet-18 and whose it is."""
    try:
        import timm
    except ImportError:
        stages = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        blocks = [
            block
            for inputs, outputs, stride in stages
            for block in (_Block(inputs, outputs, stride), _Block(outputs, outputs, 1))
        ]
        stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
        return nn.Sequential(*stem, *blocks, *pool).eval(), "plain torch"
    return timm.create_model("resnet18").eval(), f"timm {timm.__version__}"


def measure() -> dict[str, Any]:
    """Time a cell and the ResNet-18 in turn."""
    config = KaryotypeConfig()
    model = ChromosomeClassifier(config)
    model.network = new_network(config.network, 0)
    stand_still(model.network)
    few = simulate(config.replace(simulator={"train_cells": 8, "valid_cells": 4, "test_cells": 2}))
    usual = usual_sizes(few[0])
    profiles = [Profiles.of(part, usual) for part in few[:2]]
    model.trees = ProfileTrees.fit(*profiles, usual, seed=0)
    model.blend = Blend(SOURCES["blend"], (1.0,) * 5, (1.0,) * 5)
    cell = few[2].take(next(iter(few[2].rows_by_case().values())))
    peer, whose = resnet18()
    images = torch.rand(len(cell), 3, 128, 128)

    def ours() -> None:
        settle(model.read(cell).types, cell.fixed, config.review)

    def theirs() -> None:
        with torch.inference_mode():
            peer(images)

    seconds = _in_turn({"cell": ours, "resnet18": theirs})
    return {
        "chromosomes": len(cell),
        "views": config.network.views,
        "threads": torch.get_num_threads(),
        "peer": whose,
        "rounds_of_trees": model.trees.facts["rounds"],
        "cell_s": seconds["cell"],
        "resnet18_s": seconds["resnet18"],
        "ratio": seconds["cell"] / seconds["resnet18"],
        "chromosomes_a_second": len(cell) / seconds["cell"],
    }


def _in_turn(what: dict[str, Callable[[], None]]) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in what}
    for _ in range(_ROUNDS):
        for name, run in what.items():
            started = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - started)
    return {name: float(np.median(values)) for name, values in found.items()}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measure()
    if options.json:
        print(json.dumps(found))
        return
    print(f"{found['chromosomes']} chromosomes, {found['views']} views, {found['threads']} threads")
    print(f"cell      {1000 * found['cell_s']:8.1f} ms   {found['chromosomes_a_second']:.0f} chromosomes/s")
    print(f"resnet18  {1000 * found['resnet18_s']:8.1f} ms   ({found['peer']})")
    print(f"ratio     {found['ratio']:8.2f}")


if __name__ == "__main__":
    main()
