from __future__ import annotations

from typing import Any, ClassVar, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from appliedpapers.core import config as configs
from appliedpapers.core.errors import ConfigError


class Adam(configs.Section):
    name: Literal["adam"] = "adam"
    rate: float = Field(1e-3, gt=0, description="step size")


class Descent(configs.Section):
    name: Literal["descent"] = "descent"
    rate: float = 0.1
    momentum: float = 0.9


class Network(configs.Section):
    depth: int = Field(2, ge=1, le=9, description="how many layers")
    width: int = 16
    slope: float = 0.5
    head: str = "mlp"


class Stated(configs.TaskConfig):
    network: Network = Network(depth=6, head="kan")
    optimiser: Adam | Descent = Field(Adam(rate=0.5), discriminator="name")


class Empty(configs.Section):
    pass


class Example(configs.TaskConfig):
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"network": {"depth": 1}},
        "default": {},
        "published": {"network": {"depth": 5}},
    }
    network: Network = Network()
    optimiser: Adam | Descent = Field(Adam(), discriminator="name")
    extra: Network | None = None
    nothing: Empty = Empty()
    tags: tuple[str, ...] = ()
    freq: str = Field("h", json_schema_extra={"flag": "--freq"}, description="calendar\nof the data")
    fast: bool = Field(False, json_schema_extra={"flag": "--fast"})


def resolve(*assignments: str, **options: Any) -> Example:
    return configs.resolve(Example, assignments=assignments, **options)


