"""Defects of public implementations of pansharpening, by number of the specification (section 4).

=== ===================================================== ==================================================
 #  defect                                                test
=== ===================================================== ==================================================
 1  a fixed scale: ten times the input is another result  test_known_defects.py::test_01_the_scale_of_the_input_does_not_matter
 2  ratios 3 and 8 go through upsamplers of others        test_known_defects.py::test_02_every_ratio_has_an_upsampler_that_keeps_ramps
 3  half a pixel of shift at even ratios                  test_shift.py::test_block_means_lie_at_the_centre_of_coarse_pixels
 4  a kernel that does not sum to 1                       test_classical.py::test_a_constant_scene_stays_constant
 5  65536 wraps to 0                                      test_writing.py::test_saturated_and_missing_pixels
 6  the opposite edge leaks in                            test_classical.py::test_an_edge_does_not_leak_to_the_opposite_edge
 7  the model soup never moves                            test_known_defects.py::test_07_copies_of_the_soup_move_and_differ
 8  no weight where the first loss is between the edges   test_known_defects.py::test_08_a_first_loss_between_the_edges_is_defined
 9  a crash where the target is never reached             test_known_defects.py::test_09_a_target_out_of_reach_is_flagged
10  only squares that 300 divides                         test_known_defects.py::test_10_any_size_is_sharpened
11  the mode is taken from the name of the file           test_known_defects.py::test_11_the_name_of_a_file_means_nothing
12  weights in ./temp, and as pickles                     test_known_defects.py::test_12_nothing_is_written_elsewhere_and_nothing_pickled
13  unsorted wavelengths give negative iterations         test_known_defects.py::test_13_shuffled_bands_give_the_same_cube
14  weights are judged by the loss before the step        test_known_defects.py::test_14_the_weights_kept_are_those_that_were_measured
15  Q2n pads images that are not square transposed        test_q2n.py::test_sizes_that_blocks_do_not_divide_are_mirrored_at_the_bottom_and_right
16  reports compare counts with normalised values         test_assessment.py::test_the_verdict_does_not_depend_on_the_unit
17  torchvision and downloaded weights are needed         test_known_defects.py::test_17_it_runs_offline_without_torchvision
18  BT-H blows up with many bands                         test_classical.py::test_guarded_bt_h_is_better_than_exp_and_names_the_condition_number
19  no CRS, transform, nodata or tags                     test_writing.py::test_what_a_gis_needs_is_kept
=== ===================================================== ==================================================
"""  # noqa: E501

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from raster_files import write_tif
from tiny_pairs import (
    adapter,
    bundled,
    configured,
    raw,
    rebuilt,
    sharpened,
    simulated,
    write_manifest,
    write_scene,
)
from wald_classical import ergas

import appliedpapers.plugins.pansharpening as plugin
from appliedpapers.core.files import sha256_file
from appliedpapers.pipelines.predict import predict_file
from appliedpapers.plugins.pansharpening.adaptation import NetworkBands
from appliedpapers.plugins.pansharpening.interpolation import Interpolator
from appliedpapers.plugins.pansharpening.model import Pansharpener
from appliedpapers.plugins.pansharpening.rhopnn import RhoPnnAdapter

NETWORKS = ("rho-pnn", "r-pnn")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_defect_has_a_test_that_exists():
    named = re.findall(r"^ ?(\d+) .* (\S+\.py)::(\w+)$", __doc__, re.M)
    assert [int(number) for number, _, _ in named] == list(range(1, 20))
    here = Path(__file__).resolve().parent
    for _, file, name in named:
        path = next(
            folder / file for folder in (here, here.parents[1] / "core/rasters") if (folder / file).is_file()
        )
        assert f"def {name}(" in path.read_text(encoding="utf-8"), (file, name)


@pytest.mark.parametrize("method", ["gsa", *NETWORKS])
@pytest.mark.parametrize("factor", [10.0, 1e-4])
def test_01_the_scale_of_the_input_does_not_matter(method, factor):
    scene = simulated(2)
    scaled = rebuilt(scene, scene.hs * factor, scene.pan * factor)
    config = configured(method, adaptation={"max_iterations": 5, "r": {"random_iterations": 5}})
    found = ergas(sharpened(scene, config), scene.truth, 2)
    other = ergas(sharpened(scaled, config) / factor, scene.truth, 2)
    assert other == pytest.approx(found, rel=0.02)


