"""Networks adapted to one scene: first weights, what they add to, and their bands one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save

from appliedpapers.core.device import derive_seed
from appliedpapers.plugins.pansharpening.bandwise import BandAdapter
from appliedpapers.plugins.pansharpening.classical import sharpen as sharpen_classically
from appliedpapers.plugins.pansharpening.consistency import back_projected
from appliedpapers.plugins.pansharpening.inputs import NetworkInputs, Normalisation, adaptation_windows
from appliedpapers.plugins.pansharpening.losses import FLOOR, PARITY_FLOOR
from appliedpapers.plugins.pansharpening.network import BandNetwork, RhoPnn, RPnn
from appliedpapers.plugins.pansharpening.rhopnn import RhoPnnAdapter
from appliedpapers.plugins.pansharpening.rpnn import RPnnAdapter

if TYPE_CHECKING:
    from appliedpapers.plugins.pansharpening.products import Task


class NetworkBands:
    """Bands sharpened by a network that adapts to the scene.

    Args:
        task: What is asked for.

    Attributes:
        order: Living bands by wavelength.
        notes: What the user should know.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        scene, config = task.scene, task.config
        options = config.adaptation
        by_band = config.method == "r-pnn"
        made = Normalisation.of if options.normalize == "scene" else Normalisation.fixed16
        base = None
        if config.network_base != "exp":
            base = sharpen_classically(config.network_base, scene, budget=task.memory_bytes // 8)
        inputs = NetworkInputs(
            scene,
            made(scene),
            thresholded=by_band,
            base=base,
            device=task.device,
            floor=PARITY_FLOOR if options.normalize == "fixed16" else FLOOR,
        )
        network = first_network(task)
        coarse = adaptation_windows(
            scene, options.rho.tile, options.rho.tiles, derive_seed(config.seed, "tiles") % 2**32
        )
        kind: type[BandAdapter] = RPnnAdapter if by_band else RhoPnnAdapter
        self._adapter = kind(inputs, options, coarse, config.seed, network)
        self.order = self._adapter.order
        self.notes: tuple[str, ...] = () if base is None else tuple(base.notes)

    def make(self, position: int) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Adapt to band ``order[position]`` and return it with how that went."""
        plane, report = self._adapter.sharpen(position)
        steps = self._task.config.back_projections
        if steps:
            plane = back_projected(plane, self._task.scene, report.band, steps)
        return plane, report.document()

    def state(self) -> bytes:
        """Return weights and moments as safetensors."""
        return bytes(save(self._adapter.state()))

    def restore(self, state: bytes) -> None:
        """Continue from :meth:`state`."""
        self._adapter.restore(load(state))


def first_network(task: Task) -> BandNetwork:
    """Return the network that the first band starts from.

    Where it adds to a classical product its last layer is zero at first: it can only add to that product.
    """
    config = task.config
    kind: type[BandNetwork] = RPnn if config.method == "r-pnn" else RhoPnn
    network = kind.seeded(derive_seed(config.seed, "network"))
    weights = task.weights
    if config.method == "r-pnn" and weights is None and config.adaptation.r.weights == "shipped":
        from appliedpapers.plugins.pansharpening.first_weights import shipped_weights

        # a model that was never fitted
        weights = shipped_weights()[0]
    if config.method == "r-pnn" and weights is not None:
        network.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    if config.network_base != "exp":
        with torch.no_grad():
            for value in network.layers[-1].parameters():
                value.zero_()
    return network
