"""Tasks that are leased and given back for ever: what is written of it stays little, and enough."""

from collections import Counter

import pytest

from farm.core import rows
from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol import records as r
from farm.store import Append, Delete
from farm.store.sqlite import SqliteStore
from tests.unit.core_harness import Rig, claim, ended, group, key, packed
from tests.unit.core_journal import Disk

ONCE = m.Template(max_losses=0)
FEW = 10
PRUNED_SECONDS = 1.0


class StoredDisk(Disk):
    """What is committed, in a real store, too."""

    def __init__(self, path):
        super().__init__()
        self.store = SqliteStore(path)
        self.store.open(0, 1)

    def apply(self, change):
        super().apply(change)
        match change:
            case ("append", ref, data):
                self.store.commit([Append(ref, r.decode_record(data))])
            case ("delete", refs):
                self.store.commit([Delete(refs)])

    def again(self):
        """What another process would find."""
        self.store.close()
        self.store.open(0, 2)
        self.records = {ref: r.encode_record(one) for ref, one in self.store.records()}


def kinds(rig):
    return Counter(type(r.decode_record(data)).__name__ for data in rig.disk.records.values())


def given_back(rig, host, grant, times, *, every=1):
    """A host gives a task back so often; the last grant. Now and then there is time to prune."""
    for number in range(times):
        rig.report(host, window=1, returned=[key(grant, epoch=rig.epoch)])
        (grant,) = rig.grants(host)
        if number % every == every - 1:
            rig.tick(PRUNED_SECONDS)
            rig.tick(PRUNED_SECONDS)
            rig.commit()
    return grant


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(rows, "REPEATS", FEW)


def leased(*groups, **settings):
    """A farm whose only host, with one slot, has the first of these tasks."""
    rig = Rig(**settings)
    client, host = rig.client(), rig.host(slots=1, window=1)
    rig.submit(client, *groups)
    (grant,) = rig.grants(host)
    return rig, client, host, grant


def test_a_store_stays_small_while_a_task_that_runs_once_is_given_back(tmp_path, few):
    rig = Rig(lease_seconds=1e6)
    rig.disk = StoredDisk(tmp_path / "farm.db")
    client, host = rig.client(), rig.host(slots=1, window=1)
    rig.submit(client, packed(1, 3, template=ONCE))
    (grant,) = rig.grants(host)
    for _ in range(10):
        grant = given_back(rig, host, grant, 20, every=20)
        assert len(rig.disk.records) <= FEW + 2 * 20 + 20
    rig.disk.again()
    assert len(rig.disk.records) <= FEW + 2 * 20 + 20
    rig.reload()
    rig.host("other")
    rig.sleep(6)
    client = rig.client(quiet=False)
    rig.answer_loads()
    assert {one.ending for one in rig.results(client)} == {Ending.LOST}
    rig.disk.store.close()


@pytest.mark.parametrize("comes", [True, False])
def test_what_may_have_begun_is_said_again(few, comes):
    rig, _, host, grant = leased(group(1, 1, template=ONCE))
    grant = given_back(rig, host, grant, 40)
    said = kinds(rig)
    assert said["Begun"] + said["AttemptsEnded"] <= FEW + 10
    rig.reload()
    claims = [claim(grant, epoch=rig.epoch - 1)]
    host = rig.host(claims=claims) if comes else rig.host("other")
    client = rig.client(quiet=False)
    if comes:  # it goes on there
        rig.report(host, ended=[ended(grant, epoch=rig.epoch - 1)])
    rig.sleep(6)
    rig.answer_loads()
    ending = Ending.OK if comes else Ending.LOST
    assert [one.ending for one in rig.results(client)] == [ending]


def test_what_was_given_back_last_runs_after_a_restart(few):
    rig, _, host, grant = leased(group(1, 1, template=ONCE))
    grant = given_back(rig, host, grant, 40)
    rig.report(host, window=0, returned=[key(grant)])
    attempt = grant.attempt
    for _ in range(2):
        rig.sleep(2.0)
        rig.reload()
    host = rig.host()
    rig.sleep(6)
    (grant,) = rig.grants(host)
    assert grant.attempt > attempt


def test_other_leases_of_the_same_record_are_said_again(few):
    rig = Rig(lease_seconds=1e6)
    client, one, two = rig.client(), rig.host("one", slots=1, window=1), rig.host("two", slots=1)
    rig.submit(client, group(1, 2, template=ONCE))
    (grant,) = rig.grants(one)
    assert len(rig.grants(two)) == 1
    given_back(rig, one, grant, 40)
    assert kinds(rig)["Begun"] <= FEW + 10
    rig.reload()
    client = rig.client(quiet=False)
    rig.sleep(6)
    rig.answer_loads()
    assert [one.ending for one in rig.results(client)] == [Ending.LOST] * 2


