"""Queues: whose turn it is, what rises, and what keeps tasks from being placed."""

import itertools

import pytest

from farm.core import invariants
from farm.core.batch import Batch
from farm.core.meter import Meter
from farm.core.policy import QueuePolicy
from farm.core.queue import Queue
from farm.core.queues import Queues
from farm.core.states import Event
from farm.errors import ConfigError
from farm.model import Ending, TaskId
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, ended, group, packed, session_id

TURN = 0.01


def options(queue="", **more):
    return m.Template(queue=queue, **more)


def farm(policies, *, slots=0, window=0, **more):
    rig = Rig(queues={name: QueuePolicy(**one) for name, one in policies.items()}, **more)
    rig.window = window
    return rig, rig.client(), rig.host(slots=slots, window=window)


class Line:
    """Queues by themselves, with sessions and tasks that need no farm."""

    def __init__(self, **weights):
        policies = {name: QueuePolicy(weight=one) for name, one in weights.items()}
        self.queues = Queues(policies, TURN)
        self.first = 1

    def add(self, queue="default", session="a", count=1, priority=0, at=0.0):
        template = m.Template(priority=priority)
        one = Batch(
            session, group(self.first, count, template=template), None, self.queues.all[queue], at
        )
        self.first += count
        self.queues.push(one, 0, count)
        return one

    def cancel(self, one):
        one.move(0, one.count, Event.CANCEL)
        one.queue.ready.note_stale(one.count)

    def serve(self, tasks, seconds=-1.0, most=1 << 20):
        """Place so many tasks; which batches they were of."""
        found = []
        while len(found) < tasks and (head := self.queues.head(0.0)) is not None:
            batch, lo, hi = head
            cost = self.queues.cost(seconds)
            count = self.queues.cut(batch, min(hi - lo, most, tasks - len(found)), cost, 0.0)
            batch.move(lo, lo + count, Event.LEASE)
            self.queues.take(count, count * cost)
            found += [batch] * count
        return found


# ---------------------------------------------------------------- turns


def test_queues_share_by_weight():
    line = Line(mail=3, bulk=1)
    mail, bulk = line.add("mail", count=600), line.add("bulk", count=600)
    served = line.serve(400)
    assert served.count(mail) == pytest.approx(300, abs=4)
    assert served.count(bulk) == pytest.approx(100, abs=4)
    gaps = [i for i, one in enumerate(served) if one is bulk]
    assert max(b - a for a, b in itertools.pairwise(gaps)) <= 4  # no one waits for long


def test_a_turn_is_work_so_short_tasks_go_by_many():
    line = Line(mail=1, bulk=1)
    mail, bulk = line.add("mail", count=600), line.add("bulk", count=600)
    served = line.serve(40, seconds=TURN / 10)
    assert served == [served[0]] * 10 + [served[10]] * 10 + [served[0]] * 10 + [served[10]] * 10
    assert {served[0], served[10]} == {mail, bulk}


def test_what_is_alone_is_cut_by_nothing():
    line = Line(mail=1)
    one = line.add("mail", count=600)
    assert line.queues.head(0.0) == (one, 0, 600)
    assert line.queues.cut(one, 600, TURN, 0.0) == 600


def test_sessions_of_a_queue_take_turns():
    line = Line()
    many = line.add(session="a", count=1000)
    few = line.add(session="b", count=10)
    served = line.serve(30)
    assert served.count(few) == 10
    assert served[:20].count(many) == 10
    assert line.serve(5) == [many] * 5


def test_a_newcomer_is_next():
    line = Line()
    line.add(session="a", count=100)
    line.serve(7)
    late = line.add(session="b")
    assert late in line.serve(2)


def test_who_has_one_task_at_a_time_does_not_go_before_who_waits_each_time():
    line = Line()
    line.add(session="a", count=100)
    line.serve(1)
    one = line.add(session="b")
    assert one in line.serve(1)
    again = line.add(session="b")  # before the next place is free
    assert again not in line.serve(1)
    assert again in line.serve(1)


