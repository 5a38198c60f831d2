"""Submission and admission: reserved before accepted, acknowledged after the commit."""

import pytest

from farm.core import CoreSettings
from farm.errors import ConfigError
from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import F, Rig, group, packed, session_id

VOLATILE = m.Template(durable=False)


def records(rig, kind):
    return [
        one for data in rig.disk.records.values() if isinstance(one := r.decode_record(data), kind)
    ]


def test_a_submission_is_acknowledged_after_its_commit_and_not_before():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, 3), commit=False)
    assert rig.take() == []
    rig.commit()
    assert rig.take() == [(client, m.Accepted(rig.disk.commit, [(1, 3)]))]


def test_one_record_per_message_whatever_the_groups():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, 3), packed(4, 100), group(104, 2))
    assert [len(one.groups) for one in records(rig, r.Submitted)] == [3]
    assert rig.of(m.Accepted)[0].runs == [(1, 105)]
    assert rig.ledger.open_tasks == 6


def test_a_known_group_is_acknowledged_again_and_nothing_runs_twice():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, 3))
    rig.take()
    rig.submit(client, group(1, 3))
    assert rig.take() == [(client, m.Accepted(rig.disk.commit, [(1, 3)]))]
    assert rig.ledger.open_tasks == 3


def test_a_known_group_not_committed_yet_is_not_acknowledged_early():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, 3), commit=False)
    rig.submit(client, group(1, 3), commit=False)
    assert rig.take() == []
    rig.commit()
    assert rig.of(m.Accepted)


def test_a_partly_known_group_runs_only_what_is_new():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(3, 2))
    rig.take()
    rig.submit(client, group(1, 6))
    assert sorted(run for x in rig.of(m.Accepted) for run in x.runs) == [(1, 2), (3, 2), (5, 2)]
    assert rig.ledger.open_tasks == 6
    host = rig.host(slots=8, window=8)
    assert sorted(g.payloads[0] for g in rig.grants(host)) == [b"p1", b"p3", b"p5"]


def test_groups_that_overlap_within_one_message_wait_for_its_record():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(100, 1))
    rig.take()
    rig.submit(client, group(1, 4), group(2, 5), commit=False)
    assert rig.take() == []
    rig.commit()
    runs = [run for one in rig.of(m.Accepted) for run in one.runs]
    assert {c for first, count in runs for c in range(first, first + count)} == set(range(1, 7))
    assert rig.ledger.open_tasks == 1 + 6


def test_durable_and_volatile_groups_in_one_message():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, 2), group(3, 2, template=VOLATILE), commit=False)
    assert rig.take() == [(client, m.Accepted(0, [(3, 2)]))]
    rig.commit()
    assert rig.take() == [(client, m.Accepted(rig.disk.commit, [(1, 2)]))]
    (record,) = records(rig, r.Submitted)
    assert [one.first for one in record.groups] == [1]
    rig.reload()
    assert rig.ledger.open_tasks == 2


def test_a_volatile_task_is_new_again_after_a_restart():
    rig = Rig()
    rig.submit(rig.client(), group(1, 2, template=VOLATILE))
    rig.submit(rig.peers["alice"], group(1, 2, template=VOLATILE))
    assert rig.ledger.open_tasks == 2
    rig.reload()
    rig.submit(rig.client(), group(1, 2, template=VOLATILE))
    assert rig.ledger.open_tasks == 2


def test_a_late_duplicate_after_pruning_is_known():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, 2))
    _finish_all(rig, client, host)
    rig.sleep(40)
    assert records(rig, r.Submitted) == []
    rig.take()
    rig.submit(client, group(1, 2))
    assert rig.of(m.Accepted)[0].runs == [(1, 2)]
    assert rig.ledger.open_tasks == 0
    rig.reload()
    client = rig.client()
    rig.submit(client, group(1, 2))
    assert rig.ledger.open_tasks == 0


