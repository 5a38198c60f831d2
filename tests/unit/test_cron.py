"""Cron expressions: what they mean, by hand, and by a slow reference."""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Thread
from zoneinfo import ZoneInfo

import pytest

from farm_scheduler.cron import next_fires, parse
from tests.unit.cron_reference import CHANGES, HOWE, NY, day, fires, random_expression

NOON = datetime(2026, 3, 7, 12, tzinfo=UTC)


def at(expression, tz="UTC", after=NOON, count=3, **more):
    """The fires as local text."""
    return [f"{one:%Y-%m-%d %H:%M:%S}" for one in next_fires(expression, tz, after, count, **more)]


# ---------------------------------------------------------------- what expressions mean


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("*/15 * * * *", "2026-03-07 12:15:00"),
        ("0 0 * * *", "2026-03-08 00:00:00"),
        ("30 6 * * MON-FRI", "2026-03-09 06:30:00"),
        ("0 0 29 2 *", "2028-02-29 00:00:00"),
        ("0 0 L * *", "2026-03-31 00:00:00"),
        ("0 0 LW 5 *", "2026-05-29 00:00:00"),
        ("0 0 * * 5L", "2026-03-27 00:00:00"),
        ("0 0 * * FRI#3", "2026-03-20 00:00:00"),
        ("0 0 15W * *", "2026-03-16 00:00:00"),  # the 15th is a Sunday
        ("0 0 1W 8 *", "2026-08-03 00:00:00"),  # the 1st is a Saturday: not in July
        ("0 0 31W 5 *", "2026-05-29 00:00:00"),  # a Sunday, the last: not in June
        ("0 0 30W 2,3 *", "2026-03-30 00:00:00"),  # February has no 30th
        ("0 0 14W,9 * *", "2026-03-09 00:00:00"),
        ("0 0 15W,*/10 * MON", "2026-03-09 00:00:00"),  # it begins with 15W: or any Monday
        ("0 0 */10,15W * MON", "2026-03-16 00:00:00"),  # it begins with a star: both
        ("0 0 13 * FRI", "2026-03-13 00:00:00"),  # the 13th, or any Friday
        ("0 0 */2 * MON", "2026-03-09 00:00:00"),  # odd days that are Mondays
        ("0 0 * * 7", "2026-03-08 00:00:00"),
        ("0 0 * * MON/3", "2026-03-09 00:00:00"),  # Monday and Thursday, and no Sunday
        ("10 0 12 * * *", "2026-03-07 12:00:10"),
        ("@hourly", "2026-03-07 13:00:00"),
        ("@DAILY", "2026-03-08 00:00:00"),
        ("@weekly", "2026-03-08 00:00:00"),
        ("@monthly", "2026-04-01 00:00:00"),
        ("@yearly", "2027-01-01 00:00:00"),
        ("@every 90s", "2026-03-07 12:01:30"),
        ("@every 1d", "2026-03-08 00:00:00"),
    ],
)
def test_what_an_expression_means(expression, first):
    assert at(expression, count=1) == [first]


def test_fires_are_strictly_after():
    assert at("0 12 * * *", count=1) == ["2026-03-08 12:00:00"]
    assert at("0 12 * * *", after=NOON - timedelta(microseconds=1), count=1) == [
        "2026-03-07 12:00:00"
    ]
    assert at("* * * * *", after=NOON + timedelta(microseconds=1), count=1) == [
        "2026-03-07 12:01:00"
    ]
    assert next_fires("* * * * *", "UTC", NOON, 0) == []


def test_steps_in_the_days_of_the_week_end_on_saturday():
    assert at("0 0 * * TUE/2", count=4) == [
        "2026-03-10 00:00:00",
        "2026-03-12 00:00:00",
        "2026-03-14 00:00:00",
        "2026-03-17 00:00:00",
    ]


def test_a_range_of_one_value_has_no_other_whatever_its_step():
    assert at("30-30/15 * * * *", count=2) == ["2026-03-07 12:30:00", "2026-03-07 13:30:00"]
    for saturday in ("6/1", "SAT/1", "SAT-6/1"):
        assert at(f"0 0 * * {saturday}", count=2) == ["2026-03-14 00:00:00", "2026-03-21 00:00:00"]
    for name in "abcdefghij":
        hours = {int(one[11:13]) for one in at("0 H(0-4)/5 * * *", name=name, count=5)}
        assert len(hours) == 1
        assert hours < set(range(5))


