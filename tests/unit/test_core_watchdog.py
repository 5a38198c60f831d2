"""The watchdog: finds tasks that nothing would move, suspects nobody else, and takes its time."""

import pytest

from farm.core import watchdog
from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol.parts import Failure, Template
from tests.unit.core_harness import Rig, claim, ended, group, packed

DELAYED = Template(delay=1000.0)


class Bare(Rig):
    """Without the invariants, which would notice at once."""

    def check(self):
        pass


def status(rig):
    rig.take()
    rig.say(rig.peers["alice"], m.Query(7, "status", {}))
    (answer,) = rig.of(m.Answer)
    return answer.data["stuck"]


def farm(*groups, kind=Rig, **settings):
    rig = kind(**settings)
    rig.client()
    rig.host()
    rig.submit(rig.peers["alice"], *groups)
    return rig


def lose_queue(rig):
    rig.ledger.queues.take(rig.ledger.queues.head(rig.now)[2] - 4)


def lose_delay(rig):
    rig.ledger.delays.pop_due(float("inf"))


def lose_leases(rig):
    (host,) = rig.ledger.hosts.all.values()
    host.leases.clear()


def lose_part_of_a_lease(rig):
    (host,) = rig.ledger.hosts.all.values()
    (lease,) = host.leases.values()
    lease.hi -= 1


@pytest.mark.parametrize(
    ("lose", "stuck"),
    [
        (lose_queue, {"queued": 2}),
        (lose_delay, {"scheduled": 3}),
        (lose_leases, {"leased": 4}),
        (lose_part_of_a_lease, {"leased": 1}),
    ],
)
def test_what_is_stuck_is_counted_and_said(lose, stuck):
    rig = farm(group(1, 6), group(7, 3, template=DELAYED), kind=Bare)
    rig.sleep(25)
    assert status(rig) == {}
    lose(rig)
    rig.sleep(25)
    assert status(rig) == stuck
    assert "stuck" in rig.warnings[-1]


def test_what_got_going_again_is_no_longer_counted():
    rig = farm(group(1, 6), kind=Bare)
    batch, lo, hi = rig.ledger.queues.head(rig.now)
    rig.ledger.queues.take(hi - lo)
    rig.sleep(25)
    assert status(rig) == {"queued": 2}
    rig.ledger.queues.push(batch, lo, hi)
    rig.sleep(25)
    assert status(rig) == {}


def test_nobody_is_suspected_whatever_they_wait_for(monkeypatch):
    monkeypatch.setattr(watchdog, "SLICE", 1)
    rig = farm(group(1, 6), packed(7, 5), group(12, 2, template=DELAYED), watch_seconds=0.1)
    host = rig.peers["host"]
    (grant, *_) = rig.grants(host)
    retry = [ended(grant, Ending.LOST, lo=1, hi=3, failure=Failure("exit", "gone"))]
    rig.report(host, ended=retry, commit=False)  # what follows waits for the store
    for _ in range(100):
        rig.tick(0.05)
    assert status(rig) == {}
    rig.sleep(5)
    rig.say(rig.peers["alice"], m.Cancel(1, [(grant.session, 4, 3)]))
    rig.sleep(5)
    assert status(rig) == {}


def test_after_a_restart_the_hosts_of_before_are_waited_for():
    rig = farm(group(1, 4), watch_seconds=0.1)
    (grant,) = rig.grants(rig.peers["host"])
    rig.reload()
    rig.client(pending=[(1, 4)])
    rig.sleep(1)
    assert status(rig) == {}
    rig.host(claims=[claim(grant, lo=1, hi=3)])
    rig.sleep(10)
    assert status(rig) == {}


def test_a_turn_looks_at_a_slice_only(monkeypatch):
    monkeypatch.setattr(watchdog, "SLICE", 10)
    rig = farm(*(group(1 + i, 1, template=DELAYED) for i in range(100)), watch_seconds=1.0)
    looked = []
    monkeypatch.setattr(watchdog, "_suspect", lambda *_: looked.append(rig.now))
    rig.sleep(5)
    turns = [looked.count(at) for at in set(looked)]
    assert max(turns) <= 10
    assert len(looked) >= 200


def test_a_farm_without_tasks_is_not_woken():
    rig = Rig()
    rig.client()
    rig.sleep(30)
    due = rig.core.watchdog.next_deadline()
    assert due == float("inf")
