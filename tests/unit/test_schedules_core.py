"""The scheduler's machine, event by event."""

import random
from datetime import UTC, date, datetime
from math import inf

import pytest

from farm_scheduler.core import Entry, Kind, Machine, Pause, Schedule, State, fire_id
from farm_scheduler.core import machine as machine_module
from farm_scheduler.core import missed as missed_module
from farm_scheduler.core.backfills import SLICE

NOON = int(datetime(2026, 3, 7, 12, tzinfo=UTC).timestamp())
HOUR, DAY = 3600, 86_400


class Recorder:
    """A port that remembers what it was asked for."""

    def __init__(self):
        self.rows = {}
        self.kept = {}
        self.backfills = {}
        self.started = []
        self.stopped = []
        self.told = []

    def record(self, row):
        self.rows[row.fire_id] = row

    def keep_backfill(self, backfill):
        self.backfills[backfill.number] = backfill

    def keep(self, entry):
        self.kept[entry.schedule.name] = (entry.cursor, entry.next, entry.pauses, entry.retired)

    def start(self, row, schedule):
        assert row.fire_id in self.rows
        assert row.fire_id not in self.started
        self.started.append(row.fire_id)

    def stop(self, row):
        self.stopped.append(row.fire_id)

    def tell(self, what, row, schedule):
        self.told.append((what, row.nominal))

    def fates(self):
        """By nominal time, in hours after noon."""
        rows = sorted(self.rows.values(), key=lambda row: row.nominal)
        return [
            ((row.nominal - NOON) / HOUR, str(row.state), row.reason or row.outcome) for row in rows
        ]


def hourly(name="a", **options):
    return Schedule(name, **{"cron": "0 * * * *", "run": "m:f"} | options)


def running(*schedules, now=NOON + 1):
    port = Recorder()
    machine = Machine(port)
    machine.set_schedules({one.name: one for one in schedules}, now)
    return machine, port


def tick(machine, now):
    """As a scheduler does, until there is nothing due."""
    while (at := machine.next_deadline()) is not None and at <= now:
        machine.on_tick(now)


def end_all(machine, port, now, outcome="succeeded"):
    for fire in list(port.started):
        machine.on_ended(fire, outcome, "", now)


# ---------------------------------------------------------------- one fire


def test_a_new_schedule_fires_from_now_on():
    machine, port = running(hourly())
    assert machine.next_deadline() == NOON + HOUR
    machine.on_tick(NOON + HOUR - 0.001)
    assert port.rows == {}
    machine.on_tick(NOON + HOUR)
    fire = fire_id("a", NOON + HOUR)
    assert port.started == [fire]
    row = port.rows[fire]
    assert (row.since, row.nominal, row.state) == (NOON, NOON + HOUR, State.RUNNING)
    machine.on_submitted(fire, "task-1")
    machine.on_ended(fire, "succeeded", "", NOON + HOUR + 5)
    assert (row.state, row.outcome, row.task) == (State.RAN, "succeeded", "task-1")
    machine.on_ended(fire, "failed", "a late word of it", NOON + HOUR + 6)
    assert row.outcome == "succeeded"
    assert machine.next_deadline() == NOON + 2 * HOUR


def test_jitter_is_stable_and_does_not_move_the_nominal_time():
    schedule = hourly(jitter="10m")
    assert 0 < schedule.offset <= 600
    assert schedule.offset == hourly(jitter="10m").offset
    assert len({hourly(f"n{n}", jitter="10m").offset for n in range(50)}) == 50
    machine, port = running(schedule)
    machine.on_tick(NOON + HOUR)
    assert port.started == []
    machine.on_tick(NOON + HOUR + schedule.offset)
    assert port.started == [fire_id("a", NOON + HOUR)]


def test_a_fire_that_cannot_be_submitted_is_skipped_and_told():
    machine, port = running(hourly(on_failure=["mail"]))
    machine.on_tick(NOON + HOUR)
    machine.on_refused(port.started[0], "no module m", NOON + HOUR)
    assert port.fates() == [(1, "skipped", "refused")]
    assert port.told == [("failure", NOON + HOUR)]
    machine.on_refused(port.started[0], "again", NOON + HOUR)
    assert len(port.told) == 1