def test_nor_does_such_a_queue():
    line = Line(mail=1, bulk=1)
    line.add("mail", count=100)
    line.serve(1)
    found = []
    for _ in range(10):
        line.add("bulk")
        found += line.serve(1)
    assert sum(one.queue.name == "mail" for one in found) == 5


def test_a_queue_that_was_away_has_saved_nothing_up():
    line = Line(mail=1, bulk=1)
    line.add("mail", count=600)
    line.queues.all["bulk"].set({}, paused=True, now=0.0)
    bulk = line.add("bulk", count=600)
    line.serve(100)
    line.queues.all["bulk"].set({}, paused=False, now=0.0)
    line.queues.wake_all()
    assert line.serve(20).count(bulk) == 10


def test_priorities_go_first_and_what_waits_rises():
    line = Line()
    low = line.add(priority=0, at=0.0)
    high = line.add(priority=2, at=100.0)
    higher = line.add(priority=3, at=100.0)
    lowest = line.add(priority=-1, at=130.0)
    # 60 s are worth one step: it has waited 100 s more, and is 2 or 3 below.
    assert line.serve(4) == [higher, high, low, lowest]
    old, new = line.add(priority=0, at=0.0), line.add(priority=2, at=121.0)
    assert line.serve(2) == [old, new]


def test_the_oldest_of_a_lane_counts_whoever_it_belongs_to():
    line = Line()
    line.add(priority=0, session="a", at=200.0)
    old = line.add(priority=0, session="b", at=0.0)
    high = line.add(priority=1, session="a", at=90.0)
    served = line.serve(3)
    assert served.index(old) < served.index(high)


def test_what_ended_while_it_waited_lets_nobody_of_its_lane_go_for_its_age():
    line = Line()
    ended_one = line.add(priority=0, session="a", at=0.0)
    late = line.add(priority=0, session="b", at=200.0)
    waits = line.add(priority=-1, session="c", at=100.0)
    line.cancel(ended_one)
    assert line.serve(3) == [waits, late]


def test_the_oldest_of_a_lane_may_have_been_behind_another_one():
    line = Line()
    first = line.add(priority=0, session="a", at=150.0)
    came_back = line.add(priority=0, session="a", at=100.0)
    other = line.add(priority=0, session="b", count=2, at=140.0)
    line.add(priority=-1, session="c", at=500.0)
    while first not in line.serve(1):
        pass
    low = line.add(priority=-1, session="d", at=60.0)
    rest = [one for one in line.serve(3) if one is not other]
    assert rest[:2] == [came_back, low]


# ---------------------------------------------------------------- what keeps tasks back


def test_a_paused_queue_gives_nothing_and_the_others_go_on():
    rig, client, host = farm({"mail": {}}, slots=4, window=4)
    rig.ledger.queues.all["mail"].set({}, paused=True, now=rig.now)
    rig.submit(client, group(1, 2, template=options("mail")), group(3, 2))
    assert [g.first for g in rig.grants(host)] == [3]


def test_no_more_run_than_may():
    rig, client, host = farm({"mail": {"max_running": 3}}, slots=8, window=8)
    rig.submit(client, group(1, 10, template=options("mail")), group(11, 2))
    grants = rig.grants(host)
    mail = [g for g in grants if g.first < 11]
    assert (sum(g.count for g in mail), sum(g.count for g in grants)) == (3, 5)
    rig.report(host, ended=[ended(mail[0], hi=1)], window=8)
    assert [(g.first, g.count) for g in rig.grants(host)] == [(4, 1)]


def test_what_is_limited_never_waits_on_a_host():
    rig, client, host = farm({"mail": {"max_running": 100}}, slots=2, window=50)
    rig.submit(client, group(1, 1))
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant, seconds=0.0001)], window=50)
    rig.submit(client, group(2, 40, template=options("mail")))
    assert sum(g.count for g in rig.grants(host)) == 2


