"""Self-contained pages: one look for every report, whoever writes it."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

_STYLESHEET = "page.css"


def page_template(package: str, name: str) -> Template:
    """Return the template ``name`` of a package; it finds our styles as ``stylesheet``.

    What is put into it is escaped, and a name that it was not given is an error.

    Args:
        package: Dotted name of the package that holds the file.
        name: File name.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    styles = files("appliedpapers.core").joinpath(_STYLESHEET).read_text(encoding="utf-8")
    environment.globals["stylesheet"] = Markup(styles)
    return environment.from_string(files(package).joinpath(name).read_text(encoding="utf-8"))
