"""Workers that die, tasks that are taken back, dropped or run too long."""

import pytest

from farm.model import Ending
from farm.protocol.codec import encode
from farm.protocol.messages import Claim, Drop, Failure, Recall, Report
from tests.unit.host_rig import Rig, S, endings, one, runs


def returned(report):
    return [(lease, first, count) for _, lease, first, count in report.returned]


def test_only_the_item_that_the_worker_was_at_is_lost():
    rig = Rig(slots=1)
    _, part = one(rig.assign(100, expected=1e-5))
    rig.ended(0, part, count=10)
    rig.tick()
    assert rig.exit(0, 57, seconds=0.25) == [("spawn", 0)]
    report = rig.report()
    assert endings(report) == [(1, 58, 1, Ending.LOST)]
    assert returned(report) == [(1, 11, 47), (1, 59, 42)]
    failure = report.ended[0].failure
    assert (failure.cause, failure.code, failure.host) == ("signal", -11, "h")
    assert failure.message == "its worker on host h was killed by SIGSEGV while running fn"
    assert report.ended[0].seconds == 0.25


def test_a_worker_that_exits_is_told_apart_from_one_that_was_killed():
    rig = Rig(slots=1)
    rig.assign()
    rig.exit(0, 0, code=3)
    failure = rig.report().ended[0].failure
    assert (failure.cause, failure.code) == ("exit", 3)
    assert "exited with code 3" in failure.message


def test_an_item_that_had_ended_is_not_lost():
    rig = Rig(slots=1)
    _, part = one(rig.assign(4, expected=1e-5))
    rig.ended(0, part, count=2)
    rig.tick()
    rig.exit(0, 1)
    report = rig.report()
    assert (report.ended, returned(report)) == ([], [(1, 3, 2)])


def test_the_second_slice_of_a_pipe_is_given_back_whole():
    rig = Rig(slots=1)
    rig.assign(256, expected=1e-5)
    rig.exit(0, 130)
    report = rig.report()
    assert endings(report) == [(1, 131, 1, Ending.LOST)]
    assert returned(report) == [(1, 1, 128), (1, 129, 2), (1, 132, 125)]


def test_a_worker_that_dies_idle_costs_nothing_and_is_replaced():
    rig = Rig(slots=1)
    rig.tick(5.0)
    assert rig.exit(0, None, code=-9) == [("spawn", 0)]
    assert rig.tick() == []


def test_after_three_deaths_without_a_culprit_the_next_in_line_is_blamed():
    rig = Rig(slots=1)
    for number in (1, 2):
        rig.assign(lease=number, first=number)
        rig.exit(0, None)
        rig.host.on_worker_ready(0, rig.now)
        assert returned(rig.report()) == [(number, number, 1)]
    rig.assign(lease=3, first=3)
    rig.exit(0, None)
    assert endings(rig.report()) == [(3, 3, 1, Ending.LOST)]


def test_work_goes_on_with_the_replacement():
    rig = Rig(slots=1)
    rig.assign(2)
    rig.exit(0, 0)
    calls = rig.host.on_worker_ready(0, rig.now) or rig.take()
    slot, part = one(calls)
    assert calls[0][0] == "function"  # a new process knows nothing
    assert (slot, part.first, part.offset) == (0, 2, 0)


def test_a_worker_that_makes_no_sense_is_ended():
    rig = Rig(slots=1)
    _, part = one(rig.assign(2, expected=1e-5))
    assert rig.ended(0, part, first=2, count=1) == [("kill", 0)]
    assert rig.ended(0, part, first=2, count=1) == []


@pytest.mark.parametrize(
    "lie",
    [
        {"seconds": float("inf")},
        {"seconds": float("nan")},
        {"payloads": []},
        {"ending": Ending.LOST, "payloads": []},
    ],
    ids=["endless", "no time", "no value", "not its own to say"],
)
def test_a_worker_that_says_what_cannot_be_is_ended(lie):
    rig = Rig(slots=1)
    _, part = one(rig.assign())
    said = part.end(1, 1, Ending.OK, [b"r"])
    for name, value in lie.items():
        setattr(said, name, value)
    rig.host.on_worker_ended(0, [said], rig.now)
    assert rig.take() == [("kill", 0)]


