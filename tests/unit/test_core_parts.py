"""The small parts of the core by themselves: states, queue, times, index of batches."""

import random

import pytest

from farm.core.batch import Batch
from farm.core.delays import Delays
from farm.core.needs import Needs
from farm.core.ready import ReadyQueue
from farm.core.sessions import BatchIndex
from farm.core.states import TRANSITIONS, WAYS_OUT, Event, diagram, ways_out
from farm.model import State
from farm.protocol.messages import Template
from tests.unit.core_harness import group


def batch(first=1, count=4, priority=0):
    one = Batch(None, group(first, count, template=Template(priority=priority)), None, None, 0.0)
    one.template = Template(priority=priority)
    return one


def test_final_states_have_no_way_out_and_every_other_state_has():
    leaving = {before for before, _ in TRANSITIONS}
    assert leaving == {state for state in State if not state.is_final}
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_each_way_out_of_each_state_is_named_and_there_are_no_others():
    ways = {(state, event) for state, events in WAYS_OUT.items() for event in events}
    assert ways == TRANSITIONS.keys()
    assert all(text for events in WAYS_OUT.values() for text in events.values())
    assert ways_out().count("\n") == 2 + len(TRANSITIONS)


def test_the_diagram_has_every_transition_and_nothing_else():
    lines = diagram().splitlines()
    arrows = [line for line in lines if ": " in line and "[*]" not in line]
    assert len(arrows) == len(TRANSITIONS)
    assert "    QUEUED --> LEASED: lease" in arrows
    assert "    DEAD --> [*]" in lines


def test_a_move_that_the_table_does_not_have_is_refused():
    one = batch()
    with pytest.raises(KeyError):
        one.move(0, 2, Event.SUCCEED)
    one.move(0, 2, Event.LEASE)
    with pytest.raises(ValueError, match="not all"):
        one.move(0, 4, Event.CANCEL)


def test_runs_are_found_whatever_the_pattern():
    chance = random.Random(7)
    one = batch(count=60)
    for _ in range(200):
        one.states = bytearray(chance.choice([1, 1, 2, 3, 15]) for _ in range(60))
        lo = chance.randrange(60)
        hi = chance.randrange(lo, 61)
        for state in (1, 2, 3, 4, 15):
            found = [i for a, b in one.runs(lo, hi, state) for i in range(a, b)]
            assert found == [i for i in range(lo, hi) if one.states[i] == state]
        left = [i for a, b in one.unsettled(lo, hi) for i in range(a, b)]
        assert left == [i for i in range(lo, hi) if one.states[i] != 15]


def test_the_queue_gives_by_priority_then_by_turn():
    queue = ReadyQueue(0.01, 60.0)
    for number, priority in enumerate((0, 3, 0, 3), 1):
        queue.push(batch(number * 10, 2, priority), 0, 2)
    found = []
    while (head := queue.head()) is not None:
        found.append(head[0].first)
        head[0].move(*head[1:], Event.LEASE)
        queue.take(2)
    assert found == [20, 40, 10, 30]


def test_a_line_that_comes_and_goes_before_another_gives_it_no_second_turn():
    queue, served = ReadyQueue(1.0, 60.0), []
    for name, count in (("alice", 40), ("bob", 40), ("carol", 1)):
        queue.push(of(name, count), 0, count)
    while len(served) < 60:
        one, lo, hi = queue.head()
        if one.session == "carol":  # its payloads are read, and it is placed before its turn
            queue.park()
            queue.arrived(one)
            one.move(lo, hi, Event.LEASE)
            queue.withdraw(one, lo, hi)
            queue.push(of("carol", 1), 0, 1)
        else:
            served.append(one.session)
            one.move(lo, lo + 1, Event.LEASE)
            queue.take(1, 1.0)
    assert all(served[at] != served[at + 1] for at in range(59))


def test_a_line_that_is_served_before_another_gives_it_no_second_turn():
    queue, served = ReadyQueue(1.0, 60.0), []
    lines = {name: of(name, 90) for name in ("alice", "bob", "carol", "dave")}
    for one in lines.values():
        queue.push(one, 0, 90)
    while len(served) < 80:
        if len(served) % 4 == 0:  # all have to be read first, and are here in another order
            for _ in lines:
                queue.head()
                queue.park()
            for name in ("carol", "alice", "dave", "bob"):
                queue.arrived(lines[name])
        one, lo, _ = queue.head()
        served.append(one.session)
        one.move(lo, lo + 1, Event.LEASE)
        queue.take(1, 1.0)
    assert all(served[at] != served[at + 1] for at in range(79))
    assert {served.count(name) for name in lines} == {20}


def of(session, count):
    one = batch(count=count)
    one.session = session
    return one


