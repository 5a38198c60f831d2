"""How many tasks a host asks for, and what it does with one credit."""

import pytest

from farm.model import Blob, Ending
from farm.protocol.messages import Beat, Noted, Report
from farm_workers.host_pace import HOLD_SECONDS, Pace, slice_tasks
from farm_workers.host_slots import Slot
from tests.unit.host_rig import Rig, one, runs

MIB = 1 << 20


def echo(rig, seconds):
    rig.host.receive(Beat(echo=rig.now - seconds), rig.now)


def window(rig):
    return rig.host._window()


def test_slices_hold_a_few_milliseconds_of_work():
    assert [slice_tasks(s) for s in (-1.0, 1.0, 0.002, 0.001, 0.0005, 1e-5, 0.0)] == [
        1, 1, 1, 2, 4, 128, 128,
    ]  # fmt: skip


def test_there_is_no_lookahead_until_durations_and_the_round_trip_are_known():
    rig = Rig(slots=4)
    assert window(rig) == 4
    echo(rig, 0.0009)
    assert window(rig) == 4
    slot, part = one(rig.assign())
    rig.ended(slot, part, seconds=0.001)
    assert window(rig) == 4 + 4 * 5  # a round trip and two slices, for each slot


def test_long_tasks_get_no_lookahead_and_shorter_ones_what_a_held_report_takes():
    pace = Pace()
    pace.heard(0.001)
    pace.learn_unit(1, 0.02)
    assert pace.lookahead(2) == 2 * 4  # 61 ms of tasks of 20 ms, for each slot
    pace = Pace()
    pace.heard(0.001)
    pace.learn_unit(1, 0.2)
    assert pace.lookahead(2) == 0


def test_long_is_longer_than_a_hundred_round_trips():
    for round_trip in (0.0002, 0.001, 0.05):
        for times, lookahead in ((99, 1), (101, 0)):
            pace = Pace()
            pace.heard(round_trip)
            pace.learn_unit(1, times * round_trip)
            assert bool(pace.lookahead(1)) == lookahead


def test_lookahead_is_the_rate_times_the_round_trip_by_littles_law():
    pace = Pace()
    pace.heard(0.495)
    pace.learn_unit(1, 0.01)
    # A report may wait for 40 ms, too; 100 tasks a second and slot.
    assert pace.lookahead(3) == 3 * 54


def test_a_report_may_wait_for_three_tasks_of_a_worker_and_for_more_where_they_are_short():
    pace = Pace()
    assert pace.hold == 0.04
    for seconds, hold in ((0.005, 0.04), (0.016, 0.048), (0.02, 0.06), (0.1, 0.06)):
        pace = Pace()
        pace.learn_unit(1, seconds)
        assert pace.hold == pytest.approx(hold)


def test_the_window_is_capped():
    rig = Rig(slots=2, window_max=50)
    echo(rig, 0.1)
    slot, part = one(rig.assign())
    rig.ended(slot, part, seconds=1e-6)
    assert window(rig) == 50


def test_slots_that_are_stuck_in_a_long_task_get_no_lookahead():
    rig = Rig(slots=2)
    echo(rig, 0.009)
    rig.ended(*one(rig.assign()), seconds=0.01)
    assert window(rig) == 2 + 2 * 5
    rig.assign(2, lease=2, first=2)
    rig.tick(0.2)
    assert window(rig) == 2


def test_a_host_keeps_no_more_outcomes_than_its_bound():
    rig = Rig(slots=2, unnoted_max=3)
    for number in range(1, 4):
        rig.ended(*one(rig.assign(lease=number, first=number)))
        report = rig.report()
        assert report.window == min(2, 3 - number)
    assert rig.tick() == []
    rig.host.receive(Noted(2, 1), rig.now)
    report = rig.report()  # the window opens: worth a report of its own
    assert (report.window, report.ended) == (2, [])
    assert rig.tick() == []


def test_large_outcomes_count_too():
    rig = Rig(slots=1, unnoted_bytes_max=1)
    rig.ended(*one(rig.assign()))
    report = rig.report()
    assert report.window == 0
    rig.host.receive(Noted(report.number, 1), rig.now)
    assert rig.report().window == 1


def test_one_credit_everywhere_still_works():
    rig = Rig(slots=1, window_max=1, unnoted_max=1)
    for number in range(1, 5):
        rig.ended(*one(rig.assign(lease=number, first=number, expected=1e-6)))
        report = rig.report()
        assert report.window == 0
        rig.host.receive(Noted(report.number, number), rig.now)
        report = rig.report()
        assert report.window == 1
        rig.host.receive(Noted(report.number, number), rig.now)


