"""Keys of tasks: who has them, who ends as they do, what is refused, and what a restart keeps."""

import pytest

from farm.core.policy import QueuePolicy
from farm.errors import ProtocolError
from farm.model import Ending, State
from farm.protocol import messages as m
from farm.protocol import records as r
from farm.protocol.codec import decoder, encode
from tests.unit.core_harness import Rig, ended, group, key, packed, session_id

ALICE, BOB = session_id("alice"), session_id("bob")
DAY = 86_400.0


def unique(*texts):
    return tuple(m.TaskKey(text, unique=True) for text in texts)


def once(*texts, body=b"same"):
    return tuple(m.TaskKey(text, body=body) for text in texts)


def keyed(first, keys, **more):
    return group(first, len(keys), keys=keys, **more)


def farm(**settings):
    rig = Rig(**settings)
    return rig, rig.client("alice"), rig.client("bob"), rig.host(slots=512, window=512)


def accepted(rig, peer):
    return [run for one in rig.take(peer) if isinstance(one, m.Accepted) for run in one.runs]


def endings(results):
    return {(x.session, x.first + i): x.ending for x in results for i in range(x.count)}


def payloads(results):
    return {(x.session, x.first + i): p for x in results for i, p in enumerate(x.payloads)}


def held(rig):
    return {text for (_, _, text), _ in rig.ledger.keys}


def take_all(rig, *peers):
    for peer in peers:
        rig.say(peer, m.Taken(10_000))
    rig.commit()
    rig.sleep(1.0)


# ---------------------------------------------------------------- one task a key


@pytest.mark.parametrize("keys", [unique("k"), once("k")], ids=["unique", "idempotency"])
def test_a_second_submit_of_a_key_ends_as_the_first(keys):
    rig, alice, bob, host = farm()
    rig.submit(alice, keyed(1, keys))
    (grant,) = rig.grants(host)
    rig.submit(bob, keyed(7, keys))
    rig.submit(alice, keyed(2, keys))
    assert rig.grants(host) == []
    assert accepted(rig, bob) == [(7, 1)]
    rig.report(host, ended=[ended(grant)])
    assert payloads(rig.results(alice)) == {(ALICE, 1): b"r1", (ALICE, 2): b"r1"}
    assert payloads(rig.results(bob)) == {(BOB, 7): b"r1"}
    take_all(rig, alice, bob)
    assert rig.ledger.open_tasks == rig.ledger.open_bytes == 0


def test_both_in_one_message_are_one_task():
    rig, alice, _, host = farm()
    rig.submit(alice, keyed(1, once("a", "b", "a", "c", "b")))
    (*grants,) = rig.grants(host)
    assert sorted(g.first + i for g in grants for i in range(g.count)) == [1, 2, 4]
    rig.report(host, ended=[ended(grant) for grant in grants])
    found = payloads(rig.results(alice))
    assert [found[ALICE, i] for i in range(1, 6)] == [b"r1", b"r2", b"r1", b"r4", b"r2"]


def test_both_kinds_of_keys_and_all_texts_are_apart():
    rig, alice, _, host = farm()
    rig.submit(alice, keyed(1, unique("a", "b") + once("a", "b")))
    assert sum(grant.count for grant in rig.grants(host)) == 4


def test_owners_do_not_share_keys():
    rig, alice, bob, host = farm()
    rig.ledger.sessions[BOB].owner = "bob"
    rig.submit(alice, keyed(1, once("k")))
    rig.submit(bob, keyed(1, once("k", body=b"other")))
    assert [grant.session for grant in rig.grants(host)] == [ALICE, BOB]
    rig.reload()
    assert {owner for (owner, _, _), _ in rig.ledger.keys} == {"", "bob"}


def test_a_run_of_duplicates_is_one_batch_and_a_resend_changes_nothing():
    rig, alice, bob, host = farm()
    names = [f"k{i}" for i in range(100)]
    rig.submit(alice, keyed(1, once(*names)))
    rig.submit(bob, keyed(1, once(*names)))
    rig.submit(bob, keyed(1, once(*names)))  # the acknowledgement was lost
    assert len(rig.ledger.sessions[BOB].batches) == 1
    rig.report(host, ended=[ended(grant) for grant in rig.grants(host)])
    found = payloads(rig.results(bob))
    assert found == {(BOB, i): b"r%d" % i for i in range(1, 101)}