def test_what_is_open_again_does_not_wait_for_payloads_of_what_came_later():
    queue = ReadyQueue(1.0, 60.0)
    gpu, late, low = batch(1, priority=1), batch(10, priority=1), batch(20)
    gpu.needs = Needs(1, (("gpu", 1000),), ())
    for one in (gpu, late, low):
        queue.push(one, 0, 4)
    queue.blocked = {gpu.needs}
    assert queue.head() == (late, 0, 4)
    queue.park()
    assert queue.head() == (low, 0, 4)
    queue.blocked = ()
    queue.unblock(gpu.needs)
    assert queue.head() == (gpu, 0, 4)
    gpu.move(0, 4, Event.LEASE)
    queue.take(4)
    assert queue.head() == (late, 0, 4)  # which waits again
    queue.park()
    assert [one for one, _, _ in queue.upcoming()] == [late, low]
    assert queue.head() == (low, 0, 4)
    queue.arrived(late)
    assert queue.head() == (late, 0, 4)


def test_what_came_later_and_is_open_again_waits_for_the_payloads_of_its_line():
    queue = ReadyQueue(1.0, 60.0)
    first, gpu, low = batch(1, priority=1), batch(10, priority=1), batch(20)
    gpu.needs = Needs(1, (("gpu", 1000),), ())
    for one in (first, gpu, low):
        queue.push(one, 0, 4)
    queue.blocked = {gpu.needs}
    assert queue.head() == (first, 0, 4)
    queue.park()
    queue.blocked = ()
    queue.unblock(gpu.needs)
    assert queue.head() == (low, 0, 4)


def test_what_is_given_back_does_not_wait_for_payloads_of_what_came_later():
    queue = ReadyQueue(1.0, 60.0)
    back, late, low = batch(1, priority=1), batch(10, priority=1), batch(20)
    for one in (late, low):
        queue.push(one, 0, 4)
    assert queue.head() == (late, 0, 4)
    queue.park()
    queue.push(back, 0, 4, front=True)
    assert queue.head() == (back, 0, 4)
    back.move(0, 4, Event.LEASE)
    queue.take(4)
    assert queue.head() == (late, 0, 4)
    queue.park()
    queue.push(late, 0, 2, front=True)  # what is given back of the very same waits with it
    assert queue.head() == (low, 0, 4)
    queue.arrived(late)
    assert queue.head() == (late, 0, 2)


def test_what_has_needs_is_found_again_when_something_overtakes_what_its_line_waits_for():
    queue = ReadyQueue(1.0, 60.0)
    back, late, gpu = batch(1), batch(10), batch(20)
    gpu.needs = Needs(1, (("gpu", 1000),), ())
    queue.push(late, 0, 4)
    queue.push(gpu, 0, 4)
    assert queue.head() == (late, 0, 4)
    queue.park()
    assert queue.needy_head() is None  # its line is out until the payloads are here
    queue.push(back, 0, 4, front=True)
    assert queue.needy_head() == (gpu, 0, 4)


def test_what_ended_while_it_waited_is_passed_over():
    queue = ReadyQueue(0.01, 60.0)
    one = batch(count=10)
    queue.push(one, 0, 10)
    one.move(0, 3, Event.CANCEL)
    one.move(5, 7, Event.CANCEL)
    queue.note_stale(5)
    assert list(queue) == [(one, 3, 5), (one, 7, 10)]
    assert queue.head() == (one, 3, 5)
    one.move(3, 5, Event.LEASE)
    queue.take(2)
    assert queue.head() == (one, 7, 10)
    one.move(7, 10, Event.CANCEL)
    assert queue.head() is None
    assert list(queue) == []


def test_mostly_stale_queues_are_sorted_out():
    queue = ReadyQueue(0.01, 60.0)
    batches = [batch(i, 100) for i in range(0, 10_000, 100)]
    for one in batches:
        queue.push(one, 0, 100)
    for one in batches[:80]:
        one.move(0, 100, Event.CANCEL)
        queue.note_stale(100)
    assert len(queue.snapshot()) < 60
    assert len(list(queue)) == 20


def test_times_are_popped_in_order():
    delays = Delays(State.QUEUED)
    one = batch(count=3)
    for due, index in ((3.0, 0), (1.0, 1), (2.0, 2)):
        delays.push(due, one, index, index + 1)
    assert delays.due == 1.0
    assert [lo for _, lo, _ in delays.pop_due(2.0)] == [1, 2]
    assert delays.due == 3.0


def test_the_index_finds_overlaps_in_whatever_order_batches_came_and_went():
    chance = random.Random(11)
    index = BatchIndex()
    kept = {}
    free = list(range(0, 3000, 10))
    chance.shuffle(free)
    for _ in range(1500):
        if free and chance.random() < 0.6:
            first = free.pop()
            kept[first] = batch(first, chance.randint(1, 10))
            index.add(kept[first])
        elif kept:
            first = chance.choice(list(kept))
            index.remove(kept.pop(first))
            free.insert(chance.randrange(len(free) + 1), first)
        start, count = chance.randrange(3000), chance.choice([0, 1, 15, 200])
        expected = [
            (one, max(start, first) - first, min(start + count, one.stop) - first)
            for first, one in sorted(kept.items())
            if max(start, first) < min(start + count, one.stop)
        ]
        assert list(index.overlap(start, count)) == expected
    assert [one.first for one in index] == sorted(kept)