def test_a_hashed_field_is_the_same_for_a_name_and_differs_between_names():
    first = [at("H H * * *", name=f"n{n}", count=1)[0] for n in range(40)]
    assert first == [at("H H * * *", name=f"n{n}", count=1)[0] for n in range(40)]
    assert len(set(first)) > 30


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_hashed_ranges_and_steps_keep_to_them(name):
    minutes = {int(one[14:16]) for one in at("H(10-19) * * * *", name=name, count=48)}
    assert len(minutes) == 1
    assert minutes < set(range(10, 20))
    minutes = sorted({int(one[14:16]) for one in at("H/15 * * * *", name=name, count=48)})
    assert [b - a for a, b in pairwise(minutes)] == [15, 15, 15]
    days = {int(one[8:10]) for one in at("0 0 H * *", name=name, count=12)}
    assert len(days) == 1
    assert days < set(range(1, 29))  # a day that every month has


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("61 * * * *", "minute: '61' is not one"),
        ("* 24 * * *", "hour: '24'"),
        ("* * 0 * *", "day of the month: '0'"),
        ("* * * 13 *", "month: '13'"),
        ("* * * * 8", "day of the week: '8'"),
        ("60 * * * * *", "second: '60'"),
        ("* * * FOO *", "month: 'FOO'"),
        ("5,x * * * *", "minute: 'X' in '5,X'"),
        ("10-5 * * * *", "minute: '10-5'"),
        ("*/0 * * * *", "minute: '\\*/0'"),
        ("* * 32W * *", "day of the month: '32W'"),
        ("* * * * 5#6", "day of the week: '5#6'"),
        ("H(5-70) * * * *", r"minute: 'H\(5-70\)' has no such range"),
        ("H/0 * * * *", "minute: 'H/0' has a step of 0"),
        ("* * * *", "has 4 fields"),
        ("", "has 0 fields"),
        ("* * * * * * *", "has 7 fields"),
        (
            "0 0 30 2 *",
            r"'0 0 30 2 \*' can never fire: no date has day of the month 30",
        ),
        ("0 0 31 4,6 *", "can never fire"),
        ("0 0 31W 2 *", "can never fire"),
        ("@dayly", "'@dayly' is not known; there are @yearly"),
        ("@reboot", "is not known"),
        ("@every 0s", "must be a whole number of seconds"),
        ("@every 1.5s", "must be a whole number of seconds"),
        ("@every 10000000d", "at most sixty years"),
        ("@every soon", "write seconds, or"),
    ],
)
def test_what_is_wrong_is_named(expression, said):
    with pytest.raises(ValueError, match=said):
        parse(expression)


def test_a_zone_or_a_time_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no time zone 'Europe/Berlinn'"):
        next_fires("* * * * *", "Europe/Berlinn", NOON, 1)
    with pytest.raises(ValueError, match=r"no time zone '\.\./etc/passwd'"):
        next_fires("* * * * *", "../etc/passwd", NOON, 1)
    with pytest.raises(ValueError, match="has no time zone"):
        next_fires("* * * * *", "UTC", NOON.replace(tzinfo=None), 1)
    with pytest.raises(ValueError, match="count is -1"):
        next_fires("* * * * *", "UTC", NOON, -1)
    with pytest.raises(ValueError, match="dst is 'maybe'; it must be one of cron, skip, both"):
        next_fires("* * * * *", "UTC", NOON, 1, dst="maybe")


def test_what_is_always_left_out_never_fires():
    # The second Sunday of March, from two to three: since 2007 New York leaves that hour out.
    expression = "*/15 2 * 3 SUN#2"
    assert at(expression, NY, count=1) == []
    assert (
        at(expression, NY, datetime(2006, 1, 1, tzinfo=UTC), count=9)[-1] == "2006-03-12 02:45:00"
    )
    assert at(expression, NY, count=1, dst="both") == ["2026-03-08 03:00:00"]


def test_the_calendar_ends():
    assert next_fires("0 0 1 1 *", "UTC", datetime(9980, 1, 1, tzinfo=UTC), 100)[-1].year < 9990
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # of which Berlin has no time
    for expression in ("0 0 1 1 *", "@every 1h"):
        assert next_fires(expression, "Europe/Berlin", last, 1) == []


# ---------------------------------------------------------------- changes of clocks, by hand