def test_reports_on_the_way_are_bounded_and_the_rest_waits():
    rig = Rig(slots=1)
    for number in range(1, 71):
        rig.ended(*one(rig.assign(lease=number, first=number)))
        rig.tick()
    assert rig.host._reports._number == 64
    assert rig.host.next_deadline() > rig.now
    rig.host.receive(Noted(1, 1), rig.now)
    report = rig.report()
    assert [e.lease for e in report.ended] == [65, 66, 67, 68, 69, 70]
    rig.host.on_disconnected(rig.now)
    rig.connect()
    again = [m.number for _, m in rig.take() if isinstance(m, Report)]
    assert again == list(range(2, 66))


def test_large_outcomes_leave_in_reports_of_their_own():
    rig = Rig(slots=1)
    slot, part = one(rig.assign(3, expected=1e-5))
    end = part.end(1, 3, Ending.OK, [b"x" * 700_000] * 3, seconds=0.3)
    rig.host.on_worker_ended(slot, [end], rig.now)
    reports = [call[1] for call in rig.tick()]
    assert [[(e.first, e.count, e.size) for e in r.ended] for r in reports] == [
        [(1, 1, 700_000)],
        [(2, 1, 700_000)],
        [(3, 1, 700_000)],
    ]


@pytest.mark.parametrize(
    ("payload", "left"), [(b"x" * MIB, 32), (Blob("peers/0/1", MIB), 40)], ids=["bytes", "blob"]
)
def test_reports_on_the_way_are_bounded_in_bytes_that_are_on_the_way(payload, left):
    rig = Rig(slots=1)
    slot, part = one(rig.assign(40, expected=1e-5))
    end = part.end(1, 40, Ending.OK, [payload] * 40, seconds=0.3)
    rig.host.on_worker_ended(slot, [end], rig.now)
    reports = [call[1] for call in rig.tick()]
    assert [report.number for report in reports] == list(range(1, left + 1))
    rig.host.receive(Noted(left, 1), rig.now)
    assert rig.host._reports._flying_bytes == sum(
        end.size for _, report in rig.take() if isinstance(report, Report) for end in report.ended
    )


def test_a_packed_outcome_counts_once():
    rig = Rig(slots=1, unnoted_max=2)
    rig.ended(*one(rig.assign(1000, packed=True)))
    assert rig.report().window == 1


def test_a_host_that_is_full_of_outcomes_does_not_hear_its_workers_and_excuses_them():
    rig = Rig(slots=2, unnoted_bytes_max=1)
    given = runs(rig.assign(2, time_limit=3.0))
    assert not rig.host.full
    rig.ended(0, given[0][0])
    report = rig.report()
    assert rig.host.full
    assert rig.tick(3.5) != []  # it says that the other has started
    assert rig.take() == []
    rig.host.receive(Noted(report.number, 1), rig.now)
    assert not rig.host.full
    assert [call for call in rig.tick(0.5) if call[0] == "stop"] == []
    assert [call for call in rig.tick(0.6) if call[0] == "stop"] == [("stop", 1)]


def reports(calls):
    return [call[1] for call in calls if call[0] == "send" and isinstance(call[1], Report)]


def test_a_small_report_waits_for_others_while_there_is_more_to_do():
    rig = Rig(slots=1)
    echo(rig, 0.001)
    rig.ended(*one(rig.assign()), seconds=0.02)
    rig.report()  # nothing else to do: at once
    [(slot, (part, *_))] = runs(rig.assign(6, lease=2, first=2)).items()
    rig.ended(slot, part, seconds=0.02)
    assert reports(rig.tick()) == []
    assert rig.host.next_deadline() <= rig.now + HOLD_SECONDS
    [report] = reports(rig.tick(HOLD_SECONDS))
    assert [(ended.first, ended.count) for ended in report.ended] == [(2, 1)]


def test_a_report_that_has_waited_most_of_its_time_leaves_in_the_next_turn():
    rig = Rig(slots=1)
    echo(rig, 0.001)
    rig.ended(*one(rig.assign()), seconds=0.02)
    rig.report()
    given = runs(rig.assign(8, lease=2, first=2))[0]
    for past in (0.0, 0.02):
        rig.now += past
        given += runs(rig.ended(0, given.pop(0), seconds=0.02))[0]
        assert reports(rig.tick()) == []
    rig.now += 0.026  # of 60 ms there are 14 left
    rig.ended(0, given.pop(0), seconds=0.02)
    [report] = reports(rig.tick())
    assert sum(ended.count for ended in report.ended) == 3


