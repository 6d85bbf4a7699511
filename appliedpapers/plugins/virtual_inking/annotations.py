"""Annotations that people bring: GeoJSON of QuPath, and XML of ASAP and of Aperio. Level-0 pixels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.virtual_inking.config import LabelConfig
from appliedpapers.plugins.virtual_inking.slides import Slide

Floats = NDArray[np.float64]

FORMATS = "GeoJSON of QuPath, XML of ASAP, XML of Aperio ImageScope"

_OPEN = 0.05  # a drawn ring whose ends are farther apart than this share of its length is a line
_OUTSIDE = 0.02  # of the slide's size: how far a shape may stick out


@dataclass(frozen=True)
class Shape:
    """One drawn thing.

    Attributes:
        name: Its class, or else its own name, in lower case; empty where it has none.
        points: ``(points, 2)`` as x and y in level-0 pixels; the first point of a ring is not repeated.
        closed: Whether it is an area rather than a line.
    """

    name: str
    points: Floats
    closed: bool


@dataclass(frozen=True)
class Annotation:
    """What a slide's annotation says, by what it means. Level-0 pixels.

    Attributes:
        cut_lines: Cut edges that were drawn as lines.
        cut_areas: Cut tissue that was drawn as areas.
        lesions: Rings of lesions, with their names.
        ignored: Rings that are left out.
    """

    cut_lines: tuple[Floats, ...] = ()
    cut_areas: tuple[Floats, ...] = ()
    lesions: tuple[tuple[str, Floats], ...] = ()
    ignored: tuple[Floats, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether any cut edge was drawn."""
        return bool(self.cut_lines or self.cut_areas)


def read_shapes(source: Path | bytes, name: str = "the annotation") -> list[Shape]:
    """Read the shapes of an annotation file.

    Raises:
        DataError: It is absent, or none of the three formats.
    """
    shown = source.name if isinstance(source, Path) else name
    try:
        content = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise DataError(f"{shown}: cannot be read ({error.strerror}).", hint="Check the path.") from None
    text = content.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] in (b"{", b"["):
        return list(_geojson(text, shown))
    if text[:1] == b"<":
        return list(_xml(text, shown))
    raise DataError(f"{shown}: neither JSON nor XML.", hint=f"Expected {FORMATS}.")


def read_annotation(
    source: Path | bytes, slide: Slide, labels: LabelConfig, name: str = "the annotation"
) -> Annotation:
    """Read what an annotation says of a slide.

    Raises:
        DataError: As :func:`read_shapes`; or shapes lie outside the slide, as in micrometres.
    """
    shapes = read_shapes(source, name)
    shown = source.name if isinstance(source, Path) else name
    _require_inside(shapes, slide, shown)
    return sorted_out(shapes, labels)


def sorted_out(shapes: Iterable[Shape], labels: LabelConfig) -> Annotation:
    """Tell by their names what shapes mean; what has another name is passed over."""
    lines: list[Floats] = []
    areas: list[Floats] = []
    ignored: list[Floats] = []
    lesions: list[tuple[str, Floats]] = []
    for shape in shapes:
        if shape.name in labels.cut:
            (areas if shape.closed else lines).append(shape.points)
        elif shape.name in labels.lesion and shape.closed:
            lesions.append((shape.name, shape.points))
        elif shape.name in labels.ignore and shape.closed:
            ignored.append(shape.points)
    return Annotation(tuple(lines), tuple(areas), tuple(lesions), tuple(ignored))


def _require_inside(shapes: Sequence[Shape], slide: Slide, name: str) -> None:
    if not shapes:
        return
    points = np.concatenate([shape.points for shape in shapes])
    size = np.array(slide.size, dtype=np.float64)
    if (points >= -_OUTSIDE * size).all() and (points <= (1 + _OUTSIDE) * size).all():
        return
    low, high = points.min(axis=0), points.max(axis=0)
    raise DataError(
        f"{name}: shapes reach from x {low[0]:.0f}, y {low[1]:.0f} to x {high[0]:.0f}, y {high[1]:.0f}, "
        f"outside the slide {slide.name} of {slide.size[0]} x {slide.size[1]} pixels.",
        hint="Expected pixels of level 0, not micrometres, and the annotation of this slide.",
    )


