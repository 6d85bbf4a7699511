"""``apps score evaluate``: earlier scores held against labels that arrived later."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from appliedpapers.core import plugin as plugins
from appliedpapers.core.errors import ConfigError, DataError, did_you_mean
from appliedpapers.core.metrics import metric
from appliedpapers.core.schema import Column, OutputSchema, TableSchema
from appliedpapers.core.validation import check
from appliedpapers.pipelines.score_chunks import join
from appliedpapers.pipelines.score_files import find_fragments
from appliedpapers.pipelines.score_input import read
from appliedpapers.pipelines.score_manifest import MANIFEST, PartRecord

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Evaluation
    from appliedpapers.core.scores import Scored

_BATCH = 262_144


@dataclass(frozen=True)
class LateEvaluation:
    """How good earlier scores were; ``dataclasses.asdict`` is its JSON form.

    Attributes:
        model: Name of the model.
        version: Its version.
        prediction: The column of the scores that was judged.
        label: The column of the labels that it was held against.
        keys: The columns by which rows were joined.
        metrics: Metric, unit, value, ends of the 95 % interval (None where it cannot be estimated), rows.
        rows: How many ``joined``; ``without_label``: scores whose label is not there; ``without_score``:
            labels that fit no score; ``repeated_scores``: rows whose key a score before them has, which
            count, too; ``repeated_labels``: rows that say a label once more, which count once;
            ``contradicting_labels``: keys with different labels, which are left out; ``bad_labels``: rows of
            the labels that cannot be read.
        notes: Sentences worth reading.
    """

    model: str
    version: str
    prediction: str
    label: str
    keys: tuple[str, ...]
    metrics: tuple[dict[str, Any], ...]
    rows: dict[str, int]
    notes: tuple[str, ...] = ()


def evaluate_scores(
    scores: Path,
    labels: Sequence[str],
    *,
    keys: Sequence[str] = (),
    label: str | None = None,
    prediction: str | None = None,
) -> LateEvaluation:
    """Join the scores of a folder with labels, and judge them by the metrics of the plugin.

    Args:
        scores: The output folder of ``apps score run``.
        labels: Files, folders, globs or URLs with the columns of the key and the label.
        keys: Columns that both have; by default all that both have.
        label: The column of the labels; by default the only one that the scores do not have.
        prediction: The column of the scores; by default the one that the plugin judges.

    Raises:
        ConfigError: A column is unknown, or it is not clear which one is meant.
        DataError: The folder holds no finished scores, a part was damaged, or nothing can be joined.
    """
    manifest = _manifest(scores)
    about = manifest["model"]
    evaluation: Evaluation = plugins.find(about["plugin"]).task(about["task"]).load("evaluation")
    table = _scores(scores, manifest)
    schema = OutputSchema.from_json(about["output"]) if "output" in about else _guessed(table)
    fragments = find_fragments(labels, scores)
    present = next(iter(read(fragments[0], TableSchema(()), 1))).table.column_names
    answer = _answer(prediction, schema, evaluation)
    by = _keys(keys, schema, answer, present)
    truth = _label(label, present, table.column_names)
    kind = schema.column(answer).dtype
    wanted = TableSchema((*(schema.column(name) for name in by), _label_column(truth, kind)))
    found, counts = _labels(fragments, wanted, by, truth)
    rows = _joined(table, found, by, answer, truth, counts)
    scored = evaluation.late(rows, answer, truth, schema)
    metrics = _rows(scored, evaluation.primary)
    return LateEvaluation(
        about["name"],
        about["version"],
        answer,
        truth,
        tuple(by),
        metrics,
        counts,
        tuple(_notes(counts, metrics)),
    )


def _manifest(scores: Path) -> dict[str, Any]:
    hint = "Expected the --output folder of a finished apps score run."
    try:
        document = json.loads((scores / MANIFEST).read_text(encoding="utf-8"))
        if not document["model"]["plugin"] or not isinstance(document["parts"], list):
            raise KeyError("parts")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{scores}: no scores ({type(error).__name__}).", hint=hint) from None
    return dict(document)


def _scores(scores: Path, manifest: dict[str, Any]) -> pa.Table:
    tables = []
    for item in manifest["parts"]:
        part = PartRecord.from_json(item)
        if not part.predictions.intact(scores):
            raise DataError(
                f"{scores / part.predictions.path}: it is not the file that was written.",
                hint="Run the same apps score run again: it makes the part anew.",
            )
        tables.append(pq.read_table(scores / part.predictions.path))
    if not sum(table.num_rows for table in tables):
        raise DataError(f"{scores}: there is no prediction in it.", hint="Score something first.")
    return join(tables)


def _guessed(table: pa.Table) -> OutputSchema:
    """Return what an output folder of an earlier version says of itself."""
    columns = []
    for field in table.schema:
        if pa.types.is_timestamp(field.type):
            columns.append(Column(field.name, "timestamp", nullable=True))
        elif str(field.type) in ("double", "float", "int64", "int32", "bool", "string"):
            name = {"double": "float64", "float": "float32"}.get(str(field.type), str(field.type))
            columns.append(Column(field.name, name, nullable=True))  # type: ignore[arg-type]
    return OutputSchema(tuple(columns))


def _answer(asked: str | None, schema: OutputSchema, evaluation: Evaluation) -> str:
    if asked is not None:
        return _known(asked, schema.names, "--prediction")
    if evaluation.answer in schema.names:
        return str(evaluation.answer)
    apart = {*schema.keys, *schema.group_by, schema.order_by}
    left = [item.name for item in schema.columns if item.name not in apart and item.shape is None]
    if len(left) != 1:
        raise ConfigError(
            "which prediction the labels belong to is not clear.",
            hint=f"Name it by --prediction: {', '.join(left or schema.names)}.",
        )
    return left[0]


def _keys(asked: Sequence[str], schema: OutputSchema, answer: str, present: Sequence[str]) -> list[str]:
    for name in asked:
        _known(_known(name, schema.names, "--key"), present, "--key")
    found = [name for name in schema.names if name in (asked or present) and name != answer]
    if not found:
        raise DataError(
            "scores and labels have no column in common, by which they could be joined.",
            hint=f"Scores have {', '.join(schema.names)}; labels have {', '.join(present)}.",
        )
    return found


def _label(asked: str | None, present: Sequence[str], scored: Sequence[str]) -> str:
    if asked is not None:
        return _known(asked, present, "--label")
    left = [name for name in present if name not in scored]
    if len(left) != 1:
        raise ConfigError(
            "which column is the label is not clear.",
            hint=f"Name it by --label: {', '.join(left or present)}.",
        )
    return left[0]


def _known(name: str, names: Sequence[str], option: str) -> str:
    if name not in names:
        raise ConfigError(f"{option} {name}: no such column.", hint=did_you_mean(name, names))
    return name


def _label_column(name: str, kind: Any) -> Column:
    # a number may be held against a whole one, and the other way round
    return Column(name, kind if kind in ("string", "timestamp") else "float64", nullable=True)


def _labels(
    fragments: Sequence[Any], schema: TableSchema, keys: Sequence[str], label: str
) -> tuple[pa.Table, dict[str, int]]:
    """Return one label a key, and what became of the others."""
    parts, bad = [], 0
    for fragment in fragments:
        for piece in read(fragment, schema, _BATCH):
            bad += len(piece.broken)
            if not piece.table.num_rows:
                continue
            checked = check(piece.table, schema, source=fragment.name)
            bad += len(checked.rejected)
            parts.append(checked.table.select([*keys, label]))
    given = join(parts) if parts else schema.arrow_schema().empty_table()
    given = given.filter(pc.is_valid(given.column(label)))
    grouped = given.group_by(list(keys), use_threads=False).aggregate(
        [(label, "first"), (label, "count_distinct"), (label, "count")]
    )
    different = pc.greater(grouped.column(f"{label}_count_distinct"), 1)
    once = grouped.filter(pc.invert(different))
    counts = {
        "repeated_labels": int(pc.sum(once.column(f"{label}_count")).as_py() or 0) - once.num_rows,
        "contradicting_labels": int(pc.sum(different).as_py() or 0),
        "bad_labels": bad,
    }
    columns = {name: once.column(name) for name in keys}
    return pa.table({**columns, _LABEL: once.column(f"{label}_first")}), counts


_LABEL, _ORDER = "__label", "__order"


def _joined(
    scores: pa.Table, labels: pa.Table, keys: Sequence[str], answer: str, label: str, counts: dict[str, int]
) -> pa.Table:
    plain = [field.name for field in scores.schema if not pa.types.is_nested(field.type)]
    plain = [name for name in plain if not isinstance(scores.schema.field(name).type, pa.BaseExtensionType)]
    # a join returns rows in any order, and intervals are to be the same each time
    left = scores.select([name for name in plain if name != label or name in keys or name == answer])
    left = left.append_column(_ORDER, pa.array(np.arange(left.num_rows)))
    distinct = scores.select(list(keys)).group_by(list(keys)).aggregate([]).num_rows
    rows = left.join(labels, list(keys), join_type="inner").sort_by(_ORDER)
    used = rows.select(list(keys)).group_by(list(keys)).aggregate([]).num_rows
    counts |= {
        "joined": rows.num_rows,
        "without_label": scores.num_rows - rows.num_rows,
        "without_score": labels.num_rows - used,
        "repeated_scores": scores.num_rows - distinct,
    }
    rows = rows.filter(pc.is_valid(rows.column(answer)))
    if not rows.num_rows:
        raise DataError(
            f"no label fits a score ({scores.num_rows:,} scores, {labels.num_rows:,} labels).",
            hint=f"Rows are joined by {', '.join(keys)}: are they written the same way in both?",
        )
    names = [name if name != _LABEL else label for name in rows.column_names]
    return rows.rename_columns(names).drop_columns([_ORDER])


def _rows(scored: Scored, primary: str) -> tuple[dict[str, Any], ...]:
    from appliedpapers.core.bootstrap import intervals

    names = sorted(scored.metrics, key=lambda name: name != primary)
    ends = intervals([scored.metrics[name] for name in names], scored.clusters, scored.block)
    return tuple(
        {
            "metric": name,
            "unit": scored.units.get(name, metric(name).unit),
            "value": _finite(scored.metrics[name].value),
            "low": _finite(low),
            "high": _finite(high),
            "n": scored.metrics[name].count,
        }
        for name, (low, high) in zip(names, ends, strict=True)
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _notes(counts: dict[str, int], metrics: Sequence[dict[str, Any]]) -> list[str]:
    said = {
        "without_label": "{:,} scores have no label yet",
        "without_score": "{:,} labels fit no score",
        "repeated_scores": "{:,} scores repeat a key; each counts",
        "repeated_labels": "{:,} labels stand more than once; each counts once",
        "contradicting_labels": "{:,} keys have different labels; they are left out",
        "bad_labels": "{:,} rows of the labels cannot be read; they are left out",
    }
    notes = [text.format(counts[name]) for name, text in said.items() if counts[name]]
    if all(row["low"] is None for row in metrics):
        notes.append("too few rows or groups for an interval")
    return notes
