"""The report of a run: one HTML file that needs nothing else, and the model card."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from appliedpapers.core.config import commented_yaml
from appliedpapers.core.files import whole_file, write_text
from appliedpapers.core.page import embedded, page_template
from appliedpapers.core.verdict import primary_metric, strongest_baseline, verdict
from appliedpapers.pipelines.results_table import Slices, results_table, worst_slices

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Evaluation, Material
    from appliedpapers.core.figures import Figure
    from appliedpapers.core.printed import Elsewhere

REPORT = "report.html"
MODEL_CARD = "model-card.md"
DATA_CARD = "data-card.md"

_TESTS = {
    "diebold-mariano": "the Diebold-Mariano test",
    "paired-bootstrap": "a paired bootstrap",
    "corrected-t": "the corrected resampled t test over folds",
    "mcnemar": "McNemar's exact test",
}


def write_report(
    folder: Path,
    material: Material,
    *,
    evaluation: Evaluation,
    environment: Mapping[str, str],
    command: str,
    findings: Sequence[str] = (),
    published_elsewhere: Sequence[Elsewhere] = (),
    facts: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write ``report.html``, and each figure as a file of its own below ``figures/``.

    Args:
        folder: The run's folder.
        material: What the run produced.
        evaluation: Draws the task's figures and words its failures.
        environment: Versions and machine, by name.
        command: What repeats the run.
        findings: Sentences of the leakage audit; none means that it found nothing.
        published_elsewhere: Printed figures of another protocol or setting.
        facts: Names and values about the models, such as a parameter count.

    Returns:
        Path of the report.
    """
    figures = _draw(evaluation, material)
    for figure in figures:
        with whole_file(folder / "figures" / figure.file_name) as aside:
            aside.write_bytes(figure.data)
    results = material.results
    table = results_table(results)
    slices = worst_slices(results)
    page = page_template("appliedpapers.pipelines", REPORT).render(
        results=results,
        verdict=verdict(results),
        identity=_identity(results),
        table=table,
        tested=bool(results["tests"]),
        ours_bar=next(line.bar for line in table.lines if line.note == "selected"),
        reading=_reading(results),
        figures=embedded(figures),
        slices=slices,
        slices_line=_slices_line(slices) if slices else "",
        failures=list(evaluation.failures(material)),
        data=_data_facts(material, findings),
        findings=findings,
        notes=material.dataset.notes,
        same_protocol=any(row["kind"] == "published" for row in results["rows"]),
        elsewhere=published_elsewhere,
        command=command,
        facts=facts,
        environment=[*environment.items(), *_measured(results)],
        configuration=commented_yaml(material.config),
    )
    path = folder / REPORT
    write_text(path, page)
    return path


def write_model_card(
    folder: Path, material: Material, *, environment: Mapping[str, str], command: str
) -> Path:
    """Write ``model-card.md``: what the model is, how good, on what data, and where it fails.

    Args:
        folder: The run's folder.
        material: What the run produced.
        environment: Versions and machine, by name.
        command: What repeats the run.

    Returns:
        Path of the card.
    """
    results, provenance = material.results, material.dataset.provenance
    front = {
        "library_name": "applied-papers",
        "tags": [results["plugin"], results["task"]],
        "datasets": [results["dataset"]],
        "synthetic_data": results["synthetic"],
    }
    slices = worst_slices(results)
    data = [f"- {name}: {_plain(value)}" for name, value in _data_facts(material, None)]
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {_plain(material.model_name)} on {_plain(results['dataset'])}",
        _plain(verdict(results)) + (" The data are synthetic." if results["synthetic"] else ""),
        "## Results on the test set",
        _markdown_table(results),
        _plain(_reading(results)),
        *(f"- {_plain(text)}" for text in results["warnings"]),
        "## Where it fails",
        _markdown_slices(slices) if slices else "No parts of the test set are listed.",
        "## Data",
        "\n".join(data),
        f"Licence of the data: {_plain(provenance.licence)}. It binds the use of this model too.",
        "## Model",
        "\n".join(f"- {_plain(name)}: {_plain(value)}" for name, value in material.model.describe())
        or "No further facts.",
        "## Environment and configuration",
        "\n".join(f"- {_plain(name)}: {_plain(value)}" for name, value in environment.items()),
        _fenced(command, "sh"),
        _fenced(commented_yaml(material.config).strip(), "yaml"),
    ]
    path = folder / MODEL_CARD
    write_text(path, "\n\n".join(sections) + "\n")
    return path


def write_data_card(folder: Path, material: Material, *, findings: Sequence[str] = ()) -> Path:
    """Write ``data-card.md``: what the model was made from, on what terms, and how it was cut.

    Args:
        folder: The run's folder.
        material: What the run produced.
        findings: Sentences of the leakage audit; none means that it found nothing.

    Returns:
        Path of the card.
    """
    dataset, results = material.dataset, material.results
    front = {
        "pretty_name": dataset.name,
        "license_note": dataset.provenance.licence,
        "synthetic": dataset.provenance.synthetic,
        "source": dataset.provenance.source,
        "plugin": results["plugin"],
        "task": results["task"],
    }
    facts = [f"- {name}: {_plain(value)}" for name, value in _data_facts(material, findings)]
    notes = [f"- {_plain(note)}" for note in (*dataset.notes, *findings)]
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {_plain(dataset.name)}",
        "What a model was trained and tested on. Facts about the data; no row of it.",
        "## Facts",
        "\n".join(facts),
        *(["## Worth knowing", "\n".join(notes)] if notes else []),
        "## What the model takes",
        material.model.input_schema.markdown(),
        "## What it gives",
        material.model.output_schema.markdown(),
    ]
    path = folder / DATA_CARD
    write_text(path, "\n\n".join(sections) + "\n")
    return path