@pytest.mark.parametrize("phase", ["reference", "centre"])
@pytest.mark.parametrize("ratio", range(2, 9))
def test_02_every_ratio_has_an_upsampler_that_keeps_ramps(ratio, phase):
    size = 48
    fine = Interpolator((size, size + 3), ratio, phase)(
        np.add.outer(3.0 * np.arange(size), np.arange(size + 3.0))
    )
    assert fine.shape == (ratio * size, ratio * (size + 3))
    offset = (ratio - 1) / 2 if phase == "centre" else ratio // 2
    rows, columns = ((np.arange(edge) - offset) / ratio for edge in fine.shape)
    # mirrored edges bend a ramp, and a sinc feels them far inside
    inner = np.s_[20 * ratio : -20 * ratio, 20 * ratio : -20 * ratio]
    assert np.abs(fine - np.add.outer(3 * rows, columns))[inner].max() < 1.0
    slopes = np.polyfit(rows[inner[0]], fine[inner].mean(axis=1), 1)[0]
    assert slopes == pytest.approx(3, rel=0.02)


def test_07_copies_of_the_soup_move_and_differ(monkeypatch):
    scene = simulated(3, size=72)
    rho = {"soups": 3, "soup_epochs": 2, "patch": 24, "first_epochs": 0}
    one = adapter(scene, configured(adaptation={"rho": rho}))
    start = [value.detach().clone() for value in one.network.parameters()]
    copies, make = [], RhoPnnAdapter._ingredient

    def kept(self, *arguments):
        copies.append(make(self, *arguments))
        return copies[-1]

    monkeypatch.setattr(RhoPnnAdapter, "_ingredient", kept)
    one._train_first()
    assert len(copies) == 3

    def apart(first, second) -> float:
        return max((a - b).abs().max().item() for a, b in zip(first, second, strict=True))

    weights = [[value.detach() for value in copy.parameters()] for copy in copies]
    assert all(apart(copy, start) > 1e-5 for copy in weights)
    assert all(apart(weights[a], weights[b]) > 1e-6 for a, b in ((0, 1), (0, 2), (1, 2)))
    mean = [torch.stack(parts).mean(dim=0) for parts in zip(*weights, strict=True)]
    assert apart(mean, [value.detach() for value in one.network.parameters()]) < 1e-7


def test_08_a_first_loss_between_the_edges_is_defined():
    scene = simulated()
    untrained = {"soup_epochs": 0, "first_epochs": 0}
    one = adapter(scene, configured(adaptation={"rho": untrained}))
    band, pan = one.inputs.patches(one.order[0], one.coarse), one.inputs.pans(one.fine())
    share = one.losses_of(band, pan)[0] / band.spectral(band.interpolated).item()
    still = {"lr": 1e-30, "max_iterations": 4, "rho": {**untrained, "gamma": share / 0.95}}
    report = adapter(scene, configured(adaptation=still)).adapt(0)
    assert report.target * 0.9 < report.spectral < report.target
    assert (report.beta, report.iterations, report.ending) == (0.0, 4, "cap")


def test_09_a_target_out_of_reach_is_flagged(tmp_path):
    scene = simulated()
    config = configured(adaptation={"rho": {"gamma": 1e-6}})
    product = Pansharpener(config).product(scene)
    assert np.isfinite(product.whole()).all()
    assert [report["missed"] for report in product.reports] == [True] * 4
    assert [report["beta"] for report in product.reports] == [0.0] * 4
    write_scene(tmp_path, raw())
    rows = write_manifest(tmp_path, ("field", "scene_hs.tif", "scene_pan.tif"))
    model = bundled(tmp_path / "model", config)
    assert predict_file(str(model), rows, files=tmp_path / "out")["flagged_bands"].to_pylist() == [4]


