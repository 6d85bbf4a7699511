"""How the forecast learns: prefixes with their future, the physics prior, what is chosen on validation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from appliedpapers.core.calibration import Calibrator, Line, fit_calibrator
from appliedpapers.core.device import derive_seed
from appliedpapers.core.metrics import log_losses
from appliedpapers.core.weights import drawn_by
from appliedpapers.plugins.laser_cvae.ageing import CONDITIONS, training_prefixes
from appliedpapers.plugins.laser_cvae.devices import Devices, Floats, Prefixes
from appliedpapers.plugins.laser_cvae.forecast import QUANTILES, ForecastHead, chance_at
from appliedpapers.plugins.laser_cvae.learner import ForecastRows, ForecastTask
from appliedpapers.plugins.laser_cvae.network import ForecastCVAE
from appliedpapers.plugins.laser_cvae.path_prior import PathPrior
from appliedpapers.plugins.laser_cvae.profile import RECENT, Conditioning, forecast_features

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.laser_cvae.config import ForecastConfig, LaserTraining

MIXES = (0.0, 0.5, 1.0)
COVERAGE = 0.8
ENOUGH_FAILURES, ENOUGH_ROWS = 50, 500
FEW_DEVICES = 60

_LONGEST = 0.95
_EARLIEST = 1e-3
_FEWEST_OF_A_CLASS = 5
_WINDOW_COUNT = 5
_FEATURES = len(RECENT) + 2 * _WINDOW_COUNT + 2 + 3 + CONDITIONS


def new_forecast(options: ForecastConfig, seed: int) -> ForecastCVAE:
    """Return an untrained network whose weights depend on the seed alone."""
    with drawn_by(seed):
        return ForecastCVAE(_FEATURES, options.latent, options.encoder)


def fit_forecast(
    train: Devices,
    valid: Devices,
    options: ForecastConfig,
    settings: LaserTraining,
    how: Conditioning,
    run: FitContext,
    *,
    name: str = "forecast",
    start: ForecastCVAE | None = None,
) -> ForecastHead:
    """Fit prior and network on ``train``, choose their shares and calibrate on ``valid``.

    Args:
        train: All devices, failed ones included.
        valid: Devices to choose on; none leaves the prior alone and probabilities as they are.
        options: Sizes and weights.
        settings: How the network is trained.
        how: Scaling of conditions and time.
        run: Seed, device, folder and the like.
        name: Of the network among those of the run.
        start: A network to go on from, such as one that learned physics.
    """
    from appliedpapers.core.training import fit

    prior = PathPrior.fit(train, np.isfinite(train.hours), options.knots)
    network = new_forecast(options, derive_seed(run.seed, name))
    if start is not None:
        network.load_state_dict(start.state_dict())
    head = ForecastHead(options, prior, network, how, run.device)
    head.residual = _residual(prior, train)
    seen = _waiting(train, settings, derive_seed(run.seed, name, "prefixes"))
    # without devices to choose on the correction is not applied, and need not be learned
    if len(seen) > 1 and (len(valid) or name != "forecast"):
        rows = _rows(head, seen, train, run.device)
        jumped = np.unique(seen.device[rows.jumped.cpu().numpy() > 0])
        network.sudden = len(jumped) >= _FEWEST_OF_A_CLASS
        fit(ForecastTask(network, rows, settings, decision=options.decision_weight), run, name)
    network.eval()
    _choose(head, valid, settings, derive_seed(run.seed, name, "valid"))
    return head


def _waiting(devices: Devices, settings: LaserTraining, seed: int) -> Prefixes:
    """Return prefixes of devices that had not failed by then, and whose test went on."""
    seen = training_prefixes(devices, settings.prefixes, seed, last=_LONGEST, waiting=True)
    return seen.take(seen.end < seen.horizon * 0.99)


def _rows(head: ForecastHead, seen: Prefixes, devices: Devices, device: str) -> ForecastRows:
    """Return prefixes with their future as tensors."""
    base = head.base(seen)
    features = forecast_features(seen, head.how, base.path[:, [0, -1]], base.doubt)
    future, known, sudden, jumped = _future(seen, devices, base.hours[:, 1:])
    crossed, judged = outcomes(seen, devices)

    def tensor(values: Floats) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=device)

    return ForecastRows(
        tensor(features.features),
        tensor(features.level),
        tensor(base.increments),
        tensor(future),
        tensor(known),
        tensor(sudden),
        tensor(jumped),
        tensor(crossed),
        tensor(judged),
        seen.scale.limit,
    )


def outcomes(seen: Prefixes, devices: Devices) -> tuple[Floats, Floats]:
    """Return whether each prefix's device failed by its planned end, and whether that is known."""
    failure, horizon = devices.failure[seen.device], seen.horizon
    crossed = failure <= horizon * (1 + 1e-9)
    watched = devices.last[seen.device] >= 0.98 * horizon
    return crossed.astype(np.float64), (crossed | watched).astype(np.float64)


