"""Tasks that may not start before a time: since their acceptance, or by the clock on the wall."""

import pytest

from farm.core.policy import QueuePolicy
from farm.model import Ending, State
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, ended, group, session_id

ALICE = session_id("alice")
HOUR = 3600.0


def farm(**settings):
    rig = Rig(**settings)
    return rig, rig.client(), rig.host(slots=64, window=64)


def when(rig, how, seconds):
    if how == "delay":
        return m.Template(delay=seconds)
    return m.Template(eta=rig.ledger.wall(rig.now) + seconds)


@pytest.mark.parametrize("how", ["delay", "eta"])
def test_a_task_waits_for_its_time(how):
    rig, client, host = farm()
    rig.submit(client, group(1, 3, template=when(rig, how, HOUR)), group(4))
    assert [grant.first for grant in rig.grants(host)] == [4]
    rig.sleep(HOUR - 1)
    assert rig.grants(host) == []
    rig.sleep(2)
    (grant,) = rig.grants(host)
    assert (grant.first, grant.count, grant.payloads) == (1, 3, [b"p1", b"p2", b"p3"])
    assert rig.ledger.queues.all["default"].meter.numbers(rig.now)["wait_p99"] < 2


@pytest.mark.parametrize("how", ["delay", "eta"])
@pytest.mark.parametrize("jump", [0.0, -7200.0, 86_400.0])
def test_a_restart_does_not_change_the_time_and_neither_does_who_sets_the_clock(how, jump):
    rig, client, host = farm(boot="one")
    rig.submit(client, group(1, template=when(rig, how, HOUR)))
    rig.sleep(HOUR / 2)
    rig.reload(after=10, jump=jump)
    host = rig.host(slots=4, window=4)
    rig.sleep(HOUR / 2 - 12)
    assert rig.grants(host) == []
    rig.sleep(4)
    assert len(rig.grants(host)) == 1


def test_after_a_boot_an_eta_is_by_the_clock_of_then():
    rig, client, host = farm(boot="one")
    rig.submit(client, group(1, template=when(rig, "eta", HOUR)))
    rig.boot = "two"
    rig.reload(after=60, jump=HOUR / 2)
    host = rig.host(slots=4, window=4)
    rig.sleep(HOUR / 2 - 65)
    assert rig.grants(host) == []
    rig.sleep(7)
    assert len(rig.grants(host)) == 1


def test_a_time_that_is_over_is_now():
    rig, client, host = farm()
    rig.submit(client, group(1, template=when(rig, "eta", -HOUR)))
    assert len(rig.grants(host)) == 1
    rig.reload()
    rig.client()
    host = rig.host("b", slots=4, window=4)
    rig.sleep(6)
    assert len(rig.grants(host)) == 1


@pytest.mark.parametrize("how", ["delay", "eta"])
def test_what_waits_for_its_time_is_explained_cancelled_and_expires(how):
    rig, client, _ = farm()
    template = when(rig, how, 2 * HOUR)
    rig.submit(client, group(1, template=template))
    template.expires = HOUR
    rig.submit(client, group(2, template=template))
    rig.take()
    rig.say(client, m.Query(1, "explain", {"id": f"{ALICE.hex()}-1"}))
    (answer,) = rig.of(m.Answer)
    assert answer.data["due_seconds"] == pytest.approx(2 * HOUR)
    (why,) = answer.data["why"]
    assert ("2023-11-15 00:13:20+00:00" if how == "eta" else "7200 s later") in why
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.commit()
    (reply,) = [x for x in rig.take(client) if isinstance(x, m.CancelReply)]
    assert reply.cancelled == [(ALICE, 1, 1)]
    rig.sleep(HOUR + 1)
    assert [x.ending for x in rig.results(client)] == [Ending.EXPIRED]


def test_a_retry_does_not_wait_for_the_first_time_again():
    rig, client, host = farm()
    template = when(rig, "eta", HOUR)
    template.retries, template.backoff = 1, 10.0
    rig.submit(client, group(1, template=template))
    rig.sleep(HOUR + 1)
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant, Ending.EXCEPTION)])
    rig.sleep(6)
    assert [grant.attempt for grant in rig.grants(host)] == [2]


def test_the_eta_of_a_task_wins_over_the_delay_of_its_queue():
    rig, client, host = farm(queues={"default": QueuePolicy(options={"delay": 60.0})})
    rig.submit(client, group(1, template=when(rig, "eta", 10.0)), group(2))
    (batch, other) = rig.ledger.sessions[ALICE].batches
    assert batch.states[0] == other.states[0] == State.SCHEDULED
    rig.sleep(11)
    assert [grant.first for grant in rig.grants(host)] == [1]
