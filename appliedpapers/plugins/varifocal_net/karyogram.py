"""The karyogram of a case as a picture: chromosomes by type, upright, at one scale.

All chromosomes of a case are enlarged by the same factor, so that their relative lengths are true. Types
stand in the order and the groups of ISCN (A 1-3, B 4-5, C 6-12, D 13-15, E 16-18, F 19-20, G 21-22, X and Y).
A chromosome whose q-arm is taken to point up is mirrored top to bottom, the box where L-Net looked with it.
Of that box the part is drawn that lies on the image of the chromosome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.varifocal_net.chromosomes import ink_box

if TYPE_CHECKING:
    from PIL.Image import Image

    from appliedpapers.plugins.varifocal_net.config import Dispatch

Box = tuple[float, float, float, float]

ROWS: tuple[tuple[tuple[str, tuple[str, ...]], ...], ...] = (
    (("A", ("1", "2", "3")), ("B", ("4", "5"))),
    (("C", ("6", "7", "8", "9", "10", "11", "12")),),
    (("D", ("13", "14", "15")), ("E", ("16", "17", "18"))),
    (("F", ("19", "20")), ("G", ("21", "22")), ("", ("X", "Y"))),
)
"""Lines of a karyogram: groups with their letter and their types."""

CAVEAT = "research use, not a diagnosis"
SYNTHETIC = "the model has learned from simulated images only"
DISPATCH = {
    "assignment": "types chosen together, for the cell as a whole",
    "paper": "types made consistent within the cell by Algorithm 1 of the paper",
    "none": "types as predicted, each chromosome by itself",
}

_LONGEST = 340  # pixels that the longest side of a chromosome may take when drawn
_MOST_PIXELS = 1_000_000  # of all images of a case, which keeps its page below 3 MB
_LARGEST_FACTOR = 4
_MARGIN = 2  # pixels of background kept around a chromosome


@dataclass(frozen=True)
class Placed:
    """One chromosome with what was made of it.

    Attributes:
        name: What people call it.
        image: uint8 ``(h, w)`` as given, dark on 255.
        type: The type it ended up with, one of ``TYPES``.
        probability: Of that type, 0 to 1, before dispatch.
        top3: The most probable types with their probabilities, best first.
        q_down: Whether the q-arm is taken to point down in ``image``.
        polarity_probability: Of that polarity, 0 to 1.
        box: Where L-Net looked, ``(x0, y0, x1, y1)`` in pixels of ``image``; it may reach beyond the image.
        moved: Whether dispatch gave it another type than the most probable one.
        needs_review: Whether a person should look.
        fixed: Whether a person has settled its type.
        path: Path of its image as it was given, or from the lists' folder where it was written there.
    """

    name: str
    image: NDArray[np.uint8]
    type: str
    probability: float
    top3: tuple[tuple[str, float], ...]
    q_down: bool = True
    polarity_probability: float = 1.0
    box: Box | None = None
    moved: bool = False
    needs_review: bool = False
    fixed: bool = False
    path: str | None = None


@dataclass(frozen=True)
class Cell:
    """A case with its chromosomes.

    Attributes:
        case: Its name; None where it is not known.
        chromosomes: At least one, in the order of the input.
        karyotype: Such as ``"47,XY,+21?"``; empty where none was derived.
        dispatch: How its types were made consistent.
        sex: Sex chromosomes, such as ``"XY"``; None where they were not derived.
        flagged: Whether its counts are abnormal.
        warnings: Sentences about its numbers.
        synthetic: Whether the model has learned from simulated images only.
    """

    case: str | None
    chromosomes: Sequence[Placed]
    karyotype: str
    dispatch: Dispatch
    sex: str | None = None
    flagged: bool = False
    warnings: Sequence[str] = field(default=())
    synthetic: bool = False

    def counts(self) -> Counter[str]:
        """Return how many chromosomes have each type."""
        return Counter(one.type for one in self.chromosomes)

    def of_type(self, name: str) -> list[Placed]:
        """Return the chromosomes of a type in the order of the input."""
        return [one for one in self.chromosomes if one.type == name]


@dataclass(frozen=True)
class Crop:
    """A chromosome as it is shown: cut to what is dark, upright.

    Attributes:
        placed: The chromosome.
        pixels: uint8 ``(h, w)``, its q-arm down.
        box: Where L-Net looked, in pixels of ``pixels``; it may reach beyond them.
    """

    placed: Placed
    pixels: NDArray[np.uint8]
    box: Box | None


def upright(placed: Placed) -> Crop:
    """Cut a chromosome to its dark pixels and a margin, and mirror it top to bottom where its q-arm is up."""
    height, width = placed.image.shape
    x0, y0, x1, y1 = ink_box(placed.image) or (0, 0, width, height)
    x0, y0 = max(x0 - _MARGIN, 0), max(y0 - _MARGIN, 0)
    pixels = placed.image[y0 : y1 + _MARGIN, x0 : x1 + _MARGIN]
    box = placed.box and (placed.box[0] - x0, placed.box[1] - y0, placed.box[2] - x0, placed.box[3] - y0)
    if placed.q_down:
        return Crop(placed, pixels, box)
    return Crop(placed, pixels[::-1], box and (box[0], len(pixels) - box[3], box[2], len(pixels) - box[1]))


def factor(crops: Sequence[Crop]) -> Fraction:
    """Return by how much a case is enlarged: 4, 3, 2, 1, or a half, a third and so on for large images."""
    longest = max(max(crop.pixels.shape) for crop in crops)
    pixels = sum(crop.pixels.size for crop in crops)
    smaller = max(ceil(longest / _LONGEST), ceil(sqrt(pixels / _MOST_PIXELS)))
    return Fraction(1, smaller) if smaller > 1 else Fraction(min(_LONGEST // longest, _LARGEST_FACTOR))


def drawn_pixels(crop: Crop, scale: Fraction) -> Image:
    """Return a chromosome as a grey image: repeated pixels where enlarged, means where made smaller.

    Args:
        crop: The chromosome.
        scale: From :func:`factor`.
    """
    from PIL import Image

    if scale.denominator > 1:
        return Image.fromarray(np.ascontiguousarray(crop.pixels)).reduce(scale.denominator)
    times = scale.numerator
    return Image.fromarray(crop.pixels.repeat(times, axis=0).repeat(times, axis=1))


def shown_box(crop: Crop) -> Box | None:
    """Return the part of the box that lies on what is shown, in its pixels; None where there is none."""
    if crop.box is None:
        return None
    height, width = crop.pixels.shape
    x0, y0, x1, y1 = crop.box
    part = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    return part if part[0] < part[2] and part[1] < part[3] else None


def moved_from(placed: Placed) -> str | None:
    """Return the type that was most probable where dispatch chose another one."""
    return placed.top3[0][0] if placed.moved and placed.top3 else None


def type_label(name: str, count: int) -> str:
    """Return what stands under a type: its name, and its count where an autosome has not two."""
    return name if count == 2 or name in ("X", "Y") else f"{name} ×{count}"


def scale_words(scale: Fraction) -> str:
    """Return how large a case is drawn."""
    if scale == 1:
        return "drawn pixel by pixel"
    if scale > 1:
        return f"enlarged {scale.numerator} times"
    return f"drawn at 1/{scale.denominator} of its size"


def probability_words(value: float) -> str:
    """Return a probability with three digits; what rounds to 0 or 1 is not called so."""
    return "> 0.999" if value > 0.9995 else "< 0.001" if value < 0.0005 else f"{value:.3f}"
