"""What a seed decides before anything happens: machines, bounds, faults, work."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from farm.core import CoreSettings
from farm.core.policy import QueuePolicy
from farm.resources import label_texts

__all__ = ["PYTHON", "Plan"]

PYTHON = "3.11"
TURN_SECONDS = 1e-9
"""Less than any task takes: a turn is one task of the least weight."""

FAULTS = (
    "crash coordinator",
    "restart coordinator",
    "pause coordinator",
    "crash host",
    "drain host",
    "pause host",
    "kill worker",
    "spoil host",
    "weaken host",
    "fill host",
    "crash client",
    "pause client",
    "cut",
    "isolate",
    "slow disk",
    "full disk",
    "restore store",
    "set clock",
)


NO_AGEING = 1000.0
LIMITS: dict[str, tuple[float | int, ...]] = {
    "max_tasks": (1, 3, 10),
    "max_bytes": (1500, 4000),
    "rate": (2.0, 10.0, 50.0),
    "max_running": (1, 2, 4),
    "max_running_per_key": (1, 2),
}
Needs = tuple[dict[str, float], tuple[str, ...]]
"""Resources and labels."""
HAVE: dict[str, tuple[float, ...]] = {"memory": (4, 8, 16), "gpu": (0, 1, 2), "licence": (0, 0.5)}
NEED: list[Needs] = [
    ({"memory": 2}, ()),
    ({"memory": 8}, ()),
    ({"memory": 16, "slots": 2}, ()),
    ({"slots": 3}, ()),
    ({"gpu": 1}, ()),
    ({"gpu": 2}, ()),
    ({"gpu": 1, "memory": 4}, ("ssd",)),
    ({"licence": 0.3}, ()),
    ({}, ("zone=a",)),
    ({"slots": 2}, ("zone=b", "ssd")),
]


@dataclass
class Plan:
    """The parameters of one simulated world."""

    seed: int
    hosts: int = 1
    slots: list[int] = field(default_factory=list)
    clients: int = 1
    durable: bool = True
    seconds: float = 12.0  # of faults and new work; then comes the rest
    steps: int = 1_000  # at most, in all; the rest begins when what is open may need what is left
    faults: list[str] = field(default_factory=list)
    fault_seconds: float = 1.0  # mean time between faults
    holes: float = 0.0
    delay: float = 0.002
    commit_seconds: float = 0.004
    work_seconds: float = 0.05  # mean time of a task
    long: float = 0.0  # the share of tasks that take a second or more, whatever others do
    submit_seconds: float = 1.5  # mean time between a client's submissions
    tasks: int = 40  # at most, of each client
    window_bytes: int = 1 << 20
    lookahead: bool = True  # whether hosts ask for more than they can run at once
    blobs: float = 0.0  # the share of peers that see the coordinator's blob folder
    initializer: bool = False  # whether hosts that cannot start workers fail their tasks
    stale: float = 0.0  # the share of slices that find their worker with an older module
    deaths: bool = True  # whether work may kill its worker, or be killed for passing a limit
    read_seconds: float = 0.01  # at most, to read a record back
    kill_seconds: float = 0.3
    max_tasks_per_worker: int = 0
    max_memory_per_worker: int = 0
    fuse: float = 0.0  # the share of tasks above their memory limit that the kernel sees first
    nested: float = 0.0  # the share of tasks that submit others and wait for them
    max_lent: int = 8
    stops: bool = True  # whether tasks and jobs are stopped, and not only cancelled
    core: dict[str, float | int] = field(default_factory=dict)
    queues: dict[str, dict[str, float | int]] = field(default_factory=dict)  # their policies
    resources: list[dict[str, float]] = field(default_factory=list)  # of each host
    labels: list[dict[str, str]] = field(default_factory=list)
    needs: list[Needs] = field(default_factory=list)  # what groups may need
    needless: float = 0.0  # the share of groups that need nothing
    keys: int = 0  # how many concurrency keys there are
    task_keys: int = 0  # how many unique and idempotency keys there are, of each kind
    strangers: int = 0  # how many hosts have another minor version of Python
    owners: int = 0  # how many names of keys clients have; 0: no keys are in use
    revoke_seconds: float = 0.0  # mean time between revocations; 0: there are none
    orders: float = 0.0  # the share of acts of clients that come with an order to a queue

    @property
    def core_settings(self) -> CoreSettings:
        left_out = {"max_bytes"} if self.blobs else set()  # one blob is more than that
        queues = {
            name: QueuePolicy(**{key: one[key] for key in one if key not in left_out})  # type: ignore[arg-type]
            for name, one in self.queues.items()
        }
        return CoreSettings(
            python=PYTHON,
            farm="sim",
            queues=queues,
            turn_seconds=TURN_SECONDS,
            resources=["licence"],
            **self.core,  # type: ignore[arg-type]
        )

    @property
    def is_calm(self) -> bool:
        return not (self.faults or self.holes or self.revoke_seconds)

    @classmethod
    def of(cls, seed: int) -> Plan:
        """The plan of a seed. Each choice is rare or common enough to meet most others."""
        chance = Random(seed)
        plan = cls(seed, hosts=chance.randint(1, 4), clients=chance.randint(1, 3))
        plan.slots = [chance.randint(1, 4) for _ in range(plan.hosts)]
        plan.durable = chance.random() < 0.8
        plan.delay = chance.choice((0.0005, 0.002, 0.02))
        plan.commit_seconds = chance.choice((0.001, 0.005, 0.05, 0.3))
        plan.work_seconds = chance.choice((0.0005, 0.02, 0.2, 0.8))
        plan.submit_seconds = chance.choice((0.2, 0.5, 1.0))
        plan.tasks = chance.choice((10, 20, 40)) if plan.work_seconds < 0.1 else 8
        plan.window_bytes = chance.choice((1, 400, 1 << 20))
        if chance.random() < 0.85:
            plan.initializer = chance.random() < 0.3
            plan.faults = chance.sample(FAULTS, chance.randint(1, len(FAULTS)))
            plan.fault_seconds = chance.choice((0.25, 0.5, 1.2))
            plan.holes = chance.choice((0.0, 0.0, 0.003))
        else:
            plan.deaths = chance.random() < 0.5
        plan.kill_seconds = chance.choice((0.0, 0.05, 0.5))
        plan.max_tasks_per_worker = chance.choice((0, 0, 0, 1, 4))
        plan.max_memory_per_worker = chance.choice((0, 0, 0, 150))
        plan.core = {
            "beat_seconds": 1.0,
            "lease_seconds": chance.choice((2.5, 4.0)),
            "recovery_seconds": chance.choice((0.5, 2.0, 5.0)),
            "reply_seconds": chance.choice((0.0, 0.01, 0.2)),
            "watch_seconds": chance.choice((0.1, 0.5, 3.0)),
            "prune_seconds": chance.choice((0.01, 0.5)),
            "max_tasks": chance.choice((2, 5, 1000)),
            "max_bytes": chance.choice((2000, 1 << 20)),
            "session_tasks": chance.choice((1, 4, 100)),
            "grant_tasks": chance.choice((1, 3, 128)),
            "short_seconds": chance.choice((0.0001, 0.05, 1.0)),
            "resident_result_bytes": chance.choice((1, 100, 1 << 20)),
            "payload_bytes_max": 1500,
            "evidence_bytes": chance.choice((0, 40, 1 << 20)),
            "dead_tasks": chance.choice((1, 1000)),
            "result_ttl": 30.0,
            "unclaimed_ttl": chance.choice((30.0, 36.0)),
            "max_result_bytes": chance.choice((150, 2000, 1 << 30)),
            "history_ttl": 42.0,
            "history_rows": chance.choice((3, 10_000)),
            "session_ttl": 45.0,
            "host_ttl": 20.0,
            "session_bytes": chance.choice((1500, 1 << 20)),
        }
        plan.core["upkeep_seconds"] = 5 * plan.core["reply_seconds"]
        plan.tasks = min(plan.tasks, 4 * plan.core["max_tasks"])
        if chance.random() < 0.25:
            plan.stale = 0.05
        plan.stops = chance.random() < 0.6
        if chance.random() < 0.4:
            plan.see_blobs(chance)
        plan.fuse = chance.choice((0.0, 0.5))
        plan.have_queues(Random(seed * 31 + 7))
        plan.have_nested(Random(seed * 61 + 11))
        plan.have_keys(Random(seed * 37 + 5))
        plan.core["far_seconds"] = Random(seed * 41 + 3).choice((0.3, 60.0))
        if (own := Random(seed * 41 + 11).choice((0, 0, 0, 1, 3))) > 0:
            plan.core["session_max_tasks"] = own
        if (few := Random(seed * 53 + 23).choice((0, 0, 0, 1, 3, 8))) > 0:
            plan.core["session_outcomes"] = few
        plan.long = Random(seed * 17 + 3).choice((0.0, 0.0, 0.0, 0.1))
        plan.have_little_memory(Random(seed * 37 + 11))
        plan.have_resources(Random(seed * 41 + 13))
        plan.have_strangers(Random(seed * 43 + 17))
        plan.have_owners(Random(seed * 47 + 19))
        return plan

    def have_owners(self, chance: Random) -> None:
        """Keys are in use, in a third of the worlds; now and then one of them is revoked."""
        if chance.random() < 0.65:
            return
        self.owners = chance.choice((1, 2, 2))
        self.clients = max(self.clients, 2)
        self.revoke_seconds = chance.choice((0.0, 1.0, 3.0))

    def have_little_memory(self, chance: Random) -> None:
        """How many bytes of payloads and results the coordinator has in memory."""
        self.core["resident_payload_bytes"] = chance.choice((1, 60, 400, 1 << 20))
        self.core["session_result_bytes"] = chance.choice((1, 100, 1 << 20))
        self.read_seconds = chance.choice((0.0, 0.01, 0.2))

    def has_less_room_than(self, few: int) -> bool:
        """Whether the farm, a queue or a client has room for less than so many tasks at a time."""
        bounds = [one.get("max_tasks", few) for one in (self.core, *self.queues.values())]
        return min(*bounds, self.core.get("session_max_tasks", few)) < few

    @property
    def limits_running(self) -> bool:
        """Whether a queue lets only so many run."""
        return any(key.startswith("max_running") for one in self.queues.values() for key in one)

    def have_nested(self, chance: Random) -> None:
        """Tasks that wait for others, in some of the worlds with one queue, or limits of these."""
        if (self.queues and not self.limits_running) or chance.random() < 0.5:
            return
        self.nested = chance.choice((0.1, 0.4))
        self.max_lent = chance.choice((2, 4, 8))
        self.tasks = min(self.tasks, 8)
        self.work_seconds = min(self.work_seconds, 0.2)

    def have_strangers(self, chance: Random) -> None:
        """Hosts of another Python, in some of the worlds; and storms, in some that have faults."""
        if self.hosts > 1 and chance.random() < 0.25:
            self.strangers = chance.randint(1, self.hosts - 1)
        if self.faults and chance.random() < 0.25:
            self.faults = [*self.faults, "storm"]

    def python_of(self, name: str) -> str:
        """What a host runs; the first of them runs what the farm does."""
        index = int(name.removeprefix("host")) % self.hosts
        return PYTHON if index < self.hosts - self.strangers else "3.12"

    def have_resources(self, chance: Random) -> None:
        """Hosts have more than slots, in half of the worlds, and some tasks need it."""
        if chance.random() < 0.5:
            return
        for _ in range(self.hosts):
            self.resources.append({name: chance.choice(has) for name, has in HAVE.items()})
            labels = {"zone": chance.choice("ab"), **({"ssd": ""} if chance.random() < 0.5 else {})}
            self.labels.append(labels)
        self.needs = chance.sample(NEED, chance.randint(1, 4))
        self.needless = chance.choice((0.0, 0.5, 0.9))
        self.core["reserve_seconds"] = chance.choice((0.0, 0.5, 2.0))

    def facts_of(self, name: str) -> dict[str, Any]:
        """What a host has, in terms of its settings."""
        if not self.resources:
            return {}
        index = int(name.removeprefix("host")) % len(self.resources)
        resources, labels = self.resources[index], self.labels[index]
        devices = tuple(f"d{number}" for number in range(int(resources.get("gpu", 0))))
        return {"resources": resources, "labels": labels, "devices": devices}

    def has(self, resources: dict[str, float], labels: tuple[str, ...]) -> bool:
        """Whether some host has all of this."""
        for index in range(self.hosts - self.strangers):
            facts = self.facts_of(f"host{index}")
            has = {"slots": self.slots[index], **facts["resources"]}
            if set(labels) <= label_texts(facts["labels"]) and all(
                amount <= has.get(name, 0) for name, amount in resources.items()
            ):
                return True
        return False

    def have_queues(self, chance: Random) -> None:
        """Several queues, in half of the worlds: with weights, bounds and limits of their own."""
        if chance.random() < 0.5:
            return
        self.keys = chance.choice((0, 1, 3))
        self.orders = chance.choice((0.0, 0.2))
        for name in ("default", "mail", "bulk")[: chance.randint(1, 3)]:
            policy: dict[str, float | int] = {
                "weight": chance.choice((0.25, 1.0, 1.0, 4.0)),
                "ageing_seconds": chance.choice((0.05, NO_AGEING, NO_AGEING)),
            }
            for key, values in LIMITS.items():
                if chance.random() < 0.3:
                    policy[key] = chance.choice(values)
            self.queues[name] = policy

    def have_keys(self, chance: Random) -> None:
        """Tasks with keys, in a third of the worlds."""
        if chance.random() < 0.65:
            return
        self.task_keys = chance.choice((1, 3, 6))
        self.core["key_ttl"] = chance.choice((0.5, 5.0, 60.0))
        self.core["max_keys"] = chance.choice((2, 1000, 1000))
        self.core["max_result_bytes"] = 1 << 30  # duplicates are counted for what they seem to take

    def see_blobs(self, chance: Random) -> None:
        """Some peers are on the coordinator's machine; bounds in bytes fit for blobs."""
        self.blobs = chance.choice((0.5, 0.8, 1.0))
        self.core["max_bytes"] = chance.choice((1 << 20, 1 << 29))
        self.core["session_bytes"] = chance.choice((1 << 20, 1 << 29))
        self.core["payload_bytes_max"] = 1 << 20
