"""What a model or a baseline says of a slide, in the form that is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.virtual_inking.cases import Case
from appliedpapers.plugins.virtual_inking.config import MarginConfig
from appliedpapers.plugins.virtual_inking.projection import Margin, decide, project
from appliedpapers.plugins.virtual_inking.survey import Survey

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class SlideAnswer:
    """Of one slide.

    Attributes:
        case: The slide with its truth.
        logits: Of its tiles, ``(N,)``.
        margins: Of its contours.
        arc_um: Length of a region of the contour.
        encoded: Share of tiles that the encoder saw.
    """

    case: Case
    logits: Floats
    margins: tuple[Margin, ...]
    arc_um: float
    encoded: float = 1.0


def margins_of(
    found: Survey, logits: Floats, config: MarginConfig, *, slope: float = 1.0, offset: float = 0.0
) -> list[Margin]:
    """Return the margins of a slide from logits of its tiles; see :func:`.projection.decide`."""
    profiles = [(contour, *project(contour, found.centres, logits, config)) for contour in found.contours]
    return decide(profiles, config, slope, offset)


def answer(
    case: Case, logits: Floats, config: MarginConfig, *, slope: float = 1.0, encoded: float = 1.0
) -> SlideAnswer:
    """Return what logits say of a slide."""
    margins = tuple(margins_of(case.found, logits, config, slope=slope))
    return SlideAnswer(case, logits, margins, config.arc_um, encoded)


def decided_otherwise(
    answers: Sequence[SlideAnswer], config: MarginConfig, slope: float
) -> list[SlideAnswer]:
    """Return the same logits under another decision."""
    return [answer(one.case, one.logits, config, slope=slope, encoded=one.encoded) for one in answers]
