"""The page at / in a real browser: fill in, drop a file, see the answer and its plot."""

from __future__ import annotations

import csv
import io
import json

import pyarrow as pa
import pytest
from bad_files import arrow, parquet, png
from headless import Page, browser, needs_chromium
from live_server import listening
from served_models import fitted
from test_serve_malformed import Pictures, served

from appliedpapers.core.inference import predict_all
from appliedpapers.core.schema import Column, OutputSchema
from appliedpapers.pipelines.serve import ServedModel, ServeSettings, create_app

pytestmark = needs_chromium


class Shares(Pictures):
    """Says of each picture what it shows, with shares that add up to one."""

    output_schema = OutputSchema(
        (
            Column("type_1", "string", "most probable", categories=("dot", "bar")),
            Column("probability_1", "float64", minimum=0, maximum=1),
            Column("type_2", "string", "next", categories=("dot", "bar")),
            Column("probability_2", "float64", minimum=0, maximum=1),
        ),
        rows="per_row",
    )

    def predict(self, table, *, files=None):
        count = table.num_rows
        return pa.table(
            {
                "type_1": ["dot"] * count,
                "probability_1": [0.75] * count,
                "type_2": ["bar"] * count,
                "probability_2": [0.25] * count,
            }
        )


@pytest.fixture(scope="module")
def page():
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def rows() -> ServedModel:
    return fitted("tiny-rows")


@pytest.fixture(scope="module")
def addresses(rows, tmp_path_factory):
    """Where a model of each kind is served."""
    models = [rows, fitted("tiny-stream"), fitted("tiny-scenes"), served("shares", Shares(None))]
    app = create_app(models, ServeSettings(state_folder=tmp_path_factory.mktemp("jobs")))
    with listening(app) as address:
        yield {model.name.removeprefix("apps."): f"{address}/models/{model.name}" for model in models}


def status(page: Page) -> str:
    return page.wait("/ms$|records|refused/.test(find('status').textContent) && find('status').textContent")


def answered(page: Page) -> list[dict[str, str]]:
    """Return the rows of the answer's table."""
    script = (
        "[...document.querySelectorAll('#answer tr')].map(row =>"
        " [...row.cells].map(cell => cell.firstChild?.textContent ?? ''))"
    )
    head, *body = page.run(script)
    return [dict(zip(head, cells, strict=True)) for cells in body]


def fill(page: Page, name: str, value: str) -> None:
    field = f"document.querySelector('[data-column={name}]')"
    page.run(
        f"{field}.value = {json.dumps(value)}; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))"
    )


def send(page: Page) -> str:
    page.run("find('status').textContent = ''; find('send').click()")
    return status(page)


def nothing_from_outside(page: Page, address: str) -> None:
    origin = address.split("/models/")[0]
    strangers = [url for url in page.requests if not url.startswith((origin, "blob:"))]
    assert strangers == []
    assert page.complaints == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["tiny-rows", "tiny-stream", "tiny-scenes", "shares"])
def test_the_page_fits_its_window_and_can_be_read(page, addresses, name, width, dark):
    page.open(addresses[name], width=width, dark=dark)
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.run("document.querySelector('h1').textContent").startswith(f"apps.{name}")
    assert page.run(
        "[...document.querySelectorAll('input,select,textarea')].every(f => f.labels.length "
        "|| f.getAttribute('aria-label'))"
    )
    assert lowest_contrast(page) >= 4.5
    nothing_from_outside(page, addresses[name])


