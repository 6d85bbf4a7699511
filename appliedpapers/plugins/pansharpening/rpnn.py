"""R-PNN: a fixed number of iterations a band, the best weights passed on (arXiv 2311.06510, section III)."""

from __future__ import annotations

import math

from appliedpapers.plugins.pansharpening.bandwise import INFRARED_NM, BandAdapter, BandReport, Snapshot

_STEP_NM = 10.0


class RPnnAdapter(BandAdapter):
    """Adapts R-PNN; see :class:`BandAdapter`."""

    def adapt(self, position: int) -> BandReport:
        """Adapt to a band and keep the weights with the least total loss.

        Public code keeps the weights after the step whose loss was the least; here the weights are kept
        whose loss was measured.
        """
        index = self.order[position]
        band = self.inputs.patches(index, self.coarse)
        pan = self.inputs.pans(self.fine())
        visible = self.centres[index] <= INFRARED_NM
        weight = self.options.r.struct_visible if visible else self.options.r.struct_infrared
        iterations = self.iterations(position)
        best, kept, found = math.inf, Snapshot(self.network), (math.nan, math.nan)
        for number in range(iterations + 1):
            sharp = self.sharpened(band, pan)
            spectral, structural = band.spectral(sharp), band.structural(sharp)
            total = spectral + weight * structural
            if total.item() < best:
                best, kept = total.item(), Snapshot(self.network)
                found = spectral.item(), structural.item()
            if number < iterations:
                self.step(total)
        kept.put_back(self.network)
        baseline = band.spectral(band.interpolated).item()
        return BandReport(index, iterations, found[0], baseline, found[1], None, weight, "finished")

    def iterations(self, position: int) -> int:
        """Return the scheduled iterations of a band: more where the next band is further away."""
        options = self.options.r
        if position == 0 and options.weights == "random":
            return options.random_iterations
        if position == 0:
            return min(options.first_iterations, self.options.max_iterations)
        apart = self.centres[self.order[position]] - self.centres[self.order[position - 1]]
        scheduled = (math.floor(apart / _STEP_NM) + 1) * options.per_step
        return int(min(scheduled, options.cap, self.options.max_iterations))
