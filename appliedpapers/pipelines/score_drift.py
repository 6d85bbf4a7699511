"""How far the rows of a scoring run, and its predictions, are from those of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from appliedpapers.core.profile import NOTABLE, ColumnDrift, Counts, drift_of

if TYPE_CHECKING:
    from appliedpapers.core.bundle import BundleInfo
    from appliedpapers.pipelines.score_manifest import PartRecord

_NAMED = 5


def profile_in(info: BundleInfo) -> dict[str, Any]:
    """Return what a bundle remembers of its training data; bundles of earlier versions remember nothing."""
    found = info.dataset.get("profile")
    return found if isinstance(found, dict) else {}


def drift_of_run(info: BundleInfo, parts: Sequence[PartRecord]) -> tuple[ColumnDrift, ...]:
    """Compare the parts of a run with training: inputs and predictions, the farthest column first."""
    profile = profile_in(info)
    found: list[ColumnDrift] = []
    for of, key in (("input", "inputs"), ("prediction", "predictions")):
        counted: list[tuple[int, Counts]] = [
            (part.rows_in if of == "input" else part.rows_out, part.counts.get(key, {})) for part in parts
        ]
        found += drift_of(profile.get(key, {}), counted, of)
    return tuple(sorted(found, key=lambda item: -item.psi))


def warning_of(drift: Sequence[ColumnDrift]) -> str | None:
    """Return one line that names the columns which are far from training; None where none is."""
    far = [item for item in drift if item.psi > NOTABLE]
    if not far:
        return None
    named = ", ".join(f"{item.of} '{item.column}' {item.psi:.2f}" for item in far[:_NAMED])
    others = f" and {len(far) - _NAMED} more" if len(far) > _NAMED else ""
    return f"drift: unlike the training data (PSI above {NOTABLE:g}): {named}{others}"