def test_a_host_in_trouble_wants_nothing_says_why_and_goes_on_by_itself():
    rig = Rig(slots=1)
    slot, part = one(rig.assign())
    rig.host.on_trouble("the disk is full", rig.now)
    report = rig.report()
    assert (report.window, report.trouble) == (0, "the disk is full")
    assert rig.tick() == []
    rig.ended(slot, part)  # what it has goes on
    assert len(rig.report().ended) == 1
    rig.host.on_trouble("another", rig.now)
    assert rig.report().trouble == "another"
    rig.host.on_disconnected(rig.now)
    rig.host.on_connected(rig.now)
    ((_, hello),) = rig.take()
    assert (hello.window, hello.trouble) == (0, "another")
    rig.connect()
    rig.take()
    rig.host.on_trouble("", rig.now)
    report = rig.report()
    assert (report.window, report.trouble) == (1, "")


def test_a_begin_is_worth_no_turn_while_reports_wait_for_others():
    rig = Rig(slots=1)
    echo(rig, 0.001)
    rig.ended(*one(rig.assign()), seconds=0.02)
    rig.report()
    [(slot, (part, *_))] = runs(rig.assign(6, lease=2, first=2)).items()
    assert rig.host.next_deadline() == pytest.approx(rig.now + 0.005 + HOLD_SECONDS)
    assert rig.tick(0.02) == []
    rig.ended(slot, part, seconds=0.02)
    assert reports(rig.tick()) == []
    [report] = reports(rig.tick(HOLD_SECONDS))
    assert [(ended.first, ended.count) for ended in report.ended] == [(2, 1)]


def busy(*, tasks=4, seconds=0.06):
    """A host of two workers at such tasks, each with another in its pipe, and their slices."""
    rig = Rig(slots=2)
    echo(rig, 0.001)
    for lease in (1, 2):
        rig.ended(*one(rig.assign(lease=lease, first=lease)), seconds=seconds)
        rig.report()
    return rig, runs(rig.assign(tasks, lease=3, first=3))


def test_a_small_report_waits_while_every_worker_has_enough_to_do():
    rig, given = busy()
    [first, _] = given[0]
    assert rig.host.next_deadline() == rig.now + 0.005  # nothing has ended: who begins is said
    rig.now += 0.004
    rig.ended(0, first, seconds=0.06)
    assert reports(rig.tick()) == []
    spare = 0.06 - 2 * 0.001  # until it would have nothing, but for two round trips
    assert rig.host.next_deadline() == pytest.approx(rig.now + spare)
    [report] = reports(rig.tick(spare))
    assert [(ended.first, ended.count) for ended in report.ended] == [(3, 1)]
    assert {line[2] for line in report.started} == {4, 5}  # and with it who began meanwhile


def test_a_report_does_not_wait_until_a_worker_has_nothing_to_do():
    rig, given = busy(seconds=0.03)
    rig.now += 0.01
    rig.ended(1, given[1][0], seconds=0.03)
    assert reports(rig.tick()) == []
    spare = 0.03 - 2 * 0.001  # and two round trips
    assert rig.host.next_deadline() == pytest.approx(rig.now + spare, abs=1e-6)
    rig.now += 0.02
    rig.ended(0, given[0][0], seconds=0.03)
    assert reports(rig.tick()) == []
    assert len(reports(rig.tick(spare - 0.02))[0].ended) == 2


def test_a_report_waits_for_nothing_where_a_worker_has_nothing_to_do():
    rig, given = busy(tasks=2)
    rig.ended(0, given[0][0], seconds=0.06)
    assert len(rig.report().ended) == 1


def test_who_has_ended_is_not_said_to_have_begun():
    rig = Rig(slots=1)
    slot, part = one(rig.assign())
    rig.host._trouble = "no room"  # a report is due, and cannot leave
    rig.host.on_disconnected(rig.now)
    assert rig.tick(0.01) == []
    rig.ended(slot, part)
    rig.connect()
    [report] = [one for one in reports(rig.take()) if one.ended]
    assert report.started == []


def test_the_end_of_a_task_costs_no_more_where_there_are_more_slots(monkeypatch):
    looked = []
    for name in ("due", "has_room", "left"):
        told = getattr(Slot, name)

        def look(slot, *of, told=told):
            looked.append(slot)
            return told(slot, *of)

        monkeypatch.setattr(Slot, name, look)

    def cost(slots):
        rig = Rig(slots=slots)
        given = runs(rig.assign(2 * slots))
        for slot in (0, 1):  # by the first it is learned how long they take
            rig.tick()
            looked.clear()
            rig.ended(slot, given[slot][0], seconds=0.02)
        rig.tick()
        return len(looked)

    assert 0 < cost(4) < 5
    assert 0 < cost(40) < 5
