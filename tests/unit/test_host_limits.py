"""Limits as the host machine keeps them: grace, memory, retries forbidden, recycling."""

import pytest

from farm.model import Ending
from farm.protocol.messages import Recall
from tests.unit.host_rig import Rig, endings, one, runs

NEVER_ON_TIME = ("farm.errors.TimeLimitExceeded",)


def said(calls, *names):
    return [call for call in calls if call[0] in names]


def test_a_worker_that_does_not_end_when_asked_is_killed_after_the_grace_period():
    rig = Rig(slots=1, kill_seconds=2.0)
    rig.assign(time_limit=1.0)
    assert said(rig.tick(1.0), "stop", "kill") == [("stop", 0)]
    assert rig.host.next_deadline() == rig.now + 2.0
    assert said(rig.tick(1.9), "stop", "kill") == []
    assert said(rig.tick(0.1), "stop", "kill") == [("kill", 0)]
    assert said(rig.tick(9.0), "stop", "kill") == []
    assert rig.assign(lease=2, first=9) == []  # busy until it is gone
    assert rig.exit(0, 0, code=-9) == [("spawn", 0)]


def test_the_time_of_an_item_begins_when_its_worker_begins_it():
    rig = Rig(slots=1)
    began = rig.port.began
    began[0] = rig.now + 0.25
    rig.assign(time_limit=1.0)
    assert said(rig.tick(1.0), "stop", "kill") == []
    assert rig.host.next_deadline() == rig.now + 0.25
    assert said(rig.tick(0.25), "stop", "kill") == [("stop", 0)]


def test_what_never_begins_is_ended_too():
    rig = Rig(slots=1)
    began = rig.port.began
    rig.assign(time_limit=1.0)
    for _ in range(10):
        began[0] = rig.now + 1.0
        assert said(rig.tick(1.0), "stop", "kill") == []
    began[0] = rig.now + 1.0
    assert said(rig.tick(1.0), "stop", "kill") == [("stop", 0)]


@pytest.mark.parametrize("ended", [0, 1])
def test_the_time_limit_of_what_was_taken_back_is_over(ended):
    rig = Rig(slots=1)
    _, part = one(rig.assign(2, packed=True, time_limit=1.0))
    if ended:
        rig.ended(0, part, count=1)
    rig.host.receive(Recall([(1, 1, 1, 2)]), rig.now)
    rig.host.on_worker_limited(0, ended - 1 if ended else None, rig.now)
    rig.tick(0.1)
    assert rig.tick(2.0) == []  # nothing is there to be ended
    rig.host.receive(Recall([(1, 1, 1, 2)]), rig.now)
    one(rig.assign(lease=2, first=9))
    assert said(rig.tick(1.0), "stop", "kill") == []


def test_without_a_grace_period_it_is_killed_at_once():
    rig = Rig(slots=1, kill_seconds=0.0)
    rig.assign(time_limit=1.0)
    assert said(rig.tick(1.0), "stop", "kill") == [("kill", 0)]


def test_a_worker_that_ended_in_time_after_all_is_replaced_and_its_task_has_ended():
    rig = Rig(slots=1)
    _, part = one(rig.assign(2, packed=True, time_limit=1.0))
    rig.tick(1.0)
    assert rig.ended(0, part, count=1) == [("kill", 0)]  # or it would begin the next item
    rig.exit(0, 1, code=-9)
    report = rig.report()
    assert endings(report) == [(1, 1, 1, Ending.OK)]
    assert [line[2:] for line in report.returned] == [(2, 1)]


@pytest.mark.parametrize(
    ("more", "final"),
    [
        ({}, False),
        ({"never_on": NEVER_ON_TIME}, True),
        ({"never_on": ("Exception",)}, True),
        ({"retry_on": ("ValueError",)}, True),
        ({"retry_on": NEVER_ON_TIME}, False),
    ],
)
def test_limits_count_as_their_exceptions_for_retries(more, final):
    rig = Rig(slots=1)
    rig.assign(time_limit=1.0, **more)
    rig.tick(1.0)
    rig.exit(0, 0, code=-15)
    (end,) = rig.report().ended
    assert (end.ending, end.failure.final) == (Ending.TIME_LIMIT, final)


def test_the_evidence_of_a_dead_worker_has_attempt_time_memory_and_output():
    rig = Rig(slots=1)
    rig.assign()
    rig.exit(0, 0, seconds=0.25, peak_bytes=5000, output=b"last words")
    (end,) = rig.report().ended
    evidence = end.failure
    assert (evidence.attempt, evidence.seconds, evidence.peak_bytes) == (1, 0.25, 5000)
    assert (evidence.output, evidence.code) == (b"last words", -11)


# ---------------------------------------------------------------- memory