def _draw(evaluation: Evaluation, material: Material) -> list[Figure]:
    from appliedpapers.core.figures import learning_curves

    figures = list(evaluation.figures(material))
    curves = learning_curves(
        material.histories.get(material.model_name, []),
        material.model_name,
        metric=primary_metric(material.results),
        synthetic=material.results["synthetic"],
    )
    return [*figures, curves] if curves else figures


def _identity(results: Mapping[str, Any]) -> list[str]:
    return [
        results["task"],
        f"protocol {results['protocol']}",
        f"preset {results['preset']}",
        results["device"],
        f"seed {', '.join(str(seed) for seed in results['seeds'])}",
        f"n = {results['test_size']:,}",
        f"run {results['run_id']}",
    ]


def _reading(results: Mapping[str, Any]) -> str:
    """Say how the table is to be read."""
    parts = [
        "± is half of the 95 % interval over resampled test units; bars show the whole interval, "
        "the thin line is ours."
    ]
    test = strongest_baseline(results)
    if test is not None:
        name = test["metric"]
        parts.append(
            f"“Against ours” is the {name} of that model minus ours on the same units, "
            f"judged by {_TESTS[test['test']]}."
        )
        parts.append(
            "The strongest baseline is the one with the best test value, which favours the baselines."
        )
    bounds = [line.model for line in results_table(results).lines if line.role == "bound"]
    if bounds:
        listed = ", ".join(bounds)
        parts.append(f"A bound that no model can reach without the truth, not a competitor: {listed}.")
    return " ".join(parts)


def _slices_line(slices: Slices) -> str:
    shown = len(slices.lines)
    which = f"The {shown} worst of {slices.total:,} parts" if shown < slices.total else f"All {shown} parts"
    line = f"{which} of the test set, the worst first."
    if not slices.rival:
        return line
    behind = "none" if slices.behind == 0 else f"{slices.behind:,}"
    return f"{line} Ours is worse than {slices.rival} in {behind} of {slices.total:,}."


def _data_facts(material: Material, findings: Sequence[str] | None) -> list[tuple[str, str]]:
    dataset, results = material.dataset, material.results
    provenance = dataset.provenance
    kept_apart = ", ".join(dataset.disjoint)
    audit = f"{len(findings)} findings, allowed" if findings else "nothing crosses splits"
    rows = [
        ("dataset", dataset.name + (" (synthetic)" if provenance.synthetic else "")),
        ("source", provenance.source),
        ("licence", provenance.licence),
        ("citation", provenance.citation or ""),
        ("size", dataset.summary),
        ("splits", dataset.split_note),
        ("rows", _split_sizes(material)),
        ("kept apart", f"{kept_apart} never crosses splits" if kept_apart else ""),
        ("leakage audit", "" if findings is None else audit),
        ("protocol", dataset.protocol),
        ("test fingerprint", results["test_fingerprint"]),
        *((f"sha256 of {name}", digest) for name, digest in provenance.sha256.items()),
    ]
    return [(name, value) for name, value in rows if value]


def _split_sizes(material: Material) -> str:
    dataset = material.dataset
    sizes = (("train", dataset.train), ("valid", dataset.valid), ("test", dataset.test))
    return ", ".join(f"{name} {split.num_rows:,}" for name, split in sizes)


def _measured(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    seconds = " · ".join(f"{stage} {value:,.1f}" for stage, value in results["seconds"].items())
    memory = results["peak_memory_mb"]
    rows = [("seconds", seconds), ("peak memory", f"{memory:,.0f} MB" if memory else "")]
    return [(name, value) for name, value in rows if value]


def _markdown_table(results: Mapping[str, Any]) -> str:
    table = results_table(results)
    head = ["model", *table.columns, "against ours", "p"]
    lines = [_markdown_row(head), _markdown_row(["---", *["---:"] * (len(head) - 1)], escape=False)]
    for line in table.lines:
        name = f"{line.model} ({line.note})" if line.note else line.model
        p = line.p.removeprefix("p ")
        lines.append(_markdown_row([name, *(str(number) for number in line.numbers), line.difference, p]))
    return "\n".join(lines)


def _markdown_slices(slices: Slices) -> str:
    head = ["part of the test set", f"{slices.metric}, ours", slices.rival, "n"]
    lines = [_plain(_slices_line(slices)), "", _markdown_row(head)]
    lines.append(_markdown_row(["---", "---:", "---:", "---:"], escape=False))
    lines += [_markdown_row([line.name, str(line.ours), line.rival, f"{line.n:,}"]) for line in slices.lines]
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str], *, escape: bool = True) -> str:
    return f"| {' | '.join(_plain(cell) if escape else cell for cell in cells)} |"


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~])", r"\\\1", " ".join(str(text).split()))


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
