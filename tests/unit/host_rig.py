"""A host machine on a port that records, and what tests of it are written in."""

from farm.model import Ending
from farm.protocol.messages import Assign, Beat, Ended, Function, Grant, HostWelcome, Report
from farm_workers.host import Host
from farm_workers.host_roster import Death
from farm_workers.host_slices import HostSettings, Slice

S = b"s" * 16
F = b"f" * 16


class RecordingPort:
    """Writes down every call; ``take`` hands it over, so that nothing goes unnoticed."""

    def __init__(self):
        self.calls = []
        self.began = {}

    def ran(self, slot, ordinal, now):
        """Every item began long ago, or when it is said here."""
        return now - self.began.get(ordinal, 0.0)

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))

    def take(self):
        calls, self.calls = self.calls, []
        return calls


class Rig:
    """A host with its workers ready and, if asked for, a connection."""

    def __init__(self, slots=2, *, connect=True, ready=True, function=True, port=None, **settings):
        self.port = port or RecordingPort()
        self.now = 100.0
        self.settings = HostSettings(slots=slots, name="h", **settings)
        self.host = Host(self.settings, self.port, instance=b"i" * 16, now=self.now)
        self.take()
        if ready:
            for slot in range(slots):
                self.host.on_worker_ready(slot, self.now)
        if connect:
            self.connect()
            if function:
                self.host.receive(Function(F, "fn", b"code"), self.now)
        self.take()

    def connect(self, *, epoch=1, drop=(), store=b"x" * 16, unusable=""):
        self.host.on_connected(self.now)
        welcome = HostWelcome(1, "0", epoch, store, 7, 10.0, 30.0, list(drop), unusable)
        self.host.receive(welcome, self.now)
        self.host.on_tick(self.now)

    def take(self):
        return self.port.take()

    def all(self, seconds=0.0):
        """Let time pass; returns what was done."""
        self.now += seconds
        self.host.on_tick(self.now)
        return self.take()

    def tick(self, seconds=0.0):
        """Let time pass; returns what was done, without beats."""
        return [call for call in self.all(seconds) if not isinstance(call[1], Beat)]

    def report(self, seconds=0.0):
        """The one report that is sent at the end of this turn, and nothing else."""
        calls = self.tick(seconds)
        assert [call[0] for call in calls] == ["send"], calls
        assert isinstance(calls[0][1], Report), calls
        return calls[0][1]

    def assign(self, count=1, *, lease=1, epoch=1, first=1, **more):
        """Lease tasks to the host; returns what it did at once."""
        packed = more.get("packed", False)
        payloads = [b"all"] if packed else [b"%d" % n for n in range(first, first + count)]
        size = sum(map(len, payloads))
        grant = Grant(lease, 1, S, first, count, more.pop("function", F), payloads, size, **more)
        self.host.receive(Assign(epoch, [grant]), self.now)
        return self.take()

    def ended(self, slot, part: Slice, *, seconds=0.001, first=None, count=None, ending=Ending.OK):
        """A worker ends a slice, or a part of it; returns what the host did at once."""
        first = part.first if first is None else first
        count = part.first + part.count - first if count is None else count
        payloads = [] if ending is Ending.CANCELLED else [b"r"] * (1 if part.packed else count)
        end = part.end(first, count, ending, payloads, packed=part.packed, seconds=seconds)
        self.host.on_worker_ended(slot, [end], self.now)
        return self.take()

    def exit(self, slot, index=None, *, code=-11, **more):
        """A worker dies; returns what the host did at once."""
        self.host.on_worker_exit(slot, Death(code, index, **more), self.now)
        return self.take()


def runs(calls):
    """The slices that were handed over, by slot, and proof that nothing else happened."""
    given = {}
    for name, slot, *rest in calls:
        if name == "function":
            continue
        assert name == "run", calls
        given.setdefault(slot, []).append(rest[0])
    return given


def one(calls):
    """The only slice handed over, and its slot."""
    given = runs(calls)
    assert [len(slices) for slices in given.values()] == [1], calls
    (slot,) = given
    return slot, given[slot][0]


def endings(report):
    """What a report says ended, as ``(lease, first, count, ending)``."""
    return [(e.lease, e.first, e.count, e.ending) for e in report.ended]


def ended(lease, first, count, payloads, **more) -> Ended:
    """How the recording of an end looks."""
    return Ended(1, lease, 1, first, count, Ending.OK, payloads, sum(map(len, payloads)), **more)
