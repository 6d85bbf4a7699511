"""Images of order flow as files and as colours: what a person looks at."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.files import whole_file
from appliedpapers.plugins.volatility_images.images import ImageBuilder, Images
from appliedpapers.plugins.volatility_images.market import Session


def colours(raw: Images, *, rgb: bool) -> NDArray[np.float64]:
    """Return one raw image ``(channels, rows, seconds)`` as colours ``(rows, seconds, 3)`` from 0 to 1.

    Depth is grey, what buyers took is blue and what sellers did is orange, on white; the highest price is on
    top. Sizes are shown as logarithms against the largest of their channel.
    """
    shown = np.log1p(raw.astype(np.float64))
    parts = (shown[1], shown[0], shown[2]) if rgb else (shown[0] + shown[1], shown[2], shown[3])
    inks = (np.array([0.55, 0.55, 0.55]), np.array([0.0, 0.447, 0.698]), np.array([0.835, 0.369, 0.0]))
    canvas = np.ones((*raw.shape[1:], 3))
    for part, ink in zip(parts, inks, strict=True):
        strength = part / max(float(part.max()), 1e-12)
        strength = np.where(part > 0, 0.25 + 0.75 * strength, 0.0)[:, :, None]
        canvas = canvas * (1 - strength) + ink * strength
    return canvas[::-1]


def save_image(
    session: Session,
    anchor: int,
    builder: ImageBuilder,
    kind: Literal["npz", "png", "none"],
    files: Path | None,
) -> str | None:
    """Save the image behind a forecast, named by session and time.

    Returns:
        Its path below ``files``; None where there is no folder for files.
    """
    if files is None or kind == "none":
        return None
    time_us = int(session.time_us[anchor - 1])
    raw = builder.build(session, np.array([anchor], dtype=np.int64))[0]
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in session.name).strip(
        "."
    )
    name = f"images/{safe or 'session'}-{time_us}.{kind}"
    path = files / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as aside:
        aside.write_bytes(_npz(raw, time_us) if kind == "npz" else _png(colours(raw, rgb=builder.config.rgb)))
    return name


def _npz(raw: Images, time_us: int) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, image=raw, time_us=np.array(time_us))
    return buffer.getvalue()


def _png(picture: NDArray[np.float64]) -> bytes:
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    # a name of the software would differ between releases
    imsave(
        buffer, np.repeat(np.repeat(picture, 4, axis=0), 4, axis=1), format="png", metadata={"Software": ""}
    )
    return buffer.getvalue()
