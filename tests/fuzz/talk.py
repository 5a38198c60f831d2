"""Peers that say what could well be said: the material of mutations, in the state of a farm.

They make messages that fit what was said to them: tasks of the next numbers, ends of leases held.
A mutation of such a message reaches the core; one of an arbitrary message would be refused.
"""

from random import Random
from typing import Any

from farm.model import Ending
from farm.protocol import messages as m

__all__ = ["FUNCTION", "HostTalk", "Talk", "client_hello", "host_hello"]

FUNCTION = m.Function(b"f" * 16, "work", b"function bytes")
LEASES_MAX = 24


def client_hello(name: bytes, connection: int, python: str = "") -> m.ClientHello:
    head = (m.PROTOCOL_VERSION, "0.1", python, b"i" * 16, name.ljust(16, b"."), b"k" * 16)
    return m.ClientHello(*head, connection, 0, b"", 0, 1 << 20, [])


def host_hello(name: str, connection: int, python: str = "", claims: Any = ()) -> m.HostHello:
    instance = name.encode().ljust(16, b"-")
    head = (m.PROTOCOL_VERSION, "0.1", python, instance, name, connection, 4, 6)
    return m.HostHello(*head, 0, b"", 0, list(claims))


class Talk:
    """A client's messages."""

    def __init__(self, chance: Random, session: bytes) -> None:
        self.chance = chance
        self.session = session.ljust(16, b".")
        self.next = 1
        self.request = 0

    def hears(self, message: Any) -> None:
        """What the coordinator says; nothing that a client says next depends on it."""

    def message(self) -> Any:
        """What this client could say now."""
        chance = self.chance
        some = (self.session, chance.randint(1, self.next), chance.randint(1, 6))
        self.request += 1
        choices = [
            *[m.Submit([self._group() for _ in range(chance.randint(1, 3))])] * 4,
            m.Taken(chance.randint(1, 40)),
            m.Cancel(self.request, [some]),
            m.Attach(self.request, [some], chance.choice(("", "nightly"))),
            m.JobOpen(chance.randint(1, 3), chance.choice(("", "nightly"))),
            m.JobSeal(chance.randint(1, 3), chance.randint(0, 9)),
            FUNCTION,
            self._query(),
            m.Beat(stamp=1.5),
        ]
        return chance.choice(choices)

    def _query(self) -> m.Query:
        chance = self.chance
        what = chance.choice(("status", "hosts", "jobs", "tasks", "task"))
        named = {
            "id": f"{self.session.hex()}-{chance.randint(1, self.next)}",
            "state": chance.choice(("queued", "leased")),
            "limit": chance.randint(0, 5),
            "longer_than": 0.5,
        }
        keys = chance.sample(list(named), chance.randint(0, 2))
        return m.Query(self.request, what, {key: named[key] for key in keys})

    def _group(self) -> m.Group:
        chance = self.chance
        count = chance.choice((1, 1, 2, 5, 20))
        packed = chance.random() < 0.3
        payloads = [chance.randbytes(chance.randrange(12)) for _ in range(1 if packed else count)]
        first, self.next = self.next, self.next + count
        template = None
        if chance.random() < 0.5:
            template = m.Template(
                priority=chance.randint(-2, 2),
                retries=chance.randint(0, 2),
                backoff=chance.choice((0.0, 0.5)),
                max_losses=chance.randint(0, 2),
                durable=chance.random() < 0.8,
                expires=chance.choice((None, 4.0)),
                delay=chance.choice((None, 0.5)),
                eta=chance.choice((None, None, 1.7e9 + 3.0)),
            )
        keys = () if packed or chance.random() < 0.6 else self._keys(count)
        return m.Group(
            first,
            count,
            FUNCTION.hash,
            payloads,
            sum(map(len, payloads)),
            packed,
            0,
            chance.choice((0, 0, 1, 2)),
            template,
            keys=keys,
        )

    def _keys(self, count: int) -> tuple[m.TaskKey, ...]:
        return tuple(
            m.TaskKey(f"key{number}", number % 2 == 0, b"" if number % 2 == 0 else b"body")
            for number in (self.chance.randrange(12) for _ in range(count))
        )


class HostTalk:
    """A host's messages, about the leases that it was given."""

    def __init__(self, chance: Random, name: str) -> None:
        self.chance = chance
        self.name = name
        self.leases: list[tuple[int, m.Grant]] = []
        self.number = 0

    def hears(self, message: Any) -> None:
        """Remember the leases."""
        if isinstance(message, m.Assign):
            self.leases += [(message.epoch, grant) for grant in message.grants]
            del self.leases[:-LEASES_MAX]

    def claims(self) -> list[m.Claim]:
        """What it could say that it holds."""
        some = self.chance.sample(self.leases, min(len(self.leases), 3))
        return [
            m.Claim(epoch, g.lease, g.attempt, g.session, g.first, g.count, started=True)
            for epoch, g in some
        ]

    def message(self) -> Any:
        """What this host could say now."""
        chance = self.chance
        match chance.randrange(8):
            case 0:
                return m.NeedFunction(FUNCTION.hash)
            case 1:
                return m.Beat(stamp=1.5, running=self._runs(), load={"cpu": 0.5})
            case _:
                self.number += 1
                ended = [self._end(*one) for one in self._some()]
                progress = [(*run[:3], 1.0, 2.0, "half") for run in self._runs()]
                return m.Report(self.number, 6, ended, self._runs(), self._runs(), progress)

    def _some(self) -> list[tuple[int, m.Grant]]:
        return self.chance.sample(self.leases, min(len(self.leases), self.chance.randint(0, 3)))

    def _runs(self) -> list[tuple[int, int, int, int]]:
        return [(epoch, g.lease, g.first, g.count) for epoch, g in self._some()[:1]]

    def _end(self, epoch: int, grant: m.Grant) -> m.Ended:
        chance = self.chance
        lo = chance.randrange(grant.count)
        count = chance.randint(1, grant.count - lo)
        endings = (Ending.OK, Ending.OK, Ending.OK, Ending.EXCEPTION, Ending.LOST)
        ending = chance.choice((*endings, Ending.TIME_LIMIT, Ending.BROKEN))
        packed = ending is Ending.OK and chance.random() < 0.3
        payloads = []
        if ending in {Ending.OK, Ending.EXCEPTION}:
            payloads = [b"r"] * (1 if packed else count)
        failure = None if ending is Ending.OK else m.Failure("signal", "it died", "h", -9)
        return m.Ended(
            epoch, grant.lease, grant.attempt, grant.first + lo, count, ending, payloads,
            len(payloads), packed, 0.01, failure,
        )  # fmt: skip
