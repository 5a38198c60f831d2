"""Who may do what: roles, sessions of keys, tasks of others, names of hosts, orders of admins."""

from hashlib import blake2b
from itertools import takewhile

import pytest

from farm.identity import Identity, Role
from farm.model import Ending, TaskId, job_id
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, claim, ended, group, session_id

KEPT = 20.0
ALICE, BOB, WORKER = session_id("alice"), session_id("bob"), session_id("worker")


def client(name, scope="own"):
    return Identity(name, Role.CLIENT, scope, f"{name}'s key")


def host(name, scope="own"):
    return Identity(name, Role.HOST, scope, f"{name}'s key")


PEERS = {
    "alice": client("alice"),
    "bob": client("bob"),
    "reader": client("reader", "all"),
    "admin": Identity("admin", Role.ADMIN, "all", "admin's key"),
    "h1": host("h1"),
    "h2": host("h2"),
    "worker": client("h1", "tasks"),
}


@pytest.fixture
def rig():
    rig = Rig(result_ttl=KEPT)
    rig.identities.update(PEERS)
    rig.client("admin")  # whose function all others use
    return rig


def answer(rig, peer, what, **arguments):
    """The one answer to a question, also to one for which the store is read."""
    rig.take(peer)
    rig.say(peer, m.Query(1, what, arguments))
    rig.commit()
    while rig.loads:
        rig.answer_loads()
    (found,) = [one for one in rig.take(peer) if isinstance(one, m.Answer)]
    return found


# ---------------------------------------------------------------- roles


@pytest.mark.parametrize("name", ["h1", "worker"])
def test_a_hosts_key_opens_no_session_and_that_of_its_tasks_is_no_host(rig, name):
    rig.identities["x"] = PEERS[name]
    come = rig.client if name == "h1" else rig.host
    peer = come("x")
    assert peer in rig.closed
    assert peer not in rig.ledger.peers
    assert rig.take(peer) in ([], [m.Rejected("hello", "say HELLO first", retry=True)])
    assert rig.ledger.counters["posing"] == 1


@pytest.mark.parametrize("name", ["alice", "admin"])
def test_no_client_is_a_host_not_even_an_admin(rig, name):
    peer = rig.host(name)
    assert (peer in rig.closed, rig.take(peer), rig.ledger.hosts.all) == (True, [], {})
    assert rig.ledger.counters["posing"] == 1


def test_an_invite_is_no_host(rig):
    rig.identities["h9"] = host("h9", "invite")
    assert rig.host("h9") in rig.closed
    assert rig.ledger.counters["posing"] == 1


