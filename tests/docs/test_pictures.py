"""The pictures of the pages: each is there, small, and says in words what it shows."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

import pytest

from appliedpapers.core.plugin import BUILT_IN_DISTRIBUTION, discover
from benchmarks import pictures

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHOWN = re.compile(r"!\[([^\]]*)\]\((images/[^)]+)\)")


def test_every_picture_of_a_page_exists_and_has_an_alternative_text():
    pages = {path: SHOWN.findall(path.read_text(encoding="utf-8")) for path in DOCS.glob("*.md")}
    drawn = {f"{item.id}.md" for item in discover() if BUILT_IN_DISTRIBUTION in item.distributions}
    assert {*drawn, "mowst.md", "results.md"} <= {path.name for path, one in pages.items() if one}
    for path, found in pages.items():
        for alt, file in found:
            assert len(alt) > 10, f"{path.name}: {file}"
            assert (DOCS / file).is_file(), f"{path.name}: {file}"


def test_every_picture_that_is_kept_stands_on_a_page():
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    for page, one in pictures.known_pictures().items():
        assert 0 < (pictures.IMAGES / one["file"]).stat().st_size <= pictures.MOST_BYTES
        assert f"](images/{one['file']})" in text, page


def a_run(folder: Path, data: bytes = b"<svg>1</svg>") -> Path:
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "forecasts.svg").write_bytes(data)
    uri = base64.b64encode(data).decode()
    alt = html.escape('better than "naive"')
    drawn = f'<img src="data:image/svg+xml;base64,{uri}" alt="{alt}">'
    (folder / "report.html").write_text(f'{drawn}\n  <figcaption class="small">Blue.</figcaption>')
    return folder


def test_a_figure_is_kept_with_its_words(tmp_path):
    picture = pictures.Picture("frets", "forecasts")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "frets.png").write_bytes(b"an earlier one")
    said = pictures.keep(picture, a_run(tmp_path / "run"), tmp_path / "images")
    assert said.startswith("frets.svg")
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["frets.svg", "pictures.json"]
    known = pictures.known_pictures(tmp_path / "images")["frets"]
    assert known == {
        "file": "frets.svg",
        "alt": 'better than "naive"',
        "caption": "Blue.",
        "run": "apps run frets --preset quick",
    }


def test_what_is_absent_or_too_large_is_refused_by_name(tmp_path):
    run = a_run(tmp_path / "run", b"x" * (pictures.MOST_BYTES + 1))
    with pytest.raises(LookupError, match="at most 200,000"):
        pictures.keep(pictures.Picture("frets", "forecasts"), run, tmp_path)
    with pytest.raises(LookupError, match="no figure 'spectra'; there are forecasts"):
        pictures.keep(pictures.Picture("frets", "spectra"), run, tmp_path)


@pytest.mark.parametrize("page", sorted(pictures.DRAWN))
def test_pictures_of_results_are_drawn_from_what_is_committed(page, tmp_path):
    assert pictures.draw(page, tmp_path).startswith(f"{page}.svg")
    # the words hold the figures; the drawing itself differs from one release of matplotlib to another
    assert pictures.known_pictures(tmp_path)[page] == pictures.known_pictures()[page]


def test_an_unknown_page_is_refused(capsys):
    assert pictures.main(["--only", "nobody"]) == 2
    assert "no picture is called 'nobody'" in capsys.readouterr().err
