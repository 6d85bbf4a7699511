"""Regenerate what the code knows better than the documentation: tables, the command reference, the picture.

Run: python -m benchmarks.docs            everything; the picture needs chromium and about a minute
     python -m benchmarks.docs --text     the texts alone
     python -m benchmarks.docs --check    exit 1 where a text is not what the code says

A generated part stands between ``<!-- generated: NAME -->`` and ``<!-- end of NAME -->``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import appliedpapers
from appliedpapers.core import plugin as plugins
from appliedpapers.core.config import TaskConfig, flags, resolve
from benchmarks import fuzz_page, pictures, results_page

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "report.png"
PICTURE_SIZE = (1240, 1190)
PICTURE_MOST_BYTES = 200_000
RESULTS = ROOT / "docs" / "results"
MEASURED = "appliedpapers/plugins/measured.json"
CLI_PAGE = "docs/cli.md"
HELP_WIDTH = 88


def main(arguments: list[str] | None = None) -> int:
    """Write, or with ``--check`` compare; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.docs")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="write nothing, exit 1 on a difference")
    choice.add_argument("--text", action="store_true", help="leave the picture as it is")
    options = parser.parse_args(arguments)
    stale = [place for place, text in pages() if (ROOT / place).read_text(encoding="utf-8") != text]
    if options.check:
        for place in stale:
            print(f"{place} is not what the code says; make docs writes it anew.")
        return 1 if stale else 0
    for place, text in pages():
        (ROOT / place).write_text(text, encoding="utf-8")
    print(f"texts    {', '.join(stale) or 'up to date'}")
    if not options.text:
        print(f"picture  {draw_picture()}")
    return 0


def pages() -> Iterator[tuple[str, str]]:
    """Yield each page that has a generated part, and its text as it should be."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        if "<!-- generated: " in text:
            yield path.relative_to(ROOT).as_posix(), fill(text)
    yield MEASURED, results_page.measured_json()


def fill(text: str) -> str:
    """Replace every generated part of a page."""

    def part(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- generated: {name} -->\n{PARTS[name]()}\n<!-- end of {name} -->"

    return re.sub(r"<!-- generated: ([\w-]+) -->\n.*?<!-- end of \1 -->", part, text, flags=re.DOTALL)


def plugin_table() -> str:
    """Return the plugins of this distribution."""
    lines = ["| plugin | what it does |", "|---|---|"]
    installed = {item.id: item.spec for item in own_plugins()}
    for name in declared_extras():
        spec = installed[name]
        assert spec is not None
        papers = ", ".join(f"[{paper.arxiv or paper.doi}]({paper.url})" for paper in spec.papers)
        summary = spec.summary.rstrip(".")
        lines.append(f"| [`{name}`](docs/{name}.md) | {summary[0].lower()}{summary[1:]} ({papers}) |")
    return "\n".join(lines)


def own_plugins() -> list[plugins.Found]:
    """Return the plugins that this distribution brings; others may be installed beside them."""
    return [item for item in plugins.discover() if plugins.BUILT_IN_DISTRIBUTION in item.distributions]


def declared_extras() -> list[str]:
    """Return the ids of all plugins, in the order of ``pyproject.toml``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    everything = re.search(r"\[(.*)\]", project["optional-dependencies"]["all"][0])
    assert everything is not None
    return everything[1].split(",")


def preset_table(plugin: str, task: str | None = None) -> str:
    """Return what each preset of a plugin sets apart from the defaults."""
    config_class: type[TaskConfig] = plugins.find(plugin).task(task).load("config")
    usual = {path: _listed(default) for path, default, _ in _options(config_class)}
    lines = ["| preset | sets |", "|---|---|"]
    for name, values in config_class.presets.items():
        # a preset may also say what holds anyway
        others = [(path, value) for path, value in _leaves(values) if _listed(value) != usual.get(path)]
        changed = " · ".join(f"`{path}={_plain(value)}`" for path, value in others) or "nothing"
        lines.append(f"| `{name}` | {changed} |")
    return "\n".join(lines)


def column_table(plugin: str, side: str, task: str | None = None) -> str:
    """Return the columns that a plugin's model takes (``input``) or gives (``output``)."""
    part = plugins.find(plugin).task(task)
    model = part.load("model")(resolve(part.load("config")))
    table: str = getattr(model, f"{side}_schema").markdown()
    return table