@pytest.mark.parametrize("outcome", ["failed", "dead", "expired", "lost"])
def test_failures_are_told(outcome):
    machine, port = running(hourly(on_failure="https://example.org/hook"))
    machine.on_tick(NOON + HOUR)
    machine.on_ended(port.started[0], outcome, "it raised", NOON + HOUR + 1)
    assert port.told == [("failure", NOON + HOUR)]


def test_what_begins_late_is_told():
    machine, port = running(hourly(on_late=["say"], late_after="1m"))
    machine.on_tick(NOON + HOUR + 60)
    assert port.told == []
    end_all(machine, port, NOON + HOUR + 70)
    machine.on_tick(NOON + 2 * HOUR + 61)
    assert port.told == [("late", NOON + 2 * HOUR)]


# ---------------------------------------------------------------- nobody was there


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [
        ("latest", ["coalesced", "coalesced", "coalesced", "running"]),
        ("all(2)", ["missed", "missed", "running", "running"]),
        ("all", ["running", "running", "running", "running"]),
        ("skip", ["missed", "missed", "missed", "missed"]),
    ],
)
def test_misfires(misfire, expected):
    machine, port = running(hourly(misfire=misfire, overlap="allow"))
    machine.on_tick(NOON + 4.5 * HOUR)
    found = [reason if state == "skipped" else state for _, state, reason in port.fates()]
    assert found == expected


def test_one_that_runs_for_others_has_their_interval():
    machine, port = running(hourly())
    machine.on_tick(NOON + 4.5 * HOUR)
    row = port.rows[port.started[0]]
    assert (row.since, row.nominal) == (NOON, NOON + 4 * HOUR)
    assert {one.into for one in port.rows.values() if one is not row} == {row.fire_id}


def test_one_on_time_runs_for_those_that_were_missed():
    machine, port = running(hourly())
    machine.on_tick(NOON + 3 * HOUR + 2)
    assert port.fates() == [(1, "coalesced", ""), (2, "coalesced", ""), (3, "running", "")]


def test_what_is_out_of_the_window_is_too_old():
    machine, port = running(hourly(misfire="all", overlap="allow", catch_up="2h"))
    machine.on_tick(NOON + 4.5 * HOUR)
    assert [reason or state for _, state, reason in port.fates()] == [
        "too old", "too old", "running", "running",
    ]  # fmt: skip


def test_without_catch_up_what_is_on_time_still_runs():
    machine, port = running(hourly(catch_up=0, jitter="20m"))
    machine.on_tick(NOON + HOUR + 1200)
    assert [state for _, state, _ in port.fates()] == ["running" if port.started else "skipped"]
    machine, port = running(hourly(catch_up=0))
    machine.on_tick(NOON + HOUR + 0.01)
    assert [state for _, state, _ in port.fates()] == ["running"]


def test_after_an_absence_schedules_are_decided_some_at_a_time(monkeypatch):
    monkeypatch.setattr(machine_module, "TICK_MAX", 5)
    machine, port = running(*(hourly(f"n{n}") for n in range(4)))
    now = NOON + 3 * HOUR + 1
    decided = []
    while (at := machine.next_deadline()) <= now:
        machine.on_tick(now)
        decided.append(len(port.rows))
    assert (decided, at) == ([6, 12], NOON + 4 * HOUR)


def every_second(**options):
    return Schedule("s", **{"cron": "@every 1s", "run": "m:f"} | options)


def test_what_one_schedule_missed_is_decided_in_slices_and_others_fire_meanwhile():
    machine, port = running(every_second(), hourly(), now=NOON - DAY)
    now, ticks, seen = NOON + 0.5, 0, 0
    while (at := machine.next_deadline()) <= now:
        machine.on_tick(now)
        assert len(port.rows) <= seen + (machine_module.SLICES_MAX + 1) * missed_module.SLICE
        seen, ticks = len(port.rows), ticks + 1
        if ticks == 400:
            assert len(port.rows) < 60_000  # it is far from done
            now = NOON + HOUR + 0.5
            machine.on_tick(now)
            seen = len(port.rows)
            fired = [row for row in port.rows.values() if row.nominal == NOON + HOUR]
            assert [row.schedule for row in fired] == ["a"]
    assert at == NOON + HOUR + 1
    assert len(port.rows) == DAY + HOUR + 25


def slices(monkeypatch, size):
    monkeypatch.setattr(missed_module, "SLICE", size)
    monkeypatch.setattr(machine_module, "SLICES_MAX", 1)


