"""One calibrated answer from what the networks and boosted trees say.

The joint classifiers learn from features that know the training images too well, and are too sure. The mean
of calibrated log-probabilities, with trees on band profiles that err on other chromosomes than networks do,
was better on validation cells than any of them; it is ours, not the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.temperature import fit_temperature, softmax

if TYPE_CHECKING:
    from appliedpapers.plugins.varifocal_net.looking import Told

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

NETWORKS = ("g", "local", "joint")
SOURCES = {"blend": (*NETWORKS, "profile"), "networks": NETWORKS, "joint": ("joint",)}
"""Who answers, by ``network.answer``."""

_WEIGHTS = {"g": 1.0, "local": 1.0, "joint": 1.0, "profile": 3.0}  # networks together as much as trees
_LEAST = 1e-12


@dataclass(frozen=True)
class Blend:
    """How answers become probabilities of types and of the polarity.

    Attributes:
        sources: Which of ``g``, ``local``, ``joint`` and ``profile`` count.
        types: Temperature of each source, and that of their mean.
        polarity: Likewise.
    """

    sources: tuple[str, ...]
    types: tuple[float, ...]
    polarity: tuple[float, ...]

    @classmethod
    def fit(cls, told: Told, types: Labels, polarity: Labels, sources: Sequence[str]) -> Blend:
        """Fit temperatures by likelihood.

        Args:
            told: Of validation chromosomes, both ways up.
            types: ``(N,)``; others than 0 to 23 do not count.
            polarity: ``(N,)``, 1 for q-down; others than 0 and 1 do not count.
            sources: Which answers count.
        """
        answers = [getattr(told, source) for source in sources]
        return cls(
            tuple(sources),
            _temperatures([answer.types.numpy() for answer in answers], types, sources),
            _temperatures([answer.polarity.numpy() for answer in answers], polarity, sources),
        )

    def __call__(self, told: Told) -> tuple[Floats, Floats]:
        """Return probabilities of the types ``(N, 24)``, and that the q-arm points down ``(N,)``."""
        answers = [getattr(told, source) for source in self.sources]
        types = _mean([answer.types.numpy() for answer in answers], self.types, self.sources)
        polarity = _mean([answer.polarity.numpy() for answer in answers], self.polarity, self.sources)
        return softmax(types, self.types[-1]), softmax(polarity, self.polarity[-1])[:, 1]

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` reads."""
        return {"sources": list(self.sources), "types": list(self.types), "polarity": list(self.polarity)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Blend:
        """Rebuild a blend."""
        return cls(*(tuple(document[name]) for name in ("sources", "types", "polarity")))


def _temperatures(answers: Sequence[Floats], labels: Labels, sources: Sequence[str]) -> tuple[float, ...]:
    own = [fit_temperature(answer, labels) for answer in answers]
    return (*own, fit_temperature(_mean(answers, own, sources), labels))


def _mean(answers: Sequence[Floats], temperatures: Sequence[float], sources: Sequence[str]) -> Floats:
    logs = [
        np.log(softmax(answer, temperature) + _LEAST)
        for answer, temperature in zip(answers, temperatures, strict=False)
    ]
    found: Floats = np.average(logs, axis=0, weights=[_WEIGHTS[source] for source in sources])
    return found
