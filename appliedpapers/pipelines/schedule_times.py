"""When a job is due: a cron expression on the clock of a time zone, or a steady interval.

APScheduler reads the cron expression and finds matching times on a wall clock that never changes; what a
change to or from daylight-saving time does to them is decided here, because its own triggers run a job at
02:30 twice, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol
from zoneinfo import ZoneInfo, available_timezones

from appliedpapers.core.errors import did_you_mean

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
# more than any clock is moved at a time
_SHIFT = timedelta(hours=3)
_STEP = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HORIZON = timedelta(days=366 * 5)


class Trigger(Protocol):
    """Says when a job is due."""

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """Return every due time in ``(after, until]``, in UTC and in order."""

    def next(self, after: datetime) -> datetime | None:
        """Return the first due time after ``after`` in UTC; None where there is none in five years."""


@dataclass(frozen=True)
class Interval:
    """Every so many seconds, counted from 1970-01-01 in UTC: the same times whoever counts."""

    seconds: int

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """Return every due time in ``(after, until]``."""
        first, last = (int((moment - _EPOCH).total_seconds() // self.seconds) for moment in (after, until))
        return [_EPOCH + timedelta(seconds=number * self.seconds) for number in range(first + 1, last + 1)]

    def next(self, after: datetime) -> datetime:
        """Return the first due time after ``after``."""
        return self.between(after, after + timedelta(seconds=self.seconds))[0]


@dataclass(frozen=True)
class Cron:
    """Five fields of cron on the clock of a time zone.

    A time that the clock leaves out happens as long after midnight as on other days (02:30 becomes 03:30);
    a time that the clock shows twice happens the first time alone. A job of every hour keeps to real hours:
    it gains nothing and loses nothing.

    Args:
        expression: Minute, hour, day of month, month, day of week (0 and 7 are Sunday).
        zone: Name of the time zone.

    Raises:
        ValueError: One of them cannot be read; the message says which.
    """

    expression: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        # read now, so that nothing fails at night
        assert self._clock
        if next(self._walls(datetime(2000, 1, 1)), None) is None:
            raise ValueError(f"'{self.expression}' never comes: no such date in five years")

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """Return every due time in ``(after, until]``."""
        end = self._wall(until) + _SHIFT
        found: set[datetime] = set()
        for wall in self._walls(self._wall(after) - _SHIFT):
            if wall > end:
                break
            found.update(moment for moment in self._moments(wall) if after < moment <= until)
        return sorted(found)

    def next(self, after: datetime) -> datetime | None:
        """Return the first due time after ``after``."""
        best: datetime | None = None
        for wall in self._walls(self._wall(after) - _SHIFT):
            if best is not None and wall > self._wall(best) + _SHIFT:
                break
            later = [moment for moment in self._moments(wall) if moment > after]
            best = min([*later, *([best] if best else [])], default=None)
        return best

    @cached_property
    def _clock(self) -> ZoneInfo:
        return time_zone(self.zone)

    @cached_property
    def _trigger(self) -> Any:
        from apscheduler.triggers.cron import CronTrigger

        fields = self.expression.split()
        if len(fields) != 5:
            raise ValueError(
                f"'{self.expression}' has {len(fields)} fields, not the five of cron: "
                "minute, hour, day of month, month, day of week"
            )
        minute, hour, day, month, weekday = fields
        if day != "*" and weekday != "*":
            raise ValueError(
                f"'{self.expression}' restricts day of month and day of week, "
                "which cron programs understand differently; make two jobs of it"
            )
        try:
            return CronTrigger(
                minute=minute, hour=hour, day=day, month=month, day_of_week=_weekdays(weekday), timezone=UTC
            )
        except (ValueError, TypeError) as error:
            raise ValueError(f"'{self.expression}' is no cron expression: {error}") from None

    @cached_property
    def _hourly(self) -> bool:
        field = next(item for item in self._trigger.fields if item.name == "hour")
        return all(field.get_next_value(datetime(2000, 1, 1, hour)) == hour for hour in range(24))

    def _walls(self, first: datetime) -> Iterator[datetime]:
        """Yield matching times of the wall clock, from ``first`` on, for five years."""
        # UTC plays the part of a wall clock that is never moved
        moment, end = first.replace(tzinfo=UTC), first.replace(tzinfo=UTC) + _HORIZON
        while (found := self._trigger.get_next_fire_time(None, moment)) is not None and found <= end:
            yield found.replace(tzinfo=None)
            moment = found + _STEP

    def _moments(self, wall: datetime) -> list[datetime]:
        both = [wall.replace(tzinfo=self._clock, fold=fold).astimezone(UTC) for fold in (0, 1)]
        shown = both[0].astimezone(self._clock).replace(tzinfo=None) == wall
        if not shown:
            # for a job of every hour, the next hour stands for the one that is left out
            return [] if self._hourly else both[:1]
        return sorted(set(both)) if self._hourly else both[:1]

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self._clock).replace(tzinfo=None)


def time_zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises:
        ValueError: There is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        hint = did_you_mean(name, available_timezones()) if available_timezones() else "pip install tzdata."
        close = hint if hint.startswith("Did") else "Expected a name such as Europe/Berlin or UTC."
        raise ValueError(f"no time zone is called '{name}'. {close}") from None


def seconds_of(text: str) -> int:
    """Return a duration such as ``90s``, ``15m``, ``1h30m`` or ``2d`` in seconds.

    Raises:
        ValueError: It is not one, or is nothing.
    """
    found = _DURATION.fullmatch(text.strip())
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0, 0)
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not total:
        raise ValueError(f"'{text}' is no duration; expected one such as 90s, 15m, 1h30m or 2d")
    return total


def _weekdays(field: str) -> str:
    """Return the days by name, which mean the same everywhere: APScheduler counts from Monday."""
    if field == "*":
        return field
    names: list[str] = []
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, sign, last = span.partition("-")
        start, end = (0, 6) if span == "*" else (_day(first), _day(last) if sign else _day(first))
        if end < start:
            end += 7
        names += [_DAYS[number % 7] for number in range(start, end + 1, int(step) if step else 1)]
    return ",".join(dict.fromkeys(names))


def _day(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if text.isdecimal() and int(text) <= 7:
        return int(text)
    raise ValueError(f"'{text}' is no day of the week; expected 0 to 7, or mon to sun")
