"""What tasks need: who may run them, who passes whom, and what is said of those that must wait."""

import pytest

from farm.core.policy import QueuePolicy
from farm.core.settings import CoreSettings
from farm.errors import ConfigError
from farm.model import TaskId
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, claim, ended, group, packed, session_id


def needs(*labels, queue="", **resources):
    amounts = tuple((name, float(amount)) for name, amount in sorted(resources.items()))
    return m.Template(queue=queue, resources=amounts, labels=labels)


def farm(*hosts, **more):
    """A client, and a host for each dict of what it has."""
    rig = Rig(**more)
    client = rig.client()
    peers = []
    for number, has in enumerate(hosts):
        peers.append(rig.host(f"host{number}", **{"slots": 4, "window": 4, **has}))
    return rig, client, *peers


def firsts(grants):
    return [(grant.first, grant.count) for grant in grants]


def ask(rig, client, what, **arguments):
    rig.take(client)
    rig.say(client, m.Query(1, what, arguments))
    (answer,) = [one for one in rig.take(client) if isinstance(one, m.Answer)]
    assert not answer.error
    return answer.data


def explain(rig, client, counter):
    found = ask(rig, client, "explain", id=str(TaskId(session_id("alice"), counter)))
    return found["why"]


# ---------------------------------------------------------------- what fits


def test_as_many_run_as_fit():
    rig, client, host = farm({"resources": {"gpu": 2}})
    rig.submit(client, group(1, 5, template=needs(gpu=1)))
    (grant,) = rig.grants(host)
    assert (grant.first, grant.count, grant.resources) == (1, 2, (("gpu", 1.0),))
    rig.report(host, ended=[ended(grant, hi=1)])
    assert firsts(rig.grants(host)) == [(3, 1)]


def test_amounts_are_exact():
    rig, client, host = farm({"resources": {"licence": 0.3}})
    rig.submit(client, group(1, 9, template=needs(licence=0.1)))
    assert firsts(rig.grants(host)) == [(1, 3)]


def test_a_packed_task_needs_it_once():
    rig, client, host = farm({"resources": {"gpu": 1}})
    rig.submit(client, packed(1, 20, template=needs(gpu=1)), packed(21, 20, template=needs(gpu=1)))
    assert firsts(rig.grants(host)) == [(1, 20)]


def test_all_labels_must_be_on_the_host():
    rig, client, one, two = farm({"labels": {"ssd": ""}}, {"labels": {"ssd": "", "zone": "a"}})
    rig.submit(client, group(1, 1, template=needs("ssd", "zone=a")))
    assert (firsts(rig.grants(one)), firsts(rig.grants(two))) == ([], [(1, 1)])


def test_several_slots_count_as_so_many():
    rig, client, host = farm({})
    rig.submit(client, group(1, 2, template=needs(slots=3)), group(3, 5))
    assert firsts(rig.grants(host)) == [(1, 1)]  # the next one has the fourth slot kept


def test_what_is_adopted_counts():
    rig, client, host = farm({"resources": {"gpu": 2}})
    rig.submit(client, group(1, 4, template=needs(gpu=1)))
    (grant,) = rig.grants(host)
    rig.reload()
    rig.client(function=False)
    host = rig.host("host0", slots=4, window=4, resources={"gpu": 2}, claims=[claim(grant, hi=1)])
    assert firsts(rig.grants(host)) == [(2, 1)]


def test_a_host_that_is_lost_and_comes_back_has_all_again():
    rig, client, host = farm({"resources": {"gpu": 1}})
    rig.submit(client, group(1, 2, template=needs(gpu=1)))
    rig.grants(host)
    rig.drop(host)
    rig.sleep(31.0, host)
    host = rig.host("host0", slots=4, window=4, resources={"gpu": 1})
    assert firsts(rig.grants(host)) == [(1, 1)]


# ---------------------------------------------------------------- who passes whom


