"""Detectors of abnormal series, each fitted to healthy devices cut at the same share of the test."""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from appliedpapers.core.device import derive_seed
from appliedpapers.core.weights import drawn_by
from appliedpapers.plugins.laser_cvae.baselines import AgeingBaseline, series
from appliedpapers.plugins.laser_cvae.devices import Floats
from appliedpapers.plugins.laser_cvae.fitting import conditioning
from appliedpapers.plugins.laser_cvae.profile import Conditioning

if TYPE_CHECKING:
    import torch
    from torch import nn

    from appliedpapers.core.evaluation import Kind
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.laser_cvae.config import LaserConfig
    from appliedpapers.plugins.laser_cvae.splits import DeviceSplit

_TREES, _NEIGHBOURS, _NU = 100, 20, 0.02
_EPOCHS, _BATCH, _RATE, _LATENT, _BETA = 100, 64, 1e-3, 4, 0.05


class Detector(AgeingBaseline):
    """Scores a series on a common grid, with or without its condition.

    Args:
        config: The configuration of the run.
        conditions: Whether the scaled condition stands beside the series.
    """

    def __init__(self, config: LaserConfig, *, conditions: bool = False) -> None:
        super().__init__(config)
        self._conditions = conditions
        self._how: Conditioning | None = None
        self._fitted: list[Any] = []

    def _learn(self, train: DeviceSplit, run: FitContext) -> None:
        self._how = conditioning(train.devices)
        healthy = ~train.devices.failed
        self._fitted = []
        for cut in range(len(train.cuts)):
            rows, condition = self._inputs(train, cut)
            seed = derive_seed(run.seed, self.name, cut)
            self._fitted.append(self._fit_rows(rows[healthy], condition[healthy], seed))

    def _said(self, split: DeviceSplit, cut: int) -> dict[str, Floats]:
        return {"rank": self._score_rows(self._fitted[cut], *self._inputs(split, cut))}

    def _inputs(self, split: DeviceSplit, cut: int) -> tuple[Floats, Floats]:
        _, grid = series(split.devices, split.cuts[cut])
        assert self._how is not None
        return grid, self._how.scaled(split.devices.conditions)[:, :2]

    @abstractmethod
    def _fit_rows(self, rows: Floats, condition: Floats, seed: int) -> Any: ...

    @abstractmethod
    def _score_rows(self, fitted: Any, rows: Floats, condition: Floats) -> Floats: ...


class Classical(Detector):
    """A detector of scikit-learn or PyOD.

    Args:
        config: The configuration of the run.
        name: As it stands in the table.
        make: Makes an unfitted one from a seed and the number of rows.
        sign: -1 where a larger score of the library is more normal.
        conditions: Whether the condition stands beside the series.
    """

    def __init__(
        self,
        config: LaserConfig,
        name: str,
        make: Callable[[int, int], Any],
        *,
        sign: float = -1.0,
        conditions: bool = False,
    ) -> None:
        super().__init__(config, conditions=conditions)
        self.name, self._make, self._sign = name, make, sign

    def _fit_rows(self, rows: Floats, condition: Floats, seed: int) -> Any:
        return self._make(seed, len(rows)).fit(self._beside(rows, condition))

    def _score_rows(self, fitted: Any, rows: Floats, condition: Floats) -> Floats:
        return np.asarray(
            self._sign * fitted.decision_function(self._beside(rows, condition)), dtype=np.float64
        )

    def _beside(self, rows: Floats, condition: Floats) -> Floats:
        # in the size of the damage, so that neither drowns the other
        return np.concatenate([rows, 0.02 * condition], axis=1) if self._conditions else rows


