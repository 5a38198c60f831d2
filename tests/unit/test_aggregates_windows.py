"""Windows against a slow, obvious reference: days of 23, 24 and 25 hours, half hours, lost days."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.errors import ConfigError
from farm_scheduler.aggregates.windows import Level, Levels, chunk_of, chunk_span, parse_level

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
ZONES = {
    "America/New_York": ["2015-03-08", "2015-11-01"],
    "Europe/Berlin": ["2015-03-29", "2015-10-25"],
    "Asia/Kolkata": ["2015-06-01"],
    "Asia/Kathmandu": ["1985-12-31", "2015-06-01"],
    "Australia/Lord_Howe": ["2015-04-05", "2015-10-04"],
    "Pacific/Apia": ["2011-12-29", "2012-01-01"],
    "America/Sao_Paulo": ["2017-10-15", "2018-02-18"],
    "Africa/Casablanca": ["2015-06-14", "2015-07-19"],
    "Asia/Shanghai": ["2015-09-12"],
    "UTC": ["2015-12-31"],
}
PLACES = [(zone, day) for zone, days in ZONES.items() for day in days]
CALENDAR = ["1d", "1w", "1mo", "1q", "1y"]


def micro(moment):
    return (moment - EPOCH) // timedelta(microseconds=1)


def label(unit, local):
    """What sets a window of the calendar apart, of a local time."""
    day = local.date()
    return {
        "d": day,
        "w": day - timedelta(days=day.weekday()),
        "mo": (day.year, day.month),
        "q": (day.year, (day.month - 1) // 3),
        "y": day.year,
    }[unit]


@lru_cache(maxsize=1)
def walk(zone, begin, days):
    """Every quarter of an hour of some days, in UTC and as it is called there."""
    info, at = ZoneInfo(zone), begin
    found = []
    while at < begin + timedelta(days=days):
        found.append((micro(at), at.astimezone(info)))
        at += QUARTER
    return found


def around(day, days):
    return datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=days)


def references(zone, unit, begin, days):
    """The start of the window of every quarter of an hour, found by walking."""
    start = before = None
    for at, local in walk(zone, begin, days):
        now = label(unit, local)
        if before is not None and now != before:
            start = at
        before = now
        if start is not None:
            yield at, start


@pytest.mark.parametrize(("zone", "day"), PLACES)
@pytest.mark.parametrize("unit", ["d", "w", "mo"])
def test_windows_of_the_calendar_are_what_the_clock_on_the_wall_says(zone, day, unit):
    levels = Levels(parse_level("15m"), [parse_level(f"1{unit}")], zone)
    level = Level(1, unit)
    spans = {"d": 4, "w": 16, "mo": 70}
    seen = set()
    for at, start in references(zone, unit, around(day, spans[unit] // 2), spans[unit]):
        assert levels.start(level, at) == start
        assert start <= at < levels.end(level, start)
        seen.add(start)
    ordered = sorted(seen)
    assert [levels.end(level, one) for one in ordered[:-1]] == ordered[1:]
    assert list(levels.windows(level, ordered[0], ordered[-1])) == ordered[:-1]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", "2015-03-08", 23),
        ("America/New_York", "2015-11-01", 25),
        ("Australia/Lord_Howe", "2015-04-05", 24.5),
        ("Australia/Lord_Howe", "2015-10-04", 23.5),
        ("America/Sao_Paulo", "2017-10-15", 23),
        ("America/Sao_Paulo", "2018-02-17", 25),
        ("Asia/Kolkata", "2015-06-01", 24),
        ("Pacific/Apia", "2011-12-29", 24),
        ("Pacific/Apia", "2011-12-31", 24),
    ],
)
def test_days_are_as_long_as_they_are(zone, day, hours):
    levels = Levels(parse_level("15m"), [parse_level("1d")], zone)
    start = levels.parse(Level(1, "d"), day)
    assert levels.show(Level(1, "d"), start) == day
    assert levels.end(Level(1, "d"), start) - start == hours * 3_600_000_000


def test_a_day_that_a_zone_left_out_has_no_window():
    levels = Levels(parse_level("15m"), [parse_level("1d")], "Pacific/Apia")
    day = Level(1, "d")
    before, after = (levels.parse(day, one) for one in ("2011-12-29", "2011-12-31"))
    assert levels.end(day, before) == after
    assert [levels.show(day, one) for one in levels.windows(day, before, after + 1)] == [
        "2011-12-29",
        "2011-12-31",
    ]


def test_a_day_without_midnight_begins_when_it_does():
    levels = Levels(parse_level("1h"), [parse_level("1d")], "America/Sao_Paulo")
    start = levels.parse(Level(1, "d"), "2017-10-15")
    assert start == micro(datetime(2017, 10, 15, 3, tzinfo=UTC))  # 01:00 there, after 23:59


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=20, deadline=None)
@given(at=st.integers(-(2**31) * 1_000_000, 2**31 * 1_000_000), text=st.sampled_from(CALENDAR))
def test_every_instant_is_in_one_window(zone, at, text):
    level = parse_level(text)
    levels = Levels(parse_level("15m"), [], zone)
    start = levels.start(level, at)
    end = levels.end(level, start)
    assert start <= at < end
    assert levels.start(level, start) == levels.start(level, end - 1) == start
    assert levels.start(level, end) == end


@settings(max_examples=20, deadline=None)
@given(
    at=st.integers(0, 2**31 * 1_000_000),
    text=st.sampled_from(["1s", "1m", "15m", "1h", "6h", *CALENDAR]),
    zone=st.sampled_from(sorted(ZONES)),
)
def test_a_window_is_kept_in_the_chunk_that_spans_it(at, text, zone):
    level = parse_level(text)
    levels = Levels(parse_level("15m"), [], zone)
    start = levels.start(level, at)
    chunk = chunk_of(level, start)
    if chunk != "all":
        since, until = chunk_span(chunk)
        assert since <= start < until


@pytest.mark.parametrize(("zone", "day"), PLACES)
def test_every_fine_window_lies_in_its_parent(zone, day):
    steps = [parse_level("1d"), parse_level("1w"), parse_level("1mo"), parse_level("1y")]
    levels = Levels(parse_level("15m"), steps, zone)
    fine = parse_level("15m")
    begin = micro(around(day, 3))
    starts = list(levels.windows(fine, begin, begin + 6 * 86_400_000_000))
    for level, below in levels.below.items():
        parents = levels.parents(level, starts)
        assert parents == [levels.start(level, one) for one in starts]
        ends = [levels.end(level, one) for one in parents]
        insides = [levels.end(below, one) for one in starts]
        assert all(inside <= end for inside, end in zip(insides, ends, strict=True))
        starts = sorted(set(parents))


def test_hours_that_do_not_fit_into_the_days_of_a_zone_are_refused():
    for zone in ("Asia/Kolkata", "Australia/Lord_Howe"):
        with pytest.raises(ConfigError, match=f"do not fit into days of {zone}"):
            Levels(parse_level("1h"), [parse_level("1d")], zone)
        Levels(parse_level("30m"), [parse_level("1d")], zone)


@pytest.mark.parametrize("text", ["", "0m", "7m", "24h", "2d", "1x", "m", "-1h", "1.5h"])
def test_a_length_that_makes_no_sense_is_refused_by_name(text):
    with pytest.raises(ConfigError, match="every is"):
        parse_level(text)


@pytest.mark.parametrize(
    ("every", "rollup", "why"),
    [("1h", ["1h"], "names a level twice"), ("1h", ["90m"], "whole windows"),
     ("15m", ["1w", "1mo"], "")],
)  # fmt: skip
def test_levels_are_made_of_whole_windows(every, rollup, why):
    if not why:
        levels = Levels(parse_level(every), [parse_level(one) for one in rollup])
        assert str(levels.below[Level(1, "mo")]) == "15m"
        return
    with pytest.raises(ConfigError, match=why):
        Levels(parse_level(every), [parse_level(one) for one in rollup])
