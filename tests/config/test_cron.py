"""Cron expressions; the scheduler's own trigger is the oracle for the gaps."""

from __future__ import annotations

import datetime
import itertools

import pytest
from apscheduler.triggers.cron import CronTrigger

from exporter.config.cron import gaps, parse_cron

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS


@pytest.mark.parametrize(
    ("text", "shortest_ns", "longest_ns"),
    [
        ("* * * * *", HOUR_NS // 60, HOUR_NS // 60),
        ("*/5 * * * *", HOUR_NS // 12, HOUR_NS // 12),
        ("*/7 * * * *", HOUR_NS // 15, HOUR_NS * 7 // 60),
        ("0 3 * * *", DAY_NS, DAY_NS),
        ("*/15 8-18 * * mon-fri", HOUR_NS // 4, 2 * DAY_NS + 13 * HOUR_NS + HOUR_NS // 4),
        ("0 0 * * 0", 7 * DAY_NS, 7 * DAY_NS),
        ("0 0 1 * *", 28 * DAY_NS, 31 * DAY_NS),
        ("0 0 31 * *", 31 * DAY_NS, 61 * DAY_NS),
        ("0 0 29 2 *", 4 * 365 * DAY_NS + DAY_NS, 4 * 365 * DAY_NS + DAY_NS),
        ("0 0 * 1 mon", 7 * DAY_NS, 343 * DAY_NS),
    ],
)
def test_gaps(text: str, shortest_ns: int, longest_ns: int) -> None:
    found = gaps(parse_cron(text), "UTC")
    assert (found.shortest_ns, found.longest_ns) == (shortest_ns, longest_ns)


# With bounded days of the month APScheduler 3.11 misses a run at midnight after a month in which clocks went forward,
# so those are compared in UTC alone.
@pytest.mark.parametrize(
    ("text", "timezone"),
    [
        *itertools.product(
            ["*/20 * * * *", "0 */6 * * *", "0 2,20 * * *", "30 2 * * *", "15 1,13 * * 1-5", "0 12 * * 0,6"],
            ["UTC", "Europe/Berlin", "America/New_York"],
        ),
        ("0 0 1-7/3 * *", "UTC"),
        ("5 4 * mar-oct sun", "UTC"),
    ],
)
def test_no_gap_of_the_scheduler_is_longer_and_in_utc_they_agree(text: str, timezone: str) -> None:
    cron = parse_cron(text)
    trigger = CronTrigger.from_crontab(cron.portable, timezone=timezone)
    moment = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    fired: list[datetime.datetime] = []
    while moment < datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC):
        moment = trigger.get_next_fire_time(None, moment).astimezone(datetime.UTC)
        fired.append(moment)
        moment += datetime.timedelta(seconds=1)
    seconds = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(fired)]
    longest_s = gaps(cron, timezone).longest_ns / 10**9
    assert max(seconds) <= longest_s
    if timezone == "UTC" and "mar-oct" not in text:
        assert (min(seconds), max(seconds)) == (gaps(cron, timezone).shortest_ns / 10**9, longest_s)


def test_clocks_that_change_lengthen_a_gap_but_not_where_every_hour_has_a_run() -> None:
    assert gaps(parse_cron("*/5 * * * *"), "Europe/Berlin").longest_ns == HOUR_NS // 12
    assert gaps(parse_cron("0 3 * * *"), "Europe/Berlin").longest_ns == DAY_NS + HOUR_NS
    assert gaps(parse_cron("*/5 * * * mon"), "Europe/Berlin").longest_ns == 6 * DAY_NS + HOUR_NS // 12 + HOUR_NS


@pytest.mark.parametrize(
    ("text", "portable"),
    [
        ("0 3 * * 0", "0 3 * * sun"),
        ("0 3 * * 7", "0 3 * * sun"),
        ("0 3 * * 1-5", "0 3 * * mon,tue,wed,thu,fri"),
        ("0 3 * * FRI-7", "0 3 * * sun,fri,sat"),
        ("0 3 * JAN *", "0 3 * 1 *"),
        ("*/60 * 1-7/3 * *", "0 * 1,4,7 * *"),
        ("0 */24 1 jan-dec/6 *", "0 0 1 1,7 *"),
        ("0 3 * * 0-6", "0 3 * * *"),
        ("  */5   *  * * */2 ", "0,5,10,15,20,25,30,35,40,45,50,55 * * * sun,tue,thu,sat"),
    ],
)
def test_handed_on_as_what_every_scheduler_takes(text: str, portable: str) -> None:
    assert parse_cron(text).portable == portable


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * 0 *",
        "* * * * 8",
        "a * * * *",
        "1- * * * *",
        "-1 * * * *",
        "1,, * * * *",
        "*/x * * * *",
        "*/0 * * * *",
        "5/5 * * * *",
        "9-1 * * * *",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0 0 1 * 1",
        "@daily",
        "0 0 L * *",
        "0 0 * * 1#2",
        "٣ * * * *",
    ],
)
def test_what_is_no_cron_expression(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_cron(text)
