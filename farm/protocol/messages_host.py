"""The messages between hosts and the coordinator; re-exported by ``messages.py``."""

import msgspec

from farm.protocol.parts import Amount, Claim, Counter, Ended, Grant, Name, Part, Span

__all__ = [
    "JOINED",
    "Ask",
    "Assign",
    "Drain",
    "Drop",
    "HostHello",
    "HostWelcome",
    "NeedFunction",
    "Noted",
    "Recall",
    "Report",
    "Told",
]

JOINED = "joined"
"""The code of a ``Rejected`` to a host that has joined, and is to come with its own key."""


class HostHello(Part, tag=40):
    """The first message of a host's connection: who it is and all leases that it holds.

    ``instance`` is new for each agent process. ``claims`` has every lease with a task that runs,
    waits, or ended without having been noted. ``window`` is the number of tasks it may hold;
    ``trouble`` says why it is 0, where the host knows. ``memory_limits`` says what enforces them:
    ``sampled``, ``cgroup v1`` or ``cgroup v2``; empty, from older hosts: nobody knows. ``max_lent``
    is how many slots it may lend. ``resources`` is what it has for tasks, beside its slots, and
    ``labels`` what is said of it: ``{"ssd": "", "zone": "a"}`` for ``ssd`` and ``zone=a``.
    ``platform`` and ``packages``, with their versions, are the environment of its tasks; an older
    host tells neither. ``keys``: who comes with an invite has made two public keys of its own, for
    itself and for its tasks.
    """

    protocol: int
    farm: str
    python: str
    instance: bytes
    name: str
    connection: Counter
    slots: Counter
    window: Counter
    epoch_seen: Counter
    store_seen: bytes
    commit_seen: Counter
    claims: list[Claim]
    pid: int = 0
    address: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    trouble: str = ""
    memory_limits: str = ""
    max_lent: Counter = 0
    resources: dict[Name, Amount] = msgspec.field(default_factory=dict)
    platform: str = ""
    packages: dict[str, str] = msgspec.field(default_factory=dict)
    keys: list[bytes] = msgspec.field(default_factory=list)


class Report(Part, tag=41):
    """What happened on a host. Numbered per agent instance; sent again until ``Noted``.

    ``started``: ``(epoch, lease, first, count)`` handed to a worker. ``returned``: the same, of
    tasks given back unbegun. ``progress``: ``(epoch, lease, counter, done, total, note)``.
    ``window``: how many tasks this host may hold from now on; ``trouble`` as in ``HostHello``.
    ``waiting``: how many slots are lent by tasks that wait for others; the window has room for so
    many more. ``leaving``: it drains, and takes only what its own tasks wait for. ``waits``:
    ``(epoch, lease, count)``, how many of the tasks of each lease wait for others; a packed task
    does if all that is left of it does.
    """

    number: Counter
    window: Counter
    ended: list[Ended]
    started: list[tuple[Counter, Counter, Counter, Counter]] = msgspec.field(default_factory=list)
    returned: list[tuple[Counter, Counter, Counter, Counter]] = msgspec.field(default_factory=list)
    progress: list[tuple[Counter, Counter, Counter, float, float, str]] = msgspec.field(
        default_factory=list
    )
    trouble: str = ""
    waiting: Counter = 0
    leaving: bool = False
    waits: list[tuple[Counter, Counter, Counter]] = msgspec.field(default_factory=list)


class Told(Part, tag=45):
    """The answer to an ``Ask``; ``error`` says why there is none.

    ``data`` begins at byte ``start`` of all that could be told.
    """

    request: Counter
    data: bytes
    start: Counter = 0
    error: str = ""


class HostWelcome(Part, tag=60):
    """The connection is open. ``unusable`` is empty, or says why this host gets no work.

    ``blobs`` and ``blobs_token`` as in ``ClientWelcome``.
    """

    protocol: int
    farm: str
    epoch: Counter
    store: bytes
    commit: Counter
    beat_seconds: float
    lease_seconds: float
    drop: list[Claim]
    unusable: str = ""
    blobs: str = ""
    blobs_token: bytes = b""


class Assign(Part, tag=61):
    """Leases for the host to run."""

    epoch: Counter
    grants: list[Grant]


class Recall(Part, tag=62):
    """Give these back if no worker has begun them: ``(epoch, lease, first, count)``.

    For each, the host reports it returned, or reports it started (again). With a ``grace`` those
    that run are stopped: an exception is raised in them, and what has not ended after so many
    seconds is ended with its worker.
    """

    runs: list[tuple[Counter, Counter, Counter, Counter]]
    grace: Span | None = None


class Drop(Part, tag=63):
    """These leases are fenced off: end their workers and forget them."""

    claims: list[Claim]


class Drain(Part, tag=70):
    """Finish what runs, give back the rest, say ``Bye``; somebody asked for it."""

    reason: str = ""


class Ask(Part, tag=75):
    """A question about a task that the host runs; answered by one ``Told``.

    ``what`` is ``stack``, the stacks of its worker's threads, or ``output``, what it has written
    in this attempt from byte ``since`` on.
    """

    request: Counter
    what: str
    epoch: Counter
    lease: Counter
    counter: Counter
    since: Counter = 0


class Noted(Part, tag=64):
    """Reports up to ``number`` are committed; the host may forget their outcomes."""

    number: Counter
    commit: Counter


class NeedFunction(Part, tag=83):
    """The sender lacks a function's bytes (host to coordinator)."""

    hash: bytes