def test_a_worker_that_is_being_ended_stays_so_whatever_it_says():
    rig = Rig(slots=1)
    _, part = one(rig.assign(2, expected=1e-5))
    rig.ended(0, part, first=2, count=1)
    rig.host.on_worker_ready(0, rig.now)
    rig.assign(lease=2, first=9)
    assert rig.take() == []


def test_what_a_worker_says_at_length_is_cut():
    rig = Rig(slots=1)
    _, part = one(rig.assign())
    long = "x" * (1 << 20)
    rig.host.on_worker_progress(0, part.key, 1, (1.0, 2.0, long), rig.now)
    failure = Failure(long, long, type_name=long)
    said = part.end(1, 1, Ending.EXCEPTION, [b"error"], failure=failure)
    rig.host.on_worker_ended(0, [said], rig.now)
    (frame,) = encode(0, rig.report())
    assert len(frame) < 1 << 16


def test_a_task_over_its_time_limit_ends_with_its_worker():
    rig = Rig(slots=1)
    rig.assign(2, time_limit=3.0)
    rig.tick(0.005)
    rig.tick(0.1)
    assert rig.host.next_deadline() == 103.0
    assert rig.tick(3.0 - 0.105 - 1e-3) == []
    assert rig.tick(1e-3) == [("stop", 0)]
    assert rig.tick(2.9) == []
    assert rig.tick(0.1) == [("kill", 0)]
    assert rig.assign(lease=2, first=9) == []  # busy until its exit is confirmed
    assert rig.exit(0, 0, code=-9, seconds=3.1) == [("spawn", 0)]
    report = rig.report()
    assert endings(report) == [(1, 1, 1, Ending.TIME_LIMIT)]
    assert report.ended[0].failure.cause == "time_limit"
    assert report.returned == []


def test_a_time_limit_hits_a_worker_that_has_not_begun_an_item():
    rig = Rig(slots=1)
    rig.assign(time_limit=3.0)
    rig.tick(3.0)
    rig.exit(0, None, code=-9)
    assert endings(rig.report()) == [(1, 1, 1, Ending.TIME_LIMIT)]


def test_a_task_that_ended_just_before_its_limit_has_ended():
    rig = Rig(slots=1)
    _, part = one(rig.assign(time_limit=3.0))
    rig.tick(3.0)
    rig.ended(0, part)
    rig.exit(0, 0, code=-9)
    assert endings(rig.report()) == [(1, 1, 1, Ending.OK)]


def test_each_item_of_a_packed_task_has_the_whole_time_limit():
    rig = Rig(slots=1)
    _, part = one(rig.assign(3, packed=True, time_limit=3.0))
    rig.tick(2.9)
    rig.ended(0, part, count=1)
    assert [call for call in rig.tick(2.9) if call[0] == "stop"] == []
    assert ("stop", 0) in rig.tick(0.2)
    rig.exit(0, 1, code=-9)
    report = rig.report()
    assert endings(report) == [(1, 2, 1, Ending.TIME_LIMIT)]
    assert returned(report) == [(1, 3, 1)]


def test_what_waits_is_given_back_when_recalled():
    rig = Rig(slots=1)
    rig.assign(5)
    rig.host.receive(Recall([(1, 1, 3, 2), (1, 77, 1, 1)]), rig.now)
    assert rig.take() == []
    assert returned(rig.report()) == [(1, 3, 2)]


def test_what_a_worker_has_not_begun_is_given_back_when_recalled():
    rig = Rig(slots=1)
    _, part = one(rig.assign(10, expected=1e-5))
    rig.host.receive(Recall([(1, 1, 6, 2)]), rig.now)
    assert rig.take() == [("limit", 0, 10)]
    rig.host.on_worker_limited(0, 2, rig.now)
    assert rig.take() == []
    assert returned(rig.report()) == [(1, 6, 2)]
    given = runs(rig.ended(0, part, count=3))
    assert [(p.first, p.count, p.offset) for p in given[0]] == [(4, 2, 10), (8, 3, 12)]


def test_what_a_worker_has_begun_is_reported_started_again_when_recalled():
    rig = Rig(slots=1)
    rig.assign()
    assert rig.report(0.01).started == [(1, 1, 1, 1)]
    rig.host.receive(Recall([(1, 1, 1, 1)]), rig.now)
    assert rig.take() == [("limit", 0, 1)]
    rig.host.on_worker_limited(0, 0, rig.now)
    assert rig.report().started == [(1, 1, 1, 1)]