def _finish_all(rig, client, host):
    from tests.unit.core_harness import ended

    for number, grant in enumerate(rig.grants(host), 1):
        rig.report(host, number=number, ended=[ended(grant)])
    sent = [one for one in rig.take(client) if isinstance(one, m.Results)]
    rig.say(client, m.Taken(sent[-1].number))
    rig.commit()


def test_what_does_not_fit_is_refused_and_never_overshot():
    rig = Rig(max_tasks=5)
    client = rig.client()
    rig.submit(client, group(1, 3), group(4, 4))
    sent = rig.of(m.Accepted | m.Refused)
    assert sent == [m.Refused(6, 2, "busy", 1.1), m.Accepted(rig.disk.commit, [(1, 5)])]
    assert rig.ledger.open_tasks == 5


def test_bytes_are_a_bound_too():
    rig = Rig(max_bytes=100, session_bytes=100, payload_bytes_max=100)
    client = rig.client()
    rig.submit(client, group(1, 1, payloads=[b"x" * 60]), group(2, 1, payloads=[b"x" * 60]))
    assert [(x.first, x.reason) for x in rig.of(m.Refused)] == [(2, "busy")]
    assert rig.ledger.open_bytes == 60


def test_a_packed_group_counts_as_one_and_is_not_cut():
    rig = Rig(max_tasks=1)
    client = rig.client()
    rig.submit(client, packed(1, 1000), packed(1001, 1000))
    assert [(x.first, x.count) for x in rig.of(m.Refused)] == [(1001, 1000)]
    assert rig.ledger.open_tasks == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (group(1, 1, function=b"?" * 16), "function"),
        (group(1, 1, job=9), "job"),
        (group(1, 1, payloads=[b"x" * 101]), "too_large"),
    ],
)
def test_a_group_that_cannot_be_taken_is_refused_by_name(bad, reason):
    rig = Rig(payload_bytes_max=100)
    client = rig.client()
    rig.submit(client, bad, group(50, 1))
    assert [(x.first, x.reason) for x in rig.take(client) if isinstance(x, m.Refused)] == [
        (1, reason)
    ]
    assert 1 not in rig.ledger.sessions[session_id("alice")].accepted
    assert rig.ledger.open_tasks == 1


def test_a_refused_function_is_sent_and_the_group_again():
    rig = Rig()
    client = rig.client(function=False)
    rig.submit(client, group(1, 1))
    assert [x.reason for x in rig.of(m.Refused)] == ["function"]
    rig.say(client, F)
    rig.submit(client, group(1, 1))
    assert rig.of(m.Accepted)[0].runs == [(1, 1)]


def test_another_python_gets_no_work_done():
    rig = Rig(python="3.11")
    client = rig.client(python="3.12")
    rig.submit(client, group(1, 1))
    assert [x.reason for x in rig.of(m.Refused)] == ["python"]


def test_a_packed_group_known_in_the_middle_is_not_multiplied():
    rig = Rig()
    client = rig.client()
    rig.submit(client, packed(10, 5), packed(20, 5), packed(30, 5))
    rig.submit(client, packed(1, 100, payload=b"x" * 1000))
    refused = [(x.first, x.count, x.reason) for x in rig.of(m.Refused)]
    assert refused == [(a, n, "overlap") for a, n in ((1, 9), (15, 5), (25, 5), (35, 66))]
    rig.submit(client, packed(30, 9, payload=b"x" * 1000))
    assert rig.ledger.open_bytes == 12 + 1000


def test_settings_that_clash_are_refused():
    with pytest.raises(ConfigError, match="max_tasks"):
        CoreSettings(max_tasks=0)
    with pytest.raises(ConfigError, match="lease"):
        CoreSettings(lease_seconds=5.0, beat_seconds=4.0)
    with pytest.raises(ConfigError, match="payload_bytes_max"):
        CoreSettings(payload_bytes_max=1 << 40)
    with pytest.raises(ConfigError, match="low_water"):
        CoreSettings(low_water=0.0)
