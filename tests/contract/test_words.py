"""One product, nine plugins: what is the same in all of them has the same name and the same words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from appliedpapers.core import plugin as plugins
from appliedpapers.core.config import resolve

ROOT = Path(__file__).resolve().parents[2]
BUILT_IN = [
    item.spec
    for item in plugins.discover()
    if item.spec is not None and plugins.BUILT_IN_DISTRIBUTION in item.distributions
]
TASKS = [pytest.param(task, id=f"{spec.id}.{task.name}") for spec in BUILT_IN for task in spec.tasks]
PAGES = [spec.id for spec in BUILT_IN]
# a unit has one name; what a user may write instead is the readers' business
UNITS = frozenset(
    ("s", "h", "ms", "m/s2", "rad/s", "deg", "deg/s", "°C", "K", "pH", "g/kg", "mg/kg", "kg/ha", "%")
)
UNITS |= {"mm", "nm", "um", "px", "um/px", "V", "W", "A", "mA", "nat", "ratio"}
SECTIONS = ("Presets", "Data without your own", "Measured", "Known limits", "Every option")
ROOM = ("The paper in ten lines", "What we reproduce, and what not", "Your own data")
SAME = {
    "seed": "the one seed of the run",
    "epochs": "passes over the train",
    "weight_decay": "weight decay of the optimiser",
    "gradient_clip": "largest norm of the gradient; null leaves it as it is",
    "baselines": "models that ours is compared with",
}


def options(config: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield path and field of each option, sections and mappings of them left out."""
    for name, info in config.model_fields.items():
        inner = [
            part
            for part in (info.annotation, *get_args(info.annotation))
            if isinstance(part, type) and issubclass(part, BaseModel)
        ]
        for part in inner:
            yield from options(part, f"{prefix}{name}.")
        if not inner:
            yield f"{prefix}{name}", info


def is_module(info: FieldInfo) -> bool:
    """Return whether an option takes a shared module and nothing else."""
    return isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("takes") == "module"


def odd(path: str, info: FieldInfo) -> Iterator[str]:
    """Yield what is out of tune in the help of one option."""
    said, name = info.description or "", path.rpartition(".")[2]
    if not said:
        yield "has no help"
        return
    if said.endswith((".", "!")) or re.match(r"[A-Z][a-z]+ed? [a-z]", said):
        yield f"is no fragment in lower case: {said!r}"
    if re.match(r"(of|on|up|with|from) ", said):
        yield f"wants the help of another option: {said!r}"
    if re.search(r"(?<![\w.])\.\d", said):
        yield f"writes .5 for 0.5: {said!r}"
    if type(None) in get_args(info.annotation) and "null" not in said:
        yield f"does not say what null is: {said!r}"
    if is_module(info) and "shared module, such as kan(grid=5)" not in said:
        yield f"does not say that it takes shared modules: {said!r}"
    if (
        name in ("valid_share", "test_share")
        and f"to {'choose' if name[0] == 'v' else 'judge'} on" not in said
    ):
        yield f"calls choosing and judging something else: {said!r}"
    if not said.startswith(SAME.get(name, "")):
        yield f"says {said!r} where others say {SAME[name]!r}"


@pytest.mark.parametrize("task", TASKS)
def test_options_speak_with_one_voice(task):
    found = [f"{path} {text}" for path, info in options(task.load("config")) for text in odd(path, info)]
    assert found == []


@pytest.mark.parametrize("task", TASKS)
def test_columns_speak_with_one_voice(task):
    config = resolve(task.load("config"))
    model = task.load("model")(config)
    found: list[str] = []
    inputs, answers = _schema(model, "input_schema"), _schema(model, "output_schema")
    for column in (*inputs, *answers):
        if not column.description or column.description.endswith("."):
            found.append(f"{column.name} is not described in a fragment: {column.description!r}")
        if column.unit is not None and column.unit not in UNITS:
            found.append(f"{column.name} has the unit {column.unit!r}, which no other plugin writes so")
        if re.search(r"\d%", column.description):
            found.append(f"{column.name} writes 90% for 90 %: {column.description!r}")
    for column in answers:
        if re.match(r"probability", column.name) and (column.minimum, column.maximum) != (0, 1):
            found.append(f"{column.name} is a probability without bounds")
        if column.name.endswith("_path") and column.file is None:
            found.append(f"{column.name} is a path, and no file")
    assert found == []
    assert {"warning", "prob", "confidence"}.isdisjoint(column.name for column in answers)


def _schema(model: Any, name: str) -> tuple[Any, ...]:
    return tuple(getattr(model, name).columns)


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_the_same_sections_in_the_same_order(page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles[0].startswith("My own ") or f"\n## {titles[0]}\n\nThis writes" in text, titles[0]
    assert any(title.startswith("My own ") for title in titles)
    assert [title for title in titles if title in SECTIONS] == list(SECTIONS)
    assert re.match(rf"# {page}: \S", text)
    assert f"<!-- generated: {page}-picture -->" in text.partition("\n## ")[0]
    assert f'pip install "applied-papers[{page}]"' in text.partition("\n## ")[0]
    assert f"apps run {page}" in text.partition("\n## ")[0]


@pytest.mark.parametrize("page", PAGES)
def test_readmes_have_the_same_sections_in_the_same_order(page):
    text = (ROOT / "appliedpapers" / "plugins" / page.replace("-", "_") / "README.md").read_text(
        encoding="utf-8"
    )
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert [title for title in titles if title in ROOM] == list(ROOM)
    assert f"docs/{page}.md" in text