def test_messages_of_the_other_side_do_nothing(rig):
    alice, one = rig.client("alice"), rig.host("h1")
    rig.say(one, m.Submit([group(1)]))
    rig.say(one, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.say(alice, m.Report(1, 4, []))
    assert rig.ledger.counters["unexpected"] == 3
    assert not rig.ledger.open_tasks


@pytest.mark.parametrize("what", ["pause_queue", "resume_queue", "purge_queue", "set_queue"])
def test_only_an_admin_orders_queues(rig, what):
    for name in ("alice", "reader", "worker"):
        said = answer(rig, rig.client(name), what, name="default")
        assert "only an admin may" in said.error
        assert "farm keys new NAME --role admin" in said.error
    assert not answer(rig, rig.peers["admin"], what, name="default").error


def test_only_an_admin_drains_a_host(rig):
    reader, one = rig.client("reader"), rig.host("h1")
    rig.say(reader, m.DrainHost(1, "h1"))
    assert "only an admin may drain a host" in rig.take(reader)[0].error
    assert not rig.of(m.Drain)
    rig.say(rig.peers["admin"], m.DrainHost(1, "h1"))
    assert [one for one in rig.take(one) if isinstance(one, m.Drain)]


# ---------------------------------------------------------------- sessions


def test_a_session_belongs_to_the_key_that_opened_it(rig):
    alice = rig.client("alice")
    rig.submit(alice, group(1))
    rig.identities["alice"] = client("mallory")  # who knows its id and secret
    thief = rig.client("alice", function=False, quiet=False)
    (said,) = rig.take(thief)
    assert (said.code, said.message) == ("secret", "the session belongs to another process")
    assert rig.ledger.sessions[ALICE].peer == alice


def test_also_after_a_restart_of_the_coordinator(rig):
    rig.submit(rig.client("alice"), group(1))
    rig.reload()
    rig.identities["alice"] = client("mallory")
    assert rig.take(rig.client("alice", function=False, quiet=False))[0].code == "secret"
    rig.identities["alice"] = client("alice")._replace(key="a new key of that name")
    alice = rig.client("alice", function=False, quiet=False)
    assert isinstance(rig.take(alice)[0], m.ClientWelcome)


def test_a_session_of_a_farm_without_keys_is_nobodys_when_it_has_some(rig):
    del rig.identities["alice"]
    rig.submit(rig.client("alice"), group(1))
    rig.reload()
    rig.identities["alice"] = PEERS["alice"]
    assert rig.take(rig.client("alice", function=False, quiet=False))[0].code == "secret"
    admin = rig.client("admin")
    assert [row["id"] for row in answer(rig, admin, "tasks").data] == [str(TaskId(ALICE, 1))]


def test_an_admin_speaks_for_another_and_nobody_else_does(rig):
    behalf = Identity("carol", Role.CLIENT, "own", "carol's key")
    rig.client("admin", session=b"gateway for carol", secret=b"s" * 16, behalf=behalf)
    rig.client("admin", session=b"gateway:of:carol", secret=b"s" * 16, behalf=behalf)
    session = rig.ledger.sessions[b"gateway:of:carol"]
    assert (session.owner, session.sees_all) == ("carol", False)
    for odd in (behalf._replace(name=""), behalf._replace(role=Role.HOST), client("x", "tasks")):
        assert rig.client("admin", session=b"n" * 16, behalf=odd) in rig.closed
    for name in ("alice", "reader", "worker"):
        assert rig.client(name, behalf=behalf) in rig.closed
    assert rig.ledger.counters["posing"] == 6


# ---------------------------------------------------------------- tasks of others


TASK = str(TaskId(ALICE, 1))
NEVER = str(TaskId(ALICE, 999))
QUESTIONS = ["task", "explain", "stack", "logs", "call", "function", "dead_task"]


def alices(rig, **more):
    """A task of alice in a job of hers, which a host has."""
    alice, one = rig.client("alice"), rig.host("h1")
    rig.say(alice, m.JobOpen(1, "nightly"))
    rig.submit(alice, group(1, job=1, **more))
    return alice, one, rig.grants(one)[0]


def states(rig):
    """A task of alice in each state in which it may be asked about, and its words for it."""
    alice, one, grant = alices(rig, template=m.Template(max_losses=1))
    yield "running"
    rig.report(one, ended=[ended(grant, Ending.LOST)])
    (grant,) = rig.grants(one)
    rig.report(one, number=2, ended=[ended(grant, Ending.LOST)])
    yield "dead"
    rig.say(alice, m.Taken(100))
    rig.commit()
    rig.sleep(10 * KEPT)
    yield "gone"


@pytest.mark.parametrize("what", QUESTIONS)
def test_a_question_about_anothers_task_is_answered_as_about_one_that_never_was(rig, what):
    for state in states(rig):
        bob = rig.client("bob")
        said, never = (answer(rig, bob, what, id=task) for task in (TASK, NEVER))
        assert said.data is None
        assert said.error.replace(TASK, NEVER) == never.error, state
        if what in {"task", "explain"}:
            assert (answer(rig, rig.client("admin"), what, id=TASK).data is None) == (
                state == "gone" and what == "task"
            )


@pytest.mark.parametrize("name", ["alice", "reader", "admin"])
def test_its_owner_and_who_sees_all_are_told(rig, name):
    alices(rig)
    peer = rig.client(name) if name != "alice" else rig.peers["alice"]
    assert answer(rig, peer, "task", id=TASK).data["state"] == "leased"
    assert [row["id"] for row in answer(rig, peer, "tasks").data] == [TASK]
    assert [row["name"] for row in answer(rig, peer, "jobs").data] == ["nightly"]
    assert answer(rig, peer, "job", id="nightly").data["total"] == 1


def test_lists_have_only_what_one_may_see(rig):
    lists = {"running": ("tasks",), "dead": ("tasks", "dead"), "gone": ("history",)}
    for state in states(rig):
        bob, reader = rig.client("bob"), rig.client("reader")
        for what in ("tasks", "jobs", "dead", "history"):
            assert answer(rig, bob, what).data == []
        for what in lists[state]:
            for peer in (rig.peers["alice"], reader):
                assert [row["id"] for row in answer(rig, peer, what).data] == [TASK]


@pytest.mark.parametrize("state", ["dead", "gone"])
def test_also_after_a_restart(rig, state):
    for one in states(rig):
        if one == state:
            break
    rig.commit()
    rig.reload()
    what = "dead" if state == "dead" else "history"
    for name, expected in (("alice", [TASK]), ("bob", []), ("reader", [TASK])):
        found = answer(rig, rig.client(name), what).data
        assert [row["id"] for row in found] == expected


@pytest.mark.parametrize("text", ["nightly", job_id(ALICE, 1)])
def test_anothers_job_is_none(rig, text):
    alices(rig)
    bob = rig.client("bob")
    for what in ("job", "job_tasks"):
        assert answer(rig, bob, what, id=text).error.startswith(f"the farm has no job {text!r}")
    rig.say(bob, m.Attach(1, [], text))
    (info,) = rig.take(bob)
    assert (info.tasks, info.error[:18]) == ([], "the farm has no jo")


def test_two_owners_have_jobs_of_one_name_each(rig):
    alices(rig)
    bob = rig.client("bob")
    rig.say(bob, m.JobOpen(1, "nightly"))
    rig.submit(bob, group(1, 3, job=1))
    for name, total in (("alice", 1), ("bob", 3), ("reader", 3)):  # of all, the newest
        peer = rig.peers.get(name) or rig.client(name)
        assert answer(rig, peer, "job", id="nightly").data["total"] == total


def test_nobody_follows_anothers_tasks(rig):
    _, one, grant = alices(rig)
    bob = rig.client("bob")
    for first, count in ((1, 1), (998, 3), (0, 50)):
        rig.say(bob, m.Attach(1, [(ALICE, first, count)]))
        assert [(x.first, x.count, x.ending) for x in rig.results(bob)] == [
            (first, count, Ending.UNKNOWN)
        ]
    rig.report(one, ended=[ended(grant)])
    assert rig.results(bob) == []
    rig.say(bob, m.Attach(2, [(ALICE, 1, 1)]))
    assert [x.ending for x in rig.results(bob)] == [Ending.UNKNOWN]
    reader = rig.client("reader")
    rig.say(reader, m.Attach(1, [(ALICE, 1, 1)]))
    assert [x.ending for x in rig.results(reader)] == [Ending.OK]


@pytest.mark.parametrize("grace", [None, 0.0])
def test_nobody_cancels_or_stops_anothers_tasks(rig, grace):
    alice, _, _ = alices(rig)
    rig.submit(alice, group(2, 9, template=m.Template(delay=60.0)))
    bob = rig.client("bob")
    rig.say(bob, m.Cancel(1, [(ALICE, 1, 10), (BOB, 1, 1)], grace))
    rig.commit()
    assert [one for one in rig.take(bob) if isinstance(one, m.CancelReply)] == [
        m.CancelReply(1, [])
    ]
    assert rig.of(m.Recall) == []
    rig.say(rig.client("reader"), m.Cancel(1, [(ALICE, 2, 3)], grace))
    rig.commit()
    (reply,) = rig.of(m.CancelReply)
    assert reply.cancelled == [(ALICE, 2, 3)]


def test_nobody_forgets_anothers_dead_but_an_admin(rig):
    assert "dead" in takewhile(lambda state: state != "gone", states(rig))
    assert answer(rig, rig.client("bob"), "drop_dead", ids=[TASK, NEVER]).data == 0
    said = answer(rig, rig.client("reader"), "drop_dead", ids=[TASK])
    assert "only an admin may forget dead tasks of others" in said.error
    assert answer(rig, rig.client("admin"), "drop_dead", ids=[TASK]).data == 1


@pytest.mark.parametrize("unique", [False, True])
def test_the_same_key_of_two_owners_is_two_tasks(rig, unique):
    alice, bob, one = rig.client("alice"), rig.client("bob"), rig.host("h1")
    for peer, body in ((alice, b"a"), (bob, b"b")):
        own = m.TaskKey("nightly", unique=unique, body=b"" if unique else body)
        rig.submit(peer, group(1, keys=(own,)))
    assert [grant.session for grant in rig.grants(one)] == [ALICE, BOB]
    assert not [x for x in rig.take(bob) if isinstance(x, m.Refused)]


def test_a_stranger_teaches_no_function_by_anothers_hash(rig):
    bob = rig.client("bob", function=False)
    forged = m.Function(b"w" * 16, "work", b"evil bytes")
    rig.say(bob, forged)
    assert rig.ledger.counters["forged"] == 1
    assert forged.hash not in rig.ledger.functions
    data = b"own bytes"
    rig.say(bob, m.Function(blake2b(data, digest_size=16).digest(), "own", data))
    assert rig.ledger.counters["forged"] == 1


# ---------------------------------------------------------------- what tasks submit


def child(first, counter=1, **more):
    return group(first, template=m.Template(parent=(ALICE, counter), depth=1), **more)


def test_what_a_task_submits_belongs_to_whom_it_belongs(rig):
    alices(rig)
    worker = rig.client("worker")
    keys = (m.TaskKey("once", body=b"same"),)
    rig.submit(worker, child(1, keys=keys))
    rig.submit(rig.peers["alice"], group(2, keys=keys))
    assert len(rig.ledger.keys) == 1
    mine = str(TaskId(WORKER, 1))
    assert answer(rig, rig.peers["alice"], "task", id=mine).data["id"] == mine
    assert "no task" in answer(rig, rig.client("bob"), "task", id=mine).error
    rig.reload()
    assert rig.ledger.sessions[WORKER].owner == "h1"
    assert answer(rig, rig.client("alice"), "task", id=mine).data["id"] == mine
    assert {owner for (owner, _, _), _ in rig.ledger.keys} == {"alice"}


def test_what_another_hosts_task_is_said_to_submit_belongs_to_the_host(rig):
    alices(rig)
    rig.identities["worker"] = client("h2", "tasks")
    rig.submit(rig.client("worker"), child(1))
    assert "no task" in answer(rig, rig.peers["alice"], "task", id=str(TaskId(WORKER, 1))).error


def test_while_hosts_are_waited_for_their_tasks_may_submit(rig):
    alices(rig)
    rig.reload()
    rig.submit(rig.client("worker"), child(1))
    mine = str(TaskId(WORKER, 1))
    assert answer(rig, rig.client("alice"), "task", id=mine).data["id"] == mine


def test_a_clients_tasks_are_not_below_anothers(rig):
    alices(rig)
    bob = rig.client("bob")
    rig.submit(bob, child(1), child(2, counter=77))
    mine = rig.ledger.sessions[BOB].batches
    assert [batch.template.parent for batch in mine] == [None, None]
    assert not len(rig.ledger.nested)
    rig.submit(rig.peers["alice"], child(5))
    assert len(rig.ledger.nested) == 1


# ---------------------------------------------------------------- hosts


def test_an_outcome_counts_only_from_the_host_that_has_the_lease(rig):
    alice, one, grant = alices(rig)
    other = rig.host("h2")
    rig.report(other, ended=[ended(grant, payloads=[b"forged"])])
    rig.report(other, number=2, returned=[(10, grant.lease, 1, 1)])
    assert rig.results(alice) == []
    assert rig.ledger.counters["stale"] == 2
    rig.report(one, ended=[ended(grant)])
    assert [x.payloads for x in rig.results(alice)] == [[b"r1"]]


def test_no_other_key_takes_a_hosts_name(rig):
    _, one, grant = alices(rig)
    rig.identities["thief"] = host("cluster", "all")
    thief = rig.host("thief", called="h1", instance=b"another instance", quiet=False)
    (said,) = rig.take(thief)
    assert (said.code, "another --name" in said.message) == ("name", True)
    assert rig.ledger.hosts.all["h1"].peer == one
    rig.drop(one)  # also while it is away, and after a restart
    assert rig.take(rig.host("thief", called="h1", quiet=False))[0].code == "name"
    rig.reload()
    assert rig.take(rig.host("thief", called="h1", quiet=False))[0].code == "name"
    rig.host("h1", claims=[claim(grant)])
    assert rig.ledger.counters["adopted"] == 1


def test_a_key_of_one_host_is_not_for_another(rig):
    (said,) = rig.take(rig.host("h1", called="h7", quiet=False))
    assert (said.code, "--name h1" in said.message) == ("name", True)


def test_a_key_for_all_hosts_has_many_and_gives_way_to_the_key_of_that_name(rig):
    rig.identities["cluster"] = host("cluster", "all")
    for name in ("n1", "n2", "h1"):
        rig.host("cluster", called=name, instance=name.encode().ljust(16))
    assert set(rig.ledger.hosts.all) == {"n1", "n2", "h1"}
    own = rig.host("h1")
    assert rig.ledger.hosts.all["h1"].peer == own
    assert rig.take(rig.host("cluster", called="h1", quiet=False))[-1].code == "name"


def test_a_revoked_hosts_tasks_go_elsewhere_at_once(rig):
    _, one, grant = alices(rig, template=m.Template(max_losses=3))
    rig.report(one, started=[(10, grant.lease, 1, 1)])
    other = rig.host("h2")
    rig.core.on_revoked({"h1's key"}, rig.now)
    rig.check()
    rig.commit()
    assert one in rig.closed
    assert [(x.session, x.first, x.attempt) for x in rig.grants(other)] == [(ALICE, 1, 2)]
    assert set(rig.ledger.hosts.all) == {"h2"}


def test_a_revoked_clients_session_is_cut_and_loses_nothing(rig):
    alice, one, grant = alices(rig)
    rig.core.on_revoked({"alice's key"}, rig.now)
    assert alice in rig.closed
    rig.report(one, ended=[ended(grant)])
    rig.identities["alice"] = client("alice")._replace(key="her next")
    alice = rig.client("alice", quiet=False)
    assert [x.ending for x in rig.results(alice)] == [Ending.OK]


def test_everybody_can_ask_who_they_are(rig):
    assert answer(rig, rig.client("alice"), "who").data == {
        "name": "alice",
        "role": "client",
        "scope": "own",
    }
