from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliedpapers.core import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.RunError, 1),
        (errors.BundleError, 1),
        (errors.ConfigError, 2),
        (errors.PluginError, 3),
        (errors.DataError, 4),
        (errors.GateError, 5),
        (errors.LockedError, 75),
    ],
)
def test_each_error_has_the_exit_code_of_the_command_line(kind, code):
    assert kind("what").exit_code == code
    assert isinstance(kind("what"), errors.AppsError)


def test_render_puts_the_hint_below_the_message():
    assert errors.DataError("a.csv, row 3: bad.", hint="Mend it.").render() == (
        "data error: a.csv, row 3: bad.\n  Mend it."
    )
    assert errors.RunError("it failed.").render() == "run error: it failed."


def test_did_you_mean_names_the_closest_or_lists_all():
    assert errors.did_you_mean("horizn", ["lookback", "horizon"]) == "Did you mean 'horizon'?"
    assert errors.did_you_mean("zzz", ["b", "a"]) == "Choose one of: a, b."
    assert errors.did_you_mean("x", []) == "There is nothing to choose from."


@given(st.text(), st.lists(st.text(min_size=1)))
def test_did_you_mean_always_says_something(word, choices):
    assert errors.did_you_mean(word, choices)
