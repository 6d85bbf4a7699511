"""GeoJSON as QuPath imports it: annotations with a class, a colour and flat measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.files import write_text

Floats = NDArray[np.float64]

COLOURS = {
    "Cut": (213, 94, 0),
    "Natural": (0, 158, 115),
    "Not assessable": (153, 153, 153),
    "Tissue": (0, 114, 178),
    "Pen": (204, 121, 167),
}


def line_feature(
    points: Floats, kind: str, name: str, measurements: Mapping[str, float], *, identity: str
) -> dict[str, Any]:
    """Return a LineString; ``points`` are level-0 pixels ``(points, 2)``."""
    return _feature("LineString", points.tolist(), kind, name, measurements, identity)


def ring_feature(
    ring: Floats, kind: str, name: str, measurements: Mapping[str, float], *, identity: str
) -> dict[str, Any]:
    """Return a Polygon of one ring, which is closed here."""
    closed = np.vstack([ring, ring[:1]])
    return _feature("Polygon", [closed.tolist()], kind, name, measurements, identity)


def write_features(path: Path, features: Sequence[Mapping[str, Any]]) -> None:
    """Write a FeatureCollection whole; numbers are written so that they are read back exactly."""
    document = {"type": "FeatureCollection", "features": list(features)}
    write_text(path, json.dumps(document, allow_nan=False) + "\n")


def _feature(
    geometry: str,
    coordinates: Any,
    kind: str,
    name: str,
    measurements: Mapping[str, float],
    identity: str,
) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": identity,
        "geometry": {"type": geometry, "coordinates": coordinates},
        "properties": {
            "objectType": "annotation",
            "name": name,
            "classification": {"name": kind, "color": list(COLOURS[kind])},
            "isLocked": False,
            # name and number side by side: nested measurements stop QuPath's import
            "measurements": {key: value for key, value in measurements.items() if np.isfinite(value)},
        },
    }
