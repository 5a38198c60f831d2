"""A session with a port that records, and builders of what the coordinator says."""

from farm.client.session import Session, SessionSettings
from farm.model import Ending
from farm.protocol import messages as m

ME = b"m" * 16
OTHER = b"o" * 16
F = m.Function(b"f" * 16, "work", b"function bytes")


class Recorder:
    """The port: ``take()`` returns what was done since the last time, as (what, value) pairs."""

    def __init__(self):
        self.done = []

    def take(self):
        done, self.done = self.done, []
        return done

    def send(self, message):
        self.done.append(("send", message))

    def disconnect(self, reason):
        self.done.append(("disconnect", reason))

    def settled(self, results):
        self.done += [("settled", one) for one in results]

    def failed(self, first, count, why):
        self.done.append(("failed", (first, count, why.reason, why.message)))

    def started(self, runs):
        self.done.append(("started", runs))

    def progress(self, notes):
        self.done.append(("progress", notes))

    def replied(self, message):
        self.done.append(("replied", message))

    def rejected(self, code, message, retry):
        self.done.append(("rejected", (code, message, retry)))

    def room(self, tasks, size):
        self.done.append(("room", (tasks, size)))


def group(first, count=1, **more):
    payloads = more.pop("payloads", [b"p%d" % (first + i) for i in range(count)])
    size = sum(map(len, payloads))
    return m.Group(first, count, more.pop("function", F.hash), payloads, size, **more)


def packed(first, count, payload=b"many", **more):
    return m.Group(first, count, F.hash, [payload], len(payload), packed=True, **more)


def welcome(**more):
    fields = {
        "protocol": 1,
        "farm": "1",
        "python": "3.11",
        "epoch": 5,
        "store": b"s" * 16,
        "commit": 1,
        "durable": True,
        "beat_seconds": 10.0,
        "payload_bytes_max": 1 << 20,
        "credit_tasks": 1000,
        "credit_bytes": 1 << 24,
    }
    return m.ClientWelcome(**{**fields, **more})


def result(first, count=1, ending=Ending.OK, session=ME, **more):
    payloads = more.pop("payloads", None)
    if payloads is None:
        payloads = [b"r%d" % (first + i) for i in range(count)] if ending <= 1 else []
    return m.Result(session, first, count, ending, payloads, sum(map(len, payloads)), **more)


def new_session():
    port = Recorder()
    settings = SessionSettings("1", "3.11", take_seconds=0.0)
    return Session(settings, port, session=ME, secret=b"secret", instance=b"i" * 16), port


def open_session(**more):
    """A session that was welcomed at time 0, and its port, emptied."""
    session, port = new_session()
    session.on_connected(0.0)
    session.receive(welcome(**more), 0.0)
    port.take()
    return session, port


def reconnect(session, port, now, **more):
    """Lose the connection and get another; the HELLO, and what followed the welcome."""
    session.on_disconnected(now)
    session.on_connected(now)
    [(_, hello)] = port.take()
    session.receive(welcome(**more), now)
    return hello, port.take()


def sent(done):
    return [value for what, value in done if what == "send"]


def settled(done):
    return [value for what, value in done if what == "settled"]
