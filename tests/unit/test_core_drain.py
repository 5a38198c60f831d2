"""A host that somebody wants drained is told so, and nobody pays for it."""

from farm.model import State
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, group, key, session_id

ALICE = session_id("alice")


def ask(rig, client, name):
    rig.take()
    rig.say(client, m.DrainHost(7, name))
    return rig.take()


def test_a_host_is_told_to_drain_and_gets_nothing_more():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, 4))
    (grant,) = rig.grants(host)
    sent = ask(rig, client, "host")
    assert (host, m.Drain("somebody asked for it")) in sent
    assert (client, m.Answer(7, {"name": "host", "held": 4})) in sent
    rig.submit(client, group(5, 4))
    rig.report(host, window=4, returned=[key(grant)])
    assert rig.grants(host) == []
    other = rig.host("other", window=8, slots=8)
    assert sum(grant.count for grant in rig.grants(other)) == 8


def test_it_is_told_again_when_it_comes_back_for_it_may_not_have_heard():
    rig = Rig()
    client, host = rig.client(), rig.host()
    ask(rig, client, "host")
    rig.drop(host)
    host = rig.host(quiet=False)
    assert [type(x) for x in rig.take(host)] == [m.HostWelcome, m.Drain]
    rig.say(host, m.Bye("drained"))
    host = rig.host(instance=b"n" * 16, quiet=False)  # a new agent of that name
    assert [type(x) for x in rig.take(host)] == [m.HostWelcome]


def test_a_host_that_is_not_there_cannot_be_drained():
    rig = Rig()
    client, host = rig.client(), rig.host()
    ((_, answer),) = ask(rig, client, "nobody")
    assert "no host 'nobody'" in answer.error
    rig.drop(host)
    ((_, answer),) = ask(rig, client, "host")
    assert "is not connected" in answer.error


def test_tasks_given_back_spend_neither_losses_nor_retries():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, 4))
    (grant,) = rig.grants(host)
    rig.report(host, started=[key(grant, hi=2)])
    ask(rig, client, "host")
    rig.report(host, number=2, window=0, returned=[key(grant)])
    rig.say(host, m.Bye("drained"))
    rig.commit()
    (batch,) = rig.ledger.sessions[ALICE].batches
    assert batch.states.count(State.QUEUED) == 4
    assert {(own.losses, own.retries) for own in batch.diverged.values()} == {(0, 0)}
    assert rig.ledger.counters["lost"] == 0
