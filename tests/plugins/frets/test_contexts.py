"""What a request brings becomes the past of a forecast, or a reason why it cannot."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_frets import configured, panel_of, past_of, table_of, waves

from appliedpapers.plugins.frets.contexts import ContextReader

PANEL = panel_of(waves())


def reader(*assignments: str, freq: str = "h", season: int = 24) -> ContextReader:
    return ContextReader(24, 8, freq, season, configured(*assignments).data)


def one(values, freq="h", start="2024-01-01", **columns) -> pd.DataFrame:
    ds = pd.date_range(start, periods=len(values), freq=freq, unit="us")
    return pd.DataFrame({"unique_id": "a", "ds": ds, "y": np.asarray(values, float), **columns})


def reason(frame: pd.DataFrame, *assignments: str, **options) -> str:
    contexts, problems = reader(*assignments, **options).read(table_of(frame))
    assert contexts == []
    (problem,) = problems
    assert problem.key == ("a",)
    return problem.rule


def past(frame: pd.DataFrame, *assignments: str, **options) -> np.ndarray:
    (context,), problems = reader(*assignments, **options).read(table_of(frame))
    assert problems == []
    return context.values


def test_the_last_rows_of_each_series_are_taken_in_order_of_first_appearance():
    frame = past_of(PANEL, rows=50).to_pandas().iloc[::-1]
    contexts, problems = reader().read(table_of(frame))
    assert problems == []
    assert [context.unique_id for context in contexts] == ["c", "b", "a"]
    for context, column in zip(contexts, (2, 1, 0), strict=True):
        np.testing.assert_array_equal(context.values, PANEL.values[-24:, column])
        assert context.cutoff == PANEL.ds[-1]
        assert (context.horizon, context.panel) == (8, None)


def test_a_series_that_is_too_short_says_what_is_needed():
    assert reason(one(range(23))) == "series 'a' has 23 rows; the model looks back on 24"
    assert past(one(range(24))).tolist() == list(range(24))


def test_a_repeated_timestamp_is_named():
    frame = pd.concat([one(range(30)), one([5.0], start="2024-01-02T01:00")])
    assert reason(frame) == "series 'a' has 2024-01-02T01:00:00 more than once"


@pytest.mark.parametrize(
    ("freq", "start", "stray"),
    [
        ("h", "2024-01-01", "2024-01-01T20:30:00"),
        ("B", "2024-01-01", "2024-01-20T00:00:00"),
        ("W-TUE", "2024-01-02", "2024-03-06T00:00:00"),
        ("MS", "2020-01-01", "2021-05-15T00:00:00"),
    ],
)
def test_a_timestamp_off_the_trained_step_is_named(freq, start, stray):
    frame = pd.concat([one(range(30), freq, start), one([1.0], start=stray)])
    assert reason(frame, freq=freq) == (f"series 'a' has {stray}, which is off the trained step of {freq}")


def test_a_cutoff_off_the_calendar_is_named():
    frame = one(range(30), "7D", "2024-01-03")
    assert "off the trained step of W-TUE" in reason(frame, freq="W-TUE")


@pytest.mark.parametrize(
    ("freq", "start"), [("B", "2024-01-01"), ("W-TUE", "2024-01-02"), ("MS", "2020-01-01")]
)
def test_calendar_steps_are_no_gaps(freq, start):
    assert past(one(range(40), freq, start), freq=freq).tolist() == list(range(16, 40))


def test_absent_rows_and_missing_values_are_gaps_alike():
    frame = one(range(40))
    absent = frame.drop(index=[30, 31])
    missing = frame.assign(y=frame["y"].where(~frame.index.isin([30, 31])))
    for each in (absent, missing):
        assert reason(each).startswith("series 'a' misses 2 of its last 24 values; send them, or train with")
        filled = past(each, "data.impute=linear")
        np.testing.assert_allclose(filled, np.arange(16.0, 40.0))


def test_gaps_before_the_lookback_do_not_matter():
    assert past(one(range(60)).drop(index=range(5, 30))).tolist() == list(range(36, 60))


def test_a_past_of_just_the_lookback_can_have_its_gaps_filled():
    frame = one(range(24)).drop(index=[7, 8, 9])
    np.testing.assert_allclose(past(frame, "data.impute=linear"), np.arange(24.0))
    # a gap at its beginning has nothing before it
    assert "has 23 rows" in reason(one(range(24)).drop(index=0), "data.impute=linear")


def test_a_seasonal_gap_is_filled_from_the_season_before_the_lookback():
    wave = np.sin(2 * np.pi * np.arange(72) / 24)
    frame = one(wave).drop(index=range(50, 56))
    np.testing.assert_allclose(past(frame, "data.impute=seasonal"), wave[-24:], atol=1e-12)


@pytest.mark.parametrize("sentinel", [-9999.0, -999.0, 1e20])
def test_a_single_sentinel_in_the_past_is_missing_and_named(sentinel):
    values = 10 + np.sin(np.arange(40.0))
    values[30] = sentinel
    rule = reason(one(values))
    assert rule.startswith(f"series 'a' misses 1 of its last 24 values ({sentinel:g} read as missing)")
    filled = past(one(values), "data.impute=linear")
    assert filled[30 - 16] == pytest.approx((values[29] + values[31]) / 2)
    assert past(one(values), "data.sentinels=keep")[30 - 16] == sentinel


def test_a_value_that_only_reads_like_a_sentinel_is_left_alone():
    values = np.linspace(900, 1100, 40)
    values[30] = 999.0
    assert past(one(values))[30 - 16] == 999.0


def test_named_sentinels_are_missing_wherever_they_lie():
    values = np.arange(40.0)
    assert "(20 read as missing)" in reason(one(values), "data.sentinels=[20.0]")
    assert past(one(values), "data.sentinels=[7.0]").tolist() == list(range(16, 40))


def test_infinity_never_passes_for_a_value():
    values = np.arange(40.0)
    values[30] = np.inf
    assert "misses 1 of its last 24" in reason(one(values))


def test_the_last_row_says_the_horizon():
    frame = one(range(30), horizon=[3] * 29 + [5])
    (context,), _ = reader().read(table_of(frame.sample(frac=1, random_state=0)))
    assert context.horizon == 5
    assert reason(one(range(30), horizon=0)) == "series 'a' asks for a horizon of 0; at least 1 is needed"


def test_one_bad_series_does_not_spoil_the_others():
    bad = one(range(5)).assign(unique_id="short")
    contexts, problems = reader().read(table_of(pd.concat([bad, one(range(30))])))
    assert [context.unique_id for context in contexts] == ["a"]
    assert [problem.key for problem in problems] == [("short",)]


@pytest.mark.parametrize(
    ("freq", "cutoff", "expected"),
    [
        ("h", "2024-10-27T01", ["2024-10-27T02", "2024-10-27T03"]),
        ("B", "2024-01-05", ["2024-01-08", "2024-01-09"]),
        ("MS", "2024-01-01", ["2024-02-01", "2024-03-01"]),
        ("ME", "2024-01-31", ["2024-02-29", "2024-03-31"]),
        ("W-TUE", "2024-02-27", ["2024-03-05", "2024-03-12"]),
        ("3h", "2024-01-01T21", ["2024-01-02T00", "2024-01-02T03"]),
    ],
)
def test_the_future_follows_the_calendar(freq, cutoff, expected):
    future = reader(freq=freq).future(np.datetime64(cutoff, "us"), 2)
    np.testing.assert_array_equal(future, np.array(expected, "M8[us]"))
