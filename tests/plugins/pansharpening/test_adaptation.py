"""Networks that adapt to a scene: schedules, switches, averages, tiles, masks, and going on from a state."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_pairs import adapter, configured, rebuilt, sharpened, simulated

from appliedpapers.core.errors import RunError
from appliedpapers.core.rasters.tiles import Window
from appliedpapers.plugins.pansharpening import rhopnn
from appliedpapers.plugins.pansharpening.adaptation import first_network
from appliedpapers.plugins.pansharpening.bandwise import Snapshot
from appliedpapers.plugins.pansharpening.consistency import back_projected
from appliedpapers.plugins.pansharpening.first_weights import shipped_weights
from appliedpapers.plugins.pansharpening.inputs import NetworkInputs, Normalisation, adaptation_windows
from appliedpapers.plugins.pansharpening.losses import struct_reach
from appliedpapers.plugins.pansharpening.model import Pansharpener
from appliedpapers.plugins.pansharpening.products import Task
from appliedpapers.plugins.pansharpening.rhopnn import Hysteresis, first_windows, iteration_caps
from appliedpapers.plugins.pansharpening.scene import Optics, Scene

NETWORKS = ("rho-pnn", "r-pnn")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return simulated()


def weights_of(one) -> np.ndarray:
    return np.concatenate([value.detach().numpy().ravel() for value in one.network.parameters()])


# -- seeds


@pytest.mark.parametrize("method", NETWORKS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(scene, method):
    first, again = (sharpened(scene, configured(method)) for _ in range(2))
    other = sharpened(scene, configured(method, seed=8))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()
    assert np.isfinite(other).all()


def test_adapting_leaves_the_random_numbers_of_others_alone(scene):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    sharpened(scene, configured())
    assert torch.equal(torch.rand(4), expected)


# -- the switch of the structural loss


@pytest.mark.parametrize(
    ("seen", "switched"),
    [
        ([1.2, 1.0, 0.95], [False, False, False]),
        ([0.95], [False]),
        ([0.9], [False]),
        ([0.899], [True]),
        ([0.5, 0.95, 1.0, 0.5], [True, True, True, True]),
        ([0.5, 1.001, 0.95, 0.89], [True, False, False, True]),
        ([0.5, math.nan, 0.95], [True, False, False]),
    ],
)
def test_the_structural_loss_switches_on_below_the_lower_edge_and_off_above_the_target(seen, switched):
    switch = Hysteresis(1.0, 0.9)
    assert [switch(loss) for loss in seen] == switched


@given(st.lists(st.floats(0, 2), min_size=1, max_size=30), st.floats(0.1, 0.99))
@settings(max_examples=60)
def test_between_the_edges_the_switch_stays_as_it_was(losses, low):
    switch, before = Hysteresis(1.0, low), False
    for loss in losses:
        now = switch(loss)
        if low <= loss <= 1:
            assert now == before
        before = now


# -- the search for the weight of the structural loss


def rho_at_work(scene, **rho):
    one = adapter(scene, configured(adaptation={"rho": rho}))
    band = one.inputs.patches(one.order[0], one.coarse)
    return one, band, one.inputs.pans(one.fine())


@pytest.mark.parametrize(
    ("after", "found"),
    [
        ([1.0], 2.0),
        ([1.007], 2.0),
        ([1.0071, 1.0], 1.0),
        ([9, 9, 1.0], 0.5),
        ([9, 9, 9, 9], 0.25),
    ],
)
def test_the_search_halves_until_two_steps_are_borne_but_not_below_an_eighth(scene, after, found):
    one, band, pan = rho_at_work(scene, beta=2.0, epsilon=1.007)
    before, moments = weights_of(one), one.state()
    seen = list(after)
    steps, original = [], one.step
    one.step = lambda loss: (steps.append(loss.item()), original(loss))
    one.losses_of = lambda *_: (seen.pop(0), 0.0)
    assert one._search(band, pan, 1.0) == found
    assert len(steps) == 2 * len(after)
    assert not seen
    assert np.array_equal(weights_of(one), before)
    assert all(torch.equal(value, moments[name]) for name, value in one.state().items())


def test_the_search_puts_moments_back_that_were_there_before(scene):
    one, band, pan = rho_at_work(scene)
    one.step(band.spectral(one.sharpened(band, pan)))
    before = one.state()
    one._search(band, pan, 1e-9)
    after = one.state()
    assert after.keys() == before.keys()
    assert any(name.startswith("adam.") for name in before)
    assert all(torch.equal(after[name], before[name]) for name in before)


# -- the average of weights


def test_the_average_moves_by_a_twentieth_and_starts_with_the_first_weights():
    network = torch.nn.Linear(1, 1, bias=False)
    average = rhopnn._Average()
    average.put_into(network)
    values = [1.0, 2.0, 4.0]
    for value in values:
        network.weight.data.fill_(value)
        average.add(network)
    average.put_into(network)
    assert network.weight.item() == pytest.approx((1.0 * 0.95 + 2.0 * 0.05) * 0.95 + 4.0 * 0.05, rel=1e-6)


def test_without_an_average_the_last_weights_stay():
    network = torch.nn.Linear(2, 1)
    before = network.weight.detach().clone()
    rhopnn._Average().put_into(network)
    assert torch.equal(network.weight, before)


def test_a_snapshot_survives_changes_of_the_network():
    network = torch.nn.Linear(2, 1)
    before = network.weight.detach().clone()
    kept = Snapshot(network)
    network.weight.data.add_(1)
    kept.put_back(network)
    assert torch.equal(network.weight, before)


# -- when a band ends


def test_a_plateau_is_so_many_steps_without_an_improvement_of_a_thousandth():
    recent = rhopnn._Recent(3)
    resting = (1.0, 0.9999, 0.9998, 0.9997, 0.9996, 0.9995)
    assert [recent.stalled(loss) for loss in resting] == [False] * 5 + [True]
    recent = rhopnn._Recent(3)
    assert not any(recent.stalled(loss) for loss in 0.99 ** np.arange(20))
    never = rhopnn._Recent(0)
    assert not any(never.stalled(1.0) for _ in range(50))


@pytest.mark.parametrize(
    ("rho", "more", "ending", "iterations"),
    [
        # a learning rate that changes nothing in single precision: the loss never improves
        ({}, {"plateau": 4, "lr": 1e-30, "max_iterations": 50}, "plateau", 8),
        ({}, {"max_iterations": 7, "lr": 1e-30}, "cap", 7),
        ({"steps": 2}, {"max_iterations": 500, "lr": 1e-30}, "cap", 8),
        # doing nothing already meets this target
        ({"gamma": 1.9, "steps": 3}, {"max_iterations": 50}, "finished", 3),
    ],
)
def test_a_band_ends_by_its_schedule_at_its_cap_or_on_a_plateau(scene, rho, more, ending, iterations):
    config = configured(adaptation={**more, "rho": {"soup_epochs": 0, "first_epochs": 0, "eta": 0, **rho}})
    report = adapter(scene, config).adapt(0)
    assert (report.ending, report.iterations) == (ending, iterations)
    assert report.missed == (report.spectral > report.target)


def test_caps_are_four_times_the_steps_and_follow_the_change_between_bands(scene):
    caps = iteration_caps(scene, [0, 1, 2, 3], 5, 30.0)
    cubes = [scene.hs[band].ravel().astype(float) for band in range(4)]
    change = np.array([1 - np.corrcoef(cubes[band], cubes[band + 1])[0, 1] for band in range(3)])
    assert caps[1:].tolist() == (20 + np.floor(30 * 20 * 3 * change / change.sum())).tolist()
    assert caps[0] == caps[1]
    assert iteration_caps(scene, [0, 1, 2, 3], 5, 0.0).tolist() == [20] * 4
    assert iteration_caps(scene, [2], 5, 30.0).tolist() == [20]


def test_caps_know_equal_bands_and_bands_that_vary_only_where_others_are_missing(scene):
    same = rebuilt(scene, np.stack([scene.hs[0]] * 3), scene.pan, wavelengths=None)
    assert iteration_caps(same, [0, 1, 2], 5, 30.0).tolist() == [20] * 3
    hs = scene.hs[:3].copy()
    hs[0, 0, 0] = np.nan
    hs[1] = 7
    hs[1, 0, 0] = 9
    odd = rebuilt(scene, hs, scene.pan, wavelengths=None)
    assert not odd.dead.any()
    caps = iteration_caps(odd, [0, 1, 2], 5, 30.0)
    assert (caps >= 20).all()
    assert caps.sum() <= 20 * 3 + 2 * 30 * 20 * 2
    assert np.isfinite(sharpened(odd, configured(data={"assume_ordered": True}, method="gsa"))).all()


@pytest.mark.parametrize(
    ("apart", "expected"), [(4.0, 15), (10.0, 30), (19.9, 30), (25.0, 45), (60.0, 80), (900.0, 80)]
)
def test_r_pnn_takes_fifteen_iterations_for_each_begun_ten_nanometres(scene, apart, expected):
    far = replace(scene, wavelengths=500 + apart * np.arange(4))
    one = adapter(far, configured("r-pnn", adaptation={"max_iterations": 500}))
    assert one.iterations(1) == expected
    assert one.iterations(0) == 3


def test_r_pnn_weighs_structure_less_beyond_the_visible(scene):
    red = replace(scene, wavelengths=np.array([600.0, 700.0, 700.1, 900.0]))
    one = adapter(red, configured("r-pnn", adaptation={"max_iterations": 1}))
    assert [one.adapt(position).beta for position in range(4)] == [0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("method", NETWORKS)
def test_a_loss_that_is_no_number_ends_the_run_with_a_remedy(scene, method):
    one = adapter(scene, configured(method))
    with torch.no_grad():
        next(one.network.parameters()).fill_(math.nan)
    with pytest.raises(RunError, match="diverged") as caught:
        one.adapt(0)
    assert "adaptation.lr" in caught.value.hint


def test_a_model_that_was_never_fitted_starts_from_the_shipped_weights(scene):
    network = first_network(Task(scene, configured("r-pnn", adaptation={"r": {"weights": "shipped"}})))
    weights, _ = shipped_weights()
    for name, value in network.state_dict().items():
        assert np.array_equal(value.numpy(), weights[name]), name


# -- tiles


@pytest.mark.parametrize("method", NETWORKS)
@pytest.mark.parametrize(("ratio", "size", "tile"), [(3, 198, 64), (2, 130, 64), (2, 98, 97), (6, 102, 33)])
def test_a_tiled_prediction_equals_the_untiled_one(method, ratio, size, tile):
    scene = simulated(3, ratio=ratio, size=size, bands=4)
    one = adapter(scene, configured(method))
    torch.manual_seed(0)
    with torch.no_grad():
        # weights at which the residual is no trifle
        for value in one.network.parameters():
            value.add_(0.02 * torch.randn_like(value))
    band = one.order[1]
    whole, tiled = one.predict(band, tile=10_000), one.predict(band, tile=tile)
    assert np.abs(tiled - whole).max() <= 1e-5 * np.abs(whole).max()
    exp = scene.interpolator(scene.hs[band].astype(np.float32))
    assert np.abs(whole - exp).max() > 1e-3 * np.abs(exp).max()


# -- what was not observed


@pytest.mark.parametrize("method", NETWORKS)
def test_dead_bands_pass_through_and_change_nothing(scene, method):
    shape = scene.hs[:1].shape
    more = np.concatenate([scene.hs[:2], np.full(shape, 7), scene.hs[2:], np.full(shape, np.nan)])
    centres = np.array([*scene.wavelengths[:2], 600.0, *scene.wavelengths[2:], 900.0])
    with_dead = rebuilt(scene, more, scene.pan, wavelengths=centres)
    assert with_dead.dead.tolist() == [False, False, True, False, False, True]
    cube, plain = sharpened(with_dead, configured(method)), sharpened(scene, configured(method))
    assert (cube[2] == 7).all()
    assert np.array_equal(cube[[0, 1, 3, 4]], plain)
    assert adapter(with_dead, configured(method)).order == [0, 1, 3, 4]


def test_a_band_that_was_never_observed_is_missing_in_the_product_and_a_constant_one_is_not(scene):
    from appliedpapers.plugins.pansharpening.products import Task, sharpen

    shape = scene.hs[:1].shape
    more = np.concatenate([scene.hs, np.full(shape, 7), np.full(shape, np.nan)])
    lost = rebuilt(scene, more, scene.pan, wavelengths=np.linspace(450, 850, 6))
    for method in ("gsa", "rho-pnn"):
        written = np.zeros((6, *scene.fine_shape), dtype=np.float32)
        for bands, window, values in sharpen(Task(lost, configured(method))).blocks():
            written[np.ix_(bands, range(window.top, window.bottom), range(window.left, window.right))] = (
                values
            )
        assert np.isnan(written[5]).all()
        assert (written[4] == 7).all()
        assert np.isfinite(written[:4]).all()


def holed(scene: Scene, fill: float = np.nan) -> tuple[np.ndarray, np.ndarray]:
    """Cut a wedge out of the cube and a corner out of the panchromatic band."""
    height, width = scene.coarse_shape
    wedge = np.add.outer(np.arange(height), np.arange(width)) < 10
    hs, pan = scene.hs.copy(), scene.pan.copy()
    hs[:, wedge] = fill
    pan[-7:, -9:] = fill
    return hs, pan


@pytest.mark.parametrize("method", NETWORKS)
def test_a_wedge_without_data_spreads_nothing(scene, method):
    hs, pan = holed(scene)
    cube = sharpened(rebuilt(scene, hs, pan), configured(method))
    assert np.isfinite(cube).all()
    low, high = np.nanmin(hs), np.nanmax(hs)
    slack = 0.25 * (high - low)
    assert low - slack < cube.min()
    assert cube.max() < high + slack


@pytest.mark.parametrize("method", NETWORKS)
def test_values_under_the_mask_change_no_loss(scene, method):
    hs, pan = holed(scene)
    masked = rebuilt(scene, hs, pan)
    spoilt_hs, spoilt_pan = masked.hs.copy(), masked.pan.copy()
    spoilt_hs[:, ~masked.hs_valid] = 1e4
    spoilt_pan[~masked.pan_valid] = -1e4
    spoilt = replace(masked, hs=spoilt_hs, pan=spoilt_pan)
    made = Normalisation.of(masked)
    window = [Window(0, 0, *masked.coarse_shape)]
    image = torch.rand(1, 1, *masked.fine_shape, generator=torch.Generator().manual_seed(1))
    losses = []
    for one in (masked, spoilt):
        patches = NetworkInputs(one, made, thresholded=method == "r-pnn").patches(1, window)
        threshold = torch.zeros_like(image) if method == "r-pnn" else None
        structural = replace(patches.structural, threshold=threshold)
        losses.append((patches.spectral(image).item(), structural(image).item()))
    assert losses[0] == losses[1]
    assert all(loss > 0 for loss in losses[0])


def test_the_image_where_nothing_was_observed_changes_no_structural_loss(scene):
    hs, pan = holed(scene)
    masked = rebuilt(scene, hs, pan)
    window = [Window(0, 0, *masked.coarse_shape)]
    patches = NetworkInputs(masked, Normalisation.of(masked), thresholded=False).patches(1, window)
    image = torch.rand(1, 1, *masked.fine_shape, generator=torch.Generator().manual_seed(1))
    other = image.clone()
    other[0, 0][torch.as_tensor(~masked.footprint)] = 50.0
    assert patches.structural(image).item() == patches.structural(other).item()
    assert struct_reach(scene.optics.ratio) == 1


def test_values_under_the_mask_change_no_scaling(scene):
    hs, pan = holed(scene)
    masked = rebuilt(scene, hs, pan)
    spoilt_hs = masked.hs.copy()
    spoilt_hs[:, ~masked.hs_valid] = 1e6
    assert Normalisation.of(replace(masked, hs=spoilt_hs)) == Normalisation.of(masked)


# -- going on from a state


@pytest.mark.parametrize("method", NETWORKS)
@pytest.mark.parametrize("finished", [1, 3])
def test_an_adapter_goes_on_from_a_state_as_if_nothing_had_happened(scene, method, finished):
    config = configured(method)
    whole = adapter(scene, config)
    for position in range(finished):
        whole.adapt(position)
    resumed = adapter(scene, config)
    resumed.restore(whole.state())
    for position in range(finished, 4):
        assert resumed.adapt(position) == whole.adapt(position)
        band = whole.order[position]
        assert np.array_equal(resumed.predict(band), whole.predict(band))
    ours, expected = resumed.state(), whole.state()
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_a_state_is_a_copy(scene):
    one = adapter(scene, configured("r-pnn"))
    kept = one.state()
    before = {name: value.clone() for name, value in kept.items()}
    one.adapt(0)
    assert all(torch.equal(kept[name], before[name]) for name in before)


# -- scaling


@given(factor=st.sampled_from([1e-6, 1e-4, 0.1, 10.0, 1e4]), seed=st.integers(1, 5))
@settings(max_examples=10, deadline=None)
def test_what_networks_see_does_not_depend_on_the_unit(factor, seed):
    scene = simulated(seed)
    scaled = rebuilt(scene, scene.hs * factor, scene.pan * factor)
    one, other = Normalisation.of(scene), Normalisation.of(scaled)
    assert other.scale * factor == pytest.approx(one.scale, rel=1e-5)
    assert other.pan_gain == pytest.approx(one.pan_gain, rel=1e-4)
    assert other.pan_offset == pytest.approx(one.pan_offset * factor, rel=1e-3, abs=1e-3 * factor)


def test_a_panchromatic_band_of_another_unit_looks_the_same(scene):
    other = rebuilt(scene, scene.hs, 0.03 * scene.pan + 17)
    window = Window(0, 0, *scene.fine_shape)
    seen = [
        NetworkInputs(one, Normalisation.of(one), thresholded=False).pan(window).numpy()
        for one in (scene, other)
    ]
    assert np.abs(seen[0] - seen[1]).max() < 1e-4 * seen[0].max()


def test_the_panchromatic_band_takes_mean_and_deviation_of_the_bands_inside_its_response(scene):
    made = Normalisation.of(scene)
    inside = (scene.wavelengths >= 480) & (scene.wavelengths <= 690)
    intensity = scene.hs[inside].mean(axis=0)
    pan = scene.optics.degrade_pan(scene.pan) * made.pan_gain + made.pan_offset
    assert pan.mean() == pytest.approx(intensity.mean(), rel=1e-5)
    assert pan.std() == pytest.approx(intensity.std(), rel=1e-5)


def test_nearly_all_values_lie_within_half_of_one(scene):
    made = Normalisation.of(scene)
    values = np.concatenate([scene.hs.ravel(), scene.pan.ravel() * made.pan_gain + made.pan_offset])
    assert np.percentile(np.abs(values) * made.scale, 99.9) == pytest.approx(0.5, rel=1e-4)


def test_a_panchromatic_band_that_never_varies_where_the_cube_was_seen_is_not_divided_by(scene):
    flat = rebuilt(scene, scene.hs, np.full(scene.fine_shape, 3.0))
    made = Normalisation.of(flat)
    assert made.pan_gain == 1.0
    assert np.isfinite([made.scale, made.pan_offset]).all()


# -- windows that stand for a scene


def landscape(rows: int, columns: int) -> Scene:
    rng = np.random.default_rng(5)
    coarse = np.kron(rng.uniform(100, 900, (3, rows // 20 + 1, columns // 20 + 1)), np.ones((20, 20)))
    hs = coarse[:, :rows, :columns] + rng.normal(0, 5, (3, rows, columns))
    pan = np.kron(hs.mean(axis=0), np.ones((2, 2)))
    return Scene.of("land", hs, pan, Optics(2), wavelengths=np.array([500.0, 600.0, 700.0]))


@pytest.mark.parametrize("shape", [(24, 24), (40, 40), (30, 300), (100, 100)])
def test_a_small_scene_is_used_whole(shape):
    assert adaptation_windows(landscape(*shape), 50, 4, 0) == [Window(0, 0, *shape)]


def test_a_strip_narrower_than_a_tile_is_cut_into_tiles_of_its_width():
    found = adaptation_windows(landscape(49, 300), 50, 4, 0)
    assert len(found) == 4
    assert {window.shape for window in found} == {(49, 49)}


# -- bands in which the network fails


@pytest.mark.parametrize("base", ["exp", "gsa"])
def test_a_band_that_ends_worse_than_its_start_is_given_as_that(scene, base):
    # steps this large destroy every band
    wild = {"lr": 0.5, "max_iterations": 2, "base": base, "fallback": True}
    model = Pansharpener(configured("rho-pnn", adaptation=wild))
    product = model.product(scene)
    fallen = [report["band"] for report in product.reports if report["fallback"]]
    assert fallen
    start = Pansharpener(configured(base)).sharpen(scene)
    for band in fallen:
        np.testing.assert_allclose(product.whole()[band], start[band], rtol=1e-3)
    kept = Pansharpener(configured("rho-pnn", adaptation={**wild, "fallback": False})).product(scene)
    assert not any(report["fallback"] for report in kept.reports)
    worst = [max(report["share"] for report in one.reports) for one in (product, kept)]
    assert worst[0] < worst[1]


@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_large_scene_is_stood_for_by_distinct_whole_tiles(count, seed):
    large = landscape(170, 130)
    found = adaptation_windows(large, 40, count, seed)
    assert len(set(found)) == count == len(found)
    assert all(window.shape == (40, 40) and window.top % 40 == window.left % 40 == 0 for window in found)
    assert found == adaptation_windows(large, 40, count, seed)


def test_tiles_without_data_do_not_stand_for_the_scene():
    large = landscape(120, 120)
    hs = large.hs.copy()
    hs[:, :, :60] = np.nan
    found = adaptation_windows(rebuilt(large, hs, large.pan), 20, 4, 0)
    assert len(found) == 4
    assert all(window.left >= 60 for window in found)


@pytest.mark.parametrize("ratio", range(2, 9))
def test_patches_of_the_first_training_are_large_enough_for_the_low_pass(ratio):
    size = 48 * ratio
    scene = rebuilt(
        simulated(),
        np.random.default_rng(0).uniform(1, 2, (2, 48, 48)),
        np.random.default_rng(1).uniform(1, 2, (size, size)),
        wavelengths=np.array([500.0, 600.0]),
    )
    scene = replace(scene, optics=Optics(ratio))
    windows = first_windows(scene, 16)
    inputs = NetworkInputs(scene, Normalisation.of(scene), thresholded=False)
    patches = inputs.patches(0, windows)
    assert patches.spectral(patches.interpolated).item() > 0
    corners = {(window.top, window.left) for window in windows}
    assert len(corners) == len(windows) > 1


# -- back-projection


@pytest.mark.parametrize("ratio", [2, 3, 6])
def test_two_steps_of_back_projection_take_more_than_half_of_the_difference_away_each(ratio):
    scene = simulated(4, ratio=ratio, size=24 * ratio)
    plane = sharpened(scene, configured("gsa"))[1]

    def left(steps: int) -> float:
        product = back_projected(plane, scene, 1, steps)[None]
        return float(np.abs(scene.optics.degrade_hs(product)[0] - scene.hs[1]).mean())

    first, second, third, fourth = (left(steps) for steps in range(4))
    assert second < 0.5 * first
    assert third < 0.5 * second
    # what is left lies near the Nyquist frequency, where little comes back in one step
    assert fourth < 0.75 * third


def test_back_projection_leaves_what_the_sensor_saw_already(scene):
    flat = rebuilt(scene, np.full((1, 24, 24), 500.0), scene.pan, wavelengths=np.array([500.0]))
    plane = np.full(scene.fine_shape, 500, dtype=np.float32)
    assert np.allclose(back_projected(plane, flat, 0, 5), 500, rtol=1e-6)


def test_back_projection_takes_nothing_from_pixels_that_were_not_observed(scene):
    hs, pan = holed(scene)
    masked = rebuilt(scene, hs, pan)
    spoilt_hs = masked.hs.copy()
    spoilt_hs[:, ~masked.hs_valid] = 1e6
    plane = scene.interpolator(masked.hs[1]).astype(np.float32)
    ours, spoilt = (back_projected(plane, one, 1, 3) for one in (masked, replace(masked, hs=spoilt_hs)))
    assert np.array_equal(ours, spoilt)


def test_back_projection_is_part_of_the_product(scene):
    plain, nearer = (sharpened(scene, configured("r-pnn", consistency=steps)) for steps in (0, 2))
    differences = [np.abs(scene.optics.degrade_hs(cube) - scene.hs).mean() for cube in (plain, nearer)]
    assert differences[1] < 0.3 * differences[0]