def test_what_cannot_run_now_stands_in_nobodys_way():
    rig, client, host = farm({"resources": {"gpu": 1}})
    rig.submit(client, group(1, 2, template=needs(gpu=1)), group(3, 1), group(4, 1))
    assert firsts(rig.grants(host)) == [(1, 1), (3, 1), (4, 1)]


def test_what_no_host_could_ever_run_waits_and_keeps_nothing():
    rig, client, host = farm({"resources": {"gpu": 1}}, reserve_seconds=0.0)
    rig.submit(client, group(1, 1, template=needs(gpu=8)), group(2, 1, template=needs(gpu=1)))
    assert firsts(rig.grants(host)) == [(2, 1)]
    rig.submit(client, group(3, 9))
    assert firsts(rig.grants(host)) == [(3, 3)]


def test_what_needs_much_is_not_passed_for_ever():
    rig, client, host = farm({"resources": {"memory": 4}}, reserve_seconds=2.0)
    rig.submit(client, group(1, 2, template=needs(memory=2)))
    (small,) = rig.grants(host)
    rig.submit(client, group(3, 1, template=needs(memory=4)))
    rig.submit(client, group(4, 9, template=needs(memory=2)))
    rig.report(host, ended=[ended(small, hi=1)])
    (passes,) = rig.grants(host)  # it has not waited for long
    assert passes.first == 4
    rig.tick(2.5)
    rig.report(host, number=2, ended=[ended(passes)])
    assert rig.grants(host) == []  # kept for what needs all of it
    assert "host host0 is kept for" in explain(rig, client, 3)[1]
    rig.report(host, number=3, ended=[ended(small, lo=1)])
    assert firsts(rig.grants(host)) == [(3, 1)]


def test_a_kept_host_takes_what_needs_nothing_of_that():
    rig, client, host = farm({"resources": {"memory": 4}}, reserve_seconds=0.0)
    rig.submit(client, group(1, 1, template=needs(memory=2)))
    rig.grants(host)
    rig.submit(client, group(2, 1, template=needs(memory=4)), group(3, 1, template=needs(memory=2)))
    assert rig.grants(host) == []
    rig.submit(client, group(4, 1))
    assert firsts(rig.grants(host)) == [(4, 1)]


def test_what_is_kept_is_free_again_when_nobody_waits_for_it():
    rig, client, host = farm({"resources": {"memory": 4}}, reserve_seconds=0.0)
    rig.submit(client, group(1, 1, template=needs(memory=2)))
    rig.grants(host)
    rig.submit(client, group(2, 1, template=needs(memory=4)), group(3, 1, template=needs(memory=2)))
    rig.say(client, m.Cancel(1, [(session_id("alice"), 2, 1)]))
    rig.commit()
    assert firsts(rig.grants(host)) == [(3, 1)]


def test_a_short_flood_does_not_keep_slots_from_those_whose_turn_it_is():
    rig, client, host = farm({"slots": 2, "window": 50, "resources": {"gpu": 1}})
    rig.submit(client, group(1, 1))
    (first,) = rig.grants(host)
    rig.report(host, window=50, ended=[ended(first, seconds=0.001)])  # it is short
    rig.submit(client, group(2, 40))
    (flood,) = rig.grants(host)
    rig.submit(client, group(100, 1, template=needs(gpu=1)), group(101, 40))
    rig.report(host, number=2, window=50, ended=[ended(flood, hi=39)])
    assert firsts(rig.grants(host))[0] == (100, 1)


def test_clients_take_turns_at_what_is_scarce():
    rig, alice, host = farm({"resources": {"gpu": 1}})
    bob = rig.client("bob")
    rig.submit(alice, group(1, 20, template=needs(gpu=1)))
    rig.submit(bob, group(1, 20, template=needs(gpu=1)))
    served = []
    for number in range(1, 9):
        (grant,) = rig.grants(host)
        served.append(grant.session)
        rig.report(host, number=number, ended=[ended(grant, seconds=10.0)])
    assert served.count(session_id("bob")) == 4


