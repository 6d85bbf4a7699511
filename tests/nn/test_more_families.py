"""What is particular to convolutions, cells, selectable and attention-reduced KANs, DARUAN and KArAt."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from appliedpapers import nn
from appliedpapers.nn.bloch import measure
from appliedpapers.nn.expansion import Expansion, expand
from appliedpapers.nn.kan_pool import Wavelets
from appliedpapers.nn.registry import SpecError

D = torch.float64


def sample(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


# ---- convolutions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("basis", ["bspline", "rbf", "chebyshev", "fourier"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_kan_convolution_is_the_sum_of_a_function_for_every_kernel_weight(basis, groups):
    torch.manual_seed(0)
    conv = nn.build_conv(
        "kan-conv1d", 4, 2, 3, basis=basis, grid=3, groups=groups, norm="none", act="identity", dtype=D
    )
    x = 1.5 * sample(2, 4, 5)
    values, size = conv.basis(x.unsqueeze(-1)).squeeze(-2), conv.basis.size
    expected = torch.zeros(2, 2, 3, dtype=D)
    for out in range(2):
        first = 0 if groups == 1 else 2 * out
        for channel in range(4 // groups):
            own = conv.conv.weight[out, channel_rows(conv, channel, size)]
            for tap in range(3):
                phi = values[:, first + channel, tap : tap + 3]
                expected[:, out] += phi @ own[:, tap]
                expected[:, out] += (
                    F.silu(x[:, first + channel, tap : tap + 3]) * (conv.base_conv.weight[out, channel, tap])
                )
        expected[:, out] += conv.conv.bias[out]
    torch.testing.assert_close(conv(x), expected)


def channel_rows(conv, channel, size):
    """Where the functions of a channel of a group stand: basis after basis, each with all channels."""
    inputs = conv.in_channels // conv.groups
    return [channel + number * inputs for number in range(size)]


def test_a_convolution_is_swapped_by_its_name_alone():
    x = sample(2, 3, 7, 6).float()
    options = {"stride": 2, "padding": 1, "dilation": (1, 2), "norm": "batch"}
    shapes = {name: nn.build_conv(name, 3, 4, 3, **options)(x).shape for name in ("conv", "kan-conv2d")}
    assert shapes["conv"] == shapes["kan-conv2d"] == (2, 4, 4, 2)
    with pytest.raises(SpecError, match="kind network, expected conv: conv1d"):
        nn.build_conv("mlp", 3, 4)


@pytest.mark.parametrize("basis", ["bspline", "rbf", "chebyshev", "fourier"])
@pytest.mark.parametrize("order", [2, 3])
def test_the_fast_expansion_equals_ordinary_operations_to_second_order(basis, order):
    conv = nn.build_conv("kan-conv1d", 1, 1, basis=basis, grid=4, order=order, dtype=D)
    x = (1.5 * sample(3, 5)).requires_grad_()
    upstream = sample(3, conv.basis.size, 5, seed=1)

    def derivatives(function):
        y = function(x)
        (slope,) = torch.autograd.grad((y * upstream).sum(), x, create_graph=True)
        (kept,) = torch.autograd.grad((function(x) * upstream).sum(), x)
        (bend,) = torch.autograd.grad(slope.square().sum(), x)
        return y, slope, kept, bend

    fast = derivatives(lambda x: expand(conv.basis, x))
    plain = derivatives(lambda x: conv.basis(x.unsqueeze(-1)).squeeze(-2).transpose(-1, -2))
    assert type(expand(conv.basis, x).grad_fn).__name__ == Expansion.__name__ + "Backward"
    for ours, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)


# ---- cells -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["sigmoid", "tanh_sigmoid"])
def test_a_tkan_step_is_its_formulas(gate):
    torch.manual_seed(0)
    cell = nn.build_cell("tkan", 3, 4, sublayers=2, sub_features=2, gate=gate, dtype=D)
    x, (h, c, *subs) = sample(5, 3), [sample(5, size, seed=size) for size in cell.state_sizes]
    matrix, gates = cell.read.weight, []
    for number in range(3):
        rows = slice(4 * number, 4 * number + 4)
        gates.append(
            torch.sigmoid(x @ matrix[rows].T + h @ cell.recur.weight[rows].T + cell.recur.bias[rows])
        )
    into, forget, new = gates
    new = torch.tanh(new) if gate == "tanh_sigmoid" else new
    memory = forget * c + into * new
    results, kept = [], []
    for number in range(2):
        own = matrix[12 + 2 * number : 14 + 2 * number]
        results.append(cell.kans[number](x @ own.T + subs[number] @ cell.recall[number].weight.T))
        kept.append(cell.alpha[number] * results[-1] + cell.beta[number] * subs[number])
    hidden = torch.sigmoid(cell.out(torch.cat(results, 1))) * torch.tanh(memory)
    found, state = cell(x, (h, c, *subs))
    for ours, theirs in zip((found, *state), (hidden, hidden, memory, *kept), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_sequence_is_the_cell_step_by_step_and_can_be_cut_anywhere():
    torch.manual_seed(0)
    layer = nn.build("tkan-sequence", input_size=3, hidden_size=4, dtype=D)
    x, state, outputs = sample(2, 6, 3), None, []
    for step in range(6):
        hidden, state = layer.cell(x[:, step], state)
        outputs.append(hidden)
    torch.testing.assert_close(layer(x), torch.stack(outputs, 1))
    first, half = layer.run(x[:, :2])
    rest, last = layer.run(x[:, 2:], half)
    torch.testing.assert_close(torch.cat([first, rest], 1), layer(x))
    torch.testing.assert_close(last, state)


@pytest.mark.parametrize("name", ["lstm", "gru", "tkan"])
def test_cells_are_swapped_by_name_and_carry_their_state(name):
    cell = nn.build_cell(name, 3, 4)
    x, state = sample(2, 3).float(), None
    for _ in range(3):
        hidden, state = cell(x, state)
    assert hidden.shape == (2, 4)
    assert hidden is state[0]
    with pytest.raises(ValueError, match=r"the last axes of the state must be \(4,.* got \(3,\)"):
        cell(x, (x,))


@pytest.mark.parametrize(("name", "theirs"), [("lstm", torch.nn.LSTMCell), ("gru", torch.nn.GRUCell)])
def test_plain_cells_are_those_of_torch(name, theirs):
    cell, reference = nn.build_cell(name, 3, 4, dtype=D), theirs(3, 4, dtype=D)
    reference.load_state_dict(cell.cell.state_dict())
    state = tuple(sample(2, 4, seed=number) for number in range(len(cell.state_sizes)))
    expected = reference(sample(2, 3), state if name == "lstm" else state[0])
    _, found = cell(sample(2, 3), state)
    torch.testing.assert_close(found, tuple(expected) if name == "lstm" else (expected,))


# ---- selectable and attention-reduced KANs -----------------------------------------------------------------


def selectable(**options):
    torch.manual_seed(0)
    layer = nn.build("s-kan-linear", 3, 4, dtype=D, **options)
    with torch.no_grad():
        layer.logits.copy_(2 * sample(*layer.logits.shape, seed=5))
    return layer


def test_a_mixing_layer_weighs_families_for_every_output():
    layer, x = selectable(), sample(6, 3)
    parts = [layer._family(name, x).plain(x) for name in layer.pool]
    weights = layer.weight.split([part.shape[1] for part in parts])
    each = torch.stack(
        [torch.einsum("bni,noi->bo", part, own) for part, own in zip(parts, weights, strict=True)]
    )
    expected = torch.einsum("mbo,om->bo", each, layer.logits.softmax(-1))
    torch.testing.assert_close(layer(x), expected + layer.base(F.silu(x)) + layer.bias)


def test_selecting_takes_the_strongest_family_and_the_choice_still_learns():
    layer, x = selectable(), sample(6, 3)
    layer.select()
    hard = F.one_hot(layer.logits.argmax(-1), 4).to(D)
    torch.testing.assert_close(layer.shares(), hard)
    layer(x).square().sum().backward()
    assert (layer.logits.grad != 0).any()


def test_pruning_keeps_the_values_and_drops_the_other_families():
    layer, x = selectable(), sample(6, 3)
    layer.select()
    before, count = layer(x), sum(parameter.numel() for parameter in layer.parameters())
    layer.prune()
    torch.testing.assert_close(layer(x), before)
    assert sum(parameter.numel() for parameter in layer.parameters()) < count / 2
    torch.testing.assert_close(layer.shares().argmax(-1), torch.tensor(layer.choice))
    twin = nn.build(layer.config())
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(twin(x), before)
    with pytest.raises(ValueError, match="pruned; its choice is final"):
        layer.select()


def test_a_pruned_network_comes_back_from_its_configuration():
    net, x = nn.build("s-kan", 3, 2, hidden=(4, 5), dtype=D), sample(6, 3)
    net.select()
    net.prune()
    twin = nn.build(net.config())
    twin.load_state_dict(net.state_dict())
    torch.testing.assert_close(twin(x), net(x))


def test_the_choice_finds_the_family_that_made_the_data():
    x = 4 * torch.rand(512, 1, generator=torch.Generator().manual_seed(0)) - 2
    target = torch.cos(3 * torch.acos(torch.tanh(x)))
    torch.manual_seed(0)
    layer = nn.build("s-kan-linear", 1, 1, pool=("dog", "chebyshev"), grid=3, base=False)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        F.mse_loss(layer(x), target).backward()
        optimiser.step()
    layer.prune()
    assert layer.choice == (1,)


@pytest.mark.parametrize("kind", ["mexican_hat", "dog"])
def test_wavelets_have_no_mean_and_slopes_that_are_right(kind):
    wavelets = Wavelets(torch.tensor([-0.5, 0.5], dtype=D), 0.7, kind)
    x = torch.linspace(-12, 12, 4001, dtype=D).unsqueeze(1).requires_grad_()
    values = wavelets.plain(x)
    torch.testing.assert_close(values.sum(0), torch.zeros(2, 1, dtype=D), atol=1e-9, rtol=0)
    filled = torch.empty(2, *x.shape, dtype=D)
    wavelets.fill(x.detach(), filled)
    torch.testing.assert_close(filled.transpose(0, 1), values)
    upstream = sample(*values.shape)
    (slope,) = torch.autograd.grad(values, x, upstream)
    pulled = wavelets.pull(x.detach(), filled, upstream.transpose(0, 1).clone())
    torch.testing.assert_close(pulled, slope)


def test_attention_reduction_has_about_the_parameters_of_a_linear_layer_and_its_formulas():
    torch.manual_seed(0)
    layer, x = nn.build("af-kan", 20, 30, grid=4, order=2, dtype=D), sample(3, 20)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 21 * 30 + 2 * 20 + 4 + 2 + 1
    values = torch.empty(3, 20, 6, dtype=D)
    for number, cell in enumerate(range(-2, 4)):
        low, high = cell / 4, cell / 4 + 3 / 4
        values[..., number] = (F.silu(x - low) * F.silu(high - x)) ** 2
    values /= values.square().sum(-1, keepdim=True).sqrt()
    for row in values:
        row.sub_(row.min()).div_(row.max())
    attention = (values @ layer.score.weight[0] + layer.score.bias).softmax(1)
    reduced = layer.norm(attention * values.sum(-1))
    torch.testing.assert_close(layer(x), layer.linear(F.silu(reduced)))


# ---- autoencoder, vision, qubits, attention ----------------------------------------------------------------


def test_an_autoencoder_is_a_mirror_and_its_grids_follow_the_data():
    net = nn.build("kan-autoencoder", 6, latent=2, hidden=(5, 4))
    names = [type(part).__name__ for part in (*net.encoder, *net.decoder)]
    half = ["KANLinear", "ReLU", "Linear", "ReLU", "Linear"]
    assert names == half + half[::-1]
    x = 5 + sample(200, 6).float()
    assert net.encode(x).shape == (200, 2)
    torch.testing.assert_close(net.decode(net.encode(x)), net(x))
    net.update(x)
    low, high = net.encoder[0].basis.domain
    assert float(low.min()) > 0
    assert float(high.max()) > 6
    kae = nn.build("kae", 6)
    assert {type(part).__name__ for part in kae.encoder} == {"PolynomialLinear", "Sigmoid"}


def test_a_polynomial_layer_is_the_sum_of_polynomials():
    layer, x = nn.build("polynomial-linear", 2, 1, order=3, dtype=D), sample(4, 2)
    expected = sum(layer.weight[power - 1] * x**power for power in (1, 2, 3)).sum(1, keepdim=True)
    torch.testing.assert_close(layer(x), expected + layer.bias)


def test_mixshift_reads_as_far_as_shift_and_window_and_starts_near_the_identity():
    torch.manual_seed(0)
    block = nn.build("mixshift2d", in_features=2, shifts=(0, 3), kernels=(1, 3), bias=False)
    x = torch.zeros(1, 2, 9, 9)
    x[:, 1, 4, 4] = 1.0
    touched = block.mix(x)[0, 1].nonzero()
    assert {tuple(place) for place in touched.tolist()} == {
        *((row, column) for row in (3, 4, 5) for column in (6, 7, 8)),
        *((row, column) for row in (6, 7, 8) for column in (3, 4, 5)),
    }
    torch.testing.assert_close(block(x), x, atol=1e-4, rtol=0)


def state_vector(x, theta, weight, bias):
    """The circuit with complex amplitudes and 2 x 2 gates."""

    def apply(gate, state):
        return torch.stack([gate[0] * state[0] + gate[1] * state[1], gate[2] * state[0] + gate[3] * state[1]])

    def about_z(angle):
        zero = torch.zeros_like(angle)
        return torch.exp(-0.5j * angle), zero, zero, torch.exp(0.5j * angle)

    def about_y(angle):
        cos, sin = torch.cos(angle / 2), torch.sin(angle / 2)
        return cos, -sin, sin, cos

    state = torch.full((2, *x.shape), math.sqrt(0.5), dtype=torch.complex128)
    for step in range(len(weight) + 1):
        state = apply(about_y(theta[step, 1]), apply(about_z(theta[step, 0]), state))
        if step < len(weight):
            state = apply(about_z(weight[step] * x + bias[step]), state)
    return state[0].abs().square() - state[1].abs().square()


@pytest.mark.parametrize("reps", [1, 2, 5])
def test_the_bloch_vector_gives_what_amplitudes_give(reps):
    x, theta = 3 * sample(50, 4), 2 * sample(reps + 1, 2, 4, seed=1)
    weight, bias = sample(reps, 4, seed=2), sample(reps, 4, seed=3)
    torch.testing.assert_close(measure(x, theta, weight, bias), state_vector(x, theta, weight, bias))


def test_a_quantum_inspired_layer_is_the_sum_of_its_edges_over_many_blocks():
    torch.manual_seed(0)
    layer, x = nn.build("qkan-linear", 40, 30, reps=2, dtype=D), sample(100, 40)
    assert layer.theta[..., 0, 0].numel() + layer.weight[:, 0, 0].numel() * 2 == 2 * 3 + 2 * 2
    qubits = [
        measure(x, layer.theta[:, :, out], layer.weight[:, out], layer.shift[:, out]) for out in range(30)
    ]
    edges = torch.stack(qubits, 1) * layer.post_weight
    torch.testing.assert_close(layer(x), edges.sum(-1) + layer.base(F.silu(x)))
    ours = torch.autograd.grad(layer(x).square().sum(), tuple(layer.parameters()))
    theirs = torch.autograd.grad(
        (edges.sum(-1) + layer.base(F.silu(x))).square().sum(), tuple(layer.parameters())
    )
    torch.testing.assert_close(ours, theirs)


def test_learned_attention_maps_every_head_by_its_own_map():
    torch.manual_seed(0)
    attention = nn.build("karat", length=6, heads=3, rank=2, dtype=D)
    scores = sample(2, 3, 4, 6)
    for head in range(3):
        expected = attention.up[head](attention.down[head](scores[:, head]))
        torch.testing.assert_close(attention(scores)[:, head], expected)
    with pytest.raises(ValueError, match="axis -3 of the scores must be heads=3"):
        attention(scores[:, :2])
