"""Rows and groups that lie across files are answered as if they lay in one table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tinyplugins.rows.plugin

from appliedpapers.core.conformance.jobs import file_columns
from appliedpapers.core.conformance.subject import CheckFailed, Subject, require_equal
from appliedpapers.core.inference import predict_all
from appliedpapers.core.tables import write_table
from appliedpapers.pipelines.score import score_run


def require_joined(subject: Subject, folder: Path, **options: int) -> None:
    """Score the example, cut in the middle of its first group, and hold it against ``predict``."""
    table = pa.concat_tables(subject.units)
    cut = max(subject.units[0].num_rows // 2, 1)
    for name, part in {"a": table.slice(0, cut), "b": table.slice(cut)}.items():
        write_table(part, folder / f"{name}.parquet")
    inputs = [str(folder / name) for name in ("a.parquet", "b.parquet")]
    score_run(str(subject.bundle), inputs, folder / "scores", **options)
    whole = predict_all(subject.model, table, files=folder / "whole")
    left_out = file_columns(subject)
    found = pq.read_table(folder / "scores" / "predictions.parquet").select(whole.column_names)
    require_equal(
        _in_order(subject, found.drop_columns(left_out)),
        _in_order(subject, whole.drop_columns(left_out)),
        "cut in two files",
    )


def _in_order(subject: Subject, table: pa.Table) -> pa.Table:
    schema = subject.model.output_schema
    names = [*schema.keys, *([schema.order_by] if schema.order_by else [])]
    return table.sort_by([(name, "ascending") for name in dict.fromkeys(names)]) if names else table


@pytest.mark.parametrize("options", [{}, {"batch_rows": 1}], ids=["at-once", "row-by-row"])
def test_a_group_that_goes_on_in_the_next_file_is_answered_as_one(subject, tmp_path, options):
    if subject.example.num_rows < 2:
        pytest.skip("the example has one row")
    require_joined(subject, tmp_path, **options)


class GroupsByItself(tinyplugins.rows.plugin.PLUGIN.tasks[0].load("model")):
    """The answer depends on the other plots of its soil, and no `group_by` says so."""

    def predict(self, table, *, files=None):
        output, soils = super().predict(table), table.column("soil").to_pylist()
        harvest = [
            value + soils.count(soil)
            for value, soil in zip(output.column("harvest").to_pylist(), soils, strict=True)
        ]
        return output.set_column(1, "harvest", pa.array(harvest))


def test_a_group_that_no_schema_declares_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr("tinyplugins.rows.model.RowsModel", GroupsByItself)
    spec = tinyplugins.rows.plugin.PLUGIN
    with pytest.raises(CheckFailed, match="cut in two files: column 'harvest'"):
        require_joined(Subject(spec, spec.tasks[0], tmp_path / "subject"), tmp_path, batch_rows=1)
