"""A client says below which counter nothing will come again; the coordinator forgets holes."""

import pytest

from farm.protocol import messages as m
from tests.unit import core_harness
from tests.unit.core_harness import Rig, ended, session_id
from tests.unit.session_helpers import F, group, open_session, reconnect, result, sent

ALICE = session_id("alice")


def floors(done):
    return [x.floor for x in sent(done) if isinstance(x, m.Submit)]


def test_what_is_unanswered_or_may_be_lost_holds_the_floor_down():
    session, port = open_session()
    session.submit([group(1, 2)], [F], 0.0)
    session.submit([group(3, template=m.Template(durable=False))], [F], 0.1)
    session.submit([group(4)], [F], 0.2)
    assert floors(port.take()) == [1, 1, 1]
    session.receive(m.Accepted(2, [(1, 1), (3, 2)]), 0.3)
    session.submit([group(5)], [F], 0.4)
    assert floors(port.take()) == [2]  # the second may not have arrived
    session.receive(m.Accepted(3, [(2, 1), (5, 1)]), 0.5)
    session.submit([group(6)], [F], 0.6)
    assert floors(port.take()) == [3]  # a coordinator that restarts does not have the third
    session.receive(m.Results(1, 3, [result(3)]), 0.7)
    session.submit([group(7)], [F], 0.8)
    assert floors(port.take()) == [6]


def test_after_a_reconnect_it_is_no_lower_and_nothing_comes_from_below():
    session, port = open_session()
    session.submit([group(1, 3)], [F], 0.0)
    session.receive(m.Accepted(2, [(1, 2)]), 0.1)
    port.take()
    _, done = reconnect(session, port, 1.0, epoch=6)
    assert [(x.floor, x.groups[0].first) for x in sent(done) if isinstance(x, m.Submit)] == [(3, 3)]


def test_it_is_never_above_what_is_sent_with_it():
    session, port = open_session()
    session.submit([group(5)], [F], 0.0)
    session.submit([group(3)], [F], 0.1)  # a counter given out before, and used later
    assert floors(port.take()) == [5, 3]


@pytest.mark.parametrize("restart", [True, False])
def test_a_session_remembers_a_floor_and_not_every_hole_below_it(restart):
    rig = Rig()
    client, host = rig.client(), rig.host(slots=512, window=512)
    for number, first in enumerate(range(1, 101, 2), 1):
        both = [
            core_harness.group(first),
            core_harness.group(first + 1, template=m.Template(durable=False)),
        ]
        rig.say(client, m.Submit(both, first))
        rig.commit()
        ends = [ended(grant) for grant in rig.grants(host)]
        rig.report(host, number=number, window=512, ended=ends)
        rig.say(client, m.Taken(number))
    rig.sleep(2)
    if restart:
        rig.reload()
        rig.host(slots=512, window=512)
        client = rig.client()
    session = rig.ledger.sessions[ALICE]
    assert len(list(session.accepted)) + len(list(session.volatile)) <= 3
    rig.take()
    rig.submit(client, core_harness.group(1), core_harness.group(98))
    accepted = {run for x in rig.of(m.Accepted) for run in x.runs}
    assert accepted == {(1, 1), (98, 1)}  # known: neither runs again
    assert rig.ledger.open_tasks == 0
