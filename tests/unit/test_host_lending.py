"""Slots that are lent: who may begin while tasks wait for others, and what is paid back."""

from farm.model import Ending, deepest_wait, lendable
from farm.protocol.messages import HostHello, Report
from tests.unit.host_rig import Rig, endings, one, runs


def lender(slots=1, max_lent=8, **more):
    return Rig(slots=slots, max_lent=max_lent, **more)


def begin(rig, **more):
    """Have a task begin on a worker that is there."""
    return one(rig.assign(**more))


def waits(rig, slot, part, *, begins=True):
    rig.host.on_worker_waits(slot, part.offset, rig.now, begins=begins)
    return rig.take()


def lent(rig):
    """What the next report says of the window and of the tasks that wait."""
    reports = [call[1] for call in rig.tick() if isinstance(call[1], Report)]
    return (reports[-1].window, reports[-1].waiting) if reports else None


def started(rig, slot):
    """A worker that was spawned is up; what it is given."""
    rig.host.on_worker_ready(slot, rig.now)
    return one(rig.take())


def test_hello_says_how_many_slots_may_be_lent():
    rig = Rig(connect=False, max_lent=5)
    rig.host.on_connected(rig.now)
    (hello,) = [call[1] for call in rig.take()]
    assert isinstance(hello, HostHello)
    assert hello.max_lent == 5


def test_while_a_task_waits_the_host_asks_for_one_more():
    rig = lender()
    slot, part = begin(rig)
    waits(rig, slot, part)
    assert lent(rig) == (2, 1)
    waits(rig, slot, part, begins=False)
    assert lent(rig) == (1, 0)


def test_a_worker_is_started_when_there_is_something_for_it():
    rig = lender()
    slot, part = begin(rig)
    assert waits(rig, slot, part) == []
    assert rig.assign(lease=2, first=2, depth=1) == [("spawn", 1)]
    assert started(rig, 1)[0] == 1


def test_nothing_begins_while_more_are_at_work_than_there_are_slots():
    rig = lender()
    slot, part = begin(rig)
    waits(rig, slot, part)
    rig.assign(lease=2, first=2, depth=1)
    _, child = started(rig, 1)
    waits(rig, slot, part, begins=False)  # it goes on at once, beside its child
    assert rig.assign(lease=3, first=3) == []
    report = rig.report()
    assert report.returned == [(1, 3, 3, 1)]  # others may have room for it
    assert report.window == 1
    rig.ended(1, child)
    assert rig.assign(lease=4, first=4) == []  # the parent has the slot again
    rig.tick()
    rig.ended(slot, part)
    assert one(rig.assign(lease=5, first=5))[1].first == 5


def test_the_deepest_goes_first():
    rig = lender(slots=2)
    slot, part = begin(rig)
    begin(rig, lease=2, first=2)
    rig.host.on_worker_waits(slot, part.offset, rig.now, begins=True)
    rig.take()
    rig.assign(lease=3, first=3, depth=0)
    rig.assign(lease=4, first=4, depth=3)
    rig.assign(lease=5, first=5, depth=1)
    assert started(rig, 2)[1].first in {3, 4, 5}
    assert rig.report().returned  # of one slot that is lent only one task has the use


def test_what_would_wait_behind_a_parent_is_taken_back():
    rig = lender(slots=1)
    (slices,) = runs(rig.assign(count=40, expected=0.0001)).values()
    part = slices[0]
    calls = waits(rig, 0, part)
    assert calls == [("limit", 0, part.offset + sum(one.count for one in slices))]
    rig.host.on_worker_limited(0, part.offset, rig.now)
    assert rig.take() == [("spawn", 1)]
    assert started(rig, 1)[1].first == part.first + 1


def test_each_depth_has_a_slot_that_those_above_cannot_take():
    rig = lender(max_lent=8)
    slots = [begin(rig)]
    for depth in (0, 0):  # of those that nobody waits for, two more than there are slots
        waits(rig, *slots[-1])
        number = len(slots)
        assert rig.assign(lease=number + 1, first=number + 1, depth=depth) == [("spawn", number)]
        slots.append(started(rig, number))
    waits(rig, *slots[-1])
    rig.tick()
    assert rig.assign(lease=8, first=8, depth=0) == []
    assert rig.report().returned == [(1, 8, 8, 1)]
    assert rig.assign(lease=9, first=9, depth=1) == [("spawn", 3)]


def test_a_chain_as_deep_as_may_wait_ends():
    rig = lender(max_lent=8)
    chain = [begin(rig)]
    for depth in range(1, deepest_wait(8) + 1):
        waits(rig, *chain[-1])
        assert rig.assign(lease=depth + 1, first=depth + 1, depth=depth) == [("spawn", depth)]
        chain.append(started(rig, depth))
    while chain:
        slot, part = chain.pop()
        waits(rig, slot, part, begins=False)
        rig.ended(slot, part)
    assert lent(rig) == (1, 0)


