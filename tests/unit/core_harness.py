"""A core on a recording port, with a journal that commits when told to.

Everything that is sent is encoded and decoded as it would be, and checked against the journal:
nothing is acknowledged, published or dispatched again before the record that it stands on.
``Rig.take()`` gives what was sent since the last time, so a test sees that nothing else was.
"""

from farm.core import Core, CoreSettings, invariants
from farm.identity import TRUSTED
from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol import records as r
from farm.protocol.codec import decoder, encode
from farm.store.later import head_of, record_of
from tests.unit.core_journal import Disk, Promises

STORE = b"S" * 16
F = m.Function(b"f" * 16, "work", b"function bytes")
CLIENT_WINDOW = 64 << 20
STAYS = 1e9
"""So far off, nothing is."""


def session_id(name):
    return name.encode().ljust(16, b".")


def group(first, count=1, **more):
    payloads = more.pop("payloads", [b"p%d" % (first + i) for i in range(count)])
    size = sum(map(len, payloads))
    template = more.pop("template", None)
    return m.Group(
        first, count, more.pop("function", F.hash), payloads, size, template=template, **more
    )


def packed(first, count, payload=b"many", **more):
    return group(first, count, payloads=[payload], packed=True, **more)


class Rig:
    """A core, its journal, and its peers."""

    def __init__(
        self, *, now=1000.0, epoch=10, chance=lambda: 0.5, durable=True, boot="", **settings
    ):
        settings.setdefault("reply_seconds", 0.0)  # acknowledgements do not wait for company
        settings.setdefault("upkeep_seconds", 0.0)
        settings.setdefault("far_seconds", STAYS)  # what is delayed stays in memory
        self.settings = CoreSettings(**settings)
        self.chance = chance
        self.durable = durable
        self.now = now
        self.wall = 1.7e9
        self.epoch = epoch
        self.boot = boot  # while it stays, the monotonic clock goes on over restarts
        self.disk = Disk()
        self.promises = Promises()
        self.blobs = {}  # what can be read, by name
        self.identities = {}  # of those who are not trusted with everything, by name
        self._connections = {}
        self._boot()

    # ------------------------------------------------------------ life

    def _boot(self):
        self.pending = []  # changes not committed yet
        self.sent = []
        self.closed = []
        self.loads = []
        self.fetched = []
        self.warnings = []
        self.stopped = None
        self.sides = {}
        self.peers = {}
        self.core = Core(
            self.settings,
            self,
            epoch=self.epoch,
            store=STORE,
            durable=self.durable,
            chance=self.chance,
        )
        self.ledger = self.core.ledger
        self.ledger.last_ref = self.disk.commit
        for digest, (name, data) in self.disk.functions.items():
            self.core.restore_function(digest, name, data)
        for ref, data in sorted(self.disk.records.items()):
            self.core.restore(ref, self._read(data))
        self.core.start(self.now, self.wall, self.boot)
        self.check()

    def _read(self, data):
        """A record as a start reads it: of what starts much later the head alone."""
        record = r.decode_record(data)
        reads_heads = self.durable and self.settings.far_seconds < STAYS
        head = head_of(record, 1 << 40) if reads_heads else None
        return record if head is None else record_of(head[1])

    def reload(self, *, after=1.0, commit=None, jump=0.0):
        """Die, with ``commit`` more changes on the disk, and start again ``after`` seconds.

        Meanwhile the wall clock is set by ``jump`` seconds.
        """
        for change in self.pending[: commit or 0]:
            self._commit(change)
        self.wall += after + jump
        self.now += after
        if not self.boot:  # another machine's monotonic clock
            self.now = 5.0 if self.now > 500 else 1000.0
        self.epoch += 1
        self._boot()

    # ------------------------------------------------------------ the port

    def send(self, peer, message):
        side = self.sides[peer]
        frames = encode(7, message)
        number, read = decoder(f"to_{side}").decode(frames)
        assert number == 7
        # Not the messages: a number that is none differs from itself.
        assert encode(7, read) == frames, "the codec changes it"
        owner = self.ledger.session_of(peer)
        self.promises.check(self.core, message, owner)
        if isinstance(message, m.Accepted | m.Results | m.Noted):
            assert message.commit <= self.disk.commit
        self.sent.append((peer, message))

    def close(self, peer):
        self.closed.append(peer)

    def identity(self, peer):
        return self.identities.get(peer.split("#")[0], TRUSTED)

    def persist(self, ref, record):
        data = r.encode_record(record)
        assert r.decode_record(data) == record
        self._change(("append", ref, data))

    def _change(self, change):
        if self.durable:
            self.pending.append(change)
        else:  # a store in memory has it at once
            self._commit(change)

    def prune(self, refs):
        assert refs
        assert len(set(refs)) == len(refs), "pruned twice"
        self._change(("delete", list(refs)))

    def keep_function(self, digest, name, data):
        self._change(("put", digest, name, data))

    def drop_functions(self, digests):
        self._change(("drop", list(digests)))

    def release(self, blobs):
        assert blobs
        self._change(("release", list(blobs)))

    def read(self, blob):
        return self.blobs.get(blob.name, blob)

    def load(self, ref):
        self.loads.append(ref)

    def fetch(self, ref):
        self.fetched.append(ref)
        return self.disk.read(ref)

    def counters(self):
        return {}

    def warn(self, text):
        self.warnings.append(text)

    def stop(self, reason, epoch=0):
        self.stopped = reason
        self.epoch_heard = epoch

    # ------------------------------------------------------------ driving

    def _commit(self, change):
        if change[0] == "append":
            self.promises.note(r.decode_record(change[2]))
        self.disk.apply(change)

    def commit(self, *, tick=True):
        """Commit all that is pending, again and again until nothing new comes of it."""
        for _ in range(20):
            changes, self.pending = self.pending, []
            for change in changes:
                self._commit(change)
            if changes:
                self.core.on_committed(self.disk.commit, self.now)
                self.check()
            if tick:
                self.tick()
            if not self.pending:
                return
        raise AssertionError("the journal never comes to rest")

    def commit_part(self, count):
        """Commit only the oldest ``count`` changes."""
        changes, self.pending = self.pending[:count], self.pending[count:]
        for change in changes:
            self._commit(change)
        self.core.on_committed(self.disk.commit, self.now)
        self.check()

    def tick(self, seconds=0.0):
        self.now += seconds
        self.wall += seconds
        self.core.on_tick(self.now)
        self.check()

    def sleep(self, seconds, *silent):
        """Let time pass as the shell does: tick at every deadline, commit at once.

        All peers but the ``silent`` ones beat.
        """
        end = self.now + seconds
        self.commit()
        while (due := self.core.next_deadline()) is not None and due < end:
            self._pass(max(0.0, due - self.now), silent)
        self._pass(end - self.now, silent)

    def _pass(self, seconds, silent):
        self.now += seconds
        self.wall += seconds
        for peer in [one for one in self.ledger.peers if one not in silent]:
            self.core.receive(peer, m.Beat(), self.now)
        self.tick()
        self.commit()

    def say(self, peer, message, *, tick=True):
        if isinstance(message, m.Submit) and (owner := self.ledger.session_of(peer)):
            floors = self.promises.floors
            floors[owner.id] = max(floors.get(owner.id, 0), message.floor)
        self.core.receive(peer, message, self.now)
        self.check()
        if tick:
            self.tick()

    def drop(self, peer):
        self.core.on_closed(peer, self.now)
        self.check()
        self.tick()

    def answer_loads(self):
        refs, self.loads = self.loads, []
        for ref in refs:
            self.core.on_loaded(ref, self.disk.read(ref), self.now)
            self.check()
        self.tick()
        return refs

    def check(self):
        invariants.check(self.core)

    def take(self, *peers):
        """What was sent since the last time, only to these peers if any are named."""
        if not peers:
            sent, self.sent = self.sent, []
            return sent
        taken = [message for peer, message in self.sent if peer in peers]
        self.sent = [one for one in self.sent if one[0] not in peers]
        return taken

    def of(self, kind):
        """All messages of a kind sent since the last time; the others are forgotten."""
        return [message for _, message in self.take() if isinstance(message, kind)]

    # ------------------------------------------------------------ peers

    def _connect(self, name, side):
        self._connections[name] = self._connections.get(name, 0) + 1
        peer = f"{name}#{self._connections[name]}"
        self.sides[peer] = side
        self.peers[name] = peer
        return peer

    def client(self, name="alice", *, function=True, quiet=True, **more):
        """Connect a client; its peer."""
        peer = self._connect(name, "client")
        hello = {
            "protocol": m.PROTOCOL_VERSION,
            "farm": "0.1",
            "python": "",
            "instance": b"i" * 16,
            "session": session_id(name),
            "secret": name.encode().rjust(16, b"!"),
            "connection": self._connections[name],
            "epoch_seen": 0,
            "store_seen": b"",
            "commit_seen": 0,
            "window_bytes": CLIENT_WINDOW,
            "pending": [],
        }
        self.say(peer, m.ClientHello(**(hello | more)))
        if function:
            self.say(peer, F)
        if quiet:
            self.take(peer)
        return peer

    def host(self, name="host", *, called="", quiet=True, commit=True, **more):
        """Connect a host, called otherwise if so said, and commit that it joined; its peer."""
        peer = self._connect(name, "host")
        hello = {
            "protocol": m.PROTOCOL_VERSION,
            "farm": "0.1",
            "python": "",
            "instance": name.encode().ljust(16, b"-"),
            "name": called or name,
            "connection": self._connections[name],
            "slots": 4,
            "window": 4,
            "epoch_seen": 0,
            "store_seen": b"",
            "commit_seen": 0,
            "claims": [],
        }
        self.say(peer, m.HostHello(**(hello | more)))
        if commit:
            self.commit()
        if quiet:
            self.sent = [
                one for one in self.sent if one[0] != peer or not isinstance(one[1], m.HostWelcome)
            ]
        return peer

    def submit(self, peer, *groups, commit=True):
        self.say(peer, m.Submit(list(groups)))
        if commit:
            self.commit()

    def grants(self, peer):
        """The leases given to a host since the last time."""
        return [
            grant
            for message in self.take(peer)
            if isinstance(message, m.Assign)
            for grant in message.grants
        ]

    def report(self, peer, *, number=1, window=4, commit=True, **more):
        self.say(peer, m.Report(number, window, more.pop("ended", []), **more))
        if commit:
            self.commit()

    def results(self, peer):
        """The outcomes sent to a client since the last time."""
        return [
            result
            for message in self.take(peer)
            if isinstance(message, m.Results)
            for result in message.entries
        ]


def ended(grant, ending=Ending.OK, *, epoch=10, lo=0, hi=None, seconds=0.001, **more):
    """How a host reports the end of a grant's tasks ``[lo, hi)``."""
    hi = grant.count if hi is None else hi
    payloads = more.pop("payloads", None)
    if payloads is None:
        ok = ending in {Ending.OK, Ending.EXCEPTION}
        payloads = [b"r%d" % (grant.first + i) for i in range(lo, hi)] if ok else []
    size = sum(map(len, payloads))
    return m.Ended(
        epoch, grant.lease, grant.attempt, grant.first + lo, hi - lo, ending, payloads, size,
        seconds=seconds, **more,
    )  # fmt: skip


def claim(grant, *, epoch=10, lo=0, hi=None, started=True):
    hi = grant.count if hi is None else hi
    return m.Claim(
        epoch, grant.lease, grant.attempt, grant.session, grant.first + lo, hi - lo, started
    )


def key(grant, *, epoch=10, lo=0, hi=None):
    hi = grant.count if hi is None else hi
    return (epoch, grant.lease, grant.first + lo, hi - lo)