def lowest_contrast(page: Page) -> float:
    """Return the lowest contrast of text against the page, by the formula of WCAG 2."""
    colours = page.run(
        "[...document.querySelectorAll('h1,p,label,.about,.dim,a,button,th,td,small,pre')]"
        ".filter(e => e.offsetParent && e.textContent.trim()).map(e => { let box = e, back; do {"
        " back = getComputedStyle(box).backgroundColor; box = box.parentElement }"
        " while (box && /, 0\\)$/.test(back)); return [getComputedStyle(e).color, back] })"
    )

    def luminance(colour: str) -> float:
        parts = [float(part) / 255 for part in colour.strip("rgba()").split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(pair: list[str]) -> float:
        low, high = sorted(map(luminance, pair))
        return (high + 0.05) / (low + 0.05)

    return min(map(contrast, colours))


def test_a_filled_in_form_gives_the_models_answer_and_tries_are_plotted(page, addresses, rows):
    page.open(addresses["tiny-rows"])
    status(page)
    example = predict_all(rows.model, rows.example.slice(0, 1)).to_pylist()[0]
    assert answered(page)[0]["plot"] == example["plot"]
    assert float(answered(page)[0]["harvest"]) == pytest.approx(example["harvest"], rel=1e-4)
    assert page.run("document.querySelector('.headline').textContent").endswith("t/ha  predicted harvest")
    fill(page, "heat", "30")
    fill(page, "soil", "sand")
    page.run("document.querySelector('[data-column=heat]').focus(); find('status').textContent = ''")
    page.press("Enter")
    assert status(page).endswith("ms")
    changed = rows.example.slice(0, 1).set_column(1, "heat", pa.array([30.0]))
    changed = changed.set_column(3, "soil", pa.array(["sand"]))
    expected = predict_all(rows.model, changed).to_pylist()[0]["harvest"]
    assert float(answered(page)[0]["harvest"]) == pytest.approx(expected, rel=1e-4)
    assert page.run("document.querySelectorAll('#answer svg circle').length") == 2
    assert '"heat":30,' in page.run("find('curl').textContent")
    nothing_from_outside(page, addresses["tiny-rows"])


def test_what_is_wrong_is_said_beside_its_field(page, addresses):
    page.open(addresses["tiny-rows"])
    status(page)
    fill(page, "heat", "99")
    assert send(page) == "refused (422)"
    assert "above 50" in page.run("document.querySelector('[data-column=heat]').closest('.field').innerText")
    assert page.run("document.querySelector('[data-column=heat]').getAttribute('aria-invalid')") == "true"
    page.run("find('reset').click()")
    assert send(page).endswith("ms")
    assert page.run("document.querySelectorAll('[aria-invalid]').length") == 0


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow", "json"])
def test_a_file_of_rows_is_sent_as_what_it_is(page, addresses, rows, kind, tmp_path):
    table = pa.concat_tables([rows.example] * 4)
    text = io.StringIO()
    table.to_pandas().to_csv(text, index=False)
    content = {
        "csv": text.getvalue().encode(),
        "parquet": parquet(table),
        "arrow": arrow(table),
        "json": json.dumps({"instances": table.to_pylist()}).encode(),
    }[kind]
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(content)
    page.open(addresses["tiny-rows"])
    status(page)
    page.choose("#file", path)
    page.wait("!find('chosen').hidden")
    assert send(page).endswith("ms")
    expected = predict_all(rows.model, table).to_pylist()
    found = answered(page)
    assert [row["plot"] for row in found] == [row["plot"] for row in expected]
    assert float(found[5]["harvest"]) == pytest.approx(expected[5]["harvest"], rel=1e-4)
    assert page.run("document.querySelectorAll('#answer svg circle').length") == table.num_rows
    assert f"--data-binary @rows.{kind}" in page.run("find('curl').textContent")


def test_a_series_is_drawn_and_streamed_row_by_row_to_the_same_answer(page, addresses):
    page.open(addresses["tiny-stream"])
    status(page)
    at_once = answered(page)
    assert page.run("document.querySelectorAll('#answer svg polyline').length") == 1
    page.run("find('answer').replaceChildren(); find('status').textContent = ''; find('stream').click()")
    page.wait("find('stream').textContent === 'Stream row by row' && find('status').textContent")
    assert page.run("find('status').textContent") == f"{len(at_once)} records"
    assert answered(page) == at_once
    assert page.run("document.querySelectorAll('#answer svg polyline').length") == 1
    nothing_from_outside(page, addresses["tiny-stream"])


def test_a_stream_that_is_refused_says_why(page, addresses):
    page.open(addresses["tiny-stream"])
    status(page)
    lines = list(csv.reader(io.StringIO(page.run("find('csv').value"))))
    lines[3][2] = "warm"
    text = "\n".join(",".join(cells) for cells in lines)
    page.run(f"find('csv').value = {json.dumps(text)}; find('stream').click()")
    page.wait("document.querySelector('.problem') !== null")
    assert "warm" in page.run("document.querySelector('.problem').textContent")
    page.wait("/refused after 2 records/.test(find('status').textContent)")


def test_a_job_is_waited_for_and_its_files_can_be_fetched(page, addresses):
    page.open(addresses["tiny-scenes"])
    assert send(page).endswith("ms")
    link = page.run("document.querySelector('#answer a').href")
    assert "/v2/jobs/" in link
    assert page.run(f"fetch({json.dumps(link)}).then(r => r.json()).then(grid => grid.length)") > 1
    nothing_from_outside(page, addresses["tiny-scenes"])


def test_pictures_are_shown_before_they_are_sent_and_shares_are_drawn(page, addresses, tmp_path):
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for path in paths:
        path.write_bytes(png(4, 4, 4))
    page.open(addresses["shares"])
    page.choose("[data-kind=file]", paths[0])
    page.wait("document.querySelector('.preview img')?.naturalWidth === 4")
    assert send(page).endswith("ms")
    assert page.run("document.querySelector('.headline').textContent").startswith("dot")
    label = page.run("document.querySelector('#answer svg').getAttribute('aria-label')")
    assert label == "share: dot 75.0 %, bar 25.0 %"
    page.choose("[data-kind=file]", *paths)
    page.wait("document.querySelectorAll('.preview img').length === 2")
    assert send(page).endswith("ms")
    assert len(answered(page)) == 2
    assert (
        page.run("document.querySelector('#answer svg').getAttribute('aria-label')") == "type_1, rows: dot 2"
    )
    nothing_from_outside(page, addresses["shares"])


def test_the_page_can_be_used_by_keyboard_alone(page, addresses):
    page.open(addresses["tiny-rows"])
    status(page)
    seen = []
    for _ in range(20):
        page.press("Tab")
        seen.append(page.run("document.activeElement.id || document.activeElement.tagName"))
    assert {"send", "reset", "file", "copy"} <= set(seen)
    assert sum(name.startswith("field-") for name in seen) == 5
