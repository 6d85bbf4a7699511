"""Cells of known counts whose chromosomes are read well, badly, or as something else."""

from __future__ import annotations

import numpy as np

TYPES = 24


def labels_of(**changes):
    """Labels of 46,XY with other numbers of copies: ``labels_of(t21=3)``, ``labels_of(tX=2, tY=0)``."""
    counts = dict.fromkeys([*(str(number) for number in range(1, 23)), "X", "Y"], 2) | {"X": 1, "Y": 1}
    counts |= {name[1:]: copies for name, copies in changes.items()}
    return np.repeat(np.arange(TYPES), list(counts.values()))


def read_as(labels, sure=0.97):
    """Probabilities that are ``sure`` of each label and spread what is left evenly."""
    found = np.full((len(labels), TYPES), (1 - sure) / (TYPES - 1))
    found[np.arange(len(labels)), labels] = sure
    return found


def random_cell(seed, chromosomes=46, separation=3.2):
    """Calibrated probabilities: posteriors of noisy features of a random cell. ``(N, 24)``."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, TYPES, chromosomes) if chromosomes != 46 else labels_of()
    seen = generator.normal(size=(chromosomes, TYPES))
    seen[np.arange(chromosomes), labels] += separation
    odds = np.exp(separation * (seen - seen.max(1, keepdims=True)))
    return odds / odds.sum(1, keepdims=True)
