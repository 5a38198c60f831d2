"""The fuse of a worker and the agent's side of it, on groups that are folders of files."""

import errno
import time

import pytest

from farm.protocol.messages import PAYLOAD_BYTES_MAX
from farm_workers import cgroups
from farm_workers.cgroups import Place
from farm_workers.channel import Setup
from farm_workers.fuse import Fuse, margin
from farm_workers.fuses import Fuses
from farm_workers.host_slices import Slice
from farm_workers.outcomes import Dumped, Outcomes
from farm_workers.worker import Worker

MIB = 1 << 20


class FakeGroup:
    """A group that writes down what is done to it; ``cache`` is what it could give back."""

    def __init__(self):
        self.done = []
        self.used = self.cache = 0
        self.broken = ()
        self.kills, self.reached = 0, False

    def __getattr__(self, name):
        def do(*arguments):
            if name in self.broken:
                raise OSError(errno.EBUSY, name)
            self.done.append((name, *arguments))
            self.reached &= name != "watch"

        return do

    def ooms(self):
        return self.kills, self.reached

    def usage(self):
        return self.used

    def floor(self):
        self.done.append(("floor",))
        return self.used - self.cache

    def take(self):
        done, self.done = self.done, []
        return done


def limits(group):
    return [arguments[0] for name, *arguments in group.take() if name == "limit"]