def dataset_table(plugin: str) -> str:
    """Return the published datasets of a plugin."""
    lines = ["| `--dataset` | what it is | licence |", "|---|---|---|"]
    for entry in (entry for task in plugins.find(plugin).tasks for entry in task.load("datasets").published):
        lines.append(f"| `{entry.id}` | {entry.title} | {entry.licence} |")
    return "\n".join(lines)


def published_table() -> str:
    """Return the figures that others printed of FreTS; those that we confirmed are marked."""
    from appliedpapers.plugins.frets.published import PUBLISHED_FIGURES

    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for figure in PUBLISHED_FIGURES:
        span = f"{figure.setting['model.lookback']} → {figure.setting['model.horizon']}"
        key = (figure.dataset, figure.protocol, span, figure.source)
        groups.setdefault(key, []).append(f"{figure.metric} {figure.value:g}{' ✓' * figure.verified}")
    lines = ["| dataset | protocol | steps: back → ahead | printed | where |", "|---|---|---|---|---|"]
    for (dataset, protocol, span, source), values in groups.items():
        lines.append(f"| {dataset} | {protocol} | {span} | {', '.join(values)} | {source} |")
    return "\n".join(lines)


def click_figures_table() -> str:
    """Return the figures that others printed of click models, and whether they were repeated here."""
    from appliedpapers.plugins.finalmlp.data import DATASETS
    from appliedpapers.plugins.finalmlp.published import PUBLISHED_FIGURES

    fetched = {entry.id for entry in DATASETS.published}
    groups: dict[tuple[str, str, str], dict[str, dict[str, str]]] = {}
    for figure in PUBLISHED_FIGURES:
        here = "[measured](#measured)" if figure.dataset in fetched else "not reproduced here"
        models = groups.setdefault((figure.protocol, here, figure.source), {})
        models.setdefault(figure.model, {})[figure.metric] = f"{figure.value:g}{' ✓' * figure.verified}"
    lines = ["| protocol | here | printed: AUC / logloss | where |", "|---|---|---|---|"]
    for (protocol, here, source), models in groups.items():
        printed = [
            f"{model} {' / '.join(values[metric] for metric in ('auc', 'logloss') if metric in values)}"
            for model, values in models.items()
        ]
        lines.append(f"| {protocol} | {here} | {', '.join(printed)} | {source} |")
    return "\n".join(lines)


def role_table() -> str:
    """Return the options of a column of a click log, with the roles that they belong to."""
    from appliedpapers.core.features.fields import FieldSpec

    lines = ["| option | of | default | meaning |", "|---|---|---|---|"]
    for name, field in FieldSpec.model_fields.items():
        if name == "role":
            continue
        roles, _, meaning = str(field.description).partition(": ")
        if not meaning:
            roles, meaning = "inputs, timestamp", roles
        default = "null" if field.default is None else _plain(_listed(field.default))
        lines.append(f"| `{name}` | {roles} | `{default}` | {meaning} |")
    return "\n".join(lines)


def option_table(plugin: str, task: str | None = None) -> str:
    """Return every option of a plugin with its default and meaning."""
    config_class: type[TaskConfig] = plugins.find(plugin).task(task).load("config")
    lines = ["| option | default | meaning |", "|---|---|---|"]
    for path, default, meaning in _options(config_class):
        lines.append(f"| `{path}` | `{_plain(_listed(default))}` | {meaning} |")
    return "\n".join(lines)


def measured_table(plugin: str, metrics: tuple[str, ...] = ()) -> str:
    """Return what ``make acceptance`` measured, from ``docs/results/<plugin>.json``.

    Args:
        plugin: Its id.
        metrics: The figures to show, the one that decides first; empty for that of the run alone.
    """
    path = RESULTS / f"{plugin}.json"
    if not path.is_file():
        return f"Not measured yet: `make acceptance PLUGIN={plugin}` writes `docs/results/{plugin}.json`."
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    lines = [
        "| run | data, protocol | ours | strongest baseline | published, same protocol |",
        "|---|---|---|---|---|",
    ]
    for case in cases:
        for name, results in case.get("runs", {}).items():
            title = case["name"] if len(case["runs"]) == 1 else f"{case['name']}, {name}"
            lines.append(f"| {' | '.join((title, *_measured(results, metrics)))} |")
    lines += ["", "What was asked for, and what came of it:", "", check_table(plugin)]
    return "\n".join(lines)