def test_no_arguments_of_a_duplicate_are_kept():
    rig, alice, bob, _ = farm()
    rig.submit(alice, keyed(1, once("k"), payloads=[b"x" * 1000]))
    rig.submit(bob, keyed(1, once("k"), payloads=[b"x" * 1000]))
    assert rig.ledger.open_bytes == 1000
    (_, second) = [
        x for x in map(r.decode_record, rig.disk.records.values()) if type(x) is r.Submitted
    ]
    assert second.groups[0].payloads == [b""]
    assert second.groups[0].same == (ALICE, 1)


# ---------------------------------------------------------------- when a key is free


@pytest.mark.parametrize(
    ("how", "ending"),
    [("fail", Ending.EXCEPTION), ("die", Ending.LOST), ("cancel", Ending.CANCELLED),
     ("expire", Ending.EXPIRED)],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["unique", "idempotency"])
def test_however_the_first_ends_its_duplicates_do_and_a_unique_key_is_free(how, ending, kind):
    rig, alice, bob, host = farm()
    keys = unique("k") if kind == "unique" else once("k")
    waits = how in {"cancel", "expire"}
    template = m.Template(
        max_losses=0, expires=5.0 if waits else None, delay=9.0 if waits else None
    )
    rig.submit(alice, keyed(1, keys, template=template))
    grants = rig.grants(host)
    rig.submit(bob, keyed(1, keys))
    failure = m.Failure("exit", "it died", "host")
    if how == "cancel":
        rig.say(alice, m.Cancel(1, [(ALICE, 1, 1)]))
    elif how == "expire":
        rig.sleep(6.0)
    else:
        rig.report(host, ended=[ended(grants[0], ending, failure=failure)])
    rig.commit()
    assert endings(rig.results(bob)) == {(BOB, 1): ending}
    assert endings(rig.results(alice)) == {(ALICE, 1): ending}
    rig.submit(bob, keyed(2, keys))
    if kind == "unique":
        assert [grant.first for grant in rig.grants(host)] == [2]
    else:
        assert rig.grants(host) == []
        rig.answer_loads()
        assert endings(rig.results(bob)) == {(BOB, 2): ending}


def test_a_key_is_free_for_a_new_task_before_the_end_of_the_old_one_is_committed():
    rig, alice, bob, host = farm()
    rig.submit(alice, keyed(1, unique("k")))
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant)], commit=False)
    rig.submit(bob, keyed(1, unique("k")))
    (again,) = rig.grants(host)
    assert again.session == BOB
    rig.reload(commit=0)
    assert held(rig) == {"k"}


def test_a_duplicate_of_a_task_whose_end_is_not_committed_ends_with_it():
    rig, alice, bob, host = farm()
    rig.submit(alice, keyed(1, once("k")))
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant)], commit=False)
    rig.submit(bob, keyed(1, once("k")), commit=False)
    rig.tick()
    assert rig.results(bob) == []
    rig.commit()
    assert payloads(rig.results(bob)) == {(BOB, 1): b"r1"}


def test_cancelling_a_duplicate_leaves_the_first_alone():
    rig, alice, bob, host = farm()
    rig.submit(alice, keyed(1, unique("k")))
    (grant,) = rig.grants(host)
    rig.submit(bob, keyed(1, unique("k")))
    rig.say(bob, m.Cancel(1, [(BOB, 1, 1)]))
    rig.commit()
    reply, *_ = [x for x in rig.take(bob) if isinstance(x, m.CancelReply)]
    assert reply.cancelled == [(BOB, 1, 1)]
    assert rig.ledger.keys.followers == {}
    rig.report(host, ended=[ended(grant)])
    assert endings(rig.results(alice)) == {(ALICE, 1): Ending.OK}
    rig.reload()
    assert rig.ledger.open_tasks == 0


def test_a_duplicate_that_is_cancelled_when_the_first_has_ended_is_too_late():
    rig, alice, bob, host = farm()
    rig.submit(alice, keyed(1, unique("k")))
    (grant,) = rig.grants(host)
    rig.submit(bob, keyed(1, unique("k")))
    rig.report(host, ended=[ended(grant)], commit=False)
    rig.say(bob, m.Cancel(1, [(BOB, 1, 1)]))
    rig.commit()
    assert endings(rig.results(bob)) == {(BOB, 1): Ending.OK}
    rig.reload()
    bob = rig.client("bob", quiet=False)
    rig.answer_loads()
    assert payloads(rig.results(bob)) == {(BOB, 1): b"r1"}


# ---------------------------------------------------------------- idempotency


def finished(rig, alice, host, *keys):
    rig.submit(alice, keyed(1, once(*keys or ("k",))))
    rig.report(host, ended=[ended(grant) for grant in rig.grants(host)])
    rig.take()
    take_all(rig, alice)


