"""What the documentation says about commands, options, tables and files is so."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer

from appliedpapers.cli import app
from appliedpapers.core.config import flags
from appliedpapers.core.plugin import find

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import docs as generator  # noqa: E402

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "*.md",
        "docs/*.md",
        "appliedpapers/plugins/*/README.md",
        "examples/**/*.md",
        "data_cards/*.md",
    )
    for path in ROOT.glob(pattern)
)
# the example's own flags and ids are not those of this distribution
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(?:sh|text)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`(apps [^`]+)`(?!`)")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def written(text: str) -> str:
    """Leave out what is generated from the commands themselves."""
    return re.sub(r"<!-- generated: commands -->.*?<!-- end of commands -->", "", text, flags=re.DOTALL)


def whole_commands(text: str) -> list[str]:
    lines = [
        line for block in BLOCK.findall(written(text)) for line in block.replace("\\\n", " ").splitlines()
    ]
    lines = [re.sub(r" 2>>? \S+", "", line.removeprefix("$ ")) for line in lines]
    return [line.split(" # ")[0].split("   ")[0].rstrip(" &") for line in lines if line.startswith("apps ")]


def find_command(words: list[str]):
    """Walk down to the command that ``words`` name; return it, its context and the words that are left."""
    command = typer.main.get_command(app)
    context = command.context_class(command, info_name="apps", **command.context_settings)
    while words and words[0] in getattr(command, "commands", {}):
        name = words.pop(0)
        command = command.commands[name]
        context = command.context_class(command, info_name=name, parent=context, **command.context_settings)
    return command, context, words


def known_options(command) -> set[str]:
    known = {"--debug", *(name for item in command.params for name in (*item.opts, *item.secondary_opts))}
    known |= {"-h", "--help"}
    if command.context_settings.get("ignore_unknown_options"):
        known |= {
            flag
            for item in generator.own_plugins()
            for task in find(item.id).tasks
            for flag in flags(task.load("config"))
        }
    return known


def test_generated_parts_are_what_the_code_says():
    stale = [place for place, text in generator.pages() if page(place) != text]
    assert not stale, f"{', '.join(stale)}: run python -m benchmarks.docs --text"


def test_every_generated_part_is_used_on_a_page():
    used = set(re.findall(r"<!-- generated: ([\w-]+) -->", "".join(map(page, PAGES))))
    assert used == set(generator.PARTS)


@pytest.mark.parametrize("name", PAGES)
def test_commands_in_blocks_are_understood(name):
    for line in whole_commands(page(name)):
        command, context, rest = find_command(shlex.split(line)[1:])
        assert not hasattr(command, "commands") or not rest or rest[0].startswith("-"), line
        unknown = [word for word in rest if word.startswith("--") and word not in known_options(command)]
        assert not unknown, f"{line}: {unknown}"
        if not getattr(command, "commands", None):
            # raises where an argument is missing or one word too many
            command.parse_args(context, rest)


@pytest.mark.parametrize("name", PAGES)
def test_commands_in_running_text_exist(name):
    for line in SPAN.findall(written(page(name))):
        words = line.split()[1:]
        if words[0].startswith("-"):
            continue
        command, _, rest = find_command(words)
        assert command.name not in (None, "apps"), line
        unknown = [
            word
            for word in rest
            if word.startswith("--") and word.split("=")[0] not in known_options(command)
        ]
        assert not unknown, f"{line}: {unknown}"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_headings(name):
    for target in LINK.findall(page(name)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        place, _, heading = target.partition("#")
        path = ((ROOT / name).parent / place) if place else ROOT / name
        assert path.exists(), f"{name} links to {target}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, (
                target
            )


def test_pages_are_all_listed_on_the_index():
    listed = {target for target in LINK.findall(page("docs/index.md")) if "/" not in target}
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}


def test_the_plugin_table_agrees_with_discovery():
    ready = {item.id for item in generator.own_plugins()}
    assert len(ready) == 9
    assert set(generator.declared_extras()) == ready
    table = page("README.md").partition("<!-- generated: plugins -->")[2].partition("<!-- end of plugins")[0]
    assert set(re.findall(r"^\| \[`([\w-]+)`\]", table, re.MULTILINE)) == ready
    for name in ready:
        assert (ROOT / "docs" / f"{name}.md").is_file()


def test_the_picture_is_a_small_png_and_shown():
    picture = generator.PICTURE.read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) < generator.PICTURE_MOST_BYTES
    assert "(docs/images/report.png)" in page("README.md")


def test_measured_figures_are_those_of_the_results_file(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "RESULTS", tmp_path)
    assert "Not measured yet" in generator.measured_table("frets")
    row = {"metric": "mse", "higher_is_better": False, "seed": None, "slice": {}, "selected": False}
    document = {
        "dataset": "etth1",
        "synthetic": False,
        "protocol": "ltsf-zscore",
        "preset": "published",
        "tests": [],
        "rows": [
            row
            | {"model": "frets", "kind": "ours", "selected": True, "value": 0.4, "low": 0.39, "high": 0.41},
            row | {"model": "last-value", "kind": "baseline", "value": 1.3, "low": 1.2, "high": 1.4},
            row | {"model": "ridge-nlinear", "kind": "baseline", "value": 0.38, "low": 0.37, "high": 0.39},
            row | {"model": "FreTS", "kind": "published", "value": 0.3985, "low": None, "high": None},
        ],
    }
    check = {"what": "test MSE", "target": "<= 0.405", "measured": 0.4, "reached": True, "pass": True}
    case = {"name": "etth1-96", "checks": [check], "runs": {"run": document}}
    (tmp_path / "frets.json").write_text(json.dumps({"cases": [case]}))
    table = generator.measured_table("frets")
    assert (
        "| etth1-96 | etth1, ltsf-zscore | frets: mse 0.4 (0.39 to 0.41) | "
        "ridge-nlinear: mse 0.38 (0.37 to 0.39) | FreTS: mse 0.3985 |"
    ) in table
    assert "| etth1-96 | test MSE | <= 0.405 | 0.4 | yes |" in table


def test_an_oracle_is_a_bound_and_no_rival_and_several_figures_stand_beside_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "RESULTS", tmp_path)

    def row(model: str, kind: str, metric: str, value: float) -> dict:
        ranks = metric == "auc"
        return {
            "model": model,
            "kind": kind,
            "metric": metric,
            "value": value,
            "higher_is_better": ranks,
            "seed": None,
            "slice": {},
            "selected": kind == "ours",
        }

    rows = [
        row("finalmlp", "ours", "auc", 0.75),
        row("finalmlp", "ours", "logloss", 0.43),
        row("oracle", "baseline", "auc", 0.87),
        row("oracle", "baseline", "logloss", 0.33),
        row("lightgbm", "baseline", "auc", 0.76),
        row("lightgbm", "baseline", "logloss", 0.42),
        row("click-rate", "baseline", "auc", 0.5),
    ]
    document = {"dataset": "simulated", "synthetic": True, "protocol": "time 80/10/10", "rows": rows}
    case = {"name": "simulator", "checks": [], "runs": {"seed 1": document}}
    (tmp_path / "finalmlp.json").write_text(json.dumps({"cases": [case]}))
    assert (
        "| simulator | simulated (synthetic), time 80/10/10 | finalmlp: auc 0.75, logloss 0.43 | "
        "lightgbm: auc 0.76, logloss 0.42; bound oracle: auc 0.87, logloss 0.33 | none |"
    ) in generator.measured_table("finalmlp", ("auc", "logloss"))


def test_printed_figures_of_data_that_we_cannot_fetch_are_marked():
    lines = generator.click_figures_table().splitlines()[2:]
    assert lines
    for line in lines:
        protocol, here = (cell.strip() for cell in line.split("|")[1:3])
        assert (here == "not reproduced here") == (protocol != "frappe-x1"), line
