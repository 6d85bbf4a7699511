"""Band profiles and the classifiers of them: what they measure, that both ways up are learned, odd inputs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from appliedpapers.core.errors import BundleError
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.varifocal_net import baselines as module
from appliedpapers.plugins.varifocal_net import profile_trees
from appliedpapers.plugins.varifocal_net.band_profile import BANDS, FEATURES, band_features, upside_down
from appliedpapers.plugins.varifocal_net.baselines import baselines
from appliedpapers.plugins.varifocal_net.chromosomes import UNKNOWN, Chromosomes
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
from appliedpapers.plugins.varifocal_net.scoring import judged
from appliedpapers.plugins.varifocal_net.simulator import simulate
from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit

BAND_0 = FEATURES.index("band_0")
BY_PLACE = {one.name: place for place, one in enumerate(baselines(KaryotypeConfig()))}


def alone(*images):
    """Chromosomes of which nothing but the image is known."""
    rows = len(images)
    unknown = np.full(rows, UNKNOWN, np.int16)
    names, nothing = [str(row) for row in range(rows)], [None] * rows
    return Chromosomes(list(images), names, nothing, nothing, unknown, unknown.astype(np.int8), unknown)


def feature(images, name):
    return band_features(alone(*images))[:, FEATURES.index(name)]


def bar(height=60, width=12, *, waist_at=None, dark=slice(0, 0)):
    """An upright bar with a narrow place and a dark band."""
    image = np.full((height + 6, width + 10), 255, np.uint8)
    image[3:-3, 5:-5] = 150
    image[3:-3][dark, 5:-5] = 60
    if waist_at is not None:
        image[3:-3][waist_at - 2 : waist_at + 3, [5, 6, 7, -8, -7, -6]] = 255
    return image


@pytest.fixture(scope="module")
def parts():
    sizes = {"train_cells": 8, "valid_cells": 4, "test_cells": 4, "artefacts": False, "abnormal": False}
    found = simulate(KaryotypeConfig(seed=3, simulator=sizes))
    return [ChromosomeSplit(part, synthetic=True) for part in found]


@pytest.fixture(scope="module", params=list(BY_PLACE))
def fitted(request, parts, tmp_path_factory):
    few = pytest.MonkeyPatch()
    few.setattr(profile_trees, "_MOST_ROUNDS", 10)
    few.setattr(module, "_PENALTIES", (0.3,))
    one = baselines(KaryotypeConfig())[BY_PLACE[request.param]]
    one.fit(parts[0], parts[1], FitContext(tmp_path_factory.mktemp("run")))
    few.undo()
    return one


# features


def test_length_and_area_are_logarithms_relative_to_the_usual():
    lengths = feature([bar(40), bar(60), bar(90)], "length")
    np.testing.assert_allclose(lengths, np.log([40 / 60, 1, 90 / 60]), atol=1e-3)
    np.testing.assert_allclose(feature([bar(60), bar(60, 24), bar(60)], "area")[1], np.log(2))


def test_sizes_are_relative_to_the_own_cell(parts):
    own = parts[0].chromosomes
    cell = own.take(next(iter(own.rows_by_case().values())))
    large = replace(cell, images=[np.kron(one, np.full((2, 2), 1, np.uint8)) for one in cell.images])
    both = replace(
        own.take(np.r_[: len(cell), : len(cell)]),
        images=[*cell.images, *large.images],
        cases=["a"] * len(cell) + ["b"] * len(cell),
    )
    found = band_features(both)[:, : FEATURES.index("waist")]
    np.testing.assert_allclose(found[len(cell) :], found[: len(cell)], atol=0.05)
    np.testing.assert_allclose(np.median(found[: len(cell)], axis=0), 0, atol=1e-12)


def test_the_waist_is_where_it_is_narrow():
    places = feature([bar(waist_at=15), bar(waist_at=30), bar(waist_at=45)], "waist_place")
    np.testing.assert_allclose(places, [-0.242, 0.008, 0.258], atol=0.03)
    waists = feature([bar(waist_at=30), bar()], "waist")
    assert waists[0] < 0.75 < 0.95 < waists[1]


def test_bands_are_read_from_top_to_bottom():
    bands = band_features(alone(bar(dark=slice(0, 15))))[0, BAND_0 : BAND_0 + BANDS]
    assert bands[:14].min() > 1 > 0 > bands[18:].max()


def test_a_bent_chromosome_has_the_bands_of_a_straight_one():
    ys, xs = np.mgrid[0:110, 0:80]
    radius, angle = np.hypot(xs + 20, ys - 55), np.arctan2(ys - 55, xs + 20)
    along = (angle + 0.6) * 70  # an arc of 84 pixels
    body = (np.abs(radius - 70) < 6) & (along > 0) & (along < 84)
    shades = np.where((along > 20) & (along < 34), 60, 170)
    bent = np.where(body, shades, 255).astype(np.uint8)
    straight = np.full((90, 18), 255, np.uint8)
    straight[3:87, 3:15] = 170
    straight[24:37, 3:15] = 60
    found = band_features(alone(bent, straight))
    one, other = found[:, BAND_0 : BAND_0 + BANDS]
    assert np.corrcoef(one, other)[0, 1] > 0.9
    assert abs(found[0, 0] - found[1, 0]) < 0.08


def test_upside_down_is_what_a_turned_image_gives(parts):
    own = parts[0].chromosomes.take(range(46))
    turned = replace(own, images=[image[::-1] for image in own.images])
    np.testing.assert_allclose(upside_down(band_features(own)), band_features(turned), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_any_image_has_features(image):
    found = band_features(alone(image, np.zeros_like(image), np.full_like(image, 255)))
    assert found.shape == (3, len(FEATURES))
    assert np.isfinite(found).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_one_dark_block_of_any_size_has_features(height, width):
    assert np.isfinite(band_features(alone(np.zeros((height, width), np.uint8)))).all()


# classifiers


def test_answers_are_probabilities_of_the_judged_chromosomes(fitted, parts):
    answers, truth = fitted.predict(parts[2]), judged(parts[2])
    assert answers.types.shape == (len(truth), 24)
    np.testing.assert_allclose(answers.types.sum(axis=1), 1)
    right = (answers.argmax == truth.labels).mean()
    assert right > {"length": 0.25, "profile-logistic": 0.8, "profile-lightgbm": 0.6}[fitted.name]
    assert fitted.kind == "baseline"


def test_polarity_is_told_by_those_that_see_bands(fitted, parts):
    answers, truth = fitted.predict(parts[2]), judged(parts[2])
    assert set(truth.polarity) == {0, 1}
    if fitted.name == "length":
        assert np.isnan(answers.q_down).all()
    else:
        assert ((answers.q_down >= 0.5) == truth.polarity).mean() > 0.85


def test_what_was_chosen_is_said(fitted):
    said = dict(fitted.describe())
    assert float(said["temperature of types"]) > 0
    named = {"profile-logistic": "penalty C", "profile-lightgbm": "rounds"}.get(fitted.name)
    assert named is None or named in said


def test_trees_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "trees.txt").write_text("no trees")
    with pytest.raises(BundleError, match=r"trees\.txt"):
        profile_trees.ProfileTrees.read(tmp_path / "trees.txt", [1.0, 1.0, 1.0], {})


@pytest.mark.parametrize("name", ["profile-logistic", "profile-lightgbm"])
def test_without_polarity_types_are_learned_alone(name, parts, tmp_path, monkeypatch):
    monkeypatch.setattr(profile_trees, "_MOST_ROUNDS", 3)
    monkeypatch.setattr(module, "_PENALTIES", (0.3,))
    blind = [
        ChromosomeSplit(replace(own, polarity=np.full(len(own), UNKNOWN, np.int8)))
        for own in (part.chromosomes.take(range(92)) for part in parts)
    ]
    one = baselines(KaryotypeConfig())[BY_PLACE[name]].fit(blind[0], blind[1], FitContext(tmp_path))
    answers = one.predict(blind[2])
    assert np.isnan(answers.q_down).all()
    assert (answers.argmax == blind[2].chromosomes.labels).mean() > 0.2


def test_a_type_that_was_never_seen_is_not_expected(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PENALTIES", (0.3,))
    own = parts[0].chromosomes
    seen = ChromosomeSplit(own.take(np.flatnonzero(own.labels != 4)))
    for name in ("length", "profile-logistic"):
        one = baselines(KaryotypeConfig())[BY_PLACE[name]].fit(seen, parts[1], FitContext(tmp_path))
        assert one.predict(parts[2]).types[:, 4].max() < 0.2


def test_trees_say_how_far_they_are(tmp_path, monkeypatch):
    told = []

    class Counted:
        @contextmanager
        def task(self, title, total=None):
            rounds = []
            told.append((title, total, rounds))

            class Task:
                def advance(self, steps=1, *, note=None):
                    rounds.append(steps)

            yield Task()

        def say(self, text):
            raise AssertionError(text)

    monkeypatch.setattr(profile_trees, "_MOST_ROUNDS", 2)
    rng = np.random.default_rng(0)
    labels = np.arange(96) % 24
    some = profile_trees.Profiles(rng.random((96, 5)), labels, np.arange(96) % 2)
    run = FitContext(tmp_path, seed=1, progress=Counted())
    profile_trees.ProfileTrees.fit(some, some, np.ones(3), run)
    assert [(title, total, sum(rounds)) for title, total, rounds in told] == [
        ("trees-1", 2, 2),
        ("trees-2", 2, 2),
    ]
