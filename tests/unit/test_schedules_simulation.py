"""The machine against a slow and obvious reference: random schedules, outages and pauses."""

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from farm_scheduler.core import Pause, Schedule, State
from farm_scheduler.cron import next_fires
from farm_scheduler.files import read_files
from farm_scheduler.simulation import Outage, Simulation
from tests.conftest import REPOSITORY
from tests.unit.schedule_reference import Reference

BEGIN = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
YEAR = 366 * 86_400


def fates(simulation):
    """What the reference says of each nominal time, made of rows."""
    found = {}
    nominal = {fire: row.nominal for fire, row in simulation.rows.items()}
    for row in simulation.rows.values():
        assert row.nominal not in found, "two rows for one nominal time"
        if row.state is State.RAN:
            found[row.nominal] = f"ran: {row.outcome}"
        elif row.state is State.COALESCED:
            found[row.nominal] = f"coalesced: {nominal[row.into]}"
        elif row.state is State.SKIPPED:
            found[row.nominal] = f"skipped: {row.reason}"
        else:
            found[row.nominal] = str(row.state)
    return found


def spans(rng, begin, end, most, longest):
    found, at = [], begin
    for _ in range(rng.randrange(most + 1)):
        at += rng.randrange((end - begin) // (most + 1))
        length = rng.randint(60, longest)
        found.append((at, at + length))
        at += length
    return found


def nominal_times(schedule, begin, end):
    found, at = [], datetime.fromtimestamp(begin - 1, UTC)
    while True:
        some = next_fires(schedule.cron, schedule.tz, at, 2000, dst=schedule.dst)
        times = [int(one.timestamp()) for one in some]
        found += [one for one in times if one < end]
        if len(found) < len(times) or times[-1] >= end:
            return found
        at = some[-1]


def compare(schedule, begin, end, outages, pauses, seconds):
    simulation = Simulation(
        {schedule.name: schedule},
        begin,
        end,
        outages=[Outage(*one) for one in outages],
        pauses={schedule.name: [Pause(*one, "me", "") for one in pauses]},
        seconds=lambda row: seconds(row.nominal),
    )
    simulation.run()
    times = nominal_times(schedule, begin, end)
    reference = Reference(schedule, times, end, outages=outages, pauses=pauses, seconds=seconds)
    expected = reference.play()
    found = fates(simulation)
    assert found == expected
    last = simulation.machine.entries[schedule.name].cursor
    assert [one for one in times if one <= last] == sorted(found)
    previous = dict(zip(times[1:], times, strict=False))
    first = {}
    for row in sorted(simulation.rows.values(), key=lambda row: row.nominal):
        if row.into and row.ended is not None and row.begun is None:
            first.setdefault(row.into, row.nominal)
    for row in simulation.rows.values():
        if row.state is State.RAN and row.nominal in previous:
            assert row.since == previous[first.get(row.fire_id, row.nominal)]
    return found


def random_schedule(rng, number):
    return Schedule(
        f"s{number}",
        cron=rng.choice(
            ["0 * * * *", "*/20 6-9 * * *", "30 2 * * *", "0 0 1 * *", "15 */3 * * MON"]
        ),
        tz=rng.choice(["UTC", "America/New_York", "Australia/Lord_Howe"]),
        run="m:f",
        dst=rng.choice(["cron", "skip", "both"]),
        misfire=rng.choice(["latest", "all(3)", "skip"]),
        overlap=rng.choice(["buffer_one", "buffer_all(2)", "skip", "cancel", "allow"]),
        catch_up=rng.choice([0, "3h", "2d"]),
        late_after=rng.choice([1, "1m", "2h"]),
        jitter=rng.choice([0, "10m"]),
        deadline=rng.choice([None, None, "30m", "5h"]),
    )


@pytest.mark.parametrize("seed", range(16))
def test_months_go_as_the_obvious_way_says(seed):
    rng = random.Random(f"schedules{seed}")
    schedule = random_schedule(rng, seed)
    begin = BEGIN + rng.randrange(5 * YEAR)
    end = begin + rng.choice([10, 20]) * 86_400
    outages = spans(rng, begin, end, 4, 3 * 86_400)
    pauses = spans(rng, begin, end, 2, 5 * 86_400)
    longest = rng.choice([1, 1800, 20_000])

    def seconds(nominal):
        return random.Random(nominal).randrange(longest)

    compare(schedule, begin, end, outages, pauses, seconds)


@pytest.mark.slow
def test_four_years_go_as_the_obvious_way_says():
    schedule = Schedule(
        "years", cron="30 1,2,14 * * *", tz="America/New_York", run="m:f", jitter="20m",
        misfire="all(2)", overlap="buffer_one", catch_up="2d", deadline="40h",
    )  # fmt: skip
    rng = random.Random(10)
    end = BEGIN + 1461 * 86_400
    outages = spans(rng, BEGIN, end, 80, 4 * 86_400)
    found = compare(
        schedule, BEGIN, end, outages, spans(rng, BEGIN, end, 9, 40 * 86_400),
        lambda nominal: random.Random(nominal).randrange(200_000),
    )  # fmt: skip
    assert len(found) > 4_360
    assert {one.partition(":")[2] for one in found.values()} >= {
        " succeeded", " missed", " too old", " paused", " deadline",
    }  # fmt: skip


def midnight(tz, *numbers):
    return int(datetime(*numbers, tzinfo=ZoneInfo(tz)).timestamp())


NY, HOWE = "America/New_York", "Australia/Lord_Howe"
USUAL = {
    "quarter": 7 * 96,
    **dict.fromkeys(["in-the-gap", "gap-left-out", "in-the-fold", "both-times"], 7),
    **dict.fromkeys(["lord-howe", "lord-howe-fold"], 7),
    "sunday": 0,
    "month-end": 0,
    "every-seven-hours": 24,
}
"""How often each of the ten fires in a week in which nothing happens."""


@pytest.mark.parametrize(
    ("tz", "begin", "end", "otherwise", "times"),
    [
        # New York: the week has 167 hours, and the day of the change is a second Sunday.
        (
            NY, (2026, 3, 5), (2026, 3, 12),
            {"quarter": 7 * 96 - 4, "gap-left-out": 6, "sunday": 1},
            {"in-the-gap": ["03:00-0400"], "gap-left-out": [], "both-times": ["01:30-0500"]},
        ),
        # 169 hours; the last working day of October is its 30th.
        (
            NY, (2026, 10, 29), (2026, 11, 5),
            {"quarter": 7 * 96 + 4, "both-times": 8, "month-end": 1},
            {"in-the-fold": ["01:30-0400"], "both-times": ["01:30-0400", "01:30-0500"]},
        ),
        # Lord Howe Island: half an hour more, and half an hour less.
        (
            HOWE, (2026, 4, 2), (2026, 4, 9),
            {"quarter": 7 * 96 + 2, "lord-howe-fold": 8},
            {"lord-howe-fold": ["01:45+1100", "01:45+1030"], "lord-howe": ["02:15+1030"]},
        ),
        (
            HOWE, (2026, 10, 1), (2026, 10, 8),
            {"quarter": 7 * 96 - 2, "month-end": 1},  # in New York it is 30 September
            {"lord-howe-fold": ["01:45+1030"], "lord-howe": ["02:30+1100"]},
        ),
    ],
)  # fmt: skip
def test_the_weeks_of_2026_in_which_clocks_change(tz, begin, end, otherwise, times):
    found = read_files([str(REPOSITORY / "configs" / "schedules.toml")])
    assert (len(found.schedules), found.problems) == (10, [])
    first, last = midnight(tz, *begin), midnight(tz, *end)
    simulation = Simulation(found.schedules, first, last)
    simulation.run()
    rows = list(simulation.rows.values())
    assert {row.state for row in rows} == {State.RAN}
    counts = {name: sum(row.schedule == name for row in rows) for name in found.schedules}
    expected = USUAL | otherwise
    seven = (last - 1) // 25_200 - (first - 1) // 25_200  # since 1970, whatever clocks show
    assert counts == expected | {"every-seven-hours": seven}
    assert abs(seven - expected["every-seven-hours"]) <= 1
    change = datetime(*begin, tzinfo=ZoneInfo(tz)).date() + timedelta(days=3)
    for name, some in times.items():
        zone = ZoneInfo(found.schedules[name].tz)
        local = [datetime.fromtimestamp(row.nominal, zone) for row in rows if row.schedule == name]
        assert [f"{one:%H:%M%z}" for one in local if one.date() == change] == some
