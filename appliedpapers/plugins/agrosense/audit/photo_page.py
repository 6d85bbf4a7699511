"""The audit as a page that can be attached to a review: figures first, then every pair side by side."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from appliedpapers.core.files import write_text
from appliedpapers.core.images import read_rgb
from appliedpapers.core.page import page_template
from appliedpapers.plugins.agrosense.audit.photos import Copy, PhotoAudit

_SIDE, _MOST = 150, 200
_KINDS = {"file": "same file", "pixels": "same pixels", "near": "turned, mirrored, shrunk or saved again"}


def write_page(audit: PhotoAudit, name: str, path: Path) -> None:
    """Write the page of an audit.

    Args:
        audit: What was found.
        name: Of the dataset.
        path: The HTML file, which needs nothing beside itself.
    """
    rows = [_row(audit, one) for one in audit.copies[:_MOST]]
    page = page_template("appliedpapers.plugins.agrosense.audit", "photo_page.html").render(
        name=name,
        verdict=_verdict(audit),
        facts=[
            ("photos", f"{audit.photos:,}"),
            ("groups of copies", f"{audit.groups:,}"),
            ("pairs of copies", f"{len(audit.copies):,}"),
            ("pairs across parts", f"{sum(one.crosses for one in audit.copies):,}"),
            ("judged photos with a copy in another part", f"{audit.crossing:,} of {audit.judged:,}"),
            ("label conflicts", f"{sum(one.conflicts for one in audit.copies):,}"),
            ("photos that cannot be read", f"{len(audit.unreadable):,}"),
        ],
        pairs=rows,
        more=max(0, len(audit.copies) - _MOST),
        unreadable=audit.unreadable,
    )
    write_text(path, page)


def _verdict(audit: PhotoAudit) -> str:
    if not audit.judged:
        return "There is nothing to judge on."
    if audit.crossing:
        share = audit.crossing / audit.judged
        return (
            f"{audit.crossing} of {audit.judged} judged photos ({100 * share:.0f} %) have a copy in another "
            "part of the split: an accuracy of it says how well photos are remembered."
        )
    return "No photo has a copy in another part of the split."


def _row(audit: PhotoAudit, one: Copy) -> dict[str, object]:
    return {
        "crosses": one.crosses,
        "conflicts": one.conflicts,
        "kind": _KINDS[one.kind],
        "correlation": f"{one.correlation:.3f}",
        "sides": [
            {"name": name, "part": part, "label": label or "not known", "uri": _picture(audit, name)}
            for name, part, label in zip((one.first, one.second), one.parts, one.labels, strict=True)
        ],
    }


def _picture(audit: PhotoAudit, name: str) -> str:
    from PIL import Image

    small = Image.fromarray(read_rgb(audit.sources[name], name))
    small.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
