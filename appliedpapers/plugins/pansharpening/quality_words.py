"""What a quality report says in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from appliedpapers.plugins.pansharpening.config import CLASSICAL

if TYPE_CHECKING:
    from appliedpapers.plugins.pansharpening.quality import Quality


def verdict(quality: Quality) -> str:
    """Return the sentence that a reader in a hurry needs; where ours is worse it says so first."""
    parts = [_at_reduced(quality) or _at_full(quality), _targets(quality), _registered(quality)]
    return _sentence("; ".join(part for part in parts if part))


def warnings(quality: Quality) -> list[str]:
    """Return what should not be overlooked, as sentences."""
    found = []
    pixels, estimate = quality.registration.pixels, quality.registration.estimate
    if pixels is not None and quality.registration.worrying:
        off = (
            f"the panchromatic band lies {pixels:.2f} PAN pixels off the cube "
            f"({estimate.row:+.2f} rows, {estimate.column:+.2f} columns, spread {estimate.spread:.2f})"
        )
        aligned = quality.config.data.align
        advice = "although it was aligned" if aligned else "--set data.align=true moves it onto the cube"
        found.append(_sentence(f"{off}{' ' if aligned else ': '}{advice}"))
    if quality.reduced is not None and quality.reduced.reason:
        found.append(_sentence(f"not judged at reduced resolution: {quality.reduced.reason}"))
    if quality.full.reason:
        found.append(_sentence(f"not judged at full resolution: {quality.full.reason}"))
    return found


def strongest(quality: Quality) -> str | None:
    """Return the baseline with the lowest ERGAS at reduced resolution, or None."""
    if quality.reduced is None:
        return None
    names = [name for name in quality.reduced.methods if name != quality.method]
    known = {name: value for name in names if (value := quality.ergas_of(name)) is not None}
    return min(known, key=lambda name: known[name]) if known else None


def band_list(numbers: Iterable[int]) -> str:
    """Return band numbers with runs drawn together: ``1, 98-103``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def figure(value: float | None) -> str:
    """Return a metric with three digits, no finer than a thousandth; a dash where it is not known."""
    if value is None:
        return "–"
    if 0 < abs(value) < 0.001:
        return "<0.001"
    return f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"


def _at_reduced(quality: Quality) -> str:
    """Compare ERGAS one step coarser; empty where ours is not known."""
    mine, rival = quality.ergas_of(quality.method), strongest(quality)
    if mine is None:
        return ""
    if rival is None:
        return f"at reduced resolution ERGAS {figure(mine)}"
    best, plain = quality.ergas_of(rival), quality.ergas_of("exp")
    assert best is not None
    numbers = f"ERGAS {figure(mine)}"
    exp = f", EXP {figure(plain)}" if plain is not None and "exp" not in (quality.method, rival) else ""
    if figure(mine) == figure(best):
        return f"as good as {_name(rival)} at reduced resolution: {numbers}{exp}"
    other = "best other classical" if quality.method in CLASSICAL else "best classical"
    leader = f", {other} {figure(best)} ({rival})" if rival != "exp" else ""
    if mine < best:
        exp = f", EXP {figure(plain)}" if plain is not None and quality.method != "exp" else ""
        return f"at reduced resolution {numbers}{exp}{leader}"
    if plain is not None and mine > plain and quality.method != "exp":
        return f"worse than interpolation at reduced resolution: {numbers}, EXP {figure(plain)}{leader}"
    return f"worse than {_name(rival)} at reduced resolution: {numbers} against {figure(best)}{exp}"


def _at_full(quality: Quality) -> str:
    """Compare spectral distortion at full resolution; QNR alone would favour component substitution."""
    ours, plain = quality.full_of(quality.method), quality.full_of("exp")
    mine, theirs = ours.get("d_lambda"), plain.get("d_lambda")
    if mine is None:
        return "nothing could be judged on this scene"
    numbers = f"D_lambda {figure(mine)}, QNR {figure(ours.get('qnr'))}"
    if theirs is None or quality.method == "exp":
        return f"at full resolution {numbers}"
    numbers = (
        f"D_lambda {figure(mine)}, EXP {figure(theirs)}; QNR {figure(ours.get('qnr'))}, "
        f"EXP {figure(plain.get('qnr'))}"
    )
    if mine > theirs and figure(mine) != figure(theirs):
        return f"more spectral distortion than interpolation at full resolution: {numbers}"
    return f"at full resolution {numbers}"


def _targets(quality: Quality) -> str:
    """Say how many bands a network failed on; empty for classical methods."""
    count, missed = len(quality.reports), quality.missed
    if not count:
        return ""
    aimed = any(report["target"] is not None for report in quality.reports)
    if not missed:
        met = "met their spectral target" if aimed else "are no further from what the sensor saw than EXP"
        return f"all {count} bands {met}"
    failed = "missed their spectral target" if aimed else "are further from what the sensor saw than EXP"
    return f"{missed} of {count} bands {failed}"


def _registered(quality: Quality) -> str:
    pixels = quality.registration.pixels
    if pixels is None:
        return "the registration of the pair is not known"
    if quality.registration.worrying:
        return f"the pair is misregistered by {pixels:.1f} PAN pixels"
    return f"the pair is registered to {max(pixels, 0.1):.1f} PAN pixel"


def _name(method: str) -> str:
    return "interpolation" if method == "exp" else method


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
