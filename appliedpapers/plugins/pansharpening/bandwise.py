"""What both networks share: bands are sharpened in the order of wavelength, each from the one before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from appliedpapers.core.errors import RunError
from appliedpapers.core.rasters.tiles import Window, tiles
from appliedpapers.core.weights import stored
from appliedpapers.plugins.pansharpening.config import AdaptationConfig
from appliedpapers.plugins.pansharpening.inputs import BandPatches, NetworkInputs, propagation_order
from appliedpapers.plugins.pansharpening.network import BandNetwork
from appliedpapers.plugins.pansharpening.scene import Scene

Ending = Literal["finished", "cap", "plateau"]

INFRARED_NM = 700.0
_NM_PER_BAND = 10.0
_TILE = 384


@dataclass(frozen=True)
class BandReport:
    """How the adaptation to one band went.

    Attributes:
        band: Index in file order.
        iterations: Steps of the optimiser.
        spectral: Spectral loss of the weights that predict the band, in normalised units.
        baseline: Spectral loss of EXP, of doing nothing.
        structural: Structural loss of the weights that predict the band.
        target: Spectral loss that was aimed for; None where the method has no target.
        beta: Weight of the structural loss at the end.
        ending: Why it stopped: the schedule was finished, the cap was reached, or nothing improved any more.
        fallback: The network ended further from what the sensor saw than EXP and than what it adds to, so the
            band is given as the latter and the next one continues from the weights before.
    """

    band: int
    iterations: int
    spectral: float
    baseline: float
    structural: float
    target: float | None
    beta: float
    ending: Ending
    fallback: bool = False

    @property
    def share(self) -> float:
        """Spectral loss as a share of the loss of EXP; above 1 EXP is nearer to what the sensor saw."""
        return self.spectral / self.baseline if self.baseline > 0 else 0.0

    @property
    def missed(self) -> bool:
        """Whether the target was missed; without a target, whether EXP is nearer to what the sensor saw."""
        return self.spectral > (self.baseline if self.target is None else self.target)

    def document(self) -> dict[str, Any]:
        """Return a JSON document."""
        return asdict(self) | {"share": self.share, "missed": self.missed}


class BandAdapter(ABC):
    """A network that adapts to one band after the other.

    Args:
        inputs: The scene as networks see it.
        options: Learning rate, caps and schedule.
        coarse: Coarse windows that stand for the scene while the network adapts.
        seed: Of first weights and of the order of patches.
        network: The network with its first weights.

    Attributes:
        order: Living bands by wavelength, which is the order of adaptation.
    """

    def __init__(
        self,
        inputs: NetworkInputs,
        options: AdaptationConfig,
        coarse: list[Window],
        seed: int,
        network: BandNetwork,
    ) -> None:
        self.inputs, self.options, self.coarse, self.seed = inputs, options, coarse, seed
        self.network = network.to(inputs.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=options.lr)
        self.order = propagation_order(inputs.scene)
        self.centres = band_centres(inputs.scene)

    @abstractmethod
    def adapt(self, position: int) -> BandReport:
        """Adapt to band ``order[position]``; afterwards the network holds the weights that predict it."""

    def sharpen(self, position: int) -> tuple[NDArray[np.float32], BandReport]:
        """Adapt to band ``order[position]`` and return it with how that went.

        A network that ends worse than what it adds to, as in bands that water vapour has emptied, is not
        let near the product.
        """
        before = Snapshot(self.network, self.optimizer)
        report = self.adapt(position)
        if not self.options.fallback or report.spectral <= report.baseline:
            return self.predict(report.band), report
        start = self._losses_at_start(report.band)
        if report.spectral <= start[0]:
            return self.predict(report.band), report
        before.put_back(self.network, self.optimizer)
        changed = replace(report, spectral=start[0], structural=start[1], fallback=True)
        return self._start(report.band), changed

    def _losses_at_start(self, index: int) -> tuple[float, float]:
        band = self.inputs.patches(index, self.coarse)
        start = band.interpolated if band.base is None else band.base
        return band.spectral(start).item(), band.structural(start).item()

    def _start(self, band: int) -> NDArray[np.float32]:
        whole = Window(0, 0, *self.inputs.scene.fine_shape)
        base = self.inputs.base(band, whole)
        plane = (self.inputs.interpolated(band, whole) if base is None else base)[0, 0].cpu().numpy()
        plane = plane / np.float32(self.inputs.normalisation.scale)
        return np.asarray(plane, dtype=np.float32)

    def predict(self, band: int, tile: int = _TILE) -> NDArray[np.float32]:
        """Return a band on the whole fine grid in physical units, shape ``(R h, R w)``.

        Tiles are read with the halo of the network: the result is the untiled one, without seams.
        """
        shape = self.inputs.scene.fine_shape
        plane = np.empty(shape, dtype=np.float32)
        with torch.inference_mode():
            for window in tiles(shape, tile):
                around = window.grown(self.network.halo, shape)
                sharp = self.network(
                    self.inputs.interpolated(band, around),
                    self.inputs.pan(around),
                    self.inputs.base(band, around),
                )
                inner = window.within(around)
                plane[window.slices] = sharp[0, 0][inner.slices].cpu().numpy()
        plane /= np.float32(self.inputs.normalisation.scale)
        return plane

    def state(self) -> dict[str, Tensor]:
        """Return weights and moments, from which the next band continues."""
        found = {f"weights.{name}": value for name, value in self.network.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"adam.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        return stored(found)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from :meth:`state`."""
        self.network.load_state_dict(
            {name[8:]: value for name, value in state.items() if name.startswith("weights.")}
        )
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("adam."):
                _, number, key = name.split(".")
                moments.setdefault(int(number), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def fine(self, coarse: Sequence[Window] | None = None) -> list[Window]:
        """Return coarse windows on the fine grid; those that the network adapts on by default."""
        ratio = self.inputs.scene.optics.ratio
        windows = self.coarse if coarse is None else coarse
        return [Window(*(edge * ratio for edge in window)) for window in windows]

    def sharpened(self, band: BandPatches, pan: Tensor) -> Tensor:
        """Return the network's output on patches."""
        found: Tensor = self.network(band.interpolated, pan, band.base)
        return found

    def step(self, loss: Tensor) -> None:
        """Take one step of Adam.

        Raises:
            RunError: The loss is not finite.
        """
        if not torch.isfinite(loss):
            raise RunError(
                "the adaptation diverged: the loss is not a finite number.",
                hint="Lower adaptation.lr, or use --set method=gsa.",
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def losses_of(self, band: BandPatches, pan: Tensor) -> tuple[float, float]:
        """Return spectral and structural loss of the present weights."""
        with torch.inference_mode():
            sharp = self.sharpened(band, pan)
            return band.spectral(sharp).item(), band.structural(sharp).item()


class Snapshot:
    """Weights of a network, and the optimiser's moments where asked for, to come back to."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        self._weights = [value.detach().clone() for value in network.parameters()]
        self._moments = None if optimizer is None else deepcopy(optimizer.state_dict())

    def put_back(self, network: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Give a network these weights, and an optimiser these moments."""
        with torch.no_grad():
            for value, kept in zip(network.parameters(), self._weights, strict=True):
                value.copy_(kept)
        if optimizer is not None and self._moments is not None:
            optimizer.load_state_dict(deepcopy(self._moments))


def band_centres(scene: Scene) -> NDArray[np.float64]:
    """Return the band centres in nm; steps of 10 nm from 400 where they are not known."""
    if scene.wavelengths is not None:
        return np.asarray(scene.wavelengths, dtype=np.float64)
    return 400.0 + _NM_PER_BAND * np.arange(scene.bands, dtype=np.float64)