def _future(seen: Prefixes, devices: Devices, hours: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return damage ahead, where it is known, steps until a sudden failure, and whether there is one."""
    limit, last = seen.scale.limit, devices.last
    capped = np.minimum(devices.damage, 2 * limit)
    future, known = np.zeros(hours.shape), np.zeros(hours.shape)
    steps, jumped = np.zeros(len(seen)), np.zeros(len(seen))
    for row, device in enumerate(seen.device):
        count = int(devices.counts[device])
        own, damage = devices.hours[device, :count], devices.damage[device, :count]
        future[row] = np.interp(hours[row], own, capped[device, :count])
        # a step of more than the criterion between two readings is a sudden failure
        jumps = np.flatnonzero((np.diff(damage) > limit) & (own[1:] > seen.end[row]))
        until = last[device]
        if len(jumps):
            until, jumped[row] = own[jumps[0]], 1.0
        known[row] = hours[row] <= until * (1 + 1e-9)
        steps[row] = known[row].sum()
    return future, known, steps, jumped


def _residual(prior: PathPrior, devices: Devices) -> tuple[float, float]:
    """Return spread and lag-1 correlation of readings around their own paths."""
    kept = np.isfinite(devices.hours) & (np.nan_to_num(devices.hours) > 0)
    kept &= devices.hours < devices.failure[:, None]
    mean = prior.mean(devices.conditions)
    weights, _ = prior.posterior(devices.hours, devices.damage, kept, mean)
    off = np.where(kept, devices.damage - prior.paths(weights, devices.hours), np.nan)
    spread = 1.4826 * float(np.nanmedian(np.abs(off)))
    pairs = kept[:, 1:] & kept[:, :-1]
    both = (
        np.clip(off[:, 1:][pairs], -3 * spread, 3 * spread),
        np.clip(off[:, :-1][pairs], -3 * spread, 3 * spread),
    )
    memory = float(np.corrcoef(*both)[0, 1]) if len(both[0]) > 2 and spread > 0 else 0.0
    return max(spread, prior.noise / 2), float(np.clip(np.nan_to_num(memory), 0, 0.99))


def _choose(head: ForecastHead, valid: Devices, settings: LaserTraining, seed: int) -> None:
    """Choose on validation devices how much of the correction is applied, and calibrate."""
    head.mix = 0.0
    if len(valid) < 2:
        return
    seen = _waiting(valid, settings, seed)
    if not len(seen):
        return
    labels, known = outcomes(seen, valid)
    judged = known > 0
    losses, looks = {}, {}
    for mix in MIXES:
        head.mix = mix
        looks[mix] = look = head.look(seen)
        off = _path_errors(seen, valid, look.hours, look.fan[..., 1])
        chance = np.clip(1 / (1 + np.exp(-look.logit)), 1e-3, 1 - 1e-3)
        loss = off + np.where(judged, log_losses(labels.astype(int), chance), 0.0)
        losses[mix] = np.bincount(seen.device, loss, len(valid)) / np.maximum(
            np.bincount(seen.device, minlength=len(valid)), 1
        )
    head.mix = _worth_it(losses)
    logits = looks[head.mix].logit
    head.calibrator = _calibrator(head.options.method, logits[judged], labels[judged], seen.device[judged])
    _, _, _, jumped = _future(seen, valid, looks[head.mix].hours)
    _choose_early(head, seen.take((labels > 0) & (jumped == 0)), valid)


def _choose_early(head: ForecastHead, failing: Prefixes, valid: Devices) -> None:
    """Choose where intervals of the failure time begin, so that they hold 80 % of failures without a step.

    A tenth of all devices is not a tenth of those that fail: most of these come from many devices with a
    small chance each. So the early level is a conformal quantile of the chances at which validation devices
    did fail; the late level stays. Devices are exchangeable, prefixes of one are not: each device counts
    once, or those that fail late, which have many prefixes and are easier, would speak for the others. What
    a few dozen devices say of a tenth is uncertain: a standard error of it is kept in reserve.
    """
    _, number, sizes = np.unique(failing.device, return_inverse=True, return_counts=True)
    if len(sizes) < _FEWEST_OF_A_CLASS:
        return
    weight = 1 / (len(sizes) * sizes[number])
    chance = chance_at(valid.crossing[failing.device], head.look(failing), failing.end)
    late = float(weight[chance > QUANTILES[-1]].sum())
    outside = max(1 - COVERAGE - late, 0.0)
    outside -= np.sqrt(outside * (1 - outside) / len(sizes))
    # one failure more, which is still to come, may lie outside, too
    outside = outside * (len(sizes) + 1) / len(sizes) - 1 / len(sizes)
    head.early = float(np.clip(_lower_quantile(chance, weight, outside), _EARLIEST, QUANTILES[0]))


def _lower_quantile(values: Floats, weight: Floats, share: float) -> float:
    """Return the largest of the values that at most this share of the weight lies below, or the smallest."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order]) - weight[order]
    # sums of shares of one are not exact
    allowed = int(np.count_nonzero(below <= share + 1e-9))
    return float(values[order][max(allowed - 1, 0)])


def _worth_it(losses: dict[float, Floats]) -> float:
    """Return the best share, where it beats the prior alone by more than a standard error."""
    best = min(losses, key=lambda mix: float(losses[mix].mean()))
    gain = losses[0.0] - losses[best]
    error = float(gain.std()) / np.sqrt(max(len(gain), 1))
    return best if float(gain.mean()) > error else 0.0


def _path_errors(seen: Prefixes, devices: Devices, hours: Floats, middle: Floats) -> Floats:
    """Return the mean error of the median path before a failure, as a share of the criterion, ``(R,)``."""
    future, known, _, _ = _future(seen, devices, hours)
    limit = seen.scale.limit
    off = np.abs(np.minimum(middle, 2 * limit) - future) / limit * known
    return np.asarray(off.sum(axis=1) / np.maximum(known.sum(axis=1), 1))


def _calibrator(
    method: str, logits: Floats, labels: Floats, device: np.ndarray[tuple[int], np.dtype[np.intp]]
) -> Calibrator:
    failures = len(np.unique(device[labels > 0]))
    survivors = len(np.unique(device[labels == 0]))
    if method == "none" or min(failures, survivors) < _FEWEST_OF_A_CLASS:
        return Line("none")
    if method == "auto":
        method = "isotonic" if failures >= ENOUGH_FAILURES and len(logits) >= ENOUGH_ROWS else "platt"
    return fit_calibrator("isotonic" if method == "isotonic" else "platt", logits, labels)


def physics_devices(like: Devices, options: ForecastConfig, seed: int) -> Devices:
    """Return simulated devices on a test as long as that of ``like``, in its mode and with its criterion."""
    from appliedpapers.plugins.laser_cvae.config import SimulatorConfig
    from appliedpapers.plugins.laser_cvae.simulator import simulate

    horizon = float(np.median(like.horizon))
    readings = int(np.clip(np.median(like.counts), 8, 60))
    limit = like.scale.limit
    wanted = SimulatorConfig(
        horizon=horizon,
        readings=readings,
        # a third of the devices comes near the criterion, as in a test that is meant to be long enough
        damage_ref=float(np.clip(limit * (1000 / max(horizon, 1)) ** 0.8 / 2, 1e-4, 1)),
        time_exponent=0.9,
        time_exponent_sd=0.2,
        unit_sd=0.3,
        noise=(0.001, 0.004),
        burn_in=0.003,
        outliers=0.02,
    )
    made = simulate(
        wanted, seed % 2**32, options.prior_devices, mode=like.scale.mode, limit=like.scale.threshold
    )
    return replace(made, scale=like.scale)