def check_table(name: str) -> str:
    """Return the figures that ``make acceptance`` judged, from ``docs/results/<name>.json``."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return f"Not measured yet: `make acceptance PLUGIN={name}` writes `docs/results/{name}.json`."
    lines = ["| case | figure | target | measured | reached |", "|---|---|---|---|---|"]
    for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
        for check in case["checks"]:
            value = "not measured" if check["measured"] is None else f"{check['measured']:.4g}"
            known = "yes" if check["reached"] else "no"
            reached = "" if check["target"] == "reported" else known
            lines.append(f"| {case['name']} | {check['what']} | {check['target']} | {value} | {reached} |")
    return "\n".join(lines)


def module_table() -> str:
    """Return the catalogue of shared modules, a table for each kind."""
    from appliedpapers import nn
    from appliedpapers.nn.registry import KINDS

    blocks = []
    for kind, meaning in KINDS.items():
        sized = kind in ("network", "layer")
        lines = [f"### {kind}", "", f"{meaning[0].upper()}{meaning[1:]}.", ""]
        head = [
            "name",
            "formula",
            "parameters",
            *(["64 → 64"] if sized else []),
            "take it for",
            "rather not for",
        ]
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for entry in nn.entries():
            if entry.kind != kind:
                continue
            others = ", ".join(f"`{name}`" for name in (*entry.aliases, *entry.presets))
            name = f"`{entry.name}`" + (f"<br>also {others}" if others else "")
            count = [f"{_parameters(entry):,}"] if sized else []
            cells = [name, entry.formula, entry.parameters, *count, entry.use, entry.avoid]
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _parameters(entry: Any) -> int:
    """Return the trainable numbers of an entry from 64 to 64 features, all else as it comes."""
    from appliedpapers import nn

    sizes = {"in_features": 64, "out_features": 64, "latent": 8, "weak": "mlp", "strong": "mlp"}
    taken = {name: size for name, size in sizes.items() if name in entry.example}
    return sum(parameter.numel() for parameter in nn.build(entry.name, **taken).parameters())


def mixture_part(name: str) -> str:
    """Return a part of the page on mixtures, from ``docs/results/mowst.json``."""
    from benchmarks.mowst_table import blocks

    return blocks(json.loads((RESULTS / "mowst.json").read_text(encoding="utf-8")))[name]


def flag_table() -> str:
    """Return the command-line flags that plugins' configurations declare."""
    lines = ["| plugin | flag | sets | meaning |", "|---|---|---|---|"]
    for item in own_plugins():
        for task in item.spec.tasks if item.spec else ():
            config_class = task.load("config")
            for flag, (path, _) in flags(config_class).items():
                lines.append(f"| `{item.id}` | `{flag}` | `{path}` | {_described(config_class, path)} |")
    return "\n".join(lines)


def command_reference() -> str:
    """Return ``--help`` of every command."""
    import typer

    from appliedpapers.cli import app

    sections: list[str] = []

    def walk(command: Any, name: str, parent: Any) -> None:
        context = command.context_class(
            command,
            info_name=name,
            parent=parent,
            terminal_width=HELP_WIDTH,
            max_content_width=HELP_WIDTH,
            **command.context_settings,
        )
        title = f"## {context.command_path}\n\n" if parent is not None else ""
        text = "\n".join(line.rstrip() for line in command.get_help(context).strip().splitlines())
        sections.append(f"{title}```text\n{text}\n```")
        for child in getattr(command, "commands", {}).values():
            walk(child, child.name, context)

    walk(typer.main.get_command(app), "apps", None)
    return "\n\n".join(sections)


def api_table() -> str:
    """Return the names of the Python API with the first line of their documentation."""
    lines = ["| name | what it is |", "|---|---|"]
    for name in appliedpapers.__all__:
        item = getattr(appliedpapers, name)
        first = (item.__doc__ or "").strip().splitlines()[0].replace("``", "`")
        kind = name if isinstance(item, type) else f"{name}()"
        plain = re.sub(r":[a-z]+:`~?([^`]*)`", r"`\1`", first)
        lines.append(f"| `{kind}` | {plain} |")
    return "\n".join(lines)