def test_memory_is_measured_only_while_a_task_with_a_limit_runs():
    rig = Rig(slots=1)
    _, part = one(rig.assign())
    rig.ended(0, part)
    assert said(rig.tick(5.0), "measure") == []
    _, part = one(rig.assign(lease=2, memory_limit=100))
    assert said(rig.tick(0.1), "measure") == [("measure", 0, 100)]
    rig.host.on_worker_memory(0, 90, rig.now)
    assert said(rig.tick(0.1), "measure") == [("measure", 0, 100)]
    rig.ended(0, part)
    assert said(rig.tick(5.0), "measure") == []


def test_nothing_is_measured_for_what_was_taken_back():
    rig = Rig(slots=1)
    rig.assign(memory_limit=100)
    rig.host.receive(Recall([(1, 1, 1, 1)]), rig.now)
    rig.host.on_worker_limited(0, None, rig.now)
    assert said(rig.tick(0.1), "limit", "measure") == [("limit", 0, 1)]


def test_a_task_over_its_memory_limit_is_ended_and_blamed():
    rig = Rig(slots=1)
    rig.assign(memory_limit=100 << 20)
    rig.tick(0.1)
    rig.host.on_worker_memory(0, 100 << 20, rig.now)
    assert said(rig.tick(0.1), "stop") == []
    rig.host.on_worker_memory(0, (100 << 20) + 1, rig.now)
    assert said(rig.tick(), "stop") == [("stop", 0)]
    rig.exit(0, 0, code=-15)
    (end,) = rig.report().ended
    assert end.ending is Ending.MEMORY_LIMIT
    assert (end.failure.cause, end.failure.peak_bytes) == ("memory_limit", (100 << 20) + 1)


def test_what_a_worker_has_before_it_begins_a_task_is_no_matter_of_its_limit():
    rig = Rig(slots=1)
    rig.port.began[0] = rig.now + 0.1
    rig.assign(memory_limit=100)
    rig.tick(0.1)
    rig.host.on_worker_memory(0, 101, rig.now)  # perhaps too much for it, and it retires
    assert said(rig.tick(0.1), "measure", "stop") == [("measure", 0, 100)]
    rig.host.on_worker_memory(0, 101, rig.now)
    assert said(rig.tick(), "measure", "stop") == [("stop", 0)]


def test_what_was_measured_of_one_task_is_not_blamed_on_the_next():
    rig = Rig(slots=1)
    _, part = one(rig.assign(2, memory_limit=100))
    assert said(rig.tick(0.1), "measure") == [("measure", 0, 100)]
    (following,) = [call for call in rig.ended(0, part) if call[0] == "run"]
    rig.host.on_worker_memory(0, 200, rig.now)  # it had that much when it ran the one before
    assert said(rig.tick(), "stop", "kill") == []
    assert following[2].first == 2


def test_a_task_of_which_the_kernel_ended_a_part_is_ended_and_has_passed_its_limit():
    rig = Rig(slots=1)
    rig.assign(memory_limit=100 << 20)
    rig.host.on_worker_oom(0, 0, rig.now)  # a child of it, and the worker goes on
    assert rig.take() == [("stop", 0)]
    rig.host.on_worker_oom(0, 0, rig.now)
    assert rig.take() == []
    rig.exit(0, 0, code=-15, oom=True)
    (end,) = rig.report().ended
    assert end.ending is Ending.MEMORY_LIMIT
    assert end.failure.cause == "memory_limit"
    assert end.failure.peak_bytes >= 100 << 20
    assert "faster" in end.failure.message


def test_a_worker_that_the_kernel_ended_for_its_task_is_no_loss():
    rig = Rig(slots=1)
    rig.assign(memory_limit=100)
    rig.exit(0, 0, code=-9, oom=True)
    report = rig.report()
    assert endings(report) == [(1, 1, 1, Ending.MEMORY_LIMIT)]
    assert report.ended[0].failure.code == -9


def test_of_a_packed_task_only_the_item_that_was_running_has_passed_its_limit():
    rig = Rig(slots=1)
    _, part = one(rig.assign(5, packed=True, memory_limit=100))
    rig.ended(0, part, count=1)
    rig.host.on_worker_oom(0, 2, rig.now)  # it has ended the second, and that is still to be heard
    assert rig.take() == [("stop", 0)]
    rig.ended(0, part, first=2, count=1)
    rig.exit(0, 2, code=-9, oom=True)
    report = rig.report()
    found = [(end.first, end.ending) for end in report.ended]
    assert found == [(1, Ending.OK), (2, Ending.OK), (3, Ending.MEMORY_LIMIT)]
    assert [line[2:] for line in report.returned] == [(4, 2)]