@pytest.mark.parametrize("method", NETWORKS)
def test_10_any_size_is_sharpened(tmp_path, method):
    rng = np.random.default_rng(0)
    pan = rng.uniform(1000, 5000, (1, 217, 173)).astype(np.uint16)
    hs = rng.uniform(1000, 5000, (3, 72, 57)).astype(np.uint16)
    write_tif(tmp_path / "a_hs.tif", hs, wavelengths=[500, 560, 650])
    write_tif(tmp_path / "a_pan.tif", pan, pixel=10)
    rho = {"patch": 50, "soups": 2, "tile": 20, "tiles": 3}
    model = bundled(tmp_path / "model", configured(method, adaptation={"max_iterations": 2, "rho": rho}))
    predict_file(str(model), write_manifest(tmp_path, ("a", "a_hs.tif", "a_pan.tif")), files=tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "a.tif") as product:
        assert (product.count, product.shape) == (3, (216, 171))
        cube = product.read()
    nearest = np.kron(hs, np.ones((1, 3, 3)))
    assert np.corrcoef(cube.ravel(), nearest.ravel())[0, 1] > 0.7


def test_11_the_name_of_a_file_means_nothing(tmp_path):
    model = bundled(tmp_path / "model", configured())
    sums = set()
    for name in ("sceneFR", "sceneRR"):
        write_scene(tmp_path, raw(), name=name)
        rows = write_manifest(tmp_path, ("field", f"{name}_hs.tif", f"{name}_pan.tif"))
        predict_file(str(model), rows, files=tmp_path / name)
        sums.add(sha256_file(tmp_path / name / "field.tif"))
    assert len(sums) == 1


def test_12_nothing_is_written_elsewhere_and_nothing_pickled(tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("a pickle")

    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    write_scene(tmp_path, raw())
    rows = write_manifest(tmp_path, ("field", "scene_hs.tif", "scene_pan.tif"))
    model = bundled(tmp_path / "model", configured())
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.chdir(here)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(torch, "save", forbidden)
    monkeypatch.setattr("pickle.dump", forbidden)
    make = NetworkBands.make

    def watched(self, position):
        kept = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
        # pickles start with their protocol, those of torch with a zip's header
        assert not [path for path in kept if path.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x04")]
        assert position == 0 or any(path.name.startswith("state-") for path in kept)
        return make(self, position)

    monkeypatch.setattr(NetworkBands, "make", watched)
    predict_file(str(model), rows, files=tmp_path / "out")
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert after - before == {tmp_path / "out" / "field.tif"}
    assert list(here.iterdir()) == list(temporary.iterdir()) == []


@pytest.mark.parametrize("method", ["gsa", *NETWORKS])
@pytest.mark.parametrize("order", [[3, 2, 1, 0], [2, 0, 3, 1]])
def test_13_shuffled_bands_give_the_same_cube(method, order):
    scene = simulated(5)
    mixed = rebuilt(scene, scene.hs[order], scene.pan, wavelengths=scene.wavelengths[order])
    ours, expected = sharpened(mixed, configured(method)), sharpened(scene, configured(method))[order]
    if method == "gsa":
        assert np.allclose(ours, expected, rtol=1e-5)
    else:
        assert np.array_equal(ours, expected)
        reports = Pansharpener(configured(method)).product(mixed).reports
        assert [report["band"] for report in reports] == np.argsort(order).tolist()


def test_14_the_weights_kept_are_those_that_were_measured():
    scene = simulated()
    # so large a step that the loss rises at times
    options = {"lr": 3e-3, "max_iterations": 12, "r": {"random_iterations": 12}}
    one = adapter(scene, configured("r-pnn", adaptation=options))
    totals, step = [], one.step
    one.step = lambda loss: (totals.append(loss.item()), step(loss))
    report = one.adapt(0)
    band, pan = one.inputs.patches(report.band, one.coarse), one.inputs.pans(one.fine())
    spectral, structural = one.losses_of(band, pan)
    assert (spectral, structural) == pytest.approx((report.spectral, report.structural), rel=1e-5)
    assert len(totals) == report.iterations == 12
    assert spectral + 0.5 * structural <= min(totals) * (1 + 1e-6)
    assert min(totals) < totals[0]


def test_17_it_runs_offline_without_torchvision(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setattr(socket, "socket", offline)
    monkeypatch.setattr(socket, "create_connection", offline)
    cube = sharpened(simulated(6), configured(adaptation={"rho": {"tile": 16, "tiles": 1}}))
    assert np.isfinite(cube).all()
    for path in Path(plugin.__file__).parent.glob("*.py"):
        assert "torchvision" not in path.read_text(encoding="utf-8"), path
