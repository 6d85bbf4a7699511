"""``apps data describe``: roles of columns for a person to check and edit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliedpapers.core.config import read_yaml
from appliedpapers.core.features.fields import FieldSpec


@pytest.fixture
def clicks(workspace):
    lines = [f"{n % 2},u{n % 7},{n / 8},a|b" for n in range(100)]
    Path("my clicks.csv").write_text("click,user,price,tags\n" + "\n".join(lines) + "\n")
    return "my clicks.csv"


def test_describe_shows_roles_with_reasons_and_the_next_command(apps, clicks):
    outcome = apps("data", "describe", "--data", clicks)
    assert outcome.code == 0
    assert outcome.err == ""
    rows = {line.split()[0]: line for line in outcome.out.splitlines() if line.strip()}
    assert "label" in rows["click"]
    assert "categorical" in rows["user"]
    assert "numeric" in rows["price"]
    assert "one value throughout" in rows["tags"]
    assert "'tags' has one value" in rows["look"]
    assert "apps run finalmlp --data 'my clicks.csv' --config fields.yaml" in outcome.out


def test_describe_writes_roles_that_read_back_and_never_writes_over_a_file(apps, clicks):
    assert apps("data", "describe", "--data", clicks, "--write", "f.yaml").code == 0
    fields = read_yaml(Path("f.yaml"))["data"]["fields"]
    assert {name: FieldSpec(**options).role for name, options in fields.items()} == {
        "click": "label",
        "user": "categorical",
        "price": "numeric",
        "tags": "ignore",
    }
    Path("f.yaml").write_text("mine")
    outcome = apps("data", "describe", "--data", clicks, "--write", "f.yaml")
    assert (outcome.code, outcome.first) == (2, "config error: f.yaml: exists already.")
    assert Path("f.yaml").read_text() == "mine"


def test_describe_as_json(apps, clicks):
    document = json.loads(apps("data", "describe", "--data", clicks, "--json").out)
    assert document["rows"] == document["sampled"] == 100
    user = document["columns"][1]
    assert user == {
        "column": "user",
        "type": "string",
        "distinct": 7,
        "missing": 0.0,
        "example": "u0",
        "field": {"role": "categorical"},
        "why": "text, 7 values",
    }


def test_describe_asks_for_the_label_where_no_name_gives_it_away(apps, workspace):
    Path("x.csv").write_text("a,b,c\n0,1,x\n1,0,y\n")
    outcome = apps("data", "describe", "--data", "x.csv")
    assert outcome.code == 2
    assert "0/1 columns: a, b." in outcome.err
    assert "--label b --write" in apps("data", "describe", "--data", "x.csv", "--label", "b").out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "no data given"),
        (("--data", "absent.csv"), 4, "no such file"),
        (("tiny-rowz", "--data", "x.csv"), 3, "tiny-rowz"),
    ],
)
def test_describe_refuses_in_one_line(apps, workspace, words, code, said):
    outcome = apps("data", "describe", *words)
    assert outcome.code == code
    assert said in outcome.first
    assert outcome.out == ""


def test_describe_names_the_plugin_it_was_given(apps, clicks):
    assert "apps run tiny-rows --data" in apps("data", "describe", "tiny-rows", "--data", clicks).out
