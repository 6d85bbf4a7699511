"""The page on mixtures shows what was measured, and says what cannot be."""

from __future__ import annotations

import json
import re

from benchmarks.mowst_table import PAGE, RESULTS, blocks, filled


def test_the_measured_tables_are_those_of_the_results_file():
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, blocks(json.loads(RESULTS.read_text(encoding="utf-8")))) == page


def test_the_page_says_that_the_published_figures_cannot_be_tested_here():
    page = PAGE.read_text(encoding="utf-8")
    for name in ("Flickr", "products", "arxiv", "Penn94", "pokec", "twitch-gamer"):
        assert name in page
    assert re.search(r"none of the published figures .* tested", page)


def test_the_code_of_the_page_runs():
    page = PAGE.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(code, "docs/mowst.md", "exec"), names)  # the page's own examples
    assert 0 <= names["routed"].share <= 1