def test_the_outcome_is_kept_as_long_as_the_key_although_its_owner_has_it():
    rig, alice, bob, host = farm(key_ttl=3600.0)
    finished(rig, alice, host)
    rig.sleep(3600 - 60)
    rig.take()
    rig.submit(bob, keyed(1, once("k")))
    rig.answer_loads()
    assert payloads(rig.results(bob)) == {(BOB, 1): b"r1"}
    take_all(rig, bob)
    rig.sleep(120)
    assert held(rig) == set()
    assert [x for x in rig.disk.records.values() if type(r.decode_record(x)) is r.Finished] == []


def test_after_its_time_a_key_is_free():
    rig, alice, bob, host = farm(key_ttl=60.0)
    finished(rig, alice, host)
    rig.sleep(61)
    rig.submit(bob, keyed(1, once("k", body=b"other")))
    (grant,) = rig.grants(host)
    assert grant.session == BOB


def test_the_key_of_a_task_that_takes_longer_is_free_when_it_ends():
    rig, alice, bob, host = farm(key_ttl=60.0)
    rig.submit(alice, keyed(1, once("k")))
    (grant,) = rig.grants(host)
    rig.sleep(100)
    rig.submit(bob, keyed(1, once("k")))
    assert rig.grants(host) == []
    rig.report(host, ended=[ended(grant)])
    assert payloads(rig.results(bob)) == {(BOB, 1): b"r1"}
    assert held(rig) == set()


@pytest.mark.parametrize("over", [False, True])
def test_another_body_is_refused_saying_whose_key_it_is(over):
    rig, alice, bob, host = farm()
    if over:
        finished(rig, alice, host)
    else:
        rig.submit(alice, keyed(1, once("k")))
    rig.take()
    rig.submit(bob, keyed(1, once("new", "k", body=b"other")))
    (refused,) = [x for x in rig.take(bob) if isinstance(x, m.Refused)]
    assert (refused.first, refused.count, refused.reason) == (2, 1, "key")
    assert "'k'" in refused.message
    assert f"{ALICE.hex()}-1" in refused.message
    assert held(rig) == {"k", "new"}


def test_the_row_of_the_first_may_go_before_that_of_its_duplicate():
    rig, alice, bob, host = farm()
    rig.submit(alice, keyed(1, unique("k")))
    (grant,) = rig.grants(host)
    rig.submit(bob, keyed(1, unique("k")))
    rig.report(host, ended=[ended(grant)])
    take_all(rig, alice)
    kinds = [type(r.decode_record(x)).__name__ for x in rig.disk.records.values()]
    assert kinds.count("Submitted") == 1
    assert kinds.count("Finished") == 1
    rig.reload()
    bob = rig.client("bob", quiet=False)
    rig.answer_loads()
    assert payloads(rig.results(bob)) == {(BOB, 1): b"r1"}
    take_all(rig, bob)
    kinds = [type(r.decode_record(x)).__name__ for x in rig.disk.records.values()]
    assert kinds.count("Submitted") == kinds.count("Finished") == 0


def test_after_a_restart_a_duplicate_ended_as_it_had_before():
    rig, alice, bob, host = farm()
    rig.submit(alice, keyed(1, once("a", "b", "c", "d"), template=m.Template(retries=1)))
    rig.submit(bob, keyed(1, once("b")))
    (grant,) = rig.grants(host)
    rig.report(host, returned=[key(grant)])
    (grant,) = rig.grants(host)
    rig.report(host, number=2, ended=[ended(grant, seconds=4.0)])

    def found():
        batches = [batch for one in rig.ledger.sessions.values() for batch in one.batches]
        return [(x.count, x.host, x.seconds, x.attempt) for one in batches for x in one.outcomes]

    assert found() == [(4, "host", 4.0, 2), (1, "host", 1.0, 2)]
    rig.reload()
    assert found() == [(4, "host", 4.0, 2), (1, "host", 1.0, 2)]


def test_results_that_a_key_keeps_are_not_dropped_for_room():
    rig, alice, _, host = farm(max_result_bytes=100)
    rig.submit(alice, keyed(1, once("k")), group(2, template=m.Template(result_ttl=DAY)))
    big = [ended(g, payloads=[b"x" * 80] * g.count) for g in rig.grants(host)]
    rig.report(host, ended=big)
    rig.take()
    take_all(rig, alice)
    assert rig.ledger.counters["results_dropped"] == 1
    assert held(rig) == {"k"}
    assert rig.ledger.keys.bytes == 81


# ---------------------------------------------------------------- bounds and bad input