@pytest.mark.parametrize(
    ("expression", "tz", "after", "dst", "expected"),
    [
        # New York: 02:00 to 03:00 is left out on 8 March 2026, 01:00 to 02:00 comes twice on
        # 1 November.
        ("30 2 * * *", NY, day(2026, 3, 8), "cron", ["03-08 03:00 -4", "03-09 02:30 -4"]),
        ("30 2 * * *", NY, day(2026, 3, 8), "skip", ["03-09 02:30 -4", "03-10 02:30 -4"]),
        ("30 2 * * *", NY, day(2026, 3, 8), "both", ["03-08 03:00 -4", "03-09 02:30 -4"]),
        ("15,45 2 * * *", NY, day(2026, 3, 8), "cron", ["03-08 03:00 -4", "03-09 02:15 -4"]),
        ("30 1 * * *", NY, day(2026, 11, 1), "cron", ["11-01 01:30 -4", "11-02 01:30 -5"]),
        ("30 1 * * *", NY, day(2026, 11, 1), "skip", ["11-01 01:30 -4", "11-02 01:30 -5"]),
        ("30 1 * * *", NY, day(2026, 11, 1), "both", ["11-01 01:30 -4", "11-01 01:30 -5"]),
        ("30 1 * * *", NY, day(2026, 11, 1, 5, 40), "cron", ["11-02 01:30 -5", "11-03 01:30 -5"]),
        ("30 1 * * *", NY, day(2026, 11, 1, 6, 10), "cron", ["11-02 01:30 -5", "11-03 01:30 -5"]),
        ("30 * * * *", NY, day(2026, 3, 8, 6), "cron", ["03-08 01:30 -5", "03-08 03:30 -4"]),
        ("30 * * * *", NY, day(2026, 11, 1, 5), "cron", ["11-01 01:30 -4", "11-01 01:30 -5"]),
        ("30 * * * *", NY, day(2026, 11, 1, 5), "skip", ["11-01 01:30 -4", "11-01 02:30 -5"]),
        # Lord Howe Island: half an hour. 02:00 to 02:30 is left out on 4 October 2026, 01:30 to
        # 02:00 comes twice on 5 April.
        ("15 2 * * *", HOWE, day(2026, 10, 3, 12), "cron", ["10-04 02:30 +11", "10-05 02:15 +11"]),
        ("45 1 * * *", HOWE, day(2026, 4, 4, 12), "cron", ["04-05 01:45 +11", "04-06 01:45 +10½"]),
        ("45 1 * * *", HOWE, day(2026, 4, 4, 12), "both", ["04-05 01:45 +11", "04-05 01:45 +10½"]),
        # Samoa left out 30 December 2011, which was no daylight saving time but a correction.
        (
            "0 10 * * *", "Pacific/Apia", day(2011, 12, 29, 12), "cron",
            ["12-29 10:00 -10", "12-31 10:00 +14"],
        ),
        # Brazil: midnight did not exist on 4 November 2018.
        (
            "0 0 * * *", "America/Sao_Paulo", day(2018, 11, 3, 12), "cron",
            ["11-04 01:00 -2", "11-05 00:00 -2"],
        ),
        # Antarctica's Troll: two hours.
        (
            "30 1 * * *", "Antarctica/Troll", day(2026, 3, 28, 12), "cron",
            ["03-29 03:00 +2", "03-30 01:30 +2"],
        ),
        # Ireland: winter time is the exception, in the law; clocks do not mind.
        (
            "30 1 * * *", "Europe/Dublin", day(2026, 10, 24, 12), "cron",
            ["10-25 01:30 +1", "10-26 01:30 +0"],
        ),
        # The Chatham Islands: a quarter past.
        (
            "0 3 * * *", "Pacific/Chatham", day(2026, 9, 26, 1), "cron",
            ["09-27 03:45 +13¾", "09-28 03:00 +13¾"],
        ),
        # Newfoundland once changed its clocks a minute after midnight: 23:01 came twice.
        (
            "30 23 * * *", "America/St_Johns", day(2010, 11, 6, 20), "cron",
            ["11-06 23:30 -2½", "11-07 23:30 -3½"],
        ),
        # Morocco: for Ramadan, back and forth within weeks.
        (
            "30 2 * * *", "Africa/Casablanca", day(2026, 2, 14, 12), "both",
            ["02-15 02:30 +1", "02-15 02:30 +0"],
        ),
    ],
)  # fmt: skip
def test_when_clocks_are_changed(expression, tz, after, dst, expected):
    found = next_fires(expression, tz, after, 2, dst=dst)
    assert [f"{one:%m-%d %H:%M} {offset(one)}" for one in found] == expected


def offset(one):
    hours, rest = divmod(int(one.utcoffset().total_seconds()), 3600)
    if hours < 0 and rest:
        hours, rest = hours + 1, 3600 - rest
    return f"{hours:+d}{ {0: '', 1800: '½', 2700: '¾'}[rest] }"


# ---------------------------------------------------------------- a slow and obvious reference


@pytest.mark.parametrize(("tz", "begin"), CHANGES, ids=lambda one: str(one)[:17])
def test_the_obvious_way_comes_to_the_same(tz, begin):
    rng = random.Random(f"{tz}{begin}")
    zone, end = ZoneInfo(tz), begin + timedelta(days=3)
    compared = 0
    while compared < 5:
        expression = random_expression(rng)
        try:
            parse(expression)
        except ValueError:
            continue
        compared += 1
        for dst in ("cron", "skip", "both"):
            expected = fires(expression, zone, begin, end, dst)
            found = next_fires(expression, zone, begin, len(expected) + 1, dst=dst)
            inside = [one.astimezone(UTC) for one in found if one < end]
            assert inside == expected, (expression, tz, dst)


# ---------------------------------------------------------------- shared parses


def test_an_expression_is_parsed_once_and_may_be_used_by_threads():
    assert parse("7 * * * *") is parse(" 7  * * * *")
    assert parse("H * * * *", "a") is parse("H * * * *", "a")
    results = []

    def walk():
        results.append(at("*/7 3-19 * * MON-FRI", NY, count=300))

    threads = [Thread(target=walk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == results[0] for one in results)
