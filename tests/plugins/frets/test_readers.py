"""Files as users bring them: what is read, what is cleaned and counted, what is refused and how."""

from __future__ import annotations

import datetime as dt
import gzip
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.plugins.frets.cleaning import impute
from appliedpapers.plugins.frets.config import ColumnsConfig, DataConfig
from appliedpapers.plugins.frets.observations import season_of
from appliedpapers.plugins.frets.panel import SeriesPanel
from appliedpapers.plugins.frets.readers import panel_from_table, read_panel

FILES = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def every_warning_is_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def long_frame(series=("b", "a"), steps=30, freq="h", seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    ds = pd.date_range("2024-01-01", periods=steps, freq=freq)
    parts = [pd.DataFrame({"unique_id": name, "ds": ds, "y": rng.normal(size=steps)}) for name in series]
    return pd.concat(parts, ignore_index=True)


def wide_frame(frame: pd.DataFrame) -> pd.DataFrame:
    return (
        frame.pivot(index="ds", columns="unique_id", values="y").reset_index().rename(columns={"ds": "date"})
    )


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def assert_same(a: SeriesPanel, b: SeriesPanel) -> None:
    assert (a.unique_ids, a.freq, a.notes) == (b.unique_ids, b.freq, b.notes)
    np.testing.assert_array_equal(a.ds, b.ds)
    np.testing.assert_array_equal(a.values, b.values)


def read(path: Path, **options) -> SeriesPanel:
    return read_panel(path, DataConfig(**options))


def refused(path: Path, **options) -> DataError:
    with pytest.raises(DataError) as caught:
        read(path, **options)
    assert caught.value.hint
    return caught.value


# what is read


def test_long_wide_parquet_and_packed_forms_of_the_same_data_give_the_same_panel(tmp_path):
    long = long_frame()
    wide = wide_frame(long)
    long.to_csv(tmp_path / "long.csv", index=False)
    long.to_parquet(tmp_path / "long.parquet", index=False)
    wide.to_csv(tmp_path / "wide.csv", index=False)
    wide[["date", "b", "a"]].to_csv(tmp_path / "swapped.csv.gz", index=False)
    wide.to_parquet(tmp_path / "wide.parquet")
    wide.to_csv(tmp_path / "numbered.csv")
    wide.to_csv(tmp_path / "semicolons.csv", index=False, sep=";", lineterminator="\r\n")
    expected = read(tmp_path / "long.csv")
    assert expected.unique_ids == ("a", "b")
    assert expected.freq == "h"
    assert expected.values.shape == (30, 2)
    assert expected.ds.dtype == "M8[us]"
    np.testing.assert_array_equal(expected.values[:, 1], long["y"][:30])
    for other in tmp_path.iterdir():
        assert_same(read(other), expected)


@FILES
@given(order=st.permutations(range(24)))
def test_the_order_of_rows_changes_nothing(tmp_path, order):
    frame = long_frame(steps=12)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.iloc[order].to_csv(tmp_path / "b.csv", index=False)
    assert_same(read(tmp_path / "b.csv"), read(tmp_path / "a.csv"))


@FILES
@given(
    names=st.lists(
        st.text("abcäβ 0NA", min_size=1, max_size=4).map(str.strip).filter(bool),
        min_size=1,
        max_size=4,
        unique=True,
    ),
    values=st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=8, max_size=8),
)
def test_values_and_names_survive_the_way_through_a_file(tmp_path, names, values):
    column = np.array([np.nan if value is None else value for value in values])
    column[0] = column[-1] = 1.5
    ds = pd.date_range("2024-01-01", periods=8, freq="D")
    frame = pd.concat([pd.DataFrame({"unique_id": name, "ds": ds, "y": column}) for name in names])
    frame.to_csv(tmp_path / "a.csv", index=False)
    panel = read(tmp_path / "a.csv", sentinels="keep")
    assert panel.unique_ids == tuple(sorted(names))
    np.testing.assert_array_equal(panel.values, np.repeat(column[:, None], len(names), axis=1))