def test_beyond_the_bound_a_new_key_is_refused_and_a_known_one_is_not():
    rig, alice, bob, _ = farm(max_keys=2)
    rig.submit(alice, keyed(1, once("a", "b", "c")))
    (refused,) = [x for x in rig.take(alice) if isinstance(x, m.Refused)]
    assert (refused.first, refused.count, refused.reason) == (3, 1, "keys")
    assert "max_keys" in refused.message
    assert refused.retry_after == pytest.approx(DAY, abs=1.0)
    rig.submit(bob, keyed(1, once("b")))
    assert accepted(rig, bob) == [(1, 1)]


def test_beyond_the_bound_in_bytes_a_new_key_is_refused():
    rig, alice, _, host = farm(max_key_bytes=50)
    rig.submit(alice, keyed(1, once("a")))
    rig.report(host, ended=[ended(g, payloads=[b"x" * 60]) for g in rig.grants(host)])
    rig.submit(alice, keyed(2, once("b")))
    (refused,) = [x for x in rig.take(alice) if isinstance(x, m.Refused)]
    assert (refused.reason, "max_key_bytes" in refused.message) == ("keys", True)


def test_a_task_that_is_not_durable_has_no_key():
    rig, alice, _, _ = farm()
    rig.submit(alice, keyed(1, once("k"), template=m.Template(durable=False)))
    (refused,) = [x for x in rig.take(alice) if isinstance(x, m.Refused)]
    assert refused.reason == "durable"


def test_no_client_says_whose_duplicate_a_task_is():
    rig, alice, bob, host = farm()
    rig.submit(alice, group(1))
    rig.submit(bob, group(1, same=(ALICE, 1)))
    assert [grant.session for grant in rig.grants(host)] == [ALICE, BOB]


def test_a_duplicate_has_to_fit_in_too():
    rig, alice, bob, _ = farm(max_tasks=1)
    rig.submit(alice, keyed(1, once("k")))
    rig.submit(bob, keyed(1, once("k")))
    (refused,) = [x for x in rig.take(bob) if isinstance(x, m.Refused)]
    assert refused.reason == "busy"


def test_what_is_refused_for_now_has_no_key():
    rig, alice, bob, _ = farm(max_tasks=1)
    rig.submit(alice, group(1))
    rig.submit(bob, keyed(1, once("k")))
    assert held(rig) == set()


# ---------------------------------------------------------------- restarts


@pytest.mark.parametrize("commit", range(6))
def test_a_restart_anywhere_keeps_one_task_a_key(commit):
    rig, alice, bob, _ = farm()
    rig.submit(alice, keyed(1, once("k")), commit=False)
    rig.submit(bob, keyed(1, once("k")), commit=False)
    rig.reload(commit=commit)
    for name in ("alice", "bob"):
        peer = rig.client(name)
        rig.submit(peer, keyed(1, once("k")))
    host = rig.host(slots=4, window=4)
    rig.sleep(6)
    assert sum(grant.count for grant in rig.grants(host)) == 1
    assert rig.ledger.open_tasks == 2


def test_a_restart_keeps_keys_outcomes_and_the_time_that_is_left():
    rig, alice, _, host = farm(key_ttl=100.0)
    finished(rig, alice, host)
    rig.sleep(50)
    rig.reload()
    rig.sleep(40)
    bob = rig.client("bob")
    rig.submit(bob, keyed(1, once("k", body=b"other")))
    assert [x.reason for x in rig.take(bob) if isinstance(x, m.Refused)] == ["key"]
    rig.submit(bob, keyed(2, once("k")))
    rig.answer_loads()
    assert payloads(rig.results(bob)) == {(BOB, 2): b"r1"}
    rig.sleep(20)
    assert held(rig) == set()


def test_a_restart_knows_who_follows_whom_and_that_the_old_holder_of_a_key_is_over():
    rig, alice, bob, host = farm()
    rig.submit(alice, keyed(1, unique("k")))
    rig.report(host, ended=[ended(grant) for grant in rig.grants(host)])
    rig.submit(alice, keyed(2, unique("k")))
    rig.submit(bob, keyed(1, unique("k")))
    rig.reload()
    alice, bob, host = rig.client("alice"), rig.client("bob"), rig.host("b", slots=4, window=4)
    rig.sleep(6)
    (grant,) = rig.grants(host)
    assert (grant.session, grant.first) == (ALICE, 2)
    rig.report(host, ended=[ended(grant, epoch=rig.epoch)])
    assert payloads(rig.results(bob)) == {(BOB, 1): b"r2"}


