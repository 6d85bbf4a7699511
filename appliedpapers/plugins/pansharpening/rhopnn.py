"""rho-PNN: the structural loss acts while the spectral one meets its target (arXiv 2505.16658, III)."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliedpapers.core.device import derive_seed
from appliedpapers.core.rasters.tiles import Window, tiles
from appliedpapers.plugins.pansharpening.bandwise import BandAdapter, BandReport, Ending, Snapshot
from appliedpapers.plugins.pansharpening.inputs import BandPatches
from appliedpapers.plugins.pansharpening.scene import Scene

_EMA = 0.95
_BATCH = 4
_FIRST_BETA = 0.5
_SEARCH_STEPS = 2
_SMALLEST_BETA = 8
_PLATEAU = 1e-3
_SMALLEST_PATCH = 12


class Hysteresis:
    """Whether the structural loss acts: on below the lower edge, off above the target, else as it was.

    Args:
        target: Upper edge, a spectral loss.
        low: Lower edge as a share of it.
    """

    def __init__(self, target: float, low: float) -> None:
        self.low, self.high = target * low, target
        self.on = False

    def __call__(self, spectral: float) -> bool:
        """Return whether it acts after this spectral loss was seen."""
        self.on = spectral < self.low or (self.on and spectral <= self.high)
        return self.on


class RhoPnnAdapter(BandAdapter):
    """Adapts rho-PNN; see :class:`BandAdapter`."""

    _last_drawn: tuple[tuple[Window, ...], tuple[BandPatches, Tensor] | None] = ((), None)

    def adapt(self, position: int) -> BandReport:
        """Adapt to a band; the first one starts with training on all patches of the scene."""
        if position == 0:
            self._train_first()
        index = self.order[position]
        band = self.inputs.patches(index, self.coarse)
        pan = self.inputs.pans(self.fine())
        baseline = band.spectral(band.interpolated).item()
        target = self.options.rho.gamma * baseline
        iterations, beta, ending = self._adapt_to(band, pan, target, self._cap(position))
        spectral, structural = self.losses_of(band, pan)
        return BandReport(index, iterations, spectral, baseline, structural, target, beta, ending)

    def _adapt_to(self, band: BandPatches, pan: Tensor, target: float, cap: int) -> tuple[int, float, Ending]:
        rho = self.options.rho
        switch, average = Hysteresis(target, rho.gamma_low), _Average()
        beta, active, recent = 0.0, 0, _Recent(self.options.plateau)
        for number in range(cap):
            sharp = self.sharpened(band, pan)
            spectral = band.spectral(sharp)
            on = switch(spectral.item())
            if on and beta == 0.0:
                beta = self._search(band, pan, spectral.item())
                # the weights were changed and put back, which the graph does not survive
                sharp = self.sharpened(band, pan)
                spectral = band.spectral(sharp)
            self.step(spectral + beta * band.structural(sharp) if on else spectral)
            active += on
            if active:
                average.add(self.network)
            if active >= rho.steps:
                average.put_into(self.network)
                return number + 1, beta, "finished"
            if not on and recent.stalled(spectral.item()):
                average.put_into(self.network)
                return number + 1, beta, "plateau"
        average.put_into(self.network)
        return cap, beta, "cap"

    def _search(self, band: BandPatches, pan: Tensor, before: float) -> float:
        """Return the largest weight of the structural loss that two steps bear; halved down to an eighth."""
        rho = self.options.rho
        beta, start = rho.beta, Snapshot(self.network, self.optimizer)
        while True:
            for _ in range(_SEARCH_STEPS):
                sharp = self.sharpened(band, pan)
                self.step(band.spectral(sharp) + beta * band.structural(sharp))
            after, _ = self.losses_of(band, pan)
            start.put_back(self.network, self.optimizer)
            if after <= rho.epsilon * before or beta <= rho.beta / _SMALLEST_BETA:
                return beta
            beta /= 2

    def _cap(self, position: int) -> int:
        scheduled = iteration_caps(
            self.inputs.scene, self.order, self.options.rho.steps, self.options.rho.eta
        )
        return int(min(scheduled[position], self.options.max_iterations))

    def _train_first(self) -> None:
        """Train on the first band: average copies that saw the spectral loss alone, then use both losses."""
        rho, index = self.options.rho, self.order[0]
        windows = first_windows(self.inputs.scene, rho.patch)
        # copies that see all patches at every step would be one and the same
        copies = rho.soups if len(windows) > _BATCH else 1
        soup = [self._ingredient(index, windows, number) for number in range(copies)]
        with torch.no_grad():
            for value, *parts in zip(
                self.network.parameters(), *(one.parameters() for one in soup), strict=True
            ):
                value.copy_(torch.stack(list(parts)).mean(dim=0))
        whole = [self.inputs.patches(index, [window]) for window in windows]
        baseline = float(np.mean([part.spectral(part.interpolated).item() for part in whole]))
        switch, average = Hysteresis(rho.gamma * baseline, rho.gamma_low), _Average()
        batches = self._batches(windows, "first")
        for _ in range(self._first_steps(windows, rho.first_epochs)):
            band, pan = self._drawn(index, next(batches))
            sharp = self.sharpened(band, pan)
            spectral = band.spectral(sharp)
            on = switch(spectral.item())
            self.step(spectral + _FIRST_BETA * band.structural(sharp) if on else spectral)
            if on or average.started:
                average.add(self.network)
        average.put_into(self.network)

    def _ingredient(self, index: int, windows: Sequence[Window], number: int) -> torch.nn.Module:
        """Return a copy of the first network, trained on the spectral loss in an order of its own."""
        start = Snapshot(self.network, self.optimizer)
        batches = self._batches(windows, "soup", number)
        for _ in range(self._first_steps(windows, self.options.rho.soup_epochs)):
            band, pan = self._drawn(index, next(batches))
            self.step(band.spectral(self.sharpened(band, pan)))
        trained = copy.deepcopy(self.network)
        start.put_back(self.network, self.optimizer)
        return trained

    def _drawn(self, index: int, windows: tuple[Window, ...]) -> tuple[BandPatches, Tensor]:
        if windows != self._last_drawn[0]:
            made = self.inputs.patches(index, windows), self.inputs.pans(self.fine(windows))
            self._last_drawn = windows, made
        drawn = self._last_drawn[1]
        assert drawn is not None
        return drawn

    def _first_steps(self, windows: Sequence[Window], epochs: int) -> int:
        per_epoch = -(-len(windows) // _BATCH)
        return min(epochs * per_epoch, self.options.rho.most_first_steps)

    def _batches(self, windows: Sequence[Window], *purpose: str | int) -> Iterator[tuple[Window, ...]]:
        """Yield batches of patches in a random order; within a batch the order means nothing."""
        random = np.random.default_rng(derive_seed(self.seed, "pansharpening", *purpose))
        while True:
            order = random.permutation(len(windows))
            for first in range(0, len(order), _BATCH):
                yield tuple(windows[place] for place in sorted(order[first : first + _BATCH]))


class _Average:
    """Exponential moving average of weights, from the first time that it is asked for."""

    def __init__(self) -> None:
        self._weights: list[Tensor] = []

    @property
    def started(self) -> bool:
        """Whether there is an average."""
        return bool(self._weights)

    def add(self, network: torch.nn.Module) -> None:
        """Take the present weights in."""
        present = [value.detach() for value in network.parameters()]
        if not self._weights:
            self._weights = [value.clone() for value in present]
            return
        torch._foreach_lerp_(self._weights, present, 1 - _EMA)

    def put_into(self, network: torch.nn.Module) -> None:
        """Give the network the average; the last weights stay where there is none."""
        with torch.no_grad():
            for value, kept in zip(network.parameters(), self._weights, strict=False):
                value.copy_(kept)


class _Recent:
    """Whether the best loss of so many steps is 0.1 % better than the best of as many steps before them."""

    def __init__(self, steps: int) -> None:
        self._steps, self._losses = steps, list[float]()

    def stalled(self, loss: float) -> bool:
        """Take a loss in and return whether nothing improves any more; never with 0 steps."""
        self._losses.append(loss)
        if not self._steps or len(self._losses) < 2 * self._steps:
            return False
        last, before = self._losses[-self._steps :], self._losses[-2 * self._steps : -self._steps]
        return min(last) >= min(before) * (1 - _PLATEAU)


def iteration_caps(scene: Scene, order: Sequence[int], steps: int, eta: float) -> NDArray[np.int64]:
    """Return the most iterations of each band: four times ``steps``, and a share where bands change (2.6).

    Args:
        scene: The pair.
        order: Bands in the order of adaptation.
        steps: Iterations with the structural loss on that end a band.
        eta: Total of the shares, in units of ``4 * steps * (bands - 1)``.
    """
    base = 4 * steps
    if len(order) == 1:
        return np.array([base])
    cubes = [np.asarray(scene.hs[band])[scene.hs_valid].astype(np.float64) for band in order]
    change = np.array([1 - _correlation(one, other) for one, other in itertools.pairwise(cubes)])
    total = change.sum()
    shares = change / total if total > 0 else np.zeros_like(change)
    # to the nearest millionth first, so that rounding errors do not take an iteration away
    more = np.floor(np.round(eta * base * (len(order) - 1) * shares, 6)).astype(np.int64)
    return base + np.concatenate([more[:1], more])


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the correlation of two bands; 0 where one of them varies only beyond the common pixels."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def first_windows(scene: Scene, side: int) -> list[Window]:
    """Return coarse windows that do not overlap and hold patches of ``side`` fine pixels; never none.

    They are no smaller than what the spectral loss needs around one sample.
    """
    coarse = max(side // scene.optics.ratio, _SMALLEST_PATCH)
    height, width = scene.coarse_shape
    if min(height, width) < coarse:
        return [Window(0, 0, height, width)]
    return [
        window
        for window in tiles(scene.coarse_shape, coarse)
        if window.shape == (coarse, coarse) and scene.hs_valid[window.slices].any()
    ] or [Window(0, 0, height, width)]
