"""A host told to stop tasks: what has not begun comes back, what runs ends, soft or hard."""

import pytest

from farm.model import Ending
from farm.protocol.messages import Claim, Drop, Noted, Recall
from tests.unit.host_rig import Rig, S, endings, one, runs


def stop(rig, *runs, grace=5.0):
    """Have tasks stopped; what the host did at once."""
    rig.host.receive(Recall([(1, *run) for run in runs], grace), rig.now)
    return rig.take()


def limited(rig, slot, index):
    """A worker was asked what it has begun; what the host did at once."""
    rig.host.on_worker_limited(slot, index, rig.now)
    return rig.take()


def said(calls, *names):
    return [call for call in calls if call[0] in names]


def returned(report):
    return [line[2:] for line in report.returned]


def test_what_no_worker_has_is_given_back_at_once():
    rig = Rig(slots=1)
    rig.assign(1)
    rig.assign(2, lease=2, first=11)
    assert stop(rig, (2, 11, 2)) == []
    assert returned(rig.report()) == [(11, 2)]


def test_what_runs_is_interrupted_and_ended_with_its_worker_when_the_grace_is_over():
    rig = Rig(slots=1, kill_seconds=2.0)
    rig.assign()
    assert said(stop(rig, (1, 1, 1), grace=3.0), "limit", "interrupt") == [("limit", 0, 1)]
    assert limited(rig, 0, 0) == [("interrupt", 0, 0)]
    assert said(rig.all(2.9), "stop", "kill") == []
    assert rig.host.next_deadline() <= rig.now + 0.1
    assert said(rig.all(0.1), "stop", "kill") == [("stop", 0)]
    assert said(rig.all(2.0), "stop", "kill") == [("kill", 0)]
    rig.exit(0, 0, code=-9, seconds=5.0)
    report = rig.report()
    assert endings(report) == [(1, 1, 1, Ending.CANCELLED)]
    failure = report.ended[0].failure
    assert (failure.cause, failure.code, failure.seconds) == ("stopped", -9, 5.0)


def test_without_a_grace_nothing_is_raised():
    rig = Rig(slots=1)
    rig.assign()
    stop(rig, (1, 1, 1), grace=0.0)
    assert limited(rig, 0, 0) == [("stop", 0)]


def test_a_task_that_ends_in_time_costs_its_worker_nothing():
    rig = Rig(slots=1)
    _, part = one(rig.assign())
    stop(rig, (1, 1, 1), grace=3.0)
    limited(rig, 0, 0)
    rig.ended(0, part)
    rig.assign(lease=2, first=9)  # it runs for long
    assert said(rig.all(60.0), "stop", "kill", "interrupt") == []


def test_a_task_that_ends_before_it_is_known_to_run_is_not_interrupted():
    rig = Rig(slots=1)
    _, part = one(rig.assign())
    stop(rig, (1, 1, 1))
    rig.ended(0, part)
    assert limited(rig, 0, 0) == []
    assert endings(rig.report()) == [(1, 1, 1, Ending.OK)]


def test_one_item_of_a_slice_is_stopped_and_the_others_run():
    rig = Rig(slots=1)
    _, part = one(rig.assign(4, packed=True))
    stop(rig, (1, 2, 1))  # the second; the worker is at the first
    assert limited(rig, 0, 0) == []
    assert returned(rig.report()) == [(2, 1)]
    _, rest = one(rig.ended(0, part, count=1))
    assert (rest.first, rest.count) == (3, 2)
    assert said(rig.all(60.0), "stop", "kill", "interrupt") == []


def test_the_item_that_runs_is_stopped_and_its_neighbours_are_given_to_others():
    rig = Rig(slots=1, kill_seconds=2.0)
    one(rig.assign(4, packed=True))
    stop(rig, (1, 2, 1), grace=1.0)
    assert said(limited(rig, 0, 1), "interrupt") == [("interrupt", 0, 1)]  # it is at the second
    rig.all(1.0)
    rig.exit(0, 1, code=-15)
    report = rig.report()
    assert endings(report) == [(1, 2, 1, Ending.CANCELLED)]
    assert returned(report) == [(1, 1)]  # it had ended and not said so
    rig.host.on_worker_ready(0, rig.now)
    given = runs(call for call in rig.take() if call[0] in {"run", "function"})
    assert [(s.first, s.count) for s in given[0]] == [(3, 2)]


def test_what_a_worker_came_to_and_did_not_begin_is_given_back_and_nobody_ends_for_it():
    rig = Rig(slots=1)
    _, part = one(rig.assign(4, expected=1e-5))
    stop(rig, (1, 2, 1), grace=1.0)
    limited(rig, 0, 1)  # its worker has named the second, and is about to see that it may not
    rig.ended(0, part, count=1)
    _, rest = one(rig.ended(0, part, first=2, count=1, ending=Ending.CANCELLED))
    assert (rest.first, rest.count) == (3, 2)
    assert returned(rig.report()) == [(2, 1)]
    assert said(rig.all(60.0), "stop", "kill") == []


def test_all_items_of_a_slice_end_together():
    rig = Rig(slots=1)
    one(rig.assign(4, packed=True))
    stop(rig, (1, 1, 4))
    assert limited(rig, 0, 0) == [("interrupt", 0, 0)]
    assert returned(rig.report()) == [(2, 3)]


def test_a_second_stop_with_less_grace_is_sooner():
    rig = Rig(slots=1)
    rig.assign()
    stop(rig, (1, 1, 1), grace=60.0)
    limited(rig, 0, 0)
    stop(rig, (1, 1, 1), grace=1.0)
    limited(rig, 0, 0)
    assert said(rig.all(1.0), "stop") == [("stop", 0)]


def test_who_is_told_again_is_not_interrupted_again_unless_it_is_to_end_sooner():
    rig = Rig(slots=1)
    rig.assign()
    stop(rig, (1, 1, 1), grace=3.0)
    assert limited(rig, 0, 0) == [("interrupt", 0, 0)]
    rig.all(1.0)
    stop(rig, (1, 1, 1), grace=3.0)  # as after a new connection
    assert limited(rig, 0, 0) == []
    stop(rig, (1, 1, 1), grace=1.0)
    assert limited(rig, 0, 0) == [("interrupt", 0, 0)]
    assert said(rig.all(1.0), "stop") == [("stop", 0)]


def test_a_worker_that_dies_of_the_exception_is_as_any_other():
    rig = Rig(slots=1)
    rig.assign()
    stop(rig, (1, 1, 1))
    limited(rig, 0, 0)
    rig.exit(0, 0, code=1)
    assert endings(rig.report()) == [(1, 1, 1, Ending.LOST)]  # the coordinator knows better


@pytest.mark.parametrize("says_so", [True, False])
def test_what_is_fenced_while_its_worker_gives_it_back_runs_no_more(says_so):
    rig = Rig(slots=1)
    _, part = one(rig.assign(4, expected=1e-5))
    rig.host.receive(Recall([(1, 1, 4, 1)]), rig.now)
    rig.host.receive(Drop([Claim(1, 1, 1, S, 2, 2)]), rig.now)
    if says_so:
        rig.ended(0, part, first=2, ending=Ending.CANCELLED)
    else:
        rig.host.on_worker_limited(0, 0, rig.now)
    rig.take()
    assert rig.exit(0, 0, code=-9) == [("spawn", 0)]
    rig.host.on_worker_ready(0, rig.now)
    assert sorted(returned(rig.report())) == [(1, 1), (4, 1)]
    rig.host.receive(Noted(1, 1), rig.now)
    assert rig.host._work.backlog.leases == {}
