"""The machine against a slow and obvious reference: random schedules, outages and pauses."""

import random
from datetime import UTC, datetime

import pytest

from farm_scheduler.core import Pause, Schedule, State
from farm_scheduler.cron import next_fires
from farm_scheduler.simulation import Outage, Simulation
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
def test_ten_years_go_as_the_obvious_way_says():
    schedule = Schedule(
        "decade", cron="30 1,2,14 * * *", tz="America/New_York", run="m:f", jitter="20m",
        misfire="all(2)", overlap="buffer_one", catch_up="2d", deadline="40h",
    )  # fmt: skip
    rng = random.Random(10)
    end = BEGIN + 3653 * 86_400
    outages = spans(rng, BEGIN, end, 200, 4 * 86_400)
    found = compare(
        schedule, BEGIN, end, outages, spans(rng, BEGIN, end, 9, 40 * 86_400),
        lambda nominal: random.Random(nominal).randrange(200_000),
    )  # fmt: skip
    assert len(found) > 10_900
    assert {one.partition(":")[2] for one in found.values()} >= {
        " succeeded", " missed", " too old", " paused", " deadline",
    }  # fmt: skip
