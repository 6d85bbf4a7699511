"""The networks: a conditional variational autoencoder of readings, and the forecast of a path.

Both are of the type of arXiv 2211.02847, whose layers are not printed; sizes are ours. Decoders are functions
of time: their outputs are weights of hat functions over the square root of time, so that any grid will do and
many draws of z cost little.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from appliedpapers.nn.factory import build

MEAN_KNOTS, SPREAD_KNOTS = 16, 4
STEPS = 16
"""Steps from now to the planned end of the test, in which a forecast is made."""

NO_HAZARD = -30.0
"""Logit of a sudden failure where there is none to fear."""

_WIDTH, _CODE = 64, 32
SPREAD_START = -6.0
_TOKENS = 4


class Posterior(NamedTuple):
    """A diagonal Gaussian of z: mean and log variance, ``(rows, latent)`` each."""

    mean: Tensor
    log_variance: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """Return z for standard normal noise that broadcasts to the mean."""
        return self.mean + noise * torch.exp(0.5 * self.log_variance)

    def divergence(self) -> Tensor:
        """Return the KL divergence to the standard normal, ``(rows,)``, in nats."""
        return 0.5 * (self.mean**2 + self.log_variance.exp() - 1 - self.log_variance).sum(-1)

    def divergence_to(self, other: Posterior) -> Tensor:
        """Return the KL divergence to another Gaussian, ``(rows,)``, in nats."""
        ratio = self.log_variance - other.log_variance
        apart = (self.mean - other.mean) ** 2 / other.log_variance.exp()
        return 0.5 * (ratio.exp() + apart - 1 - ratio).sum(-1)


class GruReader(nn.Module):
    """Reads tokens of readings one by one, and gives the last state.

    Shape:
        - input: tokens ``(rows, readings, 4)`` (damage, time, step, mask) and features ``(rows, features)``
        - output: ``(rows, 32)``
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.gru = nn.GRU(_TOKENS, _WIDTH, batch_first=True)
        self.code = nn.Linear(_WIDTH + features, _CODE)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Return the code of each row."""
        states, _ = self.gru(tokens)
        last = tokens[..., 3].sum(dim=1).long().clamp(min=1) - 1
        state = states[torch.arange(len(states), device=states.device), last]
        return functional.relu(self.code(torch.cat([state, features], dim=-1)))


class ProfileReader(nn.Module):
    """Reads the profile of a prefix with a module of our shelf; ``mlp`` is 64, 32 with ReLU.

    Shape:
        - input: features ``(rows, features)``; tokens are not looked at
        - output: ``(rows, 32)``
    """

    def __init__(self, features: int, spec: str) -> None:
        super().__init__()
        self.block: nn.Module
        if spec == "mlp":
            self.block = nn.Sequential(nn.Linear(features, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _CODE))
        else:
            self.block = build(spec, in_features=features, out_features=_CODE)

    def forward(self, features: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Return the code of each row."""
        return functional.relu(self.block(features))


