"""The document that ``make acceptance`` writes: small, and the same to whoever reads it."""

from __future__ import annotations

import json

import pytest

from benchmarks.acceptance import RESULTS, compact


@pytest.mark.parametrize("name", ["virtual-inking", "volatility-images"])
def test_stored_results_are_written_as_the_next_run_writes_them(name):
    text = (RESULTS / f"{name}.json").read_text(encoding="utf-8")
    assert compact(json.loads(text)) + "\n" == text
    assert len(text) < 400_000


def test_what_holds_nothing_nested_stands_on_one_line():
    document = {"a": [], "b": {"c": {}, "d": 1.5}, "rows": [{"x": "ü", "slice": {}}, {"x": None}]}
    text = compact(document)
    assert json.loads(text) == document
    assert text.splitlines()[4:6] == ['  {"x": "ü", "slice": {}},', '  {"x": null}']
    with pytest.raises(ValueError, match="not JSON compliant"):
        compact({"x": float("nan")})