def test_what_is_adopted_counts_as_running():
    rig, client, host = farm({"mail": {"max_running": 2}}, slots=8, window=8)
    rig.submit(client, group(1, 5, template=options("mail")))
    (grant,) = rig.grants(host)
    claim = m.Claim(rig.epoch, grant.lease, 1, grant.session, 1, 2, started=True)
    rig.commit()
    rig.reload()
    client = rig.client()
    rig.submit(client, group(6, 1, template=options("mail")), group(7, 1))
    host = rig.host(slots=8, window=8, claims=[claim], commit=False)
    # New tasks run meanwhile, but not of a queue of which nobody knows how many run.
    rig.commit()
    assert [g.first for g in rig.grants(host)] == [7]
    assert rig.ledger.queues.all["mail"].running == 2


def test_new_tasks_of_a_limited_queue_wait_for_the_hosts_of_before():
    rig, client, host = farm({"mail": {"max_running": 2}}, slots=8, window=8)
    rig.submit(client, group(1, 2, template=options("mail")))
    rig.grants(host)
    rig.commit()
    rig.reload()
    client, other = rig.client(), rig.host("other", slots=8, window=8)
    rig.submit(client, group(6, 2, template=options("mail")), group(8, 1))
    assert [g.first for g in rig.grants(other)] == [8]
    rig.sleep(6)  # the host of before does not come: what it had is fenced off
    assert sum(g.count for g in rig.grants(other)) == 2


def test_of_one_key_no_more_run_than_may_and_others_pass():
    rig, client, host = farm({"mail": {"max_running_per_key": 1}}, slots=8, window=8)
    a, b = options("mail", concurrency_key="a"), options("mail", concurrency_key="b")
    rig.submit(client, group(1, 3, template=a), group(4, 1, template=a), group(5, 2, template=b))
    rig.submit(client, group(7, 1, template=options("mail")))
    grants = {grant.first: grant for grant in rig.grants(host)}
    assert {first: grant.count for first, grant in grants.items()} == {1: 1, 5: 1, 7: 1}
    for expected in (2, 3, 4):
        before = max(first for first in grants if first < 5)
        rig.report(host, ended=[ended(grants[before])], window=8)
        (grant,) = rig.grants(host)
        grants[grant.first] = grant
        assert grant.first == expected


def test_a_key_is_free_again_when_what_waits_for_it_is_cancelled():
    rig, client, host = farm({"mail": {"max_running_per_key": 1}}, slots=8, window=8)
    a = options("mail", concurrency_key="a")
    rig.submit(client, *(group(first, 1, template=a) for first in (1, 2, 3)))
    (grant,) = rig.grants(host)
    rig.say(client, m.Cancel(1, [(grant.session, 2, 1)]))
    rig.report(host, ended=[ended(grant)], window=8)
    assert [g.first for g in rig.grants(host)] == [3]


def test_the_rate_is_kept_and_time_alone_lets_more_go():
    rig, client, host = farm({"mail": {"rate": 2.0, "burst": 3}}, slots=50, window=50)
    rig.submit(client, group(1, 20, template=options("mail")))
    counts = [sum(g.count for g in rig.grants(host))]
    for _ in range(4):
        rig.sleep(1.0)
        counts.append(sum(g.count for g in rig.grants(host)))
    assert counts == [3, 2, 2, 2, 2]


def test_time_counts_for_the_rate_whatever_is_set_of_the_queue_meanwhile():
    rig, client, host = farm({"mail": {"rate": 1.0, "burst": 5}}, slots=50, window=50)
    rig.submit(client, group(1, 20, template=options("mail")))
    assert sum(g.count for g in rig.grants(host)) == 5
    order(rig, client, "pause_queue", name="mail")
    rig.sleep(3.0)
    order(rig, client, "resume_queue", name="mail")
    assert sum(g.count for g in rig.grants(host)) == 3
    for weight in (2.0, 3.0, 4.0):
        rig.now += 0.5
        order(rig, client, "set_queue", name="mail", changes={"weight": weight})
    assert sum(g.count for g in rig.grants(host)) == 1


