"""Self-contained pages: one look for every report, whoever writes it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

    from appliedpapers.core.figures import Figure

_STYLESHEET = "page.css"
_FIGURE_BYTES = 2_700_000  # of base64 text: the page stays below 3 MB


def page_template(package: str, name: str) -> Template:
    """Return the template ``name`` of a package; it finds our styles as ``stylesheet``, and its neighbours.

    What is put into it is escaped, and a name that it was not given is an error.

    Args:
        package: Dotted name of the package that holds the file.
        name: File name.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    def read(file: str) -> str:
        return files(package).joinpath(file).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    styles = files("appliedpapers.core").joinpath(_STYLESHEET).read_text(encoding="utf-8")
    environment.globals["stylesheet"] = Markup(styles)
    return environment.get_template(name)


def embedded(figures: Sequence[Figure]) -> list[dict[str, str]]:
    """Return figures as data addresses, while they fit; an image cannot run what its SVG might hold.

    Returns:
        ``title``, ``caption``, ``alt``, ``file_name`` and ``uri`` of each; ``uri`` is empty where it has no
        room.
    """
    room = _FIGURE_BYTES
    shown = []
    for figure in figures:
        uri = f"data:{figure.media};base64,{base64.b64encode(figure.data).decode()}"
        fits = len(uri) <= room
        room -= len(uri) if fits else 0
        shown.append(
            {
                "title": figure.title,
                "caption": figure.caption,
                "alt": figure.alt,
                "file_name": figure.file_name,
                "uri": uri if fits else "",
            }
        )
    return shown
