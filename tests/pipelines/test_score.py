"""Batch scoring: what goes in, what comes out, and what is not done twice."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tinyplugins.bundles import make_bundle, plots, series
from tinyplugins.rows.model import RowsModel

from appliedpapers.core.bundle import load_bundle
from appliedpapers.core.errors import ConfigError, DataError, RunError
from appliedpapers.core.inference import predict_usable
from appliedpapers.core.tables import csv_bytes, write_table
from appliedpapers.pipelines import score_chunks, score_input
from appliedpapers.pipelines.score import score_run


@pytest.fixture(scope="module")
def scenes_bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("scenes"), "tiny-scenes")


def run(bundle, inputs, output, **options):
    return score_run(str(bundle), [str(item) for item in inputs], output, **options)


def scores(output, *keys):
    table = pq.read_table(output / "predictions.parquet")
    return table.sort_by([(key, "ascending") for key in keys]).to_pylist()


def quarantine(output):
    return pq.read_table(output / "quarantine.parquet").sort_by("row").to_pylist()


def expected(bundle, table, *keys):
    prediction = predict_usable(load_bundle(bundle)[0], table)
    return prediction.table.sort_by([(key, "ascending") for key in keys]).to_pylist()


def files_of(output):
    return {str(path.relative_to(output)): path.stat().st_mtime_ns for path in output.rglob("part-*.parquet")}


def write_arrow_stream(table, path):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=17)


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.csv", "a.csv.gz", "a.jsonl", "a.arrow", "a.arrows", "a.ndjson.gz"]
)
def test_every_format_gives_the_scores_of_one_predict(name, rows_bundle, tmp_path):
    table = plots(100)
    path = tmp_path / name
    if name == "a.arrows":
        write_arrow_stream(table, path)
    elif name == "a.ndjson.gz":
        path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in table.to_pylist()).encode()))
    else:
        write_table(table, path)
    summary = run(rows_bundle, [path], tmp_path / "out", batch_rows=30)
    assert scores(tmp_path / "out", "plot") == expected(rows_bundle, table, "plot")
    assert (summary.rows_in, summary.rows_out, summary.parts_written, summary.exit_code) == (100, 100, 4, 0)
    json.dumps(dataclasses.asdict(summary), allow_nan=False)


@pytest.mark.parametrize(("name", "separator"), [("a.csv", b";"), ("a.tsv", b"\t"), ("a.tsv.gz", b"\t")])
def test_cells_may_be_separated_otherwise(name, separator, rows_bundle, tmp_path):
    table = plots(40)
    content = csv_bytes(table).replace(b",", separator)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    run(rows_bundle, [tmp_path / name], tmp_path / "out", batch_rows=30)
    assert scores(tmp_path / "out", "plot") == expected(rows_bundle, table, "plot")


def test_commas_may_be_decimal_marks(rows_bundle, tmp_path):
    table = plots(40)
    content = csv_bytes(table).replace(b",", b";").replace(b".", b",")
    (tmp_path / "a.csv").write_bytes(content)
    run(rows_bundle, [tmp_path / "a.csv"], tmp_path / "out", batch_rows=30)
    assert scores(tmp_path / "out", "plot") == expected(rows_bundle, table, "plot")


def test_parquet_without_a_column_of_categories_or_with_codes_in_it_is_judged_by_the_schema(
    rows_bundle, tmp_path
):
    table = plots(20)
    write_table(table.drop_columns("soil"), tmp_path / "absent.parquet")
    with pytest.raises(DataError, match="soil"):
        run(rows_bundle, [tmp_path / "absent.parquet"], tmp_path / "out")
    place = table.schema.get_field_index("soil")
    write_table(table.set_column(place, "soil", pa.array(range(20))), tmp_path / "codes.parquet")
    summary = run(rows_bundle, [tmp_path / "codes.parquet"], tmp_path / "out")
    assert (summary.rejected, {row["column"] for row in quarantine(tmp_path / "out")}) == (20, {"soil"})


def test_a_second_run_touches_nothing_and_says_so(rows_bundle, tmp_path):
    for number in range(3):
        write_table(plots(40, first=number * 40), tmp_path / f"{number}.parquet")
    inputs, output = [tmp_path / "*.parquet"], tmp_path / "out"
    first = run(rows_bundle, inputs, output)
    before, manifest = files_of(output), (output / "manifest.json").stat().st_mtime_ns
    second = run(rows_bundle, inputs, output)
    assert (first.parts_written, second.parts_written, second.parts_kept) == (3, 0, 3)
    assert files_of(output) == before
    assert (output / "manifest.json").stat().st_mtime_ns == manifest
    assert "nothing to do" in second.notes[0]
    assert (second.rows_in, second.rows_out) == (first.rows_in, first.rows_out)


def test_a_changed_input_is_scored_again_alone_and_its_stale_part_goes(rows_bundle, tmp_path):
    for number in range(3):
        write_table(plots(40, first=number * 40), tmp_path / f"{number}.parquet")
    inputs, output = [tmp_path / "*.parquet"], tmp_path / "out"
    run(rows_bundle, inputs, output)
    before = files_of(output)
    write_table(plots(50, seed=9, first=40), tmp_path / "1.parquet")
    summary = run(rows_bundle, inputs, output)
    after = files_of(output)
    assert (summary.parts_written, summary.parts_kept) == (1, 2)
    assert len(before.keys() & after.keys()) == 2
    assert all(before[name] == after[name] for name in before.keys() & after.keys())
    assert len(scores(output, "plot")) == 130
    listed = json.loads((output / "manifest.json").read_text())["parts"]
    assert {part["predictions"]["path"] for part in listed} == after.keys()


def test_scores_of_inputs_that_are_not_named_this_time_stay(rows_bundle, tmp_path):
    write_table(plots(40), tmp_path / "monday.parquet")
    write_table(plots(40, first=40), tmp_path / "tuesday.parquet")
    output = tmp_path / "out"
    run(rows_bundle, [tmp_path / "monday.parquet"], output)
    summary = run(rows_bundle, [tmp_path / "tuesday.parquet"], output)
    assert summary.rows_in == 40
    assert len(scores(output, "plot")) == 80
    assert len(json.loads((output / "manifest.json").read_text())["inputs"]) == 2


def test_another_model_version_or_job_shares_no_part(rows_bundle, tmp_path):
    write_table(plots(40), tmp_path / "a.parquet")
    output = tmp_path / "out"
    run(rows_bundle, [tmp_path / "a.parquet"], output)
    assert run(rows_bundle, [tmp_path / "a.parquet"], output, job="nightly").parts_written == 1
    assert len(scores(output, "plot")) == 40


def test_bad_cells_go_to_quarantine_with_their_row_number(rows_bundle, tmp_path):
    lines = ["plot,heat,moisture,soil,visits"]
    lines += [f"p{number},20,50,clay,1" for number in range(1, 10)]
    lines[3] = "p3,hot,50,clay,1"
    lines[5] = "p5,20,50,clay"
    lines[7] = "p7,20,,clay,1.5"
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines) + "\n")
    summary = run(rows_bundle, [path], tmp_path / "out", batch_rows=2)
    assert (summary.exit_code, summary.rows_in, summary.rows_out, summary.rejected) == (0, 9, 6, 3)
    assert [
        (row["file"], row["row"], row["column"], row["value"]) for row in quarantine(tmp_path / "out")
    ] == [
        (str(path), 3, "heat", "hot"),
        (str(path), 5, "", "p5,20,50,clay"),
        (str(path), 7, "visits", "1.5"),
    ]
    assert [row["plot"] for row in scores(tmp_path / "out", "plot")] == ["p1", "p2", "p4", "p6", "p8", "p9"]


def test_row_numbers_survive_broken_lines_over_many_blocks(rows_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("appliedpapers.pipelines.score_input._BLOCK_BYTES", 256)
    lines = [f"p{number},20,50,clay,1" for number in range(1, 201)]
    bad = [3, 50, 51, 199]
    for number in bad:
        lines[number - 1] += ",extra"
    lines[119] = "p120,cold,50,clay,1"
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["plot,heat,moisture,soil,visits", *lines]) + "\n")
    summary = run(rows_bundle, [path], tmp_path / "out", batch_rows=40)
    assert [row["row"] for row in quarantine(tmp_path / "out")] == sorted([*bad, 120])
    assert summary.rows_in == 200
    assert summary.rows_out == 195


def test_strict_exits_4_and_keeps_the_outputs(rows_bundle, tmp_path):
    path = tmp_path / "a.jsonl"
    records = plots(10).to_pylist()
    records[4]["soil"] = "moss"
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"plot": "cut\n')
    summary = run(rows_bundle, [path], tmp_path / "out", strict=True)
    assert (summary.exit_code, summary.rejected, summary.rows_out) == (4, 2, 9)
    assert [row["row"] for row in quarantine(tmp_path / "out")] == [5, 11]


def test_a_null_that_begins_a_later_piece_is_rejected_by_its_number(rows_bundle, tmp_path):
    whole = score_input._LINES_PER_PIECE
    lines = [json.dumps(record) + "\n" for record in plots(whole + 2).to_pylist()]
    (tmp_path / "a.jsonl").write_text("".join([*lines[:whole], "null\n", *lines[whole:]]))
    summary = run(rows_bundle, [tmp_path / "a.jsonl"], tmp_path / "out")
    assert (summary.rejected, summary.rows_out) == (1, whole + 2)
    assert [row["row"] for row in quarantine(tmp_path / "out")] == [whole + 1]


def test_more_bad_rows_than_an_error_shows_are_all_in_quarantine(rows_bundle, tmp_path):
    table = plots(10_500).set_column(1, "heat", pa.array(np.full(10_500, 99.0)))
    write_table(table, tmp_path / "a.parquet")
    summary = run(rows_bundle, [tmp_path / "a.parquet"], tmp_path / "out")
    assert summary.rejected == 10_500
    assert len(quarantine(tmp_path / "out")) == 10_500
    assert scores(tmp_path / "out", "plot") == []


def test_items_that_raise_are_listed_and_the_others_finished(rows_bundle, tmp_path, monkeypatch):
    calls = []
    original = RowsModel.predict

    def predict(self, table, *, files=None):
        calls.append(table.num_rows)
        if {"p0000007", "p0000050"} & set(table.column("plot").to_pylist()):
            raise ZeroDivisionError("the seventh")
        return original(self, table, files=files)

    monkeypatch.setattr(RowsModel, "predict", predict)
    write_table(plots(64), tmp_path / "a.parquet")
    summary = run(rows_bundle, [tmp_path / "a.parquet"], tmp_path / "out")
    assert summary.exit_code == 1
    assert [(item["row"], item["key"], item["error"]) for item in summary.failed] == [
        (8, "p0000007", "ZeroDivisionError: the seventh"),
        (51, "p0000050", "ZeroDivisionError: the seventh"),
    ]
    assert summary.rows_out == 62
    assert len(calls) < 30
    monkeypatch.setattr(RowsModel, "predict", original)
    again = run(rows_bundle, [tmp_path / "a.parquet"], tmp_path / "out")
    assert (again.exit_code, again.parts_written, again.rows_out) == (0, 1, 64)


def test_lists_of_what_a_model_was_asked_for_hold_every_row_although_some_raise(
    rows_bundle, tmp_path, monkeypatch
):
    original = RowsModel.predict

    def predict(self, table, *, files=None):
        (files / ".scratch").write_text("not delivered")
        (files / "list.txt").write_text("\n".join(table.column("plot").to_pylist()))
        if {"p0000007", "p0000050"} & set(table.column("plot").to_pylist()):
            raise ZeroDivisionError("the seventh")
        return original(self, table, files=files)

    monkeypatch.setattr(RowsModel, "predict", predict)
    write_table(plots(64), tmp_path / "a.parquet")
    run(rows_bundle, [tmp_path / "a.parquet"], tmp_path / "out")
    (part,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["parts"]
    paths = [tmp_path / "out" / file["path"] for file in part["files"]]
    assert {path.name for path in paths} == {"list.txt"}
    listed = [plot for path in paths for plot in path.read_text().splitlines()]
    assert sorted(listed) == [row["plot"] for row in scores(tmp_path / "out", "plot")]
    monkeypatch.setattr(RowsModel, "predict", original)
    run(rows_bundle, [tmp_path / "a.parquet"], tmp_path / "out")
    assert not list((tmp_path / "out" / "files").iterdir())


def test_a_delivered_file_that_was_taken_away_is_made_again(rows_bundle, tmp_path, monkeypatch):
    original = RowsModel.predict

    def predict(self, table, *, files=None):
        (files / "list.txt").write_text("\n".join(table.column("plot").to_pylist()))
        return original(self, table, files=files)

    monkeypatch.setattr(RowsModel, "predict", predict)
    write_table(plots(4), tmp_path / "a.parquet")
    run(rows_bundle, [tmp_path / "a.parquet"], tmp_path / "out")
    (listed,) = (tmp_path / "out" / "files").rglob("list.txt")
    listed.unlink()
    assert run(rows_bundle, [tmp_path / "a.parquet"], tmp_path / "out").parts_written == 1
    assert listed.is_file()


def test_a_model_that_fails_on_everything_ends_the_run(rows_bundle, tmp_path, monkeypatch):
    def predict(self, table, *, files=None):
        raise ZeroDivisionError("always")

    monkeypatch.setattr(RowsModel, "predict", predict)
    write_table(plots(5000), tmp_path / "a.parquet")
    with pytest.raises(RunError, match="ZeroDivisionError: always"):
        run(rows_bundle, [tmp_path / "a.parquet"], tmp_path / "out")


def test_a_group_with_a_bad_row_is_left_out_whole_and_a_short_one_too(ahead_bundle, tmp_path):
    table = series([6, 5, 2, 7])
    values = table.column("value").to_pylist()
    values[8] = float("inf")
    table = table.set_column(2, "value", pa.array(values))
    write_table(table, tmp_path / "a.parquet")
    summary = run(ahead_bundle, [tmp_path / "a.parquet"], tmp_path / "out")
    assert {row["series"] for row in scores(tmp_path / "out", "series")} == {0, 3}
    assert summary.rejected == 7
    assert [row["row"] for row in quarantine(tmp_path / "out")] == [9, 12]


def test_a_missing_group_key_is_a_bad_row_and_ends_no_group(ahead_bundle, tmp_path):
    rows = series([5, 5]).to_pylist()
    rows.insert(2, {"series": None, "step": 9, "value": 0.0})
    table = pa.Table.from_pylist(rows)
    write_table(table, tmp_path / "a.csv")
    run(ahead_bundle, [tmp_path / "a.csv"], tmp_path / "out")
    assert scores(tmp_path / "out", "series", "ahead") == expected(
        ahead_bundle, series([5, 5]), "series", "ahead"
    )
    assert [(row["row"], row["column"]) for row in quarantine(tmp_path / "out")] == [(3, "series")]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(4, 9), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 60), max_size=4),
    batch_rows=st.integers(1, 25),
    kinds=st.lists(st.sampled_from(["parquet", "csv", "jsonl", "arrow"]), min_size=5, max_size=5),
    limit=st.one_of(st.none(), st.integers(1, 40)),
)
def test_groups_over_files_and_batches_equal_one_predict(
    lengths, cuts, batch_rows, kinds, limit, ahead_bundle, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("split")
    table = series(lengths)
    edges = sorted({0, table.num_rows, *(cut for cut in cuts if cut < table.num_rows)})
    inputs = []
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        inputs.append(folder / f"{number}.{kinds[number]}")
        write_table(table.slice(start, end - start), inputs[-1])
    summary = run(ahead_bundle, inputs, folder / "out", batch_rows=batch_rows, limit=limit)
    ends = np.cumsum(lengths)
    used = ends[np.searchsorted(ends, min(limit or 10**9, table.num_rows))]
    assert summary.rows_in == used
    assert scores(folder / "out", "series", "ahead") == expected(
        ahead_bundle, table.slice(0, used), "series", "ahead"
    )
    assert run(ahead_bundle, inputs, folder / "out", batch_rows=batch_rows, limit=limit).parts_written == 0


def test_groups_are_the_same_whatever_type_a_file_gives_their_key(ahead_bundle, tmp_path):
    table = series([8])
    write_table(table.slice(0, 3), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("series,step,value\n0.0,3,1\n0,4,2\n")
    write_table(table.slice(5), tmp_path / "c.jsonl")
    summary = run(ahead_bundle, [tmp_path / f for f in ("a.parquet", "b.csv", "c.jsonl")], tmp_path / "out")
    assert (summary.parts_written, summary.rejected) == (1, 0)


def test_a_group_that_reappears_is_refused_with_the_remedy(ahead_bundle, tmp_path):
    write_table(series([5, 5]), tmp_path / "a.parquet")
    write_table(series([5]), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet, row 1: group series = 0") as caught:
        run(ahead_bundle, [tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out")
    assert "sort the input by the group" in caught.value.hint


def test_interleaved_groups_of_one_small_file_are_sorted_aloud(ahead_bundle, tmp_path):
    table = series([6, 5, 7]).sort_by([("step", "ascending"), ("series", "descending")])
    write_table(table, tmp_path / "a.parquet")
    summary = run(ahead_bundle, [tmp_path / "a.parquet"], tmp_path / "out", batch_rows=6)
    assert scores(tmp_path / "out", "series", "ahead") == expected(ahead_bundle, table, "series", "ahead")
    assert "sorted in memory (18 rows)" in summary.notes[0]


def test_interleaved_groups_beyond_the_memory_budget_are_refused(ahead_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(score_chunks, "SORTED_IN_MEMORY", 10)
    table = series([6, 5, 7]).sort_by("step")
    write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="reappears"):
        run(ahead_bundle, [tmp_path / "a.parquet"], tmp_path / "out")


def test_seen_keys_are_found_again_after_they_were_packed(monkeypatch):
    monkeypatch.setattr(score_chunks, "_RECENT_KEYS", 8)
    seen = score_chunks._SeenKeys()
    assert not any(seen.add((number,)) for number in range(100))
    assert all(seen.add((number,)) for number in range(100))


@pytest.fixture
def scenes(tmp_path):
    folder = tmp_path / "data" / "tiles"
    folder.mkdir(parents=True)
    lines = ["scene,tile,raster"]
    for number in range(3):
        for tile in range(2):
            (folder / f"{number}-{tile}.json").write_text(json.dumps([[number, tile], [1, 2]]))
            lines.append(f"s{number},{tile},tiles/{number}-{tile}.json")
    (tmp_path / "data" / "scenes.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "data" / "scenes.csv"


def test_a_job_model_gets_one_item_a_part_and_its_files_lie_in_the_output(scenes, scenes_bundle, tmp_path):
    summary = run(scenes_bundle, [scenes], tmp_path / "out")
    rows = scores(tmp_path / "out", "scene")
    assert (summary.parts_written, [row["scene"] for row in rows]) == (3, ["s0", "s1", "s2"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    recorded = {file["path"]: file["sha256"] for part in manifest["parts"] for file in part["files"]}
    assert recorded == {row["map"]: row["map_sha256"] for row in rows}
    assert all((tmp_path / "out" / path).is_file() for path in recorded)
    assert run(scenes_bundle, [scenes], tmp_path / "out").notes[0].startswith("nothing to do")


def test_a_changed_referenced_file_or_a_new_item_is_scored_alone(scenes, scenes_bundle, tmp_path):
    run(scenes_bundle, [scenes], tmp_path / "out")
    (scenes.parent / "tiles" / "1-0.json").write_text("[[7, 7], [7, 7]]")
    with scenes.open("a") as file:
        file.write("s9,0,tiles/0-0.json\n")
    summary = run(scenes_bundle, [scenes], tmp_path / "out")
    assert (summary.parts_written, summary.parts_kept) == (2, 2)
    assert len(list((tmp_path / "out" / "files").iterdir())) == 4


def test_an_item_that_was_dropped_from_the_input_leaves_the_output(scenes, scenes_bundle, tmp_path):
    run(scenes_bundle, [scenes], tmp_path / "out")
    scenes.write_text("".join(scenes.read_text().splitlines(keepends=True)[:5]))
    summary = run(scenes_bundle, [scenes], tmp_path / "out")
    assert summary.parts_written == 0
    assert [row["scene"] for row in scores(tmp_path / "out", "scene")] == ["s0", "s1"]
    assert len(list((tmp_path / "out" / "files").iterdir())) == 2


def test_an_absent_referenced_file_is_quarantined_with_its_group(scenes, scenes_bundle, tmp_path):
    (scenes.parent / "tiles" / "1-1.json").unlink()
    summary = run(scenes_bundle, [scenes], tmp_path / "out")
    (row,) = quarantine(tmp_path / "out")
    assert (row["row"], row["column"], summary.rejected, summary.rows_out) == (4, "raster", 2, 2)
    assert "no such file" in row["rule"]


def test_a_dry_run_counts_and_writes_nothing(rows_bundle, tmp_path):
    table = plots(100).set_column(1, "heat", pa.array([99.0] * 3 + [20.0] * 97))
    write_table(table, tmp_path / "a.parquet")
    summary = run(rows_bundle, [tmp_path / "a.parquet"], tmp_path / "out", dry_run=True, batch_rows=30)
    assert (summary.dry_run, summary.rows_in, summary.rejected, summary.parts_written) == (True, 100, 3, 4)
    assert summary.manifest is None
    assert not (tmp_path / "out").exists()


def test_limit_ends_after_so_many_rows(rows_bundle, tmp_path):
    for number in range(3):
        write_table(plots(40, first=number * 40), tmp_path / f"{number}.csv")
    summary = run(rows_bundle, [tmp_path / "*.csv"], tmp_path / "out", limit=50, batch_rows=15)
    assert [row["plot"] for row in scores(tmp_path / "out", "plot")] == [f"p{n:07d}" for n in range(50)]
    assert summary.rows_in == 50


def test_wide_rows_make_smaller_batches(scenes_bundle, rows_bundle):
    narrow = load_bundle(rows_bundle)[0].input_schema
    wide = load_bundle(scenes_bundle)[0].input_schema
    assert score_chunks.fitting_rows(narrow, 10_000) == 10_000
    assert score_chunks.fitting_rows(wide, 10_000) < 300


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "no such file"),
        ("*.nothing", None, "matches no file"),
        ("a.csv", b"", "empty file"),
        ("a.csv", b"plot,heat,moisture,soil,visits\n", "no rows"),
        ("a.csv", b"plot,heat\np1,2\n", "column 'moisture' is missing"),
        ("a.csv", b"plot,heat,moisture,soil,visits\np\0,1,2,clay,1\n", "it is not text in UTF-8"),
        ("a.parquet", b"PAR1 is not enough", "cannot be read as parquet"),
        ("a.arrow", b"ARROW1\0\0rest", "cannot be read as arrow"),
        (
            "a.csv.gz",
            gzip.compress(b"plot,heat,moisture,soil,visits\n" + b"p,1,2,clay,1\n" * 99, mtime=0)[:-30],
            "as csv",
        ),
        ("a.jsonl", b"[1, 2]\n", "row 1: the line is not a JSON object"),
        ("a.jsonl", b"null\n", "row 1: the line is not a JSON object"),
        ("a.xlsx", b"PK", "cannot be read"),
        ("a.odt", b"PK", "unknown format '.odt'"),
    ],
)
def test_an_unusable_input_is_one_line_with_a_hint(name, content, message, rows_bundle, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        run(rows_bundle, [tmp_path / name], tmp_path / "out")
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert name.removeprefix("*") in caught.value.message
    assert caught.value.hint


def test_a_refused_run_leaves_no_output_folder_and_a_later_refusal_no_scores_less(rows_bundle, tmp_path):
    bad, good = tmp_path / "bad.csv", tmp_path / "good.csv"
    bad.write_text("plot,heat\np1,2\n")
    write_table(plots(4), good)
    with pytest.raises(DataError):
        run(rows_bundle, [bad], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    run(rows_bundle, [good], tmp_path / "out")
    with pytest.raises(DataError):
        run(rows_bundle, [bad], tmp_path / "out")
    assert len(scores(tmp_path / "out", "plot")) == 4


def test_a_refused_run_leaves_the_users_own_empty_folder(rows_bundle, tmp_path):
    own, made = tmp_path / "own", tmp_path / "made"
    own.mkdir()
    (tmp_path / "rows.csv").write_text("plot\n1\n")
    for output in (own, made):
        with pytest.raises(DataError):
            score_run(rows_bundle, [str(tmp_path / "rows.csv")], output)
    assert not list(own.iterdir())
    assert not made.exists()


def test_an_option_that_was_settled_by_training_is_refused(rows_bundle, tmp_path):
    write_table(plots(4), tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="does not say how rows are read") as caught:
        run(rows_bundle, [tmp_path / "a.csv"], tmp_path / "out", assignments=["model.alpha=3"])
    assert "Train again" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_output_folder_is_no_input(rows_bundle, tmp_path):
    write_table(plots(10), tmp_path / "a.parquet")
    run(rows_bundle, [tmp_path / "a.parquet"], tmp_path / "out")
    again = run(rows_bundle, [tmp_path / "**" / "*.parquet"], tmp_path / "out")
    assert (again.parts_written, again.rows_in) == (0, 10)
    part = next((tmp_path / "out").rglob("part-*.parquet"))
    with pytest.raises(ConfigError, match="lies in the output folder"):
        run(rows_bundle, [part], tmp_path / "out")


def test_an_output_that_cannot_be_a_folder_is_a_config_error(rows_bundle, tmp_path):
    write_table(plots(10), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="cannot be written"):
        run(rows_bundle, [tmp_path / "a.parquet"], tmp_path / "a.parquet" / "out")


def test_an_unregistered_bundle_is_named_by_its_plugin_and_digest(ahead_bundle, tmp_path):
    write_table(series([5]), tmp_path / "a.parquet")
    summary = run(ahead_bundle, [tmp_path / "a.parquet"], tmp_path / "out")
    model = json.loads((tmp_path / "out" / "manifest.json").read_text())["model"]
    assert (model["name"], model["plugin"], model["task"]) == ("apps.tiny-tasks.ahead", "tiny-tasks", "ahead")
    assert model["version"] == summary.version == model["digest"][:12]


def test_an_alias_is_resolved_to_a_version_and_a_promotion_scores_anew(store, store_folder, tiny, tmp_path):
    from appliedpapers.pipelines import registry

    for _ in range(2):
        with tiny.start(store) as tracked:
            uri = tracked.log_model(tiny.bundle, "apps.tiny-rows")
        registry.register(store, name="apps.tiny-rows", model_uri=uri, run_id=tracked.run_id, tags={})
    write_table(plots(10), tmp_path / "a.parquet")
    options = {"store_folder": store_folder}
    first = run("tiny-rows@champion", [tmp_path / "a.parquet"], tmp_path / "out", **options)
    model = json.loads((tmp_path / "out" / "manifest.json").read_text())["model"]
    assert (first.model, first.version, model["alias"]) == ("apps.tiny-rows", "1", "champion")
    assert model["uri"] == "models:/apps.tiny-rows/1"
    assert run("tiny-rows@1", [tmp_path / "a.parquet"], tmp_path / "out", **options).parts_written == 0
    store.client.set_registered_model_alias("apps.tiny-rows", "champion", "2")
    second = run("tiny-rows@champion", [tmp_path / "a.parquet"], tmp_path / "out", **options)
    assert (second.version, second.parts_written) == ("2", 1)
    assert len(scores(tmp_path / "out", "plot")) == 10


def test_json_lines_read_at_once_and_by_line_are_judged_alike(rows_bundle, tmp_path, monkeypatch):
    records = plots(60).to_pylist()
    records[20]["heat"] = "21.5"
    records[25]["visits"] = 2.5
    records[30]["heat"] = True
    del records[40]["visits"]
    records[45]["plot"] = "2024-01-31"
    lines = [json.dumps(record) for record in records]
    lines[50] = lines[50] + lines[51]
    lines[52] = ""
    path = tmp_path / "a.jsonl"
    path.write_bytes("\n".join(lines).encode().replace(b"p0000055", b"p\xff"))
    for size, name in ((3, "small"), (1000, "whole")):
        monkeypatch.setattr("appliedpapers.pipelines.score_input._LINES_PER_PIECE", size)
        run(rows_bundle, [path], tmp_path / name, batch_rows=size)
    assert scores(tmp_path / "small", "plot") == scores(tmp_path / "whole", "plot")
    assert [row["row"] for row in quarantine(tmp_path / "small")] == [26, 31, 41, 51, 56]
    whole = [(row["row"], row["column"]) for row in quarantine(tmp_path / "whole")]
    assert whole == [(row["row"], row["column"]) for row in quarantine(tmp_path / "small")]
    assert "2024-01-31" in {row["plot"] for row in scores(tmp_path / "small", "plot")}