def test_slices_handed_over_after_the_question_are_not_taken_back():
    rig = Rig(slots=1)
    _, part = one(rig.assign(3, expected=1e-5))
    rig.host.receive(Recall([(1, 1, 3, 1)]), rig.now)
    rig.take()
    rig.ended(0, part)
    later = one(rig.assign(3, lease=2, first=10, expected=1e-5))[1]
    rig.host.on_worker_limited(0, 2, rig.now)
    assert rig.ended(0, later) == []
    report = rig.report()
    assert endings(report) == [(1, 1, 3, Ending.OK), (2, 10, 3, Ending.OK)]
    assert report.returned == []


def test_a_slice_that_the_worker_skipped_is_handed_over_again():
    rig = Rig(slots=1)
    _, part = one(rig.assign(10, expected=1e-5))
    rig.host.receive(Recall([(1, 1, 10, 1)]), rig.now)
    rig.host.on_worker_limited(0, 4, rig.now)  # it had marked item 4, and then saw the limit
    rig.take()
    rig.ended(0, part, count=4)
    given = one(rig.ended(0, part, first=5, ending=Ending.CANCELLED))[1]
    assert (given.first, given.count) == (5, 5)
    assert rig.ended(0, part, first=5, ending=Ending.CANCELLED) == []


def test_what_is_stuck_behind_a_slow_item_goes_to_another_worker():
    rig = Rig(slots=2)
    given = runs(rig.assign(8, expected=1e-5))
    rig.ended(1, given[1][0])
    rig.tick()
    rig.tick(0.006)
    assert ("limit", 0, 4) in rig.tick(0.1)
    rig.host.on_worker_limited(0, 1, rig.now)
    slot, part = one(rig.take())
    assert (slot, part.first, part.count) == (1, 3, 2)


def test_fenced_tasks_are_ended_before_the_window_counts():
    rig = Rig(slots=2)
    rig.assign(3)
    rig.host.on_disconnected(rig.now)
    rig.take()
    claims = [Claim(1, 1, 1, S, 1, 1), Claim(1, 1, 1, S, 3, 1), Claim(9, 9, 9, S, 1, 1)]
    rig.connect(drop=claims)
    calls = rig.take()
    assert ("kill", 0) in calls
    assert [m.window for n, m in calls if n == "send" and isinstance(m, Report)] == []
    assert rig.host._window() == 0
    assert rig.exit(0, 0, code=-9) == [("spawn", 0)]
    report = rig.report()
    assert (report.window, report.ended, report.returned) == (2, [], [])
    assert [c.first for c in rig.host._work.claims()] == [2]


def test_a_drop_takes_only_what_it_names():
    rig = Rig(slots=1)
    rig.assign(6, expected=1e-5)
    rig.host.receive(Drop([Claim(1, 1, 1, S, 2, 2)]), rig.now)
    assert rig.take() == [("kill", 0)]
    assert rig.report().window == 0
    rig.exit(0, 2, code=-9)
    report = rig.report()
    assert (report.window, endings(report)) == (1, [])
    assert returned(report) == [(1, 1, 1), (1, 4, 3)]


@pytest.mark.parametrize("error", ["initializer raised ValueError: no", ""])
def test_a_host_whose_initializer_fails_again_and_again_is_broken(error):
    rig = Rig(slots=1, ready=False, has_initializer=True)
    rig.assign(2)
    assert rig.exit(0, None, code=1, error=error) == [("spawn", 0)]
    assert rig.exit(0, None, code=1, error=error) == [("spawn", 0)]
    assert rig.exit(0, None, code=1, error=error) == []
    report = rig.report()
    assert endings(report) == [(1, 1, 2, Ending.BROKEN)]
    why = error or "a worker exited with code 1 before it was ready"
    assert report.ended[0].failure.message == why
    assert report.window == 1
    rig.assign(lease=2, first=8)
    assert endings(rig.report()) == [(2, 8, 1, Ending.BROKEN)]
    rig.host.on_disconnected(rig.now)
    rig.connect()
    assert ("spawn", 0) in rig.take()


