"""A store that is short: new work is refused, and nothing uncommitted begins."""

import pytest

from farm.protocol import messages as m
from tests.unit.core_harness import Rig, ended, group


def short_farm():
    """One task runs, and another was accepted just before the disk was full."""
    rig = Rig()
    client, host = rig.client(), rig.host(slots=1, window=1)
    rig.submit(client, group(1, 1))
    (grant,) = rig.grants(host)
    rig.submit(client, group(2, 1), commit=False)
    rig.core.on_short("the disk is full", rig.now)
    rig.tick()
    rig.take()
    return rig, client, host, grant


def test_new_work_is_refused_with_the_reason():
    rig, client, _, _ = short_farm()
    rig.submit(client, group(3, 1), commit=False)
    (refused,) = [x for x in rig.take(client) if isinstance(x, m.Refused)]
    assert (refused.first, refused.reason, refused.message) == (3, "busy", "the disk is full")


@pytest.mark.parametrize("template", [None, m.Template(priority=5), m.Template(max_losses=0)])
def test_what_is_not_committed_waits_for_that_and_holds_up_nobody(template):
    rig = Rig()
    client, host = rig.client(), rig.host(slots=1, window=1)
    rig.submit(client, group(1, 1), group(2, 1))
    (grant,) = rig.grants(host)
    rig.submit(client, group(3, 1, template=template), commit=False)
    rig.core.on_short("the disk is full", rig.now)
    rig.report(host, window=1, ended=[ended(grant)], commit=False)
    (second,) = rig.grants(host)
    assert second.first == 2
    rig.report(host, number=2, window=1, ended=[ended(second)], commit=False)
    assert rig.grants(host) == []
    rig.commit()  # there is room for what waits already, and for nothing new
    assert [g.first for g in rig.grants(host)] == [3]


def test_it_goes_on_by_itself_when_the_store_has_room():
    rig, client, host, grant = short_farm()
    rig.report(host, window=1, ended=[ended(grant)], commit=False)
    assert rig.grants(host) == []
    rig.core.on_short("", rig.now)
    rig.tick()
    assert [g.first for g in rig.grants(host)] == [2]
    rig.submit(client, group(3, 1), commit=False)
    assert [x for x in rig.take(client) if isinstance(x, m.Refused)] == []


def test_what_waits_can_be_cancelled_meanwhile():
    rig, client, host, grant = short_farm()
    rig.say(client, m.Cancel(1, [(rig.ledger.session_of(client).id, 2, 1)]))
    rig.report(host, window=1, ended=[ended(grant)], commit=False)
    rig.core.on_short("", rig.now)
    rig.commit()
    assert rig.grants(host) == []
    assert rig.ledger.open_tasks == 0
