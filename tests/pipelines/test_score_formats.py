"""Batch scoring reads the files that ``run`` and ``predict`` read, and says what it inferred as they do."""

from __future__ import annotations

import openpyxl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tinyplugins.bundles import plots, series

from appliedpapers.core.delimited import READ_AS, WINDOWS
from appliedpapers.core.errors import DataError
from appliedpapers.core.tables import notes_of, read_table
from appliedpapers.pipelines import score_input
from appliedpapers.pipelines.score import score_run


def named(count: int) -> pa.Table:
    """Plots whose names are no ASCII, and whose numbers survive a sheet."""
    rows = plots(count)
    rows = pa.table({name: _rounded(rows.column(name)) for name in rows.column_names})
    names = pa.array([f"Höhe {number}" for number in range(count)])
    return rows.set_column(0, "plot", names)


def _rounded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.round(column, 4) if pa.types.is_floating(column.type) else column


def text_of(table: pa.Table, separator: str = ",", decimal: str = ".") -> str:
    """Write a table as a program of another country would."""
    lines = [separator.join(table.column_names)]
    for row in table.to_pylist():
        cells = ["" if cell is None else str(cell) for cell in row.values()]
        floats = [isinstance(cell, float) for cell in row.values()]
        cells = [
            cell.replace(".", decimal) if real else cell for cell, real in zip(cells, floats, strict=True)
        ]
        lines.append(separator.join(cells))
    return "\n".join(lines) + "\n"


def scores(output):
    return pq.read_table(output / "predictions.parquet").sort_by("plot").to_pylist()


@pytest.mark.parametrize(
    ("encoding", "separator", "decimal", "notes"),
    [
        ("utf-8", ",", ".", []),
        ("utf-8-sig", ";", ",", ["commas were read as decimal points"]),
        ("cp1252", ";", ",", [READ_AS[WINDOWS], "commas were read as decimal points"]),
        ("utf-16", "\t", ".", []),
    ],
)
def test_texts_of_any_program_give_the_same_scores_and_the_notes_of_predict(
    encoding, separator, decimal, notes, rows_bundle, tmp_path
):
    table = named(40)
    path, plain = tmp_path / "plots.csv", tmp_path / "plain.parquet"
    path.write_bytes(text_of(table, separator, decimal).encode(encoding))
    pq.write_table(table, plain)
    done = score_run(str(rows_bundle), [str(path)], tmp_path / "out", batch_rows=7)
    score_run(str(rows_bundle), [str(plain)], tmp_path / "plain")
    assert scores(tmp_path / "out") == scores(tmp_path / "plain")
    assert [note for note in done.notes if "read" in note] == [f"{path}: {note}" for note in notes]
    assert notes_of(read_table(path)) == notes


def write_sheet(table: pa.Table, path) -> None:
    book = openpyxl.Workbook()
    book.active.append(table.column_names)
    for row in table.to_pylist():
        book.active.append(list(row.values()))
    book.save(path)


def test_a_sheet_gives_the_scores_of_the_table_that_it_holds(rows_bundle, tmp_path):
    table = named(40)
    folder = tmp_path / "in"
    folder.mkdir()
    write_sheet(table, folder / "plots.xlsx")
    (folder / "~$plots.xlsx").write_bytes(b"the lock of who has it open")
    pq.write_table(table, tmp_path / "plain.parquet")
    assert score_run(str(rows_bundle), [str(folder)], tmp_path / "out", batch_rows=7).rows_in == 40
    score_run(str(rows_bundle), [str(tmp_path / "plain.parquet")], tmp_path / "plain")
    assert scores(tmp_path / "out") == scores(tmp_path / "plain")


def test_a_bad_cell_of_a_sheet_is_in_quarantine_with_its_row(rows_bundle, tmp_path):
    rows = named(5).to_pylist()
    rows[2]["heat"] = "warm"
    write_sheet(
        pa.table(
            {
                name: pa.array([str(row[name]) if name == "heat" else row[name] for row in rows])
                for name in rows[0]
            }
        ),
        tmp_path / "plots.xlsx",
    )
    done = score_run(str(rows_bundle), [str(tmp_path / "plots.xlsx")], tmp_path / "out")
    (bad,) = pq.read_table(tmp_path / "out" / "quarantine.parquet").to_pylist()
    assert (bad["row"], bad["column"], bad["value"]) == (3, "heat", "warm")
    assert (done.rows_in, done.rows_out) == (5, 4)


def test_groups_that_stand_apart_are_sorted_in_any_encoding(ahead_bundle, tmp_path):
    pytest.importorskip("duckdb")
    table = series([5, 6, 7])
    table = table.take(pa.array(sorted(range(table.num_rows), key=lambda row: (row % 3, row))))
    path, plain = tmp_path / "rows.csv", tmp_path / "plain.parquet"
    path.write_bytes(text_of(table, ";").encode("utf-16"))
    pq.write_table(table, plain)
    for given, output in ((path, "out"), (plain, "plain")):
        score_run(str(ahead_bundle), [str(given)], tmp_path / output, sort=True)
    found = [pq.read_table(tmp_path / one / "predictions.parquet") for one in ("out", "plain")]
    assert found[0].equals(found[1])
    assert found[0].num_rows


def test_only_what_was_looked_at_decides_the_encoding_of_a_large_text(rows_bundle, tmp_path, monkeypatch):
    from appliedpapers.core import delimited

    path = tmp_path / "plots.csv"
    path.write_bytes(text_of(named(200)).encode() + "p\xff,1.0,0.5,clay,1\n".encode("cp1252"))
    monkeypatch.setattr(delimited, "_BLOCK_BYTES", 1 << 9)
    monkeypatch.setattr(delimited, "_DECODED_BYTES", 1 << 10)
    with pytest.raises(DataError, match="cannot be read as csv") as caught:
        score_run(str(rows_bundle), [str(path)], tmp_path / "out")
    assert str(path) in caught.value.message
    monkeypatch.undo()
    assert score_run(str(rows_bundle), [str(path)], tmp_path / "out").rows_in == 201


def test_what_is_read_is_what_is_listed():
    assert sorted(score_input._READERS) == ["arrow", "csv", "jsonl", "parquet", "xlsx"]