@FILES
@given(content=st.binary(max_size=200) | st.text('0123456789-:,;\n" abds.', max_size=200).map(str.encode))
@pytest.mark.parametrize("suffix", [".csv", ".txt.gz", ".parquet"])
def test_garbage_is_a_data_error_or_a_panel_and_nothing_else(tmp_path, suffix, content):
    packed = gzip.compress(content) if suffix.endswith(".gz") else content
    path = write(tmp_path / f"a{suffix}", packed)
    for options in ({}, {"freq": "D", "start": "2024-01-01"}):
        try:
            panel = read(path, **options)
        except DataError:
            continue
        assert np.isfinite(panel.values).any()


def test_numbers_without_header_need_a_start_and_a_step(tmp_path):
    path = write(tmp_path / "rates.txt.gz", gzip.compress(b"1,2\n3,4\n5,\n"))
    panel = read(path, freq="B", start="2024-01-05")
    assert panel.unique_ids == ("series_1", "series_2")
    assert [str(day)[:10] for day in panel.ds] == ["2024-01-05", "2024-01-08", "2024-01-09"]
    np.testing.assert_array_equal(panel.values, [[1, 2], [3, 4], [5, np.nan]])
    error = refused(path)
    assert "no header and no dates" in error.message
    assert "--freq" in error.hint
    assert "--start" in error.hint
    with pytest.raises(ConfigError, match=r"data\.start"):
        read(path, freq="B", start="yesterday")
    spaced = write(tmp_path / "spaced.txt", "1 2\n3 4\n")
    assert read(spaced, freq="D", start="2024-01-01").values.tolist() == [[1, 2], [3, 4]]


def test_a_folder_is_read_as_one_dataset(tmp_path):
    frame = long_frame()
    frame.to_csv(tmp_path / "whole.csv", index=False)
    parts = tmp_path / "parts"
    parts.mkdir()
    frame.iloc[:20].to_csv(parts / "1.csv", index=False)
    frame.iloc[20:].to_parquet(parts / "2.parquet", index=False)
    write(parts / "README.md", "not data")
    assert_same(read(parts), read(tmp_path / "whole.csv"))

    wide_frame(frame).to_csv(parts / "3.csv", index=False)
    assert "1.csv is long and 3.csv is wide" in refused(parts).message
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no file of series in it" in refused(empty).message


def test_column_names_can_be_given_and_further_columns_are_refused_unless_dropped(tmp_path):
    frame = long_frame().rename(columns={"unique_id": "meter", "ds": "when", "y": "kw"})
    frame.to_csv(tmp_path / "a.csv", index=False)
    names = ColumnsConfig(id="meter", ds="when", y="kw")
    expected = read(tmp_path / "a.csv", columns=names)
    assert expected.unique_ids == ("a", "b")
    frame.assign(temperature=1.0).to_csv(tmp_path / "b.csv", index=False)
    error = refused(tmp_path / "b.csv", columns=names)
    assert "'temperature'" in error.message
    assert "exogenous" in error.message
    dropped = read(tmp_path / "b.csv", columns=names, exogenous="drop")
    np.testing.assert_array_equal(dropped.values, expected.values)
    assert any("temperature" in note for note in dropped.notes)

    error = refused(tmp_path / "a.csv", columns=ColumnsConfig(id="meter", ds="wen", y="kw"))
    assert "column 'wen' is missing" in error.message
    assert "Did you mean 'when'?" in error.hint


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_headers_in_utf8_and_latin1_are_read(tmp_path, encoding):
    path = write(tmp_path / "a.csv", "date,Zürich\n2024-01-01,1\n2024-01-02,2\n".encode(encoding))
    assert read(path).unique_ids == ("Zürich",)


