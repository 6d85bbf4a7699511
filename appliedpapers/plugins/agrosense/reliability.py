"""How often answers are right at each confidence: the figure that crops and photos share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.figures import MUTED, Figure, finish, label_ends, start

Curve = tuple[str, str, NDArray[np.float64], NDArray[np.bool_]]


def reliability(curves: Iterable[Curve], bins: int, *, caption: str, synthetic: bool) -> Figure:
    """Draw the share of right answers over their confidence.

    Args:
        curves: Name, colour, confidence ``(rows,)`` in [0, 1] and whether each answer is right ``(rows,)``.
        bins: Of equal width.
        caption: What the figure says.
        synthetic: Whether the rows are simulated.
    """
    canvas, axes = start()
    ends, said = [], []
    for name, color, confidence, right in curves:
        place = np.minimum((confidence * bins).astype(int), bins - 1)
        used = [number for number in range(bins) if (place == number).any()]
        x = [confidence[place == number].mean() for number in used]
        y = [right[place == number].mean() for number in used]
        shares = [float(np.mean(place == number)) for number in used]
        axes.plot(x, y, color=color, lw=1)
        axes.scatter(x, y, s=[8 + 160 * share for share in shares], color=color, zorder=3)
        ends.append((float(y[-1]), name, color))
        gap = sum(share * abs(a - b) for share, a, b in zip(shares, x, y, strict=True))
        said.append(f"{name} {gap:.3f}")
    axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=":")
    axes.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.04))
    label_ends(axes, 1.02, ends)
    return finish(
        canvas,
        name="reliability",
        title="Reliability",
        caption=caption,
        alt=f"Expected calibration error: {', '.join(said)}.",
        synthetic=synthetic,
    )
