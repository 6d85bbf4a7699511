"""CPU time of one FreTS training step: the plain formulation, our direct form, our fast path.

    python benchmarks/frets_step.py

One process, one thread, look-back = horizon = 96, 7 series, batch 32, embedding 128, hidden 256, MSE, Adam.
The variants take turns, so that a busy machine slows all of them; the figures are medians of process time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliedpapers.plugins.frets.network import FreTS

BATCH, LOOKBACK, HORIZON, SERIES, DIM, HIDDEN = 32, 96, 96, 7, 128, 256
PLAIN, DIRECT, FAST = "plain", "ours, direct form", "ours, fast path"


class PlainFreTS(nn.Module):
    """The formulas of the paper, written down one after the other: contractions with (D, D) matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(1, DIM))
        self.r = nn.Parameter(0.02 * torch.randn(DIM, DIM))
        self.i = nn.Parameter(0.02 * torch.randn(DIM, DIM))
        self.rb = nn.Parameter(0.02 * torch.randn(DIM))
        self.ib = nn.Parameter(0.02 * torch.randn(DIM))
        self.first = nn.Linear(LOOKBACK * DIM, HIDDEN)
        self.second = nn.Linear(HIDDEN, HORIZON)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast ``(batch, horizon, series)``."""
        embedded = x.permute(0, 2, 1).unsqueeze(-1) * self.embedding
        spectrum = torch.fft.rfft(embedded, dim=2, norm="ortho")
        product = "bnfd,de->bnfe"
        re = F.relu(
            torch.einsum(product, spectrum.real, self.r)
            - torch.einsum(product, spectrum.imag, self.i)
            + self.rb
        )
        im = F.relu(
            torch.einsum(product, spectrum.imag, self.r)
            + torch.einsum(product, spectrum.real, self.i)
            + self.ib
        )
        learned = torch.view_as_complex(F.softshrink(torch.stack([re, im], dim=-1), 0.01))
        out = torch.fft.irfft(learned, n=LOOKBACK, dim=2, norm="ortho") + embedded
        hidden = F.leaky_relu(self.first(out.reshape(x.shape[0], SERIES, -1)), 0.01)
        return self.second(hidden).permute(0, 2, 1)


def variants() -> dict[str, nn.Module]:
    """Return the networks to compare, by the name that is printed."""
    direct = FreTS(LOOKBACK, HORIZON, SERIES)
    direct.force_direct = True
    return {PLAIN: PlainFreTS(), DIRECT: direct, FAST: FreTS(LOOKBACK, HORIZON, SERIES)}


def train_step(network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """Take one full training step: gradients, loss, update."""
    optimizer.zero_grad()
    F.mse_loss(network(x), y).backward()
    optimizer.step()


def measure(repeats: int, fused: bool) -> dict[str, list[float]]:
    """Return the process time of each step in milliseconds, by variant."""
    torch.manual_seed(2021)
    x, y = torch.randn(BATCH, LOOKBACK, SERIES), torch.randn(BATCH, HORIZON, SERIES)
    runs = {
        name: (net, torch.optim.Adam(net.parameters(), lr=1e-4, fused=fused))
        for name, net in variants().items()
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 2):
        for name, (net, optimizer) in runs.items():
            start = time.process_time()
            train_step(net, optimizer, x, y)
            if turn >= 2:  # the first turns allocate the optimiser's state and plan the transforms
                times[name].append(1e3 * (time.process_time() - start))
    return times


def main() -> None:
    """Measure and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="steps per variant, at least 12")
    parser.add_argument("--plain-adam", action="store_true", help="PyTorch's default Adam, not the fused one")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    if options.repeats < 12:
        parser.error("--repeats must be at least 12, so that the median means something")
    torch.set_num_threads(1)
    times = measure(options.repeats, fused=not options.plain_adam)
    medians = {name: statistics.median(values) for name, values in times.items()}
    if options.json:
        ratios = {name: medians[PLAIN] / value for name, value in medians.items()}
        print(json.dumps({"milliseconds": medians, "times_faster_than_plain": ratios}))
        return
    print(f"{'variant':20} {'median ms':>10} {'best ms':>10} {'x plain':>8} {'x direct':>9}")
    for name, median in medians.items():
        print(
            f"{name:20} {median:10.1f} {min(times[name]):10.1f} "
            f"{medians[PLAIN] / median:8.2f} {medians[DIRECT] / median:9.2f}"
        )


if __name__ == "__main__":
    main()
