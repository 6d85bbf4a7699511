from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
import yaml
from sample_material import COMMAND, ENVIRONMENT, SampleEvaluation, sample, write

from appliedpapers.core.figures import Figure
from appliedpapers.core.verdict import verdict
from appliedpapers.pipelines import report as reports

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._ignored = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._ignored = tag == "style"

    def handle_endtag(self, tag):
        self._ignored = False

    def handle_data(self, data):
        if data.strip() and not self._ignored:
            self.texts.append(" ".join(data.split()))

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def material():
    return sample()


@pytest.fixture(scope="module")
def page(material, tmp_path_factory):
    return write(tmp_path_factory.mktemp("run"), material).read_text(encoding="utf-8")


def test_the_verdict_stands_before_any_table(page, material):
    body = page[page.index("<body>") :]
    assert body.index(verdict(material.results).split(",")[0]) < body.index("<table")


def test_the_sections_come_in_the_agreed_order(page):
    ids = ["results", "figures", "failures", "data", "published", "repeat"]
    places = [page.index(f'<h2 id="{name}">') for name in ids]
    assert places == sorted(places)


def test_nothing_is_fetched_from_outside(page):
    parsed = Page(page)
    assert not parsed.all("script")
    assert not parsed.all("link")
    assert not parsed.all("iframe")
    for attributes in [attributes for _, attributes in parsed.tags]:
        for name in ("src", "href", "srcset", "data", "action"):
            assert str(attributes.get(name, "data:")).startswith("data:")
    styles = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in styles
    assert "@import" not in styles
    assert "default-src 'none'" in page


def test_every_image_says_what_it_shows(page):
    images = Page(page).all("img")
    assert len(images) == 3
    assert all(len(image["alt"]) > 20 for image in images)


def test_the_file_is_smaller_than_three_megabytes(page):
    assert len(page.encode()) < 3_000_000


def test_too_many_large_figures_are_left_beside_the_page(tmp_path, material):
    class Heavy(SampleEvaluation):
        def figures(self, material):
            return [Figure(f"big-{n}", "t", "c", "A finding.", bytes(900_000), "image/png") for n in range(4)]

    path = reports.write_report(
        tmp_path, material, evaluation=Heavy(), environment={}, command="apps run frets"
    )
    assert path.stat().st_size < 3_000_000
    assert "Too large for this page: figures/big-3.png" in path.read_text()
    assert (tmp_path / "figures" / "big-3.png").stat().st_size == 900_000


def test_synthetic_data_are_named_before_the_first_heading_of_a_section(page):
    assert page.index("Synthetic data") < page.index("<h2")


def test_every_model_is_in_the_table_with_its_interval(page, material):
    texts = Page(page).texts
    for name in material.scored:
        assert name in texts
    assert page.count("±") >= 2 * len(material.scored)


def test_published_figures_of_another_protocol_stay_out_of_the_results_table(page):
    table = page[page.index("<table") : page.index("</table>")]
    assert "0.3985" not in table
    assert "0.3985" in page
    assert "cannot be compared" in page


def test_command_configuration_and_environment_are_there(page):
    texts = " ".join(Page(page).texts)
    assert COMMAND in texts
    assert "horizon: 96" in texts
    assert "torch" in texts
    assert "Series 'harbour' misses 36 hours" in texts


def test_hostile_names_are_text(tmp_path):
    hostile = sample(dataset_name=HOSTILE, extra=HOSTILE)
    hostile.results["warnings"].append(HOSTILE)
    path = reports.write_report(
        tmp_path,
        hostile,
        evaluation=SampleEvaluation(),
        environment={HOSTILE: HOSTILE},
        command=HOSTILE,
        findings=[HOSTILE],
        facts=[(HOSTILE, HOSTILE)],
    )
    parsed = Page(path.read_text(encoding="utf-8"))
    assert not parsed.all("script")
    assert not any("onerror" in attributes for _, attributes in parsed.tags)
    assert HOSTILE in " ".join(parsed.texts)


def test_leakage_that_was_allowed_is_said_aloud(tmp_path, material):
    path = reports.write_report(
        tmp_path, material, evaluation=SampleEvaluation(), environment={}, command="x",
        findings=["3 rows in both train and test"],
    )  # fmt: skip
    text = path.read_text()
    assert "too good to be true" in text
    assert "3 rows in both train and test" in text
    assert "nothing crosses splits" not in text


def test_a_worse_model_is_called_worse_at_the_top(tmp_path):
    text = write(tmp_path, sample(ours=0.25)).read_text()
    assert re.search(r'<p class="verdict">Worse than the strongest baseline, ridge-nlinear', text)


def test_the_same_material_gives_the_same_bytes(tmp_path, page, material):
    assert write(tmp_path, material).read_text(encoding="utf-8") == page


def test_the_model_card_has_front_matter_verdict_and_table(tmp_path, material):
    path = reports.write_model_card(tmp_path, material, environment=ENVIRONMENT, command=COMMAND)
    text = path.read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["synthetic_data"] is True
    assert body.index("strongest baseline") < body.index("| model |")
    assert "Apache-2.0" in body
    assert COMMAND in body


def test_the_model_card_shows_hostile_names_as_text(tmp_path):
    hostile = sample(extra="a|b`<b>")
    path = reports.write_model_card(tmp_path, hostile, environment={}, command="x ``` y")
    text = path.read_text(encoding="utf-8")
    assert r"a\|b\`\<b\>" in text
    assert "````sh\nx ``` y\n````" in text
