"""How a plugin is judged: scores beside baselines, and what a report is made from."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.conformance.subject import CheckFailed, Subject, require
from appliedpapers.core.errors import ConfigError
from appliedpapers.core.evaluation import Baseline, Material
from appliedpapers.core.figures import Figure
from appliedpapers.core.metrics import metric
from appliedpapers.core.model import Model
from appliedpapers.core.printed import split_published
from appliedpapers.core.results import RunFacts, build_results

_RESAMPLES = 50
_FEWEST_WORDS = 3


def results(subject: Subject) -> str:
    """Model and baselines are scored on the same units and give a valid results document."""
    require(bool(subject.baselines), "EVALUATION.baselines returns none; at least one must be there")
    primary = subject.evaluation.primary_for(subject.dataset)
    ours = subject.contest.scored[subject.spec.id]
    require(primary in ours.metrics, f"the primary metric {primary} is not scored")
    _require_registered("EVALUATION.score", ours.metrics)
    try:
        rows = _material(subject).results["rows"]
    except ValueError as error:
        raise CheckFailed(f"no results document can be made: {error}") from None
    _require_registered("results.json", {row["metric"] for row in rows})
    first = rows[0]
    require(first["value"] is not None, f"{primary} is not a finite number")
    return f"{first['metric']} {first['value']:.4g}, {len(subject.baselines)} baselines"


def reports(subject: Subject) -> str:
    """Figures, failures, printed figures and facts for the report can be made from a finished run."""
    evaluation, material = subject.evaluation, _material(subject)
    made = _made("EVALUATION.figures", evaluation.figures, material)
    figures = [figure.name for figure in made]
    twice = {name for name in figures if figures.count(name) > 1}
    require(not twice, f"two figures have the name '{', '.join(twice)}', one file would replace the other")
    for figure in made:
        _require_told(figure)
        _require_opaque(figure)
    for sentence in _made("EVALUATION.failures", evaluation.failures, material):
        require(isinstance(sentence, str), f"EVALUATION.failures returns {sentence!r}, expected sentences")
    described: dict[str, Model | Baseline] = {f"baseline {one.name}": one for one in subject.baselines}
    for owner, one in {"Model": subject.model, **described}.items():
        for name, value in one.describe():
            told = isinstance(name, str) and isinstance(value, str)
            require(told, f"{owner}.describe yields {(name, value)!r}, expected two texts")
    for option, variant in evaluation.variants(subject.config).items():
        same = isinstance(variant, TaskConfig) and type(variant) is type(subject.config)
        require(same, f"EVALUATION.variants['{option}'] is no {type(subject.config).__name__}")
    _require_listed(subject)
    return f"{len(figures)} figures"


def _require_told(figure: Figure) -> None:
    """Look at the words beside a figure: who cannot see it is told what it finds."""
    alt = figure.alt.strip()
    named = re.fullmatch(r"[\w-]+(\.\w+)?", alt) or alt in (figure.title, figure.file_name)
    told = not named and len(alt.split()) >= _FEWEST_WORDS and "nan" not in alt.split()
    require(told, f"figure '{figure.name}': alt text {alt!r} does not state a finding")
    require(bool(figure.title.strip()), f"figure '{figure.name}' has no title")


def _require_opaque(figure: Figure) -> None:
    """Look at the ground of a figure: reports are light or dark, and it must be readable on both."""
    if figure.media == "image/svg+xml":
        light = re.search(rb"<svg.*?(fill: ?#fff|fill=\"(#fff|white))", figure.data, re.DOTALL) is not None
        require(light, f"figure '{figure.name}' has no light ground, unreadable in a dark report")
        return
    from PIL import Image

    with Image.open(io.BytesIO(figure.data)) as picture:
        opaque = np.asarray(picture.convert("RGBA"))[..., 3].min() == 255
    require(bool(opaque), f"figure '{figure.name}' is transparent, unreadable in a dark report")


def _made(what: str, make: Callable[[Material], Sequence[Any]], material: Material) -> list[Any]:
    try:
        return list(make(material))
    except Exception as error:
        raise CheckFailed(f"{what} failed, {type(error).__name__}: {error}") from error


def _require_registered(where: str, names: Iterable[str]) -> None:
    for name in names:
        try:
            described = metric(name).description
        except ConfigError as error:
            raise CheckFailed(f"{where}: {error} core.metrics.register_metric adds one") from None
        told = described.strip() and "\n" not in described
        require(bool(told), f"{where}: metric '{name}' has no description of one line")


def _require_listed(subject: Subject) -> None:
    listed = subject.evaluation.baseline_names
    for baseline in subject.baselines if listed else ():
        # "gsa, back-projected" is a variant of "gsa"; an oracle is a bound and no rival
        known = baseline.name.startswith(tuple(listed)) or not baseline.attainable
        require(known, f"baseline '{baseline.name}' is not in EVALUATION.baseline_names: apps info hides it")


def _material(subject: Subject) -> Material:
    evaluation, dataset, config = subject.evaluation, subject.dataset, subject.config
    printed = list(evaluation.published(config, dataset))
    _require_registered("EVALUATION.published", [figure.metric for figure in printed])
    same, _ = split_published(printed, dataset=dataset.name, protocol=dataset.protocol, config=config)
    facts = RunFacts.of(
        dataset,
        run_id="check",
        plugin=subject.spec.id,
        task=subject.task.name,
        preset=subject.preset,
        seed=config.seed,
        device="cpu",
    )
    document = build_results(
        facts,
        subject.contest.contenders,
        primary=evaluation.primary_for(dataset),
        paired_test=evaluation.paired_test,
        lag=evaluation.lag(config, dataset),
        published=same,
        n_boot=_RESAMPLES,
        seed=config.seed,
    )
    predictions, scored, _ = subject.contest
    named = dataset, subject.model, subject.spec.id
    return Material(*named, predictions, scored, document, subject.histories, config)
