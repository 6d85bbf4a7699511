"""The page of a quality report: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliedpapers.core.config import commented_yaml
from appliedpapers.core.page import embedded, page_template
from appliedpapers.plugins.pansharpening.quality_figures import draw
from appliedpapers.plugins.pansharpening.quality_words import band_list, figure, strongest

if TYPE_CHECKING:
    from appliedpapers.plugins.pansharpening.quality import Quality

_SHOWN_FLAGS = 20

_OTHERS = {
    "sam": "SAM, ° ↓",
    "q2n": "Q2n ↑",
    "cc": "CC ↑",
    "psnr": "PSNR, dB ↑",
}
_FULL = {
    "d_lambda": "D_lambda ↓",
    "lr_ergas": "LR-ERGAS ↓",
    "d_sr": "D_sR ↓",
    "qnr": "QNR ↑",
    "d_rho": "D_rho ↓",
    "d_s": "D_s ↓",
}
_PHASES = {"centre": "centre of the coarse pixel", "reference": "reference phase (ratio // 2)"}


@dataclass(frozen=True)
class Line:
    """One method in a table.

    Attributes:
        name: The method.
        role: ``ours``, ``strongest`` or ``baseline``.
        cells: Metrics as text.
    """

    name: str
    role: str
    cells: list[str]


def page(quality: Quality, document: Mapping[str, Any]) -> str:
    """Return the report as HTML.

    Args:
        quality: What is known of the product.
        document: Its JSON document.
    """
    reduced = document["reduced_resolution"]
    ranges = _ranges(reduced)
    template = page_template("appliedpapers.plugins.pansharpening", "quality.html")
    return str(
        template.render(
            document=document,
            identity=_identity(document),
            reduced_columns=["ERGAS ↓", *(name.replace(">=", "≥") for name in ranges), *_OTHERS.values()],
            reduced=_reduced_lines(quality, reduced, ranges),
            by_range=bool(ranges),
            reduced_shape=quality.reduced.shape if quality.reduced else None,
            full_columns=list(_FULL.values()),
            full=_full_lines(quality),
            figures=embedded(draw(quality)),
            flagged=document["flagged_bands"],
            fold=len(document["flagged_bands"]) > _SHOWN_FLAGS,
            adapted=bool(quality.reports),
            data=_facts(document),
            figure=figure,
            configuration=commented_yaml(quality.config),
        )
    )


def _identity(document: Mapping[str, Any]) -> list[str]:
    (height, width), (low, wide) = document["fine_size"], document["coarse_size"]
    return [
        str(document["method"]),
        f"ratio {document['ratio']}",
        f"{low:,} × {wide:,} → {height:,} × {width:,} pixels",
        f"{document['band_count']} bands",
        str(document["software"]),
    ]


def _ranges(reduced: Mapping[str, Any] | None) -> list[str]:
    methods = {} if reduced is None else reduced["methods"]
    return list(dict.fromkeys(name for values in methods.values() for name in values["ranges"]))


def _reduced_lines(quality: Quality, reduced: Mapping[str, Any] | None, ranges: Sequence[str]) -> list[Line]:
    """Return ours first, then baselines from the lowest ERGAS up."""
    methods = {} if reduced is None else reduced["methods"]

    def rank(name: str) -> tuple[bool, float]:
        value = methods[name]["ergas"]
        return name != quality.method, float("inf") if value is None else value

    found = []
    for name in sorted(methods, key=rank):
        values = methods[name]
        shown = [values["ergas"], *(values["ranges"].get(key, {}).get("ergas") for key in ranges)]
        shown += [values[key] for key in _OTHERS]
        found.append(_line(quality, name, shown))
    return found


def _full_lines(quality: Quality) -> list[Line]:
    tables = {name: quality.full_of(name) for name in quality.full.methods}
    return [_line(quality, name, [values[key] for key in _FULL]) for name, values in tables.items()]


def _line(quality: Quality, name: str, values: Sequence[float | None]) -> Line:
    best = strongest(quality)
    role = "ours" if name == quality.method else "strongest" if name == best else "baseline"
    return Line(name, role, [figure(value) for value in values])


def _facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    sensor, shift, span = document["sensor"], document["shift"], document["wavelength_range_nm"]
    gain = sensor["hs_gain"]
    dead = document["dead_bands"]
    silent = f"{band_list(dead)}; they pass through and are not judged" if dead else "none"
    phase = _PHASES[document["phase"]]
    gains = f"{min(gain):.2f} to {max(gain):.2f} by band" if isinstance(gain, list) else f"{gain:.2f}"
    return [
        ("scene", document["scene_id"]),
        ("method", document["method"]),
        (
            "ratio",
            f"{document['ratio']} fine pixels per coarse pixel, samples at the {phase}",
        ),
        ("sensor", f"{sensor['name']}: gain at Nyquist {gains}, panchromatic {sensor['pan_gain']:.2f}"),
        ("wavelengths", f"{span[0]:,.0f} to {span[1]:,.0f} nm" if span else "not known"),
        ("bands", f"{document['band_count']:,}"),
        ("bands without signal", silent),
        ("observed", f"{100 * document['observed_share']:.3g} % of the coarse pixels"),
        ("shift of the pair", _shift(shift)),
    ]


def _shift(shift: Mapping[str, Any]) -> str:
    if shift["pixels"] is None:
        return (
            f"not known: the cube explains {100 * (shift['fit'] or 0.0):.0f} % of the panchromatic band on "
            f"{shift['windows']} windows"
        )
    return (
        f"{shift['pixels']:.2f} PAN pixels: {shift['rows']:+.2f} rows, {shift['columns']:+.2f} columns "
        f"(median of {shift['windows']} windows, spread {shift['spread']:.2f}; the cube explains "
        f"{100 * shift['fit']:.0f} % of the panchromatic band)"
    )