def test_without_an_initializer_the_tasks_go_elsewhere_and_the_host_tries_again_later():
    rig = Rig(slots=1, ready=False, retry_seconds=30.0)
    rig.assign(2)
    for _ in range(3):
        rig.exit(0, None, code=-9)
    report = rig.report()
    assert (report.ended, returned(report), report.window) == ([], [(1, 1, 2)], 0)
    assert rig.host.broken
    calls = []
    while not calls:
        calls = [call for call in rig.tick(5.0) if call[0] == "spawn"]
    assert rig.now == 130.0


def test_one_worker_that_does_not_start_leaves_the_others_at_work():
    rig = Rig(slots=2, ready=False, has_initializer=True)
    rig.host.on_worker_ready(0, rig.now)
    for _ in range(3):
        rig.exit(1, None, code=1, error="no")
    assert rig.host.broken == ""
    assert one(rig.assign(2))[0] == 0
    assert rig.host._window() == 1


def test_as_long_as_one_worker_is_up_others_are_tried_again_later():
    rig = Rig(slots=2, ready=False, has_initializer=True, retry_seconds=30.0)
    rig.host.on_worker_ready(0, rig.now)
    for _ in range(3):
        rig.exit(1, None, code=1, error="no")
    assert (rig.host.failing, rig.host.broken) == ("no", "")
    assert ("spawn", 1) not in rig.tick(29.0)
    assert ("spawn", 1) in rig.tick(1.0)
    assert rig.host.failing == ""
    for _ in range(3):
        rig.exit(1, None, code=1, error="no")
    rig.now += 5.0
    rig.exit(0, None, code=-9)  # and now none is
    assert rig.host.broken == "no"
    assert not [call for call in rig.tick(100.0) if call[0] == "spawn"]


def test_a_worker_that_retires_costs_nobody_anything():
    rig = Rig(1)
    slot, part = one(rig.assign(1))
    rig.host.on_worker_retired(slot, rig.now)
    assert rig.take() == []
    assert rig.ended(slot, part, ending=Ending.CANCELLED) == []  # nor is it given the task again
    assert rig.exit(slot, index=part.offset, code=0) == [("spawn", slot)]
    rig.host.on_worker_ready(slot, rig.now)
    slot, again = one(rig.take())
    assert again.first == part.first
    rig.ended(slot, again)
    assert endings(rig.report()) == [(1, 1, 1, Ending.OK)]


def test_a_retired_worker_that_does_not_exit_can_be_ended():
    rig = Rig(1)
    slot, part = one(rig.assign(1))
    rig.host.on_worker_retired(slot, rig.now)
    rig.host.receive(Drop([Claim(1, 1, 1, S, part.first, 1)]), rig.now)
    assert rig.take() == [("kill", slot)]


def test_a_worker_that_was_ready_did_start_however_soon_it_dies():
    rig = Rig(slots=1, has_initializer=True)
    for _ in range(9):
        calls = rig.exit(0, None, code=-9)
        if not calls:
            calls = rig.tick(1.0)
        assert ("spawn", 0) in calls
        rig.host.on_worker_ready(0, rig.now)
    assert rig.host.broken == ""
    assert one(rig.assign())[0] == 0


def test_workers_that_die_young_again_and_again_are_not_started_without_a_pause():
    rig = Rig(slots=1)
    assert rig.exit(0, None, code=-9) == [("spawn", 0)]
    rig.host.on_worker_ready(0, rig.now)
    assert rig.exit(0, None, code=-9) == [("spawn", 0)]
    rig.host.on_worker_ready(0, rig.now)
    assert rig.exit(0, None, code=-9) == []
    assert (rig.host.broken, rig.host._window()) == ("", 0)
    assert ("spawn", 0) not in rig.tick(0.9)
    assert ("spawn", 0) in rig.tick(0.2)


def test_failures_to_start_count_only_in_a_row():
    rig = Rig(slots=1, ready=False, has_initializer=True)
    for _ in range(3):
        for _ in range(2):
            rig.exit(0, None, code=1, error="no")
        rig.host.on_worker_ready(0, rig.now)
        rig.now += 5.0
        rig.exit(0, None, code=-9)
    assert rig.host.broken == ""