def test_after_a_restart_the_rate_begins_with_nothing():
    rig, client, host = farm({"mail": {"rate": 1.0, "burst": 5}}, slots=50, window=50)
    rig.submit(client, group(1, 5, template=options("mail")))
    assert sum(g.count for g in rig.grants(host)) == 5
    rig.commit()
    rig.reload()
    client, host = rig.client(), rig.host(slots=50, window=50)
    rig.submit(client, group(6, 5, template=options("mail")))
    assert sum(g.count for g in rig.grants(host)) == 0
    rig.sleep(2.5)
    assert sum(g.count for g in rig.grants(host)) == 2


def test_a_packed_task_is_one():
    rig, client, host = farm({"mail": {"max_running": 1}}, slots=4, window=4)
    template = options("mail")
    rig.submit(client, packed(1, 100, template=template), packed(101, 100, template=template))
    (grant,) = rig.grants(host)
    assert (grant.first, grant.count) == (1, 100)
    rig.report(host, ended=[ended(grant, payloads=[b"all"], packed=True)], window=4)
    assert [g.first for g in rig.grants(host)] == [101]


# ---------------------------------------------------------------- policies


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"weight": 0}, "weight is 0"),
        ({"weight": float("nan")}, "weight is nan"),
        ({"max_tasks": 0}, "max_tasks is 0"),
        ({"max_running_per_key": -1}, "max_running_per_key is -1"),
        ({"rate": 0}, "rate is 0"),
        ({"ageing_seconds": 0}, "ageing_seconds is 0"),
        ({"options": {"retires": 1}}, "did you mean 'retries'"),
        ({"options": {"retries": "many"}}, "options: "),
        ({"options": {"soft_time_limit": 3.0, "time_limit": 2.0}}, "the soft one must come first"),
    ],
)
def test_a_wrong_policy_is_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        QueuePolicy(**wrong)


def test_a_queue_has_options_for_tasks_that_do_not_say():
    policy = QueuePolicy(options={"retries": 3, "time_limit": 5.0, "retry_on": ["OSError"]})
    queue = Queue("mail", policy, TURN)
    assert queue.template(None) == m.Template(retries=3, time_limit=5.0, retry_on=("OSError",))
    own = m.Template(priority=2, explicit=("retries",), soft_time_limit=9.0)
    merged = queue.template(own)
    assert (merged.priority, merged.retries, merged.retry_on) == (2, 0, ("OSError",))
    assert (merged.soft_time_limit, merged.time_limit) == (9.0, None)
    assert queue.template(own) is merged
    assert Queue("plain", QueuePolicy(), TURN).template(own) is own


def test_options_of_a_queue_are_kept_with_its_tasks():
    rig, client, host = farm({"mail": {"options": {"retries": 1}}}, slots=1, window=1)
    rig.submit(client, group(1, 1, template=options("mail")))
    (grant,) = rig.grants(host)
    rig.commit()
    plain = type(rig.settings)(reply_seconds=0.0, upkeep_seconds=0.0)
    rig.settings = plain  # the queue is configured no more
    rig.reload()
    (batch,) = rig.ledger.sessions[grant.session].batches
    assert (batch.template.retries, batch.queue.name) == (1, "mail")
    invariants.check(rig.core)
    client = rig.client()
    rig.submit(client, group(2, 1, template=options("mail")))
    (refused,) = [x for x in rig.take(client) if isinstance(x, m.Refused)]
    assert refused.reason == "queue"


def test_an_unknown_queue_is_refused_with_the_nearest():
    rig, client, _ = farm({"mail": {}})
    rig.submit(client, group(1, 2, template=options("mial")))
    (refused,) = [x for x in rig.take(client) if isinstance(x, m.Refused)]
    assert (refused.first, refused.count, refused.reason) == (1, 2, "queue")
    assert refused.message == "there is no queue 'mial'; did you mean 'mail'?"


# ---------------------------------------------------------------- bounds