def test_an_identifier_may_read_na(tmp_path):
    path = write(tmp_path / "a.csv", "unique_id,ds,y\nNA,2024-01-01,1\nNA,2024-01-02,NA\nNA,2024-01-03,3\n")
    panel = read(path)
    assert panel.unique_ids == ("NA",)
    np.testing.assert_array_equal(panel.values[:, 0], [1, np.nan, 3])


# timestamps


@pytest.mark.parametrize(
    "dates",
    [
        ("2020/2/9", "2020/2/10", "2020/2/11"),
        ("2020-02-09", "2020-02-10", "2020-02-11"),
        ("20200209", "20200210", "20200211"),
        ("9.2.2020", "10.2.2020", "11.2.2020"),
        ("2020-02-09T00:00Z", "2020-02-10T00:00Z", "2020-02-11T00:00Z"),
        ("2020-02-09T01:00+01:00", "2020-02-10T01:00+01:00", "2020-02-11T02:00+02:00"),
    ],
)
def test_consistent_date_forms_are_understood(tmp_path, dates):
    path = write(tmp_path / "a.csv", "date,a\n" + "".join(f"{day},1\n" for day in dates))
    panel = read(path)
    assert [str(day) for day in panel.ds.astype("M8[D]")] == ["2020-02-09", "2020-02-10", "2020-02-11"]
    assert panel.freq == "D"


def test_day_and_month_that_cannot_be_told_apart_need_a_format(tmp_path):
    days = ["02/01/2020", "03/01/2020", "04/01/2020"]
    path = write(tmp_path / "a.csv", "date,a\n" + "".join(f"{day},1\n" for day in days))
    error = refused(path)
    assert "%d/%m/%Y or %m/%d/%Y" in error.message
    assert "date_format" in error.hint
    assert read(path, date_format="%d/%m/%Y").freq == "D"
    assert read(path, date_format="%m/%d/%Y").freq == "MS"
    with pytest.raises(ConfigError, match="date_format"):
        read(path, date_format="%Q")


@pytest.mark.parametrize("other", ["2020/01/03", "03.01.2020"])
def test_mixed_date_formats_are_refused_with_their_rows(tmp_path, other):
    path = write(tmp_path / "a.csv", f"date,a\n2020-01-01,1\n2020-01-02,2\n{other},3\n2020-01-04,4\n")
    error = refused(path)
    assert "a.csv, column 'date'" in error.message
    assert "more than one way" in error.message
    assert "row 4" in error.message
    assert error.violations.column("row").to_pylist() == [4]


def test_offsets_on_some_rows_only_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", "date,a\n2020-01-01T00:00Z,1\n2020-01-01T01:00,2\n")
    assert "offset" in refused(path).message


@pytest.mark.parametrize(
    ("freq", "shown"),
    [
        ("15min", "15min"),
        ("h", "h"),
        ("D", "D"),
        ("B", "B"),
        ("W-TUE", "W-TUE"),
        ("MS", "MS"),
        ("ME", "ME"),
        ("QS-FEB", "QS-FEB"),
        ("YE-DEC", "YE-DEC"),
        ("90min", "90min"),
    ],
)
def test_the_step_is_inferred_and_gaps_do_not_hide_it(tmp_path, freq, shown):
    frame = long_frame(series=("a",), steps=40, freq=freq)
    frame.drop(index=[11, 12]).to_csv(tmp_path / "a.csv", index=False)
    panel = read(tmp_path / "a.csv")
    assert panel.freq == shown
    assert len(panel.ds) == 40
    assert_same(panel, read(tmp_path / "a.csv", freq=freq))


def test_irregular_series_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    ds = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.cumsum(rng.integers(1, 5000, 50)), unit="s")
    pd.DataFrame({"date": ds, "a": 1.0}).to_csv(tmp_path / "a.csv", index=False)
    assert "irregular" in refused(tmp_path / "a.csv").hint


