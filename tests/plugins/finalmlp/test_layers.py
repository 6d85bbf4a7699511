"""The hand-written forms of the network's costly steps: same values, same gradients, honest masks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from appliedpapers.plugins.finalmlp import layers
from appliedpapers.plugins.finalmlp.layers import (
    bilinear,
    draw_mask,
    half_square,
    hidden_layer,
    look_up,
    spread,
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def leaf(*shape, seed=0):
    return normal(*shape, seed=seed).requires_grad_()


def gradients(function, *inputs):
    out = function(*inputs)
    return [out.detach(), *torch.autograd.grad((out * normal(*out.shape, seed=9)).sum(), inputs)]


def plain_and_lean(function, inputs, monkeypatch):
    lean = gradients(function, *inputs)
    with monkeypatch.context() as patch:
        patch.setattr(layers, "is_lean", lambda x: False)
        plain = gradients(function, *inputs)
    return lean, plain


def assert_close(lean, plain):
    for one, other in zip(lean, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


IDS = torch.tensor([[1, 3], [2, 1], [1, 1], [2, 4]], dtype=torch.int32)
OFFSETS = torch.tensor([0, 3], dtype=torch.int32)
PADDING = torch.tensor([0, 3])


def test_the_gradient_of_a_look_up_is_that_of_finite_differences():
    assert torch.autograd.gradcheck(lambda table: look_up(table, IDS, OFFSETS, PADDING), leaf(8, 3))


def test_a_look_up_equals_its_plain_form_and_padding_gets_no_gradient(monkeypatch):
    table = leaf(8, 3)
    with torch.no_grad():
        table[PADDING] = 0.0
    ids = IDS.clone()
    ids[0, 0] = ids[3, 1] = 0
    lean, plain = plain_and_lean(lambda one: look_up(one, ids, OFFSETS, PADDING), [table], monkeypatch)
    assert_close(lean, plain)
    assert lean[0].shape == (4, 2, 3)
    assert not lean[1][PADDING].any()
    assert lean[1][1].abs().sum() > 0


def test_ids_of_a_sequence_are_looked_up_in_their_own_table():
    table = normal(8, 3)
    tokens = torch.tensor([[1, 2, 4], [3, 1, 1]])
    found = look_up(table, tokens, torch.tensor(3, dtype=torch.int32), PADDING)
    torch.testing.assert_close(found, table[tokens + 3], rtol=0, atol=0)


def test_rows_that_are_spread_sum_their_gradients(monkeypatch):
    places = torch.tensor([2, 0, 2, 2, 1])
    rows = leaf(3, 4)
    assert torch.autograd.gradcheck(lambda one: spread(one, places), rows)
    ours, expected = gradients(lambda one: spread(one, places), rows), gradients(lambda r: r[places], rows)
    assert_close(ours, expected)


@pytest.mark.parametrize("norm", [True, False])
def test_a_hidden_layer_equals_its_plain_form_and_moves_the_same_statistics(norm, monkeypatch):
    def run(z, *parameters):
        layer = None
        if norm:
            layer = nn.BatchNorm1d(5).double()
            del layer.weight, layer.bias
            layer.weight, layer.bias = parameters
        out = hidden_layer(z, layer, 0.0, training=True)
        statistics.append([] if layer is None else [layer.running_mean, layer.running_var])
        counts.append(layer and int(layer.num_batches_tracked))
        return out

    statistics, counts = [], []
    inputs = [leaf(7, 5), *([leaf(5, seed=1), leaf(5, seed=2)] if norm else [])]
    lean, plain = plain_and_lean(run, inputs, monkeypatch)
    assert_close(lean, plain)
    assert_close(statistics[0], statistics[1])
    assert counts[0] == counts[1] == (1 if norm else None)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("norm", [True, False])
def test_the_gradient_of_a_hidden_layer_is_that_of_finite_differences(norm, dropout):
    layer = nn.BatchNorm1d(4).double() if norm else None

    def run(z, *parameters):
        keep = draw(dropout)
        if layer is None:
            return layers._ReluDrop.apply(z, keep, dropout)
        return layers._NormReluDrop.apply(z, *parameters, layer, keep, dropout)

    def draw(share):
        torch.manual_seed(3)
        return draw_mask(torch.Size([6, 4]), 1 - share, torch.float64) if share else None

    parameters = [leaf(4, seed=1), leaf(4, seed=2)] if norm else []
    assert torch.autograd.gradcheck(run, (leaf(6, 4), *parameters))


@pytest.mark.parametrize("norm", [True, False])
def test_dropped_units_are_zero_and_kept_ones_are_scaled_up(norm):
    z = normal(400, 50)
    layer = nn.BatchNorm1d(50).double() if norm else None
    whole = hidden_layer(z, layer, 0.0, training=True)
    torch.manual_seed(0)
    dropped = hidden_layer(z, layer, 0.25, training=True)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75)
    assert abs((kept.sum() / (whole > 0).sum()).item() - 0.75) < 0.02
    out = hidden_layer(z, None, 0.25, training=False)
    torch.testing.assert_close(out, F.relu(z), rtol=0, atol=0)


def test_one_row_has_no_batch_statistics():
    with pytest.raises(ValueError, match="at least two rows"):
        hidden_layer(normal(1, 3), nn.BatchNorm1d(3).double(), 0.0, training=True)


@pytest.mark.parametrize("heads", [1, 2, 3, 24])
def test_the_bilinear_form_is_the_sum_over_heads(heads, monkeypatch):
    o1, o2, weight = leaf(5, 2 * heads), leaf(5, 3 * heads, seed=1), leaf(heads, 2, 3, seed=2)
    lean, plain = plain_and_lean(bilinear, [o1, o2, weight], monkeypatch)
    assert_close(lean, plain)
    by_hand = [
        sum(o1[row, 2 * j : 2 * j + 2] @ weight[j] @ o2[row, 3 * j : 3 * j + 3] for j in range(heads))
        for row in range(5)
    ]
    torch.testing.assert_close(lean[0], torch.stack(by_hand).detach())
    if heads < 4:
        assert torch.autograd.gradcheck(bilinear, (o1, o2, weight))


def test_half_squares_equal_their_plain_form(monkeypatch):
    tensors = [leaf(3, 2), leaf(4, seed=1), leaf(2, 1, 2, seed=2)]
    lean, plain = plain_and_lean(half_square, tensors, monkeypatch)
    assert_close(lean, plain)
    torch.testing.assert_close(lean[0], 0.5 * sum((one**2).sum() for one in tensors).detach())
    assert torch.autograd.gradcheck(half_square, tuple(tensors))


# -- masks


@settings(deadline=None, max_examples=25)
@given(keep=st.floats(0.02, 0.98), seed=st.integers(0, 2**31))
def test_a_mask_keeps_the_share_that_was_asked_for(keep, seed):
    torch.manual_seed(seed)
    mask = draw_mask(torch.Size([300, 211]), keep, torch.float32)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    spread_of_share = (keep * (1 - keep) / mask.numel()) ** 0.5
    # six standard deviations, and the rounding to 16 bits
    assert abs(mask.mean().item() - keep) < 6 * spread_of_share + 2**-16


def test_a_mask_depends_on_the_generator_alone_and_moves_it_on():
    shape = torch.Size([13, 7])
    torch.manual_seed(5)
    first, second = draw_mask(shape, 0.5, torch.float32), draw_mask(shape, 0.5, torch.float32)
    torch.manual_seed(5)
    assert torch.equal(draw_mask(shape, 0.5, torch.float32), first)
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    third = draw_mask(shape, 0.5, torch.float64)
    torch.set_rng_state(state)
    assert torch.equal(draw_mask(shape, 0.5, torch.float64), third)


def test_rows_and_columns_of_a_mask_are_not_alike():
    torch.manual_seed(0)
    mask = draw_mask(torch.Size([2000, 64]), 0.5, torch.float64)
    correlations = torch.corrcoef(mask.T)
    assert (correlations - torch.eye(64)).abs().max() < 0.12
    assert (mask.mean(dim=0) - 0.5).abs().max() < 0.06


def test_a_share_too_small_for_sixteen_bits_drops_nothing():
    assert draw_mask(torch.Size([100]), 1 - 1e-7, torch.float32).all()


# -- who gets the plain forms


def test_autocast_and_function_transforms_get_plain_operations():
    x = torch.randn(4, 3)
    assert layers.is_lean(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not layers.is_lean(x)
    found = []
    torch.func.grad(lambda one: (found.append(layers.is_lean(one)), half_square(one))[1])(x)
    assert found == [False]
    torch.testing.assert_close(torch.func.grad(half_square)(x), x)