def busy(rig, peer):
    found = [x for x in rig.take(peer) if isinstance(x, m.Refused | m.QueueCredit)]
    return [(x.first, x.count, x.queue) if isinstance(x, m.Refused) else x.tasks for x in found]


def test_a_queue_takes_exactly_what_fits():
    rig, client, host = farm({"mail": {"max_tasks": 5}}, slots=9, window=9)
    mail = options("mail")
    rig.submit(client, group(1, 3, template=mail), group(4, 4, template=mail), group(8, 4))
    assert busy(rig, client) == [(6, 2, "mail")]
    assert rig.ledger.queues.all["mail"].open_tasks == 5
    first = min(rig.grants(host), key=lambda grant: grant.first)
    rig.report(host, ended=[ended(first, hi=1)], window=9)
    assert busy(rig, client) == [1]
    rig.submit(client, group(6, 2, template=mail))
    assert busy(rig, client) == [(7, 1, "mail")]


def test_bytes_are_bounded_too_and_what_never_fits_is_refused_for_good():
    rig, client, _ = farm({"mail": {"max_bytes": 100}})
    mail, payloads = options("mail"), [b"x" * size for size in (60, 101, 30, 30)]
    rig.submit(client, group(1, 4, payloads=payloads, template=mail))
    found = [x for x in rig.take(client) if isinstance(x, m.Refused)]
    assert [(x.first, x.count, x.reason) for x in found] == [(2, 1, "too_large"), (4, 1, "busy")]
    assert rig.ledger.queues.all["mail"].open_bytes == 90


def test_clients_that_wait_share_the_room():
    rig, one, host = farm({"mail": {"max_tasks": 4}}, slots=9, window=9)
    two, mail = rig.client("two"), options("mail")
    rig.submit(one, group(1, 9, template=mail))
    rig.submit(two, group(1, 9, template=mail))
    assert (busy(rig, one), busy(rig, two)) == ([(5, 5, "mail")], [(1, 9, "mail")])
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant)], window=9)
    assert (busy(rig, one), busy(rig, two)) == ([2], [2])
    rig.submit(one, group(5, 2, template=mail))
    assert (busy(rig, one), busy(rig, two)) == ([2], [])  # who sends nothing reserves nothing
    rig.submit(two, group(1, 2, template=mail))
    rig.submit(one, group(7, 2, template=mail))
    assert (busy(rig, one), busy(rig, two)) == ([(7, 2, "mail")], [])


def test_the_outcome_frees_the_room_not_the_delivery():
    rig, client, host = farm({"mail": {"max_tasks": 1}}, slots=1, window=1)
    rig.submit(client, group(1, 1, template=options("mail")))
    (grant,) = rig.grants(host)
    report = m.Report(1, 1, [ended(grant, Ending.EXCEPTION)])
    rig.say(host, report)
    assert rig.ledger.queues.all["mail"].open_tasks == 1  # it is not committed
    rig.commit()
    assert rig.ledger.queues.all["mail"].open_tasks == 0


# ---------------------------------------------------------------- orders


def order(rig, peer, what, **arguments):
    """Tell a queue something; what is answered, once it is."""
    rig.say(peer, m.Query(1, what, arguments))
    early = [x for x in rig.take(peer) if isinstance(x, m.Answer)]
    rig.commit()
    late = [x for x in rig.take(peer) if isinstance(x, m.Answer)]
    return early, late