@pytest.mark.parametrize("seed", range(40))
def test_slices_change_nothing_of_what_becomes_of_each(seed, monkeypatch):
    chance = random.Random(seed)
    schedule = every_second(
        cron=chance.choice(["@every 1s", "@every 7s", "*/5 * * * * *", "* * * * *"]),
        misfire=chance.choice(["latest", "all(4)", "all", "skip"]),
        catch_up=chance.choice(["0s", "40s", "1h"]),
        late_after=chance.choice([0, 1, 20]),
        deadline=chance.choice([None, 5, 60]),
        jitter=chance.choice([0, 3]),
        overlap="allow",
    )
    begin = NOON + chance.randrange(60, 300)
    pause = Pause(begin, begin + chance.choice([0, 10, 500]), "", "")
    now = begin + chance.choice([2, 60, 300]) + 0.5
    found = []
    for size in (1, 4, 100_000):
        slices(monkeypatch, size)
        machine, port = running(schedule)
        machine.pause("s", pause)
        tick(machine, now)
        rows = sorted(port.rows.values(), key=lambda row: row.nominal)
        found.append([(row.nominal, row.state, row.reason, row.into, row.since) for row in rows])
    assert found[0] == found[1] == found[2]
    assert found[0]


def test_what_was_coalesced_before_a_restart_is_in_the_interval_of_what_runs(monkeypatch):
    slices(monkeypatch, 10)
    machine, port = running(every_second())
    now = NOON + 100.5
    while len(port.rows) < 30:
        machine.on_tick(now)
    assert not port.started
    old = machine.entries["s"]
    entry = Entry(old.told, 0, old.cursor, old.next)
    entry.last = old.last
    again = Machine(port)
    again.follow([entry])
    again.restore([])
    tick(again, now + 1)
    row = port.rows[port.started[0]]
    assert (row.since, row.nominal) == (NOON + 1, NOON + 42)  # the first that is on time
    assert {port.rows[one.into].state for one in port.rows.values() if one.into} <= {
        State.COALESCED, State.RUNNING,
    }  # fmt: skip
    assert len(port.rows) == 100


def test_who_is_changed_or_retired_in_the_middle_of_it_has_a_row_for_each(monkeypatch):
    slices(monkeypatch, 10)
    for change in ({}, {"s": every_second(cron="@every 2s")}, {"s": every_second(overlap="skip")}):
        machine, port = running(every_second())
        now = NOON + 100.5
        while len(port.rows) < 40:
            machine.on_tick(now)
        machine.set_schedules(change, now)
        tick(machine, now)
        assert sorted(row.nominal for row in port.rows.values()) == [*range(NOON + 2, NOON + 101)]


def test_a_long_absence_costs_few_rows_and_leaves_no_gap():
    machine, port = running(
        Schedule("s", cron="@every 1s", run="m:f", catch_up="10s", late_after=1)
    )
    tick(machine, NOON + 30 * DAY)
    rows = sorted(port.rows.values(), key=lambda row: row.nominal)
    assert len(rows) == 1000 + 1 + 10 or len(rows) == 1000 + 1 + 11
    following = NOON + 2
    for row in rows:
        assert row.nominal == following
        following = row.until or row.nominal + 1
    assert following == NOON + 30 * DAY + 1
    assert [row.nominal for row in rows if row.state is State.RUNNING] == [NOON + 30 * DAY - 1]


# ---------------------------------------------------------------- the one before still runs


def overlapping(overlap, fires=4, **options):
    machine, port = running(hourly(overlap=overlap, **options))
    for number in range(1, fires + 1):
        machine.on_tick(NOON + number * HOUR)
    return machine, port


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("buffer_one", ["running", "waiting", "buffer full", "buffer full"]),
        ("buffer_all(2)", ["running", "waiting", "waiting", "buffer full"]),
        ("skip", ["running", "overlap", "overlap", "overlap"]),
        ("cancel", ["running", "coalesced", "coalesced", "waiting"]),
        ("allow", ["running", "running", "running", "running"]),
    ],
)
def test_overlap(overlap, expected):
    _, port = overlapping(overlap)
    assert [reason or state for _, state, reason in port.fates()] == expected


def test_what_waits_begins_when_the_one_before_is_over():
    machine, port = overlapping("buffer_all(2)", fires=3)
    end_all(machine, port, NOON + 3.5 * HOUR)
    assert [state for _, state, _ in port.fates()] == ["ran", "running", "waiting"]
    end_all(machine, port, NOON + 3.6 * HOUR)
    assert [state for _, state, _ in port.fates()] == ["ran", "ran", "running"]


