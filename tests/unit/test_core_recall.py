"""Recall: what waits on one host is taken back when another has a free slot."""

from farm.core.policy import QueuePolicy
from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import Rig, claim, ended, group, key, packed

PATIENCE = 0.1
LATER = PATIENCE + 0.01


class Farm:
    """A host that holds more than it can run, and another one that comes to have nothing to do.

    Tasks from 1 on are known to be short. ``left`` was given out to the host ``busy``.
    """

    def __init__(self, count=8, *, template=None, packs=0, **settings):
        self.rig = rig = Rig(**settings)
        self.client = rig.client()
        self.busy = rig.host("busy", slots=2, window=10)
        rig.submit(self.client, group(1000, 1))
        (grant,) = rig.grants(self.busy)
        rig.report(self.busy, ended=[ended(grant, seconds=0.001)], window=10)
        rig.take()
        if packs:
            rig.submit(self.client, *(packed(1 + i * packs, packs) for i in range(count)))
        else:
            rig.submit(self.client, group(1, count, template=template))
        self.left = rig.grants(self.busy)
        self.idle = rig.host("idle", slots=2, window=2)
        rig.take()
        self.number = 1

    def wait(self, seconds=LATER):
        """Let time pass; what is asked of whom since then."""
        self.rig.sleep(seconds)
        return self.recalls()

    def recalls(self):
        return [(p, one.runs) for p, one in self.rig.take() if isinstance(one, m.Recall)]

    def report(self, peer, window=10, **more):
        self.number += 1
        self.rig.report(peer, number=self.number, window=window, **more)


def test_what_has_not_begun_is_asked_back_for_an_idle_host_the_last_first():
    farm = Farm()
    assert [(g.first, g.count) for g in farm.left] == [(1, 8)]
    lease = farm.left[0].lease
    assert farm.wait() == [(farm.busy, [(10, lease, 7, 2)])]


def test_nothing_is_asked_back_before_it_has_waited_for_a_while():
    farm = Farm()
    assert farm.wait(PATIENCE - 0.01) == []
    assert farm.rig.core.next_deadline() <= farm.rig.now + 0.011
    assert len(farm.wait(0.02)) == 1


def test_a_slow_line_is_waited_for():
    farm = Farm()
    farm.rig.say(farm.busy, m.Beat(load={"round_trip": 0.05}))
    assert farm.wait(0.49) == []
    assert len(farm.wait(0.02)) == 1


def test_what_is_given_back_goes_to_the_idle_host_and_spends_nothing():
    farm = Farm()
    farm.wait()
    farm.report(farm.busy, returned=[key(farm.left[0], lo=6, hi=8)])
    (grant,) = farm.rig.grants(farm.idle)
    assert (grant.first, grant.count, grant.attempt) == (7, 2, 2)
    ends = [
        end
        for data in farm.rig.disk.records.values()
        if isinstance(one := r.decode_record(data), r.AttemptsEnded)
        for end in one.entries
    ]
    assert [(e.first, e.count, e.attempt, e.retries, e.losses) for e in ends] == [(7, 2, 2, 0, 0)]
    assert farm.rig.ledger.counters["recalled"] == 2


def test_the_end_of_the_attempt_is_committed_before_another_host_has_it():
    farm = Farm()
    farm.wait()
    farm.report(farm.busy, returned=[key(farm.left[0], lo=6, hi=8)], commit=False)
    assert farm.rig.take() == []
    farm.rig.tick(1.0)  # nor is more asked for meanwhile
    assert farm.rig.take() == []
    farm.rig.commit()
    assert len(farm.rig.grants(farm.idle)) == 1


def test_an_outcome_under_the_token_of_what_was_given_back_is_dropped():
    farm = Farm()
    farm.wait()
    farm.report(farm.busy, returned=[key(farm.left[0], lo=6, hi=8)])
    farm.report(farm.busy, ended=[ended(farm.left[0], lo=6, hi=8)])
    assert farm.rig.results(farm.client) == []
    (grant,) = farm.rig.grants(farm.idle)
    farm.report(farm.idle, window=2, ended=[ended(grant)])
    assert [(x.first, x.count) for x in farm.rig.results(farm.client)] == [(7, 2)]


def test_what_has_begun_stays_and_the_host_is_asked_again_for_what_else_waits():
    farm = Farm()
    farm.wait()
    farm.report(farm.busy, started=[key(farm.left[0], lo=6, hi=8)])
    assert farm.recalls() == [(farm.busy, [(10, farm.left[0].lease, 5, 2)])]


def test_a_host_is_not_asked_again_before_it_has_answered():
    farm = Farm()
    assert len(farm.wait()) == 1
    assert farm.wait(5.0) == []
    farm.report(farm.busy, returned=[key(farm.left[0], lo=6, hi=7)])
    assert farm.recalls() == []


def test_no_more_is_asked_back_than_others_have_slots_if_it_may_be_long():
    farm = Farm(2, short_seconds=1.0)
    farm.rig.report(farm.busy, window=0, number=9)  # it wants nothing: what waits there is too much
    assert farm.wait() == [(farm.busy, [(10, farm.left[0].lease, 1, 2)])]


