"""What checkers bear, and what they do not: words that are on their way while a store goes."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from farm.core.policy import QueuePolicy
from farm.model import BLOB_BYTES, Blob, Ending
from farm.protocol.messages import Group, Result, Submit, Template
from farm.protocol.records import AttemptEnd, AttemptsEnded, Finished, Submitted
from tests.sim import checks_leases, checks_work
from tests.sim.plan import Plan
from tests.sim.truth import Execution, Lease, Outcome, Task, Violation
from tests.sim.work import value
from tests.sim.world import World

S, F = b"s" * 16, b"f" * 16
EPOCH = 5
CANCELLED, EXPIRED = Outcome(Ending.CANCELLED, b""), Outcome(Ending.EXPIRED, b"")
OK = Outcome(Ending.OK, value((S, 1), EPOCH, 1))


@pytest.fixture
def world():
    plan = Plan.of(0)
    plan.core["dead_tasks"] = 1  # there is no record of the dead
    return World(replace(plan, durable=True, faults=[], holes=0.0, hosts=1, clients=1))


def task_of(world, counter, **options):
    task = Task((S, counter), b"ok:0:0:", Template(**options), F, 0, "client0", counter, False)
    world.truth.tasks[task.id] = task
    return task


def write(world, *records):
    """Records are handed over and committed."""
    for record in records:
        ref = max(world.truth.written.records, default=world.disk.commit) + 1
        world.checks.persisted(ref, record)
        world.truth.committed.apply(ref, record)


def submitted(counter, same=None):
    return Submitted(S, 1.0, [Group(counter, 1, F, [] if same else [b"ok:0:0:"], 0, same=same)])


def finished(counter, outcome):
    payloads = [outcome.payload] if outcome.payload else []
    return Finished(2.0, [Result(S, counter, 1, outcome.ending, payloads)])


def failed(counter, attempt):
    return AttemptsEnded(2.0, [AttemptEnd(S, counter, 1, attempt + 1, attempt, 0)])


def restore(world, book):
    """The store is a copy from before."""
    world.truth.restored(book, 100, EPOCH + 1)


def forget(world):
    """The store was in memory."""
    world.truth.wiped()


def run(world, task, attempt):
    execution = Execution("host0", EPOCH, attempt, 1.0)
    task.executions.append(execution)
    checks_work.began(world, task, execution)


# ---------------------------------------------------------------- what must not run twice


def test_a_retry_that_a_restored_store_has_forgotten_is_one(world):
    task = task_of(world, 1, max_losses=0, retries=2)
    write(world, submitted(1))
    run(world, task, 1)
    write(world, failed(1, 1))
    run(world, task, 2)
    copy = world.truth.committed.copy()
    write(world, failed(1, 2))
    restore(world, copy)
    run(world, task, 3)  # its host has not heard of the copy
    with pytest.raises(Violation, match="ran twice"):
        run(world, task, 3)


def test_what_runs_again_without_a_retry_has_run_twice(world):
    task = task_of(world, 1, max_losses=0, retries=2)
    write(world, submitted(1))
    run(world, task, 1)
    with pytest.raises(Violation, match="ran twice"):
        run(world, task, 2)


# ---------------------------------------------------------------- outcomes of a store that is gone


def gone(world, how, outcome):
    """A task has an outcome in a store that is gone; another one in the one that is there."""
    task = task_of(world, 1, expires=3.0)
    copy = world.truth.committed.copy()
    write(world, submitted(1), finished(1, outcome))
    task.published = outcome
    if how is restore:
        restore(world, copy)
    else:
        forget(world)
    write(world, submitted(1), finished(1, EXPIRED))
    task.published = EXPIRED
    return task


@pytest.mark.parametrize("how", [restore, forget])
def test_a_reader_may_hear_late_of_an_outcome_that_is_gone(world, how):
    task, reader = gone(world, how, CANCELLED), world.clients[0]
    reader._heard(task.id, CANCELLED)
    reader._heard(task.id, EXPIRED)
    with pytest.raises(Violation, match="two outcomes"):
        reader._heard(task.id, OK)


def alike(world, outcome):
    """Two tasks with one key have ended in a store that is there no more; the second of them."""
    first, second = (task_of(world, counter, max_losses=0) for counter in (1, 2))
    second.firsts.append(first.id)
    agent = type("Agent", (), {"alive": False})()
    first.assigned.append(Lease(EPOCH, 1, 1, agent))
    first.executions.append(Execution("host0", EPOCH, 1, 1.0, ended="ok"))
    write(world, submitted(1), submitted(2, same=first.id), finished(1, outcome))
    second.settled = outcome
    return second


def test_an_owner_may_hear_late_that_a_task_ended_as_the_one_with_its_key(world):
    before = world.truth.committed.copy()
    task = alike(world, OK)
    restore(world, before)
    checks_work.settled(world, task)


def test_so_it_may_if_that_is_dead(world):
    task = alike(world, Outcome(Ending.LOST, b""))
    forget(world)
    checks_work.settled(world, task)


def test_so_it_may_if_a_store_from_before_has_taken_its_place(world):
    """Then an attempt of each may have begun, and only the one with the key has died of it."""
    task = alike(world, Outcome(Ending.LOST, b""))
    world.checks.losses.over((S, 1))
    before = world.truth.committed.copy()
    for facts in before.facts.values():
        facts.outcome = None
    restore(world, before)
    checks_work.settled(world, task)


def test_a_task_ends_as_no_other_task_does(world):
    task = alike(world, OK)
    restore(world, world.truth.committed.copy())
    task.settled = Outcome(Ending.OK, value((S, 2), EPOCH, 1))
    with pytest.raises(Violation, match="no execution made"):
        checks_work.settled(world, task)


# ---------------------------------------------------------------- blobs


def test_the_blob_of_a_result_is_needed_by_whoever_ends_as_its_task_did(world):
    """Unless that was cancelled by itself."""
    name = "kept/1/" + OK.payload.decode()
    for counter in (1, 2):
        task_of(world, counter)
    write(world, submitted(1), submitted(2, same=(S, 1)))
    result = Result(S, 1, 1, OK.ending, [Blob(name, BLOB_BYTES)], BLOB_BYTES)
    write(world, Finished(2.0, [result]))
    world.truth.committed.delete(world.truth.committed[S, 1].submitted.copy())
    with pytest.raises(Violation, match="is named by"):
        world.files._not_needed(name, "blob lost")
    world.truth.committed[S, 2].finished.clear()
    world.files._not_needed(name, "blob lost")


# ------------------------------------------------------------ who comes first

CLIENT = SimpleNamespace(dealer=SimpleNamespace(session=S))
HOST = SimpleNamespace(peer="host")


def arrive(world, counter, **options):
    """The coordinator hears of a task."""
    task = task_of(world, counter, **options)
    group = Group(counter, 1, F, [b"ok:0:0:"], 7)
    world.checks.leases.submitted(CLIENT, Submit([group]))
    return task


def test_what_arrived_first_goes_first_be_it_written_later_and_at_the_same_time(world):
    for first in (1, 3):
        one, other = arrive(world, first), arrive(world, first + 1)
        write(world, submitted(first + 1), submitted(first))
        world.checks.leases._is_its_turn(one, HOST, 9)
        world.checks.leases._is_its_turn(other, HOST, 9)


def test_what_arrived_later_may_not_go_first_be_it_written_first(world):
    arrive(world, 1)
    other = arrive(world, 2)
    write(world, submitted(2), submitted(1))
    with pytest.raises(Violation, match="goes before"):
        world.checks.leases._is_its_turn(other, HOST, 9)


@pytest.mark.parametrize("submits", [1, 2])
def test_only_what_had_come_by_then_can_go_before_it(world, monkeypatch, submits):
    policy = QueuePolicy(ageing_seconds=checks_leases.NO_AGE)
    monkeypatch.setattr(world.checks.queues, "policy", lambda _: policy)
    one = arrive(world, 1)
    arrive(world, 2, priority=9)
    write(world, submitted(1), submitted(2))
    if submits < 2:
        world.checks.leases._is_its_turn(one, HOST, submits)
    else:
        with pytest.raises(Violation, match="goes before"):
            world.checks.leases._is_its_turn(one, HOST, submits)


def test_what_was_refused_arrives_when_it_is_sent_again(world):
    one, other = arrive(world, 1), arrive(world, 2)
    arrive(world, 3)
    world.checks.leases.submitted(CLIENT, Submit([Group(1, 1, F, [b""], 0)]))
    write(world, submitted(2), submitted(1))
    world.checks.leases._is_its_turn(other, HOST, 9)
    world.checks.leases._is_its_turn(one, HOST, 9)


@pytest.mark.parametrize("running", [1, 2])
def test_a_place_that_is_lent_is_for_what_others_wait_for(world, monkeypatch, running):
    """Without one, in a queue in which no more run than may, the first goes first."""
    policy = SimpleNamespace(max_running=1, max_running_per_key=None)
    queue = SimpleNamespace(policy=policy, running=running, keys={})
    ledger = SimpleNamespace(
        sessions={},
        host_of=lambda _: SimpleNamespace(waiting=0),
        queues=SimpleNamespace(all={"default": queue}),
    )
    arrive(world, 1)
    child = arrive(world, 2)
    write(world, submitted(1), submitted(2))
    monkeypatch.setattr(checks_leases, "_depth", lambda _, task: int(task is child))
    machine = SimpleNamespace(ledger=ledger)
    world.coordinator = SimpleNamespace(machine=machine, short="")
    monkeypatch.setattr(world.checks, "being_read", set)
    if running > policy.max_running:
        world.checks.leases._is_its_turn(child, HOST, 9)
    else:
        with pytest.raises(Violation, match="goes before"):
            world.checks.leases._is_its_turn(child, HOST, 9)


# ------------------------------------------------------------ whose tasks are


def test_a_reader_is_owed_what_is_written_to_be_its_own():
    """What a worker has submitted when its host had lost the parent is the host's."""
    plan = replace(Plan.of(0), durable=True, faults=[], holes=0.0, hosts=1, clients=2, owners=2)
    world = World(plan)
    reader, parent = world.clients[0], task_of(world, 1)
    child = task_of(world, 2, parent=parent.id, depth=1)
    child.client, child.acknowledged = "host0.0.1", True
    parent.executions.append(Execution("host0", EPOCH, 1, 0.0, "died"))
    gone = Outcome(Ending.UNKNOWN, b"")
    world.truth.committed[child.id].finished_at = world.wall
    for owner, is_owed in (("host0", False), ("key0", True)):
        record = submitted(2)
        record.owner = owner
        world.checks.owners.submitted(record)
        reader.program.must_know = set()
        reader.program.follow_tasks(1, [(S, 2, 1)])
        if is_owed:
            with pytest.raises(Violation, match="denied to a reader"):
                reader._heard(child.id, gone)
        else:
            reader._heard(child.id, gone)