def test_cancel_stops_what_runs_and_then_begins():
    machine, port = overlapping("cancel", fires=2)
    first, second = fire_id("a", NOON + HOUR), fire_id("a", NOON + 2 * HOUR)
    assert (port.stopped, port.started) == ([first], [first])
    machine.on_ended(first, "cancelled", "", NOON + 2 * HOUR + 1)
    assert port.started == [first, second]


def test_what_was_cancelled_while_it_waited_is_in_the_interval_of_what_runs():
    machine, port = overlapping("cancel")
    fates = port.fates()
    assert [state for _, state, _ in fates] == ["running", "coalesced", "coalesced", "waiting"]
    machine.on_ended(port.started[0], "cancelled", "", NOON + 4 * HOUR + 1)
    row = port.rows[port.started[1]]
    assert (row.since, row.nominal) == (NOON + HOUR, NOON + 4 * HOUR)


def test_what_waits_too_long_meets_its_deadline():
    machine, port = overlapping("buffer_one", fires=2, deadline="30m")
    assert machine.next_deadline() == NOON + 2.5 * HOUR
    machine.on_tick(NOON + 2.5 * HOUR)
    assert [reason or state for _, state, reason in port.fates()] == ["running", "deadline"]
    assert machine.next_deadline() == NOON + 3 * HOUR


# ---------------------------------------------------------------- clocks that jump


def test_late_is_later_than_late_after():
    schedule = hourly(late_after="1m")
    assert not schedule.is_late(0, 60)
    assert schedule.is_late(0, 60.1)


def test_a_clock_put_back_fires_nothing_twice():
    machine, port = running(hourly(overlap="allow"))
    machine.on_tick(NOON + 2 * HOUR)
    machine.on_tick(NOON - 20 * HOUR)
    machine.on_tick(NOON + HOUR)
    machine.on_tick(NOON + 2 * HOUR)
    assert len(port.rows) == 2
    machine.on_tick(NOON + 3 * HOUR)
    assert len(port.rows) == 3


def test_a_clock_put_forward_loses_nothing():
    machine, port = running(hourly(misfire="all", overlap="allow", catch_up="30d"))
    machine.on_tick(NOON + 5 * DAY)
    machine.on_tick(NOON + 2 * HOUR)
    machine.on_tick(NOON + 5 * DAY + HOUR)
    assert sorted(row.nominal for row in port.rows.values()) == [
        NOON + n * HOUR for n in range(1, 122)
    ]
    assert len(port.started) == 102  # of 119 the last 100, and two that were on time


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_clock_does_each_time_has_one_row_and_runs_once(seed):
    rng = random.Random(f"clock{seed}")
    schedule = Schedule(
        "a", cron=rng.choice(["*/7 * * * *", "@every 1000s"]), run="m:f",
        misfire=rng.choice(["latest", "all(4)", "skip"]), jitter=rng.choice([0, "10m"]),
        overlap=rng.choice(["buffer_one", "cancel", "allow"]), catch_up=rng.choice([0, "6h"]),
    )  # fmt: skip
    machine, port = running(schedule)  # the port fails if a fire is started twice
    now, furthest = float(NOON + 1), float(NOON + 1)
    for _ in range(200):
        now += rng.choice([1, 60, 400, HOUR, 9 * HOUR, -30, -2 * HOUR, -DAY])
        furthest = max(furthest, now)
        for row in machine.open_rows():
            if row.fire_id in port.started and rng.random() < 0.6:
                machine.on_ended(row.fire_id, "succeeded", "", now)
        if rng.random() < 0.1:
            machine.set_schedules({"a": schedule}, now)
        machine.on_tick(now)
    expected, at = [], schedule.timing.next(NOON + 1)
    while at is not None and at + schedule.offset <= furthest:
        expected.append(at)
        at = schedule.timing.next(at)
    assert sorted(row.nominal for row in port.rows.values()) == expected


# ---------------------------------------------------------------- pause, resume, run, backfill


