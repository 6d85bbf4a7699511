"""What every convolution, cell and second-tier module promises, and one export of each kind of graph."""

from __future__ import annotations

import io

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from appliedpapers import nn
from appliedpapers.nn.catalogue import more

D = torch.float64
SHAPES = {
    "conv1d": (2, 6),
    "kan-conv1d": (2, 6),
    "conv2d": (2, 4, 5),
    "kan-conv2d": (2, 4, 5),
    "conv3d": (2, 3, 4, 3),
    "kan-conv3d": (2, 3, 4, 3),
    "mixshift2d": (5, 3, 4),
    "karat": (2, 6),
    "kan-autoencoder": (6,),
    "tkan-sequence": (3, 3),
    "lstm": (3,),
    "gru": (3,),
    "tkan-cell": (3,),
}
ENTRIES = {entry.name: entry for entry in more.ENTRIES}
NAMES = list(ENTRIES)
# what maps (..., features) or works on the last axes whatever comes before
FLEXIBLE = [name for name in NAMES if ENTRIES[name].kind != "conv"]
VARIANTS = [
    *((name, {}) for name in NAMES),
    *(("kan-conv2d", {"basis": basis, "grid": 3}) for basis in ("rbf", "chebyshev", "fourier")),
    ("kan-conv2d", {"order": 2, "groups": 2, "norm": "layer", "act": "snake", "padding": "same"}),
    (
        "kan-conv1d",
        {"outside": "clamp", "norm": "instance", "base": None, "stride": 2, "dilation": 2, "padding": 2},
    ),
    ("tkan-cell", {"sublayers": 2, "sub_features": 2, "gate": "tanh_sigmoid", "basis": "fourier"}),
    ("s-kan-linear", {"pool": ("dog", "spline"), "grid": 3, "choice": (1, 0, 1)}),
    ("af-kan", {"function": "sum_product", "reduce": "linear", "act": "tanh"}),
    ("af-kan", {"function": "product", "reduce": "sum", "order": 1}),
    ("kan-autoencoder", {"layer": "polynomial", "order": 2}),
    ("daruan", {"reps": 1, "preacts": False}),
    ("qkan-linear", {"reps": 2, "base": False}),
    ("mixshift2d", {"shifts": (0, 1), "kernels": (1, 3), "layer_scale": 1.0, "norm": "none", "act": "tanh"}),
    ("karat", {"heads": 2, "grid": 2}),
]
IDS = [f"{name}-{number}" for number, (name, _) in enumerate(VARIANTS)]


def shape_of(name, options):
    return (2, 4, 6) if name == "karat" and options.get("heads", 1) > 1 else SHAPES.get(name, (4,))


def made(name, options=None, dtype=D):
    torch.manual_seed(0)
    return nn.build(name, **{**ENTRIES[name].example, **(options or {}), "dtype": dtype}).eval()


