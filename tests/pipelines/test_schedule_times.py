"""When jobs are due, also on the days on which clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.pipelines.schedule_times import Cron, Interval, seconds_of

BERLIN = "Europe/Berlin"
SPRING, AUTUMN = datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def local(moments: list[datetime], zone: str = BERLIN) -> list[str]:
    return [f"{moment.astimezone(ZoneInfo(zone)):%d %H:%M %Z}" for moment in moments]


def days_around(day: datetime) -> tuple[datetime, datetime]:
    return day - timedelta(days=1), day + timedelta(days=2)


def test_a_time_that_the_clock_leaves_out_happens_once_an_hour_later():
    due = Cron("30 2 * * *", BERLIN).between(*days_around(SPRING))
    assert local(due) == ["28 02:30 CET", "29 03:30 CEST", "30 02:30 CEST"]


def test_a_time_that_the_clock_shows_twice_happens_the_first_time_alone():
    due = Cron("30 2 * * *", BERLIN).between(*days_around(AUTUMN))
    assert local(due) == ["24 02:30 CEST", "25 02:30 CEST", "26 02:30 CET"]


@pytest.mark.parametrize("day", [SPRING, AUTUMN])
@pytest.mark.parametrize(("expression", "minutes"), [("*/15 * * * *", 15), ("0 * * * *", 60)])
def test_a_job_of_every_hour_keeps_to_real_hours_through_the_change(day, expression, minutes):
    due = Cron(expression, BERLIN).between(*days_around(day))
    gaps = {later - earlier for earlier, later in pairwise(due)}
    assert gaps == {timedelta(minutes=minutes)}


def test_two_times_that_fall_together_are_one():
    due = Cron("30 2,3 * * *", BERLIN).between(SPRING, SPRING + timedelta(hours=12))
    assert local(due) == ["29 03:30 CEST"]


def test_a_change_of_half_an_hour_is_understood():
    # Lord Howe moves from 02:00 to 02:30
    day = at(2026, 10, 3)
    due = Cron("10 2 * * *", "Australia/Lord_Howe").between(day, day + timedelta(days=2))
    assert local(due, "Australia/Lord_Howe") == ["04 02:40 +11", "05 02:10 +11"]


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("0", {"Sun"}),
        ("7", {"Sun"}),
        ("1-4", {"Mon", "Tue", "Wed", "Thu"}),
        ("sat,sun", {"Sat", "Sun"}),
        ("5-7", {"Fri", "Sat", "Sun"}),
        ("*/3", {"Sun", "Wed", "Sat"}),
    ],
)
def test_days_of_the_week_are_those_of_cron(field, days):
    due = Cron(f"0 4 * * {field}").between(at(2026, 11, 1), at(2026, 11, 29))
    assert {f"{moment:%a}" for moment in due} == days


@pytest.mark.parametrize(
    ("expression", "zone", "said"),
    [
        ("0 4 * *", "UTC", "has 4 fields"),
        ("61 4 * * *", "UTC", "higher than the maximum"),
        ("0 4 31 2 *", "UTC", "never comes"),
        ("0 4 1 * mon", "UTC", "make two jobs of it"),
        ("0 4 * * funday", "UTC", "'funday' is no day of the week"),
        ("0 4 * * *", "Europe/Berln", "Did you mean 'Europe/Berlin'"),
        ("0 4 * * *", "../etc/passwd", "no time zone"),
    ],
)
def test_what_cannot_be_read_is_said(expression, zone, said):
    with pytest.raises(ValueError, match=said):
        Cron(expression, zone)


@settings(max_examples=40)
@given(
    st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 */2 * * *", "15 1-3 * * *", "0 4 * * 1"]),
    st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe"]),
    st.integers(0, 366 * 24 * 60),
)
def test_the_next_time_is_the_first_of_those_between(expression, zone, minutes):
    cron, after = Cron(expression, zone), at(2026, 1, 1) + timedelta(minutes=minutes)
    following = cron.between(after, after + timedelta(days=8))
    assert cron.next(after) == following[0] > after
    assert following == sorted(set(following))
    # nothing is lost or doubled where a daemon looks
    middle = after + timedelta(days=3)
    assert cron.between(after, middle) + cron.between(middle, after + timedelta(days=8)) == following


def test_an_interval_is_the_same_for_whoever_counts():
    every = Interval(seconds_of("15m"))
    assert every.next(at(2026, 11, 22, 1, 7)) == at(2026, 11, 22, 1, 15)
    assert every.between(at(2026, 11, 22, 1, 15), at(2026, 11, 22, 1, 45)) == [
        at(2026, 11, 22, 1, 30),
        at(2026, 11, 22, 1, 45),
    ]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("2d", 172_800)])
def test_durations_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "soon", "5", "1.5h", "-1h", "m"])
def test_other_durations_are_refused(text):
    with pytest.raises(ValueError, match="is no duration"):
        seconds_of(text)