class Autoencoder(Detector):
    """Squared error of a plain, variational or conditional autoencoder (64, 32, z = 4), Adam, 100 epochs.

    Args:
        config: The configuration of the run.
        name: As it stands in the table.
        variational: Whether z is drawn, with a KL term of weight .05.
        conditions: Whether encoder and decoder are given the condition.
    """

    kind: Kind = "baseline"

    def __init__(
        self, config: LaserConfig, name: str, *, variational: bool = False, conditions: bool = False
    ) -> None:
        super().__init__(config, conditions=conditions)
        self.name, self._variational = name, variational

    def _fit_rows(self, rows: Floats, condition: Floats, seed: int) -> Any:
        import torch

        from appliedpapers.core.training import shuffled_slices

        scale = float(max(rows.std(), 1e-6))
        extra = condition.shape[1] if self._conditions else 0
        with drawn_by(seed):
            encoder, decoder = _networks(rows.shape[1], extra, 2 * _LATENT if self._variational else _LATENT)
        given, beside = _tensors(rows / scale, condition if self._conditions else condition[:, :0])
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=_RATE)
        order = torch.Generator().manual_seed(seed % 2**63)
        for _ in range(_EPOCHS):
            for batch in shuffled_slices(len(given), _BATCH, order):
                x, c = given[batch], beside[batch]
                code = encoder(torch.cat([x, c], dim=1))
                penalty = torch.zeros(())
                if self._variational:
                    mean, spread = code.chunk(2, dim=1)
                    spread = spread.clamp(-8, 4)
                    noise = torch.randn(mean.shape, generator=order)
                    code = mean + noise * torch.exp(spread / 2)
                    penalty = 0.5 * (mean**2 + spread.exp() - 1 - spread).sum(dim=1).mean()
                loss = ((decoder(torch.cat([code, c], dim=1)) - x) ** 2).sum(dim=1).mean() + _BETA * penalty
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return encoder, decoder, scale

    def _score_rows(self, fitted: Any, rows: Floats, condition: Floats) -> Floats:
        import torch

        encoder, decoder, scale = fitted
        given, beside = _tensors(rows / scale, condition if self._conditions else condition[:, :0])
        with torch.inference_mode():
            code = encoder(torch.cat([given, beside], dim=1))[:, :_LATENT]
            off = ((decoder(torch.cat([code, beside], dim=1)) - given) ** 2).mean(dim=1)
        return np.asarray(off.double().numpy())


def _networks(width: int, extra: int, code: int) -> tuple[nn.Module, nn.Module]:
    from torch import nn

    encoder = nn.Sequential(
        nn.Linear(width + extra, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, code)
    )
    decoder = nn.Sequential(
        nn.Linear(_LATENT + extra, 32), nn.ReLU(), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, width)
    )
    return encoder, decoder


def _tensors(rows: Floats, condition: Floats) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    return torch.tensor(rows, dtype=torch.float32), torch.tensor(condition, dtype=torch.float32)


def _svm(seed: int, rows: int) -> Any:
    from sklearn.svm import OneClassSVM

    return OneClassSVM(nu=_NU, gamma="scale")


def _forest(seed: int, rows: int) -> Any:
    from sklearn.ensemble import IsolationForest

    return IsolationForest(n_estimators=_TREES, random_state=seed % 2**32)


def _lof(seed: int, rows: int) -> Any:
    from sklearn.neighbors import LocalOutlierFactor

    return LocalOutlierFactor(min(_NEIGHBOURS, max(rows - 1, 1)), novelty=True)


def _pyod(name: str) -> Callable[[LaserConfig], AgeingBaseline | None]:
    """Return a maker of a PyOD detector; None where PyOD is not installed."""

    def maker(config: LaserConfig) -> AgeingBaseline | None:
        if importlib.util.find_spec("pyod") is None:
            return None

        def make(seed: int, rows: int) -> Any:
            module = importlib.import_module(f"pyod.models.{name}")
            return getattr(module, name.upper())()

        return Classical(config, f"pyod-{name}", make, sign=1.0)

    return maker


DETECTORS: Mapping[str, Callable[[LaserConfig], AgeingBaseline | None]] = {
    "ocsvm": lambda config: Classical(config, "ocsvm", _svm),
    "ocsvm-conditions": lambda config: Classical(config, "ocsvm-conditions", _svm, conditions=True),
    "isolation-forest": lambda config: Classical(config, "isolation-forest", _forest),
    "lof": lambda config: Classical(config, "lof", _lof),
    "lof-conditions": lambda config: Classical(config, "lof-conditions", _lof, conditions=True),
    "autoencoder": lambda config: Autoencoder(config, "autoencoder"),
    "vae": lambda config: Autoencoder(config, "vae", variational=True),
    "conditional-autoencoder": lambda config: Autoencoder(config, "conditional-autoencoder", conditions=True),
    "pyod-ecod": _pyod("ecod"),
    "pyod-copod": _pyod("copod"),
}
"""Makers of detectors by name."""
