"""The quality report: what it says, that it is honest, and that it is written for any scene."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from appliedpapers.core.errors import RunError
from appliedpapers.core.rasters.tiles import Window
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.model import Pansharpener
from appliedpapers.plugins.pansharpening.quality import assess_product, write_quality
from appliedpapers.plugins.pansharpening.quality_figures import draw
from appliedpapers.plugins.pansharpening.quality_words import band_list, figure
from appliedpapers.plugins.pansharpening.scene import Optics, Scene
from appliedpapers.plugins.pansharpening.shift import shift_pan
from appliedpapers.plugins.pansharpening.simulator import SceneOptions, simulate_scene

pytestmark = pytest.mark.filterwarnings("error")

COLUMNS = {"ergas", "ergas_exp", "d_lambda", "d_sr", "qnr", "shift_pixels"}


def simulated(size=96, bands=8, **options):
    return simulate_scene(5, replace(SceneOptions.clean(), **options), size=size, bands=bands).to_scene()


def report(band, share, ending="finished", target=0.65):
    missed = share > (1.0 if target is None else target)
    return {
        **{"band": band, "iterations": 40, "spectral": 0.01 * share, "baseline": 0.01, "structural": 0.3},
        **{"target": None if target is None else 0.01 * target, "beta": 1.0, "ending": ending},
        **{"share": share, "missed": missed},
    }


class Product:
    """A product whose windows are counted."""

    def __init__(self, cube, reports=(), notes=()):
        self.cube, self.reports, self.notes = cube, list(reports), tuple(notes)
        self.bands, self.windows = len(cube), []

    def window(self, window):
        self.windows.append(window)
        return self.cube[:, *window.slices]


class Network(Pansharpener):
    """A network's name on another method's work."""

    def __init__(self, method, does, **options):
        super().__init__(PansharpeningConfig().replace(method=method, **options))
        self.does, self.scenes = does, []

    def sharpen(self, scene, *, scratch=None, progress=None):
        self.scenes.append(scene)
        return self.does(scene)


def classical(method="gsa", **options):
    return Pansharpener(PansharpeningConfig().replace(method=method, **options))


def exp(scene):
    return scene.interpolator(scene.hs).astype(np.float32)


def gsa(scene):
    return classical().sharpen(scene)


def blurred(scene):
    from scipy.ndimage import uniform_filter

    return uniform_filter(exp(scene), (0, 9, 9))


def assess(scene, model=None, product=None):
    model = model or classical()
    return assess_product(scene, product or Product(gsa(scene)), model)


@pytest.fixture(scope="module")
def scene():
    return simulated()


@pytest.fixture(scope="module")
def wide():
    """A scene that a network can also sharpen one step coarser."""
    return simulated(144)


@pytest.fixture(scope="module")
def quality(scene):
    return assess(scene)


def test_the_row_has_the_columns_of_the_output_table(quality):
    row = quality.row()
    assert set(row) == COLUMNS
    assert 0 < row["ergas"] < row["ergas_exp"]
    assert row["qnr"] == pytest.approx((1 - row["d_lambda"]) * (1 - row["d_sr"]), abs=1e-5)
    assert row["shift_pixels"] < 0.1
    schema = {column.name for column in classical().output_schema.columns}
    assert schema >= set(row)


def test_figures_are_those_of_the_judging_of_runs(scene, quality):
    from appliedpapers.plugins.pansharpening.assessment import at_full_resolution, beside_truth, wald

    coarser = wald(scene)
    ours = beside_truth(coarser, gsa(coarser)).values()
    assert quality.row()["ergas"] == pytest.approx(ours["ergas"], rel=1e-5)
    table = quality.document()["reduced_resolution"]["methods"]
    assert table["gsa"]["sam"] == pytest.approx(ours["sam"], rel=1e-5)
    full = at_full_resolution(scene, gsa(scene))
    assert quality.document()["full_resolution"]["methods"]["gsa"] == pytest.approx(full.values(), rel=1e-5)


def test_all_baselines_stand_beside_the_product(quality):
    document = quality.document()
    for part in ("reduced_resolution", "full_resolution"):
        assert list(document[part]["methods"]) == ["gsa", "mtf-glp-fs", "bt-h", "brovey", "exp"]
    assert document["version"] == 1
    assert document["scene_id"] == "scene-5"
    assert len(document["bands"]) == 8
    assert document["bands"][0]["rmse"] > 0


def test_interpolation_is_always_beside_it(scene):
    quality = assess(scene, classical(baselines=[], output={"quality": "fast"}))
    assert list(quality.full.methods) == ["gsa", "exp"]


def test_fast_leaves_reduced_resolution_out(scene, tmp_path):
    model = Network("rho-pnn", gsa, output={"quality": "fast"})
    quality = assess(scene, model)
    assert not model.scenes
    assert quality.document()["reduced_resolution"] is None
    assert quality.row()["ergas"] is None
    assert quality.row()["qnr"] > 0
    assert quality.document()["verdict"].startswith("At full resolution D_lambda")
    write_quality(quality, tmp_path / "q.json", tmp_path / "q.html")
    assert "At reduced resolution" not in (tmp_path / "q.html").read_text(encoding="utf-8")


def test_nothing_is_sharpened_again_at_full_resolution(wide):
    model = Network("rho-pnn", gsa)
    assess(wide, model, Product(exp(wide)))
    assert [one.fine_shape for one in model.scenes] == [(48, 48)]


def test_only_the_middle_is_loaded():
    scene = simulated(size=192)
    product = Product(gsa(scene))
    quality = assess(scene, classical(evaluation={"crop": 64}), product)
    assert product.windows == [Window(63, 63, 126, 126)]
    # one step coarser the pixels that are judged are the scene's coarse ones
    assert quality.reduced.shape == (63, 63)
    assert quality.looks.points.min() >= 21
    assert quality.looks.points.max() < 42


def test_points_are_those_of_the_whole_scene():
    scene = simulated(size=192)
    quality = assess(scene, classical(evaluation={"crop": 64}, output={"quality": "fast"}))
    rows, columns = quality.looks.points.T
    assert quality.looks.coarse == pytest.approx(scene.hs[:, rows, columns].T)
    cube = gsa(scene)
    row, column = 3 * rows[0], 3 * columns[0]
    assert quality.looks.mean[0] == pytest.approx(
        cube[:, row : row + 3, column : column + 3].mean(axis=(1, 2)), rel=1e-5
    )
    assert quality.looks.fine[0] == pytest.approx(cube[:, row + 1, column + 1])


@pytest.mark.parametrize(
    ("method", "does", "start"),
    [
        ("rho-pnn", blurred, "Worse than interpolation at reduced resolution: ERGAS "),
        ("rho-pnn", lambda scene: 0.5 * exp(scene) + 0.5 * gsa(scene), "Worse than "),
        ("rho-pnn", lambda scene: scene.truth, "At reduced resolution ERGAS 0.00, EXP "),
        ("r-pnn", exp, "Worse than "),
    ],
)
def test_the_verdict_says_first_where_ours_is_worse(wide, method, does, start):
    verdict = assess(wide, Network(method, does)).document()["verdict"]
    assert verdict.startswith(start)
    assert "EXP" in verdict
    assert verdict.endswith("registered to 0.1 PAN pixel.")


def test_equal_is_called_equal(wide):
    quality = assess(wide, Network("rho-pnn", exp, baselines=[]))
    assert quality.document()["verdict"].startswith("As good as interpolation at reduced resolution: ERGAS")


def test_missed_targets_are_flagged_and_counted(wide, tmp_path):
    reports = [report(0, 0.4), report(1, 0.9, "cap"), report(2, 0.6, "plateau")]
    reports += [report(band, 0.5) for band in range(3, 8)]
    quality = assess(wide, Network("rho-pnn", gsa), Product(gsa(wide), reports))
    document = quality.document()
    flags = {band["number"]: band["flags"] for band in document["flagged_bands"]}
    assert flags == {2: ["target missed", "cap"], 3: ["plateau"]}
    assert document["flagged_bands"][0]["target_share"] == pytest.approx(0.65)
    assert "1 of 8 bands missed their spectral target" in document["verdict"]
    assert document["bands"][1]["missed"] is True
    write_quality(quality, tmp_path / "q.json", tmp_path / "q.html")
    assert "target missed, cap" in (tmp_path / "q.html").read_text(encoding="utf-8")
    assert "spectral-targets" in [one.name for one in draw(quality)]


@pytest.mark.parametrize(
    ("shares", "target", "words"),
    [
        ((0.4,) * 8, 0.65, "all 8 bands met their spectral target"),
        ((0.4,) * 8, None, "all 8 bands are no further from what the sensor saw than EXP"),
        ((0.4,) * 6 + (1.2,) * 2, None, "2 of 8 bands are further from what the sensor saw than EXP"),
    ],
)
def test_targets_in_words(scene, shares, target, words):
    reports = [report(band, share, target=target) for band, share in enumerate(shares)]
    model = Network("r-pnn", gsa, output={"quality": "fast"}, baselines=[])
    assert words in assess(scene, model, Product(gsa(scene), reports)).document()["verdict"]


def test_misregistration_is_a_warning_that_says_what_to_do(scene):
    moved = replace(scene, pan=shift_pan(scene.pan, 1.2, -0.9))
    quality = assess(moved, classical(output={"quality": "fast"}))
    assert quality.row()["shift_pixels"] == pytest.approx(1.5, abs=0.1)
    warning = quality.document()["warnings"][0]
    assert "--set data.align=true" in warning
    assert "misregistered by 1.5 PAN pixels" in quality.document()["verdict"]


def test_a_shift_that_the_cube_does_not_explain_is_not_known(scene):
    noise = np.random.default_rng(0).normal(5000, 500, scene.fine_shape).astype(np.float32)
    quality = assess(replace(scene, pan=noise), classical(output={"quality": "fast"}))
    assert quality.row()["shift_pixels"] is None
    assert "registration of the pair is not known" in quality.document()["verdict"]


def test_a_network_that_cannot_sharpen_the_coarser_scene_is_left_out_with_the_reason():
    scene = simulated(size=96)
    small = scene.cropped(Window(0, 0, 26, 26))
    model = Pansharpener(PansharpeningConfig().replace(method="rho-pnn"))
    quality = assess(small, model, Product(gsa(small)))
    assert list(quality.reduced.methods) == ["gsa", "mtf-glp-fs", "bt-h", "brovey", "exp"]
    assert quality.row()["ergas"] is None
    assert quality.row()["ergas_exp"] > 0
    assert "rho-pnn needs 16 x 16 or more" in quality.document()["warnings"][0]
    assert quality.document()["verdict"].startswith("At full resolution")


def test_an_adaptation_that_fails_on_the_coarser_scene_does_not_fail_the_report(wide):
    def diverges(coarser):
        raise RunError("the adaptation diverged.")

    quality = assess(wide, Network("r-pnn", diverges))
    assert quality.document()["warnings"] == ["Not judged at reduced resolution: the adaptation diverged."]


@pytest.mark.parametrize("size", [3, 6, 12, 48])
def test_a_tiny_scene_has_a_report(size, tmp_path):
    scene = simulated().cropped(Window(4, 4, 4 + size // 3, 4 + size // 3))
    quality = assess(scene)
    write_quality(quality, tmp_path / "q.json", tmp_path / "q.html")
    document = json.loads((tmp_path / "q.json").read_text(encoding="utf-8"))
    assert document["reduced_resolution"]["methods"] == {}
    assert "too few to judge at reduced resolution" in document["warnings"][0]
    assert document["full_resolution"]["methods"]["gsa"]["d_rho"] is not None


def test_nodata_and_dead_bands_are_not_judged(tmp_path):
    scene = simulated(size=96)
    hs = scene.hs.copy()
    hs[:, :12, :] = np.nan
    hs[3] = 7.0
    holed = Scene.of("holed", hs, scene.pan, scene.optics, wavelengths=scene.wavelengths)
    cube = gsa(holed)
    cube[:, :36] = -30000
    quality = assess(holed, product=Product(cube, notes=["a note"]))
    document = quality.document()
    assert document["dead_bands"] == [4]
    assert document["bands"][3]["dead"] is True
    assert document["bands"][3]["rmse"] is None
    assert document["notes"] == ["a note"]
    assert document["full_resolution"]["methods"]["gsa"]["qnr"] > 0.5
    assert quality.looks.points[:, 0].min() >= 12
    assert np.isnan(quality.looks.composites[0].after[:, :36]).all()
    assert np.isnan(quality.looks.mean[:, 3]).all()
    write_quality(quality, tmp_path / "q.json", tmp_path / "q.html")


@pytest.mark.parametrize("gone", ["middle", "bands"])
def test_a_scene_without_anything_to_judge_has_a_report(scene, gone, tmp_path):
    hs = scene.hs.copy()
    if gone == "bands":
        hs[:] = 1.0
    else:
        hs[:, 4:28, 4:28] = np.nan
    empty = Scene.of("empty", hs, scene.pan, scene.optics, wavelengths=scene.wavelengths)
    quality = assess(empty, classical(evaluation={"crop": 64}), Product(exp(scene)))
    assert quality.looks is None
    write_quality(quality, tmp_path / "q.json", tmp_path / "q.html")
    assert "nothing was observed in the middle" in (tmp_path / "q.html").read_text(encoding="utf-8")


def test_without_wavelengths_bands_are_numbered(scene, tmp_path):
    quality = assess(replace(scene, wavelengths=None))
    assert [one.colours for one in quality.looks.composites] == ["false colour"]
    assert quality.document()["bands"][0] | {"rmse": 0, "cc": 0, "rho": 0} == {
        **{"number": 1, "wavelength_nm": None, "dead": False, "rmse": 0, "cc": 0, "rho": 0}
    }
    write_quality(quality, tmp_path / "q.json", tmp_path / "q.html")
    assert "not known" in (tmp_path / "q.html").read_text(encoding="utf-8")


def test_the_page_is_self_contained_and_repeatable(scene, quality, tmp_path):
    for name in ("a", "b"):
        again = quality if name == "a" else assess(scene)
        write_quality(again, tmp_path / f"{name}.json", tmp_path / f"{name}.html")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert len(page) < 3_000_000
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page
    assert quality.document()["verdict"] in page
    assert page.count("<img ") == len(re.findall(r'alt="[^"]+', page)) == len(draw(quality))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.json", "b.html", "b.json"]


def test_names_of_scenes_cannot_inject_markup(scene, tmp_path):
    named = replace(scene, scene_id="<b>field</b>", notes=("<i>note</i>",))
    quality = assess(named, classical(output={"quality": "fast"}))
    write_quality(quality, tmp_path / "q.json", tmp_path / "q.html")
    page = (tmp_path / "q.html").read_text(encoding="utf-8")
    assert "<b>field" not in page
    assert "<i>note" not in page


def test_gains_by_band_are_told(scene, tmp_path):
    sensor = replace(scene.optics.sensor, hs_gain=tuple(np.linspace(0.2, 0.4, 8)))
    graded = replace(scene, optics=Optics(3, sensor=sensor))
    quality = assess(graded, classical(output={"quality": "fast"}))
    assert quality.document()["sensor"]["hs_gain"][0] == pytest.approx(0.2)
    write_quality(quality, tmp_path / "q.json", tmp_path / "q.html")
    assert "0.20 to 0.40 by band" in (tmp_path / "q.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0, "0.00"), (3.14e-14, "<0.001"), (2.0, "2.00"), (12345.0, "12,345")]
)
def test_figures_have_three_digits(value, text):
    assert figure(value) == text


def test_runs_of_bands_are_drawn_together():
    assert band_list([1, 3, 4, 5, 9]) == "1, 3-5, 9"
