"""The first head: how abnormal a device is for its condition, and which readings say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from appliedpapers.core.device import derive_seed
from appliedpapers.core.weights import drawn_by
from appliedpapers.plugins.laser_cvae.conformal import Basis, Calibration
from appliedpapers.plugins.laser_cvae.devices import Devices, Flags, Floats, Prefixes, cell_names, prefixes
from appliedpapers.plugins.laser_cvae.learner import AgeingRows, AgeingTask, reading_losses
from appliedpapers.plugins.laser_cvae.network import AgeingCVAE
from appliedpapers.plugins.laser_cvae.profile import Conditioning, abnormality_features

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.laser_cvae.config import AbnormalityConfig, LaserTraining

_BLOCK = 256
_TIMES = 20
_FIRST_SHARE = 0.15
CONDITIONS = 4
"""Width of a scaled condition: two values and whether they are known."""


@dataclass(frozen=True)
class Judgement:
    """What the head says of prefixes.

    Attributes:
        score: ``(R,)``, mean negative log-likelihood of a reading plus the weighted KL term; nats.
        reconstruction: The same without the KL term.
        attribution: ``(R, L)``, what each reading adds to the score; 0 for marked outliers.
        expected: ``(R, L)``, damage of the device if it were healthy.
        active: Mean of z of each row, ``(R, latent)``.
    """

    score: Floats
    reconstruction: Floats
    attribution: Floats
    expected: Floats
    active: Floats


class AgeingHead:
    """The autoencoder with its calibration.

    Attributes:
        network: The fitted network.
        how: Scaling of conditions and time.
        calibration: Scores of held-out healthy devices; None before it is calibrated.
    """

    def __init__(
        self, options: AbnormalityConfig, network: AgeingCVAE, how: Conditioning, device: str = "cpu"
    ) -> None:
        self.options, self.network, self.how, self.device = options, network, how, device
        self.calibration: Calibration | None = None

    def judge(self, given: Prefixes) -> Judgement:
        """Judge prefixes of at least four readings; a row does not depend on the others."""
        blocks = [self._judge(given.take(slice(at, at + _BLOCK))) for at in range(0, len(given), _BLOCK)]
        width = given.hours.shape[1]
        if not blocks:
            empty, wide = np.empty(0), np.empty((0, width))
            return Judgement(empty, empty, wide, wide, np.empty((0, self.options.latent)))
        return Judgement(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))

    def p_values(self, given: Prefixes, judgement: Judgement) -> tuple[Floats, list[Basis]]:
        """Return p-values of judged prefixes, and what each is compared with."""
        assert self.calibration is not None
        return self.calibration.p_values(judgement.score, given.end, cell_names(given.conditions))

    def calibrate(self, held_out: Devices, learned: Devices) -> None:
        """Calibrate on healthy devices that nothing was learned from, cut at a grid of elapsed times."""
        every = np.concatenate([held_out.hours[:, 3:].ravel(), learned.hours[:, 3:].ravel()])
        hours = np.unique(np.quantile(every[np.isfinite(every)], np.linspace(0, 1, _TIMES)))
        own, other = self._scores_over(held_out, hours), self._scores_over(learned, hours)
        cells = held_out.cells()
        known = np.concatenate([own, other]), [*cells, *learned.cells()]
        self.calibration = Calibration.fit(hours, own, cells, known)

    def active_units(self, devices: Devices) -> int:
        """Return how many of the units of z vary by more than .01 over devices."""
        seen = devices.before(np.inf)
        found = self.judge(seen.take(seen.usable)).active
        return int((found.var(axis=0) > 0.01).sum()) if len(found) else 0

    def _scores_over(self, devices: Devices, hours: Floats) -> Floats:
        """Return scores ``(N, E)`` at elapsed times; NaN after a device failed or left the test."""
        found = np.full((len(devices), len(hours)), np.nan)
        for number, at in enumerate(hours):
            on_test = (devices.failure > at) & (devices.last >= at)
            seen = prefixes(devices, np.flatnonzero(on_test), np.full(int(on_test.sum()), at))
            seen = seen.take(seen.usable)
            found[seen.device, number] = self.judge(seen).score
        return found

    def _judge(self, given: Prefixes) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        rows = ageing_rows(given, self.how, self.options, self.device)
        # the same draws for all rows, however many are asked for at once
        order = torch.Generator().manual_seed(0)
        noise = torch.randn(self.options.samples, 1, self.network.latent, generator=order).to(self.device)
        with torch.inference_mode():
            posterior = self.network.encode(rows.features, rows.tokens)
            losses, _ = reading_losses(self.network, rows, posterior.draw(noise))
            count = rows.weight.sum(dim=1).clamp(min=1)
            parts = losses.mean(dim=0) * rows.weight / count[:, None]
            fit = parts.sum(dim=1)
            score = fit + self.options.score_beta * posterior.divergence() / count
            _, expected = reading_losses(self.network, rows, posterior.mean)
        tensors = (score, fit, parts, expected, posterior.mean)
        found = [one.double().cpu().numpy() for one in tensors]
        return found[0], found[1], found[2], found[3], found[4]


def ageing_rows(
    given: Prefixes, how: Conditioning, options: AbnormalityConfig, device: str = "cpu"
) -> AgeingRows:
    """Return prefixes as the tensors that the network takes."""
    features, size = abnormality_features(given, how)
    share = np.nan_to_num(given.hours) / how.reference
    damage = np.nan_to_num(given.damage)

    def tensor(values: Floats | Flags) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=device)

    tokens = torch.empty(0, device=device)
    if options.encoder == "gru":
        there = np.isfinite(given.hours)
        step = np.diff(share, axis=1, prepend=0) * there
        kept = np.where(given.kept, damage, 0.0)
        tokens = tensor(np.stack([np.arcsinh(kept / 0.02), share * there, 10 * step, there], axis=-1))
    return AgeingRows(
        tensor(features),
        tensor(how.scaled(given.conditions)),
        tensor(size),
        tensor(damage),
        tensor(given.kept),
        tensor(share),
        tokens,
        given.scale.limit,
        options.noise_floor,
    )


def training_prefixes(
    devices: Devices, count: int, seed: int, *, share: float = _FIRST_SHARE, last: float = 1.0
) -> Prefixes:
    """Return prefixes of each device at random shares of its test, before its failure.

    Args:
        devices: Whole series.
        count: Prefixes of each.
        seed: Of the shares, which are drawn within equal parts so that all lengths are there.
        share: The shortest.
        last: The longest.
    """
    rng = np.random.default_rng(seed)
    strata = (np.arange(count) + rng.uniform(size=(len(devices), count))) / count
    ends = np.maximum(devices.last, 1e-9)
    cuts = (share + (last - share) * strata) * ends[:, None]
    if last == 1.0:
        cuts[:, -1] = ends
    rows = np.repeat(np.arange(len(devices)), count)
    seen = prefixes(devices, rows, np.minimum(cuts.ravel(), np.nextafter(devices.failure[rows], 0)))
    return seen.take(seen.usable)


def fit_ageing(
    devices: Devices,
    options: AbnormalityConfig,
    settings: LaserTraining,
    how: Conditioning,
    run: FitContext,
    *,
    name: str,
    labelled: bool,
    start: AgeingCVAE | None = None,
) -> AgeingHead:
    """Train the autoencoder on devices that are normal for their condition.

    Args:
        devices: Normal ones.
        options: Sizes and weights.
        settings: How it is trained.
        how: Scaling of conditions and time.
        run: Seed, device, folder and the like.
        name: Of the network among those of the run.
        labelled: Whether it is known which devices failed; otherwise the largest losses are trimmed.
        start: A network to go on from.
    """
    from appliedpapers.core.training import fit

    seen = training_prefixes(devices, settings.prefixes, derive_seed(run.seed, name, "prefixes"))
    rows = ageing_rows(seen, how, options)
    network = new_ageing(options, rows.features.shape[1], derive_seed(run.seed, name))
    if start is not None:
        network.load_state_dict(start.state_dict())
        network.epochs.zero_()
    task = AgeingTask(
        network,
        _moved(rows, run.device),
        settings,
        beta=options.beta,
        trim=0.0 if labelled else options.trim,
    )
    fit(task, run, name)
    return AgeingHead(options, network.eval(), how, run.device)


def new_ageing(options: AbnormalityConfig, features: int, seed: int) -> AgeingCVAE:
    """Return an untrained network whose weights depend on the seed alone."""
    with drawn_by(seed):
        return AgeingCVAE(features, CONDITIONS, options.latent, str(options.encoder))


def _moved(rows: AgeingRows, device: str) -> AgeingRows:
    return rows if device == "cpu" else rows.each(lambda one: one.to(device))