def test_a_pause_is_answered_when_it_is_durable_and_outlives_the_coordinator():
    rig, client, host = farm({"mail": {}}, slots=4, window=4)
    early, late = order(rig, client, "pause_queue", name="mail")
    assert early == []
    assert late[0].data == {"name": "mail", "paused": True, "set": {}}
    rig.reload()
    client, host = rig.client(), rig.host(slots=4, window=4)
    rig.submit(client, group(1, 2, template=options("mail")))
    assert rig.grants(host) == []
    early, late = order(rig, client, "resume_queue", name="mail")
    assert early == []
    assert late[0].data == {"name": "mail", "paused": False, "set": {}}
    assert sum(g.count for g in rig.grants(host)) == 2
    rig.commit()
    assert not [r for r in rig.disk.records.values() if b"mail" in r and b"\x18" in r[:3]]


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_a_queue_that_goes_on_does_so_after_a_crash_if_somebody_was_told(written):
    rig, client, _ = farm({"mail": {}})
    order(rig, client, "pause_queue", name="mail")
    rig.say(client, m.Query(2, "resume_queue", {"name": "mail"}))
    if written:
        rig.commit_part(written)
    told = [x for x in rig.take(client) if isinstance(x, m.Answer)]
    assert bool(told) is bool(written)
    rig.reload()
    assert rig.ledger.queues.all["mail"].paused is not bool(told)


def test_what_is_set_counts_until_it_is_reset():
    rig, client, host = farm({"mail": {"max_running": 1, "weight": 2.0}}, slots=9, window=9)
    rig.submit(client, group(1, 9, template=options("mail")))
    assert sum(g.count for g in rig.grants(host)) == 1
    changes = {"max_running": 3, "rate": None}
    _, (answer,) = order(rig, client, "set_queue", name="mail", changes=changes)
    assert answer.data["set"] == changes
    assert sum(g.count for g in rig.grants(host)) == 2
    order(rig, client, "set_queue", name="mail", changes={"weight": 4.0})
    rig.reload()
    mail = rig.ledger.queues.all["mail"]
    assert (mail.policy.max_running, mail.policy.weight) == (3, 4.0)
    client = rig.client()
    order(rig, client, "set_queue", name="mail", reset=True)
    assert (mail.policy.max_running, mail.policy.weight) == (1, 2.0)
    assert mail.ref == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_runing": 1}, "did you mean 'max_running'"),
        ({"max_tasks": 0}, "max_tasks is 0"),
        ({"weight": None}, "weight must be a number"),
        ({"weight": "much"}, "weight"),
        ({"rate": [1]}, "rate"),
        (3, "changes are 3"),
    ],
)
def test_a_wrong_order_changes_nothing_and_says_why(changes, says):
    rig, client, _ = farm({"mail": {}})
    (answer,), _ = order(rig, client, "set_queue", name="mail", changes=changes)
    assert says in answer.error
    assert rig.ledger.queues.all["mail"].policy == QueuePolicy()
    (answer,), _ = order(rig, client, "pause_queue", name="mial")
    assert "did you mean 'mail'" in answer.error


def test_a_purge_ends_what_waits_and_nothing_else():
    rig, client, host = farm({"mail": {}}, slots=2, window=2)
    mail = options("mail")
    rig.submit(client, group(1, 5, template=mail), group(11, 2))
    rig.submit(client, group(21, 2, template=options("mail", delay=60.0)))
    rig.take(client)
    running = {g.first + i for g in rig.grants(host) for i in range(g.count)}
    rig.say(client, m.Query(1, "purge_queue", {"name": "mail"}))
    rig.commit()
    sent = rig.take(client)
    ended_ = {
        result.first + i
        for message in sent
        if isinstance(message, m.Results)
        for result in message.entries
        for i in range(result.count)
        if result.ending is Ending.CANCELLED
    }
    assert ended_ == {1, 2, 3, 4, 5, 21, 22} - running
    (answer,) = [x for x in sent if isinstance(x, m.Answer)]
    assert answer.data == {"name": "mail", "purged": len(ended_)}


def test_a_purge_waits_until_it_is_known_what_runs():
    rig, client, host = farm({"mail": {}}, slots=2, window=2)
    rig.submit(client, group(1, 5, template=options("mail")))
    (grant,) = rig.grants(host)
    rig.commit()
    rig.reload()
    client = rig.client()
    rig.say(client, m.Query(1, "purge_queue", {"name": "mail"}))
    rig.commit()
    assert [x for x in rig.take(client) if isinstance(x, m.Answer)] == []
    claim = m.Claim(10, grant.lease, 1, grant.session, 1, 2, started=True)
    rig.host(slots=2, window=2, claims=[claim], commit=False)
    rig.commit()
    (answer,) = [x for x in rig.take(client) if isinstance(x, m.Answer)]
    assert answer.data["purged"] == 3