def test_a_row_that_is_copied_out_keeps_its_keys_and_its_duplicates():
    rig, alice, bob, host = farm()
    names = [f"k{i}" for i in range(40)]
    rig.submit(alice, keyed(1, unique(*names)))
    rig.submit(bob, keyed(1, unique(*names)))
    grants = rig.grants(host)
    done = [ended(g, lo=i, hi=i + 1) for g in grants for i in range(g.count) if g.first + i != 20]
    rig.report(host, ended=done)
    take_all(rig, alice, bob)
    rig.reload()
    assert held(rig) == {"k19"}
    bob, host = rig.client("bob"), rig.host("b", slots=4, window=4)
    rig.sleep(6)
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant, epoch=rig.epoch)])
    assert payloads(rig.results(bob)) == {(BOB, 20): b"r20"}


def test_a_duplicate_whose_first_is_lost_ends_all_the_same():
    rig, alice, bob, _ = farm()
    rig.submit(alice, keyed(1, once("k")))
    rig.submit(bob, keyed(1, once("k")))
    for ref, data in list(rig.disk.records.items()):
        record = r.decode_record(data)
        if isinstance(record, r.Submitted) and record.session == ALICE:
            del rig.disk.records[ref]
    rig.reload()
    rig.commit()
    assert rig.ledger.open_tasks == 0
    bob = rig.client("bob", quiet=False)
    rig.answer_loads()
    assert endings(rig.results(bob)) == {(BOB, 1): Ending.UNKNOWN}


# ---------------------------------------------------------------- what is said of them


def test_explain_says_whose_key_a_task_has():
    rig, alice, bob, _ = farm()
    rig.submit(alice, keyed(1, once("k")))
    rig.submit(bob, keyed(1, once("k")))
    rig.take()
    for name, task in (("alice", ALICE), ("bob", BOB)):
        rig.say(rig.peers[name], m.Query(1, "explain", {"id": f"{task.hex()}-1"}))
    first, second = [x.data for _, x in rig.take() if isinstance(x, m.Answer)]
    assert first["key"] == "k"
    assert second["same_as"] == first["id"]
    assert second["state"] == State.SCHEDULED.name.lower()


def test_starts_and_progress_are_told_of_duplicates_too():
    rig, alice, bob, host = farm()
    rig.submit(alice, keyed(1, once("k")))
    (grant,) = rig.grants(host)
    rig.submit(bob, keyed(9, once("k")))
    rig.take()
    run = (rig.epoch, grant.lease, 1, 1)
    note = (rig.epoch, grant.lease, 1, 1.0, 2.0, "half")
    rig.report(host, started=[run], progress=[note])
    said = rig.take(bob)
    assert [x.runs for x in said if isinstance(x, m.Started)] == [[(9, 1)]]
    assert [x.notes for x in said if isinstance(x, m.Progress)] == [[(BOB, 9, 1.0, 2.0, "half")]]


def test_packed_tasks_have_no_keys_and_others_have_one_each():
    for wrong in (packed(1, 2, keys=once("a", "b")), group(1, 2, keys=once("a"))):
        (frame,) = encode(0, m.Submit([wrong]))
        with pytest.raises(ProtocolError, match="keys"):
            decoder("from_client").decode([frame])


def test_what_is_refused_for_its_key_has_used_the_room_that_its_queue_offered():
    rig, alice, bob, host = farm(max_keys=1, queues={"default": QueuePolicy(max_tasks=1)})
    finished(rig, bob, host, "a")
    rig.submit(bob, group(2))
    rig.submit(alice, group(1))
    rig.report(host, ended=[ended(grant) for grant in rig.grants(host)])
    assert [x.tasks for x in rig.take(alice) if isinstance(x, m.QueueCredit)] == [1]
    rig.submit(alice, keyed(2, once("b")))
    sent = rig.take(alice)
    assert [x.reason for x in sent if isinstance(x, m.Refused)] == ["keys"]
    assert [x.tasks for x in sent if isinstance(x, m.QueueCredit)] == [1]


def test_a_host_that_packs_what_was_not_packed_breaks_nothing():
    rig, alice, bob, host = farm()
    rig.submit(alice, keyed(1, once("a", "b", "c")))
    rig.submit(bob, keyed(1, once("b")), keyed(2, once("a", "b", "c")))
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant, payloads=[b"all"], packed=True)])
    assert [(x.first, x.ending, x.packed) for x in rig.results(bob)] == [
        (1, Ending.UNKNOWN, False),
        (2, Ending.OK, True),
    ]
    rig.reload()
    bob = rig.client("bob", quiet=False)
    rig.answer_loads()
    assert [x.ending for x in rig.results(bob)] == [Ending.UNKNOWN, Ending.OK]
