"""The evaluation of runs: units, resampling, slices, protocols, figures and failures in words."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from appliedpapers.core.bootstrap import intervals, paired_difference
from appliedpapers.core.evaluation import Material
from appliedpapers.core.metrics import metric
from appliedpapers.plugins.pansharpening.assessment import beside_truth, wald
from appliedpapers.plugins.pansharpening.baselines import ClassicalBaseline
from appliedpapers.plugins.pansharpening.config import CLASSICAL, PansharpeningConfig
from appliedpapers.plugins.pansharpening.evaluation import EVALUATION
from appliedpapers.plugins.pansharpening.judging import judge, picture_bands
from appliedpapers.plugins.pansharpening.scene import Optics, Scene

FULL = {"d_lambda", "d_sr", "qnr", "d_s", "d_rho", "lr_ergas"}
REDUCED = {"ergas", "sam", "q2n", "cc", "psnr", "ssim"}


def make_scene(name, seed, size=96, bands=6, ratio=3):
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).standard_normal((bands, size, size))
    detail = gaussian_filter(noise, (0, 2, 2))
    truth = (3000 + 2000 * (detail[0] + 0.3 * detail)).astype(np.float32)
    optics = Optics(ratio)
    hs = optics.degrade_hs(truth).astype(np.float32)
    wavelengths = np.array([460.0, 550.0, 640.0, 800.0, 1100.0, 1600.0])[:bands]
    return Scene.of(name, hs, truth[:3].mean(axis=0), optics, wavelengths=wavelengths, truth=truth)


class Scenes:
    def __init__(self, *scenes):
        self._scenes = scenes

    def scenes(self):
        yield from self._scenes


class Interpolation:
    """A model that interpolates and adds a share of what PAN holds beyond that."""

    def __init__(self, share, **options):
        self.config = PansharpeningConfig().replace(**options) if options else PansharpeningConfig()
        self.share = share
        self.seen = []

    def sharpen(self, scene, *, scratch=None, progress=None):
        self.seen.append(scene.fine_shape)
        plain = scene.interpolator(scene.optics.degrade_pan(scene.pan))
        return scene.interpolator(scene.hs) + self.share * (scene.pan - plain).astype(np.float32)


@pytest.fixture(scope="module")
def split():
    return Scenes(make_scene("first", 0), make_scene("second", 1))


@pytest.fixture(scope="module")
def judged(split):
    return {
        "ours": EVALUATION.predict(Interpolation(0.5), split),
        "gsa": EVALUATION.predict(Interpolation(0.2), split),
        "exp": EVALUATION.predict(Interpolation(0.0), split),
    }


@pytest.fixture(scope="module")
def scored(judged, split):
    return {name: EVALUATION.score(one, split, None) for name, one in judged.items()}


@pytest.fixture(scope="module")
def material(judged, scored):
    rows = [
        {"model": name, "metric": "ergas", "value": one.metrics["ergas"].value, "slice": {}, "seed": None}
        | {"selected": name == "ours", "higher_is_better": False, "kind": "baseline"}
        for name, one in scored.items()
    ]
    return Material(
        dataset=SimpleNamespace(provenance=SimpleNamespace(synthetic=True)),
        model=None,
        model_name="ours",
        predictions=judged,
        scored=scored,
        results={"rows": rows, "tests": [{"b": "gsa"}, {"b": "exp"}]},
        histories={},
        config=PansharpeningConfig(),
    )


def test_every_metric_is_registered_and_the_first_is_the_primary(scored):
    found = scored["ours"].metrics
    assert found.keys() == REDUCED | FULL
    assert next(iter(found)) == EVALUATION.primary
    assert all(metric(name).description for name in found)


def test_values_are_means_over_scenes(scored, judged):
    for name in REDUCED:
        expected = np.mean([one.reduced.values()[name] for one in judged["ours"]])
        assert scored["ours"].metrics[name].value == pytest.approx(expected)
    for name in FULL:
        expected = np.mean([one.full.values()[name] for one in judged["ours"]])
        assert scored["ours"].metrics[name].value == pytest.approx(expected)


def test_units_are_blocks_and_several_scenes_are_clusters(scored, judged):
    # 96 less the cut of 21: three blocks a side
    assert scored["ours"].size == 18
    assert scored["ours"].clusters is None
    many = EVALUATION.score(judged["ours"] * 3, None, None)
    assert many.clusters.tolist() == [scene for scene in range(6) for _ in range(9)]
    values = [one.reduced.value("ergas") for one in judged["ours"]]
    low, high = intervals([many.metrics["ergas"]], many.clusters, n_boot=1000)[0]
    assert min(values) - 1e-9 <= low < high <= max(values) + 1e-9


def test_one_scene_is_resampled_by_blocks():
    split = Scenes(make_scene("only", 3, size=120))
    ours, exp = (
        EVALUATION.score(EVALUATION.predict(Interpolation(share), split), split, None) for share in (0.9, 0.0)
    )
    assert ours.clusters is None
    low, high = intervals([ours.metrics["ergas"]], n_boot=200)[0]
    assert low < ours.metrics["ergas"].value < high
    difference = paired_difference(ours.metrics["ergas"], exp.metrics["ergas"], n_boot=200)
    assert difference.low > 0
    assert difference.p < 0.05


def test_a_resample_is_what_its_blocks_give(judged, scored):
    counts = np.random.default_rng(0).integers(0, 3, 18)
    ergas = scored["ours"].metrics["ergas"]
    first, second = (one.reduced for one in judged["ours"])
    shares = [counts[:9].mean(), counts[9:].mean()]
    parts = [
        scene.measure("ergas")(part.astype(float))
        for scene, part in ((first, counts[:9]), (second, counts[9:]))
    ]
    expected = np.average(parts, weights=shares)
    assert ergas.aggregate(np.repeat(np.arange(18), counts)) == pytest.approx(expected)


def test_a_part_of_the_blocks_is_judged_by_itself(judged, scored):
    chosen = np.repeat([True, False], 9)
    part = scored["ours"].metrics["ergas"].restrict(chosen)
    assert part.value == pytest.approx(judged["ours"][0].reduced.value("ergas"))
    assert np.isnan(part.aggregate(np.arange(9, 18)))


def test_slices_are_ranges_and_scenes(scored, judged):
    slices = {next(iter(labels.values())): found for labels, found in scored["ours"].slices}
    assert list(slices) == ["< 700 nm", ">= 700 nm", "> 1000 nm", "first", "second"]
    assert slices["second"]["ergas"].value == pytest.approx(judged["ours"][1].reduced.value("ergas"))
    assert slices["second"]["qnr"].value == pytest.approx(judged["ours"][1].full.qnr)
    visible = np.mean([one.reduced.banded()["< 700 nm"]["ergas"] for one in judged["ours"]])
    assert slices["< 700 nm"]["ergas"].value == pytest.approx(visible)


def test_full_resolution_can_be_left_out(split):
    model = Interpolation(0.5, evaluation={"full_resolution": False})
    found = EVALUATION.score(EVALUATION.predict(model, split), split, None)
    assert found.metrics.keys() == REDUCED


def test_a_real_pair_is_judged_one_step_coarser_and_on_itself():
    pair = replace(make_scene("pair", 4), truth=None)
    model = Interpolation(0.7)
    (found,) = EVALUATION.predict(model, Scenes(pair))
    assert found.protocol == "wald"
    assert model.seen == [(30, 30), (96, 96)]
    coarser = wald(pair)
    expected = beside_truth(coarser, Interpolation(0.7).sharpen(coarser))
    assert found.reduced.values() == pytest.approx(expected.values())
    assert found.full is not None


def test_only_the_middle_of_a_large_scene_is_sharpened():
    model = Interpolation(0.5)
    judge(make_scene("large", 5, size=120), model.sharpen, crop=96, full_resolution=False)
    assert model.seen == [(96, 96)]


def test_only_the_first_scene_keeps_pictures(judged):
    assert [one.preview is None for one in judged["ours"]] == [False, True]


def test_baselines_are_those_of_the_configuration_without_its_own():
    plain = PansharpeningConfig().replace(consistency=0)
    assert [one.name for one in EVALUATION.baselines(plain, None)] == list(CLASSICAL)
    # what back-projection adds to ours is seen without a network, too
    names = [one.name for one in EVALUATION.baselines(PansharpeningConfig(), None)]
    assert names == [*CLASSICAL, "gsa, back-projected", "mtf-glp-fs, back-projected"]
    config = PansharpeningConfig().replace(method="gsa", baselines=["gsa", "exp"])
    assert [one.name for one in EVALUATION.baselines(config, None)] == ["exp"]


def test_the_classical_baseline_judges_its_method():
    split = Scenes(make_scene("first", 0))
    baseline = ClassicalBaseline("exp", PansharpeningConfig()).fit(None, None, None)
    (found,), (expected,) = baseline.predict(split), EVALUATION.predict(Interpolation(0.0), split)
    assert found.reduced.values() == pytest.approx(expected.reduced.values(), rel=1e-4)


def test_nothing_published_is_quoted():
    assert EVALUATION.published(PansharpeningConfig(), None) == []


def test_pictures_show_true_colours_where_there_are_bands_for_them():
    scene = make_scene("first", 0)
    assert picture_bands(scene) == ((2, 1, 0), True)
    infrared = replace(scene, wavelengths=np.linspace(900, 2400, 6))
    assert picture_bands(infrared) == ((4, 2, 1), False)
    assert picture_bands(replace(scene, wavelengths=None)) == ((4, 2, 1), False)


def test_figures_state_what_was_found(material):
    found = {figure.name: figure for figure in EVALUATION.figures(material)}
    assert list(found) == ["scene", "error-maps", "quality-by-band", "spectra"]
    assert "true colour" in found["scene"].alt
    assert "ours" in found["error-maps"].alt
    assert "closer than gsa in 6 of 6 bands" in found["quality-by-band"].alt
    assert "of 6 pixels" in found["spectra"].alt


def test_figures_of_a_single_method_without_wavelengths(material):
    scene = replace(make_scene("only", 6), wavelengths=None)
    judged = {"ours": EVALUATION.predict(Interpolation(0.9), Scenes(scene))}
    row = next(row for row in material.results["rows"] if row["selected"])
    alone = replace(material, predictions=judged, results={"rows": [row], "tests": []})
    found = {figure.name: figure for figure in EVALUATION.figures(alone)}
    assert len(found) == 4
    assert "band" in found["quality-by-band"].caption


def test_failures_name_bands_and_the_block(material):
    *bands, block = EVALUATION.failures(material)
    assert len(bands) == 3
    assert all("band " in text and " nm: RMSE " in text for text in bands)
    assert "block " in block
    assert "°" in block