def test_precedence_is_default_preset_file_assignment(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("network: {depth: 7, width: 32}\n")
    assert resolve().network == Network()
    assert resolve(preset="published").network.depth == 5
    assert resolve(preset="published", file=path).network.depth == 7
    config = resolve("network.depth=8", "network.depth=9", preset="published", file=path)
    assert (config.network.depth, config.network.width) == (9, 32)


def test_one_option_of_a_section_leaves_what_its_default_states():
    found = configs.resolve(Stated, assignments=["network.width=8"])
    assert found.network == Network(depth=6, head="kan", width=8)
    assert configs.resolve(Stated, assignments=["network.depth=3"]).network.head == "kan"
    assert configs.resolve(Stated, assignments=["optimiser.name=descent"]).optimiser == Descent()


def test_a_date_stays_the_text_that_was_written(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("freq: 2002-01-01\n")
    assert resolve(file=path).freq == "2002-01-01"
    assert resolve("freq=1990-01-01T00:00").freq == "1990-01-01T00:00"
    assert resolve("freq=%d.%m.%Y %H:%M").freq == "%d.%m.%Y %H:%M"


def test_resolving_does_not_change_the_preset():
    resolve("network.width=4", preset="quick")
    assert Example.presets["quick"] == {"network": {"depth": 1}}


def test_configurations_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        resolve().network.depth = 3


@pytest.mark.parametrize(
    ("assignment", "message", "hint"),
    [
        ("network.dept=3", "unknown option 'network.dept'", "'network.depth'"),
        ("netwrk.depth=3", "unknown option 'netwrk'", "'network'"),
        ("extra.widht=3", "unknown option 'extra.widht'", "'extra.width'"),
        ("depth=3", "unknown option 'depth'", "'network.depth'"),
        ("network=3", "option 'network': it is a section of options, not 3", "network.depth"),
        (
            "optimiser={name: descent, momentun: 1}",
            "unknown option 'optimiser.descent.momentun'",
            "'optimiser.momentum'",
        ),
        (
            "network.depth=0",
            "option 'network.depth': input should be greater than or equal to 1, not 0",
            "apps",
        ),
        ("network.depth=deep", "option 'network.depth': expected a whole number, not 'deep'", "config show"),
        ("optimiser.name=sgd", "option 'optimiser'", "apps config show"),
        ("seed=-1", "option 'seed'", "apps config show"),
    ],
)
def test_a_wrong_option_is_named_with_a_remedy(assignment, message, hint):
    with pytest.raises(ConfigError) as caught:
        resolve(assignment)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


def test_the_number_of_further_problems_is_said():
    with pytest.raises(ConfigError, match=r"\(1 more\)"):
        resolve("network.depth=0", "network.width=x")


def test_an_unknown_preset_gets_a_suggestion():
    with pytest.raises(ConfigError, match="unknown preset 'quik'") as caught:
        resolve(preset="quik")
    assert caught.value.hint == "Did you mean 'quick'?"


@pytest.mark.parametrize("text", ["network.depth", "=3", ".depth=3", "network..depth=3", "a.=1"])
def test_what_is_not_an_assignment_is_refused(text):
    with pytest.raises(ConfigError, match="not an assignment"):
        resolve(text)


@pytest.mark.parametrize(
    ("raw", "value"),
    [("1e-4", 1e-4), ("0.5", 0.5), ("2E3", 2000.0)],
)
def test_numbers_are_read_as_people_write_them(raw, value):
    assert resolve(f"network.slope={raw}").network.slope == value


@pytest.mark.parametrize("raw", ["'1e4'", '"1e4"', '"7"'])
def test_a_quoted_value_stays_text(raw):
    assert resolve(f"network.head={raw}").network.head == raw.strip("'\"")


def test_lists_and_specs_are_read_as_yaml():
    assert resolve("tags=[a, b]").tags == ("a", "b")
    assert resolve("network.head=kan(basis=rbf, grid=8)").network.head == "kan(basis=rbf, grid=8)"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"- 1\n", "a list at the top"),
        (b"a: [1\n", "line 2"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"!!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_not_a_mapping_is_refused_where_it_breaks(tmp_path, content, words):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        resolve(file=path)
    assert "c.yaml" in caught.value.message


def test_an_absent_file_is_named_and_an_empty_one_changes_nothing(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        resolve(file=tmp_path / "absent.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert resolve(file=tmp_path / "empty.yaml") == Example()


def test_commented_yaml_says_what_options_mean_and_reads_back():
    config = resolve("network.depth=4", "tags=[x]")
    text = configs.commented_yaml(config)
    assert "  depth: 4  # how many layers" in text.splitlines()
    assert "freq: h  # calendar of the data" in text.splitlines()
    assert configs.validate(Example, yaml.safe_load(text)) == config


class Flagged(configs.TaskConfig):
    network: Network = Field(Network(), json_schema_extra={"flag": "--network"})


def test_a_section_may_have_a_flag_that_takes_a_mapping():
    assert configs.flags(Flagged) == {"--network": ("network", False)}
    found = configs.resolve(Flagged, assignments=["network={depth: 3, width: 16}"]).network
    assert (found.depth, found.width) == (3, 16)


def test_flags_are_found_with_their_path():
    assert configs.flags(Example) == {"--freq": ("freq", False), "--fast": ("fast", True)}


def test_replace_keeps_the_neighbours_and_validates():
    config = resolve("network.width=8").replace(network={"depth": 3}, seed=1)
    assert (config.network.depth, config.network.width, config.seed) == (3, 8, 1)
    with pytest.raises(ValidationError):
        config.replace(network={"depth": 0})


TREES = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.text(max_size=2), TREES, max_size=3)


@given(MAPPINGS, MAPPINGS, MAPPINGS)
def test_merging_is_associative_and_leaves_its_inputs_alone(a, b, c):
    before = repr((a, b))
    assert configs.merge(configs.merge(a, b), b) == configs.merge(a, b)
    assert configs.merge(a, {}) == a
    assert repr((a, b)) == before
    for key, value in c.items():
        if not isinstance(value, dict):
            assert configs.merge(a, c)[key] == value


@given(st.integers(1, 9), st.integers(), st.text(st.characters(exclude_categories=["C"]), max_size=8))
def test_any_configuration_survives_yaml(depth, width, freq):
    config = Example(network=Network(depth=depth, width=width), freq=freq)
    assert configs.validate(Example, yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))) == config
    assert configs.validate(Example, yaml.safe_load(configs.commented_yaml(config))) == config


def test_published_means_the_setting_of_the_dataset():
    class Chosen(configs.TaskConfig):
        presets: ClassVar = {"quick": {}, "default": {}, "published": {"seed": 1}, "special": {"seed": 2}}
        dataset_presets: ClassVar = {"one": "special"}

    assert configs.resolve(Chosen, preset="published").seed == 1
    assert configs.resolve(Chosen, preset="published", dataset="one").seed == 2
    assert configs.resolve(Chosen, preset="published", dataset="other").seed == 1
    assert configs.resolve(Chosen, preset="default", dataset="one").seed == configs.TaskConfig().seed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[14:30, 21:00]", ["14:30", "21:00"]),
        ("14", 14),
        ("1.5", 1.5),
        ("-2", -2),
        (".5", 0.5),
        ("1:30.5", "1:30.5"),
    ],
)
def test_a_time_of_day_is_no_number(text, value):
    assert configs.parse_assignment(f"a={text}") == {"a": value}


def test_an_assignment_of_nothing_empties_a_mapping():
    base = {"candidates": {"wide": {"a": 1}}, "model": {"b": 2}}
    assert configs.merge(base, {"candidates": {}}) == base
    assert configs.merge(base, {"candidates": {}}, empties=True) == {"candidates": {}, "model": {"b": 2}}
