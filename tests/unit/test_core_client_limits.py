"""How many unfinished tasks, and bytes, one client may have: exact, and nobody else's affair."""

import pytest

from farm.core import CoreSettings
from farm.errors import ConfigError
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, ended, group, packed


def refusals(rig, peer):
    return [(x.first, x.count, x.reason) for x in rig.take(peer) if isinstance(x, m.Refused)]


def test_a_client_has_no_more_tasks_than_it_may_and_others_go_on():
    rig = Rig(session_max_tasks=3)
    alice, bob = rig.client("alice"), rig.client("bob")
    rig.submit(alice, group(1, 2), group(3, 4))
    assert refusals(rig, alice) == [(4, 3, "busy")]
    rig.submit(bob, group(1, 3))
    assert refusals(rig, bob) == []
    rig.submit(alice, packed(10, 100))
    assert refusals(rig, alice) == [(10, 100, "busy")]
    assert rig.ledger.open_tasks == 6


def test_bytes_are_limited_too():
    rig = Rig(session_max_bytes=100, payload_bytes_max=100)
    client = rig.client()
    big = [group(n, 1, payloads=[b"x" * 60]) for n in (1, 2)]
    rig.submit(client, *big)
    assert refusals(rig, client) == [(2, 1, "busy")]
    assert rig.ledger.open_bytes == 60


def test_credit_is_cut_at_the_limit_and_comes_back_below_the_low_water():
    rig = Rig(session_max_tasks=4, low_water=0.5, chance=lambda: 0.0)
    client = rig.client(quiet=False)
    (welcome,) = [x for x in rig.take(client) if isinstance(x, m.ClientWelcome)]
    assert welcome.credit_tasks == 4
    host = rig.host(slots=1, window=1)
    rig.submit(client, group(1, 4))
    for number in range(1, 3):
        told = [x for x in rig.take(client) if isinstance(x, m.Credit)]
        assert all(x.retry_after and x.tasks == 4 for x in told)
        rig.sleep(3.0)
        (grant,) = rig.grants(host)
        if number == 2:
            rig.submit(client, group(50, 2))
            (refused,) = [x for x in rig.take(client) if isinstance(x, m.Refused)]
            # One fits: 4 are open, the low water is 2, and one ends every 3 s.
            assert (refused.first, refused.retry_after) == (51, pytest.approx(12.0))
            assert "4 of 4 tasks" in refused.message
        rig.report(host, number=number, window=1, ended=[ended(grant)])
    rig.sleep(3.0)
    (grant,) = rig.grants(host)
    rig.report(host, number=3, window=1, ended=[ended(grant)])
    (credit,) = [x for x in rig.take(client) if isinstance(x, m.Credit)]
    assert credit.tasks == 6 + 2  # it has sent six, and has room for two
    assert rig.ledger.sessions[next(iter(rig.ledger.sessions))].open_tasks == 2


def test_who_has_used_up_its_credit_is_told_when_it_has_room_again():
    rig = Rig(session_max_tasks=3)
    client = rig.client()
    rig.submit(client, group(1, 3))
    (credit,) = [x for x in rig.take(client) if isinstance(x, m.Credit)]
    assert credit.tasks == 3
    assert credit.retry_after >= 1.0


def test_a_farm_that_is_full_of_results_gives_no_credit_to_who_has_room_of_its_own():
    rig = Rig(session_max_tasks=1, max_result_bytes=50)
    alice, bob, host = rig.client("alice"), rig.client("bob"), rig.host()
    rig.submit(alice, group(1))
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant, payloads=[b"x" * 100])])
    rig.take()
    rig.submit(bob, group(1))
    (refused,) = [x for x in rig.take(bob) if not isinstance(x, m.Beat)]
    assert (refused.reason, refused.message[:14]) == ("busy", "unread results")
    rig.say(alice, m.Taken(1))
    rig.commit()
    assert [type(x) for x in rig.take(bob)] == [m.Credit]


def test_the_count_survives_a_restart():
    rig = Rig(session_max_tasks=3)
    rig.submit(rig.client(), group(1, 2))
    rig.reload()
    client = rig.client()
    rig.submit(client, group(3, 2))
    assert refusals(rig, client) == [(4, 1, "busy")]


@pytest.mark.parametrize("name", ["session_max_tasks", "session_max_bytes"])
def test_limits_are_at_least_one(name):
    with pytest.raises(ConfigError, match=name):
        CoreSettings(**{name: -1})


def test_a_limit_that_no_payload_fits_is_refused():
    with pytest.raises(ConfigError, match="session_max_bytes"):
        CoreSettings(session_max_bytes=1000)
