"""A caller who is refused is told when to come again, and that is when there is room."""

from dataclasses import replace
from statistics import median

import pytest

from farm.protocol.messages import Credit, QueueCredit, Refused
from tests.sim.plan import Plan
from tests.sim.program import Program
from tests.sim.world import World

SECONDS = 18.0
OVERLOAD = {
    "hosts": 2,
    "slots": [4, 4],
    "work_seconds": 0.1,
    "clients": 4,
    "durable": True,
    "faults": [],
    "holes": 0.0,
    "deaths": False,
    "stops": False,
    "blobs": 0.0,
    "orders": 0.0,
    "stale": 0.0,
    "delay": 0.002,
    "commit_seconds": 0.005,
    "submit_seconds": 0.05,
    "tasks": 4000,
    "steps": 1_000_000,  # or no more would be submitted soon
    "max_tasks_per_worker": 0,
    "max_memory_per_worker": 0,
}
CORE = {
    "beat_seconds": 1.0,
    "lease_seconds": 4.0,
    "max_result_bytes": 1 << 30,
    "session_tasks": 100,
    "payload_bytes_max": 1500,
    "low_water": 0.5,
}
CASES = {  # queues, bounds
    "tasks of the farm": ({}, {"max_tasks": 150}),
    "bytes of a queue": ({"default": {"max_bytes": 5000}}, {}),
}
SEEDS = (1, 2, 3)
ERROR_MAX = 0.4
"""Half of the callers are told the truth but for this share of it. In 80 seeds, 2,000 callers, it
was 0.30 to 0.33, whatever little things were changed: one seed says too little."""
UNSENT = 50
"""So many tasks of each client wait to be sent: there are always callers."""


def act(program):
    """Submit, and nothing else."""
    if program.client.machine.unsent[0] < UNSENT:
        program.submit()
    program._next()


class Told:
    """What callers are told, and when room came: pairs of seconds."""

    def __init__(self, world):
        self._clock = world.clock
        self._open = {}
        self._sent = world.checks.sent
        world.checks.sent = self.sent
        self._granted = {}
        self.pairs = []

    def sent(self, connection, message):
        now = self._clock.now
        match message:
            case Refused(reason="busy"):
                self._open.setdefault((connection, message.queue), (now, message.retry_after))
            case Credit(retry_after=after) if after:
                self._open.setdefault((connection, ""), (now, after))
            case Credit():
                self._room(connection, "", now)
            case QueueCredit():
                self._room(connection, message.queue, now)
        self._sent(connection, message)

    def _room(self, connection, queue, now):
        at, told = self._open.pop((connection, queue), (None, 0.0))
        if at is not None:
            self.pairs.append((told, now - at))


def overload(seed, queues, core):
    plan = replace(Plan.of(seed), **OVERLOAD, queues=queues, core={**CORE, **core})
    world = World(plan)
    # Their own tests have these, which compare each task with each.
    world.checks.queues.rises = lambda *_: None
    world.checks.queues.turn_over = lambda *_: None
    world.checks.results.persisted = lambda *_: None
    told = Told(world)
    while world.clock.now < SECONDS:
        assert world.clock.step()
    return told.pairs


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_refused_caller_is_told_the_truth(case, monkeypatch):
    monkeypatch.setattr(Program, "_act", act)
    pairs = [pair for seed in SEEDS for pair in overload(seed, *CASES[case])]
    # Those for whom there is room within a second are told a second: never less.
    true = [(told, truth) for told, truth in pairs if truth >= 1.0]
    assert len(true) >= 20
    assert all(1.0 <= told <= 120.0 for told, _ in pairs)
    assert len({told for told, _ in true}) > len(true) / 2  # nobody is told what others are
    assert median(abs(told - truth) / truth for told, truth in true) < ERROR_MAX
