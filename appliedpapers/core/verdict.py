"""What a results document says in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIGNIFICANT = 0.05

Row = dict[str, Any]


def headline(document: Mapping[str, Any]) -> list[Row]:
    """Return the rows of the whole test set over all seeds, published figures included."""
    return [row for row in document["rows"] if not row["slice"] and row["seed"] is None]


def selected_rows(document: Mapping[str, Any]) -> list[Row]:
    """Return those of the headline that speak of the selected model; the first is of the primary metric."""
    return [row for row in headline(document) if row["selected"]]


def selected_model(document: Mapping[str, Any]) -> str:
    """Return the name of the selected model."""
    return str(next(row["model"] for row in document["rows"] if row["selected"]))


def primary_metric(document: Mapping[str, Any]) -> str:
    """Return the metric that is compared: the first of the selected model."""
    return str(next(row["metric"] for row in document["rows"] if row["selected"]))


def strongest_baseline(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the test against the best comparable model by its test value, or None without one."""
    rows = {row["model"]: row for row in headline(document) if row["metric"] == primary_metric(document)}
    tested = [test for test in document["tests"] if rows[test["b"]]["value"] is not None]
    if not tested:
        return None
    sign = -1 if rows[selected_model(document)]["higher_is_better"] else 1
    return dict(min(tested, key=lambda test: sign * rows[test["b"]]["value"]))


def verdict(document: Mapping[str, Any]) -> str:
    """Return the sentence that a reader in a hurry needs: better, not distinguishable, or worse."""
    name = primary_metric(document)
    ours = next(row for row in headline(document) if row["selected"] and row["metric"] == name)
    if ours["value"] is None:
        return f"No verdict: {name} is not defined on this test set."
    test = strongest_baseline(document)
    if test is None:
        return "No verdict: there is no baseline to compare with."
    theirs = next(
        row
        for row in headline(document)
        if row["model"] == test["b"] and row["metric"] == name and row["kind"] != "published"
    )
    rival = "the strongest baseline" if theirs["kind"] == "baseline" else "the strongest of the others"
    rival = f"{rival}, {test['b']}"
    gain = -test["difference"] if ours["higher_is_better"] else test["difference"]
    amount = _amount(ours, theirs)
    if test["p"] is None:
        direction = "better" if gain > 0 else "worse"
        return f"Not tested: {amount} {direction} than {rival}, but there are too few test units for a test."
    p = format_p(test["p"])
    if test["p"] >= SIGNIFICANT:
        if gain == 0:
            return f"Not distinguishable from {rival}: the same {name}."
        direction = "better" if gain > 0 else "worse"
        return (
            f"Not distinguishable from {rival}: {amount} {direction}, "
            f"a difference that chance could explain ({p})."
        )
    word = "Better" if gain > 0 else "Worse"
    return f"{word} than {rival}, by {amount}, and the difference is unlikely to be chance ({p})."


def format_p(p: float | None) -> str:
    """Return a p value as people write it: ``p 0.03``, ``p <0.001``, ``p –`` when there is none."""
    if p is None:
        return "p –"
    return "p <0.001" if p < 0.001 else f"p {p:.3f}" if p < 0.01 else f"p {p:.2f}"


def _amount(ours: Row, theirs: Row) -> str:
    difference = abs(theirs["value"] - ours["value"])
    if not ours["higher_is_better"] and theirs["value"] > 0:
        share = 100 * difference / theirs["value"]
        return f"{share:.0f} %" if share >= 9.5 else f"{share:.1f} %" if share >= 0.095 else f"{share:.2g} %"
    unit = f" {ours['unit']}" if ours["unit"] else ""
    return f"{difference:.2g}{unit} {ours['metric']}"