class AgeingCVAE(nn.Module):
    """Conditional variational autoencoder of the readings of a prefix.

    Args:
        features: Of the encoder's input.
        conditions: Of the scaled condition.
        latent: Size of z.
        encoder: ``gru``, or a module's specification.
    """

    def __init__(self, features: int, conditions: int, latent: int, encoder: str) -> None:
        super().__init__()
        self.latent = latent
        self.epochs: Tensor
        # a buffer, so that a warm-up that was interrupted goes on where it was
        self.register_buffer("epochs", torch.zeros(()))
        self.reader = GruReader(features) if encoder == "gru" else ProfileReader(features, encoder)
        self.posterior = nn.Linear(_CODE, 2 * latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent + conditions, _WIDTH),
            nn.ReLU(),
            nn.Linear(_WIDTH, _WIDTH),
            nn.ReLU(),
            nn.Linear(_WIDTH, MEAN_KNOTS + SPREAD_KNOTS),
        )

    def encode(self, features: Tensor, tokens: Tensor | None = None) -> Posterior:
        """Return q(z | readings, condition)."""
        mean, log_variance = self.posterior(self.reader(features, tokens)).chunk(2, dim=-1)
        return Posterior(mean, log_variance.clamp(-8, 4))

    def decode(self, z: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights of mean ``(..., 16)`` and log variance ``(..., 4)``, as shares of the size."""
        wide = condition.expand(*z.shape[:-1], condition.shape[-1])
        out = self.decoder(torch.cat([z, wide], dim=-1))
        return out[..., :MEAN_KNOTS], out[..., MEAN_KNOTS:] + SPREAD_START

    def forward(self, features: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decoder's weights at the posterior mean."""
        return self.decode(self.encode(features).mean, condition)


class Path(NamedTuple):
    """A forecast: damage ``(..., STEPS)``, its log standard deviation, and the logit of sudden failure."""

    mean: Tensor
    log_sd: Tensor
    hazard: Tensor


class ForecastCVAE(nn.Module):
    """Forecast of the remaining path: a latent correction of the path prior, and a hazard.

    The increments of the prior are multiplied by exp(a(z, prefix)), a starting at 0: before it is trained
    the network is the prior itself.

    Attributes:
        sudden: Whether there is a hazard of sudden failure. Where none were seen to learn it from, it would
            be moved by the crossing loss alone, and turn the order of the forecast paths round.

    Args:
        features: Of the encoder's input.
        latent: Size of z.
        encoder: A module's specification.
    """

    def __init__(self, features: int, latent: int, encoder: str) -> None:
        super().__init__()
        self.latent, self.sudden = latent, True
        self.reader = ProfileReader(features, encoder)
        self.prefix = nn.Linear(_CODE, 2 * latent)
        self.whole = nn.Sequential(
            nn.Linear(features + STEPS + 1, _WIDTH),
            nn.ReLU(),
            nn.Linear(_WIDTH, _CODE),
            nn.ReLU(),
            nn.Linear(_CODE, 2 * latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent + _CODE, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, 2 * STEPS)
        )
        self.hazard = nn.Sequential(nn.Linear(latent + _CODE, _CODE), nn.ReLU(), nn.Linear(_CODE, 1))
        self.spread = nn.Parameter(torch.tensor(-4.0))
        for block, bias in ((self.decoder, 0.0), (self.hazard, -5.0)):
            last = block[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.constant_(last.bias, bias)

    def read(self, features: Tensor) -> tuple[Tensor, Posterior]:
        """Return the code ``(rows, 32)`` of prefixes and q(z | prefix)."""
        code = self.reader(features)
        mean, log_variance = self.prefix(code).chunk(2, dim=-1)
        return code, Posterior(mean, log_variance.clamp(-6, 2))

    def read_whole(self, features: Tensor, future: Tensor, sudden: Tensor) -> Posterior:
        """Return q(z | whole series): the future ``(rows, STEPS)`` and whether it ends suddenly, too."""
        given = torch.cat([features, future, sudden[:, None]], dim=-1)
        mean, log_variance = self.whole(given).chunk(2, dim=-1)
        return Posterior(mean, log_variance.clamp(-6, 2))

    def decode(
        self, z: Tensor, code: Tensor, level: Tensor, increments: Tensor, strength: float = 1.0
    ) -> Path:
        """Return paths.

        Args:
            z: ``(..., rows, latent)``.
            code: ``(rows, 32)``.
            level: Damage now, ``(rows,)``.
            increments: Of the path prior, not negative, ``(rows, STEPS)`` or ``(..., rows, STEPS)``.
            strength: How much of the correction is applied; 0 leaves the prior as it is.
        """
        given = torch.cat([z, code.expand(*z.shape[:-1], _CODE)], dim=-1)
        out = self.decoder(given)
        grown = increments * torch.exp(strength * out[..., :STEPS].clamp(-4, 6))
        mean = level[..., None] + torch.cumsum(grown, dim=-1)
        log_sd = (self.spread + out[..., STEPS:]).clamp(-6.2, 0)
        hazard = self.hazard(given)[..., 0]
        return Path(mean, log_sd, hazard if self.sudden else torch.full_like(hazard, NO_HAZARD))


def hats(shares: Tensor, knots: int) -> Tensor:
    """Return hat functions ``(..., knots)`` over the square root of shares of time, held beyond 1."""
    at = torch.linspace(0, 1, knots, device=shares.device, dtype=shares.dtype)
    root = torch.sqrt(shares.clamp(0, 1))[..., None]
    return functional.relu(1 - (root - at).abs() * (knots - 1))
