"""Lists for spreadsheets: nothing runs, nothing is rewritten, every name comes back."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliedpapers.plugins.varifocal_net.chromosomes import TYPES
from appliedpapers.plugins.varifocal_net.corrections import (
    CASE_COLUMNS,
    COLUMNS,
    ENCODING,
    Correction,
    corrections,
    plain,
    protected,
    write_cases,
    write_corrections,
)
from appliedpapers.plugins.varifocal_net.karyogram import Cell, Placed
from appliedpapers.plugins.varifocal_net.karyogram_page import karyogram_page

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
TRICKY = st.text("=+-@'\"; \t\r\n,1a.e/", max_size=8)


def line(name="a", **known):
    fields = {"case": "c", "image": None, "type": "1", "probability": 0.5, "needs_review": False}
    return Correction(chromosome=name, **{**fields, **known})


def placed(name="a", kind="1", **known):
    image = np.full((9, 5), 90, dtype=np.uint8)
    return Placed(name, image, kind, 0.9, ((kind, 0.9), ("2", 0.1)), **known)


def read(path):
    with path.open(encoding=ENCODING, newline="") as file:
        return list(csv.DictReader(file))


@given(NAMES | TRICKY)
@example("'=1")
@example("''106.10")
@example("a;=1")
def test_every_name_comes_back(name):
    assert plain(protected(name)) == name


@given(NAMES | TRICKY)
def test_no_name_begins_like_a_formula(name):
    assert not re.match(r"\s*[=+\-@＝＋－＠]", protected(name))
    assert not re.search(r"[;\t\r\n][^\S\t\r\n]*[=+\-@＝＋－＠]", protected(name))


@pytest.mark.parametrize("name", ["106.10", "1e5", "007", "3-4", "2019/06/01", " 12 ", "mar1", "Dec-2"])
def test_what_a_spreadsheet_would_rewrite_is_kept_as_text(name):
    assert protected(name) == f"'{name}"


@pytest.mark.parametrize("name", ["a", "3a.png", "X", "", "it's", "marker", "97.tiff", "a=b", "a-b"])
def test_ordinary_names_stay_as_they_are(name):
    assert protected(name) == name


def test_a_name_of_many_digits_is_judged_at_once():
    assert protected("1" * 100_000 + "x") == "1" * 100_000 + "x"


@given(st.lists(NAMES | TRICKY, min_size=1, max_size=5))
def test_a_file_gives_its_names_back(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("lists") / "corrections.csv"

    write_corrections(path, [line(name, case=name) for name in names])

    assert [plain(row["chromosome"]) for row in read(path)] == names
    assert [plain(row["case"]) for row in read(path)] == names


@pytest.mark.parametrize(
    "image", ["=a.png", "-b.png", "@c.png", "1/2", "images/a.png", "/images/a.png", "../a.png", "12.5"]
)
def test_a_path_is_the_same_file_and_no_formula(tmp_path, image):
    write_corrections(tmp_path / "c.csv", [line(image=image)])

    written = read(tmp_path / "c.csv")[0]["image"]
    assert PurePosixPath(written) == PurePosixPath(image)
    assert written[0] not in "=+-@"


def test_a_line_holds_what_was_found_and_leaves_the_type_to_a_person(tmp_path):
    write_corrections(
        tmp_path / "c.csv",
        [
            line("a", image="i/a.png", type="21", probability=0.51234, needs_review=True),
            line("b", fixed_type="X"),
        ],
    )

    first, second = read(tmp_path / "c.csv")
    assert tuple(first) == COLUMNS
    assert first == {
        "case": "c",
        "chromosome": "a",
        "image": "i/a.png",
        "type": "21",
        "probability": "0.5123",
        "needs_review": "true",
        "fixed_type": "",
    }
    assert second["fixed_type"] == "X"


def test_a_type_that_was_settled_before_is_carried_on():
    cell = Cell("c", [placed("a", "13", fixed=True), placed("b", "13")], "46,XX", "assignment")

    assert [one.fixed_type for one in corrections(cell)] == ["13", None]


def test_lists_show_names_of_every_alphabet_in_a_spreadsheet(tmp_path):
    write_corrections(tmp_path / "c.csv", [line("Müller")])

    assert (tmp_path / "c.csv").read_bytes().startswith(b"\xef\xbb\xbf")


def test_the_page_saves_the_lines_that_the_file_has(tmp_path):
    ones = [placed("=1+1", "21", path="=x.png"), placed('a"b\nc', "22", needs_review=True), placed("d", "X")]
    cell = Cell("106.10", ones, "46,XX", "assignment")

    class Lines(HTMLParser):
        found: tuple[str, ...] = ()
        head = ""

        def handle_starttag(self, tag, attrs):
            known = dict(attrs)
            if tag == "select":
                self.found += (known["data-line"] or "",)
            self.head = known.get("data-head") or self.head

    lines = Lines()
    lines.feed(karyogram_page(cell))
    write_corrections(tmp_path / "c.csv", corrections(cell))

    saved = list(csv.DictReader(io.StringIO("\r\n".join([lines.head, *(f"{one}," for one in lines.found)]))))
    assert sorted(map(str, saved)) == sorted(map(str, read(tmp_path / "c.csv")))


def test_cases_are_told_with_counts_and_warnings(tmp_path):
    ones = [placed("a", "21"), placed("b", "21", moved=True), placed("c", "X", needs_review=True)]
    cells = [
        Cell("106.10", ones, "47,XX,+21?", "assignment", sex="XX", flagged=True, warnings=("one", "two")),
        Cell(None, ones[:1], "", "none"),
    ]

    write_cases(tmp_path / "cases.csv", cells)

    first, second = read(tmp_path / "cases.csv")
    assert tuple(first) == CASE_COLUMNS
    assert plain(first["case"]) == "106.10"
    assert (first["chromosomes"], first["karyotype"], first["sex"]) == ("3", "47,XX,+21?", "XX")
    assert (first["flagged"], first["needs_review"], first["moved"]) == ("true", "1", "1")
    assert (first["count_21"], first["count_X"], first["count_Y"]) == ("2", "1", "0")
    assert sum(int(first[f"count_{name}"]) for name in TYPES) == 3
    assert first["warnings"] == "one; two"
    assert (second["case"], second["flagged"], second["sex"]) == ("", "false", "")