def test_a_stray_timestamp_is_named_with_its_row(tmp_path):
    frame = long_frame(series=("a",), steps=40)
    frame.loc[7, "ds"] += pd.Timedelta("7min")
    frame.to_csv(tmp_path / "a.csv", index=False)
    error = refused(tmp_path / "a.csv")
    assert "column 'ds', row 9: '2024-01-01T07:07" in error.message
    assert error.violations.column("row").to_pylist() == [9]


def test_a_year_typed_wrong_does_not_make_a_calendar_of_centuries(tmp_path):
    frame = long_frame(series=("a",), steps=40)
    frame.loc[7, "ds"] = pd.Timestamp("1024-01-01 07:00")
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert "mistyped" in refused(tmp_path / "a.csv").hint


def test_one_row_alone_needs_a_frequency_and_an_unknown_one_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "date,a\n2024-01-01,1\n")
    assert "--freq" in refused(path).hint
    assert len(read(path, freq="D").ds) == 1
    for wrong in ("H", "fortnight", "-1h"):
        with pytest.raises(ConfigError, match=r"data\.freq"):
            read(path, freq=wrong)


def test_duplicate_timestamps_are_refused_with_their_count_and_rows(tmp_path):
    frame = long_frame()
    pd.concat([frame, frame.iloc[[3, 40]]]).to_csv(tmp_path / "a.csv", index=False)
    error = refused(tmp_path / "a.csv")
    assert "2 duplicate timestamps" in error.message
    assert "row 42" in error.message or "row 5 " in error.message
    assert error.violations.column("row").to_pylist() == [5, 42, 62, 63]


def test_the_hour_that_repeats_when_clocks_go_back_is_recognised(tmp_path):
    ds = pd.date_range("2024-10-26", periods=72, freq="h", tz="Europe/Berlin")
    frame = pd.DataFrame({"unique_id": "a", "ds": ds.tz_localize(None), "y": 1.0})
    frame.to_csv(tmp_path / "local.csv", index=False)
    error = refused(tmp_path / "local.csv")
    assert "1 duplicate timestamps" in error.message
    assert "clocks go back" in error.hint
    frame.assign(ds=ds).to_csv(tmp_path / "zoned.csv", index=False)
    panel = read(tmp_path / "zoned.csv")
    assert len(panel.ds) == 72
    assert any("UTC" in note for note in panel.notes)


# missing values, gaps, sentinels


def test_gaps_are_counted_and_filled_only_on_request(tmp_path):
    frame = long_frame(steps=48)
    frame.loc[5, "y"] = np.nan
    frame.drop(index=[10, 11, 60]).to_csv(tmp_path / "a.csv", index=False)
    left = read(tmp_path / "a.csv")
    assert int(np.isnan(left.values).sum()) == 4
    assert any(
        "4 missing steps in 2 series; the longest gap is 2 steps in series 'b'" in n for n in left.notes
    )
    for method in ("ffill", "linear", "seasonal"):
        filled = read(tmp_path / "a.csv", impute=method)
        assert not np.isnan(filled.values).any()
        assert any(f"4 missing steps imputed ({method})" in note for note in filled.notes)
        known = ~np.isnan(left.values)
        np.testing.assert_array_equal(filled.values[known], left.values[known])