def test_a_pause_has_who_why_and_until():
    machine, port = running(hourly())
    machine.pause("a", Pause(NOON + 1, NOON + 2.5 * HOUR, "ada", "the disk is full"))
    for number in range(1, 4):
        machine.on_tick(NOON + number * HOUR)
    assert [reason or state for _, state, reason in port.fates()] == [
        "paused", "paused", "running",
    ]  # fmt: skip
    assert port.rows[fire_id("a", NOON + HOUR)].detail == "by ada: the disk is full"
    assert machine.entries["a"].pauses == ()  # it is over


def test_resume_ends_a_pause_but_not_its_past():
    machine, port = running(hourly(misfire="all", overlap="allow"))
    machine.pause("a", Pause(NOON + 1, inf, "", ""))
    assert machine.resume("a", NOON + 1.5 * HOUR)
    assert not machine.resume("a", NOON + 1.6 * HOUR)
    machine.on_tick(NOON + 3 * HOUR)
    assert [reason or state for _, state, reason in port.fates()] == [
        "paused", "running", "running",
    ]  # fmt: skip


def test_a_run_by_hand_is_a_fire_of_its_own():
    machine, port = running(hourly(overlap="allow"))
    machine.pause("a", Pause(NOON, inf, "", ""))
    row = machine.run("a", NOON + 10, "order 1", NOON + 10)
    again = machine.run("a", NOON + 10, "order 1", NOON + 10)
    other = machine.run("a", NOON + 10, "order 2", NOON + 10)
    assert port.started == [row.fire_id, other.fire_id]
    assert again.fire_id == row.fire_id
    assert (row.kind, row.since) == (Kind.MANUAL, NOON)


