"""Random trees of tasks on one host: no parent starves its children, whatever begins first."""

from random import Random

import pytest

from farm.model import deepest_wait, lendable
from farm.protocol.messages import Noted, Report
from tests.unit.host_rig import Rig

TASKS_MAX = 150
STEPS_MAX = 5000


class Task:
    """``below``: how many tasks it waits for; None as long as it has submitted none."""

    def __init__(self, depth, parent=None):
        self.depth = depth
        self.parent = parent
        self.below = None


class World:
    """A host, the tasks that are queued for it, and a coordinator that keeps to what it says."""

    def __init__(self, seed):
        self.chance = Random(seed)
        self.slots = self.chance.randint(1, 3)
        self.max_lent = self.chance.choice([1, 2, 5, 12])
        self.rig = Rig(slots=self.slots, max_lent=self.max_lent)
        self.queued = [Task(0) for _ in range(12)]
        self.held = {}  # tasks by lease
        self.running = {}  # slots and slices, by lease
        self.made = 0
        self.window, self.waiting = self.slots, 0

    def run(self):
        for _ in range(STEPS_MAX):
            self.hear(self.rig.all(0.001))
            self.place()
            if not self.held and not self.queued:
                return
            self.work()
        raise AssertionError(f"{len(self.queued)} tasks wait, {len(self.held)} are held for ever")

    def hear(self, calls):
        for name, *rest in calls:
            if name == "spawn":
                self.rig.host.on_worker_ready(rest[0], self.rig.now)
                self.hear(self.rig.take())
            elif name == "run":
                self.running[rest[1].key[1]] = tuple(rest)
            elif name == "send" and isinstance(rest[0], Report):
                self.window, self.waiting = rest[0].window, rest[0].waiting
                self.queued += [self.held.pop(lease) for _, lease, _, _ in rest[0].returned]
                self.rig.host.receive(Noted(rest[0].number, 0), self.rig.now)
        busy = [slot for slot in self.rig.host._work.roster.slots if slot.pipe]
        assert len(busy) <= self.slots + self.max_lent

    def place(self):
        """Lease what there is room for: mostly the deepest first, but not always."""
        self.chance.shuffle(self.queued)
        if self.chance.random() < 0.8:
            self.queued.sort(key=lambda task: -task.depth)
        for task in list(self.queued):
            kept = max(0, self.waiting - lendable(self.max_lent, task.depth))
            if self.window - len(self.held) - kept > 0:
                self.queued.remove(task)
                self.made += 1
                self.held[self.made] = task
                self.hear(self.rig.assign(lease=self.made, first=self.made, depth=task.depth))

    def work(self):
        """One of the tasks that can go on does: it ends, or submits others and waits for them."""
        ready = [lease for lease in self.running if not self.held[lease].below]
        if not ready:
            return
        lease = self.chance.choice(ready)
        task, (slot, part) = self.held[lease], self.running[lease]
        may_wait = task.below is None and task.depth < deepest_wait(self.max_lent)
        if may_wait and self.made < TASKS_MAX and self.chance.random() < 0.6:
            task.below = self.chance.randint(1, 4)
            self.queued += [Task(task.depth + 1, task) for _ in range(task.below)]
            self.rig.host.on_worker_waits(slot, part.offset, self.rig.now, begins=True)
            self.hear(self.rig.take())
            return
        if task.below == 0:
            self.rig.host.on_worker_waits(slot, part.offset, self.rig.now, begins=False)
            self.hear(self.rig.take())
        del self.held[lease], self.running[lease]
        self.hear(self.rig.ended(slot, part))
        if task.parent is not None:
            task.parent.below -= 1


@pytest.mark.parametrize("seed", range(60))
def test_any_tree_of_tasks_ends(seed):
    World(seed).run()