def test_queues_share_what_is_scarce_by_weight():
    policies = {"mail": QueuePolicy(weight=3.0), "bulk": QueuePolicy()}
    rig, client, host = farm({"resources": {"gpu": 1}}, queues=policies)
    rig.submit(client, group(1, 40, template=needs(gpu=1, queue="bulk")))
    rig.submit(client, group(101, 40, template=needs(gpu=1, queue="mail")))
    served = []
    for number in range(1, 25):
        (grant,) = rig.grants(host)
        served.append(grant.first > 100)
        rig.report(host, number=number, ended=[ended(grant, seconds=10.0)])
    assert sum(served) == pytest.approx(18, abs=2)


# ---------------------------------------------------------------- what is said


def test_an_unknown_name_is_refused_with_the_nearest():
    rig, client, _ = farm({"resources": {"licence": 1}})
    rig.submit(client, group(1, 1, template=needs(licenec=1)))
    (refused,) = [one for one in rig.of(m.Refused) if one.first == 1]
    assert refused.reason == "resource"
    assert "did you mean 'licence'?" in refused.message


@pytest.mark.parametrize("more", [{}, {"resources": ["licence"]}])
def test_a_name_that_may_come_is_accepted(more):
    rig, client, *_ = farm(*([{}] if more else []), **more)
    rig.submit(client, group(1, 1, template=needs(licence=1)))
    assert rig.of(m.Refused) == []


def test_names_of_hosts_are_known_after_a_restart():
    rig, client, _ = farm({"resources": {"licence": 1}})
    rig.reload()
    client = rig.client()
    rig.submit(client, group(1, 1, template=needs(licence=1)), group(2, 1, template=needs(x=1)))
    assert [one.first for one in rig.of(m.Refused)] == [2]


def test_what_could_never_run_is_said_at_once():
    rig, client, _ = farm({"resources": {"gpu": 2}, "labels": {"ssd": ""}})
    rig.submit(client, group(1, 3, template=needs(gpu=8)))
    rig.submit(client, group(4, 1, template=needs("zone=a")), group(5, 1, template=needs(slots=9)))
    said = {row["why"]: row["tasks"] for row in ask(rig, client, "status")["cannot_run"]}
    assert said == {
        "needs gpu=8, the largest host has 2": 3,
        "needs label zone=a, which no host has": 1,
        "needs slots=9, the largest host has 4": 1,
    }
    assert "could ever run it: it needs gpu=8, the largest host has 2" in explain(rig, client, 1)[0]


def test_hosts_say_what_they_have_and_what_is_used():
    rig, client, host = farm({"resources": {"gpu": 2, "memory": 4e9}})
    rig.submit(client, group(1, 1, template=needs(gpu=1, memory=1e9)))
    rig.grants(host)
    (row,) = ask(rig, client, "hosts")
    assert row["resources"] == {
        "gpu": {"total": 2.0, "used": 1.0},
        "memory": {"total": 4e9, "used": 1e9},
    }


def test_a_queue_has_needs_of_its_own():
    policy = QueuePolicy(options={"resources": [["gpu", 1]], "labels": ["ssd"]})
    rig, client, one, two = farm(
        {}, {"resources": {"gpu": 1}, "labels": {"ssd": ""}}, queues={"gpus": policy}
    )
    rig.submit(client, group(1, 2, template=m.Template(queue="gpus")))
    assert (firsts(rig.grants(one)), firsts(rig.grants(two))) == ([], [(1, 1)])


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"turn_seconds": 0.0}, "turn_seconds"),
        ({"turn_seconds": float("nan")}, "turn_seconds"),
        ({"reserve_seconds": -1.0}, "reserve_seconds"),
        ({"session_outcomes": 0}, "session_outcomes"),
        ({"far_seconds": 0.0}, "far_seconds"),
        ({"far_seconds": float("nan")}, "far_seconds"),
        ({"low_water": 1.5}, "low_water"),
        ({"low_water": 0.0}, "low_water"),
    ],
)
def test_bounds_that_cannot_be_are_named(settings, key):
    with pytest.raises(ConfigError, match=key):
        CoreSettings(**settings)
