"""What every module on the shelf promises, checked on all of them."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from appliedpapers import nn
from appliedpapers.nn.registry import KINDS
from benchmarks.nn_portability import example_inputs

ENTRIES = {entry.name: entry for entry in nn.entries()}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(5)


def example(name: str, **options):
    return nn.build(name, **{**ENTRIES[name].example, **options})


@pytest.mark.parametrize("name", ENTRIES)
def test_the_entry_says_what_it_is(name):
    entry = ENTRIES[name]
    assert entry.kind in KINDS
    for text in (entry.formula, entry.parameters, entry.use, entry.avoid):
        assert text.strip(), name


@pytest.mark.parametrize("name", ENTRIES)
def test_a_configuration_builds_an_equal_module(name):
    module = example(name).eval()
    config = json.loads(json.dumps(module.config()))
    twin = nn.build(config).eval()
    twin.load_state_dict(copy.deepcopy(module.state_dict()))
    inputs = example_inputs(name, module)
    assert config["name"] == name
    for ours, theirs in zip(_flat(module(*inputs)), _flat(twin(*inputs)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ENTRIES)
def test_training_reaches_every_parameter(name):
    module = example(name).train()
    total = sum(out.float().square().sum() for out in _flat(module(*example_inputs(name, module))))
    (total + module.aux_loss()).backward()
    reached = {key for key, parameter in module.named_parameters() if parameter.grad is not None}
    assert reached == {key for key, parameter in module.named_parameters() if parameter.requires_grad}
    assert all(
        torch.isfinite(parameter.grad).all()
        for parameter in module.parameters()
        if parameter.grad is not None
    )


@pytest.mark.parametrize("name", ENTRIES)
def test_rows_do_not_depend_on_their_neighbours(name):
    module = example(name).eval()
    inputs = example_inputs(name, module)
    changed = [_with_other_rows(item) for item in inputs]
    for whole, other in zip(_flat(module(*inputs)), _flat(module(*changed)), strict=True):
        assert torch.allclose(whole[0], other[0], atol=1e-6)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_unknown_option_gets_a_hint(name):
    option = next(iter(ENTRIES[name].example))
    with pytest.raises(nn.SpecError, match=f"no option '{option}x'.*'{option}'"):
        example(name, **{f"{option}x": 1})


@pytest.mark.parametrize(
    "name", [name for name, entry in ENTRIES.items() if entry.kind in ("network", "layer")]
)
def test_a_wrong_last_axis_is_refused_naming_the_axis_and_both_sizes(name):
    module = example(name)
    size = ENTRIES[name].example["in_features"]
    with pytest.raises(ValueError, match=rf"in_features={size}\b.*\b{size + 1}\b"):
        module(torch.zeros(3, size + 1))


@pytest.mark.parametrize(
    "name", [name for name, entry in ENTRIES.items() if entry.kind in ("network", "layer")]
)
def test_leading_axes_and_empty_batches_pass(name):
    module = example(name).eval()
    sizes = ENTRIES[name].example
    out = sizes.get("out_features", sizes["in_features"])
    assert module(torch.zeros(2, 3, sizes["in_features"])).shape[:2] == (2, 3)
    assert module(torch.zeros(0, sizes["in_features"])).shape == (0, out)


def _flat(output) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for item in output for tensor in _flat(item)]


def _with_other_rows(item):
    if not isinstance(item, torch.Tensor) or item.shape[0] < 2:
        return item
    other = item.clone()
    other[1:] = torch.randn_like(other[1:])
    return other