def _geojson(text: bytes, name: str) -> Iterator[Shape]:
    try:
        document = json.loads(text)
        features = _features(document)
        for feature in features:
            yield from _of_feature(feature)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
        OverflowError,
    ) as error:
        raise DataError(
            f"{name}: not GeoJSON ({type(error).__name__}: {error}).",
            hint="Export it from QuPath by File, Export objects as GeoJSON.",
        ) from None


def _features(document: Any) -> list[Mapping[str, Any]]:
    if isinstance(document, list):
        return [feature for part in document for feature in _features(part)]
    if document["type"] == "FeatureCollection":
        return list(document["features"])
    if document["type"] == "Feature":
        return [document]
    return [{"type": "Feature", "geometry": document, "properties": {}}]


def _of_feature(feature: Mapping[str, Any]) -> Iterator[Shape]:
    geometry, properties = feature["geometry"], feature.get("properties") or {}
    name = _name((properties.get("classification") or {}).get("name") or properties.get("name"))
    kind, places = geometry["type"], geometry.get("coordinates", [])
    if kind == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _of_feature({**feature, "geometry": part})
    elif kind in ("LineString", "MultiLineString"):
        for line in [places] if kind == "LineString" else places:
            yield Shape(name, _points(line), closed=False)
    elif kind in ("Polygon", "MultiPolygon"):
        # holes of an area do not count here
        for rings in [places] if kind == "Polygon" else places:
            yield Shape(name, _ring(_points(rings[0])), closed=True)


def _xml(text: bytes, name: str) -> Iterator[Shape]:
    # a NUL is UTF-16, in which the words would not be found
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text or b"\0" in text:
        raise DataError(f"{name}: XML with a document type, or not in UTF-8.", hint=f"Expected {FORMATS}.")
    try:
        root = ElementTree.fromstring(text)
        yield from _asap(root) if root.tag == "ASAP_Annotations" else _aperio(root, name)
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise DataError(f"{name}: not XML as expected ({error}).", hint=f"Expected {FORMATS}.") from None


def _asap(root: ElementTree.Element) -> Iterator[Shape]:
    for one in root.iter("Annotation"):
        places = sorted(one.iter("Coordinate"), key=lambda point: int(float(point.get("Order") or 0)))
        points = _points([(point.get("X"), point.get("Y")) for point in places])
        group = one.get("PartOfGroup") or ""
        own = _name(one.get("Name")) if group in ("", "None") else _name(group)
        kind = one.get("Type") or "Polygon"
        if kind in ("Polygon", "Spline", "Rectangle") and len(points) > 2:
            yield Shape(own, _ring(points), closed=not _is_open(points) or kind != "Spline")
        elif len(points) > 1:
            yield Shape(own, points, closed=False)


def _aperio(root: ElementTree.Element, name: str) -> Iterator[Shape]:
    if root.tag != "Annotations":
        raise DataError(f"{name}: XML with <{root.tag}> at its root.", hint=f"Expected {FORMATS}.")
    for layer in root.iter("Annotation"):
        for region in layer.iter("Region"):
            points = _points([(vertex.get("X"), vertex.get("Y")) for vertex in region.iter("Vertex")])
            own = _name(region.get("Text") or layer.get("Name"))
            if len(points) > 1:
                closed = len(points) > 2 and not _is_open(points)
                yield Shape(own, _ring(points) if closed else points, closed=closed)


def _is_open(points: Floats) -> bool:
    length = float(np.hypot(*np.diff(points, axis=0).T).sum())
    return float(np.hypot(*(points[-1] - points[0]))) > _OPEN * length


def _points(places: Sequence[Sequence[Any]]) -> Floats:
    found = np.array([(float(place[0]), float(place[1])) for place in places], dtype=np.float64).reshape(
        -1, 2
    )
    if not len(found) or not np.isfinite(found).all():
        raise ValueError("a shape without coordinates")
    return found


def _ring(points: Floats) -> Floats:
    return points[:-1] if len(points) > 1 and np.array_equal(points[0], points[-1]) else points


def _name(text: Any) -> str:
    return str(text or "").strip().lower()
