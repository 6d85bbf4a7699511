"""Names, aliases and specifications of the shared modules."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliedpapers import nn
from appliedpapers.nn.registry import Entry, SpecError, add, find, parse


def test_importing_the_shelf_loads_no_torch():
    code = "import sys, appliedpapers.nn as nn; nn.list_modules(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["kan-linear", "KAN Linear", "kan_linear", "KANLINEAR", " kan - linear "])
def test_names_are_read_without_regard_to_spelling(name):
    assert find(name)[0].name == "kan-linear"


def test_a_text_gives_options_with_their_types():
    entry, options = parse("kan-linear(basis=rbf, grid=8, bias=false, reg=1e-3, domain=(-2, 2))")
    assert entry.name == "kan-linear"
    assert options == {"basis": "rbf", "grid": 8, "bias": False, "reg": 1e-3, "domain": [-2, 2]}


def test_an_alias_stands_for_its_options_and_yields_to_given_ones():
    entry, options = parse("chebykan(grid=3)")
    assert (entry.name, options) == ("kan", {"basis": "chebyshev", "grid": 3})


def test_nested_specifications_stay_whole():
    _, options = parse("mowst(weak=mlp(hidden=[8, 8]), strong=kan(grid=5, hidden=(4,)))")
    assert options == {"weak": "mlp(hidden=[8, 8])", "strong": "kan(grid=5, hidden=(4,))"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("kna", "did you mean .*'kan'"),
        ("zzz", r"nn\.list_modules\(\) lists them"),
        ("kan(gird=3)", "did you mean 'grid'"),
        ("kan(grid=3", "without a closing one"),
        ("kan(grid)", "option=value"),
        ("kan(grid=[3)", "cannot be read|bracket"),
        ("kan(grid=3))", "closing bracket too many"),
        ({"basis": "rbf"}, "needs the key 'name'"),
    ],
)
def test_a_bad_specification_is_refused_in_one_line_with_a_hint(spec, words):
    with pytest.raises(SpecError, match=words) as caught:
        nn.build(spec, in_features=3, out_features=2)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_either_a_module_or_a_clear_error(text):
    with contextlib.suppress(SpecError):
        entry, options = parse(text)
        assert entry in nn.entries()
        assert all(isinstance(name, str) for name in options)


def test_a_missing_option_is_named():
    with pytest.raises(SpecError, match=r"'kan-linear' needs .*out_features"):
        nn.build("kan-linear", in_features=3)


def test_an_instance_passes_through():
    module = nn.build("kan-linear", in_features=3, out_features=2)
    assert nn.build(module) is module


def test_builders_of_a_kind_refuse_the_others_and_list_theirs():
    with pytest.raises(SpecError, match=r"kind network, expected conv: .*kan-conv2d"):
        nn.build_conv("kan", 3, 4)
    with pytest.raises(SpecError, match=r"expected cell: .*tkan"):
        nn.build_cell("mlp", 3, 4)


def test_names_match_shell_patterns_and_kinds():
    assert {"kan", "kan-linear"} <= set(nn.list_modules("kan*"))
    assert "snake" in nn.list_modules(kind="activation")
    assert "kan" not in nn.list_modules(kind="activation")


def test_a_class_of_a_third_party_joins_the_shelf_and_cannot_take_a_name():
    from appliedpapers.nn.module import Module

    @nn.register("doubler", kind="layer", use="In tests.")
    class Doubler(Module):
        def __init__(self, in_features: int, out_features: int) -> None:
            super().__init__()

    built = nn.build("Doubler", in_features=2, out_features=2)
    assert isinstance(built, Doubler)
    assert built.config() == {"name": "doubler", "in_features": 2, "out_features": 2}
    with pytest.raises(SpecError, match="'Doubler' is taken by 'doubler'"):
        add(Entry("other", "layer", Doubler, "", "", "", "", aliases=("Doubler",)))
    from appliedpapers.nn import registry

    registry._ENTRIES.pop("doubler")
    registry._NAMES.pop("doubler")
