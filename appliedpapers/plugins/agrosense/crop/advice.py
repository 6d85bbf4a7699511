"""The answer in words: which crops, how sure, what speaks for the first, and what the soil lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.agrosense.crop.fertiliser import NUTRIENTS, deficits, lime_note, plan, targets

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.agrosense.crop.answers import Answers
    from appliedpapers.plugins.agrosense.crop.fertiliser import Target
    from appliedpapers.plugins.agrosense.crop.model import CropRecommender

_SPEAKING = 5


def advice(model: CropRecommender, table: pa.Table) -> str:
    """Return what is to be said of each row, rows apart by an empty line.

    Args:
        model: A fitted recommender.
        table: Rows with columns of its input schema.
    """
    answers = model.answers(table, attributions=True)
    blocks = []
    for row in range(table.num_rows):
        cells = {name: table.column(name)[row].as_py() for name in table.column_names}
        lines = [
            *_crops(model, answers, row, cells.get("id"), bool(cells.get("image"))),
            *_speaking(model, answers, row, cells),
        ]
        first = model.classes[int(answers.order[row, 0])]
        if answers.advised[row]:
            lines += fertiliser_lines(model, first, cells)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _crops(model: CropRecommender, answers: Answers, row: int, name: str | None, photo: bool) -> list[str]:
    title = f" {name}" if name else ""
    lines = [f"crop{title}" + ("  (learned from SYNTHETIC data)" if model.synthetic else "")]
    for place in answers.order[row][: model.config.answer.top]:
        lines.append(f"  {model.classes[place]:<14} {100 * answers.probabilities[row, place]:5.1f} %")
    inside = answers.sets()[row]
    share = 1 - model.config.answer.alpha
    lines.append(f"  among {', '.join(inside)} with {100 * share:.0f} % confidence")
    if not answers.advised[row]:
        lines.append("  no advice: " + _why(answers, row))
    if answers.looked is not None:
        lines.append("  photo: " + _photo(bool(answers.looked[row]), photo))
    lines += [f"  warning: {sentence}" for sentence in answers.warnings[row]]
    return lines


def _photo(looked: bool, given: bool) -> str:
    if looked:
        return "looked at, for the table alone was not sure"
    return "not needed, the table was sure" if given else "none"


def _why(answers: Answers, row: int) -> str:
    if answers.warnings[row]:
        return "the field is outside what was learned from"
    sure, needed = float(answers.probabilities[row].max()), answers.threshold
    if np.isinf(needed):
        return "on rows not learned from, no confidence kept the risk that is borne"
    return f"{100 * sure:.1f} % is less sure than the {100 * needed:.1f} % that keep the risk that is borne"


def _speaking(model: CropRecommender, answers: Answers, row: int, cells: dict[str, object]) -> list[str]:
    assert answers.attributions is not None
    names = [name for name, _ in model.encoder.players]
    shares = answers.attributions[row][:-1]
    units = {feature.name: feature.unit for feature in model.encoder.features}
    lines = ["why (parts of the logit of the first crop)"]
    for place in np.argsort(-np.abs(shares))[:_SPEAKING]:
        value, unit = cells.get(names[place]), units.get(names[place])
        shown = "missing" if value is None else f"{value:g}" if isinstance(value, float) else ""
        unit_text = f" {unit}" if unit and unit != "pH" and value is not None else ""
        lines.append(f"  {names[place]:<16} {shares[place]:+8.3f}   {shown}{unit_text}".rstrip())
    lines.append(f"  {'base':<16} {answers.attributions[row][-1]:+8.3f}")
    return lines


def fertiliser_lines(model: CropRecommender, crop: str, cells: dict[str, object]) -> list[str]:
    """Return deficits and products for a crop, or why there is no recommendation.

    Args:
        model: Knows the units of its inputs.
        crop: Which crop.
        cells: Values of the row.
    """
    options, known = model.config.fertiliser, targets(model.config.fertiliser.targets)
    if crop not in known:
        return [f"fertiliser: no uptake figures of '{crop}'; give a table with fertiliser.targets"]
    tests = {
        feature.nutrient: (float(value), feature.unit, feature.name)
        for feature in model.encoder.features
        if feature.nutrient is not None
        and isinstance(value := cells.get(feature.name), float)
        and not np.isnan(value)
    }
    if not tests:
        return ["fertiliser: no soil test of available N, P or K among the inputs"]
    target = known[crop]
    try:
        found = deficits(tests, target, options)
    except DataError as error:
        return [f"fertiliser: {error.message}", f"  {error.hint}"]
    lines = [f"fertiliser for {crop} at {target.goal:g} t/ha (kg/ha)"]
    for one in found:
        lines.append(
            f"  {one.nutrient:<5} uptake {one.uptake:6.1f}  available {one.available:7.1f}"
            f"  lacks {one.missing:6.1f}"
        )
    measured = {one.nutrient for one in found}
    missing = [name for name in NUTRIENTS if name not in measured]
    if missing:
        lines.append(f"  not measured, and not in the products: {', '.join(missing)}")
    lines += _products(model, {one.nutrient: one.missing for one in found})
    acidity = cells.get("ph")
    note = lime_note(acidity if isinstance(acidity, float) else None)
    return [*lines, *([f"  {note}"] if note else []), f"  source: {_source(target)}"]


def _products(model: CropRecommender, lacks: dict[str, float]) -> list[str]:
    options = model.config.fertiliser
    made = plan([lacks.get(name, 0.0) for name in NUTRIENTS], options)
    lines = []
    for name, rate in made.rates.items():
        bags = f", {made.bags[name]} bags of {options.bag:g} kg" if made.bags else ""
        lines.append(f"  {name:<5} {rate:7.1f} kg/ha{bags}")
    lines += [f"  {name} beyond the demand: {more:.1f} kg/ha" for name, more in made.over.items()]
    lines += [f"  {name} that is still lacking: {less:.1f} kg/ha" for name, less in made.short.items()]
    return lines or ["  nothing to add"]


def _source(target: Target) -> str:
    return f"{target.source}; efficiencies and grades as configured"