def draw_picture() -> str:
    """Run the quick preset and take a picture of its report; return what came of it."""
    browser = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))),
        None,
    )
    if browser is None:
        return "left as it is: chromium is not installed"
    with tempfile.TemporaryDirectory(prefix="apps-docs-") as scratch:
        folder = Path(scratch)
        words = ["run", "frets", "--preset", "quick", "--no-register", "--quiet"]
        subprocess.run([sys.executable, "-m", "appliedpapers", *words], cwd=folder, check=True)
        report = next(folder.glob("runs/*/report.html")).resolve()
        picture = folder / "report.png"
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={folder / 'browser'}",
                f"--window-size={PICTURE_SIZE[0]},{PICTURE_SIZE[1]}",
                f"--screenshot={picture}",
                report.as_uri(),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )
        size = picture.stat().st_size
        if size > PICTURE_MOST_BYTES:
            raise SystemExit(f"the picture has {size:,} bytes; at most {PICTURE_MOST_BYTES:,} are committed")
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        aside = PICTURE.with_name(f".{PICTURE.name}.part")
        shutil.copyfile(picture, aside)
        os.replace(aside, PICTURE)
    return f"{PICTURE.relative_to(ROOT)}, {size / 1000:.0f} kB"


def _measured(results: dict[str, Any], metrics: tuple[str, ...] = ()) -> tuple[str, str, str, str]:
    whole = [row for row in results["rows"] if not row["slice"] and row["seed"] is None]
    shown = metrics or (next(row["metric"] for row in whole if row["selected"]),)
    first = [row for row in whole if row["metric"] == shown[0]]
    ours = next(row for row in first if row["selected"])
    rivals = [row for row in first if row["kind"] == "baseline"]
    # nobody can reach the oracle: it is a bound, not a rival
    bound = next((row for row in rivals if row["model"] == "oracle"), None)
    best = min if not ours["higher_is_better"] else max
    reachable = [row for row in rivals if row is not bound]
    strongest = best(reachable, key=lambda row: row["value"]) if reachable else None

    def figures(model: str) -> str:
        rows = {row["metric"]: row for row in whole if row["model"] == model}
        said = [_figure(rows[metric]) for metric in shown if metric in rows]
        return f"{model}: {', '.join(said)}"

    printed = [f"{row['model']}: {_figure(row)}" for row in first if row["kind"] == "published"]
    against = figures(strongest["model"]) if strongest else "none"
    return (
        f"{results['dataset']}{' (synthetic)' if results['synthetic'] else ''}, {results['protocol']}",
        figures(ours["model"]),
        against if bound is None else f"{against}; bound {figures(bound['model'])}",
        ", ".join(printed) or "none",
    )


def _figure(row: dict[str, Any]) -> str:
    low, high = row.get("low"), row.get("high")
    interval = f" ({low:.4g} to {high:.4g})" if low is not None and high is not None else ""
    return f"{row['metric']} {row['value']:.4g}{interval}"


def _described(config_class: Any, path: str) -> str:
    *sections, name = path.split(".")
    for section in sections:
        config_class = config_class.model_fields[section].annotation
    return str(config_class.model_fields[name].description)


def _options(config_class: Any, prefix: str = "", holds: Any = None) -> Iterator[tuple[str, Any, str]]:
    """Yield name, default and meaning; ``holds`` is a section that its owner fills in otherwise."""
    for name, field in config_class.model_fields.items():
        usual = field.get_default(call_default_factory=True) if holds is None else getattr(holds, name)
        if hasattr(field.annotation, "model_fields"):
            yield from _options(field.annotation, f"{prefix}{name}.", usual)
        else:
            yield f"{prefix}{name}", usual, str(field.description)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else value


