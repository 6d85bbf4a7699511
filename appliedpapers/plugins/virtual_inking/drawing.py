"""What is delivered for a slide: GeoJSON, CSV, overlay, viewer, features and provenance."""

from __future__ import annotations

import platform
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import appliedpapers
from appliedpapers.core.files import sha256_file, write_json, write_text
from appliedpapers.plugins.virtual_inking.annotations import Annotation
from appliedpapers.plugins.virtual_inking.answers import margins_of
from appliedpapers.plugins.virtual_inking.geojson import line_feature, ring_feature, write_features
from appliedpapers.plugins.virtual_inking.measures import Clearance, clearance
from appliedpapers.plugins.virtual_inking.outline import closed_contours
from appliedpapers.plugins.virtual_inking.projection import Stretch, stretches
from appliedpapers.plugins.virtual_inking.streaming import SlideSource
from appliedpapers.plugins.virtual_inking.survey import Survey

if TYPE_CHECKING:
    from appliedpapers.plugins.virtual_inking.model import VirtualInker

Floats = NDArray[np.float64]

WORDS = {"cut": "Cut", "natural": "Natural", "not_assessable": "Not assessable"}
NOTICE = "A proposal for an expert to confirm: no diagnosis, and no substitute for ink."
SYNTHETIC = "Taught by simulated cuts: not clinical evidence, not comparable with the paper's 73.3 %."

_LIBRARIES = ("numpy", "torch", "timm", "openslide", "PIL", "scipy")


@dataclass(frozen=True)
class Drawn:
    """A slide with its margin.

    Attributes:
        slide_id: Its name.
        source: How it is opened.
        found: Tissue and contours.
        stretches: Of all contours.
        clearances: Of each lesion: its name, ring in level-0 pixels, and distance; None without a cut.
        size: Width and height of level 0.
        mpp: Micrometres per pixel of level 0.
        shift: Subtracted from coordinates that are delivered, in level-0 pixels.
        tiles: How many were classified.
        encoded: How many the encoder saw.
        features: Of all tiles, where the encoder saw all.
        facts: For the provenance.
        notices: What everybody must be told.
    """

    slide_id: str
    source: SlideSource
    found: Survey
    stretches: tuple[Stretch, ...]
    clearances: tuple[tuple[str, Floats, Clearance | None], ...]
    size: tuple[int, int]
    mpp: tuple[float, float]
    shift: tuple[int, int]
    tiles: int
    encoded: int
    features: NDArray[np.float32] | None
    facts: dict[str, Any]
    notices: tuple[str, ...]

    def pixels(self, points: Floats) -> Floats:
        """Return micrometres as level-0 pixels in the coordinates that are delivered."""
        return np.asarray(points / self.mpp - np.array(self.shift, dtype=np.float64))

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the output table; one without a line where no contour was found."""
        lesions = [one.minimum for _, _, one in self.clearances if one is not None]
        shared: dict[str, Any] = {
            "slide_id": self.slide_id,
            "cut_mm": float(sum(one.length_mm for one in self.stretches if one.state == "cut")),
            "lesion_um": min(lesions, default=None),
            "tiles": self.tiles,
            "encoded": self.encoded,
        }
        found = [
            {
                **shared,
                "part": number,
                "contour": one.contour,
                "state": one.state,
                "probability": None if np.isnan(one.probability) else one.probability,
                "length_mm": one.length_mm,
                "bridged_gaps": len(one.gaps_um),
                "points": self.pixels(one.points).tolist(),
            }
            for number, one in enumerate(self.stretches)
        ]
        empty = {"part": 0, "contour": -1, "state": "not_assessable", "bridged_gaps": 0, "points": []}
        return found or [{**shared, **empty, "problem": "no outer contour is long enough"}]


def drawn_of(
    slide_id: str,
    source: SlideSource,
    found: Survey,
    annotation: Annotation,
    logits: Floats,
    model: VirtualInker,
    *,
    size: tuple[int, int],
    mpp: tuple[float, float],
    bounds: tuple[int, int],
    vendor: str,
    encoded: int,
    features: NDArray[np.float32] | None,
    sha256: str,
) -> Drawn:
    """Draw the margin from logits of tiles, and measure lesions against it."""
    margins = margins_of(found, logits, model.config.margin, slope=model.slope)
    parts = tuple(stretches(margins, slope=model.slope))
    cut = [one.points for one in parts if one.state == "cut"]
    lesions = tuple((name, ring, clearance(ring * mpp, cut)) for name, ring in annotation.lesions)
    facts = {
        "slide": {
            "name": source.name,
            "sha256": sha256,
            "vendor": vendor,
            "size": list(size),
            "mpp": list(mpp),
        },
        "features": model.identity,
        "calibration": model.slope,
        "otsu": found.masks.otsu,
        "tiles": {"classified": len(logits), "encoded": encoded},
        "coordinates": "pixels of level 0"
        + (", minus openslide.bounds" if model.config.slide.subtract_bounds else ""),
        "warnings": list(found.warnings),
    }
    notices = (NOTICE, SYNTHETIC) if model.synthetic else (NOTICE,)
    shift = bounds if model.config.slide.subtract_bounds else (0, 0)
    return Drawn(
        slide_id,
        source,
        found,
        parts,
        lesions,
        size,
        mpp,
        shift,
        len(logits),
        encoded,
        features,
        facts,
        notices,
    )


def write_drawn(drawn: Drawn, files: Path, stem: str, model: VirtualInker) -> dict[str, str]:
    """Write a slide's files below ``files / stem``; return the cells that name them."""
    folder, output = files / stem, model.config.output
    folder.mkdir(parents=True, exist_ok=True)
    write_features(folder / "margin.geojson", list(margin_features(drawn)))
    write_features(folder / "tissue.geojson", list(tissue_features(drawn)))
    write_text(folder / "lengths.csv", lengths_csv(drawn))
    paths = {
        "margin_path": f"{stem}/margin.geojson",
        "margin_sha256": sha256_file(folder / "margin.geojson"),
        "tissue_path": f"{stem}/tissue.geojson",
        "lengths_path": f"{stem}/lengths.csv",
    }
    if drawn.clearances:
        write_text(folder / "distances.csv", distances_csv(drawn))
        paths["distances_path"] = f"{stem}/distances.csv"
    if output.features and drawn.features is not None:
        _write_h5(drawn, folder / "features.h5", model)
        paths["features_path"] = f"{stem}/features.h5"
    if output.overlay:
        from appliedpapers.plugins.virtual_inking.overlay import write_overlay

        write_overlay(drawn, folder / "overlay.png", output.overlay_px)
        paths["overlay_path"] = f"{stem}/overlay.png"
    if output.viewer:
        from appliedpapers.plugins.virtual_inking.viewer import write_viewer

        write_viewer(drawn, folder / "viewer", output.viewer_mpp)
        paths["viewer_path"] = f"{stem}/viewer/index.html"
    write_json(folder / "provenance.json", provenance(drawn, model))
    return {**paths, "provenance_path": f"{stem}/provenance.json"}