def test_more_room_is_told_to_those_that_wait():
    rig, client, _ = farm({"mail": {"max_tasks": 1}})
    rig.submit(client, group(1, 5, template=options("mail")))
    assert busy(rig, client) == [(2, 4, "mail")]
    rig.say(client, m.Query(1, "set_queue", {"name": "mail", "changes": {"max_tasks": 4}}))
    assert busy(rig, client) == [3]


# ---------------------------------------------------------------- what is said of them


def why(rig, client, number):
    task = TaskId(session_id("alice"), number)
    rig.say(client, m.Query(7, "explain", {"id": str(task)}))
    (answer,) = [x for x in rig.take(client) if isinstance(x, m.Answer)]
    return answer.data["why"]


def test_explain_says_what_keeps_a_task_back():
    policies = {
        "paused": {},
        "few": {"max_running": 1},
        "slow": {"rate": 0.5},
        "keyed": {"max_running_per_key": 1},
    }
    rig, client, _ = farm(policies, slots=9, window=9)
    order(rig, client, "pause_queue", name="paused")
    key = {"concurrency_key": "a"}
    for first, name in zip((1, 11, 21, 31), policies, strict=True):
        more = key if name == "keyed" else {}
        rig.submit(client, group(first, 3, template=options(name, **more)))
    rig.take(client)
    said = {name: why(rig, client, 3 + 10 * i) for i, name in enumerate(policies)}
    assert "2 tasks of its queue paused go first" in said["paused"]
    assert "its queue is paused; go on with: farm queues resume paused" in said["paused"]
    assert "of its queue 1 run, and 1 may at a time" in said["few"]
    assert "its queue may start 0.5 tasks a second; the next in 2 s" in said["slow"]
    assert "of its key 'a' 1 run, and 1 may at a time" in said["keyed"]


def test_the_numbers_of_a_queue_and_littles_law():
    rig, client, host = farm({"mail": {}}, slots=4, window=4)
    rig.submit(client, group(1, 4, template=options("mail")))
    rig.tick(1.0)
    (grant,) = rig.grants(host)
    rig.tick(3.0)
    rig.report(host, ended=[ended(grant)], window=4)
    rig.tick(4.0)
    rig.say(client, m.Query(1, "queues", {}))
    (answer,) = [x for x in rig.take(client) if isinstance(x, m.Answer)]
    mail = next(row for row in answer.data if row["name"] == "mail")
    assert (mail["arrived"], mail["placed"], mail["ended"], mail["waiting"]) == (4, 4, 4, 0)
    assert mail["arrival_rate"] == mail["service_rate"] == pytest.approx(0.5)
    little = mail["little"]
    assert little["mean_open"] == pytest.approx(2.0)
    assert little["mean_seconds"] == pytest.approx(4.0)
    assert little["arrival_rate_times_seconds"] == pytest.approx(2.0)


def test_waits_are_told_within_a_tenth():
    meter = Meter()
    for wait in (0.01, 0.01, 0.01, 2.0):
        meter.place(1, wait, 10.0)
    meter.place(50, None, 10.0)  # not the first time: nobody knows since when
    numbers = meter.numbers(20.0)
    assert numbers["wait_p50"] == pytest.approx(0.01, rel=0.1)
    assert numbers["wait_p99"] == pytest.approx(2.0, rel=0.1)
    assert Meter().numbers(1.0)["wait_p50"] is None


def test_numbers_are_of_the_last_minute():
    meter = Meter()
    meter.arrive(100, 1.0)
    meter.arrive(3, 40.0)
    assert meter.numbers(60.0)["arrival_rate"] == pytest.approx(103 / 60)
    meter.arrive(3, 75.0)
    assert meter.numbers(80.0)["arrival_rate"] == pytest.approx(6 / 40)
