"""Cron expressions: are they valid, and how long are the gaps between two runs.

Pure, and independent of today: gaps are those of the calendar's whole cycle, so a restart changes nothing. Only
what every cron program reads alike is allowed; days of the week are handed on by name, since schedulers differ on
which of them is number 0.
"""

from __future__ import annotations

import calendar
import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from exporter.core.units import NS

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_ENTRY = re.compile(r"(?:(?P<all>\*)|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d{1,3}))?", re.ASCII)
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * sun",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""What cron programs call some expressions. All runs of a fleet would begin at one moment: they are refused, with the
expression that each stands for."""
_CYCLE_YEARS = range(2001, 2029)
"""28 years: after these, days of the week and leap years fall together again."""
_DAY_MINUTES = 24 * 60
_DAYLIGHT_SAVING_MINUTES = 60


@dataclass(frozen=True, slots=True)
class _Field:
    noun: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, ("", *_MONTHS)),
    _Field("day of the week", 0, 7, tuple(_WEEKDAYS)),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A valid expression: the values at which each field matches (`weekdays`: 0 is Sunday)."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    @property
    def portable(self) -> str:
        """The expression with each field as `*` or a list of values, days of the week by name: what every scheduler
        takes, while steps and names in ranges are taken by some."""
        numbers = (self.minutes, self.hours, self.days, self.months)
        words = [
            "*" if len(values) == field.high - field.low + 1 else ",".join(map(str, values))
            for values, field in zip(numbers, _FIELDS, strict=False)
        ]
        weekdays = "*" if len(self.weekdays) == 7 else ",".join(_WEEKDAYS[day] for day in self.weekdays)
        return " ".join([*words, weekdays])


@functools.lru_cache(maxsize=4096)
def parse_cron(text: str) -> Cron:
    """Reads five fields: minute, hour, day of the month, month, day of the week (0 or 7 is Sunday; names are fine).
    An entry is `*`, a value or a range, the first and last with a step; entries are joined by commas.

    Raises ValueError if a field is wrong, if the days are bounded in both ways (programs differ on what that
    means), or if no day ever matches."""
    words = text.lower().split()
    if len(words) == 1 and (meant := _NICKNAMES.get(words[0])):
        raise ValueError(f"must have five fields; write '{meant}'")
    if len(words) != len(_FIELDS):
        raise ValueError("must have five fields: minute, hour, day of the month, month, day of the week")
    values = [_values(word, field) for word, field in zip(words, _FIELDS, strict=True)]
    minutes, hours, days, months, weekdays = values
    cron = Cron(" ".join(words), minutes, hours, days, months, tuple(sorted({day % 7 for day in weekdays})))
    if len(days) < 31 and len(cron.weekdays) < 7:
        raise ValueError("bounds the day of the month and the day of the week; give one of them, and '*' for the other")
    if next(_matching_days(cron), None) is None:
        raise ValueError("never runs: no month of its months has such a day")
    return cron


@dataclass(frozen=True, slots=True)
class Gaps:
    """The shortest and the longest time between two runs."""

    shortest_ns: int
    longest_ns: int


@functools.lru_cache(maxsize=4096)
def gaps(cron: Cron, timezone: str) -> Gaps:
    """The gaps over the calendar's cycle, in local time. Where clocks may change, the longest is an hour longer, but
    for an expression that runs in every hour of every day: it runs in the hour that comes twice, too."""
    times = sorted(hour * 60 + minute for hour in cron.hours for minute in cron.minutes)
    days = list(_matching_days(cron))
    every_hour = len(cron.hours) == 24 and len(days) == _cycle_days(cron)
    days.append(days[0] + _cycle_days(cron))
    over_night = _DAY_MINUTES - times[-1] + times[0]
    minutes = [later - earlier for earlier, later in itertools.pairwise(times)]
    minutes += [(later - earlier - 1) * _DAY_MINUTES + over_night for earlier, later in itertools.pairwise(days)]
    shift = 0 if every_hour or timezone == "UTC" else _DAYLIGHT_SAVING_MINUTES
    return Gaps(min(minutes) * 60 * NS, (max(minutes) + shift) * 60 * NS)


def _cycle_days(cron: Cron) -> int:
    """After how many days the matching days repeat. Those bounded by days of the week alone: every week."""
    if len(cron.days) == 31 and len(cron.months) == 12:
        return 7
    return sum(365 + calendar.isleap(year) for year in _CYCLE_YEARS)


def _matching_days(cron: Cron) -> Iterator[int]:
    """Numbers of the days that match, counted from the cycle's start, which is a Monday."""
    cycle_days, first_of_month = _cycle_days(cron), 0
    for year in _CYCLE_YEARS:
        for month in range(1, 13):
            length = calendar.monthrange(year, month)[1]
            for day in cron.days if month in cron.months else ():
                number = first_of_month + day - 1
                if number >= cycle_days:
                    return
                if day <= length and (number + 1) % 7 in cron.weekdays:
                    yield number
            first_of_month += length


def _values(word: str, field: _Field) -> tuple[int, ...]:
    values: set[int] = set()
    for entry in word.split(","):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise ValueError(f"'{entry}' is not a valid {field.noun}: {_allowed(field)}")
        low = field.low if match["all"] else _value(match["low"], field)
        high = (field.high - bool(field.noun.endswith("week"))) if match["all"] else low
        if match["high"]:
            high = _value(match["high"], field)
        if match["step"] and not match["all"] and not match["high"]:
            raise ValueError(f"'{entry}': a step needs '*' or a range before it")
        step = int(match["step"] or 1)
        if high < low or step == 0:
            raise ValueError(f"'{entry}': a range goes up, in steps above 0")
        values.update(range(low, high + 1, step))
    return tuple(sorted(values))


def _value(text: str, field: _Field) -> int:
    if text in field.names and text:
        return field.names.index(text)
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and field.low <= int(text) <= field.high):
        raise ValueError(f"'{text}' is not a valid {field.noun}: {_allowed(field)}")
    return int(text)


def _allowed(field: _Field) -> str:
    names = f", or {field.names[field.low]} to {field.names[-1]}" if field.names else ""
    return f"{field.low} to {field.high}{names}"
