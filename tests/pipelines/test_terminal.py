from __future__ import annotations

import re

import pytest
from rich.text import Text
from sample_material import sample

from appliedpapers.core.verdict import verdict
from appliedpapers.pipelines.results_table import format_number, results_table, worst_slices
from appliedpapers.pipelines.terminal import render_results


@pytest.fixture(scope="module")
def results():
    return sample().results


def test_the_selected_model_leads_and_is_marked(results):
    lines = render_results(results).splitlines()
    assert "mse ↓" in lines[0]
    assert "against ours" in lines[0]
    assert "(synthetic)" in lines[0]
    assert lines[1].startswith(" ● frets (selected)")
    assert sum("●" in line for line in lines) == 1


def test_values_have_intervals_and_baselines_a_difference_with_p(results):
    lines = render_results(results).splitlines()
    assert re.search(r"\d\.\d+ ±0\.\d+", lines[1])
    ridge = next(line for line in lines if "ridge-nlinear" in line)
    assert re.search(r"\+0\.\d+ +p [<\d]", ridge)
    assert "p " not in next(line for line in lines if "oracle" in line).replace("p –", "p ")


def test_others_are_ordered_by_the_primary_metric(results):
    lines = results_table(results).lines
    values = [float(line.numbers[0].text) for line in lines[1:]]
    assert values == sorted(values)


def test_the_last_line_is_the_verdict_in_words(results):
    last = render_results(results).splitlines()[-1]
    assert last.removeprefix(" In words: ").lower() == verdict(results).lower()


def test_markup_adds_nothing_but_style(results):
    marked = render_results(results, markup=True)
    assert Text.from_markup(marked).plain == render_results(results)
    assert "[" not in render_results(results)


def test_a_hostile_name_cannot_drive_the_terminal():
    text = render_results(sample(extra="\x1b[31mred\x07 [bold]x").results)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert Text.from_markup(render_results(sample(extra="[bold]x").results, markup=True)).plain.count(
        "[bold]x"
    )


def test_warnings_are_under_the_table():
    results = sample().results
    results["warnings"].append("leakage: 3 rows in both train and test")
    assert " note: leakage: 3 rows" in render_results(results)


def test_the_worst_slices_come_first_and_are_counted(results):
    slices = worst_slices(results)
    assert slices is not None
    assert slices.total == 10
    assert len(slices.lines) == 8
    assert slices.lines[0].name == "series hospital"
    assert slices.rival == "ridge-nlinear"
    assert 0 <= slices.behind <= 10


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(None, 2, "–"), (1234.5, 1, "1,234.5"), (-0.5, 2, "−0.50"), (3.2e-9, 10, "3.20e-09")],
)
def test_numbers_are_printed_readably(value, decimals, text):
    assert format_number(value, decimals) == text