@pytest.mark.parametrize("changes", range(4))
def test_a_store_that_has_grown_is_made_small_and_a_death_meanwhile_changes_nothing(few, changes):
    """What is said anew is of tasks that wait for their host: it may come, and claim them."""
    rig, _, host, grant = leased(group(1, 1, template=ONCE))
    with pytest.MonkeyPatch.context() as before:
        before.setattr(rows, "REPEATS", 1000)
        given_back(rig, host, grant, 40)
    assert kinds(rig)["Begun"] == 41
    rig.reload()
    for _ in range(2):
        rig.tick(PRUNED_SECONDS)
    rig.reload(commit=changes)
    for _ in range(2):
        rig.tick(PRUNED_SECONDS)
    rig.commit()
    assert kinds(rig)["Begun"] <= 2
    client = rig.client(quiet=False)
    rig.sleep(6)
    rig.answer_loads()
    assert [one.ending for one in rig.results(client)] == [Ending.LOST]


@pytest.mark.parametrize("template", [ONCE, None])
def test_of_a_named_job_of_which_a_part_is_done_no_more_is_kept(few, template):
    rig = Rig(lease_seconds=1e6)
    client, host = rig.client(), rig.host(slots=1, window=1)
    rig.say(client, m.JobOpen(1, "nightly"))
    rig.submit(client, group(1, 2, job=1, template=template))
    (grant,) = rig.grants(host)
    rig.report(host, window=1, ended=[ended(grant, payloads=[b"kept"])])
    rig.say(client, m.Taken(10_000))
    (grant,) = rig.grants(host)
    given_back(rig, host, grant, 40)
    assert kinds(rig)["AttemptsEnded"] + kinds(rig)["Begun"] <= FEW + 20
    rig.reload()
    reader = rig.client("bob", quiet=False)
    rig.say(reader, m.Attach(5, [], "nightly"))
    rig.answer_loads()
    assert [list(one.payloads) for one in rig.results(reader)] == [[b"kept"]]


# ---------------------------------------------------------------- in memory

ITEMS = 2_000


def the_batch(rig):
    (session,) = rig.ledger.sessions.values()
    (batch,) = session.batches
    return batch


def objects(batch):
    """How many objects say what is special about the attempts of its tasks."""
    return len(set(map(id, batch.diverged.values())))


@pytest.mark.parametrize("template", [ONCE, m.Template(max_losses=2)])
def test_items_that_are_given_back_together_have_one_object(few, template):
    rig, _, host, grant = leased(packed(1, ITEMS, template=template))
    for _ in range(3):
        grant = given_back(rig, host, grant, 1)
        assert objects(the_batch(rig)) == 1
    assert grant.count == ITEMS
    assert grant.attempt == 4
    given_back(rig, host, grant, 20)
    rig.reload()
    batch = the_batch(rig)
    assert objects(batch) == 1
    assert batch.attempt(0) == batch.attempt(ITEMS - 1) == 24


def test_what_becomes_of_one_is_not_said_of_the_others():
    rig, _, host, grant = leased(packed(1, 5, template=m.Template(max_losses=2, retries=1)))
    grant = given_back(rig, host, grant, 1)
    lost = ended(grant, Ending.LOST, lo=1, hi=2)
    failed = ended(grant, Ending.EXCEPTION, lo=2, hi=3)
    rig.report(host, window=0, ended=[lost, failed], returned=[key(grant, lo=3)])
    for _ in range(2):
        own = the_batch(rig).diverged
        assert [own[index].attempt for index in range(5)] == [2, 3, 3, 3, 3]
        assert [own[index].losses for index in range(5)] == [0, 1, 0, 0, 0]
        assert [own[index].retries for index in range(5)] == [0, 0, 1, 0, 0]
        assert own[3] is own[4]
        rig.reload()


def test_a_loss_that_is_given_back_was_of_one_alone():
    rig, _, host, grant = leased(packed(1, 4, template=m.Template(max_losses=2)))
    rig.report(host, window=0, started=[key(grant)])
    rig.say(host, m.Bye("gone"))
    rig.commit()
    rig.reload()
    batch = the_batch(rig)
    assert [batch.diverged[index].losses for index in range(4)] == [1] * 4
    rig.core.endings.restore_loss(batch, 2, b"host".ljust(16, b"-"))
    assert [batch.diverged[index].losses for index in range(4)] == [1, 1, 0, 1]


class NotWalked(dict):
    """Whoever looks at all of it, to find one, is too slow for tens of thousands."""

    def __iter__(self):
        raise AssertionError("all were looked at")

    items = keys = values = __iter__


def test_the_end_of_one_item_looks_at_no_other():
    rig, _, host, grant = leased(packed(1, 5))
    rig.report(host, window=0, returned=[key(grant)])
    batch = the_batch(rig)
    batch.diverged = NotWalked(batch.diverged)
    rig.core.endings.cancel(batch, 1, 4)
    batch.diverged = {index: batch.diverged[index] for index in (0, 4)}
    rig.commit()
    assert batch.open == 2