def test_each_imputation_does_what_its_name_says():
    nan = np.nan
    values = np.array([[nan], [1.0], [2.0], [3.0], [nan], [nan], [6.0], [nan]])
    assert impute(values, "ffill", 3)[1:7, 0].tolist() == [1, 2, 3, 3, 3, 6]
    assert impute(values, "linear", 3)[1:7, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert impute(values, "seasonal", 3)[1:7, 0].tolist() == [1, 2, 3, 1, 2, 6]
    for method in ("ffill", "linear", "seasonal"):
        assert np.isnan(impute(values, method, 3)[[0, 7], 0]).all()


def test_series_that_start_late_or_end_early_are_cut_not_filled(tmp_path):
    frame = long_frame(steps=30)
    frame.drop(index=[*range(5), *range(55, 60)]).to_csv(tmp_path / "a.csv", index=False)
    panel = read(tmp_path / "a.csv", impute="ffill")
    assert np.isnan(panel.values[:5, 1]).all()
    assert np.isnan(panel.values[25:, 0]).all()
    assert any("series 'a' runs from 2024-01-01T00:00" in note for note in panel.notes)


def test_a_series_without_values_is_left_out_and_the_others_go_on(tmp_path):
    path = write(tmp_path / "a.csv", "date,a,b\n2024-01-01,1,\n2024-01-02,2,\n2024-01-03,3,\n")
    panel = read(path)
    assert panel.unique_ids == ("a",)
    assert panel.notes == ("series 'b' left out: every value is missing",)
    empty = write(tmp_path / "b.csv", "date,a,b\n2024-01-01,,\n2024-01-02,,\n")
    assert "every value is missing" in refused(empty).message


@pytest.mark.parametrize("sentinel", [-9999.0, -999.0, 9999.0, 99999.0])
def test_sentinels_become_missing_and_are_counted(tmp_path, sentinel):
    frame = long_frame(steps=50)
    frame.loc[[4, 9, 30], "y"] = sentinel
    frame.to_csv(tmp_path / "a.csv", index=False)
    panel = read(tmp_path / "a.csv")
    assert int(np.isnan(panel.values).sum()) == 3
    assert np.nanmax(np.abs(panel.values)) < 10
    assert any("3 values in 1 series" in note and f"{sentinel:g}" in note for note in panel.notes)
    named = read(tmp_path / "a.csv", sentinels=[sentinel])
    np.testing.assert_array_equal(named.values, panel.values)
    kept = read(tmp_path / "a.csv", sentinels="keep")
    assert (kept.values == sentinel).sum() == 3
    assert any("sentinels kept" in note for note in kept.notes)


def test_a_value_that_only_looks_like_a_sentinel_is_left_alone(tmp_path):
    frame = long_frame(steps=50, series=("a",))
    frame["y"] = np.linspace(0, 1500, 50)
    frame.loc[[20, 21], "y"] = 999.0
    frame.to_csv(tmp_path / "a.csv", index=False)
    panel = read(tmp_path / "a.csv")
    assert (panel.values == 999.0).sum() == 2
    assert panel.notes == ()


# bad cells and bad files


def test_bad_cells_are_named_by_line_and_all_of_them_are_listed(tmp_path):
    frame = long_frame(steps=2000, series=("a",)).astype({"ds": "str", "y": "object"})
    frame.loc[1840, "ds"] = "2024-13-01"
    frame.loc[1900, "ds"] = ""
    frame.loc[1950, "y"] = "12,5"
    frame.loc[1960, "y"] = "inf"
    frame.to_csv(tmp_path / "prices.csv", index=False)
    error = refused(tmp_path / "prices.csv")
    assert error.message == "prices.csv, column 'ds', row 1842: '2024-13-01' is not a timestamp."
    assert error.hint == (
        "Expected ISO 8601 (2024-01-31 or 2024-01-31T14:00). 4 rows are bad: 1842, 1902, 1952, 1962."
    )
    assert error.violations.column("row").to_pylist() == [1842, 1902, 1952, 1962]
    assert error.violations.column("column").to_pylist() == ["ds", "ds", "y", "y"]
    assert error.violations.column("value").to_pylist() == ["2024-13-01", "", "12,5", "inf"]
    assert set(error.violations.column("file").to_pylist()) == {"prices.csv"}


def test_line_numbers_count_blank_lines(tmp_path):
    path = write(tmp_path / "a.csv", "\n\ndate,a\n2024-01-01,1\n\n2024-01-02,x\n\n")
    error = refused(path)
    assert error.message == "a.csv, column 'a', row 6: 'x' is not a finite number."


def test_a_missing_name_of_a_series_is_named(tmp_path):
    path = write(tmp_path / "a.csv", "unique_id,ds,y\na,2024-01-01,1\n,2024-01-02,2\n")
    assert refused(path).message == "a.csv, column 'unique_id', row 3: the name of the series is missing."


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"date,a\n", "no rows"),
        ("a.csv", b"date\n2024-01-01\n", "one column only"),
        ("a.csv", b"date,a,a\n2024-01-01,1,2\n", "two columns are named 'a'"),
        ("a.csv", b"date,a,b\n2024-01-01,1,2\n2024-01-02,1\n", "row 3: it has 2 fields, not 3"),
        ("a.csv", b"2024-01-01,1,2\n2024-01-02,1,2\n", "first line holds data"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\x00\x00", "not text"),
        ("a.csv.gz", gzip.compress(b"date,a\n2024-01-01,1\n" * 99, mtime=0)[:40], "not a whole gzip file"),
        ("a.csv.gz", b"date,a\n2024-01-01,1\n", "not a whole gzip file"),
        ("a.parquet", b"PAR1", "not a whole Parquet file"),
        ("a.ods", b"PK", "unknown format"),
        ("a.xlsx", b"PK", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, name, content, says):
    error = refused(write(tmp_path / name, content))
    assert name in error.message
    assert says in error.message


def test_a_cut_parquet_file_and_an_absent_one_say_so(tmp_path):
    long_frame().to_parquet(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    write(tmp_path / "a.parquet", whole[: len(whole) // 2])
    assert "not a whole Parquet file" in refused(tmp_path / "a.parquet").message
    assert "no such file" in refused(tmp_path / "absent.csv").message


def test_parquet_columns_of_a_wrong_type_are_refused(tmp_path):
    table = pa.table({"unique_id": ["a", "a"], "ds": [1, 2], "y": [1.0, 2.0]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert "not timestamps" in refused(tmp_path / "a.parquet").message
    nested = pa.table({"date": ["2024-01-01"], "a": [[1.0]]})
    pq.write_table(nested, tmp_path / "b.parquet")
    assert "column 'a'" in refused(tmp_path / "b.parquet").message


# tables


def test_a_validated_table_gives_the_panel_of_its_file(tmp_path):
    frame = long_frame().sample(frac=1, random_state=1)
    frame.to_csv(tmp_path / "a.csv", index=False)
    table = pa.table(
        {
            "unique_id": pa.array(frame["unique_id"], pa.string()),
            "ds": pa.array(frame["ds"], pa.timestamp("us")),
            "y": pa.array(frame["y"], pa.float64()),
        }
    )
    assert_same(panel_from_table(table), read(tmp_path / "a.csv"))
    halves = pa.concat_tables([table.slice(0, 17), table.slice(17)])
    assert_same(panel_from_table(halves, freq="h"), read(tmp_path / "a.csv"))
    with pytest.raises(DataError, match="1 duplicate timestamps"):
        panel_from_table(pa.concat_tables([table, table.slice(0, 1)]))
    with pytest.raises(DataError, match="no rows"):
        panel_from_table(table.slice(0, 0))


def test_nulls_in_a_table_are_missing_values():
    days = [dt.datetime(2024, 1, day) for day in (1, 2, 3)]
    table = pa.table(
        {"unique_id": ["a"] * 3, "ds": pa.array(days, pa.timestamp("us")), "y": [1.0, None, 3.0]}
    )
    np.testing.assert_array_equal(panel_from_table(table).values[:, 0], [1, np.nan, 3])


@pytest.mark.parametrize(
    ("freq", "season"),
    [("h", 24), ("15min", 96), ("D", 7), ("B", 5), ("W-TUE", 52), ("7D", 52), ("MS", 12), ("YS-JAN", 1)],
)
def test_the_natural_season_follows_the_step(freq, season):
    assert season_of(freq) == season
