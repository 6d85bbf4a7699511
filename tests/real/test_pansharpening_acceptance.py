"""Reduced forms of the acceptance cases of pansharpening; make acceptance runs them whole."""

from __future__ import annotations

import functools
import importlib

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("rasterio")

from benchmarks import acceptance_pansharpening
from benchmarks.pansharpening_properties import measured as properties
from benchmarks.pansharpening_scenes import measured as scenes

pytestmark = pytest.mark.shared

# few steps from random weights: enough to see which way things go
FEW = (
    *("adaptation.r.weights=random", "adaptation.r.random_iterations=8", "adaptation.max_iterations=8"),
    *("adaptation.rho.soups=2", "adaptation.rho.soup_epochs=1", "adaptation.rho.first_epochs=8"),
    *("adaptation.rho.steps=3", "adaptation.base=exp", "adaptation.fallback=false"),
)


@pytest.fixture(autouse=True)
def _published_files(shared, monkeypatch):
    monkeypatch.setenv("APPS_DATA_HOME", str(shared / "data"))


def few(method: str, *more: str, every: int, dataset: str = "san-francisco", steps=(0,)):
    """A network on every so many-th band, for a few steps."""
    words = [word for option in (f"method={method}", *FEW, *more) for word in ("--set", option)]
    counts = [str(number) for number in steps]
    return scenes("--dataset", dataset, "--bands-every", str(every), "--steps", *counts, *words)


@functools.cache
def exp(every: int):
    """Interpolation beside it."""
    return scenes("--bands-every", str(every), "--steps", "0", "--set", "method=exp")["steps"]["0"]


def case(name: str):
    (found,) = [one for one in acceptance_pansharpening.CASES if one.name == name]
    return found


@pytest.mark.slow
def test_classical_methods_score_as_published(monkeypatch):
    run = {"pansharpening_scenes": scenes}
    monkeypatch.setattr(acceptance_pansharpening, "printed_by", lambda script, *words: run[script](*words))
    bounded = [check for check in case("classical").checks if check.bounded]
    assert len(bounded) == 10
    values = {check.what: check.measure({}) for check in bounded}
    assert not [check.what for check in bounded if not check.holds(values[check.what])]


def test_back_projection_takes_glp_below_itself_on_the_standard_crop():
    steps = scenes("--set", "method=mtf-glp-fs", "--steps", "0", "3")["steps"]
    assert steps["0"]["ergas"] == pytest.approx(1.876, rel=0.005)
    assert steps["0"]["ergas_visible"] == pytest.approx(0.27, abs=0.01)
    assert steps["0"]["q2n"] == pytest.approx(0.810, abs=0.002)
    assert steps["3"]["ergas"] < 1.82
    assert steps["3"]["reached"] == 1
    assert steps["3"]["lr_ergas"] < 0.3 * steps["0"]["lr_ergas"]


def test_gsa_on_the_real_pair_has_the_published_distortions():
    steps = scenes("--dataset", "paris", "--set", "method=gsa", "--steps", "0", "1")["steps"]
    assert steps["0"]["d_lambda"] == pytest.approx(0.0545, abs=0.0005)
    assert steps["0"]["d_sr"] < 0.001
    assert steps["0"]["qnr"] == pytest.approx(0.945, abs=0.001)
    assert steps["1"]["qnr"] > steps["0"]["qnr"]
    assert steps["1"]["d_lambda"] < 0.02


def test_r_pnn_sharpens_within_a_few_steps():
    found = few("r-pnn", every=16, steps=(0, 2))
    ours, back = found["steps"]["0"], found["steps"]["2"]
    assert ours["ergas"] < exp(16)["ergas"]
    assert ours["ergas_visible"] < exp(16)["ergas_visible"]
    assert back["lr_ergas"] < ours["lr_ergas"]
    assert [band["nm"] for band in found["reports"]] == sorted(band["nm"] for band in found["reports"])
    assert all(band["iterations"] <= 8 for band in found["reports"])


def test_rho_pnn_flags_each_band_that_misses_its_target():
    found = few("rho-pnn", every=24)
    assert [band["missed"] for band in found["reports"]] == [
        band["share"] > 0.65 for band in found["reports"]
    ]
    assert all(band["beta"] >= 0 for band in found["reports"])


@pytest.mark.parametrize("method", ["r-pnn", "rho-pnn"])
def test_a_network_starts_from_the_classical_product_that_it_adds_to(method):
    classical = scenes("--bands-every", "24", "--steps", "0", "--set", "method=mtf-glp-fs")["steps"]["0"]
    ours = few(method, "adaptation.base=mtf-glp-fs", every=24)["steps"]["0"]
    assert ours["ergas"] < 1.02 * classical["ergas"] < exp(24)["ergas"]


def test_r_pnn_gives_the_real_pair_detail():
    found = few("r-pnn", every=64, dataset="paris")["steps"]["0"]
    words = ("--dataset", "paris", "--bands-every", "64", "--steps", "0", "--set", "method=exp")
    assert np.isfinite(list(found.values())).all()
    assert found["d_rho"] < scenes(*words)["steps"]["0"]["d_rho"]
    assert "ergas" not in found


def test_neither_units_nor_the_order_of_bands_nor_a_second_try_change_a_product():
    ours = properties("invariance", "--bands-every", "8", "--methods", "gsa")["gsa"]
    assert ours["change at ten times the values"] < 0.02
    assert ours["change as floats / 1e4"] < 0.02
    assert ours["difference of shuffled bands"] == 0
    assert ours["difference of a second try"] == 0
    assert ours["identical files"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["r-pnn", "rho-pnn"])
def test_the_same_holds_of_networks(method):
    words = [word for option in FEW for word in ("--set", option)]
    short = ["--set", "adaptation.max_iterations=2", "--set", "adaptation.rho.first_epochs=1"]
    options = ["--bands-every", "24", "--methods", method, *words, *short]
    ours = properties("invariance", *options)[method]
    assert ours["change at ten times the values"] < 0.02
    assert ours["change as floats / 1e4"] < 0.02
    assert ours["difference of shuffled bands"] == 0
    assert ours["difference of a second try"] == 0
    assert ours["identical files"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [2, 3])
@pytest.mark.parametrize("method", ["gsa", "r-pnn"])
def test_products_of_the_half_observed_mosaic_keep_what_its_files_say(method, ratio):
    options = ["--ratios", str(ratio), "--methods", method, "--set", "adaptation.r.weights=random"]
    found = properties("enmap", *options)[f"ratio {ratio}"]
    # values out of range are judged by make acceptance: one bright pixel has them, far from what is missing
    wrong = {
        what: value for what, value in found.items() if value and not what.endswith(("range", "untiled"))
    }
    assert not wrong
    assert found[f"{method}: tiled beside untiled"] <= 1


def test_every_figure_of_a_scene_is_found_where_the_cases_look_for_it(monkeypatch):
    network = few("r-pnn", "adaptation.max_iterations=1", every=24, steps=(0, 1, 2, 3))

    def printed(script: str, *words: str):
        assert script == "pansharpening_scenes"
        if "--parity" in words:
            return scenes(*words)
        # the names of options must be right, too
        parser = importlib.import_module(f"benchmarks.{script}")
        assert parser._parse(words).set
        return network

    monkeypatch.setattr(acceptance_pansharpening, "printed_by", printed)
    for name in ("rho-pnn", "best"):
        values = {check.what: check.measure({}) for check in case(name).checks}
        finite = [what for what, value in values.items() if np.isfinite(value)]
        assert len(finite) == len(values)