def test_a_host_keeps_its_share_of_what_it_wants():
    farm = Farm(10)
    farm.rig.host("second", slots=2, window=100)
    farm.rig.take()
    (recall,) = farm.wait()
    # 8 wait there; two idle hosts of two slots each against its own two: their part is two thirds.
    assert recall == (farm.busy, [(10, farm.left[0].lease, 5, 6)])


def test_all_that_a_host_does_not_want_goes():
    farm = Farm(10)
    farm.rig.host("second", slots=2, window=100)
    farm.report(farm.busy, window=2)
    farm.rig.take()
    assert farm.wait() == [(farm.busy, [(10, farm.left[0].lease, 3, 8)])]


def test_a_packed_task_is_asked_back_whole():
    farm = Farm(4, packs=5)
    assert [(g.first, g.count) for g in farm.left] == [(1, 5), (6, 5), (11, 5), (16, 5)]
    ((peer, runs),) = farm.wait()
    assert peer == farm.busy
    assert runs == [(10, farm.left[3].lease, 16, 5)]


def test_nobody_is_asked_while_there_is_no_free_slot_or_something_is_queued():
    farm = Farm()
    farm.rig.submit(farm.client, group(100, 2))  # they take the free slots
    assert len(farm.rig.grants(farm.idle)) == 1
    assert farm.wait() == []


def test_a_host_that_can_run_all_it_holds_is_not_asked():
    farm = Farm(2)
    assert farm.wait(5.0) == []
    assert farm.rig.core.recalls.due == float("inf")


def test_tasks_of_a_queue_that_limits_what_runs_are_let_alone():
    farm = Farm(queues={"default": QueuePolicy(max_running=8)})
    assert sum(g.count for g in farm.left) == 2  # only free slots are given such tasks
    farm.report(farm.busy, window=0)
    assert farm.wait() == []


def test_nobody_is_asked_while_the_store_takes_nothing():
    farm = Farm()
    farm.rig.core.on_short("the disk is full", farm.rig.now)
    assert farm.wait() == []
    farm.rig.core.on_short("", farm.rig.now)
    assert len(farm.wait(0.0)) == 1


def test_a_host_that_comes_back_may_be_asked_again():
    farm = Farm()
    farm.wait()
    claims = [m.Claim(10, g.lease, 1, g.session, g.first, g.count, False) for g in farm.left]
    farm.rig.drop(farm.busy)
    farm.busy = farm.rig.host("busy", slots=2, window=10, claims=claims)
    assert [peer for peer, _ in farm.wait()] == [farm.busy]


def test_a_cancel_and_a_recall_of_the_same_tasks_are_both_answered():
    farm = Farm()
    farm.wait()
    session = farm.left[0].session
    farm.rig.say(farm.client, m.Cancel(1, [(session, 8, 1)]))
    farm.report(farm.busy, returned=[key(farm.left[0], lo=6, hi=8)])
    (reply,) = farm.rig.of(m.CancelReply)
    assert reply.cancelled == [(session, 8, 1)]
    farm.rig.report(farm.busy, number=99, window=10)
    assert farm.rig.ledger.hosts.all["idle"].held == 1


def test_what_never_runs_twice_comes_back_unbegun_and_is_written_down_again():
    farm = Farm(template=m.Template(max_losses=0))
    assert [(g.first, g.count, g.alone) for g in farm.left] == [(1, 8, True)]
    ((_, runs),) = farm.wait()
    farm.report(farm.busy, returned=runs)
    (grant,) = farm.rig.grants(farm.idle)
    assert (grant.first, grant.count, grant.attempt, grant.alone) == (7, 2, 2, True)


def expiring():
    """A host with two slots, and four short tasks on it that expire in 5 s."""
    rig = Rig(lease_seconds=60.0)
    client, host = rig.client(), rig.host("busy", slots=2, window=10)
    rig.submit(client, group(1000, 1))
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant, seconds=0.001)], window=10)
    rig.submit(client, group(1, 4, template=m.Template(expires=5.0)))
    (grant,) = rig.grants(host)
    rig.take()
    return rig, client, host, grant


def test_what_waits_on_a_host_when_it_expires_is_asked_back_and_ends():
    rig, client, host, grant = expiring()
    rig.report(host, number=2, window=10, started=[key(grant, hi=2)])
    rig.take()
    rig.sleep(5.5)
    asked = [one.runs for _, one in rig.take() if isinstance(one, m.Recall)]
    assert asked == [[(10, grant.lease, 3, 2)]]
    rig.sleep(1)  # the word was lost, perhaps
    asked = [one.runs for _, one in rig.take() if isinstance(one, m.Recall)]
    assert asked == [[(10, grant.lease, 3, 2)]]
    rig.report(host, number=3, window=10, returned=[key(grant, lo=2)])
    rig.sleep(1)
    found = [(e.first, e.count, e.ending) for e in rig.results(client)]
    assert found == [(3, 2, Ending.EXPIRED)]
    assert rig.ledger.expiries.due == float("inf")


def test_what_expires_on_a_host_that_is_away_is_asked_back_when_it_is_here():
    rig, _, host, grant = expiring()
    rig.drop(host)
    rig.sleep(6)
    rig.host("busy", slots=2, window=10, claims=[claim(grant, started=False)])
    rig.sleep(2)
    asked = [one.runs for _, one in rig.take() if isinstance(one, m.Recall)]
    assert asked[0] == [(10, grant.lease, 1, 4)]