def test_a_backfill_goes_from_the_newest_some_at_a_time():
    machine, port = running(hourly())
    times = [NOON - n * HOUR for n in range(5)]
    machine.backfill("a", times, "order 1", NOON + 5, at_once=2)

    def started():
        return [(port.rows[fire].nominal - NOON) // HOUR for fire in port.started]

    assert started() == [0, -1]
    machine.on_ended(port.started[0], "failed", "", NOON + 6)
    assert started() == [0, -1, -2]
    machine.on_tick(NOON + HOUR)  # a backfill is in nobody's way
    assert started() == [0, -1, -2, 1]
    for _ in range(5):
        end_all(machine, port, NOON + HOUR + 5)
    assert started() == [0, -1, -2, 1, -3, -4]
    assert all(row.state is State.RAN for row in port.rows.values())


def a_long_backfill():
    """Of two slices and a bit; one slice has rows, two of its fires run."""
    machine, port = running(hourly())
    times = [NOON - n * HOUR for n in range(2 * SLICE + 5)]
    machine.backfill("a", times, "order 7", NOON + 5, at_once=2, number=7)
    return machine, port, times


def test_of_a_backfill_some_have_rows_and_the_others_wait():
    machine, port, times = a_long_backfill()
    assert (len(port.rows), len(port.backfills[7])) == (SLICE, SLICE + 5)
    for fire in port.started[:SLICE]:
        machine.on_ended(fire, "succeeded", "", NOON + 6)
    for _ in range(3 * SLICE):
        end_all(machine, port, NOON + 6)
    assert [port.rows[fire].nominal for fire in port.started] == times
    assert all(row.state is State.RAN for row in port.rows.values())
    assert len(port.backfills[7]) == 0


def test_what_a_backfill_has_left_runs_after_a_restart():
    machine, port, times = a_long_backfill()
    old = machine.entries["a"]
    entry = Entry(old.schedule, 0, old.cursor, old.next)
    entry.at_once = 2
    again = Machine(port)
    again.follow([entry])
    again.restore(machine.open_rows(), [port.backfills[7]])
    again.on_settled(NOON + 6)
    for _ in range(3 * SLICE):
        end_all(again, port, NOON + 7)
    assert [port.rows[fire].nominal for fire in port.started] == times


def test_what_a_backfill_has_left_ends_with_its_schedule():
    machine, port, times = a_long_backfill()
    machine.set_schedules({}, NOON + 6)
    (rest,) = [row for row in port.rows.values() if row.until is not None]
    assert (rest.nominal, rest.until) == (times[-1], times[SLICE] + 1)
    assert (rest.kind, rest.reason) == (Kind.BACKFILL, "retired")
    assert sum(row.reason == "retired" for row in port.rows.values()) == SLICE - 2 + 1
    assert len(port.backfills[7]) == 0


def test_what_a_backfill_has_left_can_be_ended():
    machine, port, times = a_long_backfill()
    begun = len(port.started)
    assert machine.end_backfills("a", "by ada", NOON + 6) == len(times) - begun
    assert machine.end_backfills("a", "by ada", NOON + 6) == 0
    ended = [row for row in port.rows.values() if row.reason == "cancelled"]
    assert {(row.kind, row.detail) for row in ended} == {(Kind.BACKFILL, "by ada")}
    (rest,) = [row for row in ended if row.until is not None]
    assert (rest.nominal, rest.until) == (times[-1], times[SLICE] + 1)
    assert len(port.backfills[7]) == 0
    end_all(machine, port, NOON + 7)
    assert len(port.started) == begun  # what ran has ended, and nothing follows
    tick(machine, NOON + HOUR)
    assert len(port.started) == begun + 1  # the schedule itself goes on


def test_so_many_nominal_times_of_backfills_wait_and_no_more(monkeypatch):
    machine, port, _ = a_long_backfill()
    monkeypatch.setattr(machine_module, "PLANNED_MAX", SLICE + 5 + 1)
    machine.backfill("a", [NOON - DAY * 30], "order 8", NOON + 6, number=8)
    with pytest.raises(ValueError, match=f"{SLICE + 6} nominal times of backfills wait already"):
        machine.backfill("a", [NOON - DAY * 31], "order 9", NOON + 6, number=9)
    assert len(port.rows) == SLICE


# ---------------------------------------------------------------- files change


def test_a_changed_expression_changes_only_the_future():
    machine, port = running(hourly(misfire="all", overlap="allow"))
    machine.set_schedules({"a": hourly(cron="30 * * * *")}, NOON + 2.25 * HOUR)
    assert [hour for hour, _, _ in port.fates()] == [1, 2]
    machine.on_tick(NOON + 3 * HOUR)
    assert [hour for hour, _, _ in port.fates()] == [1, 2, 2.5]


def test_a_fire_whose_jitter_is_not_over_is_not_lost_by_a_change():
    schedule = hourly(jitter="50m")
    machine, port = running(schedule)
    now = NOON + HOUR + schedule.offset - 1
    machine.set_schedules({"a": hourly(cron="30 23 * * *")}, now)
    assert [hour for hour, _, _ in port.fates()] == [1]


def test_other_changes_leave_the_times_alone():
    machine, port = running(hourly())
    machine.set_schedules({"a": hourly(overlap="skip", args=[1])}, NOON + 1.5 * HOUR)
    machine.on_tick(NOON + 1.5 * HOUR)
    assert [hour for hour, _, _ in port.fates()] == [1]
    assert machine.entries["a"].schedule.args == (1,)


def test_what_is_no_longer_in_a_file_is_retired_and_may_come_back():
    machine, port = running(hourly(), hourly("b"))
    machine.on_tick(NOON + HOUR)
    machine.on_tick(NOON + 2 * HOUR)
    machine.set_schedules({"b": hourly("b")}, NOON + 2.5 * HOUR)
    rows = [row for row in port.rows.values() if row.schedule == "a"]
    assert [row.reason or str(row.state) for row in rows] == ["running", "retired"]
    end_all(machine, port, NOON + 2.6 * HOUR)
    machine.on_tick(NOON + 9 * HOUR)
    assert len([row for row in port.rows.values() if row.schedule == "a"]) == 2
    machine.set_schedules({"a": hourly(), "b": hourly("b")}, NOON + 9.5 * HOUR)
    machine.on_tick(NOON + 10 * HOUR)
    assert fire_id("a", NOON + 10 * HOUR) in port.started
    assert fire_id("a", NOON + 9 * HOUR) not in port.rows
    absent = port.rows[fire_id("a", NOON + 3 * HOUR)]
    assert (absent.reason, absent.until) == ("retired", NOON + 9.5 * HOUR + 1)


# ---------------------------------------------------------------- a restart


def test_a_restart_goes_on_where_it_was():
    machine, port = overlapping("buffer_one", fires=2)
    machine.backfill("a", [NOON, NOON - HOUR], "x", NOON + 2 * HOUR)
    old = machine.entries["a"]
    entry = Entry(Schedule.restored(old.schedule.state()), 0, old.cursor, old.next)
    assert entry.schedule == old.schedule
    port.started.clear()
    again = Machine(port)
    again.follow([entry])
    again.restore(machine.open_rows())
    again.set_schedules({"a": old.schedule}, NOON + 2.2 * HOUR)
    again.on_settled(NOON + 2.2 * HOUR)
    assert port.started == []  # the first still runs
    again.on_ended(fire_id("a", NOON + HOUR), "succeeded", "", NOON + 2.3 * HOUR)
    assert port.started == [fire_id("a", NOON + 2 * HOUR)]
    again.on_ended(fire_id("a", NOON, "x"), "succeeded", "", NOON + 2.3 * HOUR)
    assert port.started[1:] == [fire_id("a", NOON - HOUR, "x")]


def test_what_waited_begins_after_a_restart_if_nothing_runs():
    machine, port = overlapping("buffer_one", fires=2)
    entry = machine.entries["a"]
    rows = [row for row in machine.open_rows() if row.state is State.WAITING]
    again = Machine(port)
    again.follow([Entry(entry.schedule, 0, entry.cursor, entry.next)])
    again.restore(rows)
    again.on_settled(NOON + 2.1 * HOUR)
    assert port.started[1:] == [fire_id("a", NOON + 2 * HOUR)]


# ---------------------------------------------------------------- what a schedule may say


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cron": "61 * * * *"}, "schedule 'a': minute: '61' is not one"),
        (
            {"cron": "0 0 30 2 *"},
            "schedule 'a': '0 0 30 2 .*' can never fire.*write another",
        ),
        ({"cron": ""}, "cron is ''"),
        (
            {"tz": "Mars/Olympus"},
            "no time zone 'Mars/Olympus'; names are those of the IANA",
        ),
        (
            {"tz": "Europe/Berln"},
            "no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'",
        ),
        ({"misfire": "none"}, r"misfire is 'none'; it must be one of latest, all\(N\), skip"),
        ({"misfire": "latest(3)"}, "misfire is"),
        ({"misfire": "all(0)"}, "misfire is"),
        ({"overlap": "buffer"}, r"overlap is 'buffer'; it must be one of buffer_one, buffer_all"),
        ({"dst": "crom"}, "dst is 'crom'.*did you mean 'cron'"),
        ({"tz": ["UTC"]}, r"tz is \['UTC'\]; it must be a text"),
        ({"overlap": {"skip": 1}}, "overlap is {'skip': 1}; it must be one of"),
        ({"jitter": ["1s"]}, r"jitter is \['1s'\]; give seconds"),
        ({"jitter": True}, "jitter is True; give seconds"),
        ({"catch_up": "2y"}, "catch_up is '2y'"),
        ({"catch_up": "400d"}, "it may be up to a year"),
        ({"jitter": -1}, "jitter is -1"),
        ({"deadline": 0}, "a fire needs some time to begin"),
        ({"run": "m.f"}, "write it as 'module:function'"),
        ({"run": lambda: None}, "a function at the top level of a module"),
        ({"run": None}, "say what to run: one of run and command"),
        ({"command": ["ls"]}, "say what to run: one of run and command"),
        ({"run": None, "command": "ls -l"}, r"command is 'ls -l'; write a list of words"),
        ({"args": "x"}, "args is 'x'; it must be a list"),
        ({"kwargs": [1]}, r"kwargs is \[1\]; it must be a table"),
        ({"args": [date(2026, 3, 7)]}, r"args has datetime.date\(2026, 3, 7\), which is no text"),
        ({"kwargs": {"deep": [{"x": {1}}]}}, r"kwargs has \{1\}, which is no text"),
        ({"args": [1 << 64]}, "args has 18446744073709551616; .* must fit into 64 bits"),
        ({"args": ["\ud800"]}, "surrogates not allowed"),
        ({"options": {"labels": {"ssd"}}}, r"options has \{'ssd'\}, which is no text"),
        ({"on_failure": "mail root"}, "on_failure is 'mail root'; write a URL"),
    ],
)
def test_what_is_wrong_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        hourly(**options)


@pytest.mark.parametrize("name", ["", "two words", "-x", "x" * 101, 7, "a/b"])
def test_a_name_is_plain(name):
    with pytest.raises(ValueError, match="it must be up to 100 letters"):
        hourly(name)


def test_a_function_may_be_given_as_itself():
    assert hourly(run=fire_id).run == "farm_scheduler.core.rows:fire_id"


def test_rows_are_remembered_twice_as_long_as_they_can_be_made_up_for():
    assert hourly(keep="1h", catch_up="3d").keep == 6 * DAY