@pytest.mark.parametrize("index", [None, 0])
def test_a_worker_that_was_ended_for_a_task_before_blames_nobody_after_it(index):
    rig = Rig(slots=1)
    _, part = one(rig.assign(5, packed=True, memory_limit=100))
    rig.ended(0, part, count=1)
    rig.host.on_worker_oom(0, index, rig.now)
    assert rig.take() == []
    rig.exit(0, index, code=-9, oom=True)
    assert endings(rig.report()) == [(1, 1, 1, Ending.OK)]


def test_what_the_kernel_ends_blames_nobody_without_a_limit():
    rig = Rig(slots=1)
    rig.host.on_worker_oom(0, None, rig.now)
    rig.assign()
    rig.host.on_worker_oom(0, 0, rig.now)
    assert rig.take() == []
    rig.exit(0, 0, code=-9, oom=True)
    assert endings(rig.report()) == [(1, 1, 1, Ending.LOST)]


def test_the_limit_that_was_passed_first_is_how_it_ended():
    rig = Rig(slots=1)
    rig.assign(memory_limit=100, time_limit=1.0)
    rig.tick(1.0)
    rig.host.on_worker_oom(0, 0, rig.now)
    rig.exit(0, 0, code=-9, oom=True)
    assert endings(rig.report()) == [(1, 1, 1, Ending.TIME_LIMIT)]


def test_a_host_says_what_enforces_memory_limits():
    for says in ("sampled", "cgroup v2"):
        rig = Rig(slots=1, memory_limits=says, connect=False)
        rig.host.on_connected(rig.now)
        assert [call[1].memory_limits for call in said(rig.take(), "send")] == [says]


def test_tasks_with_any_limit_run_one_by_one():
    for limit in ({"memory_limit": 1}, {"soft_time_limit": 1.0}, {"time_limit": 1.0}):
        rig = Rig(slots=1)
        _, part = one(rig.assign(9, expected=1e-6, **limit))
        assert part.count == 1
        assert part.limited


# ---------------------------------------------------------------- recycling


def test_a_worker_is_given_no_more_tasks_than_it_may_run_and_then_let_go():
    rig = Rig(slots=1, max_tasks_per_worker=5)
    given = runs(rig.assign(9, expected=1e-5))[0]
    assert [part.count for part in given] == [5]
    assert rig.ended(0, given[0]) == [("retire", 0)]
    assert rig.exit(0, 4, code=0) == [("spawn", 0)]
    rig.host.on_worker_ready(0, rig.now)
    assert [part.count for part in runs(rig.take())[0]] == [4]
    assert rig.report().returned == []


def test_a_packed_task_is_one_task():
    rig = Rig(slots=1, max_tasks_per_worker=1)
    _, part = one(rig.assign(50, packed=True))
    assert part.count == 50
    assert rig.ended(0, part) == [("retire", 0)]


def test_a_worker_that_was_let_go_and_stays_is_killed():
    rig = Rig(slots=1, max_tasks_per_worker=1)
    _, part = one(rig.assign())
    assert rig.ended(0, part) == [("retire", 0)]
    assert said(rig.tick(0.9), "kill") == []
    assert said(rig.tick(0.2), "kill") == [("kill", 0)]


def test_a_worker_that_has_grown_is_let_go_when_it_has_nothing_to_do():
    rig = Rig(slots=1, max_memory_per_worker=100)
    _, part = one(rig.assign())
    assert said(rig.tick(0.5), "measure") == [("measure", 0, 100)]
    rig.host.on_worker_memory(0, 200, rig.now)  # it has ended nothing: it was made so
    _, second = one(rig.ended(0, part) or rig.assign(lease=2))
    rig.tick(0.5)
    rig.host.on_worker_memory(0, 200, rig.now)
    assert rig.take() == []  # not in the middle of a task
    assert rig.assign(lease=3) == []
    assert rig.ended(0, second) == [("retire", 0)]


def test_what_a_worker_that_leaves_had_not_begun_runs_here_and_nobody_hears_of_it():
    rig = Rig(slots=1)
    _, part = one(rig.assign(4, expected=1e-5))
    rig.ended(0, part, count=2)
    rig.host.on_worker_retired(0, rig.now)
    assert rig.exit(0, 1, code=0) == [("spawn", 0)]
    rig.host.on_worker_ready(0, rig.now)
    _, rest = one(rig.take())
    assert (rest.first, rest.count) == (3, 2)
    assert rig.report().returned == []


def test_and_so_it_does_when_that_worker_had_to_be_killed_in_the_end():
    rig = Rig(slots=1)
    _, part = one(rig.assign(4, expected=1e-5))
    rig.ended(0, part, count=2)
    rig.host.on_worker_retired(0, rig.now)
    assert said(rig.tick(1.0), "kill") == [("kill", 0)]
    rig.exit(0, 1, code=-9)
    rig.host.on_worker_ready(0, rig.now)
    _, rest = one(rig.take())
    assert (rest.first, rest.count) == (3, 2)
