"""Fast feedforward layers: soft training, hard evaluation, and how they agree."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from appliedpapers.nn import fff as module_under_test
from appliedpapers.nn.fff import FastFeedforward


def sample(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def tree(depth=3, **options):
    torch.manual_seed(0)
    return FastFeedforward(5, 2, **{"hidden": 4, "depth": depth, "dtype": torch.float64, **options})


def row_by_row(module, x):
    """Descend and compute each row alone, as the paper writes it."""
    rows = []
    for row in x:
        node = 0
        while node < module.leaves - 1:
            score = row @ module.planes.weight[node] + module.planes.bias[node]
            node = 2 * node + (2 if score >= 0 else 1)
        leaf = node - (module.leaves - 1)
        part = slice(leaf * module.hidden, (leaf + 1) * module.hidden)
        inside = module.weight1[part] @ row + module.bias1[part]
        rows.append(torch.relu(inside) @ module.weight2[part] + module.bias2[leaf])
    return torch.stack(rows)


@pytest.mark.parametrize("rows_per_leaf", [1, 10**6], ids=["by leaf", "reading weights"])
@settings(max_examples=15, deadline=None)
@given(depth=st.integers(1, 5), rows=st.integers(1, 40), seed=st.integers(0, 99))
def test_evaluation_is_the_descent_of_every_row(rows_per_leaf, depth, rows, seed):
    module, x = tree(depth).eval(), sample(rows, 5, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module_under_test, "_ROWS_PER_LEAF", rows_per_leaf)
        torch.testing.assert_close(module(x), row_by_row(module, x))


def test_reading_weights_in_several_parts_changes_nothing(monkeypatch):
    module, x = tree(5).eval(), sample(20, 5)
    whole = module(x)
    monkeypatch.setattr(module_under_test, "_GATHERED", 3 * 4 * 7)
    torch.testing.assert_close(module(x), whole)


@pytest.mark.parametrize("bias", [True, False])
def test_hard_and_soft_agree_when_every_choice_is_certain(bias):
    module, x = tree(bias=bias), sample(50, 5)
    with torch.no_grad():
        module.planes.weight *= 1e6
        module.planes.bias *= 1e6
    torch.testing.assert_close(module.hard(x), module.soft(x))


def test_a_row_on_a_plane_goes_right():
    module = tree(1)
    with torch.no_grad():
        module.planes.weight.zero_()
        module.planes.bias.zero_()
    assert module.leaf(sample(3, 5)).tolist() == [1, 1, 1]


def test_training_mixes_and_evaluation_chooses():
    module, x = tree(), sample(9, 5)
    torch.testing.assert_close(module.train()(x), module.soft(x))
    torch.testing.assert_close(module.eval()(x), module.hard(x))


@pytest.mark.parametrize("path", ["soft", "hard"])
def test_first_and_second_derivatives_are_right(path):
    module = tree(2, act="gelu")
    names = [name for name, _ in module.named_parameters() if path == "soft" or "planes" not in name]

    def run(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

    module.train(path == "soft")
    inputs = (sample(3, 5).requires_grad_(), *(module.get_parameter(name) for name in names))
    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


def test_hardening_loss_is_the_entropy_of_the_choices_and_trains_the_planes():
    module, x = tree(hardening=3.0), sample(7, 4, 5)
    assert module.aux_loss() == 0
    module.train()(x)
    p = torch.sigmoid(module.planes(x))
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    torch.testing.assert_close(module.aux_loss(), 3 * entropy.mean((0, 1)).sum())
    module.aux_loss().backward()
    assert module.planes.weight.grad.abs().sum() > 0
    module.eval()(x)
    assert module.aux_loss() == 0


def test_hardening_loss_stays_finite_for_certain_choices():
    module = tree().float()
    with torch.no_grad():
        module.planes.weight *= 1e6
    module.train()(sample(8, 5).float())
    module.aux_loss().backward()
    assert torch.isfinite(module.planes.weight.grad).all()


def test_a_module_can_be_copied_after_a_training_pass():
    module, x = tree(), sample(3, 5)
    module.train()(x)
    again = copy.deepcopy(module)
    assert again.aux_loss() == 0
    torch.testing.assert_close(again(x), module(x))


def test_both_ways_of_evaluation_give_the_same_type_under_autocast():
    module, x = tree(dtype=torch.float32).eval(), sample(100, 5).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        many, few = module(x), module(x[:2])
    assert many.dtype == few.dtype == torch.bfloat16
    torch.testing.assert_close(many.float(), module(x), atol=0.05, rtol=0.05)


def test_no_rows_and_further_leading_dimensions():
    module, x = tree().eval(), sample(2, 3, 5)
    assert module(x[:0]).shape == (0, 3, 2)
    torch.testing.assert_close(module(x), module(x.flatten(0, 1)).unflatten(0, (2, 3)))
    module.train()(x[:0])
    assert module.aux_loss() == 0


def test_routing_learns_a_checkerboard():
    """Neighbouring cells of 4 x 4 differ; with the planes drawn anew the same leaves must lose by far."""
    torch.manual_seed(0)
    points = torch.rand(1500, 2)
    colour = (4 * points).long().sum(1) % 2
    module = FastFeedforward(2, 2, hidden=8, depth=3, act="gelu", hardening=0.3)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for step in range(300):  # mix, then harden, then train the leaves that rows are sent to
        module.train(step < 200)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(2 * points - 1), colour)
        (loss + module.aux_loss() if step > 100 else loss).backward()
        optimizer.step()
    fresh = torch.rand(2000, 2, generator=torch.Generator().manual_seed(1))
    truth = (4 * fresh).long().sum(1) % 2

    def accuracy():
        return (module.eval()(2 * fresh - 1).argmax(1) == truth).float().mean().item()

    learned = accuracy()
    assert learned > 0.82
    assert module.leaf(2 * fresh - 1).unique().numel() >= 4
    module.planes.reset_parameters()
    assert accuracy() < learned - 0.15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth must be a whole number"),
        ({"hardening": -1.0}, "hardening must not be negative"),
        ({"act": "snake"}, "act must have no weights"),
        ({"hidden": (4, 4)}, "hidden must be one width"),
    ],
)
def test_a_bad_option_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tree(**options)


def test_exported_compiled_and_scripted_evaluation_is_the_same_for_any_number_of_rows():
    module = tree(dtype=torch.float32).eval()
    batch = torch.export.Dim("batch")
    example = torch.randn(4, 5)
    exported = torch.export.export(module, (example,), dynamic_shapes=({0: batch},)).module()
    x = torch.randn(200, 5)
    for portable in (
        exported,
        torch.jit.script(module),
        torch.compile(module, fullgraph=True, backend="aot_eager"),
    ):
        torch.testing.assert_close(portable(x), module(x), atol=1e-5, rtol=1e-5)


def test_onnx_takes_any_number_of_rows(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module = tree(dtype=torch.float32).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(
        module, (torch.randn(4, 5),), dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    program.save(tmp_path / "tree.onnx")
    session = runtime.InferenceSession(tmp_path / "tree.onnx")
    x = torch.randn(50, 5)
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), module(x), atol=1e-5, rtol=1e-5)