_FIELD_TASKS = ("crop", "nitrogen", "soil-image")
_VOLATILITY_FIGURES = ("qlike", "rmspe", "r2", "mean_ratio")
_CHROMOSOME_FIGURES = ("type_accuracy", "polarity_accuracy", "case_accuracy_assignment")
PARTS: dict[str, Callable[[], str]] = {
    "plugins": plugin_table,
    "flags": flag_table,
    "commands": command_reference,
    "api": api_table,
    "fuzzed": fuzz_page.fuzz_table,
    "agrosense-datasets": lambda: dataset_table("agrosense"),
    "agrosense-measured": lambda: check_table("agrosense"),
    **{f"agrosense-{task}-presets": partial(preset_table, "agrosense", task) for task in _FIELD_TASKS},
    **{f"agrosense-{task}-input": partial(column_table, "agrosense", "input", task) for task in _FIELD_TASKS},
    **{
        f"agrosense-{task}-output": partial(column_table, "agrosense", "output", task)
        for task in _FIELD_TASKS
    },
    **{f"agrosense-{task}-options": partial(option_table, "agrosense", task) for task in _FIELD_TASKS},
    "frets-presets": lambda: preset_table("frets"),
    "frets-input": lambda: column_table("frets", "input"),
    "frets-output": lambda: column_table("frets", "output"),
    "frets-datasets": lambda: dataset_table("frets"),
    "frets-options": lambda: option_table("frets"),
    "frets-published": published_table,
    "frets-measured": lambda: measured_table("frets"),
    "finalmlp-presets": lambda: preset_table("finalmlp"),
    "finalmlp-input": lambda: column_table("finalmlp", "input"),
    "finalmlp-output": lambda: column_table("finalmlp", "output"),
    "finalmlp-datasets": lambda: dataset_table("finalmlp"),
    "finalmlp-published": click_figures_table,
    "finalmlp-measured": lambda: measured_table("finalmlp", ("auc", "logloss")),
    "finalmlp-roles": role_table,
    "finalmlp-options": lambda: option_table("finalmlp"),
    "pansharpening-presets": lambda: preset_table("pansharpening"),
    "pansharpening-measured": lambda: check_table("pansharpening"),
    "pansharpening-input": lambda: column_table("pansharpening", "input"),
    "pansharpening-output": lambda: column_table("pansharpening", "output"),
    "pansharpening-datasets": lambda: dataset_table("pansharpening"),
    "pansharpening-options": lambda: option_table("pansharpening"),
    "imu-attitude-presets": lambda: preset_table("imu-attitude"),
    "imu-attitude-measured": lambda: measured_table("imu-attitude"),
    "imu-attitude-input": lambda: column_table("imu-attitude", "input"),
    "imu-attitude-output": lambda: column_table("imu-attitude", "output"),
    "imu-attitude-datasets": lambda: dataset_table("imu-attitude"),
    "imu-attitude-options": lambda: option_table("imu-attitude"),
    "varifocal-net-presets": lambda: preset_table("varifocal-net"),
    "varifocal-net-measured": lambda: measured_table("varifocal-net", _CHROMOSOME_FIGURES),
    "varifocal-net-input": lambda: column_table("varifocal-net", "input"),
    "varifocal-net-output": lambda: column_table("varifocal-net", "output"),
    "varifocal-net-datasets": lambda: dataset_table("varifocal-net"),
    "varifocal-net-options": lambda: option_table("varifocal-net"),
    "volatility-images-presets": lambda: preset_table("volatility-images"),
    "volatility-images-measured": lambda: measured_table("volatility-images", _VOLATILITY_FIGURES),
    "volatility-images-input": lambda: column_table("volatility-images", "input"),
    "volatility-images-output": lambda: column_table("volatility-images", "output"),
    "volatility-images-datasets": lambda: dataset_table("volatility-images"),
    "volatility-images-options": lambda: option_table("volatility-images"),
    "virtual-inking-presets": lambda: preset_table("virtual-inking"),
    "virtual-inking-measured": lambda: check_table("virtual-inking"),
    "virtual-inking-input": lambda: column_table("virtual-inking", "input"),
    "virtual-inking-output": lambda: column_table("virtual-inking", "output"),
    "virtual-inking-datasets": lambda: dataset_table("virtual-inking"),
    "virtual-inking-options": lambda: option_table("virtual-inking"),
    "laser-cvae-presets": lambda: preset_table("laser-cvae"),
    "laser-cvae-measured": lambda: measured_table("laser-cvae"),
    "laser-cvae-input": lambda: column_table("laser-cvae", "input"),
    "laser-cvae-output": lambda: column_table("laser-cvae", "output"),
    "laser-cvae-datasets": lambda: dataset_table("laser-cvae"),
    "laser-cvae-options": lambda: option_table("laser-cvae"),
    "modules": module_table,
    "modules-measured": lambda: check_table("nn"),
    "mowst-accuracy": lambda: mixture_part("accuracy"),
    "mowst-routing": lambda: mixture_part("routing"),
    "mowst-checks": lambda: mixture_part("checks"),
    **{f"{one.page}-picture": partial(pictures.markdown, one.page) for one in pictures.PICTURES},
    **{f"{page}-picture": partial(pictures.markdown, page) for page in pictures.DRAWN},
    "serving-measured": results_page.serving_table,
    "overhead-measured": results_page.overhead_table,
    "results-headline": results_page.headline_table,
    "results-commands": results_page.command_table,
    "results-missed": results_page.missed_table,
    "results-matrix": results_page.matrix_table,
    "results-matrix-details": results_page.matrix_details,
    "mowst-command": lambda: mixture_part("command"),
}


if __name__ == "__main__":
    raise SystemExit(main())