def test_the_fuse_is_a_margin_above_the_limit():
    group = FakeGroup()
    Fuse(group).set(100 * MIB)
    done = [("make",), ("enter",), ("floor",), ("limit", 164 * MIB), ("watch",)]
    assert group.take() == done
    assert [margin(size * MIB) // MIB for size in (1, 256, 1024)] == [64, 64, 256]


def test_a_process_enters_its_group_once_and_only_for_a_limit():
    group = FakeGroup()
    fuse = Fuse(group)
    fuse.set(None)
    assert group.take() == []
    for _ in range(3):
        fuse.set(100 * MIB)
    assert [name for name, *_ in group.take()] == ["make", "enter", "floor", "limit", "watch"]


def test_a_task_without_a_limit_is_free_of_that_of_the_one_before():
    group = FakeGroup()
    fuse = Fuse(group)
    fuse.set(100 * MIB)
    fuse.set(None)
    fuse.set(None)
    fuse.set(100 * MIB)
    assert limits(group) == [164 * MIB, -1, 164 * MIB]


def test_a_task_does_not_pay_for_what_is_charged_already():
    group = FakeGroup()
    fuse = Fuse(group)
    fuse.set(100 * MIB)
    group.used = 300 * MIB  # of that, pages of files make room by themselves
    group.cache = 200 * MIB
    fuse.set(100 * MIB)
    group.used = group.cache = 0  # and what is gone leaves no room for more
    fuse.set(100 * MIB)
    assert limits(group) == [164 * MIB, 264 * MIB, 164 * MIB]


def test_counters_are_read_only_if_there_is_something_new():
    group = FakeGroup()
    fuse = Fuse(group)
    fuse.set(100 * MIB)
    group.take()
    group.used = 30 * MIB
    fuse.set(100 * MIB)
    assert group.take() == []


def test_the_result_of_a_task_has_room_as_a_file_in_memory():
    group = FakeGroup()
    fuse = Fuse(group)
    fuse.widen()
    fuse.set(100 * MIB)
    fuse.widen()
    fuse.set(100 * MIB)
    assert limits(group) == [164 * MIB, 164 * MIB + PAYLOAD_BYTES_MAX, 164 * MIB]


def test_a_fuse_that_is_blown_is_not_made_wider():
    group = FakeGroup()
    fuse = Fuse(group)
    fuse.set(100 * MIB)
    group.kills, group.reached = 1, True
    group.take()
    fuse.widen()
    assert group.take() == []
    assert fuse.is_blown
    assert group.reached  # for the agent, which looks when the process is gone


@pytest.mark.parametrize("broken", ["make", "enter", "limit", "watch"])
def test_a_group_that_does_not_work_is_left_alone(broken):
    group = FakeGroup()
    group.broken = {broken}
    fuse = Fuse(group)
    fuse.set(100 * MIB)
    assert not fuse.held
    group.take()
    fuse.set(200 * MIB)
    fuse.widen()
    fuse.set(None)
    assert group.take() == []


def test_a_limit_that_cannot_be_lowered_is_not_kept_for_others():
    group = FakeGroup()
    fuse = Fuse(group)
    fuse.set(100 * MIB)
    group.watch = lambda: (_ for _ in ()).throw(OSError(errno.EBUSY, "busy"))
    fuse.set(50 * MIB)
    assert limits(group) == [164 * MIB, 114 * MIB, -1]


def test_a_process_of_its_group_that_the_kernel_ended_is_told_once():
    group = FakeGroup()
    found = [(0, False), (1, False), (1, True), (3, True), (3, True)]
    fuse = Fuse(group)
    group.ooms = lambda: found.pop(0)
    assert not fuse.is_blown  # there is no limit
    fuse.set(100 * MIB)
    # Nothing; one for want of memory elsewhere, and not again with the limit; then two for it.
    assert [fuse.is_blown for _ in range(5)] == [False, False, False, True, False]
    group.ooms = lambda: (_ for _ in ()).throw(FileNotFoundError)
    assert not fuse.is_blown


def test_without_a_group_nothing_happens():
    fuse = Fuse(None)
    fuse.set(100 * MIB)
    fuse.widen()
    fuse.set(None)
    assert not fuse.held
    assert not fuse.is_blown


# ---------------------------------------------------------------- the agent's side


@pytest.fixture
def fuses(tmp_path):
    place = Place(2, str(tmp_path))
    made = Fuses(place, cgroups.own_group(place))
    (tmp_path / "cgroup.subtree_control").write_text("memory")
    yield made
    made.close()


def worker_in(folder, *, oom=0, kills=0):
    """What a worker and the kernel leave in a group."""
    (folder / "memory.events").write_text(f"oom {oom}\noom_kill {kills}\n")


def prepared(fuses, tmp_path, monkeypatch):
    monkeypatch.setattr(cgroups, "prepare", lambda _, base: cgroups.Path(base).mkdir(exist_ok=True))
    version, folder = fuses.setup(3, Setup("h")).group
    assert version == 2
    assert folder.startswith(f"{tmp_path}/farm-")
    fuses.begin(3)
    group = cgroups.Path(folder)
    group.mkdir()
    return group


def test_without_a_place_there_is_nothing():
    fuses = Fuses(None)
    assert fuses.says == "sampled"
    assert fuses.base == ""
    assert fuses.setup(0, Setup("h")) == Setup("h")
    fuses.begin(0)
    assert not fuses.blown(0)
    fuses.end(0)
    fuses.close()


def test_nothing_is_made_until_a_task_has_a_limit(fuses, tmp_path):
    fuses.setup(0, Setup("h"))
    fuses.end(0)
    assert fuses.says == "cgroup v2"
    assert [path.name for path in tmp_path.iterdir()] == ["cgroup.subtree_control"]


def test_what_the_kernel_ends_for_the_limit_is_told(fuses, tmp_path, monkeypatch):
    group = prepared(fuses, tmp_path, monkeypatch)
    assert not fuses.blown(3)  # the worker has not come to its group yet
    worker_in(group)
    assert not fuses.blown(3)
    worker_in(group, oom=1, kills=2)
    assert fuses.blown(3)
    assert fuses.blown(3)  # until its worker is gone
    fuses.end(3)
    fuses.setup(3, Setup("h"))
    assert not fuses.blown(3)


def test_what_was_ended_for_others_is_not_blamed_on_a_later_limit(fuses, tmp_path, monkeypatch):
    group = prepared(fuses, tmp_path, monkeypatch)
    worker_in(group, kills=1)  # the machine ran out of memory
    assert not fuses.blown(3)
    worker_in(group, oom=1, kills=1)
    assert not fuses.blown(3)


def test_where_no_group_can_be_made_there_are_only_samples(fuses, caplog):
    fuses.setup(0, Setup("h"))
    fuses.begin(0)  # these files are no cgroups
    fuses.begin(0)
    assert not fuses.blown(0)
    assert caplog.text.count("only sampled") == 1
    fuses.end(0)


def test_the_group_is_locked_and_goes_with_its_worker(fuses, tmp_path, monkeypatch):
    group = prepared(fuses, tmp_path, monkeypatch)
    assert cgroups.lock(fuses.base) == -1
    fuses.end(3)
    assert not group.exists()
    fuses.close()
    assert not cgroups.Path(fuses.base).exists()


def test_a_group_whose_processes_are_not_gone_goes_later(fuses, tmp_path, monkeypatch):
    group = prepared(fuses, tmp_path, monkeypatch)
    (group / "busy").touch()
    fuses.end(3)
    assert group.exists()
    (group / "busy").unlink()
    fuses.setup(3, Setup("h"))
    fuses.begin(3)
    fuses.end(3)
    assert not group.exists()


@pytest.mark.parametrize(
    ("limit", "value", "widened"),
    [(100 * MIB, b"bytes", 1), (100 * MIB, "text", 1), (100 * MIB, 7, 0), (None, b"bytes", 0)],
)
def test_the_fuse_is_widened_for_whatever_an_item_returns_that_may_be_large(limit, value, widened):
    group = FakeGroup()
    worker = Worker.__new__(Worker)
    worker._words, worker._urgent, worker._part = [0] * 4, False, None
    worker._clock = time.monotonic_ns
    worker._fuse = Fuse(group)
    worker._outcomes = Outcomes([], lambda: False)
    worker._outcomes.blobs = object()
    worker._dump = lambda value: value
    worker._fuse.set(limit)
    limits(group)
    call = {"first": 1, "count": 1, "function": b"f", "payloads": []}
    part = Slice((1, 1), 1, b"s" * 16, **call, packed=True, memory_limit=limit)
    assert worker._run_packed(part, lambda one: one, [value], bare=True) == 1
    assert len(limits(group)) == widened
    assert [type(one) for one in worker._outcomes.entries] == [Dumped if widened else type(value)]