def sample(*shape, dtype=D, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def first(output):
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_first_and_second_derivatives_are_right(name, options):
    module = made(name, options)
    names, values = zip(*module.named_parameters(), strict=True)
    # a handful of parameters with many elements would take minutes, so one direction in each is checked
    directions = [sample(*value.shape, seed=number) for number, value in enumerate(values)]

    def function(x, along):
        moved = {
            key: value.detach() + along[number] * direction
            for number, (key, value, direction) in enumerate(zip(names, values, directions, strict=True))
        }
        return first(torch.func.functional_call(module, moved, (x,)))

    inputs = (
        sample(2, *shape_of(name, options)).requires_grad_(),
        (0.1 * sample(len(names))).requires_grad_(),
    )
    assert gradcheck(function, inputs, fast_mode=True)
    assert gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_rows_do_not_depend_on_one_another_in_evaluation(name, options):
    module, x = made(name, options), sample(4, *shape_of(name, options))
    other = torch.cat([x[:1], 30 * x[1:] + 5])
    whole, changed = first(module(x)), first(module(other))
    torch.testing.assert_close(changed[0], whole[0])
    torch.testing.assert_close(first(module(x[:1]))[0], whole[0])
    assert not torch.allclose(changed[1], whole[1])


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_the_configuration_builds_an_equal_module(name, options):
    module, x = made(name, options), sample(3, *shape_of(name, options))
    twin = nn.build(module.config()).eval()
    twin.load_state_dict(module.state_dict())
    torch.testing.assert_close(first(twin(x)), first(module(x)), atol=0, rtol=0)
    assert twin.config() == module.config()


@pytest.mark.parametrize("name", NAMES)
def test_empty_and_non_contiguous_batches_are_worked_on(name):
    module, shape = made(name), SHAPES.get(name, (4,))
    x = sample(*reversed(shape), 3).permute(*reversed(range(len(shape) + 1)))
    assert not x.is_contiguous()
    expected = first(module(x.contiguous()))
    torch.testing.assert_close(first(module(x)), expected)
    assert first(module(x[:0])).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("name", FLEXIBLE)
def test_leading_dimensions_do_not_matter(name):
    module, shape = made(name), SHAPES.get(name, (4,))
    x = sample(2, 3, *shape)
    flat = first(module(x.flatten(0, 1)))
    torch.testing.assert_close(first(module(x)), flat.unflatten(0, (2, 3)))
    torch.testing.assert_close(first(module(x[0, 0])), flat[0])


@pytest.mark.parametrize("name", NAMES)
def test_low_precision_is_near_single_precision(name):
    module, x = made(name, dtype=torch.float32), sample(8, *SHAPES.get(name, (4,)), dtype=torch.float32)
    exact = first(module(x)).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = first(module(x)).detach().float()
    whole = first(module.bfloat16()(x.bfloat16())).detach()
    assert whole.dtype == torch.bfloat16
    for near in (cast, whole.float()):
        assert float((near - exact).square().mean().sqrt()) <= 0.06 * float(exact.std()) + 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_resetting_draws_other_weights_and_training_moves_all(name):
    module, x = made(name).train(), sample(6, *SHAPES.get(name, (4,)))
    before = {key: value.clone() for key, value in module.named_parameters()}
    module.reset_parameters()
    assert any(not torch.equal(value, before[key]) for key, value in module.named_parameters())
    output = module(x)
    for part in output[1] if isinstance(output, tuple) else (output,):
        (part * sample(*part.shape, seed=3)).sum().backward(retain_graph=True)
    missing = [key for key, value in module.named_parameters() if value.grad is None]
    assert not missing


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("kan-conv2d", (1, 3, 5, 5), r"axis 1 of the input must be in_channels=2, got 3"),
        ("kan-conv2d", (2, 5, 5), r"must be \(batch, channels, height, width\), got \(2, 5, 5\)"),
        ("conv1d", (1, 2, 5, 5), r"must be \(batch, channels, length\)"),
        ("tkan-cell", (2, 4), "input_size=3, got 4"),
        ("tkan-sequence", (2, 0, 3), "time >= 1"),
        ("s-kan", (2, 5), "in_features=4, got 5"),
        ("af-kan", (2, 5), "in_features=4, got 5"),
        ("kan-autoencoder", (2, 5), "in_features=6, got 5"),
        ("daruan", (2, 5), "in_features=4, got 5"),
        ("qkan-linear", (2, 5), "in_features=4, got 5"),
        ("mixshift2d", (1, 4, 3, 3), r"\(\.\.\., in_features=5, height, width\), got \(1, 4, 3, 3\)"),
        ("karat", (2, 7), r"last axis of the scores must be length=6, .* got shape \(2, 7\)"),
    ],
)
def test_an_input_that_does_not_fit_is_named_by_axis_with_both_sizes(name, shape, message):
    with pytest.raises(ValueError, match=message):
        made(name)(sample(*shape))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("kan-conv2d", {"basis": "bsplin"}, "basis must be one of bspline, .* did you mean 'bspline'"),
        ("kan-conv2d", {"groups": 3}, "groups=3 must divide in_channels=2"),
        ("kan-conv2d", {"norm": "group"}, "norm must be one of batch, instance, layer, none"),
        ("kan-conv1d", {"kernel_size": (3, 3)}, "kernel_size must be a whole number of at least 1, or 1 of"),
        ("conv2d", {"padding": "full"}, "padding must be .* 'same' or 'valid', not 'full'"),
        ("kan-conv1d", {"basis": "rbf", "grid": 1}, "needs grid >= 2"),
        ("tkan-cell", {"gate": "tanh"}, "gate must be one of sigmoid, tanh_sigmoid, not 'tanh'"),
        ("tkan-cell", {"sublayers": 0}, "sublayers must be a whole number of at least 1"),
        ("s-kan", {"pool": ("spline", "sine")}, "pool must be one of spline, rbf, .* not 'sine'"),
        ("s-kan", {"stage": "prune"}, "stage must be one of mix, select"),
        ("s-kan-linear", {"choice": (0, 1)}, "choice must be 3 numbers from 0 to 3"),
        ("af-kan", {"function": "quad"}, "function must be one of quad1, .* did you mean 'quad1'"),
        ("af-kan", {"reduce": "max"}, "reduce must be one of attention, linear, sum"),
        ("kan-autoencoder", {"layer": "dense"}, "layer must be one of kan, polynomial"),
        ("kan-autoencoder", {"hidden": ()}, "hidden must name at least one width"),
        ("daruan", {"reps": 0}, "reps must be a whole number of at least 1"),
        ("mixshift2d", {"kernels": (3, 3)}, "kernels must be 5 odd numbers"),
        ("mixshift2d", {"shifts": (0,) * 6}, "1 to in_features=5 chunks, not 6"),
        ("mixshift2d", {"out_features": 6}, "out_features must be in_features=5"),
        ("karat", {"rank": 0}, "rank must be a whole number of at least 1"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_with_the_choices(name, options, message):
    with pytest.raises(ValueError, match=message):
        made(name, options)


@pytest.mark.parametrize("name", ["kan-conv2d", "s-kan", "qkan-linear", "karat"])
def test_huge_and_constant_inputs_give_finite_values_and_gradients(name):
    module, shape = made(name, dtype=torch.float32).train(), SHAPES.get(name, (4,))
    for x in (1e4 * sample(4, *shape, dtype=torch.float32), torch.ones(4, *shape)):
        x.requires_grad_()
        first(module(x)).sum().backward()
        assert torch.isfinite(x.grad).all()
        assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters())


def test_compiled_and_exported_graphs_agree_with_eager_for_any_batch():
    module = made("kan-conv2d", {"in_channels": 1, "out_channels": 2, "grid": 3}, dtype=torch.float32)
    small, large = (2 * sample(rows, 1, 5, 4, dtype=torch.float32) for rows in (3, 5))
    exported = torch.export.export(module, (small,), dynamic_shapes=({0: torch.export.Dim("rows")},)).module()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for x in (small, large):
        torch.testing.assert_close(exported(x), module(x), atol=1e-5, rtol=0)
        torch.testing.assert_close(compiled(x), module(x), atol=1e-5, rtol=0)


def test_an_onnx_graph_agrees_with_eager_for_any_batch():
    runtime = pytest.importorskip("onnxruntime")
    module = made("qkan-linear", dtype=torch.float32)
    program = torch.onnx.export(
        module,
        (sample(3, 4, dtype=torch.float32),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("rows")},),
        verbose=False,
    )
    file = io.BytesIO()
    program.save(file)
    session = runtime.InferenceSession(file.getvalue())
    x = sample(7, 4, dtype=torch.float32)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), module(x).detach(), atol=1e-5, rtol=0)
