"""``max_losses=0``: whatever dies, a task that may have begun never runs again."""

import pytest

from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import Rig, claim, ended, group, packed

ONCE = m.Template(max_losses=0)


def test_what_may_have_begun_is_written_down_before_it_is_assigned():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.say(client, m.Submit([group(1, 2, template=ONCE)]))
    assert [x for x in rig.take(host) if isinstance(x, m.Assign)] == []
    rig.commit()
    assert [g.count for g in rig.grants(host)] == [2]
    assert any(isinstance(r.decode_record(x), r.Begun) for x in rig.disk.records.values())


@pytest.mark.parametrize(
    "template",
    [
        ONCE,
        m.Template(max_losses=0, delay=5.0),
        m.Template(max_losses=0, retries=1, backoff=1.0),
    ],
)
@pytest.mark.parametrize("make", [group, packed])
def test_after_a_restart_it_is_dead_unless_its_host_comes_back(make, template):
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, make(1, 1, template=template))
    if template.retries:
        (grant,) = rig.grants(host)
        rig.report(host, ended=[ended(grant, Ending.EXCEPTION)])
    rig.sleep(6)
    (grant,) = rig.grants(host)
    rig.reload()
    other = rig.host("other")
    rig.sleep(6)
    assert rig.grants(other) == []
    client = rig.client(quiet=False)
    rig.answer_loads()
    assert [x.ending for x in rig.results(client)] == [Ending.LOST]
    assert rig.ledger.open_tasks == 0


def test_a_host_that_comes_back_goes_on():
    rig = Rig()
    host = rig.host()
    rig.submit(rig.client(), group(1, 1, template=ONCE))
    (grant,) = rig.grants(host)
    rig.reload()
    host = rig.host(claims=[claim(grant)])
    client = rig.client()
    rig.report(host, ended=[ended(grant)])
    assert [x.ending for x in rig.results(client)] == [Ending.OK]


@pytest.mark.parametrize("leave", ["bye", "silence"])
def test_a_host_that_was_not_told_yet_costs_it_nothing(leave):
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, 1, template=ONCE), commit=False)
    assert rig.grants(host) == []  # that it may begin is not committed yet
    if leave == "bye":
        rig.say(host, m.Bye("drained"))
    else:
        for _ in range(4):
            rig.tick(9)
    rig.commit()
    assert rig.results(client) == []
    assert [g.attempt for g in rig.grants(rig.host("other"))] == [2]


def test_a_host_that_comes_back_without_it_never_had_it():
    rig = Rig()
    host = rig.host()
    rig.submit(rig.client(), group(1, 2, template=ONCE))
    assert len(rig.grants(host)) == 1
    rig.reload()
    host = rig.host(claims=[])
    assert [(g.first, g.count) for g in rig.grants(host)] == [(1, 2)]


def test_a_claim_in_vain_says_that_it_began():
    rig = Rig()
    host, client = rig.host(), rig.client()
    rig.submit(client, group(1, 1, template=ONCE))
    (grant,) = rig.grants(host)
    rig.reload()
    for _ in range(3):
        rig.tick(2)  # recovery ends without the host, and before that is committed it comes
    late = rig.host(claims=[claim(grant)])
    assert rig.grants(late) == []
    rig.client()
    assert rig.ledger.open_tasks == 0


def test_what_was_never_assigned_runs_after_a_restart():
    rig = Rig()
    rig.submit(rig.client(), group(1, 2, template=ONCE))
    rig.reload()
    host = rig.host()
    rig.commit()
    assert [g.count for g in rig.grants(host)] == [2]