def margin_features(drawn: Drawn) -> Iterator[dict[str, Any]]:
    """Yield the stretches as GeoJSON features."""
    for number, one in enumerate(drawn.stretches):
        told = {
            "Length mm": one.length_mm,
            "Cut probability": one.probability,
            "Contour": float(one.contour),
            "Bridged gaps": float(len(one.gaps_um)),
            "Bridged um": float(sum(one.gaps_um)),
        }
        name = f"{WORDS[one.state]} {number}"
        identity = _identity(drawn.slide_id, "stretch", number)
        yield line_feature(drawn.pixels(one.points), WORDS[one.state], name, told, identity=identity)


def tissue_features(drawn: Drawn) -> Iterator[dict[str, Any]]:
    """Yield outlines of tissue and of pen as GeoJSON features."""
    for number, contour in enumerate(drawn.found.contours):
        told = {"Length mm": contour.length_mm}
        ring = drawn.pixels(contour.points)
        identity = _identity(drawn.slide_id, "tissue", number)
        if len(ring) > 2:
            yield ring_feature(ring, "Tissue", f"Tissue {number}", told, identity=identity)
    for number, ring in enumerate(closed_contours(drawn.found.masks.pen)):
        points = drawn.pixels(ring * np.array(drawn.found.masks.mpp))
        yield ring_feature(
            points, "Pen", f"Pen {number}", {}, identity=_identity(drawn.slide_id, "pen", number)
        )


def lengths_csv(drawn: Drawn) -> str:
    """Return one line a stretch, and the sum of each state."""
    lines = ["slide_id,part,contour,state,length_mm,probability,bridged_gaps,bridged_um"]
    for number, one in enumerate(drawn.stretches):
        chance = "" if np.isnan(one.probability) else f"{one.probability:.4f}"
        lines.append(
            f"{_cell(drawn.slide_id)},{number},{one.contour},{one.state},{one.length_mm:.4f},{chance},"
            f"{len(one.gaps_um)},{sum(one.gaps_um):.1f}"
        )
    for state in WORDS:
        total = sum(one.length_mm for one in drawn.stretches if one.state == state)
        lines.append(f"{_cell(drawn.slide_id)},all,,{state},{total:.4f},,,")
    return "\n".join(lines) + "\n"


def distances_csv(drawn: Drawn) -> str:
    """Return one line a lesion: distances in micrometres, places in level-0 pixels."""
    lines = ["slide_id,lesion,minimum_um,percentile_5_um,lesion_x,lesion_y,margin_x,margin_y"]
    for number, (name, _, one) in enumerate(drawn.clearances):
        start = f"{_cell(drawn.slide_id)},{_cell(f'{name} {number}')}"
        if one is None:
            lines.append(f"{start},,,,,,")
            continue
        places = drawn.pixels(np.array([one.where, one.margin])).ravel()
        where = ",".join(f"{value:.2f}" for value in places)
        lines.append(f"{start},{one.minimum:.2f},{one.percentile_5:.2f},{where}")
    return "\n".join(lines) + "\n"


def provenance(drawn: Drawn, model: VirtualInker) -> dict[str, Any]:
    """Return what the slide's files were made with."""
    return {
        **drawn.facts,
        "slide_id": drawn.slide_id,
        "notices": list(drawn.notices),
        "config": model.config.model_dump(mode="json", exclude={"simulator", "benchmark"}),
        "versions": {
            "applied-papers": appliedpapers.__version__,
            "python": platform.python_version(),
            **{
                name: str(getattr(sys.modules[name], "__version__", ""))
                for name in _LIBRARIES
                if name in sys.modules
            },
        },
    }


def _write_h5(drawn: Drawn, path: Path, model: VirtualInker) -> None:
    from appliedpapers.plugins.virtual_inking.cases import trident_attributes
    from appliedpapers.plugins.virtual_inking.features_h5 import write_features as write_h5

    assert drawn.features is not None
    attributes = trident_attributes(drawn.slide_id, drawn.size, drawn.mpp, drawn.found, model.config)
    write_h5(path, drawn.features, drawn.found.corners, attributes, model.identity)


def _identity(*parts: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(map(str, parts))))


def _cell(text: str) -> str:
    # a name that a spreadsheet would take for a formula is quoted as text
    safe = f"'{text}" if text[:1] in "=+-@" else text
    return '"' + safe.replace('"', '""') + '"' if any(sign in safe for sign in ',"\n') else safe
