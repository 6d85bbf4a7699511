"""The first head: how abnormal a device is for its condition, and which readings say so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from appliedpapers.core.device import derive_seed
from appliedpapers.core.weights import drawn_by
from appliedpapers.plugins.laser_cvae.blocks import in_blocks, width_of
from appliedpapers.plugins.laser_cvae.conformal import Basis, Calibration
from appliedpapers.plugins.laser_cvae.decoding import Curves, Readings
from appliedpapers.plugins.laser_cvae.devices import (
    Devices,
    Flags,
    Floats,
    Indices,
    Prefixes,
    cell_names,
    prefixes,
)
from appliedpapers.plugins.laser_cvae.learner import AgeingRows, AgeingTask
from appliedpapers.plugins.laser_cvae.network import AgeingCVAE
from appliedpapers.plugins.laser_cvae.points import draws, simplex
from appliedpapers.plugins.laser_cvae.profile import Conditioning, abnormality_features

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.laser_cvae.config import AbnormalityConfig, LaserTraining

_BLOCK, _AT_ONCE = 256, 2048
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


class _Block(NamedTuple):
    """What is found of a block of B rows; see :class:`Judgement`."""

    score: torch.Tensor
    fit: torch.Tensor
    mean: torch.Tensor
    shares: torch.Tensor
    expected: torch.Tensor | None


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

    def judge(self, given: Prefixes, *, alone: bool = False) -> Judgement:
        """Judge prefixes of at least four readings; a row does not depend on the others, to the bit.

        Args:
            given: Prefixes.
            alone: Compute each row by itself, as the stream of one device does, which never has more.
        """
        count, width = len(given), given.hours.shape[1]
        score, fit, active = np.empty(count), np.empty(count), np.empty((count, self.options.latent))
        parts, expected = np.zeros((count, width)), np.zeros((count, width))
        with torch.inference_mode():
            for own, found in self._judged(given, 1 if alone else _BLOCK, whole=True):
                assert found.expected is not None
                for to, one in ((score, found.score), (fit, found.fit), (active, found.mean)):
                    to[own] = one[: len(own)].double().cpu().numpy()
                for to, one in ((parts, found.shares), (expected, found.expected)):
                    read = min(width, len(one))
                    to[own, :read] = one[:read, : len(own)].T.double().cpu().numpy()
        return Judgement(score, fit, parts, expected, active)

    def scores(self, given: Prefixes) -> Floats:
        """Return the scores ``(R,)`` of :meth:`judge` alone."""
        found = np.empty(len(given))
        with torch.inference_mode():
            for own, block in self._judged(given, _BLOCK, whole=False):
                found[own] = block.score[: len(own)].cpu().numpy()
        return found

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
            found[seen.device, number] = self.scores(seen)
        return found

    def _judged(self, given: Prefixes, size: int, *, whole: bool) -> Iterator[tuple[Indices, _Block]]:
        """Yield row numbers and what is found of them, in blocks of one shape; features of many at once."""
        curves, points = Curves(self.network), self._points
        at_once = _AT_ONCE if size > 1 else 1
        # only a recurrent encoder computes with what is padded
        for own, wide in in_blocks(given, size, at_once, padded=self.options.encoder == "gru"):
            rows = ageing_rows(wide, self.how, self.options, self.device)
            longest = int(wide.counts.max())
            every = Readings.of(rows, longest)
            # sums have one shape, however many readings there are
            shares = torch.zeros((width_of(longest), size), device=self.device)
            for start in range(0, len(own), size):
                part = slice(start, start + size)
                readings, condition = every.part(start, size), rows.condition[part]
                tokens = rows.tokens[part] if len(rows.tokens) else rows.tokens
                posterior = self.network.encode(rows.features[part], tokens)
                losses = curves.losses(readings, condition, posterior.draw(points))
                torch.mul(losses, readings.weight / readings.count, out=shares[: len(losses)])
                fit = shares.sum(dim=0)
                score = fit + self.options.score_beta * posterior.divergence() / readings.count
                expected = curves.expected(readings, condition, posterior.mean) if whole else None
                yield own[part], _Block(score, fit, posterior.mean, shares, expected)

    @cached_property
    def _points(self) -> torch.Tensor:
        """Standard normal points ``(S, 1, latent)``, the same for all rows."""
        wanted, latent = self.options.samples, self.network.latent
        points = simplex(latent) if isinstance(wanted, str) else draws(wanted, latent)
        return torch.as_tensor(points[:, None], dtype=torch.float32, device=self.device)


def ageing_rows(
    given: Prefixes, how: Conditioning, options: AbnormalityConfig, device: str = "cpu"
) -> AgeingRows:
    """Return prefixes as the tensors that the network takes."""
    features, size = abnormality_features(given, how)
    there = np.isfinite(given.hours)
    share = np.where(there, given.hours, 0.0) / how.reference
    damage = np.where(there, given.damage, 0.0)

    def tensor(values: Floats | Flags) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=device)

    tokens = torch.empty(0, device=device)
    if options.encoder == "gru":
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
    devices: Devices,
    count: int,
    seed: int,
    *,
    share: float = _FIRST_SHARE,
    last: float = 1.0,
    waiting: bool = False,
) -> Prefixes:
    """Return prefixes of each device at random shares of its test, before its failure.

    Args:
        devices: Whole series.
        count: Prefixes of each.
        seed: Of the shares, which are drawn within equal parts so that all lengths are there.
        share: The shortest.
        last: The longest.
        waiting: Leave out shares at which the device had failed; otherwise it is cut just before it did.
            Chances to fail must be learned from those that were still waiting at a time, or prefixes that
            end right before a failure are far too many.
    """
    rng = np.random.default_rng(seed)
    strata = (np.arange(count) + rng.uniform(size=(len(devices), count))) / count
    ends = np.maximum(devices.last, 1e-9)
    cuts = (share + (last - share) * strata) * ends[:, None]
    if last == 1.0:
        cuts[:, -1] = ends
    rows, at = np.repeat(np.arange(len(devices)), count), cuts.ravel()
    if waiting:
        open_ = at < devices.failure[rows]
        rows, at = rows[open_], at[open_]
    seen = prefixes(devices, rows, np.minimum(at, np.nextafter(devices.failure[rows], 0)))
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