def test_with_nothing_to_lend_a_task_that_waits_keeps_its_slot():
    rig = lender(max_lent=0)
    slot, part = begin(rig)
    waits(rig, slot, part)
    assert rig.assign(lease=2, first=2, depth=1) == []
    assert rig.report().returned == [(1, 2, 2, 1)]
    assert deepest_wait(0) == lendable(0, 3) == 0


def test_workers_that_are_not_needed_leave_after_a_while():
    rig = lender(spare_seconds=5.0)
    slot, part = begin(rig)
    waits(rig, slot, part)
    rig.assign(lease=2, first=2, depth=1)
    _, child = started(rig, 1)
    rig.ended(1, child)
    rig.ended(slot, part)
    rig.tick()
    assert ("retire", 1) not in rig.tick(4.9)
    assert ("retire", 1) in rig.tick(0.2)
    assert rig.exit(1, code=0) == []  # and no other takes its place
    assert one(rig.assign(lease=3, first=3))[0] == 0


def test_a_parent_that_dies_is_waited_for_by_nobody():
    rig = lender()
    slot, part = begin(rig)
    waits(rig, slot, part)
    rig.assign(lease=2, first=2, depth=1)
    _, child = started(rig, 1)
    assert rig.exit(slot, part.offset) == [("spawn", slot)]
    report = rig.report()
    assert [end.first for end in report.ended] == [part.first]
    assert (report.window, report.waiting) == (1, 0)
    rig.host.on_worker_ready(slot, rig.now)
    assert rig.take() == []
    rig.ended(1, child)


def test_a_child_that_dies_has_its_worker_started_again_only_for_others():
    rig = lender()
    slot, part = begin(rig)
    waits(rig, slot, part)
    rig.assign(lease=2, first=2, depth=1)
    _, child = started(rig, 1)
    assert rig.exit(1, child.offset) == []
    rig.tick()
    assert rig.assign(lease=3, first=3, depth=1) == [("spawn", 1)]


def test_workers_that_cannot_start_are_not_asked_for():
    rig = lender(failures_max=2)
    slot, part = begin(rig)
    waits(rig, slot, part)
    assert lent(rig) == (2, 1)
    rig.assign(lease=2, first=2, depth=1)
    assert rig.exit(1, code=1) == [("spawn", 1)]
    assert rig.exit(1, code=1) == []
    report = rig.report()
    assert report.returned == [(1, 2, 2, 1)]
    assert report.window == 1  # what it has, and nothing more
    assert rig.tick(30.0) != []  # then it tries again


def test_what_is_waited_for_fails_if_no_worker_gets_past_the_initializer():
    rig = lender(failures_max=2, has_initializer=True)
    slot, part = begin(rig)
    waits(rig, slot, part)
    rig.assign(lease=2, first=2, depth=1)
    rig.exit(1, code=1, error="no")
    rig.exit(1, code=1, error="no")
    report = rig.report()
    assert endings(report) == [(2, 2, 1, Ending.BROKEN)]
    assert report.ended[0].failure.message == "no"
    # What it has, and one more that is to hear of it.
    assert (report.window, report.waiting, rig.host.broken) == (2, 1, "no")
    rig.assign(lease=3, first=3, depth=1)
    assert endings(rig.report()) == [(3, 3, 1, Ending.BROKEN)]
    rig.assign(lease=4, first=4)  # on which nobody waits: it may run as soon as this goes on
    assert rig.report().returned == [(1, 4, 4, 1)]
    waits(rig, slot, part, begins=False)
    assert (lent(rig), rig.host.broken) == ((1, 0), "")
    rig.ended(slot, part)
    assert begin(rig, lease=5, first=5)[0] == slot


def test_who_begins_to_wait_where_no_worker_starts_waits_for_nothing():
    rig = lender(slots=2, ready=False, failures_max=2, has_initializer=True, retry_seconds=30.0)
    rig.host.on_worker_ready(0, rig.now)
    rig.exit(1, code=1, error="no")
    rig.exit(1, code=1, error="no")
    slot, part = begin(rig)
    rig.assign(lease=2, first=2, depth=1)
    waits(rig, slot, part)
    assert endings(rig.report()) == [(2, 2, 1, Ending.BROKEN)]
    calls = rig.tick(30.0)
    assert ("spawn", 1) in calls
    assert calls[-1][1].window == 3  # which is news: one that needs two slots may come
    rig.assign(lease=3, first=3, depth=1)
    assert started(rig, 1)[1].first == 3


