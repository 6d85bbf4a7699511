from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.errors import DataError, RunError, UnusableGroups
from appliedpapers.core.inference import predict_all, predict_usable
from appliedpapers.core.model import GroupProblem, Model
from appliedpapers.core.schema import Column, OutputSchema, TableSchema

ROWS = TableSchema((Column("id", "string"), Column("x", "float64", minimum=0)))
GROUPED = TableSchema(ROWS.columns, group_by=("id",))
OUTPUT = OutputSchema((Column("id", "string"), Column("y", "float64")), rows="per_row", keys=("id",))


class Doubling(Model):
    """Doubles x; cannot do 13."""

    output_schema = OUTPUT

    def __init__(self, schema: TableSchema = ROWS):
        super().__init__(TaskConfig())
        self.schema = schema
        self.seen: list[pa.Table] = []
        self.asked = 0

    @property
    def input_schema(self):
        return self.schema

    def fit(self, train, valid, run, *, init=None):
        return self

    def problems(self, table):
        keys = table.column("id").to_pylist() if self.schema.group_by else list(range(table.num_rows))
        pairs = zip(keys, table.column("x").to_pylist(), strict=True)
        return [
            GroupProblem((key,), "13 cannot be done") for key in dict.fromkeys(k for k, x in pairs if x == 13)
        ]

    def predict(self, table, *, files: Path | None = None):
        self.asked += 1
        if problems := self.problems(table):
            raise UnusableGroups(problems)
        self.seen.append(table)
        doubled = [2 * x for x in table.column("x").to_pylist()]
        return pa.table({"id": table.column("id"), "y": doubled}).replace_schema_metadata({"made": "here"})

    def write_parts(self, folder):
        return {}

    @classmethod
    def read_parts(cls, config, state, folder, device):
        return cls()


def table(ids, xs):
    return pa.table({"id": ids, "x": xs})


def test_a_clean_table_is_cast_and_predicted():
    found = predict_all(Doubling(), table(["a", "b"], ["1", "2"]))
    assert found.to_pylist() == [{"id": "a", "y": 2.0}, {"id": "b", "y": 4.0}]
    assert found.schema.metadata is None


def test_bad_rows_are_left_out_and_named_with_the_numbering_of_the_caller():
    model = Doubling()
    found = predict_usable(
        model, table(["a", "b", "c", "d"], ["1", "x", "13", "-4"]), source="f.csv", first_row=2
    )
    assert found.table.to_pylist() == [{"id": "a", "y": 2.0}]
    assert found.rejected.tolist() == [1, 2, 3]
    assert [(item.file, item.row, item.column) for item in found.violations] == [
        ("f.csv", 3, "x"),
        ("f.csv", 5, "x"),
        ("f.csv", 4, "id"),
    ]
    assert found.violations[2].rule == "13 cannot be done"
    assert model.seen[0].column_names == ["id", "x"]


def test_a_group_that_cannot_be_predicted_leaves_the_others():
    rows = table(["a", "b", "a", "c", "b"], [1.0, 13.0, 2.0, float("nan"), 3.0])
    found = predict_usable(Doubling(GROUPED), rows)
    assert found.table.column("id").to_pylist() == ["a", "a"]
    assert found.rejected.tolist() == [1, 3, 4]
    assert [(item.row, item.value) for item in found.violations] == [(4, "nan"), (2, "b")]


def test_nothing_usable_means_no_prediction_and_no_call():
    model = Doubling()
    found = predict_usable(model, table(["a", "b"], [13.0, -1.0]))
    assert found.table is None
    assert found.rejected.tolist() == [0, 1]
    assert model.seen == []


def test_predict_all_refuses_a_table_with_one_bad_row():
    with pytest.raises(DataError, match="column 'x', row 2") as caught:
        predict_all(Doubling(), table(["a", "b"], [1.0, -1.0]))
    assert caught.value.violations.num_rows == 1
    with pytest.raises(DataError, match="13 cannot be done"):
        predict_all(Doubling(GROUPED), table(["a", "b"], [1.0, 13.0]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda output: output.drop_columns(["y"]), "did not return column 'y'"),
        (lambda output: output.slice(1), "returned 1 rows for 2"),
    ],
)
def test_a_model_that_breaks_its_own_schema_is_a_defect(monkeypatch, change, words):
    honest = Doubling.predict
    monkeypatch.setattr(Doubling, "predict", lambda self, rows, *, files=None: change(honest(self, rows)))
    with pytest.raises(RunError, match=words) as caught:
        predict_all(Doubling(), table(["a", "b"], [1.0, 2.0]))
    assert "defect" in caught.value.hint


@pytest.mark.parametrize("schema", [ROWS, GROUPED])
@pytest.mark.parametrize(
    "problem", [GroupProblem(("elsewhere",), "bad"), GroupProblem(("a",), "bad", row=2)], ids=["key", "row"]
)
def test_a_model_that_blames_no_group_of_the_table_is_a_defect(monkeypatch, schema, problem):
    monkeypatch.setattr(Doubling, "problems", lambda self, rows: [problem])
    with pytest.raises(RunError, match=problem.key[0]) as caught:
        predict_usable(Doubling(schema), table(["a"], [1.0]))
    assert "defect" in caught.value.hint


def test_a_model_that_keeps_finding_groups_that_it_cannot_predict_is_a_defect(monkeypatch):
    monkeypatch.setattr(
        Doubling, "problems", lambda self, rows: [GroupProblem((rows.column("id")[0].as_py(),), "bad")]
    )
    with pytest.raises(RunError, match="asked again"):
        predict_usable(Doubling(GROUPED), table(["a", "b", "c"], [1.0, 2.0, 3.0]))


def test_a_clean_table_is_asked_for_once_and_one_with_a_bad_group_twice():
    model = Doubling(GROUPED)
    predict_usable(model, table(["a", "b"], [1.0, 2.0]))
    assert model.asked == 1
    predict_usable(model, table(["a", "b"], [1.0, 13.0]))
    assert model.asked == 3


def test_a_table_that_must_be_whole_is_not_worked_on_where_a_value_is_broken():
    model = Doubling(GROUPED)
    assert predict_usable(model, table(["a", "b"], [1.0, -2.0]), whole=True).table is None
    assert model.asked == 0


def test_the_row_and_the_column_that_are_to_blame_are_named(monkeypatch):
    blamed = GroupProblem(("b",), "13 cannot be done", row=3, column="x")
    monkeypatch.setattr(
        Doubling, "problems", lambda self, rows: [blamed] if 13.0 in rows.column("x").to_pylist() else []
    )
    rows = table(["z", "a", "b", "b"], [-1.0, 1.0, 2.0, 13.0])
    found = predict_usable(Doubling(GROUPED), rows, source="f.csv")
    assert found.violations[1].sentence() == "f.csv, column 'x', row 4: 13 cannot be done"
    assert found.violations[1].value == "13.0"
    assert found.rejected.tolist() == [0, 2, 3]


def test_a_row_without_groups_is_named_by_its_first_cell_and_not_by_its_number():
    found = predict_usable(Doubling(), table(["a", "b"], [1.0, 13.0]))
    assert (found.violations[0].column, found.violations[0].value) == ("id", "b")


def test_a_model_that_needs_a_folder_for_files_says_so_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setattr(Doubling, "needs_files", True)
    model = Doubling()
    with pytest.raises(DataError, match="no folder for them") as caught:
        predict_usable(model, table(["a"], [1.0]))
    assert "--files FOLDER" in caught.value.hint
    assert model.asked == 0
    assert predict_usable(model, table(["a"], [1.0]), files=tmp_path).table.num_rows == 1
