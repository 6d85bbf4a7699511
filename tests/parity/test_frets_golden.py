"""FreTS against reference values, and the two known defects that reference implementations carry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from appliedpapers.plugins.frets.network import DLinear, FreTS, NLinear

TOLERANCE = 1e-5
FIRST, SECOND = "channel_mlp", "temporal_mlp"


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "frets.npz") as file:
        return {name: torch.as_tensor(file[name]) for name in file.files if file[name].dtype.kind in "fi"}


def network(golden, **options) -> FreTS:
    sizes = {"lookback": 24, "horizon": 12, "series": 5, "embed_dim": 8, "hidden": 16}
    net = FreTS(**sizes, **options)
    net.load_reference_weights({n[2:]: v for n, v in golden.items() if n.startswith("w.")})
    return net.eval()


def small(**options) -> FreTS:
    torch.manual_seed(0)
    sizes = {"lookback": 24, "horizon": 12, "series": 3, "embed_dim": 8, "hidden": 16, "init_scale": 0.4}
    return FreTS(**{**sizes, **options})


def assert_close(actual, expected, atol=TOLERANCE):
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


def gradients(net: FreTS) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def reference_gradients(golden) -> dict[str, torch.Tensor]:
    """The golden gradients under our names and in our layout."""
    g = {name[2:]: value for name, value in golden.items() if name.startswith("g.")}
    ours = {
        "embedding": g["embeddings"][0],
        "hidden_layer.weight": g["fc.0.weight"].view(16, 24, 8).transpose(1, 2).flatten(1),
        "hidden_layer.bias": g["fc.0.bias"],
        "output_layer.weight": g["fc.2.weight"],
        "output_layer.bias": g["fc.2.bias"],
    }
    for suffix, learner in (("1", FIRST), ("2", SECOND)):
        ours[f"{learner}.real"] = g["r" + suffix].diagonal()
        ours[f"{learner}.imag"] = g["i" + suffix].diagonal()
        ours[f"{learner}.real_bias"] = g["rb" + suffix]
        ours[f"{learner}.imag_bias"] = g["ib" + suffix]
    return ours


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"channel_mixing": True}, "y"),
        ({"channel_mixing": False}, "y_no_channel"),
        ({"channel_mixing": True, "mixing": "full"}, "y_full_matrix"),
    ],
)
def test_output_equals_the_reference(golden, options, name):
    assert_close(network(golden, **options)(golden["x"]), golden[name])


def test_direct_form_without_channel_learner_equals_the_reference(golden):
    net = network(golden)
    assert net.uses_fast_path
    net.force_direct = True
    assert not net.uses_fast_path
    assert_close(net(golden["x"]), golden["y_no_channel"])


def test_intermediates_equal_the_reference(golden):
    net = network(golden, channel_mixing=True)
    embedded = net.embed(golden["x"])
    assert_close(embedded, golden["embed"])
    mixed = net.channel_learner(embedded)
    assert_close(mixed, golden["after_channel"])
    assert_close(net.temporal_learner(mixed), golden["after_temporal"])
    assert_close(net.temporal_learner(embedded), golden["after_temporal_no_channel"])
    assert_close(net.head(golden["after_temporal"] + embedded), golden["y"])


def test_every_gradient_equals_the_reference(golden):
    net = network(golden, channel_mixing=True)
    net(golden["x"]).square().mean().backward()
    expected = reference_gradients(golden)
    actual = gradients(net)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(actual[name], value)


def test_fast_path_equals_direct_form_in_output_and_gradients(golden):
    fast, direct = network(golden), network(golden)
    direct.force_direct = True
    inputs = [golden["x"].clone().requires_grad_() for _ in range(2)]
    outputs = [net(x) for net, x in zip((fast, direct), inputs, strict=True)]
    assert_close(outputs[0], outputs[1], atol=1e-6)
    for out in outputs:
        out.square().mean().backward()
    for name, gradient in gradients(direct).items():
        assert_close(gradients(fast)[name], gradient, atol=1e-6)
    assert_close(inputs[0].grad, inputs[1].grad, atol=1e-6)


@pytest.mark.parametrize("lookback", [1, 2, 23, 24, 96])
def test_fast_path_equals_direct_form_at_odd_and_even_lookbacks(lookback):
    net, x = small(lookback=lookback), torch.randn(4, lookback, 3)
    fast = net(x)
    net.force_direct = True
    assert_close(fast, net(x), atol=1e-6)


@pytest.mark.parametrize("lookback", [7, 8])
def test_fast_path_gradient_equals_finite_differences(lookback):
    net = small(lookback=lookback, horizon=2, embed_dim=3, hidden=4).double()
    x = torch.randn(2, lookback, 3, dtype=torch.float64, requires_grad=True)
    names, values = zip(*net.named_parameters(), strict=True)

    def forecast(given, *weights):
        return torch.func.functional_call(net, dict(zip(names, weights, strict=True)), (given,))

    assert torch.autograd.gradcheck(forecast, (x, *values))


def test_off_diagonal_weights_are_used_in_full_mode_and_absent_in_diagonal_mode(golden):
    full = network(golden, channel_mixing=True, mixing="full")
    full(golden["x"]).square().mean().backward()
    off_diagonal = ~torch.eye(8, dtype=torch.bool)
    for learner in (full.channel_mlp, full.temporal_mlp):
        assert learner.real.grad[off_diagonal].abs().max() > 1e-4
        assert learner.imag.grad[off_diagonal].abs().max() > 1e-4
    diagonal = network(golden, channel_mixing=True)
    assert all(p.shape == (8,) for m in (diagonal.channel_mlp, diagonal.temporal_mlp) for p in m.parameters())
    assert (full(golden["x"]) - diagonal(golden["x"])).abs().max() > 1e-2


def test_channel_mixing_changes_the_output_and_trains_its_weights(golden):
    mixing = network(golden, channel_mixing=True)
    out = mixing(golden["x"])
    out.square().mean().backward()
    assert mixing.channel_mlp.real.grad.abs().max() > 1e-4
    without = network(golden, channel_mixing=False)
    assert (out - without(golden["x"])).abs().max() > 1e-2
    assert not any(name.startswith(FIRST) for name, _ in without.named_parameters())


def test_parameter_count_is_that_of_the_paper():
    full = FreTS(96, 96, 7, channel_mixing=True, mixing="full")
    assert sum(p.numel() for p in full.parameters()) == 3_236_832
    diagonal = FreTS(96, 96, 7, channel_mixing=True)
    assert sum(p.numel() for p in full.parameters()) - sum(p.numel() for p in diagonal.parameters()) == 65_024


def test_instance_norm_makes_the_forecast_follow_level_and_scale():
    net, x = small(instance_norm=True), torch.randn(4, 24, 3)
    assert_close(net(50.0 + 3.0 * x), 50.0 + 3.0 * net(x), atol=1e-3)


@pytest.mark.parametrize("instance_norm", [False, True])
def test_zero_head_and_linear_skip_start_as_exactly_that_linear_map(instance_norm):
    net, x = small(skip="linear", zero_head=True, instance_norm=instance_norm), torch.randn(4, 24, 3)
    assert_close(net(x), x[:, -1:].expand(-1, 12, -1))
    weight, bias = torch.randn(12, 24), torch.randn(12)
    net.set_linear_skip(weight, bias)
    expected = torch.einsum("hl,bln->bhn", weight, x - x[:, -1:]) + x[:, -1:] + bias[:, None]
    assert_close(net(x), expected)
    net(x).square().mean().backward()
    assert net.output_layer.weight.grad.abs().max() > 0


def test_linear_skip_of_a_wrong_shape_or_without_skip_is_refused():
    with pytest.raises(ValueError, match="weight must have shape"):
        small(skip="linear").set_linear_skip(torch.zeros(24, 12))
    with pytest.raises(ValueError, match="skip='linear'"):
        small().set_linear_skip(torch.zeros(12, 24))


def test_a_window_gets_the_same_forecast_alone_and_in_a_large_batch():
    net, x = small().eval(), torch.randn(900, 24, 3)
    with torch.no_grad():
        together = net(x)
        assert_close(together[850:851], net(x[850:851]), atol=1e-6)
    assert_close(together, net(x), atol=1e-6)


def test_input_of_another_lookback_is_refused():
    with pytest.raises(ValueError, match="lookback and series are fixed"):
        small()(torch.zeros(2, 23, 3))


def test_mixed_precision_keeps_the_transforms_in_single_precision():
    net, x = small(), torch.randn(4, 24, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = net(x)
    mixed.float().square().mean().backward()
    assert_close(mixed.float(), net(x), atol=0.1)


def test_spectrum_explanation_finds_the_frequency_that_the_learner_amplifies():
    net = small(embed_dim=4)
    time = torch.arange(24.0)
    x = torch.sin(2 * torch.pi * time / 6)[None, :, None].expand(2, -1, 3)
    found = net.explain_spectrum(x)
    assert found.frequencies[found.amplitude_in.argmax()] == pytest.approx(1 / 6)
    assert found.frequencies[found.amplitude_out.argmax()] == pytest.approx(1 / 6)
    assert found.weight_gain.shape == (4,)
    assert found.gain.isfinite().all()


def test_linear_networks_keep_a_constant_level_as_their_formulas_say():
    constant = torch.full((2, 24, 3), 4.0)
    nlinear = NLinear(24, 12)
    assert_close(nlinear(constant), 4.0 + nlinear(constant * 0))
    dlinear = DLinear(24, 12)
    expected = constant[:, :, :1].transpose(1, 2) @ dlinear.trend.weight.T + dlinear.trend.bias
    assert_close(dlinear(constant)[:, :, :1], (expected + dlinear.remainder.bias).transpose(1, 2))
    with pytest.raises(ValueError, match="odd"):
        DLinear(24, 12, width=24)
