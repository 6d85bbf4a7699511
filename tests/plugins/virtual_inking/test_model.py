"""Fitting, answering, delivering; what must fail well, and what must be repeatable."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow as pa
import pytest
from drawn_slides import check_config, disc, fitted
from PIL import Image

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.errors import ConfigError, DataError, UnusableGroups
from appliedpapers.core.inference import predict_usable
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.virtual_inking.annotations import read_shapes
from appliedpapers.plugins.virtual_inking.data import DATASETS
from appliedpapers.plugins.virtual_inking.model import VirtualInker
from appliedpapers.plugins.virtual_inking.pyramid_tiff import write_pyramid


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "disc.tif"
    write_pyramid(path, disc(), (1.0, 1.0))
    return path


def listed(*paths, **columns):
    return pa.table(
        {"slide_id": [path.stem for path in paths], "slide": [str(path) for path in paths], **columns}
    )


def test_a_slide_is_delivered_whole(inker, slide, tmp_path):
    lesion = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[[190, 190], [230, 190], [230, 230], [190, 190]]]},
        "properties": {"classification": {"name": "Tumor"}},
    }
    regions = tmp_path / "regions.geojson"
    regions.write_text(json.dumps(lesion))
    rows = inker.predict(listed(slide, regions=[str(regions)]), files=tmp_path / "out")
    assert set(rows["state"].to_pylist()) <= {"cut", "natural", "not_assessable"}
    first = rows.slice(0, 1).to_pylist()[0]
    folder = tmp_path / "out"
    # lines come back as they went out
    shapes = read_shapes(folder / first["margin_path"])
    assert len(shapes) == rows.num_rows
    for number, shape in enumerate(shapes):
        points = np.reshape(rows["points"][number].as_py(), rows["points_shape"][number].as_py())
        np.testing.assert_allclose(shape.points, points, atol=1e-6)
    lengths = list(csv.DictReader((folder / first["lengths_path"]).open()))
    parts = [row for row in lengths if row["part"] != "all"]
    total = sum(float(row["length_mm"]) for row in parts)
    assert total == pytest.approx(2 * np.pi * 0.18, rel=0.05)
    distances = list(csv.DictReader((folder / first["distances_path"]).open()))
    assert len(distances) == 1
    provenance = json.loads((folder / first["provenance_path"]).read_text())
    assert provenance["features"]["encoder"] == "colour-texture"
    assert provenance["slide"]["mpp"] == pytest.approx([1.0, 1.0])
    assert any("not clinical evidence" in notice for notice in provenance["notices"])
    assert Image.open(folder / first["overlay_path"]).size[0] >= 256
    tissue = json.loads((folder / first["tissue_path"]).read_text())
    assert tissue["features"][0]["properties"]["classification"]["name"] == "Tissue"


def test_features_of_an_earlier_run_give_the_same_margin(inker, slide, tmp_path):
    rows = inker.predict(listed(slide), files=tmp_path / "first")
    features = tmp_path / "first" / rows["features_path"][0].as_py()
    again = inker.predict(listed(slide, features=[str(features)]), files=tmp_path / "second")
    assert again["points"].to_pylist() == rows["points"].to_pylist()
    assert again["encoded"][0].as_py() == 0
    import h5py

    with h5py.File(features, "r+") as file:
        told = json.loads(file["features"].attrs["appliedpapers"])
        file["features"].attrs["appliedpapers"] = json.dumps({**told, "encoder": "uni"})
    with pytest.raises(UnusableGroups, match="another encoder"):
        inker.predict(listed(slide, features=[str(features)]), files=tmp_path / "third")


def test_bounds_move_the_line_by_exactly_what_the_file_states(inker, slide, tmp_path, monkeypatch):
    from appliedpapers.plugins.virtual_inking import slides

    monkeypatch.setattr(slides, "_bounds", lambda _: (120, 45))
    plain = inker.predict(listed(slide), files=tmp_path / "plain")
    config = inker.config
    inker.config = config.replace(slide={"subtract_bounds": True})
    try:
        moved = inker.predict(listed(slide), files=tmp_path / "moved")
    finally:
        inker.config = config
    for one, other in zip(plain["points"].to_pylist(), moved["points"].to_pylist(), strict=True):
        apart = np.reshape(one, (-1, 2)) - np.reshape(other, (-1, 2))
        np.testing.assert_allclose(apart, np.broadcast_to([120.0, 45.0], apart.shape), atol=1e-9)


def test_bad_slides_cost_no_other(inker, slide, tmp_path, shared):
    data = shared / "data" / "virtual-inking"
    truncated = tmp_path / "truncated.svs"
    truncated.write_bytes((data / "cmu-1-small-region.svs").read_bytes()[:700_000])
    empty = tmp_path / "empty.svs"
    empty.write_bytes(b"")
    glass = tmp_path / "glass.png"
    Image.fromarray(np.full((400, 400, 3), 240, dtype=np.uint8)).save(glass)
    regions = tmp_path / "far.geojson"
    regions.write_text(json.dumps({"type": "LineString", "coordinates": [[0, 0], [90_000, 10]]}))
    paths = [
        truncated,
        empty,
        glass,
        data / "openslide_small.svs",
        data / "tcga-cr-7395-01a-01-ts1.svs",
        slide,
    ]
    table = listed(*paths, mpp=[None, None, 1.0, None, None, None], regions=[None] * 5 + [None])
    made = predict_usable(inker, table, files=tmp_path / "out")
    rules = [one.rule for one in sorted(made.violations, key=lambda one: one.row)]
    assert len(rules) == 5
    for rule, words in zip(
        rules, ("truncated.svs", "empty.svs", "no tissue", "less than a tile", "openslide.mpp-x"), strict=True
    ):
        assert words in rule
    assert set(made.table["slide_id"].to_pylist()) == {"disc"}
    with pytest.raises(UnusableGroups, match="not micrometres"):
        inker.predict(listed(slide, regions=[str(regions)]), files=tmp_path / "other")


def test_a_slide_that_breaks_while_it_is_read_says_so_and_the_others_go_on(
    inker, slide, tmp_path, monkeypatch
):
    from appliedpapers.plugins.virtual_inking import delivery

    other = tmp_path / "other.tif"
    other.write_bytes(slide.read_bytes())
    whole = delivery.encoded

    def damaged(source, *rest, **options):
        if source.name == "other.tif":
            raise DataError("other.tif: damaged near x 5.", hint="Copy it again.")
        return whole(source, *rest, **options)

    monkeypatch.setattr(delivery, "encoded", damaged)
    rows = inker.predict(listed(other, slide), files=tmp_path / "out").to_pylist()
    assert rows[0]["state"] == "not_assessable"
    assert "damaged near" in rows[0]["problem"]
    assert any(row["slide_id"] == "disc" and row["problem"] is None for row in rows)


def test_an_interrupted_slide_goes_on_with_the_same_features(inker, slide, tmp_path, monkeypatch):
    from appliedpapers.plugins.virtual_inking import delivery

    expected = inker.predict(listed(slide), files=tmp_path / "whole")
    monkeypatch.setattr(delivery, "_CHUNK", 4)
    seen = []
    whole = delivery.encoded

    def stops(*rest, **options):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return whole(*rest, **options)

    monkeypatch.setattr(delivery, "encoded", stops)
    with pytest.raises(KeyboardInterrupt):
        inker.predict(listed(slide), files=tmp_path / "again")
    before = len(seen)
    again = inker.predict(listed(slide), files=tmp_path / "again")
    tiles = expected["tiles"][0].as_py()
    # two chunks were kept, the third is encoded again
    assert len(seen) - before == -(-tiles // 4) - 2
    name = expected["features_path"][0].as_py()
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert again["points"].to_pylist() == expected["points"].to_pylist()
    assert not (tmp_path / "again" / delivery.SCRATCH).exists()


def test_the_same_seed_gives_the_same_margins_and_a_saved_model_the_same_probabilities(
    inker, tmp_path, slide
):
    twin = fitted(tmp_path / "twin", check_config())
    table = listed(slide)
    one = inker.predict(table, files=tmp_path / "one")
    other = twin.predict(table, files=tmp_path / "other")
    assert other["points"].to_pylist() == one["points"].to_pylist()
    assert other["probability"].to_pylist() == one["probability"].to_pylist()
    save_bundle(twin, tmp_path / "bundle", plugin="virtual-inking", task="margin")
    loaded, _ = load_bundle(tmp_path / "bundle", "cpu")
    again = loaded.predict(table, files=tmp_path / "again")
    assert again["probability"].to_pylist() == one["probability"].to_pylist()


def test_a_cascade_spares_the_encoder(tmp_path, slide):
    config = check_config(
        cascade={"mode": "mowst", "most_calls": 0.5}, encoder={"name": "timm:resnet10t", "weights": None}
    )
    weights = tmp_path / "resnet.safetensors"
    from safetensors.torch import save_file

    from appliedpapers.core.vision.networks import create

    save_file(create("resnet10t", seed=1).state_dict(), weights)
    config = config.replace(encoder={"weights": str(weights)}, tiles={"pixels": 64, "mpp": 1.75})
    model = fitted(tmp_path / "fit", config)
    dataset = DATASETS.simulated(config)
    answers = model.answers(dataset.test)
    rows = model.predict(listed(slide), files=tmp_path / "out")
    assert all(0 < one.encoded <= 0.5 for one in answers)
    assert rows["encoded"][0].as_py() <= 0.5 * rows["tiles"][0].as_py()
    assert {"encoder alone", "colour-texture alone"} <= set(model.parts(dataset.test))
    save_bundle(model, tmp_path / "bundle", plugin="virtual-inking", task="margin")
    again, _ = load_bundle(tmp_path / "bundle", "cpu")
    for one, other in zip(answers, again.answers(dataset.test), strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
    # a model knows its encoder's weights
    save_file(create("resnet10t", seed=2).state_dict(), weights)
    from appliedpapers.plugins.virtual_inking import cases

    cases._opened.cache_clear()
    with pytest.raises(DataError, match="another weights sha256"):
        again.answers(DATASETS.simulated(config).test)


def test_training_needs_both_kinds_of_tiles(tmp_path):
    config = check_config(simulator={"natural_share": 1.0})
    dataset = DATASETS.simulated(config)
    with pytest.raises(DataError, match="no tile of the train slides is cut") as caught:
        VirtualInker(config).fit(dataset.train, dataset.valid, FitContext(tmp_path, seed=1))
    assert "labels.cut" in caught.value.hint


def test_another_encoder_is_nothing_to_start_from(inker, tmp_path):
    config = check_config(tiles={"stride": 60})
    other = VirtualInker(config)
    dataset = DATASETS.simulated(config)
    inker_identity = inker.identity
    inker.identity = {**inker_identity, "encoder": "uni"}
    try:
        with pytest.raises(ConfigError, match="another encoder"):
            other.fit(dataset.train, dataset.valid, FitContext(tmp_path, seed=1), init=inker)
    finally:
        inker.identity = inker_identity


def test_a_file_that_executes_never_comes_out_of_a_bundle(inker, tmp_path):
    config = inker.config
    inker.config = config.replace(encoder={"name": "torchscript:model.pt"})
    try:
        with pytest.raises(ConfigError, match="may execute"):
            inker.write_parts(tmp_path)
    finally:
        inker.config = config
