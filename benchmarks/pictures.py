"""The pictures of the plugins' pages: one figure of a short run on embedded data each, made by one command.

    python -m benchmarks.pictures                  every picture
    python -m benchmarks.pictures --only frets     one
    python -m benchmarks.pictures --list           what is run for each

Each goes to ``docs/images/PAGE.svg``, or ``.png`` where a figure holds many points. What it shows, for who
cannot see it, and the command stand in ``docs/images/pictures.json``; ``benchmarks.docs`` puts both into the
page. Figures stand on a light card, so that they look the same on light and dark pages.
"""

from __future__ import annotations

import argparse
import base64
import html
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliedpapers.core.files import whole_file, write_json

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
INDEX = IMAGES / "pictures.json"
MOST_BYTES = 200_000
_COMMAND = "python -m benchmarks.pictures"
_DRAWN = re.compile(
    r'<img src="data:[\w/+]+;base64,([^"]+)" alt="([^"]*)">\s*<figcaption[^>]*>(.*?)</figcaption>', re.DOTALL
)


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        page: The page's name, ``docs/PAGE.md``.
        figure: Name of the figure in the run's report.
        options: What follows ``apps run PLUGIN``.
    """

    page: str
    figure: str
    options: tuple[str, ...] = ("--preset", "quick")

    @property
    def command(self) -> str:
        """The command line whose report holds the figure."""
        return shlex.join(["apps", "run", self.page, *self.options])


PICTURES: tuple[Picture, ...] = (
    Picture("frets", "forecasts"),
    Picture("pansharpening", "scene"),
    Picture("finalmlp", "calibration"),
    Picture("virtual-inking", "slides"),
    Picture("varifocal-net", "confusions"),
    Picture("imu-attitude", "error-over-time"),
    Picture("agrosense", "attributions", ("--task", "crop", "--preset", "quick")),
    Picture("laser-cvae", "fans"),
    Picture("volatility-images", "images"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the pictures that are asked for and return the exit code."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="PAGE", help="may be repeated")
    parser.add_argument("--list", action="store_true", help="print the commands and do nothing")
    options = parser.parse_args(arguments)
    pages = [*(one.page for one in PICTURES), *DRAWN]
    unknown = sorted(set(options.only) - set(pages))
    if unknown:
        known = ", ".join(pages)
        print(f"no picture is called '{unknown[0]}'; there are {known}", file=sys.stderr)
        return 2
    for one in PICTURES:
        if options.only and one.page not in options.only:
            continue
        if options.list:
            print(f"{one.page:<20} {one.figure:<16} {one.command}")
            continue
        with tempfile.TemporaryDirectory(prefix="apps-picture-") as scratch:
            words = [sys.executable, "-m", "appliedpapers", *shlex.split(one.command)[1:]]
            subprocess.run(
                [*words, "--no-register", "--quiet"], cwd=scratch, check=True, stdout=subprocess.DEVNULL
            )
            (run,) = (Path(scratch) / "runs").iterdir()
            print(f"{one.page:<20} {keep(one, run)}", flush=True)
    for page in DRAWN:
        if not options.list and (not options.only or page in options.only):
            print(f"{page:<20} {draw(page)}", flush=True)
    return 0


DRAWN = {"mowst": "routing", "results": "matrix"}
"""Pictures of pages that are drawn from committed results: names in :mod:`benchmarks.pictures_of_results`."""


def keep(picture: Picture, run: Path, images: Path = IMAGES) -> str:
    """Copy a figure of a run, and write what it shows beside it; return what came of it.

    Raises:
        LookupError: The report has no such figure, or it is too large to be committed.
    """
    found = [path for path in (run / "figures").iterdir() if path.stem == picture.figure]
    if not found:
        known = ", ".join(sorted(path.stem for path in (run / "figures").iterdir()))
        raise LookupError(f"{picture.page}: no figure '{picture.figure}'; there are {known}")
    data = found[0].read_bytes()
    if len(data) > MOST_BYTES:
        raise LookupError(f"{picture.page}: {len(data):,} bytes; at most {MOST_BYTES:,} are committed")
    alt, caption = next(
        (html.unescape(text), html.unescape(below).strip())
        for drawn, text, below in _DRAWN.findall((run / "report.html").read_text(encoding="utf-8"))
        if base64.b64decode(drawn) == data
    )
    return _keep(
        picture.page, found[0].suffix, data, {"alt": alt, "caption": caption, "run": picture.command}, images
    )


def draw(page: str, images: Path = IMAGES) -> str:
    """Draw a picture from committed results; return what came of it."""
    from benchmarks import pictures_of_results

    figure = getattr(pictures_of_results, DRAWN[page])()
    suffix = Path(figure.file_name).suffix
    return _keep(page, suffix, figure.data, {"alt": figure.alt, "caption": figure.caption, "run": ""}, images)


def _keep(page: str, suffix: str, data: bytes, about: Mapping[str, str], images: Path) -> str:
    name = f"{page}{suffix}"
    for old in images.glob(f"{page}.*"):
        if old.suffix in (".svg", ".png") and old.name != name:
            old.unlink()
    with whole_file(images / name) as aside:
        aside.write_bytes(data)
    index = {**known_pictures(images), page: {"file": name, **about}}
    write_json(images / INDEX.name, dict(sorted(index.items())))
    return f"{name}, {len(data) / 1000:.0f} kB"


def known_pictures(images: Path = IMAGES) -> dict[str, Any]:
    """Return what is known of each picture, by page."""
    path = images / INDEX.name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def markdown(page: str) -> str:
    """Return a page's picture with its alternative text and the command that makes it."""
    one: Mapping[str, str] | None = known_pictures().get(page)
    if one is None:
        return f"Not drawn yet: `{_COMMAND} --only {page}`."
    alt = one["alt"].replace("[", "(").replace("]", ")")
    source = f"the report of `{one['run']}`, on simulated data" if one["run"] else "the committed results"
    made = f"Made by `{_COMMAND} --only {page}` from {source}."
    caption = f"{one['caption']} " if one["caption"] else ""
    return f"![{alt}](images/{one['file']})\n\n{caption}*{made}*"


if __name__ == "__main__":
    sys.exit(main())
