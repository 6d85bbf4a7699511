"""Annotations of QuPath, ASAP and Aperio, what they mean for tiles and contours, and GeoJSON out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drawn_slides import disc

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.virtual_inking.annotations import Annotation, read_annotation, read_shapes
from appliedpapers.plugins.virtual_inking.config import InkingConfig, LabelConfig
from appliedpapers.plugins.virtual_inking.geojson import line_feature, ring_feature, write_features
from appliedpapers.plugins.virtual_inking.labels import contour_truth, tile_labels
from appliedpapers.plugins.virtual_inking.slides import ArraySlide
from appliedpapers.plugins.virtual_inking.survey import survey

CONFIG = InkingConfig().replace(
    tiles={"pixels": 56, "mpp": 1.0, "stride": 28},
    mask={"part_mm2": 0.02, "mpp": 4.0},
    margin={"step_um": 20.0},
    labels={"positive_um": 60.0, "ignore_um": 90.0},
)
SLIDE = ArraySlide(disc(), (1.0, 1.0), "disc.png")

ASAP = b"""<?xml version="1.0"?><ASAP_Annotations><Annotations>
<Annotation Name="a" Type="Polygon" PartOfGroup="Tumor"><Coordinates>
<Coordinate Order="1" X="30" Y="10"/><Coordinate Order="0" X="10" Y="10"/>
<Coordinate Order="2" X="30" Y="40"/>
</Coordinates></Annotation>
<Annotation Name="cut" Type="PointSet" PartOfGroup="None"><Coordinates>
<Coordinate Order="0" X="1" Y="2"/><Coordinate Order="1" X="3" Y="4"/></Coordinates></Annotation>
</Annotations></ASAP_Annotations>"""
APERIO = b"""<Annotations MicronsPerPixel="0.5"><Annotation Name="Cautery"><Regions>
<Region Text=""><Vertices><Vertex X="0" Y="0"/><Vertex X="50" Y="0"/><Vertex X="50" Y="50"/>
<Vertex X="0" Y="1"/>
</Vertices></Region>
<Region Text="Cut"><Vertices><Vertex X="0" Y="0"/><Vertex X="50" Y="0"/><Vertex X="100" Y="9"/>
</Vertices></Region>
</Regions></Annotation></Annotations>"""


def arc(radius=180.0):
    angles = np.linspace(-np.pi / 2, np.pi / 2, 60)
    return np.stack([209.5 + radius * np.cos(angles), 209.5 + radius * np.sin(angles)], axis=1)


def collection(*features):
    return json.dumps({"type": "FeatureCollection", "features": list(features)}).encode()


def feature(kind, coordinates, name):
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {"classification": {"name": name}},
    }


def test_asap_points_come_in_their_own_order():
    tumour, line = read_shapes(ASAP)
    assert tumour.name == "tumor"
    assert tumour.closed
    assert tumour.points.tolist() == [[10, 10], [30, 10], [30, 40]]
    assert (line.name, line.closed, len(line.points)) == ("cut", False, 2)


def test_aperio_regions_with_far_ends_are_lines():
    area, line = read_shapes(APERIO)
    assert (area.name, area.closed) == ("cautery", True)
    assert (line.name, line.closed) == ("cut", False)


def test_geojson_of_every_form():
    shapes = read_shapes(
        collection(
            feature("LineString", [[0, 0], [5, 5]], "Cut"),
            feature("MultiPolygon", [[[[0, 0], [9, 0], [9, 9], [0, 0]]]], "Tumor"),
            feature("Point", [1, 1], "Cut"),
        )
    )
    assert [(shape.name, shape.closed, len(shape.points)) for shape in shapes] == [
        ("cut", False, 2),
        ("tumor", True, 3),
    ]
    one = json.dumps({"type": "LineString", "coordinates": [[0, 0], [1, 1]]}).encode()
    assert len(read_shapes(one)) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither JSON nor XML"),
        (b"{", "not GeoJSON"),
        (b'{"type": "Feature", "geometry": {"type": "LineString", "coordinates": [[1]]}}', "not GeoJSON"),
        (b"<Other/>", "<Other>"),
        (b"<a", "not XML"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><Annotations/>', "document type"),
        (
            b'<ASAP_Annotations><Annotation><Coordinate X="nan" Y="1"/></Annotation></ASAP_Annotations>',
            "without coord",
        ),
    ],
)
def test_other_files_are_refused(content, words):
    with pytest.raises(DataError, match=words) as caught:
        read_shapes(content)
    assert caught.value.hint


def test_micrometres_instead_of_pixels_are_noticed():
    content = collection(feature("LineString", (arc() * 3).tolist(), "cut"))
    with pytest.raises(DataError, match=r"outside the slide disc.png of 420 x 420") as caught:
        read_annotation(content, SLIDE, LabelConfig())
    assert "not micrometres" in caught.value.hint


def test_lines_label_tiles_near_them_and_the_samples_beside_them():
    # drawn a little outside of the tissue, as by hand
    annotation = Annotation(cut_lines=(arc(195.0),))
    found = survey(SLIDE, CONFIG)
    labels = tile_labels(found, annotation, SLIDE, CONFIG)
    right = found.centres[:, 0] > 215
    assert (labels[right & (found.depth < 25)] == 1).all()
    assert (labels[found.depth > 90] == 0).all()
    assert (labels[~right & (found.centres[:, 0] < 120)] == 0).all()
    assert (labels == -1).any()
    truth = contour_truth(found.contours, annotation, SLIDE.mpp)[0]
    # half of the outline, not more because the line is drawn beside it
    assert truth.mean() == pytest.approx(0.5, abs=0.03)
    assert np.count_nonzero(truth != (found.contours[0].points[:, 0] > 209.5)) <= 2


def test_areas_label_by_their_share_of_a_tile():
    ring = np.vstack([arc(181.0), arc(120.0)[::-1]])
    annotation = Annotation(cut_areas=(ring,))
    found = survey(SLIDE, CONFIG)
    labels = tile_labels(found, annotation, SLIDE, CONFIG)
    right = found.centres[:, 0] > 240
    assert (labels[right & (found.depth < 50)] == 1).all()
    assert (labels[found.depth > 100] == 0).all()
    assert set(labels) == {0, 1}
    truth = contour_truth(found.contours, annotation, SLIDE.mpp)[0]
    assert truth.mean() == pytest.approx(0.5, abs=0.06)


def test_ignored_regions_are_neither_tissue_nor_margin():
    square = np.array([[300.0, 100], [420, 100], [420, 300], [300, 300]])
    found = survey(SLIDE, CONFIG, annotation=Annotation(ignored=(square,)))
    inside = (found.centres[:, 0] > 330) & (abs(found.centres[:, 1] - 200) < 70)
    assert not inside.any()
    contour = found.contours[0]
    near = (contour.points[:, 0] > 295) & (abs(contour.points[:, 1] - 200) < 90)
    assert near.any()
    assert not contour.candidate[near].any()


def test_geojson_goes_out_and_comes_back(tmp_path):
    line, told = arc() / 3, {"Length mm": 0.25, "Cut probability": float("nan")}
    path = tmp_path / "margin.geojson"
    write_features(
        path,
        [
            line_feature(line, "Cut", "Cut 0", told, identity="a"),
            ring_feature(line, "Tissue", "Tissue 0", {}, identity="b"),
        ],
    )
    shapes = read_shapes(path)
    np.testing.assert_allclose(shapes[0].points, line, atol=1e-6)
    np.testing.assert_allclose(shapes[1].points, line, atol=1e-6)
    document = json.loads(path.read_text())
    first, second = (one["properties"] for one in document["features"])
    assert first["objectType"] == "annotation"
    assert first["classification"] == {"name": "Cut", "color": [213, 94, 0]}
    # name and number, nothing nested, and nothing that is no number
    assert first["measurements"] == {"Length mm": 0.25}
    assert second["measurements"] == {}
    ring = document["features"][1]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
