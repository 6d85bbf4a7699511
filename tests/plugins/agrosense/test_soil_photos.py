"""Photos of soil: drawn, listed, looked at, classified, rejected, averaged by field, and kept in a bundle."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import ConfigError, DataError, UnusableGroups
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.agrosense.config import SimulatorConfig
from appliedpapers.plugins.agrosense.simulator import simulate
from appliedpapers.plugins.agrosense.soil_image.answers import averaged
from appliedpapers.plugins.agrosense.soil_image.config import SoilImageConfig
from appliedpapers.plugins.agrosense.soil_image.data import DATASETS
from appliedpapers.plugins.agrosense.soil_image.descriptor import colour_descriptor
from appliedpapers.plugins.agrosense.soil_image.drawing import DISTRACTORS, draw, draw_distractor
from appliedpapers.plugins.agrosense.soil_image.lab import lab_to_rgb
from appliedpapers.plugins.agrosense.soil_image.linear import Linear, grouped_parts
from appliedpapers.plugins.agrosense.soil_image.model import SoilClassifier
from appliedpapers.plugins.agrosense.soil_image.reader import Teacher, read
from appliedpapers.plugins.agrosense.soil_image.readers import soil_name
from appliedpapers.plugins.agrosense.soil_image.views import view_of
from appliedpapers.plugins.agrosense.soils import SOILS

CONFIG = SoilImageConfig().replace(
    simulator={"sites": 28, "fields": 2, "photos": 2, "distractors": 0.2},
    model={"features": "colour", "penalties": (0.05,)},
)


@pytest.fixture(scope="module")
def dataset():
    return DATASETS.simulated(CONFIG)


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory):
    run = FitContext(seed=1, folder=tmp_path_factory.mktemp("soil"))
    return SoilClassifier(CONFIG).fit(dataset.train, dataset.valid, run)


def table_of(photos, fields=None):
    return pa.table(
        {
            "field": pa.array(fields or [None] * len(photos), pa.string()),
            "photo": pa.array([f"p{row}" for row in range(len(photos))], pa.string()),
            "image": pa.array(photos, pa.binary()),
        }
    )


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# ---- drawing


def test_a_picture_depends_on_its_field_and_the_seed_alone():
    fields = simulate(SimulatorConfig(sites=4, fields_from=3, fields_to=3), 5)
    several = draw(fields, [0, 4, 9], 5)
    assert draw(fields, [9], 5)[0] == several[2]
    assert draw(fields, [9], 6)[0] != several[2]
    assert draw(fields, [9], 5, [1])[0] != several[2]
    assert view_of(several[0], "x").shape == (192, 192, 3)


def test_organic_matter_and_moisture_darken_a_picture():
    fields = simulate(SimulatorConfig(sites=4, fields_from=3, fields_to=3), 5)
    fields.organic_score[:], fields.moisture[:] = -1.0, 0.0
    light = view_of(draw(fields, [0], 5)[0], "x").mean()
    fields.organic_score[:], fields.moisture[:] = 1.0, 1.0
    assert view_of(draw(fields, [0], 5)[0], "x").mean() < light - 15


def test_lab_has_its_textbook_colours():
    lab = np.array([[100.0, 0, 0], [0, 0, 0], [53.2408, 80.0925, 67.2032]])
    assert np.abs(lab_to_rgb(lab) - [[255, 255, 255], [0, 0, 0], [255, 0, 0]]).max() < 0.6


def test_the_simulator_keeps_sites_apart_and_holds_what_is_no_soil(dataset):
    assert leakage_audit(dataset) == []
    assert (dataset.train.photos.labels >= 0).all()
    learned = set(dataset.train.photos.labels.tolist())
    assert learned >= set(dataset.test.photos.soil().labels.tolist())
    assert learned >= set(dataset.valid.photos.soil().labels.tolist())
    assert (dataset.test.photos.labels < 0).sum() == round(0.2 * (dataset.test.photos.labels >= 0).sum())
    assert dataset.provenance.synthetic


# ---- what is looked at, and learned


def test_the_descriptor_has_145_numbers_whose_histogram_sums_to_1():
    plain = np.full((192, 192, 3), (255, 0, 0), np.uint8)
    found = colour_descriptor(plain)
    assert found.shape == (145,)
    assert found[:128].sum() == pytest.approx(1)
    assert found[:128].max() == 1
    assert found[128:133].tolist() == [1, 0, 1, 1, 1]
    assert (found[143:] == 0).all()
    stripes = np.zeros((192, 192, 3), np.uint8)
    stripes[::2] = 255
    assert colour_descriptor(stripes)[143:] == pytest.approx([1, 0])


def test_groups_stay_whole_and_classes_are_spread():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    groups = np.repeat(np.arange(30), 2)
    labels[1::2] = labels[::2]
    parts = grouped_parts(groups, labels, 5, 0)
    assert (parts[::2] == parts[1::2]).all()
    counts = np.array([[np.sum((parts == part) & (labels == one)) for one in range(3)] for part in range(5)])
    assert (np.ptp(counts, axis=0) <= 4).all()


def test_the_line_is_that_of_all_features_and_a_row_is_the_same_alone():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 90)), rng.integers(0, 3, 40)
    line = Linear.fits(features, labels, 4, [0.01])[0]
    standard = (features - features.mean(0)) / features.std(0)
    wide = LogisticRegression(C=0.01, class_weight="balanced", max_iter=5000, tol=1e-8).fit(standard, labels)
    found = line.logits(features)
    assert np.abs(found[:, :3] - wide.decision_function(standard)).max() < 1e-2
    assert (found[:, 3] < -100).all()  # a class that was not there is never answered
    assert np.array_equal(line.logits(features[7:8])[0], found[7])


def test_two_classes_give_the_probabilities_of_one_line():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 4))
    labels = (features[:, 0] > 0).astype(np.int64)
    logits = Linear.fits(features, labels, 2, [1.0])[0].logits(features)
    assert (logits.argmax(1) == labels).mean() > 0.95
    assert np.allclose(logits[:, 0], -logits[:, 1])


# ---- the model


def test_probabilities_sum_to_one_and_photos_of_soil_are_recognised(model, dataset):
    test = dataset.test.photos
    reading = model.read(test)
    soil = test.labels >= 0
    assert np.allclose(reading.chances.sum(1), 1)
    assert np.mean(reading.chances[soil].argmax(1) == test.labels[soil]) > 0.5
    rejected = np.array([reason is not None for reason in reading.reasons])
    assert rejected[~soil].mean() >= 0.9


@pytest.mark.parametrize("kind", DISTRACTORS)
def test_what_is_no_soil_gets_no_class_and_a_reason(model, kind):
    answer = model.predict(table_of([draw_distractor(kind, 3, 0)])).to_pylist()[0]
    assert answer["soil"] is None
    assert answer["soil_1"] is None
    assert answer["warnings"].startswith("no class is given: ")
    assert "no class is given" in model.advice(
        table_of([b""]), model.predict(table_of([draw_distractor(kind, 3, 0)]))
    )


def test_photos_of_a_field_are_averaged_by_their_logarithms(model, dataset):
    soil = dataset.test.photos.soil()
    kept = [row for row, reason in enumerate(model.read(soil).reasons) if reason is None]
    photos = soil.take(kept[:3])
    table = table_of(list(photos.sources), ["a", "a", None])
    together = model.predict(table)
    chances = model.read(photos).chances
    mean = averaged(chances[:2])
    expected = np.exp(np.log(chances[:2]).mean(0))
    assert mean == pytest.approx(expected / expected.sum(), abs=1e-11)
    rows = together.to_pylist()
    assert rows[0]["soil"] == rows[1]["soil"] == SOILS[int(mean.argmax())]
    assert rows[0]["probability"] == pytest.approx(mean.max())
    assert (rows[0]["photos"], rows[2]["photos"]) == (2, 1)
    alone = pa.concat_tables([model.predict(table.slice(0, 2)), model.predict(table.slice(2))])
    assert alone.equals(together)


def test_disagreement_is_said(model, dataset):
    photos = dataset.test.photos.soil()
    chances = model.read(photos).chances
    firsts = [int(np.flatnonzero(chances.argmax(1) == kind)[0]) for kind in np.unique(chances.argmax(1))[:2]]
    rows = model.predict(table_of([photos.sources[row] for row in firsts], ["a", "a"])).to_pylist()
    assert rows[0]["agreement"] == 0.5
    assert rows[0]["warnings"].startswith("photos of the field disagree: others show ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (encoded(Image.new("RGB", (1, 1))), "1 x 1 px are too few"),
        (b"\xff\xd8\xff\xe0 no photo", "damaged|not an image"),
    ],
)
def test_a_bad_photo_costs_its_own_row_alone(model, dataset, content, message):
    good = dataset.test.photos.sources[0]
    rows = model.predict(table_of([good, content])).to_pylist()
    assert rows[0]["soil"] is not None
    assert any(part in rows[1]["problem"] for part in message.split("|"))
    assert rows[1]["soil_1"] is None


def test_a_bad_photo_of_a_field_names_the_field_before_any_work(model, dataset):
    good = dataset.test.photos.sources[0]
    with pytest.raises(UnusableGroups, match="field 'a': p1: the file is empty") as caught:
        model.predict(table_of([good, b"", good], ["a", "a", "b"]))
    assert [problem.key for problem in caught.value.problems] == [("a",)]


@pytest.mark.parametrize("mode", ["CMYK", "L", "P"])
def test_odd_colour_models_are_read(model, mode):
    image = Image.effect_noise((200, 150), 40).convert("RGB")
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    row = model.predict(table_of([encoded(image, "TIFF")])).to_pylist()[0]
    assert row["problem"] is None
    assert row["novelty"] is not None


def test_a_bundle_gives_the_same_answers(model, dataset, tmp_path):
    state = model.write_parts(tmp_path)
    again = SoilClassifier.read_parts(CONFIG, state, tmp_path, "cpu")
    table = dataset.test.example(4)
    assert again.predict(table).equals(model.predict(table))
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors"}


def test_another_seed_of_the_same_photos_gives_the_same_line(dataset, tmp_path):
    first, again = (
        SoilClassifier(CONFIG).fit(dataset.train, dataset.valid, FitContext(seed=1, folder=tmp_path / name))
        for name in "ab"
    )
    table = dataset.test.example(3)
    assert first.predict(table).equals(again.predict(table))


def test_a_map_is_drawn_where_it_is_asked_for(model, dataset, tmp_path):
    drawing = SoilClassifier(CONFIG.replace(answer={"occlusion": True, "patches": 4}))
    drawing.reader = model.reader
    table = dataset.test.example(1)
    row = drawing.predict(table, files=tmp_path).to_pylist()[0]
    with Image.open(tmp_path / row["occlusion_path"]) as image:
        assert image.size == (192, 192)
    assert model.predict(table, files=tmp_path / "none").to_pylist()[0]["occlusion_path"] is None


def test_trees_on_colour_are_the_fallback_where_no_weights_are_installed(dataset, tmp_path, monkeypatch):
    from appliedpapers.core.vision import lite0
    from appliedpapers.plugins.agrosense.soil_image.reader import eye_named

    monkeypatch.setattr(lite0, "is_installed", lambda: False)
    assert eye_named("auto") == "colour"
    trees = SoilClassifier(CONFIG.replace(model={"method": "colour-boosting"}))
    trees.fit(dataset.train, dataset.valid, FitContext(seed=1, folder=tmp_path))
    (tmp_path / "bundle").mkdir()
    state = trees.write_parts(tmp_path / "bundle")
    again = SoilClassifier.read_parts(trees.config, state, tmp_path / "bundle", "cpu")
    table = dataset.test.example(2)
    assert again.predict(table).equals(trees.predict(table))


@pytest.mark.parametrize("name", ["cnn", "resnet10t"])
def test_a_network_learns_is_kept_and_answers_alone_as_in_company(name, dataset, tmp_path):
    losses = []
    config = CONFIG.replace(
        model={"method": "network", "network": name, "input_size": 64},
        training={"epochs": 3, "lr": 2e-3, "crop": 0.9},
    )
    run = FitContext(
        seed=1,
        folder=tmp_path / "run",
        log_metrics=lambda metrics, step: losses.append(metrics["soil/train_loss"]),
    )
    model = SoilClassifier(config).fit(dataset.train, dataset.valid, run)
    assert losses[-1] < losses[0]
    (tmp_path / "bundle").mkdir()
    state = model.write_parts(tmp_path / "bundle")
    again = SoilClassifier.read_parts(config, state, tmp_path / "bundle", "cpu")
    table = dataset.test.example(2)
    assert again.predict(table).equals(model.predict(table))
    assert (
        model.predict(table.slice(1, 1)).column("probability_1")[0]
        == model.predict(table).column("probability_1")[1]
    )


def test_the_papers_network_has_50176_inputs_to_its_256_units():
    from appliedpapers.plugins.agrosense.soil_image.networks import new_network

    network = new_network(SoilImageConfig().model, 4, 0)
    assert network.trunk.to_hidden.weight.shape == (256, 50_176)


def test_logistic_regression_does_not_go_on_from_an_earlier_model(model, dataset, tmp_path):
    with pytest.raises(ConfigError, match="--init-from"):
        SoilClassifier(CONFIG).fit(
            dataset.train, dataset.valid, FitContext(seed=1, folder=tmp_path), init=model
        )


def test_one_class_is_refused(dataset, tmp_path):
    one = dataset.train.take(np.flatnonzero(dataset.train.photos.labels == 2))
    with pytest.raises(DataError, match="all show 'black'"):
        SoilClassifier(CONFIG).fit(one, one, FitContext(seed=1, folder=tmp_path))


def test_the_teacher_of_other_tasks_gives_probabilities_and_survives_the_disk(dataset, tmp_path):
    photos = dataset.train.photos
    labels = [photos.classes[label] for label in photos.labels]
    reader = Teacher(eye="colour").fit(list(photos.sources), labels, [str(one) for one in photos.groups], 1)
    assert reader.classes == SOILS
    chances = reader.probabilities(list(photos.sources[:3]))
    assert chances.shape == (3, 7)
    again = read(reader.write(tmp_path), tmp_path)
    assert np.array_equal(again.probabilities(list(photos.sources[:3])), chances)


# ---- the user's own photos


def test_names_of_folders_become_soils():
    assert [soil_name(text) for text in ("Black_Soil", "Red soil", "yellow", "Vertisol")] == [
        *("black", "red", "yellow", "Vertisol")
    ]