def test_a_host_that_drains_begins_what_its_own_tasks_wait_for():
    rig = lender()
    slot, part = begin(rig)
    waits(rig, slot, part)
    rig.host.drain(rig.now)
    report = rig.tick()[-1][1]
    assert (report.window, report.waiting, report.leaving) == (2, 1, True)
    assert rig.assign(lease=2, first=2) == []  # not whatever else it is given
    assert rig.report().returned == [(1, 2, 2, 1)]
    assert rig.assign(lease=3, first=3, depth=1) == [("spawn", 1)]
    _, child = started(rig, 1)
    rig.ended(1, child)
    waits(rig, slot, part, begins=False)
    assert lent(rig) == (0, 0)
    rig.ended(slot, part)
    assert rig.host._work.is_idle


def test_a_wait_of_an_item_that_is_over_is_not_heard():
    rig = lender()
    slot, part = begin(rig)
    rig.host.on_worker_waits(slot, part.offset + 7, rig.now, begins=True)
    rig.host.on_worker_waits(slot, -1, rig.now, begins=True)
    rig.ended(slot, part)
    rig.host.on_worker_waits(slot, part.offset, rig.now, begins=True)
    rig.take()
    assert lent(rig) == (1, 0)


def test_a_new_connection_is_told_of_those_that_wait():
    rig = lender()
    slot, part = begin(rig)
    waits(rig, slot, part)
    rig.tick()
    rig.host.on_disconnected(rig.now)
    rig.host.on_connected(rig.now)
    rig.take()
    rig.connect()
    reports = [call[1] for call in rig.take() if isinstance(call[1], Report)]
    assert (reports[-1].window, reports[-1].waiting) == (2, 1)


def test_a_worker_gets_no_more_than_it_may_run():
    rig = lender(max_tasks_per_worker=1)
    slot, part = begin(rig)
    waits(rig, slot, part)
    rig.assign(lease=2, first=2, depth=1)
    _, child = started(rig, 1)
    assert ("retire", 1) in rig.ended(1, child)
    assert rig.assign(lease=3, first=3, depth=1) == [("spawn", 2)]


def test_parts_of_a_packed_task_that_wait_apart_count_as_one_for_the_coordinator():
    rig = lender(slots=2)
    (slices,) = runs(rig.assign(count=2, packed=True)).values()
    part = slices[0]
    rig.host.on_worker_waits(0, part.offset, rig.now, begins=True)
    rig.take()
    rig.host.on_worker_limited(0, part.offset, rig.now)
    slot, rest = one(rig.take())
    assert (rest.first, rest.count) == (2, 1)
    assert lent(rig) == (2, 1)  # one that waits, two slots, less one that it has already
    waits(rig, slot, rest)
    assert lent(rig) == (3, 2)


def test_a_task_that_needs_several_slots_lends_all_of_them():
    rig = lender(slots=3)
    slot, part = begin(rig, resources=(("slots", 3.0),))
    waits(rig, slot, part)
    assert lent(rig) == (6, 3)
    calls = rig.assign(3, lease=2, first=2, depth=1)
    assert [name for name, *_ in calls if name in {"run", "spawn"}] == ["run", "run", "spawn"]
    waits(rig, slot, part, begins=False)
    assert lent(rig) == (3, 0)


def test_parts_of_a_packed_task_that_wait_lend_the_slots_of_each():
    rig = lender(slots=3, max_lent=2)
    needs = (("slots", 3.0),)
    (slices,) = runs(rig.assign(2, packed=True, resources=needs)).values()
    part = slices[0]
    rig.host.on_worker_waits(0, part.offset, rig.now, begins=True)
    rig.take()
    rig.host.on_worker_limited(0, part.offset, rig.now)
    slot, rest = one(rig.take())
    assert lent(rig) == (3, 1)  # no slot is free: the rest has what the first item has lent
    waits(rig, slot, rest)
    # The coordinator counts three of them as held, by one worker.
    assert lent(rig) == (6, 4)
    assert runs(rig.assign(1, lease=2, first=3, depth=1))


def whose(rig):
    """The tasks that wait, as the next report says."""
    reports = [call[1] for call in rig.tick() if isinstance(call[1], Report)]
    return reports[-1].waits if reports else None


def test_it_says_of_which_leases_tasks_wait():
    rig = lender(slots=2)
    found = runs(rig.assign(2))
    waits(rig, 0, found[0][0])
    assert whose(rig) == [(1, 1, 1)]
    waits(rig, 1, found[1][0])
    assert whose(rig) == [(1, 1, 2)]
    waits(rig, 0, found[0][0], begins=False)
    assert whose(rig) == [(1, 1, 1)]
    rig.ended(1, found[1][0])
    assert whose(rig) == []


def test_a_packed_task_waits_when_all_that_is_left_of_it_does():
    rig = lender(slots=2)
    (slices,) = runs(rig.assign(count=2, packed=True)).values()
    part = slices[0]
    rig.host.on_worker_waits(0, part.offset, rig.now, begins=True)
    rig.take()
    rig.host.on_worker_limited(0, part.offset, rig.now)
    slot, rest = one(rig.take())
    assert whose(rig) == []
    waits(rig, slot, rest)
    assert whose(rig) == [(1, 1, 1)]
