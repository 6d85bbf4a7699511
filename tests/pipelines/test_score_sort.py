"""Groups whose rows stand apart, and inputs behind URLs."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tinyplugins.bundles import make_bundle, plots, series

from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.core.tables import csv_bytes, write_table
from appliedpapers.core.validation import check, from_records
from appliedpapers.pipelines.score import score_run
from appliedpapers.pipelines.score_files import find_fragments
from appliedpapers.pipelines.score_sort import sorted_rows

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'applied-papers[sort]'")


@pytest.fixture(scope="module")
def ahead(tmp_path_factory):
    return str(make_bundle(tmp_path_factory.mktemp("tasks"), "tiny-tasks", "ahead"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return str(make_bundle(tmp_path_factory.mktemp("rows"), "tiny-rows"))


def scores(output, key):
    return pq.read_table(output / "predictions.parquet").sort_by(key).to_pylist()


@pytest.fixture
def whole():
    """Forty groups of four to nine rows."""
    return series([4 + number % 6 for number in range(40)])


def apart(table, folder, names):
    """Write the rows in a random order, over several files."""
    order = np.random.default_rng(0).permutation(table.num_rows)
    shuffled = table.take(order)
    paths = []
    for number, (name, part) in enumerate(
        zip(names, np.array_split(np.arange(len(order)), len(names)), strict=True)
    ):
        path = folder / f"{number}{name}"
        write_table(shuffled.take(part), path)
        paths.append(str(path))
    return paths


@pytest.mark.parametrize(
    "names",
    [
        [".parquet"],
        [".parquet", ".parquet"],
        [".csv", ".jsonl"],
        [".parquet", ".csv.gz"],
        [".arrow", ".arrow"],
    ],
    ids=lambda names: "".join(names),
)
def test_groups_that_stand_apart_are_scored_as_if_they_stood_together(names, ahead, whole, tmp_path):
    write_table(whole, tmp_path / "whole.parquet")
    score_run(ahead, [str(tmp_path / "whole.parquet")], tmp_path / "calm")
    paths = apart(whole, tmp_path, names)
    summary = score_run(ahead, paths, tmp_path / "out", sort=True, batch_rows=30)
    assert scores(tmp_path / "out", "series") == scores(tmp_path / "calm", "series")
    assert (summary.rows_in, summary.rejected) == (whole.num_rows, 0)
    assert summary.parts_written > 3
    again = score_run(ahead, paths, tmp_path / "out", sort=True, batch_rows=30)
    assert (again.parts_written, again.parts_kept) == (0, summary.parts_written)
    assert not (tmp_path / "out" / ".sort").exists()


def test_without_sorting_they_are_refused_with_what_to_type(ahead, whole, tmp_path):
    paths = apart(whole, tmp_path, [".parquet", ".parquet"])
    with pytest.raises(DataError, match="ended and reappears") as caught:
        score_run(ahead, paths, tmp_path / "out")
    assert "--sort" in caught.value.hint


def test_bad_cells_of_sorted_rows_are_found_in_their_file_and_row(ahead, whole, tmp_path):
    paths = apart(whole, tmp_path, [".csv", ".csv"])
    lines = Path(paths[1]).read_text().splitlines()
    row = 17
    name = lines[row].split(",")[0]
    lines[row] = ",".join([*lines[row].split(",")[:2], "much"])
    lines.insert(3, "1,2")
    Path(paths[1]).write_text("\n".join(lines) + "\n")
    summary = score_run(ahead, paths, tmp_path / "out", sort=True, batch_rows=30)
    bad = pq.read_table(tmp_path / "out" / "quarantine.parquet").sort_by("row").to_pylist()
    assert [(item["file"], item["row"]) for item in bad] == [(paths[1], 3), (paths[1], row + 1)]
    assert "2 fields, expected 3" in bad[0]["rule"]
    assert bad[1]["value"] == "much"
    # with the other rows of its group
    group = whole.filter(pc.equal(whole.column("series"), int(name))).num_rows
    assert summary.rejected == group + 1
    assert int(name) not in [item["series"] for item in scores(tmp_path / "out", "series")]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_arrays_are_sorted_along_with_their_shapes(name, tmp_path):
    columns = (
        Column("group", "int64"),
        Column("fixed", "float64", shape=(2,)),
        Column("ragged", "float64", shape=(None, None)),
    )
    schema = TableSchema(columns, group_by=("group",))
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5))
    rows = [
        {"group": int(group), "fixed": [float(row), 0.5], "ragged": [[1.0] * (1 + row % 3)] * 2}
        for row, group in enumerate(groups)
    ]
    if name == "a.jsonl":
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        checked = check(from_records(rows, schema), schema).require_clean()
        pq.write_table(checked, tmp_path / name)
    with sorted_rows(
        find_fragments([str(tmp_path / name)], tmp_path / "out"), schema, 20, tmp_path / "s"
    ) as found:
        pieces = [piece for _, piece in found]
    order = np.concatenate([piece.rows for piece in pieces]) - 1
    assert groups[order].tolist() == sorted(groups.tolist())
    tables = [check(piece.table, schema).require_clean() for piece in pieces]
    flat = [[cell for line in rows[row]["ragged"] for cell in line] for row in order]
    assert [cell for table in tables for cell in table.column("ragged").to_pylist()] == flat
    shapes = [cell for table in tables for cell in table.column("ragged_shape").to_pylist()]
    assert shapes == [[2, 1 + int(row) % 3] for row in order]
    fixed = np.concatenate([table.column("fixed").combine_chunks().to_numpy_ndarray() for table in tables])
    assert fixed[:, 0].tolist() == order.tolist()


def test_a_model_that_scores_row_by_row_needs_no_order(bundle, tmp_path):
    write_table(plots(10), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="row by row"):
        score_run(bundle, [str(tmp_path / "a.parquet")], tmp_path / "out", sort=True)


def test_sorting_a_dry_run_writes_nothing(ahead, whole, tmp_path):
    paths = apart(whole, tmp_path, [".parquet", ".parquet"])
    summary = score_run(ahead, paths, tmp_path / "out", sort=True, dry_run=True)
    assert summary.rows_in == whole.num_rows
    assert not (tmp_path / "out").exists()


def test_duckdb_that_is_not_installed_is_said_with_what_to_type(ahead, whole, tmp_path, monkeypatch):
    paths = apart(whole, tmp_path, [".parquet"])
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigError, match="needs DuckDB") as caught:
        score_run(ahead, paths, tmp_path / "out", sort=True)
    assert "pip install 'applied-papers[sort]'" in caught.value.hint


def test_an_error_of_a_file_that_is_sorted_is_its_own(ahead, whole, tmp_path):
    paths = apart(whole, tmp_path, [".parquet", ".csv"])
    Path(paths[1]).write_text("series,value\n1,2\n")
    with pytest.raises(DataError, match=r"1\.csv: column 'step' is missing"):
        score_run(ahead, paths, tmp_path / "out", sort=True)


@pytest.fixture
def memory():
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install fsspec")
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/bucket", recursive=True)


def put(system, path, content):
    system.makedirs(path.rpartition("/")[0], exist_ok=True)
    system.pipe_file(path, content)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz", "a.jsonl", "a.arrow"])
def test_a_file_behind_a_url_is_scored_like_one_on_disk(name, memory, bundle, tmp_path):
    table = plots(100)
    if name == "a.csv.gz":
        content = gzip.compress(csv_bytes(table))
    else:
        write_table(table, tmp_path / name)
        content = (tmp_path / name).read_bytes()
    put(memory, f"/bucket/{name}", content)
    write_table(table, tmp_path / "local.parquet")
    score_run(bundle, [f"file://{tmp_path}/local.parquet"], tmp_path / "calm", batch_rows=30)
    summary = score_run(bundle, [f"memory://bucket/{name}"], tmp_path / "out", batch_rows=30)
    assert scores(tmp_path / "out", "plot") == scores(tmp_path / "calm", "plot")
    assert summary.parts_written == 4
    assert score_run(bundle, [f"memory://bucket/{name}"], tmp_path / "out", batch_rows=30).parts_written == 0
    listed = json.loads((tmp_path / "out" / "manifest.json").read_text())["inputs"]
    assert [item["path"] for item in listed] == [f"memory://bucket/{name}"]
    put(memory, f"/bucket/{name}", content)
    assert score_run(bundle, [f"memory://bucket/{name}"], tmp_path / "out", batch_rows=30).parts_written == 4


def test_folders_and_globs_behind_a_url_name_their_files(memory, bundle, tmp_path):
    for number in range(3):
        write_table(plots(10, first=number * 10), tmp_path / "part.parquet")
        put(memory, f"/bucket/days/{number}.parquet", (tmp_path / "part.parquet").read_bytes())
    put(memory, "/bucket/days/_notes.csv", b"nothing")
    put(memory, "/bucket/days/README.md", b"nothing")
    assert score_run(bundle, ["memory://bucket/days"], tmp_path / "all").rows_out == 30
    assert score_run(bundle, ["memory://bucket/days/[01].parquet"], tmp_path / "two").rows_out == 20


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("memory://bucket/none.parquet", DataError, "nothing there"),
        ("memory://bucket/no*.parquet", DataError, "nothing there"),
        ("nonsense://bucket/a.parquet", ConfigError, "nonsense"),
        ("memory://bucket/a.xlsx", DataError, "XLSX is read from disk"),
        ("memory://bucket/empty.csv", DataError, "empty|no rows"),
    ],
)
def test_a_url_that_cannot_be_read_is_named(url, error, said, memory, bundle, tmp_path):
    put(memory, "/bucket/a.xlsx", b"x")
    put(memory, "/bucket/empty.csv", b"")
    with pytest.raises(error, match=said) as caught:
        score_run(bundle, [url], tmp_path / "out")
    assert url in caught.value.message
    assert caught.value.hint


def test_a_manifest_behind_a_url_may_not_name_files_beside_it(memory, tmp_path):
    scenes = str(make_bundle(tmp_path / "scenes", "tiny-scenes"))
    put(memory, "/bucket/a.csv", b"scene,tile,raster\ns1,0,grid.json\n")
    with pytest.raises(DataError, match=r"it names 'grid.json' beside it"):
        score_run(scenes, ["memory://bucket/a.csv"], tmp_path / "out")
    (tmp_path / "grid.json").write_text("[[1, 2], [3, 4]]")
    put(memory, "/bucket/a.csv", f"scene,tile,raster\ns1,0,{tmp_path}/grid.json\n".encode())
    assert score_run(scenes, ["memory://bucket/a.csv"], tmp_path / "out").rows_out


def test_files_of_other_types_are_sorted_together_and_bad_groups_set_aside(ahead, tmp_path):
    table = pa.table({"series": [2, 1, 2, 1] * 3, "step": np.arange(12), "value": np.arange(12.0)})
    write_table(table, tmp_path / "0.parquet")
    later = pa.table({"series": ["2", "b", "1", "b"], "step": pa.array([12, 13, 14, 15], pa.int32())})
    write_table(later.append_column("value", [[1.0, 2.0, 3.0, 4.0]]), tmp_path / "1.parquet")
    given = [str(tmp_path / "0.parquet"), str(tmp_path / "1.parquet")]
    summary = score_run(ahead, given, tmp_path / "out", sort=True)
    assert (summary.rows_in, summary.rejected) == (16, 2)
    assert {item["series"] for item in scores(tmp_path / "out", "series")} == {1, 2}
    bad = pq.read_table(tmp_path / "out" / "quarantine.parquet").to_pylist()
    assert [(item["file"], item["row"]) for item in bad] == [(given[1], 2), (given[1], 4)]
